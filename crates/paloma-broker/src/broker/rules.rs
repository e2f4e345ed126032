//! Rules change: what was granted is asked for again, and what waits is looked through.

use std::sync::Arc;

use paloma_codec::Qos;
use paloma_session::{Now, Outbound};
use paloma_topic::TopicFilterRef;

use super::Broker;
use crate::accounting::DropCause;
use crate::auth::Action;
use crate::principal::Principal;
use crate::session::SessionKey;

impl Broker {
    /// The authorizer's rules have changed, and its epoch with them. Nothing is delivered from here on that the new rules
    /// forbid: what was granted under the old ones is checked message by message until it is granted again, a part each
    /// turn.
    pub fn handle_rules_changed(&mut self, _now: Now) {
        self.regranting.clear();
        self.regranting
            .extend(self.sessions.iter().map(|(key, _)| key));
    }

    /// Goes on with granting subscriptions anew, `steps` of them far.
    pub(super) fn run_regrants(&mut self, steps: &mut usize) {
        while *steps > 0
            && let Some(key) = self.regranting.pop_front()
        {
            let count = self
                .sessions
                .get(key)
                .map_or(0, |session| session.filters.len());
            *steps = steps.saturating_sub(count.max(1));
            self.regrant(key);
        }
    }

    /// The session acts for `principal` from here on.
    pub(super) fn change_principal(&mut self, key: SessionKey, principal: Arc<Principal>) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let is_same = session.principal.has_rules_of(&principal);
        session.principal = principal;
        if !is_same {
            self.regrant(key);
            self.purge(key);
        }
    }

    /// Asks the rules again about every subscription of the session.
    fn regrant(&mut self, key: SessionKey) {
        let Self {
            sessions,
            subscriptions,
            groups,
            authorizer,
            ..
        } = self;
        let Some(session) = sessions.get(key) else {
            return;
        };
        let mut text = String::new();
        for id in &session.filters {
            text.clear();
            if subscriptions.write_filter(*id, &mut text)
                && let Ok(filter) = TopicFilterRef::new(&text)
                && let Some(subscription) = subscriptions.get_mut(*id, key)
            {
                subscription.set_granted(session.principal.grant(&**authorizer, filter));
            }
        }
        for group in &session.groups {
            if let Some(group) = groups.get_mut(*group) {
                let granted = session
                    .principal
                    .grant(&**authorizer, group.filter.borrowed());
                let members = group.members.iter_mut();
                for member in members.filter(|member| member.session == key) {
                    member.set_granted(granted);
                }
            }
        }
    }

    /// Looks through what waits for the session if the rules have changed since they were last asked: what they forbid
    /// now is not delivered.
    pub(super) fn purge_if_stale(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let epoch = session.principal.epoch(&*self.authorizer);
        if session.checked_epoch != epoch {
            self.purge(key);
        }
    }

    fn purge(&mut self, key: SessionKey) {
        let Self {
            sessions,
            authorizer,
            ..
        } = self;
        let Some(session) = sessions.get_mut(key) else {
            return;
        };
        session.checked_epoch = session.principal.epoch(&**authorizer);
        let principal = Arc::clone(&session.principal);
        let is_forbidden = |outbound: &Outbound| {
            !principal.may(&**authorizer, Action::Read, outbound.message().topic())
        };
        let mut forbidden = Vec::new();
        session
            .protocol
            .take_queued(is_forbidden, |outbound| forbidden.push(outbound));
        if session.connection.is_none() {
            // What a client may have begun to take in at QoS 2 is finished; nothing else is sent again.
            let is_forbidden =
                |outbound: &Outbound| outbound.qos() != Qos::ExactlyOnce && is_forbidden(outbound);
            session
                .protocol
                .take_flights(is_forbidden, |outbound| forbidden.push(outbound));
        }
        for outbound in forbidden {
            self.drop_copy(key, &outbound, DropCause::NotAuthorized);
        }
    }
}
