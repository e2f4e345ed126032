//! Clients whose transport has verified a certificate.

use paloma_broker::{AuthOutcome, AuthRequest, Identity};
use paloma_codec::ConnAckReason;
use paloma_session::Now;

use crate::{Method, Verdict};

/// Takes the name that the transport vouches for as the user name, whatever CONNECT says.
///
/// A request without such a name is left to the next method, so certificates can be one way among others.
#[derive(Clone, Copy, Debug, Default)]
pub struct Certificates;

impl Method for Certificates {
    fn judge(&self, _: Now, request: &AuthRequest) -> Verdict {
        let Some(name) = &request.info.certificate_name else {
            return Verdict::NotMine;
        };
        if request.method.is_some() {
            return Verdict::NotMine;
        }
        if name.is_empty() || name.contains(char::is_control) {
            return Verdict::Decided(AuthOutcome::Deny(ConnAckReason::NotAuthorized));
        }
        Verdict::Decided(AuthOutcome::allow(Identity {
            user: Some(name.clone()),
        }))
    }

    fn is_blocking(&self) -> bool {
        false
    }
}
