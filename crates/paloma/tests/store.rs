//! What `paloma serve` keeps, and where.
#![cfg(all(feature = "clients", feature = "store"))]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a broken process ends the test"
)]

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use support::{paloma, signal, start_command};

/// A directory that goes when the test ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("paloma-store-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A broker on a free port in a directory of its own, with its store where it is by default or where the arguments say.
fn command(directory: &Path, arguments: &[&str]) -> Command {
    let mut all = vec!["serve", "--listen", "tcp://127.0.0.1:0"];
    all.extend(arguments);
    let mut command = paloma(&all);
    command
        .env_remove("PALOMA__STORE__IN_MEMORY")
        .env("PALOMA__ADMIN__ADDRESS", "")
        .current_dir(directory);
    command
}

fn serve(directory: &Path, arguments: &[&str]) -> (Child, String) {
    let (child, mut rest, mut addresses) = start_command(&mut command(directory, arguments), 1);
    // What it says further on must not fill the pipe.
    std::thread::spawn(move || {
        let mut log = String::new();
        let _ = rest.read_to_string(&mut log);
    });
    (child, addresses.remove(0))
}

/// Connects with 3.1.1 and an unclean session, and gives the socket and whether the session was there.
fn connect(address: &str, name: u8) -> (TcpStream, bool) {
    let mut stream = TcpStream::connect(address).unwrap();
    let connect = [b"\x10\x0d\x00\x04MQTT\x04\x00\x00\x3c\x00\x01", &[name][..]].concat();
    stream.write_all(&connect).unwrap();
    let answer = take(&mut stream, 4);
    assert_eq!((answer[0], answer[3]), (0x20, 0), "{answer:?}");
    (stream, answer[2] == 1)
}

fn take(stream: &mut TcpStream, bytes: usize) -> Vec<u8> {
    let mut answer = vec![0; bytes];
    stream.read_exact(&mut answer).unwrap();
    answer
}

/// A session of `s` that waits for `t`, and a message for it that was acknowledged.
fn leave_a_message(address: &str) {
    let (mut subscriber, _) = connect(address, b's');
    subscriber
        .write_all(b"\x82\x06\x00\x01\x00\x01t\x01")
        .unwrap();
    assert_eq!(take(&mut subscriber, 5), [0x90, 3, 0, 1, 1]);
    // Gone when the broker has closed too: until then the message would be on its way to it.
    subscriber.shutdown(Shutdown::Write).unwrap();
    assert_eq!(subscriber.read(&mut [0]).unwrap(), 0);
    let (mut publisher, _) = connect(address, b'p');
    publisher
        .write_all(b"\x32\x0a\x00\x01t\x00\x07hello")
        .unwrap();
    assert_eq!(take(&mut publisher, 4), [0x40, 2, 0, 7]);
}

fn has_message(address: &str) -> bool {
    let (mut subscriber, is_present) = connect(address, b's');
    if is_present {
        let publish = take(&mut subscriber, 12);
        assert_eq!(publish[..5], *b"\x32\x0a\x00\x01t");
        assert_eq!(publish[7..], *b"hello");
    }
    is_present
}

#[test]
fn what_was_acknowledged_is_there_after_kill_9_and_after_a_clean_stop() {
    for name in ["-KILL", "-TERM"] {
        let scratch = Scratch::new(name);
        let (mut child, address) = serve(&scratch.0, &[]);
        leave_a_message(&address);
        signal(&child, name);
        let status = child.wait().unwrap();
        assert_eq!(status.success(), name == "-TERM");
        let mode = std::fs::metadata(scratch.0.join("paloma-data")).unwrap();
        assert_eq!(mode.permissions().mode() & 0o777, 0o700);
        let (mut child, address) = serve(&scratch.0, &[]);
        assert!(has_message(&address), "after {name}");
        signal(&child, "-TERM");
        assert!(child.wait().unwrap().success());
    }
}

