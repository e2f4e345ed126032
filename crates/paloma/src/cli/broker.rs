//! Which broker a client or a load goes to, and as whom.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, Args, ValueEnum};

/// Where the broker is, and who comes.
#[derive(Debug, Args)]
pub(crate) struct BrokerArgs {
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

    /// Protocol version: 5, 311 or 31, also as mqttv5, mqttv311, mqttv31. -D makes it 5.
    #[arg(short = 'V', long, value_name = "VERSION", default_value = "311")]
    pub(crate) protocol_version: Version,
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
