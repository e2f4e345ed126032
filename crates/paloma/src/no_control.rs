//! In place of the control socket where a build has none.

use std::convert::Infallible;
use std::io;
use std::path::Path;

use paloma_tokio::Control;
use tokio::sync::mpsc::Receiver;

use crate::reload::Reloader;

/// A question that nobody puts.
#[derive(Debug)]
pub(crate) struct Request(Infallible);

impl Request {
    pub(crate) fn answer(self, _: &Reloader) {
        match self.0 {}
    }
}

/// # Errors
/// Always: the configuration has refused before to name a socket.
pub(crate) fn bind(_: &Path) -> io::Result<Infallible> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Is never called, for want of a socket.
///
/// # Errors
/// None.
pub(crate) fn start(bound: Infallible, _: Control) -> io::Result<Receiver<Request>> {
    match bound {}
}
