//! As much of DER and PEM as a public key needs. (RFC 5280, section 4.1; RFC 7468)

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::key::Public;

const SEQUENCE: u8 = 0x30;
const OBJECT_ID: u8 = 0x06;
const BIT_STRING: u8 = 0x03;

const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const ELLIPTIC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

const BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const END: &str = "-----END PUBLIC KEY-----";

/// Every `PUBLIC KEY` block of a PEM text, each with the number of its first line. Other blocks are `None`: what was
/// meant by them is not known.
pub(super) fn pem(text: &str) -> Vec<(usize, Option<Public>)> {
    let mut keys = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        if !line.starts_with("-----BEGIN ") {
            continue;
        }
        let body: String = lines
            .by_ref()
            .map(|(_, line)| line.trim())
            .take_while(|line| !line.starts_with("-----END "))
            .collect();
        let der = STANDARD.decode(body).ok();
        let key = der.filter(|_| line.trim() == BEGIN && text.contains(END));
        keys.push((index + 1, key.and_then(|der| public_key(&der))));
    }
    keys
}

/// A SubjectPublicKeyInfo.
fn public_key(der: &[u8]) -> Option<Public> {
    let (body, []) = element(der, SEQUENCE)? else {
        return None;
    };
    let (algorithm, rest) = element(body, SEQUENCE)?;
    let (bits, []) = element(rest, BIT_STRING)? else {
        return None;
    };
    let (0, key) = bits.split_first()? else {
        return None;
    };
    let (id, parameters) = element(algorithm, OBJECT_ID)?;
    match id {
        RSA => Some(Public::RsaDer(key.to_owned())),
        ELLIPTIC if element(parameters, OBJECT_ID)?.0 == P256 => {
            Some(Public::P256(key.try_into().ok()?))
        }
        ED25519 => Some(Public::Ed25519(key.try_into().ok()?)),
        _ => None,
    }
}

/// The content of the first element, which has to be of this kind, and what stands behind it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (first, rest) = der.split_first()?;
    let (length, rest) = rest.split_first()?;
    let (length, rest) = match usize::from(*length) {
        short if short < 0x80 => (short, rest),
        long => {
            let (digits, rest) = rest.split_at_checked(long - 0x80)?;
            if digits.len() > 4 {
                return None;
            }
            let fold = |sum: usize, digit: &u8| sum * 256 + usize::from(*digit);
            (digits.iter().fold(0, fold), rest)
        }
    };
    (*first == tag)
        .then(|| rest.split_at_checked(length))
        .flatten()
}
