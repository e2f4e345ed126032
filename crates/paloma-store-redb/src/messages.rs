//! Reading, writing and deleting messages.

use std::ops::Bound;

use paloma_broker::store::MessageId;
use paloma_broker::wire::Damaged;
use paloma_codec::Message;
use redb::{Range, ReadOnlyTable, ReadableTable, Table};

use crate::record::{Kind, open, seal};
use crate::rows;

/// Rows that are passed over on the way to the next one that is wanted; what is farther is looked up.
const PASSED_OVER_MAX: u64 = 4;

/// From so many on, messages that lie together are written or deleted in one walk.
const WALKED_MIN: usize = 4;

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

/// Writes `count` messages, which come in ascending order. What is behind everything that is there, as nearly all is, goes
/// into full pages at once: the way from the root for each would cost more than the rest of a commit.
pub(crate) fn write_messages<'a>(
    table: &mut Table<'_, u64, &'static [u8]>,
    count: usize,
    messages: impl Iterator<Item = (MessageId, &'a Message)>,
) -> Result<(), redb::Error> {
    let mut record = Vec::new();
    let mut messages = messages.peekable();
    let last = if count < WALKED_MIN {
        Some(u64::MAX)
    } else {
        table.last()?.map(|(key, _)| key.value())
    };
    while let Some((id, message)) = messages.next_if(|(id, _)| Some(id.0) <= last) {
        seal_message(id, message, &mut record);
        table.insert(id.0, record.as_slice())?;
    }
    if messages.peek().is_none() {
        return Ok(());
    }
    let mut end = table.upper_bound_mut(Bound::<u64>::Unbounded)?;
    for (id, message) in messages {
        seal_message(id, message, &mut record);
        end.insert_before(id.0, record.as_slice())?;
    }
    Ok(end.close()?)
}

fn seal_message(id: MessageId, message: &Message, record: &mut Vec<u8>) {
    seal(Kind::Message, &id.0.to_be_bytes(), record, |out| {
        out.extend_from_slice(message.as_bytes());
    });
}

/// Deletes messages, which come in ascending order.
pub(crate) fn delete_messages(
    table: &mut Table<'_, u64, &'static [u8]>,
    ids: &[MessageId],
) -> Result<(), redb::Error> {
    let is_near = |one: &MessageId, next: &MessageId| next.0 - one.0 <= PASSED_OVER_MAX;
    for run in ids.chunk_by(is_near) {
        if run.len() < WALKED_MIN {
            for id in run {
                table.remove(id.0)?;
            }
            continue;
        }
        let (Some(first), Some(last)) = (run.first(), run.last()) else {
            continue;
        };
        let mut left = run.iter().peekable();
        table.retain_in(first.0..=last.0, |key, _| {
            while left.next_if(|id| id.0 < key).is_some() {}
            left.next_if(|id| id.0 == key).is_none()
        })?;
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    use paloma_codec::{MessageParts, PublishProperties};
    use paloma_topic::TopicNameRef;
    use redb::backends::InMemoryBackend;
    use redb::{Builder, ReadableDatabase};

    use crate::engine::MESSAGES;

    fn message(id: u64) -> Message {
        let parts = MessageParts {
            id,
            stamp: 1,
            topic: TopicNameRef::new("a/b").unwrap(),
            properties: &PublishProperties::default(),
            payload: &[7; 200],
        };
        Message::new(&parts, &mut Vec::new()).unwrap()
    }

    /// Commits of messages that go and messages that come, each read again from what is left.
    fn check(commits: &[(&[u64], &[u64])]) {
        let database = Builder::new()
            .create_with_backend(InMemoryBackend::new())
            .unwrap();
        let mut expected = BTreeSet::new();
        for (gone, come) in commits {
            let transaction = database.begin_write().unwrap();
            {
                let mut table = transaction.open_table(MESSAGES).unwrap();
                let gone: Vec<MessageId> = gone.iter().copied().map(MessageId).collect();
                delete_messages(&mut table, &gone).unwrap();
                let come: Vec<Message> = come.iter().copied().map(message).collect();
                let messages = come
                    .iter()
                    .map(|message| (MessageId(message.id()), message));
                write_messages(&mut table, come.len(), messages).unwrap();
            }
            transaction.commit().unwrap();
            expected.retain(|id| !gone.contains(id));
            expected.extend(*come);
            let transaction = database.begin_read().unwrap();
            let table = transaction.open_table(MESSAGES).unwrap();
            let rows = table.range::<u64>(..).unwrap().map(Result::unwrap);
            let keys: Vec<u64> = rows.map(|(key, _)| key.value()).collect();
            assert_eq!(keys, expected.iter().copied().collect::<Vec<_>>());
            for id in keys {
                let read = read_message(&table, MessageId(id)).unwrap();
                assert_eq!(read.map(|message| message.id()), Ok(id));
            }
        }
    }

    #[test]
    fn messages_come_behind_the_others_and_go_together() {
        let ids: Vec<u64> = (1..400).collect();
        let (old, new) = ids.split_at(200);
        check(&[(&[], old), (old, new), (new, &[])]);
    }

    #[test]
    fn what_lies_between_those_that_go_stays() {
        let ids: Vec<u64> = (1..400).collect();
        let odd: Vec<u64> = (1..400).step_by(2).collect();
        check(&[(&[], &ids), (&odd, &[]), (&[2, 4, 6, 8, 10, 390, 398], &[])]);
    }

    #[test]
    fn some_may_come_before_those_that_are_there() {
        check(&[
            (&[], &[10, 20, 30, 40, 50]),
            (&[], &[5, 15, 50, 55, 60, 65]),
            (&[10, 11, 12, 13, 15], &[1, 2, 3]),
        ]);
    }

    #[test]
    fn what_is_not_there_goes_without_a_word() {
        check(&[
            (&[1, 2, 3, 4], &[]),
            (&[5, 6], &[5, 6, 7, 8]),
            (&[1, 2, 3, 4, 5, 6, 9], &[]),
        ]);
    }
}
