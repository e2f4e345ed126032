//! Times and effects in words, for whoever follows a replay.

use std::fmt;

use paloma_broker::Effect;
use paloma_session::Now;

/// Nanoseconds of the broker's clock as seconds.
pub(crate) struct Seconds(pub(crate) Now);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.monotonic.as_nanos();
        write!(
            f,
            "{}.{:06}",
            nanos / 1_000_000_000,
            nanos / 1_000 % 1_000_000
        )
    }
}

/// An effect, but for those that are told of in other ways.
pub(crate) fn effect(effect: &Effect) -> Option<String> {
    match effect {
        Effect::Transmit(_) => None,
        Effect::Resume(id) => Some(format!("{id:?} may be read again")),
        Effect::Close(id, cause) => Some(format!("{id:?} is to be closed: {cause}")),
        Effect::Authenticate(id, request) => {
            Some(format!("{id:?} who is {:?}?", &*request.client_id))
        }
        Effect::Persist(batch) => {
            let (number, count) = (batch.seq.0, batch.ops.len());
            Some(format!("store batch {number}: {count} changes"))
        }
        Effect::Load(request) => Some(format!(
            "load of session {}: {} entries after {}",
            request.session.0, request.count, request.after.0
        )),
    }
}
