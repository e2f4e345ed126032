//! The packet ids of inbound QoS 2 exchanges that are not closed.

use alloc::boxed::Box;
use alloc::vec::Vec;

use paloma_codec::PacketId;

/// Ids above which a bitmap of every id is smaller to search than a sorted list.
const SORTED_MAX: usize = 512;

/// Words of a bitmap over all 65,536 values of an id.
const WORDS: usize = 1024;

/// The set of ids whose PUBLISH was taken over and whose PUBREL has not come.
///
/// A sorted list while there are few, at most 1 KiB; an 8 KiB bitmap when there are many, which is what all 65,535 ids
/// of a 3.1.1 peer cost. An empty set owns nothing after [`ReceivedIds::compact`].
#[derive(Clone, Debug, Default)]
pub struct ReceivedIds {
    /// Peers that never sent at QoS 2 have none.
    set: Option<Box<Set>>,
}

#[derive(Clone, Debug)]
enum Set {
    Sorted(Vec<u16>),
    Bitmap(Box<Bitmap>),
}

#[derive(Clone, Debug)]
struct Bitmap {
    count: u32,
    words: [u64; WORDS],
}

impl Default for Set {
    fn default() -> Self {
        Self::Sorted(Vec::new())
    }
}

impl ReceivedIds {
    /// An empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self { set: None }
    }

    /// How many exchanges are open.
    #[must_use]
    pub fn len(&self) -> usize {
        match self.set.as_deref() {
            None => 0,
            Some(Set::Sorted(ids)) => ids.len(),
            Some(Set::Bitmap(bitmap)) => bitmap.count as usize,
        }
    }

    /// Whether no exchange is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of heap that the set owns.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let ids = match self.set.as_deref() {
            None => return 0,
            Some(Set::Sorted(ids)) => ids.capacity().saturating_mul(size_of::<u16>()),
            Some(Set::Bitmap(_)) => size_of::<Bitmap>(),
        };
        size_of::<Set>().saturating_add(ids)
    }

    /// Whether the exchange under `id` is open.
    #[must_use]
    pub fn contains(&self, id: PacketId) -> bool {
        match self.set.as_deref() {
            None => false,
            Some(Set::Sorted(ids)) => ids.binary_search(&id.get()).is_ok(),
            Some(Set::Bitmap(bitmap)) => bitmap.contains(id.get()),
        }
    }

    /// Opens the exchange under `id`. `false` if it was open already, which makes the PUBLISH a repeat.
    /// [MQTT-4.3.3-10]
    pub fn insert(&mut self, id: PacketId) -> bool {
        self.set.get_or_insert_default().insert(id.get())
    }

    /// Closes the exchange under `id`. `false` if it was not open.
    pub fn remove(&mut self, id: PacketId) -> bool {
        self.set.as_mut().is_some_and(|set| set.remove(id.get()))
    }

    /// All open ids, from the lowest.
    pub fn iter(&self) -> impl Iterator<Item = PacketId> + '_ {
        let (ids, words): (&[u16], &[u64]) = match self.set.as_deref() {
            None => (&[], &[]),
            Some(Set::Sorted(ids)) => (ids, &[]),
            Some(Set::Bitmap(bitmap)) => (&[], &bitmap.words),
        };
        let high = words.iter().enumerate().flat_map(|(index, word)| {
            let base = u16::try_from(index).unwrap_or(u16::MAX).wrapping_mul(64);
            (0..64_u16)
                .filter(move |bit| word & (1 << bit) != 0)
                .map(move |bit| base | bit)
        });
        ids.iter().copied().chain(high).filter_map(PacketId::new)
    }

    /// Closes every exchange.
    pub fn clear(&mut self) {
        self.set = None;
    }

    /// Gives back memory that an idle peer does not need.
    pub fn compact(&mut self) {
        if self.is_empty() {
            self.set = None;
        } else if let Some(Set::Sorted(ids)) = self.set.as_deref_mut() {
            ids.shrink_to_fit();
        }
    }
}

