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

use paloma_crash::process::full::{self, Small};
use paloma_crash::process::{Server, ServerSpec};
use paloma_interop::broker::paloma;
use paloma_interop::peer::Version::{V5, V311};
use paloma_interop::process::{Process, Stream};
use paloma_interop::raw::RawClient;
use paloma_interop::tools::{REQUIRE, in_path, say};
use paloma_interop::wire::{self, Connect, PUBACK};

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
        say("skipped: strace is missing");
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

/// Publishes one after the other until no PUBACK comes, and returns how many were acknowledged and when the last was.
fn publish_until_the_end(client: &mut RawClient) -> (u32, Instant) {
    let mut last = Instant::now();
    for number in 0_u32.. {
        let packet = wire::publish(client.version(), 1, 1, "t", &number.to_be_bytes());
        if client.try_send(&packet).is_err() {
            return (number, last);
        }
        match client.frame_or_end() {
            Some(frame) if frame.first == PUBACK => last = Instant::now(),
            Some(_) | None => return (number, last),
        }
    }
    (0, last)
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
        let (acknowledged, last) = publish_until_the_end(&mut publisher);
        let status = server.process.wait();
        let ended = last.elapsed();
        println!("sync {when} fails: ended {ended:.0?} after the last acknowledgement");
        drop(tracer);
        // A second is promised.
        assert!(ended < Duration::from_secs(10), "{ended:?}");
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

/// A file system of its own, or `None` after a printed line.
fn small(name: &str, mebibytes: u32) -> Option<Small> {
    let small = Small::mount(&directory(name), mebibytes);
    if small.is_none() {
        say("skipped: a full disk, since nothing may be mounted here");
    }
    small
}

#[test]
fn a_full_disk_refuses_what_would_be_stored_and_recovers_by_itself() {
    let Some(mut small) = small("full", 96) else {
        return;
    };
    let filled = full::run(paloma(), &mut small, 5, |fill, resumed| {
        println!("fill {fill}: a message is taken {resumed:.1?} after there is room");
    });
    let verdict = &filled.verdict;
    assert!(verdict.is_clean(), "{verdict}: {:?}", verdict.words);
    assert_eq!((filled.fills, filled.resumed.len()), (5, 5));
    assert!(verdict.acknowledged > 500 && verdict.received == verdict.acknowledged);
    // Five seconds are promised.
    let slowest = filled.resumed.iter().max().unwrap();
    assert!(*slowest < Duration::from_secs(50), "{slowest:?}");
}

#[test]
fn before_5_0_a_publisher_on_a_full_disk_is_held_and_closed_and_its_message_taken_when_it_comes_again()
 {
    // Its reserve takes all of it but a little.
    let Some(small) = small("held", 80) else {
        return;
    };
    let mut spec = spec("held-configuration", "ack");
    spec.data = small.place().join("data");
    let server = Server::start(&spec);
    subscribe(&server);
    let mut filler = RawClient::connect(server.address(), V5, "filler");
    let mut taken = 0;
    loop {
        filler.publish(1, 1, "t", &[&[0; 4][..], &[7; 100_000]].concat());
        match filler.frame().ack_reason() {
            0x97 => break,
            reason => assert!(reason < 0x80, "{reason:02x}"),
        }
        taken += 1;
    }
    let connect = Connect::persistent(V311, "old");
    let (mut old, _) = RawClient::connect_as(server.address(), V311, &connect);
    let sent = Instant::now();
    let mut packet = wire::publish(V311, 1, 9, "t", &[0, 0, 0, 99]);
    old.send(&packet);
    assert_eq!(
        old.frame_or_end(),
        None,
        "it is neither acknowledged nor answered"
    );
    let held = sent.elapsed();
    println!("held for {held:.1?}");
    assert!(held >= Duration::from_secs(9), "{held:?}");
    // It is as if it had never come.
    packet[0] |= 0x08;
    let (mut old, present) = RawClient::connect_as(server.address(), V311, &connect);
    assert!(present);
    let mut numbers = waiting(&server, taken);
    loop {
        old.send(&packet);
        match old.frame_or_end() {
            Some(answer) => {
                assert_eq!((answer.first, answer.id()), (PUBACK, 9));
                break;
            }
            // Held once more, since room was found too late.
            None => old = RawClient::connect_as(server.address(), V311, &connect).0,
        }
    }
    numbers.extend(waiting(&server, 1));
    assert_eq!(numbers.len(), taken + 1);
    assert_eq!(numbers.last(), Some(&99));
    assert!(server.terminate().success());
}
