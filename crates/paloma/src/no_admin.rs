//! In place of the administration listener where a build has none.

use std::convert::Infallible;
use std::io;

use paloma_tokio::Monitor;

use crate::config::Admin;

/// Nothing to listen on.
///
/// # Errors
/// Somebody chose an address for it.
pub(crate) fn bind(admin: &Admin) -> io::Result<Option<Infallible>> {
    if admin.is_explicit && admin.address.is_some() {
        let message = "this build has no administration listener ([admin] address)";
        return Err(io::Error::new(io::ErrorKind::Unsupported, message));
    }
    Ok(None)
}

/// Is never called, for want of a listener.
///
/// # Errors
/// None.
pub(crate) fn start(listener: Infallible, _: Monitor, _: &str) -> io::Result<()> {
    match listener {}
}
