//! Requests as the core makes them.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test file uses a part of these helpers for tests"
)]

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use paloma_auth::{Method, Verdict};
use paloma_broker::{
    Admission, AuthOutcome, AuthRequest, Broker, BrokerConfig, ConnectionId, ConnectionInfo,
};
use paloma_codec::{ConnAckReason, ProtocolVersion, Secret};
use paloma_session::{Monotonic, Now, Wall};

/// Connections of a broker that is there only to name them.
pub(crate) fn connections(count: usize) -> Vec<ConnectionId> {
    let mut broker = Broker::new(BrokerConfig::new([0; 32]));
    let open = |_| broker.open(at(0), ConnectionInfo::default()).unwrap();
    (0..count).map(open).collect()
}

/// So many seconds after some start, which is second 1,000,000 of the epoch.
pub(crate) fn at(seconds: u64) -> Now {
    Now {
        monotonic: Monotonic::from_millis(seconds * 1_000),
        wall: Wall::from_millis((1_000_000 + seconds) * 1_000),
    }
}

pub(crate) fn secret(text: &str) -> Secret {
    Secret::new(Bytes::copy_from_slice(text.as_bytes()))
}

/// A request of client `c1` at 192.0.2.1 on listener 0.
pub(crate) fn request(user: Option<&str>, password: Option<&str>) -> AuthRequest {
    AuthRequest {
        connection: connections(1)[0],
        info: ConnectionInfo {
            address: Some(IpAddr::from([192, 0, 2, 1])),
            ..ConnectionInfo::default()
        },
        version: ProtocolVersion::V5,
        client_id: "c1".into(),
        username: user.map(Into::into),
        password: password.map(secret),
        method: None,
    }
}

pub(crate) fn login(user: &str, password: &str) -> AuthRequest {
    request(Some(user), Some(password))
}

/// An answer in a form that can be compared.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Allow(Option<String>),
    Deny(ConnAckReason),
    Continue(String),
    NotMine,
}

pub(crate) const BAD: Answer = Answer::Deny(ConnAckReason::BadUserNameOrPassword);

pub(crate) fn allow(user: &str) -> Answer {
    Answer::Allow(Some(user.to_owned()))
}

pub(crate) fn answer(outcome: &AuthOutcome) -> Answer {
    match outcome {
        AuthOutcome::Allow(admission) => {
            Answer::Allow(admission.identity.user.as_ref().map(ToString::to_string))
        }
        AuthOutcome::Deny(reason) => Answer::Deny(*reason),
        AuthOutcome::Continue(data) => Answer::Continue(String::from_utf8(data.to_vec()).unwrap()),
    }
}

pub(crate) fn judge(method: &dyn Method, seconds: u64, request: &AuthRequest) -> Answer {
    match method.judge(at(seconds), request) {
        Verdict::Decided(outcome) => answer(&outcome),
        Verdict::NotMine => Answer::NotMine,
    }
}

pub(crate) fn admission(
    method: &dyn Method,
    seconds: u64,
    request: &AuthRequest,
) -> Box<Admission> {
    let verdict = method.judge(at(seconds), request);
    let Verdict::Decided(AuthOutcome::Allow(admission)) = verdict else {
        panic!("{verdict:?}");
    };
    admission
}

/// An empty directory for one test.
pub(crate) fn scratch(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}
