//! The command line.

#[cfg(feature = "bench")]
mod bench;
#[cfg(feature = "clients")]
mod broker;
#[cfg(feature = "clients")]
mod client;
#[cfg(feature = "clients")]
mod publish;
#[cfg(feature = "store")]
mod store;
#[cfg(feature = "clients")]
mod subscribe;
#[cfg(test)]
#[cfg(feature = "clients")]
mod tests;

use std::ffi::OsString;
#[cfg(feature = "manual")]
use std::io;
#[cfg(feature = "manual")]
use std::path::Path;
use std::path::PathBuf;
#[cfg(feature = "clients")]
use std::time::Duration;

#[cfg(any(feature = "clients", feature = "manual"))]
use clap::CommandFactory;
#[cfg(feature = "clients")]
use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};
#[cfg(feature = "manual")]
use clap_complete::Shell;

#[cfg(feature = "bench")]
pub(crate) use self::bench::{BenchCommand, CommonArgs, ConnArgs, TrafficArgs};
#[cfg(feature = "clients")]
pub(crate) use self::broker::{BrokerArgs, Version};
#[cfg(feature = "clients")]
pub(crate) use self::client::ConnectArgs;
#[cfg(feature = "clients")]
pub(crate) use self::publish::PublishArgs;
#[cfg(feature = "store")]
pub(crate) use self::store::{StoreCommand, TransferArgs};
#[cfg(feature = "clients")]
pub(crate) use self::subscribe::SubscribeArgs;
#[cfg(feature = "clients")]
use crate::client::property::{Properties, take_properties};

/// An MQTT broker, and clients to try it with.
#[derive(Debug, Parser)]
#[command(name = "paloma", version, about, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the broker.
    ///
    /// Without any configuration it listens on 127.0.0.1:1883 and keeps what it acknowledges in ./paloma-data. It says on stderr
    /// where it listens, as `listening on tcp://ADDRESS:PORT`, and where its store is. SIGINT and SIGTERM stop it gracefully, SIGHUP has it read its configuration again.
    ///
    /// Exit codes: 0 stopped by a signal, 1 it cannot listen or has failed, 2 the configuration is wrong.
    Serve(ConfigArgs),
    /// Check a configuration without starting anything.
    ///
    /// Says everything that is wrong with the file, the environment (PALOMA__SECTION__KEY) and the
    /// flags, one line each.
    ///
    /// The files that it names are read as well.
    ///
    /// With --against-running the broker that runs is asked, through the configuration's control socket, what would change
    /// if SIGHUP put this configuration in force: each client that would be cut off, and each that would lose a right or
    /// a part of a subscription. It reads the files itself, as SIGHUP would, with its own environment and flags. Nothing
    /// changes.
    ///
    /// Exit codes: 0 all is well, 2 something is wrong; with --against-running also 3 somebody would be cut off or lose a
    /// right, 1 the broker cannot be asked.
    Check(CheckArgs),
    /// Print what happens to one client, or on one topic, while it happens.
    ///
    /// One line each: what the client sends, what is published, for how many, what waits for whom, what does not reach
    /// whom and why. The broker is asked through its control socket (admin.control), which only its own user and root
    /// may use. What comes faster than it can be printed is counted. Ends with Ctrl-C, or after --count lines.
    ///
    /// Exit codes: 0 it has ended, 1 the broker cannot be asked, 2 the command line is wrong.
    #[cfg(feature = "control")]
    Trace(TraceArgs),
    /// Say why a client gets what is published on a topic, or does not.
    ///
    /// Which of its filters match, what the access rules say, No Local, a full queue, expiry, the Maximum Packet Size, and in
    /// which state its session is. The broker is asked through its control socket (admin.control), which only its own user
    /// and root may use.
    ///
    /// Exit codes: 0 it has answered, 1 the broker cannot be asked, 2 the command line is wrong.
    #[cfg(feature = "control")]
    Why(WhyArgs),
    /// Replay what a broker recorded with --record, and print it step by step.
    ///
    /// The record's inputs are given to the same core again: what came, what the broker sent, whom it asked and what it
    /// stored, a line each behind the number of its step. What it gives out is compared with what the recorded
    /// broker gave out. Payloads and secrets are not in a record unless they were asked for: asterisks stand in their place.
    ///
    /// Exit codes: 0 the replay did what was recorded; 1 it did not, the broker panicked, or the record is damaged or cut
    /// short, after everything before that was printed; 2 the command line is wrong.
    #[cfg(feature = "replay")]
    Replay(ReplayArgs),
    /// Look at a configuration, or make one of mosquitto's.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print a script that completes this command line in a shell.
    ///
    /// For bash: `paloma completions bash > /etc/bash_completion.d/paloma`.
    #[cfg(feature = "manual")]
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print the manual page, or write one for each command.
    #[cfg(feature = "manual")]
    Man {
        /// Write `paloma.1`, `paloma-serve.1` and so on into this directory.
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Make, change or check a user of a password file.
    ///
    /// The password is asked for twice on a terminal, without showing it; otherwise it is the first line of standard
    /// input. The file is made with mode 0600 if there is none, and replaced as a whole, so that a broker never reads half of
    /// it. A broker that runs takes it over at SIGHUP.
    ///
    /// Exit codes: 0 done, or with --check the password is right; 1 it is wrong, or nothing could be done;
    /// 2 the command line is wrong.
    Passwd(PasswdArgs),
    /// Look at a store, mend it, or carry it elsewhere, while no broker uses it.
    #[cfg(feature = "store")]
    #[command(subcommand)]
    Store(StoreCommand),
    /// Put a load on a broker, ours or another, and measure what it takes.
    ///
    /// Every message is numbered and counted where it arrives, so that lost and repeated ones are seen. Latency is that from
    /// sending to arrival; with --rate it counts from when a message was due, so that a broker that stalls is charged for
    /// everything that waited. If this program was the bottleneck it says so.
    ///
    /// Exit codes: 0 measured; 1 not measured, or messages were lost or came twice; 2 the command line is wrong.
    #[cfg(feature = "bench")]
    #[command(subcommand)]
    Bench(BenchCommand),
    #[cfg(feature = "clients")]
    Pub(Box<PublishArgs>),
    #[cfg(feature = "clients")]
    Sub(Box<SubscribeArgs>),
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,

    /// Ask the broker that runs whom this configuration would cut off, and who would lose a right.
    #[arg(
        long,
        requires = "config",
        conflicts_with_all = ["listen", "data", "in_memory", "log", "record"]
    )]
    pub(crate) against_running: bool,
}

