//! A TLS listener of the real binary before a scanner: what testssl finds is no worse than it calls low.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use paloma_interop::broker::{Broker, Setup, paloma, skips_other_brokers};
use paloma_interop::tools::{Tool, in_path};
use serde_json::Value;

/// Findings that are not about the server, with what they are about.
const NOT_OURS: &[(&str, &str)] = &[
    ("engine_problem", "the scanner's own OpenSSL has no GOST"),
    ("service", "the scanner knows no MQTT, so it skips HTTP"),
];

/// Findings without which the scan has not been one.
const LOOKED_AT: &[&str] = &[
    "SSLv2",
    "SSLv3",
    "TLS1",
    "TLS1_1",
    "TLS1_2",
    "TLS1_3",
    "cipherlist_NULL",
    "cipher_order",
    "cert_chain_of_trust",
    "heartbleed",
    "ROBOT",
    "secure_renego",
    "CRIME_TLS",
    "SWEET32",
    "LUCKY13",
    "RC4",
];

/// How often it may scan until it has looked at all of these.
const SCANS_MAX: usize = 3;

/// The first of these that the scanner did not come to judge.
fn not_looked_at(findings: &[Value]) -> Option<&'static str> {
    let mut wanted = LOOKED_AT.iter().copied();
    wanted.find(|id| {
        let of_it = |finding: &&Value| text(finding, "id") == *id;
        !findings
            .iter()
            .filter(of_it)
            .any(|finding| text(finding, "severity") != "WARN")
    })
}

/// An authority and what it signs, as docs/operating.md makes them; in addition the certificate says where it would be
/// revoked, which the scanner wants of every certificate and does not look up.
const CERTIFY: &str = "
set -eu
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 \
  -subj '/CN=house authority' -keyout ca.key -out ca.pem
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
  -subj '/CN=localhost' -keyout server.key -out server.csr
echo 'subjectAltName = DNS:localhost' > server.ext
echo 'crlDistributionPoints = URI:http://localhost/revoked' >> server.ext
openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 365 \
  -extfile server.ext -out server.pem
";

fn certify(directory: &Path) {
    let made = Command::new("sh")
        .args(["-c", CERTIFY])
        .current_dir(directory)
        .output();
    let made = made.expect("a shell");
    assert!(made.status.success(), "{made:?}");
}

/// Everything that the scanner says about a port: protocols, ciphers, the certificate, known weaknesses.
fn scan(testssl: &Path, directory: &Path, port: u16) -> Vec<Value> {
    let report = directory.join("report.json");
    // It adds to no report that is there.
    let _ = fs::remove_file(&report);
    let mut command = Command::new("timeout");
    command.arg("540").arg(testssl);
    command.args(["--quiet", "--color", "0", "--warnings", "off"]);
    // It looks no name up, and asks nobody about revocations.
    command.args(["--nodns", "none", "--ip", "127.0.0.1"]);
    command.args(["--connect-timeout", "30", "--openssl-timeout", "30"]);
    command.arg("--add-ca").arg(directory.join("ca.pem"));
    command.arg("--jsonfile").arg(&report);
    command.args(["-p", "-s", "-f", "-P", "-S", "-U"]);
    command.arg(format!("localhost:{port}"));
    let output = command.current_dir(directory).output();
    let output = output.expect("`timeout` of the system");
    let said = String::from_utf8_lossy(&output.stdout);
    // Its exit code counts findings, so the report alone says whether it came to its end.
    let text = fs::read_to_string(&report).unwrap_or_else(|error| panic!("{error}: {said}"));
    let findings = serde_json::from_str(&text);
    findings.unwrap_or_else(|error| panic!("{error}: {text}\n{said}"))
}

fn text<'a>(finding: &'a Value, field: &str) -> &'a str {
    finding[field].as_str().unwrap_or_default()
}

#[test]
fn a_scanner_finds_nothing_worse_than_low() {
    if skips_other_brokers("its listeners are set up in another way") {
        return;
    }
    let Some(testssl) = Tool::Testssl.find() else {
        return;
    };
    assert!(in_path("openssl").is_some(), "testssl itself needs openssl");
    let directory = Scratch::new();
    certify(&directory.0);
    let files = ["ca.pem", "server.pem", "server.key"]
        .map(|name| (name, fs::read_to_string(directory.0.join(name)).unwrap()));
    let setup = Setup {
        configuration: "[[listener]]\naddress = \"127.0.0.1:0\"\n\
                        [listener.tls]\ncertificate = \"server.pem\"\nkey = \"server.key\"\n"
            .to_owned(),
        files: files.into(),
        ..Setup::default()
    };
    let broker = Broker::of_program(paloma(), &setup);
    // On a busy machine the scanner's own patience may end before a check: then it looks again.
    let mut findings = scan(&testssl, &directory.0, broker.listener(0).port());
    for _ in 1..SCANS_MAX {
        if not_looked_at(&findings).is_none() {
            break;
        }
        findings = scan(&testssl, &directory.0, broker.listener(0).port());
    }
    assert_eq!(not_looked_at(&findings), None, "{findings:?}");
    for finding in &findings {
        match text(finding, "severity") {
            "OK" | "INFO" => {}
            "LOW" => println!("low: {finding}"),
            // What the scanner says of itself: it could not do the check.
            "WARN" => println!("not looked at: {finding}"),
            _ => assert!(
                NOT_OURS.iter().any(|(id, _)| text(finding, "id") == *id),
                "{finding}"
            ),
        }
    }
    broker.stop();
}

/// A directory for one scan.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("paloma-scan-{}", std::process::id()));
        fs::create_dir(&path).expect("a directory of its own");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
