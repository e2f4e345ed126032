//! `paloma pub` and `paloma sub`.

mod connect;
pub(crate) mod format;
mod json;
pub(crate) mod property;
mod publish;
pub(crate) mod remote;
mod subscribe;

use std::fmt;
use std::io;
use std::process::ExitCode;

use paloma_client::codec::{EncodeError, PubAckReason, SubAckReason};
use paloma_client::topic::TopicError;
use paloma_client::{Client, ConnectionError, PublishError, RequestError, State, UrlError};

pub(crate) use self::publish::publish;
pub(crate) use self::subscribe::subscribe;

/// The time of `-W` is up, as mosquitto_sub has it.
const EXIT_TIMED_OUT: u8 = 27;

/// Why a command ended before its work was done.
#[derive(Debug)]
enum Failure {
    /// What was asked for contradicts itself.
    Usage(Usage),
    /// There is no connection (any more).
    Connection(ConnectionError),
    Publish(PublishError),
    Request(RequestError),
    /// No subscription was granted.
    AllRefused(SubAckReason),
    /// Something here cannot be read or written.
    Io(io::Error),
    /// `-W`.
    TimedOut,
}

/// Arguments that the parser takes and that still cannot be.
#[derive(Debug)]
pub(crate) enum Usage {
    Topic(String, TopicError),
    Filter(String, TopicError),
    NoId,
    PasswordWithoutUser,
    WillPropertiesWithoutWill,
    ExpiryTwice,
    Property(EncodeError),
    NotInVersion(&'static str),
    TooLarge,
    NoTopic,
    Url(UrlError),
    UrlEncoding,
    NoAuthorities,
    Tls(io::Error),
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic(topic, error) => write!(f, "invalid topic '{topic}': {error}"),
            Self::Filter(filter, error) => write!(f, "invalid topic filter '{filter}': {error}"),
            Self::NoId => f.write_str("-c needs a client id: -i or -I"),
            Self::PasswordWithoutUser => f.write_str("-P needs -u, or -V 5"),
            Self::WillPropertiesWithoutWill => f.write_str("-D will needs --will-topic"),
            Self::ExpiryTwice => {
                f.write_str("the session expiry interval is given by -x and by -D connect")
            }
            Self::Property(error) => write!(f, "a property cannot be sent: {error}"),
            Self::NotInVersion(what) => write!(f, "{what} needs -V 5"),
            Self::TooLarge => f.write_str("a message has less than 256 MiB"),
            Self::NoTopic => f.write_str("there is no topic, neither by -t nor in the URL of -L"),
            Self::Url(error) => write!(f, "-L: {error}"),
            Self::UrlEncoding => {
                f.write_str("-L: `%` is not followed by a byte in hexadecimal, or by no text")
            }
            Self::NoAuthorities => f.write_str("TLS needs --cafile: the authorities to trust"),
            Self::Tls(error) => error.fmt(f),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(usage) => usage.fmt(f),
            Self::Connection(error) => error.fmt(f),
            Self::Publish(error) => error.fmt(f),
            Self::Request(error) => error.fmt(f),
            Self::AllRefused(reason) => {
                write!(f, "the broker refused all subscriptions: {reason}")
            }
            Self::Io(error) => error.fmt(f),
            Self::TimedOut => f.write_str("timed out"),
        }
    }
}

impl Failure {
    /// The reason code if the broker refused the connection, as mosquitto's clients give it.
    fn exit_code(&self, is_v5: bool) -> u8 {
        match self {
            Self::Connection(ConnectionError::Refused { reason, .. }) => {
                if is_v5 {
                    reason.code()
                } else {
                    reason.v3_code().unwrap_or(1)
                }
            }
            Self::TimedOut => EXIT_TIMED_OUT,
            Self::Usage(_)
            | Self::Connection(_)
            | Self::Publish(_)
            | Self::Request(_)
            | Self::AllRefused(_)
            | Self::Io(_) => 1,
        }
    }

    /// Why the client of a command ended on its own.
    fn of_ended(client: &Client) -> Self {
        match client.state() {
            State::Ended(error) => Self::Connection(error),
            State::Connecting | State::Connected(_) | State::Waiting { .. } => {
                Self::Connection(ConnectionError::Closed)
            }
        }
    }
}

impl From<Usage> for Failure {
    fn from(usage: Usage) -> Self {
        Self::Usage(usage)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<ConnectionError> for Failure {
    fn from(error: ConnectionError) -> Self {
        Self::Connection(error)
    }
}

/// What a command prints about itself.
#[derive(Clone, Copy, Debug)]
struct Talk {
    is_debug: bool,
    is_quiet: bool,
}

impl Talk {
    /// Prints a line if -d was given.
    fn debug(self, text: fmt::Arguments<'_>) {
        if self.is_debug {
            eprintln!("{text}");
        }
    }

    /// Prints an error unless --quiet was given; wrong arguments are an exception.
    fn error(self, failure: &Failure) {
        if !self.is_quiet || matches!(failure, Failure::Usage(_)) {
            eprintln!("Error: {failure}");
        }
    }
}

/// Runs a command to its end on a runtime of its own.
fn run(talk: Talk, is_v5: bool, command: impl Future<Output = Result<(), Failure>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            talk.error(&Failure::Io(error));
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(command);
    // A thread may still wait for the standard input, which may never end.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            talk.error(&failure);
            ExitCode::from(failure.exit_code(is_v5))
        }
    }
}

/// How an acknowledgement looks in the output of -d.
fn acknowledged(reason: PubAckReason) -> String {
    format!("acknowledged: {reason} ({})", reason.code())
}
