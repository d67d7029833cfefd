//! Memory: how much this process may use, and how it is divided.

use std::fs;
use std::path::Path;

use rustix::process::{Resource, getrlimit};

/// Returns the bytes that this process may use: the host's memory or the lowest limit of the process. The limits of
/// its address space and data are reduced by what it already uses.
pub(crate) fn available() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let limits = [
        Some(total()),
        of_cgroups(&fs::read_to_string("/proc/self/cgroup").unwrap_or_default(), Path::new("/sys/fs/cgroup")),
        left(getrlimit(Resource::As).current, used(&status, "VmSize")),
        left(getrlimit(Resource::Data).current, used(&status, "VmData")),
    ];
    limits.into_iter().flatten().min().unwrap_or(usize::MAX)
}

/// Returns the budget for buffers of connections. The other half is for memory that is not counted: socket buffers of
/// the kernel, the connections themselves, the log.
pub(crate) fn budget(available: usize) -> usize {
    available / 2
}

/// Returns the size of the queue of the log: at most 8 MiB, and at least a few batches.
pub(crate) fn log_queue(available: usize) -> usize {
    (available / 32).clamp(64 * 1024, 8 * 1024 * 1024)
}

/// Returns a value in bytes from `/proc/self/status` (proc_pid_status(5)).
fn used(status: &str, name: &str) -> usize {
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kibibytes = value.and_then(|value| value.trim().strip_suffix(" kB")?.parse::<usize>().ok());
    kibibytes.unwrap_or(0).saturating_mul(1024)
}

/// Returns half of what a limit of addresses leaves when `used` are mapped. This limit counts reserved addresses, so
/// the other half is for stacks of future threads and for fragmentation.
fn left(limit: Option<u64>, used: usize) -> Option<usize> {
    Some(usize::try_from(limit?).unwrap_or(usize::MAX).saturating_sub(used) / 2)
}

/// Returns the pending output at which reading from a peer pauses: at most a small part of the budget.
pub(crate) fn pause_backlog(usual: usize, budget: usize) -> usize {
    usual.min((budget / 64).max(16 * 1024))
}

/// Returns the host's memory.
fn total() -> usize {
    let info = rustix::system::sysinfo();
    let unit = usize::try_from(info.mem_unit).unwrap_or(1).max(1);
    usize::try_from(info.totalram).unwrap_or(usize::MAX).saturating_mul(unit)
}

/// Returns the lowest limit of the cgroups of the process and of their parents. `membership` is the content of
/// `/proc/self/cgroup`; the groups are mounted at `mounts`. A container may see only its own group, at the root.
fn of_cgroups(membership: &str, mounts: &Path) -> Option<usize> {
    let limits = membership.lines().flat_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (root, file) = match fields.next() {
            // Version 2: one hierarchy of all controllers.
            Some("") => (mounts.to_owned(), "memory.max"),
            Some(controllers) if controllers.split(',').any(|controller| controller == "memory") => {
                (mounts.join("memory"), "memory.limit_in_bytes")
            }
            Some(_) | None => return Vec::new(),
        };
        let path = Path::new(fields.next().unwrap_or_default().trim_start_matches('/'));
        let groups = path.ancestors().map(|group| root.join(group).join(file));
        // `max` does not parse: the group has no limit.
        groups.filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok()).collect()
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Creates cgroups with limits as files in a temporary directory.
    fn groups(name: &str, files: &[(&str, &str)]) -> std::path::PathBuf {
        let root = std::env::temp_dir().join(format!("postern-cgroups-{}-{name}", std::process::id()));
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[track_caller]
    fn check(name: &str, membership: &str, files: &[(&str, &str)], expected: Option<usize>) {
        let root = groups(name, files);
        assert_eq!(of_cgroups(membership, &root), expected);
        let _ = fs::remove_dir_all(root);
    }

    #[test]
    fn the_lowest_limit_of_a_group_and_its_parents_applies() {
        let files = [("a/b/memory.max", "300\n"), ("a/memory.max", "200\n"), ("memory.max", "max\n")];
        check("v2", "0::/a/b\n", &files, Some(200));
        check("v2-none", "0::/a\n", &[("a/memory.max", "max\n")], None);
        check("v2-container", "0::/elsewhere/x\n", &[("memory.max", "700\n")], Some(700));
    }

    #[test]
    fn cgroups_of_version_1_are_read() {
        let files = [("memory/a/memory.limit_in_bytes", "400\n"), ("memory/memory.limit_in_bytes", "900\n")];
        check("v1", "9:name=systemd:/\n4:cpu,memory:/a\n0::/\n", &files, Some(400));
        check("v1-other", "3:cpuset:/a\n", &files, None);
    }

    #[test]
    fn half_of_the_unused_addresses_are_available() {
        let status =
            "VmPeak:\t    9000 kB\nVmSize:\t    8000 kB\nVmData:\t     300 kB\nVmStk:\t     132 kB\n";
        let data = used(status, "VmData");
        assert_eq!((data, used(status, "VmSize")), (300 << 10, 8000 << 10));
        assert_eq!(left(Some(12 << 20), data), Some((6 << 20) - (150 << 10)));
        assert_eq!(left(Some(4096), data), Some(0));
        assert_eq!(left(None, data), None);
        assert_eq!(left(Some(u64::MAX), 3), Some((usize::MAX - 3) / 2));
        assert_eq!(used(status, "Vm"), 0);
        let own = fs::read_to_string("/proc/self/status").unwrap();
        assert!(used(&own, "VmData") > 0 && used(&own, "VmSize") > used(&own, "VmData"));
    }

    #[test]
    fn the_available_memory_is_divided() {
        let available = available();
        assert!(available > 1024 * 1024 && available <= total(), "{available} of {}", total());
        assert_eq!(budget(16 << 20), 8 << 20);
        for (usual, budget, pause) in [
            (256 << 10, 1 << 30, 256 << 10),
            (256 << 10, 6 << 20, 96 << 10),
            (256 << 10, 1, 16 << 10),
            (256, 1, 256),
        ] {
            assert_eq!(pause_backlog(usual, budget), pause);
        }
        for (available, queue) in [(1 << 20, 64 << 10), (16 << 20, 512 << 10), (usize::MAX, 8 << 20)] {
            assert_eq!(log_queue(available), queue);
        }
    }
}
