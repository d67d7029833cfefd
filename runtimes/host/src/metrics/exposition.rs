//! The metrics as text, with their names, help and labels. No label contains a user, an address or a path.

mod engine;
mod families;
mod hooks;
mod source;

use std::fmt;

use postern_core::handshake::HandshakeError;
use postern_core::session::Traffic;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, prometheus_text};
use prometheus_client::registry::Registry;

use super::counts::{Code, Initiator};
use super::{Sum, Usage};
use crate::channels::NodeStats;
use crate::checker::CheckStats;
use crate::hooks::HookStats;
use crate::source::SourceStats;
use families::Families;

/// The media type of [`encode`]'s text.
pub(crate) use prometheus_client::encoding::prometheus_text::CONTENT_TYPE;

/// Outcomes of the messages that the control port was asked to send.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sends {
    /// Sent to at least one connection.
    pub(crate) delivered: u64,
    /// The target had no open connection here.
    pub(crate) no_connection: u64,
    /// The request was refused, or a worker did not reply.
    pub(crate) refused: u64,
}

/// The state of the process, in addition to the counts of its workers.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) program: &'static str,
    pub(crate) version: &'static str,
    /// Seconds since 1970.
    pub(crate) started: f64,
    pub(crate) workers: usize,
    pub(crate) max_connections: usize,
    /// Whether identity headers are trusted from any peer.
    pub(crate) trusts_any: bool,
    pub(crate) is_draining: bool,
    /// Log records dropped.
    pub(crate) records_dropped: u64,
    /// Requests and connections that found the inbox of a worker full.
    pub(crate) inbox_refusals: u64,
    pub(crate) sends: Sends,
    pub(crate) channels: NodeStats,
    /// `None` if no events are sent to a backend.
    pub(crate) hooks: Option<HookStats>,
    /// Figures of the messages of a broker.
    pub(crate) source: Vec<SourceStats>,
    /// `None` if tokens on open connections are not checked.
    pub(crate) checks: Option<CheckStats>,
    /// Revocations that are kept.
    pub(crate) revocations: usize,
    pub(crate) usage: Usage,
}

/// Returns all metrics in the text format of Prometheus, version 0.0.4.
pub(crate) fn encode(process: Process, sum: Sum) -> String {
    // The metrics that all exporters have for a process keep their names, so that dashboards find them.
    let mut standard = Registry::default();
    standard.register_collector(Box::new(Standard { started: process.started, usage: process.usage }));
    let mut registry = Registry::with_prefix("postern");
    registry.register_collector(Box::new(Exposition { process, sum }));
    let mut text = String::new();
    for registry in [registry, standard] {
        // Writing to a String does not fail.
        let _ = prometheus_text::encode(&mut text, &registry);
    }
    text
}

/// The metrics of a process that all client libraries of Prometheus have.
#[derive(Debug)]
struct Standard {
    started: f64,
    usage: Usage,
}

impl Collector for Standard {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut families = Families(encoder);
        let Usage { cpu, resident, reserved, threads, open_files, max_files } = self.usage;
        families.counter(
            "process_cpu_seconds",
            "Processor time of all threads, in user and kernel mode",
            cpu.as_secs_f64(),
        )?;
        families.gauge(
            "process_start_time_seconds",
            "Start time of the process in seconds since 1970",
            self.started,
        )?;
        for (name, help, value) in [
            ("process_resident_memory_bytes", "Resident memory in bytes", resident),
            ("process_virtual_memory_bytes", "Virtual memory in bytes", reserved),
            ("process_threads", "Number of threads", threads),
            ("process_open_fds", "Open file descriptors", open_files),
            ("process_max_fds", "Limit of open file descriptors", max_files),
        ] {
            if let Some(value) = value {
                families.gauge(name, help, value)?;
            }
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Exposition {
    process: Process,
    sum: Sum,
}

impl Collector for Exposition {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut families = Families(encoder);
        self.process(&mut families)?;
        self.connections(&mut families)?;
        self.messages(&mut families)?;
        self.channels(&mut families)?;
        self.checks(&mut families)?;
        self.hooks(&mut families)?;
        self.source(&mut families)?;
        self.engine(&mut families)?;
        self.workers(&mut families)
    }
}

impl Exposition {
    fn process(&self, families: &mut Families<'_>) -> fmt::Result {
        let process = &self.process;
        families.info(
            "build",
            "Name and version of the program",
            &[("program", process.program), ("version", process.version)],
        )?;
        families.gauge(
            "start_time_seconds",
            "Start time of the process in seconds since 1970",
            process.started,
        )?;
        families.gauge("workers", "Number of event loops", process.workers)?;
        families.gauge(
            "trusts_any_proxy",
            "1 if POSTERN_TRUSTED_PROXIES is any, so that a client that reaches the port can act as any user",
            u32::from(process.trusts_any),
        )?;
        families.gauge("draining", "1 while the process is stopping", u32::from(process.is_draining))?;
        families.gauge(
            "drain_remaining",
            "Connections still open while the process is stopping",
            if process.is_draining { self.sum.totals.connections } else { 0 },
        )?;
        families.counter(
            "log_records_dropped",
            "Log records dropped because standard output was too slow or failed",
            process.records_dropped,
        )?;
        families.counter(
            "worker_inbox_refusals",
            "Requests and new connections that found the inbox of a worker full",
            process.inbox_refusals,
        )?;
        families.gauge(
            "log_stalled",
            "1 while workers have not read from users for more than a second because standard output is stalled \
             (POSTERN_LOG_STALL=pause)",
            u32::from(self.sum.log_stall.is_now),
        )?;
        families.counter(
            "log_stalled_seconds",
            "Seconds in which workers did not read from users because standard output was stalled",
            self.sum.log_stall.lasted.as_secs_f64(),
        )
    }

