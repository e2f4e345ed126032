//! The HTTP hook, against a small server on the loopback interface.
#![cfg(feature = "http")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use paloma_auth::{HttpHook, HttpHookConfig, HttpHookError, Method};
use paloma_broker::{Action, AuthRequest};
use paloma_codec::ConnAckReason;
use paloma_topic::TopicNameRef;
use serde_json::{Value, json};
use support::{Answer, BAD, admission, allow, judge, login, request};

const ALLOWED: &str = r#"{"allow": true}"#;
const UNAVAILABLE: Answer = Answer::Deny(ConnAckReason::ServerUnavailable);

/// A hook whose service answers one request with these bytes, and what the service was asked.
fn hook(answer: Vec<u8>) -> (HttpHook, mpsc::Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/login", listener.local_addr().unwrap());
    let (sender, receiver) = mpsc::sync_channel(1);
    thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        sender.send(read_request(&stream)).unwrap();
        // The client may have heard enough before the end.
        let _ = (&stream).write_all(&answer);
    });
    let config = HttpHookConfig {
        timeout: Duration::from_secs(20),
        ..HttpHookConfig::new(url)
    };
    (HttpHook::new(config).unwrap(), receiver)
}

fn read_request(stream: &TcpStream) -> Value {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        let line = line.to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    serde_json::from_slice(&body).unwrap()
}

/// A service that gives these answers, the first few on its first connection and so on, and closes each connection behind
/// its last. Whoever asks learns on which connection, and the head of what was asked; `None` is a connection's end.
fn service(connections: Vec<Vec<Vec<u8>>>) -> (String, mpsc::Receiver<Option<(usize, String)>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = listener.local_addr().unwrap().to_string();
    let (sender, receiver) = mpsc::sync_channel(16);
    thread::spawn(move || {
        for (number, answers) in connections.into_iter().enumerate() {
            let (stream, _) = listener.accept().unwrap();
            for answer in answers {
                let head = read_head(&mut BufReader::new(&stream));
                sender.send(Some((number, head))).unwrap();
                let _ = (&stream).write_all(&answer);
            }
            drop(stream);
            sender.send(None).unwrap();
        }
    });
    (place, receiver)
}

fn read_head(reader: &mut impl BufRead) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut head).unwrap(), 0);
    }
    let length = head.to_ascii_lowercase();
    let length = length
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    reader
        .read_exact(&mut vec![0; length.unwrap().parse().unwrap()])
        .unwrap();
    head
}

fn patient(url: impl Into<String>) -> HttpHook {
    HttpHook::new(HttpHookConfig {
        timeout: Duration::from_secs(20),
        ..HttpHookConfig::new(url)
    })
    .unwrap()
}

/// An answer behind which the connection lives on.
fn kept(body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into()
}

fn http(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
        .into()
}

#[track_caller]
fn check(answer: Vec<u8>, expected: Answer) {
    let shown = String::from_utf8_lossy(&answer[..answer.len().min(200)]).into_owned();
    let (hook, _asked) = hook(answer);
    assert_eq!(
        judge(&hook, 0, &login("ann", "secret")),
        expected,
        "{shown}"
    );
}

#[test]
fn the_service_learns_who_wants_in_and_gives_the_terms() {
    let answer = json!({
        "allow": true, "user": "Ann", "acl": ["read a/#"], "ttl_seconds": 300, "more": 1,
    });
    let (hook, asked) = hook(http("200 OK", &answer.to_string()));
    let admission = admission(&hook, 0, &login("ann", "sec\"ret"));
    let expected = json!({
        "client_id": "c1", "username": "ann", "password": "sec\"ret", "address": "192.0.2.1",
        "listener": 0, "certificate_name": null,
    });
    assert_eq!(asked.recv().unwrap(), expected);
    assert_eq!(admission.identity.user.as_deref(), Some("Ann"));
    assert_eq!(admission.valid_for, Some(Duration::from_secs(300)));
    let rules = admission.rules.clone().unwrap();
    let topic = TopicNameRef::new("a/b").unwrap();
    assert!(rules.is_allowed(&admission.identity, "c1", Action::Read, topic));
    assert!(!rules.is_allowed(&admission.identity, "c1", Action::Write, topic));
}

