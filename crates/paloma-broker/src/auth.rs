//! Who a client is and what it may do: the two ports.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use paloma_codec::{ConnAckReason, ProtocolVersion, Secret};
use paloma_topic::{TopicFilterRef, TopicNameRef};

use crate::connection::{ConnectionId, ConnectionInfo};

/// An authenticated identity. A session belongs to the identity that made it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The user name that the authenticator vouches for; `None` for an anonymous client.
    pub user: Option<ByteString>,
}

impl Identity {
    /// The identity of everybody who gave no proof of being somebody.
    pub const ANONYMOUS: Self = Self { user: None };
}

/// What is known about a client that wants to connect.
#[derive(Clone)]
pub struct AuthRequest {
    /// The connection that the answer is for; an authentication of several steps keeps its state under it.
    pub connection: ConnectionId,
    /// Where the connection comes from.
    pub info: ConnectionInfo,
    /// The version the client speaks.
    pub version: ProtocolVersion,
    /// The client id, already assigned when the client sent none.
    pub client_id: ByteString,
    /// User Name of CONNECT.
    pub username: Option<ByteString>,
    /// Password of CONNECT.
    pub password: Option<Secret>,
    /// Authentication Method and the latest Authentication Data of an enhanced authentication.
    pub method: Option<(ByteString, Secret)>,
}

impl fmt::Debug for AuthRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthRequest")
            .field("info", &self.info)
            .field("version", &self.version)
            .field("client_id", &self.client_id)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "hidden"))
            .finish_non_exhaustive()
    }
}

/// The terms on which an authenticator lets a client in.
#[derive(Clone, Debug, Default)]
pub struct Admission {
    /// Who the client is.
    pub identity: Identity,
    /// What this client may do; `None` leaves that to the broker's authorizer.
    pub rules: Option<Arc<dyn Authorizer>>,
    /// How long this word holds. Then the authenticator is asked the same again: a new admission takes the place of
    /// this one, and a refusal, or no answer within [`Admission::RENEWAL_WAIT`], ends the connection with 0x87.
    pub valid_for: Option<Duration>,
    /// What the method of an enhanced authentication says last; it goes out with CONNACK or AUTH.
    pub data: Option<Secret>,
}

impl Admission {
    /// How long an authenticator may take to renew an admission.
    pub const RENEWAL_WAIT: Duration = Duration::from_secs(10);

    /// Lets somebody in for as long as they stay, under the rules of everybody.
    #[must_use]
    pub const fn of(identity: Identity) -> Self {
        Self {
            identity,
            rules: None,
            valid_for: None,
            data: None,
        }
    }
}

/// The authenticator's word.
#[derive(Debug)]
pub enum AuthOutcome {
    /// The client is who it says.
    Allow(Box<Admission>),
    /// The client is refused, with this code. An authenticator that fails or runs out of time says this too.
    Deny(ConnAckReason),
    /// The method wants another step: send this data in AUTH and wait for the client's. [MQTT-4.12.0-2]
    Continue(Secret),
}

impl AuthOutcome {
    /// The client is `identity`, for as long as it stays, under the rules of everybody.
    #[must_use]
    pub fn allow(identity: Identity) -> Self {
        Self::Allow(Box::new(Admission::of(identity)))
    }
}

/// Decides who a client is. May take its time: the driver calls it off the core and answers later.
pub trait Authenticator: Send + Sync + fmt::Debug {
    /// Judges one request. Called on the driver's thread when `is_blocking` is false.
    fn authenticate(&self, request: &AuthRequest) -> AuthOutcome;

    /// Whether `authenticate` may block or burn CPU, so that the driver runs it elsewhere.
    fn is_blocking(&self) -> bool {
        true
    }

    /// Judges what can be judged without blocking or burning CPU; `None` leaves it to [`authenticate`](Self::authenticate).
    /// Called on the driver's thread before anything else, so that such a request waits for no other.
    fn authenticate_at_once(&self, request: &AuthRequest) -> Option<AuthOutcome> {
        (!self.is_blocking()).then(|| self.authenticate(request))
    }

    /// How many calls of `authenticate` may be under way beyond the number of cores, since they wait for somebody else
    /// and burn nothing.
    fn waiting_calls_max(&self) -> usize {
        0
    }
}

/// What a client wants to do with a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send a message to it: PUBLISH, a will, a retained message.
    Write,
    /// Receive a message from it, on whatever path.
    Read,
}

/// What an [`Authorizer`] says of a whole filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// Every topic that the filter matches may be read.
    AllAllowed,
    /// Some may: each message is asked about.
    CheckEach,
    /// None may; SUBSCRIBE is answered 0x87.
    Denied,
}

/// Decides what an identity may do, over rules that are already here: synchronous, pure and quick.
pub trait Authorizer: Send + Sync + fmt::Debug {
    /// Whether `identity`, under `client_id`, may do `action` with `topic`.
    fn is_allowed(
        &self,
        identity: &Identity,
        client_id: &str,
        action: Action,
        topic: TopicNameRef<'_>,
    ) -> bool;

    /// What `identity` may read of the topics that `filter` matches.
    fn grant(&self, identity: &Identity, client_id: &str, filter: TopicFilterRef<'_>) -> Grant;

    /// Whether what it says of topics that begin with `$` is somebody's decision. Where it is not, anonymous clients of
    /// other machines read none of them.
    fn covers_reserved(&self) -> bool {
        true
    }

    /// Counts up whenever the rules change; cached grants of another epoch are asked for again.
    fn epoch(&self) -> u16 {
        0
    }
}

/// Everybody is anonymous and may do everything that the broker itself does not forbid.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllowAll;

impl Authenticator for AllowAll {
    fn authenticate(&self, request: &AuthRequest) -> AuthOutcome {
        if request.method.is_some() {
            // No method is known here. [MQTT-4.12.0-1]
            return AuthOutcome::Deny(ConnAckReason::BadAuthenticationMethod);
        }
        AuthOutcome::allow(Identity::ANONYMOUS)
    }

    fn is_blocking(&self) -> bool {
        false
    }
}

impl Authorizer for AllowAll {
    fn is_allowed(&self, _: &Identity, _: &str, _: Action, _: TopicNameRef<'_>) -> bool {
        true
    }

    fn grant(&self, _: &Identity, _: &str, _: TopicFilterRef<'_>) -> Grant {
        Grant::AllAllowed
    }

    fn covers_reserved(&self) -> bool {
        false
    }
}