    fn connections(&self, families: &mut Families<'_>) -> fmt::Result {
        let Sum { totals, counts, users, .. } = &self.sum;
        families.gauge("connections", "Open connections of users", totals.connections)?;
        families.gauge("connections_max", "Limit of open connections", self.process.max_connections)?;
        families.gauge("users", "Users with at least one connection", *users)?;
        families.gauge(
            "handshakes_pending",
            "Connections whose upgrade request is incomplete",
            totals.pending,
        )?;
        families.counter("connections_opened", "Connections of users that were admitted", counts.opened)?;
        families.counters(
            "connections_closed",
            "Connections of users that have ended, by close code (other: a code chosen by the client) and by the side \
             that ended them",
            counts.closed.iter().map(|((code, initiator), count)| {
                ([("code", code_label(*code)), ("initiator", initiator_label(*initiator).to_owned())], *count)
            }),
        )?;
        families.counters(
            "handshakes_rejected",
            "Refused upgrades, by the code in the response and the log",
            counts.rejected.iter().map(|(reason, count)| ([("reason", *reason)], *count)),
        )?;
        families.counter(
            "handshakes_abandoned",
            "Connections that ended before their upgrade request was complete",
            counts.abandoned,
        )?;
        families.histogram(
            "handshake_duration_seconds",
            "Time from the accepted connection to the 101 response",
            &counts.handshakes,
        )?;
        families.histogram(
            "pong_rtt_seconds",
            "Time from a ping to its pong, for clients idle for POSTERN_PING_INTERVAL",
            &counts.round_trips,
        )?;
        families.counter(
            "slow_consumer_closes",
            "Connections ended because their client read too slowly",
            counts.slow_consumers,
        )?;
        families.counters(
            "credentials_ended",
            "Connections closed because their token had expired, their credentials were revoked, or a check before a message found that \
             the token did not hold any more (refused) or could not be made (unchecked)",
            [
                ("expired", counts.expired),
                ("revoked", counts.revoked),
                ("refused", counts.token_refused),
                ("unchecked", counts.token_unchecked),
            ]
            .map(|(cause, count)| ([("cause", cause)], count)),
        )?;
        families.counter(
            "tokens_refreshed",
            "Refreshes of connections by newer tokens through the gateway or in messages",
            counts.refreshed,
        )?;
        families.counter(
            "refreshes_refused",
            "Messages with tokens that did not refresh their connections",
            counts.refreshes_refused,
        )?;
        families.gauge("revocations", "Revoked credentials that are kept", self.process.revocations)?;
        let rejected = |error: HandshakeError| counts.rejected.get(error.code()).copied().unwrap_or_default();
        families.counters(
            "rate_limited",
            "Refused upgrades and closed connections by the limit that was exceeded: connect is POSTERN_CONNECT_RATE, \
             user is POSTERN_MAX_CONNECTIONS_PER_USER, messages are POSTERN_MESSAGE_RATE and POSTERN_BYTE_RATE with \
             POSTERN_RATE_POLICY=close",
            [
                ("connect", rejected(HandshakeError::TooFast)),
                ("user", rejected(HandshakeError::TooMany)),
                ("messages", counts.too_fast),
            ]
            .map(|(scope, count)| ([("scope", scope)], count)),
        )?;
        families.counters(
            "rate_pauses",
            "Pauses of reading from a connection whose client exceeded a rate: messages is \
             POSTERN_MESSAGE_RATE, bytes is POSTERN_BYTE_RATE; with POSTERN_RATE_POLICY=pause",
            [("messages", counts.rate_pauses.messages), ("bytes", counts.rate_pauses.bytes)]
                .map(|(scope, count)| ([("scope", scope)], count)),
        )
    }

    /// Writes the load of each worker, so that an overloaded one is visible.
    fn workers(&self, families: &mut Families<'_>) -> fmt::Result {
        let loads = || self.sum.workers.iter().map(|load| ([("worker", load.worker.to_string())], load));
        families.counters(
            "worker_cpu_seconds",
            "Processor time of each worker's thread",
            loads().map(|(labels, load)| (labels, load.cpu.as_secs_f64())),
        )?;
        families.gauges(
            "worker_connections",
            "Open connections of users, by worker",
            loads().map(|(labels, load)| (labels, load.connections)),
        )?;
        families.counters(
            "worker_messages_received",
            "Data messages from users, by worker",
            loads().map(|(labels, load)| (labels, load.messages)),
        )
    }

