//! How long to wait for a child process: not by the clock alone, since a busy machine may not let it run.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Gives up on a child that sleeps for long, with all that it has started, and on one that is never done.
#[derive(Debug)]
pub(crate) struct Patience {
    process: u32,
    asleep_max: Duration,
    until: Instant,
    ticks: u64,
    /// When it last did something, or would have if it had been let.
    stirred: Instant,
}

impl Patience {
    pub(crate) fn new(process: u32, asleep_max: Duration, in_all: Duration) -> Self {
        let now = Instant::now();
        Self {
            process,
            asleep_max,
            until: now + in_all,
            ticks: 0,
            stirred: now,
        }
    }

    /// It has been heard of.
    pub(crate) fn renew(&mut self) {
        self.stirred = Instant::now();
    }

    /// Why to give it up, if it is to be.
    pub(crate) fn end(&mut self) -> Option<String> {
        let (ticks, wants_to_run) = pulse(self.process);
        if wants_to_run || ticks != self.ticks {
            self.renew();
        }
        self.ticks = ticks;
        let asleep = self.stirred.elapsed();
        if asleep > self.asleep_max {
            return Some(format!("has slept for {asleep:.0?}"));
        }
        (Instant::now() > self.until).then(|| "is never done".to_owned())
    }
}

/// The processor's time that a process and those below it have had, in ticks, and whether a thread of them waits for the
/// processor or for the disk. Nothing where the system does not say so.
fn pulse(process: u32) -> (u64, bool) {
    let (mut ticks, mut wants_to_run) = (0, false);
    let mut processes = vec![process];
    while let Some(process) = processes.pop() {
        let threads = fs::read_dir(format!("/proc/{process}/task"));
        let threads = threads.into_iter().flatten().flatten();
        for thread in threads.map(|entry| entry.path()) {
            let read = |name: &str| -> String {
                let path: PathBuf = thread.join(name);
                fs::read_to_string(path).unwrap_or_default()
            };
            let stat = read("stat");
            // The name before it may have anything in it.
            let words = stat.rsplit_once(')').map_or("", |(_, words)| words);
            let words: Vec<&str> = words.split_whitespace().collect();
            wants_to_run |= matches!(words.first(), Some(&("R" | "D")));
            let times = words.iter().skip(11).take(2);
            ticks += times
                .filter_map(|ticks| ticks.parse::<u64>().ok())
                .sum::<u64>();
            let children = read("children");
            let children = children.split_whitespace();
            processes.extend(children.filter_map(|child| child.parse::<u32>().ok()));
        }
    }
    (ticks, wants_to_run)
}
