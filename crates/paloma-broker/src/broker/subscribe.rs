//! SUBSCRIBE and UNSUBSCRIBE: each filter is judged alone.

use bytestring::ByteString;
use paloma_codec::{
    Qos, SubAck, SubAckReason, Subscribe, SubscribeFilter, SubscribeOptions, SubscriptionId,
    UnsubAck, UnsubAckReason, Unsubscribe,
};
use paloma_session::Gate;
use paloma_topic::{Cursor, Fault, FilterId, ShareName, Target, TopicFilter};

use super::Broker;
use crate::auth::Grant;
use crate::connection::{ConnectionId, Phase};
use crate::mount::MountPoint;
use crate::retained::Replay;
use crate::session::SessionKey;
use crate::shared::Left;
use crate::store::{StoreOp, SubscriptionRecord};
use crate::subscriptions::{Subscription, wants_retained};

impl Broker {
    /// [MQTT-3.8.4-5]
    pub(super) fn handle_subscribe(
        &mut self,
        id: ConnectionId,
        key: SessionKey,
        subscribe: &Subscribe,
    ) {
        let mut is_stored = false;
        let mut reasons: Vec<_> = subscribe
            .filters
            .iter()
            .map(|filter| {
                let id = subscribe.subscription_id;
                let reason = self.subscribe_one(key, filter, id, &mut is_stored);
                self.trace_subscribe(key, &filter.target, reason);
                reason
            })
            .collect();
        // What `filters_per_subscribe_max` left out. [MQTT-3.8.4-6]
        let excess = subscribe.filters_excess as usize;
        reasons.extend(std::iter::repeat_n(SubAckReason::QuotaExceeded, excess));
        let gate = if is_stored {
            self.commits.gate()
        } else {
            Gate::Open
        };
        if let Some(entry) = self.connections.get_mut(id.key())
            && let Phase::Open(open) = &mut entry.phase
        {
            open.protocol
                .answer_subscribe(SubAck::new(subscribe.id, reasons), gate);
        }
        self.answered(id, is_stored);
    }

    /// [MQTT-3.2.2-10] [MQTT-3.8.4-4] [PALOMA-5.0-shared-retained]
    fn subscribe_one(
        &mut self,
        key: SessionKey,
        wanted: &SubscribeFilter,
        id: Option<SubscriptionId>,
        is_stored: &mut bool,
    ) -> SubAckReason {
        let Some(session) = self.sessions.get(key) else {
            return SubAckReason::UnspecifiedError;
        };
        let Some(wanted) = session.principal.mount.filter(wanted) else {
            return SubAckReason::TopicFilterInvalid;
        };
        let wanted = &*wanted;
        let filter = wanted.target.filter();
        let granted = session
            .principal
            .grant(&*self.authorizer, filter.borrowed());
        if granted.0 == Grant::Denied {
            return SubAckReason::NotAuthorized;
        }
        let held = session.filters.len() + session.groups.len();
        let levels = session
            .wildcard_levels
            .saturating_add(wildcard_levels(filter));
        let is_full = held >= self.limits.subscriptions_per_client_max as usize
            || levels > self.limits.wildcard_levels_per_client_max
            || self.is_full();
        if is_full && !self.is_subscribed(key, &wanted.target) {
            return SubAckReason::QuotaExceeded;
        }
        let mut options = wanted.options;
        options.qos = options
            .qos
            .min(Qos::from_bits(self.limits.qos_max).unwrap_or_default());
        let subscription = Subscription::new(key, &options, id, granted);
        match &wanted.target {
            Target::Plain(filter) => {
                let (filter_id, replaced) = self.add_subscription(filter, subscription);
                if wants_retained(options.retain_handling, replaced) {
                    let (filter, cursor) = (filter.clone(), Cursor::default());
                    self.begin_replay(
                        key,
                        filter_id,
                        Replay {
                            filter,
                            cursor,
                            qos: options.qos,
                            id,
                            granted,
                        },
                    );
                }
            }
            // No retained messages for these: whoever gets them would get them in the others' stead.
            Target::Shared { share, filter } => self.join_group(share, filter, subscription),
        }
        *is_stored |= self.store_subscription(key, wanted, &options, id);
        SubAckReason::granted(options.qos)
    }

    /// Says under which id it is, and whether there was one before.
    pub(super) fn add_subscription(
        &mut self,
        filter: &TopicFilter,
        subscription: Subscription,
    ) -> (FilterId, bool) {
        let (id, replaced) = self.subscriptions.insert(filter.borrowed(), subscription);
        if let Some(session) = self.sessions.get_mut(subscription.session)
            && !replaced
        {
            session.filters.push(id);
            let levels = wildcard_levels(filter);
            session.wildcard_levels = session.wildcard_levels.saturating_add(levels);
        }
        (id, replaced)
    }

