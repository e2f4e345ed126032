//! The options of `paloma bench`.

use clap::{Args, Subcommand};

use super::broker::BrokerArgs;

/// Shapes of load.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// N publishers to N subscribers, each pair on a topic of its own.
    #[command(disable_help_flag = true, disable_version_flag = true)]
    Pairs {
        /// How many pairs.
        #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 50)]
        #[arg(value_parser = clap::value_parser!(u32).range(1..))]
        pairs: u32,
        #[command(flatten)]
        traffic: Box<TrafficArgs>,
    },
    /// One publisher to many subscribers.
    #[command(disable_help_flag = true, disable_version_flag = true)]
    FanOut {
        /// How many subscribers.
        #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 1_000)]
        #[arg(value_parser = clap::value_parser!(u32).range(1..))]
        subscribers: u32,
        #[command(flatten)]
        traffic: Box<TrafficArgs>,
    },
    /// Many publishers to one subscriber.
    #[command(disable_help_flag = true, disable_version_flag = true)]
    FanIn {
        /// How many publishers.
        #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 200)]
        #[arg(value_parser = clap::value_parser!(u32).range(1..))]
        publishers: u32,
        #[command(flatten)]
        traffic: Box<TrafficArgs>,
    },
    /// Many filters with wildcards, of which every message matches three.
    #[command(disable_help_flag = true, disable_version_flag = true)]
    Wildcard {
        /// How many filters.
        #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 10_000)]
        #[arg(value_parser = clap::value_parser!(u32).range(3..))]
        filters: u32,
        /// Connections that hold them.
        #[arg(long, value_name = "COUNT", default_value_t = 50)]
        #[arg(value_parser = clap::value_parser!(u32).range(3..))]
        subscribers: u32,
        /// Connections that publish.
        #[arg(long, value_name = "COUNT", default_value_t = 10)]
        #[arg(value_parser = clap::value_parser!(u32).range(1..))]
        publishers: u32,
        #[command(flatten)]
        traffic: Box<TrafficArgs>,
    },
    /// Store retained messages, have them replayed to a new subscriber, and take them back.
    #[command(disable_help_flag = true, disable_version_flag = true)]
    Retained {
        /// How many topics.
        #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 10_000)]
        #[arg(value_parser = clap::value_parser!(u32).range(1..))]
        topics: u32,
        #[command(flatten)]
        traffic: Box<TrafficArgs>,
    },
    /// Open connections as fast as the broker takes them, or by the clock, and look at what each costs.
    #[command(visible_alias = "storm")]
    #[command(disable_help_flag = true, disable_version_flag = true)]
    Conn(Box<ConnArgs>),
    /// Publish, and leave it to others to subscribe.
    #[command(disable_help_flag = true, disable_version_flag = true)]
    Pub {
        /// How many publishers.
        #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 10)]
        #[arg(value_parser = clap::value_parser!(u32).range(1..))]
        publishers: u32,
        /// Topic; %i stands for the publisher's number.
        #[arg(short, long, value_name = "TOPIC", default_value = "bench/%i")]
        topic: String,
        /// Retain the messages.
        #[arg(long)]
        retain: bool,
        #[command(flatten)]
        traffic: Box<TrafficArgs>,
    },
    /// Subscribe, and count what others publish.
    #[command(disable_help_flag = true, disable_version_flag = true)]
    Sub {
        /// How many subscribers.
        #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 10)]
        #[arg(value_parser = clap::value_parser!(u32).range(1..))]
        subscribers: u32,
        /// Topic filter; %i stands for the subscriber's number.
        #[arg(short, long, value_name = "FILTER", default_value = "bench/%i")]
        topic: String,
        #[command(flatten)]
        traffic: Box<TrafficArgs>,
    },
}

/// How connections are opened.
#[derive(Debug, Args)]
pub(crate) struct ConnArgs {
    /// How many connections.
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 1_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) connections: u32,
    /// How many are on their way at once.
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) concurrency: u32,
    /// Connections a second, whether or not the broker keeps up.
    #[arg(short, long, value_name = "PER_SECOND")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: Option<u32>,
    /// Hold all of them for this long.
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = super::seconds)]
    pub(crate) hold: std::time::Duration,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

/// What messages are like, and how long they flow.
#[derive(Debug, Args)]
pub(crate) struct TrafficArgs {
    /// QoS of messages and subscriptions.
    #[arg(short, long, value_name = "QOS", default_value_t = 0)]
    #[arg(value_parser = clap::value_parser!(u8).range(0..=2))]
    pub(crate) qos: u8,

    /// Bytes of each payload, at least 16.
    #[arg(short, long, value_name = "BYTES", default_value_t = 64)]
    #[arg(value_parser = clap::value_parser!(u32).range(16..=(64 << 20)))]
    pub(crate) size: u32,

    /// Messages of each publisher that are under way at once.
    #[arg(short, long, value_name = "COUNT", default_value_t = 100)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=65_535))]
    pub(crate) window: u32,

    /// Messages a second in all, sent by the clock whether or not the broker keeps up.
    #[arg(short, long, value_name = "PER_SECOND")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: Option<u32>,

    /// How long to measure.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = super::seconds)]
    pub(crate) seconds: std::time::Duration,

    /// How long to run before that.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = super::seconds)]
    pub(crate) warm_up: std::time::Duration,

    /// Each publisher sends this many messages, however long that takes; there is no warm-up.
    #[arg(short, long, value_name = "COUNT", conflicts_with_all = ["seconds", "warm_up"])]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) messages: Option<u64>,

    /// Threads of this program; more than one is of use to pairs, and to pub and sub.
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) threads: u32,

    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

/// What every load has.
#[derive(Debug, Args)]
pub(crate) struct CommonArgs {
    #[command(flatten)]
    pub(crate) broker: BrokerArgs,

    /// The broker's process on this machine: measures its CPU time and memory.
    #[arg(long, value_name = "PID")]
    pub(crate) pid: Option<u32>,

    /// What client ids begin with. Default: `bench-` and the process id.
    #[arg(short = 'I', long, value_name = "PREFIX", allow_hyphen_values = true)]
    pub(crate) id_prefix: Option<String>,

    /// Print the results as JSON, one object a line.
    #[arg(long)]
    pub(crate) json: bool,

    /// Show the progress on stderr even if that is no terminal.
    #[arg(long)]
    pub(crate) progress: bool,
}
