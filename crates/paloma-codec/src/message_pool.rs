//! Allocations of messages that are over, kept for the next messages of the same length.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use crate::Message;

/// Lists of spare messages; a length has one, which it may share with others.
const LISTS: usize = 64;

/// Longer messages are not kept: what their copying costs is more than what their allocation does.
const LEN_MAX: usize = 1024;

/// What a spare message costs beside its bytes: its handle, and the header of its allocation.
const SPARE_BYTES: usize = 48;

/// Messages that nobody holds any more, for their allocations.
///
/// Brokers see the same lengths again and again, and batches of more messages than an allocator has chunks at hand for. A
/// length that is no longer asked for gives way to those that are. What is kept is bounded in bytes; a default pool keeps
/// nothing.
#[derive(Default)]
pub struct MessagePool {
    spares: Option<Box<Spares>>,
}

struct Spares {
    lists: [Vec<Message>; LISTS],
    bytes: usize,
    bytes_max: usize,
    /// The list that gives one up next when there is no room.
    next: usize,
}

impl MessagePool {
    /// A pool that keeps nothing.
    #[must_use]
    pub const fn closed() -> Self {
        Self { spares: None }
    }

    /// A pool that keeps `bytes_max` bytes at most.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self {
            spares: Some(Box::new(Spares {
                lists: [const { Vec::new() }; LISTS],
                bytes: 0,
                bytes_max,
                next: 0,
            })),
        }
    }

    /// Bytes of what is kept.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.spares.as_ref().map_or(0, |spares| spares.bytes)
    }

    /// Takes back a handle that is no longer needed; the message is kept if it was the last.
    #[inline(always)]
    pub fn recycle(&mut self, message: Message) {
        if let Some(spares) = &mut self.spares
            && message.holders() == 1
        {
            spares.put(message);
        }
    }

    /// A message of `len` bytes that is to be written over.
    #[inline]
    pub(crate) fn take(&mut self, len: usize) -> Option<Message> {
        let spares = self.spares.as_mut()?;
        let message = spares.lists.get_mut(len % LISTS)?.pop()?;
        spares.bytes = spares.bytes.saturating_sub(charge(&message));
        // One of another length makes room by ending here.
        (message.len() == len).then_some(message)
    }
}

impl Spares {
    #[inline]
    fn put(&mut self, message: Message) {
        let charge = charge(&message);
        if message.len() > LEN_MAX {
            return;
        }
        if self.bytes.saturating_add(charge) > self.bytes_max {
            return self.give_up_one();
        }
        if let Some(list) = self.lists.get_mut(message.len() % LISTS) {
            list.push(message);
            self.bytes += charge;
        }
    }

    /// Lengths that nobody asks for any more go in turn.
    #[cold]
    fn give_up_one(&mut self) {
        self.next = (self.next + 1) % LISTS;
        if let Some(list) = self.lists.get_mut(self.next)
            && let Some(message) = list.pop()
        {
            self.bytes = self.bytes.saturating_sub(charge(&message));
        }
    }
}

fn charge(message: &Message) -> usize {
    message.len().saturating_add(SPARE_BYTES)
}

impl fmt::Debug for MessagePool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessagePool")
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use paloma_topic::TopicNameRef;

    use super::*;
    use crate::{Delivery, PropertiesRef, PublishRef, PublishTopic};

    /// A message with a payload of so many bytes of one value.
    fn message(payload: (u8, usize), id: u64, pool: &mut MessagePool) -> Message {
        let topic = TopicNameRef::new("a/topic").unwrap();
        let publish = PublishRef {
            delivery: Delivery::AtMostOnce,
            retain: false,
            topic: PublishTopic::Name(topic),
            properties: PropertiesRef::default(),
            payload: &alloc::vec![payload.0; payload.1],
        };
        Message::from_publish_behind(("", topic), &publish, (id, 5), &mut Vec::new(), pool)
    }

    fn place(message: &Message) -> usize {
        message.as_bytes().as_ptr() as usize
    }

    #[test]
    fn a_message_is_written_where_one_of_its_length_was() {
        let mut pool = MessagePool::new(1_000);
        let first = message((b'a', 10), 1, &mut pool);
        let was_at = place(&first);
        pool.recycle(first);
        let second = message((b'b', 10), 2, &mut pool);
        assert_eq!((place(&second), pool.bytes()), (was_at, 0));
        let fresh = message((b'b', 10), 2, &mut MessagePool::default());
        assert_eq!(second, fresh);
    }

    #[test]
    fn a_message_that_somebody_holds_is_not_written_over() {
        let mut pool = MessagePool::new(1_000);
        let held = message((b'a', 10), 1, &mut pool);
        pool.recycle(held.clone());
        let other = message((b'b', 10), 2, &mut pool);
        assert_eq!(
            (held.payload(), other.payload()),
            (&[b'a'; 10][..], &[b'b'; 10][..])
        );
        assert_eq!(pool.bytes(), 0);
    }

    #[test]
    fn a_pool_is_bounded_and_forgets_lengths_that_are_not_asked_for() {
        let mut pool = MessagePool::new(10_000);
        let fill = |pool: &mut MessagePool, len| {
            let messages: [_; 200] = core::array::from_fn(|id| {
                message((b'x', len), id as u64, &mut MessagePool::default())
            });
            for message in messages {
                pool.recycle(message);
                assert!(pool.bytes() <= 10_000);
            }
        };
        fill(&mut pool, 10);
        assert!(pool.bytes() > 9_000, "{}", pool.bytes());
        let is_kept = |pool: &mut MessagePool| {
            let message = message((b'y', 20), 1, &mut MessagePool::default());
            let len = message.len();
            (0..200).any(|_| {
                pool.recycle(message.restamped(1, 1));
                pool.take(len).is_some()
            })
        };
        assert!(is_kept(&mut pool));
        pool.recycle(message((b'x', 5_000), 1, &mut MessagePool::default()));
        assert!(pool.take(5_034).is_none(), "too long to be kept");
    }

    #[test]
    fn lengths_that_share_a_list_do_not_get_each_others_messages() {
        let mut pool = MessagePool::new(10_000);
        pool.recycle(message((b'a', 10), 1, &mut MessagePool::default()));
        let longer = message((b'b', 10 + LISTS), 2, &mut pool);
        assert_eq!(longer.payload().len(), 10 + LISTS);
        assert_eq!(pool.bytes(), 0, "the other one has made room");
    }
}
