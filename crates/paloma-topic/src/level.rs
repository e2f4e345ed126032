//! Taking texts apart at `/`, and looking for the characters that need a closer look.
//!
//! Plain loops: levels are a few bytes long, where the standard library's searches cost more to set up than to run.

/// Splits off the first level; the rest is `None` after the last one.
#[inline]
pub(crate) fn split_level(text: &str) -> (&str, Option<&str>) {
    let separator = text.bytes().position(|byte| byte == b'/');
    match separator.and_then(|at| text.split_at_checked(at)) {
        Some((level, rest)) => (level, rest.get(1..)),
        None => (text, None),
    }
}

/// The same for the bytes of a text, which are cut without a look at where characters begin.
#[inline]
pub(crate) fn split_level_bytes(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    let separator = text.iter().position(|&byte| byte == b'/');
    match separator.and_then(|at| text.split_at_checked(at)) {
        Some((level, rest)) => (level, rest.get(1..)),
        None => (text, None),
    }
}

/// Where the last level begins.
#[inline]
pub(crate) fn last_level_offset(text: &[u8]) -> usize {
    text.iter()
        .rposition(|&byte| byte == b'/')
        .map_or(0, |separator| separator + 1)
}

/// Whether `+`, `#` or U+0000 occurs; eight bytes at a time.
pub(crate) fn has_suspect(text: &str) -> bool {
    let bytes = text.as_bytes();
    let (words, rest) = bytes.as_chunks::<8>();
    let found = words
        .iter()
        .fold(0, |found, word| found | suspects(u64::from_ne_bytes(*word)));
    // What does not fill a word is looked at together with the bytes before it.
    match bytes.last_chunk::<8>() {
        Some(last) => (found | suspects(u64::from_ne_bytes(*last))) != 0,
        None => rest.iter().any(|byte| matches!(byte, 0 | b'+' | b'#')),
    }
}

/// Not zero if one of the bytes is suspect; which one cannot be told.
fn suspects(word: u64) -> u64 {
    // `+` and `#` differ in one bit only.
    const BIT: u64 = 0x0101_0101_0101_0101 * (b'+' ^ b'#') as u64;
    const HASHES: u64 = 0x0101_0101_0101_0101 * b'#' as u64;
    zeros(word) | zeros((word & !BIT) ^ HASHES)
}

/// Not zero if one of the bytes is zero.
const fn zeros(word: u64) -> u64 {
    word.wrapping_sub(0x0101_0101_0101_0101) & !word & 0x8080_8080_8080_8080
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use super::*;

    #[test]
    fn each_suspect_is_found_at_each_place() {
        for len in 0..40 {
            let clean: String = "üa/\u{1}\u{7f}\"*,$\u{80}Ā"
                .chars()
                .cycle()
                .take(len)
                .collect();
            assert!(!has_suspect(&clean), "{clean:?}");
            for (at, _) in clean.char_indices() {
                for suspect in ['+', '#', '\0'] {
                    let mut text = clean.clone();
                    text.insert(at, suspect);
                    assert!(has_suspect(&text), "{text:?}");
                }
            }
        }
    }

    #[test]
    fn levels_are_split_off_one_by_one() {
        let check = |text: &str, level: &str, rest: Option<&str>| {
            assert_eq!(split_level(text), (level, rest));
            let bytes = (level.as_bytes(), rest.map(str::as_bytes));
            assert_eq!(split_level_bytes(text.as_bytes()), bytes);
        };
        check("a", "a", None);
        check("", "", None);
        check("/", "", Some(""));
        check("ü/b/c", "ü", Some("b/c"));
        let offset = |text: &str| last_level_offset(text.as_bytes());
        assert_eq!(["", "a", "a/", "a/ü"].map(offset), [0, 0, 2, 2]);
    }
}
