//! `paloma bench`: the command line over paloma-load's engine.

use std::ffi::OsStr;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::net::ToSocketAddrs;
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use paloma_load::crowd::{self, Crowd, Leaves};
use paloma_load::packet::{Qos, Version};
use paloma_load::report::Report;
use paloma_load::{Load, LoadError, Outcome, Progress, Shape, Target, retained, run_watched};

use crate::cli::{self, BenchCommand, CommonArgs, ConnArgs, TrafficArgs};
use crate::client::Usage;
use crate::client::remote::Target as Remote;

/// Publishers that store the retained messages.
const STORING_PUBLISHERS: u32 = 10;

/// Why there is nothing to report.
#[derive(Debug)]
enum Failure {
    Usage(Usage),
    /// A version, or a kind of socket, that a load cannot have.
    Unsupported(&'static str),
    /// Nothing is known about the host.
    Resolve(String, io::Error),
    Load(LoadError),
    Output(io::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(usage) => usage.fmt(f),
            Self::Unsupported(what) => write!(f, "a load cannot use {what}"),
            Self::Resolve(host, error) => write!(f, "{host}: {error}"),
            Self::Load(error) => error.fmt(f),
            Self::Output(error) => error.fmt(f),
        }
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        Self::Load(error)
    }
}

/// Runs a load and prints what it measured.
pub(crate) fn run(command: &BenchCommand) -> ExitCode {
    match measure(command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure @ (Failure::Usage(_) | Failure::Unsupported(_))) => {
            eprintln!("paloma: {failure}");
            ExitCode::from(crate::EXIT_USAGE)
        }
        Err(failure) => crate::fail(&failure),
    }
}

/// Whether all that was sent arrived, once.
fn measure(command: &BenchCommand) -> Result<bool, Failure> {
    let (name, shape, traffic) = match command {
        BenchCommand::Conn(arguments) => return connect(arguments),
        BenchCommand::Retained { topics, traffic } => return store_and_replay(*topics, traffic),
        BenchCommand::Pairs { pairs, traffic } => {
            let shape = Shape::Pairs { pairs: *pairs };
            (format!("{pairs} pairs"), shape, traffic)
        }
        BenchCommand::FanOut {
            subscribers,
            traffic,
        } => {
            let shape = Shape::FanOut {
                subscribers: *subscribers,
            };
            (format!("fan-out 1 to {subscribers}"), shape, traffic)
        }
        BenchCommand::FanIn {
            publishers,
            traffic,
        } => {
            let shape = Shape::FanIn {
                publishers: *publishers,
            };
            (format!("fan-in {publishers} to 1"), shape, traffic)
        }
        BenchCommand::Wildcard {
            filters,
            subscribers,
            publishers,
            traffic,
        } => {
            let shape = Shape::Wildcards {
                filters: *filters,
                subscribers: *subscribers,
                publishers: *publishers,
            };
            (format!("{filters} wildcard filters"), shape, traffic)
        }
        BenchCommand::Pub {
            publishers,
            traffic,
            ..
        } => {
            let shape = Shape::Publishers {
                publishers: *publishers,
            };
            (format!("{publishers} publishers"), shape, traffic)
        }
        BenchCommand::Sub {
            subscribers,
            traffic,
            ..
        } => {
            let shape = Shape::Subscribers {
                subscribers: *subscribers,
            };
            (format!("{subscribers} subscribers"), shape, traffic)
        }
    };
    let mut load = load(shape, traffic)?;
    if let BenchCommand::Pub { topic, .. } | BenchCommand::Sub { topic, .. } = command {
        load.topic.clone_from(topic);
    }
    load.retain = matches!(command, BenchCommand::Pub { retain: true, .. });
    run_load(&name, &load, traffic)
}

fn connect(arguments: &ConnArgs) -> Result<bool, Failure> {
    let ConnArgs {
        connections,
        concurrency,
        rate,
        hold,
        common,
    } = arguments;
    let crowd = Crowd {
        target: target(common)?,
        pid: common.pid,
        connections: *connections,
        concurrency: *concurrency,
        rate: *rate,
        leaves: Leaves::Connection,
        settle: *hold,
    };
    let mut line = Line::new(common);
    let outcome = crowd::open_watched(&crowd, &mut |progress| line.show(progress))?;
    line.clear();
    let scenario = format!("connect {connections}");
    report(scenario, ["connection", "connection"], outcome, common)
}

fn run_load(name: &str, load: &Load, traffic: &TrafficArgs) -> Result<bool, Failure> {
    let mut line = Line::new(&traffic.common);
    let outcome = run_watched(load, &mut |progress| line.show(progress))?;
    line.clear();
    let scenario = describe(name, load);
    report(
        scenario,
        ["message", "subscription"],
        outcome,
        &traffic.common,
    )
}

fn describe(name: &str, load: &Load) -> String {
    let pace = match load.rate {
        Some(rate) => format!("{rate} messages/s"),
        None => format!("window {}", load.window),
    };
    let version = match load.target.version {
        Version::V311 => "3.1.1",
        Version::V5 => "5.0",
    };
    let (bytes, qos) = (load.payload_bytes, load.qos.bits());
    match load.shape {
        Shape::Subscribers { .. } => format!("{name}, QoS {qos}, {version}"),
        Shape::Pairs { .. }
        | Shape::FanOut { .. }
        | Shape::FanIn { .. }
        | Shape::Wildcards { .. }
        | Shape::Publishers { .. }
        | Shape::Store { .. } => format!("{name}, {bytes} B, QoS {qos}, {pace}, {version}"),
    }
}

