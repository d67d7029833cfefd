//! How much memory there is.

use std::fs;
use std::path::Path;

use rustix::process::{Resource, getrlimit};

/// Half of what this process may use, in bytes: of the host's memory, or of the least limit that the process is under.
/// The other half is for what is not counted: the kernel's buffers of the sockets, the connections themselves, the log.
pub(super) fn half() -> usize {
    let limits = [
        Some(total()),
        of_cgroups(&fs::read_to_string("/proc/self/cgroup").unwrap_or_default(), Path::new("/sys/fs/cgroup")),
        getrlimit(Resource::As).current.and_then(|limit| usize::try_from(limit).ok()),
    ];
    limits.into_iter().flatten().min().unwrap_or(usize::MAX) / 2
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
    fn half_is_less_than_there_is() {
        let half = half();
        assert!(half > 1024 * 1024 && half <= total() / 2, "{half} of {}", total());
    }
}
