//! What an operator, or a test, can see of one client.

use super::Broker;

/// What the broker holds for one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionView {
    /// Whether the client is connected.
    pub is_connected: bool,
    /// Messages that wait to be sent, in memory and in the store.
    pub waiting: u64,
    /// Exchanges with the client that are not finished.
    pub in_flight: u64,
}

impl Broker {
    /// The session of a client id, if there is one.
    #[must_use]
    pub fn session(&self, client_id: &str) -> Option<SessionView> {
        let key = self.by_client_id.get(client_id)?;
        let session = self.sessions.get(*key)?;
        Some(SessionView {
            is_connected: session.connection.is_some(),
            waiting: session.waiting().0,
            in_flight: session.protocol.window().len() as u64,
        })
    }
}
