//! Who subscribes to what, and which retained messages that has to bring.

use std::collections::BTreeSet;

use paloma_broker::{Authorizer, ConnectionId, Grant, Identity};
use paloma_codec::{Qos, RetainHandling, Subscribe, Unsubscribe};
use paloma_topic::{Target, TopicName};

use super::Oracle;
use super::inputs::gate_of;
use super::model::{AnswerKind, Replay, Subscription, Verdict};

impl Oracle {
    pub(super) fn subscribe_in(&mut self, id: ConnectionId, subscribe: &Subscribe) {
        let Some(client_id) = self.client_of(id) else {
            return;
        };
        let mut verdicts = Vec::new();
        for wanted in &subscribe.filters {
            let filter = wanted.target.filter().borrowed();
            let grant = self.rules.grant(&Identity::ANONYMOUS, &client_id, filter);
            verdicts.push(if grant == Grant::Denied {
                Verdict::Denied
            } else {
                Verdict::Fine
            });
            if grant != Grant::Denied {
                let subscription = Subscription {
                    target: wanted.target.clone(),
                    options: wanted.options,
                    id: subscribe.subscription_id.map(|id| id.get()),
                };
                self.add_subscription(&client_id, id, subscription);
            }
        }
        let session = self.state.sessions.get(&client_id);
        let is_stored =
            session.is_some_and(|session| session.is_durable) && verdicts.contains(&Verdict::Fine);
        let packet = subscribe.id.get();
        self.owe(id, AnswerKind::SubAck, packet, gate_of(is_stored), verdicts);
    }

    fn add_subscription(&mut self, client_id: &str, id: ConnectionId, subscription: Subscription) {
        let name = subscription.target.to_string();
        if let Target::Shared { .. } = subscription.target {
            let members = self.state.groups.entry(name.clone()).or_default();
            members.insert(client_id.to_owned());
            if let Some(session) = self.state.sessions.get_mut(client_id) {
                let forms = session.group_forms.entry(name.clone()).or_default();
                forms.push(subscription.clone());
                session.subscriptions.insert(name, subscription);
            }
            return;
        }
        let rules_version = self.rules.version();
        let owed = self.retained_for(client_id, id, &subscription.target);
        let tick = self.tick;
        let Some(session) = self.state.sessions.get_mut(client_id) else {
            return;
        };
        let replaced = session
            .subscriptions
            .insert(name, subscription.clone())
            .is_some();
        let wants_retained = match subscription.options.retain_handling {
            RetainHandling::Send => true,
            RetainHandling::SendIfNew => !replaced,
            RetainHandling::DoNotSend => false,
        };
        if wants_retained {
            let others = session.replays.iter_mut();
            for replay in others.filter(|replay| replay.target == subscription.target) {
                replay.owed.clear();
            }
            session.replays.push(Replay {
                target: subscription.target,
                qos: subscription.options.qos,
                id: subscription.id,
                since: tick,
                rules_version,
                brought: BTreeSet::new(),
                owed,
                is_rest: false,
            });
        } else if session.is_durable {
            hand_rest_on(&mut session.replays, &subscription);
        }
    }

    /// Topics whose retained message a new subscription has to bring.
    fn retained_for(&self, client_id: &str, id: ConnectionId, target: &Target) -> BTreeSet<String> {
        let takes_large = !self.takes_small_only(id);
        let retained = self.state.retained.iter().filter(|(topic, retained)| {
            let Some(message) = self.messages.get(&retained.number) else {
                return false;
            };
            let matches = TopicName::new((*topic).clone())
                .is_ok_and(|name| target.filter().matches(name.borrowed()));
            matches
                && message.life.is_none()
                && (takes_large || !message.is_large)
                && self.rules.may(client_id, false, topic)
                && self.rules.may(&retained.author, true, topic)
        });
        retained.map(|(topic, _)| topic.clone()).collect()
    }

    pub(super) fn unsubscribe_in(&mut self, id: ConnectionId, unsubscribe: &Unsubscribe) {
        let Some(client_id) = self.client_of(id) else {
            return;
        };
        let mut is_stored = false;
        for target in &unsubscribe.filters {
            let name = target.to_string();
            let Some(session) = self.state.sessions.get_mut(&client_id) else {
                return;
            };
            let was_there = session.subscriptions.remove(&name).is_some();
            is_stored |= was_there && session.is_durable;
            for replay in session.replays.iter_mut() {
                if replay.target == *target {
                    replay.owed.clear();
                }
            }
            if was_there && target.share().is_some() {
                self.leave_group(&client_id, &name);
            }
        }
        let packet = unsubscribe.id.get();
        self.owe(
            id,
            AnswerKind::UnsubAck,
            packet,
            gate_of(is_stored),
            Vec::new(),
        );
    }
}

/// What an earlier subscription's replay has not brought comes by the terms of the new one, unless it is under way already.
fn hand_rest_on(replays: &mut Vec<Replay>, new: &Subscription) {
    let is_same = |replay: &&mut Replay| replay.target == new.target;
    let Some(earlier) = replays.iter_mut().rev().find(is_same) else {
        return;
    };
    if earlier.qos == Qos::AtMostOnce && !earlier.is_rest {
        return; // Nothing is promised, and it goes on as it began.
    }
    let rest = Replay {
        qos: new.options.qos,
        id: new.id,
        owed: std::mem::take(&mut earlier.owed),
        is_rest: true,
        ..earlier.clone()
    };
    replays.push(rest);
}
