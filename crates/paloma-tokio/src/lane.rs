//! Who waits for whom on one thread: work that others should not wait for comes in portions between two looks at the
//! sockets.
//!
//! A runtime's thread runs whoever is runnable, one after the other, and looks at the sockets in between. Connections that
//! keep the thread busy (a flood, messages of a mebibyte, thousands of filters) or have not said who they are stand in
//! their shard's lane, those who still shake hands among them, where one of them works at a time: behind it the next one is woken, and once a portion of time is
//! spent not before the thread has looked at the sockets, and so behind everybody who became ready meanwhile.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use paloma_broker::ConnectionId;

use crate::shared::Shared;

/// Time for the lane between two looks at the sockets; a piece of work is not interrupted.
pub(crate) const PORTION: Duration = Duration::from_micros(200);

/// The lane of one shard.
#[derive(Debug, Default)]
pub(crate) struct Lane(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Whose turn it is; who is not at work yet has been woken.
    holder: Option<Stander>,
    /// The others, each once. Bounded by the number of connections, those who shake hands included.
    waiting: VecDeque<(Stander, Waker)>,
    /// Time that the portion has been used for.
    spent: Duration,
    /// Handshakes that have begun.
    handshakes: u64,
}

/// Who stands in the lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stander {
    Connection(ConnectionId),
    /// What is no connection yet, by its number in this lane.
    Handshake(u64),
}

/// Where a connection stands with its lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Place {
    /// Outside, or at work.
    #[default]
    Free,
    /// Waiting, or woken because its turn has come.
    Queued,
}

impl Lane {
    /// Whether the connection may work. If so it calls [`leave`](Self::leave) afterwards; if not, `cx` is woken when its
    /// turn has come.
    pub(crate) fn enter(&self, who: Stander, place: &mut Place, cx: &mut Context<'_>) -> bool {
        let mut state = self.state();
        if state.holder == Some(who) {
            *place = Place::Free;
            return true;
        }
        if state.holder.is_some() {
            if std::mem::replace(place, Place::Queued) == Place::Free {
                state.waiting.push_back((who, cx.waker().clone()));
            }
            return false;
        }
        debug_assert!(
            state.waiting.is_empty(),
            "somebody's turn it is while any wait"
        );
        state.holder = Some(who);
        if state.spent < PORTION {
            return true;
        }
        state.spent = Duration::ZERO;
        *place = Place::Queued;
        wake_behind_sockets(cx.waker());
        false
    }

    /// Whoever entered has worked for so long.
    pub(crate) fn leave(&self, who: Stander, time: Duration) {
        let mut state = self.state();
        debug_assert_eq!(state.holder, Some(who), "who leaves has entered");
        state.spent += time;
        state.pass_on();
    }

    /// It is gone, wherever it stood.
    pub(crate) fn forget(&self, who: Stander) {
        let mut state = self.state();
        if state.holder == Some(who) {
            state.pass_on();
        } else {
            state.waiting.retain(|(other, _)| *other != who);
        }
    }

    /// A name for a handshake that begins.
    fn newcomer(&self) -> Stander {
        let mut state = self.state();
        state.handshakes += 1;
        Stander::Handshake(state.handshakes)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn pass_on(&mut self) {
        let next = self.waiting.pop_front();
        self.holder = next.as_ref().map(|(who, _)| *who);
        let Some((_, waker)) = next else {
            return;
        };
        if self.spent < PORTION {
            waker.wake();
        } else {
            self.spent = Duration::ZERO;
            wake_behind_sockets(&waker);
        }
    }
}

/// A handshake, which works in the lane of its shard alone.
pub(crate) struct InLane<F> {
    shared: Arc<Shared>,
    shard: u16,
    who: Stander,
    place: Place,
    future: Pin<Box<F>>,
}

impl<F: Future<Output = ()>> InLane<F> {
    /// `None` if there is no such shard.
    pub(crate) fn new(shared: &Arc<Shared>, shard: u16, future: F) -> Option<Self> {
        let who = shared.shards.get(usize::from(shard))?.lane.newcomer();
        Some(Self {
            shared: Arc::clone(shared),
            shard,
            who,
            place: Place::Free,
            future: Box::pin(future),
        })
    }
}

impl<F: Future<Output = ()>> Future for InLane<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let shared = Arc::clone(&this.shared);
        let Some(shard) = shared.shards.get(usize::from(this.shard)) else {
            return Poll::Ready(());
        };
        if !shard.lane.enter(this.who, &mut this.place, cx) {
            return Poll::Pending;
        }
        let _work = Work {
            lane: &shard.lane,
            who: this.who,
            at: Instant::now(),
        };
        this.future.as_mut().poll(cx)
    }
}

impl<F> Drop for InLane<F> {
    fn drop(&mut self) {
        if self.place == Place::Queued
            && let Some(shard) = self.shared.shards.get(usize::from(self.shard))
        {
            shard.lane.forget(self.who);
        }
    }
}

