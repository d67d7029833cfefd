use std::time::Duration;

use postern_channels::exchange::ExchangeStats;
use postern_core::handshake::{Identity, Peer};
use postern_core::policy::RateKind;
use postern_core::session::Ending;
use postern_core::{ConnectionId, Record, Summary};

use super::super::LogStall;
use super::*;
use crate::metrics::WorkerLoad;
use crate::source::{Broker, SourceStats};

const PROCESS: Process = Process {
    program: "postern",
    version: "1.2.3",
    started: 1.5,
    workers: 2,
    max_connections: 100,
    trusts_any: true,
    is_draining: false,
    records_dropped: 7,
    inbox_refusals: 11,
    sends: Sends { delivered: 4, no_connection: 5, refused: 6 },
    channels: CHANNELS,
    hooks: None,
    source: Vec::new(),
    checks: Some(CheckStats { outcomes: [31, 32, 33], requests: 34 }),
    revocations: 8,
    usage: Usage {
        cpu: Duration::from_millis(1_250),
        resident: Some(4096),
        reserved: Some(8192),
        threads: Some(3),
        open_files: Some(12),
        max_files: None,
    },
};

const SOURCE: SourceStats = SourceStats {
    broker: Broker::Nats,
    is_up: true,
    published: 31,
    duplicates: 32,
    expired: 33,
    lost: 36,
    dead: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
    unacknowledged: 34,
    failures: 35,
};

const CHANNELS: NodeStats = NodeStats {
    channels: ExchangeStats {
        channels: 4,
        occupied_channels: 3,
        subscriptions: 12,
        publications: 20,
        history_bytes: 5000,
        evicted: 1,
        idempotency_keys: 0,
        forgotten_keys: 0,
        present: 9,
        published_by_clients: 100,
        published_by_server: 200,
        recovered: 30,
        unrecovered: 2,
        overflows: 6,
        covered_lags: 4,
        uncovered_lags: 1,
    },
    inbox_bytes: 77,
    engine: None,
};

