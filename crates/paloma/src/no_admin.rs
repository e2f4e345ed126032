//! In place of the administration listener where a build has none.

use std::convert::Infallible;
use std::io;

use paloma_tokio::Running;

use crate::config::Admin;

/// Nothing to listen on: the configuration has refused before to name an address.
///
/// # Errors
/// None.
pub(crate) fn bind(_: &Admin) -> io::Result<Option<Infallible>> {
    Ok(None)
}

/// Is never called, for want of a listener.
///
/// # Errors
/// None.
pub(crate) fn start(listener: Infallible, _: &Running, _: &str) -> io::Result<()> {
    match listener {}
}
