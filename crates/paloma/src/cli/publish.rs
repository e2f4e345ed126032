//! The options of `paloma pub`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::client::ConnectArgs;

/// Publish messages on one topic.
///
/// The options are mosquitto_pub's.
///
/// Exit codes: 0 all is published, and acknowledged at QoS 1 and 2; the reason code of the CONNACK if
/// the broker refuses the connection (1 to 5 in 3.1.1, 128 and above in 5.0); 1 for anything else,
/// such as wrong arguments, no connection, or a message that the broker refuses.
#[derive(Debug, Args)]
#[command(disable_help_flag = true, disable_version_flag = true)]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub(crate) struct PublishArgs {
    /// Topic to publish to; it may also be in the URL of -L.
    #[arg(short, long, value_name = "TOPIC", allow_hyphen_values = true)]
    #[arg(required_unless_present = "url")]
    pub(crate) topic: Option<String>,

    /// Payload.
    #[arg(
        short,
        long,
        value_name = "PAYLOAD",
        allow_hyphen_values = true,
        group = "what"
    )]
    pub(crate) message: Option<OsString>,

    /// Send the contents of a file.
    #[arg(short, long, value_name = "FILE", group = "what")]
    pub(crate) file: Option<PathBuf>,

    /// Send each line of the standard input as a message.
    #[arg(short = 'l', long, group = "what")]
    pub(crate) stdin_line: bool,

    /// Send all of the standard input as one message.
    #[arg(short, long, group = "what")]
    pub(crate) stdin_file: bool,

    /// Send an empty message.
    #[arg(short, long, group = "what")]
    pub(crate) null_message: bool,

    /// QoS of all messages.
    #[arg(short, long, value_name = "QOS", default_value_t = 0)]
    #[arg(value_parser = clap::value_parser!(u8).range(0..=2))]
    pub(crate) qos: u8,

    /// Retain the messages.
    #[arg(short, long)]
    pub(crate) retain: bool,

    /// Publish the message this often.
    #[arg(
        long,
        value_name = "TIMES",
        default_value_t = 1,
        conflicts_with = "stdin_line"
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) repeat: u32,

    /// Wait this long between repetitions; fractions are possible.
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = super::seconds)]
    pub(crate) repeat_delay: std::time::Duration,

    /// Messages that may be unacknowledged at once.
    #[arg(short = 'M', long, value_name = "COUNT", default_value_t = 20)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) max_inflight: u16,

    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}
