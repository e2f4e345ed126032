//! The control socket: who may use it, what a reload would change, and traces.
#![cfg(feature = "control")]
#![expect(clippy::unwrap_used, reason = "a broken process ends the test")]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use support::site::{ACCEPTED, Client, PATIENCE, Site};
use support::tools::{say, skip};
use support::{Lines, paloma, signal};

const LISTENER: &str = "[[listener]]\nname = 'a'\naddress = '127.0.0.1:0'\n";
const ADMIN: &str = "[admin]\naddress = ''\ncontrol = 'DIR/control'\n";

/// A broker with ann, bob and these rules.
fn site(name: &str, rules: &str) -> Site {
    let mut site = Site::new(name);
    site.user("passwords", "ann", "a");
    site.user("passwords", "bob", "b");
    site.write("rules", rules);
    site.write(
        "paloma.toml",
        &format!(
            "{ADMIN}{LISTENER}[[listener]]\nname = 'b'\naddress = '127.0.0.1:0'\n\
             [auth]\npassword_file = 'DIR/passwords'\nacl_file = 'DIR/rules'\n"
        ),
    );
    site.start(2);
    site
}

/// What `paloma check --against-running` says of a file, with its exit code.
fn check(site: &Site, config: &str) -> (Option<i32>, Vec<String>) {
    let output = paloma(&["check", "--against-running", "--config", &site.path(config)]).output();
    let output = output.unwrap();
    let said = output.stdout.iter().chain(&output.stderr).copied();
    let said = String::from_utf8(said.collect()).unwrap();
    let mut lines: Vec<String> = said.lines().map(str::to_owned).collect();
    lines.sort();
    (output.status.code(), lines)
}

#[test]
fn a_rehearsal_names_whom_other_files_would_cut_off_and_who_would_lose_a_right() {
    let rules = "user ann\ntopic a/#\ntopic read b\nuser bob\ntopic #\n";
    let mut site = site("rehearsal", rules);
    let (mut ann, code) = site.client("c1", Some(("ann", "a")));
    assert_eq!(code, ACCEPTED);
    assert_eq!(ann.subscribe("a/#"), 0);
    let (mut bob, code) = site.client("c2", Some(("bob", "b")));
    assert_eq!(code, ACCEPTED);
    let second = site.addresses.get(1).unwrap().clone();
    let (mut other, _) = Client::connect(&second, "c3", Some(("ann", "a")), true);

    let nobody = "no client would be cut off or lose a right".to_owned();
    assert_eq!(check(&site, "paloma.toml"), (Some(0), vec![nobody.clone()]));

    // Other rules, another password, one listener less; in files of their own.
    site.write(
        "rules.new",
        "user ann\ntopic read a/public\ntopic write a/#\nuser bob\ntopic #\n",
    );
    fs::copy(site.path("passwords"), site.path("passwords.new")).unwrap();
    site.user("passwords.new", "bob", "other");
    let draft = format!(
        "{ADMIN}{LISTENER}[auth]\npassword_file = 'DIR/passwords.new'\nacl_file = 'DIR/rules.new'\n"
    );
    site.write("draft.toml", &draft);
    let expected = [
        "client \"c1\" of user \"ann\" at 127.0.0.1: would lose its subscription \"a/#\" in part",
        "client \"c1\" of user \"ann\" at 127.0.0.1: would lose the right to read \"a/#\" in part",
        "client \"c1\" of user \"ann\" at 127.0.0.1: would lose the right to read \"b\"",
        "client \"c2\" of user \"bob\" at 127.0.0.1: would be cut off: its password is another or its user is gone",
        "client \"c3\" of user \"ann\" at 127.0.0.1: would be cut off: its listener is closed",
    ];
    assert_eq!(
        check(&site, "draft.toml"),
        (Some(3), expected.map(str::to_owned).to_vec())
    );
    // It was a rehearsal.
    assert_eq!(ann.received(), Vec::<String>::new());
    assert_eq!(other.received(), Vec::<String>::new());
    assert_eq!(bob.received(), Vec::<String>::new());

    // And then it happens.
    site.write("paloma.toml", &draft);
    let said = site.reload();
    assert!(said.contains("sent_away=2"), "{said}");
    assert!(other.is_closed());
    assert_eq!(check(&site, "paloma.toml"), (Some(0), vec![nobody]));
}

