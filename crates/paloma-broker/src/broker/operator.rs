//! What an operator asks and changes while the broker runs.

use paloma_codec::DisconnectReason;
use paloma_session::Now;

use super::Broker;
use crate::auth::Identity;
use crate::effect::CloseCause;
use crate::limits::Limits;

/// A client that is connected.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// Its client id.
    pub client_id: &'a str,
    /// Who it is.
    pub identity: &'a Identity,
    /// The listener that it came in through.
    pub listener: u16,
}

impl Broker {
    /// The clients that are connected, in no order that means anything. Looks at every session.
    pub fn clients(&self) -> impl Iterator<Item = Client<'_>> {
        self.sessions.iter().filter_map(|(_, session)| {
            let entry = self.connections.get(session.connection?.key())?;
            Some(Client {
                client_id: &session.principal.client_id,
                identity: &session.principal.identity,
                listener: entry.info.listener,
            })
        })
    }

    /// Other bounds from here on. What is there already stays: sessions keep the bounds of their queues, connections
    /// what they were told in CONNACK, and a table that is fuller than its new bound takes nothing until it is not.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Ends a client's connection for its operator: 5.0 gets DISCONNECT 0x98; will and session go by their usual rules.
    /// False if no such client is connected.
    pub fn disconnect(&mut self, now: Now, client_id: &str) -> bool {
        let session = self.by_client_id.get(client_id);
        let session = session.and_then(|key| self.sessions.get(*key));
        let Some(id) = session.and_then(|session| session.connection) else {
            return false;
        };
        let reason = Some(DisconnectReason::AdministrativeAction);
        self.end_open(now, id, CloseCause::Administrative, reason);
        true
    }
}
