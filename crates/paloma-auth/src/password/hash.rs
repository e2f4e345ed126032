//! Password hashes: argon2id, and mosquitto's `$6$` and `$7$`.

use std::num::NonZeroU32;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use ring::{digest, pbkdf2};
use subtle::ConstantTimeEq;

use crate::{Fault, random};

/// Most memory that a hash in a file may ask for, in KiB.
const MEMORY_KIB_MAX: u32 = 256 * 1024;
/// Most passes of argon2 that a hash in a file may ask for.
const PASSES_MAX: u32 = 10;
/// Most lanes of argon2.
const LANES_MAX: u32 = 16;
/// Most iterations of PBKDF2.
const ITERATIONS_MAX: u32 = 1_000_000;
/// Longest salt and digest, in bytes.
const BYTES_MAX: usize = 128;
/// Longest password that is hashed for a file, in bytes.
const PASSWORD_BYTES_MAX: usize = 4_096;

/// Blocks of 1 KiB that are no burden wherever they stay.
const BLOCKS_SMALL: usize = 64;
/// Blocks of 1 KiB that no allocator keeps for later.
const BLOCKS_RESERVED: usize = 33 * 1024;

/// What made argon2id hashes cost: 19 MiB, two passes, one lane.
const MADE: (u32, u32, u32) = (19 * 1024, 2, 1);
const MADE_DIGEST_BYTES: usize = 32;

/// A stored hash of a password, with everything needed to verify one.
#[derive(Debug)]
pub(crate) struct StoredHash {
    kind: Kind,
    salt: Vec<u8>,
    digest: Vec<u8>,
}

#[derive(Debug)]
enum Kind {
    Argon2id(Version, Params),
    /// `$6$`: SHA-512 over password and salt.
    Sha512,
    /// `$7$`: PBKDF2 with HMAC-SHA-512.
    Pbkdf2(NonZeroU32),
}

impl StoredHash {
    /// Reads a hash as it stands in a file. One that would cost too much to verify is refused.
    pub(crate) fn parse(text: &str) -> Result<Self, Fault> {
        let mut fields = text.split('$');
        if fields.next() != Some("") {
            return Err(Fault::UnknownHash);
        }
        let kind = fields.next().unwrap_or_default();
        let fields: Vec<&str> = fields.collect();
        match (kind, fields.as_slice()) {
            ("6", [salt, digest]) => Self::mosquitto(Kind::Sha512, salt, digest),
            ("7", [iterations, salt, digest]) => {
                let iterations = number(iterations, ITERATIONS_MAX)?;
                let iterations = NonZeroU32::new(iterations).ok_or(Fault::MalformedHash)?;
                Self::mosquitto(Kind::Pbkdf2(iterations), salt, digest)
            }
            ("argon2id", [version, costs, salt, digest]) => {
                Self::argon2id(version, costs, salt, digest)
            }
            ("6" | "7" | "argon2id", _) => Err(Fault::MalformedHash),
            (_, _) => Err(Fault::UnknownHash),
        }
    }

    fn mosquitto(kind: Kind, salt: &str, digest: &str) -> Result<Self, Fault> {
        let decode = |text| STANDARD.decode(text).map_err(|_| Fault::MalformedHash);
        let (salt, digest) = (decode(salt)?, decode(digest)?);
        if salt.is_empty() || salt.len() > BYTES_MAX || digest.len() != digest::SHA512_OUTPUT_LEN {
            return Err(Fault::MalformedHash);
        }
        Ok(Self { kind, salt, digest })
    }

    fn argon2id(version: &str, costs: &str, salt: &str, digest: &str) -> Result<Self, Fault> {
        let version = match version {
            "v=19" => Version::V0x13,
            "v=16" => Version::V0x10,
            _ => return Err(Fault::MalformedHash),
        };
        let costs: Vec<&str> = costs.split(',').collect();
        let [memory, passes, lanes] = costs.as_slice() else {
            return Err(Fault::MalformedHash);
        };
        let cost = |text: &str, name: &str, max| {
            number(text.strip_prefix(name).ok_or(Fault::MalformedHash)?, max)
        };
        let memory = cost(memory, "m=", MEMORY_KIB_MAX)?;
        let passes = cost(passes, "t=", PASSES_MAX)?;
        let lanes = cost(lanes, "p=", LANES_MAX)?;
        let decode = |text| {
            STANDARD_NO_PAD
                .decode(text)
                .map_err(|_| Fault::MalformedHash)
        };
        let (salt, digest) = (decode(salt)?, decode(digest)?);
        if !(8..=BYTES_MAX).contains(&salt.len()) || !(16..=BYTES_MAX).contains(&digest.len()) {
            return Err(Fault::MalformedHash);
        }
        let params = Params::new(memory, passes, lanes, Some(digest.len()))
            .map_err(|_| Fault::MalformedHash)?;
        let kind = Kind::Argon2id(version, params);
        Ok(Self { kind, salt, digest })
    }

