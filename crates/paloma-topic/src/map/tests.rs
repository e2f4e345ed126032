//! Tests of the topic map: lookups, memory, and walks that rest.

use alloc::string::String;
use alloc::vec::Vec;
use alloc::{format, vec};
use core::ops::ControlFlow;

use super::*;
use crate::testing::in_small_stack;
use crate::{TopicFilter, TopicFilterRef, TopicName};

fn name(text: &str) -> TopicNameRef<'_> {
    TopicNameRef::new(text).unwrap()
}

fn filter(text: &str) -> TopicFilterRef<'_> {
    TopicFilterRef::new(text).unwrap()
}

fn map_of(topics: &[&str]) -> TopicMap<usize> {
    let mut map = TopicMap::new(HashSeed::new(1));
    for (value, topic) in topics.iter().enumerate() {
        assert_eq!(map.insert(name(topic), value), None);
    }
    map
}

fn walk_all(map: &TopicMap<usize>, filter: TopicFilterRef<'_>, budget: usize) -> Vec<String> {
    let mut cursor = Cursor::new();
    let mut topics = Vec::new();
    while map.walk(filter, &mut cursor, budget, |topic, value| {
        assert_eq!(map.get(topic), Some(value));
        topics.push(String::from(topic.as_str()));
    }) == Walk::Paused
    {}
    topics
}

/// Walks in one go and step by step, and compares what comes, in any order.
#[track_caller]
fn check(topics: &[&str], text: &str, expected: &[&str]) {
    let map = map_of(topics);
    let mut expected = expected.to_vec();
    expected.sort_unstable();
    for budget in [1, 2, 1_000] {
        let mut found = walk_all(&map, filter(text), budget);
        found.sort_unstable();
        assert_eq!(
            found, expected,
            "{text} in {topics:?}, {budget} steps at a time"
        );
    }
}

#[test]
fn a_topic_keeps_the_value_set_last() {
    let mut map = TopicMap::new(HashSeed::new(2));
    assert_eq!(map.insert(name("a/b"), 1), None);
    assert_eq!(map.insert(name("a/b"), 2), Some(1));
    *map.get_mut(name("a/b")).unwrap() += 1;
    assert_eq!((map.get(name("a/b")), map.len()), (Some(&3), 1));
    assert_eq!(map.remove(name("a/b")), Some(3));
    assert_eq!((map.remove(name("a/b")), map.len()), (None, 0));
}

#[test]
fn topics_that_share_a_beginning_are_apart() {
    let topics = [
        "a/b/c", "a/b", "a", "a/", "a//", "/a", "/", "a/b/c/d", "ab", "a/b/d",
    ];
    let mut map = map_of(&topics);
    for (value, topic) in topics.iter().enumerate() {
        assert_eq!(map.get(name(topic)), Some(&value), "{topic}");
    }
    for absent in ["b", "a/b/", "//", "a/b/c/d/e", "a/c"] {
        assert_eq!(map.get(name(absent)), None, "{absent}");
    }
    for (value, topic) in topics.iter().enumerate() {
        assert_eq!(map.remove(name(topic)), Some(value), "{topic}");
    }
    assert!(map.is_empty());
}

#[test]
fn a_lone_topic_costs_one_node() {
    let map = map_of(&["a/b/c/d/e/f/g", "b/b/c/d/e/f/g"]);
    assert_eq!(map.nodes.len(), 3);
}

#[test]
fn removal_frees_all_nodes() {
    let topics: Vec<String> = (0..1_000)
        .map(|i| format!("{}/{}/{i}", i % 7, i % 31))
        .collect();
    let mut map = TopicMap::new(HashSeed::new(3));
    for topic in &topics {
        map.insert(name(topic), ());
    }
    for topic in &topics {
        map.remove(name(topic));
    }
    assert_eq!((map.nodes.len(), map.len()), (1, 0));
    assert!(map.nodes.at(ROOT).children.is_none());
}

#[test]
fn walks_follow_the_definition_of_matching() {
    let topics = ["a", "a/", "a/b", "a/b/c", "b/b/c", "/b", "b", "b/b"];
    check(&topics, "#", &topics);
    check(&topics, "+", &["a", "b"]);
    check(&topics, "a/#", &["a", "a/", "a/b", "a/b/c"]);
    check(&topics, "+/b", &["a/b", "/b", "b/b"]);
    check(&topics, "+/+/c", &["a/b/c", "b/b/c"]);
    check(&topics, "+/b/#", &["a/b", "a/b/c", "/b", "b/b", "b/b/c"]);
    check(&topics, "a/b", &["a/b"]);
    check(&topics, "a/c", &[]);
    check(&[], "#", &[]);
}

