//! The number that a queued delivery carries for the broker.

use std::num::NonZeroU32;

use paloma_codec::Qos;

const NOT_STORED: u32 = 1 << 31;
const RETAIN: u32 = 1 << 30;
const QOS_SHIFT: u32 = 28;

/// The largest number of a share group.
pub(crate) const GROUP_NUMBER_MAX: u32 = (1 << QOS_SHIFT) - 1;

/// What the broker wants to know of a delivery when it is over: packed into the share number of
/// [`Outbound`](paloma_session::Outbound), so that a waiting delivery stays at 24 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag {
    /// The share group it is for.
    pub(crate) share: Option<Share>,
    /// It has an entry in the store, which has to go when the delivery is over.
    pub(crate) is_stored: bool,
}

/// A share group, and how the message was published: another member's terms may give it more of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// The group's number.
    pub(crate) group: NonZeroU32,
    /// The message's QoS.
    pub(crate) qos: Qos,
    /// The message's RETAIN flag.
    pub(crate) retain: bool,
}

impl Share {
    const fn pack(self) -> u32 {
        let retain = if self.retain { RETAIN } else { 0 };
        self.group.get() | (self.qos.bits() as u32) << QOS_SHIFT | retain
    }

    fn unpack(packed: u32) -> Option<Self> {
        let bits = u8::try_from(packed >> QOS_SHIFT & 0b11).unwrap_or_default();
        Some(Self {
            group: NonZeroU32::new(packed & GROUP_NUMBER_MAX)?,
            qos: Qos::from_bits(bits).unwrap_or_default(),
            retain: packed & RETAIN != 0,
        })
    }
}

impl Tag {
    pub(crate) fn pack(self) -> Option<NonZeroU32> {
        let share = self.share.map_or(0, Share::pack);
        debug_assert!(share < NOT_STORED, "limits keep groups below 2^28");
        NonZeroU32::new(if self.is_stored {
            share
        } else {
            share | NOT_STORED
        })
    }

    pub(crate) fn unpack(packed: Option<NonZeroU32>) -> Self {
        let packed = packed.map_or(0, NonZeroU32::get);
        Self {
            share: Share::unpack(packed),
            is_stored: packed & NOT_STORED == 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(share: Option<Share>) {
        for is_stored in [false, true] {
            let tag = Tag { share, is_stored };
            assert_eq!(Tag::unpack(tag.pack()), tag);
        }
    }

    #[test]
    fn a_tag_survives_packing() {
        check(None);
        for group in [1, GROUP_NUMBER_MAX] {
            for qos in [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce] {
                for retain in [false, true] {
                    let group = NonZeroU32::new(group).unwrap();
                    check(Some(Share { group, qos, retain }));
                }
            }
        }
    }
}
