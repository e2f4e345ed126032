//! What each listener asks for, put together to the broker's one authenticator.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use paloma_broker::{Admission, AuthOutcome, AuthRequest, Authenticator, Authorizer, Identity};
use paloma_codec::ConnAckReason;
use paloma_session::{Monotonic, Now, Wall};

use crate::{LoginLimiter, Method, Verdict};

/// The broker's authenticator: each listener has its methods, its word on anonymous clients and its rules.
///
/// The first method that a request is for decides. A listener that is not known, a request that is for no method and a
/// method that fails: refused. Failed logins are limited over all listeners together.
#[derive(Debug)]
pub struct Chain {
    /// By index; a broker has few.
    listeners: RwLock<Vec<(u16, Arc<ListenerAuth>)>>,
    limiter: Mutex<LoginLimiter>,
    start: Instant,
}

/// How one listener finds out who its clients are. The default lets nobody in.
#[derive(Debug, Default)]
pub struct ListenerAuth {
    /// In the order in which they are asked.
    pub methods: Vec<Arc<dyn Method>>,
    /// Whether a client that offers neither user name nor password may come in. Without any method a name that is
    /// offered proves nothing, so that client is anonymous too.
    pub allow_anonymous: bool,
    /// What this listener's clients may do unless their method said so; `None` leaves it to the broker's authorizer.
    pub rules: Option<Arc<dyn Authorizer>>,
}

impl Chain {
    /// `listeners` in the order of their indices in [`ConnectionInfo`](paloma_broker::ConnectionInfo).
    #[must_use]
    pub fn new(listeners: Vec<ListenerAuth>, failed_logins_per_minute_max: u32) -> Self {
        let chain = Self {
            listeners: RwLock::default(),
            limiter: Mutex::new(LoginLimiter::new(failed_logins_per_minute_max)),
            start: Instant::now(),
        };
        chain.replace((0..).zip(listeners), failed_logins_per_minute_max);
        chain
    }

    /// Puts other listeners, each with its index, and another limit in force, as a whole: a login is judged by the old or by
    /// the new. Failures that were counted stay counted.
    pub fn replace(
        &self,
        listeners: impl IntoIterator<Item = (u16, ListenerAuth)>,
        failed_logins_per_minute_max: u32,
    ) {
        let listeners = listeners.into_iter();
        let by_index = listeners.map(|(index, listener)| (index, Arc::new(listener)));
        let by_index = by_index.collect();
        *self
            .listeners
            .write()
            .unwrap_or_else(PoisonError::into_inner) = by_index;
        let mut limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
        limiter.set_failures_max(failed_logins_per_minute_max);
    }

    fn listener(&self, index: u16) -> Option<Arc<ListenerAuth>> {
        let listeners = self
            .listeners
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let mut listeners = listeners.iter();
        let (_, listener) = listeners.find(|(other, _)| *other == index)?;
        Some(Arc::clone(listener))
    }

    /// [`authenticate`](Authenticator::authenticate) at a given time.
    pub fn authenticate_at(&self, now: Now, request: &AuthRequest) -> AuthOutcome {
        let judge = |listener: &ListenerAuth| Some(listener.judge(now, request));
        let outcome = self.judge_by(now, request, judge);
        outcome.unwrap_or(AuthOutcome::Deny(ConnAckReason::UnspecifiedError))
    }

    /// [`authenticate_at_once`](Authenticator::authenticate_at_once) at a given time.
    pub fn authenticate_at_once_at(&self, now: Now, request: &AuthRequest) -> Option<AuthOutcome> {
        self.judge_by(now, request, |listener| {
            listener.judge_at_once(now, request)
        })
    }

    fn judge_by(
        &self,
        now: Now,
        request: &AuthRequest,
        judge: impl FnOnce(&ListenerAuth) -> Option<AuthOutcome>,
    ) -> Option<AuthOutcome> {
        let Some(listener) = self.listener(request.info.listener) else {
            return Some(AuthOutcome::Deny(ConnAckReason::NotAuthorized));
        };
        // Who offers nothing cannot guess anything.
        let is_login = offers_something(request) && !listener.methods.is_empty();
        if is_login && !self.may_try(now, request) {
            return Some(AuthOutcome::Deny(ConnAckReason::QuotaExceeded));
        }
        let outcome = judge(&listener)?;
        if is_login {
            self.count(now, request, &outcome);
        }
        Some(outcome)
    }

    fn may_try(&self, now: Now, request: &AuthRequest) -> bool {
        let limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
        let user = request.username.as_deref();
        // Without an address it is a process of this machine.
        let address = request.info.address;
        address.is_none_or(|address| limiter.may_try(now.monotonic, address, user))
    }

