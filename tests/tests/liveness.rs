//! Pings: lost connections are closed, and idle ones are not.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use postern_tests::chain::{Chain, through_each};
use postern_tests::postern::Postern;
use postern_tests::process::Process;
use postern_tests::{provision, workspace};
use rustix::process::Signal;
use tungstenite::Message;

const INTERVAL: Duration = Duration::from_secs(1);

/// The longest time that a client may be silent: its interval may be a tenth longer.
const LATEST: Duration = Duration::from_millis(1_100 + 500 + 1_000);

const SETTINGS: [(&str, &str); 3] =
    [("POSTERN_PING_INTERVAL", "1s"), ("POSTERN_PONG_TIMEOUT", "500ms"), ("LOG_LEVEL", "debug")];

#[test]
fn client_that_answers_pings_stays_connected_and_its_round_trip_is_logged() {
    for postern in Postern::both(&SETTINGS) {
        let mut open = postern.open();
        for _ in 0..3 {
            let begun = Instant::now();
            let ping = open.socket.read().expect("a ping");
            assert!(matches!(ping, Message::Ping(_)), "{ping:?}");
            assert!(begun.elapsed() > INTERVAL / 2, "pinged although it is not idle");
            open.socket.flush().expect("the pong is taken");
            postern.wait_for("Pong from John Doe (123)");
        }
        open.echo("still here");
        open.close();
        let line = postern.wait_for("WebSocket connection closed for user John Doe (123)");
        assert!(line.contains(", rtt_ms: ") && line.contains(", code: 1000, "), "{line}");
    }
}

#[test]
fn active_client_is_not_pinged() {
    for postern in Postern::both(&SETTINGS) {
        let mut open = postern.open();
        let begun = Instant::now();
        while begun.elapsed() < 3 * INTERVAL {
            open.echo("a");
            std::thread::sleep(INTERVAL / 10);
        }
        open.close();
        postern.wait_for("WebSocket connection closed for user John Doe (123)");
        assert_eq!(postern.count("Pong from"), 0);
    }
}

#[test]
fn client_that_does_not_answer_a_ping_is_closed_with_4408() {
    for mut postern in Postern::both(&SETTINGS) {
        let mut open = postern.open();
        let begun = Instant::now();
        // It reads a ping and does not send the pong, which tungstenite keeps until the next call.
        assert!(matches!(open.socket.read(), Ok(Message::Ping(_))));
        let line = postern.wait_for("WebSocket connection closed for user John Doe (123)");
        assert!(begun.elapsed() < LATEST, "{:?}", begun.elapsed());
        assert!(line.contains(", code: 4408, side: server, reason: no pong, "), "{line}");
        assert!(postern.terminate().success());
    }
}

#[test]
fn interval_of_zero_disables_pings() {
    for postern in Postern::both(&[("POSTERN_PING_INTERVAL", "0"), ("POSTERN_PONG_TIMEOUT", "1ms")]) {
        let mut open = postern.open();
        std::thread::sleep(2 * INTERVAL);
        open.echo("still here");
        open.close();
    }
}

fn idle_client(gateway: SocketAddr, token: &str) -> Process {
    let headers = serde_json::json!({ "Authorization": format!("Bearer {token}") });
    let mut command = Command::new("python3");
    command
        .arg(workspace::path("tests/tests/peers/idle.py"))
        .args([format!("ws://{gateway}/ws"), headers.to_string()])
        .env("PYTHONPATH", provision::python_websockets().expect("the package websockets"));
    Process::spawn("idle client", &mut command).expect("Python starts")
}

/// The kernel of a stopped process still receives, as the kernel of a suspended laptop may, so the gateway does not
/// notice it.
#[test]
fn stopped_client_behind_a_gateway_is_closed() {
    through_each(|gateway, runtime| {
        let chain = Chain::start_with(gateway, runtime, &SETTINGS, &[]);
        let token = chain.login("john@example.com");
        let mut client = idle_client(chain.address(), &token);
        client.wait_for_line(|line| line == "open", PATIENCE).expect("it opens");
        // Its pongs come through the gateway.
        chain.postern.wait_for("Pong from John Doe (123)");
        client.signal(Signal::STOP).expect("it is there");
        let stopped = Instant::now();
        let line = chain.postern.wait_for("WebSocket connection closed for user John Doe (123)");
        let took = stopped.elapsed();
        assert!(took < LATEST, "{gateway}, {runtime}: {took:?}");
        assert!(line.contains(", code: 4408, "), "{gateway}, {runtime}: {line}");
        // The gateway has passed on the Close.
        client.signal(Signal::CONT).expect("it is there");
        client.wait_for_line(|line| line == "4408", PATIENCE).expect("the Close arrives");
    });
}

/// Ten times the time that a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(20);
