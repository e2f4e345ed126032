//! What an operator may change in a running broker, from anywhere and for as long as it lives.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use bytestring::ByteString;
use paloma_broker::{Authorizer, Explanation, Identity, Limits, TraceTarget};
use paloma_topic::TopicNameRef;

use crate::shared::Shared;
use crate::traces::Trace;

/// A handle that changes a broker while it runs: cheap to clone, and harmless to keep after the broker has ended.
#[derive(Clone)]
pub struct Control {
    shared: Arc<Shared>,
}

/// A client that is connected.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its client id.
    pub client_id: ByteString,
    /// Who it is.
    pub identity: Identity,
    /// Where it comes from.
    pub address: Option<IpAddr>,
    /// What it may do, if that was said when it came in; `None` is the rules of everybody.
    pub rules: Option<Arc<dyn Authorizer>>,
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
    #[expect(
        clippy::must_use_candidate,
        reason = "who wants a client gone may not care whether it was there"
    )]
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
                address: client.address,
                rules: client.rules.map(|rules| core.broker.rules_of(rules)),
                listener: client.listener,
            });
            clients.collect()
        })
    }

    /// The filters that a client is subscribed to, at most so many.
    #[must_use]
    pub fn filters(&self, client_id: &str, count_max: usize) -> Vec<String> {
        self.shared
            .look(|core, _| core.broker.filters(client_id, count_max))
    }

    /// Why a client would get a message that is published on `topic` now, or would not. Holds the broker up while it looks at
    /// the client's filters and at what waits for it. `None` if it is no topic that can be published on.
    #[must_use]
    pub fn explain(&self, client_id: &str, topic: &str) -> Option<Explanation> {
        let topic = TopicNameRef::new(topic).ok()?;
        Some(
            self.shared
                .look(|core, now| core.broker.explain(now, client_id, topic)),
        )
    }

    /// Tells what happens to one client or on one topic from here on, with the first 4 KiB of each payload if they are
    /// wanted. `None` if eight traces are under way.
    #[must_use]
    pub fn trace(&self, target: TraceTarget, wants_payloads: bool) -> Option<Trace> {
        Trace::begin(&self.shared, target, wants_payloads)
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