#[test]
fn a_password_that_is_no_text_goes_in_base64() {
    let (hook, asked) = hook(http("200 OK", r#"{"allow": true}"#));
    let request = AuthRequest {
        password: Some(bytes::Bytes::from_static(b"\xff\x00").into()),
        ..request(Some("ann"), None)
    };
    assert_eq!(judge(&hook, 0, &request), allow("ann"));
    assert_eq!(asked.recv().unwrap()["password_base64"], json!("/wA="));
}

#[test]
fn a_tiny_time_to_live_does_not_make_the_broker_ask_for_ever() {
    let (hook, _asked) = hook(http("200 OK", r#"{"allow": true, "ttl_seconds": 0}"#));
    let admission = admission(&hook, 0, &login("ann", "secret"));
    assert_eq!(admission.valid_for, Some(Duration::from_secs(10)));
}

#[test]
fn a_refusal_refuses() {
    check(http("200 OK", r#"{"allow": false}"#), BAD);
    check(http("401 Unauthorized", ""), BAD);
    check(http("403 Forbidden", r#"{"allow": true}"#), BAD);
}

#[test]
fn d12_whatever_is_not_a_sound_answer_refuses() {
    for body in [
        "",
        "true",
        "{}",
        r#"{"allow": "true"}"#,
        r#"{"allow": 1}"#,
        r#"{"allow": true, "user": 7}"#,
        r#"{"allow": true, "user": ""}"#,
        r#"{"allow": true, "acl": "read a"}"#,
        r#"{"allow": true, "acl": ["peek a"]}"#,
        r#"{"allow": true, "ttl_seconds": "300"}"#,
        r#"{"allow": true, "ttl_seconds": -1}"#,
        r#"{"allow": true"#,
    ] {
        check(http("200 OK", body), UNAVAILABLE);
    }
    let good = r#"{"allow": true}"#;
    for status in [
        "201 Created",
        "204 No Content",
        "302 Found",
        "404 Not Found",
        "500 Oops",
    ] {
        check(http(status, good), UNAVAILABLE);
    }
    check(b"SSH-2.0-x\r\n".to_vec(), UNAVAILABLE);
    check(Vec::new(), UNAVAILABLE);
    let cut = http("200 OK", &good.replace('}', &" ".repeat(100)));
    check(cut[..cut.len() - 50].to_vec(), UNAVAILABLE);
}

#[test]
fn an_answer_beyond_the_bound_refuses() {
    let padded = |bytes: usize| format!("{}{}", r#"{"allow": true}"#, " ".repeat(bytes));
    check(http("200 OK", &padded(60_000)), allow("ann"));
    check(http("200 OK", &padded(70_000)), UNAVAILABLE);
}

#[test]
fn a_head_beyond_the_bound_refuses() {
    let padded = |bytes: usize| {
        let more = "x".repeat(bytes);
        format!("HTTP/1.1 200 OK\r\nmore: {more}\r\ncontent-length: 15\r\n\r\n{ALLOWED}").into()
    };
    check(padded(8_000), allow("ann"));
    check(padded(9_000), UNAVAILABLE);
}

#[test]
fn an_answer_may_come_in_chunks_or_end_with_its_connection() {
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let whole = format!("{chunked}9;x=y\r\n{{\"allow\":\r\n6\r\n true}}\r\n0\r\n\r\n");
    check(whole.clone().into(), allow("ann"));
    check(whole.replace("0\r\n\r\n", "").into(), UNAVAILABLE);
    check(format!("{chunked}x\r\n{ALLOWED}").into(), UNAVAILABLE);
    check(
        format!("HTTP/1.0 200 OK\r\n\r\n{ALLOWED}").into(),
        allow("ann"),
    );
    let early = String::from_utf8(kept(ALLOWED)).unwrap();
    check(
        format!("HTTP/1.1 103 Early Hints\r\na: b\r\n\r\n{early}").into(),
        allow("ann"),
    );
}

#[test]
fn a_service_that_keeps_its_connection_is_asked_on_it_again() {
    let chunked =
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nf\r\n{\"allow\": true}\r\n0\r\n\r\n";
    let refused = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n";
    let answers = vec![
        kept(ALLOWED),
        chunked.to_vec(),
        refused.to_vec(),
        kept(ALLOWED),
    ];
    let (place, asked) = service(vec![answers]);
    let hook = patient(format!("http://{place}/login"));
    for expected in [allow("ann"), allow("ann"), BAD, allow("ann")] {
        assert_eq!(judge(&hook, 0, &login("ann", "secret")), expected);
        assert_eq!(asked.recv().unwrap().unwrap().0, 0);
    }
}

#[test]
fn a_connection_that_is_over_is_not_asked_on_again() {
    let twice = [kept(ALLOWED), kept(ALLOWED)].concat();
    let closing = http("200 OK", ALLOWED);
    let (place, asked) = service(vec![
        vec![kept(ALLOWED)],
        vec![closing],
        vec![twice],
        vec![kept(ALLOWED)],
    ]);
    let hook = patient(format!("http://{place}"));
    for number in 0..4 {
        assert_eq!(judge(&hook, 0, &login("ann", "secret")), allow("ann"));
        assert_eq!(asked.recv().unwrap().unwrap().0, number);
        assert_eq!(asked.recv().unwrap(), None);
    }
}

#[test]
fn a_kept_connection_that_ends_as_it_is_asked_on_refuses_nobody() {
    let nothing = Vec::new();
    let (place, asked) = service(vec![
        vec![kept(ALLOWED), nothing.clone()],
        vec![kept(ALLOWED), nothing],
        vec![kept(ALLOWED)],
    ]);
    let hook = patient(format!("http://{place}"));
    for _ in 0..3 {
        assert_eq!(judge(&hook, 0, &login("ann", "secret")), allow("ann"));
    }
    let asked: Vec<_> = asked.iter().flatten().map(|(number, _)| number).collect();
    assert_eq!(asked, [0, 0, 1, 1, 2]);
}

#[test]
fn a_kept_connection_that_is_reset_as_it_is_asked_on_refuses_nobody() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let hook = patient(format!("http://{}", listener.local_addr().unwrap()));
    let service = thread::spawn(move || {
        let answer_one = || {
            let (mut stream, _) = listener.accept().unwrap();
            read_request(&stream);
            stream.write_all(&kept(ALLOWED)).unwrap();
            stream
        };
        // What is not read makes a reset of the end.
        answer_one().read_exact(&mut [0]).unwrap();
        drop(answer_one());
    });
    for _ in 0..2 {
        assert_eq!(judge(&hook, 0, &login("ann", "secret")), allow("ann"));
    }
    service.join().unwrap();
}

#[test]
fn a_service_is_asked_once_more_and_not_for_ever() {
    let nothing = Vec::new();
    let (place, asked) = service(vec![
        vec![kept(ALLOWED), nothing.clone()],
        vec![nothing],
        // Whoever has begun to answer is not asked the same again.
        vec![kept(ALLOWED), b"HTTP/1.1 ".to_vec()],
        vec![kept(ALLOWED)],
    ]);
    let hook = patient(format!("http://{place}"));
    let expected = [
        allow("ann"),
        UNAVAILABLE,
        allow("ann"),
        UNAVAILABLE,
        allow("ann"),
    ];
    for expected in expected {
        assert_eq!(judge(&hook, 0, &login("ann", "secret")), expected);
    }
    let asked: Vec<_> = asked.iter().flatten().map(|(number, _)| number).collect();
    assert_eq!(asked, [0, 0, 1, 2, 2, 3]);
}

#[test]
fn a_service_learns_who_asks() {
    let (place, asked) = service(vec![vec![kept(ALLOWED)], vec![kept(ALLOWED)]]);
    let token = "t".repeat(9_000);
    let hook = HttpHook::new(HttpHookConfig {
        bearer_token: Some(token.clone()),
        timeout: Duration::from_secs(20),
        ..HttpHookConfig::new(format!("http://{place}/a/b?c=d"))
    });
    assert_eq!(judge(&hook.unwrap(), 0, &login("ann", "x")), allow("ann"));
    let (_, head) = asked.recv().unwrap().unwrap();
    let head = head.to_ascii_lowercase();
    assert!(head.starts_with("post /a/b?c=d http/1.1\r\n"), "{head}");
    for line in [
        format!("host: {place}"),
        "content-type: application/json".to_owned(),
        format!("authorization: bearer {token}"),
    ] {
        assert!(head.contains(&format!("\r\n{line}\r\n")), "{head}");
    }
    let hook = patient(format!("http://user:secret@{place}"));
    assert_eq!(judge(&hook, 0, &login("ann", "x")), allow("ann"));
    assert_eq!(asked.recv().unwrap(), None);
    let (_, head) = asked.recv().unwrap().unwrap();
    assert!(head.starts_with("POST / HTTP/1.1\r\n"), "{head}");
    assert!(
        head.contains("authorization: Basic dXNlcjpzZWNyZXQ=\r\n"),
        "{head}"
    );
}

#[test]
fn a_name_is_resolved_and_all_its_addresses_are_tried() {
    let (place, _asked) = service(vec![vec![kept(ALLOWED)]]);
    let (_, port) = place.rsplit_once(':').unwrap();
    // It may be ::1 first, where nobody listens.
    let hook = patient(format!("http://localhost:{port}"));
    assert_eq!(judge(&hook, 0, &login("ann", "x")), allow("ann"));
    let nobody = HttpHookConfig {
        timeout: Duration::from_millis(200),
        ..HttpHookConfig::new("http://nobody.invalid/")
    };
    let nobody = HttpHook::new(nobody).unwrap();
    assert_eq!(judge(&nobody, 0, &login("ann", "x")), UNAVAILABLE);
}

#[test]
fn who_speaks_for_ever_is_not_listened_to_for_ever() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        read_request(&stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\nmore: ").unwrap();
        // Nobody waits for the end of this.
        for _ in 0..6_000 {
            thread::sleep(Duration::from_millis(10));
            if stream.write_all(b"x").is_err() {
                return;
            }
        }
        let _ = write!(stream, "\r\ncontent-length: 15\r\n\r\n{ALLOWED}");
    });
    let hook = HttpHook::new(HttpHookConfig {
        timeout: Duration::from_millis(200),
        ..HttpHookConfig::new(url)
    });
    assert_eq!(judge(&hook.unwrap(), 0, &login("ann", "x")), UNAVAILABLE);
}

#[test]
fn d12_nobody_listening_and_no_answer_in_time_refuse() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let config = HttpHookConfig {
        timeout: Duration::from_millis(50),
        ..HttpHookConfig::new(url)
    };
    // The kernel takes the connection, and nobody answers.
    let silent = HttpHook::new(config.clone()).unwrap();
    assert_eq!(judge(&silent, 0, &login("ann", "secret")), UNAVAILABLE);
    drop(listener);
    let gone = HttpHook::new(config).unwrap();
    assert_eq!(judge(&gone, 0, &login("ann", "secret")), UNAVAILABLE);
}

#[test]
fn who_finds_too_many_requests_waiting_is_told_so() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let config = HttpHookConfig {
        timeout: Duration::from_secs(20),
        requests_max: 1,
        waiting_max: 0,
        ..HttpHookConfig::new(url)
    };
    let hook = HttpHook::new(config).unwrap();
    thread::scope(|scope| {
        let first = scope.spawn(|| judge(&hook, 0, &login("ann", "secret")));
        let (stream, _) = listener.accept().unwrap();
        read_request(&stream);
        let busy = Answer::Deny(ConnAckReason::ServerBusy);
        assert_eq!(judge(&hook, 0, &login("bob", "secret")), busy);
        (&stream)
            .write_all(&http("200 OK", r#"{"allow": true}"#))
            .unwrap();
        assert_eq!(first.join().unwrap(), allow("ann"));
    });
}

#[test]
fn who_offers_nothing_is_not_asked_about() {
    let hook = HttpHook::new(HttpHookConfig::new("http://127.0.0.1:1")).unwrap();
    assert_eq!(judge(&hook, 0, &request(None, None)), Answer::NotMine);
    let enhanced = AuthRequest {
        method: Some(("X".into(), support::secret(""))),
        ..login("ann", "secret")
    };
    assert_eq!(judge(&hook, 0, &enhanced), Answer::NotMine);
    assert!(hook.is_blocking());
}

#[test]
fn hooks_that_could_never_work_are_refused() {
    let refusal = |config| HttpHook::new(config).unwrap_err();
    for url in ["ftp://x", "http://", "http://a b", "http://:80", "HTTP://x"] {
        assert_eq!(
            refusal(HttpHookConfig::new(url)),
            HttpHookError::Url,
            "{url}"
        );
    }
    let config = HttpHookConfig::new("http://user:secret@127.0.0.1");
    let zero = HttpHookConfig {
        requests_max: 0,
        ..config.clone()
    };
    assert_eq!(refusal(zero), HttpHookError::Zero);
    let zero = HttpHookConfig {
        timeout: Duration::ZERO,
        ..config.clone()
    };
    assert_eq!(refusal(zero), HttpHookError::Zero);
    assert!(!format!("{:?}", HttpHook::new(config).unwrap()).contains("secret"));
}
