//! Who gets a message, and what the end of a connection or a session means: by going through lists.

use paloma_codec::{DisconnectReason, Qos};
use paloma_session::Now;
use paloma_topic::{Target, TopicName};

use paloma_broker::{CloseCause, ConnectionId};

use super::Oracle;
use super::inputs::gate_of;
use super::model::{Copy, Form, Life, Message, SharedCopy, State, Subscription, Will};

/// What became of a message.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Routed {
    /// It is in the queue of a session that is stored.
    pub(super) is_stored: bool,
    /// Sessions and groups that it was for.
    pub(super) recipients: usize,
}

impl Oracle {
    /// Gives a message to everybody it is for.
    pub(super) fn route(&mut self, now: Now, origin: &str, number: u64, retain: bool) -> Routed {
        let mut routed = Routed::default();
        let Some(message) = self.messages.get(&number).cloned() else {
            return routed;
        };
        let Ok(topic) = TopicName::new(message.topic.clone()) else {
            return routed;
        };
        let matches = |target: &Target| target.filter().matches(topic.borrowed());
        let rules_version = self.rules.version();
        let now_wall = now.wall.as_millis();
        for (client_id, session) in &mut self.state.sessions {
            let matching = session.subscriptions.values().filter(|subscription| {
                subscription.target.share().is_none()
                    && matches(&subscription.target)
                    && !(subscription.options.no_local && client_id == origin)
            });
            let Some(form) = form_of(matching, message.qos, retain) else {
                continue;
            };
            if !self.rules.may(client_id, false, &message.topic) {
                continue;
            }
            routed.recipients += 1;
            let is_lost = form.qos == Qos::AtMostOnce
                && session.connection.is_none()
                && !self.limits.queue_qos0;
            if is_lost {
                continue;
            }
            let is_stored = form.qos != Qos::AtMostOnce && session.is_durable;
            routed.is_stored |= is_stored;
            session.waiting.push_back(Copy {
                number,
                form,
                rules_version,
                life: message.life,
                has_expired: message.life.is_some_and(|life| life.is_over(now_wall)),
                gate: gate_of(is_stored),
                shared: None,
            });
        }
        self.route_to_groups(number, &message, retain, &mut routed);
        routed
    }

    fn route_to_groups(
        &mut self,
        number: u64,
        message: &Message,
        retain: bool,
        routed: &mut Routed,
    ) {
        let topic = message.topic.as_str();
        let rules_version = self.rules.version();
        let Ok(name) = TopicName::new(topic.to_owned()) else {
            return;
        };
        for (target, members) in &self.state.groups {
            let is_match = Target::parse(target.clone())
                .is_ok_and(|target| target.filter().matches(name.borrowed()));
            let mut allowed = members
                .iter()
                .filter(|member| self.rules.may(member, false, topic))
                .peekable();
            if !is_match || allowed.peek().is_none() {
                continue;
            }
            routed.recipients += 1;
            // A member that subscribed with QoS 0 may have been chosen while it was away.
            let is_excused = allowed.any(|member| {
                let session = self.state.sessions.get(member);
                session.is_some_and(|session| {
                    let subscription = session.subscriptions.get(target);
                    subscription
                        .is_some_and(|subscription| subscription.options.qos == Qos::AtMostOnce)
                })
            });
            self.state.shared.push(SharedCopy {
                number,
                target: target.clone(),
                retain,
                life: message.life,
                rules_version,
                holder: None,
                held_as: None,
                is_handed_on: false,
                is_done: false,
                is_excused,
            });
        }
    }

