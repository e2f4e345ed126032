//! Packets of open connections, and what they mean for the broker.

use paloma_codec::{DecodeError, PacketRef, ProtocolVersion, PubAckReason};
use paloma_session::{Event, Gate, Now, Outbound};
use paloma_topic::Fault;

use super::Broker;
use super::filters::FilterPacket;
use crate::accounting::DropCause;
use crate::connection::{ConnectionId, Phase};
use crate::effect::CloseCause;
use crate::notice::Offence;
use crate::session::SessionKey;
use crate::store::{MessageId, SessionId, StoreOp};
use crate::tag::Tag;

impl Broker {
    pub(super) fn handle_open_packet(&mut self, now: Now, id: ConnectionId, packet: PacketRef<'_>) {
        self.trace_packet(id, &packet);
        let Some(entry) = self.connections.get_mut(id.key()) else {
            return;
        };
        let Phase::Open(open) = &mut entry.phase else {
            return;
        };
        let key = open.session;
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        // What the protocol answers by itself vouches for what this turn's batch will hold.
        let is_durable = session.is_durable();
        let gate = if is_durable {
            self.commits.gate()
        } else {
            Gate::Open
        };
        let waiting = open.protocol.answers_waiting();
        let is_ping = matches!(packet, PacketRef::PingReq);
        let result = open
            .protocol
            .handle_packet(now, &mut session.protocol, packet, gate);
        if open.protocol.answers_waiting() > waiting {
            self.answered(id, is_durable);
        } else if is_ping {
            self.mark_transmit(id);
        }
        match result {
            Ok(event) => self.handle_event(now, id, key, event),
            Err(violation) => self.end_offending(now, id, Offence::Violation(violation)),
        }
    }

    fn handle_event(&mut self, now: Now, id: ConnectionId, key: SessionKey, event: Event<'_>) {
        match event {
            Event::None => {}
            // It opens no window.
            Event::Publish(inbound) => {
                let packet = (inbound.topic.name(), &inbound.publish);
                return self.handle_publish(now, id, key, packet, inbound.receipt);
            }
            Event::Released(packet) => {
                self.push_for(key, |session| StoreOp::DeleteReceived(session, packet));
            }
            Event::Acknowledged {
                outbound, reason, ..
            } => {
                self.handle_acknowledged(key, &outbound, reason);
            }
            Event::Received {
                id: packet,
                outbound,
            } => {
                if Tag::unpack(outbound.share()).is_stored && !Fault::ReleaseNotStored.is_on() {
                    let message = MessageId(outbound.message().id());
                    self.push_for(key, |session| {
                        StoreOp::MarkReceived(session, message, packet)
                    });
                }
            }
            Event::Completed { message, share, .. } => {
                self.accounting.delivered += 1;
                if Tag::unpack(share).is_stored {
                    self.push_for(key, |session| StoreOp::Dequeue(session, MessageId(message)));
                }
                self.mark_transmit(id);
            }
            Event::Subscribe(subscribe) => {
                self.take_filters(id, key, FilterPacket::subscribe(subscribe));
            }
            Event::Unsubscribe(unsubscribe) => {
                self.take_filters(id, key, FilterPacket::unsubscribe(unsubscribe));
            }
            Event::Auth(auth) => self.handle_reauthentication(id, key, *auth),
            Event::Disconnect(_) => {
                self.end_open(now, id, CloseCause::Disconnected, None);
            }
            // A client's role only; the connection refuses them in ours.
            Event::SubAck(_) | Event::UnsubAck(_) => {}
        }
        // An acknowledgement may have opened the window.
        if self.has_deliveries(id, key) {
            self.mark_transmit(id);
        }
    }

    /// Whether deliveries wait for the client's window: new ones, or those of an earlier connection.
    fn has_deliveries(&self, id: ConnectionId, key: SessionKey) -> bool {
        let session = self.sessions.get(key);
        let has_replay = self.connections.get(id.key()).is_some_and(
            |entry| matches!(&entry.phase, Phase::Open(open) if open.protocol.has_replay()),
        );
        (has_replay && !Fault::ReplayNotWoken.is_on())
            || session.is_some_and(|session| !session.protocol.queue().is_empty())
    }

    fn handle_acknowledged(&mut self, key: SessionKey, outbound: &Outbound, reason: PubAckReason) {
        if reason.is_error() {
            self.drop_copy(key, outbound, DropCause::RefusedByClient);
        } else {
            self.trace_acknowledged(key, outbound.message());
            self.accounting.delivered += 1;
            self.forget_copy(key, outbound);
        }
    }

    /// The session's number if the store knows it.
    pub(super) fn stored_id(&self, key: SessionKey) -> Option<SessionId> {
        let session = self.sessions.get(key);
        session
            .filter(|session| session.is_durable())
            .map(|session| session.id)
    }

    /// Puts a change into the batch if the session is one whose state is stored.
    pub(super) fn push_for(&mut self, key: SessionKey, op: impl FnOnce(SessionId) -> StoreOp) {
        if let Some(id) = self.stored_id(key) {
            self.commits.push(op(id));
        }
    }

    /// The connection's bytes are no packet: it ends with the reason that belongs to the error.
    pub(super) fn end_invalid(
        &mut self,
        now: Now,
        id: ConnectionId,
        error: DecodeError,
        version: Option<ProtocolVersion>,
    ) {
        let Some(entry) = self.connections.get(id.key()) else {
            return;
        };
        match entry.phase {
            Phase::Open(_) => self.end_offending(now, id, Offence::Malformed(error)),
            Phase::Handshake(_) | Phase::Authenticating(_) => {
                self.refuse_invalid(id, error, version)
            }
            Phase::Closing(_) => {}
        }
    }
}
