//! What `paloma pub` and `paloma sub` have in common: mosquitto's options, with their meaning.

use std::ffi::OsString;

use clap::Args;

use super::broker::BrokerArgs;

/// How to connect.
#[derive(Debug, Args)]
pub(crate) struct ConnectArgs {
    #[command(flatten)]
    pub(crate) broker: BrokerArgs,

    /// Client id. Without it, or --id-prefix, one is made up, or with -V 5 the broker's choice.
    #[arg(short, long, value_name = "ID", conflicts_with = "id_prefix")]
    #[arg(allow_hyphen_values = true)]
    pub(crate) id: Option<String>,

    /// Client id made of this and the process id.
    #[arg(short = 'I', long, value_name = "PREFIX", allow_hyphen_values = true)]
    pub(crate) id_prefix: Option<String>,

    /// Keep alive in seconds; 0 switches it off.
    #[arg(short, long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) keepalive: u16,

    /// Keep the session: do not start clean, and let it outlive the connection. Needs -i or -I.
    #[arg(short = 'c', long)]
    pub(crate) disable_clean_session: bool,

    /// Session expiry interval of 5.0 in seconds; -1 for never. Default: 0, or with -c never.
    #[arg(short = 'x', long, value_name = "SECONDS", allow_hyphen_values = true)]
    #[arg(value_parser = session_expiry)]
    pub(crate) session_expiry_interval: Option<u32>,

    /// Topic of the will.
    #[arg(long, value_name = "TOPIC", allow_hyphen_values = true)]
    pub(crate) will_topic: Option<String>,

    /// Payload of the will; empty without it.
    #[arg(
        long,
        value_name = "PAYLOAD",
        allow_hyphen_values = true,
        requires = "will_topic"
    )]
    pub(crate) will_payload: Option<OsString>,

    /// QoS of the will.
    #[arg(long, value_name = "QOS", default_value_t = 0, requires = "will_topic")]
    #[arg(value_parser = clap::value_parser!(u8).range(0..=2))]
    pub(crate) will_qos: u8,

    /// Retain the will.
    #[arg(long, requires = "will_topic")]
    pub(crate) will_retain: bool,

    /// Add a property of 5.0: COMMAND is connect, publish, subscribe, unsubscribe, disconnect or
    /// will. `user-property` takes a name and a value, every other property a value:
    /// -D publish content-type text/plain, -D publish user-property key value.
    #[arg(short = 'D', long = "property", value_names = ["COMMAND", "PROPERTY", "VALUE"])]
    #[arg(num_args = 3..=4)]
    property: Vec<String>,

    /// Say on stderr what is sent and received.
    #[arg(short, long)]
    pub(crate) debug: bool,

    /// Print no errors once the arguments are accepted.
    #[arg(long)]
    pub(crate) quiet: bool,
}

/// Reads `-x`.
fn session_expiry(text: &str) -> Result<u32, &'static str> {
    match text {
        "-1" | "∞" => Ok(u32::MAX),
        _ => text
            .parse()
            .map_err(|_| "it is a number of seconds, or -1 for never"),
    }
}