#[test]
fn what_is_wrong_with_a_configuration_is_said_before_anybody_is_asked() {
    let site = site("rehearsal-wrong", "topic read a\n");
    site.write("draft.toml", &format!("{ADMIN}[limits]\nqos_max = 7\n"));
    let (code, said) = check(&site, "draft.toml");
    assert_eq!(code, Some(2));
    assert!(
        said.iter()
            .any(|line| line.contains("limits.qos_max: 7 is out of range"))
    );
    site.write("draft.toml", "[admin]\naddress = ''\n");
    let (code, said) = check(&site, "draft.toml");
    assert_eq!(code, Some(2));
    assert!(
        said.iter()
            .any(|line| line.contains("names no control socket")),
        "{said:?}"
    );
    site.write("draft.toml", "[admin]\ncontrol = 'DIR/nobody'\n");
    let (code, said) = check(&site, "draft.toml");
    assert_eq!(code, Some(1), "{said:?}");
    // What the broker alone finds wrong: a name that means another address here.
    site.write(
        "draft.toml",
        &format!(
            "{ADMIN}[[listener]]\naddress = 'no.such.name.invalid:1'\nallow_anonymous = true\n"
        ),
    );
    let (code, said) = check(&site, "draft.toml");
    assert_eq!(code, Some(2), "{said:?}");
    assert!(
        said.iter().any(|line| line.contains("cannot listen on")),
        "{said:?}"
    );
}

struct Trace {
    child: Child,
    said: Lines,
}

impl Trace {
    /// Begins; the broker has taken note of it then.
    fn begin(site: &Site, arguments: &[&str]) -> Self {
        let mut child = paloma(&["trace", "--control", &site.path("control")])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let begun = Lines::of(BufReader::new(child.stderr.take().unwrap()));
        begun.until(&["tracing"]);
        let said = Lines::of(BufReader::new(child.stdout.take().unwrap()));
        Self { child, said }
    }

    /// Everything up to its end, without the times.
    fn end(mut self) -> Vec<String> {
        let said = self.said.rest();
        assert!(self.child.wait().unwrap().success());
        let lines = said
            .lines()
            .map(|line| line.split_once(' ').unwrap().1.to_owned());
        lines.collect()
    }
}

#[test]
fn a_trace_tells_what_happens_and_no_payload_unless_asked() {
    let mut site = site("trace", "user ann\ntopic a/#\nuser bob\ntopic write a/#\n");
    let (mut ann, _) = site.client("c1", Some(("ann", "a")));
    assert_eq!(ann.subscribe("a/#"), 0);
    let topic = Trace::begin(&site, &["--topic", "a/+", "-C", "3"]);
    let payloads = Trace::begin(&site, &["--topic", "a/+", "-C", "1", "--payloads"]);
    let client = Trace::begin(&site, &["--client", "c2", "-C", "4"]);
    let (mut bob, _) = site.client("c2", Some(("bob", "b")));
    bob.publish("x", "elsewhere");
    bob.publish("a/x", "the-pay-load");
    assert_eq!(ann.received(), ["a/xthe-pay-load"]);
    drop(bob);
    let payload_line =
        "client \"c2\": published \"a/x\" (QoS 1, 12 bytes) \"the-pay-load\": for 1 session";
    assert_eq!(payloads.end(), [payload_line]);
    let published = "client \"c2\": published \"a/x\" (QoS 1, 12 bytes): for 1 session";
    assert_eq!(
        client.end(),
        [
            "client \"c2\": connected as \"bob\" from 127.0.0.1",
            "client \"c2\": published \"x\" (QoS 1, 9 bytes): refused: the rules forbid it",
            published,
            "client \"c2\": disconnected: socket closed",
        ]
    );
    let (mut bob, _) = site.client("c2", Some(("bob", "b")));
    bob.publish("a/\u{1b}[2J", "x");
    let told = topic.end();
    let (first, rest) = told.split_first().unwrap();
    assert_eq!(first, published);
    assert_eq!(
        rest,
        [
            "client \"c1\": \"a/x\" waits for it (QoS 0)",
            "client \"c2\": published \"a/\\u{1b}[2J\" (QoS 1, 1 bytes): for 1 session",
        ]
    );
    let log = site.stop();
    assert!(!log.contains("the-pay-load"), "{log}");
    assert!(
        !fs::exists(site.path("control")).unwrap(),
        "the socket goes with the broker"
    );
}

