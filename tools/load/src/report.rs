//! The printed report: one line of JSON.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use super::cpu::Cpu;
use super::options::Options;
use super::process::Memory;

/// The measured values, in the order of the run.
#[derive(Debug)]
pub(crate) struct Report(Map<String, Value>);

impl Report {
    pub(crate) fn new(options: &Options) -> Report {
        let mut report = Report(Map::new());
        report.put("label", json!(options.label));
        report.put("connections", json!(options.connections));
        report.put("size", json!(options.size));
        report.put("pipeline", json!(options.pipeline));
        if let Some(rate) = options.rate {
            report.put("rate", json!(rate));
        }
        report.put("kind", json!(options.kind.name()));
        report
    }

    pub(crate) fn put(&mut self, name: &str, value: Value) {
        self.0.insert(name.to_owned(), value);
    }

    pub(crate) fn opened(&mut self, connections: usize, took: Duration) {
        self.put("open_seconds", json!(round(took.as_secs_f64())));
        self.put("upgrades_per_second", json!((connections as f64 / took.as_secs_f64()) as u64));
    }

    /// Adds the memory per connection, from the memory before and after opening the connections.
    pub(crate) fn memory(&mut self, connections: usize, before: Memory, after: Memory) {
        let each = |after: u64, before: u64| after.saturating_sub(before) / connections.max(1) as u64;
        self.put("server_resident_bytes", json!(after.resident));
        self.put("resident_bytes_per_connection", json!(each(after.resident, before.resident)));
        self.put("proportional_bytes_per_connection", json!(each(after.proportional, before.proportional)));
    }

    pub(crate) fn messages(&mut self, sent: u64, echoes: u64) {
        self.put("sent", json!(sent));
        self.put("echoes", json!(echoes));
        self.put("missing", json!(sent - echoes));
    }

    /// Adds the throughput and the latencies between the end of the warm-up and the end of the run.
    pub(crate) fn measured(&mut self, echoes: u64, took: Duration, latency: &Histogram<u64>) {
        self.put("measured_seconds", json!(round(took.as_secs_f64())));
        self.put("measured_echoes", json!(echoes));
        self.put("echoes_per_second", json!((echoes as f64 / took.as_secs_f64()) as u64));
        self.latency(latency);
    }

    /// Adds the throughput and the latencies of publications.
    pub(crate) fn published(
        &mut self,
        publications: u64,
        deliveries: u64,
        took: Duration,
        latency: &Histogram<u64>,
    ) {
        self.put("measured_seconds", json!(round(took.as_secs_f64())));
        self.put("publications", json!(publications));
        self.put("deliveries", json!(deliveries));
        self.put("deliveries_per_second", json!((deliveries as f64 / took.as_secs_f64()) as u64));
        self.latency(latency);
    }

    fn latency(&mut self, latency: &Histogram<u64>) {
        let micros = |nanos: u64| round(nanos as f64 / 1e3);
        self.put(
            "latency_us",
            json!({
                "p50": micros(latency.value_at_quantile(0.5)),
                "p90": micros(latency.value_at_quantile(0.9)),
                "p99": micros(latency.value_at_quantile(0.99)),
                "p99.9": micros(latency.value_at_quantile(0.999)),
                "max": micros(latency.max()),
            }),
        );
    }

    /// Adds the processor time of the server or of this client.
    pub(crate) fn total_cpu(&mut self, process: &str, before: Cpu, after: Cpu) {
        let (total, user) = after.since(before);
        self.put(&format!("{process}_cpu_ns"), json!(total));
        self.put(&format!("{process}_user_ns"), json!(user));
    }

    /// Adds the processor time of the server or of this client for each of `count` events.
    pub(crate) fn cpu(&mut self, process: &str, event: &str, count: u64, before: Cpu, after: Cpu) {
        let (total, user) = after.since(before);
        let each = |nanos: u64| round(nanos as f64 / count.max(1) as f64);
        self.put(&format!("{process}_cpu_ns_per_{event}"), json!(each(total)));
        self.put(&format!("{process}_user_ns_per_{event}"), json!(each(user)));
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", Value::Object(self.0.clone()))
    }
}

fn round(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}
