//! `paloma bench` against `paloma serve` over every transport, and against mosquitto.
#![cfg(all(feature = "bench", feature = "tls", feature = "websocket"))]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "whatever fails ends the test"
)]

mod support;

use std::fs;
use std::io::{BufRead, Read};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::Value;
use support::tools::{mosquitto, skip};
use support::{paloma, signal, start};

/// A broker that is stopped at the end of a test.
struct Broker {
    child: Child,
    /// `HOST:PORT`, or a URL where that is not TCP, of each listener.
    addresses: Vec<String>,
}

impl Broker {
    fn paloma(arguments: &[&str], listeners: usize) -> Self {
        let line = [&["serve", "--in-memory"], arguments].concat();
        let (child, mut said, addresses) = start(&line, listeners);
        thread::spawn(move || {
            let mut line = String::new();
            while said.read_line(&mut line).is_ok_and(|read| read > 0) {
                line.clear();
            }
        });
        Self { child, addresses }
    }

    fn plain() -> Self {
        Self::paloma(&["--listen", "tcp://127.0.0.1:0"], 1)
    }

    /// `None`, and a printed line, on machines without mosquitto.
    fn mosquitto() -> Option<Self> {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port().to_string();
        drop(free);
        let mut command = Command::new(mosquitto());
        command.args(["-p", &port]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let Ok(child) = command.spawn() else {
            skip("mosquitto");
            return None;
        };
        let broker = Self {
            child,
            addresses: vec![format!("127.0.0.1:{port}")],
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(&broker.addresses[0]).is_err() {
            assert!(Instant::now() < deadline, "mosquitto does not listen");
            thread::sleep(Duration::from_millis(20));
        }
        Some(broker)
    }

    fn bench(&self, arguments: &str) -> Output {
        let url = format!("mqtt://{}", self.addresses[0]);
        let words: Vec<&str> = arguments.split(' ').collect();
        bench(&[&words[..], &["-L", &url]].concat())
    }

    /// The objects of `--json`; each says that nothing was lost.
    #[track_caller]
    fn json(&self, arguments: &str) -> Vec<Value> {
        let pid = self.child.id();
        objects(&self.bench(&format!("{arguments} --json --pid {pid}")))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        signal(&self.child, "-TERM");
        let _ended = self.child.wait();
    }
}

fn bench(arguments: &[&str]) -> Output {
    let mut command = paloma(&["bench"]);
    command.args(arguments).output().unwrap()
}

#[track_caller]
fn objects(output: &Output) -> Vec<Value> {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let lines = String::from_utf8(output.stdout.clone()).unwrap();
    let objects: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for object in &objects {
        assert_eq!(
            (&object["lost"], &object["repeated"]),
            (&0.into(), &0.into())
        );
    }
    objects
}

/// Every shape: what it counts, in all of its reports together.
#[track_caller]
fn check(broker: &Broker, arguments: &str, delivered: &[u64]) {
    let objects = broker.json(arguments);
    let found: Vec<u64> = objects
        .iter()
        .map(|object| object["delivered"].as_u64().unwrap())
        .collect();
    assert_eq!(found, delivered, "{arguments}");
    for object in &objects {
        assert!(object["broker_bytes"].as_u64().unwrap() > 100_000);
        assert!(object["per_second"].as_f64().unwrap() > 0.0);
        assert!(object["broker_cores"].as_f64().unwrap() >= 0.0);
    }
}

#[test]
fn every_shape_delivers_everything() {
    for broker in [Some(Broker::plain()), Broker::mosquitto()]
        .into_iter()
        .flatten()
    {
        for version in ["311", "5"] {
            for qos in ["0", "1", "2"] {
                let line = format!("pairs -n 3 -m 50 -q {qos} -V {version} -w 10");
                check(&broker, &line, &[150]);
            }
        }
        check(&broker, "pairs -n 4 -m 20 -s 3000 --threads 2", &[80]);
        check(&broker, "fan-out -n 20 -m 10 -q 1 -w 2", &[200]);
        check(&broker, "fan-in -n 20 -m 10 -w 1", &[200]);
        check(&broker, "wildcard -n 30 --subscribers 5 -m 10", &[300]);
        check(&broker, "retained -n 200", &[200, 200]);
        check(&broker, "conn -n 30 --concurrency 5", &[30]);
        check(&broker, "storm -n 10 --rate 200 -V 5", &[10]);
        check(&broker, "pub -n 2 -m 50 -q 1 -t load/%i", &[0]);
    }
}

#[test]
fn a_timed_run_has_latencies_and_an_open_loop_keeps_its_rate() {
    let broker = Broker::plain();
    let objects = broker.json("pairs -n 2 -r 500 --seconds 0.6 --warm-up 0.2");
    let object = &objects[0];
    assert!(object["latency_p99_microseconds"].as_f64().unwrap() > 0.0);
    assert!(object["span_seconds"].as_f64().unwrap() >= 0.6);
    // The schedule says how many leave; it is late on a busy machine, and never early.
    let sent = object["sent"].as_u64().unwrap();
    assert!(sent >= 400, "{object}");
}

#[test]
fn subscribers_count_what_publishers_of_another_process_send() {
    let broker = Broker::plain();
    let url = format!("mqtt://{}", broker.addresses[0]);
    let mut subscriber = paloma(&["bench", "sub", "-n", "2", "-t", "shop/#", "-L", &url]);
    subscriber.args(["--seconds", "4", "--warm-up", "0", "--json", "--progress"]);
    let mut subscriber = subscriber.stdout(Stdio::piped()).spawn().unwrap();
    // It is subscribed when it first tells its progress.
    let mut said = subscriber.stderr.take().unwrap();
    said.read_exact(&mut [0; 16]).unwrap();
    thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
    check(&broker, "pub -n 1 -m 100 -q 1 -t shop/1", &[0]);
    let counted = objects(&subscriber.wait_with_output().unwrap());
    assert_eq!(counted[0]["delivered"], 200, "{counted:?}");
}

#[test]
fn text_names_the_load_and_draws_its_latencies() {
    let broker = Broker::plain();
    let output = broker.bench("pairs -n 2 -m 200 -w 1 --progress");
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    for expected in [
        "2 pairs, 64 B, QoS 0, window 1, 3.1.1",
        "400 messages in ",
        "latency p99.9: ",
        "##",
        " % of its own time",
    ] {
        assert!(text.contains(expected), "{text}");
    }
}

struct Directory(PathBuf);

impl Directory {
    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A new authority in `ca.pem`, and what it has signed for `localhost` in `server.pem` and `server.key`.
fn certified() -> Directory {
    let path = std::env::temp_dir().join(format!("paloma-bench-{}", std::process::id()));
    fs::create_dir_all(&path).unwrap();
    let directory = Directory(path);
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap();
    fs::write(directory.path("ca.pem"), authority.pem()).unwrap();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    fs::write(directory.path("server.pem"), certificate.pem()).unwrap();
    let server_key = directory.path("server.key");
    fs::write(&server_key, key.serialize_pem()).unwrap();
    fs::set_permissions(&server_key, fs::Permissions::from_mode(0o600)).unwrap();
    directory
}

#[test]
fn tls_and_websockets_carry_the_same() {
    let files = certified();
    let (certificate, key) = (files.path("server.pem"), files.path("server.key"));
    let listeners = [
        "tls://127.0.0.1:0",
        "ws://127.0.0.1:0/mqtt",
        "wss://127.0.0.1:0/mqtt",
    ];
    let mut arguments = vec!["--cert", &certificate, "--key", &key];
    for listener in listeners {
        arguments.extend(["--listen", listener]);
    }
    let broker = Broker::paloma(&arguments, listeners.len());
    for address in &broker.addresses {
        let url = address
            .replace("127.0.0.1", "localhost")
            .replace("tls://", "mqtts://");
        let ca = files.path("ca.pem");
        let run = |line: &str, delivered: u64| {
            let mut words: Vec<&str> = line.split(' ').collect();
            words.extend(["--json", "-L", &url]);
            if !url.starts_with("ws://") {
                words.extend(["--cafile", &ca]);
            }
            let objects = objects(&bench(&words));
            assert_eq!(objects[0]["delivered"], delivered, "{line} over {url}");
        };
        run("pairs -n 3 -m 300 -q 1 -s 5000 -w 20", 900);
        run("pairs -n 2 -m 40 -q 2 -V 5", 80);
        run("fan-out -n 10 -m 20", 200);
        run("conn -n 20 --concurrency 7", 20);
        run("retained -n 100", 100);
    }
}

#[track_caller]
fn refused(arguments: &[&str], code: i32, expected: &str) {
    let output = bench(arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(expected), "{said}");
    assert!(output.stdout.is_empty());
}

#[test]
fn wrong_flags_are_named() {
    refused(&["pairs", "-n", "0"], 2, "0 is not in 1..");
    refused(&["pairs", "-s", "15"], 2, "15 is not in 16..");
    refused(&["pairs", "-q", "3"], 2, "3 is not in 0..=2");
    refused(&["pairs", "-r", "0"], 2, "0 is not in 1..");
    refused(&["wildcard", "-n", "2"], 2, "2 is not in 3..");
    let both = ["pub", "-m", "1", "--seconds", "1"];
    refused(&both, 2, "cannot be used with");
    refused(&["pairs", "-L", "http://h"], 2, "the scheme is none of");
    refused(&["pairs", "-L", "unix:///run/p"], 2, "Unix sockets");
    refused(&["pairs", "-L", "mqtts://h"], 2, "TLS needs --cafile");
    refused(&["conn", "-V", "31"], 2, "only 3.1.1 and 5.0");
    refused(&["pairs", "-P", "secret"], 2, "-P needs -u, or -V 5");
    refused(&["nothing"], 2, "unrecognized subcommand");
}

#[test]
fn a_broker_that_is_not_there_or_refuses_is_an_error() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port().to_string();
    drop(free);
    refused(&["pairs", "-h", "127.0.0.1", "-p", &port], 1, "refused");
    let broker = Broker::plain();
    let url = format!("mqtt://{}", broker.addresses[0]);
    let gone = ["pairs", "-m", "1", "--pid", "4294967295", "-L", &url];
    refused(&gone, 1, "No such file");
}
