//! What must stay secret, and what guessing costs: case E through the real binary.
#![cfg(all(
    feature = "admin",
    feature = "control",
    feature = "http",
    feature = "json-logs",
    feature = "jwt",
    feature = "websocket"
))]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "whatever fails ends the test, and what was measured is said"
)]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Instant;

use socket2::{Domain, Socket, Type};
use support::paloma;
use support::site::{ACCEPTED, BUSY, Client, PATIENCE, Site, WRONG_PASSWORD};

/// What is never to be seen begins with this.
const SECRET: &str = "Xyzzy";

fn private(site: &Site, name: &str, text: &str) {
    site.write(name, text);
    fs::set_permissions(site.path(name), fs::Permissions::from_mode(0o600)).unwrap();
}

fn text(body: &mut Vec<u8>, text: &[u8]) {
    body.extend((text.len() as u16).to_be_bytes());
    body.extend(text);
}

/// Sends a 5.0 CONNECT of this user; gives everything that comes until the broker has nothing more to say.
fn connect_v5(address: &str, password: &str) -> (TcpStream, Vec<u8>) {
    let mut body = b"\x00\x04MQTT\x05\xC6\x00\x3c".to_vec();
    // Request Problem Information is on without being asked for.
    body.push(0);
    text(&mut body, b"five");
    // A will with a response topic and correlation data.
    let mut properties = vec![0x09];
    text(&mut properties, format!("{SECRET}-correlation").as_bytes());
    body.push(properties.len() as u8);
    body.extend(properties);
    text(&mut body, b"will");
    text(&mut body, format!("{SECRET}-will").as_bytes());
    text(&mut body, b"ann");
    text(&mut body, password.as_bytes());
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(body.len() < 128, "a length of one byte");
    let packet = [&[0x10, body.len() as u8], &body[..]].concat();
    stream.write_all(&packet).unwrap();
    let mut head = [0; 2];
    stream.read_exact(&mut head).unwrap();
    let mut answer = vec![0; head[1].into()];
    stream.read_exact(&mut answer).unwrap();
    (stream, answer)
}

/// Lets clients do all they can with secrets, right and wrong; gives the log.
fn log_of(format: &str) -> String {
    let mut site = Site::new(&format!("silence-{format}"));
    site.user("passwords", "ann", &format!("{SECRET}-password"));
    site.passwd(&["--scram", "scram", "ann"], &format!("{SECRET}-scram\n"));
    private(
        &site,
        "secret",
        &format!("{SECRET}-0123456789abcdef0123456789abcdef"),
    );
    private(&site, "token", &format!("{SECRET}-token"));
    // Nobody listens there: an error that could name what was asked.
    let hook = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let config = format!(
        "[admin]\naddress = ''\ncontrol = 'DIR/control'\n[log]\nformat = '{format}'\nlevel = 'trace'\n\
         [[listener]]\naddress = '127.0.0.1:0'\n[auth]\npassword_file = 'DIR/passwords'\n\
         [auth.scram]\nfile = 'DIR/scram'\n[auth.jwt]\nsecret_file = 'DIR/secret'\n\
         [auth.http]\nurl = 'http://{hook}/?key={SECRET}-key'\ntoken_file = 'DIR/token'\n"
    );
    site.write("paloma.toml", &config);
    site.start(1);
    let address = site.addresses[0].clone();
    site.check(Some(("ann", &format!("{SECRET}-wrong"))), WRONG_PASSWORD);
    // The form of a token, but none; and a user whom only the hook could know.
    site.check(
        Some(("ann", &format!("eyJhbGciOiJIUzI1NiJ9.{SECRET}.{SECRET}"))),
        WRONG_PASSWORD,
    );
    site.check(Some(("bob", &format!("{SECRET}-bob"))), BUSY);
    let (mut ann, code) = site.client("ann", Some(("ann", &format!("{SECRET}-password"))));
    assert_eq!(code, ACCEPTED);
    assert_eq!(ann.subscribe("#"), 0);
    ann.publish("t", &format!("{SECRET}-payload"));
    let (five, answer) = connect_v5(&address, &format!("{SECRET}-password"));
    assert_eq!(answer[1], 0);
    drop(five);
    let said = ann.received().join(" ");
    assert!(said.contains(&format!("{SECRET}-payload")), "{said}");
    // Packets that end in the middle of a secret, and secrets where no packet is.
    for broken in [
        &b"\x10\x40\x00\x04MQTT\x04\xC2\x00\x3c\x00\x01cXyzzy-broken"[..],
        b"Xyzzy-nonsense Xyzzy",
    ] {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.write_all(broken).unwrap();
    }
    // What is wrong in files of secrets is told by its line.
    let sound = fs::read_to_string(site.path("passwords")).unwrap();
    private(
        &site,
        "passwords",
        &format!("{sound}eve:{SECRET}-plain\n{SECRET}-line\n"),
    );
    private(&site, "secret", &format!("{SECRET}-short"));
    private(&site, "token", &format!("{SECRET} two words"));
    let said = site.reload();
    assert!(said.contains("everything stays as it was"), "{said}");
    private(&site, "passwords", &sound);
    said + &site.stop()
}

