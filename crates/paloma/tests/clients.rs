//! `paloma pub` and `paloma sub` against `paloma serve`, against mosquitto, and beside mosquitto's clients.
#![cfg(feature = "clients")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a broken process ends the test"
)]

mod support;

use std::io::{BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use support::tools::{mosquitto, skip};
use support::{paloma, start};

/// A broker on a free port, which ends with the test.
struct Broker {
    child: Child,
    port: String,
    _stderr: Option<BufReader<ChildStderr>>,
}

impl Broker {
    fn paloma() -> Self {
        let (child, stderr, addresses) = start(&["serve", "--listen", "tcp://127.0.0.1:0"], 1);
        let port = addresses[0].rsplit_once(':').unwrap().1.to_owned();
        Self {
            child,
            port,
            _stderr: Some(stderr),
        }
    }

    /// `None`, and a printed line, on machines without mosquitto.
    fn mosquitto() -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let child = Command::new(mosquitto())
            .args(["-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(child) = child else {
            skip("mosquitto");
            return None;
        };
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "mosquitto does not listen");
            thread::sleep(Duration::from_millis(10));
        }
        Some(Self {
            child,
            port: port.to_string(),
            _stderr: None,
        })
    }

    /// A client of ours, with the port and a deadline for `sub`.
    fn client(&self, arguments: &[&str]) -> Command {
        let mut command = paloma(arguments);
        command
            .args(["-h", "127.0.0.1", "-p", &self.port])
            .stdout(Stdio::piped());
        if arguments[0] == "sub" && !arguments.contains(&"-W") {
            command.args(["-W", "30"]);
        }
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.client(arguments).output().unwrap()
    }

    /// What a client prints that ends well.
    fn out(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// A client that reads this text.
    fn feed(&self, arguments: &[&str], text: &str) {
        let mut child = self
            .client(arguments)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{arguments:?}");
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// [MQTT-4.3.2-4] [MQTT-4.3.3-4] [MQTT-4.3.3-8] [MQTT-4.5.0-2] [MQTT311-4.3.2-2] [MQTT311-4.3.3-2]
/// [MQTT311-4.5.0-2]
#[test]
fn messages_go_through_at_each_version_and_qos() {
    for broker in [Some(Broker::paloma()), Broker::mosquitto()]
        .into_iter()
        .flatten()
    {
        for version in ["311", "5"] {
            for qos in ["1", "2"] {
                let session = ["-c", "-i", "keeper", "-q", qos, "-V", version, "-t", "a/+"];
                broker.out(&[&["sub", "-E"], &session[..]].concat());
                broker.out(&["pub", "-t", "a/b", "-m", "one", "-q", qos, "-V", version]);
                broker.out(&["pub", "-t", "a/c", "-n", "-q", qos, "-V", version]);
                let print = ["sub", "-C", "2", "-F", "%t|%p|%q|%l"];
                let printed = broker.out(&[&print[..], &session[..]].concat());
                assert_eq!(printed, format!("a/b|one|{qos}|3\na/c||{qos}|0\n"));
                // The session ends, so that the next version begins anew.
                broker.out(&["sub", "-E", "-i", "keeper", "-V", version, "-t", "x"]);
            }
            broker.out(&["pub", "-t", "kept", "-m", "0", "-r", "-V", version]);
            let printed = broker.out(&["sub", "-t", "kept", "-C", "1", "-v", "-V", version]);
            assert_eq!(printed, "kept 0\n");
        }
    }
    let broker = Broker::paloma();
    broker.out(&[
        "pub", "-t", "kept", "-m", "3.1", "-r", "-q", "1", "-V", "31",
    ]);
    assert_eq!(
        broker.out(&["sub", "-t", "kept", "-C", "1", "-N", "-V", "mqttv31"]),
        "3.1"
    );
}

#[test]
fn payloads_come_from_everywhere() {
    for broker in [Some(Broker::paloma()), Broker::mosquitto()]
        .into_iter()
        .flatten()
    {
        let session = ["-c", "-i", "keeper", "-q", "1", "-t", "in"];
        broker.out(&[&["sub", "-E"], &session[..]].concat());
        broker.feed(
            &["pub", "-t", "in", "-q", "1", "-l"],
            "first\nsecond\n\nlast",
        );
        broker.feed(&["pub", "-t", "in", "-q", "1", "-s"], "all\nof it\n");
        let file = std::env::temp_dir().join(format!("paloma-{}-payload", std::process::id()));
        std::fs::write(&file, "from a file").unwrap();
        let path = file.to_str().unwrap();
        broker.out(&["pub", "-t", "in", "-q", "1", "-f", path]);
        std::fs::remove_file(&file).unwrap();
        broker.out(&["pub", "-t", "in", "-q", "1", "-m", "twice", "--repeat", "2"]);
        let printed = broker.out(&[&["sub", "-C", "8", "-F", "[%p]"], &session[..]].concat());
        assert_eq!(
            printed,
            "[first]\n[second]\n[]\n[last]\n[all\nof it\n]\n[from a file]\n[twice]\n[twice]\n"
        );
    }
}

#[test]
fn many_lines_arrive_in_order() {
    let broker = Broker::paloma();
    let session = ["-c", "-i", "keeper", "-q", "2", "-t", "in"];
    broker.out(&[&["sub", "-E"], &session[..]].concat());
    let lines: String = (0..900).map(|number| format!("{number}\n")).collect();
    broker.feed(&["pub", "-t", "in", "-q", "2", "-l", "-M", "10"], &lines);
    assert_eq!(
        broker.out(&[&["sub", "-C", "900"], &session[..]].concat()),
        lines
    );
}

/// [MQTT-3.1.2-23] [MQTT-3.1.3-2]
#[test]
fn a_counted_subscriber_leaves_the_rest_in_its_session() {
    let broker = Broker::paloma();
    let session = ["-c", "-i", "keeper", "-q", "1", "-t", "in"];
    broker.out(&[&["sub", "-E"], &session[..]].concat());
    broker.feed(&["pub", "-t", "in", "-q", "1", "-l"], "1\n2\n3\n4\n5\n");
    let mut printed = String::new();
    for _ in 0..5 {
        printed += &broker.out(&[&["sub", "-C", "1"], &session[..]].concat());
    }
    assert_eq!(printed, "1\n2\n3\n4\n5\n");
}

#[test]
fn properties_travel_and_print_as_with_mosquittos_clients() {
    let format = "%t|%p|%q|%r|%l|%C|%D|%E|%F|%R|%P|%x|%X|%10t|%-10t|%.2t|%05l|%%|\\t";
    for broker in [Some(Broker::paloma()), Broker::mosquitto()]
        .into_iter()
        .flatten()
    {
        let publish = [
            "pub",
            "-r",
            "-q",
            "1",
            "-t",
            "home/x",
            "-m",
            "{\"a\":1}",
            "-D",
            "publish",
            "user-property",
            "k",
            "v",
            "-D",
            "publish",
            "user-property",
            "k",
            "w",
            "-D",
            "publish",
            "content-type",
            "text/x",
            "-D",
            "publish",
            "response-topic",
            "re",
            "-D",
            "publish",
            "correlation-data",
            "7",
            "-D",
            "publish",
            "payload-format-indicator",
            "1",
        ];
        broker.out(&publish);
        let ours = broker.out(&["sub", "-V", "5", "-t", "home/+", "-C", "1", "-F", format]);
        assert_eq!(
            ours,
            "home/x|{\"a\":1}|0|1|7|text/x|7||1|re|k:v k:w|7b2261223a317d|7B2261223A317D|    home/x\
             |home/x    |ho|00007|%|\t\n"
        );
        let theirs = Command::new("mosquitto_sub")
            .args([
                "-p",
                &broker.port,
                "-V",
                "5",
                "-t",
                "home/+",
                "-C",
                "1",
                "-F",
                format,
            ])
            .output();
        match theirs {
            Ok(theirs) => assert_eq!(String::from_utf8(theirs.stdout).unwrap(), ours),
            Err(_) => skip("mosquitto_sub"),
        }
        let json = broker.out(&["sub", "-V", "5", "-t", "home/+", "-C", "1", "-F", "%J"]);
        assert!(json.ends_with(",\"payload\":{\"a\":1}}\n"), "{json}");
    }
}

#[test]
fn subscribers_choose_what_they_print() {
    for broker in [Some(Broker::paloma()), Broker::mosquitto()]
        .into_iter()
        .flatten()
    {
        for topic in ["a", "b", "c"] {
            broker.out(&["pub", "-r", "-q", "1", "-t", topic, "-m", topic]);
        }
        let retained = ["sub", "-v", "-t", "+", "-C", "2", "-T", "b"];
        let mut lines: Vec<String> = broker.out(&retained).lines().map(str::to_owned).collect();
        lines.sort();
        assert_eq!(lines, ["a a", "c c"]);

        let fresh = broker.run(&["sub", "-v", "-t", "+", "-R", "-W", "1"]);
        assert_eq!(
            (fresh.status.code(), fresh.stdout.as_slice()),
            (Some(27), &b""[..])
        );

        let session = ["-c", "-i", "keeper", "-q", "1"];
        broker.out(&[&["sub", "-E", "-t", "x", "-t", "y"], &session[..]].concat());
        broker.out(&[&["sub", "-E", "-U", "x"], &session[..]].concat());
        for topic in ["x", "y"] {
            broker.out(&["pub", "-q", "1", "-t", topic, "-m", topic]);
        }
        assert_eq!(
            broker.out(&[&["sub", "-C", "1", "-t", "y"], &session[..]].concat()),
            "y\n"
        );

        // Each of the three greetings, and what clears it: then all are gone.
        broker.out(&["sub", "-t", "+", "--remove-retained", "-C", "6"]);
        let left = broker.run(&["sub", "-t", "+", "-W", "1"]);
        assert_eq!(
            (left.status.code(), left.stdout.as_slice()),
            (Some(27), &b""[..])
        );
    }
}

/// [MQTT-3.1.2-9]
#[test]
fn a_will_is_published_when_a_subscriber_is_killed() {
    let broker = Broker::paloma();
    let mut mourned = broker
        .client(&[
            "sub",
            "-d",
            "-t",
            "x",
            "--will-topic",
            "will",
            "--will-payload",
            "gone",
            "--will-qos",
            "1",
            "--will-retain",
        ])
        .spawn()
        .unwrap();
    // The debugging output says when it is connected.
    let mut said = BufReader::new(mourned.stderr.take().unwrap());
    let mut text = Vec::new();
    while !String::from_utf8_lossy(&text).contains("received CONNACK") {
        let mut byte = [0];
        said.read_exact(&mut byte).unwrap();
        text.extend(byte);
    }
    mourned.kill().unwrap();
    mourned.wait().unwrap();
    assert_eq!(
        broker.out(&["sub", "-t", "will", "-q", "1", "-C", "1", "-v"]),
        "will gone\n"
    );
}

/// [MQTT-3.14.4-1]
#[test]
fn a_subscriber_that_is_interrupted_leaves_in_good_order() {
    let broker = Broker::paloma();
    let arguments = [
        "sub",
        "-t",
        "x",
        "-d",
        "--will-topic",
        "will",
        "--will-retain",
    ];
    let mut child = broker.client(&arguments).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut text = Vec::new();
    while !String::from_utf8_lossy(&text).contains("subscribed to") {
        let mut byte = [0];
        said.read_exact(&mut byte).unwrap();
        text.extend(byte);
    }
    support::signal(&child, "-INT");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(
        broker.run(&["sub", "-t", "will", "-W", "1"]).status.code(),
        Some(27)
    );
}

/// A broker that answers the first CONNECT with these bytes; gives its port.
fn refusing(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // The CONNECT, which comes in one piece; then the end.
        assert_ne!(stream.read(&mut [0; 1_024]).unwrap(), 0);
        stream.write_all(answer).unwrap();
        stream.read(&mut [0; 1_024]).unwrap_or(0)
    });
    port
}

