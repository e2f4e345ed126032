//! What a store gives back when a broker starts.

use paloma_broker::store::{
    FlightRecord, FlightState, MessageId, Recovered, RetainedRecord, SessionId,
};
use paloma_broker::wire::Damaged;
use redb::{ReadTransaction, ReadableTableMetadata};

use crate::engine::{MESSAGES, RETAINED, SESSIONS, SUBSCRIPTIONS, WILLS};
use crate::group::subscription_key;
use crate::load::{
    FAN_OUTS_LOST, Loaded, Losses, MESSAGES_LOST, RETAINED_LOST, SUBSCRIPTIONS_LOST, WILLS_LOST,
};
use crate::messages::{MessageTable, read_message};
use crate::record::{Kind, open};
use crate::rows;

/// Gives it back. Everything has to be in the engine's file.
pub(crate) struct Recovery<'a> {
    pub(crate) loaded: &'a Loaded,
    pub(crate) losses: Losses,
    pub(crate) unreadable: Vec<(SessionId, MessageId)>,
    pub(crate) each: &'a mut dyn FnMut(Recovered),
}

impl Recovery<'_> {
    pub(crate) fn run(&mut self, transaction: &ReadTransaction) -> Result<(), redb::Error> {
        (self.each)(Recovered::Mark(self.loaded.mark));
        let messages = transaction.open_table(MESSAGES)?;
        self.sessions(transaction, &messages)?;
        self.retained(transaction, &messages)?;
        for (id, row) in &self.loaded.index.fan_outs {
            match read_message(&messages, *id)? {
                Ok(message) => {
                    (self.each)(Recovered::FanOut(row.record.clone(), message, row.after));
                }
                Err(Damaged) => self.losses.add(FAN_OUTS_LOST, 1),
            }
        }
        Ok(())
    }

    fn sessions(
        &mut self,
        transaction: &ReadTransaction,
        messages: &MessageTable,
    ) -> Result<(), redb::Error> {
        let sessions = transaction.open_table(SESSIONS)?;
        let wills = transaction.open_table(WILLS)?;
        let subscriptions = transaction.open_table(SUBSCRIPTIONS)?;
        let (mut wills_seen, mut subscriptions_seen) = (0, 0);
        for row in sessions.range::<u64>(..)? {
            let (id, record) = row?;
            let id = SessionId(id.value());
            let key = id.0.to_be_bytes();
            let Ok(session) = open(Kind::Session, &key, record.value()).and_then(rows::session)
            else {
                // It was counted when the store was opened.
                continue;
            };
            (self.each)(Recovered::Session(id, session));
            let will = wills.get(id.0)?;
            if let Some(Ok(will)) =
                will.map(|record| open(Kind::Will, &key, record.value()).and_then(rows::will))
            {
                (self.each)(Recovered::Will(id, will));
                wills_seen += 1;
            }
            let until = id.0.saturating_add(1);
            for row in subscriptions.range((id.0, "")..(until, ""))? {
                let (key, record) = row?;
                let filter = key.value().1;
                let subscription = open(
                    Kind::Subscription,
                    &subscription_key(id.0, filter),
                    record.value(),
                )
                .and_then(|body| rows::subscription(filter, body));
                if let Ok(subscription) = subscription {
                    (self.each)(Recovered::Subscription(id, subscription));
                    subscriptions_seen += 1;
                }
            }
            self.queue(id, messages)?;
        }
        let lost = wills.len()?.saturating_sub(wills_seen);
        self.losses.add(WILLS_LOST, lost);
        let lost = subscriptions.len()?.saturating_sub(subscriptions_seen);
        self.losses.add(SUBSCRIPTIONS_LOST, lost);
        Ok(())
    }

    fn queue(&mut self, id: SessionId, messages: &MessageTable) -> Result<(), redb::Error> {
        let Some(session) = self.loaded.index.session(id) else {
            return Ok(());
        };
        for packet in session.received() {
            (self.each)(Recovered::Received(id, *packet));
        }
        for (entry, flight) in session.flights() {
            let state = if flight.is_received {
                FlightState::Received
            } else {
                match read_message(messages, entry.message)? {
                    Ok(message) => FlightState::Assigned(message),
                    Err(Damaged) => {
                        self.losses.add(MESSAGES_LOST, 1);
                        self.unreadable.push((id, entry.message));
                        continue;
                    }
                }
            };
            let packet = flight.packet;
            let record = FlightRecord {
                packet,
                entry,
                state,
            };
            (self.each)(Recovered::Flight(id, record));
        }
        if let Some(summary) = session.summary() {
            (self.each)(Recovered::Queue(id, summary));
        }
        Ok(())
    }

    fn retained(
        &mut self,
        transaction: &ReadTransaction,
        messages: &MessageTable,
    ) -> Result<(), redb::Error> {
        let table = transaction.open_table(RETAINED)?;
        for id in self.loaded.index.retained.values() {
            let key = id.0.to_be_bytes();
            let record = table.get(id.0)?;
            let row = record.ok_or(Damaged).and_then(|record| {
                open(Kind::Retained, &key, record.value()).and_then(rows::retained)
            });
            match (row, read_message(messages, *id)?) {
                (Ok(row), Ok(message)) => (self.each)(Recovered::Retained(RetainedRecord {
                    message,
                    qos: row.qos,
                    author: row.author,
                })),
                _ => self.losses.add(RETAINED_LOST, 1),
            }
        }
        Ok(())
    }
}
