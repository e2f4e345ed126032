//! What a client asks of the broker: publications and subscriptions, each with its answer.

use paloma_codec::{
    Delivery, Packet, PacketId, ProtocolVersion, Publish, SubAck, Subscribe, SubscribeFilter,
    SubscribeOptions, UnsubAck, Unsubscribe,
};
use paloma_topic::Target as Filter;

use crate::client::Client;
use crate::verdict::{Stop, Verdict, ensure, same};
use crate::wire;

/// Option bit of SUBSCRIBE: No Local.
pub const NO_LOCAL: u8 = 0x04;
/// Option bit of SUBSCRIBE: Retain As Published.
pub const AS_PUBLISHED: u8 = 0x08;
/// Option bits of SUBSCRIBE: retained messages for a new subscription only.
pub const IF_NEW: u8 = 0x10;
/// Option bits of SUBSCRIBE: no retained messages.
pub const NEVER: u8 = 0x20;

impl Client {
    /// Publishes under a fresh identifier and returns the reason code of the first answer; 0 at QoS 0.
    ///
    /// # Errors
    /// The exchange does not end.
    #[track_caller]
    pub fn publish_for_reason(&mut self, publish: &Publish) -> Verdict<u8> {
        let mut publish = publish.clone();
        match publish.delivery {
            Delivery::AtMostOnce => {
                self.send(&Packet::Publish(Box::new(publish)))?;
                Ok(0)
            }
            Delivery::AtLeastOnce { .. } => {
                let id = self.fresh_id();
                publish.delivery = Delivery::AtLeastOnce { id, dup: false };
                self.send(&Packet::Publish(Box::new(publish)))?;
                self.pub_ack(id)
            }
            Delivery::ExactlyOnce { .. } => {
                let id = self.fresh_id();
                publish.delivery = Delivery::ExactlyOnce { id, dup: false };
                self.send(&Packet::Publish(Box::new(publish)))?;
                let reason = self.pub_rec(id)?;
                if reason < 0x80 {
                    self.send_bytes(&wire::ack(0x62, id.get()))?;
                    self.pub_comp(id)?;
                }
                Ok(reason)
            }
        }
    }

    /// Publishes to the end of the exchange, which has to succeed. At QoS 0 a ping follows, so that the broker has it.
    ///
    /// # Errors
    /// The broker does not take the message.
    #[track_caller]
    pub fn publish(&mut self, publish: &Publish) -> Verdict {
        let reason = self.publish_for_reason(publish)?;
        ensure(
            reason < 0x80,
            format!("the PUBLISH was refused with {reason:#04x}"),
        )?;
        if publish.delivery == Delivery::AtMostOnce {
            self.ping()?;
        }
        Ok(())
    }

    /// Subscribes with option bytes; every filter has to be granted its QoS.
    ///
    /// # Errors
    /// One is not.
    #[track_caller]
    pub fn subscribe(&mut self, filters: &[(&str, u8)]) -> Verdict {
        let codes = self.subscribe_for_codes(filters)?;
        let wanted: Vec<u8> = filters.iter().map(|(_, options)| options & 3).collect();
        same("SUBACK's codes", codes, wanted)
    }

    /// Subscribes with option bytes and returns the codes.
    ///
    /// # Errors
    /// No SUBACK comes.
    #[track_caller]
    pub fn subscribe_for_codes(&mut self, filters: &[(&str, u8)]) -> Verdict<Vec<u8>> {
        let id = self.fresh_id();
        let filters = filters
            .iter()
            .map(|(text, bits)| filter(text, *bits))
            .collect::<Verdict<Vec<_>>>()?;
        let ack = self.subscribe_with(Subscribe::new(id, filters))?;
        Ok(ack.reasons.iter().map(|reason| reason.code()).collect())
    }

    /// Sends a SUBSCRIBE and returns its SUBACK.
    ///
    /// # Errors
    /// None comes.
    #[track_caller]
    pub fn subscribe_with(&mut self, subscribe: Subscribe) -> Verdict<SubAck> {
        let id = subscribe.id;
        self.send(&subscribe)?;
        self.sub_ack(id)
    }

    /// The SUBACK of this identifier.
    ///
    /// # Errors
    /// None comes.
    #[track_caller]
    pub fn sub_ack(&mut self, id: PacketId) -> Verdict<SubAck> {
        self.answer("SUBACK", |packet| match packet {
            Packet::SubAck(ack) if ack.id == id => Some((**ack).clone()),
            _ => None,
        })
    }

    /// Unsubscribes and returns the UNSUBACK.
    ///
    /// # Errors
    /// None comes.
    #[track_caller]
    pub fn unsubscribe(&mut self, filters: &[&str]) -> Verdict<UnsubAck> {
        let id = self.fresh_id();
        let filters = filters
            .iter()
            .map(|text| parse(text))
            .collect::<Verdict<Vec<_>>>()?;
        self.send(&Unsubscribe::new(id, filters))?;
        self.unsub_ack(id)
    }

    /// The UNSUBACK of this identifier.
    ///
    /// # Errors
    /// None comes.
    #[track_caller]
    pub fn unsub_ack(&mut self, id: PacketId) -> Verdict<UnsubAck> {
        self.answer("UNSUBACK", |packet| match packet {
            Packet::UnsubAck(ack) if ack.id == id => Some((**ack).clone()),
            _ => None,
        })
    }
}

/// A filter with an options byte.
///
/// # Errors
/// The suite has written it wrong.
#[track_caller]
pub fn filter(text: &str, bits: u8) -> Verdict<SubscribeFilter> {
    Ok(SubscribeFilter {
        target: parse(text)?,
        options: SubscribeOptions::from_bits(bits, ProtocolVersion::V5)?,
    })
}

#[track_caller]
fn parse(text: &str) -> Verdict<Filter> {
    Filter::parse(text).map_err(|error| Stop::failed(format!("the suite's filter {text}: {error}")))
}
