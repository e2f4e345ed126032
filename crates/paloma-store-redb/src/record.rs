//! How a record is laid out: a checksum, then its body.
//!
//! The checksum is over the table, the key and the body, so that neither a flipped bit nor a record in another's place is
//! taken for what was written. Bodies are laid out as [`paloma_broker::wire`] does.

use crc32fast::Hasher;
use paloma_broker::wire::Damaged;

/// Bytes of the checksum.
const SUM: usize = 4;

/// The tables; the number is part of each record's checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Session = 1,
    Subscription = 2,
    Will = 3,
    Retained = 4,
    FanOut = 5,
    Message = 6,
    Journal = 7,
}

/// Makes a record in `out`, which is cleared.
pub(crate) fn seal(kind: Kind, key: &[u8], out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    out.clear();
    out.extend_from_slice(&[0; SUM]);
    body(out);
    if let Some((place, body)) = out.split_at_mut_checked(SUM) {
        place.copy_from_slice(&sum(kind, key, body));
    }
}

/// The body of a record.
pub(crate) fn open<'a>(kind: Kind, key: &[u8], record: &'a [u8]) -> Result<&'a [u8], Damaged> {
    let (place, body) = record.split_at_checked(SUM).ok_or(Damaged)?;
    if place != sum(kind, key, body) {
        return Err(Damaged);
    }
    Ok(body)
}

fn sum(kind: Kind, key: &[u8], body: &[u8]) -> [u8; SUM] {
    let mut hasher = Hasher::new();
    hasher.update(&[kind as u8]);
    hasher.update(key);
    hasher.update(body);
    hasher.finalize().to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flip_is_seen() {
        let mut record = Vec::new();
        seal(Kind::Message, b"key", &mut record, |body| {
            body.extend_from_slice(b"body");
        });
        assert_eq!(open(Kind::Message, b"key", &record), Ok(&b"body"[..]));
        for at in 0..record.len() {
            for bit in 0..8 {
                let mut flipped = record.clone();
                flipped[at] ^= 1 << bit;
                assert_eq!(open(Kind::Message, b"key", &flipped), Err(Damaged));
            }
            assert_eq!(open(Kind::Message, b"key", &record[..at]), Err(Damaged));
        }
    }

    #[test]
    fn a_record_in_another_place_is_seen() {
        let mut record = Vec::new();
        seal(Kind::Message, b"key", &mut record, |_| {});
        assert_eq!(open(Kind::Message, b"kez", &record), Err(Damaged));
        assert_eq!(open(Kind::Will, b"key", &record), Err(Damaged));
    }
}