/// Leaves the lane, after a panic too.
struct Work<'a> {
    lane: &'a Lane,
    who: Stander,
    at: Instant,
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        self.lane.leave(self.who, self.at.elapsed());
    }
}

/// Wakes a task once the runtime has looked at the sockets: after a plain wake, dozens of polls may come before that.
pub(crate) fn wake_behind_sockets(waker: &Waker) {
    let yielded = pin!(tokio::task::yield_now());
    let is_ready = yielded.poll(&mut Context::from_waker(waker)).is_ready();
    debug_assert!(!is_ready, "it is ready when polled again");
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::task::{Poll, Wake};

    use paloma_broker::{Broker, BrokerConfig, ConnectionInfo};
    use paloma_session::Now;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A connection's place, and how often it was woken.
    struct Waiter {
        id: Stander,
        place: Place,
        woken: Arc<Count>,
    }

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    impl Waiter {
        fn enters(&mut self, lane: &Lane) -> bool {
            let waker = Waker::from(Arc::clone(&self.woken));
            lane.enter(self.id, &mut self.place, &mut Context::from_waker(&waker))
        }

        fn was_woken(&self) -> bool {
            self.woken.0.swap(0, Ordering::SeqCst) == 1
        }
    }

    fn standers<const N: usize>() -> [Waiter; N] {
        let mut broker = Broker::new(BrokerConfig::new([0; 32]));
        [(); N].map(|()| Waiter {
            id: Stander::Connection(
                broker
                    .open(Now::default(), ConnectionInfo::default())
                    .unwrap(),
            ),
            place: Place::Free,
            woken: Arc::default(),
        })
    }

    #[test]
    fn one_works_at_a_time_and_the_others_follow_in_their_order() {
        let lane = Lane::default();
        let [mut a, mut b, mut c] = standers();
        assert!(a.enters(&lane));
        assert!(!b.enters(&lane));
        assert!(!c.enters(&lane));
        assert!(!b.enters(&lane), "asking again changes nothing");
        lane.leave(a.id, Duration::ZERO);
        assert!(b.was_woken() && !c.was_woken());
        assert!(!a.enters(&lane), "behind those who wait");
        assert!(b.enters(&lane));
        lane.leave(b.id, Duration::ZERO);
        assert!(c.was_woken() && c.enters(&lane));
        lane.leave(c.id, Duration::ZERO);
        assert!(a.was_woken() && a.enters(&lane));
        lane.leave(a.id, Duration::ZERO);
        assert!(b.enters(&lane), "nobody waits");
    }

    #[test]
    fn a_spent_portion_lets_the_sockets_go_first() {
        let lane = Lane::default();
        let [mut a] = standers();
        assert!(a.enters(&lane));
        lane.leave(a.id, PORTION);
        assert!(!a.enters(&lane));
        assert!(a.was_woken(), "outside a runtime it is woken at once");
        assert!(a.enters(&lane));
        lane.leave(a.id, PORTION / 2);
        assert!(a.enters(&lane), "half is left");
    }

    #[test]
    fn whoever_goes_away_holds_nobody_up() {
        let lane = Lane::default();
        let [mut a, mut b, mut c] = standers();
        assert!(a.enters(&lane));
        assert!(!b.enters(&lane) && !c.enters(&lane));
        lane.forget(b.id);
        lane.leave(a.id, Duration::ZERO);
        assert!(c.was_woken() && !b.was_woken());
        lane.forget(c.id);
        assert!(a.enters(&lane), "its turn went with it");
    }

    #[test]
    fn handshakes_and_connections_stand_in_one_lane() {
        let lane = Lane::default();
        let [mut a, mut b, mut c] = standers();
        b.id = lane.newcomer();
        c.id = lane.newcomer();
        assert!(b.enters(&lane));
        assert!(!a.enters(&lane) && !c.enters(&lane));
        lane.leave(b.id, Duration::ZERO);
        assert!(a.was_woken() && a.enters(&lane));
        lane.leave(a.id, Duration::ZERO);
        assert!(c.was_woken() && c.enters(&lane));
    }

    #[tokio::test]
    async fn whoever_waits_runs_behind_the_sockets() {
        let (mut here, mut there) = tokio::io::duplex(1);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut peer = tokio::net::TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (mut socket, _) = listener.accept().await.unwrap();
        let has_read = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&has_read);
        let reader = tokio::spawn(async move {
            here.write_u8(1).await.unwrap();
            socket.read_u8().await.unwrap();
            flag.store(true, Ordering::SeqCst);
        });
        there.read_u8().await.unwrap();
        peer.write_u8(1).await.unwrap();
        let mut rounds = 0;
        std::future::poll_fn(|cx| {
            if has_read.load(Ordering::SeqCst) {
                return Poll::Ready(());
            }
            rounds += 1;
            wake_behind_sockets(cx.waker());
            Poll::Pending
        })
        .await;
        reader.await.unwrap();
        // Woken plainly, this task goes round some sixty times before the reader is seen.
        assert!(rounds <= 5, "{rounds}");
    }
}
