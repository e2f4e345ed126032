//! What a SUBSCRIBE or UNSUBSCRIBE entry asks for: a plain filter, or a share of one.

use core::fmt;

use bytestring::ByteString;

use crate::{TopicError, TopicFilter, TopicFilterRef, TopicLimits};

/// What a shared subscription's text begins with.
const SHARE_PREFIX: &str = "$share/";

/// The name of a shared subscription's group; owns its text.
///
/// At least one character [MQTT-4.8.2-1] and none of `/`, `+`, `#` [MQTT-4.8.2-2].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShareName(ByteString);

impl ShareName {
    /// Checks `text` and keeps it without a copy.
    ///
    /// # Errors
    /// The rule that the text breaks.
    pub fn new(text: impl Into<ByteString>) -> Result<Self, TopicError> {
        let text = text.into();
        ShareNameRef::new(&text)?;
        Ok(Self(text))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The borrowed form, which is `Copy`.
    #[must_use]
    pub fn borrowed(&self) -> ShareNameRef<'_> {
        ShareNameRef(&self.0)
    }

    /// The text that the name was made of.
    #[must_use]
    pub fn into_inner(self) -> ByteString {
        self.0
    }
}

/// The name of a shared subscription's group; borrows its text.
///
/// The promises are those of [`ShareName`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShareNameRef<'a>(&'a str);

impl<'a> ShareNameRef<'a> {
    /// Checks `text`.
    ///
    /// # Errors
    /// The rule that the text breaks.
    pub fn new(text: &'a str) -> Result<Self, TopicError> {
        if text.is_empty() {
            return Err(TopicError::ShareNameEmpty);
        }
        if text.len() > usize::from(u16::MAX) {
            return Err(TopicError::TooLong);
        }
        if text.contains('\0') {
            return Err(TopicError::Null);
        }
        if text.contains('/') {
            return Err(TopicError::ShareNameSeparator);
        }
        if text.contains(['+', '#']) {
            return Err(TopicError::ShareNameWildcard);
        }
        Ok(Self(text))
    }

    /// The name as text.
    #[must_use]
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// Copies the name into an owned one.
    #[must_use]
    pub fn to_owned(self) -> ShareName {
        ShareName(ByteString::from(self.0))
    }
}

crate::text::text_impls!(ShareName, ShareNameRef);

/// One entry of a SUBSCRIBE or UNSUBSCRIBE packet; owns its text.
///
/// `$share/group/filter` is a shared subscription; everything else is a plain filter. Its `Display` gives
/// back the text that it was parsed from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// A subscription of one session.
    Plain(TopicFilter),
    /// A subscription whose messages are spread over the members of a group.
    Shared {
        /// The group.
        share: ShareName,
        /// What the group asks for. The same filter under another share name is another subscription.
        filter: TopicFilter,
    },
}

impl Target {
    /// Parses `text` by the standard's rules; both parts go on sharing its storage.
    ///
    /// # Errors
    /// The first rule that the text breaks.
    pub fn parse(text: impl Into<ByteString>) -> Result<Self, TopicError> {
        Self::parse_with_limits(text, &TopicLimits::STANDARD)
    }

    /// Parses `text` by the standard's rules and `limits`; both parts go on sharing its storage.
    ///
    /// # Errors
    /// The first rule or limit that the text breaks.
    pub fn parse_with_limits(
        text: impl Into<ByteString>,
        limits: &TopicLimits,
    ) -> Result<Self, TopicError> {
        let text = text.into();
        let parts = match TargetRef::parse_with_limits(&text, limits)? {
            TargetRef::Plain(_) => None,
            TargetRef::Shared { share, filter } => Some((
                text.slice_ref(share.as_str()),
                text.slice_ref(filter.as_str()),
            )),
        };
        Ok(match parts {
            None => Self::Plain(TopicFilter::trusted(text)),
            Some((share, filter)) => Self::Shared {
                share: ShareName(share),
                filter: TopicFilter::trusted(filter),
            },
        })
    }

