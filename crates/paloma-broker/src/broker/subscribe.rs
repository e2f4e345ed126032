//! One filter of a SUBSCRIBE or an UNSUBSCRIBE: each is judged alone.

use bytestring::ByteString;
use paloma_codec::{Qos, SubAckReason, SubscribeFilter, SubscriptionId, UnsubAckReason};
use paloma_topic::{Fault, FilterId, ShareName, Target, TopicFilter};

use super::Broker;
use crate::auth::Grant;
use crate::connection::ConnectionId;
use crate::retained::Replay;
use crate::session::SessionKey;
use crate::shared::Left;
use crate::store::{StoreOp, SubscriptionRecord};
use crate::subscriptions::{Subscription, wants_retained};

impl Broker {
    /// Subscribes to one of a SUBSCRIBE's filters. [MQTT-3.8.4-5]
    pub(super) fn subscribe_to(
        &mut self,
        key: SessionKey,
        filter: &SubscribeFilter,
        id: Option<SubscriptionId>,
        is_stored: &mut bool,
    ) -> SubAckReason {
        let reason = self.subscribe_one(key, filter, id, is_stored);
        self.trace_subscribe(key, &filter.target, reason);
        reason
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
        let held = session.filters.len() + session.groups().len();
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
        let mut replay_after = None;
        match &wanted.target {
            Target::Plain(filter) => {
                let (filter_id, replaced) = self.add_subscription(filter, subscription);
                if wants_retained(options.retain_handling, replaced) {
                    let replay = Replay::new(filter.clone(), options, id, granted);
                    self.begin_replay(key, filter_id, replay);
                } else {
                    replay_after = self.change_replay(key, filter_id, (options, id, granted));
                }
            }
            // No retained messages for these: whoever gets them would get them in the others' stead.
            Target::Shared { share, filter } => self.join_group(share, filter, subscription),
        }
        *is_stored |= self.store_subscription(key, &wanted.target, |filter| SubscriptionRecord {
            filter,
            options: options.bits(),
            id,
            replay_after,
        });
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
            session.rare_mut().groups.push(joined.key);
            let levels = wildcard_levels(filter);
            session.wildcard_levels = session.wildcard_levels.saturating_add(levels);
        }
    }

    /// Says whether the session is one whose subscriptions are stored.
    fn store_subscription(
        &mut self,
        key: SessionKey,
        target: &Target,
        record_of: impl FnOnce(ByteString) -> SubscriptionRecord,
    ) -> bool {
        let Some(session) = self
            .sessions
            .get(key)
            .filter(|session| session.is_durable())
        else {
            return false;
        };
        let record = record_of(ByteString::from(target.to_string()));
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
                    .is_some_and(|(session, group)| session.groups().contains(&group))
            }
        }
    }

    /// Unsubscribes from one of an UNSUBSCRIBE's filters. [MQTT-3.10.4-6]
    pub(super) fn unsubscribe_from(
        &mut self,
        key: SessionKey,
        target: &Target,
        is_stored: &mut bool,
    ) -> UnsubAckReason {
        let session = self.sessions.get(key);
        let target = session.and_then(|session| session.principal.mount.target(target));
        let Some(target) = target else {
            return UnsubAckReason::NoSubscriptionExisted;
        };
        if !self.unsubscribe_one(key, &target) {
            return UnsubAckReason::NoSubscriptionExisted;
        }
        let session = self.sessions.get(key);
        if let Some(session) = session.filter(|session| session.is_durable()) {
            let filter = ByteString::from(target.to_string());
            self.commits
                .push(StoreOp::DeleteSubscription(session.id, filter));
            *is_stored = true;
        }
        UnsubAckReason::Success
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
                session.forget_replay(id);
                true
            }
            Target::Shared { share, filter } => {
                let Some(group) = self.groups.find(share, filter) else {
                    return false;
                };
                let mut groups = session.groups().iter();
                if let Some(at) = groups.rposition(|other| *other == group) {
                    session.rare_mut().groups.remove(at);
                    session.tidy();
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
