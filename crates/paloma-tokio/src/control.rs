//! What an operator may change in a running broker, from anywhere and for as long as it lives.

use std::fmt;
use std::sync::Arc;

use bytestring::ByteString;
use paloma_broker::{Identity, Limits};

use crate::shared::Shared;

/// A handle that changes a broker while it runs: cheap to clone, and harmless to keep after the broker has ended.
#[derive(Clone)]
pub struct Control {
    shared: Arc<Shared>,
}

/// A client that is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its client id.
    pub client_id: ByteString,
    /// Who it is.
    pub identity: Identity,
    /// The index of the listener that it came in through.
    pub listener: u16,
}

impl Control {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The authorizer's rules, and its epoch, have changed: from here on nothing is delivered that the new ones forbid, to
    /// clients that are connected too.
    pub fn rules_changed(&self) {
        self.shared
            .turn(|core, now| core.broker.handle_rules_changed(now));
    }

    /// What the authenticator goes by has changed: it is asked again about everybody whom it let in for a time.
    pub fn renew_admissions(&self) {
        self.shared
            .turn(|core, now| core.broker.renew_admissions(now));
    }

    /// Ends a client's connection: DISCONNECT 0x98 for 5.0, and its will and session by their usual rules. False if no such
    /// client is connected.
    pub fn disconnect(&self, client_id: &str) -> bool {
        self.shared
            .turn(|core, now| core.broker.disconnect(now, client_id))
            .unwrap_or(false)
    }

    /// The clients that are connected. Holds the broker up while it looks at every session.
    #[must_use]
    pub fn clients(&self) -> Vec<Client> {
        self.shared.look(|core, _| {
            let clients = core.broker.clients().map(|client| Client {
                client_id: client.client_id.into(),
                identity: client.identity.clone(),
                listener: client.listener,
            });
            clients.collect()
        })
    }

    /// Other bounds from here on. Connections keep what they were told when they came, and sessions the bounds of their
    /// queues. `outbound_buffer_bytes_max` and `stall_timeout_ms` stay as the broker was started with.
    pub fn set_limits(&self, limits: &Limits) {
        self.shared.set_limits(limits);
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").finish_non_exhaustive()
    }
}
