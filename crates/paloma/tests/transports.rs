//! `paloma pub` and `paloma sub` against `paloma serve`, over every transport.
#![cfg(all(feature = "clients", feature = "tls", feature = "websocket"))]
#![expect(clippy::unwrap_used, reason = "whatever fails ends the test")]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
#[cfg(feature = "admin")]
use std::{io::Write, net::TcpStream};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use support::site::Site;
use support::{Lines, paloma, signal, start, start_command};

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

/// The first second of 2021.
#[cfg(feature = "admin")]
const OVER: u64 = 1_609_459_200;

/// Where a broker's metrics are.
#[cfg(feature = "admin")]
struct Metrics(String);

#[cfg(feature = "admin")]
impl Metrics {
    fn of(said: &Lines) -> Self {
        let line = said.until(&["metrics on http://"]);
        let (_, address) = line.rsplit_once("http://").unwrap();
        let (address, _) = address.split_once('/').unwrap();
        Self(address.to_owned())
    }

    /// When a listener's certificate expires.
    fn expires_at(&self, listener: &str) -> u64 {
        let mut stream = TcpStream::connect(&self.0).unwrap();
        let request = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let name =
            format!("paloma_tls_certificate_expiry_timestamp_seconds{{listener=\"{listener}\"}} ");
        let value = answer.lines().find_map(|line| line.strip_prefix(&name));
        value
            .expect("a certificate of this listener")
            .parse()
            .unwrap()
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
fn a_certificate_that_is_over_is_told_and_used() {
    let directory = Directory::new("over");
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2021, 1, 1);
    let certificate = params.self_signed(&key).unwrap();
    fs::write(directory.path("server.pem"), certificate.pem()).unwrap();
    fs::write(directory.path("server.key"), key.serialize_pem()).unwrap();
    set_mode(&directory.0.join("server.key"), 0o600);
    let (cert, key) = (directory.path("server.pem"), directory.path("server.key"));
    let listen = "tls://127.0.0.1:0";
    let files = [
        "--in-memory",
        "--listen",
        listen,
        "--cert",
        &cert,
        "--key",
        &key,
    ];
    let output = paloma(&["check"]).args(files).output().unwrap();
    assert!(output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("127.0.0.1:0: its certificate has expired"),
        "{said}"
    );
    let over = [&cert, &key].map(|file| fs::read(file).unwrap());
    directory.certify();
    let mut command = paloma(&[&["serve"], &files[..]].concat());
    command.env("PALOMA__ADMIN__ADDRESS", "127.0.0.1:0");
    let (broker, said, _) = start_command(&mut command, 1);
    let said = Lines::of(said);
    #[cfg(feature = "admin")]
    let metrics = Metrics::of(&said);
    #[cfg(feature = "admin")]
    assert_ne!(metrics.expires_at("127.0.0.1:0"), OVER);
    for (file, text) in [&cert, &key].into_iter().zip(over) {
        fs::write(file, text).unwrap();
    }
    signal(&broker, "-HUP");
    let said = said.until(&["the configuration has been read again"]);
    assert!(said.contains("its certificate has expired"), "{said}");
    #[cfg(feature = "admin")]
    assert_eq!(metrics.expires_at("127.0.0.1:0"), OVER);
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

/// A listener of each kind that a URL may name, in this order.
const SCHEMES: [&str; 4] = ["mqtt", "mqtts", "ws", "wss"];

fn is_secure(scheme: &str) -> bool {
    matches!(scheme, "mqtts" | "wss")
}

/// Starts a broker with a listener of each kind, whose TLS is made of the site's certificates and of these lines.
fn start_all(site: &mut Site, auth: &str, tls: &str) {
    let mut config = format!("[admin]\naddress = ''\n[auth]\nacl_file = 'DIR/rules'\n{auth}");
    for scheme in SCHEMES {
        config += "[[listener]]\naddress = '127.0.0.1:0'\n";
        if scheme.starts_with("ws") {
            config += "transport = 'websocket'\n";
        }
        if is_secure(scheme) {
            config += "[listener.tls]\ncertificate = 'DIR/server.pem'\nkey = 'DIR/server.key'\n";
            config += tls;
        }
        if scheme.starts_with("ws") {
            config += "[listener.websocket]\npath = '/gate'\n";
        }
    }
    site.write("paloma.toml", &config);
    site.start(SCHEMES.len());
}

/// The place of a site's listener as a URL has it, by the name in its certificate.
fn place(site: &Site, scheme: &str) -> String {
    let number = SCHEMES.iter().position(|known| *known == scheme).unwrap();
    let (_, port) = site
        .addresses
        .get(number)
        .unwrap()
        .rsplit_once(':')
        .unwrap();
    format!("localhost:{port}")
}

/// What comes of `paloma pub` and of `paloma sub` with the same arguments, neither of which gets far.
fn both(arguments: &[&str]) -> [Output; 2] {
    [
        &["pub", "-q", "1", "-m", "unheard"][..],
        &["sub", "-W", "30"],
    ]
    .map(|command| paloma(command).args(arguments).output().unwrap())
}

#[test]
fn a_client_certificate_gives_publishers_and_subscribers_their_name() {
    let mut site = Site::new("named");
    site.certify(&["server", "ann", "bob"]);
    site.write("rules", "user ann\ntopic readwrite ann/#\n");
    let tls =
        "client_ca = 'DIR/ca.pem'\nclient_certificate = 'required'\nidentity = 'common_name'\n";
    start_all(&mut site, "", tls);
    let ca = site.path("ca.pem");
    for url in [
        format!("mqtts://{}", place(&site, "mqtts")),
        format!("wss://{}/gate", place(&site, "wss")),
    ] {
        for version in ["311", "5"] {
            let arguments = ["-L", &url, "-V", version, "-t", "ann/x", "--cafile", &ca];
            let (cert, key) = (site.path("ann.pem"), site.path("ann.key"));
            check(&[&arguments[..], &["--cert", &cert, "--key", &key]].concat());
        }
        let (cert, key) = (site.path("bob.pem"), site.path("bob.key"));
        let arguments = ["-L", &url, "-V", "5", "-t", "ann/x", "--cafile", &ca];
        for output in both(&[&arguments[..], &["--cert", &cert, "--key", &key]].concat()) {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(said.contains("not authorized"), "{url}: {output:?}");
            assert_eq!(output.status.code(), Some(1), "{url}");
        }
    }
    site.stop();
}

#[test]
fn who_shows_no_certificate_or_a_strangers_is_turned_away_where_one_is_required() {
    let mut site = Site::new("required");
    site.certify(&["server", "ann"]);
    let stranger = Site::new("strangers");
    stranger.certify(&["ann"]);
    site.write("rules", "topic readwrite #\n");
    let tls = "client_ca = 'DIR/ca.pem'\nclient_certificate = 'required'\n";
    start_all(&mut site, "", tls);
    let ca = site.path("ca.pem");
    for url in [
        format!("mqtts://{}", place(&site, "mqtts")),
        format!("wss://{}/gate", place(&site, "wss")),
    ] {
        let arguments = ["-L", &url, "-t", "t", "--cafile", &ca];
        let (cert, key) = (stranger.path("ann.pem"), stranger.path("ann.key"));
        for shown in [&[][..], &["--cert", &cert, "--key", &key]] {
            for output in both(&[&arguments[..], shown].concat()) {
                assert_eq!(output.status.code(), Some(1), "{url} {shown:?}: {output:?}");
                assert_ne!(output.stderr, b"", "it says why: {url} {shown:?}");
            }
        }
        // The certificate was all that was wrong.
        let (cert, key) = (site.path("ann.pem"), site.path("ann.key"));
        check(&[&arguments[..], &["--cert", &cert, "--key", &key]].concat());
    }
    site.stop();
}

#[test]
fn urls_name_broker_user_password_and_topic_or_path() {
    let mut site = Site::new("urls");
    site.certify(&["server"]);
    site.user("passwords", "ann", "p@ss:/word");
    site.write("rules", "user ann\ntopic readwrite ann/#\n");
    start_all(&mut site, "password_file = 'DIR/passwords'\n", "");
    let ca = site.path("ca.pem");
    for scheme in SCHEMES {
        let place = place(&site, scheme);
        let is_web = scheme.starts_with("ws");
        let (path, topic) = if is_web {
            ("gate", &["-t", "ann/x"][..])
        } else {
            ("ann/x", &[][..])
        };
        let trust: &[&str] = if is_secure(scheme) {
            &["--cafile", &ca]
        } else {
            &[]
        };
        let right = format!("{scheme}://ann:p%40ss%3A%2Fword@{place}/{path}");
        check(&[&["-L", &right], topic, trust].concat());
        let wrong = format!("{scheme}://ann:password@{place}/{path}");
        for output in both(&[&["-L", &wrong], topic, trust].concat()) {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(
                said.contains("bad user name or password"),
                "{wrong}: {said}"
            );
            assert_eq!(output.status.code(), Some(4), "{wrong}");
        }
        if is_web {
            let elsewhere = right.replace("/gate", "/mqtt");
            for output in both(&[&["-L", &elsewhere], topic, trust].concat()) {
                assert_eq!(output.status.code(), Some(1), "{elsewhere}: {output:?}");
            }
        }
    }
    site.stop();
}