/// Case E2.
#[test]
fn e2_no_log_has_a_password_a_token_or_a_payload() {
    for format in ["text", "json"] {
        let log = log_of(format);
        assert!(log.contains("client connected"), "{log}");
        assert!(log.contains("client refused"), "{log}");
        assert!(!log.contains(SECRET), "{log}");
    }
}

/// Case E3.
#[test]
fn e3_files_of_secrets_are_private_and_have_to_be() {
    let mut site = Site::new("modes");
    site.user("passwords", "ann", "a");
    site.passwd(&["--scram", "scram", "ann"], "a\n");
    let listener = "[[listener]]\nname = 's'\naddress = 'unix:DIR/socket'\n";
    let config = format!("[admin]\naddress = ''\ncontrol = 'DIR/control'\n{listener}");
    site.write("paloma.toml", &config);
    site.start(1);
    for name in ["passwords", "scram", "control", "socket"] {
        let mode = fs::metadata(site.path(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    private(&site, "secret", "0123456789abcdef0123456789abcdef");
    private(&site, "token", "word");
    let check = |mode: u32, names: &[&str]| {
        for name in ["secret", "token"] {
            fs::set_permissions(site.path(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        site.write(
            "other.toml",
            "[auth.jwt]\nsecret_file = 'DIR/secret'\n\
             [auth.http]\nurl = 'http://127.0.0.1/'\ntoken_file = 'DIR/token'\n",
        );
        let output = paloma(&["check", "--config", &site.path("other.toml")]).output();
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            output.status.success(),
            names.is_empty(),
            "{mode:o}: {said}"
        );
        for name in names {
            let has_line = said.lines().any(|line| {
                line.contains(&site.path(name)) && line.contains(&format!("its mode is {mode:04o}"))
            });
            assert!(has_line, "{name}: {said}");
        }
    };
    check(0o600, &[]);
    check(0o640, &[]);
    check(0o604, &["secret", "token"]);
    check(0o644, &["secret", "token"]);
}

/// Case E4.
#[test]
fn e4_a_file_whose_hashes_cost_too_much_is_refused() {
    let site = Site::new("costs");
    let (salt, digest) = ("c2FsdHNhbHRzYWx0", "A".repeat(43));
    let argon2 = |costs: &str| format!("ann:$argon2id$v=19${costs}${salt}${digest}\n");
    site.write("paloma.toml", "[auth]\npassword_file = 'DIR/passwords'\n");
    for (costs, is_allowed) in [
        ("m=262144,t=10,p=16", true),
        ("m=262145,t=1,p=1", false),
        ("m=4194304,t=1,p=1", false),
        ("m=1024,t=11,p=1", false),
    ] {
        site.write("passwords", &argon2(costs));
        let output = paloma(&["check", "--config", &site.path("paloma.toml")]).output();
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.success(), is_allowed, "{costs}: {said}");
        let fault =
            "passwords:1: auth.password_file: the hash's parameters are above what is allowed";
        assert_eq!(said.contains(fault), !is_allowed, "{costs}: {said}");
    }
}

/// A 3.1.1 login from this address of the loopback network; the code that it is answered with.
fn log_in_from(from: [u8; 4], to: SocketAddr, id: &str, user: &str, password: &str) -> u8 {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE * 4)).unwrap();
    let mut body = b"\x00\x04MQTT\x04\xC2\x00\x3c".to_vec();
    for part in [id, user, password] {
        text(&mut body, part.as_bytes());
    }
    let packet = [&[0x10, body.len() as u8], &body[..]].concat();
    stream.write_all(&packet).unwrap();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).unwrap();
    answer[3]
}

/// The most memory that the process has had, in KiB.
fn peak_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

/// Case E5.
#[test]
fn e5_a_flood_of_logins_costs_bounded_memory_and_keeps_nobody_out() {
    let mut site = Site::new("flood");
    for user in ["ann", "bob"] {
        site.user("passwords", user, "right");
    }
    site.write(
        "paloma.toml",
        "[admin]\naddress = ''\n[[listener]]\naddress = '127.0.0.1:0'\n\
         [auth]\npassword_file = 'DIR/passwords'\n",
    );
    site.start(1);
    let to: SocketAddr = site.addresses[0].parse().unwrap();
    let pid = site.child.as_ref().unwrap().id();
    assert_eq!(
        log_in_from([127, 0, 0, 1], to, "ann", "ann", "right"),
        ACCEPTED
    );
    let before = peak_kib(pid);
    // 240 wrong logins from 24 addresses, all for one user, and 200 from one address alone.
    let (hashed, limited) = (AtomicU32::new(0), AtomicU32::new(0));
    let (count, begin) = (AtomicU32::new(0), Barrier::new(9));
    let begun = Instant::now();
    thread::scope(|scope| {
        for worker in 0..8_u8 {
            let (hashed, limited, begin) = (&hashed, &limited, &begin);
            scope.spawn(move || {
                begin.wait();
                for attempt in 0..55_u8 {
                    let from = if attempt < 30 {
                        [127, 1, worker, attempt % 3 + 1]
                    } else {
                        [127, 2, 0, 1]
                    };
                    let id = format!("f{worker}");
                    match log_in_from(from, to, &id, "ann", "wrong") {
                        WRONG_PASSWORD => hashed.fetch_add(1, Ordering::Relaxed),
                        BUSY => limited.fetch_add(1, Ordering::Relaxed),
                        code => panic!("{code}"),
                    };
                }
            });
        }
        begin.wait();
        // Meanwhile the users themselves come in: one who was here a moment ago, and one who was not.
        assert_eq!(
            log_in_from([127, 0, 0, 1], to, "bob", "bob", "right"),
            ACCEPTED
        );
        while hashed.load(Ordering::Relaxed) + limited.load(Ordering::Relaxed) < 400 {
            assert_eq!(
                log_in_from([127, 0, 0, 1], to, "ann", "ann", "right"),
                ACCEPTED
            );
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    let seconds = begun.elapsed().as_secs_f64();
    let grown = peak_kib(pid) - before;
    let (hashed, limited) = (hashed.into_inner(), limited.into_inner());
    println!(
        "wrong logins: {hashed} hashed, {limited} refused before that, in {seconds:.1} s; \
         right ones meanwhile: {}; memory grew by {grown} KiB",
        count.into_inner()
    );
    // Ten an address, and what was under way when the tenth had failed.
    assert!(hashed <= 25 * 10 + 8, "{hashed}");
    assert!(limited >= 180, "{limited}");
    let cores = thread::available_parallelism().unwrap().get() as u64;
    assert!(grown <= cores * 19 * 1_024 + 16 * 1_024, "{grown} KiB");
}

/// Case E6.
#[test]
fn e6_strangers_learn_neither_names_nor_versions() {
    let mut site = Site::new("strangers-learn");
    site.user("passwords", "ann", "a");
    site.write("rules", "user ann\ntopic #\ntopic read $SYS/#\n");
    site.write(
        "paloma.toml",
        "[admin]\naddress = '127.0.0.1:0'\n[auth]\npassword_file = 'DIR/passwords'\nacl_file = 'DIR/rules'\n\
         [[listener]]\nname = 'a'\naddress = '127.0.0.1:0'\nallow_anonymous = true\n\
         [[listener]]\nname = 'w'\naddress = '127.0.0.1:0'\ntransport = 'websocket'\n",
    );
    site.start(2);
    let said = site.until(&["/metrics"]);
    let address = site.addresses[0].clone();
    let (mut ann, code) = Client::connect(&address, "secret-id", Some(("ann", "a")), true);
    assert_eq!(code, ACCEPTED);
    assert_eq!(ann.subscribe("secret-topic"), 0);
    ann.publish("secret-topic", "secret-payload");
    let mut heard = Vec::new();
    // No rule lets an anonymous client read $SYS, not even on this machine.
    let (mut stranger, code) = Client::connect(&address, "stranger", None, true);
    assert_eq!(code, ACCEPTED);
    for filter in ["$SYS/#", "$SYS/broker/version", "#", "secret-topic"] {
        assert_eq!(stranger.subscribe(filter), 0x80, "{filter}");
    }
    heard.extend(stranger.received().into_iter().map(String::into_bytes));
    // A refusal says its code, to all alike.
    let (_, refused) = connect_v5(&address, "wrong");
    assert_eq!(refused, [0, 0x86, 0], "no text, no property");
    // What is no MQTT, or no WebSocket, is told nothing of who answers.
    let websocket = site.addresses[1].strip_prefix("ws://").unwrap().to_owned();
    let port = said
        .rsplit_once("http://")
        .unwrap()
        .1
        .split('/')
        .next()
        .unwrap();
    for (address, bytes) in [
        (address.as_str(), &b"GET / HTTP/1.1\r\n\r\n"[..]),
        (&websocket, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
        (&websocket, b"nonsense\r\n\r\n"),
        (
            port,
            b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        ),
        (port, b"nonsense\r\n\r\n"),
    ] {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        // A connection that is reset has said all it had to say.
        drop(stream.read_to_end(&mut answer));
        heard.push(answer);
    }
    let heard = heard.concat().to_ascii_lowercase();
    let heard = String::from_utf8_lossy(&heard);
    for secret in ["secret", "paloma", env!("CARGO_PKG_VERSION"), "127.0.0.1"] {
        assert!(!heard.contains(secret), "{secret} in {heard}");
    }
    // Metrics are for whoever may reach them, and name neither clients nor topics.
    let mut stream = TcpStream::connect(port).unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut metrics = String::new();
    stream.read_to_string(&mut metrics).unwrap();
    assert!(
        metrics.contains("paloma_clients_accepted_total 2"),
        "{metrics}"
    );
    for secret in ["secret", "ann", "127.0.0.1", "stranger"] {
        let is_named = metrics
            .lines()
            .any(|line| !line.starts_with('#') && line.contains(secret));
        assert!(!is_named, "{secret} in {metrics}");
    }
}
