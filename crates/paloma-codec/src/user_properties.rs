//! User properties: name and value pairs that travel with a packet, in order.

use alloc::vec::Vec;
use core::fmt;

use crate::EncodeError;
use crate::properties::{RawProperties, id};
use crate::write::{Sink, Writer, check_text};

/// Name and value pairs, in the order they were added. [MQTT-3.3.2-18]
///
/// Kept as they stand on the wire, so that thousands of them are one allocation.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct UserProperties {
    /// Whole properties, identifier bytes included; valid by construction.
    encoded: Vec<u8>,
}

impl UserProperties {
    /// No pairs.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            encoded: Vec::new(),
        }
    }

    /// Appends a pair. A name may stand more than once.
    ///
    /// # Errors
    /// A half is longer than 65,535 bytes or holds U+0000. [MQTT-1.5.7-1]
    pub fn push(&mut self, name: &str, value: &str) -> Result<(), EncodeError> {
        check_text(name)?;
        check_text(value)?;
        let mut writer = Writer::new(&mut self.encoded);
        writer.byte(id::USER_PROPERTY);
        writer.verified(name);
        writer.verified(value);
        Ok(())
    }

    /// The pairs in order.
    #[must_use]
    pub fn iter(&self) -> UserPropertyIter<'_> {
        UserPropertyIter::over(&self.encoded)
    }

    /// The value of the first pair of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&str> {
        self.iter()
            .find_map(|(candidate, value)| (candidate == name).then_some(value))
    }

    /// Number of pairs; counts them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.encoded.is_empty()
    }

    /// Bytes they take on the wire.
    #[must_use]
    pub const fn encoded_len(&self) -> usize {
        self.encoded.len()
    }

    /// The pairs as they stand on the wire, each with its property identifier.
    pub(crate) fn encoded(&self) -> &[u8] {
        &self.encoded
    }

    /// Appends a validated pair as it stands on the wire; the first one reserves `bytes_hint` for all.
    pub(crate) fn push_pair(&mut self, pair: &[u8], bytes_hint: usize) {
        if self.encoded.is_empty() {
            self.encoded.reserve_exact(bytes_hint.max(1 + pair.len()));
        }
        self.encoded.push(id::USER_PROPERTY);
        self.encoded.extend_from_slice(pair);
    }
}

impl<'a> IntoIterator for &'a UserProperties {
    type Item = (&'a str, &'a str);
    type IntoIter = UserPropertyIter<'a>;

    fn into_iter(self) -> UserPropertyIter<'a> {
        self.iter()
    }
}

impl fmt::Debug for UserProperties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

/// Walks the user properties of a packet in order.
#[derive(Clone)]
pub struct UserPropertyIter<'a> {
    rest: RawProperties<'a>,
}

impl<'a> UserPropertyIter<'a> {
    /// Walks a validated block; other properties in it are skipped.
    pub(crate) const fn over(block: &'a [u8]) -> Self {
        Self {
            rest: RawProperties::new(block),
        }
    }
}

impl<'a> Iterator for UserPropertyIter<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        self.rest
            .find(|property| property.id == id::USER_PROPERTY)?
            .pair()
    }
}

impl fmt::Debug for UserPropertyIter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_come_back_in_order_and_repeat() {
        let mut properties = UserProperties::new();
        for (name, value) in [("a", "1"), ("b", ""), ("a", "2")] {
            properties.push(name, value).unwrap();
        }
        assert!(properties.iter().eq([("a", "1"), ("b", ""), ("a", "2")]));
        assert_eq!(properties.len(), 3);
        assert_eq!(properties.find("a"), Some("1"));
        assert_eq!(properties.find("c"), None);
    }

    #[test]
    fn a_pair_that_no_peer_may_see_is_refused() {
        let mut properties = UserProperties::new();
        assert_eq!(properties.push("a\0", ""), Err(EncodeError::StringNull));
        assert_eq!(
            properties.push("", &"x".repeat(65_536)),
            Err(EncodeError::FieldTooLong)
        );
        assert!(properties.is_empty());
    }
}
