//! A client proves again who it is while its connection stays open. [MQTT-4.12.1-1]

use paloma_codec::{Auth, AuthReason, Authentication, DisconnectReason, Secret};
use paloma_session::Now;

use super::Broker;
use crate::auth::{AuthOutcome, AuthRequest, Identity};
use crate::connection::{ConnectionId, Phase};
use crate::effect::{CloseCause, Effect};
use crate::session::SessionKey;

impl Broker {
    pub(super) fn handle_reauthentication(
        &mut self,
        id: ConnectionId,
        key: SessionKey,
        auth: Auth,
    ) {
        let (Some(entry), Some(session)) = (self.connections.get(id.key()), self.sessions.get(key))
        else {
            return;
        };
        let (Phase::Open(open), Some(named)) = (&entry.phase, auth.authentication) else {
            return;
        };
        let request = AuthRequest {
            info: entry.info.clone(),
            version: open.protocol.version(),
            client_id: session.client_id.clone(),
            username: session.owner.user.clone(),
            password: None,
            method: Some((named.method, named.data.unwrap_or_default())),
        };
        self.effects
            .push_back(Effect::Authenticate(id, Box::new(request)));
    }

    /// The authenticator has decided on an open connection. Nobody becomes somebody else on the way.
    /// [MQTT-4.12.1-2]
    pub(super) fn finish_reauthentication(
        &mut self,
        now: Now,
        id: ConnectionId,
        outcome: AuthOutcome,
    ) {
        match outcome {
            AuthOutcome::Allow(identity) if self.is_owner(id, &identity) => {
                self.send_auth(now, id, AuthReason::Success, None);
            }
            AuthOutcome::Continue(data) => {
                self.send_auth(now, id, AuthReason::ContinueAuthentication, Some(data));
            }
            AuthOutcome::Allow(_) | AuthOutcome::Deny(_) => {
                let reason = Some(DisconnectReason::NotAuthorized);
                self.end_open(now, id, CloseCause::Refused, reason);
            }
        }
    }

    fn is_owner(&self, id: ConnectionId, identity: &Identity) -> bool {
        let entry = self.connections.get(id.key());
        let session = entry.and_then(|entry| match &entry.phase {
            Phase::Open(open) => self.sessions.get(open.session),
            Phase::Handshake(_) | Phase::Authenticating(_) | Phase::Closing(_) => None,
        });
        session.is_some_and(|session| session.owner == *identity)
    }

    fn send_auth(&mut self, now: Now, id: ConnectionId, reason: AuthReason, data: Option<Secret>) {
        let Some(entry) = self.connections.get_mut(id.key()) else {
            return;
        };
        let Phase::Open(open) = &mut entry.phase else {
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
