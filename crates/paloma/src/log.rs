//! The log: where it goes, how it looks, and how much of it there is.

use std::fmt;
use std::io;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
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
        let lines = tracing_subscriber::fmt()
            .with_max_level(LevelFilter::TRACE)
            .with_writer(move || writer.clone());
        let log = match format {
            LogFormat::Text => {
                let (layer, handle) = reload::Layer::new(filter(level));
                let is_terminal = io::IsTerminal::is_terminal(&io::stderr());
                lines.with_ansi(is_terminal).finish().with(layer).init();
                Self::of(handle)
            }
            #[cfg(not(feature = "json-logs"))]
            LogFormat::Json => return Err(io::ErrorKind::Unsupported.into()),
            #[cfg(feature = "json-logs")]
            LogFormat::Json => {
                let (layer, handle) = reload::Layer::new(filter(level));
                lines.json().finish().with(layer).init();
                Self::of(handle)
            }
        };
        Ok((log, out))
    }

    fn of<S: 'static>(handle: reload::Handle<LevelFilter, S>) -> Self {
        Self {
            // It fails only when there is no log any more.
            set: Box::new(move |filter| drop(handle.reload(filter))),
        }
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
