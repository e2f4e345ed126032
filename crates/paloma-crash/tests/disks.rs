//! Disks that fail or are full, under the real broker.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test all through: a panic is how it reports, and it prints figures and skips"
)]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use paloma_crash::process::{Server, ServerSpec};
use paloma_interop::broker::paloma;
use paloma_interop::peer::Version::{V5, V311};
use paloma_interop::process::{Process, Stream};
use paloma_interop::raw::RawClient;
use paloma_interop::tools::{REQUIRE, in_path};
use paloma_interop::wire::{Connect, PUBACK};

fn directory(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("disks-{name}"));
    let _ = fs::remove_dir_all(&directory);
    directory
}

fn spec(name: &str, durability: &str) -> ServerSpec {
    ServerSpec::new(paloma(), &directory(name), durability)
}

/// `strace`, or `None` after a printed line.
fn strace() -> Option<PathBuf> {
    let found = in_path("strace");
    if found.is_none() {
        let required = env::var_os(REQUIRE).is_some_and(|value| value == "1");
        assert!(!required, "strace is missing and {REQUIRE}=1");
        println!("skipped: strace is missing");
    }
    found
}

/// Traces a running broker as told, once it returns.
fn attach(strace: &Path, server: &Server, arguments: &[&str]) -> Process {
    let pid = server.process.pid().to_string();
    let mut command = Command::new(strace);
    command.args(["-f", "-p", &pid]).args(arguments);
    let mut tracer = Process::start(&mut command);
    tracer.find_line("strace is attached", |line| {
        line.contains("attached").then_some(())
    });
    tracer
}

/// Leaves a durable subscription to `t` behind.
fn subscribe(server: &Server) {
    let connect = Connect::persistent(V5, "subscriber");
    let (mut client, _) = RawClient::connect_as(server.address(), V5, &connect);
    assert_eq!(client.subscribe(&[("t", 1)]), [1]);
    client.leave();
}

/// The numbers that wait for the subscriber, which there have to be so many of at least.
fn waiting(server: &Server, least: usize) -> Vec<u32> {
    let connect = Connect::persistent(V5, "subscriber");
    let (mut client, present) = RawClient::connect_as(server.address(), V5, &connect);
    assert!(present, "the subscriber's session is there");
    let number = |payload: &[u8]| u32::from_be_bytes(payload[..4].try_into().unwrap());
    (0..least)
        .map(|_| number(&client.message().payload))
        .collect()
}

