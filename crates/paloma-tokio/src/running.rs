//! Starting a broker, what can be done with one that runs, and stopping it.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle as ThreadHandle;
use std::time::Duration;
use std::{io, thread};

use paloma_broker::{Accounting, ConnectionInfo, Recovery, Refusal, Tables, Transport};
use tokio::io::{DuplexStream, duplex};
use tokio::runtime::{Builder, Handle, RuntimeFlavor};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::clock::Clock;
use crate::config::Config;
use crate::control::Control;
use crate::failure::Failure;
use crate::listeners::Listeners;
use crate::monitor::Monitor;
use crate::record::{Recording, Tap};
use crate::shared::{Admission, Parts, Shared};
use crate::socket::{Socket, Stream};
use crate::store::{self, StoreQueue};
use crate::{flush, listen, timer};

/// Most I/O runtimes of one broker.
const THREADS_MAX: usize = 64;

/// Bytes that a connection within the process holds in each direction.
const DUPLEX_BYTES: usize = 64 * 1024;

/// How long connections of a broker that has failed may take to go by themselves.
const FAILED_TIMEOUT: Duration = Duration::from_millis(200);

/// How long connections that were cut may take to go.
const ABORT_TIMEOUT: Duration = Duration::from_secs(1);

/// Starts brokers on the caller's runtime.
#[derive(Debug)]
pub struct Broker;

impl Broker {
    /// Starts a broker on the current runtime, of either flavour, and returns once all its listeners are bound.
    ///
    /// # Errors
    /// The store cannot be recovered from, a listener cannot be bound, or the store's thread cannot be started; nothing is
    /// left running then.
    ///
    /// # Panics
    /// Outside a tokio runtime, or in one without I/O or time.
    pub async fn start(config: Config) -> io::Result<Running> {
        let threads = config.threads.get().min(THREADS_MAX);
        start_on(config, vec![Handle::current(); threads])
    }
}

/// Runs a broker on `config.threads` runtimes of its own, one of them on the calling thread, until `shutdown` is ready
/// or the broker fails; then stops it gracefully.
///
/// `on_ready` is called once everything listens, with the broker as an embedder sees it: its addresses, its counters,
/// [`Running::attach`]. It runs on the broker's own thread and must not block; tasks that it spawns run there too.
/// `shutdown` is polled on that thread as well.
///
/// # Errors
/// The store cannot be recovered from, a listener cannot be bound, a runtime or thread cannot be made, or the broker has failed, which is an error of kind
/// [`Other`](io::ErrorKind::Other) around a [`Failure`]. A process should exit non-zero then.
///
/// # Panics
/// Inside a tokio runtime: use [`Broker::start`] there.
pub fn serve(
    config: Config,
    on_ready: impl FnOnce(&Running),
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let threads = config.threads.get().min(THREADS_MAX);
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let workers = Workers::start(threads - 1)?;
    let mut shards = vec![runtime.handle().clone()];
    shards.extend(workers.handles.iter().cloned());
    runtime.block_on(async move {
        let running = start_on(config, shards)?;
        on_ready(&running);
        tokio::select! {
            () = shutdown => {}
            _ = running.failed() => {}
        }
        let stopped = running.stop().await;
        // Their tasks are gone by now, so the runtimes can be too.
        drop(workers);
        Ok(stopped?)
    })
}

/// Threads with a current-thread runtime each, which end when this is dropped.
struct Workers {
    handles: Vec<Handle>,
    threads: Vec<(oneshot::Sender<()>, ThreadHandle<()>)>,
}

impl Workers {
    fn start(count: usize) -> io::Result<Self> {
        let mut workers = Self {
            handles: Vec::new(),
            threads: Vec::new(),
        };
        for index in 1..=count {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            workers.handles.push(runtime.handle().clone());
            let (stop, stopped) = oneshot::channel();
            let thread = thread::Builder::new()
                .name(format!("paloma-io-{index}"))
                .spawn(move || runtime.block_on(async { stopped.await.unwrap_or_default() }))?;
            workers.threads.push((stop, thread));
        }
        Ok(workers)
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for (stop, thread) in self.threads.drain(..) {
            drop(stop);
            if thread.join().is_err() {
                tracing::error!("an I/O thread panicked");
            }
        }
    }
}

