//! Topic filters: what a subscription asks for, and the definition of matching.

use bytestring::ByteString;

use crate::level::{has_suspect, split_level_bytes};
use crate::{TopicError, TopicLimits, TopicNameRef};

/// A valid topic filter that owns its text.
///
/// At least one character, at most 65,535 bytes, no U+0000, `#` only as the whole last level and `+` only
/// as a whole level ([MQTT-4.7.1-1], [MQTT-4.7.1-2], [MQTT-4.7.3-1] to [MQTT-4.7.3-3]). A text that begins
/// with `$share/` is an ordinary filter here; [`Target`](crate::Target) gives it its meaning. Cloning shares
/// the text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicFilter(ByteString);

impl TopicFilter {
    /// Checks `text` against the standard's rules and keeps it without a copy.
    ///
    /// # Errors
    /// The first rule that the text breaks.
    pub fn new(text: impl Into<ByteString>) -> Result<Self, TopicError> {
        Self::with_limits(text, &TopicLimits::STANDARD)
    }

    /// Checks `text` against the standard's rules and `limits`.
    ///
    /// # Errors
    /// The first rule or limit that the text breaks.
    pub fn with_limits(
        text: impl Into<ByteString>,
        limits: &TopicLimits,
    ) -> Result<Self, TopicError> {
        let text = text.into();
        TopicFilterRef::with_limits(&text, limits)?;
        Ok(Self(text))
    }

    /// Takes text whose validity is already known.
    pub(crate) const fn trusted(text: ByteString) -> Self {
        Self(text)
    }

    /// The filter as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The borrowed form, which is `Copy`.
    #[must_use]
    pub fn borrowed(&self) -> TopicFilterRef<'_> {
        TopicFilterRef(&self.0)
    }

    /// The text that the filter was made of.
    #[must_use]
    pub fn into_inner(self) -> ByteString {
        self.0
    }

    /// Whether a message published to `topic` is for this filter; see [`TopicFilterRef::matches`].
    #[must_use]
    pub fn matches(&self, topic: TopicNameRef<'_>) -> bool {
        self.borrowed().matches(topic)
    }
}

/// A valid topic filter that borrows its text.
///
/// The promises are those of [`TopicFilter`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicFilterRef<'a>(&'a str);

impl<'a> TopicFilterRef<'a> {
    /// Checks `text` against the standard's rules.
    ///
    /// # Errors
    /// The first rule that the text breaks.
    pub fn new(text: &'a str) -> Result<Self, TopicError> {
        Self::with_limits(text, &TopicLimits::STANDARD)
    }

    /// Checks `text` against the standard's rules and `limits`.
    ///
    /// # Errors
    /// The first rule or limit that the text breaks.
    pub fn with_limits(text: &'a str, limits: &TopicLimits) -> Result<Self, TopicError> {
        limits.check_bytes(text)?;
        if has_suspect(text) {
            check_suspects(text)?;
        }
        limits.check_levels(text)?;
        Ok(Self(text))
    }

    /// The filter as text.
    #[must_use]
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// The levels in order; there is at least one, and any may be empty.
    pub fn levels(self) -> impl Iterator<Item = &'a str> {
        self.0.split('/')
    }

    /// Whether any level is a wildcard.
    #[must_use]
    pub fn has_wildcard(self) -> bool {
        // U+0000 cannot be what is found here.
        has_suspect(self.0)
    }

    /// The one topic name that a filter without wildcards matches; `None` if it has wildcards.
    #[must_use]
    pub fn as_name(self) -> Option<TopicNameRef<'a>> {
        (!self.has_wildcard()).then_some(TopicNameRef::trusted(self.0))
    }

    /// Copies the filter into an owned one.
    #[must_use]
    pub fn to_owned(self) -> TopicFilter {
        TopicFilter(ByteString::from(self.0))
    }

    /// Whether a message published to `topic` is for this filter.
    ///
    /// This is the definition that [`FilterTrie`](crate::FilterTrie) and [`TopicMap`](crate::TopicMap) must
    /// agree with. `+` stands for exactly one level, which may be empty; `#` for any number of levels, zero
    /// included, so `a/#` matches `a`. A filter whose first level is a wildcard matches no topic that begins
    /// with `$` [MQTT-4.7.2-1]. Levels are compared byte for byte [MQTT-4.7.3-4]. The time is linear in the
    /// shorter text.
    #[must_use]
    pub fn matches(self, topic: TopicNameRef<'_>) -> bool {
        if topic.is_reserved() && self.0.starts_with(['+', '#']) {
            return false;
        }
        levels_match(Some(self.0.as_bytes()), Some(topic.as_str().as_bytes()))
    }
}

