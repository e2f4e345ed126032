//! The log: where it goes, how it looks, and how much of it there is.

use std::fmt;
use std::io;

use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::FmtContext;
#[cfg(feature = "json-logs")]
use tracing_subscriber::fmt::format::Json;
use tracing_subscriber::fmt::format::{DefaultFields, Format, FormatEvent, Writer};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogFormat, LogLevel};
use crate::lines::Lines;

/// Changes how much is logged.
pub(crate) struct Log {
    set: Box<dyn Fn(LevelFilter)>,
}

impl Log {
    /// Logs to stderr from here on; the lines are to be finished before the process ends.
    ///
    /// # Errors
    /// If the system gives no thread that writes.
    pub(crate) fn start(level: LogLevel, format: LogFormat) -> io::Result<(Self, Lines)> {
        let out = Lines::start(io::stderr(), |lost| {
            tracing::warn!(lost, "log lines are lost: whoever reads them is too slow");
        })?;
        let writer = out.clone();
        let printing = tracing_subscriber::fmt::layer()
            .with_writer(move || writer.clone())
            .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
            .event_format(Line::new(format)?);
        let (limit, handle) = reload::Layer::new(filter(level));
        tracing_subscriber::registry()
            .with(printing)
            .with(limit)
            .init();
        let log = Self {
            // It fails only when there is no log any more.
            set: Box::new(move |filter| drop(handle.reload(filter))),
        };
        Ok((log, out))
    }

    pub(crate) fn set_level(&self, level: LogLevel) {
        (self.set)(filter(level));
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").finish_non_exhaustive()
    }
}

/// How a line looks. One type for all, so that what is around it is there once.
enum Line {
    Text(Format),
    #[cfg(feature = "json-logs")]
    Json(Format<Json>),
}

impl Line {
    fn new(format: LogFormat) -> io::Result<Self> {
        match format {
            LogFormat::Text => Ok(Self::Text(Format::default())),
            #[cfg(feature = "json-logs")]
            LogFormat::Json => Ok(Self::Json(Format::default().json())),
            #[cfg(not(feature = "json-logs"))]
            LogFormat::Json => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

impl<S> FormatEvent<S, DefaultFields> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, DefaultFields>,
        writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        match self {
            Self::Text(format) => format.format_event(context, writer, event),
            #[cfg(feature = "json-logs")]
            Self::Json(format) => format.format_event(context, writer, event),
        }
    }
}

const fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}
