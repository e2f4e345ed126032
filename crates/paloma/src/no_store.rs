//! In place of the durable store where a build has none.

use std::fmt;
use std::io;

use paloma_broker::Store;

use crate::config::Config;
use crate::parts;

/// What an acknowledgement would promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    Ack,
    Os,
    Interval,
    None,
}

impl Durability {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ack => "ack",
            Self::Os => "os",
            Self::Interval => "interval",
            Self::None => "none",
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// # Errors
/// Always: the configuration has refused before whatever asks for a store.
pub(crate) fn open(_: &Config) -> io::Result<Box<dyn Store>> {
    match parts::STORE.need() {
        Ok(()) => Err(io::ErrorKind::Unsupported.into()),
        Err(part) => Err(io::Error::new(io::ErrorKind::Unsupported, part.to_string())),
    }
}
