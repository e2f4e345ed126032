//! The keys that tokens are checked by, each for one algorithm.

use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use serde_json::Value;

use super::der;
use crate::{Fault, Problems, file};

/// Most keys of a file.
const KEYS_MAX: usize = 64;
/// The least that an HMAC key has to have, in bytes. (RFC 7518, section 3.2)
const SECRET_BYTES_MIN: usize = 32;

/// The keys of a file; never empty.
#[derive(Debug)]
pub struct JwtKeys {
    path: PathBuf,
    is_secret: bool,
    keys: Vec<Key>,
    /// Of the file.
    digest: [u8; 32],
}

/// How a token is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Hs256,
    Rs256,
    Es256,
    EdDsa,
}

struct Key {
    id: Option<String>,
    kind: Kind,
}

enum Kind {
    Hmac(hmac::Key),
    Public(Public),
}

/// A key that may be known to everybody.
pub(super) enum Public {
    /// An RSAPublicKey.
    RsaDer(Vec<u8>),
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// An uncompressed point.
    P256([u8; 65]),
    Ed25519([u8; 32]),
}

impl Algorithm {
    pub(super) fn of_name(name: &str) -> Option<Self> {
        match name {
            "HS256" => Some(Self::Hs256),
            "RS256" => Some(Self::Rs256),
            "ES256" => Some(Self::Es256),
            "EdDSA" => Some(Self::EdDsa),
            _ => None,
        }
    }
}

impl JwtKeys {
    /// Reads a shared secret of at least 32 bytes for HS256. Line ends at its end are not part of it.
    ///
    /// # Errors
    /// A file that cannot be read, a secret that is too short, or a public key, which is no secret.
    pub fn read_secret(path: &Path) -> Result<Self, Problems> {
        let bytes = file::read_bytes(path)?;
        let end = bytes
            .iter()
            .rposition(|byte| !matches!(byte, b'\r' | b'\n'));
        let secret = bytes
            .get(..end.map_or(0, |end| end + 1))
            .unwrap_or_default();
        if secret.len() < SECRET_BYTES_MIN {
            return Err(Problems::one(path, Fault::KeyTooShort));
        }
        if secret.starts_with(b"-----BEGIN ") {
            return Err(Problems::one(path, Fault::Key));
        }
        let kind = Kind::Hmac(hmac::Key::new(hmac::HMAC_SHA256, secret));
        Ok(Self {
            path: path.to_owned(),
            is_secret: true,
            keys: vec![Key { id: None, kind }],
            digest: sha256(&bytes),
        })
    }

    /// Reads public keys in PEM (`PUBLIC KEY` blocks: RSA, P-256, Ed25519), a JWK or a JWKS. Keys of a JWKS that are
    /// not for signatures or of no supported kind are passed over, but one has to be left.
    ///
    /// # Errors
    /// Everything that is wrong with the file.
    pub fn read(path: &Path) -> Result<Self, Problems> {
        Self::parse(path, &file::read(path)?)
    }

    /// Reads the text of a file of public keys; `path` is for messages, and for reading the keys again.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn parse(path: &Path, text: &str) -> Result<Self, Problems> {
        let keys = if text.trim_start().starts_with('{') {
            parse_jwks(text).map_err(|fault| Problems::one(path, fault))?
        } else {
            parse_pem(path, text)?
        };
        Ok(Self {
            path: path.to_owned(),
            is_secret: false,
            keys,
            digest: sha256(text.as_bytes()),
        })
    }

    pub(super) fn read_again(&self) -> Result<Self, Problems> {
        match self.source() {
            (path, true) => Self::read_secret(path),
            (path, false) => Self::read(path),
        }
    }

    pub(super) fn source(&self) -> (&Path, bool) {
        (&self.path, self.is_secret)
    }

    pub(super) fn has_secret(&self) -> bool {
        let mut keys = self.keys.iter();
        keys.any(|key| key.algorithm() == Algorithm::Hs256)
    }

    pub(super) const fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// Whether some key for this algorithm made the signature. Keys with another id are not asked.
    pub(super) fn verify(
        &self,
        algorithm: Algorithm,
        id: Option<&str>,
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        self.keys.iter().any(|key| {
            let is_meant = match (&key.id, id) {
                (Some(own), Some(id)) => own == id,
                (None, _) | (_, None) => true,
            };
            is_meant && key.algorithm() == algorithm && key.verify(message, signature)
        })
    }
}

