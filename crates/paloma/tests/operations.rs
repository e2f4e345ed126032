//! What an operator's tools get from `paloma serve`: metrics, health, `$SYS`, word to the service manager.
#![cfg(all(feature = "admin", feature = "clients"))]
#![expect(clippy::unwrap_used, reason = "a broken process ends the test")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::{Child, ChildStderr, Command};

use support::{paloma, signal};

struct Broker {
    child: Child,
    log: BufReader<ChildStderr>,
    /// Where clients connect.
    port: String,
    /// Where metrics are, if anywhere.
    admin: String,
}

/// Starts a broker with a free port for both listeners.
fn start(change: impl FnOnce(&mut Command)) -> Broker {
    let mut command = paloma(&["serve", "--listen", "tcp://127.0.0.1:0"]);
    command.env("PALOMA__ADMIN__ADDRESS", "127.0.0.1:0");
    change(&mut command);
    let mut child = command.spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("/metrics") {
        assert_ne!(log.read_line(&mut said).unwrap(), 0, "it has ended: {said}");
    }
    let after = |mark: &str| {
        let rest = said.split_once(mark).unwrap().1;
        let end = rest.find([' ', '/', '\n']).unwrap();
        rest.get(..end).unwrap().to_owned()
    };
    Broker {
        child,
        log,
        port: after("listening on tcp://127.0.0.1:"),
        admin: after("metrics on http://"),
    }
}

/// Stops it and gives what it had to say.
fn stop(mut broker: Broker) -> String {
    signal(&broker.child, "-TERM");
    let mut log = String::new();
    broker.log.read_to_string(&mut log).unwrap();
    assert_eq!(broker.child.wait().unwrap().code(), Some(0), "{log}");
    log
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn client(broker: &Broker, arguments: &[&str]) -> String {
    let output = paloma(arguments)
        .args(["-h", "127.0.0.1", "-p", &broker.port])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn metrics_count_what_clients_do() {
    let broker = start(|_| {});
    client(
        &broker,
        &[
            "pub",
            "-t",
            "kitchen/door",
            "-m",
            "open",
            "-r",
            "-i",
            "door-7",
        ],
    );
    client(&broker, &["sub", "-t", "kitchen/#", "-C", "1"]);
    let text = get(&broker.admin, "/metrics");
    for line in [
        "paloma_publish_received_total 1",
        "paloma_publish_sent_total 1",
        "paloma_clients_accepted_total 2",
        "paloma_payload_received_bytes_total 4",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
    for secret in ["door-7", "kitchen", "open\n", "127.0.0.1"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    assert!(get(&broker.admin, "/healthz").starts_with("HTTP/1.1 200 "));
    assert!(get(&broker.admin, "/readyz").starts_with("HTTP/1.1 200 "));
    stop(broker);
}

#[test]
fn an_administration_address_that_is_taken_stops_only_who_chose_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = paloma(&["serve", "--listen", "tcp://127.0.0.1:0"])
        .env("PALOMA__ADMIN__ADDRESS", &address)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    let expected = format!("cannot listen on {address} ([admin] address)");
    assert!(said.contains(&expected), "{said}");
}

#[test]
fn sys_topics_can_be_read_on_this_machine() {
    let broker = start(|_| {});
    let topic = "$SYS/broker/version";
    let version = client(&broker, &["sub", "-t", topic, "-C", "1"]);
    let expected = format!("paloma version {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(version, expected);
    stop(broker);
}

/// Hears what a broker tells its service manager, from its start to its end.
fn check_notifications(name: &str, manager: &UnixDatagram) {
    let broker = start(|command| {
        command
            .env("NOTIFY_SOCKET", name)
            .env("WATCHDOG_USEC", "40000");
    });
    let next = || {
        let mut word = [0; 64];
        let len = manager.recv(&mut word).unwrap();
        String::from_utf8_lossy(word.get(..len).unwrap()).into_owned()
    };
    assert_eq!(next(), "READY=1");
    assert_eq!(next(), "WATCHDOG=1");
    assert_eq!(next(), "WATCHDOG=1");
    let next = || {
        let mut word = next();
        while word == "WATCHDOG=1" {
            word = next();
        }
        word
    };
    signal(&broker.child, "-HUP");
    assert!(next().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert_eq!(next(), "READY=1");
    stop(broker);
    assert_eq!(next(), "STOPPING=1");
}

#[test]
fn the_service_manager_hears_of_start_life_and_end() {
    let path = std::env::temp_dir().join(format!("paloma-notify-{}", std::process::id()));
    let manager = UnixDatagram::bind(&path).unwrap();
    check_notifications(path.to_str().unwrap(), &manager);
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn the_service_manager_may_listen_on_an_abstract_name() {
    let name = format!("paloma-notify-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let manager = UnixDatagram::bind_addr(&address).unwrap();
    check_notifications(&format!("@{name}"), &manager);
}
