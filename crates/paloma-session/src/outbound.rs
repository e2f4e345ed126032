//! One message on its way to one receiver: 24 bytes while it waits.

use core::fmt;
use core::num::NonZeroU32;

use paloma_codec::{Message, Qos, SubscriptionId};
use paloma_topic::Fault;

use crate::time::Wall;

const QOS_BITS: u32 = 0b11;
/// QoS 1, perhaps not for the first time.
const QOS_1_REPEATED: u32 = 0b11;
const RETAIN: u32 = 1 << 2;
const SEVERAL_IDS: u32 = 1 << 3;
const ID_SHIFT: u32 = 4;

/// A delivery: a shared [`Message`] and what is this receiver's own.
///
/// [`Message::stamp`] has to be the wall-clock time of arrival in milliseconds ([`Wall`]): its expiry counts from there.
///
/// QoS, RETAIN and a subscription identifier share four bytes (an identifier has 28 bits). Several identifiers, which
/// overlapping subscriptions cause, lie in a table of the [`Session`](crate::Session); see
/// [`Session::enqueue`](crate::Session::enqueue).
#[derive(Clone)]
pub struct Outbound {
    message: Message,
    packed: u32,
    share: Option<NonZeroU32>,
}

/// What is a delivery's own, beside its message.
#[derive(Clone, Copy)]
pub(crate) struct OutboundOwn {
    packed: u32,
    share: Option<NonZeroU32>,
}

impl Outbound {
    /// A delivery of `message` at `qos`, without RETAIN, subscription identifier or share group.
    #[inline]
    #[must_use]
    pub fn new(message: Message, qos: Qos) -> Self {
        Self {
            message,
            packed: u32::from(qos.bits()),
            share: None,
        }
    }

    /// Sets the RETAIN flag that the receiver sees. [MQTT-3.3.1-12] [MQTT-3.3.1-13]
    #[must_use]
    pub const fn with_retain(mut self, retain: bool) -> Self {
        self.packed = if retain {
            self.packed | RETAIN
        } else {
            self.packed & !RETAIN
        };
        self
    }

    /// Notes the shared subscription that this delivery is for; the number means nothing to this crate.
    #[inline]
    #[must_use]
    pub const fn with_share(mut self, share: Option<NonZeroU32>) -> Self {
        self.share = share;
        self
    }

    /// Notes that its receiver may have been sent it before, under a packet id that nobody knows any more: it goes with DUP.
    /// At QoS 1 only: the ids of QoS 2 are known. [MQTT-3.3.1-1]
    #[must_use]
    pub const fn as_repeated(mut self) -> Self {
        if matches!(self.qos(), Qos::AtLeastOnce) {
            self.packed |= QOS_1_REPEATED;
        }
        self
    }

    #[inline]
    pub(crate) fn into_parts(self) -> (Message, OutboundOwn) {
        let (packed, share) = (self.packed, self.share);
        (self.message, OutboundOwn { packed, share })
    }

    #[inline]
    pub(crate) const fn from_parts(
        message: Message,
        OutboundOwn { packed, share }: OutboundOwn,
    ) -> Self {
        Self {
            message,
            packed,
            share,
        }
    }

