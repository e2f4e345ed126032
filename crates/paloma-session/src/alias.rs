//! Topic aliases of one connection, one table for each direction. Neither is ever stored. [MQTT-3.3.2-7]

use alloc::vec::Vec;

use paloma_codec::{TopicAlias, TopicForm};
use paloma_topic::{Fault, TopicName, TopicNameRef};

/// Hashes of topics seen lately that the outbound table keeps, a power of two.
const SEEN: usize = 32;

/// What the peer's aliases stand for, bounded by the announced maximum and by bytes.
#[derive(Debug, Default)]
pub(crate) struct InboundAliases {
    /// Sorted by alias, so that a high alias costs no more than a low one.
    entries: Vec<(TopicAlias, TopicName)>,
    bytes: usize,
}

/// The table is full by bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TableFull;

impl InboundAliases {
    /// Makes `alias` stand for `topic`. The table may hold topics of `bytes_max` bytes in all.
    pub(crate) fn define(
        &mut self,
        alias: TopicAlias,
        topic: TopicNameRef<'_>,
        bytes_max: usize,
    ) -> Result<(), TableFull> {
        let place = self.entries.binary_search_by_key(&alias, |entry| entry.0);
        let old = place.ok().and_then(|place| self.entries.get_mut(place));
        let old_len = old.as_ref().map_or(0, |entry| entry.1.as_str().len());
        let bytes = self
            .bytes
            .saturating_sub(old_len)
            .saturating_add(topic.as_str().len());
        if bytes > bytes_max {
            return Err(TableFull);
        }
        match (old, place) {
            (Some(entry), _) if entry.1.as_str() == topic.as_str() => {}
            (Some(entry), _) => entry.1 = topic.to_owned(),
            (None, Ok(place) | Err(place)) => self.entries.insert(place, (alias, topic.to_owned())),
        }
        self.bytes = bytes;
        Ok(())
    }

    /// Bytes of heap that the table owns.
    pub(crate) const fn heap_bytes(&self) -> usize {
        let each = size_of::<(TopicAlias, TopicName)>();
        self.bytes
            .saturating_add(self.entries.capacity().saturating_mul(each))
    }

    /// What `alias` stands for. The copy shares the topic's bytes.
    pub(crate) fn resolve(&self, alias: TopicAlias) -> Option<TopicName> {
        let place = self
            .entries
            .binary_search_by_key(&alias, |entry| entry.0)
            .ok()?;
        Some(self.entries.get(place)?.1.clone())
    }
}

/// Which form of its topic an outgoing PUBLISH takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// The name alone.
    Name,
    /// The name, and an alias for it from here on.
    Define(TopicAlias),
    /// The alias alone.
    Alias(TopicAlias),
}

impl Choice {
    /// The form that the codec writes.
    pub(crate) const fn form(self) -> TopicForm {
        match self {
            Self::Name => TopicForm::Name,
            Self::Define(alias) => TopicForm::Define(alias),
            Self::Alias(alias) => TopicForm::Alias(alias),
        }
    }
}

/// Which topics have aliases towards the peer.
///
/// A topic gets a free alias at once. When all are taken, it replaces the least recently used one when it is seen a second
/// time lately, so that a stream of ever new topics costs neither bytes nor copies.
#[derive(Debug, Default)]
pub(crate) struct OutboundAliases {
    entries: Vec<OutboundAlias>,
    seen: Vec<u32>,
    clock: u32,
}

#[derive(Debug)]
struct OutboundAlias {
    hash: u32,
    used: u32,
    topic: Vec<u8>,
}

impl OutboundAliases {
    /// Bytes of heap that the table owns.
    pub(crate) fn heap_bytes(&self) -> usize {
        let topics = self.entries.iter().map(|entry| entry.topic.capacity());
        let each = size_of::<OutboundAlias>();
        topics
            .sum::<usize>()
            .saturating_add(self.entries.capacity().saturating_mul(each))
            .saturating_add(self.seen.capacity().saturating_mul(size_of::<u32>()))
    }

    /// The form to try first for `topic`, with at most `maximum` aliases. Nothing is registered by asking.
    pub(crate) fn choose(&mut self, topic: &[u8], maximum: u16) -> Choice {
        let hash = hash(topic);
        if let Some(place) = self.find(hash, topic) {
            return alias_of(place).map_or(Choice::Name, Choice::Alias);
        }
        if self.entries.len() < usize::from(maximum) {
            return alias_of(self.entries.len()).map_or(Choice::Name, Choice::Define);
        }
        if !self.was_seen(hash) {
            return Choice::Name;
        }
        let stalest = self
            .entries
            .iter()
            .enumerate()
            .min_by_key(|(_, entry)| entry.used);
        stalest
            .and_then(|(place, _)| alias_of(place))
            .map_or(Choice::Name, Choice::Define)
    }

