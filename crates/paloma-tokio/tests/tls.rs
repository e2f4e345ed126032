//! TLS: who gets in, under which name, and how certificates change under way.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers fail as their tests do"
)]
#![allow(dead_code, reason = "each suite uses its part of the support modules")]

#[path = "support/certificates.rs"]
mod certificates;
mod support;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use certificates::{Authority, Directory, Signed, secure, set_mode};
use paloma_broker::{AuthOutcome, AuthRequest, Authenticator, Identity, Transport};
use paloma_codec::{Delivery, Packet, Qos};
use paloma_tokio::{
    CertificateIdentity, ClientAuthority, ClientCertificates, Config, Listener, Running, Tls,
    TlsError, TlsFiles,
};
use rcgen::{DnType, ExtendedKeyUsagePurpose, date_time_ymd};
use rustls::HandshakeKind;
use rustls::pki_types::ServerName;
use support::{PATIENCE, Peer, VERSIONS, config, publish, start, tcp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const V5: paloma_codec::ProtocolVersion = VERSIONS[1];

/// Notes under which names clients come.
#[derive(Debug, Default)]
struct Notes(Mutex<Vec<(Transport, Option<String>)>>);

impl Authenticator for Notes {
    fn authenticate(&self, request: &AuthRequest) -> AuthOutcome {
        let name = request
            .info
            .certificate_name
            .as_ref()
            .map(ToString::to_string);
        self.0.lock().unwrap().push((request.info.transport, name));
        AuthOutcome::allow(Identity::ANONYMOUS)
    }
}

struct World {
    directory: Directory,
    authority: Authority,
    files: TlsFiles,
    notes: Arc<Notes>,
}

impl World {
    fn new(name: &str) -> Self {
        let directory = Directory::new(name);
        let authority = Authority::new("tests");
        let files = server_files(&directory, &authority.server(1));
        let notes = Arc::default();
        Self {
            directory,
            authority,
            files,
            notes,
        }
    }

    fn authority_file(&self, crl: Option<PathBuf>) -> ClientAuthority {
        let ca = self.directory.write("ca.pem", &self.authority.pem);
        ClientAuthority { ca, crl }
    }

    fn config(&self) -> (Config, Tls) {
        let tls = Tls::load(self.files.clone()).expect("good files");
        let mut config = config();
        config.authenticator = self.notes.clone();
        let listener = Listener::tcp(([127, 0, 0, 1], 0).into()).with_tls(tls.clone());
        config.listeners.push(listener);
        (config, tls)
    }

    /// Whether a client with this certificate is let in, and the name it has then.
    async fn check(
        &self,
        running: &Running,
        shown: Option<&Signed>,
        expected: Option<Option<&str>>,
    ) {
        let connector = self.authority.connector(shown, b"mqtt");
        self.check_by(running, &connector, expected).await;
    }

    async fn check_by(
        &self,
        running: &Running,
        connector: &TlsConnector,
        expected: Option<Option<&str>>,
    ) {
        let stream = secure(connector, tcp(running).await).await;
        let Some(name) = expected else {
            // In TLS 1.3 the client hears of the refusal when it reads.
            if let Ok(mut stream) = stream {
                let _ = stream.write_all(b"\x10").await;
                let end = timeout(PATIENCE, stream.read(&mut [0; 8]))
                    .await
                    .expect("an end");
                assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
            }
            return;
        };
        drop(Peer::join(stream.expect("let in"), V5, "c").await);
        let name = name.map(str::to_owned);
        let noted = self.notes.0.lock().unwrap().pop();
        assert_eq!(noted, Some((Transport::Tls, name)));
    }
}

fn server_files(directory: &Directory, signed: &Signed) -> TlsFiles {
    TlsFiles::new(
        directory.write("server.pem", &signed.pem),
        directory.write("server.key", &signed.key_pem),
    )
}

async fn connected(world: &World, running: &Running) -> TlsStream<TcpStream> {
    let connector = world.authority.connector(None, b"mqtt");
    secure(&connector, tcp(running).await)
        .await
        .expect("let in")
}

#[tokio::test]
async fn clients_without_certificates_have_no_name() {
    let world = World::new("plain");
    let running = start(world.config().0).await;
    world.check(&running, None, Some(None)).await;
    let unasked = world.authority.client(2, "unasked");
    world.check(&running, Some(&unasked), Some(None)).await;
}

#[tokio::test]
async fn required_certificate_gives_its_common_name_or_subject() {
    let mut world = World::new("required");
    let client = world.authority.client(2, "zähler 7");
    world.files.clients = ClientCertificates::Required(world.authority_file(None));
    for (identity, name) in [
        (CertificateIdentity::None, None),
        (CertificateIdentity::CommonName, Some("zähler 7")),
        (CertificateIdentity::Subject, Some("O=Example,CN=zähler 7")),
    ] {
        world.files.identity = identity;
        let running = start(world.config().0).await;
        world.check(&running, Some(&client), Some(name)).await;
        world.check(&running, None, None).await;
        assert_eq!(running.counts().handshakes_failed, 1);
    }
}

#[tokio::test]
async fn optional_certificate_may_be_missing_but_not_bad() {
    let mut world = World::new("optional");
    world.files.clients = ClientCertificates::Optional(world.authority_file(None));
    world.files.identity = CertificateIdentity::CommonName;
    let running = start(world.config().0).await;
    let good = world.authority.client(2, "good");
    world.check(&running, Some(&good), Some(Some("good"))).await;
    world.check(&running, None, Some(None)).await;
    let stranger = Authority::new("others").client(2, "good");
    world.check(&running, Some(&stranger), None).await;
}

#[tokio::test]
async fn certificates_that_prove_nothing_are_refused() {
    let mut world = World::new("bad");
    world.files.clients = ClientCertificates::Required(world.authority_file(None));
    world.files.identity = CertificateIdentity::CommonName;
    let running = start(world.config().0).await;
    let client = |set: fn(&mut rcgen::CertificateParams)| {
        world.authority.sign(3, |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            set(params);
        })
    };
    let named = |name: &'static str| world.authority.client(3, name);
    let expired = client(|params| {
        params
            .distinguished_name
            .push(DnType::CommonName, "expired");
        params.not_after = date_time_ymd(2021, 1, 1);
    });
    let not_yet = client(|params| {
        params.distinguished_name.push(DnType::CommonName, "early");
        params.not_before = date_time_ymd(4000, 1, 1);
    });
    let server = world.authority.sign(4, |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.distinguished_name.push(DnType::CommonName, "server");
    });
    let nameless = client(|_| {});
    for bad in [
        &expired,
        &not_yet,
        &server,
        &nameless,
        &named(""),
        &named("a\0b"),
        &named("a\nb"),
    ] {
        world.check(&running, Some(bad), None).await;
    }
    assert!(world.notes.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn revoked_certificate_is_refused_and_so_is_everybody_by_a_stale_list() {
    let mut world = World::new("revoked");
    let list = world
        .directory
        .write("crl.pem", &world.authority.revoke(2, 3000));
    world.files.clients = ClientCertificates::Required(world.authority_file(Some(list)));
    world.files.identity = CertificateIdentity::CommonName;
    let (config, tls) = world.config();
    let running = start(config).await;
    let revoked = world.authority.client(2, "revoked");
    let good = world.authority.client(3, "good");
    world.check(&running, Some(&revoked), None).await;
    world.check(&running, Some(&good), Some(Some("good"))).await;
    world
        .directory
        .write("crl.pem", &world.authority.revoke(3, 3000));
    tls.reload().unwrap();
    world.check(&running, Some(&good), None).await;
    world
        .directory
        .write("crl.pem", &world.authority.revoke(9, 2021));
    tls.reload().unwrap();
    world.check(&running, Some(&revoked), None).await;
}

#[tokio::test]
async fn reload_drops_nobody_and_a_bad_certificate_keeps_the_old_one() {
    let world = World::new("reload");
    let (config, tls) = world.config();
    let running = start(config).await;
    let mut stays = Peer::join(connected(&world, &running).await, V5, "stays").await;
    let serial = async || {
        let stream = connected(&world, &running).await;
        let (_, session) = stream.get_ref();
        session.peer_certificates().expect("the server's")[0].to_vec()
    };
    let first = serial().await;
    world.directory.write("server.pem", "no certificate");
    assert!(matches!(tls.reload(), Err(TlsError::NoCertificate(_))));
    assert_eq!(serial().await, first);
    server_files(&world.directory, &world.authority.server(7));
    tls.reload().unwrap();
    assert_ne!(serial().await, first);
    stays.send(&Packet::PingReq).await;
    assert!(matches!(stays.receive().await, Some(Packet::PingResp)));
}

#[tokio::test]
async fn when_certificates_expire_is_known_by_listener_and_renewed() {
    let world = World::new("expiry");
    let until = |year| {
        let signed = world.authority.sign(1, |params| {
            params.not_after = date_time_ymd(year, 1, 1);
        });
        server_files(&world.directory, &signed);
    };
    until(2031);
    let (mut config, tls) = world.config();
    let mut second = config.listeners[0].clone();
    (config.listeners[0].name, second.name) = (Some("house".to_owned()), Some("out".to_owned()));
    config.listeners.push(second);
    config = config.listen(([127, 0, 0, 1], 0).into());
    let running = start(config).await;
    let check = |expected: &[(&str, u64)]| {
        let found = running.listeners().certificates();
        let found = found.iter().map(|(listener, expires_at)| {
            let since_epoch = expires_at.duration_since(SystemTime::UNIX_EPOCH).unwrap();
            (&**listener, since_epoch.as_secs())
        });
        assert_eq!(found.collect::<Vec<_>>(), expected);
    };
    // The first seconds of 2031 and of 2002.
    check(&[("house", 1_924_992_000), ("out", 1_924_992_000)]);
    until(2002);
    tls.reload().unwrap();
    check(&[("house", 1_009_843_200), ("out", 1_009_843_200)]);
    running.listeners().rename(0, "out");
    check(&[("out", 1_009_843_200)]);
}

#[tokio::test]
async fn reloads_under_load_lose_no_message_and_no_newcomer() {
    const MESSAGES: u32 = 500;
    let world = World::new("load");
    let (config, tls) = world.config();
    let running = start(config).await;
    let mut stays = Peer::join(connected(&world, &running).await, V5, "stays").await;
    stays.subscribe("t", Qos::AtMostOnce).await;
    let mut publisher = Peer::join(connected(&world, &running).await, V5, "publisher").await;
    let publishing = async {
        for number in 0..MESSAGES {
            let payload = number.to_be_bytes().to_vec();
            publisher
                .send(&publish("t", payload, Delivery::AtMostOnce))
                .await;
            // TLS takes what the socket does not, and keeps it until it is asked again.
            publisher.stream.flush().await.unwrap();
        }
    };
    let reading = async {
        for number in 0..MESSAGES {
            assert_eq!(stays.message().await.unwrap(), &number.to_be_bytes()[..]);
        }
    };
    let reloading = async {
        for serial in 10..30 {
            server_files(&world.directory, &world.authority.server(serial));
            tls.reload().unwrap();
            drop(Peer::join(connected(&world, &running).await, V5, "comes").await);
            world.directory.write("server.key", "no key");
            assert!(tls.reload().is_err());
            drop(Peer::join(connected(&world, &running).await, V5, "comes").await);
        }
    };
    tokio::join!(publishing, reading, reloading);
    assert_eq!(running.counts().handshakes_failed, 0);
}

/// Of X.509 version 1, as `openssl x509 -req` makes one unless it is given extensions.
const OLD: &str = "\
-----BEGIN CERTIFICATE-----
MIIBJTCBywIUd9WisPqAVIo8MArReF3VrwdWrJIwCgYIKoZIzj0EAwIwGjEYMBYG
A1UEAwwPaG91c2UgYXV0aG9yaXR5MCAXDTI2MTEyOTA0MDM1OFoYDzIxMjYxMTA1
MDQwMzU4WjAOMQwwCgYDVQQDDANvbGQwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC
AARBK+KJs2j2vNque3Fu3jvFIP2bL/j1Ith5H03cyhukXgrt/Saj0N7NFWeBPgiQ
1mJ09uYpIJXS8cFy9P9lFf9uMAoGCCqGSM49BAMCA0kAMEYCIQD+RlhAkoh64hVw
a1VWn4W3yljo3G2GcjxSCurtgfNkwQIhANW86F9ejsW85sTw4PD6cRK9yBIyb4gm
L5MoY1F5rZL5
-----END CERTIFICATE-----
";

#[tokio::test]
async fn files_are_judged_by_name() {
    let world = World::new("files");
    let good = &world.files;
    let check = |files: &TlsFiles, name: &str| {
        let error = Tls::load(files.clone()).expect_err("a fault").to_string();
        assert!(error.contains(name), "{error}");
    };
    let old = TlsFiles::new(world.directory.write("old.pem", OLD), &good.key);
    check(&old, "old.pem: an X.509 certificate without extensions");
    let missing = TlsFiles::new(world.directory.path("absent.pem"), &good.key);
    check(&missing, "absent.pem");
    check(
        &TlsFiles::new(&good.key, &good.key),
        "server.key: holds no certificate",
    );
    check(
        &TlsFiles::new(&good.certificate, &good.certificate),
        "server.pem: holds no private key",
    );
    let other = world
        .directory
        .write("other.key", &world.authority.server(9).key_pem);
    check(
        &TlsFiles::new(&good.certificate, &other),
        "other.key do not fit",
    );
    let torn = world
        .directory
        .write("torn.pem", "-----BEGIN CERTIFICATE-----\n!!\n");
    check(&TlsFiles::new(&torn, &good.key), "torn.pem");
    let mut clients = good.clone();
    clients.clients = ClientCertificates::Required(world.authority_file(Some(torn)));
    check(&clients, "torn.pem");
    clients.clients = ClientCertificates::Required(ClientAuthority {
        ca: good.key.clone(),
        crl: None,
    });
    check(&clients, "server.key: holds no certificate");
}

#[test]
fn key_that_everybody_may_read_is_refused() {
    let world = World::new("modes");
    for (mode, is_fine) in [
        (0o600, true),
        (0o640, true),
        (0o400, true),
        (0o644, false),
        (0o604, false),
        (0o602, false),
    ] {
        set_mode(&world.files.key, mode);
        let loaded = Tls::load(world.files.clone());
        assert_eq!(loaded.is_ok(), is_fine, "{mode:o}");
        if let Err(error) = loaded {
            assert!(matches!(error, TlsError::KeyOpenToOthers(..)), "{error}");
        }
    }
    set_mode(&world.files.key, 0o600);
}

#[tokio::test]
async fn another_application_protocol_is_refused_and_none_is_fine() {
    let world = World::new("alpn");
    let running = start(world.config().0).await;
    for (application, is_fine) in [(&b"mqtt"[..], true), (b"", true), (b"h2", false)] {
        let connector = world.authority.connector(None, application);
        let stream = secure(&connector, tcp(&running).await).await;
        assert_eq!(stream.is_ok(), is_fine, "{application:?}");
    }
}

/// Bytes that are no handshake get an alert or nothing, and the connection ends.
async fn check_turned_away(running: &Running, bytes: &[u8]) {
    let mut stream = tcp(running).await;
    // It may be closed while we still write.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer))
        .await
        .expect("an end");
    let is_alert = answer.is_empty() || answer.starts_with(&[0x15]);
    assert!(is_alert, "{answer:?} to {:?}", &bytes[..9]);
}

/// A client hello by hand: `version` in its body, and nothing that 1.3 needs.
fn hello(version: [u8; 2], suites: &[u8]) -> Vec<u8> {
    let mut body = version.to_vec();
    body.extend([7; 32]);
    body.push(0);
    body.extend(u16::try_from(suites.len()).unwrap().to_be_bytes());
    body.extend(suites);
    body.extend([1, 0]);
    let len = u32::try_from(body.len()).unwrap().to_be_bytes();
    let message = [&[1, len[1], len[2], len[3]], &body[..]].concat();
    let len = u16::try_from(message.len()).unwrap().to_be_bytes();
    [&[0x16, 3, 1], &len[..], &message[..]].concat()
}

#[tokio::test]
async fn old_versions_weak_suites_and_rubbish_are_refused_at_once() {
    let world = World::new("old");
    let running = start(world.config().0).await;
    let cases = [
        hello([3, 0], &[0, 5]),
        hello([3, 1], &[0xC0, 0x13]),
        hello([3, 2], &[0xC0, 0x13]),
        // RC4, 3DES, CBC, export.
        hello([3, 3], &[0, 5, 0, 0x0A, 0, 0x2F, 0, 3]),
        b"\x10\x0C\0\x04MQTT\x04\x02\0\x3C\0\0".to_vec(),
        vec![0x16, 3, 1, 0xFF, 0xFF, 1, 0, 0xFF, 0xFF],
        vec![0xFF; 70_000],
    ];
    for bytes in cases {
        check_turned_away(&running, &bytes).await;
    }
    connected(&world, &running).await;
}

#[tokio::test]
async fn hello_may_be_long_and_does_not_have_to_be_understood() {
    let world = World::new("long");
    let running = start(world.config().0).await;
    // Just below 64 KiB, all of it names of protocols; it comes in four records.
    let mut config = world.authority.client_config(None, b"mqtt");
    config
        .alpn_protocols
        .extend((0..250).map(|number| vec![number; 255]));
    let connector = TlsConnector::from(Arc::new(config));
    let stream = secure(&connector, tcp(&running).await).await;
    drop(Peer::join(stream.expect("let in"), V5, "c").await);
    // A message of 64 KiB and one byte, and names of a host that are none: empty, with a control, twice.
    let mut too_long = vec![0x16, 3, 1, 0x40, 0, 1, 1, 0, 0];
    too_long.resize(5 + 0x4000, 7);
    let byte = |len: usize| u8::try_from(len).unwrap();
    let named = |names: &[u8]| {
        let mut hello = hello([3, 3], &[0xC0, 0x2B]);
        let extension = [&[0, 0, 0, byte(names.len())], names].concat();
        hello.extend([0, byte(extension.len())]);
        hello.extend(&extension);
        let grown = byte(extension.len() + 2);
        hello[4] += grown;
        hello[8] += grown;
        hello
    };
    let cases = [
        too_long,
        named(&[0, 0]),
        named(&[0, 4, 0, 0, 1, 1]),
        named(&[0, 8, 0, 0, 1, b'a', 0, 0, 1, b'b']),
        named(&[0, 9, 0, 0, 1, b'a']),
    ];
    for bytes in cases {
        check_turned_away(&running, &bytes).await;
    }
    connected(&world, &running).await;
}

#[tokio::test]
async fn certificate_chains_are_followed_so_far_and_no_further() {
    let mut world = World::new("chain");
    world.files.clients = ClientCertificates::Required(world.authority_file(None));
    world.files.identity = CertificateIdentity::CommonName;
    let running = start(world.config().0).await;
    for (length, is_fine) in [(1, true), (3, true), (16, false)] {
        let mut between = Vec::new();
        let mut last = world.authority.subordinate("step 1");
        for step in 2..=length {
            between.insert(0, last.der.clone());
            last = last.subordinate(&format!("step {step}"));
        }
        between.insert(0, last.der.clone());
        let signed = last.client(5, "far");
        let config = world
            .authority
            .client_config(Some((&signed, &between)), b"mqtt");
        let connector = TlsConnector::from(Arc::new(config));
        world
            .check_by(&running, &connector, is_fine.then_some(Some("far")))
            .await;
    }
    let good = world.authority.client(6, "good");
    world.check(&running, Some(&good), Some(Some("good"))).await;
}

#[tokio::test]
async fn nothing_is_taken_before_the_handshake_is_done() {
    let world = World::new("early");
    let running = start(world.config().0).await;
    let mut config = world.authority.client_config(None, b"mqtt");
    config.enable_early_data = true;
    let connector = TlsConnector::from(Arc::new(config));
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let name = ServerName::try_from("localhost").unwrap();
        let mut may_send_early = false;
        let connecting = connector.connect_with(name, tcp(&running).await, |session| {
            may_send_early = session.early_data().is_some();
        });
        let stream = connecting.await.expect("let in");
        assert!(!may_send_early, "{kind:?}");
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(kind));
        // With the answer to CONNECT comes the ticket to resume with.
        drop(Peer::join(stream, V5, "c").await);
    }
}

