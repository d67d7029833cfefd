//! A limit on the server's processor time, so that the server and not the client limits the throughput.

use std::fs;
use std::path::{Path, PathBuf};

use super::Failure;

/// The limit. Dropping it removes the limit.
#[derive(Debug)]
pub(crate) struct Quota {
    group: PathBuf,
    parent: PathBuf,
    pid: u32,
}

const PERIOD_US: u64 = 10_000;

impl Quota {
    /// Moves the process into a control group that may use `percent` of one processor.
    pub(crate) fn new(pid: u32, percent: u32) -> Result<Quota, Failure> {
        let quota = PERIOD_US * u64::from(percent) / 100;
        // Version 1 of the interface if it is mounted, otherwise version 2.
        let v1 = Path::new("/sys/fs/cgroup/cpu");
        let parent = if v1.is_dir() { v1 } else { Path::new("/sys/fs/cgroup") }.to_owned();
        let group = parent.join(format!("load-{pid}"));
        let explain =
            |error| format!("{}: {error}; --server-quota needs root and the cpu controller", group.display());
        fs::create_dir_all(&group).map_err(explain)?;
        let limits = if v1.is_dir() {
            vec![("cpu.cfs_period_us", PERIOD_US.to_string()), ("cpu.cfs_quota_us", quota.to_string())]
        } else {
            fs::write(parent.join("cgroup.subtree_control"), "+cpu").map_err(explain)?;
            vec![("cpu.max", format!("{quota} {PERIOD_US}"))]
        };
        for (file, value) in limits {
            fs::write(group.join(file), value).map_err(explain)?;
        }
        fs::write(group.join("cgroup.procs"), pid.to_string()).map_err(explain)?;
        Ok(Quota { group, parent, pid })
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        // If the server has ended, the group is empty already.
        let _ = fs::write(self.parent.join("cgroup.procs"), self.pid.to_string());
        let _ = fs::remove_dir(&self.group);
    }
}