    /// The PUBLISH went out in the form chosen: this registers a definition, and a use.
    pub(crate) fn sent(&mut self, choice: Choice, topic: &[u8]) {
        self.clock = self.clock.wrapping_add(1);
        let (Choice::Define(alias) | Choice::Alias(alias)) = choice else {
            return;
        };
        let place = usize::from(alias.get() - 1);
        if let Choice::Define(_) = choice {
            if place >= self.entries.len() {
                self.entries.push(OutboundAlias {
                    hash: 0,
                    used: 0,
                    topic: Vec::new(),
                });
            }
            if let Some(entry) = self.entries.get_mut(place) {
                entry.hash = hash(topic);
                entry.topic.clear();
                entry.topic.extend_from_slice(topic);
            }
        }
        if let Some(entry) = self.entries.get_mut(place) {
            entry.used = self.clock;
        }
    }

    fn find(&self, hash: u32, topic: &[u8]) -> Option<usize> {
        self.entries.iter().position(|entry| {
            (entry.hash == hash && entry.topic == topic)
                || (Fault::AliasMistaken.is_on() && entry.hash & 3 == hash & 3)
        })
    }

    /// Whether a topic of this hash was asked for lately; it was from here on.
    fn was_seen(&mut self, hash: u32) -> bool {
        if self.seen.is_empty() {
            self.seen.resize(SEEN, 0);
        }
        let Some(place) = self.seen.get_mut(hash as usize & (SEEN - 1)) else {
            return false;
        };
        core::mem::replace(place, hash) == hash
    }
}

fn alias_of(place: usize) -> Option<TopicAlias> {
    TopicAlias::new(u16::try_from(place.checked_add(1)?).ok()?)
}

/// FNV-1a: the table is tiny and its peer chooses only its own topics, so nothing is gained by flooding it.
fn hash(topic: &[u8]) -> u32 {
    topic.iter().fold(0x811C_9DC5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alias(value: u16) -> TopicAlias {
        TopicAlias::new(value).unwrap()
    }

    fn send(aliases: &mut OutboundAliases, topic: &[u8]) -> Choice {
        let choice = aliases.choose(topic, 2);
        aliases.sent(choice, topic);
        choice
    }

    #[test]
    fn the_inbound_table_owns_the_texts_that_it_stands_for() {
        let mut aliases = InboundAliases::default();
        let long = "x".repeat(500);
        let topic = TopicNameRef::new(&long).unwrap();
        assert_eq!(aliases.define(alias(1), topic, 1_000), Ok(()));
        assert!(aliases.heap_bytes() >= 500 + size_of::<TopicName>());
    }

    /// Case B10.
    #[test]
    fn the_inbound_table_is_bounded_by_bytes_and_forgets_what_is_redefined() {
        let mut aliases = InboundAliases::default();
        let long = "x".repeat(60);
        let topic = TopicNameRef::new(&long).unwrap();
        assert_eq!(aliases.define(alias(65_535), topic, 100), Ok(()));
        assert_eq!(aliases.define(alias(1), topic, 100), Err(TableFull));
        assert_eq!(aliases.resolve(alias(1)), None);
        assert_eq!(
            aliases.define(alias(65_535), TopicNameRef::new("a").unwrap(), 100),
            Ok(())
        );
        assert_eq!(aliases.define(alias(1), topic, 100), Ok(()));
        assert_eq!(aliases.resolve(alias(65_535)).unwrap().as_str(), "a");
    }

    #[test]
    fn a_topic_is_named_once_and_aliased_after() {
        let mut aliases = OutboundAliases::default();
        assert_eq!(send(&mut aliases, b"a"), Choice::Define(alias(1)));
        assert_eq!(send(&mut aliases, b"a"), Choice::Alias(alias(1)));
        assert_eq!(send(&mut aliases, b"b"), Choice::Define(alias(2)));
    }

    #[test]
    fn a_full_table_takes_a_topic_on_its_second_use_in_place_of_the_stalest() {
        let mut aliases = OutboundAliases::default();
        for topic in [b"a", b"b", b"a"] {
            send(&mut aliases, topic);
        }
        assert_eq!(send(&mut aliases, b"c"), Choice::Name);
        assert_eq!(send(&mut aliases, b"c"), Choice::Define(alias(2)));
        assert_eq!(send(&mut aliases, b"a"), Choice::Alias(alias(1)));
        assert_eq!(send(&mut aliases, b"b"), Choice::Name);
    }

    #[test]
    fn choosing_registers_nothing() {
        let mut aliases = OutboundAliases::default();
        assert_eq!(aliases.choose(b"a", 2), Choice::Define(alias(1)));
        assert_eq!(aliases.choose(b"b", 2), Choice::Define(alias(1)));
    }

    #[test]
    fn whatever_a_topic_is_it_gets_an_alias_of_a_full_table_when_it_comes_again() {
        let mut aliases = OutboundAliases::default();
        for topic in [b"a", b"b"] {
            send(&mut aliases, topic);
        }
        for n in 0..64_u8 {
            let topic = [b't', n];
            assert_eq!(send(&mut aliases, &topic), Choice::Name, "{n}");
            let again = send(&mut aliases, &topic);
            assert!(matches!(again, Choice::Define(_)), "{n}: {again:?}");
        }
    }
}