    /// A connection ends, with what that means for its session.
    pub(super) fn detach(&mut self, now: Now, id: ConnectionId) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        if !std::mem::take(&mut link.is_open) {
            return;
        }
        self.forget_held(id);
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        let (client_id, left) = (link.client_id.clone(), link.left);
        let has_left = left == Some(DisconnectReason::NormalDisconnection);
        let expiry_seconds = link
            .expiry_seconds
            .min(self.limits.session_expiry_seconds_max);
        let delay = link
            .connect
            .as_ref()
            .and_then(|connect| connect.will.as_ref());
        let delay = delay.map_or(0, |will| will.delay_seconds);
        let delay = delay
            .min(expiry_seconds)
            .min(self.limits.will_delay_seconds_max);
        let Some(session) = self.state.sessions.get_mut(&client_id) else {
            return;
        };
        if session.connection != Some(id) {
            return;
        }
        session.connection = None;
        session.left_wall = now.wall.as_millis();
        session.will_due_wall = session.left_wall + u64::from(delay) * 1_000;
        for replay in &mut session.replays {
            replay.owed.clear();
        }
        if has_left {
            session.will = None;
        }
        if session.will.is_some() && delay > 0 {
            session.will_at = Some(after(now, delay));
        } else {
            self.send_will(now, &client_id);
        }
        if expiry_seconds == 0 {
            return self.end_session(now, &client_id);
        }
        let queue_qos0 = self.limits.queue_qos0;
        if let Some(session) = self.state.sessions.get_mut(&client_id) {
            session.expiry_seconds = expiry_seconds;
            session.expires_at = Some(after(now, expiry_seconds));
            if !queue_qos0 {
                session
                    .waiting
                    .retain(|copy| copy.form.qos != Qos::AtMostOnce);
            }
        }
        self.hand_on_all(&client_id, false);
    }

    /// The session ends: its will is sent, and what it shared with others is theirs.
    pub(super) fn end_session(&mut self, now: Now, client_id: &str) {
        if !self.state.sessions.contains_key(client_id) {
            return;
        }
        self.send_will(now, client_id);
        self.hand_on_all(client_id, true);
        let Some(session) = self.state.sessions.remove(client_id) else {
            return;
        };
        for flight in &session.flights {
            let Some(copy) = flight
                .copy
                .shared
                .and_then(|place| self.state.shared.get_mut(place))
            else {
                continue;
            };
            if flight.copy.form.qos == Qos::ExactlyOnce {
                copy.is_done = true; // It stays with its member. [MQTT-4.8.2-5]
            } else {
                copy.holder = None;
            }
        }
        for (name, subscription) in &session.subscriptions {
            if subscription.target.share().is_some() {
                self.leave_group(client_id, name);
            }
        }
    }

    pub(super) fn leave_group(&mut self, client_id: &str, name: &str) {
        let Some(members) = self.state.groups.get_mut(name) else {
            return;
        };
        members.remove(client_id);
        if !members.is_empty() {
            return;
        }
        self.state.groups.remove(name);
        let copies = self.state.shared.iter_mut();
        for copy in copies.filter(|copy| copy.target == name) {
            copy.is_excused = true;
        }
    }

    /// Copies of the groups that this client was ever a member of may be with another one from here on. If its session ends they
    /// have to be, unless there is nobody who takes them for certain.
    fn hand_on_all(&mut self, client_id: &str, is_over: bool) {
        let State {
            sessions,
            groups,
            shared,
            ..
        } = &mut self.state;
        let Some(session) = sessions.get(client_id) else {
            return;
        };
        let (rules, messages) = (&self.rules, &self.messages);
        let is_certain = |member: &String, target: &str| {
            let session = sessions.get(member);
            let subscription = session.and_then(|session| session.subscriptions.get(target));
            subscription.is_some_and(|subscription| subscription.options.qos != Qos::AtMostOnce)
        };
        for copy in shared {
            if !session.group_forms.contains_key(&copy.target) {
                continue;
            }
            copy.is_handed_on = true;
            let members = groups.get(&copy.target).into_iter().flatten();
            let message = messages.get(&copy.number);
            let may_read = |member: &String| {
                message.is_none_or(|message| rules.may(member, false, &message.topic))
            };
            let others = members.filter(|member| *member != client_id);
            let mut others = others.filter(|member| may_read(member)).peekable();
            let has_heirs =
                others.peek().is_some() && others.all(|member| is_certain(member, &copy.target));
            copy.is_excused |= is_over && !has_heirs;
        }
    }

    pub(super) fn hand_on(&mut self, place: usize) {
        if let Some(copy) = self.state.shared.get_mut(place) {
            copy.holder = None;
            copy.is_handed_on = true;
            copy.is_excused = true;
        }
    }

    fn send_will(&mut self, now: Now, client_id: &str) {
        let Some(session) = self.state.sessions.get_mut(client_id) else {
            return;
        };
        session.will_at = None;
        let Some(will) = session.will.take() else {
            return;
        };
        if !self.rules.may(client_id, true, &will.topic) {
            return;
        }
        self.publish_will(now, client_id, &will);
    }

    fn publish_will(&mut self, now: Now, client_id: &str, will: &Will) {
        self.state.taken.insert(will.number);
        if will.retain {
            self.retain_will(will, client_id);
        }
        self.route(now, client_id, will.number, will.retain);
    }

    /// The broker is about to do what is due.
    pub(crate) fn timeout(&mut self, now: Now) {
        self.tick += 1;
        let at = now.monotonic.as_nanos();
        while let Some((_, due)) = self.next_due(at) {
            match due {
                Due::KeepAlive(id) => {
                    if let Some(link) = self.links.get_mut(&id) {
                        link.is_ending = Some(CloseCause::KeepAliveTimeout);
                    }
                    self.detach(now, id);
                }
                Due::Held(id) => {
                    if let Some(link) = self.links.get_mut(&id) {
                        link.is_ending = Some(CloseCause::StoreFull);
                    }
                    self.detach(now, id);
                }
                Due::Will(client_id) => self.send_will(now, &client_id),
                Due::Expiry(client_id) => self.end_session(now, &client_id),
            }
        }
    }

    fn next_due(&self, now: u64) -> Option<(u64, Due)> {
        let silent = self.links.iter().filter_map(|(id, link)| {
            let seconds = link.connect.as_ref()?.keep_alive_seconds;
            let at = link.heard_at + u64::from(seconds) * 1_500_000_000;
            // Who is not read cannot be heard.
            let may_be_heard = link.is_open && link.held.is_none() && !link.is_unread;
            (may_be_heard && seconds > 0).then_some((at, (1, 0), Due::KeepAlive(*id)))
        });
        let held = self.links.iter().filter_map(|(id, link)| {
            let held = link.held.as_ref().filter(|_| link.is_open)?;
            Some((held.until, (1, 0), Due::Held(*id)))
        });
        let away = self
            .state
            .sessions
            .iter()
            .filter(|(_, session)| session.connection.is_none());
        // Of wills that are due at once, that of the older session comes first.
        let wills = away.clone().filter_map(|(client_id, session)| {
            let order = (2, session.instance);
            Some((session.will_at?, order, Due::Will(client_id.clone())))
        });
        let expiries = away.filter_map(|(client_id, session)| {
            let order = (3, session.instance);
            Some((session.expires_at?, order, Due::Expiry(client_id.clone())))
        });
        let due = silent.chain(held).chain(wills).chain(expiries);
        let (at, _, due) = due
            .filter(|(at, _, _)| *at <= now)
            .min_by_key(|(at, order, _)| (*at, *order))?;
        Some((at, due))
    }

    /// The wall clock is about to jump: what has expired by now has expired.
    pub(crate) fn note_expired(&mut self, now: Now) {
        let wall = now.wall.as_millis();
        let has_expired = |life: Option<Life>| life.is_some_and(|life| life.is_over(wall));
        for session in self.state.sessions.values_mut() {
            for copy in &mut session.waiting {
                copy.has_expired |= has_expired(copy.life);
            }
        }
        for copy in &mut self.state.shared {
            copy.is_excused |= has_expired(copy.life);
        }
    }
}

enum Due {
    KeepAlive(ConnectionId),
    Held(ConnectionId),
    Will(String),
    Expiry(String),
}

fn after(now: Now, seconds: u32) -> u64 {
    now.monotonic.as_nanos() + u64::from(seconds) * 1_000_000_000
}

/// One copy at the highest QoS with the identifiers of all that match. [MQTT-3.3.4-2] [MQTT-3.3.4-3]
fn form_of<'a>(
    matching: impl Iterator<Item = &'a Subscription>,
    qos: Qos,
    retain: bool,
) -> Option<Form> {
    let mut form: Option<Form> = None;
    for subscription in matching {
        let form = form.get_or_insert(Form {
            qos: Qos::AtMostOnce,
            retain: false,
            ids: Vec::new(),
        });
        form.qos = form.qos.max(subscription.options.qos);
        form.retain |= retain && subscription.options.retain_as_published;
        form.ids.extend(subscription.id);
    }
    let mut form = form?;
    form.qos = form.qos.min(qos);
    form.ids.sort_unstable();
    Some(form)
}
