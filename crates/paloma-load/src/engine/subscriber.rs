//! A receiving connection: it counts messages, checks their order and acknowledges them.

use std::io::{self, Write};
use std::ops::Range;

use crate::link::Link;

/// One receiving connection.
#[derive(Debug)]
pub(crate) struct Subscriber {
    pub(crate) link: Link,
    pub(crate) partial: Vec<u8>,
    pub(crate) inbox: Inbox,
    answers_written: usize,
}

/// What frames change: apart from the socket they are read from.
#[derive(Debug)]
pub(crate) struct Inbox {
    first_flow: u32,
    /// The sequence number expected next, one per flow that can reach this subscriber.
    expected: Vec<u32>,
    answers: Vec<u8>,
}

/// Which message a payload belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    pub(crate) flow: u32,
    pub(crate) sequence: u32,
    pub(crate) stamp: u64,
}

impl Mark {
    #[inline]
    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        let (flow, rest) = payload.split_first_chunk::<4>()?;
        let (sequence, rest) = rest.split_first_chunk::<4>()?;
        let (stamp, _) = rest.split_first_chunk::<8>()?;
        Some(Self {
            flow: u32::from_le_bytes(*flow),
            sequence: u32::from_le_bytes(*sequence),
            stamp: u64::from_le_bytes(*stamp),
        })
    }
}

/// How a message compares with those before it on the same flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// The next one, after this many that never came.
    After {
        /// How many are missing between it and the one before.
        missing: u32,
    },
    /// One that came before, or too late.
    Repeated,
}

impl Subscriber {
    pub(crate) fn new(link: Link, flows: Range<u32>) -> Self {
        Self {
            link,
            partial: Vec::new(),
            inbox: Inbox {
                first_flow: flows.start,
                expected: vec![0; flows.len()],
                answers: Vec::new(),
            },
            answers_written: 0,
        }
    }

    /// Writes the answers, as far as the socket takes them.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        match self.write_all() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            other => other,
        }
    }

    fn write_all(&mut self) -> io::Result<()> {
        loop {
            let rest = self
                .inbox
                .answers
                .get(self.answers_written..)
                .unwrap_or(&[]);
            if rest.is_empty() {
                self.inbox.answers.clear();
                self.answers_written = 0;
                return self.link.flush();
            }
            match self.link.write(rest) {
                Ok(written) => self.answers_written += written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Inbox {
    /// Compares a message with what its flow should send next; `None` if the flow should not come here.
    ///
    /// `is_sparse` says that messages of one flow go to different subscribers, so that gaps mean nothing.
    #[inline]
    pub(crate) fn arrive(&mut self, mark: Mark, is_sparse: bool) -> Option<Arrival> {
        let index = usize::try_from(mark.flow.checked_sub(self.first_flow)?).ok()?;
        let expected = self.expected.get_mut(index)?;
        let ahead = mark.sequence.wrapping_sub(*expected);
        if ahead > u32::MAX / 2 {
            return Some(Arrival::Repeated);
        }
        *expected = mark.sequence.wrapping_add(1);
        Some(Arrival::After {
            missing: if is_sparse { 0 } else { ahead },
        })
    }

    #[inline]
    pub(crate) fn push_answer(&mut self, bytes: &[u8]) {
        self.answers.extend_from_slice(bytes);
    }
}