#[tokio::test]
async fn hello_in_records_of_one_byte_is_understood() {
    let world = World::new("records");
    let running = start(world.config().0).await;
    let bytes = hello([3, 3], &[0xC0, 0x2B]);
    let mut stream = tcp(&running).await;
    for byte in &bytes[5..] {
        stream.write_all(&[0x16, 3, 1, 0, 1, *byte]).await.unwrap();
    }
    let mut answer = [0; 5];
    timeout(PATIENCE, stream.read_exact(&mut answer))
        .await
        .expect("an answer")
        .unwrap();
    // Whether it likes the hello or not, it has read it.
    assert!(matches!(answer[0], 0x15 | 0x16), "{answer:?}");
}

#[tokio::test]
async fn half_a_hello_is_closed_at_the_connect_timeout() {
    let world = World::new("half");
    let (mut config, _) = world.config();
    config.broker.limits.connect_timeout_ms = 100;
    let running = start(config).await;
    let whole = hello([3, 3], &[0xC0, 0x2B]);
    for len in [0, 1, whole.len() - 1] {
        let since = tokio::time::Instant::now();
        let mut stream = tcp(&running).await;
        stream.write_all(&whole[..len]).await.unwrap();
        let end = timeout(PATIENCE, stream.read(&mut [0; 8]))
            .await
            .expect("an end");
        assert!(matches!(end, Ok(0) | Err(_)));
        assert!(since.elapsed() >= Duration::from_millis(99));
    }
    assert_eq!(running.counts().handshakes_failed, 3);
    // The handshake's time is the CONNECT's too.
    let mut silent = connected(&world, &running).await;
    let end = timeout(PATIENCE, silent.read(&mut [0; 8]))
        .await
        .expect("an end");
    assert!(matches!(end, Ok(0) | Err(_)));
}

