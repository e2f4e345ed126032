//! How much memory there is: the control group's, or the machine's.

use std::fs;

/// What a broker without other instructions may use, in percent.
pub(crate) const DEFAULT_PERCENT: u64 = 75;

/// `percent` of the memory that this process may use; `u64::MAX`, which is unlimited, above 100 and where nobody knows.
pub(crate) fn share(percent: u64) -> u64 {
    if percent > 100 {
        return u64::MAX;
    }
    total().map_or(u64::MAX, |total| total / 100 * percent)
}

/// The least of what the control groups around this process and the machine have.
fn total() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let machine = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let limits = groups.lines().flat_map(limit_files);
    let limits = limits.filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok());
    limits.chain(machine_bytes(&machine)).min()
}

/// The files that may hold a limit for the group of one line of `/proc/self/cgroup`, the group's ancestors included. In a
/// container the group is often mounted as the root.
fn limit_files(line: &str) -> Vec<String> {
    let mut parts = line.splitn(3, ':');
    let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next())
    else {
        return Vec::new();
    };
    let (root, name) = match controllers {
        "" => ("/sys/fs/cgroup", "memory.max"),
        "memory" => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        _ => return Vec::new(),
    };
    let mut files = vec![format!("{root}/{name}")];
    for (end, _) in path.match_indices('/').skip(1) {
        files.extend(path.get(..end).map(|above| format!("{root}{above}/{name}")));
    }
    if path != "/" {
        files.push(format!("{root}{path}/{name}"));
    }
    files
}

/// `MemTotal` of `/proc/meminfo`.
fn machine_bytes(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_memory_is_read_in_kibibytes() {
        assert_eq!(
            machine_bytes("MemTotal:        2048 kB\nMemFree: 1 kB\n"),
            Some(2_097_152)
        );
        for broken in ["", "MemTotal: x kB", "MemTotal: 5", "MemFree: 1 kB"] {
            assert_eq!(machine_bytes(broken), None);
        }
    }

    #[test]
    fn a_groups_limit_is_looked_for_in_both_versions_and_in_all_above_it() {
        assert_eq!(
            limit_files("0::/a/b"),
            [
                "/sys/fs/cgroup/memory.max",
                "/sys/fs/cgroup/a/memory.max",
                "/sys/fs/cgroup/a/b/memory.max"
            ]
        );
        assert_eq!(
            limit_files("4:memory:/"),
            ["/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        );
        assert!(limit_files("3:cpu:/a").is_empty());
        assert!(limit_files("").is_empty());
    }

    #[test]
    fn unlimited_is_no_share() {
        assert_eq!(share(u64::MAX), u64::MAX);
        assert!(share(50) <= share(100));
    }
}
