//! The parts of the program that a build may be without, each a feature of cargo's.

use std::fmt;

/// A part, by its feature's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) feature: &'static str,
    pub(crate) is_built: bool,
}

/// Something was asked for that this build is without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotBuilt {
    feature: &'static str,
}

macro_rules! part {
    ($feature:literal) => {
        Part {
            feature: $feature,
            is_built: cfg!(feature = $feature),
        }
    };
}

pub(crate) const ADMIN: Part = part!("admin");
pub(crate) const CONTROL: Part = part!("control");
pub(crate) const HTTP: Part = part!("http");
pub(crate) const HTTPS: Part = part!("https");
pub(crate) const JSON_LOGS: Part = part!("json-logs");
pub(crate) const JWT: Part = part!("jwt");
pub(crate) const RECORD: Part = part!("record");
pub(crate) const STORE: Part = part!("store");
pub(crate) const TLS: Part = part!("tls");
pub(crate) const WEBSOCKET: Part = part!("websocket");

/// What each subcommand that not every build has is a part of.
const COMMANDS: &[(&str, Part)] = &[
    ("bench", part!("bench")),
    ("completions", part!("manual")),
    ("man", part!("manual")),
    ("pub", part!("clients")),
    ("replay", part!("replay")),
    ("store", STORE),
    ("sub", part!("clients")),
    ("trace", CONTROL),
    ("why", CONTROL),
];

impl Part {
    /// # Errors
    /// This build is without it.
    pub(crate) const fn need(self) -> Result<(), NotBuilt> {
        if self.is_built {
            return Ok(());
        }
        let feature = self.feature;
        Err(NotBuilt { feature })
    }
}

impl fmt::Display for NotBuilt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "built without `{}`", self.feature)
    }
}

/// # Errors
/// It is a subcommand that this build is without.
pub(crate) fn need_command(name: &str) -> Result<(), NotBuilt> {
    let known = COMMANDS.iter().find(|(known, _)| *known == name);
    known.map_or(Ok(()), |(_, part)| part.need())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_named() {
        let part = Part {
            feature: "tea",
            is_built: false,
        };
        assert_eq!(part.need().unwrap_err().to_string(), "built without `tea`");
        let part = Part {
            is_built: true,
            ..part
        };
        assert_eq!(part.need(), Ok(()));
    }

    #[test]
    fn every_command_is_there_or_says_what_it_is_a_part_of() {
        use clap::CommandFactory;

        let command = crate::cli::Cli::command();
        for (name, part) in COMMANDS {
            assert_eq!(
                command.find_subcommand(name).is_some(),
                part.is_built,
                "{name}"
            );
            assert_eq!(need_command(name).is_ok(), part.is_built, "{name}");
        }
        assert_eq!(need_command("serve"), Ok(()));
    }
}
