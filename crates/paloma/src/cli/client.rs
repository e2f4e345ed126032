//! What `paloma pub` and `paloma sub` have in common: mosquitto's options, with their meaning.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, Args, ValueEnum};

/// How to connect.
#[derive(Debug, Args)]
pub(crate) struct ConnectArgs {
    /// Show this help.
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,

    /// Host of the broker.
    #[arg(short = 'h', long, value_name = "HOST", default_value = "localhost")]
    pub(crate) host: String,

    /// Port of the broker. Default: 1883, or 8883 with --cafile.
    #[arg(short, long, value_name = "PORT")]
    pub(crate) port: Option<u16>,

    /// Broker and more in one: mqtt://USER:PASSWORD@HOST:PORT/TOPIC, ws://HOST:PORT/PATH or unix:///PATH; mqtts:// and
    /// wss:// with TLS. Everything but the host may be left out.
    #[arg(short = 'L', long, value_name = "URL", conflicts_with_all = ["host", "port"])]
    pub(crate) url: Option<String>,

    /// Authorities that sign brokers' certificates, in PEM; without -L it switches TLS on.
    #[arg(long, value_name = "FILE")]
    pub(crate) cafile: Option<PathBuf>,

    /// Certificate to show, in PEM.
    #[arg(long, value_name = "FILE", requires = "key", requires = "cafile")]
    pub(crate) cert: Option<PathBuf>,

    /// Its private key, in PEM.
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,

    /// Accept a certificate that is for another host. Not for use beyond tests.
    #[arg(long, requires = "cafile")]
    pub(crate) insecure: bool,

    /// Client id. Without it, or --id-prefix, one is made up, or with -V 5 the broker's choice.
    #[arg(short, long, value_name = "ID", conflicts_with = "id_prefix")]
    #[arg(allow_hyphen_values = true)]
    pub(crate) id: Option<String>,

    /// Client id made of this and the process id.
    #[arg(short = 'I', long, value_name = "PREFIX", allow_hyphen_values = true)]
    pub(crate) id_prefix: Option<String>,

    /// User name.
    #[arg(short, long, value_name = "NAME", allow_hyphen_values = true)]
    pub(crate) username: Option<String>,

    /// Password.
    #[arg(
        short = 'P',
        long = "pw",
        value_name = "PASSWORD",
        allow_hyphen_values = true
    )]
    pub(crate) password: Option<OsString>,

    /// Keep alive in seconds; 0 switches it off.
    #[arg(short, long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) keepalive: u16,

    /// Protocol version: 5, 311 or 31, also as mqttv5, mqttv311, mqttv31. -D makes it 5.
    #[arg(short = 'V', long, value_name = "VERSION", default_value = "311")]
    pub(crate) protocol_version: Version,

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

/// A protocol version by mosquitto's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Version {
    /// 3.1
    #[value(name = "31", alias = "mqttv31", alias = "3.1")]
    V31,
    /// 3.1.1
    #[value(name = "311", alias = "mqttv311", alias = "3.1.1")]
    V311,
    /// 5.0
    #[value(name = "5", alias = "mqttv5", alias = "5.0")]
    V5,
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
