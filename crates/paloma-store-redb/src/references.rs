//! How many need which message.
//!
//! Messages come and go in the order of their numbers. A table with a place for each would be looked up somewhere else in memory
//! for every one of them, and a queue that is drained would wait for that most of the time; neighbours share a line, therefore.

use hashbrown::HashMap;
use paloma_broker::store::MessageId;

/// Messages whose numbers differ in no other bits share a line.
const PLACE_BITS: u32 = 3;
const LINE: usize = 1 << PLACE_BITS;

#[derive(Clone, Copy, Debug, Default)]
struct Reference {
    /// 0 is no such message.
    count: u32,
    bytes: u32,
}

type Line = [Reference; LINE];

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct References {
    lines: HashMap<u64, Line, foldhash::fast::FixedState>,
    messages: u64,
}

impl References {
    /// Messages that somebody needs.
    pub(crate) fn len(&self) -> u64 {
        self.messages
    }

    /// Bytes of memory, without the room that the table keeps free.
    pub(crate) fn memory_bytes(&self) -> u64 {
        (self.lines.len() * size_of::<(u64, Line)>()) as u64
    }

    pub(crate) fn contains(&self, id: MessageId) -> bool {
        let (line, place) = place_of(id);
        let line = self.lines.get(&line);
        line.and_then(|line| line.get(place))
            .is_some_and(|reference| reference.count > 0)
    }

    /// Counts one more; true if it is the first.
    pub(crate) fn add(&mut self, id: MessageId, bytes: u32) -> bool {
        let (line, place) = place_of(id);
        let line = self.lines.entry(line).or_default();
        let Some(reference) = line.get_mut(place) else {
            return false;
        };
        let is_first = reference.count == 0;
        if is_first {
            reference.bytes = bytes;
            self.messages += 1;
        }
        reference.count = reference.count.saturating_add(1);
        is_first
    }

    /// Counts one less; the message's length if it was the last.
    pub(crate) fn remove(&mut self, id: MessageId) -> Option<u32> {
        let (number, place) = place_of(id);
        let line = self.lines.get_mut(&number)?;
        let reference = line.get_mut(place)?;
        reference.count = reference.count.checked_sub(1)?;
        if reference.count > 0 {
            return None;
        }
        let bytes = reference.bytes;
        self.messages -= 1;
        if line.iter().all(|reference| reference.count == 0) {
            self.lines.remove(&number);
        }
        Some(bytes)
    }
}

/// The number of a message's line, and its place there.
fn place_of(id: MessageId) -> (u64, usize) {
    let place = id.0 % LINE as u64;
    (id.0 >> PLACE_BITS, usize::try_from(place).unwrap_or(LINE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Numbers that come (or go, if they are negative), beside a plain table.
    fn check(steps: &[i64]) {
        let mut references = References::default();
        let mut expected: BTreeMap<u64, u32> = BTreeMap::new();
        for step in steps {
            let number = step.unsigned_abs();
            let (id, bytes) = (MessageId(number), u32::try_from(number).unwrap() + 7);
            if *step >= 0 {
                let count = expected.entry(number).or_default();
                *count += 1;
                assert_eq!(references.add(id, bytes), *count == 1, "{step}");
            } else {
                let count = expected.get(&number).copied();
                match count {
                    Some(2..) => drop(expected.insert(number, count.unwrap() - 1)),
                    Some(_) => drop(expected.remove(&number)),
                    None => {}
                }
                let gone = (count == Some(1)).then_some(bytes);
                assert_eq!(references.remove(id), gone, "{step}");
            }
            assert_eq!(references.len(), expected.len() as u64);
            for number in 0..70 {
                let is_there = references.contains(MessageId(number));
                assert_eq!(is_there, expected.contains_key(&number), "{number}");
            }
        }
    }

    #[test]
    fn what_somebody_needs_is_there_until_nobody_does() {
        check(&[7, 8, 8, 9, -8, -7, -7, -8, -8, 8, -9, -8]);
        let all: Vec<i64> = (1..64).chain((1..64).map(|number| -number)).collect();
        check(&all);
        check(&[0, 63, 64, 65, -64, -63, 63, -65]);
    }

    #[test]
    fn what_is_gone_takes_no_memory() {
        let mut references = References::default();
        for number in 0..100 {
            references.add(MessageId(number), 1);
        }
        assert_eq!(references.memory_bytes(), 13 * 72);
        for number in 0..100 {
            references.remove(MessageId(number));
        }
        assert_eq!(references.memory_bytes(), 0);
    }
}
