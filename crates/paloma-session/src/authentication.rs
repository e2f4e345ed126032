//! Re-authentication of an open connection. [MQTT-4.12.1-1]

use alloc::boxed::Box;

use paloma_codec::{Auth, AuthReason};

use crate::connection::Connection;
use crate::event::Event;
use crate::requests::RequestError;
use crate::terms::Role;
use crate::violation::Violation;

/// Where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reauthentication {
    /// CONNECT named no method.
    NotNegotiated,
    Idle,
    Running,
}

impl Connection {
    /// Sends a step of a re-authentication. A server may continue or succeed while one runs; a client may begin one, and
    /// continue it when asked. Fails otherwise, and without a method in CONNECT [MQTT-4.12.0-6] [MQTT-4.12.0-7].
    ///
    /// # Errors
    /// See [`RequestError`]; nothing is sent.
    pub fn authenticate(&mut self, mut auth: Auth) -> Result<(), RequestError> {
        let next = match (self.reauthentication, self.role, auth.reason) {
            (Reauthentication::Running, _, AuthReason::ContinueAuthentication)
            | (Reauthentication::Idle, Role::Client, AuthReason::ReAuthenticate) => {
                Reauthentication::Running
            }
            (Reauthentication::Running, Role::Server, AuthReason::Success) => {
                Reauthentication::Idle
            }
            (_, _, _) => return Err(RequestError::NotAllowed),
        };
        if !self.is_method(&auth) {
            return Err(RequestError::NotAllowed);
        }
        self.withhold(&mut auth.reason_string, &mut auth.user_properties);
        self.request(&auth)?;
        self.reauthentication = next;
        Ok(())
    }

    pub(crate) fn handle_auth(&mut self, auth: Box<Auth>) -> Result<Event<'static>, Violation> {
        let next = match (self.reauthentication, self.role, auth.reason) {
            (Reauthentication::NotNegotiated, _, _) => return Err(Violation::AuthNotNegotiated),
            (_, _, _) if !self.is_method(&auth) => return Err(Violation::AuthMethodChanged),
            (Reauthentication::Running, _, AuthReason::ContinueAuthentication)
            | (Reauthentication::Idle, Role::Server, AuthReason::ReAuthenticate) => {
                Reauthentication::Running
            }
            (Reauthentication::Running, Role::Client, AuthReason::Success) => {
                Reauthentication::Idle
            }
            (Reauthentication::Running | Reauthentication::Idle, _, _) => {
                return Err(Violation::AuthOutOfStep);
            }
        };
        self.reauthentication = next;
        Ok(Event::Auth(auth))
    }

    /// Whether the packet names the method of CONNECT; a success may leave it out. [MQTT-4.12.0-5]
    fn is_method(&self, auth: &Auth) -> bool {
        let method = self.rare.as_ref().map_or("", |rare| &rare.method);
        match &auth.authentication {
            Some(authentication) => authentication.method == *method,
            None => auth.reason == AuthReason::Success,
        }
    }
}
