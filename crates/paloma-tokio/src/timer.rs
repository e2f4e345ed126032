//! The one timer of a broker: the core and the links say when, this task comes back then.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use paloma_session::Monotonic;
use tokio::time::{Instant, sleep_until};

use crate::shared::Shared;

/// Drives timeouts for as long as it is polled.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut sleep = pin!(sleep_until(Instant::now()));
    let mut armed: Option<Monotonic> = None;
    loop {
        poll_fn(|cx| {
            shared.timer.register(cx.waker());
            let (wanted, now) = shared.look(|core, now| (core.arm(), now.monotonic));
            let Some(at) = wanted else {
                return Poll::Pending;
            };
            if at <= now {
                return Poll::Ready(());
            }
            if armed != Some(at) {
                armed = Some(at);
                sleep.as_mut().reset(shared.clock.instant(at));
            }
            sleep.as_mut().poll(cx)
        })
        .await;
        armed = None;
        // What is due at once is a job that goes on turn by turn: clients come in between.
        tokio::task::yield_now().await;
        shared.turn(|core, now| core.handle_timeout(&shared.counters, now));
    }
}
