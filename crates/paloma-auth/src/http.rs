//! An HTTP service that answers at login.

mod dial;
mod service;
#[cfg(feature = "https")]
mod tls;
#[cfg(not(feature = "https"))]
#[path = "http/no_tls.rs"]
mod tls;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytestring::ByteString;
use paloma_broker::{Admission, AuthOutcome, AuthRequest, Authorizer, Identity};
use paloma_codec::ConnAckReason;
use paloma_session::Now;
use serde_json::{Value, json};

use self::service::{Answer, Service};
use crate::claim::client_rules;
use crate::gate::Gate;
use crate::{HttpHookConfig, HttpHookError, Method, Verdict};

/// The shortest time to live that is honoured, so that an answer of 0 does not make the broker ask for ever.
const TTL_MIN: Duration = Duration::from_secs(10);
/// Longer than anybody waits for a login.
const TIMEOUT_MAX: Duration = Duration::from_secs(86_400);

/// Asks an HTTP service who a client is and what it may do, at login and when its answer's time to live ends.
///
/// The request is a POST of `{"client_id", "username", "password", "address", "listener", "certificate_name"}`; a
/// password that is not UTF-8 goes as `password_base64`. The answer is status 200 with
/// `{"allow": true, "user": "…", "acl": ["read a/#", …], "ttl_seconds": 300}`, all but `allow` optional, the rules as
/// they stand behind `pattern` in an ACL file; or `{"allow": false}`, status 401 or 403. All else, and no answer in time,
/// refuses the client as "server unavailable". A question comes twice if the connection on which it is asked had been kept
/// and ends before an answer begins. Whatever reaches this method is decided here, so it goes last.
pub struct HttpHook {
    service: Service,
    config: HttpHookConfig,
    gate: Gate,
}

impl HttpHook {
    /// Makes a hook; nothing is sent yet. What the system trusts is read here and not again.
    ///
    /// # Errors
    /// A configuration that could never work.
    pub fn new(config: HttpHookConfig) -> Result<Self, HttpHookError> {
        let is_https = cfg!(feature = "https") && config.url.starts_with("https://");
        if !is_https && !config.url.starts_with("http://") {
            return Err(HttpHookError::Url);
        }
        if config.timeout.is_zero() || config.requests_max == 0 {
            return Err(HttpHookError::Zero);
        }
        let is_sound =
            |token: &String| !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic());
        if !config.bearer_token.as_ref().is_none_or(is_sound) {
            return Err(HttpHookError::Token);
        }
        Ok(Self {
            service: Service::new(&config)?,
            gate: Gate::new(config.requests_max, config.waiting_max, config.timeout),
            config,
        })
    }

    /// How the service is asked.
    #[must_use]
    pub const fn config(&self) -> &HttpHookConfig {
        &self.config
    }

    /// Whether another hook would ask the same service in the same way and believe it as this one does: what the system
    /// trusts may have changed between them.
    #[must_use]
    pub fn asks_like(&self, other: &Self) -> bool {
        self.config == other.config && self.service.trusts_like(&other.service)
    }

    fn ask(&self, request: &AuthRequest) -> AuthOutcome {
        let Ok(_pass) = self.gate.enter() else {
            return AuthOutcome::Deny(ConnAckReason::ServerBusy);
        };
        let deadline = Instant::now() + self.config.timeout.min(TIMEOUT_MAX);
        // Errors are not told apart: each of them refuses.
        match self.service.post(&question(request).to_string(), deadline) {
            Ok(Answer { status: 200, body }) => judge(request, &body, self.config.ttl),
            Ok(Answer {
                status: 401 | 403, ..
            }) => AuthOutcome::Deny(ConnAckReason::BadUserNameOrPassword),
            Ok(_) | Err(_) => AuthOutcome::Deny(ConnAckReason::ServerUnavailable),
        }
    }
}

impl Method for HttpHook {
    fn judge(&self, _: Now, request: &AuthRequest) -> Verdict {
        if is_for_others(request) {
            return Verdict::NotMine;
        }
        Verdict::Decided(self.ask(request))
    }

    fn judge_at_once(&self, _: Now, request: &AuthRequest) -> Option<Verdict> {
        is_for_others(request).then_some(Verdict::NotMine)
    }

    fn waiting_calls_max(&self) -> usize {
        self.config.requests_max
    }
}

impl fmt::Debug for HttpHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may hold a password.
        f.debug_struct("HttpHook").finish_non_exhaustive()
    }
}

/// Nothing that a service could judge.
fn is_for_others(request: &AuthRequest) -> bool {
    request.method.is_some() || request.username.is_none() && request.password.is_none()
}

fn question(request: &AuthRequest) -> Value {
    let mut question = json!({
        "client_id": &*request.client_id,
        "username": request.username.as_deref(),
        "address": request.info.address.map(|address| address.to_string()),
        "listener": request.info.listener,
        "certificate_name": request.info.certificate_name.as_deref(),
    });
    let password = request.password.as_deref();
    let (key, value) = match password.map(|bytes| (bytes, str::from_utf8(bytes))) {
        None => ("password", Value::Null),
        Some((_, Ok(text))) => ("password", Value::from(text)),
        Some((bytes, Err(_))) => ("password_base64", Value::from(STANDARD.encode(bytes))),
    };
    if let Value::Object(fields) = &mut question {
        fields.insert(key.to_owned(), value);
    }
    question
}

fn judge(request: &AuthRequest, answer: &[u8], ttl: Option<Duration>) -> AuthOutcome {
    match read_answer(request, answer, ttl) {
        Some(Some(admission)) => AuthOutcome::Allow(Box::new(admission)),
        Some(None) => AuthOutcome::Deny(ConnAckReason::BadUserNameOrPassword),
        None => AuthOutcome::Deny(ConnAckReason::ServerUnavailable),
    }
}

/// The terms, or a refusal; `None` if the answer is not what it should be in every field.
fn read_answer(
    request: &AuthRequest,
    answer: &[u8],
    ttl: Option<Duration>,
) -> Option<Option<Admission>> {
    let answer: Value = serde_json::from_slice(answer).ok()?;
    if !answer.get("allow")?.as_bool()? {
        return Some(None);
    }
    let user = match present(&answer, "user") {
        None => request.username.clone(),
        Some(user) => Some(ByteString::from(
            user.as_str().filter(|user| !user.is_empty())?,
        )),
    };
    let rules: Option<Arc<dyn Authorizer>> = match present(&answer, "acl") {
        None => None,
        Some(acl) => Some(client_rules(acl)?),
    };
    let valid_for = match present(&answer, "ttl_seconds") {
        None => ttl,
        Some(ttl) => Some(Duration::from_secs(ttl.as_u64()?).max(TTL_MIN)),
    };
    Some(Some(Admission {
        rules,
        valid_for,
        ..Admission::of(Identity { user })
    }))
}

fn present<'a>(answer: &'a Value, name: &str) -> Option<&'a Value> {
    answer.get(name).filter(|value| !value.is_null())
}
