//! Processor time of a process, from `/proc`.

use std::fs;

use super::Failure;

/// Processor time of all threads so far, in nanoseconds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cpu {
    pub(crate) total: u64,
    /// The part in user space, which the kernel counts in ticks only.
    pub(crate) user_share: Ticks,
}

/// User and system time in the kernel's ticks.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ticks {
    user: u64,
    system: u64,
}

impl Cpu {
    pub(crate) fn of(pid: u32) -> Result<Cpu, Failure> {
        let mut total = 0;
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            // A thread may end after the folder was read.
            let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
            total += text.split(' ').next().unwrap_or_default().parse::<u64>()?;
        }
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name is in parentheses and may contain any character. Field 3 follows the last parenthesis.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |n: usize| fields.get(n - 3).and_then(|field| field.parse().ok()).unwrap_or(0);
        Ok(Cpu { total, user_share: Ticks { user: ticks(14), system: ticks(15) } })
    }

    /// Returns the processor time since an earlier value: the total, and the part in user space.
    pub(crate) fn since(self, earlier: Cpu) -> (u64, u64) {
        let total = self.total - earlier.total;
        let user = self.user_share.user - earlier.user_share.user;
        let system = self.user_share.system - earlier.user_share.system;
        (total, (u128::from(total) * u128::from(user) / u128::from((user + system).max(1))) as u64)
    }
}
