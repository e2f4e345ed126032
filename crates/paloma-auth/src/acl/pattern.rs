//! One rule's filter, which may hold a user name and a client id.

use std::borrow::Cow;

use paloma_topic::{TopicError, TopicFilterRef, TopicLimits, TopicNameRef};

use super::filter::Segment;

/// How large a rule's filter may be.
const FILTER_LIMITS: TopicLimits = TopicLimits {
    bytes_max: 4_096,
    levels_max: 128,
};

/// A filter whose levels may stand for the client's names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    levels: Box<[Level]>,
    needs_user: bool,
    needs_client_id: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Level {
    Exact(Box<str>),
    Any,
    Rest,
    /// Texts and names one behind the other.
    Template(Box<[Piece]>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    User,
    ClientId,
}

/// Who a rule is asked about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names<'a> {
    pub(super) user: Option<&'a str>,
    pub(super) client_id: &'a str,
}

impl Pattern {
    /// A filter in which `%u` and `%c` are ordinary characters.
    pub(super) fn plain(filter: &str) -> Result<Self, TopicError> {
        TopicFilterRef::with_limits(filter, &FILTER_LIMITS)?;
        Ok(Self::compile(filter, |text| Level::Exact(text.into())))
    }

    /// A filter in which `%u` stands for the user name and `%c` for the client id.
    pub(super) fn template(filter: &str) -> Result<Self, TopicError> {
        // Names stand within one level and hold no wildcard, so any letter shows whether the filter is sound.
        let sample = filter.replace("%u", "x").replace("%c", "x");
        TopicFilterRef::with_limits(&sample, &FILTER_LIMITS)?;
        Ok(Self::compile(filter, template_level))
    }

    fn compile(filter: &str, text_level: impl Fn(&str) -> Level) -> Self {
        let level = |text| match text {
            "+" => Level::Any,
            "#" => Level::Rest,
            text => text_level(text),
        };
        let levels: Box<[Level]> = filter.split('/').map(level).collect();
        let has = |piece: &Piece| {
            levels.iter().any(|level| match level {
                Level::Template(pieces) => pieces.contains(piece),
                Level::Exact(_) | Level::Any | Level::Rest => false,
            })
        };
        Self {
            needs_user: has(&Piece::User),
            needs_client_id: has(&Piece::ClientId),
            levels,
        }
    }

    /// Whether the filter with these names matches the topic. Allocates nothing.
    pub(super) fn matches(&self, names: Names<'_>, topic: TopicNameRef<'_>) -> bool {
        if !self.may_use(names) || topic.is_reserved() && !self.may_be_reserved() {
            return false;
        }
        let mut topic_levels = topic.levels();
        for level in &self.levels {
            if *level == Level::Rest {
                return true;
            }
            let Some(text) = topic_levels.next() else {
                return false;
            };
            if !level.matches(names, text) {
                return false;
            }
        }
        topic_levels.next().is_none()
    }

    /// The filter with these names, for questions about whole filters; `None` if it can match nothing.
    pub(super) fn segments<'a>(&'a self, names: Names<'a>) -> Option<Vec<Segment<'a>>> {
        if !self.may_use(names) {
            return None;
        }
        let segments: Vec<Segment<'a>> = self
            .levels
            .iter()
            .map(|level| level.segment(names))
            .collect();
        let is_reserved = segments.first().is_some_and(Segment::is_reserved);
        (!is_reserved || self.may_be_reserved()).then_some(segments)
    }

    /// A name that is missing, or that could stand for more than itself, satisfies no rule.
    fn may_use(&self, names: Names<'_>) -> bool {
        (!self.needs_user || names.user.is_some_and(is_plain_name))
            && (!self.needs_client_id || is_plain_name(names.client_id))
    }

    /// Only the rule's own text leads to topics that begin with `$`: neither a wildcard nor a client's name does.
    fn may_be_reserved(&self) -> bool {
        self.levels.first().is_some_and(|level| match level {
            Level::Exact(_) => true,
            Level::Any | Level::Rest => false,
            Level::Template(pieces) => matches!(pieces.first(), Some(Piece::Text(_))),
        })
    }
}

impl Level {
    fn matches(&self, names: Names<'_>, text: &str) -> bool {
        match self {
            Self::Exact(exact) => **exact == *text,
            Self::Any | Self::Rest => true,
            Self::Template(pieces) => {
                let mut rest = Some(text);
                for piece in pieces {
                    rest = rest.and_then(|rest| rest.strip_prefix(piece.text(names)));
                }
                rest == Some("")
            }
        }
    }

    fn segment<'a>(&'a self, names: Names<'a>) -> Segment<'a> {
        match self {
            Self::Exact(text) => Segment::Text(Cow::Borrowed(text)),
            Self::Any => Segment::Any,
            Self::Rest => Segment::Rest,
            Self::Template(pieces) => {
                Segment::Text(pieces.iter().map(|piece| piece.text(names)).collect())
            }
        }
    }
}