    /// Whether it is as most are: without RETAIN, subscription identifier and expiry.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.packed & !QOS_BITS == 0 && self.message.expiry_seconds().is_none()
    }

    /// Whether its receiver may have been sent it before.
    #[must_use]
    pub const fn is_repeated(&self) -> bool {
        self.packed & QOS_BITS == QOS_1_REPEATED
    }

    /// The message that all its receivers share.
    #[must_use]
    pub const fn message(&self) -> &Message {
        &self.message
    }

    /// The message alone.
    #[inline]
    #[must_use]
    pub fn into_message(self) -> Message {
        self.message
    }

    /// The QoS of this delivery.
    #[inline]
    #[must_use]
    pub const fn qos(&self) -> Qos {
        match self.packed & QOS_BITS {
            0 => Qos::AtMostOnce,
            1 | QOS_1_REPEATED => Qos::AtLeastOnce,
            _ => Qos::ExactlyOnce,
        }
    }

    /// The RETAIN flag that the receiver sees.
    #[must_use]
    pub const fn retain(&self) -> bool {
        self.packed & RETAIN != 0
    }

    /// The shared subscription that this delivery is for.
    #[must_use]
    pub const fn share(&self) -> Option<NonZeroU32> {
        self.share
    }

    /// Whether its lifetime is over, so that it may no longer be begun. [MQTT-3.3.2-5]
    #[must_use]
    pub fn has_expired(&self, now: Wall) -> bool {
        let lifetime = self.message.expiry_seconds();
        lifetime.is_some_and(|seconds| self.waited_millis(now) >= u64::from(seconds) * 1_000)
    }

    /// The lifetime that is left to the receiver, in seconds, rounded up; 0 once it is over. [MQTT-3.3.2-6]
    #[inline]
    pub(crate) fn remaining_seconds(&self, now: Wall) -> Option<u32> {
        let seconds = self.message.expiry_seconds()?;
        if Fault::AgeForgotten.is_on() {
            return Some(seconds);
        }
        let waited = u32::try_from(self.waited_millis(now) / 1_000).unwrap_or(u32::MAX);
        Some(seconds.saturating_sub(waited))
    }

    fn waited_millis(&self, now: Wall) -> u64 {
        now.millis_since(Wall::from_millis(self.message.stamp()))
    }

    pub(crate) const fn ids(&self) -> Ids {
        let value = self.packed >> ID_SHIFT;
        if self.packed & SEVERAL_IDS != 0 {
            return Ids::Several(value);
        }
        match SubscriptionId::new(value) {
            Some(id) => Ids::One(id),
            None => Ids::None,
        }
    }

    #[inline]
    pub(crate) const fn set_ids(&mut self, ids: Ids) {
        self.packed &= QOS_BITS | RETAIN;
        self.packed |= match ids {
            Ids::None => 0,
            Ids::One(id) => id.get() << ID_SHIFT,
            Ids::Several(handle) => handle << ID_SHIFT | SEVERAL_IDS,
        };
    }
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound")
            .field("message", &self.message.id())
            .field("qos", &self.qos())
            .field("retain", &self.retain())
            .field("ids", &self.ids())
            .field("share", &self.share)
            .finish()
    }
}

/// The subscription identifiers of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ids {
    None,
    One(SubscriptionId),
    /// A place in [`IdSets`](crate::id_sets::IdSets), below 2^28.
    Several(u32),
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::vec::Vec;

    use paloma_codec::{MessageParts, PublishProperties};
    use paloma_topic::TopicNameRef;

    use super::*;

    fn outbound(qos: Qos) -> Outbound {
        let parts = MessageParts {
            id: 7,
            stamp: 0,
            topic: TopicNameRef::new("t").unwrap(),
            properties: &PublishProperties::default(),
            payload: b"secret",
        };
        let message = Message::new(&parts, &mut Vec::new());
        Outbound::new(message.unwrap(), qos)
    }

    #[test]
    fn retain_is_set_and_taken_back_and_changes_nothing_else() {
        for qos in [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce] {
            let set = outbound(qos).with_retain(true);
            assert!(set.retain());
            let taken_back = set.with_retain(false).with_retain(false);
            assert_eq!((taken_back.retain(), taken_back.qos()), (false, qos));
            assert_eq!(taken_back.ids(), Ids::None);
        }
    }

    #[test]
    fn a_delivery_is_shown_without_what_it_carries() {
        let shown = format!("{:?}", outbound(Qos::AtLeastOnce));
        assert!(shown.contains("message: 7"), "{shown}");
        assert!(!shown.contains("secret"), "{shown}");
    }
}
