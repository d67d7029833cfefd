//! The lines of a screen.

use std::time::Duration;

use super::metrics::Sample;
use crate::time::period;

/// Returns a screen: the figures of a sample, and rates since an earlier one. `now` is in seconds since 1970.
pub(super) fn screen(
    address: &str,
    now: i64,
    sample: &Sample,
    earlier: Option<(Duration, &Sample)>,
) -> String {
    let figures = Figures { sample, earlier };
    let version = sample.label("postern_build_info", "version").unwrap_or_default();
    let up = sample.get("postern_start_time_seconds").map_or(0, |start| now - start as i64);
    let mut lines = vec![format!("postern {version} at {address}, up for {}", period(up)), String::new()];
    lines.extend(figures.rows().into_iter().map(|(name, text)| format!("{name:<WIDTH$} {text}")));
    let alerts = figures.alerts();
    if !alerts.is_empty() {
        lines.push(String::new());
        lines.extend(alerts.into_iter().map(|alert| format!("✗ {alert}")));
    }
    lines.join("\n") + "\n"
}

struct Figures<'s> {
    sample: &'s Sample,
    earlier: Option<(Duration, &'s Sample)>,
}

impl Figures<'_> {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let share = |part: &str, whole: &str, format: fn(f64) -> String| {
            let (part, whole) = (self.value(part), self.value(whole));
            format!("{} of {} ({:.0} %)", format(part), format(whole), 100.0 * part / whole.max(1.0))
        };
        let messages = |messages: &str, bytes: &str| {
            format!("{}, {}", self.rate(messages, count), self.rate(bytes, self::bytes))
        };
        let mut rows = vec![
            ("connections", share("postern_connections", "postern_connections_max", count)),
            ("users", count(self.value("postern_users"))),
            ("opened", self.rate("postern_connections_opened_total", count)),
            ("closed", self.labelled("postern_connections_closed_total", "code")),
            ("upgrades refused", self.labelled("postern_handshakes_rejected_total", "reason")),
            (
                "messages received",
                messages("postern_messages_received_total", "postern_bytes_received_total"),
            ),
            ("messages sent", messages("postern_messages_sent_total", "postern_bytes_sent_total")),
            ("pending output", bytes(self.value("postern_send_queue_bytes"))),
            ("memory of messages", share("postern_memory_held_bytes", "postern_memory_max_bytes", bytes)),
            (
                "process",
                format!("{}, {}", self.processor(), bytes(self.value("process_resident_memory_bytes"))),
            ),
            ("file descriptors", share("process_open_fds", "process_max_fds", count)),
        ];
        if self.value("postern_subscriptions") > 0.0 || self.value("postern_publications_total") > 0.0 {
            rows.extend([
                ("channels", count(self.value("postern_channels"))),
                ("subscriptions", count(self.value("postern_subscriptions"))),
                ("publications", self.rate("postern_publications_total", count)),
                ("deliveries", self.rate("postern_deliveries_total", count)),
                ("histories", bytes(self.value("postern_history_bytes"))),
            ]);
        }
        rows
    }

    /// Returns the conditions that an operator should know.
    fn alerts(&self) -> Vec<String> {
        let is_zero = |name: &str| self.sample.get(name) == Some(0.0);
        let at_least_one = |name: &str| self.value(name) >= 1.0;
        let brokers = self.sample.by_label("postern_source_up", "broker");
        let is_down = |broker: &str| brokers.iter().any(|(name, up)| name == broker && *up == 0.0);
        let lost = self.value("postern_log_records_dropped_total");
        // Without an engine, its metrics are zero, too.
        let has_tried_redis =
            at_least_one("postern_engine_connections_total") || at_least_one("postern_engine_failures_total");
        [
            (
                at_least_one("postern_draining"),
                format!("draining: {} connections remain", count(self.value("postern_drain_remaining"))),
            ),
            (at_least_one("postern_log_stalled"), "the log stalls, and reading is paused".to_owned()),
            (lost >= 1.0, format!("{} records of the log were lost", count(lost))),
            (
                at_least_one("postern_trusts_any_proxy"),
                "any peer can claim to be any user (POSTERN_TRUSTED_PROXIES)".to_owned(),
            ),
            (is_zero("postern_engine_up") && has_tried_redis, "Redis cannot be reached".to_owned()),
            (is_down("rabbitmq"), "RabbitMQ cannot be reached".to_owned()),
            (is_down("nats"), "NATS cannot be reached".to_owned()),
        ]
        .into_iter()
        .filter_map(|(is_so, text)| is_so.then_some(text))
        .collect()
    }

    /// Returns the sum of a metric, zero if there is none.
    fn value(&self, name: &str) -> f64 {
        self.sample.get(name).unwrap_or_default()
    }

    /// Returns the rate of a counter in a second; without an earlier sample, its value.
    fn rate(&self, name: &str, format: fn(f64) -> String) -> String {
        match self.per_second(name) {
            None => format!("{} in total", format(self.value(name))),
            Some(rate) => format!("{}/s", format(rate)),
        }
    }

    /// Returns the processor time of the process.
    fn processor(&self) -> String {
        let name = "process_cpu_seconds_total";
        match self.per_second(name) {
            None => format!("{:.1} s of processor time in total", self.value(name)),
            Some(share) => format!("{:.1} % of a processor", 100.0 * share),
        }
    }

    /// Returns the increase of a counter in a second. `None` without an earlier sample.
    fn per_second(&self, name: &str) -> Option<f64> {
        let (elapsed, earlier) = self.earlier?;
        // A restarted process begins at zero.
        let increase = (self.value(name) - earlier.get(name).unwrap_or_default()).max(0.0);
        Some(increase / elapsed.as_secs_f64().max(0.001))
    }

    /// Returns the rate of a counter, and the totals of the largest values of its label.
    fn labelled(&self, name: &str, label: &str) -> String {
        let totals = self.sample.by_label(name, label);
        let totals = totals.iter().filter(|(_, total)| *total > 0.0).take(4);
        let totals: Vec<String> =
            totals.map(|(value, total)| format!("{value}: {}", count(*total))).collect();
        let rate = self.rate(name, count);
        if totals.is_empty() { rate } else { format!("{rate} ({})", totals.join(", ")) }
    }
}