    /// Hashes the password and compares in constant time. A hash that cannot be computed fits no password.
    pub(crate) fn verify(&self, password: &[u8]) -> bool {
        let mut digest = vec![0; self.digest.len()];
        let is_computed = match &self.kind {
            Kind::Argon2id(version, params) => {
                let argon2 = Argon2::new(Algorithm::Argon2id, *version, params.clone());
                argon2
                    .hash_password_into_with_memory(
                        password,
                        &self.salt,
                        &mut digest,
                        memory(params),
                    )
                    .is_ok()
            }
            Kind::Sha512 => {
                let mut context = digest::Context::new(&digest::SHA512);
                context.update(password);
                context.update(&self.salt);
                digest.copy_from_slice(context.finish().as_ref());
                true
            }
            Kind::Pbkdf2(iterations) => {
                let algorithm = pbkdf2::PBKDF2_HMAC_SHA512;
                pbkdf2::derive(algorithm, *iterations, &self.salt, password, &mut digest);
                true
            }
        };
        is_computed & bool::from(digest.ct_eq(&self.digest))
    }

    /// How much one verification costs, in units that only compare hashes of one kind.
    pub(crate) fn work(&self) -> u64 {
        match &self.kind {
            Kind::Argon2id(_, params) => u64::from(params.m_cost()) * u64::from(params.t_cost()),
            Kind::Sha512 => 1,
            Kind::Pbkdf2(iterations) => u64::from(iterations.get()),
        }
    }

    /// Tells hashes apart: bytes that change whenever the password or its salt does.
    pub(crate) fn fingerprint(&self) -> &[u8] {
        &self.digest
    }
}

/// Makes an argon2id hash with a random salt, in the form that password files hold.
pub(crate) fn make(password: &[u8]) -> Result<String, Fault> {
    if !(1..=PASSWORD_BYTES_MAX).contains(&password.len()) {
        return Err(Fault::PasswordLength);
    }
    let salt: [u8; 16] = random::bytes()?;
    let (memory, passes, lanes) = MADE;
    let params = Params::new(memory, passes, lanes, Some(MADE_DIGEST_BYTES))
        .map_err(|_| Fault::MalformedHash)?;
    let mut digest = [0; MADE_DIGEST_BYTES];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(password, &salt, &mut digest)
        .map_err(|_| Fault::PasswordLength)?;
    let (salt, digest) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(digest));
    Ok(format!(
        "$argon2id$v=19$m={memory},t={passes},p={lanes}${salt}${digest}"
    ))
}

/// The memory for one hash, which goes back to the system as a whole when the hash is done.
///
/// Room is asked for that is not used: allocators keep blocks of common sizes for their thread, glibc up to 32 MiB, and a
/// flood of logins wanders over many threads.
fn memory(params: &Params) -> Vec<Block> {
    let count = params.block_count();
    let reserved = if count < BLOCKS_SMALL {
        count
    } else {
        count.max(BLOCKS_RESERVED)
    };
    let mut blocks = Vec::with_capacity(reserved);
    blocks.resize(count, Block::default());
    blocks
}