/// Compares what is left of a filter with what is left of a topic, `None` being nothing at all.
#[inline]
pub(crate) fn levels_match(filter: Option<&[u8]>, topic: Option<&[u8]>) -> bool {
    let (mut filter, mut topic) = (filter, topic);
    loop {
        let (Some(filter_rest), Some(topic_rest)) = (filter, topic) else {
            return topic.is_none() && filter.is_none_or(|rest| rest == b"#");
        };
        let (filter_level, filter_next) = split_level_bytes(filter_rest);
        if filter_level == b"#" {
            return true;
        }
        let (topic_level, topic_next) = split_level_bytes(topic_rest);
        if filter_level != b"+" && filter_level != topic_level {
            return false;
        }
        (filter, topic) = (filter_next, topic_next);
    }
}

/// Looks for U+0000, and at what stands beside each wildcard.
fn check_suspects(text: &str) -> Result<(), TopicError> {
    let mut before = b'/';
    let mut bytes = text.as_bytes().iter();
    while let Some(&byte) = bytes.next() {
        // All three are at most `+`, and little else in a filter is.
        if byte <= b'+' {
            check_suspect(byte, before, bytes.as_slice().first().copied())?;
        }
        before = byte;
    }
    Ok(())
}

fn check_suspect(byte: u8, before: u8, after: Option<u8>) -> Result<(), TopicError> {
    match (byte, before, after) {
        (0, _, _) => Err(TopicError::Null),
        (b'#', b'/', None) | (b'+', b'/', None | Some(b'/')) => Ok(()),
        (b'#', b'/', Some(b'/')) => Err(TopicError::MultiLevelNotLast),
        (b'#', _, _) => Err(TopicError::MultiLevelNotAlone),
        (b'+', _, _) => Err(TopicError::SingleLevelNotAlone),
        (_, _, _) => Ok(()),
    }
}

crate::text::text_impls!(TopicFilter, TopicFilterRef);

