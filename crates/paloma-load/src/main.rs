//! The reference server, the comparison of brokers, and the price of an idle connection. For loads of one's own there is
//! `paloma bench`.

mod program;

use std::error::Error;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use paloma_load::broker::{Candidate, Kind};
use paloma_load::compare::{self, Comparison};
use paloma_load::crowd::{self, Crowd, Leaves};
use paloma_load::durable::large::{self, Large};
use paloma_load::durable::scale::Scale;
use paloma_load::durable::{self, Durable};
use paloma_load::floor::Floor;
use paloma_load::packet::Version;
use paloma_load::report::Report;
use paloma_load::{LoadError, Target, probe};

/// Measures MQTT brokers.
#[derive(Parser)]
#[command(name = "paloma-load")]
struct Arguments {
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Opens connections and looks at what each costs the broker in memory while it does nothing.
    Idle {
        #[command(flatten)]
        options: CrowdOptions,
        /// Starts this `paloma serve` binary itself, in place of --address and --pid.
        #[arg(long, value_parser = program::parser())]
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
    /// Measures durable QoS 1 beside what the disk, the store's engine and mosquitto do in the same run.
    Durable(DurableOptions),
    /// Fills a store, kills and stops its broker, and measures how it starts and drains.
    Scale(ScaleOptions),
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
    #[arg(long, value_parser = program::parser())]
    paloma: Option<PathBuf>,
    /// A `mosquitto` binary.
    #[arg(long, value_parser = program::parser())]
    mosquitto: Option<PathBuf>,
    /// A `rumqttd` binary.
    #[arg(long, value_parser = program::parser())]
    rumqttd: Option<PathBuf>,
    /// A `mqttv5` binary.
    #[arg(long, value_parser = program::parser())]
    mqttv5: Option<PathBuf>,
    /// Another broker: NAME=COMMAND, where {port} stands for the port.
    #[arg(long, value_parser = other_broker)]
    broker: Vec<Candidate>,
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
    /// Leaves out scenarios of a million things.
    #[arg(long)]
    spare_large: bool,
    /// Draws the broker's CPU for each message into this SVG file.
    #[arg(long)]
    plot: Option<PathBuf>,
}

#[derive(Args)]
struct DurableOptions {
    /// A `paloma` binary.
    #[arg(long, value_parser = program::parser())]
    paloma: PathBuf,
    /// A `mosquitto` binary.
    #[arg(long, value_parser = program::parser())]
    mosquitto: Option<PathBuf>,
    /// A directory on the disk that counts.
    #[arg(long)]
    directory: PathBuf,
    /// Runs of which the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Seconds measured in each.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Only cases whose name contains this.
    #[arg(long)]
    only: Option<String>,
}

#[derive(Args)]
struct ScaleOptions {
    /// A `paloma` binary.
    #[arg(long, value_parser = program::parser())]
    paloma: PathBuf,
    /// A directory on the disk that counts.
    #[arg(long)]
    directory: PathBuf,
    /// Queued messages of 200 bytes.
    #[arg(long, default_value_t = 1_000_000)]
    messages: u32,
    /// Sessions that they wait for.
    #[arg(long, default_value_t = 100_000)]
    sessions: u32,
    /// Messages of 1,000 bytes that one client drains.
    #[arg(long, default_value_t = 500_000)]
    drained: u32,
    /// MiB of resident memory that the broker may need meanwhile.
    #[arg(long, default_value_t = 256)]
    memory: u64,
    /// Seconds that a start may take.
    #[arg(long, default_value_t = 10.0)]
    ready: f64,
    /// Only the starts of a store with a file of so many gigabytes.
    #[arg(long)]
    gigabytes: Option<u64>,
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
        Action::Idle {
            options,
            paloma,
            bytes_max,
        } => idle(options, paloma, bytes_max),
        Action::Floor { listen } => floor(listen),
        Action::Compare(options) => compare(&options),
        Action::Durable(options) => durable(options),
        Action::Scale(options) => scale(options),
    }
}

