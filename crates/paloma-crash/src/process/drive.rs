//! Sockets for clients without I/O, all on one thread.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use paloma_interop::random::Random;
use paloma_interop::raw::take_frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::client::{Client, Stage, Then};
use crate::history::History;

/// How long a client rests before it does something of its own, in milliseconds.
const PAUSE_MILLIS: (usize, usize) = (4, 40);

/// What the clients of a series share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) history: RefCell<History>,
    pub(crate) random: RefCell<Random>,
    /// Connections whose end nobody has noticed.
    pub(crate) open: Cell<usize>,
}

impl Shared {
    fn between(&self, low: usize, high: usize) -> usize {
        self.random.borrow_mut().between(low, high)
    }

    fn pause(&self) -> Duration {
        Duration::from_millis(self.between(PAUSE_MILLIS.0, PAUSE_MILLIS.1) as u64)
    }
}

/// Keeps a client connected to whichever broker there is, for ever.
pub(crate) async fn keep(
    client: Rc<RefCell<dyn Client>>,
    shared: Rc<Shared>,
    mut broker: watch::Receiver<Option<SocketAddr>>,
) {
    loop {
        let Ok(address) = broker.wait_for(Option::is_some).await.map(|found| *found) else {
            return;
        };
        let Some(address) = address else { continue };
        if let Ok(stream) = TcpStream::connect(address).await {
            converse(&client, &shared, stream, None).await;
        }
        // Some come back at once, some after a while.
        let most = if shared.between(0, 4) == 0 { 300 } else { 10 };
        sleep(Duration::from_millis(shared.between(0, most) as u64)).await;
    }
}

/// One connection of a client, to its end; with a deadline, until the client is at rest.
pub(crate) async fn converse(
    client: &RefCell<dyn Client>,
    shared: &Shared,
    mut stream: TcpStream,
    deadline: Option<Instant>,
) {
    let _ = stream.set_nodelay(true);
    shared.open.set(shared.open.get() + 1);
    let mut unread = Vec::new();
    let mut out = Vec::new();
    let mut buffer = vec![0; 32 * 1024];
    act(client, shared, &mut out, |client, stage| {
        client.connect(stage);
        Then::Stay
    });
    let mut poke_at = Instant::now() + shared.pause();
    let mut is_leaving = false;
    loop {
        if stream.write_all(&out).await.is_err() {
            break;
        }
        out.clear();
        if let Some(deadline) = deadline
            && (client.borrow().is_at_rest() || Instant::now() > deadline)
        {
            break;
        }
        let then = tokio::select! {
            read = stream.read(&mut buffer) => {
                let count = read.unwrap_or(0);
                if count == 0 {
                    break;
                }
                unread.extend_from_slice(&buffer[..count]);
                take_frames(client, shared, &mut unread, &mut out)
            }
            () = sleep_until(poke_at), if !is_leaving => {
                poke_at = Instant::now() + shared.pause();
                act(client, shared, &mut out, |client, stage| client.poke(stage))
            }
        };
        match then {
            Then::Stay => {}
            Then::Cut => break,
            Then::Leave => is_leaving = true,
        }
    }
    act(client, shared, &mut out, |client, stage| {
        client.handle_closed(stage);
        Then::Stay
    });
    shared.open.set(shared.open.get() - 1);
}

fn take_frames(
    client: &RefCell<dyn Client>,
    shared: &Shared,
    unread: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Then {
    while let Some(frame) = take_frame(unread) {
        let then = act(client, shared, out, |client, stage| {
            client.handle(&frame, stage)
        });
        if then != Then::Stay {
            return then;
        }
    }
    Then::Stay
}

fn act(
    client: &RefCell<dyn Client>,
    shared: &Shared,
    out: &mut Vec<u8>,
    what: impl FnOnce(&mut dyn Client, &mut Stage<'_>) -> Then,
) -> Then {
    let mut history = shared.history.borrow_mut();
    let mut random = shared.random.borrow_mut();
    let mut stage = Stage {
        history: &mut history,
        random: &mut random,
        out,
    };
    what(&mut *client.borrow_mut(), &mut stage)
}
