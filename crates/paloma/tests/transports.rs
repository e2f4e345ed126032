//! `paloma pub` and `paloma sub` against `paloma serve`, over every transport.
#![expect(clippy::unwrap_used, reason = "whatever fails ends the test")]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use support::{Lines, paloma, signal, start};

struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("paloma-bin-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    /// A new authority in `ca.pem`, and what it has signed for `localhost` in `server.pem` and `server.key`.
    fn certify(&self) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&key).unwrap();
        fs::write(self.path("ca.pem"), authority.pem()).unwrap();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        fs::write(self.path("server.pem"), certificate.pem()).unwrap();
        fs::write(self.path("server.key"), key.serialize_pem()).unwrap();
        set_mode(&self.0.join("server.key"), 0o600);
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn stop(mut broker: Child) {
    signal(&broker, "-TERM");
    assert!(broker.wait().unwrap().success());
}

/// A subscriber that has subscribed, and what it prints.
fn subscribe(arguments: &[&str]) -> (Child, impl Read) {
    let mut command = paloma(&["sub", "-d", "-C", "1"]);
    let mut child = command
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("subscribed to") {
        line.clear();
        assert_ne!(said.read_line(&mut line).unwrap(), 0, "{arguments:?}");
    }
    std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
    let printed = child.stdout.take().unwrap();
    (child, printed)
}

fn check(arguments: &[&str]) {
    let (mut subscriber, mut printed) = subscribe(arguments);
    let mut publisher = paloma(&["pub", "-q", "1", "-m", "hello"]);
    let output = publisher.args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    let mut text = String::new();
    printed.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello\n");
    assert!(subscriber.wait().unwrap().success());
}

#[test]
fn messages_go_over_every_transport() {
    let directory = Directory::new("all");
    directory.certify();
    let (cert, key, ca) = (
        directory.path("server.pem"),
        directory.path("server.key"),
        directory.path("ca.pem"),
    );
    let unix = format!("unix://{}", directory.path("s"));
    let (broker, _said, addresses) = start(
        &[
            "serve",
            "--listen",
            "tcp://127.0.0.1:0",
            "--listen",
            "tls://127.0.0.1:0",
            "--listen",
            "ws://127.0.0.1:0",
            "--listen",
            "wss://127.0.0.1:0",
            "--listen",
            &unix,
            "--cert",
            &cert,
            "--key",
            &key,
        ],
        5,
    );
    for address in &addresses {
        let (scheme, place) = address.split_once("://").unwrap_or(("tcp", address));
        let place = place.replace("127.0.0.1", "localhost");
        let url = format!("{scheme}://{place}");
        check(&["-L", &url, "-t", "t", "--cafile", &ca]);
        if scheme == "tls" {
            let port = place.rsplit_once(':').unwrap().1;
            check(&["-L", &format!("mqtts://{place}/a/b"), "--cafile", &ca]);
            check(&["-h", "localhost", "-p", port, "-t", "t", "--cafile", &ca]);
            check(&[
                "-h",
                "127.0.0.1",
                "-p",
                port,
                "-t",
                "t",
                "--cafile",
                &ca,
                "--insecure",
            ]);
            let refused = paloma(&["pub", "-L", &url, "-t", "t", "-m", "x"])
                .output()
                .unwrap();
            assert!(String::from_utf8_lossy(&refused.stderr).contains("--cafile"));
        }
    }
    stop(broker);
}

#[test]
fn certificates_are_read_again_on_hangup() {
    let directory = Directory::new("hangup");
    directory.certify();
    let (cert, key, ca) = (
        directory.path("server.pem"),
        directory.path("server.key"),
        directory.path("ca.pem"),
    );
    let arguments = [
        "serve",
        "--listen",
        "tls://127.0.0.1:0",
        "--cert",
        &cert,
        "--key",
        &key,
    ];
    let (broker, said, addresses) = start(&arguments, 1);
    let said = Lines::of(said);
    let until = |word: &str| said.until(&[word]);
    let url = addresses.first().unwrap().replace("127.0.0.1", "localhost");
    check(&["-L", &url, "-t", "t", "--cafile", &ca]);
    fs::write(&cert, "broken").unwrap();
    signal(&broker, "-HUP");
    until("everything stays as it was");
    check(&["-L", &url, "-t", "t", "--cafile", &ca]);
    directory.certify();
    signal(&broker, "-HUP");
    until("the configuration has been read again");
    check(&["-L", &url, "-t", "t", "--cafile", &ca]);
    stop(broker);
}

#[test]
fn key_that_everybody_may_read_stops_the_start() {
    let directory = Directory::new("mode");
    directory.certify();
    set_mode(&directory.0.join("server.key"), 0o644);
    let (cert, key) = (directory.path("server.pem"), directory.path("server.key"));
    let arguments = [
        "check",
        "--listen",
        "tls://127.0.0.1:0",
        "--cert",
        &cert,
        "--key",
        &key,
    ];
    let output = paloma(&arguments).output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("server.key: everybody may use this private key (mode 0644)"),
        "{said}"
    );
}
