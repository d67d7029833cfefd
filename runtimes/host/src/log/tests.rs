//! What the log says, in both formats, and that nobody can make it say anything else.

mod golden;

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use postern_core::frame::DataKind;
use postern_core::handshake::{
    AssertionError, Client, HandshakeError, IdCharset, Identity, IdentityRules, IdentityValues, Peer,
};
use postern_core::session::{Ending, Traffic};
use postern_core::{CloseCode, ConnectionId, Record, Recorder, Summary};
use proptest::prelude::*;
use slog::{Level, debug, info, o, warn};

use super::*;
use crate::escape::is_harmful;

const TERM: LogSettings = LogSettings {
    level: Level::Trace,
    format: LogFormat::Term,
    messages: MessageLog::Truncated,
    email: EmailLog::Full,
    queue: 8 << 20,
    stall: Stall::Drop,
};
const JSON: LogSettings = LogSettings { format: LogFormat::Json, ..TERM };
const CONNECTION: ConnectionId = ConnectionId(7);
const PEER: Peer = Peer::Tcp { ip: IpAddr::V4(Ipv4Addr::LOCALHOST), port: 40_000 };

/// A sink that can be read when the log is closed.
struct Sink(mpsc::Sender<Vec<u8>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs `what` with a log, and returns the lines that were written.
fn log(settings: LogSettings, what: impl FnOnce(&Log)) -> Vec<String> {
    let (sink, written) = mpsc::channel();
    let log = Log::start(&settings, Sink(sink)).unwrap();
    what(&log);
    drop(log);
    let written: Vec<u8> = written.into_iter().flatten().collect();
    let written = String::from_utf8(written).unwrap();
    assert!(written.is_empty() || written.ends_with('\n'), "{written}");
    written.lines().map(str::to_owned).collect()
}

/// The lines that these records become.
fn lines(settings: LogSettings, records: &[Record<'_>]) -> Vec<String> {
    log(settings, |log| records.iter().for_each(|record| log.worker(0x5f).record(record)))
}

/// The one line that a record becomes, its time left out.
#[track_caller]
fn line(settings: LogSettings, record: Record<'_>) -> String {
    let lines = lines(settings, &[record]);
    assert_eq!(lines.len(), 1, "{lines:?}");
    without_time(&lines[0])
}

#[track_caller]
fn without_time(line: &str) -> String {
    let (time, rest) = match line.strip_prefix("{\"ts\":\"") {
        Some(line) => line.split_once("\",").unwrap(),
        None => line.split_once(' ').unwrap(),
    };
    assert!(time.len() == 24 && time.starts_with("20") && time.ends_with('Z'), "{line}");
    if line.starts_with('{') { format!("{{{rest}") } else { rest.to_owned() }
}

/// The JSON record.
#[track_caller]
fn json(settings: LogSettings, record: Record<'_>) -> serde_json::Value {
    serde_json::from_str(&line(settings, record)).unwrap()
}

fn john() -> Identity {
    Identity::new(b"123", b"john@example.com", b"John Doe").unwrap()
}

fn text<'a>(identity: &'a Identity, payload: &'a str) -> Record<'a> {
    Record::Message { connection: CONNECTION, identity, kind: DataKind::Text, payload: payload.as_bytes() }
}

fn established(identity: &Identity) -> Record<'_> {
    let took = Duration::from_millis(3);
    Record::Established {
        connection: CONNECTION,
        peer: PEER,
        identity,
        subprotocol: None,
        is_offer_unanswered: false,
        took,
    }
}

fn closed(identity: &Identity) -> Record<'_> {
    Record::Closed {
        connection: CONNECTION,
        identity,
        ending: Ending::Eof,
        reason: Ending::Eof.reason(),
        summary: Summary {
            lasted: Duration::from_millis(12_345),
            round_trip: Some(Duration::from_micros(1_234)),
            traffic: Traffic { messages_received: 1, bytes_received: 11, messages_sent: 2, bytes_sent: 22 },
        },
    }
}

fn rejected() -> Record<'static> {
    refused(HandshakeError::IdentityMissing, None)
}