/// [MQTT-4.13.2-1]
#[test]
fn refusals_give_the_reason_code_and_say_why() {
    for (command, version, answer, code, words) in [
        ("pub", "311", &b"\x20\x02\x00\x05"[..], 5, "not authorized"),
        (
            "sub",
            "311",
            b"\x20\x02\x00\x04",
            4,
            "bad user name or password",
        ),
        ("pub", "5", b"\x20\x03\x00\x87\x00", 135, "not authorized"),
        (
            "sub",
            "5",
            b"\x20\x03\x00\x88\x00",
            136,
            "server unavailable",
        ),
    ] {
        let port = refusing(answer);
        let message = if command == "pub" { "-n" } else { "-d" };
        let output = paloma(&[
            command,
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-t",
            "a",
            message,
            "-V",
            version,
        ])
        .output()
        .unwrap();
        assert_eq!(output.status.code(), Some(code), "{command} {version}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            said.contains(&format!("refused the connection: {words}")),
            "{said}"
        );
    }
}

#[test]
fn what_cannot_work_is_said_at_once() {
    let nobody = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
        .to_string();
    for (arguments, words) in [
        (&["pub", "-t", "a", "-n"][..], "Connection refused"),
        (&["sub", "-t", "a"], "Connection refused"),
        (&["pub", "-t", "a/#", "-n"], "invalid topic 'a/#'"),
        (&["sub", "-t", "a/#b"], "invalid topic filter 'a/#b'"),
        (&["sub", "-t", "a", "-T", "#b"], "invalid topic filter '#b'"),
        (&["sub", "-t", "a", "-c"], "-c needs a client id"),
        (&["pub", "-t", "a", "-n", "-P", "x"], "-P needs -u"),
        (&["pub", "-t", "a", "-n", "-x", "5"], "-x needs -V 5"),
        (
            &["pub", "-t", "a", "-f", "/no/such/file"],
            "cannot read /no/such/file",
        ),
        (&["pub", "-t", "a"], "required"),
    ] {
        let output = paloma(arguments)
            .args(["-h", "127.0.0.1", "-p", &nobody])
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
    let mut quiet = paloma(&[
        "pub",
        "-t",
        "a",
        "-n",
        "--quiet",
        "-h",
        "127.0.0.1",
        "-p",
        &nobody,
    ]);
    assert_eq!(quiet.output().unwrap().stderr, b"");
}

#[test]
fn mosquittos_clients_and_ours_read_each_other() {
    let broker = Broker::paloma();
    let Ok(version) = Command::new("mosquitto_pub").arg("--help").output() else {
        skip("mosquitto_pub");
        return;
    };
    drop(version);
    let theirs = |command: &str, arguments: &[&str]| {
        let output = Command::new(command)
            .args(["-p", &broker.port])
            .args(arguments)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{command} {arguments:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let session = ["-c", "-i", "keeper", "-q", "2", "-t", "mixed"];
    broker.out(&[&["sub", "-E"], &session[..]].concat());
    theirs("mosquitto_pub", &["-q", "2", "-t", "mixed", "-m", "theirs"]);
    broker.out(&["pub", "-q", "2", "-t", "mixed", "-m", "ours"]);
    let printed = theirs("mosquitto_sub", &[&["-C", "2"], &session[..]].concat());
    assert_eq!(printed, "theirs\nours\n");
}
