//! One way to find out who a client is, as a part of a [`Chain`](crate::Chain).

use std::fmt;

use paloma_broker::{AuthOutcome, AuthRequest, Authenticator};
use paloma_session::Now;

/// One way to find out who a client is. Time is an argument, so that it can be tested.
pub trait Method: Send + Sync + fmt::Debug {
    /// Judges a request, or leaves it to the methods behind. A method that fails must refuse: leaving is for requests that are not
    /// for it.
    fn judge(&self, now: Now, request: &AuthRequest) -> Verdict;

    /// Whether [`judge`](Self::judge) may block or burn CPU.
    fn is_blocking(&self) -> bool {
        true
    }

    /// Judges what can be judged without blocking or burning CPU, as [`judge`](Self::judge) would; `None` if this cannot.
    fn judge_at_once(&self, now: Now, request: &AuthRequest) -> Option<Verdict> {
        (!self.is_blocking()).then(|| self.judge(now, request))
    }

    /// How many calls at a time are worth having because they only wait, for somebody else's answer.
    fn waiting_calls_max(&self) -> usize {
        0
    }
}

/// What a method says.
#[derive(Debug)]
pub enum Verdict {
    /// This is the answer.
    Decided(AuthOutcome),
    /// The request is for another method; if there is none, the client is refused.
    NotMine,
}

/// Somebody's own authenticator at the end of a chain: it decides whatever reaches it.
#[derive(Debug)]
pub struct Last<A>(pub A);

impl<A: Authenticator> Method for Last<A> {
    fn judge(&self, _: Now, request: &AuthRequest) -> Verdict {
        Verdict::Decided(self.0.authenticate(request))
    }

    fn is_blocking(&self) -> bool {
        self.0.is_blocking()
    }

    fn judge_at_once(&self, _: Now, request: &AuthRequest) -> Option<Verdict> {
        self.0.authenticate_at_once(request).map(Verdict::Decided)
    }

    fn waiting_calls_max(&self) -> usize {
        self.0.waiting_calls_max()
    }
}
