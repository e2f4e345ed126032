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
    assert_eq!(refusal(HttpHookConfig::new("ftp://x")), HttpHookError::Url);
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
