//! What the log says, and what it never says.
#![cfg(all(feature = "clients", feature = "json-logs"))]
#![expect(clippy::unwrap_used, reason = "a broken process ends the test")]

mod support;

use std::io::Read;
use std::os::unix::net::UnixStream;

use support::site::{ACCEPTED, Client};
use support::{Lines, paloma, signal, start};

/// Runs a broker with every level and format, lets clients do all they can with secrets, and gives the log.
fn log_of(format: &str) -> String {
    let file =
        std::env::temp_dir().join(format!("paloma-log-{format}-{}.toml", std::process::id()));
    let text = format!(
        "[log]\nlevel = 'trace'\nformat = '{format}'\n[[listener]]\naddress = '127.0.0.1:0'\n"
    );
    std::fs::write(&file, text).unwrap();
    let (mut child, mut rest, addresses) = start(&["serve", "--config", file.to_str().unwrap()], 1);
    std::fs::remove_file(&file).unwrap();
    let port = addresses.first().unwrap().rsplit(':').next().unwrap();
    let client = |arguments: &[&str]| {
        let command = paloma(arguments).args(["-p", port]).output();
        assert!(command.unwrap().status.success(), "{arguments:?}");
    };
    client(&[
        "pub",
        "-i",
        "first\nclient",
        "-u",
        "anna",
        "-P",
        "the-pass-word",
        "-t",
        "a/b",
        "-m",
        "the-pay-load",
        "-r",
        "-q",
        "2",
        "--will-topic",
        "w",
        "--will-payload",
        "the-will-load",
    ]);
    client(&[
        "sub",
        "-t",
        "a/#",
        "-C",
        "1",
        "-u",
        "anna",
        "-P",
        "the-pass-word",
    ]);
    signal(&child, "-TERM");
    let mut log = String::new();
    rest.read_to_string(&mut log).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    log
}

#[test]
fn no_level_prints_a_payload_or_a_password() {
    for format in ["text", "json"] {
        let log = log_of(format);
        for secret in ["the-pass-word", "the-pay-load", "the-will-load"] {
            assert!(!log.contains(secret), "{secret} in {log}");
        }
        assert!(log.contains("client connected"), "{log}");
        assert!(log.contains("client disconnected"), "{log}");
        assert!(
            !log.contains("first\nclient"),
            "a name forges no line: {log}"
        );
        assert!(log.contains("first"), "{log}");
    }
}

#[test]
fn a_log_that_nobody_reads_holds_nobody_up_and_says_what_it_lost() {
    let place = std::env::temp_dir().join(format!("paloma-log-unread-{}", std::process::id()));
    let (file, socket) = (place.with_extension("toml"), place.with_extension("sock"));
    let text = format!(
        "[log]\nlevel = 'trace'\n[[listener]]\naddress = '127.0.0.1:0'\n\
         [[listener]]\nname = 'unix'\naddress = 'unix:{}'\n",
        socket.display()
    );
    std::fs::write(&file, text).unwrap();
    let (mut child, unread, addresses) = start(&["serve", "--config", file.to_str().unwrap()], 2);
    std::fs::remove_file(&file).unwrap();
    // Each leaves at least a line: more than a pipe takes, what is being written, and what waits behind it.
    for _ in 0..10_000 {
        drop(UnixStream::connect(&socket).unwrap());
    }
    let (mut canary, code) = Client::connect(addresses.first().unwrap(), "canary", None, true);
    assert_eq!(code, ACCEPTED);
    canary.subscribe("song");
    canary.publish("song", "la");
    assert_eq!(canary.received(), ["songla"]);
    let log = Lines::of(unread);
    let said = log.until(&["log lines are lost"]);
    assert!(said.len() > 256 * 1024, "what had room is there");
    signal(&child, "-TERM");
    assert!(log.rest().contains("stopped"));
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
