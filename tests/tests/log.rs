//! The log of both binaries in both formats. The unit tests of the host have all records, and prove that a user cannot forge
//! one.

use postern_tests::postern::{Postern, Runtime};

/// The three sentences, in their order.
const SENTENCES: [&str; 3] = [
    "WebSocket connection established - User: John Doe (john@example.com) - ID: 123",
    "Message from John Doe (123): Hello World",
    "WebSocket connection closed for user John Doe (123)",
];

/// Runs a connection of John Doe, until its last line is logged.
#[track_caller]
fn visit(postern: &Postern, message: &str) {
    let mut open = postern.open();
    open.echo(message);
    open.close();
    postern.wait_for(SENTENCES[2]);
}

#[test]
fn three_sentences_are_logged_in_both_formats() {
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
fn settings_for_production_log_no_texts_and_mask_addresses() {
    let preset = postern_tests::settings_in("deploy/production.env");
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
fn each_record_of_a_connection_has_the_id_of_its_request() {
    for mut postern in Postern::both(&[("LOG_LEVEL", "debug")]) {
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let handshake = || postern.john().header("traceparent", trace);
        let given = handshake().header("x-request-id", "edge-7/5f3a").open();
        let traced = handshake().open();
        let made = postern.john().header("X-Request-Id", "no id, but words").open();
        let ids = [&given, &traced, &made].map(|open| open.response.header("x-request-id").to_owned());
        assert_eq!(ids[..2], ["edge-7/5f3a", "4bf92f3577b34da6a3ce929d0e0e4736"]);
        for (mut open, id) in [given, traced, made].into_iter().zip(&ids) {
            open.echo("Hello World");
            open.close();
            postern.wait_for("WebSocket connection closed");
            let key = format!(", request_id: {id}, ");
            for start in ["connection established - ", "Message from ", "connection closed for "] {
                postern_tests::wait_until("each record has the id", || {
                    let log = postern.log();
                    log.iter().filter(|line| line.contains(start) && line.contains(&key)).count() == 1
                });
            }
        }
        let refused = postern.handshake().header("X-Request-Id", "refused-1").refused();
        assert_eq!(refused.status, 401);
        let line = postern.wait_for("WebSocket upgrade refused");
        assert!(line.contains(", request_id: refused-1, "), "{line}");
        assert!(postern.terminate().success());
    }
}