/// Publishes one after the other until no PUBACK comes, and returns how many were acknowledged.
fn publish_until_the_end(client: &mut RawClient) -> u32 {
    for number in 0_u32.. {
        let packet =
            paloma_interop::wire::publish(client.version(), 1, 1, "t", &number.to_be_bytes());
        if client.try_send(&packet).is_err() {
            return number;
        }
        match client.frame_or_end() {
            Some(frame) if frame.first == PUBACK => {}
            Some(_) | None => return number,
        }
    }
    0
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged_and_nothing_acknowledged_is_lost() {
    let Some(strace) = strace() else { return };
    for when in [1, 4, 9] {
        let spec = spec(&format!("sync-{when}"), "ack");
        let mut server = Server::start(&spec);
        subscribe(&server);
        let mut publisher = RawClient::connect(server.address(), V311, "publisher");
        let inject = format!("inject=fdatasync,fsync:error=EIO:when={when}+");
        let tracer = attach(
            &strace,
            &server,
            &["-e", "trace=fdatasync,fsync", "-e", &inject],
        );
        let acknowledged = publish_until_the_end(&mut publisher);
        let refused = Instant::now();
        let status = server.process.wait();
        println!(
            "sync {when} fails: ended {:?} after the last answer",
            refused.elapsed()
        );
        drop(tracer);
        assert!(!status.success(), "{status}");
        let said = server.process.rest_of(Stream::Err);
        let is_said = said.iter().any(|line| line.contains("store"));
        assert!(is_said, "{said:?}");
        let server = Server::start(&spec);
        let expected: Vec<u32> = (0..acknowledged).collect();
        assert_eq!(waiting(&server, acknowledged as usize), expected);
        assert!(server.terminate().success());
    }
}

#[test]
fn each_acknowledgement_follows_a_sync() {
    const COUNT: usize = 20;
    let Some(strace) = strace() else { return };
    let spec = spec("order", "ack");
    let server = Server::start(&spec);
    subscribe(&server);
    let mut publisher = RawClient::connect(server.address(), V311, "publisher");
    let calls = spec.directory.join("calls");
    let file = calls.to_string_lossy().into_owned();
    let mut tracer = attach(&strace, &server, &["-e", "trace=fdatasync", "-o", &file]);
    for number in 0..COUNT as u32 {
        publisher.publish_fully(1, 1, "t", &number.to_be_bytes());
        // The line of a call is written when it returns, before the broker goes on.
        let text = fs::read_to_string(&calls).unwrap();
        let syncs = text.lines().filter(|line| line.ends_with("= 0")).count();
        assert!(syncs > number as usize, "{syncs} syncs at message {number}");
    }
    tracer.terminate();
    assert!(server.terminate().success());
}

#[test]
fn a_clean_stop_leaves_everything_at_every_level() {
    for durability in ["ack", "os", "interval", "none"] {
        let spec = spec(&format!("stop-{durability}"), durability);
        let server = Server::start(&spec);
        subscribe(&server);
        let mut publisher = RawClient::connect(server.address(), V311, "publisher");
        for number in 0..100_u32 {
            publisher.publish_fully(1, 1, "t", &number.to_be_bytes());
        }
        assert!(server.terminate().success());
        let server = Server::start(&spec);
        let expected: Vec<u32> = (0..100).collect();
        assert_eq!(waiting(&server, 100), expected, "{durability}");
        assert!(server.terminate().success());
    }
}

#[test]
fn a_second_broker_on_the_same_directory_is_refused() {
    let spec = spec("second", "ack");
    let server = Server::start(&spec);
    let mut second = Process::start(&mut spec.command());
    assert!(!second.wait().success());
    let said = second.rest_of(Stream::Err);
    assert!(said.iter().any(|line| line.contains("in use")), "{said:?}");
    assert!(server.terminate().success());
}

/// A small file system of its own, unmounted when dropped.
struct Small(PathBuf);

impl Small {
    /// `None` after a printed line where nothing may be mounted.
    fn mount(name: &str, mebibytes: u32) -> Option<Self> {
        let place = directory(name);
        fs::create_dir_all(&place).unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "tmpfs"])
            .arg(&place)
            .output();
        if mount.is_ok_and(|output| output.status.success()) {
            return Some(Self(place));
        }
        println!(
            "skipped: a file system of its own for a full disk, since nothing may be mounted here"
        );
        None
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Publishes until one is refused, and returns how many were taken.
fn fill(publisher: &mut RawClient, next: &mut u32) {
    loop {
        let mut payload = vec![7; 60_000];
        payload[..4].copy_from_slice(&next.to_be_bytes());
        publisher.publish(1, 1, "t", &payload);
        let answer = publisher.frame();
        assert_eq!(answer.first, PUBACK, "{answer:02x?}");
        if answer.ack_reason() == 0x97 {
            return;
        }
        assert!(answer.ack_reason() < 0x80, "{answer:02x?}");
        *next += 1;
        assert!(*next < 100_000, "a small disk is full some time");
    }
}

#[test]
fn a_full_disk_refuses_what_would_be_stored_and_recovers_by_itself() {
    let Some(small) = Small::mount("full", 160) else {
        return;
    };
    let mut spec = spec("full-configuration", "ack");
    spec.data = small.0.join("data");
    let mut server = Server::start(&spec);
    subscribe(&server);
    let mut taken = 0;
    let mut seen = 0;
    for round in 0..3 {
        let mut publisher = RawClient::connect(server.address(), V5, "publisher");
        fill(&mut publisher, &mut taken);
        // QoS 0 goes on, and so does everything that needs no room.
        let mut reader = RawClient::connect(server.address(), V5, "reader");
        assert_eq!(reader.subscribe(&[("free", 0)]), [0]);
        publisher.publish(0, 0, "free", b"still");
        assert_eq!(reader.message().payload, b"still");
        // The acknowledgements of the queue make room.
        let numbers = waiting(&server, (taken - seen) as usize);
        assert_eq!(
            numbers,
            (seen..taken).collect::<Vec<u32>>(),
            "round {round}"
        );
        seen = taken;
        let emptied = Instant::now();
        loop {
            publisher.publish(1, 1, "t", &taken.to_be_bytes());
            if publisher.frame().ack_reason() < 0x80 {
                taken += 1;
                break;
            }
            assert!(emptied.elapsed() < Duration::from_secs(50), "room again");
            std::thread::sleep(Duration::from_millis(50));
        }
        println!(
            "round {round}: {taken} taken, room again after {:?}",
            emptied.elapsed()
        );
        if round == 1 {
            // Killed with a nearly full disk, it comes back.
            server.kill();
            server = Server::start(&spec);
        }
    }
    assert!(server.terminate().success());
}
