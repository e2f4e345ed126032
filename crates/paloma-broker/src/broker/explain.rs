//! What an operator, or a test, can see of one client, and why it gets a message or does not.

use bytestring::ByteString;
use paloma_codec::PACKET_BYTES_MAX;
use paloma_session::{Flight, Now};
use paloma_topic::{TopicFilterRef, TopicNameRef};

use super::Broker;
use super::deliver::queue_limits;
use crate::connection::Phase;
use crate::explain::{Explanation, FilterMatch, Obstacle, OnTheWay, SessionState};
use crate::limits::QueueWhenFull;
use crate::session::{SessionEntry, SessionKey};
use crate::subscriptions::Subscription;
use crate::timers::Deadline;

/// What the broker holds for one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionView {
    /// Whether the client is connected.
    pub is_connected: bool,
    /// Messages that wait to be sent, in memory and in the store.
    pub waiting: u64,
    /// Exchanges with the client that are not finished.
    pub in_flight: u64,
}

impl Broker {
    /// The session of a client id, if there is one.
    #[must_use]
    pub fn session(&self, client_id: &str) -> Option<SessionView> {
        let key = self.directory.client(&self.sessions, client_id)?;
        let session = self.sessions.get(key)?;
        Some(SessionView {
            is_connected: session.connection.is_some(),
            waiting: session.waiting().0,
            in_flight: session.protocol.window().len() as u64,
        })
    }

    /// Why a client would get a message that is published on `topic` now, or would not. Looks at every filter of the client
    /// and at what waits for it, and changes nothing.
    #[must_use]
    pub fn explain(&self, now: Now, client_id: &str, topic: TopicNameRef<'_>) -> Explanation {
        let now = self.wall.peek(now);
        let mut explanation = Explanation {
            client_id: client_id.into(),
            topic: topic.as_str().into(),
            session: SessionState::None,
            filters: 0,
            matches: Vec::new(),
            obstacles: Vec::new(),
            on_the_way: OnTheWay::default(),
            dropped: Vec::new(),
        };
        let key = self.directory.client(&self.sessions, client_id);
        let Some((key, session)) = key.and_then(|key| Some((key, self.sessions.get(key)?))) else {
            explanation.obstacles.push(Obstacle::NoSession);
            return explanation;
        };
        explanation.session = if session.connection.is_some() {
            SessionState::Connected
        } else {
            SessionState::Away {
                until: session.expires_at.map(Deadline::at),
            }
        };
        explanation.filters = session.filters.len() + session.groups().len();
        explanation.matches = self.matching_filters(key, session, topic);
        self.find_obstacles(session, &mut explanation);
        explanation.on_the_way = on_the_way(session, now, topic);
        explanation.dropped = session.drops();
        explanation
    }

    fn matching_filters(
        &self,
        key: SessionKey,
        session: &SessionEntry,
        topic: TopicNameRef<'_>,
    ) -> Vec<FilterMatch> {
        let of = |filter: ByteString, subscription: &Subscription, members| FilterMatch {
            filter,
            qos: subscription.qos(),
            no_local: subscription.no_local(),
            members,
            is_allowed: session.principal.may_receive(
                &*self.authorizer,
                subscription.granted(),
                topic,
            ),
        };
        let mut matches = Vec::new();
        for id in &session.filters {
            let mut text = String::new();
            if self.subscriptions.write_filter(*id, &mut text)
                && TopicFilterRef::new(&text).is_ok_and(|filter| filter.matches(topic))
                && let Some(subscription) = self.subscriptions.get(*id, key)
            {
                matches.push(of(text.into(), subscription, None));
            }
        }
        for group in session
            .groups()
            .iter()
            .filter_map(|key| self.groups.get(*key))
        {
            let member = group.members.iter().find(|member| member.session == key);
            if group.filter.borrowed().matches(topic)
                && let Some(member) = member
            {
                let members = Some(group.members.len());
                matches.push(of(group.target.clone(), member, members));
            }
        }
        matches
    }

    fn find_obstacles(&self, session: &SessionEntry, explanation: &mut Explanation) {
        let obstacles = &mut explanation.obstacles;
        let matches = &explanation.matches;
        let mut allowed = matches.iter().filter(|found| found.is_allowed);
        if matches.is_empty() {
            obstacles.push(Obstacle::NoFilter);
        } else if allowed.clone().next().is_none() {
            obstacles.push(Obstacle::NotAuthorized);
        } else {
            if allowed.clone().all(|found| found.no_local) {
                obstacles.push(Obstacle::NoLocal);
            }
            if allowed.all(|found| found.members.is_some_and(|members| members > 1)) {
                obstacles.push(Obstacle::SharedOnly);
            }
        }
        let limits = queue_limits(&self.limits);
        let (messages, bytes) = session.waiting();
        let is_full = messages >= u64::from(limits.count_max) || bytes >= limits.bytes_max;
        if is_full && self.limits.queue_when_full == QueueWhenFull::DropNewest {
            obstacles.push(Obstacle::QueueFull { messages, bytes });
        }
        let entry = session
            .connection
            .and_then(|id| self.connections.get(id.key()));
        let Some(entry) = entry else {
            obstacles.push(Obstacle::Away);
            return;
        };
        let Phase::Open(open) = &entry.phase else {
            return;
        };
        let in_flight = session.protocol.window().len() as u64;
        if in_flight >= u64::from(session.window_maximum) && in_flight > 0 {
            obstacles.push(Obstacle::WindowFull { in_flight });
        }
        let bytes = open.protocol.peer_terms().packet_bytes_max;
        if bytes < PACKET_BYTES_MAX {
            obstacles.push(Obstacle::MaximumPacketSize { bytes });
        }
    }
}

fn on_the_way(session: &SessionEntry, now: Now, topic: TopicNameRef<'_>) -> OnTheWay {
    let mut found = OnTheWay {
        in_store: session
            .spill
            .as_ref()
            .map_or(0, |spill| u64::from(spill.count)),
        ..OnTheWay::default()
    };
    let topic = topic.as_str().as_bytes();
    for outbound in session.protocol.queue().iter() {
        if outbound.message().topic_bytes() == topic {
            found.waiting += 1;
            found.expired += u64::from(outbound.has_expired(now.wall));
        }
    }
    for (_, flight) in session.protocol.window().iter() {
        if let Flight::Publish(outbound) = flight
            && outbound.message().topic_bytes() == topic
        {
            found.in_flight += 1;
        }
    }
    found
}
