//! The small numbers of the protocol, each valid by construction.

use core::fmt;
use core::num::{NonZeroU16, NonZeroU32};

/// Which wire grammar a connection speaks. The packet model is the same for all three.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProtocolVersion {
    /// MQTT 3.1: protocol name `MQIsdp`, level 3.
    V3_1,
    /// MQTT 3.1.1: protocol name `MQTT`, level 4.
    V3_1_1,
    /// MQTT 5.0: protocol name `MQTT`, level 5.
    V5,
}

impl ProtocolVersion {
    /// The protocol level byte of CONNECT.
    #[must_use]
    pub const fn level(self) -> u8 {
        match self {
            Self::V3_1 => 3,
            Self::V3_1_1 => 4,
            Self::V5 => 5,
        }
    }

    /// Whether packets of this version carry properties and reason codes.
    #[must_use]
    pub const fn is_v5(self) -> bool {
        matches!(self, Self::V5)
    }
}

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V3_1 => "MQTT 3.1",
            Self::V3_1_1 => "MQTT 3.1.1",
            Self::V5 => "MQTT 5.0",
        })
    }
}

/// How often a message may reach its receiver. Ordered by strength.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Qos {
    /// QoS 0: sent once, never acknowledged.
    #[default]
    AtMostOnce = 0,
    /// QoS 1: resent until a PUBACK comes.
    AtLeastOnce = 1,
    /// QoS 2: delivered once, by PUBREC, PUBREL and PUBCOMP.
    ExactlyOnce = 2,
}

impl Qos {
    /// The QoS of two bits on the wire; `None` for 3. [MQTT-3.3.1-4]
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }

    /// The two bits on the wire.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for Qos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QoS {}", self.bits())
    }
}

/// A number that is zero, or too large, for the identifier it was meant to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdOutOfRange;

impl fmt::Display for IdOutOfRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("identifier out of range")
    }
}

impl core::error::Error for IdOutOfRange {}

/// Identifies one exchange in flight, 1 to 65,535. [MQTT-2.2.1-3] [MQTT311-2.3.1-1]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PacketId(NonZeroU16);

/// Stands for a topic on one connection in one direction, 1 to 65,535. [MQTT-3.3.2-8]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicAlias(NonZeroU16);

/// How many QoS 1 and 2 messages its sender takes before it answers, 1 to 65,535.
///
/// The default is 65,535, which is what the absent property means. [MQTT-3.3.4-7] [MQTT-3.3.4-9]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReceiveMaximum(NonZeroU16);

/// A number that a client gives to a subscription, 1 to 268,435,455. [MQTT-3.3.4-3]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriptionId(NonZeroU32);

impl ReceiveMaximum {
    /// The largest window, and the one that holds when none is named.
    pub const MAX: Self = Self(NonZeroU16::MAX);
}

impl Default for ReceiveMaximum {
    fn default() -> Self {
        Self::MAX
    }
}

impl PacketId {
    /// The smallest identifier.
    pub const MIN: Self = Self(NonZeroU16::MIN);
    /// The largest identifier.
    pub const MAX: Self = Self(NonZeroU16::MAX);

    /// The identifier after this one; 1 follows 65,535.
    #[must_use]
    pub const fn next(self) -> Self {
        match self.0.checked_add(1) {
            Some(next) => Self(next),
            None => Self::MIN,
        }
    }
}

impl SubscriptionId {
    /// The largest value that four bytes of a variable byte integer hold.
    pub const MAX: u32 = 268_435_455;

    /// The identifier of this value; `None` for 0 and above [`Self::MAX`].
    #[must_use]
    pub const fn new(value: u32) -> Option<Self> {
        match NonZeroU32::new(value) {
            Some(value) if value.get() <= Self::MAX => Some(Self(value)),
            Some(_) | None => None,
        }
    }

    /// The value.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

impl TryFrom<u32> for SubscriptionId {
    type Error = IdOutOfRange;

    fn try_from(value: u32) -> Result<Self, IdOutOfRange> {
        Self::new(value).ok_or(IdOutOfRange)
    }
}

impl fmt::Debug for SubscriptionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SubscriptionId({})", self.0)
    }
}

impl fmt::Display for SubscriptionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// Three newtypes of the same shape differ in meaning only; the macro keeps their methods alike.
macro_rules! sixteen_bits {
    ($($name:ident),*) => {$(
        impl $name {
            /// The value as this type; `None` for 0.
            pub const fn new(value: u16) -> Option<Self> {
                match NonZeroU16::new(value) {
                    Some(value) => Some(Self(value)),
                    None => None,
                }
            }

            /// The value, never 0.
            pub const fn get(self) -> u16 {
                self.0.get()
            }
        }

        impl From<NonZeroU16> for $name {
            fn from(value: NonZeroU16) -> Self {
                Self(value)
            }
        }

        impl From<$name> for u16 {
            fn from(value: $name) -> Self {
                value.get()
            }
        }

        impl TryFrom<u16> for $name {
            type Error = IdOutOfRange;

            fn try_from(value: u16) -> Result<Self, IdOutOfRange> {
                Self::new(value).ok_or(IdOutOfRange)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

sixteen_bits!(PacketId, TopicAlias, ReceiveMaximum);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_identifier_is_zero() {
        assert_eq!(PacketId::new(0), None);
        assert_eq!(TopicAlias::new(0), None);
        assert_eq!(ReceiveMaximum::new(0), None);
        assert_eq!(SubscriptionId::new(0), None);
    }

    #[test]
    fn subscription_id_ends_at_four_bytes() {
        assert!(SubscriptionId::new(268_435_455).is_some());
        assert_eq!(SubscriptionId::new(268_435_456), None);
    }

    #[test]
    fn packet_id_after_the_last_is_one() {
        assert_eq!(PacketId::MAX.next(), PacketId::MIN);
        assert_eq!(PacketId::MIN.next().get(), 2);
    }

    #[test]
    fn identifiers_are_shown_as_their_numbers() {
        assert_eq!(SubscriptionId::new(7).unwrap().to_string(), "7");
        assert_eq!(PacketId::MIN.to_string(), "1");
        assert_eq!(Qos::AtLeastOnce.to_string(), "QoS 1");
    }
}
