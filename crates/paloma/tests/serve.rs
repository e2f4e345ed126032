//! `paloma serve` and `paloma check` as a user runs them.
#![expect(clippy::unwrap_used, reason = "a broken process ends the test")]

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::{paloma, signal, start, start_command};

const CONNECT: &[u8] = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01a";
const CONNACK: [u8; 4] = [0x20, 2, 0, 0];

fn connect(address: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(CONNECT).unwrap();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, CONNACK);
    stream
}

#[test]
fn serve_says_where_it_listens_and_stops_at_sigterm() {
    let (mut child, mut rest, addresses) = start(
        &[
            "serve",
            "--listen",
            "tcp://127.0.0.1:0",
            "--listen",
            "tcp://127.0.0.2:0",
        ],
        2,
    );
    let mut streams: Vec<_> = addresses.iter().map(|address| connect(address)).collect();
    signal(&child, "-TERM");
    for stream in &mut streams {
        let mut left = Vec::new();
        stream.read_to_end(&mut left).unwrap();
        assert_eq!(left, [], "3.1.1 has no word of farewell");
    }
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let mut log = String::new();
    rest.read_to_string(&mut log).unwrap();
    assert!(log.contains("SIGTERM: stopping"), "{log}");
}

#[test]
fn serve_stops_at_sigint_with_several_threads() {
    let file = std::env::temp_dir().join(format!("paloma-serve-{}.toml", std::process::id()));
    let text = "[node]\nthreads = 2\n[limits]\npacket_bytes_max = 2000\n\
                [[listener]]\naddress = '127.0.0.1:0'\nconnections_max = 1\n";
    std::fs::write(&file, text).unwrap();
    let (mut child, _rest, addresses) = start(&["serve", "--config", file.to_str().unwrap()], 1);
    std::fs::remove_file(&file).unwrap();
    let first = connect(&addresses[0]);
    let mut second = TcpStream::connect(&addresses[0]).unwrap();
    assert_eq!(
        second.read(&mut [0; 1]).unwrap_or(0),
        0,
        "one connection is allowed"
    );
    first.shutdown(Shutdown::Both).unwrap();
    signal(&child, "-INT");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// So that nobody waits while it grows.
#[cfg(target_os = "linux")]
#[test]
fn the_table_of_files_is_long_enough_for_all_connections_from_the_beginning() {
    let file = std::env::temp_dir().join(format!("paloma-files-{}.toml", std::process::id()));
    let text = "[limits]\nconnections_max = 900\n[[listener]]\naddress = '127.0.0.1:0'\n";
    std::fs::write(&file, text).unwrap();
    let arguments = ["serve", "--in-memory", "--config", file.to_str().unwrap()];
    let (mut child, _rest, _addresses) = start(&arguments, 1);
    std::fs::remove_file(&file).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("FDSize:"));
    let files: u32 = line.unwrap().trim().parse().unwrap();
    signal(&child, "-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(files > 900, "{files} files");
}

/// Case C4.
#[test]
fn without_file_descriptors_it_serves_whom_it_has_and_goes_on_when_there_are_some() {
    let binary = env!("CARGO_BIN_EXE_paloma");
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            "ulimit -n 40; exec \"$0\" serve --listen tcp://127.0.0.1:0",
        ])
        .arg(binary)
        .env("PALOMA__STORE__IN_MEMORY", "true")
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    let started = Instant::now();
    let (mut child, mut rest, addresses) = start_command(&mut command, 1);
    let mut first = connect(&addresses[0]);
    let mut crowd: Vec<TcpStream> = (0..60)
        .map(|number| {
            let mut stream = TcpStream::connect(&addresses[0]).unwrap();
            let packet = format!("\x10\x0e\0\x04MQTT\x04\x02\0\x3c\0\x02{number:02}");
            stream.write_all(packet.as_bytes()).unwrap();
            stream
        })
        .collect();
    let mut answer = [0; 4];
    let mut last = crowd.pop().unwrap();
    last.set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    assert!(
        last.read(&mut answer).is_err(),
        "there is no descriptor for it"
    );
    first.write_all(&[0xC0, 0]).unwrap();
    first.read_exact(&mut answer[..2]).unwrap();
    assert_eq!(answer[..2], [0xD0, 0]);
    drop(crowd);
    last.set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    last.read_exact(&mut answer).unwrap();
    assert_eq!(answer, CONNACK);
    signal(&child, "-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let mut log = String::new();
    rest.read_to_string(&mut log).unwrap();
    let attempts = log.matches("cannot accept connections").count();
    // It rests for a tenth of a second after each.
    let most = started.elapsed().as_millis() / 100 + 1;
    assert!(
        attempts > 0 && attempts as u128 <= most,
        "{attempts}: {log}"
    );
}

