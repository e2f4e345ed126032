//! Bytes that no log may show.

use bytes::Bytes;
use core::fmt;
use core::ops::Deref;

/// A password or authentication data. Its `Debug` form shows the length only; it derefs to its bytes, `**secret == *b"…"`.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Secret(Bytes);

impl Secret {
    /// Hides bytes.
    pub const fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// The hidden bytes.
    pub const fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// The hidden bytes, owned.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl Deref for Secret {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Bytes> for Secret {
    fn from(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl From<&'static str> for Secret {
    fn from(text: &'static str) -> Self {
        Self(Bytes::from_static(text.as_bytes()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes)", self.0.len())
    }
}

/// Stands in for a payload in `Debug` output.
pub(crate) struct Hidden(pub(crate) usize);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hidden_is_there_for_who_asks() {
        let secret = Secret::from("pass");
        assert_eq!(secret.as_bytes(), "pass");
        assert_eq!(secret.into_bytes(), "pass");
    }
}