/// Each step with a report of its own.
fn store_and_replay(topics: u32, traffic: &TrafficArgs) -> Result<bool, Failure> {
    let shape = Shape::Store {
        topics,
        publishers: STORING_PUBLISHERS,
    };
    let load = load(shape, traffic)?;
    let held = ["message", "retained message"];
    let name = |step| format!("{topics} retained, {} B: {step}", load.payload_bytes);
    let is_stored = report(
        name("store"),
        held,
        retained::store(&load)?,
        &traffic.common,
    )?;
    let replayed = retained::replay(&load);
    retained::clear(&load)?;
    let is_replayed = report(name("replay"), held, replayed?, &traffic.common)?;
    Ok(is_stored && is_replayed)
}

fn load(shape: Shape, traffic: &TrafficArgs) -> Result<Load, Failure> {
    Ok(Load {
        target: target(&traffic.common)?,
        pid: traffic.common.pid,
        shape,
        topic: String::new(),
        qos: match traffic.qos {
            0 => Qos::AtMostOnce,
            1 => Qos::AtLeastOnce,
            _ => Qos::ExactlyOnce,
        },
        retain: false,
        payload_bytes: usize::try_from(traffic.size).unwrap_or(usize::MAX),
        window: traffic.window,
        rate: traffic.rate,
        messages_max: traffic.messages,
        keeps_sessions: false,
        warm_up: traffic.warm_up,
        duration: traffic.seconds,
        threads: traffic.threads,
    })
}

fn target(common: &CommonArgs) -> Result<Target, Failure> {
    let arguments = &common.broker;
    let Remote {
        remote,
        username,
        password,
        topic: _,
    } = Remote::new(arguments).map_err(Failure::Usage)?;
    let Some((host, port)) = remote.host_and_port() else {
        return Err(Failure::Unsupported("Unix sockets"));
    };
    let version = match arguments.protocol_version {
        cli::Version::V31 => return Err(Failure::Unsupported("3.1, only 3.1.1 and 5.0")),
        cli::Version::V311 => Version::V311,
        cli::Version::V5 => Version::V5,
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let unresolved = |error| Failure::Resolve(host.to_owned(), error);
    let address = (bare, port)
        .to_socket_addrs()
        .map_err(unresolved)?
        // What listens on the machine itself mostly does so for version 4 alone, and one address is all a load tries.
        .min_by_key(|address| !address.is_ipv4())
        .ok_or_else(|| unresolved(io::ErrorKind::NotFound.into()))?;
    let mut target = Target::new(address, version);
    host.clone_into(&mut target.host);
    target.username = arguments.username.clone().or(username);
    let password = arguments
        .password
        .as_deref()
        .or(password.as_deref().map(OsStr::new));
    target.password = password.map(|password| password.as_bytes().to_vec());
    if target.password.is_some() && target.username.is_none() && version == Version::V311 {
        return Err(Failure::Usage(Usage::PasswordWithoutUser));
    }
    target.id_prefix = match &common.id_prefix {
        Some(prefix) => prefix.clone(),
        None => format!("bench-{}", std::process::id()),
    };
    target.websocket_path = remote.websocket_path().map(str::to_owned);
    let is_websocket = target.websocket_path.is_some();
    target.tls = remote.tls().map(|tls| tls.config(is_websocket));
    Ok(target)
}

fn report(
    scenario: String,
    [unit, held]: [&'static str; 2],
    outcome: Outcome,
    common: &CommonArgs,
) -> Result<bool, Failure> {
    let is_complete = outcome.lost == 0 && outcome.repeated == 0;
    let report = Report {
        scenario,
        unit,
        held,
        outcome,
    };
    let mut out = io::stdout().lock();
    let printed = if common.json {
        writeln!(out, "{}", report.json())
    } else {
        write!(out, "{report}")
    };
    printed.map_err(Failure::Output)?;
    Ok(is_complete)
}

/// The line on stderr that says how far a load is, and how fast.
struct Line {
    is_shown: bool,
    /// Of the last rate: when, and how many there were.
    last: (Instant, u64),
    per_second: f64,
}

impl Line {
    /// Time over which the rate is taken.
    const SPAN: Duration = Duration::from_millis(500);
    /// Columns of the bar.
    const COLUMNS: usize = 20;

    fn new(common: &CommonArgs) -> Self {
        Self {
            is_shown: common.progress || io::stderr().is_terminal(),
            last: (Instant::now(), 0),
            per_second: 0.0,
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole columns and whole messages a second are all that is shown"
    )]
    fn show(&mut self, progress: Progress) {
        if !self.is_shown {
            return;
        }
        let (then, before) = self.last;
        if then.elapsed() >= Self::SPAN {
            let count = progress.count.saturating_sub(before);
            self.per_second = count as f64 / then.elapsed().as_secs_f64();
            self.last = (Instant::now(), progress.count);
        }
        let bar = progress.share.map_or(String::new(), |share| {
            let done = (share.clamp(0.0, 1.0) * Self::COLUMNS as f64) as usize;
            format!("[{:<1$}] ", "#".repeat(done), Self::COLUMNS)
        });
        let (step, count, rate) = (progress.step, progress.count, self.per_second);
        self.print(&format!("{step:<10} {bar}{count} in all, {rate:.0}/s"));
    }

    fn clear(&self) {
        if self.is_shown {
            self.print("");
        }
    }

    fn print(&self, text: &str) {
        // Whoever does not see it any more loses nothing else.
        let _unseen = write!(io::stderr(), "\r\x1b[K{text}");
    }
}
