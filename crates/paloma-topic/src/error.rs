//! Why a string is not a topic name, a topic filter or a share name.

use core::fmt;

/// The rule that a topic name, topic filter or share name breaks.
///
/// 3.1.1 numbers some of these rules differently; both identifiers are given where they differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TopicError {
    /// A name or filter has at least one character. [MQTT-4.7.3-1]
    Empty,
    /// The character U+0000 appears. [MQTT-4.7.3-2]
    Null,
    /// More than 65,535 bytes of UTF-8. [MQTT-4.7.3-3]
    TooLong,
    /// More bytes than [`TopicLimits::bytes_max`](crate::TopicLimits::bytes_max).
    BytesMax,
    /// More levels than [`TopicLimits::levels_max`](crate::TopicLimits::levels_max).
    LevelsMax,
    /// A topic name holds `+` or `#`. [MQTT-4.7.0-1] [MQTT-3.3.2-2], [MQTT311-4.7.1-1]
    WildcardInName,
    /// `#` is not the only character of its level. [MQTT-4.7.1-1], [MQTT311-4.7.1-2]
    MultiLevelNotAlone,
    /// `#` fills its level, but is not the last one. [MQTT-4.7.1-1], [MQTT311-4.7.1-2]
    MultiLevelNotLast,
    /// `+` is not the only character of its level. [MQTT-4.7.1-2], [MQTT311-4.7.1-3]
    SingleLevelNotAlone,
    /// Nothing stands between `$share/` and the next `/` or the end. [MQTT-4.8.2-1]
    ShareNameEmpty,
    /// A share name holds `+` or `#`. [MQTT-4.8.2-2]
    ShareNameWildcard,
    /// A share name holds `/`. [MQTT-4.8.2-2]
    ShareNameSeparator,
    /// No topic filter follows the share name. [MQTT-4.8.2-2]
    ShareFilterMissing,
}

impl TopicError {
    /// Whether a configured limit was passed; the standard would allow the string.
    #[must_use]
    pub const fn is_limit(self) -> bool {
        matches!(self, Self::BytesMax | Self::LevelsMax)
    }
}

impl fmt::Display for TopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "topic is empty",
            Self::Null => "topic holds the character U+0000",
            Self::TooLong => "topic is longer than 65,535 bytes",
            Self::BytesMax => "topic is longer than the configured limit",
            Self::LevelsMax => "topic has more levels than the configured limit",
            Self::WildcardInName => "topic name holds a wildcard",
            Self::MultiLevelNotAlone => "`#` does not fill its level",
            Self::MultiLevelNotLast => "`#` is not the last level",
            Self::SingleLevelNotAlone => "`+` does not fill its level",
            Self::ShareNameEmpty => "share name is empty",
            Self::ShareNameWildcard => "share name holds a wildcard",
            Self::ShareNameSeparator => "share name holds a `/`",
            Self::ShareFilterMissing => "no topic filter follows the share name",
        })
    }
}

impl core::error::Error for TopicError {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::string::ToString;
    use std::vec::Vec;

    use super::TopicError::{self, *};

    #[test]
    fn every_error_says_what_is_wrong_in_words_of_its_own() {
        let all: [TopicError; 13] = [
            Empty,
            Null,
            TooLong,
            BytesMax,
            LevelsMax,
            WildcardInName,
            MultiLevelNotAlone,
            MultiLevelNotLast,
            SingleLevelNotAlone,
            ShareNameEmpty,
            ShareNameWildcard,
            ShareNameSeparator,
            ShareFilterMissing,
        ];
        let texts: BTreeSet<_> = all.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), all.len());
        assert!(texts.iter().all(|text| text.contains(' ')));
        let limits: Vec<_> = all.into_iter().filter(|error| error.is_limit()).collect();
        assert_eq!(limits, [BytesMax, LevelsMax]);
    }
}
