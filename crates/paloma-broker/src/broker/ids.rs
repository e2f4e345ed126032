//! Packet ids of QoS 2 deliveries, stored before they are used.

use paloma_codec::Qos;
use paloma_session::Flight;
use paloma_topic::Fault;

use super::Broker;
use crate::session::{SessionEntry, SessionKey};
use crate::store::{MessageId, StoreOp};
use crate::tag::Tag;

/// Most QoS 2 deliveries of one session that have their ids before there is room for them in its window.
const AHEAD_MAX: u16 = 64;

impl Broker {
    /// Gives packet ids to the QoS 2 deliveries that are next, a window ahead of what the client takes, so that they are
    /// stored by the time they may leave: in the commit that stores the message itself where the window is open.
    pub(super) fn assign_ids(&mut self, key: SessionKey) {
        let Self {
            sessions, commits, ..
        } = self;
        let Some(session) = sessions.get_mut(key).filter(|session| session.is_stored) else {
            return;
        };
        session.protocol.keep_ids();
        let Some(connection) = session.connection else {
            return;
        };
        let id = session.id;
        let ahead_max = session.ids_ahead_max();
        let gate = commits.next_seq();
        let is_waiting = session
            .protocol
            .assign_ids(ahead_max, gate, |message, packet| {
                if !Fault::IdsNotStored.is_on() {
                    commits.push(StoreOp::Assign(id, MessageId(message), packet));
                }
            });
        if is_waiting {
            commits.wait(connection);
        }
    }

    /// The session's client is gone: the ids of QoS 1 messages that it has not acknowledged are stored too, so that they
    /// are repeated under the same ids after a restart. [MQTT-4.4.0-1]
    pub(super) fn store_ids_in_flight(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.get(key).filter(|session| session.is_stored) else {
            return;
        };
        for (packet, flight) in session.protocol.window().iter() {
            if let Flight::Publish(outbound) = flight
                && outbound.qos() == Qos::AtLeastOnce
                && Tag::unpack(outbound.share()).is_stored
            {
                let message = MessageId(outbound.message().id());
                self.commits
                    .push(StoreOp::Assign(session.id, message, packet));
            }
        }
    }
}

impl SessionEntry {
    /// Most QoS 2 deliveries that have an id and have not been sent.
    pub(super) fn ids_ahead_max(&self) -> usize {
        usize::from(self.window_maximum.clamp(1, AHEAD_MAX))
    }
}
