//! Scenarios of `paloma-topic`.

use std::hint::black_box;

use paloma_topic::{
    Cursor, FilterTrie, HashSeed, Hashed, Index, TopicFilter, TopicFilterRef, TopicMap, TopicName,
    TopicNameRef, Walk,
};

use crate::{Scenario, Work};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::gated("topic/parse/name", TOPICS, parse_name),
    Scenario::gated("topic/parse/filter", TOPICS, parse_filter),
    Scenario::gated("topic/matches/wildcard", TOPICS, matches_wildcard),
    Scenario::gated("topic/trie/exact/10", TOPICS, || {
        match_trie(10, Filters::Exact)
    }),
    Scenario::gated("topic/trie/exact/1k", TOPICS, || {
        match_trie(1_000, Filters::Exact)
    }),
    Scenario::gated("topic/trie/exact/100k", TOPICS, || {
        match_trie(100_000, Filters::Exact)
    }),
    Scenario::timed("topic/trie/exact/1M", TOPICS, || {
        match_trie(1_000_000, Filters::Exact)
    }),
    Scenario::gated("topic/trie/wildcard/10", TOPICS, || {
        match_trie(10, Filters::Wildcard)
    }),
    Scenario::gated("topic/trie/wildcard/1k", TOPICS, || {
        match_trie(1_000, Filters::Wildcard)
    }),
    Scenario::gated("topic/trie/wildcard/100k", TOPICS, || {
        match_trie(100_000, Filters::Wildcard)
    }),
    Scenario::timed("topic/trie/wildcard/1M", TOPICS, || {
        match_trie(1_000_000, Filters::Wildcard)
    }),
    Scenario::gated("topic/trie/mixed/10", TOPICS, || {
        match_trie(10, Filters::Mixed)
    }),
    Scenario::gated("topic/trie/mixed/1k", TOPICS, || {
        match_trie(1_000, Filters::Mixed)
    }),
    Scenario::gated("topic/trie/mixed/100k", TOPICS, || {
        match_trie(100_000, Filters::Mixed)
    }),
    Scenario::timed("topic/trie/mixed/1M", TOPICS, || {
        match_trie(1_000_000, Filters::Mixed)
    }),
    // Every match somewhere else in the tree, so that what it touches is in no cache if the tree is large.
    Scenario::gated("topic/trie/far/10k", FAR_TOPICS, || match_far(10_000)),
    Scenario::timed("topic/trie/far/100k", FAR_TOPICS, || match_far(100_000)),
    Scenario::timed("topic/trie/far/1M", FAR_TOPICS, || match_far(1_000_000)),
    Scenario::gated("topic/trie/insert-remove/1k", TOPICS, || change_trie(1_000)),
    Scenario::gated("topic/index/find/1k", TOPICS, || find_in_index(1_000)),
    Scenario::gated("topic/index/find/100k", TOPICS, || find_in_index(100_000)),
    Scenario::timed("topic/index/find/1M", TOPICS, || find_in_index(1_000_000)),
    // From one to sixteen segments and back, the moves of every split and merge included.
    Scenario::gated("topic/index/grow-shrink/16k", 16_384, || grow_index(16_384)),
    Scenario::gated("topic/map/get/10k", TOPICS, || read_map(10_000)),
    Scenario::gated("topic/map/walk-all/10k", 10_000, || walk_map(10_000, "#")),
    Scenario::gated("topic/map/walk-one-level/10k", 100, || {
        walk_map(10_000, "site/7/device/+/state")
    }),
];

/// Topics that one call looks up.
const TOPICS: u64 = 100;
/// The same for topics that are far apart.
const FAR_TOPICS: u64 = 1_000;
/// Topics of a large tree that are looked up in turn: what they touch has to be more than a cache holds.
const FAR_PLACES: usize = 100_000;
/// Devices at one site, which bounds how wide a level is.
const DEVICES_PER_SITE: usize = 100;

/// What the subscriptions of a trie look like.
#[derive(Clone, Copy)]
enum Filters {
    Exact,
    Wildcard,
    /// Four exact ones for each with a wildcard.
    Mixed,
}

/// A device's topic, as long as topics really are.
fn topic(device: usize) -> TopicName {
    let text = format!("site/{}/device/{device}/state", device / DEVICES_PER_SITE);
    TopicName::new(text).expect("a valid topic")
}

/// The filter that one subscriber has for one device; both kinds of wildcard occur.
fn filter(device: usize, filters: Filters) -> TopicFilter {
    let site = device / DEVICES_PER_SITE;
    let is_exact = match filters {
        Filters::Exact => true,
        Filters::Wildcard => false,
        Filters::Mixed => !device.is_multiple_of(5),
    };
    let text = match (is_exact, device.is_multiple_of(2)) {
        (true, _) => format!("site/{site}/device/{device}/state"),
        (false, true) => format!("site/+/device/{device}/+"),
        (false, false) => format!("site/{site}/+/{device}/#"),
    };
    TopicFilter::new(text).expect("a valid filter")
}