/// A decimal number of at most `max`.
fn number(text: &str, max: u32) -> Result<u32, Fault> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Fault::MalformedHash);
    }
    match text.parse() {
        Ok(number) if number <= max => Ok(number),
        // Digits that are no u32 are a number above any limit.
        Ok(_) | Err(_) => Err(Fault::HashTooCostly),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: &str = "c2FsdHNhbHRzYWx0";
    const DIGEST_32: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    #[track_caller]
    fn check_fault(text: &str, is_expected: fn(&Fault) -> bool) {
        let fault = StoredHash::parse(text).unwrap_err();
        assert!(is_expected(&fault), "{text}: {fault}");
    }

    #[test]
    fn lines_of_mosquitto_passwd_verify() {
        for (hash, password) in [
            (
                "$7$101$JGWi7VqISvyNv8XC$kxeEtgzYkDdNdHusHeJGZ0amXAxqd+6w1dkvM7W4bfIK1jBhgcSF4rs3gkc08+af+4irBIbBUAkN2apdlu/hEw==",
                "secret",
            ),
            (
                "$6$3NgyJ6e1R2JHnx60$eTUp7YlIYwK68u0s1rjmAqGvV3cHA+yhXvltVEeZ7ae3Oo2NcbEIGzsPBEkcxfpUwPehhcz2MBRLMNQjrD3d5Q==",
                "secret2",
            ),
        ] {
            let hash = StoredHash::parse(hash).unwrap();
            assert!(hash.verify(password.as_bytes()));
            assert!(!hash.verify(b"Secret"));
            assert!(!hash.verify(b""));
        }
    }

    #[test]
    fn a_made_hash_has_the_stated_cost_and_a_salt_of_its_own() {
        let text = make(b"open sesame").unwrap();
        assert!(text.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert_ne!(text, make(b"open sesame").unwrap());
        let hash = StoredHash::parse(&text).unwrap();
        assert!(hash.verify(b"open sesame"));
        assert!(!hash.verify(b"open sesam"));
        assert!(make(b"").is_err());
        assert!(make(&[b'x'; 4_097]).is_err());
    }

    #[test]
    fn e4_costs_above_the_caps_are_refused() {
        let argon2 = |costs: &str| format!("$argon2id$v=19${costs}${SALT}${DIGEST_32}");
        assert!(StoredHash::parse(&argon2("m=262144,t=10,p=16")).is_ok());
        for costs in [
            "m=262145,t=1,p=1",
            "m=4294967295,t=1,p=1",
            "m=99999999999999999999,t=1,p=1",
            "m=1024,t=11,p=1",
            "m=1024,t=1,p=17",
        ] {
            check_fault(&argon2(costs), |fault| {
                matches!(fault, Fault::HashTooCostly)
            });
        }
        let digest = STANDARD.encode([0; 64]);
        let pbkdf2 = |iterations: &str| format!("$7${iterations}${SALT}${digest}");
        assert!(StoredHash::parse(&pbkdf2("1000000")).is_ok());
        check_fault(&pbkdf2("1000001"), |fault| {
            matches!(fault, Fault::HashTooCostly)
        });
    }

    #[test]
    fn malformed_hashes_are_refused() {
        let digest = STANDARD.encode([0; 64]);
        for text in [
            format!("$7$0${SALT}${digest}"),
            format!("$7$-1${SALT}${digest}"),
            format!("$7$${SALT}${digest}"),
            format!("$7$101${SALT}$AAAA"),
            format!("$7$101$${digest}"),
            format!("$6${SALT}"),
            format!("$6${SALT}${digest}$"),
            format!("$6$!${digest}"),
            format!("$argon2id$v=18$m=1024,t=1,p=1${SALT}${DIGEST_32}"),
            format!("$argon2id$v=19$m=1024,t=1${SALT}${DIGEST_32}"),
            format!("$argon2id$v=19$m=1024,t=0,p=1${SALT}${DIGEST_32}"),
            format!("$argon2id$v=19$m=1,t=1,p=1${SALT}${DIGEST_32}"),
            format!("$argon2id$v=19$m=1024,t=1,p=1,x=1${SALT}${DIGEST_32}"),
            format!("$argon2id$v=19$m=1024,t=1,p=1$AAAA${DIGEST_32}"),
            format!("$argon2id$v=19$m=1024,t=1,p=1${SALT}$AAAA"),
        ] {
            check_fault(&text, |fault| matches!(fault, Fault::MalformedHash));
        }
    }

    #[test]
    fn plain_text_and_other_hashes_are_refused() {
        for text in [
            "",
            "secret",
            "$",
            "$1$x$y",
            "$argon2i$v=19$m=8,t=1,p=1$a$b",
            "$2b$10$x",
        ] {
            check_fault(text, |fault| matches!(fault, Fault::UnknownHash));
        }
    }
}
