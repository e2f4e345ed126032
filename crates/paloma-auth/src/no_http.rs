//! In place of the HTTP hook where a build has none.

use std::convert::Infallible;

use paloma_broker::AuthRequest;
use paloma_session::Now;

use crate::{HttpHookConfig, HttpHookError, Method, Verdict};

/// A hook, of which there are none without the feature `http`.
#[derive(Debug)]
pub struct HttpHook(Infallible);

impl HttpHook {
    /// # Errors
    /// [`HttpHookError::NotBuilt`].
    pub fn new(_: HttpHookConfig) -> Result<Self, HttpHookError> {
        Err(HttpHookError::NotBuilt)
    }

    /// How the service is asked.
    #[must_use]
    pub const fn config(&self) -> &HttpHookConfig {
        match self.0 {}
    }

    /// Whether another hook would ask in the same way.
    #[must_use]
    pub const fn asks_like(&self, _: &Self) -> bool {
        match self.0 {}
    }
}

impl Method for HttpHook {
    fn judge(&self, _: Now, _: &AuthRequest) -> Verdict {
        match self.0 {}
    }
}
