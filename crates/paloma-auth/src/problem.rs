//! What can be wrong with a file that says who may do what.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use paloma_topic::TopicError;

/// Everything that is wrong with a file, in the order of its lines; never empty.
#[derive(Debug)]
pub struct Problems(Vec<Problem>);

/// One thing that is wrong, and where.
#[derive(Debug)]
pub struct Problem {
    /// The file.
    pub path: PathBuf,
    /// The line, counted from 1; `None` when it is the file as a whole.
    pub line: Option<usize>,
    /// What is wrong there.
    pub fault: Fault,
}

/// What is wrong. Texts of the file are not repeated, since they may be secrets.
#[derive(Debug)]
#[non_exhaustive]
pub enum Fault {
    /// The file cannot be read or written.
    Io(io::Error),
    /// The file is larger than this many bytes.
    FileTooLarge(u64),
    /// The file is not UTF-8.
    NotUtf8,
    /// Nothing but blank lines and comments: that would let in everybody or nobody, and which is unclear.
    Empty,
    /// The line begins with none of `user`, `topic` and `pattern`.
    UnknownDirective,
    /// A `user` line without a name.
    MissingUser,
    /// A `topic` or `pattern` line, or a claim, without a filter.
    MissingTopic,
    /// The word before the filter is none of `read`, `write`, `readwrite` and `deny`.
    UnknownAccess,
    /// The filter breaks a rule of the standard or is too long.
    Topic(TopicError),
    /// No `:` between user name and hash.
    MissingColon,
    /// The user name is empty, too long or holds a control character.
    UserName,
    /// The user has a line already.
    DuplicateUser {
        /// The line of the first one.
        first: usize,
    },
    /// The hash is of no known kind; a password in plain text is refused too.
    UnknownHash,
    /// The hash is of a known kind but not well formed.
    MalformedHash,
    /// Verifying this hash would cost more memory or time than is allowed.
    HashTooCostly,
    /// A key is of no supported kind, or not well formed.
    Key,
    /// An HMAC key of fewer than 32 bytes. (RFC 7518, section 3.2)
    KeyTooShort,
    /// The file has more entries than this.
    TooManyEntries(usize),
    /// Characters outside ASCII, whose preparation clients do not agree on.
    NotAscii,
    /// The password is empty or longer than 4,096 bytes.
    PasswordLength,
    /// No line for that user.
    NoSuchUser,
    /// The system gave no random bytes.
    NoRandomness,
    /// Built without the feature of this name, which the file is for.
    NotBuilt(&'static str),
}

impl Problems {
    pub(crate) fn of(path: &Path, faults: Vec<(Option<usize>, Fault)>) -> Self {
        let problem = |(line, fault)| Problem {
            path: path.to_owned(),
            line,
            fault,
        };
        Self(faults.into_iter().map(problem).collect())
    }

    pub(crate) fn one(path: &Path, fault: Fault) -> Self {
        Self::of(path, vec![(None, fault)])
    }

    /// The problems.
    #[must_use]
    pub fn as_slice(&self) -> &[Problem] {
        &self.0
    }

    /// Adds those of another file, to be shown together.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.fault)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::FileTooLarge(bytes_max) => write!(f, "larger than {bytes_max} bytes"),
            Self::NotUtf8 => f.write_str("not UTF-8"),
            Self::Empty => f.write_str("empty, or comments only"),
            Self::UnknownDirective => f.write_str("neither `user`, `topic` nor `pattern`"),
            Self::MissingUser => f.write_str("no user name"),
            Self::MissingTopic => f.write_str("no topic filter"),
            Self::UnknownAccess => {
                f.write_str("the access is none of `read`, `write`, `readwrite` and `deny`")
            }
            Self::Topic(error) => write!(f, "{error}"),
            Self::MissingColon => f.write_str("no `:` between user name and hash"),
            Self::UserName => f.write_str(
                "the user name is empty, too long or has a character that it may not have",
            ),
            Self::DuplicateUser { first } => write!(f, "the user is on line {first} already"),
            Self::UnknownHash => f.write_str("no hash of a known kind"),
            Self::MalformedHash => f.write_str("the hash is malformed"),
            Self::HashTooCostly => f.write_str("the hash's parameters are above what is allowed"),
            Self::Key => f.write_str("no key of a supported kind, or a malformed one"),
            Self::KeyTooShort => f.write_str("an HMAC key needs 32 bytes at least"),
            Self::TooManyEntries(max) => write!(f, "more than {max} entries"),
            Self::NotAscii => f.write_str("only ASCII characters are supported here"),
            Self::PasswordLength => f.write_str("a password has 1 to 4,096 bytes"),
            Self::NoSuchUser => f.write_str("no such user"),
            Self::NoRandomness => f.write_str("the system gave no random bytes"),
            Self::NotBuilt(feature) => write!(f, "built without `{feature}`"),
        }
    }
}
