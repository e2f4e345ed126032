//! `paloma serve`: the broker, from a checked configuration to its graceful end.

use std::cell::Cell;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use paloma_tokio::{ListenAddress, Monitor, Tls};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::level_filters::LevelFilter;

use crate::admin;
use crate::auth::{Gatekeeper, Security};
use crate::config::{Address, Config, Listener, LogFormat, LogLevel};
use crate::notify::Notifier;

/// Files that are open besides connections: listeners, the runtimes' own, standard streams.
const FILES_RESERVED: u64 = 64;

/// Runs the broker until SIGINT or SIGTERM.
pub(crate) fn serve(config: &Config, security: Security) -> ExitCode {
    start_log(config.log_level, config.log_format);
    match run(config, security) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("paloma: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(config: &Config, security: Security) -> io::Result<()> {
    security.warn(config);
    let mut built = Built::new(config)?;
    let doors = (0..).zip(built.places.iter().copied()).collect();
    let gatekeeper = Gatekeeper::new(security, &doors).map_err(io::Error::other)?;
    built.broker.broker.authorizer = gatekeeper.default_rules();
    built.broker.authenticator = gatekeeper.authenticator();
    raise_file_limit(config);
    let admin = admin::bind(&config.admin)?;
    let notifier = Arc::new(Notifier::from_environment());
    let in_memory = "in memory: nothing survives a restart";
    let signals = Cell::new(None);
    let on_ready = |running: &paloma_tokio::Running| {
        // Before anybody is told that the broker runs: from then on a signal has to stop it gracefully.
        signals.set(Some(Signals::new()));
        for ((_, address), scheme) in running.listeners().addresses().iter().zip(&built.schemes) {
            let version = env!("CARGO_PKG_VERSION");
            let place = match address {
                ListenAddress::Tcp(address) => address.to_string(),
                ListenAddress::Unix { path, .. } => path.display().to_string(),
            };
            eprintln!("paloma {version} listening on {scheme}://{place} ({in_memory})");
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
    paloma_tokio::serve(built.broker, on_ready, async {
        match signals.take() {
            Some(Ok(mut signals)) => signals.recv(&built.tls, &notifier).await,
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

/// What a configuration makes.
struct Built {
    broker: paloma_tokio::Config,
    /// Of each listener's address.
    schemes: Vec<&'static str>,
    /// Of each listener's address: the listener's place in the configuration.
    places: Vec<usize>,
    /// Certificates that SIGHUP reads again.
    tls: Vec<Tls>,
}

impl Built {
    fn new(config: &Config) -> io::Result<Self> {
        let mut built = Self {
            broker: broker_config(config),
            schemes: Vec::new(),
            places: Vec::new(),
            tls: Vec::new(),
        };
        for (place, listener) in config.listeners.iter().enumerate() {
            built.add(config, place, listener)?;
        }
        Ok(built)
    }

    /// Adds a listener at all the addresses that its name stands for.
    fn add(&mut self, config: &Config, place: usize, listener: &Listener) -> io::Result<()> {
        let transport = &listener.transport;
        let tls = transport.load_tls()?;
        self.tls.extend(tls.clone());
        for address in resolve(config, listener)? {
            let is_unix = matches!(address, ListenAddress::Unix { .. });
            self.schemes.push(transport.scheme(is_unix));
            self.places.push(place);
            let mut built = paloma_tokio::Listener::new(address);
            built.connections_max = listener.connections_max.unwrap_or(usize::MAX);
            built.tls.clone_from(&tls);
            built.websocket = transport.websocket();
            built.proxy_protocol = transport.proxy_protocol;
            built.trusted.clone_from(&transport.trusted);
            self.broker.listeners.push(built);
        }
        Ok(())
    }
}

fn broker_config(config: &Config) -> paloma_tokio::Config {
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
    broker
}

/// The addresses of a listener: all those that its name stands for.
fn resolve(config: &Config, listener: &Listener) -> io::Result<Vec<ListenAddress>> {
    let address = &listener.address;
    let (host, port) = match address {
        Address::Tcp { host, port } => (host.as_str(), *port),
        Address::Unix { path } => {
            return Ok(vec![ListenAddress::Unix {
                path: path.clone(),
                mode: listener.socket_mode,
            }]);
        }
    };
    let context = |error: io::Error| {
        io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
    };
    let addresses: Vec<SocketAddr> = (host, port).to_socket_addrs().map_err(context)?.collect();
    // `localhost` passed the check of the configuration by its name only.
    let stranger = addresses.iter().find(|address| !is_loopback(address));
    if let Some(stranger) = stranger.filter(|_| !listener.may_be_reached(&config.auth)) {
        let message = format!("{address} is {stranger} here, which is not loopback");
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
    }
    Ok(addresses.into_iter().map(ListenAddress::Tcp).collect())
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

    /// Waits for a signal that stops; SIGHUP has certificates read again.
    async fn recv(&mut self, tls: &[Tls], notifier: &Notifier) {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return tracing::info!("SIGINT: stopping"),
                _ = self.terminate.recv() => return tracing::info!("SIGTERM: stopping"),
                _ = self.hangup.recv() => {
                    notifier.reloading();
                    reload(tls);
                    notifier.ready();
                }
            }
        }
    }
}

/// Reads certificates again; each that is broken leaves the old one in force.
fn reload(tls: &[Tls]) {
    for tls in tls {
        let certificate = tls.files().certificate.display();
        match tls.reload() {
            Ok(()) => tracing::info!(%certificate, "SIGHUP: certificate reloaded"),
            Err(error) => {
                tracing::error!(%certificate, %error, "SIGHUP: the old certificate stays")
            }
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