fn refused(error: HandshakeError, close_code: Option<CloseCode>) -> Record<'static> {
    let (request_id, took) = (Some("r-1"), Duration::from_micros(1_900));
    Record::Rejected { connection: CONNECTION, peer: PEER, request_id, client: None, error, close_code, took }
}

#[test]
fn the_three_sentences_stand_in_the_log_word_for_word() {
    let user = john();
    assert_eq!(
        line(TERM, established(&user)),
        "INFO WebSocket connection established - User: John Doe (john@example.com) - ID: 123, \
         conn: 7, request_id: 0000005f-7, peer: 127.0.0.1:40000, handshake_ms: 3"
    );
    assert_eq!(
        line(TERM, text(&user, "Hello World")),
        "INFO Message from John Doe (123): Hello World, conn: 7, request_id: 0000005f-7, opcode: text, bytes: 11"
    );
    assert_eq!(
        line(TERM, closed(&user)),
        "INFO WebSocket connection closed for user John Doe (123), conn: 7, request_id: 0000005f-7, code: 1006, side: client, \
         reason: connection ended without a close frame, duration_ms: 12345, rtt_ms: 1.234, \
         messages_received: 1, messages_sent: 2, bytes_received: 11, bytes_sent: 22"
    );
}

#[test]
fn the_same_in_json() {
    let user = john();
    assert_eq!(
        line(JSON, established(&user)),
        r#"{"level":"INFO","event":"connection_established","msg":"WebSocket connection established - User: John Doe (john@example.com) - ID: 123","conn":7,"request_id":"0000005f-7","session_id":"0000005f-7","user_id":"123","user_name":"John Doe","user_email":"john@example.com","peer":"127.0.0.1:40000","handshake_ms":3}"#
    );
    assert_eq!(
        line(JSON, text(&user, "Hello World")),
        r#"{"level":"INFO","event":"message","msg":"Message from John Doe (123): Hello World","conn":7,"request_id":"0000005f-7","session_id":"0000005f-7","user_id":"123","user_name":"John Doe","user_email":"john@example.com","opcode":"text","bytes":11,"text":"Hello World"}"#
    );
    assert_eq!(
        line(JSON, closed(&user)),
        r#"{"level":"INFO","event":"connection_closed","msg":"WebSocket connection closed for user John Doe (123)","conn":7,"request_id":"0000005f-7","session_id":"0000005f-7","user_id":"123","user_name":"John Doe","user_email":"john@example.com","code":1006,"side":"client","reason":"connection ended without a close frame","duration_ms":12345,"rtt_ms":1.234,"messages_received":1,"messages_sent":2,"bytes_received":11,"bytes_sent":22}"#
    );
}

#[test]
fn json_has_each_value_in_a_field_of_its_own_and_exactly() {
    let user = Identity::new(b"9", b"x@y) - ID: 1", "Admin (1): \"x\"\u{202e}\u{200b} é".as_bytes()).unwrap();
    for record in [established(&user), text(&user, "a\n\"b\"\u{202e} é \\"), closed(&user)] {
        let json = json(JSON, record);
        assert_eq!(json["user_id"], "9");
        assert_eq!(json["user_name"], "Admin (1): \"x\"\u{202e}\u{200b} é");
        assert_eq!(json["user_email"], "x@y) - ID: 1");
        assert_eq!(json["session_id"], "0000005f-7");
    }
    assert_eq!(json(JSON, text(&user, "a\n\"b\"\u{202e} é \\"))["text"], "a\n\"b\"\u{202e} é \\");
    assert_eq!(json(JSON, closed(&user))["duration_ms"], 12_345);

    let john = john();
    let masked = json(LogSettings { email: EmailLog::Masked, ..JSON }, text(&john, "x"));
    assert_eq!(masked["user_email"], "j***@e***.com");
    let off = json(LogSettings { email: EmailLog::Off, ..JSON }, established(&john));
    assert!(off.get("user_email").is_none(), "{off}");
    let nameless = Identity::new(b"9", b"", b"").unwrap();
    let nameless = json(JSON, established(&nameless));
    assert!(nameless.get("user_name").is_none() && nameless.get("user_email").is_none(), "{nameless}");

    let long = "é".repeat(200);
    let cut = json(JSON, text(&user, &long));
    assert_eq!((&cut["text"], &cut["is_truncated"]), (&"é".repeat(128).into(), &true.into()));
    assert_eq!(cut["bytes"], 400);
    let whole = json(LogSettings { messages: MessageLog::Full, ..JSON }, text(&user, &long));
    assert_eq!(whole["text"], long);
    assert!(whole.get("is_truncated").is_none(), "{whole}");
    let size = json(LogSettings { messages: MessageLog::Size, ..JSON }, text(&user, &long));
    assert!(size.get("text").is_none(), "{size}");
    let binary =
        Record::Message { connection: CONNECTION, identity: &user, kind: DataKind::Binary, payload: b"x" };
    assert!(json(JSON, binary).get("text").is_none());
}

