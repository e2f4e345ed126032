//! The whole suite against the real binary, over each of its transports, and against nothing that answers.

mod support;

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use paloma_conformance::{Outcome, Plan, Setting, Target, report, run, run_name, sections};
use paloma_interop::broker::paloma;
use paloma_interop::process::Process;
use support::free_port;

/// A broker with four listeners, in a directory of its own.
struct Broker {
    process: Process,
    directory: PathBuf,
    tcp: u16,
    tls: u16,
    web_socket: u16,
}

impl Broker {
    fn start(name: &str) -> Self {
        let directory =
            std::env::temp_dir().join(format!("paloma-conformance-{}-{name}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory");
        write_certificate(&directory);
        let [tcp, tls, web_socket] = [free_port(), free_port(), free_port()];
        let socket = directory.join("mqtt.sock");
        let configuration = format!(
            "[store]\nin_memory = true\n[admin]\naddress = \"\"\n\
             [[listener]]\nname = \"tcp\"\naddress = \"127.0.0.1:{tcp}\"\n\
             [[listener]]\nname = \"tls\"\naddress = \"127.0.0.1:{tls}\"\n\
             [listener.tls]\ncertificate = \"server.pem\"\nkey = \"server.key\"\n\
             [[listener]]\nname = \"websocket\"\naddress = \"127.0.0.1:{web_socket}\"\ntransport = \"websocket\"\n\
             [[listener]]\nname = \"unix\"\naddress = \"unix:{}\"\nallow_anonymous = true\n",
            socket.display()
        );
        fs::write(directory.join("paloma.toml"), configuration).expect("a file");
        let mut command = Command::new(paloma());
        command.current_dir(&directory);
        command.args(["serve", "--config", "paloma.toml"]);
        let mut process = Process::start(&mut command);
        for _ in 0..4 {
            process.find_line("a listener", |line| {
                line.contains("listening on").then_some(())
            });
        }
        Self {
            process,
            directory,
            tcp,
            tls,
            web_socket,
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.process.kill();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn write_certificate(directory: &Path) {
    let signed =
        rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    fs::write(directory.join("server.pem"), signed.cert.pem()).expect("a file");
    let mut key = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(directory.join("server.key"))
        .expect("a file of the key");
    key.write_all(signed.signing_key.serialize_pem().as_bytes())
        .expect("a file of the key");
}

/// Runs everything and fails with what failed. Returns how many passed and how many did not apply.
fn check(target: Target) -> (usize, usize) {
    let plan = Plan {
        setting: Setting {
            target,
            run: run_name(),
            answer: Duration::from_secs(60),
            quiet: Duration::from_millis(150),
            test: Duration::from_secs(300),
        },
        version: None,
        only: None,
        parallel: 48,
    };
    let records = run(&plan, &sections(), |_, _, _| {}).expect("the broker is there");
    let failed: Vec<String> = records
        .iter()
        .filter(|record| matches!(record.outcome, Outcome::Failed(_)))
        .map(report::line)
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    eprintln!("{}\n{}", plan.setting.target, report::table(&records));
    let (passed, _, not_applicable) = report::counts(records.iter());
    (passed, not_applicable)
}

#[test]
fn paloma_passes_over_every_transport() {
    let mut broker = Broker::start("transports");
    let localhost = "localhost";
    let ca = broker.directory.join("server.pem");
    let url = format!("ws://127.0.0.1:{}/mqtt", broker.web_socket);
    let targets = [
        Target::Tcp(format!("127.0.0.1:{}", broker.tcp)),
        Target::tls(localhost, broker.tls, &ca).unwrap(),
        Target::web_socket(&url).unwrap(),
        Target::Unix(broker.directory.join("mqtt.sock")),
    ];
    for target in targets {
        let is_web_socket = target.web_socket_parts().is_some();
        let (passed, not_applicable) = check(target);
        assert!(passed >= 390, "{passed} tests alone");
        // What it has, it is judged by: only the frames of a WebSocket need one, and the lack of retained messages a lack.
        assert_eq!(not_applicable, if is_web_socket { 1 } else { 9 });
    }
    assert!(broker.process.terminate().success());
}

#[test]
fn a_broker_that_answers_nothing_fails_and_is_no_reason_to_hang() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let plan = Plan {
        setting: Setting {
            target: Target::Tcp(address),
            run: run_name(),
            answer: Duration::from_millis(200),
            quiet: Duration::from_millis(50),
            test: Duration::from_secs(2),
        },
        version: None,
        only: Some("MQTT-3.12.4-1".to_owned()),
        parallel: 4,
    };
    let records = run(&plan, &sections(), |_, _, _| {}).unwrap();
    assert!(!records.is_empty());
    for record in &records {
        assert!(
            matches!(record.outcome, Outcome::Failed(_)),
            "{}",
            report::line(record)
        );
    }
}

#[test]
fn names_and_statements_are_right() {
    let mut names: Vec<&str> = Vec::new();
    for test in sections().iter().flat_map(|section| &section.tests) {
        assert!(!test.proves.is_empty(), "{} proves nothing", test.name);
        for version in test.versions {
            assert!(
                test.statements(*version).next().is_some(),
                "{} proves nothing in {version:?}",
                test.name
            );
        }
        assert!(!names.contains(&test.name), "{} is there twice", test.name);
        names.push(test.name);
    }
}
