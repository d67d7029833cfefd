//! What both binaries write on standard output, in both formats: the three sentences word for word, and nothing
//! that a user could have put there.

use postern_tests::postern::{Postern, Runtime};

/// The three sentences, in their order.
const SENTENCES: [&str; 3] = [
    "WebSocket connection established - User: John Doe (john@example.com) - ID: 123",
    "Message from John Doe (123): Hello World",
    "WebSocket connection closed for user John Doe (123)",
];

/// A session of John Doe's, until its last line is there.
#[track_caller]
fn visit(postern: &Postern, message: &str) {
    let mut open = postern.open();
    open.echo(message);
    open.close();
    postern.wait_for(SENTENCES[2]);
}

#[test]
fn the_three_sentences_are_the_messages_of_records_in_both_formats() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start(runtime, &[("LOG_FORMAT", "term")]);
        visit(&postern, "Hello World");
        let lines = postern.log();
        for sentence in SENTENCES {
            let is_there = |line: &String| {
                line.split_once(" INFO ").is_some_and(|(_, rest)| {
                    rest.strip_prefix(sentence).is_some_and(|values| values.starts_with(", conn: "))
                })
            };
            assert!(lines.iter().any(is_there), "{runtime}: {sentence}: {lines:#?}");
        }

        let postern = Postern::start(runtime, &[("LOG_FORMAT", "json")]);
        visit(&postern, "Hello World");
        let records: Vec<serde_json::Value> = postern
            .log()
            .iter()
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{runtime}: {error}: {line}"))
            })
            .collect();
        for sentence in SENTENCES {
            let is_there = |record: &serde_json::Value| {
                record["msg"] == sentence && record["level"] == "INFO" && record["conn"].is_number()
            };
            assert!(records.iter().any(is_there), "{runtime}: {sentence}: {records:#?}");
        }
    }
}

#[test]
fn json_records_carry_the_user_the_text_and_the_event_as_fields() {
    for runtime in Runtime::BOTH {
        let run = |settings: &[(&str, &str)]| -> Vec<serde_json::Value> {
            let settings = [&[("LOG_FORMAT", "json")], settings].concat();
            let mut postern = Postern::start(runtime, &settings);
            let mut open = postern.open();
            open.echo("a \"b\"\n\u{202e}c");
            open.close();
            postern.wait_for(SENTENCES[2]);
            assert_eq!(postern.handshake().refused().status, 401, "{runtime}");
            assert!(postern.terminate().success(), "{runtime}");
            let lines = postern.log();
            lines.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect()
        };
        let of = |records: &[serde_json::Value], event: &str| -> serde_json::Value {
            let found: Vec<_> = records.iter().filter(|record| record["event"] == event).collect();
            assert_eq!(found.len(), 1, "{runtime}: {event}: {records:#?}");
            found[0].clone()
        };

        let records = run(&[]);
        for record in &records {
            assert!(record["event"].is_string() && record["msg"].is_string(), "{runtime}: {record}");
        }
        let users =
            ["connection_established", "message", "connection_closed"].map(|event| of(&records, event));
        for record in &users {
            assert_eq!(record["user_id"], "123", "{runtime}: {record}");
            assert_eq!(record["user_name"], "John Doe", "{runtime}: {record}");
            assert_eq!(record["user_email"], "john@example.com", "{runtime}: {record}");
            assert!(record["session_id"].is_string(), "{runtime}: {record}");
            assert_eq!(record["session_id"], users[0]["session_id"], "{runtime}: {record}");
        }
        let [established, message, closed] = users;
        assert_eq!(message["text"], "a \"b\"\n\u{202e}c", "{runtime}: {message}");
        assert!(established["handshake_ms"].is_u64(), "{runtime}: {established}");
        assert!(closed["duration_ms"].is_u64(), "{runtime}: {closed}");
        assert_eq!(of(&records, "upgrade_rejected")["level"], "WARN", "{runtime}");
        for event in ["listening", "stopping", "stopped"] {
            assert_eq!(of(&records, event)["level"], "INFO", "{runtime}");
        }

        let records = run(&[("POSTERN_LOG_MESSAGES", "size"), ("POSTERN_LOG_EMAIL", "masked")]);
        let message = of(&records, "message");
        assert_eq!(message["user_email"], "j***@e***.com", "{runtime}: {message}");
        assert!(message.get("text").is_none(), "{runtime}: {message}");
        assert_eq!(message["bytes"], 10, "{runtime}: {message}");
    }
}