#[test]
fn a_leading_wildcard_passes_no_reserved_topic() {
    // [MQTT-4.7.2-1] [MQTT311-4.7.2-1]
    let topics = ["$SYS/a", "$SYS/b/c", "$", "a/$SYS", "a"];
    check(&topics, "#", &["a/$SYS", "a"]);
    check(&topics, "+", &["a"]);
    check(&topics, "+/#", &["a", "a/$SYS"]);
    check(&topics, "+/a", &[]);
    check(&topics, "$SYS/#", &["$SYS/a", "$SYS/b/c"]);
    check(&topics, "$SYS/+", &["$SYS/a"]);
    check(&topics, "$", &["$"]);
}

#[test]
fn a_walk_takes_no_more_steps_than_its_budget() {
    let topics: Vec<String> = (0..1_000).map(|i| format!("{}/{i}", i % 10)).collect();
    let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
    let map = map_of(&topics);
    let mut cursor = Cursor::new();
    let mut calls = 0;
    let mut visited = 0;
    loop {
        let before = visited;
        calls += 1;
        if map.walk(filter("#"), &mut cursor, 10, |_, _| visited += 1) == Walk::Done {
            break;
        }
        assert!(visited - before <= 10);
    }
    assert_eq!(visited, 1_000);
    assert!((100..=103).contains(&calls), "{calls}");
    assert!(cursor.is_done());
    let again = map.walk(filter("#"), &mut cursor, 10, |_, _| visited += 1);
    assert_eq!((again, visited), (Walk::Done, 1_000));
}

#[test]
fn a_refused_topic_is_offered_again() {
    let map = map_of(&["a/b", "a", "b/c/d"]);
    let mut cursor = Cursor::new();
    let mut taken = vec![];
    let mut refusals = 0;
    let mut refuse = true;
    while map.try_walk(filter("#"), &mut cursor, 100, |topic, _| {
        refuse = !refuse;
        if !refuse {
            refusals += 1;
            return ControlFlow::Break(());
        }
        taken.push(String::from(topic.as_str()));
        ControlFlow::Continue(())
    }) == Walk::Paused
    {}
    taken.sort_unstable();
    assert_eq!(
        (taken, refusals),
        (vec!["a".into(), "a/b".into(), "b/c/d".into()], 3)
    );
}

#[test]
fn a_walk_goes_on_when_its_resting_place_is_gone() {
    let mut map = map_of(&["a/b/c", "a/b/d", "b/x"]);
    let mut cursor = Cursor::new();
    let mut first = None;
    while first.is_none() {
        let walk = map.walk(filter("#"), &mut cursor, 1, |topic, _| {
            first = Some(topic.to_owned())
        });
        assert_eq!(walk, Walk::Paused);
    }
    assert_eq!(first.as_ref().map(TopicName::as_str), Some("a/b/c"));
    map.remove(name("a/b/c"));
    map.remove(name("a/b/d"));
    // The first child's place goes to these, which the filter does not match.
    map.insert(name("$z/y"), 9);
    map.insert(name("$z/z"), 9);
    let mut rest = vec![];
    assert_eq!(
        map.walk(filter("#"), &mut cursor, 100, |topic, _| rest
            .push(topic.to_owned())),
        Walk::Done
    );
    assert_eq!(
        rest.iter().map(TopicName::as_str).collect::<Vec<_>>(),
        ["b/x"]
    );
}

#[test]
fn a_vacant_position_is_used_again() {
    let mut children = Children::default();
    let positions: Vec<u32> = (0..4).map(|id| children.add(id)).collect();
    assert_eq!(positions, [0, 1, 2, 3]);
    children.remove(1);
    children.remove(3);
    children.remove(2);
    assert_eq!((children.ids.len(), children.vacant.len()), (1, 0));
    children.add(4);
    children.add(5);
    children.remove(1);
    assert_eq!([children.add(6), children.add(7)], [1, 3]);
    assert!(children.ids.iter().eq(&[0, 6, 5, 7]));
}

#[test]
fn the_order_of_a_walk_does_not_depend_on_the_seed() {
    let orders: Vec<Vec<String>> = (0..8)
        .map(|seed| {
            let mut map = TopicMap::new(HashSeed::new(seed));
            for i in 0..200 {
                map.insert(name(&format!("{}/{}", i % 13, i)), i);
            }
            walk_all(&map, filter("#"), 7)
        })
        .collect();
    assert_eq!(orders[0].len(), 200);
    assert!(orders.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn deep_topics_need_no_deep_stack() {
    in_small_stack(|| {
        let deep = "/".repeat(65_535);
        let longest = format!("{}a", &deep[1..]);
        let mut map = map_of(&[&deep, &longest]);
        let everything = TopicFilter::new("#").unwrap();
        assert_eq!(walk_all(&map, everything.borrowed(), 1_000_000).len(), 2);
        assert_eq!(walk_all(&map, filter(&deep), 1_000_000).len(), 1);
        assert_eq!(map.remove(name(&deep)), Some(0));
        assert_eq!(map.remove(name(&longest)), Some(1));
        assert_eq!(map.nodes.len(), 1);
    });
}

#[test]
fn a_node_with_a_pointer_for_a_value_has_40_bytes() {
    assert_eq!(size_of::<Node<Box<u8>>>(), 40);
}