/// Returns a number with separators, and with a decimal if it is small and not whole.
fn count(value: f64) -> String {
    if value.fract() != 0.0 && value < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Returns a number of bytes in the unit in which it has at most four digits.
fn bytes(value: f64) -> String {
    let mut value = value;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1000.0 {
            return if unit == "B" { format!("{value:.0} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

/// The width of the names.
const WIDTH: usize = 18;

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(received: u32, more: &str) -> Sample {
        Sample::parse(&format!(
            "postern_build_info{{version=\"0.1.0\"}} 1\npostern_start_time_seconds 1000\npostern_connections 1234\n\
             postern_connections_max 10000\npostern_messages_received_total {received}\n\
             postern_connections_closed_total{{code=\"1000\"}} \
                 7\npostern_connections_closed_total{{code=\"1006\"}} 9\n{more}"
        ))
    }

    #[test]
    fn a_screen_has_values_and_rates() {
        let (first, second) = (sample(100, ""), sample(350, ""));
        let screen = |sample, earlier| screen("localhost:8081", 4600, sample, earlier);
        let text = screen(&first, None);
        assert!(
            text.starts_with(
                "postern 0.1.0 at localhost:8081, up for 60 min\n\nconnections        1,234 of \
                                  10,000 (12 %)\n"
            ),
            "{text}"
        );
        assert!(text.contains("\nmessages received  100 in total, 0 B in total\n"), "{text}");
        assert!(!text.contains("subscriptions") && !text.contains('✗'), "{text}");
        let text = screen(&second, Some((Duration::from_secs(2), &first)));
        assert!(text.contains("\nmessages received  125/s, 0 B/s\n"), "{text}");
        assert!(text.contains("\nclosed             0/s (1006: 9, 1000: 7)\n"), "{text}");
        let channels = screen(
            &sample(
                0,
                "postern_subscriptions 3\npostern_draining 1\npostern_engine_up 0\npostern_engine_failures_total 1\n",
            ),
            None,
        );
        assert!(channels.contains("\nsubscriptions      3\n"), "{channels}");
        assert!(
            channels.contains("\n✗ draining: 0 connections remain\n✗ Redis cannot be reached\n"),
            "{channels}"
        );
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [0.0, 0.25, 99.9, 100.4, 1_234_567.0].map(count),
            ["0", "0.2", "99.9", "100", "1,234,567"]
        );
        assert_eq!(
            [0.0, 999.0, 1024.0, 1e6, 5e9].map(bytes),
            ["0 B", "999 B", "1.0 KiB", "976.6 KiB", "4.7 GiB"]
        );
    }
}
