//! A signed token in its compact form. (RFC 7515, section 7.1)

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::JwtKeys;
use super::key::Algorithm;

/// Longest token, in bytes.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// Something of the form of a token, about which nothing is proved.
pub(super) struct Token<'a> {
    header: Map<String, Value>,
    signed: &'a str,
    payload: &'a str,
    signature: &'a str,
}

impl<'a> Token<'a> {
    /// `None` for what has not the form of a token, such as a password.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        if bytes.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let text = str::from_utf8(bytes).ok()?;
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        let header = object(header)?;
        header.contains_key("alg").then_some(Self {
            header,
            signed,
            payload,
            signature,
        })
    }

    /// The claims, if some key of the token's algorithm made the signature.
    pub(super) fn verify(&self, keys: &JwtKeys) -> Option<Map<String, Value>> {
        // Nothing that is critical is understood here. (RFC 7515, section 4.1.11)
        if self.header.contains_key("crit") {
            return None;
        }
        let algorithm = Algorithm::of_name(self.header.get("alg")?.as_str()?)?;
        let key_id = self.header.get("kid").and_then(Value::as_str);
        let signature = URL_SAFE_NO_PAD.decode(self.signature).ok()?;
        let is_signed = keys.verify(algorithm, key_id, self.signed.as_bytes(), &signature);
        is_signed.then(|| object(self.payload)).flatten()
    }
}

fn object(text: &str) -> Option<Map<String, Value>> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(object)) => Some(object),
        Ok(_) | Err(_) => None,
    }
}
