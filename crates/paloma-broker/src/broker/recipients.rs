//! Who gets a message: the sessions whose filters match, each once, and one member of each group.

use std::num::NonZeroU32;

use paloma_codec::{Qos, SubscriptionId};
use paloma_topic::{Fault, TopicNameRef};

use super::Broker;
use crate::accounting::DropCause;
use crate::session::SessionKey;
use crate::shared::{GroupKey, Readiness};

/// One session that a message is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recipient {
    pub(super) session: SessionKey,
    /// The highest QoS of its matching subscriptions. [MQTT-3.3.4-2]
    pub(super) qos: Qos,
    pub(super) retain_as_published: bool,
    pub(super) id: Option<SubscriptionId>,
    /// More identifiers stand in [`Recipients::more_ids`].
    pub(super) has_more_ids: bool,
    pub(super) share: Option<NonZeroU32>,
    /// It gets another copy of the same message, so that this one has no place of its own in the store.
    pub(super) is_second_copy: bool,
}

/// The sessions that one message is for, each once however many of its filters match. Kept between messages for its
/// allocations.
#[derive(Debug, Default)]
pub(super) struct Recipients {
    pub(super) list: Vec<Recipient>,
    pub(super) more_ids: Vec<(SessionKey, SubscriptionId)>,
    groups: Vec<GroupKey>,
    routing: u64,
    /// Whose recipients these are, if the next message may be for the same.
    route: Option<Route>,
    /// The route's topic.
    topic: String,
}

/// What recipients depend on besides the topic: the publisher, the subscriptions, and everybody's rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Route {
    origin: Option<SessionKey>,
    version: u64,
    epoch: u16,
}

impl Broker {
    /// Fills `self.recipients` with everybody whom a message on `topic` is for. A publisher that names its last topic
    /// again costs no matching, unless groups are among them, who take turns.
    #[inline]
    pub(super) fn collect_recipients(
        &mut self,
        topic: TopicNameRef<'_>,
        origin: Option<SessionKey>,
    ) {
        let route = Route {
            origin,
            version: self.subscriptions.version(),
            epoch: self.authorizer.epoch(),
        };
        if self.recipients.route == Some(route) && self.recipients.topic == topic.as_str() {
            return;
        }
        self.collect_anew(topic, route);
    }

    fn collect_anew(&mut self, topic: TopicNameRef<'_>, route: Route) {
        let follow_everybodys_rules = self.match_recipients(topic, route.origin);
        let recipients = &mut self.recipients;
        if !recipients.groups.is_empty() {
            self.choose_group_members(topic);
        } else if follow_everybodys_rules {
            recipients.route = Some(route);
            recipients.topic.clear();
            recipients.topic.push_str(topic.as_str());
        }
    }

    /// The same without shared subscriptions. Says whether all subscribers follow everybody's rules, whose epoch tells of
    /// changes. [MQTT-3.3.2-3] [MQTT-4.5.0-1]
    pub(super) fn match_recipients(
        &mut self,
        topic: TopicNameRef<'_>,
        origin: Option<SessionKey>,
    ) -> bool {
        let mut follow_everybodys_rules = true;
        let Self {
            subscriptions,
            sessions,
            recipients,
            authorizer,
            notices,
            ..
        } = self;
        recipients.clear();
        subscriptions.for_each_match(topic, |subscribers| {
            recipients.groups.extend_from_slice(subscribers.groups());
            for subscription in subscribers.plain() {
                let is_own = origin == Some(subscription.session);
                if subscription.no_local() && is_own && !Fault::NoLocalIgnored.is_on() {
                    continue; // [MQTT-3.8.3-3]
                }
                let Some(session) = sessions.get_mut(subscription.session) else {
                    continue;
                };
                follow_everybodys_rules &= session.principal.follows_everybody();
                let granted = subscription.granted();
                if session.principal.may_receive(&**authorizer, granted, topic) {
                    recipients.add(&mut session.routed, subscription);
                } else {
                    notices.traces.note_denied(&session.principal, topic);
                }
            }
        });
        follow_everybodys_rules
    }

