//! The kernel's figures for this process, read for each request for metrics.

use std::fs;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// The resources in use by the process. A figure that the kernel does not provide is `None`.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(crate) struct Usage {
    /// Processor time of all threads, in user and kernel mode.
    pub(crate) cpu: Duration,
    /// Resident memory in bytes.
    pub(crate) resident: Option<u64>,
    /// Virtual memory in bytes.
    pub(crate) reserved: Option<u64>,
    /// The number of threads.
    pub(crate) threads: Option<u64>,
    /// Open file descriptors.
    pub(crate) open_files: Option<u64>,
    /// The soft limit of open file descriptors.
    pub(crate) max_files: Option<u64>,
}

impl Usage {
    /// Reads the current figures.
    pub(crate) fn now() -> Usage {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Usage {
            cpu: cpu_of(ClockId::ProcessCPUTime),
            resident: kibibytes(&status, "VmRSS"),
            reserved: kibibytes(&status, "VmSize"),
            threads: field(&status, "Threads").and_then(|value| value.parse().ok()),
            open_files: open_files(),
            max_files: getrlimit(Resource::Nofile).current,
        }
    }
}

/// Returns the processor time of the calling thread.
pub(crate) fn cpu_of_this_thread() -> Duration {
    cpu_of(ClockId::ThreadCPUTime)
}

fn cpu_of(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    let (seconds, nanoseconds) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or_default(), nanoseconds.unwrap_or_default())
}

/// Returns the number of open descriptors. Linux 6.2 and later report it as the size of the directory. Older versions
/// report 0, so the entries are counted.
fn open_files() -> Option<u64> {
    const FILES: &str = "/proc/self/fd";
    match fs::metadata(FILES).ok()?.len() {
        // One of them is the descriptor of the listing itself.
        0 => Some(u64::try_from(fs::read_dir(FILES).ok()?.count()).ok()?.saturating_sub(1)),
        count => Some(count),
    }
}

/// Returns a field of `/proc/self/status` (proc_pid_status(5)).
fn field<'t>(status: &'t str, name: &str) -> Option<&'t str> {
    status.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
}

fn kibibytes(status: &str, name: &str) -> Option<u64> {
    field(status, name)?.strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_of_this_process_is_plausible() {
        let file = fs::File::open("/proc/self/status").unwrap();
        let usage = Usage::now();
        let is_some = |value: Option<u64>, least| value.is_some_and(|value| value >= least);
        assert!(usage.cpu > Duration::ZERO && is_some(usage.resident, 1 << 16), "{usage:?}");
        assert!(is_some(usage.reserved, usage.resident.unwrap()), "{usage:?}");
        assert!(is_some(usage.threads, 2) && is_some(usage.open_files, 4), "{usage:?}");
        assert!(is_some(usage.max_files, usage.open_files.unwrap()), "{usage:?}");
        drop(file);
    }

    #[test]
    fn a_thread_has_its_own_processor_time() {
        let before = cpu_of_this_thread();
        while cpu_of_this_thread() == before {}
        let other = std::thread::spawn(cpu_of_this_thread).join().unwrap();
        assert!(other < cpu_of_this_thread() + before);
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let status = "Name:\tpostern\nVmPeak:\t    9000 kB\nVmRSS:\t     300 kB\nThreads:\t3\n";
        assert_eq!((kibibytes(status, "VmRSS"), field(status, "Threads")), (Some(300 << 10), Some("3")));
        assert_eq!((kibibytes(status, "Vm"), kibibytes(status, "Name")), (None, None));
    }
}