    fn count(&self, now: Now, request: &AuthRequest, outcome: &AuthOutcome) {
        let Some(address) = request.info.address else {
            return;
        };
        let mut limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
        match (outcome, request.username.as_deref()) {
            (AuthOutcome::Deny(reason), user) if is_the_clients_fault(*reason) => {
                limiter.handle_failure(now.monotonic, address, user);
            }
            (AuthOutcome::Allow(_), Some(user)) => limiter.handle_success(address, user),
            (AuthOutcome::Allow(_) | AuthOutcome::Deny(_) | AuthOutcome::Continue(_), _) => {}
        }
    }

    fn now(&self) -> Now {
        let monotonic = self.start.elapsed().as_nanos();
        // A clock before 1970 makes every token not yet valid.
        let wall = SystemTime::now().duration_since(UNIX_EPOCH);
        let wall = wall.map_or(0, |since| since.as_millis());
        Now::new(
            Monotonic::from_nanos(u64::try_from(monotonic).unwrap_or(u64::MAX)),
            Wall::from_millis(u64::try_from(wall).unwrap_or(u64::MAX)),
        )
    }
}

impl Authenticator for Chain {
    fn authenticate(&self, request: &AuthRequest) -> AuthOutcome {
        self.authenticate_at(self.now(), request)
    }

    fn authenticate_at_once(&self, request: &AuthRequest) -> Option<AuthOutcome> {
        self.authenticate_at_once_at(self.now(), request)
    }

    fn is_blocking(&self) -> bool {
        let listeners = self
            .listeners
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let mut methods = listeners.iter().flat_map(|(_, listener)| &listener.methods);
        methods.any(|method| method.is_blocking())
    }

    fn waiting_calls_max(&self) -> usize {
        let listeners = self
            .listeners
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let methods = listeners.iter().flat_map(|(_, listener)| &listener.methods);
        // One method may serve several listeners.
        let mut counted: Vec<*const ()> = Vec::new();
        let mut calls_max = 0_usize;
        for method in methods {
            let address = Arc::as_ptr(method).cast();
            if !counted.contains(&address) {
                counted.push(address);
                calls_max = calls_max.saturating_add(method.waiting_calls_max());
            }
        }
        calls_max
    }
}

impl ListenerAuth {
    fn judge(&self, now: Now, request: &AuthRequest) -> AuthOutcome {
        let mut verdicts = self.methods.iter().map(|method| method.judge(now, request));
        let decided = verdicts.find_map(|verdict| match verdict {
            Verdict::Decided(outcome) => Some(outcome),
            Verdict::NotMine => None,
        });
        self.settle(decided, request)
    }

    /// The same if no method that is asked would block.
    fn judge_at_once(&self, now: Now, request: &AuthRequest) -> Option<AuthOutcome> {
        for method in &self.methods {
            match method.judge_at_once(now, request)? {
                Verdict::Decided(outcome) => return Some(self.settle(Some(outcome), request)),
                Verdict::NotMine => {}
            }
        }
        Some(self.settle(None, request))
    }

    fn settle(&self, decided: Option<AuthOutcome>, request: &AuthRequest) -> AuthOutcome {
        match decided.unwrap_or_else(|| self.judge_rest(request)) {
            AuthOutcome::Allow(admission) => AuthOutcome::Allow(self.with_rules(admission)),
            outcome @ (AuthOutcome::Deny(_) | AuthOutcome::Continue(_)) => outcome,
        }
    }

    /// Judges a request that no method is for.
    fn judge_rest(&self, request: &AuthRequest) -> AuthOutcome {
        let is_anonymous = self.methods.is_empty() || !offers_something(request);
        if request.method.is_some() {
            // [MQTT-4.12.0-1]
            AuthOutcome::Deny(ConnAckReason::BadAuthenticationMethod)
        } else if is_anonymous && self.allow_anonymous {
            AuthOutcome::allow(Identity::ANONYMOUS)
        } else if is_anonymous {
            AuthOutcome::Deny(ConnAckReason::NotAuthorized)
        } else {
            AuthOutcome::Deny(ConnAckReason::BadUserNameOrPassword)
        }
    }

    fn with_rules(&self, mut admission: Box<Admission>) -> Box<Admission> {
        admission.rules = admission.rules.or_else(|| self.rules.clone());
        admission
    }
}

fn offers_something(request: &AuthRequest) -> bool {
    request.username.is_some() || request.password.is_some() || request.method.is_some()
}

/// Whether a refusal speaks of the client's credentials, and not of a backend that is down or busy.
fn is_the_clients_fault(reason: ConnAckReason) -> bool {
    matches!(
        reason,
        ConnAckReason::BadUserNameOrPassword
            | ConnAckReason::NotAuthorized
            | ConnAckReason::BadAuthenticationMethod
            | ConnAckReason::Banned
    )
}