fn start_on(mut config: Config, shards: Vec<Handle>) -> io::Result<Running> {
    let clock = Clock::new();
    let recording = config.record.take().map(Recording::create).transpose()?;
    let limits = &config.broker.limits;
    let transmit_bytes = usize::try_from(limits.outbound_buffer_bytes_max).unwrap_or(usize::MAX);
    let settings = (recording.as_ref()).map(|recording| recording.settings(transmit_bytes));
    let (mut core, recovery) =
        Tap::recover(config.broker, clock.now(), &mut *config.store, settings)
            .map_err(|error| io::Error::other(Failure::Store(Arc::new(error))))?;
    report_recovery(&recovery);
    let (inline, queued) = if config.store.is_blocking() {
        (None, Some((StoreQueue::default(), config.store)))
    } else {
        (Some(config.store), None)
    };
    core.want_notices();
    let shared = Shared::new(Parts {
        broker: core,
        clock,
        authenticator: config.authenticator,
        store: inline,
        store_queue: queued.as_ref().map(|(queue, _)| queue.clone()),
        shards,
        runtime: Handle::current(),
    });
    let store_thread = match queued {
        Some((queue, store)) => Some((queue.clone(), store::spawn(queue, store, &shared)?)),
        None => None,
    };
    let record_thread = match recording {
        Some(recording) => Some(recording.spawn(&shared)?),
        None => None,
    };
    let mut running = Running {
        tasks: Vec::new(),
        listeners: Listeners::new(Arc::clone(&shared)),
        store_thread,
        record_thread,
        stop_timeout: config.stop_timeout,
        shared,
    };
    running.spawn_all();
    for (listener, index) in config.listeners.into_iter().zip(0..) {
        running.listeners.add(index, listener)?;
    }
    Ok(running)
}

/// Says what a store gave back. One that was empty is not worth a word.
fn report_recovery(recovery: &Recovery) {
    if *recovery != Recovery::default() {
        tracing::info!(
            sessions = recovery.sessions,
            subscriptions = recovery.subscriptions,
            queued = recovery.queued,
            in_flight = recovery.in_flight,
            retained = recovery.retained,
            fan_outs = recovery.fan_outs,
            "recovered"
        );
    }
    for loss in &recovery.lost {
        tracing::error!(count = loss.count, what = loss.what, "lost from the store");
    }
}

/// A broker that runs. Dropping it cuts every connection; [`stop`](Self::stop) takes leave first.
#[derive(Debug)]
pub struct Running {
    shared: Arc<Shared>,
    stop_timeout: Duration,
    /// Flushers and the timer.
    tasks: Vec<AbortHandle>,
    listeners: Listeners,
    store_thread: Option<(StoreQueue, ThreadHandle<()>)>,
    record_thread: Option<ThreadHandle<()>>,
}

impl Running {
    fn spawn_all(&mut self) {
        let shared = &self.shared;
        for (shard, index) in shared.shards.iter().zip(0..) {
            let is_shared_queue = shard.runtime.runtime_flavor() != RuntimeFlavor::CurrentThread;
            let flusher = flush::run(Arc::clone(shared), index, is_shared_queue);
            self.tasks.push(shard.runtime.spawn(flusher).abort_handle());
        }
        self.tasks
            .push(tokio::spawn(timer::run(Arc::clone(shared))).abort_handle());
    }

    /// Waits until clients are served. They are as soon as there is a `Running`, so this returns at once; it fails if
    /// the broker has failed since.
    ///
    /// # Errors
    /// Why the broker has failed.
    pub async fn ready(&self) -> Result<(), Failure> {
        self.failure().map_or(Ok(()), Err)
    }

    /// Where TCP listeners listen, in the order of the configuration, with the ports they were given.
    #[must_use]
    pub fn local_addresses(&self) -> Vec<SocketAddr> {
        self.listeners.tcp_addresses()
    }

    /// The listeners: which there are, and a way to add and remove some.
    #[must_use]
    pub const fn listeners(&self) -> &Listeners {
        &self.listeners
    }

    /// Connects within the process: the client's end of a pair of pipes of 64 KiB each.
    ///
    /// # Errors
    /// A limit on connections is reached, or the broker is stopping.
    pub fn connect(&self) -> Result<DuplexStream, Refusal> {
        let (client, server) = duplex(DUPLEX_BYTES);
        let info = ConnectionInfo {
            transport: Transport::Memory,
            ..ConnectionInfo::default()
        };
        self.attach(server, info)?;
        Ok(client)
    }

    /// Serves a client over a stream of the caller's: TLS, a WebSocket, a Unix socket, a pipe.
    ///
    /// # Errors
    /// A limit on connections is reached, or the broker is stopping; the stream is dropped.
    pub fn attach(&self, stream: impl Stream, info: ConnectionInfo) -> Result<(), Refusal> {
        listen::attach(
            &self.shared,
            Socket::stream(stream),
            self.shared.next_shard(),
            info,
            Admission::Needed,
        )
    }

