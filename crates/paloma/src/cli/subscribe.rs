//! The options of `paloma sub`.

use clap::Args;

use super::client::ConnectArgs;
use crate::client::format::Format;

/// Subscribe to topics and print the messages.
///
/// The options are mosquitto_sub's.
///
/// Exit codes: 0 the work is done, or ended by SIGINT or SIGTERM; 27 the time of -W is up; the reason
/// code of the CONNACK if the broker refuses the connection (1 to 5 in 3.1.1, 128 and above in 5.0);
/// 1 for anything else, such as wrong arguments, no connection, or a broker that refuses all
/// subscriptions.
///
/// Formats (-F): %t topic, %p payload, %x %X payload in hexadecimal, %l its length, %q QoS, %r retain
/// flag, %m packet id, %j everything as JSON, %J the same with a payload that is JSON itself, %I date
/// and time, %U Unix time with nanoseconds; of 5.0: %C content type, %D correlation data, %E expiry
/// interval, %F payload format indicator, %P user properties, %R response topic, %S subscription
/// identifiers; %% a percent sign. Between % and the letter: - to align left, 0 to pad numbers with
/// zeros, a width, and after a dot a maximal width. @X stands for %X of strftime, @N for nanoseconds,
/// @@ for @. Escapes are \\ \0 \a \e \n \r \t \v. All times are in UTC.
#[derive(Debug, Args)]
#[command(disable_help_flag = true, disable_version_flag = true)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "one for each switch of the command line"
)]
pub(crate) struct SubscribeArgs {
    /// Topic filter to subscribe to; may be repeated, and be in the URL of -L.
    #[arg(short, long, value_name = "FILTER", allow_hyphen_values = true)]
    #[arg(required_unless_present_any = ["unsubscribe", "url"])]
    pub(crate) topic: Vec<String>,

    /// Topic filter to unsubscribe from, after the subscriptions; may be repeated.
    #[arg(short = 'U', long, value_name = "FILTER", allow_hyphen_values = true)]
    pub(crate) unsubscribe: Vec<String>,

    /// Do not print messages whose topic matches; may be repeated.
    #[arg(short = 'T', long, value_name = "FILTER", allow_hyphen_values = true)]
    pub(crate) filter_out: Vec<String>,

    /// QoS of the subscriptions.
    #[arg(short, long, value_name = "QOS", default_value_t = 0)]
    #[arg(value_parser = clap::value_parser!(u8).range(0..=2))]
    pub(crate) qos: u8,

    /// Exit after this many messages.
    #[arg(short = 'C', value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,

    /// Exit this long after connecting, with code 27.
    #[arg(short = 'W', value_name = "SECONDS")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) timeout: Option<u32>,

    /// Exit as soon as all subscriptions are acknowledged.
    #[arg(short = 'E')]
    pub(crate) exit_after_subscribing: bool,

    /// Print the topic before each payload.
    #[arg(short, long)]
    pub(crate) verbose: bool,

    /// Print messages in this format; wins over -v.
    #[arg(short = 'F', value_name = "FORMAT", allow_hyphen_values = true)]
    #[arg(value_parser = Format::parse)]
    pub(crate) format: Option<Format>,

    /// Print no newline after each message.
    #[arg(short = 'N')]
    pub(crate) no_newline: bool,

    /// Do not print messages with the retain flag.
    #[arg(short = 'R', conflicts_with = "retained_only")]
    pub(crate) no_retained: bool,

    /// Print only messages with the retain flag, and exit at the first without.
    #[arg(long)]
    pub(crate) retained_only: bool,

    /// Have the broker leave the retain flag as it was published (5.0).
    #[arg(long)]
    pub(crate) retain_as_published: bool,

    /// Clear each retained message that is received and not filtered out.
    #[arg(long)]
    pub(crate) remove_retained: bool,

    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}
