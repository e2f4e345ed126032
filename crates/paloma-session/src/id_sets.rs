//! Where deliveries with several subscription identifiers keep them.

use alloc::vec::Vec;

use paloma_codec::SubscriptionId;

use crate::outbound::Ids;

/// Places that one handle can name: 28 bits, as an identifier has.
const PLACES_MAX: usize = 1 << 28;

/// Lists of identifiers, one for each delivery that has more than one. Freed places keep their memory for reuse.
#[derive(Clone, Debug, Default)]
pub(crate) struct IdSets {
    places: Vec<Vec<SubscriptionId>>,
    free: Vec<u32>,
}

impl IdSets {
    /// Keeps `ids`, in their order.
    pub(crate) fn keep(&mut self, ids: &[SubscriptionId]) -> Ids {
        match ids {
            [] => Ids::None,
            [id] => Ids::One(*id),
            [first, ..] => {
                let place = match self.free.pop() {
                    Some(place) => place,
                    None if self.places.len() >= PLACES_MAX => return Ids::One(*first),
                    None => {
                        self.places.push(Vec::new());
                        u32::try_from(self.places.len())
                            .unwrap_or(u32::MAX)
                            .saturating_sub(1)
                    }
                };
                if let Some(kept) = self.places.get_mut(place as usize) {
                    kept.extend_from_slice(ids);
                }
                Ids::Several(place)
            }
        }
    }

    /// The identifiers at `place`.
    pub(crate) fn several(&self, place: u32) -> &[SubscriptionId] {
        self.places.get(place as usize).map_or(&[], Vec::as_slice)
    }

    /// Gives the place of a finished delivery back.
    pub(crate) fn forget(&mut self, ids: Ids) {
        let Ids::Several(place) = ids else {
            return;
        };
        if let Some(kept) = self.places.get_mut(place as usize) {
            debug_assert!(!kept.is_empty(), "a place is given back once");
            kept.clear();
            self.free.push(place);
        }
    }

    /// Whether no delivery has several identifiers.
    pub(crate) fn is_empty(&self) -> bool {
        self.places.len() == self.free.len()
    }
}
