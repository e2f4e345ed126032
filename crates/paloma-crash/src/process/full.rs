//! A small disk that fills up again and again under the real broker.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use paloma_interop::PATIENCE;
use paloma_interop::peer::Version::V5;
use paloma_interop::raw::RawClient;
use paloma_interop::wire::{Connect, PUBACK};

use super::{Server, ServerSpec};
use crate::check::Verdict;
use crate::message::Label;

/// Bytes of a message.
const PAYLOAD_BYTES: usize = 60_000;

/// Messages on their way at once while a disk is filled.
const WINDOW: usize = 8;

/// By how much a small file system grows: more than the reserve lends until the store says that it is full, which is what pages
/// with gaps take, about a quarter of what is in use. Less would not make the reserve whole, and so be no room.
const GROWTH_MEBIBYTES: u32 = 24;

/// A file system of its own, in memory, unmounted when dropped.
#[derive(Debug)]
pub struct Small {
    place: PathBuf,
    mebibytes: u32,
}

impl Small {
    /// Mounts one; `None` where nothing may be mounted.
    ///
    /// # Panics
    /// If its directory cannot be made.
    #[must_use]
    pub fn mount(place: &Path, mebibytes: u32) -> Option<Self> {
        fs::create_dir_all(place).unwrap();
        let small = Self {
            place: place.to_owned(),
            mebibytes,
        };
        let size = format!("size={mebibytes}m");
        mount(&["-t", "tmpfs", "-o", &size, "tmpfs"], place).then_some(small)
    }

    /// Where it is.
    #[must_use]
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// Makes it a little larger.
    ///
    /// # Panics
    /// If it cannot be.
    pub fn grow(&mut self) {
        self.mebibytes += GROWTH_MEBIBYTES;
        let options = format!("remount,size={}m", self.mebibytes);
        assert!(mount(&["-o", &options], &self.place), "it was mounted");
    }
}

fn mount(arguments: &[&str], place: &Path) -> bool {
    let mount = Command::new("mount").args(arguments).arg(place).output();
    mount.is_ok_and(|output| output.status.success())
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.place).status();
    }
}

/// What so many fills have shown.
#[derive(Debug, Default)]
pub struct Filled {
    /// How often the disk was full.
    pub fills: u64,
    /// Of each fill: from the moment at which there was room to the first message that was taken.
    pub resumed: Vec<Duration>,
    /// The judgement.
    pub verdict: Verdict,
}

/// Fills the broker's disk so many times. Room comes from a disk that grows, or from the subscriber, who takes what waits; now
/// and then the broker is killed or stopped on the full disk, and what it has left is looked through by `paloma store check`.
///
/// # Panics
/// If the broker cannot be run.
pub fn run(program: &Path, small: &mut Small, fills: u64, tell: impl Fn(u64, Duration)) -> Filled {
    // Beside the disk that is full.
    let directory = small.place().with_extension("configuration");
    let mut spec = ServerSpec::new(program, &directory, "ack");
    spec.data = small.place().join("data");
    let server = Server::start(&spec);
    subscribe(&server);
    let mut fill = Fill {
        spec,
        server,
        next: 0,
        waiting: VecDeque::new(),
        filled: Filled::default(),
    };
    for number in 0..fills {
        let resumed = fill.once(number, small);
        tell(number, resumed);
    }
    fill.stop_and_check();
    fill.server.kill();
    let _ = fs::remove_dir_all(directory);
    fill.filled
}

fn subscribe(server: &Server) {
    let connect = Connect::persistent(V5, "subscriber");
    let (mut client, _) = RawClient::connect_as(server.address(), V5, &connect);
    assert_eq!(client.subscribe(&[("t", 1)]), [1]);
    client.leave();
}

struct Fill {
    spec: ServerSpec,
    server: Server,
    next: u32,
    /// What was acknowledged and has not come.
    waiting: VecDeque<u32>,
    filled: Filled,
}

