//! The division of the file descriptors of the process.

use std::io;

use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::listen::RESERVED_FDS;

/// The parts of the limit of open files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shares {
    /// Sockets of clients, including those that were refused and are about to be closed.
    pub(crate) sockets: usize,
    /// Connections that are admitted or may be: nine tenths of the sockets.
    pub(crate) connections: usize,
    /// Handshakes in progress: half of these connections.
    pub(crate) handshakes: usize,
    /// Connections of the control port.
    pub(crate) control: usize,
}

impl Shares {
    /// Divides `limit` descriptors in a process with `workers` event loops.
    pub(crate) fn of(limit: usize, workers: usize) -> Shares {
        let control = (limit / 16).clamp(LEAST_CONTROL, MOST_CONTROL);
        let own = OWN_FILES + RESERVED_FDS + control + workers.saturating_mul(FILES_OF_A_WORKER);
        let sockets = limit.saturating_sub(own).clamp(2, MOST);
        let connections = (sockets - sockets.div_ceil(10)).max(1);
        Shares { sockets, connections, handshakes: connections.div_ceil(2), control }
    }
}

/// Raises the soft limit of open files to the hard limit, which needs no privilege, and returns it. The soft limit is
/// often 1,024 only because `select` supports no more.
pub(crate) fn raise() -> usize {
    let limit = getrlimit(Resource::Nofile);
    // If it fails, the previous limit stays.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    allowed()
}

/// Returns the limit of open files.
pub(crate) fn allowed() -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

/// Has the kernel allocate its table for the descriptors of a process with this many connections, at most `limit`.
/// Call this before there is a second thread.
///
/// The kernel doubles its table of the descriptors whenever it is full. In a process with several threads it then waits
/// until no processor uses the old table: some 10 ms, in which a thread that accepts does nothing else.
pub(crate) fn reserve_table(connections: usize, limit: usize) {
    let wanted = connections.saturating_add(connections / 8).saturating_add(4 * OWN_FILES);
    let last = i32::try_from(wanted.min(limit).min(MOST_RESERVED).saturating_sub(1));
    // A descriptor of this number, which is closed again at once. Without it the table grows later.
    let _ = last.map_err(io::Error::other).and_then(|last| Ok(fcntl_dupfd_cloexec(io::stdin(), last)?));
}

/// The most descriptors in a reserved table, which takes 8 bytes of the kernel's memory for each.
const MOST_RESERVED: usize = 1 << 16;

/// Standard streams, listeners, the polls and wakers of the acceptor and of the control port, the pipes of signals
/// and of a successor, a file of keys or a request for keys: two dozen. The rest is for accepted connections that
/// have not reached their worker.
const OWN_FILES: usize = 64;

/// A poll and a waker.
const FILES_OF_A_WORKER: usize = 2;

/// The least and the most connections of the control port: scrapers, probes of a supervisor, and operators.
const LEAST_CONTROL: usize = 4;
const MOST_CONTROL: usize = 64;

/// The most sockets. A practically infinite limit does not show how many connections a host can carry.
const MOST: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_divided_between_the_process_and_clients() {
        for (limit, workers, sockets, connections, handshakes, control) in [
            (0, 1, 2, 1, 1, 4),
            (64, 1, 2, 1, 1, 4),
            (100, 1, 20, 18, 9, 6),
            (256, 2, 164, 147, 74, 16),
            (1_024, 2, 884, 795, 398, 64),
            (20_000, 2, 19_860, 17_874, 8_937, 64),
            (65_536, 16, 65_368, 58_831, 29_416, 64),
            (usize::MAX, 64, 1 << 20, 943_718, 471_859, 64),
        ] {
            let shares = Shares { sockets, connections, handshakes, control };
            assert_eq!(Shares::of(limit, workers), shares, "{limit} with {workers} workers");
        }
    }

    #[test]
    fn the_table_of_the_kernel_is_as_large_as_was_reserved() {
        let size = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let size = status.lines().find_map(|line| line.strip_prefix("FDSize:")).unwrap();
            size.trim().parse::<usize>().unwrap()
        };
        reserve_table(0, 1);
        let before = size();
        reserve_table(2 * before, usize::MAX);
        assert!(size() > 2 * before, "{before} and then {}", size());
    }

    #[test]
    fn raising_lifts_the_soft_limit_to_the_hard_one() {
        let hard = getrlimit(Resource::Nofile).maximum;
        assert_eq!(raise(), hard.map_or(usize::MAX, |hard| usize::try_from(hard).unwrap()));
        assert_eq!(allowed(), raise());
    }
}
