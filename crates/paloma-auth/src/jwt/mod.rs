//! JSON Web Tokens in the password of CONNECT. (RFC 7519)

mod claims;
mod der;
mod key;
mod token;

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use paloma_broker::{AuthOutcome, AuthRequest};
use paloma_codec::ConnAckReason;
use paloma_session::Now;

pub use self::key::JwtKeys;
use crate::{JwtRules, Method, Problems, Verdict};

/// Takes a signed token in the password for who it says, for as long as it is valid.
///
/// HS256, RS256, ES256 and EdDSA with Ed25519. A key serves one algorithm, so a token cannot choose how it is checked,
/// and `none` is never accepted. A token has to expire: `exp` ends the session. The user name of CONNECT does not count.
/// A password that has not the form of a token is left to the next method.
#[derive(Debug)]
pub struct Jwt {
    keys: RwLock<Arc<JwtKeys>>,
    rules: JwtRules,
}

impl Jwt {
    /// Checks tokens by these keys.
    #[must_use]
    pub fn new(keys: impl Into<Arc<JwtKeys>>, rules: JwtRules) -> Self {
        Self {
            keys: RwLock::new(keys.into()),
            rules,
        }
    }

    /// Reads the keys again from where they came from.
    ///
    /// # Errors
    /// As when they were read first; the keys stay as they were.
    pub fn reload(&self) -> Result<(), Problems> {
        let keys = self.keys().read_again()?;
        self.replace(keys);
        Ok(())
    }

    /// Puts other keys in force: the second half of a reload of several files, all of which have been read.
    pub fn replace(&self, keys: JwtKeys) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }

    fn keys(&self) -> Arc<JwtKeys> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Method for Jwt {
    fn judge(&self, now: Now, request: &AuthRequest) -> Verdict {
        let Some(token) = token_of(request) else {
            return Verdict::NotMine;
        };
        let claims = token.verify(&self.keys());
        let admission = claims.and_then(|claims| claims::admission(&claims, &self.rules, now.wall));
        Verdict::Decided(match admission {
            Some(admission) => AuthOutcome::Allow(Box::new(admission)),
            None => AuthOutcome::Deny(ConnAckReason::BadUserNameOrPassword),
        })
    }

    fn judge_at_once(&self, _: Now, request: &AuthRequest) -> Option<Verdict> {
        token_of(request).is_none().then_some(Verdict::NotMine)
    }
}

fn token_of(request: &AuthRequest) -> Option<token::Token<'_>> {
    let password = request
        .password
        .as_ref()
        .filter(|_| request.method.is_none());
    token::Token::parse(password?)
}

impl JwtKeys {
    /// Where the keys came from.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.source().0
    }

    /// Whether a key is among them that whoever reads it can sign tokens with.
    #[must_use]
    pub fn hold_a_secret(&self) -> bool {
        self.has_secret()
    }

    /// Whether both were read from the same bytes: tokens that were good are good still.
    #[must_use]
    pub fn are_same(&self, other: &Self) -> bool {
        self.digest() == other.digest()
    }
}