/// What `paloma why` says, with its exit code.
fn why(site: &Site, client: &str, topic: &str) -> (Option<i32>, String) {
    let output = paloma(&["why", client, topic, "--config", &site.path("paloma.toml")]).output();
    let output = output.unwrap();
    let said = output.stdout.iter().chain(&output.stderr).copied();
    (
        output.status.code(),
        String::from_utf8(said.collect()).unwrap(),
    )
}

#[test]
fn a_broker_says_why_a_client_gets_a_message_or_does_not() {
    let rules = "user ann\ntopic a/#\ntopic deny a/secret\n";
    let site = site("why", rules);
    let (mut ann, code) = site.client("c1", Some(("ann", "a")));
    assert_eq!(code, ACCEPTED);
    assert_eq!(ann.subscribe("a/#"), 0);
    let (code, said) = why(&site, "c1", "a/b");
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.starts_with("\"c1\" gets what is published on \"a/b\"\n"),
        "{said}"
    );
    for (client, topic) in [("c1", "a/secret"), ("c1", "b"), ("c2", "a/b")] {
        let (code, said) = why(&site, client, topic);
        assert_eq!(code, Some(0), "{said}");
        let answer = format!("{client:?} does not get what is published on {topic:?}\n");
        assert!(said.starts_with(&answer), "{said}");
    }
    // That is a filter.
    let (code, said) = why(&site, "c1", "a/#");
    assert_eq!(code, Some(2), "{said}");
}

#[test]
fn a_trace_that_nobody_reads_holds_nobody_up() {
    let site = site("trace-unread", "user ann\ntopic a/#\n");
    let mut stream = UnixStream::connect(site.path("control")).unwrap();
    writeln!(stream, "{{\"topic\":\"a/#\"}}").unwrap();
    let mut line = String::new();
    BufReader::new(stream.try_clone().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert!(line.contains("tracing"), "{line}");
    let (mut ann, _) = site.client("c1", Some(("ann", "a")));
    for _ in 0..10_000 {
        ann.publish("a/x", "x");
    }
    assert_eq!(ann.received(), Vec::<String>::new());
}

#[test]
fn the_control_socket_is_its_owners_alone_and_survives_nonsense() {
    let site = site("control-owner", "topic read a\n");
    let socket = site.path("control");
    let mode = fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for nonsense in [
        "",
        "\n",
        "nonsense\n",
        "{}\n",
        "[1]\n",
        "{\"topic\":\"a/#/b\"}\n",
    ] {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(nonsense.as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("{\"end\":1}\n"), "{nonsense}: {answer}");
    }
    let mut stream = UnixStream::connect(&socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // More than any question has, without an end.
    drop(stream.write_all(&[b'x'; 100_000]));
    drop(stream.read_to_end(&mut Vec::new()));

    // Somebody else is not answered, whatever the file's mode has become.
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    fs::set_permissions(&site.directory, fs::Permissions::from_mode(0o755)).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_paloma"), site.path("copy")).unwrap();
    let is_root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
    let stranger = Command::new("setpriv")
        .args(["--reuid", "65534", "--clear-groups", &site.path("copy")])
        .args(["trace", "--control", &socket, "--topic", "a"])
        .output();
    match stranger {
        Ok(output) if is_root => {
            assert_eq!(output.status.code(), Some(1), "{output:?}");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(!said.contains("tracing"), "{said}");
        }
        Ok(_) => say("skipped: only root can be somebody else"),
        Err(_) => skip("setpriv"),
    }
    signal(site.child.as_ref().unwrap(), "-HUP");
    site.until(&["the configuration has been read again"]);
}