impl Set {
    fn insert(&mut self, id: u16) -> bool {
        match self {
            Self::Sorted(ids) => match ids.binary_search(&id) {
                Ok(_) => false,
                Err(place) if ids.len() < SORTED_MAX => {
                    ids.insert(place, id);
                    true
                }
                Err(_) => {
                    let mut bitmap = Box::new(Bitmap {
                        count: 0,
                        words: [0; WORDS],
                    });
                    for id in ids.iter() {
                        bitmap.insert(*id);
                    }
                    bitmap.insert(id);
                    *self = Self::Bitmap(bitmap);
                    true
                }
            },
            Self::Bitmap(bitmap) => bitmap.insert(id),
        }
    }

    fn remove(&mut self, id: u16) -> bool {
        match self {
            Self::Sorted(ids) => match ids.binary_search(&id) {
                Ok(place) => {
                    ids.remove(place);
                    true
                }
                Err(_) => false,
            },
            Self::Bitmap(bitmap) => {
                let removed = bitmap.remove(id);
                if bitmap.count == 0 {
                    *self = Self::default();
                }
                removed
            }
        }
    }
}

impl Extend<PacketId> for ReceivedIds {
    fn extend<I: IntoIterator<Item = PacketId>>(&mut self, ids: I) {
        for id in ids {
            self.insert(id);
        }
    }
}

impl Bitmap {
    fn contains(&self, id: u16) -> bool {
        let (index, bit) = Self::place(id);
        self.words.get(index).is_some_and(|word| word & bit != 0)
    }

    fn insert(&mut self, id: u16) -> bool {
        let (index, bit) = Self::place(id);
        let Some(word) = self.words.get_mut(index) else {
            return false;
        };
        let fresh = *word & bit == 0;
        *word |= bit;
        self.count += u32::from(fresh);
        fresh
    }

    fn remove(&mut self, id: u16) -> bool {
        let (index, bit) = Self::place(id);
        let Some(word) = self.words.get_mut(index) else {
            return false;
        };
        let present = *word & bit != 0;
        *word &= !bit;
        self.count -= u32::from(present);
        present
    }

    fn place(id: u16) -> (usize, u64) {
        (usize::from(id >> 6), 1 << (id & 63))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn id(value: u16) -> PacketId {
        PacketId::new(value).unwrap()
    }

    /// Case B5: all ids of a peer that never sends PUBREL.
    #[test]
    fn all_ids_cost_at_most_nine_kibibytes_and_nothing_when_closed() {
        let mut ids = ReceivedIds::new();
        for value in 1..=u16::MAX {
            assert!(ids.insert(id(value)));
            assert!(!ids.insert(id(value)));
        }
        assert_eq!(ids.len(), 65_535);
        assert!(ids.heap_bytes() <= 9 * 1024);
        assert_eq!(ids.iter().count(), 65_535);
        for value in (1..=u16::MAX).rev() {
            assert!(ids.remove(id(value)));
            assert!(!ids.remove(id(value)));
        }
        ids.compact();
        assert!(ids.is_empty());
        assert_eq!(ids.heap_bytes(), 0);
    }

    proptest! {
        #[test]
        fn the_set_behaves_as_a_set(operations in prop::collection::vec((any::<bool>(), 1_u16..2_000), 0..1_800)) {
            let mut ids = ReceivedIds::new();
            let mut model = BTreeSet::new();
            for (insert, value) in operations {
                if insert {
                    prop_assert_eq!(ids.insert(id(value)), model.insert(value));
                } else {
                    prop_assert_eq!(ids.remove(id(value)), model.remove(&value));
                }
                prop_assert_eq!(ids.len(), model.len());
            }
            prop_assert!(ids.iter().map(PacketId::get).eq(model.iter().copied()));
        }
    }
}