#[test]
fn the_preset_for_production_logs_no_texts_and_masks_addresses() {
    let file = postern_tests::workspace::path("deploy/production.env");
    let text = std::fs::read_to_string(file).expect("the file is there");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let preset: Vec<(&str, &str)> = lines.map(|line| line.split_once('=').expect("NAME=value")).collect();
    for runtime in Runtime::BOTH {
        for format in ["term", "json"] {
            let settings = [preset.as_slice(), &[("LOG_FORMAT", format)]].concat();
            let postern = Postern::start(runtime, &settings);
            visit(&postern, "Hello World");
            let log = postern.log().join("\n");
            assert!(log.contains("Message from John Doe (123): 11 bytes"), "{runtime}: {log}");
            assert!(log.contains("User: John Doe (j***@e***.com) - ID: 123"), "{runtime}: {log}");
            assert!(!log.contains("Hello World") && !log.contains("john@example.com"), "{runtime}: {log}");
        }
    }
}

#[test]
fn a_user_writes_no_line_and_no_sentence_of_the_log() {
    let message = "a\r\nWebSocket connection closed for user Eve (666)\u{202e}\u{200b}\u{85}\x1b[2J\0";
    for runtime in Runtime::BOTH {
        for format in ["term", "json"] {
            let postern = Postern::start(runtime, &[("LOG_FORMAT", format)]);
            let mut open = postern
                .handshake()
                .header("User-ID", "666")
                .header("User-Name", "Admin (1): all is well")
                .header("User-Email", "eve@evil.test) - ID: 1")
                .open();
            open.echo(message);
            open.close();
            let quote = if format == "json" { "\\\"" } else { "\"" };
            postern.wait_for(&format!("closed for user {quote}Admin (1): all is well{quote} (666)"));
            let lines = postern.log();
            let about_eve = lines.iter().filter(|line| line.contains("Admin (1)")).count();
            assert_eq!(about_eve, 3, "{runtime}: one record is one line: {lines:#?}");
            for line in &lines {
                let raw = line.chars().find(|c| c.is_control() || matches!(c, '\u{202e}' | '\u{200b}'));
                assert_eq!(raw, None, "{runtime}, {format}: {line:?}");
                assert!(!line.contains("Message from Admin (1)"), "{runtime}, {format}: {line}");
                assert!(!line.contains("User: Admin (1)"), "{runtime}, {format}: {line}");
            }
        }
    }
}

#[test]
fn a_connection_is_found_by_the_id_of_its_request() {
    for runtime in Runtime::BOTH {
        let mut postern = Postern::start(runtime, &[("LOG_LEVEL", "debug")]);
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let handshake = || postern.john().header("traceparent", trace);
        let given = handshake().header("x-request-id", "edge-7/5f3a").open();
        let traced = handshake().open();
        let made = postern.john().header("X-Request-Id", "no id, but words").open();
        let ids = [&given, &traced, &made].map(|open| open.response.header("x-request-id").to_owned());
        assert_eq!(ids[..2], ["edge-7/5f3a", "4bf92f3577b34da6a3ce929d0e0e4736"], "{runtime}");
        for (mut open, id) in [given, traced, made].into_iter().zip(&ids) {
            open.echo("Hello World");
            open.close();
            postern.wait_for("WebSocket connection closed");
            let key = format!(", request_id: {id}, ");
            let of_it = |start: &str| {
                postern.log().iter().filter(|line| line.contains(start) && line.contains(&key)).count()
            };
            let starts = ["connection established - ", "Message from ", "connection closed for "];
            let begun = std::time::Instant::now();
            while starts.map(of_it) != [1, 1, 1] {
                assert!(begun.elapsed().as_secs() < 20, "{runtime}: {id}: {:#?}", postern.log());
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        }
        let refused = postern.handshake().header("X-Request-Id", "refused-1").refused();
        assert_eq!(refused.status, 401);
        let line = postern.wait_for("WebSocket upgrade refused");
        assert!(line.contains(", request_id: refused-1, "), "{runtime}: {line}");
        assert!(postern.terminate().success(), "{runtime}");
    }
}
