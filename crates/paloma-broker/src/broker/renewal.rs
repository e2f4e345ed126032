//! Proofs of identity that come after CONNACK: the client's own [MQTT-4.12.1-1], and the authenticator's when its word
//! has run out.

use std::sync::Arc;
use std::time::Duration;

use paloma_codec::{Auth, AuthReason, Authentication, DisconnectReason, Secret};
use paloma_session::{Monotonic, Now};

use super::Broker;
use crate::auth::{Admission, AuthOutcome, AuthRequest};
use crate::connection::{Asked, ConnectionId, Open, Phase, Renewal};
use crate::effect::{CloseCause, Effect};
use crate::principal::Principal;
use crate::session::SessionKey;

/// How long a renewal waits for another authentication of the same client.
const RENEWAL_AGAIN: Duration = Duration::from_secs(1);

impl Renewal {
    /// When `admission` has to be renewed, with the request that it was given for.
    pub(crate) fn of(
        now: Now,
        admission: &Admission,
        request: impl FnOnce() -> Box<AuthRequest>,
    ) -> Option<Box<Self>> {
        let valid_for = admission.valid_for?;
        let until = now.monotonic.saturating_add(valid_for);
        // Asked early enough for the answer to be here when the word runs out, but never at once again.
        let early = (valid_for / 10).min(Admission::RENEWAL_WAIT);
        let ask_at = now
            .monotonic
            .saturating_add(valid_for.saturating_sub(early));
        Some(Box::new(Self {
            ask_at,
            until,
            request: request(),
        }))
    }
}

impl Broker {
    /// AUTH from a client that is connected.
    pub(super) fn handle_reauthentication(
        &mut self,
        id: ConnectionId,
        key: SessionKey,
        auth: Auth,
    ) {
        let (Some(entry), Some(session)) =
            (self.connections.get_mut(id.key()), self.sessions.get(key))
        else {
            return;
        };
        let (Phase::Open(open), Some(named)) = (&mut entry.phase, auth.authentication) else {
            return;
        };
        let request = Box::new(AuthRequest {
            connection: id,
            info: entry.origin.info(),
            version: open.protocol.version(),
            client_id: session.principal.client_id(),
            username: session.principal.identity.user.clone(),
            password: None,
            method: Some((named.method, named.data.unwrap_or_default())),
        });
        if open.asked == Asked::Renewal {
            open.waiting = Some(request); // One question at a time, or nobody knows whose answer it is.
            return;
        }
        open.asked = Asked::Reauthentication;
        self.effects.push_back(Effect::Authenticate(id, request));
    }

    /// The admission of an open connection runs out: the authenticator is asked, or has not answered in time.
    /// False if the connection ended over it.
    pub(super) fn renew_admission(&mut self, now: Now, id: ConnectionId) -> bool {
        let Some(entry) = self.connections.get_mut(id.key()) else {
            return false;
        };
        let Phase::Open(open) = &mut entry.phase else {
            return false;
        };
        let Some(renewal) = &mut open.renewal else {
            return true;
        };
        if renewal.until <= now.monotonic {
            let reason = Some(DisconnectReason::NotAuthorized);
            self.end_open(now, id, CloseCause::Refused, reason);
            return false;
        }
        if renewal.ask_at > now.monotonic {
            return true;
        }
        if open.asked != Asked::Nothing {
            // One question at a time: this one when the other is answered, and no timer that is always due.
            let later = now.monotonic.saturating_add(RENEWAL_AGAIN);
            renewal.ask_at = later.min(renewal.until);
            return true;
        }
        open.asked = Asked::Renewal;
        renewal.ask_at = renewal.until;
        let request = renewal.request.clone();
        self.effects.push_back(Effect::Authenticate(id, request));
        true
    }

    /// What the authenticator goes by has changed: everybody whom it let in for a time is asked about again, as if that time
    /// were over. Who is refused is sent away; no answer changes nothing until the time really is over.
    pub fn renew_admissions(&mut self, now: Now) {
        let ids: Vec<ConnectionId> = self
            .sessions
            .iter()
            .filter_map(|(_, session)| session.connection)
            .collect();
        for id in ids {
            let renewal = self.open_mut(id).and_then(|open| open.renewal.as_mut());
            if let Some(renewal) = renewal {
                renewal.ask_at = renewal.ask_at.min(now.monotonic);
                self.arm_open(id);
            }
        }
    }

