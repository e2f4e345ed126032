//! How an HTTP service is asked, and why it cannot be.

use std::fmt;
use std::time::Duration;

/// How a hook is asked.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpHookConfig {
    /// `http://…`, or `https://…` with the feature `https`.
    pub url: String,
    /// Sent as `Authorization: Bearer …`, so that the service knows who asks.
    pub bearer_token: Option<String>,
    /// With `https`: certificates in PEM, one of which has to vouch for the service; `None` trusts what the system trusts.
    pub roots: Option<Vec<u8>>,
    /// For the whole request, from resolving the name to the last byte of the answer.
    pub timeout: Duration,
    /// Requests at a time.
    pub requests_max: usize,
    /// Logins that wait for one of them to end, each for `timeout` at most.
    pub waiting_max: usize,
    /// How long an answer without `ttl_seconds` holds; `None` is for as long as the client stays.
    pub ttl: Option<Duration>,
}

impl HttpHookConfig {
    /// Two seconds, 16 requests at a time, 256 waiting, and answers that hold until they say otherwise.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            bearer_token: None,
            roots: None,
            timeout: Duration::from_secs(2),
            requests_max: 16,
            waiting_max: 256,
            ttl: None,
        }
    }
}

impl fmt::Debug for HttpHookConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may hold a password, and the token is one.
        f.debug_struct("HttpHookConfig")
            .field("timeout", &self.timeout)
            .field("requests_max", &self.requests_max)
            .field("waiting_max", &self.waiting_max)
            .field("ttl", &self.ttl)
            .finish_non_exhaustive()
    }
}

/// Why a hook cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpHookError {
    /// The URL begins neither with `http://` nor, with the feature `https`, with `https://`, or is none.
    Url,
    /// A timeout or a number of requests of 0 would refuse everybody.
    Zero,
    /// The token is empty, or has characters that a header cannot have.
    Token,
    /// No certificate in PEM among the roots.
    Roots,
    /// The system has no certificates that vouch for services, and none are named.
    NoRoots,
    /// Built without the feature `http`.
    NotBuilt,
}

impl fmt::Display for HttpHookError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Url if cfg!(feature = "https") => "the URL has to begin with http:// or https://",
            Self::Url => "the URL has to begin with http://",
            Self::Zero => "the timeout and the number of requests must not be 0",
            Self::Token => "the token has to be one line of printable ASCII characters",
            Self::Roots => "no certificate in PEM",
            Self::NoRoots => {
                "this system trusts nobody yet: a CA has to be named, or its certificates installed"
            }
            Self::NotBuilt => "built without `http`",
        })
    }
}

impl std::error::Error for HttpHookError {}
