//! `paloma serve`: the broker, from a checked configuration to its graceful end.

use std::cell::Cell;
use std::io;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use paloma_broker::StoreError;
use paloma_tokio::{Failure, Monitor, Record};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::Receiver;

use crate::admin;
use crate::auth::{Gatekeeper, Security};
use crate::cli::ConfigArgs;
use crate::config::Config;
use crate::control::{self, Request};
use crate::listeners::{Wanted, announce, warn_of_certificates};
use crate::log::Log;
use crate::notify::Notifier;
use crate::reload::Reloader;
use crate::store;

/// Files that are open besides connections: listeners, the runtimes' own, standard streams.
const FILES_RESERVED: u64 = 64;

/// Files that the kernel's table is made for in advance; for each of them it takes about nine bytes.
const FILES_TABLE_MAX: u64 = 65_536;

/// Runs the broker until SIGINT or SIGTERM.
pub(crate) fn serve(arguments: &ConfigArgs, config: &Config, security: Security) -> ExitCode {
    let outcome = Log::start(config.log_level, config.log_format).and_then(|(log, lines)| {
        let outcome = run(arguments, config, security, log);
        lines.finish();
        outcome
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let way_out = if is_damaged(&error) {
                "; see `paloma store check` and `paloma store repair`"
            } else {
                ""
            };
            eprintln!("paloma: {error}{way_out}");
            ExitCode::FAILURE
        }
    }
}

/// Whether a store that could be opened has turned out to be damaged.
fn is_damaged(error: &io::Error) -> bool {
    let failure = error.get_ref().and_then(|error| error.downcast_ref());
    matches!(failure, Some(Failure::Store(error)) if matches!(**error, StoreError::Corrupt(_)))
}

fn run(arguments: &ConfigArgs, config: &Config, security: Security, log: Log) -> io::Result<()> {
    security.warn(config);
    let wanted = Wanted::all(config)?;
    warn_of_certificates(&wanted);
    let doors = (0..)
        .zip(wanted.iter().map(|wanted| wanted.place))
        .collect();
    let gatekeeper = Gatekeeper::new(security, &doors).map_err(io::Error::other)?;
    let mut broker = broker_config(config);
    if !config.store.in_memory {
        broker.store = store::open(config)?;
    }
    broker.broker.authorizer = gatekeeper.default_rules();
    broker.authenticator = gatekeeper.authenticator();
    broker.listeners = wanted
        .iter()
        .map(|wanted| wanted.listener.clone())
        .collect();
    raise_file_limit(config);
    let admin = admin::bind(&config.admin)?;
    let control = config.admin.control.as_deref();
    let control = control.map(control::bind).transpose()?;
    let notifier = Arc::new(Notifier::from_environment());
    let signals = Cell::new(None);
    let schemes: Vec<&str> = wanted.iter().map(Wanted::scheme).collect();
    let on_ready = |running: &paloma_tokio::Running| {
        // Before anybody is told that the broker runs: from then on a signal has to stop it gracefully.
        let reloader = Reloader::new(arguments, config, gatekeeper, log, wanted, running);
        let requests = control.map(|bound| control::start(bound, running.control()));
        let requests = requests.transpose();
        signals.set(Some(
            Signals::new().and_then(|signals| Ok((signals, reloader, requests?))),
        ));
        for ((_, address), scheme) in running.listeners().addresses().iter().zip(schemes) {
            announce(scheme, address, &config.store);
        }
        if let Some(listener) = admin
            && let Err(error) = admin::start(listener, running, &config.node_name)
        {
            tracing::warn!(%error, "no administration listener");
        }
        if let Some(interval) = notifier.watchdog_interval() {
            tokio::spawn(tell_alive(
                Arc::clone(&notifier),
                running.monitor(),
                interval,
            ));
        }
        notifier.ready();
        tracing::info!(node = config.node_name, threads = config.threads, "ready");
    };
    paloma_tokio::serve(broker, on_ready, async {
        match signals.take() {
            Some(Ok((mut signals, mut reloader, requests))) => {
                signals.recv(&mut reloader, requests, &notifier).await;
            }
            Some(Err(error)) => tracing::error!(%error, "cannot wait for signals: stopping"),
            None => {}
        }
        notifier.stopping();
    })?;
    tracing::info!("stopped");
    Ok(())
}

