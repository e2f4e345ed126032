//! What the program waits for: acknowledgements of messages, answers to requests.

use std::collections::{HashMap, VecDeque};

use paloma_codec::{
    Message, PacketId, PubAckReason, PubCompReason, Qos, SubAck, Subscribe, SubscribeFilter,
    SubscriptionId, UnsubAck, Unsubscribe,
};
use paloma_session::{Connection, Dropped, RequestError as Unsent, Session};
use tokio::sync::oneshot;

use crate::client::Token;
use crate::error::{PublishError, RequestError};

/// A SUBSCRIBE or an UNSUBSCRIBE, and who waits for its answer.
#[derive(Debug)]
pub(crate) enum Request {
    Subscribe {
        packet: Subscribe,
        /// None if the client repeats a subscription by itself.
        reply: Option<oneshot::Sender<Result<SubAck, RequestError>>>,
    },
    Unsubscribe {
        packet: Unsubscribe,
        reply: oneshot::Sender<Result<UnsubAck, RequestError>>,
    },
}

/// A subscription that the broker has granted.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Granted {
    filter: SubscribeFilter,
    id: Option<SubscriptionId>,
}

/// Everything that is not answered yet, and the subscriptions that were granted.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    /// Above QoS 0, by message.
    tokens: HashMap<u64, Token>,
    /// At QoS 0, in the order of the queue.
    tokens_qos0: VecDeque<(u64, Token)>,
    /// On the connection, in the order in which they were sent.
    requests: VecDeque<(PacketId, Request)>,
    /// Not on any connection yet, or not any more.
    waiting: VecDeque<Request>,
    granted: Vec<Granted>,
}

impl Pending {
    /// A message was queued.
    pub(crate) fn add_token(&mut self, message: &Message, qos: Qos, token: Token) {
        match qos {
            Qos::AtMostOnce => self.tokens_qos0.push_back((message.id(), token)),
            Qos::AtLeastOnce | Qos::ExactlyOnce => {
                self.tokens.insert(message.id(), token);
            }
        }
    }

    /// Requests that are not answered.
    pub(crate) fn requests(&self) -> usize {
        self.requests.len() + self.waiting.len()
    }

    pub(crate) fn add_request(&mut self, request: Request) {
        self.waiting.push_back(request);
    }

    /// Puts every waiting request on the connection.
    pub(crate) fn send_requests(&mut self, connection: &mut Connection, session: &mut Session) {
        while let Some(request) = self.waiting.pop_front() {
            let sent = match &request {
                Request::Subscribe { packet, .. } => connection.subscribe(session, packet.clone()),
                Request::Unsubscribe { packet, .. } => {
                    connection.unsubscribe(session, packet.clone())
                }
            };
            match sent {
                Ok(id) => self.sent(id, request),
                Err(Unsent::IdsExhausted | Unsent::Closed) => {
                    self.waiting.push_front(request);
                    return;
                }
                Err(error @ (Unsent::Encode(_) | Unsent::NotAllowed)) => {
                    request.fail(RequestError::Unsent(error));
                }
            }
        }
    }

    fn sent(&mut self, id: PacketId, request: Request) {
        self.requests.push_back((id, request));
    }

    /// The request that is answered under this id. Brokers answer in order, as a rule.
    fn answered(&mut self, id: PacketId) -> Option<Request> {
        let place = self.requests.iter().position(|(sent, _)| *sent == id)?;
        self.requests.remove(place).map(|(_, request)| request)
    }

    /// A PUBACK, or a PUBREC that refuses.
    pub(crate) fn acknowledged(&mut self, message: u64, reason: PubAckReason) {
        let outcome = if reason.is_error() {
            Err(PublishError::Refused(reason))
        } else {
            Ok(reason)
        };
        self.resolve(message, outcome);
    }

    /// A PUBCOMP.
    pub(crate) fn completed(&mut self, message: u64, reason: PubCompReason) {
        // After a resume the broker may have forgotten what it had completed: this is no failure. [MQTT-4.3.3-7]
        let outcome = match reason {
            PubCompReason::Success | PubCompReason::PacketIdentifierNotFound => {
                Ok(PubAckReason::Success)
            }
        };
        self.resolve(message, outcome);
    }

    /// Messages at QoS 0 that went out, and messages of any QoS that will not.
    pub(crate) fn transmitted(&mut self, sent_qos0: u32, dropped: &[Dropped]) {
        for drop in dropped {
            let outcome = Err(PublishError::Dropped(drop.cause));
            self.resolve(drop.outbound.message().id(), outcome);
        }
        for _ in 0..sent_qos0 {
            if let Some((_, token)) = self.tokens_qos0.pop_front() {
                answer(token, Ok(PubAckReason::Success));
            }
        }
    }

