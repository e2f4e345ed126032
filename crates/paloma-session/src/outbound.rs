//! One message on its way to one receiver: 24 bytes while it waits.

use core::fmt;
use core::num::NonZeroU32;

use paloma_codec::{Message, Qos, SubscriptionId};

const QOS_BITS: u32 = 0b11;
const RETAIN: u32 = 1 << 2;
const SEVERAL_IDS: u32 = 1 << 3;
const ID_SHIFT: u32 = 4;

/// A delivery: a shared [`Message`] and what is this receiver's own.
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

impl Outbound {
    /// A delivery of `message` at `qos`, without RETAIN, subscription identifier or share group.
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
    #[must_use]
    pub const fn with_share(mut self, share: Option<NonZeroU32>) -> Self {
        self.share = share;
        self
    }

    /// The message that all its receivers share.
    #[must_use]
    pub const fn message(&self) -> &Message {
        &self.message
    }

    /// The message alone.
    #[must_use]
    pub fn into_message(self) -> Message {
        self.message
    }

    /// The QoS of this delivery.
    #[must_use]
    pub const fn qos(&self) -> Qos {
        match self.packed & QOS_BITS {
            0 => Qos::AtMostOnce,
            1 => Qos::AtLeastOnce,
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
