//! Why a chore failed.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

/// What every chore returns.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// Why a chore failed; its display is what the user reads.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line makes no sense.
    Usage(String),
    /// The check ran and these are its findings, a line each.
    Findings {
        check: &'static str,
        findings: Vec<String>,
    },
    /// A program was run and failed, or could not be started.
    Program { line: String, problem: String },
    /// A program that is needed is not installed.
    MissingTool { tool: &'static str },
    /// A file could not be read or written.
    File { path: PathBuf, error: io::Error },
    /// The output of a tool or a file of ours is not what this program understands.
    Format { what: &'static str, problem: String },
}

impl Failure {
    /// Turns an error about `path` into a failure; for `map_err`.
    pub(crate) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::File {
            path: path.to_owned(),
            error,
        }
    }

    /// Succeeds exactly when nothing was found.
    pub(crate) fn unless_empty(check: &'static str, findings: Vec<String>) -> Outcome {
        if findings.is_empty() {
            Ok(())
        } else {
            Err(Self::Findings { check, findings })
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(problem) => write!(f, "usage: {problem}"),
            Self::Findings { check, findings } => {
                for finding in findings {
                    writeln!(f, "{check}: {finding}")?;
                }
                write!(f, "{check}: {} finding(s)", findings.len())
            }
            Self::Program { line, problem } => write!(f, "`{line}`: {problem}"),
            Self::MissingTool { tool } => {
                write!(
                    f,
                    "{tool} is not installed, and PALOMA_REQUIRE_TOOLS=1 asks for it"
                )
            }
            Self::File { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Format { what, problem } => write!(f, "{what}: {problem}"),
        }
    }
}
