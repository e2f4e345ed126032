//! A filter, a newline, a topic: `matches` against a second definition, written by levels from the back.

use paloma_topic::{TopicFilterRef, TopicNameRef};

/// Reads both lines and compares the two definitions of matching if both are valid.
pub fn run(data: &[u8]) {
    let Some((filter, topic)) = str::from_utf8(data)
        .ok()
        .and_then(|text| text.split_once('\n'))
    else {
        return;
    };
    let (Ok(filter), Ok(topic)) = (TopicFilterRef::new(filter), TopicNameRef::new(topic)) else {
        return;
    };
    assert_eq!(
        filter.matches(topic),
        matches(filter.as_str(), topic.as_str()),
        "{filter:?} {topic:?}"
    );
}

/// Cuts what `#` stands for off the topic, then compares level by level.
fn matches(filter: &str, topic: &str) -> bool {
    let wanted: Vec<&str> = filter.split('/').collect();
    let mut given: Vec<&str> = topic.split('/').collect();
    if topic.starts_with('$') && ["#", "+"].contains(&wanted[0]) {
        return false;
    }
    let mut exact = wanted.as_slice();
    if let [parents @ .., "#"] = exact {
        if given.len() < parents.len() {
            return false;
        }
        given.truncate(parents.len());
        exact = parents;
    }
    exact.len() == given.len()
        && exact
            .iter()
            .zip(&given)
            .all(|(wanted, given)| *wanted == "+" || wanted == given)
}