#[test]
fn json_names_the_event_of_each_record() {
    let user = john();
    let pong =
        Record::Pong { connection: CONNECTION, identity: &user, round_trip: Duration::from_micros(1_500) };
    let abandoned = Record::Abandoned { connection: CONNECTION, peer: PEER, received: 5 };
    for (record, event) in [
        (established(&user), "connection_established"),
        (text(&user, "x"), "message"),
        (pong, "pong"),
        (closed(&user), "connection_closed"),
        (rejected(), "upgrade_rejected"),
        (abandoned, "connection_abandoned"),
    ] {
        assert_eq!(json(JSON, record)["event"], event);
    }
    assert_eq!(json(JSON, pong)["rtt_ms"], 1.5);
}

#[test]
fn a_panic_is_a_record() {
    let lines = log(JSON, |log| {
        process::record_panics(log);
        let worker = thread::Builder::new().name("worker-3".to_owned());
        assert!(worker.spawn(|| panic!("two\nlines")).unwrap().join().is_err());
    });
    let record: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!((&record["level"], &record["event"]), (&"CRITICAL".into(), &"panicked".into()));
    assert_eq!((&record["msg"], &record["thread"]), (&"panicked: two\nlines".into(), &"worker-3".into()));
    assert!(record["place"].as_str().unwrap().contains("tests.rs:"), "{record}");
}

#[test]
fn levels_have_one_spelling_in_both_formats() {
    let say = |log: &Log| {
        let logger = log.logger();
        slog::crit!(logger, "x");
        slog::error!(logger, "x");
        warn!(logger, "x");
        info!(logger, "x");
        debug!(logger, "x");
        slog::trace!(logger, "x");
    };
    let levels = ["CRITICAL", "ERROR", "WARN", "INFO", "DEBUG", "TRACE"];
    let term: Vec<String> = log(TERM, say).iter().map(|line| without_time(line)).collect();
    assert_eq!(term, levels.map(|level| format!("{level} x")));
    for (line, level) in log(JSON, say).iter().zip(levels) {
        let json: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(json["level"], level);
    }
}

#[test]
fn a_user_without_name_and_address_is_a_dash() {
    let user = Identity::new(b"123", b"", b"").unwrap();
    assert!(line(TERM, established(&user)).contains(" - User: - (-) - ID: 123, "));
    assert!(line(TERM, text(&user, "x")).starts_with("INFO Message from - (123): x, "));
    assert!(line(TERM, closed(&user)).contains(" closed for user - (123), "));
}

#[test]
fn the_subprotocol_that_was_answered_is_named() {
    let record = Record::Established {
        connection: CONNECTION,
        peer: PEER,
        identity: &john(),
        subprotocol: Some("bearer"),
        is_offer_unanswered: false,
        took: Duration::ZERO,
    };
    assert!(line(TERM, record).contains(", subprotocol: bearer, "));
}

