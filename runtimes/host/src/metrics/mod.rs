//! Metrics: the counts of workers, and their text for Prometheus.
//!
//! Counting shares no memory between threads. A worker counts rare events in plain fields, from the records of its core
//! ([`LogAndCounters`]). Frequent events are counted by each session. A request for the metrics takes a snapshot of
//! each worker and adds them up, so a message costs nothing.
//!
//! A new metric gets a field in [`Counts`] and lines in `exposition`. A duration, such as the time from a ping to its
//! pong, is a [`Histogram`].

mod counts;
#[cfg(feature = "control")]
mod exposition;
mod histogram;
mod process;

use std::time::Duration;

use postern_core::worker::{Totals, WorkerTotals};
use postern_core::{Record, Recorder};

pub use counts::Counts;
#[cfg(feature = "control")]
pub(crate) use exposition::{CONTENT_TYPE, Process, Sends, encode};
pub use histogram::Histogram;
pub(crate) use process::Usage;

use crate::hooks::Hooks;
use crate::log::WorkerLog;

/// Passes the core's records of one worker to its log, to its counts and to the hooks.
#[derive(Debug)]
pub struct LogAndCounters {
    /// The worker's log.
    pub log: WorkerLog,
    counts: Counts,
    hooks: Hooks,
}

impl LogAndCounters {
    /// Starts with counts that are all zero. `hooks` gets the events of connections.
    pub fn new(log: WorkerLog, hooks: Hooks) -> LogAndCounters {
        LogAndCounters { log, counts: Counts::default(), hooks }
    }

    /// Counts clients that were refused because no file descriptor was left.
    pub fn turned_away(&mut self, count: u64) {
        self.counts.turned_away(count);
    }

    /// Returns the counts since the start.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }
}

impl Recorder for LogAndCounters {
    #[inline]
    fn record(&mut self, record: &Record<'_>) {
        self.counts.record(record);
        self.log.record(record);
        if matches!(record, Record::Established { .. } | Record::Closed { .. }) {
            self.hooks.record(record);
        }
    }

    #[inline]
    fn wants_messages(&self) -> bool {
        self.log.wants_messages()
    }

    #[inline]
    fn is_full(&self) -> bool {
        self.log.is_full()
    }
}

/// The metrics of one worker at one time.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    totals: Totals,
    counts: Counts,
    /// The counts of the clients of channels.
    channels: postern_channels::Counts,
    /// The fingerprints of its users, without duplicates, ascending.
    user_fingerprints: Vec<u32>,
    log_stall: LogStall,
    /// The processor time of its thread.
    cpu: Duration,
}

impl Snapshot {
    /// Takes a snapshot on the thread of the worker.
    pub(crate) fn new(worker: WorkerTotals, counts: Counts, channels: postern_channels::Counts) -> Snapshot {
        Snapshot {
            totals: worker.totals,
            counts,
            channels,
            user_fingerprints: worker.user_fingerprints,
            log_stall: LogStall { is_now: worker.is_log_stalled, lasted: worker.reads_paused_for },
            cpu: process::cpu_of_this_thread(),
        }
    }

    /// Adds up the snapshots of all workers, each given with its number.
    pub(crate) fn sum<'s>(snapshots: impl IntoIterator<Item = (usize, &'s Snapshot)>) -> Sum {
        let mut sum = Sum::default();
        let mut fingerprints: Vec<u32> = Vec::new();
        for (worker, snapshot) in snapshots {
            sum.workers.push(WorkerLoad {
                worker,
                connections: snapshot.totals.connections,
                messages: snapshot.counts.traffic.messages_received
                    + snapshot.totals.traffic.messages_received,
                cpu: snapshot.cpu,
            });
            sum.totals += snapshot.totals;
            sum.counts.add(&snapshot.counts);
            sum.channels += &snapshot.channels;
            fingerprints.extend(&snapshot.user_fingerprints);
            sum.log_stall.add(snapshot.log_stall);
        }
        fingerprints.sort_unstable();
        fingerprints.dedup();
        sum.users = fingerprints.len();
        sum
    }

    /// Returns the snapshot of a worker that has ended: its counts stay, and it has no connections.
    pub(crate) fn after_worker_end(mut self) -> Snapshot {
        self.counts.traffic += self.totals.traffic;
        self.totals = Totals::default();
        self.user_fingerprints.clear();
        self.log_stall.is_now = false;
        self
    }
}

/// The load of one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WorkerLoad {
    pub(crate) worker: usize,
    pub(crate) connections: usize,
    /// Messages received.
    pub(crate) messages: u64,
    pub(crate) cpu: Duration,
}

/// The metrics of all workers together, and the load of each.
#[derive(Debug, Default)]
pub(crate) struct Sum {
    pub(crate) workers: Vec<WorkerLoad>,
    pub(crate) totals: Totals,
    pub(crate) counts: Counts,
    pub(crate) channels: postern_channels::Counts,
    pub(crate) users: usize,
    pub(crate) log_stall: LogStall,
}

/// The time for which workers have not read from users because the log was stalled, with `POSTERN_LOG_STALL=pause`.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct LogStall {
    /// This has lasted for more than a second.
    pub(crate) is_now: bool,
    /// The time since the start. All workers share one log, so this is the longest time of any of them.
    pub(crate) lasted: Duration,
}

impl LogStall {
    fn add(&mut self, other: LogStall) {
        self.is_now |= other.is_now;
        self.lasted = self.lasted.max(other.lasted);
    }
}
