//! The command line of the load: one subcommand per scenario, the reference server, and the comparison.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use paloma_load::broker::{Candidate, Kind};
use paloma_load::compare::{self, Comparison};
use paloma_load::crowd::{self, Crowd};
use paloma_load::floor::Floor;
use paloma_load::packet::{Qos, Version};
use paloma_load::report::Report;
use paloma_load::{Load, LoadError, Shape, probe, retained};

/// Measures MQTT brokers.
#[derive(Parser)]
#[command(name = "paloma-load")]
struct Arguments {
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    /// N publishers to N subscribers, each pair on a topic of its own.
    Pairs {
        /// How many pairs.
        #[arg(long, default_value_t = 50)]
        pairs: u32,
        #[command(flatten)]
        options: Options,
    },
    /// One publisher to many subscribers.
    FanOut {
        /// How many subscribers.
        #[arg(long, default_value_t = 1000)]
        subscribers: u32,
        #[command(flatten)]
        options: Options,
    },
    /// Many publishers to one subscriber.
    FanIn {
        /// How many publishers.
        #[arg(long, default_value_t = 200)]
        publishers: u32,
        #[command(flatten)]
        options: Options,
    },
    /// Many wildcard filters, of which every message matches three.
    Wildcards {
        /// How many filters.
        #[arg(long, default_value_t = 10_000)]
        filters: u32,
        /// Connections that hold them.
        #[arg(long, default_value_t = 50)]
        subscribers: u32,
        /// Connections that publish.
        #[arg(long, default_value_t = 10)]
        publishers: u32,
        #[command(flatten)]
        options: Options,
    },
    /// Stores retained messages, replays them to a new subscriber, and takes them back.
    Retained {
        /// How many topics.
        #[arg(long, default_value_t = 100_000)]
        topics: u32,
        #[command(flatten)]
        options: Options,
    },
    /// Opens connections as fast as the broker takes them.
    Connect(CrowdOptions),
    /// Opens connections and looks at what each costs the broker in memory while it does nothing.
    Idle {
        #[command(flatten)]
        options: CrowdOptions,
        /// Starts this `paloma serve` binary itself, in place of --address and --pid.
        #[arg(long)]
        paloma: Option<PathBuf>,
        /// Fails if a connection costs more.
        #[arg(long)]
        bytes_max: Option<u64>,
    },
    /// Runs the reference server.
    Floor {
        /// Where it listens; port 0 takes a free one.
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
    },
    /// Runs every scenario against every broker in rotation and prints tables of medians.
    Compare(CompareOptions),
}

#[derive(Args)]
struct Options {
    /// The broker.
    #[arg(long, default_value = "127.0.0.1:1883")]
    address: SocketAddr,
    /// Its process on this machine: reads its CPU time and memory.
    #[arg(long)]
    pid: Option<u32>,
    /// Protocol version.
    #[arg(long, value_enum, default_value = "3.1.1")]
    protocol: Protocol,
    /// QoS of messages and subscriptions.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..3))]
    qos: u8,
    /// Bytes of each payload, at least 16.
    #[arg(long, default_value_t = 64)]
    payload: usize,
    /// Messages of each publisher under way at once.
    #[arg(long, default_value_t = 100)]
    window: u32,
    /// Messages per second in all, sent by the clock whether or not the broker keeps up.
    #[arg(long)]
    rate: Option<u32>,
    /// Seconds measured.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Seconds before that.
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Event loops (pairs only).
    #[arg(long, default_value_t = 1)]
    threads: u32,
    /// One JSON object per line.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct CrowdOptions {
    /// The broker.
    #[arg(long, default_value = "127.0.0.1:1883")]
    address: SocketAddr,
    /// Its process on this machine: reads its CPU time and memory.
    #[arg(long)]
    pid: Option<u32>,
    /// Protocol version.
    #[arg(long, value_enum, default_value = "3.1.1")]
    protocol: Protocol,
    /// How many connections.
    #[arg(long, default_value_t = 10_000)]
    connections: u32,
    /// How many on their way at once.
    #[arg(long, default_value_t = 100)]
    concurrency: u32,
    /// One JSON object per line.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct CompareOptions {
    /// A `paloma` binary.
    #[arg(long)]
    paloma: Option<PathBuf>,
    /// A `mosquitto` binary.
    #[arg(long)]
    mosquitto: Option<PathBuf>,
    /// Another broker: NAME=COMMAND, where {port} stands for the port.
    #[arg(long)]
    broker: Vec<String>,
    /// Runs of which the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Seconds measured in each.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Lets broker and load share all cores in place of one each.
    #[arg(long)]
    unpinned: bool,
    /// Only scenarios whose name contains this.
    #[arg(long)]
    only: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Protocol {
    #[value(name = "3.1.1")]
    V311,
    #[value(name = "5.0", alias = "5")]
    V5,
}

impl From<Protocol> for Version {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::V311 => Self::V311,
            Protocol::V5 => Self::V5,
        }
    }
}

