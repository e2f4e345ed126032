//! Tokens, hooks, SCRAM and certificates, through the real binary.
#![cfg(all(
    feature = "clients",
    feature = "http",
    feature = "https",
    feature = "jwt",
    feature = "tls"
))]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "whatever fails ends the test"
)]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::num::NonZeroU32;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use ring::{digest, hmac, pbkdf2};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use support::paloma;
use support::site::{ACCEPTED, BUSY, Client, NOT_AUTHORIZED, PATIENCE, Site, WRONG_PASSWORD};

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const OTHER_SECRET: &[u8] = b"fedcba9876543210fedcba9876543210";
const LISTENER: &str = "[admin]\naddress = ''\n[[listener]]\naddress = '127.0.0.1:0'\n";

// ---- tokens -------------------------------------------------------------------------------------------------------

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap().as_secs()
}

/// A token with these claims, which are JSON without its braces.
fn token(algorithm: &str, claims: &str, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let header = format!("{{\"alg\":\"{algorithm}\"}}");
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let signed = format!("{}.{}", encode(&header), encode(&format!("{{{claims}}}")));
    let signature = sign(signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn hs256(secret: &[u8], claims: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    token("HS256", claims, |message| {
        hmac::sign(&key, message).as_ref().to_vec()
    })
}

/// Ann's, for an hour.
fn anns(secret: &[u8]) -> String {
    hs256(
        secret,
        &format!("\"sub\":\"ann\",\"exp\":{}", now() + 3_600),
    )
}

fn secret_file(site: &Site, name: &str, bytes: &[u8]) {
    fs::write(site.path(name), bytes).unwrap();
    site.keep_private(name);
}

fn with_secret(name: &str, more: &str) -> Site {
    let mut site = Site::new(name);
    secret_file(&site, "secret", SECRET);
    site.write(
        "paloma.toml",
        &format!("{LISTENER}[auth.jwt]\nsecret_file = 'DIR/secret'\n{more}"),
    );
    site.start(1);
    site
}

#[test]
fn a_token_says_who_somebody_is_and_what_they_may_do() {
    let site = with_secret(
        "jwt",
        "issuer = 'us'\naudience = 'mqtt'\nacl_claim = 'may'\n",
    );
    let exp = now() + 3_600;
    let ours = format!("\"iss\":\"us\",\"aud\":[\"mqtt\"],\"exp\":{exp}");
    let check = |claims: &str, expected: u8| {
        let token = hs256(SECRET, claims);
        let (_, code) = site.client("c", Some(("", &token)));
        assert_eq!(code, expected, "{claims}");
    };
    check(&format!("\"sub\":\"ann\",{ours}"), ACCEPTED);
    check(&ours, WRONG_PASSWORD);
    check(&format!("\"sub\":\"ann\",\"exp\":{exp}"), WRONG_PASSWORD);
    check(
        "\"sub\":\"ann\",\"iss\":\"us\",\"aud\":\"mqtt\"",
        WRONG_PASSWORD,
    );
    let late = format!(
        "\"sub\":\"ann\",\"iss\":\"us\",\"aud\":\"mqtt\",\"exp\":{}",
        now() - 60
    );
    check(&late, WRONG_PASSWORD);
    let forged = hs256(OTHER_SECRET, &format!("\"sub\":\"ann\",{ours}"));
    site.check(Some(("ann", &forged)), WRONG_PASSWORD);
    let none = token("none", &format!("\"sub\":\"ann\",{ours}"), |_| Vec::new());
    site.check(Some(("ann", &none)), WRONG_PASSWORD);
    site.check(Some(("ann", "a password")), WRONG_PASSWORD);
    site.check(None, NOT_AUTHORIZED);

    let rules = "\"may\":[\"read a/#\",\"write %u/%c\",\"deny a/secret\"]";
    let token = hs256(SECRET, &format!("\"sub\":\"ann\",{rules},{ours}"));
    let (mut ann, code) = site.client("c1", Some(("", &token)));
    assert_eq!(code, ACCEPTED);
    assert_eq!(ann.subscribe("a/#"), 0);
    assert_eq!(ann.subscribe("ann/c1"), 0x80);
    let all = hs256(SECRET, &format!("\"sub\":\"bob\",\"may\":[\"#\"],{ours}"));
    let (mut bob, _) = site.client("c2", Some(("", &all)));
    assert_eq!(bob.subscribe("#"), 0);
    ann.publish("a/x", "no");
    ann.publish("ann/c1", "yes");
    assert_eq!(bob.received(), ["ann/c1yes"]);
    bob.publish("a/secret", "no");
    bob.publish("a/x", "yes");
    assert_eq!(ann.received(), ["a/xyes"]);
}

#[test]
fn a_token_ends_its_session_when_it_expires() {
    let site = with_secret("jwt-ends", "leeway_seconds = 0\n");
    let expires = now() + 3;
    let token = hs256(SECRET, &format!("\"sub\":\"ann\",\"exp\":{expires}"));
    let (mut ann, code) = site.client("c", Some(("", &token)));
    assert_eq!(code, ACCEPTED);
    assert!(ann.is_closed());
    assert!(now() >= expires, "not before");
    site.check(Some(("", &token)), WRONG_PASSWORD);
}

#[test]
fn keys_are_read_again_and_broken_ones_change_nothing() {
    let mut site = with_secret("jwt-keys", "");
    let (mut ann, code) = site.client("c", Some(("", &anns(SECRET))));
    assert_eq!(code, ACCEPTED);
    for broken in [
        b"short".as_slice(),
        b"",
        b"-----BEGIN PUBLIC KEY-----\nAAAA\n",
    ] {
        secret_file(&site, "secret", broken);
        let said = site.reload();
        assert!(said.contains("everything stays as it was"), "{said}");
        assert!(said.contains("secret: auth.jwt.secret_file: "), "{said}");
        site.check(Some(("", &anns(SECRET))), ACCEPTED);
    }
    secret_file(&site, "secret", SECRET);
    site.reload();
    assert_eq!(ann.received(), Vec::<String>::new(), "nothing has changed");
    secret_file(&site, "secret", OTHER_SECRET);
    site.reload();
    assert!(ann.is_closed(), "the key that spoke for her is gone");
    site.check(Some(("", &anns(SECRET))), WRONG_PASSWORD);
    site.check(Some(("", &anns(OTHER_SECRET))), ACCEPTED);
}

#[test]
fn a_set_of_keys_serves_several_algorithms_and_listeners_have_their_own() {
    let mut site = Site::new("jwks");
    let random = SystemRandom::new();
    let document = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
    let edwards = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
    let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
    let elliptic = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap();
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let point = elliptic.public_key().as_ref();
    let (x, y, own) = (&point[1..33], &point[33..], edwards.public_key().as_ref());
    let jwks = format!(
        "{{\"keys\":[{{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"{}\"}},\
         {{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"{}\",\"y\":\"{}\"}}]}}",
        encode(own),
        encode(x),
        encode(y)
    );
    site.write("jwks", &jwks);
    secret_file(&site, "secret", SECRET);
    site.write(
        "paloma.toml",
        &format!(
            "[auth.jwt]\nkey_file = 'DIR/jwks'\n{LISTENER}\
             [[listener]]\nname = 'own'\naddress = '127.0.0.1:0'\n\
             [listener.jwt]\nsecret_file = 'DIR/secret'\n"
        ),
    );
    site.start(2);
    let claims = format!("\"sub\":\"ann\",\"exp\":{}", now() + 3_600);
    let tokens = [
        token("EdDSA", &claims, |message| {
            edwards.sign(message).as_ref().to_vec()
        }),
        token("ES256", &claims, |message| {
            elliptic.sign(&random, message).unwrap().as_ref().to_vec()
        }),
        anns(SECRET),
        // A public key is no secret to sign with.
        hs256(own, &claims),
    ];
    for (index, token) in tokens.iter().enumerate() {
        for listener in [0, 1] {
            let user = Some(("", token.as_str()));
            let (_, code) = Client::connect(&site.addresses[listener], "c", user, true);
            let is_right = (index < 2 && listener == 0) || (index == 2 && listener == 1);
            assert_eq!(code == ACCEPTED, is_right, "{index} {listener}");
        }
    }
    // One of mosquitto's clients knows nothing of tokens and needs not.
    let arguments = ["-u", "x", "-P", &tokens[0], "-t", "t", "-m", "x", "-q", "1"];
    if let Some(client) = site.mosquitto("mosquitto_pub", &arguments) {
        let output = client.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

// ---- hooks --------------------------------------------------------------------------------------------------------

/// A service that answers every login by what `answer` makes of the question, and the questions with their headers.
struct Service {
    url: String,
    asked: Receiver<String>,
}

impl Service {
    fn new(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/login", listener.local_addr().unwrap());
        let (sender, asked) = sync_channel(1_024);
        let answer = Arc::new(answer);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (answer, sender) = (Arc::clone(&answer), sender.clone());
                thread::spawn(move || {
                    let stream = stream.unwrap();
                    let question = read_request(&stream);
                    let answer = answer(&question);
                    drop(sender.send(question));
                    // Whoever asked may have given up.
                    drop((&stream).write_all(answer.as_bytes()));
                });
            }
        });
        Self { url, asked }
    }
}

/// Header and body.
fn read_request(stream: &TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let mut request = String::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        request.push_str(&line);
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    request + &String::from_utf8(body).unwrap()
}

fn http(body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
}

fn with_hook(name: &str, service: &Service, more: &str) -> Site {
    let mut site = Site::new(name);
    secret_file(&site, "token", b"open-sesame\n");
    site.user("passwords", "pat", "p");
    let url = &service.url;
    site.write(
        "paloma.toml",
        &format!(
            "{LISTENER}[auth]\npassword_file = 'DIR/passwords'\n\
             [auth.http]\nurl = '{url}'\ntoken_file = 'DIR/token'\n{more}"
        ),
    );
    site.start(1);
    site
}

#[test]
fn a_service_decides_who_comes_in_and_on_what_terms() {
    let service = Service::new(|question| {
        http(if question.contains("\"username\":\"ann\"") {
            r#"{"allow": true, "user": "Ann", "acl": ["read a/#", "write from/%u"]}"#
        } else {
            r#"{"allow": false}"#
        })
    });
    let site = with_hook("hook", &service, "");
    let (mut ann, code) = site.client("c1", Some(("ann", "secret")));
    assert_eq!(code, ACCEPTED);
    let asked = service.asked.recv_timeout(PATIENCE).unwrap();
    for part in [
        "authorization: Bearer open-sesame",
        "\"client_id\":\"c1\"",
        "\"password\":\"secret\"",
        "\"address\":\"127.0.0.1\"",
    ] {
        assert!(asked.contains(part), "{part} in {asked}");
    }
    assert_eq!(ann.subscribe("a/#"), 0);
    assert_eq!(ann.subscribe("b/#"), 0x80);
    site.check(Some(("eve", "secret")), WRONG_PASSWORD);
    // The service is not asked about whom the file knows.
    site.check(Some(("pat", "p")), ACCEPTED);
    site.check(Some(("pat", "q")), WRONG_PASSWORD);
    assert!(
        service
            .asked
            .recv_timeout(PATIENCE)
            .unwrap()
            .contains("eve")
    );
    assert!(service.asked.try_recv().is_err());
}

/// Case D12.
#[test]
fn a_service_that_fails_or_is_late_lets_nobody_in_and_holds_nobody_else_up() {
    let service = Service::new(|question| {
        if question.contains("\"username\":\"late\"") {
            thread::sleep(Duration::from_secs(20));
        }
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nyes".to_owned()
    });
    let site = with_hook(
        "hook-fails",
        &service,
        "timeout_ms = 5_000\nrequests_max = 8\n",
    );
    site.check(Some(("wrong", "answer")), BUSY);
    let begin = Instant::now();
    let address = site.addresses[0].as_str();
    let late: Vec<u8> = thread::scope(|scope| {
        let late = move |n: usize| {
            let id = format!("late{n}");
            Client::connect(address, &id, Some(("late", "x")), true).1
        };
        let waiting: Vec<_> = (0..8).map(|n| scope.spawn(move || late(n))).collect();
        while begin.elapsed() < Duration::from_secs(2) {
            // More of them wait than there are cores, and others are let in meanwhile.
            site.check(Some(("pat", "p")), ACCEPTED);
        }
        let codes = waiting.into_iter().map(|waiting| waiting.join().unwrap());
        codes.collect()
    });
    assert!(late.iter().all(|code| *code == BUSY), "{late:?}");
    assert!(begin.elapsed() >= Duration::from_secs(5), "not before");
    site.check(Some(("pat", "p")), ACCEPTED);
}

#[test]
fn eight_logins_wait_for_a_service_at_the_same_time() {
    let together = Arc::new((Mutex::new(0), std::sync::Condvar::new()));
    let service = Service::new(move |_| {
        // Nobody is answered before eight have asked.
        let (count, all) = &*together;
        let mut count = count.lock().unwrap();
        *count += 1;
        all.notify_all();
        drop(all.wait_timeout_while(count, PATIENCE, |count| *count < 8));
        http(r#"{"allow": true}"#)
    });
    let site = with_hook(
        "hook-eight",
        &service,
        "timeout_ms = 30_000\nrequests_max = 8\n",
    );
    let address = site.addresses[0].as_str();
    let codes = thread::scope(|scope| {
        let one = move |n: usize| {
            let (id, user) = (format!("c{n}"), format!("u{n}"));
            Client::connect(address, &id, Some((&user, "x")), true).1
        };
        let waiting: Vec<_> = (0..8).map(|n| scope.spawn(move || one(n))).collect();
        let codes = waiting.into_iter().map(|waiting| waiting.join().unwrap());
        codes.collect::<Vec<u8>>()
    });
    assert_eq!(codes, [ACCEPTED; 8]);
}

#[test]
fn an_answer_is_asked_for_again_when_its_time_is_over() {
    let answers = Mutex::new(0);
    let service = Service::new(move |_| {
        let mut count = answers.lock().unwrap();
        *count += 1;
        http(if *count < 3 {
            r#"{"allow": true, "ttl_seconds": 1}"#
        } else {
            r#"{"allow": false}"#
        })
    });
    // Less than ten seconds are taken for ten.
    let mut site = with_hook("hook-again", &service, "");
    let begin = Instant::now();
    let (mut ann, code) = site.client("c", Some(("ann", "x")));
    assert_eq!(code, ACCEPTED);
    assert!(ann.is_closed());
    assert!(begin.elapsed() >= Duration::from_secs(9), "not before");
    assert_eq!(service.asked.iter().take(3).count(), 3);
    let log = site.stop();
    assert!(!log.contains("open-sesame"), "{log}");
}

/// A service behind TLS that lets everybody in and keeps its connections, which are counted; its certificate is `server.pem`.
fn secure_service(site: &Site) -> (String, Arc<AtomicUsize>) {
    let read = |name: &str| fs::read(site.path(name)).unwrap();
    let certificate = CertificateDer::from_pem_slice(&read("server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(&read("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let connections = Arc::new(AtomicUsize::new(0));
    let opened = Arc::clone(&connections);
    let answer = http(r#"{"allow": true}"#).replace("connection: close\r\n", "");
    thread::spawn(move || {
        for stream in listener.incoming() {
            opened.fetch_add(1, Ordering::SeqCst);
            let answer = answer.clone();
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, stream.unwrap());
            thread::spawn(move || {
                let mut request = [0; 4_096];
                // Whoever does not trust this service says no more than hello.
                while stream.read(&mut request).is_ok_and(|length| length > 0) {
                    drop(stream.write_all(answer.as_bytes()));
                }
            });
        }
    });
    (format!("https://localhost:{port}/login"), connections)
}

#[test]
fn a_service_behind_tls_is_asked_if_the_authority_vouches_for_it() {
    let mut site = Site::new("hook-tls");
    site.certify(&["server"]);
    let (url, connections) = secure_service(&site);
    let config =
        |more: &str| format!("{LISTENER}[auth.http]\nurl = '{url}'\ntimeout_ms = 30_000\n{more}");
    site.write("paloma.toml", &config("ca_file = 'DIR/ca.pem'\n"));
    site.start(1);
    for _ in 0..3 {
        site.check(Some(("ann", "x")), ACCEPTED);
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    // Nobody vouches for anybody, so that everything stays as it was.
    site.write("paloma.toml", &config(""));
    let said = site.reload();
    assert!(said.contains("this system trusts nobody"), "{said}");
    site.check(Some(("ann", "x")), ACCEPTED);
    // Another authority does not vouch for this service.
    let other = Site::new("hook-tls-other");
    other.certify(&[]);
    fs::copy(other.path("ca.pem"), site.path("system.pem")).unwrap();
    site.reload();
    site.check(Some(("ann", "x")), BUSY);
    // The system's own does once it is installed there, which is all that changes.
    fs::copy(site.path("ca.pem"), site.path("system.pem")).unwrap();
    site.reload();
    site.check(Some(("ann", "x")), ACCEPTED);
    // Where nothing changes, connections stay.
    let opened = connections.load(Ordering::SeqCst);
    site.reload();
    site.check(Some(("ann", "x")), ACCEPTED);
    assert_eq!(connections.load(Ordering::SeqCst), opened);
    fs::copy(other.path("ca.pem"), site.path("ca.pem")).unwrap();
    site.write("paloma.toml", &config("ca_file = 'DIR/ca.pem'\n"));
    site.reload();
    site.check(Some(("ann", "x")), BUSY);
}

#[test]
fn passwords_that_would_cross_a_network_in_clear_are_warned_of() {
    for (host, is_warned) in [
        ("127.0.0.1:9", false),
        ("localhost", false),
        ("[::1]:9", false),
        ("auth.example", true),
        ("127.0.0.1.example", true),
    ] {
        let mut site = Site::new(&format!("clear-{is_warned}"));
        site.write(
            "paloma.toml",
            &format!("{LISTENER}[auth.http]\nurl = 'http://{host}/login'\n"),
        );
        site.start(1);
        let said = site.reload();
        assert_eq!(said.contains("in clear"), is_warned, "{host}: {said}");
    }
}

// ---- SCRAM --------------------------------------------------------------------------------------------------------

/// A 5.0 client that speaks SCRAM, packet by packet.
struct Scram {
    stream: TcpStream,
    password: String,
    first: String,
}

impl Scram {
    fn connect(site: &Site, id: &str, method: &str, user: &str, password: &str) -> Self {
        let first = format!("n,,n={user},r=nonce-of-{id}");
        let mut body = b"\x00\x04MQTT\x05\x02\x00\x3c".to_vec();
        let properties = properties(method, &first);
        body.push(properties.len() as u8);
        body.extend(properties);
        text(&mut body, id);
        let mut client = Self {
            stream: TcpStream::connect(&site.addresses[0]).unwrap(),
            password: password.to_owned(),
            first,
        };
        client.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        client.send(0x10, &body);
        client
    }

    fn send(&mut self, kind: u8, body: &[u8]) {
        let mut packet = vec![kind];
        let mut length = body.len();
        while length >= 128 {
            packet.push((length % 128) as u8 | 0x80);
            length /= 128;
        }
        packet.push(length as u8);
        packet.extend(body);
        self.stream.write_all(&packet).unwrap();
    }

    fn read(&mut self) -> (u8, Vec<u8>) {
        let mut byte = [0];
        self.stream.read_exact(&mut byte).unwrap();
        let kind = byte[0];
        let (mut length, mut shift) = (0, 0);
        loop {
            self.stream.read_exact(&mut byte).unwrap();
            length |= usize::from(byte[0] & 0x7F) << shift;
            shift += 7;
            if byte[0] < 128 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).unwrap();
        (kind, body)
    }

    /// Answers the challenge that comes next; gives the packet that ends the exchange, and the proof that it has to hold.
    fn answer(&mut self) -> ((u8, Vec<u8>), String) {
        let (kind, body) = self.read();
        assert_eq!((kind, body[0]), (0xF0, 0x18), "a challenge is asked for");
        let body = String::from_utf8_lossy(&body).into_owned();
        let challenge = &body[body.find("r=nonce-of-").unwrap()..];
        let fields: Vec<&str> = challenge.split(',').collect();
        let salt = STANDARD
            .decode(fields[1].strip_prefix("s=").unwrap())
            .unwrap();
        let iterations: NonZeroU32 = fields[2].strip_prefix("i=").unwrap().parse().unwrap();
        let mut salted = [0; 32];
        let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
        pbkdf2::derive(
            algorithm,
            iterations,
            &salt,
            self.password.as_bytes(),
            &mut salted,
        );
        let sign = |key: &[u8], data: &[u8]| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, key);
            hmac::sign(&key, data).as_ref().to_vec()
        };
        let bare = self.first.strip_prefix("n,,").unwrap();
        let without_proof = format!("c=biws,{}", fields[0]);
        let signed = format!("{bare},{challenge},{without_proof}");
        let client_key = sign(&salted, b"Client Key");
        let stored = digest::digest(&digest::SHA256, &client_key);
        let signature = sign(stored.as_ref(), signed.as_bytes());
        let proof = client_key.iter().zip(signature).map(|(a, b)| a ^ b);
        let proof = STANDARD.encode(proof.collect::<Vec<u8>>());
        self.auth(0x18, &format!("{without_proof},p={proof}"));
        let server = STANDARD.encode(sign(&sign(&salted, b"Server Key"), signed.as_bytes()));
        (self.read(), format!("v={server}"))
    }

    fn auth(&mut self, reason: u8, data: &str) {
        let properties = properties("SCRAM-SHA-256", data);
        let mut body = vec![reason];
        // Two bytes at most: exchanges are shorter than 16 KiB.
        if properties.len() >= 128 {
            body.push((properties.len() % 128) as u8 | 0x80);
        }
        body.push(if properties.len() >= 128 {
            (properties.len() / 128) as u8
        } else {
            properties.len() as u8
        });
        body.extend(properties);
        self.send(0xF0, &body);
    }

    /// Logs in; the reason code of CONNACK.
    fn log_in(&mut self) -> u8 {
        let ((kind, body), proof) = self.answer();
        assert_eq!(kind, 0x20);
        if body[1] == 0 {
            let body = String::from_utf8_lossy(&body);
            assert!(body.contains(&proof), "the broker proves that it knows her");
        }
        body[1]
    }
}

fn text(body: &mut Vec<u8>, text: &str) {
    body.extend((text.len() as u16).to_be_bytes());
    body.extend(text.as_bytes());
}

/// Authentication method and data.
fn properties(method: &str, data: &str) -> Vec<u8> {
    let mut properties = vec![0x15];
    text(&mut properties, method);
    properties.push(0x16);
    text(&mut properties, data);
    properties
}

#[test]
fn scram_lets_in_who_knows_the_password_and_again_while_connected() {
    let mut site = Site::new("scram");
    for user in ["ann", "bob"] {
        let made = site.passwd(&["--scram", "scram", user], "secret\n");
        assert_eq!(made.status.code(), Some(0), "{made:?}");
    }
    assert_eq!(
        fs::metadata(site.path("scram"))
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o600
    );
    site.write(
        "paloma.toml",
        &format!("{LISTENER}[auth.scram]\nfile = 'DIR/scram'\n"),
    );
    site.start(1);
    let connect = |id, user, password| Scram::connect(&site, id, "SCRAM-SHA-256", user, password);
    let mut ann = connect("a", "ann", "secret");
    assert_eq!(ann.log_in(), 0);
    let mut bob = connect("b", "bob", "secret");
    assert_eq!(bob.log_in(), 0);
    assert_eq!(connect("c", "ann", "wrong").log_in(), 0x86);
    assert_eq!(connect("c", "eve", "secret").log_in(), 0x86);
    // Another method, and none at all.
    let (kind, body) = Scram::connect(&site, "c", "SCRAM-SHA-1", "ann", "x").read();
    assert_eq!((kind, body[1]), (0x20, 0x8C));
    site.check(None, NOT_AUTHORIZED);
    site.check(Some(("ann", "secret")), WRONG_PASSWORD);

    ann.first = "n,,n=ann,r=nonce-of-again".to_owned();
    ann.auth(0x19, &ann.first.clone());
    let ((kind, body), proof) = ann.answer();
    assert_eq!((kind, body[0]), (0xF0, 0), "she is who she was");
    assert!(String::from_utf8_lossy(&body).contains(&proof));
    // Nobody becomes somebody else on the way. [MQTT-4.12.1-2]
    ann.first = "n,,n=bob,r=nonce-of-again".to_owned();
    ann.auth(0x19, &ann.first.clone());
    let ((kind, body), _) = ann.answer();
    assert_eq!((kind, body[0]), (0xE0, 0x87));

    // A broken file changes nothing, another password sends her away who had the old one.
    let sound = fs::read_to_string(site.path("scram")).unwrap();
    site.write("scram", &format!("{sound}broken\n"));
    let said = site.reload();
    assert!(said.contains("scram:3: auth.scram.file: no `:`"), "{said}");
    assert_eq!(
        Scram::connect(&site, "c", "SCRAM-SHA-256", "ann", "secret").log_in(),
        0
    );
    site.write("scram", &sound);
    site.passwd(&["--scram", "scram", "bob"], "other\n");
    let said = site.reload();
    assert!(said.contains("sent_away=1"), "{said}");
    assert_eq!(bob.read(), (0xE0, vec![0x98]));
    assert_eq!(
        Scram::connect(&site, "b", "SCRAM-SHA-256", "bob", "secret").log_in(),
        0x86
    );
    assert_eq!(
        Scram::connect(&site, "b", "SCRAM-SHA-256", "bob", "other").log_in(),
        0
    );
}

// ---- certificates -------------------------------------------------------------------------------------------------

#[test]
fn certificates_name_clients_on_every_listener_that_asks_for_them() {
    let mut site = Site::new("certificates");
    site.certify(&["server", "ann"]);
    site.write(
        "rules",
        "user ann\ntopic write a/#\nuser CN=ann\ntopic write b/#\n",
    );
    let tls = "[listener.tls]\ncertificate = 'DIR/server.pem'\nkey = 'DIR/server.key'\n\
               client_ca = 'DIR/ca.pem'\nclient_certificate = 'required'\n";
    site.write(
        "paloma.toml",
        &format!(
            "[auth]\nacl_file = 'DIR/rules'\n[auth.certificate]\nidentity = 'common_name'\n\
             {LISTENER}{tls}\
             [[listener]]\nname = 'own'\naddress = '127.0.0.1:0'\n{tls}identity = 'subject'\n"
        ),
    );
    site.start(2);
    for (listener, topic, is_allowed) in [
        (0, "a/x", true),
        (0, "b/x", false),
        (1, "a/x", false),
        (1, "b/x", true),
    ] {
        let url = site.addresses[listener].replace("127.0.0.1", "localhost");
        let output = paloma(&[
            "pub", "-L", &url, "-V", "5", "-q", "1", "-t", topic, "-m", "x",
        ])
        .args(["--cafile", &site.path("ca.pem")])
        .args([
            "--cert",
            &site.path("ann.pem"),
            "--key",
            &site.path("ann.key"),
        ])
        .output()
        .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let is_refused = !output.status.success() || said.contains("ot authorized");
        assert_eq!(!is_refused, is_allowed, "{listener} {topic}: {output:?}");
    }
}

/// Case D8, F11: every kind of file, one after the other.
#[test]
fn a_broken_file_of_any_kind_changes_nothing_and_is_named() {
    let mut site = Site::new("any-kind");
    site.certify(&["server", "ann"]);
    site.user("passwords", "pat", "p");
    site.passwd(&["--scram", "scram", "sam"], "s\n");
    secret_file(&site, "secret", SECRET);
    secret_file(&site, "token", b"open-sesame");
    fs::copy(site.path("ca.pem"), site.path("hook.pem")).unwrap();
    site.write("rules", "user ann\ntopic #\n");
    site.write(
        "paloma.toml",
        "[admin]\naddress = ''\n\
         [auth]\npassword_file = 'DIR/passwords'\nacl_file = 'DIR/rules'\n\
         [auth.scram]\nfile = 'DIR/scram'\n[auth.jwt]\nsecret_file = 'DIR/secret'\n\
         [auth.http]\nurl = 'https://127.0.0.1:9/'\ntoken_file = 'DIR/token'\nca_file = 'DIR/hook.pem'\n\
         [[listener]]\naddress = '127.0.0.1:0'\n\
         [listener.tls]\ncertificate = 'DIR/server.pem'\nkey = 'DIR/server.key'\nclient_ca = 'DIR/ca.pem'\n\
         client_certificate = 'required'\nidentity = 'common_name'\ncrl = 'DIR/crl.pem'\n",
    );
    site.start(1);
    let url = site.addresses[0].replace("127.0.0.1", "localhost");
    let check = |site: &Site| {
        // What the client goes by is not what is broken.
        let output = paloma(&["pub", "-L", &url, "-q", "1", "-t", "t", "-m", "x"])
            .args([
                "--cafile",
                &site.path("ca.sound"),
                "--key",
                &site.path("ann.key"),
            ])
            .args(["--cert", &site.path("ann.pem")])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    fs::copy(site.path("ca.pem"), site.path("ca.sound")).unwrap();
    check(&site);
    for name in [
        "passwords",
        "rules",
        "scram",
        "secret",
        "token",
        "hook.pem",
        "server.pem",
        "server.key",
        "ca.pem",
        "crl.pem",
        "paloma.toml",
    ] {
        let sound = fs::read(site.path(name)).unwrap();
        for broken in [Some(&b"b r o k e n\n"[..]), Some(b""), None] {
            match broken {
                Some(broken) => fs::write(site.path(name), broken).unwrap(),
                None => fs::remove_file(site.path(name)).unwrap(),
            }
            // An empty configuration says nothing, so that everything would be at its default.
            if name == "paloma.toml" && broken == Some(b"") {
                continue;
            }
            let said = site.reload();
            assert!(
                said.contains("everything stays as it was"),
                "{name} {broken:?}: {said}"
            );
            assert!(said.contains(&site.path(name)), "{name} {broken:?}: {said}");
            check(&site);
        }
        fs::write(site.path(name), sound).unwrap();
        site.keep_private(name);
        let said = site.reload();
        assert!(said.contains("has been read again"), "{name}: {said}");
        check(&site);
    }
}

// ---- what is wrong, and what is shown -----------------------------------------------------------------------------

#[test]
fn what_is_wrong_with_a_method_is_said_with_file_line_and_key() {
    let site = Site::new("wrong");
    fs::write(site.path("open"), SECRET).unwrap();
    site.write("scram", "ann:plain\n");
    site.write("jwks", "{\"keys\":[]}");
    secret_file(&site, "token", b"two words\n");
    let check = |text: &str, expected: &[&str]| {
        site.write("paloma.toml", text);
        for command in ["check", "serve"] {
            let output = paloma(&[command, "--config", &site.path("paloma.toml")])
                .output()
                .unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            let said = said.replace(site.directory.to_str().unwrap(), "DIR");
            assert_eq!(output.status.code(), Some(2), "{text}: {said}");
            for line in expected {
                let mut lines = said.lines();
                assert!(lines.any(|said| said.starts_with(line)), "{line}: {said}");
            }
        }
    };
    check(
        "[auth.jwt]\nsecret_fil = 'x'\nleeway_seconds = 301\n[auth.http]\nurl = 'ftp://x'\nrequests_max = 0\n\
         [auth.scram]\n[[listener]]\n[listener.jwt]\nkey_file = 'DIR/none'\nsecret_file = 'DIR/open'\n",
        &[
            "DIR/paloma.toml:2:1: auth.jwt.secret_fil: unknown key; did you mean `secret_file`?",
            "DIR/paloma.toml:3:18: auth.jwt.leeway_seconds: 301 is out of range",
            "DIR/paloma.toml:1:7: auth.jwt: it needs `secret_file` or `key_file`",
            "DIR/paloma.toml:5:7: auth.http.url: it begins with http:// or https:// and a host",
            "DIR/paloma.toml:6:16: auth.http.requests_max: 0 is not a limit",
            "DIR/paloma.toml:7:7: auth.scram: it needs a `file`",
            "DIR/paloma.toml:9:11: listener[0].jwt: it has `secret_file` or `key_file`, not both",
            "DIR/open: listener[0].jwt.secret_file: its mode is 0644",
        ],
    );
    check(
        "[auth]\njwt = 3\n[auth.certificate]\nidentity = 'name'\n[auth.scram]\nfile = 'DIR/scram'\n\
         [auth.http]\nurl = 'http://user:word@host/'\ntoken_file = 'DIR/none'\n",
        &[
            "DIR/paloma.toml:2:7: auth.jwt: expected a table, found a whole number",
            "DIR/paloma.toml:4:12: auth.certificate.identity: `name` is not one of",
            "DIR/paloma.toml:3:7: auth.certificate: it does nothing while no listener asks",
            "DIR/scram:1: auth.scram.file: no hash of a known kind",
            "DIR/paloma.toml:8:7: auth.http.url: a password has no place in a URL",
        ],
    );
    check(
        "[auth.jwt]\nkey_file = 'DIR/jwks'\n[auth.http]\nurl = 'https://localhost/'\n\
         token_file = 'DIR/token'\nca_file = 'DIR/jwks'\n",
        &[
            "DIR/jwks: auth.jwt.key_file: no key of a supported kind",
            "DIR/token: auth.http: the token has to be one line",
        ],
    );
}

#[test]
fn what_is_shown_hides_secrets_and_the_environment_reaches_every_table() {
    let site = Site::new("shown");
    secret_file(&site, "secret", SECRET);
    secret_file(&site, "token", b"open-sesame");
    site.write(
        "paloma.toml",
        "[auth.jwt]\nsecret_file = 'DIR/secret'\n\
         [auth.http]\nurl = 'http://127.0.0.1/x?key=xyzzy'\ntoken_file = 'DIR/token'\n",
    );
    let output = paloma(&["config", "show", "--config", &site.path("paloma.toml")])
        .env("PALOMA__AUTH__JWT__ISSUER", "us")
        .env("PALOMA__AUTH__HTTP__TTL_SECONDS", "unlimited")
        .output()
        .unwrap();
    let page = String::from_utf8(output.stdout).unwrap();
    for line in [
        "[auth.jwt]",
        "issuer = \"us\"",
        "user_claim = \"sub\"",
        "url = \"http://127.0.0.1/x?hidden\"",
        "ttl_seconds = \"unlimited\"",
    ] {
        assert!(page.lines().any(|shown| shown == line), "{line}: {page}");
    }
    for secret in ["xyzzy", "open-sesame", "0123456789abcdef"] {
        assert!(!page.contains(secret), "{page}");
    }
    let output = paloma(&["check", "--config", &site.path("paloma.toml")])
        .env("PALOMA__AUTH__JWT__ISSUR", "us")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("PALOMA__AUTH__JWT__ISSUR: auth.jwt.issur: unknown key"),
        "{said}"
    );
}