impl Key {
    const fn algorithm(&self) -> Algorithm {
        match &self.kind {
            Kind::Hmac(_) => Algorithm::Hs256,
            Kind::Public(Public::RsaDer(_) | Public::Rsa { .. }) => Algorithm::Rs256,
            Kind::Public(Public::P256(_)) => Algorithm::Es256,
            Kind::Public(Public::Ed25519(_)) => Algorithm::EdDsa,
        }
    }

    fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        const RSA: &ring::signature::RsaParameters = &RSA_PKCS1_2048_8192_SHA256;
        let verified = match &self.kind {
            Kind::Hmac(key) => hmac::verify(key, message, signature),
            Kind::Public(Public::RsaDer(der)) => {
                UnparsedPublicKey::new(RSA, der).verify(message, signature)
            }
            Kind::Public(Public::Rsa { n, e }) => {
                RsaPublicKeyComponents { n, e }.verify(RSA, message, signature)
            }
            Kind::Public(Public::P256(point)) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
            Kind::Public(Public::Ed25519(key)) => {
                UnparsedPublicKey::new(&ED25519, key).verify(message, signature)
            }
        };
        verified.is_ok()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?}, {:?})", self.algorithm(), self.id)
    }
}

fn parse_pem(path: &Path, text: &str) -> Result<Vec<Key>, Problems> {
    let (mut keys, mut faults) = (Vec::new(), Vec::new());
    for (line, public) in der::pem(text) {
        match public {
            Some(public) => keys.push(Key {
                id: None,
                kind: Kind::Public(public),
            }),
            None => faults.push((Some(line), Fault::Key)),
        }
    }
    if keys.len() > KEYS_MAX {
        faults.push((None, Fault::TooManyEntries(KEYS_MAX)));
    }
    if keys.is_empty() && faults.is_empty() {
        faults.push((None, Fault::Key));
    }
    if faults.is_empty() {
        Ok(keys)
    } else {
        Err(Problems::of(path, faults))
    }
}

fn parse_jwks(text: &str) -> Result<Vec<Key>, Fault> {
    let json: Value = serde_json::from_str(text).map_err(|_| Fault::Key)?;
    let entries = match json.get("keys") {
        Some(Value::Array(entries)) => entries.as_slice(),
        Some(_) => return Err(Fault::Key),
        None => std::slice::from_ref(&json),
    };
    if entries.len() > KEYS_MAX {
        return Err(Fault::TooManyEntries(KEYS_MAX));
    }
    let keys: Vec<Key> = entries.iter().filter_map(parse_jwk).collect();
    if keys.is_empty() {
        Err(Fault::Key)
    } else {
        Ok(keys)
    }
}

fn parse_jwk(jwk: &Value) -> Option<Key> {
    let text = |name| jwk.get(name).and_then(Value::as_str);
    let bytes = |name| URL_SAFE_NO_PAD.decode(text(name)?).ok();
    if text("use").is_some_and(|purpose| purpose != "sig") {
        return None;
    }
    let kind = match (text("kty")?, text("crv")) {
        ("oct", _) => {
            let secret = bytes("k").filter(|k| k.len() >= SECRET_BYTES_MIN)?;
            Kind::Hmac(hmac::Key::new(hmac::HMAC_SHA256, &secret))
        }
        ("RSA", _) => Kind::Public(Public::Rsa {
            n: without_zeros(bytes("n")?),
            e: without_zeros(bytes("e")?),
        }),
        ("EC", Some("P-256")) => {
            let mut point = vec![4];
            point.extend(bytes("x")?);
            point.extend(bytes("y")?);
            Kind::Public(Public::P256(point.try_into().ok()?))
        }
        ("OKP", Some("Ed25519")) => Kind::Public(Public::Ed25519(bytes("x")?.try_into().ok()?)),
        (_, _) => return None,
    };
    let id = text("kid").map(str::to_owned);
    let key = Key { id, kind };
    let is_fitting = |name| Algorithm::of_name(name) == Some(key.algorithm());
    text("alg").is_none_or(is_fitting).then_some(key)
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    let mut copied = [0; 32];
    copied.copy_from_slice(digest.as_ref());
    copied
}

fn without_zeros(mut bytes: Vec<u8>) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.drain(..zeros);
    bytes
}
