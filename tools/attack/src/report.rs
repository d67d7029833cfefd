//! The printed report: one line of JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use super::Failure;

/// The way in which the server ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    /// A refusal of the upgrade, with its status.
    Status(u16),
    /// A Close, with its code if it has one.
    Close(Option<u16>),
    /// The end of the TCP connection without a refusal or a Close.
    Dropped,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Status(number) | End::Close(Some(number)) => write!(f, "{number}"),
            End::Close(None) => f.write_str("Close"),
            End::Dropped => f.write_str("dropped"),
        }
    }
}

/// The result of an attack.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) attack: &'static str,
    pub(crate) connections: usize,
    /// Number of connections whose attack began.
    pub(crate) begun: u64,
    /// The time from the start until `connections` of them attacked at the same time, if that happened.
    pub(crate) complete_after: Option<Duration>,
    /// The time from the start to the end of standard input.
    pub(crate) lasted: Duration,
    /// Connections that the server had not ended, with the time since their attack began.
    pub(crate) open: Remaining,
    /// Connections that the server had refused or closed but not reset yet, with the time since then.
    pub(crate) closing: Remaining,
    pub(crate) sent_bytes: u64,
    pub(crate) received_bytes: u64,
    ends: BTreeMap<End, Histogram<u64>>,
}

/// Connections that remain at the end, and the longest of their times.
#[derive(Debug, Default)]
pub(crate) struct Remaining {
    count: usize,
    longest: Duration,
}

impl Remaining {
    pub(crate) fn add(&mut self, time: Duration) {
        self.count += 1;
        self.longest = self.longest.max(time);
    }

    fn json(&self) -> Value {
        json!({ "count": self.count, "longest": self.longest.as_secs_f64() })
    }
}

impl Report {
    pub(crate) fn new(attack: &'static str, connections: usize) -> Report {
        Report {
            attack,
            connections,
            begun: 0,
            complete_after: None,
            lasted: Duration::ZERO,
            open: Remaining::default(),
            closing: Remaining::default(),
            sent_bytes: 0,
            received_bytes: 0,
            ends: BTreeMap::new(),
        }
    }

    /// Counts a connection that the server ended, with the time that its attack had lasted.
    pub(crate) fn ended(&mut self, end: End, after: Duration) -> Result<(), Failure> {
        let times = match self.ends.entry(end) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            // Up to an hour, with three significant digits.
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(Histogram::new_with_max(3_600_000_000_000, 3)?)
            }
        };
        times.saturating_record(after.as_nanos() as u64);
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |nanos: u64| nanos as f64 / 1e9;
        let mut ends = Map::new();
        for (end, times) in &self.ends {
            let times = json!({
                "count": times.len(),
                "min": seconds(times.min()),
                "median": seconds(times.value_at_quantile(0.5)),
                "max": seconds(times.max()),
            });
            ends.insert(end.to_string(), times);
        }
        let report = json!({
            "attack": self.attack,
            "connections": self.connections,
            "begun": self.begun,
            "complete_after_seconds": self.complete_after.map(|time| time.as_secs_f64()),
            "lasted_seconds": self.lasted.as_secs_f64(),
            "open": self.open.json(),
            "closing": self.closing.json(),
            "sent_bytes": self.sent_bytes,
            "received_bytes": self.received_bytes,
            "ends": Value::Object(ends),
        });
        write!(f, "{report}")
    }
}
