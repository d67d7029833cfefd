//! Metrics: what workers count, and how Prometheus reads it.
//!
//! Nothing here is shared while it is counted. A worker counts in plain fields, what happens rarely from the records of
//! its core ([`LogAndCounters`]), and what happens often is counted by each session for itself; whoever asks for the metrics
//! has each worker make a snapshot and adds them up. So a message costs nothing for them.
//!
//! A metric that is new gets its field in [`Counts`] and its lines in `exposition`; one that is a time, such as that from
//! a ping to its pong, a [`Histogram`].

mod counts;
#[cfg(feature = "control")]
mod exposition;
mod histogram;
mod process;

use std::time::{Duration, Instant};

use postern_core::worker::Totals;
use postern_core::{Record, Recorder, Worker};

pub use counts::Counts;
#[cfg(feature = "control")]
pub(crate) use exposition::{CONTENT_TYPE, Process, Sends, encode};
pub use histogram::Histogram;
pub(crate) use process::Usage;

use crate::log::WorkerLog;

/// Where the core's records go at a worker: to its log, and into its counts.
#[derive(Debug)]
pub struct LogAndCounters {
    /// The worker's log.
    pub log: WorkerLog,
    counts: Counts,
}

impl LogAndCounters {
    /// A log, and counts that are all zero.
    pub fn new(log: WorkerLog) -> LogAndCounters {
        LogAndCounters { log, counts: Counts::default() }
    }

    /// Counts clients for which there was no descriptor.
    pub fn turned_away(&mut self, count: u64) {
        self.counts.turned_away(count);
    }

    /// What has been counted.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }
}

impl Recorder for LogAndCounters {
    #[inline]
    fn record(&mut self, record: &Record<'_>) {
        self.counts.record(record);
        self.log.record(record);
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

/// What one worker says when it is asked for its metrics.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    totals: Totals,
    counts: Counts,
    /// What stands for its users, once each, ascending.
    user_fingerprints: Vec<u32>,
    log_stall: LogStall,
    /// What its thread has used of a processor.
    cpu: Duration,
}

impl Snapshot {
    /// Takes one, on the thread of the worker.
    pub(crate) fn take(worker: &Worker, counts: Counts, now: Instant) -> Snapshot {
        let log_stall = LogStall { is_now: worker.is_log_stalled(), lasted: worker.reads_paused_for(now) };
        let cpu = process::cpu_of_this_thread();
        Snapshot {
            totals: worker.totals(),
            counts,
            user_fingerprints: worker.user_fingerprints(),
            log_stall,
            cpu,
        }
    }

    /// The sums over all workers, each of which comes with its number.
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
            fingerprints.extend(&snapshot.user_fingerprints);
            sum.log_stall.add(snapshot.log_stall);
        }
        fingerprints.sort_unstable();
        fingerprints.dedup();
        sum.users = fingerprints.len();
        sum
    }

    /// The same of a worker that has ended: what it has counted stays, but nobody is there any more.
    pub(crate) fn after_worker_end(mut self) -> Snapshot {
        self.counts.traffic += self.totals.traffic;
        self.totals = Totals::default();
        self.user_fingerprints.clear();
        self.log_stall.is_now = false;
        self
    }
}

/// What one worker has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WorkerLoad {
    pub(crate) worker: usize,
    pub(crate) connections: usize,
    /// Messages that it has received.
    pub(crate) messages: u64,
    pub(crate) cpu: Duration,
}

/// What all workers say together, and each for itself.
#[derive(Debug, Default)]
pub(crate) struct Sum {
    pub(crate) workers: Vec<WorkerLoad>,
    pub(crate) totals: Totals,
    pub(crate) counts: Counts,
    pub(crate) users: usize,
    pub(crate) log_stall: LogStall,
}

/// How the log keeps users from being read, with `POSTERN_LOG_STALL=pause`.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct LogStall {
    /// It has done so for more than a second.
    pub(crate) is_now: bool,
    /// How long it has done so since the start. All workers share one log, so this is the longest time of any of them.
    pub(crate) lasted: Duration,
}

impl LogStall {
    fn add(&mut self, other: LogStall) {
        self.is_now |= other.is_now;
        self.lasted = self.lasted.max(other.lasted);
    }
}
