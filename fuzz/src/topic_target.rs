//! A text as a SUBSCRIBE entry, a filter and a name: what is accepted keeps its rules and its text.

use paloma_topic::{Target, TopicError, TopicFilter, TopicLimits, TopicName};

/// Parses the text in every way and checks the answers against each other and against plain restatements.
pub fn run(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let name = TopicName::new(text);
    let filter = TopicFilter::new(text);
    let is_storable = !text.is_empty() && text.len() <= 65_535 && !text.contains('\0');
    assert_eq!(name.is_ok(), is_storable && !text.contains(['+', '#']));
    assert_eq!(filter.is_ok(), is_storable && has_whole_wildcards(text));
    if let Ok(filter) = &filter {
        assert_eq!(filter.borrowed().as_name().is_some(), name.is_ok());
    }
    match Target::parse(text) {
        Ok(target) => {
            assert_eq!(target.to_string(), text);
            assert_eq!(target.share().is_some(), text.starts_with("$share/"));
            assert!(
                target
                    .share()
                    .is_none_or(|share| !share.as_str().contains(['/', '+', '#']))
            );
        }
        Err(error) => assert!(filter.is_err() || text.starts_with("$share/"), "{error}"),
    }
    check_limits(text);
}

fn has_whole_wildcards(text: &str) -> bool {
    let levels: Vec<&str> = text.split('/').collect();
    let is_whole = |level: &&str| level.len() == 1 || !level.contains(['+', '#']);
    let above = levels.split_last().map_or(&[][..], |(_, above)| above);
    levels.iter().all(is_whole) && !above.contains(&"#")
}

fn check_limits(text: &str) {
    let limits = TopicLimits {
        bytes_max: 64,
        levels_max: 8,
    };
    let is_within = text.len() <= 64 && text.split('/').count() <= 8;
    let limited = TopicName::with_limits(text, &limits);
    match TopicName::new(text) {
        Ok(_) => assert_eq!(limited.is_ok(), is_within),
        Err(error) => assert!(matches!(limited, Err(e) if e == error || e == TopicError::BytesMax)),
    }
}
