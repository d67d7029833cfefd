//! How much memory there is.

use std::fs;
use std::path::Path;

use rustix::process::{Resource, getrlimit};

/// What this process may use, in bytes: the host's memory, or the least limit that the process is under. Of the limits
/// of its address space and of its data it has used some by now.
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

/// What there is for the budget of the connections' buffers. The other half is for what is not counted: the kernel's
/// buffers of the sockets, the connections themselves, the log.
pub(crate) fn budget(available: usize) -> usize {
    available / 2
}

/// What there is for lines of the log that wait: no more than anybody needs, and no less than a few batches.
pub(crate) fn log_queue(available: usize) -> usize {
    (available / 32).clamp(64 * 1024, 8 * 1024 * 1024)
}

/// What a process uses of something, in bytes, by its `/proc/self/status` (proc_pid_status(5)).
fn used(status: &str, name: &str) -> usize {
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kibibytes = value.and_then(|value| value.trim().strip_suffix(" kB")?.parse::<usize>().ok());
    kibibytes.unwrap_or(0).saturating_mul(1024)
}

/// What a limit of addresses leaves of which so many are used. Unlike the others it counts what is reserved: half is for
/// the stacks of the threads to come, and for the holes between what is allocated.
fn left(limit: Option<u64>, used: usize) -> Option<usize> {
    Some(usize::try_from(limit?).unwrap_or(usize::MAX).saturating_sub(used) / 2)
}

/// What may wait for a peer before nothing is read from it: no more than a small part of what may be held at all.
pub(crate) fn pause_backlog(usual: usize, budget: usize) -> usize {
    usual.min((budget / 64).max(16 * 1024))
}

/// The host's memory.
fn total() -> usize {
    let info = rustix::system::sysinfo();
    let unit = usize::try_from(info.mem_unit).unwrap_or(1).max(1);
    usize::try_from(info.totalram).unwrap_or(usize::MAX).saturating_mul(unit)
}

/// The least limit of the groups that the process is in, and of those that these are in. `membership` is what
/// `/proc/self/cgroup` says; the groups are mounted at `mounts`. A container may see none but its own, at the root.
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
        // `max` is no number: there is no limit.
        groups.filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok()).collect()
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Groups with limits, as files below a directory of their own.
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
    fn the_least_limit_of_a_group_and_those_around_it_counts() {
        let files = [("a/b/memory.max", "300\n"), ("a/memory.max", "200\n"), ("memory.max", "max\n")];
        check("v2", "0::/a/b\n", &files, Some(200));
        check("v2-none", "0::/a\n", &[("a/memory.max", "max\n")], None);
        check("v2-container", "0::/elsewhere/x\n", &[("memory.max", "700\n")], Some(700));
    }

    #[test]
    fn version_1_is_read_too() {
        let files = [("memory/a/memory.limit_in_bytes", "400\n"), ("memory/memory.limit_in_bytes", "900\n")];
        check("v1", "9:name=systemd:/\n4:cpu,memory:/a\n0::/\n", &files, Some(400));
        check("v1-other", "3:cpuset:/a\n", &files, None);
    }

    #[test]
    fn a_limit_leaves_what_is_not_used_of_it() {
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
    fn what_is_available_is_shared_out() {
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