#[tokio::test]
async fn end_without_close_notify_is_an_end() {
    let world = World::new("notify");
    let running = start(world.config().0).await;
    let peer = Peer::join(connected(&world, &running).await, V5, "rude").await;
    let (tcp, _) = peer.stream.into_inner();
    drop(tcp);
    let gone = async {
        while running.tables().connections != 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, gone).await.expect("it is noticed");
    assert_eq!(running.counts().panics, 0);
}

#[tokio::test]
async fn handshakes_count_as_connections_of_their_listener() {
    let world = World::new("places");
    let (mut config, _) = world.config();
    config.listeners[0].connections_max = 2;
    let running = start(config).await;
    let (silent, another) = (tcp(&running).await, tcp(&running).await);
    let end = timeout(PATIENCE, tcp(&running).await.read(&mut [0; 8]))
        .await
        .expect("an end");
    assert!(matches!(end, Ok(0) | Err(_)));
    assert_eq!(running.counts().refused, 1);
    drop((silent, another));
}

#[test]
fn a_certificate_is_valid_within_its_time() {
    let directory = Directory::new("within");
    let authority = Authority::new("authority");
    let signed = authority.sign(5, |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    });
    let tls = Tls::load(server_files(&directory, &signed)).unwrap();
    let days = |days: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(days * 24 * 60 * 60);
    // The first day of 2020 is the 18,262nd.
    for (day, expected) in [
        (18_261, false),
        (18_263, true),
        (18_627, true),
        (18_629, false),
    ] {
        assert_eq!(tls.is_valid_at(days(day)), expected, "{day}");
    }
}
