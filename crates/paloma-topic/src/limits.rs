//! How long and how deep a topic may be, beyond what the standard says.

use crate::TopicError;

/// Longest string that MQTT can carry, in bytes.
const STANDARD_BYTES_MAX: usize = 65_535;

/// Configured bounds of topic names and topic filters.
///
/// They apply on top of the standard's own 65,535 bytes. A shared subscription's text counts in full
/// towards the bytes, and only the topic filter inside it towards the levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicLimits {
    /// Most bytes of UTF-8; passing it is [`TopicError::BytesMax`].
    pub bytes_max: u16,
    /// Most levels, that is separators plus one; passing it is [`TopicError::LevelsMax`].
    pub levels_max: u32,
}

impl TopicLimits {
    /// What the standard alone allows: 65,535 bytes, any number of levels.
    pub const STANDARD: Self = Self {
        bytes_max: u16::MAX,
        levels_max: u32::MAX,
    };

    /// A broker's defaults: 4,096 bytes and 128 levels.
    pub const DEFAULT: Self = Self {
        bytes_max: 4_096,
        levels_max: 128,
    };

    /// Checks what names, filters and shared subscriptions have in common.
    pub(crate) fn check_bytes(&self, text: &str) -> Result<(), TopicError> {
        if text.is_empty() {
            return Err(TopicError::Empty);
        }
        if text.len() > STANDARD_BYTES_MAX {
            return Err(TopicError::TooLong);
        }
        if text.len() > usize::from(self.bytes_max) {
            return Err(TopicError::BytesMax);
        }
        Ok(())
    }

    /// Checks the depth of a name or filter.
    pub(crate) fn check_levels(&self, text: &str) -> Result<(), TopicError> {
        let levels_max = usize::try_from(self.levels_max).unwrap_or(usize::MAX);
        // A text of n bytes has at most n + 1 levels, so short ones need no count.
        if text.len() >= levels_max && count_separators(text) >= levels_max {
            return Err(TopicError::LevelsMax);
        }
        Ok(())
    }
}

impl Default for TopicLimits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

fn count_separators(text: &str) -> usize {
    text.bytes().map(|byte| usize::from(byte == b'/')).sum()
}