#[cfg(feature = "control")]
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("target").required(true))]
pub(crate) struct TraceArgs {
    /// What this client does, and what is done for it.
    #[arg(long, value_name = "ID", group = "target")]
    pub(crate) client: Option<String>,

    /// What becomes of messages whose topic the filter matches.
    #[arg(long, value_name = "FILTER", group = "target")]
    pub(crate) topic: Option<String>,

    /// Print the first 4 KiB of each payload too.
    #[arg(long)]
    pub(crate) payloads: bool,

    /// End after so many lines.
    #[arg(short = 'C', long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,

    #[command(flatten)]
    pub(crate) at: ControlArgs,
}

#[cfg(feature = "control")]
#[derive(Debug, Args)]
pub(crate) struct WhyArgs {
    /// The client's identifier.
    pub(crate) client: String,

    /// The topic.
    pub(crate) topic: String,

    #[command(flatten)]
    pub(crate) at: ControlArgs,
}

/// Where a broker that runs can be asked.
#[cfg(feature = "control")]
#[derive(Debug, Args)]
pub(crate) struct ControlArgs {
    /// The control socket.
    #[arg(long, value_name = "PATH")]
    pub(crate) control: Option<PathBuf>,

    /// The configuration that names it.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[cfg(feature = "replay")]
#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// The record.
    pub(crate) file: PathBuf,

    /// Stop after this step.
    #[arg(long, value_name = "STEP")]
    pub(crate) until: Option<u64>,

    /// Say why the client gets what is published on the topic, or does not, at the end or after the --until step; and of the
    /// steps only what became of messages for it.
    #[arg(long, num_args = 2, value_names = ["CLIENT", "TOPIC"], allow_hyphen_values = true)]
    pub(crate) why_not: Vec<String>,

    /// Print no steps.
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PasswdArgs {
    /// The password file.
    pub(crate) file: PathBuf,

    /// The user name.
    pub(crate) user: String,

    /// Take the user out; no password is asked for.
    #[arg(long, conflicts_with = "check")]
    pub(crate) delete: bool,

    /// Change nothing, and say whether the password is right.
    #[arg(long)]
    pub(crate) check: bool,

    /// The file is one of SCRAM-SHA-256 credentials, as [auth.scram] names it.
    #[arg(long, conflicts_with = "check")]
    pub(crate) scram: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print what would be in force: file, environment and flags together, every key with its value.
    ///
    /// The output is a configuration file that says the same. Secrets are in files of their own and not shown.
    Show(ConfigArgs),
    /// Turn a mosquitto.conf into a configuration of ours, on stdout.
    ///
    /// What could not be carried over is said on stderr, line by line; look through both before use.
    ImportMosquitto {
        /// The mosquitto.conf.
        file: PathBuf,
    },
}

/// A command line that makes sense.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) cli: Cli,
    /// Of the `-D`s of `pub` and `sub`.
    #[cfg(feature = "clients")]
    pub(crate) properties: Option<Properties>,
}

