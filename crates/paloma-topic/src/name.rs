//! Topic names: what a message is published to.

use bytestring::ByteString;

use crate::level::has_suspect;
use crate::{TopicError, TopicLimits};

/// A valid topic name that owns its text.
///
/// At least one character, at most 65,535 bytes, no U+0000 and no wildcard
/// ([MQTT-4.7.0-1], [MQTT-4.7.3-1] to [MQTT-4.7.3-3]). The text is kept byte for byte; nothing is
/// normalised [MQTT-4.7.3-4]. Cloning shares the text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(ByteString);

impl TopicName {
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
        TopicNameRef::with_limits(&text, limits)?;
        Ok(Self(text))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The borrowed form, which is `Copy`.
    #[must_use]
    pub fn borrowed(&self) -> TopicNameRef<'_> {
        TopicNameRef(&self.0)
    }

    /// The text that the name was made of.
    #[must_use]
    pub fn into_inner(self) -> ByteString {
        self.0
    }
}

/// A valid topic name that borrows its text.
///
/// The promises are those of [`TopicName`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicNameRef<'a>(&'a str);

impl<'a> TopicNameRef<'a> {
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
            return Err(if text.contains('\0') {
                TopicError::Null
            } else {
                TopicError::WildcardInName
            });
        }
        limits.check_levels(text)?;
        Ok(Self(text))
    }

    /// Takes text whose validity is already known, such as an exact filter's.
    pub(crate) const fn trusted(text: &'a str) -> Self {
        Self(text)
    }

    /// The name as text.
    #[must_use]
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// Whether the name begins with `$`, which hides it from leading wildcards. [MQTT-4.7.2-1]
    #[must_use]
    pub fn is_reserved(self) -> bool {
        self.0.starts_with('$')
    }

    /// The levels in order; there is at least one, and any may be empty.
    pub fn levels(self) -> impl Iterator<Item = &'a str> {
        self.0.split('/')
    }

    /// Copies the name into an owned one.
    #[must_use]
    pub fn to_owned(self) -> TopicName {
        TopicName(ByteString::from(self.0))
    }
}

crate::text::text_impls!(TopicName, TopicNameRef);

#[cfg(test)]
mod tests {
    use TopicError::*;
    use alloc::string::String;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<(), TopicError>) {
        assert_eq!(TopicNameRef::new(text).map(drop), expected, "{text:?}");
        assert_eq!(TopicName::new(text).map(drop), expected, "{text:?}");
    }

    #[test]
    fn a_name_is_one_to_65535_bytes() {
        // [MQTT-4.7.3-1] [MQTT-4.7.3-3]
        check("", Err(Empty));
        check("/", Ok(()));
        check(" ", Ok(()));
        check(&"a".repeat(65_535), Ok(()));
        check(&"a".repeat(65_536), Err(TooLong));
        check(&"ü".repeat(32_768), Err(TooLong));
    }

    #[test]
    fn a_name_holds_no_wildcard() {
        // [MQTT-4.7.0-1] [MQTT-3.3.2-2] [MQTT311-4.7.1-1] [MQTT311-3.3.2-2]
        for text in ["#", "+", "a/#", "a/+/b", "a+", "a#b"] {
            check(text, Err(WildcardInName));
        }
    }

    #[test]
    fn a_name_holds_no_null() {
        // [MQTT-4.7.3-2] [MQTT311-4.7.3-2]
        check("a\0", Err(Null));
        check("+\0", Err(Null));
        check("\u{1}\u{7f}\u{feff}", Ok(()));
    }

    #[test]
    fn text_is_kept_byte_for_byte() {
        // [MQTT-4.7.3-4] [MQTT311-4.7.3-4]
        for text in ["Ä", "A\u{308}", "/a//b/", "\u{feff}a", "ACCOUNTS"] {
            assert_eq!(TopicName::new(text).unwrap().as_str(), text);
        }
        assert_ne!(
            TopicName::new("Ä").unwrap(),
            TopicName::new("A\u{308}").unwrap()
        );
    }

    #[test]
    fn limits_bound_bytes_and_levels() {
        let check = |text: &str, bytes_max, levels_max, expected| {
            let limits = TopicLimits {
                bytes_max,
                levels_max,
            };
            assert_eq!(
                TopicNameRef::with_limits(text, &limits).map(drop),
                expected,
                "{text:?}"
            );
        };
        check("abcd", 4, 1, Ok(()));
        check("abcde", 4, 1, Err(BytesMax));
        check("a/b", 4, 2, Ok(()));
        check("a/b/", 4, 2, Err(LevelsMax));
        check("///", 4, 4, Ok(()));
        check("///", 4, 3, Err(LevelsMax));
        check(&"/".repeat(127), u16::MAX, 128, Ok(()));
        check(&"/".repeat(128), u16::MAX, 128, Err(LevelsMax));
        check(&"/".repeat(65_535), u16::MAX, u32::MAX, Ok(()));
        check(&"/".repeat(65_535), u16::MAX, 65_536, Ok(()));
        check(&"/".repeat(65_535), u16::MAX, 65_535, Err(LevelsMax));
    }

    #[test]
    fn owned_and_borrowed_forms_are_the_same_text() {
        let name: TopicName = "a/b".parse().unwrap();
        assert_eq!(name.borrowed().to_owned(), name);
        assert_eq!(name.borrowed().levels().collect::<String>(), "ab");
        assert_eq!(alloc::format!("{name} {name:?}"), "a/b \"a/b\"");
    }
}
