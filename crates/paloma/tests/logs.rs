//! What the log says, and what it never says.
#![cfg(all(feature = "clients", feature = "json-logs"))]
#![expect(clippy::unwrap_used, reason = "a broken process ends the test")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
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
        let name = match format {
            "json" => r#""client":"first\nclient""#,
            _ => r#"client="first\nclient""#,
        };
        assert!(log.contains(name), "{name} in {log}");
    }
}

#[test]
fn clients_are_told_of_with_the_listener_that_they_came_through() {
    let file = std::env::temp_dir().join(format!("paloma-log-names-{}.toml", std::process::id()));
    let text = "[admin]\naddress = ''\n[log]\nlevel = 'debug'\n\
                [[listener]]\nname = 'front'\naddress = '127.0.0.1:0'\nallow_empty_client_id = false\n\
                [[listener]]\nname = 'back'\naddress = '127.0.0.1:0'\n[listener.proxy_protocol]\nversion = '1'\ntrusted = ['127.0.0.1']\n";
    std::fs::write(&file, text).unwrap();
    let (mut child, mut rest, addresses) = start(&["serve", "--config", file.to_str().unwrap()], 2);
    let _ = std::fs::remove_file(&file);
    let end = |address: &String, bytes: &[u8]| {
        let address = address.rsplit('/').next().unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(bytes).unwrap();
        // Whatever it says, it ends.
        let _ = stream.read_to_end(&mut Vec::new());
    };
    let connect = |flags| [&[16, 13, 0, 4][..], b"MQTT", &[4, flags, 0, 9, 0, 1, b'c']].concat();
    let (front, back) = (&addresses[0], &addresses[1]);
    // Comes and goes; a reserved flag; no client id; no header of a proxy.
    end(front, &[&connect(2)[..], &[0xE0, 0]].concat());
    end(front, &connect(3));
    end(
        front,
        &[16, 12, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 9, 0, 0],
    );
    end(back, b"GET / HTTP/1.1\r\n\r\n");
    end(
        back,
        &[
            b"PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\n",
            &connect(2)[..],
            &[0xE0, 0],
        ]
        .concat(),
    );
    signal(&child, "-TERM");
    let mut log = String::new();
    rest.read_to_string(&mut log).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    for (what, listener) in [
        ("client connected", "front"),
        ("client disconnected", "front"),
        ("client refused", "front"),
        ("connection ended before a client was let in", "front"),
        ("handshake failed", "back"),
        ("client connected", "back"),
        ("client disconnected", "back"),
    ] {
        let listener = format!("listener=\"{listener}\"");
        let is_told = |line: &str| line.contains(what) && line.contains(&listener);
        assert!(log.lines().any(is_told), "{what} {listener} in {log}");
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
