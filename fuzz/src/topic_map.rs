//! A filter, then lines of operations on a `TopicMap` between the steps of one walk by that filter.
//!
//! `+topic` inserts, `-topic` removes, `=n` walks on for n steps, `!` refuses the next topic, `<` starts the walk. Before
//! `<`, topics only gather. Lines that are none of these are skipped.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use paloma_topic::{Cursor, HashSeed, TopicFilterRef, TopicMap, TopicNameRef, Walk};

/// What is known of a topic that is in the map.
#[derive(Clone, Copy, Default)]
struct Known {
    value: usize,
    /// Whether it has been there since the walk began.
    lasting: bool,
    visits: usize,
}

struct World<'a> {
    filter: TopicFilterRef<'a>,
    map: TopicMap<usize>,
    model: BTreeMap<TopicNameRef<'a>, Known>,
    cursor: Option<Cursor>,
    refuse: bool,
}

/// Runs the operations and checks that topics which last are visited exactly once.
pub fn run(data: &[u8]) {
    let Some((filter, lines)) = str::from_utf8(data)
        .ok()
        .and_then(|text| text.split_once('\n'))
    else {
        return;
    };
    let Ok(filter) = TopicFilterRef::new(filter) else {
        return;
    };
    let map = TopicMap::new(HashSeed::new(data.len() as u64));
    let mut world = World {
        filter,
        map,
        model: BTreeMap::new(),
        cursor: None,
        refuse: false,
    };
    for (value, line) in lines.lines().enumerate() {
        world.apply(value, line);
        assert_eq!(world.map.len(), world.model.len());
    }
    world.finish();
}

impl<'a> World<'a> {
    fn apply(&mut self, value: usize, line: &'a str) {
        if let Some(Ok(topic)) = line.strip_prefix('+').map(TopicNameRef::new) {
            let before = self.model.get(&topic).map(|known| known.value);
            assert_eq!(self.map.insert(topic, value), before);
            self.model.entry(topic).or_default().value = value;
        } else if let Some(Ok(topic)) = line.strip_prefix('-').map(TopicNameRef::new) {
            let before = self.model.remove(&topic).map(|known| known.value);
            assert_eq!(self.map.remove(topic), before);
        } else if let Some(Ok(steps)) = line.strip_prefix('=').map(str::parse::<u16>) {
            self.walk(steps.into());
        } else if line == "!" {
            self.refuse = true;
        } else if line == "<" && self.cursor.is_none() {
            self.start();
        }
    }

    fn start(&mut self) {
        self.cursor = Some(Cursor::new());
        for known in self.model.values_mut() {
            known.lasting = true;
        }
    }

    fn walk(&mut self, steps: usize) {
        let Self {
            filter,
            map,
            model,
            cursor,
            refuse,
        } = self;
        let Some(cursor) = cursor else {
            return;
        };
        let mut visits = 0;
        let walk = map.try_walk(*filter, cursor, steps, |topic, &value| {
            assert!(filter.matches(topic), "{topic:?}");
            if std::mem::take(refuse) {
                return ControlFlow::Break(());
            }
            let known = model
                .iter_mut()
                .find(|(name, _)| name.as_str() == topic.as_str());
            let (_, known) = known.expect("only topics in the map are visited");
            assert_eq!(known.value, value);
            known.visits += 1;
            visits += 1;
            ControlFlow::Continue(())
        });
        assert!(visits <= steps);
        assert_eq!(cursor.is_done(), walk == Walk::Done);
    }

    /// Walks to the end and counts.
    fn finish(mut self) {
        if self.cursor.is_none() {
            self.start();
        }
        self.refuse = false;
        self.walk(usize::MAX);
        assert!(self.cursor.is_some_and(|cursor| cursor.is_done()));
        for (topic, known) in &self.model {
            let expected = usize::from(self.filter.matches(*topic));
            assert!(
                !known.lasting || known.visits == expected,
                "{topic:?}: {}",
                known.visits
            );
            assert_eq!(self.map.remove(*topic), Some(known.value));
        }
        assert!(self.map.is_empty());
    }
}
