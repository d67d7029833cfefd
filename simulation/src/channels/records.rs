//! The records of all workers: each connection has one of its beginning and one of its end, and each publication one.

use std::collections::BTreeSet;

use postern_core::{ConnectionId, Record, Recorder};

/// Counts records.
#[derive(Debug, Default)]
pub(crate) struct Records {
    live: BTreeSet<ConnectionId>,
    /// The number of publications by clients.
    pub(crate) publications: usize,
    /// The first fault.
    pub(crate) fault: Option<&'static str>,
}

impl Records {
    /// Whether all connections have ended.
    pub(crate) fn are_complete(&self) -> bool {
        self.live.is_empty()
    }

    /// Forgets the connections of a process that was killed.
    pub(crate) fn forget(&mut self) {
        self.live.clear();
    }

    fn check(&mut self, holds: bool, what: &'static str) {
        if !holds {
            self.fault.get_or_insert(what);
        }
    }
}

impl Recorder for Records {
    fn record(&mut self, record: &Record<'_>) {
        match record {
            Record::Established { connection, .. } => {
                let is_new = self.live.insert(*connection);
                self.check(is_new, "a connection is established twice");
            }
            Record::Closed { connection, .. } => {
                let was_live = self.live.remove(connection);
                self.check(was_live, "a connection ends that was not established");
            }
            Record::Publication { .. } => self.publications += 1,
            Record::Message { .. } => self.check(false, "a message is recorded that is not an echo"),
            Record::Pong { .. }
            | Record::RateExceeded { .. }
            | Record::RateKept { .. }
            | Record::CredentialsEnded { .. }
            | Record::TokenRefreshed { .. }
            | Record::RefreshRefused { .. }
            | Record::Rejected { .. }
            | Record::Abandoned { .. } => {}
        }
    }

    fn is_full(&self) -> bool {
        false
    }
}
