//! What is kept of a password for SCRAM.

use std::fmt;
use std::num::NonZeroU32;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::{digest, hmac, pbkdf2};

use crate::{Fault, random};

/// The least that RFC 7677 allows, and the most that a client is asked to compute.
const ITERATIONS_MIN: u32 = 4_096;
const ITERATIONS_MAX: u32 = 1_000_000;
/// Of credentials that are made here. The client pays for them, often a small device.
const ITERATIONS_MADE: u32 = 10_000;
const SALT_BYTES_MAX: usize = 64;
const KIND: &str = "SCRAM-SHA-256$";

/// A user's verifier: neither the password nor enough to log in.
#[derive(Clone)]
pub(super) struct Credential {
    pub(super) iterations: u32,
    pub(super) salt: Vec<u8>,
    pub(super) stored_key: [u8; 32],
    pub(super) server_key: [u8; 32],
}

impl Credential {
    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        let rest = text.strip_prefix(KIND).ok_or(Fault::UnknownHash)?;
        let (costs, keys) = rest.split_once('$').ok_or(Fault::MalformedHash)?;
        let (iterations, salt) = costs.split_once(':').ok_or(Fault::MalformedHash)?;
        let (stored_key, server_key) = keys.split_once(':').ok_or(Fault::MalformedHash)?;
        let iterations: u32 = iterations.parse().map_err(|_| Fault::MalformedHash)?;
        if iterations > ITERATIONS_MAX {
            return Err(Fault::HashTooCostly);
        }
        let decode = |text| STANDARD.decode(text).map_err(|_| Fault::MalformedHash);
        let key = |text| decode(text)?.try_into().map_err(|_| Fault::MalformedHash);
        let salt = decode(salt)?;
        if iterations < ITERATIONS_MIN || !(8..=SALT_BYTES_MAX).contains(&salt.len()) {
            return Err(Fault::MalformedHash);
        }
        Ok(Self {
            iterations,
            salt,
            stored_key: key(stored_key)?,
            server_key: key(server_key)?,
        })
    }

    /// From a password, with a random salt.
    pub(super) fn make(password: &str) -> Result<Self, Fault> {
        if !password.is_ascii() || password.contains(|c: char| c.is_ascii_control()) {
            return Err(Fault::NotAscii);
        }
        if !(1..=4_096).contains(&password.len()) {
            return Err(Fault::PasswordLength);
        }
        let salt: [u8; 16] = random::bytes()?;
        Ok(Self::derive(password, &salt, ITERATIONS_MADE))
    }

    pub(super) fn derive(password: &str, salt: &[u8], iterations: u32) -> Self {
        let mut salted = [0; 32];
        let rounds = NonZeroU32::new(iterations).unwrap_or(NonZeroU32::MIN);
        let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
        pbkdf2::derive(algorithm, rounds, salt, password.as_bytes(), &mut salted);
        Self {
            iterations,
            salt: salt.to_owned(),
            stored_key: sha256(&sign(&salted, b"Client Key")),
            server_key: sign(&salted, b"Server Key"),
        }
    }

    /// What a user who does not exist is challenged with: looks like any other, and no proof fits.
    pub(super) fn stand_in(salts: &hmac::Key, user: &str) -> Self {
        let tag = hmac::sign(salts, user.as_bytes());
        let (salt, _) = tag.as_ref().split_at(16);
        Self {
            iterations: ITERATIONS_MADE,
            salt: salt.to_owned(),
            stored_key: [0; 32],
            server_key: [0; 32],
        }
    }
}

/// HMAC-SHA-256.
pub(super) fn sign(key: &[u8], data: &[u8]) -> [u8; 32] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data);
    let mut bytes = [0; 32];
    bytes.copy_from_slice(tag.as_ref());
    bytes
}

pub(super) fn sha256(data: &[u8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest::digest(&digest::SHA256, data).as_ref());
    bytes
}

/// As it stands in a file.
impl fmt::Display for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [salt, stored_key, server_key] = [&self.salt[..], &self.stored_key, &self.server_key]
            .map(|bytes| STANDARD.encode(bytes));
        write!(
            f,
            "{KIND}{}:{salt}${stored_key}:{server_key}",
            self.iterations
        )
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({} iterations)", self.iterations)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_read_as_it_was_written() {
        let text = Credential::make("pencil").unwrap().to_string();
        assert_eq!(Credential::parse(&text).unwrap().to_string(), text);
        assert!(text.starts_with("SCRAM-SHA-256$10000:"));
        assert!(!text.contains("pencil"));
    }

    #[test]
    fn e4_costs_and_forms_out_of_bounds_are_refused() {
        let line = |iterations: &str, salt: &str, key: &str| {
            let good = STANDARD.encode([0; 32]);
            Credential::parse(&format!("SCRAM-SHA-256${iterations}:{salt}${key}:{good}"))
        };
        let key = STANDARD.encode([0; 32]);
        assert!(line("4096", "c2FsdHNhbHQ=", &key).is_ok());
        assert!(line("1000000", "c2FsdHNhbHQ=", &key).is_ok());
        let costly = line("1000001", "c2FsdHNhbHQ=", &key);
        assert!(matches!(costly, Err(Fault::HashTooCostly)));
        for (iterations, salt, key) in [
            ("4095", "c2FsdHNhbHQ=", key.as_str()),
            ("-1", "c2FsdHNhbHQ=", &key),
            ("99999999999", "c2FsdHNhbHQ=", &key),
            ("4096", "AAAA", &key),
            ("4096", "c2FsdHNhbHQ=", "AAAA"),
            ("4096", "?", &key),
        ] {
            assert!(
                line(iterations, salt, key).is_err(),
                "{iterations} {salt} {key}"
            );
        }
    }

    #[test]
    fn only_ascii_passwords_are_made_into_credentials() {
        for password in ["", "päss", "a\nb"] {
            assert!(Credential::make(password).is_err(), "{password:?}");
        }
    }
}