    /// Where every message went so far.
    #[must_use]
    pub fn accounting(&self) -> Accounting {
        self.shared.look(|core, _| core.broker.accounting().clone())
    }

    /// How full the broker's tables are.
    #[must_use]
    pub fn tables(&self) -> Tables {
        self.shared.look(|core, _| core.broker.tables())
    }

    /// About how many bytes of memory the broker holds: what `memory_bytes_max` is compared with.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.shared.look(|core, _| core.broker.memory_bytes())
    }

    /// What the adapter itself has counted.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.monitor().counts()
    }

    /// A handle to the broker's counters that does not depend on this value.
    #[must_use]
    pub fn monitor(&self) -> Monitor {
        Monitor::new(Arc::clone(&self.shared))
    }

    /// A handle that changes the broker and does not depend on this value.
    #[must_use]
    pub fn control(&self) -> Control {
        Control::new(Arc::clone(&self.shared))
    }

    /// The authorizer's rules, and its epoch, have changed: from here on nothing is delivered that the new ones forbid, to
    /// clients that are connected too.
    pub fn rules_changed(&self) {
        self.control().rules_changed();
    }

    /// Ends a client's connection: DISCONNECT 0x98 for 5.0, and its will and session by their usual rules. False if no such
    /// client is connected.
    #[expect(
        clippy::must_use_candidate,
        reason = "who wants a client gone may not care whether it was there"
    )]
    pub fn disconnect(&self, client_id: &str) -> bool {
        self.control().disconnect(client_id)
    }

    /// Waits until the broker fails; never returns while it does not.
    pub async fn failed(&self) -> Failure {
        let mut failures = self.shared.failure.subscribe();
        loop {
            if let Some(failure) = failures.borrow_and_update().clone() {
                return failure;
            }
            if failures.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn failure(&self) -> Option<Failure> {
        self.shared.failure.borrow().clone()
    }

    /// Stops gracefully: accepts nobody any more, sends every client DISCONNECT 0x8B (or just closes, before 5.0),
    /// publishes wills by the rules, and returns when all are gone and the store has everything, or after
    /// [`Config::stop_timeout`], whichever is first. What is still connected then is cut. A client in the same program that
    /// nobody reads meanwhile, like one whose event loop a test has left, holds this up; dropping the value waits for nobody.
    ///
    /// # Errors
    /// Why the broker has failed, if it has; connections are closed all the same.
    pub async fn stop(mut self) -> Result<(), Failure> {
        for acceptor in self.listeners.close() {
            // It ends by being aborted.
            let _ = acceptor.await;
        }
        self.shared.turn(|core, now| core.shut_down(now));
        // A broker that has failed has nothing to say to anybody.
        let has_failed = self.failure().is_some();
        let patience = if has_failed {
            FAILED_TIMEOUT
        } else {
            self.stop_timeout
        };
        if timeout(patience, self.shared.all_gone()).await.is_err() {
            tracing::warn!("clients are cut, since they did not take leave in time");
            self.shared.look(|core, _| core.abort_all());
            // Their tasks only have to run once more.
            let _ = timeout(ABORT_TIMEOUT, self.shared.all_gone()).await;
        }
        if let Some((queue, thread)) = self.store_thread.take() {
            queue.close();
            // The thread commits what it was given; its own panics are reported as the broker's failure. One that hangs in
            // a device that has failed is not waited for.
            if !has_failed {
                let _ = tokio::task::spawn_blocking(move || thread.join()).await;
            }
        }
        self.shared.close_store();
        self.shared.record.close();
        if let Some(thread) = self.record_thread.take() {
            // What it says it has said in the log.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
        self.failure().map_or(Ok(()), Err)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.listeners.close();
        for task in self.tasks.drain(..) {
            task.abort();
        }
        self.shared.look(|core, _| core.abort_all());
        if let Some((queue, _)) = self.store_thread.take() {
            queue.close();
        }
        self.shared.record.close();
    }
}

/// What the adapter has counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Panics that ended one connection or one login.
    pub panics: u64,
    /// Connections closed at once because of a limit.
    pub refused: u64,
    /// Times that accepting had to rest, for want of descriptors or memory.
    pub accept_errors: u64,
    /// Connections cut because their socket took nothing for `stall_timeout_ms`.
    pub stalled: u64,
    /// Connections that ended before their transport stood: TLS, the upgrade to a WebSocket, a PROXY header.
    pub handshakes_failed: u64,
    /// Records of the core's inputs that ended while the broker went on: full, or not to be written.
    pub records_ended: u64,
}
