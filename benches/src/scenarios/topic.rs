//! Scenarios of `paloma-topic`.

use std::hint::black_box;

use paloma_topic::{TopicFilter, TopicFilterRef, TopicName, TopicNameRef};

use crate::{Scenario, Work};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "topic/parse/name",
        units: 1,
        is_gated: true,
        prepare: parse_name,
    },
    Scenario {
        name: "topic/parse/filter",
        units: 1,
        is_gated: true,
        prepare: parse_filter,
    },
    Scenario {
        name: "topic/matches/wildcard",
        units: 1,
        is_gated: true,
        prepare: matches_wildcard,
    },
];

/// A topic as devices really use them: 6 levels, 44 bytes.
const TOPIC: &str = "site/warsaw/hall-3/line-12/press-7/temperature";
const FILTER: &str = "site/+/hall-3/+/press-7/#";

fn parse_name() -> Work {
    Box::new(|| {
        let _ = black_box(TopicNameRef::new(black_box(TOPIC)));
    })
}

fn parse_filter() -> Work {
    Box::new(|| {
        let _ = black_box(TopicFilterRef::new(black_box(FILTER)));
    })
}

fn matches_wildcard() -> Work {
    let filter = TopicFilter::new(FILTER).expect("a valid filter");
    let topic = TopicName::new(TOPIC).expect("a valid topic");
    Box::new(move || {
        black_box(black_box(&filter).matches(black_box(&topic).borrowed()));
    })
}
