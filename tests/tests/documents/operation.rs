//! The log records, the API and the notice of a shutdown in docs/operation.md.

use std::collections::BTreeSet;
use std::net::TcpStream;

use postern_tests::documents::{document, spans};
use postern_tests::http;
use postern_tests::postern::{API_KEY, Postern, Runtime};
use postern_tests::ws::Handshake;
use rustix::process::Signal;
use serde_json::Value;

#[test]
fn control_port_serves_the_paths_of_the_table() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start_with_control(runtime, &[]);
        let mut count = 0;
        for (line, cells) in document("docs/operation.md").rows("The control port", "") {
            for request in spans(&cells[0]) {
                let (method, path) = request.split_once(' ').expect("a method and a path");
                let headers = [("X-API-Key", API_KEY)];
                let answer =
                    http::request(postern.control(), method, path, &headers, b"").expect("an answer");
                assert!(
                    ![404, 405].contains(&answer.status),
                    "docs/operation.md:{line}: {request}: {answer}"
                );
                count += 1;
            }
        }
        assert_eq!(count, 12, "the number of routes");
    }
}

#[test]
fn notice_of_a_shutdown_is_as_documented() {
    let documented = document("docs/operation.md");
    let documented = documented.code.iter().find_map(|(_, span)| {
        serde_json::from_str::<Value>(span).ok().filter(|value| value["type"] == "disconnect")
    });
    let documented = documented.expect("the notice is documented");
    for runtime in Runtime::BOTH {
        let mut postern = Postern::start(runtime, &[("POSTERN_DRAIN_SPREAD", "300ms")]);
        let mut client = Handshake::to(postern.address()).as_john().subprotocols(&["postern.v1.json"]).open();
        postern.process.signal(Signal::TERM).expect("it runs");
        let notice = client.socket.read().expect("a notice");
        let notice: Value = serde_json::from_str(notice.to_text().expect("a text")).expect("JSON");
        for key in ["type", "code", "reason", "reconnect"] {
            assert_eq!(notice[key], documented[key], "{runtime}: {key}");
        }
        assert!(notice["reconnect_after_ms"].is_u64() && documented["reconnect_after_ms"].is_u64());
    }
}

#[test]
fn log_records_have_the_level_event_and_fields_of_the_tables() {
    let document = document("docs/operation.md");
    let records = document.rows("The log", "record");
    let listed = |record: &str| {
        let row = records.iter().find(|(_, cells)| cells[0].contains(record));
        let (_, cells) = row.unwrap_or_else(|| panic!("{record} is not in the table"));
        let [level, event, fields] = [&cells[1], &cells[2], &cells[3]];
        // Fields after the first semicolon are optional.
        let always = fields.split(';').next().unwrap_or_default();
        let [always, all] =
            [always, fields].map(|fields| spans(fields).map(str::to_owned).collect::<BTreeSet<_>>());
        (level.clone(), spans(event).collect::<String>(), always, all)
    };
    let common = document.rows("The log", "field");
    let common = |event: &str| -> Vec<String> {
        let is_of_user = !["upgrade_rejected", "connection_abandoned"].contains(&event);
        let has = |records: &str| match records {
            "all" => true,
            "of an admitted user" => is_of_user,
            "of a text message" => event == "message",
            _ => false,
        };
        let rows = common.iter().filter(|(_, cells)| has(&cells[1]));
        rows.flat_map(|(_, cells)| spans(&cells[0])).map(str::to_owned).collect()
    };
    for runtime in Runtime::BOTH {
        let settings = [("LOG_FORMAT", "json"), ("LOG_LEVEL", "debug"), ("POSTERN_PING_INTERVAL", "100ms")];
        let postern = Postern::start(runtime, &settings);
        let mut client = Handshake::to(postern.address()).as_john().subprotocols(&["postern.v1.json"]).open();
        client.echo("Hello");
        // The client answers pings while it reads.
        assert!(client.socket.read().expect("a ping").is_ping());
        client.socket.flush().expect("a pong");
        postern.wait_for("Pong from");
        client.close();
        Handshake::to(postern.address()).refused();
        drop(TcpStream::connect(postern.address()).expect("it listens"));
        for record in [
            "WebSocket connection established",
            "Message from",
            "WebSocket connection closed",
            "WebSocket upgrade refused",
            "Pong from",
            "WebSocket upgrade abandoned",
        ] {
            let line: Value = serde_json::from_str(&postern.wait_for(record)).expect("JSON");
            let keys = line.as_object().expect("an object").keys().cloned();
            let keys: BTreeSet<String> =
                keys.filter(|key| !["ts", "level", "event", "msg"].contains(&&**key)).collect();
            let (level, event, always, all) = listed(record);
            assert_eq!(line["level"], level, "{runtime}: {record}");
            assert_eq!(line["event"], event, "{runtime}: {record}");
            let [always, all] = [always, all]
                .map(|fields| -> BTreeSet<String> { fields.into_iter().chain(common(&event)).collect() });
            assert!(keys.is_superset(&always) && keys.is_subset(&all), "{runtime}: {record}: {keys:?}");
        }
    }
}