    /// The authenticator has decided on an open connection. Nobody becomes somebody else on the way.
    /// [MQTT-4.12.1-2]
    pub(super) fn handle_renewed(&mut self, now: Now, id: ConnectionId, outcome: AuthOutcome) {
        let Some(asked) = self.take_asked(id) else {
            return;
        };
        match outcome {
            AuthOutcome::Allow(admission) if self.is_owner(id, &admission) => {
                let data = admission.data.clone();
                self.prolong(now, id, *admission);
                if asked == Asked::Reauthentication {
                    self.send_auth(now, id, AuthReason::Success, data);
                }
            }
            AuthOutcome::Continue(data) if asked == Asked::Reauthentication => {
                self.send_auth(now, id, AuthReason::ContinueAuthentication, Some(data));
            }
            AuthOutcome::Allow(_) | AuthOutcome::Continue(_) | AuthOutcome::Deny(_) => {
                let reason = Some(DisconnectReason::NotAuthorized);
                self.end_open(now, id, CloseCause::Refused, reason);
            }
        }
        self.ask_waiting(id);
    }

    pub(super) fn open_mut(&mut self, id: ConnectionId) -> Option<&mut Open> {
        match &mut self.connections.get_mut(id.key())?.phase {
            Phase::Open(open) => Some(open),
            Phase::Handshake(_) | Phase::Authenticating(_) | Phase::Closing(_) => None,
        }
    }

    fn take_asked(&mut self, id: ConnectionId) -> Option<Asked> {
        let open = self.open_mut(id)?;
        Some(std::mem::replace(&mut open.asked, Asked::Nothing))
    }

    fn ask_waiting(&mut self, id: ConnectionId) {
        if let Some(open) = self.open_mut(id)
            && let Some(request) = open.waiting.take()
        {
            open.asked = Asked::Reauthentication;
            self.effects.push_back(Effect::Authenticate(id, request));
        }
    }

    fn is_owner(&self, id: ConnectionId, admission: &Admission) -> bool {
        let entry = self.connections.get(id.key());
        let session = entry.and_then(|entry| match &entry.phase {
            Phase::Open(open) => self.sessions.get(open.session),
            Phase::Handshake(_) | Phase::Authenticating(_) | Phase::Closing(_) => None,
        });
        session.is_some_and(|session| session.principal.identity == admission.identity)
    }

    /// A newer admission takes the place of the last one.
    fn prolong(&mut self, now: Now, id: ConnectionId, admission: Admission) {
        let Some(open) = self.open_mut(id) else {
            return;
        };
        let key = open.session;
        let earlier = open.renewal.take();
        open.renewal = earlier.and_then(|earlier| Renewal::of(now, &admission, || earlier.request));
        if let Some(session) = self.sessions.get(key) {
            let principal = Principal {
                client_id: session.principal.client_id.clone(),
                identity: admission.identity,
                rules: admission.rules,
                mount: session.principal.mount.clone(),
                is_local: session.principal.is_local,
            };
            self.change_principal(key, Arc::new(principal));
        }
        self.arm_open(id);
    }

    fn send_auth(&mut self, now: Now, id: ConnectionId, reason: AuthReason, data: Option<Secret>) {
        let Some(open) = self.open_mut(id) else {
            return;
        };
        let method = open.protocol.authentication_method();
        let authentication = Some(Authentication { method, data });
        let auth = Auth {
            reason,
            authentication,
            ..Auth::default()
        };
        if open.protocol.authenticate(auth).is_ok() {
            self.mark_transmit(id);
        } else {
            let reason = Some(DisconnectReason::UnspecifiedError);
            self.end_open(now, id, CloseCause::Refused, reason);
        }
    }
}

/// The earlier of two times that may not come.
pub(super) fn earlier(one: Option<Monotonic>, other: Option<Monotonic>) -> Option<Monotonic> {
    one.into_iter().chain(other).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Identity;
    use crate::connection::ConnectionInfo;
    use paloma_codec::ProtocolVersion;
    use paloma_session::Wall;

    fn check(valid_for: Duration, asked_after: Duration) {
        let now = Now::new(Monotonic::from_millis(5_000), Wall::default());
        let admission = Admission {
            valid_for: Some(valid_for),
            ..Admission::of(Identity::ANONYMOUS)
        };
        let request = || {
            Box::new(AuthRequest {
                connection: ConnectionId::from_key(crate::slab::Key::from_parts(0, 0)),
                info: ConnectionInfo::default(),
                version: ProtocolVersion::V5,
                client_id: "c".into(),
                username: None,
                password: None,
                method: None,
            })
        };
        let renewal = Renewal::of(now, &admission, request).unwrap();
        assert_eq!(renewal.ask_at, now.monotonic.saturating_add(asked_after));
        assert_eq!(renewal.until, now.monotonic.saturating_add(valid_for));
    }

    #[test]
    fn an_admission_is_renewed_a_tenth_before_its_end_and_ten_seconds_at_most() {
        check(Duration::from_secs(20), Duration::from_secs(18));
        check(Duration::from_secs(3_600), Duration::from_secs(3_590));
    }
}
