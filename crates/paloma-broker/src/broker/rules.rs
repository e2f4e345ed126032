//! Rules change: what was granted is asked for again, and what waits is looked through.

use std::sync::Arc;

use paloma_codec::{PacketId, Qos};
use paloma_session::{Now, Outbound};
use paloma_topic::{Fault, TopicFilterRef};

use super::Broker;
use super::publish::Outcome;
use crate::accounting::DropCause;
use crate::auth::Action;
use crate::connection::Phase;
use crate::principal::Principal;
use crate::session::SessionKey;
use crate::store::{MessageId, StoreOp};
use crate::tag::Tag;

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
            *steps = steps.saturating_sub(self.regrant(key).max(1));
        }
    }

    /// The session acts for `principal` from here on.
    pub(super) fn change_principal(&mut self, key: SessionKey, principal: Arc<Principal>) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let is_same = session.principal.has_rules_of(&principal);
        session.principal = principal;
        self.subscriptions.note_changed_session();
        if !is_same {
            self.regrant(key);
            self.purge(key);
        }
    }

    /// Asks the rules again about every subscription of the session, and about the retained messages that are under way
    /// for it. Says how many steps that took.
    fn regrant(&mut self, key: SessionKey) -> usize {
        let Self {
            sessions,
            subscriptions,
            groups,
            authorizer,
            ..
        } = self;
        let Some(session) = sessions.get_mut(key) else {
            return 0;
        };
        let replays = session.rare.iter_mut();
        for replay in replays.flat_map(|rare| rare.replays.values_mut()) {
            let filter = replay.filter.borrowed();
            replay.granted = session.principal.grant(&**authorizer, filter);
        }
        let mut steps = session.filters.len();
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
        for group in session.groups() {
            if let Some(group) = groups.get_mut(*group) {
                let granted = session
                    .principal
                    .grant(&**authorizer, group.filter.borrowed());
                steps += group.members.len();
                let members = group.members.iter_mut();
                for member in members.filter(|member| member.session == key) {
                    member.set_granted(granted);
                }
            }
        }
        steps
    }

    /// Looks through what waits for the session if the rules have changed since they were last asked: what they forbid
    /// now is not delivered.
    pub(super) fn purge_if_stale(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let epoch = session.principal.epoch(&*self.authorizer);
        if session.checked_epoch != epoch && !Fault::RulesSkippedInQueue.is_on() {
            self.purge(key);
        }
    }

    fn purge(&mut self, key: SessionKey) {
        let Self {
            sessions,
            connections,
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
        let mut released = Vec::new();
        if let Some(id) = session.connection
            && let Some(entry) = connections.get_mut(id.key())
            && let Phase::Open(open) = &mut entry.phase
        {
            open.protocol.withhold_replay(
                &mut session.protocol,
                is_forbidden,
                |outbound| forbidden.push(outbound),
                |id, outbound| released.push((id, outbound)),
            );
        }
        self.withhold(key, forbidden);
        self.store_released(key, released);
    }

    /// A session is about to be resumed: what its client was sent and may not have is asked about again. A QoS 2
    /// message that the client may have begun to take in is ended with PUBREL alone, so that its id is free on both sides.
    pub(super) fn purge_flights(&mut self, key: SessionKey) {
        let Self {
            sessions,
            authorizer,
            ..
        } = self;
        let Some(session) = sessions.get_mut(key) else {
            return;
        };
        let principal = Arc::clone(&session.principal);
        let is_forbidden = |outbound: &Outbound| {
            !Fault::RulesSkippedOnReplay.is_on()
                && !principal.may(&**authorizer, Action::Read, outbound.message().topic())
        };
        let (mut forbidden, mut released) = (Vec::new(), Vec::new());
        session.protocol.take_flights(
            |outbound| outbound.qos() != Qos::ExactlyOnce && is_forbidden(outbound),
            |outbound| forbidden.push(outbound),
        );
        session
            .protocol
            .release_flights(is_forbidden, |id, outbound| released.push((id, outbound)));
        self.withhold(key, forbidden);
        self.store_released(key, released);
    }

    /// Deliveries of which only PUBREL is owed from here on.
    fn store_released(&mut self, key: SessionKey, released: Vec<(PacketId, Outbound)>) {
        for (packet, outbound) in released {
            if Tag::unpack(outbound.share()).is_stored {
                let message = MessageId(outbound.message().id());
                self.push_for(key, |session| {
                    StoreOp::MarkReceived(session, message, packet)
                });
            }
        }
    }

    /// What a session may not have leaves it; a shared message goes to a member of its group who may.
    pub(super) fn withhold(&mut self, key: SessionKey, forbidden: Vec<Outbound>) {
        for outbound in forbidden {
            self.forget_copy(key, &outbound);
            let cause = DropCause::NotAuthorized;
            self.trace_dropped(key, outbound.message(), cause);
            self.hand_on_or_drop(&outbound, true, cause, &mut Outcome::default());
        }
    }
}