#[test]
fn an_address_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let output = paloma(&["serve", "--listen", &format!("tcp://{address}")])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains(&format!("cannot listen on {address}")),
        "{said}"
    );
}

/// What cannot be had is named, and the key or flag that asks for it.
#[test]
fn a_socket_or_store_that_cannot_be_is_named() {
    let check = |arguments: &[&str], expected: &str| {
        let output = paloma(arguments).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        // Before it there is a warning where somebody else has the administration listener's port.
        assert!(
            said.lines().any(|line| line.starts_with(expected)),
            "{said}"
        );
    };
    check(
        &["serve", "--in-memory", "--listen", "unix:///proc/none"],
        "paloma: cannot listen on unix:/proc/none: ",
    );
    #[cfg(feature = "store")]
    check(
        &[
            "serve",
            "--data",
            "/dev/null",
            "--listen",
            "tcp://127.0.0.1:0",
        ],
        "paloma: cannot keep a store in /dev/null ([store] path): /dev/null: ",
    );
}

#[test]
fn check_says_where_each_listener_would_be() {
    let arguments = [
        "check",
        "--in-memory",
        "--listen",
        "unix:///run/p",
        "--listen",
    ];
    let output = paloma(&arguments).arg("mqtt://127.0.0.1:1884").output();
    let said = String::from_utf8(output.unwrap().stderr).unwrap();
    let expected =
        "paloma: would listen on unix:///run/p\npaloma: would listen on tcp://127.0.0.1:1884\n";
    assert_eq!(said, expected);
}

#[test]
fn a_wrong_configuration_starts_nothing() {
    for command in ["serve", "check"] {
        let output = paloma(&[command, "--listen", "tcp://0.0.0.0:0", "--log", "loud"])
            .env("PALOMA__LIMITS__QOS_MAX", "3")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8(output.stderr).unwrap();
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines.len(), 3, "{said}");
        assert!(lines[0].starts_with("PALOMA__LIMITS__QOS_MAX: limits.qos_max: 3 is out of range"));
        assert!(lines[1].starts_with("--listen: 0.0.0.0:0 can be reached from other machines"));
        assert!(lines[2].starts_with("--log: `loud` is not one of"));
    }
}

#[cfg(all(feature = "admin", feature = "store"))]
#[test]
fn check_accepts_the_example() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/paloma.toml");
    let output = paloma(&["check", "--config", example]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said, "paloma: would listen on tcp://127.0.0.1:1883\n");
}

#[cfg(feature = "json-logs")]
#[test]
fn the_log_can_be_json() {
    let file = std::env::temp_dir().join(format!("paloma-json-{}.toml", std::process::id()));
    std::fs::write(
        &file,
        "[log]\nformat = 'json'\n[[listener]]\naddress = '127.0.0.1:0'\n",
    )
    .unwrap();
    let (mut child, mut rest, _) = start(&["serve", "--config", file.to_str().unwrap()], 1);
    std::fs::remove_file(&file).unwrap();
    signal(&child, "-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let mut log = String::new();
    rest.read_to_string(&mut log).unwrap();
    assert!(
        log.lines()
            .any(|line| line.starts_with('{') && line.contains("SIGTERM")),
        "{log}"
    );
}

/// Subcommands and options of every build: what this one is without is named.
#[test]
fn what_the_build_is_without_is_named_by_its_feature() {
    let check = |arguments: &[&str], feature: &str, is_built: bool| {
        let output = paloma(arguments).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let is_named = said.contains(&format!(": built without `{feature}`"));
        assert_eq!(is_named, !is_built, "{arguments:?}: {said}");
        if !is_built {
            assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        }
    };
    let data = ["check", "--data", "/srv/x"];
    check(&data, "store", cfg!(feature = "store"));
    check(&["store", "--help"], "store", cfg!(feature = "store"));
    check(
        &["check", "--record", "x"],
        "record",
        cfg!(feature = "record"),
    );
    check(&["replay", "--help"], "replay", cfg!(feature = "replay"));
    check(&["trace", "--help"], "control", cfg!(feature = "control"));
    let file = ["check", "--config", "no", "--against-running"];
    check(&file, "control", cfg!(feature = "control"));
    check(&["sub", "--help"], "clients", cfg!(feature = "clients"));
    check(&["bench", "--help"], "bench", cfg!(feature = "bench"));
    check(&["man"], "manual", cfg!(feature = "manual"));
    let tls = ["check", "--listen", "tls://127.0.0.1:1"];
    check(&tls, "tls", cfg!(feature = "tls"));
    let websocket = ["check", "--listen", "ws://127.0.0.1:1"];
    check(&websocket, "websocket", cfg!(feature = "websocket"));
}
