//! Where statements are cited.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use super::statements::{Role, Statements};
use crate::tidy::source::Source;

/// Beginnings of what is cited.
const PREFIXES: [&str; 3] = ["MQTT-", "MQTT311-", "PALOMA-"];
/// Code of the client alone.
const CLIENT: &[&str] = &[
    "crates/paloma-client/",
    "crates/paloma/src/client/",
    "crates/paloma/tests/clients.rs",
    "crates/paloma-session/src/client.rs",
    "crates/paloma-session/tests/client_role.rs",
];
/// Code of both roles.
const BOTH: &[&str] = &[
    "crates/paloma-topic/",
    "crates/paloma-codec/",
    "crates/paloma-session/",
    "fuzz/",
];
/// Code of the server alone that stands inside what is both's.
const SERVER: &[&str] = &["crates/paloma-session/src/server.rs"];
/// Crates that are tests as a whole.
const TESTS: &[&str] = &[
    "crates/paloma-conformance/",
    "crates/paloma-interop/",
    "crates/paloma-hostile/",
    "crates/paloma-crash/",
    "fuzz/",
];

/// Who cites one statement, and where.
#[derive(Debug, Default)]
pub(super) struct Cited {
    /// Files of code, by the roles that run it.
    pub(super) code: BTreeSet<(Role, String)>,
    /// Tests as `crate/file::name`.
    pub(super) tests: BTreeSet<(Role, String)>,
}

#[derive(Debug, Default)]
pub(super) struct Citations {
    by_id: BTreeMap<String, Cited>,
    /// The first file that cites it.
    first: BTreeMap<String, String>,
}

impl Citations {
    pub(super) fn read_source(&mut self, source: &Source) {
        let path = source.path.to_string_lossy().replace('\\', "/");
        if path.starts_with("xtask/") {
            return;
        }
        for (offset, id) in ids(&source.text) {
            let is_test = starts_with(&path, TESTS) || source.is_test_at(offset);
            let place = if is_test {
                let file = short(&path);
                match test_name(source, offset, id) {
                    Some(name) => format!("{file}::{name}"),
                    None => file,
                }
            } else {
                path.strip_prefix("crates/").unwrap_or(&path).to_owned()
            };
            self.add(&path, id, is_test, place);
        }
    }

    /// Vectors are tables whose columns hold ids without brackets.
    pub(super) fn read_vectors(&mut self, path: &Path, text: &str) {
        let path = path.to_string_lossy().replace('\\', "/");
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split('\t').next().unwrap_or_default();
            let words = line.split(['\t', ' ']);
            for id in words.filter(|word| is_id(word)) {
                self.add(&path, id, true, format!("{}::{name}", short(&path)));
            }
        }
    }

    fn add(&mut self, path: &str, id: &str, is_test: bool, place: String) {
        let cited = self.by_id.entry(id.to_owned()).or_default();
        for role in roles(path) {
            let places = if is_test {
                &mut cited.tests
            } else {
                &mut cited.code
            };
            places.insert((role, place.clone()));
        }
        self.first
            .entry(id.to_owned())
            .or_insert_with(|| path.to_owned());
    }

    pub(super) fn of(&self, id: &str) -> Option<&Cited> {
        self.by_id.get(id)
    }

    /// Citations of what does not exist.
    pub(super) fn unknown(&self, statements: &Statements) -> Vec<String> {
        let unknown = self.first.iter().filter(|(id, _)| !statements.exists(id));
        unknown
            .map(|(id, path)| format!("{path} cites {id}, which does not exist"))
            .collect()
    }
}

fn starts_with(path: &str, places: &[&str]) -> bool {
    places.iter().any(|place| path.starts_with(place))
}

/// Who runs the code of a file.
fn roles(path: &str) -> Vec<Role> {
    if starts_with(path, CLIENT) {
        vec![Role::Client]
    } else if starts_with(path, BOTH) && !starts_with(path, SERVER) {
        Role::ALL.to_vec()
    } else {
        vec![Role::Server]
    }
}

/// `crates/paloma-broker/tests/wills.rs` as `broker/wills`.
fn short(path: &str) -> String {
    let path = path.strip_prefix("crates/").unwrap_or(path);
    let path = path.strip_prefix("paloma-").unwrap_or(path);
    let path = path.rsplit_once('.').map_or(path, |(stem, _)| stem);
    path.replacen("/tests/", "/", 1).replacen("/src/", "/", 1)
}

