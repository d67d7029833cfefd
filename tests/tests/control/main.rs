//! The control port of both binaries.
//!
//! * [`operations`]: probes, queries, and the operations on connections.
//! * [`requests`]: refusals, keys, slow clients, and the command `healthcheck`.

mod operations;
mod requests;

use postern_tests::http::Response;
use postern_tests::postern::{API_KEY, Postern};
use postern_tests::wait_until;
use postern_tests::ws::Open;
use serde_json::Value;

const KEY: (&str, &str) = ("X-API-Key", API_KEY);
const JSON: (&str, &str) = ("Content-Type", "application/json");

/// Returns a connection of this user, in a session if there is one.
#[track_caller]
fn connect(postern: &Postern, user: &str, session: Option<&str>) -> Open {
    let handshake = postern.handshake().header("User-ID", user);
    match session {
        Some(session) => handshake.header("User-Session-ID", session).open(),
        None => handshake.open(),
    }
}

/// Returns the connections that the method `connections` lists for these parameters.
#[track_caller]
fn listed(postern: &Postern, params: &Value) -> Vec<Value> {
    let response = postern.post("/api/connections", params);
    assert_eq!(response.status, 200, "{response}");
    response.json()["result"]["connections"].as_array().cloned().expect("a list")
}

/// Repeats a probe until its body is `expected`.
#[track_caller]
fn wait_for(postern: &Postern, path: &str, expected: &Value) -> Response {
    wait_until(&format!("{path} is {expected}"), || postern.get(path).json() == *expected);
    postern.get(path)
}
