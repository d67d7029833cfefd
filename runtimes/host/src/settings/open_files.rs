//! How many connections the limit of open files allows.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit of open files to the hard one, which every process may do for itself: the soft one is
/// often 1,024 only because `select` counts no further. Returns the limit that holds then.
pub(super) fn raise() -> usize {
    let limit = getrlimit(Resource::Nofile);
    // If it fails, what was allowed before still is.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    allowed()
}

/// The limit of open files.
pub(super) fn allowed() -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

/// How many connections fit: nine tenths of the limit, less what the process needs for itself.
pub(super) fn connections(limit: usize) -> usize {
    let connections = (limit / 10).saturating_mul(9) + limit % 10 * 9 / 10;
    connections.saturating_sub(OWN_FILES).clamp(1, MOST)
}

/// Standard streams, listeners, polls, wakers, the reserve of the acceptor.
const OWN_FILES: usize = 32;

/// A limit that is practically none says nothing about how many connections a host can carry.
const MOST: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nine_tenths_less_the_own_files_are_connections() {
        for (limit, expected) in [
            (0, 1),
            (36, 1),
            (1_024, 889),
            (4_096, 3_654),
            (65_536, 58_950),
            (1_048_576, 943_686),
            (usize::MAX, 1 << 20),
        ] {
            assert_eq!(connections(limit), expected, "{limit}");
        }
    }

    #[test]
    fn raising_lifts_the_soft_limit_to_the_hard_one() {
        let hard = getrlimit(Resource::Nofile).maximum;
        assert_eq!(raise(), hard.map_or(usize::MAX, |hard| usize::try_from(hard).unwrap()));
        assert_eq!(allowed(), raise());
    }
}