impl Piece {
    fn text<'a>(&'a self, names: Names<'a>) -> &'a str {
        match self {
            Self::Text(text) => text,
            Self::User => names.user.unwrap_or_default(),
            Self::ClientId => names.client_id,
        }
    }
}

fn template_level(text: &str) -> Level {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, name, after)) = split_name(rest) {
        if !before.is_empty() {
            pieces.push(Piece::Text(before.into()));
        }
        pieces.push(name);
        rest = after;
    }
    if pieces.is_empty() {
        return Level::Exact(text.into());
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.into()));
    }
    Level::Template(pieces.into())
}

/// The first `%u` or `%c`, and what stands before and behind it.
fn split_name(text: &str) -> Option<(&str, Piece, &str)> {
    let user = text.split_once("%u").map(|(a, b)| (a, Piece::User, b));
    let client_id = text.split_once("%c").map(|(a, b)| (a, Piece::ClientId, b));
    [user, client_id]
        .into_iter()
        .flatten()
        .min_by_key(|(before, _, _)| before.len())
}

fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| matches!(c, '/' | '+' | '#') || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, user: Option<&str>, client_id: &str, topic: &str, expected: bool) {
        let compiled = Pattern::template(pattern).unwrap();
        let names = Names { user, client_id };
        let name = TopicNameRef::new(topic).unwrap();
        assert_eq!(compiled.matches(names, name), expected, "{pattern} {topic}");
        // The two ways to ask agree.
        let exact: Vec<Segment<'_>> = topic.split('/').map(|t| Segment::Text(t.into())).collect();
        let covers = compiled
            .segments(names)
            .is_some_and(|segments| super::super::filter::covers(&segments, &exact));
        assert_eq!(covers, expected, "{pattern} {topic}");
    }

    #[test]
    fn names_stand_for_themselves_wherever_they_are_in_a_level() {
        check("home/%u/#", Some("ann"), "c", "home/ann", true);
        check("home/%u/#", Some("ann"), "c", "home/ann/x/y", true);
        check("home/%u/#", Some("ann"), "c", "home/bob", false);
        check("%c/in", Some("ann"), "c1", "c1/in", true);
        check("a/x-%u-%c-y/+", Some("ann"), "c1", "a/x-ann-c1-y/z", true);
        check("a/%u%c", Some("ab"), "c", "a/abc", true);
        check("a/%u%c", Some("ab"), "c", "a/abcd", false);
        check("100%/%x/%", None, "c", "100%/%x/%", true);
    }

    #[test]
    fn a_name_that_is_missing_or_empty_matches_nothing() {
        check("home/%u", None, "c", "home/", false);
        check("home/%u", Some(""), "c", "home/", false);
        check("home/%c", Some("ann"), "", "home/", false);
    }

    #[test]
    fn d6_names_with_separators_wildcards_or_controls_match_nothing() {
        for name in ["a/b", "+", "#", "a+", "a#", "a\u{1}", "\u{7f}", "\u{85}"] {
            check("home/%u/x", Some(name), "c", "home/a/x", false);
            check("home/%c/x", Some("ann"), name, "home/a/x", false);
        }
        check("home/%u/x", Some("a/b"), "c", "home/a/b/x", false);
        check("home/%u/x", Some("a+"), "c", "home/a/x", false);
        check("home/%u", Some(".*"), "c", "home/abc", false);
    }

    #[test]
    fn a_name_never_leads_to_a_reserved_topic() {
        check("%c/#", None, "$SYS", "$SYS/broker", false);
        check("%u%c/#", Some("$"), "SYS", "$SYS/broker", false);
        check("$SYS/%c", None, "c", "$SYS/c", true);
        check("$%c/x", None, "SYS", "$SYS/x", true);
        check("a/%c", None, "$x", "a/$x", true);
    }

    #[test]
    fn in_a_plain_filter_percent_signs_are_characters() {
        let plain = Pattern::plain("home/%u").unwrap();
        let names = Names {
            user: Some("ann"),
            client_id: "c",
        };
        assert!(plain.matches(names, TopicNameRef::new("home/%u").unwrap()));
        assert!(!plain.matches(names, TopicNameRef::new("home/ann").unwrap()));
    }

    #[test]
    fn unsound_and_oversized_filters_are_refused() {
        for filter in ["", "a#", "#/a", "%u#", "a/%u+"] {
            assert!(Pattern::template(filter).is_err(), "{filter}");
        }
        assert!(Pattern::plain(&"/".repeat(128)).is_err());
        assert!(Pattern::plain(&"a".repeat(4_097)).is_err());
    }
}
