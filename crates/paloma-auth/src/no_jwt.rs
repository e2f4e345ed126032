//! In place of tokens where a build has none.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use paloma_broker::AuthRequest;
use paloma_session::Now;

use crate::{Fault, JwtRules, Method, Problems, Verdict};

/// Keys, of which there are none without the feature `jwt`.
#[derive(Debug)]
pub struct JwtKeys(Infallible);

/// A method that is never made, for want of keys.
#[derive(Debug)]
pub struct Jwt(Infallible);

impl JwtKeys {
    /// # Errors
    /// [`Fault::NotBuilt`].
    pub fn read_secret(path: &Path) -> Result<Self, Problems> {
        Err(not_built(path))
    }

    /// # Errors
    /// [`Fault::NotBuilt`].
    pub fn read(path: &Path) -> Result<Self, Problems> {
        Err(not_built(path))
    }

    /// # Errors
    /// [`Fault::NotBuilt`].
    pub fn parse(path: &Path, _: &str) -> Result<Self, Problems> {
        Err(not_built(path))
    }

    /// Where the keys came from.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self.0 {}
    }

    /// Whether a key is among them that whoever reads it can sign tokens with.
    #[must_use]
    pub fn hold_a_secret(&self) -> bool {
        match self.0 {}
    }

    /// Whether both were read from the same bytes.
    #[must_use]
    pub fn are_same(&self, _: &Self) -> bool {
        match self.0 {}
    }
}

impl Jwt {
    /// Checks tokens by these keys.
    #[must_use]
    pub fn new(keys: impl Into<Arc<JwtKeys>>, _: JwtRules) -> Self {
        match keys.into().0 {}
    }

    /// # Errors
    /// None.
    pub fn reload(&self) -> Result<(), Problems> {
        match self.0 {}
    }

    /// Puts other keys in force.
    pub fn replace(&self, keys: JwtKeys) {
        match keys.0 {}
    }
}

impl Method for Jwt {
    fn judge(&self, _: Now, _: &AuthRequest) -> Verdict {
        match self.0 {}
    }
}

fn not_built(path: &Path) -> Problems {
    Problems::one(path, Fault::NotBuilt("jwt"))
}
