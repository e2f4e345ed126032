//! What an operator asks and changes while the broker runs.

use std::net::IpAddr;
use std::sync::Arc;

use paloma_codec::DisconnectReason;
use paloma_session::Now;

use super::Broker;
use super::deliver::queue_limits;
use crate::auth::{Authorizer, Identity};
use crate::effect::CloseCause;
use crate::limits::Limits;

/// A client that is connected.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// Its client id.
    pub client_id: &'a str,
    /// Who it is.
    pub identity: &'a Identity,
    /// Where it comes from.
    pub address: Option<IpAddr>,
    /// The listener that it came in through.
    pub listener: u16,
    /// What it may do, if that was said when it came in; `None` is the rules of everybody.
    pub rules: Option<&'a Arc<dyn Authorizer>>,
}

impl Broker {
    /// The clients that are connected, in no order that means anything. Looks at every session.
    pub fn clients(&self) -> impl Iterator<Item = Client<'_>> {
        self.sessions.iter().filter_map(|(_, session)| {
            let entry = self.connections.get(session.connection?.key())?;
            Some(Client {
                client_id: &session.principal.client_id,
                identity: &session.principal.identity,
                address: entry.origin.address,
                listener: entry.origin.listener,
                rules: session.principal.rules.as_ref(),
            })
        })
    }

    /// The filters that a client is subscribed to, a shared one with its group, at most so many; none of an unknown client.
    #[must_use]
    pub fn filters(&self, client_id: &str, count_max: usize) -> Vec<String> {
        let key = self.directory.client(&self.sessions, client_id);
        let Some(session) = key.and_then(|key| self.sessions.get(key)) else {
            return Vec::new();
        };
        let plain = session.filters.iter().filter_map(|id| {
            let mut text = String::new();
            self.subscriptions
                .write_filter(*id, &mut text)
                .then_some(text)
        });
        let shared = session.groups().iter().filter_map(|key| {
            let target = self.groups.target(*key)?;
            Some(target.to_string())
        });
        plain.chain(shared).take(count_max).collect()
    }

    /// Other bounds from here on. What is there already stays: sessions keep the bounds of their queues, connections
    /// what they were told in CONNACK, and a table that is fuller than its new bound takes nothing until it is not.
    pub fn set_limits(&mut self, limits: Limits) {
        self.queue_limits = Arc::new(queue_limits(&limits));
        self.limits = limits;
    }

    /// The random numbers that the next client id to be assigned is made of: for a record of what happens.
    #[must_use]
    pub fn next_random(&self) -> [u64; 2] {
        self.client_ids.peek()
    }

    /// Has the next client id that is assigned made of these numbers: for the replay of a record that does not have the seed.
    pub const fn give_random(&mut self, numbers: [u64; 2]) {
        self.client_ids.give(numbers);
    }

    /// Ends a client's connection for its operator: 5.0 gets DISCONNECT 0x98; will and session go by their usual rules.
    /// False if no such client is connected.
    pub fn disconnect(&mut self, now: Now, client_id: &str) -> bool {
        let key = self.directory.client(&self.sessions, client_id);
        let session = key.and_then(|key| self.sessions.get(key));
        let Some(id) = session.and_then(|session| session.connection) else {
            return false;
        };
        let reason = Some(DisconnectReason::AdministrativeAction);
        self.end_open(now, id, CloseCause::Administrative, reason);
        true
    }
}
