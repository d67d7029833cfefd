//! The resources of the server: descriptors, threads and memory from `/proc`, connections from its metrics.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Failure;

/// The server to measure.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) pid: u32,
    pub(crate) control: SocketAddr,
}

/// Its resources at one time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resources {
    counts: [u64; NAMES.len()],
    /// Resident memory in bytes.
    resident: u64,
}

/// Values of its metrics.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Metrics {
    /// Connections admitted so far.
    pub(crate) opened: u64,
    /// Of those, how many ended.
    pub(crate) closed: u64,
    connections: u64,
    users: u64,
    pending: u64,
    held: u64,
}

impl Server {
    /// Waits until it has no connections and its resources no longer change, and returns them.
    pub(crate) fn settled(&self) -> Result<Resources, Failure> {
        let deadline = Instant::now() + PATIENCE;
        let (mut since, mut last) = (Instant::now(), self.look()?);
        loop {
            thread::sleep(Duration::from_millis(100));
            let now = self.look()?;
            // The request for the metrics needs resources for a moment.
            if now.counts != last.counts || now.is_busy() {
                since = Instant::now();
            }
            last = now;
            if since.elapsed() > SETTLED {
                return Ok(last);
            }
            if Instant::now() > deadline {
                return Err(format!("the resources of the server still change: {:#}", last.report()).into());
            }
        }
    }

    pub(crate) fn metrics(&self) -> Result<Metrics, Failure> {
        let mut stream = TcpStream::connect(self.control)?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: churn\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        if !text.starts_with("HTTP/1.1 200 ") {
            return Err(format!("no metrics: {text}").into());
        }
        let of = |name: &str| -> Result<u64, Failure> {
            let lines = text.lines().filter_map(|line| line.rsplit_once(' '));
            let values = lines.filter(|(sample, _)| {
                sample.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'))
            });
            values.map(|(_, value)| Ok(value.trim().parse::<f64>()? as u64)).sum()
        };
        Ok(Metrics {
            opened: of("postern_connections_opened_total")?,
            closed: of("postern_connections_closed_total")?,
            connections: of("postern_connections")?,
            users: of("postern_users")?,
            pending: of("postern_handshakes_pending")?,
            held: of("postern_memory_held_bytes")?,
        })
    }

    fn look(&self) -> Result<Resources, Failure> {
        let metrics = self.metrics()?;
        // Time for both sides to close the connection of this request.
        thread::sleep(Duration::from_millis(20));
        let folder =
            |name: &str| Ok::<_, Failure>(fs::read_dir(format!("/proc/{}/{name}", self.pid))?.count() as u64);
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        let resident: u64 = resident.trim().trim_end_matches(" kB").parse()?;
        Ok(Resources {
            counts: [
                folder("fd")?,
                folder("task")?,
                metrics.connections,
                metrics.pending,
                metrics.users,
                metrics.held,
            ],
            resident: resident * 1024,
        })
    }
}

impl Resources {
    fn is_busy(&self) -> bool {
        self.counts.iter().skip(OWN).any(|&count| count > 0)
    }

    /// Returns the differences: counts must be equal, and resident memory may grow by at most `tolerance` bytes.
    pub(crate) fn compare(&self, before: &Resources, tolerance: u64) -> Vec<String> {
        let pairs = NAMES.iter().zip(before.counts.iter().zip(self.counts));
        let mut complaints: Vec<String> = pairs
            .filter(|(_, (before, after))| *before != after)
            .map(|(name, (before, after))| format!("{name}: {before} before, {after} after"))
            .collect();
        if self.resident > before.resident + tolerance {
            let (before, after) = (before.resident / 1024, self.resident / 1024);
            complaints.push(format!("resident memory: {before} KiB before, {after} KiB after"));
        }
        complaints
    }

    pub(crate) fn report(&self) -> Value {
        let mut report: serde_json::Map<_, _> =
            NAMES.iter().zip(self.counts).map(|(name, count)| ((*name).to_owned(), json!(count))).collect();
        report.insert("resident_bytes".to_owned(), json!(self.resident));
        Value::Object(report)
    }
}

/// The counted resources. The process itself needs the first two.
const NAMES: [&str; 6] =
    ["descriptors", "threads", "connections", "handshakes_pending", "users", "memory_held_bytes"];

const OWN: usize = 2;

/// The time for which no resource may change. A refused connection waits up to a second for its client.
const SETTLED: Duration = Duration::from_millis(1500);

/// The time that [`Server::settled`] may take.
const PATIENCE: Duration = Duration::from_secs(30);