    /// The filter that topics are matched against.
    #[must_use]
    pub const fn filter(&self) -> &TopicFilter {
        match self {
            Self::Plain(filter) | Self::Shared { filter, .. } => filter,
        }
    }

    /// The group of a shared subscription.
    #[must_use]
    pub const fn share(&self) -> Option<&ShareName> {
        match self {
            Self::Plain(_) => None,
            Self::Shared { share, .. } => Some(share),
        }
    }

    /// The borrowed form, which is `Copy`.
    #[must_use]
    pub fn borrowed(&self) -> TargetRef<'_> {
        match self {
            Self::Plain(filter) => TargetRef::Plain(filter.borrowed()),
            Self::Shared { share, filter } => TargetRef::Shared {
                share: share.borrowed(),
                filter: filter.borrowed(),
            },
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.borrowed().fmt(f)
    }
}

/// One entry of a SUBSCRIBE or UNSUBSCRIBE packet; borrows its text.
///
/// The meaning is that of [`Target`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TargetRef<'a> {
    /// A subscription of one session.
    Plain(TopicFilterRef<'a>),
    /// A subscription whose messages are spread over the members of a group.
    Shared {
        /// The group.
        share: ShareNameRef<'a>,
        /// What the group asks for.
        filter: TopicFilterRef<'a>,
    },
}

impl<'a> TargetRef<'a> {
    /// Parses `text` by the standard's rules.
    ///
    /// # Errors
    /// The first rule that the text breaks.
    pub fn parse(text: &'a str) -> Result<Self, TopicError> {
        Self::parse_with_limits(text, &TopicLimits::STANDARD)
    }

    /// Parses `text` by the standard's rules and `limits`.
    ///
    /// A text that begins with `$share/` needs a share name and a filter after it
    /// ([MQTT-4.8.2-1], [MQTT-4.8.2-2]).
    ///
    /// # Errors
    /// The first rule or limit that the text breaks.
    pub fn parse_with_limits(text: &'a str, limits: &TopicLimits) -> Result<Self, TopicError> {
        limits.check_bytes(text)?;
        let Some(shared) = text.strip_prefix(SHARE_PREFIX) else {
            return TopicFilterRef::with_limits(text, limits).map(Self::Plain);
        };
        let (share, filter) = crate::level::split_level(shared);
        let share = ShareNameRef::new(share)?;
        let filter = filter.filter(|filter| !filter.is_empty());
        let filter = filter.ok_or(TopicError::ShareFilterMissing)?;
        Ok(Self::Shared {
            share,
            filter: TopicFilterRef::with_limits(filter, limits)?,
        })
    }

    /// The filter that topics are matched against.
    #[must_use]
    pub const fn filter(self) -> TopicFilterRef<'a> {
        match self {
            Self::Plain(filter) | Self::Shared { filter, .. } => filter,
        }
    }

    /// The group of a shared subscription.
    #[must_use]
    pub const fn share(self) -> Option<ShareNameRef<'a>> {
        match self {
            Self::Plain(_) => None,
            Self::Shared { share, .. } => Some(share),
        }
    }

    /// Copies the entry into an owned one.
    #[must_use]
    pub fn to_owned(self) -> Target {
        match self {
            Self::Plain(filter) => Target::Plain(filter.to_owned()),
            Self::Shared { share, filter } => Target::Shared {
                share: share.to_owned(),
                filter: filter.to_owned(),
            },
        }
    }
}

