//! Who comes in through which listener, and what they may do there: the files of `[auth]` and of the listeners.

mod files;
mod gatekeeper;
mod rules;

pub(crate) use self::files::Security;
pub(crate) use self::gatekeeper::{Expulsions, Gatekeeper, Prepared};