/// Every id in brackets, and where it stands.
fn ids(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.match_indices('[').filter_map(|(offset, _)| {
        let inside = text.get(offset + 1..)?.split(']').next()?;
        is_id(inside).then_some((offset, inside))
    })
}

fn is_id(word: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    PREFIXES.iter().any(|prefix| {
        word.strip_prefix(prefix)
            .is_some_and(|rest| !rest.is_empty() && rest.chars().all(is_plain))
    })
}

/// The test that a citation belongs to: in a table of the conformance suite the function that stands behind it, in front of a
/// function that one, otherwise the one that it stands in.
fn test_name<'a>(source: &'a Source, offset: usize, id: &str) -> Option<&'a str> {
    let line_end = source.text.get(offset..)?.find('\n')? + offset;
    let rest_of_line = source.text.get(offset + id.len()..line_end)?;
    if let Some((_, name)) = rest_of_line.split_once("\", ") {
        return Some(name.split(')').next()?.trim());
    }
    let mut ahead = source.code.get(offset..)?.trim_start();
    while let Some(attribute) = ahead.strip_prefix("#[") {
        ahead = attribute.split_once(']')?.1.trim_start();
    }
    let is_function = ["fn ", "pub fn ", "pub(crate) fn ", "async fn "]
        .iter()
        .any(|start| ahead.starts_with(start));
    let code = if is_function {
        ahead.split_once("fn ")?.1
    } else {
        source.code.get(..offset)?.rsplit_once("fn ")?.1
    };
    let end = code.find(|c: char| !(c.is_alphanumeric() || c == '_'))?;
    code.get(..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source::new(path.into(), text)
    }

    fn check(path: &str, text: &str, id: &str, code: &[&str], tests: &[&str]) {
        let mut citations = Citations::default();
        citations.read_source(&source(path, text));
        let cited = citations.of(id).expect("it is cited");
        let names = |places: &BTreeSet<(Role, String)>| -> Vec<String> {
            let names: BTreeSet<&String> = places.iter().map(|(_, name)| name).collect();
            names.into_iter().cloned().collect()
        };
        assert_eq!(names(&cited.code), code);
        assert_eq!(names(&cited.tests), tests);
    }

    #[test]
    fn code_is_cited_by_its_file() {
        let text = "/// A thing. [MQTT-3.1.0-1]\nfn thing() {}\n";
        let file = "paloma-broker/src/a.rs";
        check(
            "crates/paloma-broker/src/a.rs",
            text,
            "MQTT-3.1.0-1",
            &[file],
            &[],
        );
    }

    #[test]
    fn tests_are_cited_by_their_name() {
        let before = "/// [MQTT-3.1.0-1] [MQTT311-3.1.0-1]\n#[test]\nfn first() {}\n";
        let path = "crates/paloma-session/tests/a.rs";
        check(path, before, "MQTT311-3.1.0-1", &[], &["session/a::first"]);
        let inside = "#[test]\nfn first() {\n    // [MQTT-3.1.0-1]\n    check();\n}\n";
        check(path, inside, "MQTT-3.1.0-1", &[], &["session/a::first"]);
        let module =
            "fn code() {}\n#[cfg(test)]\nmod tests {\n    // [MQTT-3.1.0-1]\n    fn x() {}\n}\n";
        let path = "crates/paloma-topic/src/a.rs";
        check(path, module, "MQTT-3.1.0-1", &[], &["topic/a::x"]);
    }

    #[test]
    fn a_line_of_the_suite_is_cited_by_the_function_behind_it() {
        let text =
            "fn section() {\n    both(\"[MQTT-3.1.0-1] [MQTT-3.1.0-2]\", the_name).slow(),\n}\n";
        let path = "crates/paloma-conformance/src/cases/a.rs";
        let test = "conformance/cases/a::the_name";
        check(path, text, "MQTT-3.1.0-1", &[], &[test]);
    }

    #[test]
    fn roles_are_those_of_the_place() {
        assert_eq!(roles("crates/paloma-client/src/a.rs"), [Role::Client]);
        assert_eq!(roles("crates/paloma-broker/src/a.rs"), [Role::Server]);
        assert_eq!(roles("crates/paloma-session/src/server.rs"), [Role::Server]);
        assert_eq!(roles("crates/paloma-codec/src/a.rs"), Role::ALL);
    }

    #[test]
    fn what_looks_like_an_id_and_is_none_is_no_citation() {
        assert_eq!(ids("[MQTT] [MQTT-] [x] a[MQTT-i] [MQTT-4.2-1").count(), 2);
        assert_eq!(ids("slice[0] [PALOMA-5.0-a]").count(), 1);
    }
}