    pub(crate) fn sub_ack(&mut self, ack: SubAck) {
        let Some(Request::Subscribe { packet, reply }) = self.answered(ack.id) else {
            return;
        };
        for (filter, reason) in packet.filters.into_iter().zip(&ack.reasons) {
            self.granted
                .retain(|granted| granted.filter.target != filter.target);
            if !reason.is_error() {
                self.granted.push(Granted {
                    filter,
                    id: packet.subscription_id,
                });
            }
        }
        if let Some(reply) = reply {
            answer(reply, Ok(ack));
        }
    }

    pub(crate) fn unsub_ack(&mut self, ack: UnsubAck) {
        let Some(Request::Unsubscribe { packet, reply }) = self.answered(ack.id) else {
            return;
        };
        self.granted
            .retain(|granted| !packet.filters.contains(&granted.filter.target));
        answer(reply, Ok(ack));
    }

    /// The connection is lost: what was asked on it is asked again on the next, first things first.
    pub(crate) fn connection_lost(&mut self) {
        while let Some((_, request)) = self.requests.pop_back() {
            self.waiting.push_front(request);
        }
    }

    /// The broker has no session: whatever was granted has to be asked for again, before anything else, and the
    /// messages in flight that were not queued again have an end that nobody knows.
    pub(crate) fn session_lost(&mut self, is_queued: impl Fn(u64) -> bool) {
        self.tokens = self
            .tokens
            .drain()
            .filter_map(|(message, token)| {
                if is_queued(message) {
                    return Some((message, token));
                }
                answer(token, Err(PublishError::SessionLost));
                None
            })
            .collect();
        let mut packets: Vec<Subscribe> = Vec::new();
        for Granted { filter, id } in std::mem::take(&mut self.granted) {
            match packets.last_mut() {
                Some(last) if last.subscription_id == id && last.filters.len() < 64 => {
                    last.filters.push(filter);
                }
                Some(_) | None => {
                    let mut packet = Subscribe::new(PacketId::MIN, vec![filter]);
                    packet.subscription_id = id;
                    packets.push(packet);
                }
            }
        }
        for packet in packets.into_iter().rev() {
            self.waiting.push_front(Request::Subscribe {
                packet,
                reply: None,
            });
        }
    }

    fn resolve(&mut self, message: u64, outcome: Result<PubAckReason, PublishError>) {
        if let Some(token) = self.tokens.remove(&message) {
            answer(token, outcome);
        } else if let Some(place) = self.tokens_qos0.iter().position(|(id, _)| *id == message)
            && let Some((_, token)) = self.tokens_qos0.remove(place)
        {
            answer(token, outcome);
        }
    }
}

impl Request {
    fn fail(self, error: RequestError) {
        match self {
            Self::Subscribe {
                reply: Some(reply), ..
            } => answer(reply, Err(error)),
            Self::Subscribe { reply: None, .. } => {}
            Self::Unsubscribe { reply, .. } => answer(reply, Err(error)),
        }
    }
}

/// Tells who waits, if anybody still does.
pub(crate) fn answer<T>(reply: oneshot::Sender<T>, outcome: T) {
    drop(reply.send(outcome));
}

#[cfg(test)]
mod tests {
    use super::*;
    use paloma_codec::SubscribeOptions;
    use paloma_topic::Target;

    fn id(id: u16) -> PacketId {
        PacketId::new(id).unwrap()
    }

    /// Ids go up and wrap, so that they do not tell what was asked first.
    #[test]
    fn what_was_asked_is_asked_again_in_its_order() {
        let target = Target::parse("t").unwrap();
        let filter = SubscribeFilter {
            target: target.clone(),
            options: SubscribeOptions::default(),
        };
        let mut pending = Pending::default();
        let subscribe = Request::Subscribe {
            packet: Subscribe::new(PacketId::MIN, vec![filter]),
            reply: None,
        };
        let unsubscribe = Request::Unsubscribe {
            packet: Unsubscribe::new(PacketId::MIN, vec![target]),
            reply: oneshot::channel().0,
        };
        pending.sent(id(65_535), subscribe);
        pending.sent(id(1), unsubscribe);
        pending.connection_lost();
        assert!(matches!(pending.waiting[0], Request::Subscribe { .. }));
        assert!(matches!(pending.waiting[1], Request::Unsubscribe { .. }));
    }
}
