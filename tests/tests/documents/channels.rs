//! The server API in docs/channels.md.

use std::collections::BTreeSet;

use postern_tests::documents::shell::Shell;
use postern_tests::documents::{document, spans};
use postern_tests::postern::{API_KEY, Postern, Runtime};
use serde_json::json;

#[test]
fn server_api_prints_the_output_that_the_document_shows() {
    let document = document("docs/channels.md");
    for runtime in Runtime::BOTH {
        let channels = &document.block("[namespaces.auction]").text;
        let postern = Postern::with(runtime, &[]).channels(channels).control().start();
        let shell = Shell::new().port(8081, postern.control()).set("KEY", API_KEY);
        shell.prints(document.block("/api/publish"), document.block("\"delivered\":0"));
        let error: serde_json::Value =
            serde_json::from_str(&document.block("unknown channel").text).expect("JSON");
        let said = postern.post("/api/publish", &json!({ "channel": "bids:1", "data": 1 }));
        assert_eq!(said.json(), error, "{runtime}");
    }
}

#[test]
fn table_of_methods_has_all_of_them() {
    let document = document("docs/channels.md");
    let rows = document.rows("The server API", "method");
    let listed: BTreeSet<&str> = rows.iter().flat_map(|(_, cells)| spans(&cells[0])).collect();
    for postern in Postern::both_with_control(&[]) {
        let unknown = postern.post("/api/METHOD", &json!({})).json();
        let message = unknown["error"]["message"].as_str().expect("a message");
        let (_, methods) = message.split_once("with the methods ").expect("a list");
        assert_eq!(listed, methods.split(", ").collect::<BTreeSet<_>>());
    }
}