impl CrowdOptions {
    fn crowd(&self, settle: Duration) -> Crowd {
        Crowd {
            target: Target::new(self.address, self.protocol.into()),
            pid: self.pid,
            connections: self.connections,
            concurrency: self.concurrency,
            rate: None,
            leaves: Leaves::Connection,
            settle,
        }
    }
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
            .start(Version::V311)
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

/// What `--broker` has: NAME=COMMAND.
fn other_broker(text: &str) -> Result<Candidate, Box<dyn Error + Send + Sync>> {
    let (name, command) = text.split_once('=').ok_or(LoadError::Scenario(
        "--broker is NAME=COMMAND with {port} in the command",
    ))?;
    let (program, arguments) = command.split_once(' ').unwrap_or((command, ""));
    let program = program::find(program.as_ref())?;
    let arguments = arguments.split_whitespace().map(str::to_owned).collect();
    Ok(Candidate {
        name: name.to_owned(),
        kind: Kind::Command { program, arguments },
    })
}

/// The brokers in the order of their columns.
fn candidates(options: &CompareOptions) -> io::Result<Vec<Candidate>> {
    let program = std::env::current_exe()?;
    let mut candidates = vec![Candidate {
        name: "floor".to_owned(),
        kind: Kind::Floor { program },
    }];
    let peers = [
        options.mosquitto.clone().map(|program| {
            let kind = Kind::Mosquitto { program };
            ("mosquitto", kind)
        }),
        options.rumqttd.clone().map(|program| {
            let kind = Kind::Rumqttd { program };
            ("rumqttd", kind)
        }),
        options.mqttv5.clone().map(|program| {
            let kind = Kind::Mqttv5 { program };
            ("mqttv5", kind)
        }),
    ];
    for (name, kind) in peers.into_iter().flatten() {
        candidates.push(Candidate {
            name: name.to_owned(),
            kind,
        });
    }
    candidates.extend(options.broker.iter().cloned());
    if let Some(program) = options.paloma.clone() {
        let kind = Kind::Paloma { program };
        candidates.push(Candidate {
            name: "paloma".to_owned(),
            kind,
        });
    }
    Ok(candidates)
}

fn compare(options: &CompareOptions) -> Result<ExitCode, LoadError> {
    probe::raise_file_limit(65_536);
    let comparison = Comparison {
        candidates: candidates(options)?,
        rounds: options.rounds.max(1),
        duration: Duration::from_secs_f64(options.seconds.clamp(0.1, 3600.0)),
        is_pinned: !options.unpinned,
        only: options.only.clone(),
        spares_large: options.spare_large,
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
    if let Some(path) = &options.plot {
        std::fs::write(path, compare::plot(&comparison, &rows))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn durable(options: DurableOptions) -> Result<ExitCode, LoadError> {
    probe::raise_file_limit(65_536);
    std::fs::create_dir_all(&options.directory)?;
    let durable = Durable {
        paloma: options.paloma,
        mosquitto: options.mosquitto,
        directory: options.directory,
        rounds: options.rounds.max(1),
        duration: Duration::from_secs_f64(options.seconds.clamp(0.1, 3600.0)),
        only: options.only,
    };
    let tables = durable::run(&durable, note)?;
    let (rounds, seconds) = (durable.rounds, durable.duration.as_secs_f64());
    let machine = probe::machine();
    let mut out = io::stdout().lock();
    writeln!(out, "{machine}; medians of {rounds} runs of {seconds} s")?;
    writeln!(out, "{tables}")?;
    Ok(ExitCode::SUCCESS)
}

fn scale(options: ScaleOptions) -> Result<ExitCode, LoadError> {
    probe::raise_file_limit(65_536);
    std::fs::create_dir_all(&options.directory)?;
    if let Some(gigabytes) = options.gigabytes {
        return scale_large(options, gigabytes);
    }
    let scale = Scale {
        paloma: options.paloma,
        directory: options.directory,
        messages: options.messages.max(1),
        sessions: options.sessions.max(1),
        drained: options.drained.max(1),
        memory_bytes_max: options.memory.max(1) << 20,
        ready_max: Duration::from_secs_f64(options.ready.clamp(0.1, 3600.0)),
    };
    let (table, is_met) = durable::scale::run(&scale, note)?;
    let mut out = io::stdout().lock();
    writeln!(out, "{}\n\n{table}", probe::machine())?;
    Ok(if is_met {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn scale_large(options: ScaleOptions, gigabytes: u64) -> Result<ExitCode, LoadError> {
    let large = Large {
        paloma: options.paloma,
        directory: options.directory,
        bytes: gigabytes.clamp(1, 1_000) * 1_000_000_000,
    };
    let table = large::run(&large, note)?;
    writeln!(io::stdout().lock(), "{}\n\n{table}", probe::machine())?;
    Ok(ExitCode::SUCCESS)
}

/// A line of progress.
fn note(line: &str) {
    let _closed = writeln!(io::stderr(), "{line}");
}

fn print(report: &Report, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        writeln!(out, "{}", report.json())
    } else {
        write!(out, "{report}")
    }
}