    fn choose_group_members(&mut self, topic: TopicNameRef<'_>) {
        let mut groups = std::mem::take(&mut self.recipients.groups);
        for key in groups.drain(..) {
            self.choose_group_member(key, topic);
            if Fault::GroupGetsTwo.is_on() {
                self.choose_group_member(key, topic);
            }
        }
        self.recipients.groups = groups;
    }

    /// Adds the member of one group who gets the message. [MQTT-4.8.2-3] [PALOMA-5.0-shared-one-member]
    pub(super) fn choose_group_member(&mut self, key: GroupKey, topic: TopicNameRef<'_>) {
        let Self {
            groups,
            sessions,
            recipients,
            authorizer,
            accounting,
            ..
        } = self;
        let Some(group) = groups.get_mut(key) else {
            return;
        };
        let number = group.number;
        let chosen = group.choose(|member| {
            let Some(session) = sessions.get(member.session) else {
                return Readiness::Gone;
            };
            if !session
                .principal
                .may_receive(&**authorizer, member.granted(), topic)
            {
                Readiness::Gone
            } else if session.connection.is_none() {
                Readiness::Absent
            } else {
                let window = session.window_maximum.max(1);
                let load = session.queued() * 256 / u64::from(window);
                if session.queued() < u64::from(window) {
                    Readiness::Ready { load }
                } else {
                    Readiness::Busy { load }
                }
            }
        });
        let Some(member) = chosen else {
            accounting.copies += 1;
            accounting.count_drop(DropCause::NoGroupMember);
            return;
        };
        let Some(session) = sessions.get_mut(member.session) else {
            return;
        };
        let is_second_copy = session.routed.0 == recipients.routing;
        session.routed = (recipients.routing, u32::MAX);
        recipients.list.push(Recipient {
            session: member.session,
            qos: member.qos(),
            retain_as_published: member.retain_as_published(),
            id: member.id,
            has_more_ids: false,
            share: Some(number),
            is_second_copy,
        });
    }
}

impl Recipients {
    /// The list was taken: it is no longer that of the route.
    pub(super) fn forget_route(&mut self) {
        self.route = None;
    }

    /// Begins a new routing.
    pub(super) fn clear(&mut self) {
        self.list.clear();
        self.more_ids.clear();
        self.groups.clear();
        self.route = None;
        self.routing += 1;
    }

    /// Adds a session, or what another matching filter of the same session brings: one copy at the highest QoS with
    /// all identifiers. [MQTT-3.3.4-2] [MQTT-3.3.4-3] [MQTT-3.3.4-4]
    fn add(&mut self, routed: &mut (u64, u32), subscription: &crate::subscriptions::Subscription) {
        if routed.0 == self.routing
            && !Fault::OverlapTwice.is_on()
            && let Some(recipient) = self.list.get_mut(routed.1 as usize)
        {
            recipient.qos = recipient.qos.max(subscription.qos());
            recipient.retain_as_published |= subscription.retain_as_published();
            match (recipient.id, subscription.id) {
                (_, None) => {}
                (None, Some(id)) => recipient.id = Some(id),
                (Some(_), Some(_)) if Fault::FirstIdOnly.is_on() => {}
                (Some(_), Some(id)) => {
                    recipient.has_more_ids = true;
                    self.more_ids.push((subscription.session, id));
                }
            }
            return;
        }
        *routed = (
            self.routing,
            u32::try_from(self.list.len()).unwrap_or(u32::MAX),
        );
        self.list.push(Recipient {
            session: subscription.session,
            qos: subscription.qos(),
            retain_as_published: subscription.retain_as_published(),
            id: subscription.id,
            has_more_ids: false,
            share: None,
            is_second_copy: false,
        });
    }
}
