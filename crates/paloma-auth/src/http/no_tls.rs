//! In place of TLS where a build has none.

use std::convert::Infallible;
use std::io;

use super::dial::{Dialled, Tcp};
use crate::HttpHookError;

/// TLS, of which there is none without the feature `https`.
pub(super) struct Tls(Infallible);

impl Tls {
    /// Nothing here could check the roots.
    pub(super) fn new(_: &str, _: Option<&[u8]>) -> Result<Self, HttpHookError> {
        Err(HttpHookError::Roots)
    }

    pub(super) const fn trusts_like(&self, _: &Self) -> bool {
        match self.0 {}
    }

    pub(super) fn wrap(&self, _: Tcp) -> io::Result<Box<dyn Dialled>> {
        match self.0 {}
    }
}
