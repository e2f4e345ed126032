//! The statements: those of the standards, and those of ours.

use std::{collections::BTreeMap, path::Path};

use crate::{
    failure::{Failure, Outcome},
    workspace,
};

/// A side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    Server,
    Client,
}

impl Role {
    pub(super) const ALL: [Self; 2] = [Self::Server, Self::Client];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
        }
    }
}

/// One statement.
#[derive(Debug)]
pub(super) struct Statement {
    /// As it is cited.
    pub(super) id: String,
    /// Whom it binds.
    pub(super) roles: Vec<Role>,
    /// What it says, in our words.
    pub(super) text: String,
}

/// All statements of one document.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) title: &'static str,
    pub(super) statements: Vec<Statement>,
}

#[derive(Debug)]
pub(super) struct Statements {
    pub(super) documents: Vec<Document>,
    /// From a statement of 3.1.1 to the one of 5.0 that says the same.
    same: BTreeMap<String, Vec<String>>,
    /// Why a statement cannot be tested in a role.
    notes: BTreeMap<(String, Role), String>,
}

/// Title, file, prefix there, prefix of a citation.
const DOCUMENTS: [(&str, &str, &str, &str); 3] = [
    (
        "MQTT 3.1.1",
        "docs/spec/mqtt-3.1.1.tsv",
        "MQTT-",
        "MQTT311-",
    ),
    ("MQTT 5.0", "docs/spec/mqtt-5.0.tsv", "MQTT-", "MQTT-"),
    (
        "Rules of 5.0 without an id there",
        "docs/spec/paloma.tsv",
        "PALOMA-",
        "PALOMA-",
    ),
];

impl Statements {
    pub(super) fn read() -> Outcome<Self> {
        let mut documents = Vec::new();
        for (title, path, prefix, cited) in DOCUMENTS {
            let mut statements = Vec::new();
            for [id, text] in rows(path)? {
                let Some(number) = id.strip_prefix(prefix) else {
                    return Err(malformed(path, &id));
                };
                let (who, text) = text.split_once(": ").unwrap_or(("Both", &text));
                statements.push(Statement {
                    id: format!("{cited}{number}"),
                    roles: roles(who).ok_or_else(|| malformed(path, &id))?,
                    text: text.to_owned(),
                });
            }
            documents.push(Document { title, statements });
        }
        let mut same: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for [old, new] in rows("docs/spec/same.tsv")? {
            let all = new.split(' ').map(str::to_owned);
            same.entry(old).or_default().extend(all);
        }
        let mut notes = BTreeMap::new();
        for [id, role, reason] in rows("docs/spec/not-applicable.tsv")? {
            let roles = roles(&role).ok_or_else(|| malformed("not-applicable.tsv", &id))?;
            for role in roles {
                notes.insert((id.clone(), role), reason.clone());
            }
        }
        Ok(Self {
            documents,
            same,
            notes,
        })
    }

    pub(super) fn exists(&self, id: &str) -> bool {
        self.all().any(|statement| statement.id == id)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Statement> {
        let documents = self.documents.iter();
        documents.flat_map(|document| &document.statements)
    }

    /// The statement and what says the same.
    pub(super) fn with_same<'a>(&'a self, id: &'a str) -> impl Iterator<Item = &'a str> {
        let same = self.same.get(id).into_iter().flatten();
        [id].into_iter().chain(same.map(String::as_str))
    }

    /// Why nobody can test it in this role.
    pub(super) fn note(&self, id: &str, role: Role) -> Option<&str> {
        self.notes.get(&(id.to_owned(), role)).map(String::as_str)
    }

    /// Lines of the two tables of remarks that say nothing of a statement that exists.
    pub(super) fn useless_notes(&self) -> Vec<String> {
        let mut findings = Vec::new();
        for (old, new) in &self.same {
            for id in new.iter().chain([old]) {
                if !self.exists(id) {
                    findings.push(format!(
                        "docs/spec/same.tsv names {id}, which does not exist"
                    ));
                }
            }
        }
        for (id, role) in self.notes.keys() {
            let binds = self
                .all()
                .any(|statement| statement.id == *id && statement.roles.contains(role));
            if !binds {
                let role = role.name();
                findings.push(format!(
                    "docs/spec/not-applicable.tsv: {id} does not exist, or does not bind a {role}"
                ));
            }
        }
        findings
    }
}

/// Whom a statement binds, by the word it begins with.
fn roles(who: &str) -> Option<Vec<Role>> {
    Some(match who.split_whitespace().next()? {
        "Both" | "both" | "Client/Server" | "Sender" | "Receiver" => Role::ALL.to_vec(),
        "Server" | "server" => vec![Role::Server],
        "Client" | "client" => vec![Role::Client],
        _ => return None,
    })
}

/// The lines of a table of so many columns.
fn rows<const COLUMNS: usize>(path: &str) -> Outcome<Vec<[String; COLUMNS]>> {
    let text = workspace::text(Path::new(path))?.unwrap_or_default();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let columns: Vec<String> = line.split('\t').map(str::to_owned).collect();
            <[String; COLUMNS]>::try_from(columns).map_err(|_| malformed(path, line))
        })
        .collect()
}

fn malformed(path: &str, line: &str) -> Failure {
    Failure::Format {
        what: "docs/spec",
        problem: format!("{path}: `{line}` is no line of that table"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_standards_are_there_as_a_whole() {
        let statements = Statements::read().expect("the tables are right");
        let counts: Vec<usize> = statements
            .documents
            .iter()
            .map(|document| document.statements.len())
            .collect();
        assert_eq!(counts[..2], [141, 251]);
        assert!(statements.useless_notes().is_empty());
    }

    #[test]
    fn the_first_word_says_whom_it_binds() {
        assert_eq!(roles("Both"), Some(Role::ALL.to_vec()));
        assert_eq!(roles("Sender QoS 1"), Some(Role::ALL.to_vec()));
        assert_eq!(roles("Client"), Some(vec![Role::Client]));
        assert_eq!(roles("Server"), Some(vec![Role::Server]));
        assert_eq!(roles("Somebody"), None);
    }
}