#[test]
fn each_family_has_its_help_its_type_and_its_samples() {
    let mut sum = Sum { users: 3, ..Sum::default() };
    let (connection, peer) = (ConnectionId(1), Peer::Unix);
    let identity = Identity::new(b"123", b"", b"").unwrap();
    let traffic = Traffic { messages_received: 10, bytes_received: 20, messages_sent: 30, bytes_sent: 40 };
    let took = Duration::from_millis(3);
    let summary = Summary { lasted: Duration::ZERO, round_trip: None, traffic };
    for record in [
        Record::Established {
            connection,
            peer,
            identity: &identity,
            subprotocol: None,
            is_offer_unanswered: false,
            took,
        },
        Record::Pong { connection, identity: &identity, round_trip: took },
        Record::RateExceeded {
            connection,
            identity: &identity,
            kind: RateKind::Bytes,
            per_second: 1,
            is_first: true,
        },
        Record::Closed {
            connection,
            identity: &identity,
            ending: Ending::Eof,
            reason: Ending::Eof.reason(),
            summary,
        },
        Record::Rejected {
            connection,
            peer,
            request_id: None,
            client: None,
            is_refresh: false,
            error: HandshakeError::TooFast,
            close_code: None,
            took,
        },
    ] {
        sum.counts.record(&record);
    }
    sum.totals.connections = 5;
    let cpu = Duration::from_millis(500);
    sum.workers.push(WorkerLoad { worker: 1, connections: 5, messages: 10, cpu });
    sum.totals.traffic.bytes_sent = 2;
    sum.log_stall = LogStall { is_now: true, lasted: Duration::from_millis(2500) };
    let text = encode(Process { hooks: Some(hooks::sample()), source: vec![SOURCE], ..PROCESS }, sum);
    for line in [
        r#"postern_build_info{program="postern",version="1.2.3"} 1"#,
        "postern_start_time_seconds 1.5",
        "# TYPE postern_connections gauge",
        "# HELP postern_connections Open connections of users",
        "postern_connections 5",
        "postern_users 3",
        "postern_connections_opened_total 1",
        r#"postern_connections_closed_total{code="1006",initiator="client"} 1"#,
        r#"postern_handshakes_rejected_total{reason="too_fast"} 1"#,
        r#"postern_handshake_duration_seconds_bucket{le="0.0025"} 0"#,
        r#"postern_handshake_duration_seconds_bucket{le="0.005"} 1"#,
        r#"postern_handshake_duration_seconds_bucket{le="+Inf"} 1"#,
        "postern_handshake_duration_seconds_sum 0.003",
        "postern_handshake_duration_seconds_count 1",
        r#"postern_pong_rtt_seconds_bucket{le="0.005"} 1"#,
        r#"postern_rate_limited_total{scope="connect"} 1"#,
        r#"postern_rate_limited_total{scope="user"} 0"#,
        r#"postern_rate_pauses_total{scope="messages"} 0"#,
        r#"postern_rate_pauses_total{scope="bytes"} 1"#,
        "postern_messages_received_total 10",
        "postern_bytes_sent_total 42",
        "postern_trusts_any_proxy 1",
        "postern_log_records_dropped_total 7",
        "postern_worker_inbox_refusals_total 11",
        "postern_log_stalled 1",
        "postern_log_stalled_seconds_total 2.5",
        r#"postern_api_sends_total{outcome="no_connection"} 5"#,
        r#"postern_worker_cpu_seconds_total{worker="1"} 0.5"#,
        r#"postern_worker_connections{worker="1"} 5"#,
        r#"postern_worker_messages_received_total{worker="1"} 10"#,
        "postern_channels 3",
        "postern_subscriptions 12",
        "postern_presence_clients 9",
        "postern_history_publications 20",
        "postern_history_bytes 5000",
        "postern_history_evictions_total 1",
        "postern_inbox_bytes 77",
        r#"postern_hook_events_total{outcome="delivered"} 21"#,
        r#"postern_hook_events_total{outcome="dropped"} 22"#,
        r#"postern_hook_events_total{outcome="refused"} 23"#,
        r#"postern_hook_events_total{outcome="expired"} 24"#,
        "postern_hook_failures_total 25",
        "postern_hook_queued_events 26",
        r#"postern_hook_decisions_total{hook="subscribe",outcome="allowed"} 0"#,
        r#"postern_hook_decisions_total{hook="rpc",outcome="overload"} 7"#,
        r#"postern_hook_decision_seconds_bucket{le="0.03"} 1"#,
        "postern_hook_decision_seconds_count 1",
        "postern_hook_decisions_in_flight 3",
        r#"postern_source_up{broker="nats"} 1"#,
        r#"postern_source_messages_total{broker="nats",outcome="published"} 31"#,
        r#"postern_source_messages_total{broker="nats",outcome="duplicate"} 32"#,
        r#"postern_source_messages_total{broker="nats",outcome="expired"} 33"#,
        r#"postern_source_messages_total{broker="nats",outcome="dead"} 55"#,
        r#"postern_source_dead_total{broker="nats",reason="no_target"} 1"#,
        r#"postern_source_dead_total{broker="nats",reason="version"} 10"#,
        r#"postern_source_unacked{broker="nats"} 34"#,
        r#"postern_source_failures_total{broker="nats"} 35"#,
        r#"postern_token_checks_total{outcome="valid"} 31"#,
        r#"postern_token_checks_total{outcome="refused"} 32"#,
        r#"postern_token_checks_total{outcome="unknown"} 33"#,
        "postern_auth_requests_total 34",
        "postern_inbox_overflows_total 6",
        r#"postern_publications_total{source="client"} 100"#,
        r#"postern_publications_total{source="api"} 200"#,
        r#"postern_recoveries_total{outcome="lost"} 2"#,
        r#"postern_gaps_total{outcome="covered"} 4"#,
        r#"postern_commands_total{method="sub_refresh"} 0"#,
        "# TYPE postern_command_errors_total counter",
        "# TYPE process_cpu_seconds_total counter",
        "process_cpu_seconds_total 1.25",
        "process_start_time_seconds 1.5",
        "process_resident_memory_bytes 4096",
        "process_open_fds 12",
    ] {
        assert!(text.lines().any(|written| written == line), "{line} is missing in\n{text}");
    }
    assert!(!text.contains("process_max_fds"), "an unknown value has no metric:\n{text}");
}
