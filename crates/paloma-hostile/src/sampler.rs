//! Watches the broker's memory and CPU time from outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use paloma_load::probe;

/// Time between two looks.
const INTERVAL: Duration = Duration::from_millis(50);

/// What was seen since the last call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Most bytes of memory at one time.
    pub(crate) peak_bytes: u64,
    /// Cores kept busy: CPU time by elapsed time.
    pub(crate) cores: f64,
}

/// A thread that looks every now and then.
#[derive(Debug)]
pub(crate) struct Sampler {
    pid: u32,
    peak: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    since: Instant,
    cpu: Duration,
}

impl Sampler {
    /// Watches process `pid`.
    pub(crate) fn start(pid: u32) -> Self {
        let peak = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let (seen, stopped) = (Arc::clone(&peak), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if let Ok(bytes) = probe::memory_bytes(pid) {
                    seen.fetch_max(bytes, Ordering::Relaxed);
                }
                thread::sleep(INTERVAL);
            }
        });
        Self {
            pid,
            peak,
            stop,
            thread: Some(thread),
            since: Instant::now(),
            cpu: probe::cpu_time(pid).unwrap_or_default(),
        }
    }

    /// Bytes of memory at present; 0 if the process is gone.
    pub(crate) fn memory_bytes(&self) -> u64 {
        probe::memory_bytes(self.pid).unwrap_or(0)
    }

    /// What was seen since the last call.
    pub(crate) fn take(&mut self) -> Sample {
        let cpu = probe::cpu_time(self.pid).unwrap_or(self.cpu);
        let used = cpu.saturating_sub(self.cpu).as_secs_f64();
        let span = self.since.elapsed().as_secs_f64();
        self.cpu = cpu;
        self.since = Instant::now();
        let peak = self.peak.swap(0, Ordering::Relaxed);
        Sample {
            peak_bytes: peak.max(self.memory_bytes()),
            cores: used / span.max(1e-6),
        }
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
