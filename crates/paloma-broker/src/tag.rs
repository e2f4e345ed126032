//! The number that a queued delivery carries for the broker.

use std::num::NonZeroU32;

const NOT_STORED: u32 = 1 << 31;

/// The largest number of a share group.
pub(crate) const GROUP_NUMBER_MAX: u32 = NOT_STORED - 1;

/// What the broker wants to know of a delivery when it is over: packed into the share number of
/// [`Outbound`](paloma_session::Outbound), so that a waiting delivery stays at 24 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag {
    /// The number of the share group it is for.
    pub(crate) group: Option<NonZeroU32>,
    /// It has an entry in the store, which has to go when the delivery is over.
    pub(crate) is_stored: bool,
}

impl Tag {
    pub(crate) fn pack(self) -> Option<NonZeroU32> {
        let group = self.group.map_or(0, NonZeroU32::get);
        debug_assert!(group < NOT_STORED, "limits keep groups below 2^31");
        NonZeroU32::new(if self.is_stored {
            group
        } else {
            group | NOT_STORED
        })
    }

    pub(crate) fn unpack(packed: Option<NonZeroU32>) -> Self {
        let packed = packed.map_or(0, NonZeroU32::get);
        Self {
            group: NonZeroU32::new(packed & !NOT_STORED),
            is_stored: packed & NOT_STORED == 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_survives_packing() {
        for group in [None, NonZeroU32::new(1), NonZeroU32::new(NOT_STORED - 1)] {
            for is_stored in [false, true] {
                let tag = Tag { group, is_stored };
                assert_eq!(Tag::unpack(tag.pack()), tag);
            }
        }
    }
}
