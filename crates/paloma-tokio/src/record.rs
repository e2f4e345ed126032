//! The thread that carries a record of the core's inputs to its file. It never holds the broker up, and never fails it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use paloma_record::{HEADER, Settings, seal};

use crate::shared::{Counters, LARGE_BYTES_MIN, Shared};

/// How much of the end of a record a killed process loses.
const INTERVAL: Duration = Duration::from_millis(200);

/// Where a broker's inputs are recorded, for `paloma replay`.
///
/// A record begins with the broker and is bounded: when it is full it ends, with a warning, and the broker goes on. A file that is
/// there already is kept as `FILE.old`, in place of an older one, so that a broker that is started again after a crash does
/// not write over the record of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// The file.
    pub path: PathBuf,
    /// Its bytes at most.
    pub bytes_max: u64,
    /// Payloads, passwords and authentication data are recorded too, and the seed that client ids are made from.
    pub with_secrets: bool,
}

impl Record {
    /// The most bytes that a record has unless it is told otherwise: 256 MiB.
    pub const BYTES_MAX: u64 = 256 * 1024 * 1024;

    /// A record without secrets of the usual size.
    #[must_use]
    pub const fn new(path: PathBuf) -> Self {
        Self {
            path,
            bytes_max: Self::BYTES_MAX,
            with_secrets: false,
        }
    }

    pub(crate) fn settings(&self, transmit_bytes: usize) -> Settings {
        let mut settings = Settings::new(self.bytes_max, transmit_bytes, LARGE_BYTES_MIN);
        settings.with_secrets = self.with_secrets;
        settings
    }

    /// Makes the file, which holds what clients sent and so is its owner's alone.
    pub(crate) fn create(&self) -> io::Result<File> {
        let named = |error: io::Error| {
            let path = self.path.display();
            io::Error::new(error.kind(), format!("cannot record to {path}: {error}"))
        };
        match std::fs::rename(&self.path, older(&self.path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(named(error)),
            Ok(()) | Err(_) => {}
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&self.path).map_err(named)?;
        file.write_all(HEADER).map_err(named)?;
        Ok(file)
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

/// Starts the thread.
pub(crate) fn spawn(
    file: File,
    record: Record,
    shared: &Arc<Shared>,
) -> io::Result<JoinHandle<()>> {
    let weak = Arc::downgrade(shared);
    let thread = thread::Builder::new()
        .name("paloma-record".to_owned())
        .spawn(move || carry(file, &record, &weak))?;
    // A second one is never started.
    let _ = shared.record.thread.set(thread.thread().clone());
    Ok(thread)
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