#[cfg(test)]
mod tests {
    use TopicError::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<(), TopicError>) {
        assert_eq!(TopicFilterRef::new(text).map(drop), expected, "{text:?}");
        assert_eq!(TopicFilter::new(text).map(drop), expected, "{text:?}");
    }

    #[track_caller]
    fn check_match(filter: &str, topic: &str, expected: bool) {
        let filter = TopicFilter::new(filter).unwrap();
        let topic = TopicNameRef::new(topic).unwrap();
        assert_eq!(filter.matches(topic), expected, "{filter} {topic}");
    }

    #[test]
    fn a_filter_is_one_to_65535_bytes_without_null() {
        // [MQTT-4.7.3-1] [MQTT-4.7.3-2] [MQTT-4.7.3-3]
        check("", Err(Empty));
        check("/", Ok(()));
        check("a\0/#", Err(Null));
        check(&"/".repeat(65_535), Ok(()));
        check(&"a".repeat(65_536), Err(TooLong));
    }

    #[test]
    fn a_multi_level_wildcard_is_the_whole_last_level() {
        // [MQTT-4.7.1-1] [MQTT311-4.7.1-2]
        check("#", Ok(()));
        check("sport/tennis/#", Ok(()));
        check("/#", Ok(()));
        check("+/#", Ok(()));
        check("sport/tennis#", Err(MultiLevelNotAlone));
        check("sport/#a", Err(MultiLevelNotAlone));
        check("##", Err(MultiLevelNotAlone));
        check("+#", Err(SingleLevelNotAlone));
        check("sport/tennis/#/ranking", Err(MultiLevelNotLast));
        check("#/", Err(MultiLevelNotLast));
    }

    #[test]
    fn a_single_level_wildcard_is_a_whole_level() {
        // [MQTT-4.7.1-2] [MQTT311-4.7.1-3]
        for text in [
            "+",
            "+/tennis/#",
            "sport/+/player1",
            "/+",
            "+/",
            "+/+",
            "//+",
        ] {
            check(text, Ok(()));
        }
        for text in ["sport+", "+a", "a/+b/c", "++"] {
            check(text, Err(SingleLevelNotAlone));
        }
    }

    #[test]
    fn exact_filters_match_their_own_text_only() {
        // [MQTT-4.7.3-4] [MQTT311-4.7.3-4]
        check_match("a/b", "a/b", true);
        check_match("a/b", "a/B", false);
        check_match("a/b", "a/b/", false);
        check_match("a/b/", "a/b", false);
        check_match("a", "/a", false);
        check_match("ACCOUNTS", "Accounts", false);
        check_match("Ä", "A\u{308}", false);
    }

    #[test]
    fn a_multi_level_wildcard_matches_the_parent_and_all_below() {
        for topic in ["sport", "sport/", "sport/a", "sport/a/b/c"] {
            check_match("sport/#", topic, true);
        }
        check_match("sport/#", "sports", false);
        check_match("#", "/", true);
        check_match("#", "a/b/c", true);
        check_match("a/b/#", "a", false);
    }

    #[test]
    fn a_single_level_wildcard_matches_exactly_one_level() {
        check_match("sport/+", "sport", false);
        check_match("sport/+", "sport/", true);
        check_match("sport/+", "sport/a", true);
        check_match("sport/+", "sport/a/b", false);
        check_match("+", "/finance", false);
        check_match("+/+", "/finance", true);
        check_match("/+", "/finance", true);
        check_match("+/b/+", "a/b/c", true);
        check_match("+/c/+", "a/b/c", false);
        check_match("+/#", "a", true);
        check_match("+/+/#", "a", false);
    }

    #[test]
    fn a_leading_wildcard_never_matches_a_reserved_topic() {
        // [MQTT-4.7.2-1] [MQTT311-4.7.2-1]
        check_match("#", "$SYS/x", false);
        check_match("+/x", "$SYS/x", false);
        check_match("+/#", "$SYS/x", false);
        check_match("#", "$", false);
        check_match("$SYS/#", "$SYS/x", true);
        check_match("$SYS/+", "$SYS/x", true);
        check_match("$SYS/x", "$SYS/x", true);
    }

    #[test]
    fn a_dollar_below_the_first_level_is_an_ordinary_character() {
        check_match("#", "a/$SYS", true);
        check_match("a/+", "a/$SYS", true);
        check_match("+/+", "/$SYS", true);
    }

    #[test]
    fn deep_texts_match_without_deep_stacks() {
        let run = || {
            let deep = "/".repeat(65_535);
            check_match(&deep, &deep, true);
            check_match("#", &deep, true);
            let plus = "+/".repeat(32_767);
            check_match(&plus, &"/".repeat(32_767), true);
            check_match(&plus, &deep, false);
        };
        crate::testing::in_small_stack(run);
    }

    #[test]
    fn exact_filters_are_names() {
        assert_eq!(
            TopicFilterRef::new("a/b").unwrap().as_name(),
            TopicNameRef::new("a/b").ok()
        );
        assert_eq!(TopicFilterRef::new("a/+").unwrap().as_name(), None);
    }
}