/// Topics spread over all devices by a stride that is coprime to their number.
fn spread(devices: usize) -> Vec<TopicName> {
    (0..TOPICS)
        .zip((0_usize..).step_by(7_919))
        .map(|(_, place)| topic(place % devices))
        .collect()
}

fn index_of(ids: u32) -> Index {
    let mut index = Index::new();
    for id in 0..ids {
        index.insert(Hashed::of_number(id.into()), id);
    }
    index
}

fn find_in_index(ids: u32) -> Work {
    let index = index_of(ids);
    Box::new(move || {
        for place in (0..ids).step_by(7_919).cycle().zip(0..TOPICS) {
            let id = black_box(place.0);
            let found = index.find(Hashed::of_number(id.into()), |other| other == id);
            black_box(found);
        }
    })
}

fn grow_index(ids: u32) -> Work {
    Box::new(move || {
        let mut index = index_of(black_box(ids));
        for id in 0..ids {
            index.remove(Hashed::of_number(id.into()), id);
        }
        assert!(black_box(index).is_empty());
    })
}

fn parse_name() -> Work {
    let topics = spread(10_000);
    Box::new(move || {
        for topic in &topics {
            let _ = black_box(TopicNameRef::new(black_box(topic.as_str())));
        }
    })
}

fn parse_filter() -> Work {
    let filters: Vec<TopicFilter> = (0..TOPICS)
        .zip(0..)
        .map(|(_, device)| filter(device, Filters::Wildcard))
        .collect();
    Box::new(move || {
        for filter in &filters {
            let _ = black_box(TopicFilterRef::new(black_box(filter.as_str())));
        }
    })
}

fn matches_wildcard() -> Work {
    let filter = TopicFilter::new("site/+/device/+/#").expect("a valid filter");
    let topics = spread(10_000);
    Box::new(move || {
        for topic in &topics {
            black_box(black_box(&filter).matches(topic.borrowed()));
        }
    })
}

fn match_trie(subscriptions: usize, filters: Filters) -> Work {
    let mut trie = FilterTrie::new(HashSeed::new(1));
    for device in 0..subscriptions {
        trie.insert(filter(device, filters).borrowed(), device);
    }
    let topics = spread(subscriptions);
    Box::new(move || {
        for topic in &topics {
            trie.for_each_match(black_box(topic.borrowed()), |value| {
                black_box(value);
            });
        }
    })
}

/// Each topic matches three filters of its own, as in the scenarios of `cargo xtask load`.
fn match_far(subscriptions: usize) -> Work {
    let groups = subscriptions / 3;
    let mut trie = FilterTrie::new(HashSeed::new(1));
    for group in 0..groups {
        for text in super::filters_of_group(group) {
            let filter = TopicFilter::new(text).expect("a valid filter");
            // A value is as long as the broker's.
            trie.insert(filter.borrowed(), [group, 0]);
        }
    }
    let topics: Vec<TopicName> = super::far_groups(groups)
        .take(FAR_PLACES.min(groups))
        .map(|group| TopicName::new(super::topic_of_group(group)).expect("a valid topic"))
        .collect();
    let mut next = 0;
    Box::new(move || {
        for _ in 0..FAR_TOPICS {
            let Some(topic) = topics.get(next) else {
                unreachable!("it begins again behind the last one");
            };
            next = (next + 1) % topics.len();
            trie.for_each_match(black_box(topic.borrowed()), |value| {
                black_box(value[0]);
            });
        }
    })
}

fn change_trie(subscriptions: usize) -> Work {
    let mut trie = FilterTrie::new(HashSeed::new(1));
    for device in 0..subscriptions {
        trie.insert(filter(device, Filters::Mixed).borrowed(), device);
    }
    let others: Vec<TopicFilter> = (0..TOPICS)
        .zip(subscriptions..)
        .map(|(_, device)| filter(device, Filters::Mixed))
        .collect();
    Box::new(move || {
        for filter in &others {
            trie.insert(filter.borrowed(), 0);
        }
        for filter in &others {
            trie.remove(filter.borrowed());
        }
    })
}

fn map(topics: usize) -> TopicMap<usize> {
    let mut map = TopicMap::new(HashSeed::new(1));
    for device in 0..topics {
        map.insert(topic(device).borrowed(), device);
    }
    map
}

fn read_map(topics: usize) -> Work {
    let map = map(topics);
    let wanted = spread(topics);
    Box::new(move || {
        for topic in &wanted {
            black_box(map.get(black_box(topic.borrowed())));
        }
    })
}

fn walk_map(topics: usize, filter: &'static str) -> Work {
    let map = map(topics);
    let filter = TopicFilterRef::new(filter).expect("a valid filter");
    Box::new(move || {
        let mut cursor = Cursor::new();
        let mut visit = |topic: TopicNameRef<'_>, value: &usize| {
            black_box((topic, value));
        };
        while map.walk(filter, &mut cursor, 256, &mut visit) != Walk::Done {}
    })
}
