//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

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
    /// Without any configuration it listens on 127.0.0.1:1883 and keeps everything in memory. It says on stderr
    /// where it listens, as `listening on tcp://ADDRESS:PORT`. SIGINT and SIGTERM stop it gracefully.
    ///
    /// Exit codes: 0 stopped by a signal, 1 it cannot listen or has failed, 2 the configuration is wrong.
    Serve(ConfigArgs),
    /// Check a configuration without starting anything.
    ///
    /// Says everything that is wrong with the file, the environment (PALOMA__SECTION__KEY) and the
    /// flags, one line each.
    ///
    /// Exit codes: 0 all is well, 2 something is wrong.
    Check(ConfigArgs),
}

/// Where the configuration comes from; flags win over the environment, and that over the file.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// Configuration file. Without it everything has its default: 127.0.0.1:1883, in memory.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Listen here and nowhere else; may be repeated. Port 0 takes a free port.
    #[arg(long, value_name = "tcp://HOST:PORT")]
    pub(crate) listen: Vec<String>,

    /// Let anybody connect to the --listen addresses, from other machines too.
    #[arg(long)]
    pub(crate) allow_anonymous: bool,

    /// Directory of the store. Not supported yet.
    #[arg(long, value_name = "DIR", conflicts_with = "in_memory")]
    pub(crate) data: Option<PathBuf>,

    /// Keep everything in memory; nothing survives a restart. The default for now.
    #[arg(long)]
    pub(crate) in_memory: bool,

    /// How much to log: off, error, warn, info, debug or trace.
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log: Option<String>,
}
