//! The core's notices as lines of the log, no more of them than a log can take.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use paloma_broker::{CloseCause, Notice, Offence, Refusal};
use paloma_session::Monotonic;

/// Lines a second that peers can cause; what is above is counted and said in one line.
const LINES_PER_SECOND_MAX: u64 = 100;

/// Writes notices, outside the broker's lock.
#[derive(Debug, Default)]
pub(crate) struct Reporter {
    budget: Mutex<Budget>,
    /// What listeners are called, by their numbers and in that order, those that are closed included: connections outlive them,
    /// and numbers are few.
    names: Mutex<Vec<(u16, Arc<str>)>>,
}

#[derive(Debug, Default)]
struct Budget {
    second: u64,
    spent: u64,
    suppressed: u64,
}

impl Budget {
    /// Takes a line of this second's budget. The number is of lines that were suppressed before, once a new second has
    /// begun.
    fn spend(&mut self, second: u64) -> (bool, u64) {
        let mut suppressed = 0;
        if second != self.second {
            self.second = second;
            self.spent = 0;
            suppressed = std::mem::take(&mut self.suppressed);
        }
        let may_go = self.spent < LINES_PER_SECOND_MAX;
        if may_go {
            self.spent += 1;
        } else {
            self.suppressed += 1;
        }
        (may_go, suppressed)
    }
}

impl Reporter {
    /// Writes what has room; `lost` notices did not even reach this function.
    pub(crate) fn report(&self, now: Monotonic, notices: VecDeque<Notice>, lost: u64) {
        let second = now.as_nanos() / 1_000_000_000;
        for notice in notices {
            let (may_go, suppressed) = self.spend(second);
            if suppressed > 0 {
                tracing::warn!(lines = suppressed, "client events were too many to log");
            }
            if may_go {
                write(&notice, self.name(notice.listener()).as_deref());
            }
        }
        if lost > 0 {
            tracing::warn!(lines = lost, "client events were too many to log");
        }
    }

    /// Calls a listener so from here on.
    pub(crate) fn rename(&self, listener: u16, name: &str) {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let place = names.partition_point(|(known, _)| *known < listener);
        match names.get_mut(place).filter(|(known, _)| *known == listener) {
            Some((_, known)) => *known = name.into(),
            None => names.insert(place, (listener, name.into())),
        }
    }

    /// What a listener is called, if there is one.
    pub(crate) fn name(&self, listener: Option<u16>) -> Option<Arc<str>> {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let place = names.binary_search_by_key(&listener?, |(known, _)| *known);
        names.get(place.ok()?).map(|(_, name)| Arc::clone(name))
    }

    /// Tells of a connection that was refused before anything was read of it.
    pub(crate) fn refused(&self, from: (Option<IpAddr>, Option<u16>), refusal: Refusal) {
        let (address, listener) = from;
        tracing::debug!(
            address = address.map(tracing::field::display),
            listener = self.name(listener).as_deref(),
            %refusal,
            "connection refused"
        );
    }

    fn spend(&self, second: u64) -> (bool, u64) {
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        budget.spend(second)
    }
}

/// Names are the peer's own words: as values of fields they are escaped, so that none forges a line.
fn write(notice: &Notice, listener: Option<&str>) {
    match notice {
        Notice::Connected {
            client_id,
            user,
            address,
            version,
            is_resumed,
            ..
        } => tracing::info!(
            client = &**client_id,
            user = user.as_deref(),
            address = address.map(tracing::field::display),
            listener,
            %version,
            resumed = is_resumed,
            "client connected"
        ),
        Notice::Disconnected {
            client_id,
            address,
            cause,
            offence,
            ..
        } => disconnected(client_id, (*address, listener), *cause, *offence),
        Notice::Refused {
            client_id,
            address,
            reason,
            ..
        } => tracing::warn!(
            client = client_id.as_deref(),
            address = address.map(tracing::field::display),
            listener,
            %reason,
            "client refused"
        ),
        Notice::Unopened {
            address,
            cause,
            offence,
            ..
        } => unopened((*address, listener), *cause, *offence),
        Notice::QueueFull { client_id } => tracing::warn!(
            client = &**client_id,
            "queue full: messages for this client are dropped"
        ),
        Notice::RetainedFull { client_id } => tracing::warn!(
            client = client_id.as_deref(),
            "retained messages have reached a limit: a new one is refused"
        ),
        other => tracing::debug!(?other, "client event"),
    }
}

fn disconnected(
    client: &str,
    (address, listener): (Option<IpAddr>, Option<&str>),
    cause: CloseCause,
    offence: Option<Offence>,
) {
    let address = address.map(tracing::field::display);
    let offence = offence.map(tracing::field::display);
    if is_worth_a_warning(cause) {
        tracing::warn!(client, address, listener, %cause, offence, "client disconnected");
    } else {
        tracing::info!(client, address, listener, %cause, "client disconnected");
    }
}

fn unopened(
    (address, listener): (Option<IpAddr>, Option<&str>),
    cause: CloseCause,
    offence: Option<Offence>,
) {
    let address = address.map(tracing::field::display);
    let offence = offence.map(tracing::field::display);
    let message = "connection ended before a client was let in";
    // Somebody looked whether the port is open, and no more.
    if matches!(cause, CloseCause::SocketClosed | CloseCause::ShuttingDown) {
        tracing::debug!(address, listener, %cause, "{message}");
    } else {
        tracing::info!(address, listener, %cause, offence, "{message}");
    }
}

/// Whether the broker cut a client that did not behave, or could not keep up.
fn is_worth_a_warning(cause: CloseCause) -> bool {
    matches!(
        cause,
        CloseCause::Malformed | CloseCause::Violation | CloseCause::Stalled | CloseCause::Internal
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_costs_a_bounded_number_of_lines_and_is_told_afterwards() {
        let mut budget = Budget::default();
        let written = (0..1_000).filter(|_| budget.spend(7).0).count();
        assert_eq!(written as u64, LINES_PER_SECOND_MAX);
        assert_eq!(budget.spend(8), (true, 900));
        assert_eq!(budget.spend(8), (true, 0));
    }
}
