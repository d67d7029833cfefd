//! The control port of both binaries.
//!
//! * [`operations`]: probes, queries, and what operators do to connections.
//! * [`requests`]: refusals, keys, slow clients, and the command `healthcheck`.

mod operations;
mod requests;

use postern_tests::http::{self, Response};
use postern_tests::postern::{API_KEY, Postern};
use postern_tests::ws::Open;
use serde_json::Value;
use std::thread;
use std::time::{Duration, Instant};
use tungstenite::Message;

const KEY: (&str, &str) = ("X-API-Key", API_KEY);
const JSON: (&str, &str) = ("Content-Type", "application/json");

#[track_caller]
fn get(postern: &Postern, target: &str) -> Response {
    http::request(postern.control(), "GET", target, &[KEY], b"").expect("an answer")
}

#[track_caller]
fn post(postern: &Postern, path: &str, body: &Value) -> Response {
    let body = body.to_string();
    http::request(postern.control(), "POST", path, &[KEY, JSON], body.as_bytes()).expect("an answer")
}

/// A connection of this user, in a session if there is one.
#[track_caller]
fn connect(postern: &Postern, user: &str, session: Option<&str>) -> Open {
    let handshake = postern.handshake().header("User-ID", user);
    match session {
        Some(session) => handshake.header("User-Session-ID", session).open(),
        None => handshake.open(),
    }
}

/// The connections that a query lists.
#[track_caller]
fn listed(postern: &Postern, query: &str) -> Vec<Value> {
    let response = get(postern, &format!("/api/connections{query}"));
    assert_eq!(response.status, 200, "{response}");
    response.json()["connections"].as_array().cloned().expect("a list")
}

/// The answers to a probe, until it is this.
#[track_caller]
fn wait_for(postern: &Postern, path: &str, expected: &Value) -> Response {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let response = get(postern, path);
        if response.json() == *expected {
            return response;
        }
        assert!(Instant::now() < deadline, "{expected} is expected, not {response}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The code and the reason of the Close that comes next.
#[track_caller]
fn closed(client: &mut Open) -> (u16, String) {
    let message = client.receive();
    let Message::Close(Some(frame)) = message else { panic!("a Close is expected, not {message:?}") };
    (frame.code.into(), frame.reason.to_string())
}
