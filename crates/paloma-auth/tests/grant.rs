//! What is said of a whole filter holds for each of its topics.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

use std::fmt::Write;
use std::path::Path;

use paloma_auth::AclRules;
use paloma_broker::{Action, Authorizer, Grant, Identity};
use paloma_topic::{TopicFilterRef, TopicNameRef};
use proptest::prelude::*;

/// Every topic of up to three levels over a small alphabet.
fn topics() -> Vec<String> {
    let levels = ["", "a", "b", "$a", "ann", "c1"];
    let mut topics: Vec<String> = levels.iter().map(|level| (*level).to_owned()).collect();
    for _ in 0..2 {
        let longer = |topic: &String| levels.map(|level| format!("{topic}/{level}"));
        topics = topics
            .iter()
            .flat_map(longer)
            .chain(topics.clone())
            .collect();
    }
    topics.retain(|topic| !topic.is_empty());
    topics.sort();
    topics.dedup();
    topics
}

fn filter(levels: &'static [&'static str]) -> impl Strategy<Value = String> {
    let levels = prop::collection::vec(prop::sample::select(levels), 1..4);
    (levels, any::<bool>()).prop_map(|(mut levels, is_open)| {
        if is_open {
            levels.push("#");
        }
        levels.join("/")
    })
}

fn rule() -> impl Strategy<Value = String> {
    let access = prop::sample::select(&["read", "read", "write", "readwrite", "deny"][..]);
    prop_oneof![
        (access.clone(), filter(&["a", "b", "+", "+", "$a", "ann"]))
            .prop_map(|(access, filter)| format!("topic {access} {filter}")),
        (access, filter(&["a", "b", "+", "%u", "%c", "$%u"]))
            .prop_map(|(access, filter)| format!("pattern {access} {filter}")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(600) })]

    #[test]
    fn a_grant_speaks_for_every_topic_of_its_filter(
        rules in prop::collection::vec(rule(), 1..6),
        wanted in filter(&["a", "b", "+", "+", "$a", "ann", "c1", ""]),
        is_named in any::<bool>(),
        client_id in prop::sample::select(&["c1", "$a", "a/b", "+"][..]),
    ) {
        prop_assume!(!wanted.is_empty());
        let mut text = String::new();
        if is_named {
            text.push_str("user ann\n");
        }
        for rule in &rules {
            writeln!(text, "{rule}").unwrap();
        }
        let acl = AclRules::parse(Path::new("acl"), &text).unwrap();
        let identity = Identity { user: is_named.then(|| "ann".into()) };
        let wanted = TopicFilterRef::new(&wanted).unwrap();
        let grant = acl.grant(&identity, client_id, wanted);
        for topic in topics() {
            let topic = TopicNameRef::new(&topic).unwrap();
            if wanted.matches(topic) {
                let is_allowed = acl.is_allowed(&identity, client_id, Action::Read, topic);
                match grant {
                    Grant::AllAllowed => prop_assert!(is_allowed, "{text}{wanted} {topic}"),
                    Grant::Denied => prop_assert!(!is_allowed, "{text}{wanted} {topic}"),
                    Grant::CheckEach => {}
                }
            }
        }
    }
}
