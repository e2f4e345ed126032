//! What can be wrong with a configuration, and where.

use std::fmt;
use std::path::{Path, PathBuf};

use paloma_broker::MountPointError;

use crate::parts::NotBuilt;

/// Where a value was given.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// In the file, at a line and a column that both start at 1. Columns count characters.
    File {
        path: PathBuf,
        line: usize,
        column: usize,
    },
    /// On a line of a file that the configuration names, counted from 1.
    Line { path: PathBuf, line: usize },
    /// In the file, which could not be read that far.
    WholeFile { path: PathBuf },
    /// In an environment variable.
    Environment { variable: String },
    /// In a flag of the command line.
    Flag { flag: &'static str },
    /// Nowhere: it is a default.
    Default,
}

impl Place {
    /// The place of byte `offset` in `text`, which was read from `path`.
    pub(crate) fn in_file(path: &Path, text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self::File {
            path: path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or("").chars().count() + 1,
        }
    }

    /// The line in the file, if the place is in one.
    pub(crate) const fn line(&self) -> Option<usize> {
        match self {
            Self::File { line, .. } => Some(*line),
            Self::Line { .. }
            | Self::WholeFile { .. }
            | Self::Environment { .. }
            | Self::Flag { .. }
            | Self::Default => None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Line { path, line } => write!(f, "{}:{line}", path.display()),
            Self::WholeFile { path } => write!(f, "{}", path.display()),
            Self::Environment { variable } => f.write_str(variable),
            Self::Flag { flag } => f.write_str(flag),
            Self::Default => f.write_str("default"),
        }
    }
}

/// What is wrong with one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The file cannot be read; the text is the operating system's.
    Unreadable(String),
    /// The file is larger than any configuration is.
    FileTooLarge { bytes_max: u64 },
    /// The file is not TOML; the text is the parser's.
    Syntax(String),
    /// No such key in this table.
    UnknownKey { nearest: Option<&'static str> },
    /// A value of another type is needed.
    WrongType {
        expected: &'static str,
        found: &'static str,
    },
    /// Zero, where only a limit makes sense.
    Zero { least: u64, most: u64 },
    /// Above or below what is possible.
    OutOfRange {
        found: String,
        least: u64,
        most: u64,
    },
    /// Not one of the words that are possible.
    NotOneOf {
        found: String,
        choices: Vec<&'static str>,
    },
    /// Not `host:port`.
    Address { found: String },
    /// Not a URL that a listener can have.
    Url { found: String },
    /// Two listeners that cannot both exist.
    Twice { what: &'static str, found: String },
    /// What this build is without.
    NotBuilt(NotBuilt),
    /// A key or a value that is part of the shape, but that this build cannot honour.
    NotSupportedYet { instead: &'static str },
    /// A listener that strangers can reach, without anything that says so.
    AnonymousBeyondLoopback { address: String },
    /// The files of TLS; the text names the one that is wrong.
    Tls(String),
    /// What is wrong in a file of users or rules.
    Security(String),
    /// A file of users or rules with these permissions.
    WritableByOthers { mode: u32 },
    /// A file of secrets with these permissions.
    ReadableByOthers { mode: u32 },
    /// A text with characters that it may not have, or one that is too long or empty.
    Text { rule: &'static str },
    /// A prefix of topics that cannot be one.
    MountPoint(MountPointError),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => write!(f, "cannot be read: {error}"),
            Self::FileTooLarge { bytes_max } => write!(f, "is larger than {bytes_max} bytes"),
            Self::Syntax(message) => write!(f, "not valid TOML: {message}"),
            Self::UnknownKey {
                nearest: Some(nearest),
            } => {
                write!(f, "unknown key; did you mean `{nearest}`?")
            }
            Self::UnknownKey { nearest: None } => f.write_str("unknown key"),
            Self::WrongType { expected, found } => write!(f, "expected {expected}, found {found}"),
            Self::Zero { least, most } => {
                write!(f, "0 is not a limit; it must be between {least} and {most}")
            }
            Self::OutOfRange { found, least, most } => {
                write!(
                    f,
                    "{found} is out of range; it must be between {least} and {most}"
                )
            }
            Self::NotOneOf { found, choices } => {
                write!(f, "`{found}` is not one of {}", choices.join(", "))
            }
            Self::Address { found } => {
                write!(
                    f,
                    "`{found}` is not an address of the form host:port, [v6]:port or unix:/path"
                )
            }
            Self::Url { found } => {
                write!(
                    f,
                    "`{found}` is not a URL of the form tcp://host:port, tls://, ws://, wss:// or unix:///path"
                )
            }
            Self::Twice { what, found } => {
                write!(f, "{what} `{found}` is used by an earlier listener too")
            }
            Self::NotBuilt(part) => write!(f, "{part}"),
            Self::NotSupportedYet { instead } => {
                write!(f, "not supported yet: this build {instead}")
            }
            Self::AnonymousBeyondLoopback { address } => write!(
                f,
                "{address} can be reached from other machines and no client has to say who it is; \
                 name a password_file, or if that is meant, set `allow_anonymous = true` on the listener \
                 (with --listen: --allow-anonymous)"
            ),
            Self::Tls(error) => f.write_str(error),
            Self::Security(text) => f.write_str(text),
            Self::WritableByOthers { mode } => write!(
                f,
                "its mode is {mode:04o}, so that every user of this machine may change it; \
                 `chmod o-w` takes that back"
            ),
            Self::ReadableByOthers { mode } => write!(
                f,
                "its mode is {mode:04o}, so that every user of this machine may read the secret; \
                 `chmod o-r` takes that back"
            ),
            Self::Text { rule } => f.write_str(rule),
            Self::MountPoint(error) => write!(f, "{error}"),
        }
    }
}

impl From<NotBuilt> for Fault {
    fn from(part: NotBuilt) -> Self {
        Self::NotBuilt(part)
    }
}

/// One thing that is wrong: where, which key, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) place: Place,
    /// The key with its tables, as `limits.packet_bytes_max`; empty for a whole file.
    pub(crate) key: String,
    pub(crate) fault: Fault,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}", self.fault)
    }
}

/// Everything that is wrong, in the order of file, environment and flags; one line each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Problems(pub(crate) Vec<Problem>);

impl Problems {
    /// Adds one, behind what is wrong at the same place.
    pub(crate) fn push(&mut self, place: Place, key: impl Into<String>, fault: Fault) {
        let at = self.0.partition_point(|known| known.place <= place);
        let key = key.into();
        self.0.insert(at, Problem { place, key, fault });
    }

    /// Of a line that is no TOML keeps only the first reason why.
    pub(crate) fn tidy(&mut self) {
        let is_syntax = |problem: &Problem| matches!(problem.fault, Fault::Syntax(_));
        let syntax = self.0.iter().filter(|problem| is_syntax(problem));
        let broken: Vec<usize> = syntax.filter_map(|problem| problem.place.line()).collect();
        let mut last_broken = None;
        self.0.retain(|problem| {
            let Some(line) = problem.place.line().filter(|line| broken.contains(line)) else {
                return true;
            };
            is_syntax(problem) && last_broken.replace(line) != Some(line)
        });
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}