#[test]
fn in_memory_nothing_is_written_and_nothing_is_there() {
    let scratch = Scratch::new("memory");
    for _ in 0..2 {
        let (mut child, address) = serve(&scratch.0, &["--in-memory"]);
        assert!(!has_message(&address));
        leave_a_message(&address);
        signal(&child, "-TERM");
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(std::fs::read_dir(&scratch.0).unwrap().count(), 0);
}

#[test]
fn it_says_where_its_store_is_and_nobody_else_may_have_it() {
    let scratch = Scratch::new("twice");
    let data = scratch.0.join("elsewhere");
    let data = data.to_str().unwrap();
    let (mut child, mut rest, _) = start_command(&mut command(&scratch.0, &["--data", data]), 1);
    let output = command(&scratch.0, &["--data", data]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("is in use by process"), "{said}");
    assert!(said.contains(data), "{said}");
    signal(&child, "-TERM");
    assert!(child.wait().unwrap().success());
    let mut log = String::new();
    rest.read_to_string(&mut log).unwrap();
    assert!(!log.contains("ERROR"), "{log}");
}

/// Runs `paloma store` to its end: exit code, output, what it says on stderr.
fn tool(arguments: &[&str]) -> (i32, String, String) {
    let mut all = vec!["store"];
    all.extend(arguments);
    let output = paloma(&all).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let code = output.status.code().unwrap();
    (code, text(output.stdout), text(output.stderr))
}

#[test]
fn a_store_is_looked_at_carried_over_and_repaired() {
    let scratch = Scratch::new("tools");
    let path = |name: &str| scratch.0.join(name).to_str().unwrap().to_owned();
    let (data, other, lines) = (path("data"), path("other"), path("lines"));
    let (mut child, address) = serve(&scratch.0, &["--data", &data]);
    drop(connect(&address, b'a'));

    let (code, _, error) = tool(&["check", "--data", &data]);
    let expected = format!("is in use by process {}\n", child.id());
    assert!(code == 1 && error.ends_with(&expected), "{error}");
    signal(&child, "-TERM");
    assert!(child.wait().unwrap().success());

    let (code, output, error) = tool(&["check", "--data", &data]);
    assert_eq!((code, error.as_str()), (0, ""));
    assert!(
        output.ends_with("everything is as it was written\n"),
        "{output}"
    );
    let (code, output, _) = tool(&["stats", "--data", &data]);
    assert_eq!(code, 0);
    let sessions = output.lines().find(|line| line.starts_with("sessions"));
    assert_eq!(
        sessions.map(|line| line.ends_with(" 1")),
        Some(true),
        "{output}"
    );

    assert_eq!(tool(&["export", "--data", &data, &lines]).0, 0);
    let (code, output, _) = tool(&["import", "--data", &other, &lines]);
    assert_eq!((code, output.as_str()), (0, "2 lines\n"));
    let (code, _, error) = tool(&["import", "--data", &other, &lines]);
    assert!(code == 1 && error.contains("not empty"), "{error}");
    let (code, output, _) = tool(&["export", "--data", &other]);
    assert_eq!(
        (code, output),
        (0, std::fs::read_to_string(&lines).unwrap())
    );
    assert_eq!(tool(&["compact", "--data", &other]).0, 0);
    let (code, output, _) = tool(&["repair", "--data", &other]);
    assert_eq!((code, output.as_str()), (0, "there is nothing to repair\n"));

    std::fs::write(scratch.0.join("other/paloma.redb"), [7; 10_000]).unwrap();
    let (code, _, error) = tool(&["stats", "--data", &other]);
    assert!(
        code == 1 && error.contains("paloma store repair"),
        "{error}"
    );
    let (code, output, _) = tool(&["repair", "--data", &other]);
    assert!(
        code == 1 && output.contains("paloma.redb.damaged-1"),
        "{output}"
    );
    let (mut child, address) = serve(&scratch.0, &["--data", &other]);
    drop(connect(&address, b'b'));
    signal(&child, "-TERM");
    assert!(child.wait().unwrap().success());
}