    fn messages(&self, families: &mut Families<'_>) -> fmt::Result {
        let Sum { totals, counts, .. } = &self.sum;
        let mut traffic: Traffic = counts.traffic;
        traffic += totals.traffic;
        families.counter("messages_received", "Data messages from users", traffic.messages_received)?;
        families.counter("messages_sent", "Data messages to users", traffic.messages_sent)?;
        families.counter("bytes_received", "Payload bytes of messages from users", traffic.bytes_received)?;
        families.counter("bytes_sent", "Payload bytes of messages to users", traffic.bytes_sent)?;
        let Sends { delivered, no_connection, refused } = self.process.sends;
        families.counters(
            "api_sends",
            "Messages of POST /api/send and of batches: delivered to at least one connection, no_connection if the target has none here, or refused",
            [("delivered", delivered), ("no_connection", no_connection), ("refused", refused)]
                .map(|(outcome, count)| ([("outcome", outcome)], count)),
        )?;
        families.gauge("send_queue_bytes", "Bytes queued for clients", totals.backlog)?;
        families.gauge("memory_held_bytes", "Bytes in buffers of connections", totals.memory)?;
        families.gauge(
            "memory_max_bytes",
            "Limit of bytes in buffers",
            i64::try_from(totals.max_memory).unwrap_or(i64::MAX),
        )
    }
}

impl Exposition {
    #[cfg(feature = "assertion")]
    fn checks(&self, families: &mut Families<'_>) -> fmt::Result {
        let CheckStats { outcomes: [valid, refused, unknown], requests } =
            self.process.checks.unwrap_or_default();
        families.counters(
            "token_checks",
            "Checks of tokens on open connections: the token holds (valid), or does not hold (refused), or the service that knows it is \
             unavailable (unknown)",
            [("valid", valid), ("refused", refused), ("unknown", unknown)]
                .map(|(outcome, count)| ([("outcome", outcome)], count)),
        )?;
        families.counter("auth_requests", "Requests to the service at POSTERN_AUTH_URL", requests)
    }

    #[cfg(not(feature = "assertion"))]
    fn checks(&self, _: &mut Families<'_>) -> fmt::Result {
        Ok(())
    }

    fn channels(&self, families: &mut Families<'_>) -> fmt::Result {
        let NodeStats { channels: stats, inbox_bytes, engine: _ } = self.process.channels;
        let counts = &self.sum.channels;
        for (name, help, value) in [
            ("channels", "Channels with subscribers", stats.occupied_channels),
            ("subscriptions", "Subscriptions of all clients", stats.subscriptions),
            ("presence_clients", "Clients that are present, in all channels", stats.present),
            ("history_publications", "Publications in the histories of channels", stats.publications),
            ("history_bytes", "Bytes of POSTERN_HISTORY_MEMORY in use", stats.history_bytes),
            ("inbox_bytes", "Bytes of events that wait for workers", inbox_bytes),
        ] {
            families.gauge(name, help, value)?;
        }
        families.counters(
            "publications",
            "Publications to channels, by source",
            [("client", stats.published_by_clients), ("api", stats.published_by_server)]
                .map(|(source, count)| ([("source", source)], count)),
        )?;
        families.counter("deliveries", "Publications sent to subscribers", counts.deliveries)?;
        families.counters(
            "commands",
            "Commands of clients of channels",
            counts.commands().map(|(method, count)| ([("method", method)], count)),
        )?;
        families.counters(
            "command_errors",
            "Error replies to clients of channels, by code",
            counts.errors().map(|(code, count)| ([("code", code.to_string())], count)),
        )?;
        families.counters(
            "recoveries",
            "Recoveries of subscriptions: complete, or lost if the history did not contain all publications",
            [("complete", stats.recovered), ("lost", stats.unrecovered)]
                .map(|(outcome, count)| ([("outcome", outcome)], count)),
        )?;
        families.counter(
            "inbox_overflows",
            "Events of channels that found the inbox of a worker full",
            stats.overflows,
        )?;
        families.counters(
            "gaps",
            "Gaps after an overflow: covered by the history, or lost for the subscribers of a worker",
            [("covered", stats.covered_lags), ("lost", stats.uncovered_lags)]
                .map(|(outcome, count)| ([("outcome", outcome)], count)),
        )?;
        families.counter(
            "history_evictions",
            "Histories removed because POSTERN_HISTORY_MEMORY was used up",
            stats.evicted,
        )
    }
}

fn code_label(code: Code) -> String {
    match code {
        Code::Known(code) => code.to_string(),
        Code::Other => "other".to_owned(),
    }
}

fn initiator_label(initiator: Initiator) -> &'static str {
    match initiator {
        Initiator::Client => "client",
        Initiator::Server => "server",
    }
}

#[cfg(test)]
mod tests;
