//! How the descriptors that the process may have are shared out.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::listen::RESERVED_FDS;

/// What the limit of open files allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shares {
    /// Sockets of clients, including those that were refused and are about to be closed.
    pub(crate) sockets: usize,
    /// Connections that are admitted or may be: nine tenths of the sockets.
    pub(crate) connections: usize,
    /// Of these, connections whose request heads are arriving: a half.
    pub(crate) handshakes: usize,
    /// Connections of the control port.
    pub(crate) control: usize,
}

impl Shares {
    /// Shares `limit` descriptors out in a process with `workers` event loops.
    pub(crate) fn of(limit: usize, workers: usize) -> Shares {
        let control = (limit / 16).clamp(LEAST_CONTROL, MOST_CONTROL);
        let own = OWN_FILES + RESERVED_FDS + control + workers.saturating_mul(FILES_OF_A_WORKER);
        let sockets = limit.saturating_sub(own).clamp(2, MOST);
        let connections = (sockets - sockets.div_ceil(10)).max(1);
        Shares { sockets, connections, handshakes: connections.div_ceil(2), control }
    }
}

/// Raises the soft limit of open files to the hard one, which every process may do for itself: the soft one is
/// often 1,024 only because `select` counts no further. Returns the limit that holds then.
pub(crate) fn raise() -> usize {
    let limit = getrlimit(Resource::Nofile);
    // If it fails, what was allowed before still is.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    allowed()
}

/// The limit of open files.
pub(crate) fn allowed() -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

/// Standard streams, listeners, the polls and wakers of the acceptor and of the control port, the pipes of signals and of
/// a successor, a file of keys or a request for them: two dozen. The rest is for connections that were accepted and have
/// not reached their worker.
const OWN_FILES: usize = 64;

/// A poll and a waker.
const FILES_OF_A_WORKER: usize = 2;

/// Connections of the control port, where descriptors are scarce and where they are not: a scraper or two, the probes of
/// a supervisor, and a person who looks.
const LEAST_CONTROL: usize = 4;
const MOST_CONTROL: usize = 64;

/// A limit that is practically infinite says nothing about how many connections a host can carry.
const MOST: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_keeps_what_it_needs_and_clients_share_the_rest() {
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
    fn raising_lifts_the_soft_limit_to_the_hard_one() {
        let hard = getrlimit(Resource::Nofile).maximum;
        assert_eq!(raise(), hard.map_or(usize::MAX, |hard| usize::try_from(hard).unwrap()));
        assert_eq!(allowed(), raise());
    }
}
