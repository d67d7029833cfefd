//! The one line that is printed.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use super::Failure;

/// How the server ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    /// It refused the upgrade.
    Status(u16),
    /// It sent a Close, with this code if with one.
    Close(Option<u16>),
    /// Without a word.
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

/// What became of an attack.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) attack: &'static str,
    pub(crate) connections: usize,
    /// Attacks that began, those of connections that came back as well.
    pub(crate) begun: u64,
    /// From the start until so many were attacking at a time, if they ever were.
    pub(crate) complete_after: Option<Duration>,
    /// From the start to the end of the standard input.
    pub(crate) lasted: Duration,
    /// Connections that the server had not ended at the end, since their attack began.
    pub(crate) open: Left,
    /// Those that were told of the end and still there, since they were told.
    pub(crate) told: Left,
    pub(crate) sent_bytes: u64,
    pub(crate) received_bytes: u64,
    ends: BTreeMap<End, Histogram<u64>>,
}

/// Connections that are left, and for how long the first of them has been there.
#[derive(Debug, Default)]
pub(crate) struct Left {
    count: usize,
    longest: Duration,
}

impl Left {
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
            open: Left::default(),
            told: Left::default(),
            sent_bytes: 0,
            received_bytes: 0,
            ends: BTreeMap::new(),
        }
    }

    /// The server ended a connection that had attacked for so long.
    pub(crate) fn ended(&mut self, end: End, after: Duration) -> Result<(), Failure> {
        let times = match self.ends.entry(end) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            // To an hour, with three digits.
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
            "told": self.told.json(),
            "sent_bytes": self.sent_bytes,
            "received_bytes": self.received_bytes,
            "ends": Value::Object(ends),
        });
        write!(f, "{report}")
    }
}