fn main() -> ExitCode {
    match act(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            let _closed = writeln!(io::stderr(), "paloma-load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn act(action: Action) -> Result<ExitCode, LoadError> {
    match action {
        Action::Pairs { pairs, options } => {
            flow(&format!("{pairs} pairs"), Shape::Pairs { pairs }, &options)
        }
        Action::FanOut {
            subscribers,
            options,
        } => flow(
            &format!("1 to {subscribers}"),
            Shape::FanOut { subscribers },
            &options,
        ),
        Action::FanIn {
            publishers,
            options,
        } => flow(
            &format!("{publishers} to 1"),
            Shape::FanIn { publishers },
            &options,
        ),
        Action::Wildcards {
            filters,
            subscribers,
            publishers,
            options,
        } => {
            let shape = Shape::Wildcards {
                filters,
                subscribers,
                publishers,
            };
            flow(&format!("{filters} wildcard filters"), shape, &options)
        }
        Action::Retained { topics, options } => retained(topics, &options),
        Action::Connect(options) => connect(&options),
        Action::Idle {
            options,
            paloma,
            bytes_max,
        } => idle(options, paloma, bytes_max),
        Action::Floor { listen } => floor(listen),
        Action::Compare(options) => compare(&options),
    }
}

impl Options {
    fn load(&self, shape: Shape) -> Load {
        Load {
            address: self.address,
            pid: self.pid,
            shape,
            version: self.protocol.into(),
            qos: match self.qos {
                0 => Qos::AtMostOnce,
                1 => Qos::AtLeastOnce,
                _ => Qos::ExactlyOnce,
            },
            retain: false,
            payload_bytes: self.payload,
            window: self.window,
            rate: self.rate,
            messages_max: None,
            warm_up: Duration::from_secs_f64(self.warm_up.clamp(0.0, 3600.0)),
            duration: Duration::from_secs_f64(self.seconds.clamp(0.01, 86_400.0)),
            threads: self.threads,
        }
    }

    fn describe(&self, shape: &str) -> String {
        let pace = match self.rate {
            Some(rate) => format!("{rate} messages/s"),
            None => format!("window {}", self.window),
        };
        format!("{shape}, {} B, QoS {}, {pace}", self.payload, self.qos)
    }
}

fn flow(name: &str, shape: Shape, options: &Options) -> Result<ExitCode, LoadError> {
    let outcome = paloma_load::run(&options.load(shape))?;
    let complete = outcome.lost == 0 && outcome.repeated == 0;
    let scenario = options.describe(name);
    let report = Report {
        scenario,
        unit: "message",
        held: "subscription",
        outcome,
    };
    print(&report, options.json)?;
    Ok(if complete {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(2)
    })
}

fn retained(topics: u32, options: &Options) -> Result<ExitCode, LoadError> {
    let load = options.load(Shape::Store {
        topics,
        publishers: 10,
    });
    for (step, run) in [
        (
            "store",
            retained::store as fn(&Load) -> Result<_, LoadError>,
        ),
        ("replay", retained::replay),
    ] {
        let outcome = run(&load)?;
        let scenario = format!("{topics} retained, {} B: {step}", options.payload);
        let report = Report {
            scenario,
            unit: "message",
            held: "retained message",
            outcome,
        };
        print(&report, options.json)?;
    }
    retained::clear(&load)?;
    Ok(ExitCode::SUCCESS)
}

impl CrowdOptions {
    fn crowd(&self, settle: Duration) -> Crowd {
        Crowd {
            address: self.address,
            pid: self.pid,
            version: self.protocol.into(),
            connections: self.connections,
            concurrency: self.concurrency,
            settle,
        }
    }
}

fn connect(options: &CrowdOptions) -> Result<ExitCode, LoadError> {
    let outcome = crowd::open(&options.crowd(Duration::ZERO))?;
    let scenario = format!("connect {}", options.connections);
    let report = Report {
        scenario,
        unit: "connection",
        held: "connection",
        outcome,
    };
    print(&report, options.json)?;
    Ok(ExitCode::SUCCESS)
}

fn idle(
    mut options: CrowdOptions,
    paloma: Option<PathBuf>,
    bytes_max: Option<u64>,
) -> Result<ExitCode, LoadError> {
    // The broker inherits the limit, and holds a file for each connection as this program does.
    probe::raise_file_limit(u64::from(options.connections) + 256);
    let started = paloma
        .map(|program| {
            let kind = Kind::Paloma { program };
            Candidate {
                name: "paloma".to_owned(),
                kind,
            }
            .start()
        })
        .transpose()?;
    if let Some(broker) = &started {
        options.address = broker.address();
        options.pid = Some(broker.pid());
    }
    let outcome = crowd::open(&options.crowd(Duration::from_secs(2)))?;
    let each = outcome.memory.map(|growth| growth.each());
    let scenario = format!("idle {}", options.connections);
    let report = Report {
        scenario,
        unit: "connection",
        held: "connection",
        outcome,
    };
    print(&report, options.json)?;
    match (each, bytes_max) {
        (None, Some(_)) => Err(LoadError::Scenario(
            "without --pid there is no memory to compare",
        )),
        (Some(each), Some(max)) if each > max => {
            writeln!(
                io::stderr(),
                "an idle connection costs {each} B, more than {max} B"
            )?;
            Ok(ExitCode::FAILURE)
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn floor(listen: SocketAddr) -> Result<ExitCode, LoadError> {
    probe::raise_file_limit(65_536);
    let floor = Floor::bind(listen)?;
    let (address, pid) = (floor.address()?, std::process::id());
    writeln!(io::stdout(), "listening on {address}, pid {pid}")?;
    floor.run()?;
    Ok(ExitCode::SUCCESS)
}

fn compare(options: &CompareOptions) -> Result<ExitCode, LoadError> {
    probe::raise_file_limit(65_536);
    let program = std::env::current_exe()?;
    let mut candidates = vec![Candidate {
        name: "floor".to_owned(),
        kind: Kind::Floor { program },
    }];
    if let Some(program) = options.mosquitto.clone() {
        let kind = Kind::Mosquitto { program };
        candidates.push(Candidate {
            name: "mosquitto".to_owned(),
            kind,
        });
    }
    for broker in &options.broker {
        let (name, command) = broker.split_once('=').ok_or(LoadError::Scenario(
            "--broker is NAME=COMMAND with {port} in the command",
        ))?;
        let words = command.split_whitespace().map(str::to_owned).collect();
        candidates.push(Candidate {
            name: name.to_owned(),
            kind: Kind::Command { words },
        });
    }
    if let Some(program) = options.paloma.clone() {
        let kind = Kind::Paloma { program };
        candidates.push(Candidate {
            name: "paloma".to_owned(),
            kind,
        });
    }
    let comparison = Comparison {
        candidates,
        rounds: options.rounds.max(1),
        duration: Duration::from_secs_f64(options.seconds.clamp(0.1, 3600.0)),
        is_pinned: !options.unpinned,
        only: options.only.clone(),
    };
    let rows = compare::run(&comparison, |line| {
        let _closed = writeln!(io::stderr(), "{line}");
    });
    let mut out = io::stdout().lock();
    let cores = if comparison.is_pinned {
        "a core each"
    } else {
        "all cores shared"
    };
    let (rounds, seconds) = (comparison.rounds, comparison.duration.as_secs_f64());
    writeln!(
        out,
        "{}; {cores}; medians of {rounds} runs of {seconds} s",
        probe::machine()
    )?;
    writeln!(out, "{}", compare::tables(&comparison, &rows))?;
    Ok(ExitCode::SUCCESS)
}

fn print(report: &Report, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        writeln!(out, "{}", report.json())
    } else {
        write!(out, "{report}")
    }
}