impl fmt::Display for TargetRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(filter) => filter.fmt(f),
            Self::Shared { share, filter } => write!(f, "{SHARE_PREFIX}{share}/{filter}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use TopicError::*;
    use alloc::string::{String, ToString};

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<(Option<&str>, &str), TopicError>) {
        let parsed = Target::parse(text);
        let parts = parsed.as_ref().map(|target| {
            (
                target.share().map(ShareName::as_str),
                target.filter().as_str(),
            )
        });
        assert_eq!(parts.map_err(|error| *error), expected, "{text:?}");
        if let Ok(target) = &parsed {
            assert_eq!(target.to_string(), text);
            let share = target.share().cloned().map(ShareName::into_inner);
            assert_eq!(share.as_deref(), target.share().map(ShareName::as_str));
            assert_eq!(&target.borrowed().to_owned(), target);
        }
    }

    #[test]
    fn plain_filters_have_no_share() {
        check("a/b", Ok((None, "a/b")));
        check("#", Ok((None, "#")));
        check("$SYS/#", Ok((None, "$SYS/#")));
        check("$share", Ok((None, "$share")));
        check("$shared/g/t", Ok((None, "$shared/g/t")));
        check("/$share/g/t", Ok((None, "/$share/g/t")));
    }

    #[test]
    fn a_share_name_and_a_filter_follow_the_prefix() {
        // [MQTT-4.8.2-1] [MQTT-4.8.2-2]
        check("$share/g/t", Ok((Some("g"), "t")));
        check("$share/g/#", Ok((Some("g"), "#")));
        check("$share/g/+/b", Ok((Some("g"), "+/b")));
        check("$share/g//t", Ok((Some("g"), "/t")));
        check("$share/g//", Ok((Some("g"), "/")));
        check("$share/g/$SYS/x", Ok((Some("g"), "$SYS/x")));
        check("$share/Grüppe 1/t", Ok((Some("Grüppe 1"), "t")));
    }

    #[test]
    fn an_empty_share_name_is_refused() {
        // [MQTT-4.8.2-1]
        check("$share/", Err(ShareNameEmpty));
        check("$share//", Err(ShareNameEmpty));
        check("$share//t", Err(ShareNameEmpty));
    }

    #[test]
    fn a_wildcard_in_the_share_name_is_refused() {
        // [MQTT-4.8.2-2]
        check("$share/g+/t", Err(ShareNameWildcard));
        check("$share/+/t", Err(ShareNameWildcard));
        check("$share/g#/t", Err(ShareNameWildcard));
        check("$share/#", Err(ShareNameWildcard));
        assert_eq!(ShareName::new("a/b"), Err(ShareNameSeparator));
    }

    #[test]
    fn a_share_without_a_filter_is_refused() {
        // [MQTT-4.8.2-2]
        check("$share/g", Err(ShareFilterMissing));
        check("$share/g/", Err(ShareFilterMissing));
    }

    #[test]
    fn the_filter_of_a_share_is_checked_like_any_other() {
        check("$share/g/a#", Err(MultiLevelNotAlone));
        check("$share/g/#/a", Err(MultiLevelNotLast));
        check("$share/g/a+", Err(SingleLevelNotAlone));
        check("$share/g/a\0", Err(Null));
        check("$share/g\0/a", Err(Null));
        check("", Err(Empty));
        check(&"a".repeat(65_536), Err(TooLong));
    }

    #[test]
    fn limits_count_the_bytes_of_the_entry_and_the_levels_of_its_filter() {
        let limits = TopicLimits {
            bytes_max: 14,
            levels_max: 2,
        };
        let parse = |text: &str| Target::parse_with_limits(text, &limits).map(|t| t.to_string());
        assert_eq!(parse("$share/g/aaa/b"), Ok(String::from("$share/g/aaa/b")));
        assert_eq!(parse("$share/g/aaaa/b"), Err(BytesMax));
        assert_eq!(parse("$share/g/a/b/c"), Err(LevelsMax));
    }

    #[test]
    fn the_parts_of_a_share_keep_its_storage() {
        let text = ByteString::from("$share/group/filter");
        let target = Target::parse(text.clone()).unwrap();
        assert_eq!(target.filter().as_str().as_ptr(), text[13..].as_ptr());
    }
}