/// Reads the command line.
///
/// # Errors
/// What is wrong with it, or the help that was asked for.
#[cfg(not(feature = "clients"))]
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Parsed, clap::Error> {
    let cli = Cli::try_parse_from(arguments)?;
    Ok(Parsed { cli })
}

/// Reads the command line; for `pub` and `sub` with the properties of its `-D`s.
///
/// # Errors
/// What is wrong with it, or the help that was asked for.
#[cfg(feature = "clients")]
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Parsed, clap::Error> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let mut command = Cli::command();
    let name = arguments
        .get(1)
        .and_then(|name| name.to_str())
        .unwrap_or("");
    let Some(client) = command
        .find_subcommand(name)
        .filter(|_| name == "pub" || name == "sub")
    else {
        return Ok(Parsed {
            cli: Cli::try_parse_from(arguments)?,
            properties: None,
        });
    };
    let options: Vec<String> = options_with_a_value(client).collect();
    let takes_value = |option: &str| options.iter().any(|known| known == option);
    let (arguments, properties) = take_properties(arguments, takes_value)
        .map_err(|error| command.error(ErrorKind::InvalidValue, error))?;
    Ok(Parsed {
        cli: Cli::try_parse_from(arguments)?,
        properties,
    })
}

/// Writes a shell's completion script.
#[cfg(feature = "manual")]
pub(crate) fn completions(shell: Shell, out: &mut Vec<u8>) {
    clap_complete::generate(shell, &mut Cli::command(), "paloma", out);
}

/// Writes the manual page into `out`, or one for each command into a directory.
///
/// # Errors
/// A page cannot be written.
#[cfg(feature = "manual")]
pub(crate) fn manual(dir: Option<&Path>, out: &mut Vec<u8>) -> io::Result<()> {
    match dir {
        Some(dir) => clap_mangen::generate_to(Cli::command(), dir),
        None => clap_mangen::Man::new(Cli::command()).render(out),
    }
}

/// Every option that is followed by its value, with its dashes.
#[cfg(feature = "clients")]
fn options_with_a_value(command: &clap::Command) -> impl Iterator<Item = String> {
    command
        .get_arguments()
        .filter(|argument| argument.get_action().takes_values())
        .flat_map(|argument| {
            let short = argument.get_short().map(|short| format!("-{short}"));
            short
                .into_iter()
                .chain(argument.get_long().map(|long| format!("--{long}")))
        })
}

/// Reads a number of seconds with a fraction.
#[cfg(feature = "clients")]
fn seconds(text: &str) -> Result<Duration, &'static str> {
    let seconds = text.parse().ok();
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|delay| *delay <= Duration::from_secs(86_400))
        .ok_or("it is a number of seconds, at most 86400")
}

/// Where the configuration comes from; flags win over the environment, and that over the file.
#[derive(Clone, Debug, Args)]
pub(crate) struct ConfigArgs {
    /// Configuration file. Without it everything has its default.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Listen here and nowhere else; may be repeated: tcp://HOST:PORT, tls://HOST:PORT,
    /// ws://HOST:PORT/PATH, wss://HOST:PORT/PATH, unix:///PATH. Port 0 takes a free port.
    #[arg(long, value_name = "URL")]
    pub(crate) listen: Vec<String>,

    /// Certificate of the tls:// and wss:// listeners, in PEM.
    #[arg(long, value_name = "FILE", requires = "listen", requires = "key")]
    pub(crate) cert: Option<PathBuf>,

    /// Its private key, in PEM, which nobody else may read.
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,

    /// Let anybody connect to the --listen addresses, from other machines too.
    #[arg(long)]
    pub(crate) allow_anonymous: bool,

    /// Directory of the store, made if there is none; paloma-data unless the configuration says otherwise.
    #[arg(long, value_name = "DIR", conflicts_with = "in_memory")]
    pub(crate) data: Option<PathBuf>,

    /// Keep everything in memory; nothing survives a restart.
    #[arg(long)]
    pub(crate) in_memory: bool,

    /// Record everything that the broker takes in, for `paloma replay`, without payloads and secrets. A file that is there is
    /// kept as FILE.old; the record ends at 256 MiB unless the configuration says otherwise.
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,

    /// How much to log: off, error, warn, info, debug or trace.
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log: Option<String>,
}
