//! What the benches have in common that drive a broker by hand and print for themselves.

use std::time::Duration;

use paloma_broker::{AuthOutcome, Broker, ConnectionId, Effect, Identity, Reply};
use paloma_session::{Monotonic, Now, Wall};
use rustix::time::{ClockId, clock_gettime};

/// Time does not pass here.
pub const NOW: Now = Now::new(Monotonic::from_millis(1), Wall::from_millis(1));

/// Does what an effect asks for: everybody is let in, and every commit succeeds at once. Gives the connection that has
/// something to send.
///
/// # Panics
/// If a connection is closed.
pub fn carry_out(broker: &mut Broker, effect: Effect) -> Option<ConnectionId> {
    match effect {
        Effect::Transmit(id) => return Some(id),
        Effect::Authenticate(id, _) => {
            let outcome = AuthOutcome::allow(Identity::ANONYMOUS);
            broker.handle_reply(NOW, Reply::Authenticated(id, outcome));
        }
        Effect::Persist(batch) => broker.handle_reply(NOW, Reply::Committed(batch.seq)),
        Effect::Close(id, cause) => unreachable!("{id:?} is closed: {cause}"),
        Effect::Resume(_) | Effect::Load(_) => {}
    }
    None
}

/// What this thread computes meanwhile, whatever else the machine does.
pub fn computing(work: impl FnOnce()) -> Duration {
    let now = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default();
    let start = now();
    work();
    now() - start
}

/// The middle one; zero of none.
#[must_use]
pub fn median(mut samples: Vec<Duration>) -> Duration {
    samples.sort_unstable();
    samples.get(samples.len() / 2).copied().unwrap_or_default()
}