/// Says again and again that turns are made; a broker that has failed says nothing.
async fn tell_alive(notifier: Arc<Notifier>, monitor: Monitor, interval: Duration) {
    let mut ticks = tokio::time::interval(interval);
    loop {
        ticks.tick().await;
        // Asking takes the broker's lock: one that hangs in a turn is not told alive.
        if monitor.is_ready() || monitor.failure().is_none() {
            notifier.alive();
        }
    }
}

fn broker_config(config: &Config) -> paloma_tokio::Config {
    let mut broker = paloma_tokio::Config::new();
    broker.broker.limits = config.limits.clone();
    broker.broker.behaviour.upgrade_outgoing_qos = config.upgrade_outgoing_qos;
    broker.broker.sys_interval_seconds = config.sys_interval_seconds;
    broker.broker.behaviour.check_retain_source = config.check_retain_source;
    broker.record = config.record.file.clone().map(|file| {
        let mut record = Record::new(file);
        record.bytes_max = config.record.bytes_max;
        record.with_secrets = config.record.with_secrets;
        record
    });
    broker.threads = NonZeroUsize::new(config.threads).unwrap_or(NonZeroUsize::MIN);
    broker
}

/// Allows as many open files as the system lets this process have, and warns if that is too few.
fn raise_file_limit(config: &Config) {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum {
        let raised = Rlimit {
            current: limit.maximum,
            ..limit
        };
        if setrlimit(Resource::Nofile, raised).is_ok() {
            limit = raised;
        }
    }
    let connections_max = u64::from(config.limits.connections_max);
    if let Some(files) = limit.current
        && connections_max.saturating_add(FILES_RESERVED) > files
        && config.limits.connections_max != u32::MAX
    {
        tracing::warn!(
            files,
            connections_max,
            "more connections are allowed than files"
        );
    }
    let files = connections_max.saturating_add(FILES_RESERVED);
    lengthen_file_table(files.min(limit.current.unwrap_or(files)));
}

/// Has the kernel's table of this process's files be long enough from the beginning.
///
/// It doubles when it is full, and if the process has several threads, whoever opens the next file waits until all
/// processors have taken notice: 5 to 15 ms each time, in which a thread of ours serves nobody.
fn lengthen_file_table(files: u64) {
    let last = i32::try_from(files.min(FILES_TABLE_MAX).saturating_sub(1)).unwrap_or_default();
    // The table stays as long as it is when the file is closed again. If it cannot be had, it grows as it always did.
    drop(rustix::io::fcntl_dupfd_cloexec(io::stderr(), last));
}

/// The signals that stop the broker.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for a signal that stops; SIGHUP has everything read again that can change.
    /// What the control socket is asked about the configuration is answered meanwhile.
    async fn recv(
        &mut self,
        reloader: &mut Reloader,
        mut requests: Option<Receiver<Request>>,
        notifier: &Notifier,
    ) {
        loop {
            tokio::select! {
                request = next(&mut requests) => {
                    request.answer(reloader);
                }
                _ = self.interrupt.recv() => return tracing::info!("SIGINT: stopping"),
                _ = self.terminate.recv() => return tracing::info!("SIGTERM: stopping"),
                _ = self.hangup.recv() => {
                    notifier.reloading();
                    reloader.reload().await;
                    notifier.ready();
                }
            }
        }
    }
}

/// The next request; never one if there is no control socket.
async fn next(requests: &mut Option<Receiver<Request>>) -> Request {
    if let Some(receiver) = requests {
        if let Some(request) = receiver.recv().await {
            return request;
        }
        *requests = None;
    }
    std::future::pending().await
}