    pub(super) fn join_group(
        &mut self,
        share: &ShareName,
        filter: &TopicFilter,
        member: Subscription,
    ) {
        let joined = self.groups.join(share, filter, member);
        if joined.is_new_group {
            self.subscriptions.add_group(filter.borrowed(), joined.key);
        }
        if let Some(session) = self.sessions.get_mut(member.session)
            && !joined.replaced
        {
            session.groups.push(joined.key);
            let levels = wildcard_levels(filter);
            session.wildcard_levels = session.wildcard_levels.saturating_add(levels);
        }
    }

    /// Says whether the session is one whose subscriptions are stored.
    fn store_subscription(
        &mut self,
        key: SessionKey,
        wanted: &SubscribeFilter,
        options: &SubscribeOptions,
        id: Option<SubscriptionId>,
    ) -> bool {
        let Some(session) = self
            .sessions
            .get(key)
            .filter(|session| session.is_durable())
        else {
            return false;
        };
        let filter = ByteString::from(wanted.target.to_string());
        let record = SubscriptionRecord {
            filter,
            options: options.bits(),
            id,
        };
        if !Fault::SubscriptionNotStored.is_on() {
            self.commits
                .push(StoreOp::PutSubscription(session.id, record));
        }
        true
    }

    fn is_subscribed(&self, key: SessionKey, target: &Target) -> bool {
        match target {
            Target::Plain(filter) => self.subscriptions.contains(filter.borrowed(), key),
            Target::Shared { share, filter } => {
                let group = self.groups.find(share, filter);
                self.sessions
                    .get(key)
                    .zip(group)
                    .is_some_and(|(session, group)| session.groups.contains(&group))
            }
        }
    }

    /// [MQTT-3.10.4-6]
    pub(super) fn handle_unsubscribe(
        &mut self,
        id: ConnectionId,
        key: SessionKey,
        unsubscribe: &Unsubscribe,
    ) {
        let mut is_stored = false;
        let mut reasons = Vec::with_capacity(unsubscribe.filters.len());
        let mount = self
            .sessions
            .get(key)
            .map_or_else(MountPoint::default, |session| {
                session.principal.mount.clone()
            });
        for target in &unsubscribe.filters {
            let Some(target) = mount.target(target) else {
                reasons.push(UnsubAckReason::NoSubscriptionExisted);
                continue;
            };
            let target = &*target;
            let was_there = self.unsubscribe_one(key, target);
            reasons.push(if was_there {
                UnsubAckReason::Success
            } else {
                UnsubAckReason::NoSubscriptionExisted
            });
            if was_there
                && let Some(session) = self
                    .sessions
                    .get(key)
                    .filter(|session| session.is_durable())
            {
                let filter = ByteString::from(target.to_string());
                self.commits
                    .push(StoreOp::DeleteSubscription(session.id, filter));
                is_stored = true;
            }
        }
        let gate = if is_stored {
            self.commits.gate()
        } else {
            Gate::Open
        };
        if let Some(entry) = self.connections.get_mut(id.key())
            && let Phase::Open(open) = &mut entry.phase
        {
            open.protocol
                .answer_unsubscribe(UnsubAck::new(unsubscribe.id, reasons), gate);
        }
        self.answered(id, is_stored);
    }

    /// [MQTT-3.10.4-2] [MQTT-3.10.4-3]
    fn unsubscribe_one(&mut self, key: SessionKey, target: &Target) -> bool {
        let Some(session) = self.sessions.get_mut(key) else {
            return false;
        };
        match target {
            Target::Plain(filter) => {
                let Some(id) = self.subscriptions.id(filter.borrowed()) else {
                    return false;
                };
                if Fault::UnsubscribeForgotten.is_on() {
                    return session.filters.contains(&id);
                }
                if !self.subscriptions.remove(id, key) {
                    return false;
                }
                if let Some(at) = session.filters.iter().rposition(|other| *other == id) {
                    session.filters.swap_remove(at);
                }
                session.drop_levels(wildcard_levels(filter));
                session.replays.remove(&id);
                true
            }
            Target::Shared { share, filter } => {
                let Some(group) = self.groups.find(share, filter) else {
                    return false;
                };
                let held = session.groups.len();
                session.groups.retain(|other| *other != group);
                if session.groups.len() < held {
                    session.drop_levels(wildcard_levels(filter));
                }
                match self.groups.leave(group, key) {
                    Left::NotAMember => false,
                    Left::Member => true,
                    Left::LastMember(filter) => {
                        self.subscriptions.remove_group(filter.borrowed(), group);
                        true
                    }
                }
            }
        }
    }

    /// An answer was queued: it is sent now or with this turn's commit.
    pub(super) fn answered(&mut self, id: ConnectionId, is_stored: bool) {
        if is_stored {
            self.commits.wait(id);
        }
        self.mark_transmit(id);
    }
}

/// What a filter adds to the cost of each match: a filter without wildcards is found by one lookup with all others.
fn wildcard_levels(filter: &TopicFilter) -> u32 {
    let filter = filter.borrowed();
    if filter.has_wildcard() {
        u32::try_from(filter.levels().count()).unwrap_or(u32::MAX)
    } else {
        0
    }
}
