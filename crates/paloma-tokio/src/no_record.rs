//! In place of records where a build has none.

use std::convert::Infallible;
use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::thread::JoinHandle;

use paloma_broker::store::{Store, StoreError};
use paloma_broker::{Authorizer, Broker, BrokerConfig, ConnectionId, Recovery};
use paloma_codec::PacketRef;
use paloma_session::Now;

use crate::record_config::Record;
use crate::shared::Shared;

/// A [`Broker`] that nobody listens to.
#[derive(Debug)]
pub(crate) struct Tap(Broker);

impl Deref for Tap {
    type Target = Broker;

    #[inline]
    fn deref(&self) -> &Broker {
        &self.0
    }
}

impl DerefMut for Tap {
    #[inline]
    fn deref_mut(&mut self) -> &mut Broker {
        &mut self.0
    }
}

impl Tap {
    pub(crate) fn recover(
        config: BrokerConfig,
        now: Now,
        store: &mut dyn Store,
        _: Option<Infallible>,
    ) -> Result<(Self, Recovery), StoreError> {
        let (broker, recovery) = Broker::recover(config, now, store)?;
        Ok((Self(broker), recovery))
    }

    /// As [`Broker::handle_packet_in_place`]; the frame would be for the record.
    #[inline]
    pub(crate) fn handle_packet(
        &mut self,
        now: Now,
        id: ConnectionId,
        packet: &mut PacketRef<'_>,
        _: &[u8],
    ) -> bool {
        self.0.handle_packet_in_place(now, id, packet)
    }

    pub(crate) const fn is_record_ripe(&self) -> bool {
        false
    }

    pub(crate) const fn end_turn(&mut self) {}

    pub(crate) fn rules_of(&self, rules: &Arc<dyn Authorizer>) -> Arc<dyn Authorizer> {
        Arc::clone(rules)
    }
}

/// A record that is never made.
#[derive(Debug)]
pub(crate) struct Recording(Infallible);

impl Recording {
    pub(crate) fn create(record: Record) -> io::Result<Self> {
        let path = record.path.display();
        let message = format!("cannot record to {path}: built without `record`");
        Err(io::Error::new(io::ErrorKind::Unsupported, message))
    }

    pub(crate) fn settings(&self, _: usize) -> Infallible {
        self.0
    }

    pub(crate) fn spawn(self, _: &Arc<Shared>) -> io::Result<JoinHandle<()>> {
        match self.0 {}
    }
}

/// The way to the thread, of which there is none.
#[derive(Debug, Default)]
pub(crate) struct RecordThread(());

impl RecordThread {
    pub(crate) const fn wake(&self) {}

    pub(crate) const fn close(&self) {}
}
