//! Reading messages.

use paloma_broker::store::MessageId;
use paloma_broker::wire::Damaged;
use paloma_codec::Message;
use redb::{Range, ReadOnlyTable};

use crate::record::{Kind, open};
use crate::rows;

/// Rows that are passed over on the way to the next one that is wanted; what is farther is looked up.
const PASSED_OVER_MAX: u64 = 4;

pub(crate) type MessageTable = ReadOnlyTable<u64, &'static [u8]>;

/// A message, or that it is not what was written.
pub(crate) fn read_message(
    table: &MessageTable,
    id: MessageId,
) -> Result<Result<Message, Damaged>, redb::Error> {
    let record = table.get(id.0)?;
    Ok(record.map_or(Err(Damaged), |record| message_of(id, record.value())))
}

fn message_of(id: MessageId, record: &[u8]) -> Result<Message, Damaged> {
    let body = open(Kind::Message, &id.0.to_be_bytes(), record)?;
    rows::message(body).and_then(|message| {
        if message.id() == id.0 {
            Ok(message)
        } else {
            Err(Damaged)
        }
    })
}

/// Reads messages in ascending order. What lies close together is walked, which saves the way from the root.
pub(crate) struct MessageReader<'a> {
    table: &'a MessageTable,
    walk: Option<Range<'a, u64, &'static [u8]>>,
    last: Option<MessageId>,
}

impl<'a> MessageReader<'a> {
    pub(crate) fn new(table: &'a MessageTable) -> Self {
        Self {
            table,
            walk: None,
            last: None,
        }
    }

    pub(crate) fn read(&mut self, id: MessageId) -> Result<Result<Message, Damaged>, redb::Error> {
        let last = self.last.replace(id);
        if last.is_none_or(|last| id.0.saturating_sub(last.0) > PASSED_OVER_MAX) {
            self.walk = None;
            return read_message(self.table, id);
        }
        let walk = match &mut self.walk {
            Some(walk) => walk,
            none => none.insert(self.table.range(id.0..)?),
        };
        for row in walk {
            let (key, record) = row?;
            if key.value() == id.0 {
                return Ok(message_of(id, record.value()));
            }
            if key.value() > id.0 {
                break;
            }
        }
        // It is not there, and the walk has gone past its place.
        self.walk = None;
        Ok(Err(Damaged))
    }
}
