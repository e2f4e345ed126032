//! The thread that carries a record of the core's inputs to its file. It never holds the broker up, and never fails it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

pub(crate) use paloma_record::Tap;
use paloma_record::{HEADER, Settings, seal};

use crate::counters::Counters;
use crate::record_config::Record;
use crate::shared::{LARGE_BYTES_MIN, Shared};

/// How much of the end of a record a killed process loses.
const INTERVAL: Duration = Duration::from_millis(200);

/// A record whose file has been made.
#[derive(Debug)]
pub(crate) struct Recording {
    record: Record,
    file: File,
}

impl Recording {
    /// Makes the file, which holds what clients sent and so is its owner's alone.
    pub(crate) fn create(record: Record) -> io::Result<Self> {
        let path = &record.path;
        let named = |error: io::Error| {
            let path = path.display();
            io::Error::new(error.kind(), format!("cannot record to {path}: {error}"))
        };
        match std::fs::rename(path, older(path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(named(error)),
            Ok(()) | Err(_) => {}
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path).map_err(named)?;
        file.write_all(HEADER).map_err(named)?;
        Ok(Self { record, file })
    }

    pub(crate) fn settings(&self, transmit_bytes: usize) -> Settings {
        let record = &self.record;
        let mut settings = Settings::new(record.bytes_max, transmit_bytes, LARGE_BYTES_MIN);
        settings.with_secrets = record.with_secrets;
        settings
    }

    /// Starts the thread.
    pub(crate) fn spawn(self, shared: &Arc<Shared>) -> io::Result<JoinHandle<()>> {
        let weak = Arc::downgrade(shared);
        let thread = thread::Builder::new()
            .name("paloma-record".to_owned())
            .spawn(move || carry(self.file, &self.record, &weak))?;
        // A second one is never started.
        let _ = shared.record.thread.set(thread.thread().clone());
        Ok(thread)
    }
}

fn older(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".old");
    name.into()
}

/// The way to the thread, if there is one.
#[derive(Debug, Default)]
pub(crate) struct RecordThread {
    thread: OnceLock<Thread>,
    is_closed: AtomicBool,
}

impl RecordThread {
    /// There is enough to be worth a write.
    pub(crate) fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Lets the thread end once it has written what is there.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.wake();
    }
}

fn carry(mut file: File, record: &Record, shared: &Weak<Shared>) {
    let mut part = Vec::new();
    loop {
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let is_last = shared.record.is_closed.load(Ordering::Acquire);
        let ended = shared.look(|core, _| core.broker.take_record(&mut part));
        let path = record.path.display();
        if !part.is_empty()
            && let Err(error) = file.write_all(&seal(&part))
        {
            shared.look(|core, _| core.broker.end_record());
            Counters::count(&shared.counters.records_ended);
            return tracing::warn!(%path, %error, "the record ends: it cannot be written");
        }
        if let Some(cause) = ended {
            Counters::count(&shared.counters.records_ended);
            return tracing::warn!(%path, %cause, "the record ends; the broker goes on");
        }
        if is_last {
            return;
        }
        drop(shared);
        thread::park_timeout(INTERVAL);
    }
}
