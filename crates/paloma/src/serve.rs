//! `paloma serve`: the broker, from a checked configuration to its graceful end.

use std::cell::Cell;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use paloma_tokio::Monitor;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::level_filters::LevelFilter;

use crate::admin;
use crate::config::{Config, Listener, LogFormat, LogLevel};
use crate::notify::Notifier;

/// Files that are open besides connections: listeners, the runtimes' own, standard streams.
const FILES_RESERVED: u64 = 64;

/// Runs the broker until SIGINT or SIGTERM.
pub(crate) fn serve(config: &Config) -> ExitCode {
    start_log(config.log_level, config.log_format);
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("paloma: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(config: &Config) -> io::Result<()> {
    let broker = broker_config(config)?;
    raise_file_limit(config);
    let admin = admin::bind(&config.admin)?;
    let notifier = Arc::new(Notifier::from_environment());
    let in_memory = "in memory: nothing survives a restart";
    let signals = Cell::new(None);
    let on_ready = |running: &paloma_tokio::Running| {
        // Before anybody is told that the broker runs: from then on a signal has to stop it gracefully.
        signals.set(Some(Signals::new()));
        for address in running.local_addresses() {
            let version = env!("CARGO_PKG_VERSION");
            eprintln!("paloma {version} listening on tcp://{address} ({in_memory})");
        }
        if let Some(listener) = admin
            && let Err(error) = admin::start(listener, running.monitor(), &config.node_name)
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
            Some(Ok(mut signals)) => signals.recv().await,
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

fn broker_config(config: &Config) -> io::Result<paloma_tokio::Config> {
    let mut broker = paloma_tokio::Config::new();
    broker.broker.limits = config.limits.clone();
    broker.broker.behaviour.upgrade_outgoing_qos = config.upgrade_outgoing_qos;
    broker.broker.sys_interval_seconds = config.sys_interval_seconds;
    if let Some(first) = config.listeners.first() {
        broker.broker.allow_empty_client_id = first.allow_empty_client_id;
        broker
            .broker
            .client_id_prefix
            .clone_from(&first.client_id_prefix);
    }
    broker.threads = NonZeroUsize::new(config.threads).unwrap_or(NonZeroUsize::MIN);
    for listener in &config.listeners {
        for address in resolve(listener)? {
            let mut built = paloma_tokio::Listener::tcp(address);
            built.connections_max = listener.connections_max.unwrap_or(usize::MAX);
            broker.listeners.push(built);
        }
    }
    Ok(broker)
}

/// The addresses of a listener: all those that its name stands for.
fn resolve(listener: &Listener) -> io::Result<Vec<SocketAddr>> {
    let address = &listener.address;
    let context = |error: io::Error| {
        io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
    };
    let addresses: Vec<SocketAddr> = (address.host(), address.port())
        .to_socket_addrs()
        .map_err(context)?
        .collect();
    // `localhost` passed the check of the configuration by its name only.
    let stranger = addresses.iter().find(|address| !is_loopback(address));
    if let Some(stranger) = stranger.filter(|_| !listener.allow_anonymous) {
        let message = format!("{address} is {stranger} here, which is not loopback");
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
    }
    Ok(addresses)
}

fn is_loopback(address: &SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
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
}

/// The signals that stop the broker.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn recv(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => tracing::info!("SIGINT: stopping"),
            _ = self.terminate.recv() => tracing::info!("SIGTERM: stopping"),
        }
    }
}

fn start_log(level: LogLevel, format: LogFormat) {
    let level = match level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let log = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(io::stderr);
    match format {
        LogFormat::Text => {
            let is_terminal = io::IsTerminal::is_terminal(&io::stderr());
            log.with_ansi(is_terminal).init();
        }
        LogFormat::Json => log.json().init(),
    }
}
