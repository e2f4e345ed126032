//! Tables of keys: what each is called, and what its value does.

use std::path::Path;

use toml::de::DeTable;

use super::problem::{Fault, Place, Problems};
use super::value::Value;

/// One key of a table, and how its value is put into `T`.
pub(crate) struct Key<T: 'static> {
    pub(crate) name: &'static str,
    pub(crate) set: fn(&mut T, &Value<'_>) -> Result<(), Fault>,
}

/// Puts a value that could be read into its slot.
pub(crate) fn put<V>(slot: &mut V, value: Result<V, Fault>) -> Result<(), Fault> {
    *slot = value?;
    Ok(())
}

/// The key with this name, or a fault that names the nearest.
pub(crate) fn find<'a, T>(keys: &'a [Key<T>], name: &str) -> Result<&'a Key<T>, Fault> {
    keys.iter()
        .find(|key| key.name == name)
        .ok_or_else(|| Fault::UnknownKey {
            nearest: nearest(keys.iter().map(|key| key.name), name),
        })
}

/// The name that a mistyped one probably stands for.
pub(crate) fn nearest(
    names: impl Iterator<Item = &'static str>,
    wrong: &str,
) -> Option<&'static str> {
    // Longer than any key: not a slip of the finger, and the comparison's cost stays bounded.
    if wrong.len() > 64 {
        return None;
    }
    let (distance, name) = names.map(|name| (edits(name, wrong), name)).min()?;
    (distance <= 3 && distance * 3 <= name.len()).then_some(name)
}

/// The file that is read, for naming places in it.
pub(crate) struct Source<'a> {
    pub(crate) path: &'a Path,
    pub(crate) text: &'a str,
}

impl Source<'_> {
    pub(crate) fn place(&self, offset: usize) -> Place {
        Place::in_file(self.path, self.text, offset)
    }

    /// Reads every entry of `table` with `keys`; whatever is wrong is noted, and the rest goes on.
    pub(crate) fn read_table<'a, T>(
        &self,
        prefix: &str,
        table: &'a DeTable<'a>,
        keys: &[Key<T>],
        target: &mut T,
        problems: &mut Problems,
    ) {
        for (name, value) in table {
            let (offset, result) = match find(keys, name.get_ref()) {
                Err(fault) => (name.span().start, Err(fault)),
                Ok(key) => {
                    let is_table = value.get_ref().is_table();
                    let span = if is_table { name.span() } else { value.span() };
                    (span.start, (key.set)(target, &Value::Toml(value.get_ref())))
                }
            };
            if let Err(fault) = result {
                problems.push(
                    self.place(offset),
                    format!("{prefix}.{}", name.get_ref()),
                    fault,
                );
            }
        }
    }
}

/// How many letters must be put in, taken out or changed to make one text the other.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (index, letter) in a.chars().enumerate() {
        let mut diagonal = index;
        let mut left = index + 1;
        for (other, cell) in b.iter().zip(row.iter_mut().skip(1)) {
            let changed = diagonal + usize::from(letter != *other);
            diagonal = *cell;
            left = changed.min(left + 1).min(*cell + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = index + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(wrong: &str, expected: Option<&str>) {
        let names = ["packet_bytes_max", "qos_max", "level", "format"];
        assert_eq!(nearest(names.into_iter(), wrong), expected, "{wrong}");
    }

    #[test]
    fn a_slip_finds_the_key_that_was_meant() {
        check("packet_byte_max", Some("packet_bytes_max"));
        check("packet-bytes-max", Some("packet_bytes_max"));
        check("qosmax", Some("qos_max"));
        check("levl", Some("level"));
        check("colour", None);
        check(&"x".repeat(10_000), None);
    }

    #[test]
    fn edits_count_letters() {
        assert_eq!(edits("", ""), 0);
        assert_eq!(edits("abc", ""), 3);
        assert_eq!(edits("", "abc"), 3);
        assert_eq!(edits("kitten", "sitting"), 3);
    }
}
