//! Questions about all topics of a filter at once.

use std::borrow::Cow;

use paloma_topic::TopicFilterRef;

/// One level of a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment<'a> {
    /// `+`
    Any,
    /// `#`
    Rest,
    /// The level itself.
    Text(Cow<'a, str>),
}

impl Segment<'_> {
    /// Whether topics that have this first level begin with `$`.
    pub(super) fn is_reserved(&self) -> bool {
        match self {
            Self::Text(text) => text.starts_with('$'),
            Self::Any | Self::Rest => false,
        }
    }
}

/// The levels of a filter.
pub(super) fn segments(filter: TopicFilterRef<'_>) -> Vec<Segment<'_>> {
    let segment = |level| match level {
        "+" => Segment::Any,
        "#" => Segment::Rest,
        text => Segment::Text(Cow::Borrowed(text)),
    };
    filter.levels().map(segment).collect()
}

/// Whether every topic that `narrow` matches is matched by `wide`.
pub(super) fn covers(wide: &[Segment<'_>], narrow: &[Segment<'_>]) -> bool {
    if is_kept_apart(wide, narrow) {
        return false;
    }
    let mut narrow = narrow.iter();
    for level in wide {
        let other = match level {
            Segment::Rest => return true,
            Segment::Any | Segment::Text(_) => narrow.next(),
        };
        match (level, other) {
            (_, None | Some(Segment::Rest)) | (Segment::Text(_), Some(Segment::Any)) => {
                return false;
            }
            (Segment::Text(a), Some(Segment::Text(b))) if a != b => return false,
            (Segment::Any | Segment::Rest | Segment::Text(_), Some(_)) => {}
        }
    }
    narrow.next().is_none()
}

/// Whether some topic is matched by both.
pub(super) fn intersects(one: &[Segment<'_>], other: &[Segment<'_>]) -> bool {
    if is_kept_apart(one, other) || is_kept_apart(other, one) {
        return false;
    }
    let (mut one, mut other) = (one.iter(), other.iter());
    loop {
        match (one.next(), other.next()) {
            // `a/#` matches `a` too.
            (Some(Segment::Rest), _) | (_, Some(Segment::Rest)) | (None, None) => return true,
            (None, Some(_)) | (Some(_), None) => return false,
            (Some(Segment::Text(a)), Some(Segment::Text(b))) if a != b => return false,
            (Some(Segment::Any | Segment::Text(_)), Some(Segment::Any | Segment::Text(_))) => {}
        }
    }
}

/// A first level that is a wildcard stands for no `$` topic. [MQTT-4.7.2-1]
fn is_kept_apart(wild: &[Segment<'_>], reserved: &[Segment<'_>]) -> bool {
    let is_wild = matches!(wild.first(), Some(Segment::Any | Segment::Rest));
    is_wild && reserved.first().is_some_and(Segment::is_reserved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(one: &str, other: &str, expected_covers: bool, expected_intersects: bool) {
        let one_levels = segments(TopicFilterRef::new(one).unwrap());
        let other_levels = segments(TopicFilterRef::new(other).unwrap());
        assert_eq!(
            covers(&one_levels, &other_levels),
            expected_covers,
            "{one} {other}"
        );
        for (a, b) in [(&one_levels, &other_levels), (&other_levels, &one_levels)] {
            assert_eq!(intersects(a, b), expected_intersects, "{one} {other}");
        }
    }

    #[test]
    fn a_wider_filter_covers_a_narrower_one() {
        check("a/b", "a/b", true, true);
        check("a/+", "a/b", true, true);
        check("a/#", "a/b/c", true, true);
        check("a/#", "a", true, true);
        check("a/#", "a/+", true, true);
        check("#", "#", true, true);
        check("#", "+/a", true, true);
        check("+/+", "a/b", true, true);
        check("+/#", "a", true, true);
    }

    #[test]
    fn filters_that_share_some_topics_only_intersect() {
        check("a/b", "a/+", false, true);
        check("a", "a/#", false, true);
        check("a/+", "a/#", false, true);
        check("+/b", "a/+", false, true);
        check("+/#", "#", false, true);
        check("a/+/c", "a/#", false, true);
    }

    #[test]
    fn filters_that_share_no_topic_are_apart() {
        check("a", "b", false, false);
        check("a", "a/+", false, false);
        check("a/b/#", "a/c", false, false);
        check("+", "+/+", false, false);
        check("a/+/#", "a", false, false);
    }

    #[test]
    fn a_leading_wildcard_keeps_away_from_reserved_topics() {
        // [MQTT-4.7.2-1]
        check("#", "$SYS/#", false, false);
        check("+/x", "$SYS/x", false, false);
        check("$SYS/#", "$SYS/+", true, true);
        check("a/+", "a/$x", true, true);
    }
}
