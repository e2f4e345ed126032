//! The name in a certificate that has been verified, here or by a proxy.

use std::fmt;

use bytestring::ByteString;

/// Longest name. The standard's strings have 65,535 bytes at most; no certificate needs a hundredth of that.
const NAME_BYTES_MAX: usize = 1_024;

/// Why a certificate gives no name: its holder is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameError {
    /// The certificate's subject cannot be read.
    Malformed,
    /// No name is there, or it is empty.
    Missing,
    /// More than one common name: two readers might see different holders.
    Several,
    /// Not the text that a user name may be: of another encoding, not UTF-8, with a control character
    /// [MQTT-1.5.4-1] [MQTT-1.5.4-2], or too long.
    Text,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the certificate's subject cannot be read",
            Self::Missing => "the certificate has no name",
            Self::Several => "the certificate has several common names",
            Self::Text => "the certificate's name is not proper text",
        })
    }
}

impl std::error::Error for NameError {}

/// A text that may be a user name.
pub(crate) fn checked(name: &str) -> Result<ByteString, NameError> {
    if name.is_empty() {
        return Err(NameError::Missing);
    }
    if name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        return Err(NameError::Text);
    }
    Ok(name.into())
}
