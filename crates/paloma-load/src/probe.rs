//! What the system says about processes: CPU time, memory, file limits and cores.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// CPU time that all living threads of a process have used.
///
/// Read per thread in nanoseconds where the kernel keeps them; otherwise the process's clock ticks of 10 ms.
///
/// # Errors
/// If the process is gone or hidden.
pub fn cpu_time(pid: u32) -> io::Result<Duration> {
    if let Ok(threads) = thread_nanoseconds(pid) {
        return Ok(Duration::from_nanos(threads));
    }
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The command's name may hold blanks and brackets; the fields that follow its last bracket do not.
    let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields);
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let mut next = || {
        fields
            .next()
            .and_then(|ticks| ticks.parse::<u64>().ok())
            .unwrap_or(0)
    };
    Ok(Duration::from_millis((next() + next()) * 10))
}

fn thread_nanoseconds(pid: u32) -> io::Result<u64> {
    let mut sum = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        sum += running_nanoseconds(&thread?.path());
    }
    if sum == 0 {
        Err(io::ErrorKind::Unsupported.into())
    } else {
        Ok(sum)
    }
}

/// What a thread has run; 0 if it has ended since it was listed, or nobody counts.
fn running_nanoseconds(thread: &Path) -> u64 {
    let text = fs::read_to_string(thread.join("schedstat")).unwrap_or_default();
    let first = text.split_ascii_whitespace().next();
    first.and_then(|ns| ns.parse().ok()).unwrap_or(0)
}

/// CPU time of a process's threads of this name.
///
/// # Errors
/// If the process is gone or hidden.
pub fn thread_cpu_time(pid: u32, name: &str) -> io::Result<Duration> {
    let mut sum = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = thread?.path();
        // A thread may end between the listing and the read.
        let Ok(found) = fs::read_to_string(path.join("comm")) else {
            continue;
        };
        if found.trim_end() == name {
            sum += running_nanoseconds(&path);
        }
    }
    Ok(Duration::from_nanos(sum))
}

/// Bytes that a process had the system write to disks.
///
/// # Errors
/// If the process is gone or hidden.
pub fn written_bytes(pid: u32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/io"))?;
    text.lines()
        .find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok())
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// CPU time this process has used.
#[must_use]
pub fn own_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanoseconds)
}

/// Time that the host kept all of this machine's cores together from running, since it was started; none where it does not say.
#[must_use]
pub fn stolen_time() -> Duration {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let all = text.lines().next().unwrap_or_default();
    // The name, then user, nice, system, idle, iowait, irq, softirq, steal, in ticks of 10 ms.
    let ticks = all.split_ascii_whitespace().nth(8);
    let ticks = ticks.and_then(|ticks| ticks.parse().ok());
    Duration::from_millis(10) * ticks.unwrap_or(0)
}

/// Bytes of memory a process holds: its proportional share where the kernel tells, its resident set otherwise.
///
/// # Errors
/// If the process is gone or hidden.
pub fn memory_bytes(pid: u32) -> io::Result<u64> {
    field_kib(&format!("/proc/{pid}/smaps_rollup"), "Pss:")
        .or_else(|_| field_kib(&format!("/proc/{pid}/status"), "VmRSS:"))
        .map(|kib| kib * 1024)
}

/// Bytes of memory a process has in use, its share of what others use too included.
///
/// # Errors
/// If the process is gone or hidden.
pub fn resident_bytes(pid: u32) -> io::Result<u64> {
    field_kib(&format!("/proc/{pid}/status"), "VmRSS:").map(|kib| kib * 1024)
}

/// The most it has had in use since it was started.
///
/// # Errors
/// If the process is gone or hidden.
pub fn resident_peak_bytes(pid: u32) -> io::Result<u64> {
    field_kib(&format!("/proc/{pid}/status"), "VmHWM:").map(|kib| kib * 1024)
}

fn field_kib(path: &str, name: &str) -> io::Result<u64> {
    let text = fs::read_to_string(path)?;
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_ascii_whitespace().next())
        .and_then(|number| number.parse().ok())
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Raises this process's limit of open files to at least `wanted` if the system allows it; children inherit it.
///
/// Returns the limit that holds afterwards.
#[expect(
    clippy::must_use_candidate,
    reason = "what matters is that it has been raised"
)]
pub fn raise_file_limit(wanted: u64) -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let current = limit.current.unwrap_or(u64::MAX);
    let maximum = limit.maximum.unwrap_or(u64::MAX);
    if current >= wanted {
        return current;
    }
    let beyond = Rlimit {
        current: Some(wanted),
        maximum: Some(maximum.max(wanted)),
    };
    let within = Rlimit {
        current: Some(maximum.min(wanted)),
        maximum: limit.maximum,
    };
    if setrlimit(Resource::Nofile, beyond).is_err() && setrlimit(Resource::Nofile, within).is_err()
    {
        return current;
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// The cores this thread may use, in order.
#[must_use]
pub fn cores() -> Vec<usize> {
    let set = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
    (0..CpuSet::MAX_CPU)
        .filter(|core| set.is_set(*core))
        .collect()
}

/// Binds this thread, and what it starts from here on, to `cores`. A failure is left out: it costs precision only.
pub fn bind_to(cores: &[usize]) {
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core);
    }
    let _unbound = sched_setaffinity(None, &set);
}

/// One line about processor and kernel, without names of the machine.
#[must_use]
pub fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, model)| model);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release: String = kernel
        .chars()
        .take_while(|c| c.is_ascii_digit() || *c == '.')
        .collect();
    let memory = field_kib("/proc/meminfo", "MemTotal:").unwrap_or(0);
    format!(
        "{model}, {} cores, {} GiB, Linux {release}",
        cores().len(),
        memory >> 20
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_has_cpu_time_and_memory() {
        let pid = std::process::id();
        assert!(cpu_time(pid).is_ok());
        assert!(own_cpu_time() > Duration::ZERO);
        assert!(memory_bytes(pid).is_ok_and(|bytes| bytes > 100_000));
    }

    #[test]
    fn file_limit_is_never_lowered() {
        let before = raise_file_limit(0);
        assert!(raise_file_limit(before) >= before);
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        assert!(cpu_time(u32::MAX).is_err());
        assert!(memory_bytes(u32::MAX).is_err());
    }
}