impl Fill {
    /// Until the disk is full, and until there is room again.
    fn once(&mut self, number: u64, small: &mut Small) -> Duration {
        let mut publisher = RawClient::connect(self.server.address(), V5, "publisher");
        self.fill(&mut publisher);
        self.filled.fills += 1;
        // QoS 0 goes on, and whatever needs no room.
        let mut reader = RawClient::connect(self.server.address(), V5, "reader");
        assert_eq!(reader.subscribe(&[("free", 0)]), [0]);
        publisher.publish(0, 0, "free", b"still");
        assert_eq!(reader.message().payload, b"still");
        drop((publisher, reader));
        match number % 5 {
            1 => self.kill(),
            3 => self.stop_and_check(),
            _ => {}
        }
        if number.is_multiple_of(4) {
            small.grow();
        } else {
            self.drain();
        }
        let resumed = self.resume();
        self.drain();
        self.filled.resumed.push(resumed);
        resumed
    }

    /// Publishes until one is refused.
    fn fill(&mut self, publisher: &mut RawClient) {
        let mut open = VecDeque::new();
        let mut is_full = false;
        while !is_full || !open.is_empty() {
            while !is_full && open.len() < WINDOW {
                // Ids of what is open at once differ.
                let id = (self.next % 1_000 + 1) as u16;
                publisher.publish(1, id, "t", &payload(self.next));
                open.push_back((id, self.next));
                self.next += 1;
            }
            is_full |= self.take_answer(publisher, &mut open);
            assert!(self.next < 1_000_000, "a small disk is full some time");
        }
    }

    /// True if it was refused for want of room.
    fn take_answer(&mut self, publisher: &mut RawClient, open: &mut VecDeque<(u16, u32)>) -> bool {
        let answer = publisher.frame();
        let (id, number) = open.pop_front().unwrap();
        assert_eq!((answer.first, answer.id()), (PUBACK, id), "{answer:02x?}");
        match answer.ack_reason() {
            0x97 => return true,
            0x80.. => self.wrong(format!("{number} is refused: {answer:02x?}")),
            0..0x80 => {
                self.waiting.push_back(number);
                self.filled.verdict.acknowledged += 1;
            }
        }
        false
    }

    /// Offers a message until it is taken, and says how long that took.
    fn resume(&mut self) -> Duration {
        let room = Instant::now();
        let mut publisher = RawClient::connect(self.server.address(), V5, "publisher");
        loop {
            publisher.publish(1, 1, "t", &payload(self.next));
            let mut open = VecDeque::from([(1, self.next)]);
            self.next += 1;
            let is_full = self.take_answer(&mut publisher, &mut open);
            if !is_full {
                return room.elapsed();
            }
            assert!(room.elapsed() < 2 * PATIENCE, "there is no room again");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Has the subscriber take what waits, each message whole, once and in its place.
    fn drain(&mut self) {
        let connect = Connect::persistent(V5, "subscriber");
        let (mut client, present) = RawClient::connect_as(self.server.address(), V5, &connect);
        if !present {
            self.filled.verdict.lost += 1;
        }
        while let Some(expected) = self.waiting.pop_front() {
            let publish = client.message();
            self.filled.verdict.received += 1;
            let Some(Label { number, .. }) = Label::of(&publish.payload) else {
                self.wrong(format!("a broken payload for number {expected}"));
                continue;
            };
            if number != expected {
                self.wrong(format!("number {number} came for {expected}"));
                self.filled.verdict.lost += u64::from(number > expected);
                // The rest is compared with what follows the one that came.
                self.waiting.retain(|later| *later > number);
            }
        }
        client.ping();
        client.leave();
    }

    fn kill(&mut self) {
        self.server.process.kill();
        self.server = Server::start(&self.spec);
    }

    /// Stops it, has its store looked through, and starts it again.
    fn stop_and_check(&mut self) {
        let status = self.server.process.terminate();
        if !status.success() {
            self.wrong(format!("the broker ended with {status}"));
        }
        let check = Command::new(&self.spec.program)
            .args(["store", "check", "--data"])
            .arg(&self.spec.data)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&check.stdout);
        if !check.status.success() || !said.contains("everything is as it was written") {
            let error = String::from_utf8_lossy(&check.stderr);
            self.wrong(format!("the store is damaged: {said}{error}"));
        }
        self.server = Server::start(&self.spec);
    }

    fn wrong(&mut self, words: String) {
        self.filled.verdict.wrong += 1;
        self.filled.verdict.words.push(words);
    }
}

fn payload(number: u32) -> Vec<u8> {
    Label { stream: 0, number }.payload(PAYLOAD_BYTES)
}