#[test]
fn a_client_whose_offer_was_not_answered_is_marked() {
    let record = Record::Established {
        connection: CONNECTION,
        peer: PEER,
        identity: &john(),
        subprotocol: None,
        is_offer_unanswered: true,
        took: Duration::ZERO,
    };
    assert!(line(TERM, record).contains(", subprotocol_unanswered: true, "));
    assert!(line(JSON, record).contains(r#","subprotocol_unanswered":true,"#));
}

#[test]
fn the_refusal_of_an_untrusted_peer_says_what_to_add() {
    for (ip, needs) in [
        ("100.64.7.1", "100.64.7.1 or cgnat"),
        ("169.254.1.1", "169.254.1.1 or link-local"),
        ("10.1.2.3", "10.1.2.3 or private"),
        ("::ffff:10.1.2.3", "10.1.2.3 or private"),
        ("203.0.113.9", "203.0.113.9"),
        ("2001:db8::1", "2001:db8::1"),
    ] {
        let record = Record::Rejected {
            connection: CONNECTION,
            peer: Peer::Tcp { ip: ip.parse().unwrap(), port: 1 },
            request_id: None,
            client: None,
            error: HandshakeError::PeerNotTrusted,
            close_code: None,
            took: Duration::ZERO,
        };
        let detail = format!(", detail: POSTERN_TRUSTED_PROXIES needs {needs} if this is your gateway, ");
        let line = line(TERM, record);
        assert!(line.contains(&detail), "{line}");
    }
}

#[test]
fn the_client_is_named_if_the_gateway_says_who_it_is() {
    let client = Client::Address("203.0.113.9".parse().unwrap());
    let user = john().with_request(None, Some(client));
    assert!(line(TERM, established(&user)).contains(", peer: 127.0.0.1:40000, client: 203.0.113.9, "));
    assert!(line(JSON, closed(&user)).contains(r#","client":"203.0.113.9","code":1006,"#));
    let record = Record::Rejected {
        connection: CONNECTION,
        peer: PEER,
        request_id: None,
        client: Some(Client::Obfuscated("_hidden")),
        error: HandshakeError::IdentityMissing,
        close_code: None,
        took: Duration::ZERO,
    };
    assert!(line(TERM, record).contains(", peer: 127.0.0.1:40000, client: _hidden, status: 401, "));
}

#[test]
fn a_refusal_is_a_warning_with_its_status_and_code() {
    assert_eq!(
        line(TERM, rejected()),
        "WARN WebSocket upgrade refused - 401 no user id: the gateway did not vouch for a user, \
         conn: 7, request_id: r-1, peer: 127.0.0.1:40000, status: 401, code: identity_missing, handshake_ms: 1"
    );
}

#[test]
fn a_refusal_by_a_close_frame_names_the_code_that_was_sent_and_not_the_status() {
    let record = refused(HandshakeError::IdentityMissing, Some(CloseCode::from(4401)));
    assert_eq!(
        line(TERM, record),
        "WARN WebSocket upgrade refused - 4401 no user id: the gateway did not vouch for a user, \
         conn: 7, request_id: r-1, peer: 127.0.0.1:40000, close_code: 4401, code: identity_missing, handshake_ms: 1"
    );
    assert!(line(JSON, record).contains(r#","close_code":4401,"code":"identity_missing","#));
}

#[test]
fn an_assertion_that_is_not_believed_is_logged_with_the_rule_that_it_breaks() {
    assert_eq!(
        line(TERM, refused(AssertionError::Signature.into(), None)),
        "WARN WebSocket upgrade refused - 401 the assertion is not a token that is signed with a key of its issuer, \
         conn: 7, request_id: r-1, peer: 127.0.0.1:40000, status: 401, code: assertion_invalid, \
         detail: the signature is wrong, handshake_ms: 1"
    );
}

#[test]
fn a_peer_that_left_early_is_worth_a_debug_line() {
    let record = Record::Abandoned { connection: CONNECTION, peer: PEER, received: 5 };
    assert_eq!(
        line(TERM, record),
        "DEBUG WebSocket upgrade abandoned - the connection ended before the request was complete, \
         conn: 7, request_id: 0000005f-7, peer: 127.0.0.1:40000, bytes_received: 5"
    );
    assert_eq!(lines(LogSettings { level: Level::Info, ..TERM }, &[record]), [""; 0]);
}

#[test]
fn a_payload_is_shown_as_the_setting_says() {
    let user = john();
    let shown = |messages, kind, payload: &[u8]| {
        let record = Record::Message { connection: CONNECTION, identity: &user, kind, payload };
        let lines = lines(LogSettings { messages, ..TERM }, &[record]);
        lines.first().map(|line| without_time(line).replace("INFO Message from John Doe (123): ", ""))
    };
    let long = "x".repeat(300);
    let cut = format!(
        "{}… (+44 bytes), conn: 7, request_id: 0000005f-7, opcode: text, bytes: 300",
        "x".repeat(256)
    );
    assert_eq!(shown(MessageLog::Truncated, DataKind::Text, long.as_bytes()), Some(cut));
    let whole = format!("{long}, conn: 7, request_id: 0000005f-7, opcode: text, bytes: 300");
    assert_eq!(shown(MessageLog::Full, DataKind::Text, long.as_bytes()), Some(whole));
    let size = "300 bytes, conn: 7, request_id: 0000005f-7, opcode: text, bytes: 300".to_owned();
    assert_eq!(shown(MessageLog::Size, DataKind::Text, long.as_bytes()), Some(size));
    assert_eq!(shown(MessageLog::Off, DataKind::Text, long.as_bytes()), None);
    let binary =
        "binary, 2 bytes: 00ff, conn: 7, request_id: 0000005f-7, opcode: binary, bytes: 2".to_owned();
    assert_eq!(shown(MessageLog::Truncated, DataKind::Binary, b"\x00\xff"), Some(binary));
}

#[test]
fn an_address_is_shown_as_the_setting_says() {
    let user = john();
    for (email, shown) in [(EmailLog::Masked, "j***@e***.com"), (EmailLog::Off, "-")] {
        let line = line(LogSettings { email, ..TERM }, established(&user));
        assert!(line.contains(&format!("User: John Doe ({shown}) - ID: 123, ")), "{line}");
    }
}

#[test]
fn records_below_the_level_are_left_out() {
    let user = john();
    let records = [established(&user), text(&user, "x"), rejected(), closed(&user)];
    for (level, count) in [(Level::Info, 4), (Level::Warning, 1), (Level::Error, 0)] {
        assert_eq!(lines(LogSettings { level, ..TERM }, &records).len(), count, "{level}");
    }
}

#[test]
fn records_of_a_worker_keep_their_order_and_go_out_with_the_batch() {
    let user = john();
    let lines = log(TERM, |log| {
        let mut worker = log.worker(0x5f);
        worker.record(&established(&user));
        (0..3).for_each(|number| worker.record(&text(&user, &number.to_string())));
        worker.record(&closed(&user));
        worker.flush();
        worker.flush();
    });
    let starts: Vec<String> =
        lines.iter().map(|line| without_time(line).chars().take(29).collect()).collect();
    assert_eq!(
        starts,
        [
            "INFO WebSocket connection est",
            "INFO Message from John Doe (1",
            "INFO Message from John Doe (1",
            "INFO Message from John Doe (1",
            "INFO WebSocket connection clo",
        ]
    );
    for (number, line) in lines[1..4].iter().enumerate() {
        assert!(line.contains(&format!("(123): {number}, ")), "{line}");
    }
    let times: Vec<&str> = lines.iter().map(|line| &line[..24]).collect();
    assert!(times.iter().all(|time| *time == times[0]), "{times:?}");
}

#[test]
fn the_process_itself_logs_with_slogs_macros_and_keeps_their_order() {
    let say = |log: &Log| {
        let logger = log.logger().new(o!("node" => "a"));
        info!(logger, # "listening", "listening"; "address" => "0.0.0.0:8080", "workers" => 2, "ratio" => 0.5, "tls" => false);
        debug!(logger, "left out");
        warn!(logger, "odd\nthing {}", 1);
    };
    let term: Vec<_> =
        log(LogSettings { level: Level::Info, ..TERM }, say).iter().map(|line| without_time(line)).collect();
    assert_eq!(
        term,
        [
            "INFO listening, node: a, address: 0.0.0.0:8080, workers: 2, ratio: 0.5, tls: false",
            "WARN odd\\nthing 1, node: a",
        ]
    );
    let json: Vec<_> =
        log(LogSettings { level: Level::Info, ..JSON }, say).iter().map(|line| without_time(line)).collect();
    assert_eq!(
        json,
        [
            r#"{"level":"INFO","event":"listening","msg":"listening","node":"a","address":"0.0.0.0:8080","workers":2,"ratio":0.5,"tls":false}"#,
            r#"{"level":"WARN","event":"process","msg":"odd\nthing 1","node":"a"}"#,
        ]
    );
}

#[test]
fn a_user_cannot_write_a_line_of_the_log() {
    let user = Identity::new(b"9", b"x@y) - ID: 1", b"Admin (1): x").unwrap();
    let line =
        line(TERM, text(&user, "hi\r\n2026-05-09T12:34:56.789Z INFO Message from Admin (1): rm, conn: 1"));
    assert_eq!(
        line,
        r#"INFO Message from "Admin (1): x" (9): hi\r\n2026-05-09T12:34:56.789Z INFO Message from Admin (1): rm, conn: 1, conn: 7, request_id: 0000005f-7, opcode: text, bytes: 69"#
    );
    let established = lines(TERM, &[established(&user)]);
    assert!(established[0].contains(r#"User: "Admin (1): x" ("x@y) - ID: 1") - ID: 9, "#), "{established:?}");
}

#[test]
fn the_reason_of_an_operator_is_in_one_line() {
    let user = john();
    let Record::Closed { connection, identity, summary, .. } = closed(&user) else { unreachable!() };
    let ending = Ending::Closed(CloseCode(4403));
    let reason = "logged out\n2026-05-09T12:34:56.789Z INFO forged\u{202e}";
    let record = Record::Closed { connection, identity, ending, reason, summary };
    let line = line(TERM, record);
    assert!(
        line.contains(r"side: server, reason: logged out\n2026-05-09T12:34:56.789Z INFO forged\u{202e}, "),
        "{line}"
    );
    assert_eq!(json(JSON, record)["reason"], reason);
}

#[test]
fn an_id_cannot_write_a_line_of_the_log() {
    let id = r"7):.Message.from.Admin.(1):\n";
    let user = Identity::new(id.as_bytes(), b"", b"Ann").unwrap();
    let closed = lines(TERM, &[closed(&user)]);
    assert!(
        closed[0].contains(r#" for user Ann ("7):.Message.from.Admin.(1):\\n"), conn: 7, "#),
        "{closed:?}"
    );
    let established = lines(TERM, &[established(&user)]);
    assert!(
        established[0].contains(r#" - ID: "7):.Message.from.Admin.(1):\\n", conn: 7, "#),
        "{established:?}"
    );
    // With the widest charset.
    let rules = IdentityRules { ids: IdCharset::Any, ..IdentityRules::default() };
    let id = b"1, conn: 9, request_id: x";
    let user = rules.identity(&IdentityValues { id, ..IdentityValues::default() }).unwrap();
    assert_eq!(
        line(TERM, text(&user, "hi")),
        r#"INFO Message from - ("1, conn: 9, request_id: x"): hi, conn: 7, request_id: 0000005f-7, opcode: text, bytes: 2"#
    );
}

#[test]
fn a_log_that_pauses_is_full_until_there_is_room_and_loses_nothing() {
    let (release, stall) = mpsc::channel::<()>();
    let (sink, written) = mpsc::channel();
    let log = Log::start(&LogSettings { stall: Stall::Pause, ..TERM }, Stalled(stall, Sink(sink))).unwrap();
    let (mut worker, user, payload) = (log.worker(0x5f), john(), "x".repeat(200));
    let mut records = 0;
    while !worker.is_full() {
        worker.record(&text(&user, &payload));
        worker.flush();
        records += 1;
        assert!(records < 100_000, "8 MiB is enough");
    }
    // What one turn brings still, and what ends meanwhile.
    for _ in 0..1000 {
        worker.record(&text(&user, &payload));
    }
    records += 1000;
    worker.flush();
    let now = Instant::now();
    assert!(worker.is_full() && worker.retry_at(now).is_some_and(|at| at > now));
    drop(release);
    while worker.is_full() {
        thread::sleep(Duration::from_millis(1));
        worker.flush();
    }
    assert_eq!(worker.retry_at(now), None);
    drop(worker);
    drop(log);
    let written: Vec<u8> = written.into_iter().flatten().collect();
    let lines = written.iter().filter(|&&byte| byte == b'\n').count();
    assert_eq!(lines, records);
}

#[test]
fn what_a_log_that_pauses_must_not_keep_is_dropped_and_counted() {
    let (release, stall) = mpsc::channel::<()>();
    let (sink, written) = mpsc::channel();
    let log = Log::start(&LogSettings { stall: Stall::Pause, ..TERM }, Stalled(stall, Sink(sink))).unwrap();
    let (mut worker, user, payload) = (log.worker(0x5f), john(), "x".repeat(200));
    const RECORDS: usize = 200_000;
    for _ in 0..RECORDS {
        worker.record(&text(&user, &payload));
        worker.flush();
    }
    assert!(worker.is_full());
    drop(worker);
    drop(release);
    drop(log);
    let written: Vec<u8> = written.into_iter().flatten().collect();
    let written = String::from_utf8(written).unwrap();
    let (reports, records): (Vec<&str>, Vec<&str>) =
        written.lines().partition(|line| line.contains("log records dropped, count: "));
    let dropped: usize =
        reports.iter().map(|line| line.rsplit_once(' ').unwrap().1.parse::<usize>().unwrap()).sum();
    assert!(dropped > 0);
    assert_eq!(records.len() + dropped, RECORDS);
}

/// Takes nothing until the test has let go, and from then on everything.
struct Stalled(mpsc::Receiver<()>, Sink);

impl Write for Stalled {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.recv();
        self.1.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_stalled_sink_blocks_no_worker_and_the_loss_is_reported_to_the_record() {
    const WORKERS: usize = 4;
    const RECORDS: usize = 20_000;
    let payload = "x".repeat(200);
    let (release, stall) = mpsc::channel();
    let (sink, written) = mpsc::channel();
    let log = Log::start(&TERM, Stalled(stall, Sink(sink))).unwrap();
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            let mut worker = log.worker(0x5f);
            let payload = &payload;
            scope.spawn(move || {
                let user = john();
                for number in 0..RECORDS {
                    worker.record(&text(&user, payload));
                    if number % 50 == 0 {
                        worker.flush();
                    }
                }
            });
        }
    });
    // It takes a fraction of this; a worker that waits for the sink would never end.
    assert!(begun.elapsed() < Duration::from_secs(10));
    drop(release);
    drop(log);

    let written: Vec<u8> = written.into_iter().flatten().collect();
    let written = String::from_utf8(written).unwrap();
    let (reports, records): (Vec<&str>, Vec<&str>) =
        written.lines().partition(|line| line.contains("log records dropped, count: "));
    let dropped: usize =
        reports.iter().map(|line| line.rsplit_once(' ').unwrap().1.parse::<usize>().unwrap()).sum();
    assert!(dropped > 0);
    assert_eq!(records.len() + dropped, WORKERS * RECORDS);
    assert!(records.iter().all(|line| line.ends_with(", bytes: 200")));
    // What fits is kept: all but a batch of the whole queue.
    assert!(written.len() > TERM.queue - 256 * 1024, "{}", written.len());
}

/// Anything a gateway, a client or an attacker may send as text: with a liking for what has broken logs.
fn nasty() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop_oneof![
        any::<Vec<u8>>(),
        any::<String>().prop_map(String::into_bytes),
        any::<char>().prop_map(|c| c.to_string().into_bytes()),
        prop::sample::select(vec![
            "\r\n",
            "\n",
            "\x1b[2J",
            "\u{9b}31m",
            "\u{202e}",
            "\u{2066}",
            "\u{2028}",
            "\u{feff}",
            "\u{e0041}",
            "\"",
            "\\",
            "\\n",
            "(1): ",
            "}\n{",
            "\0",
            "John Doe",
            "Дима",
            "é",
            ", conn: 1",
        ])
        .prop_map(|piece| piece.as_bytes().to_vec()),
    ];
    prop::collection::vec(pieces, 0..8).prop_map(|pieces| pieces.concat())
}

/// Ids of the widest charset.
fn ids() -> impl Strategy<Value = String> {
    let parts = prop::sample::select(vec![
        "a",
        "1",
        "): ",
        ", conn: 1",
        "\\",
        "\\n",
        "é",
        "👤",
        "'",
        "\u{fffe}",
        "%0a",
    ]);
    let id = prop::collection::vec(parts, 1..6).prop_map(|parts| parts.concat());
    id.prop_filter("a space at its end", |id| IdCharset::Any.admits(id))
}

proptest! {
    #[test]
    fn one_record_is_one_harmless_line(
        id in ids(), email in nasty(), name in nasty(), payload in nasty(),
        is_text: bool,
        shown in prop::sample::select(vec![MessageLog::Full, MessageLog::Truncated, MessageLog::Size]),
        address in prop::sample::select(vec![EmailLog::Full, EmailLog::Masked, EmailLog::Off]),
    ) {
        let rules = IdentityRules { ids: IdCharset::Any, ..IdentityRules::default() };
        let values = IdentityValues { id: id.as_bytes(), email: &email, name: &name, ..IdentityValues::default() };
        let user = rules.identity(&values).unwrap();
        let kind = if is_text { DataKind::Text } else { DataKind::Binary };
        let message = Record::Message { connection: CONNECTION, identity: &user, kind, payload: &payload };
        let records = [established(&user), message, closed(&user)];

        let settings = LogSettings { messages: shown, email: address, ..TERM };
        let term = lines(settings, &records);
        let json = lines(LogSettings { format: LogFormat::Json, ..settings }, &records);
        prop_assert_eq!((term.len(), json.len()), (records.len(), records.len()));
        let events = ["connection_established", "message", "connection_closed"];
        for (line, event) in json.iter().zip(events) {
            let json: serde_json::Value = serde_json::from_str(line).unwrap();
            prop_assert_eq!(json["event"].as_str(), Some(event));
            prop_assert_eq!(json["user_id"].as_str(), Some(user.id()));
            prop_assert_eq!(json["session_id"].as_str(), Some("0000005f-7"));
            prop_assert_eq!(json["user_name"].as_str(), user.name());
            match address {
                EmailLog::Full => prop_assert_eq!(json["user_email"].as_str(), user.email()),
                EmailLog::Masked => prop_assert_eq!(json["user_email"].is_string(), user.email().is_some()),
                EmailLog::Off => prop_assert!(json.get("user_email").is_none()),
            }
        }
        let json_message: serde_json::Value = serde_json::from_str(&json[1]).unwrap();
        let whole = String::from_utf8_lossy(&payload);
        match (shown, kind) {
            (MessageLog::Full, DataKind::Text) => {
                prop_assert_eq!(json_message["text"].as_str(), Some(whole.as_ref()));
            }
            (MessageLog::Truncated, DataKind::Text) => {
                let text = json_message["text"].as_str().unwrap();
                prop_assert!(payload.len() > 256 || text == whole);
                prop_assert_eq!(json_message["is_truncated"].as_bool().unwrap_or_default(), payload.len() > 256);
            }
            _ => prop_assert!(json_message.get("text").is_none()),
        }
        for (term, json) in term.iter().zip(&json) {
            prop_assert!(!term.contains(is_harmful), "{}", term);
            prop_assert!(!json.contains(is_harmful), "{}", json);
            // What JSON says is what term shows.
            let json: serde_json::Value = serde_json::from_str(json).unwrap();
            let (message, level) = (json["msg"].as_str().unwrap(), json["level"].as_str().unwrap());
            prop_assert!(without_time(term).starts_with(&format!("{level} {message}, conn: 7, request_id: 0000005f-7, ")), "{}", term);
        }
    }
}
