//! Clients that exceed their rate get exactly their rate in every second, and are removed when they leave. On both binaries.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use postern_tests::frames::{self, BINARY, CLOSE, close};
use postern_tests::postern::Postern;
use postern_tests::wait_until;

const SECOND: Duration = Duration::from_secs(1);

/// The time that a condition that should take a second may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Sends as much as possible for this time. Returns the number of echoed bytes at each time.
fn flood(client: &mut TcpStream, frame: &[u8], time: Duration) -> Vec<(Duration, usize)> {
    client.set_nonblocking(true).expect("it can be");
    let chunk = frame.repeat((64 * 1024 / frame.len()).max(1));
    let (begun, mut unsent, mut received) = (Instant::now(), Vec::new(), Vec::new());
    let mut buffer = vec![0; 256 * 1024];
    let mut total = 0;
    while begun.elapsed() < time {
        if unsent.is_empty() {
            unsent = chunk.clone();
        }
        match client.write(&unsent) {
            Ok(n) => drop(unsent.drain(..n)),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
        }
        match client.read(&mut buffer) {
            Ok(n) => {
                assert!(n > 0, "it is closed");
                total += n;
                received.push((begun.elapsed(), total));
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
        }
        thread::sleep(Duration::from_millis(1));
    }
    client.set_nonblocking(false).expect("it can be");
    received
}

/// Asserts that a client got its rate in each second after the first, for echoes of `echo` bytes.
#[track_caller]
fn check_even(what: &str, received: &[(Duration, usize)], echo: usize, rate: f64) {
    let at = |time: Duration| match received.partition_point(|(then, _)| *then <= time) {
        0 => 0,
        count => received[count - 1].1,
    };
    let last = received.last().expect("echoes").0.as_secs() as u32;
    for second in 1..last {
        let messages = (at(SECOND * (second + 1)) - at(SECOND * second)) as f64 / echo as f64;
        // A busy machine may delay echoes at the end of a second into the next one, by up to 50 ms.
        assert!(
            (messages - rate).abs() <= rate * 0.07 + 1.0,
            "{what}: {messages} messages in second {second}, not {rate}"
        );
    }
    let between = (at(SECOND * last) - at(SECOND)) as f64 / echo as f64;
    let expected = rate * f64::from(last - 1);
    assert!((between - expected).abs() <= expected * 0.02 + 2.0, "{what}: {between} in all, not {expected}");
    let silence = received.windows(2).map(|pair| pair[1].0 - pair[0].0).max().expect("echoes");
    let longest = Duration::from_millis(250).max(Duration::from_secs_f64(1.5 / rate));
    assert!(silence <= longest, "{what}: silent for {silence:?}");
}

#[test]
fn messages_above_a_rate_are_answered_at_that_rate() {
    let settings = [("POSTERN_MESSAGE_RATE", "100"), ("POSTERN_MESSAGE_BURST", "200")];
    for postern in Postern::both(&settings) {
        for (len, echo) in [(1, 3), (20, 22), (60_000, 60_004)] {
            let mut client = postern.open_stream();
            let received = flood(&mut client, &frames::client(BINARY, &vec![0; len]), SECOND * 6);
            let early = received.iter().take_while(|(at, _)| *at < SECOND / 10).last().map_or(0, |(_, n)| *n);
            assert!(early <= (200 + 15) * echo, "{} at once", early / echo);
            check_even(&format!("{len} bytes"), &received, echo, 100.0);
        }
    }
}

#[test]
fn bytes_above_a_rate_are_answered_at_that_rate() {
    for postern in Postern::both(&[("POSTERN_BYTE_RATE", "256KiB")]) {
        for (len, echo) in [(1, 3), (1000, 1004)] {
            let frame = frames::client(BINARY, &vec![0; len]);
            let received = flood(&mut postern.open_stream(), &frame, SECOND * 6);
            check_even(&format!("{len} bytes"), &received, echo, 262_144.0 / frame.len() as f64);
        }
    }
}

#[test]
fn client_above_its_rate_is_logged_once() {
    let settings = [("POSTERN_MESSAGE_RATE", "50"), ("POSTERN_MESSAGE_BURST", "1")];
    for postern in Postern::both_with_control(&settings) {
        let mut client = postern.open_stream();
        let line = || {
            postern.post("/api/connections", &serde_json::json!({})).json()["result"]["connections"][0]
                .clone()
        };
        assert_eq!((line()["paused"].as_bool(), line()["paused_ms"].as_u64()), (Some(false), None));
        client.write_all(&frames::client(BINARY, &[0]).repeat(51)).expect("it is taken");
        client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        client.read_exact(&mut [0; 51 * 3]).expect("all are answered");
        let line = line();
        assert!(line["paused"] == true && line["paused_ms"].as_u64() >= Some(900), "{line}");
        let pauses = postern.metric(r#"postern_rate_pauses_total{scope="messages"}"#).expect("a sample");
        assert!((1.0..=50.0).contains(&pauses), "{pauses}");
        let kept = postern.wait_for("Client of John Doe (123) keeps its rate again");
        assert!(kept.contains(&format!("pauses: {pauses}")), "{kept}");
        let exceeded: Vec<String> =
            postern.log().into_iter().filter(|line| line.contains("exceeds its rate")).collect();
        assert!(
            matches!(&exceeded[..], [line] if line.contains(" WARN ") && line.contains("POSTERN_MESSAGE_RATE")
                && line.contains("per_second: 50")),
            "{exceeded:?}"
        );
    }
}

/// The user may have one connection, and reconnects at once.
#[test]
fn paused_client_that_leaves_is_removed_at_once() {
    let settings = [("POSTERN_MESSAGE_RATE", "10"), ("POSTERN_MAX_CONNECTIONS_PER_USER", "1")];
    for postern in Postern::both_with_control(&settings) {
        for how in ["FIN", "RST", "Close and FIN"] {
            let mut client = postern.open_stream();
            client.write_all(&frames::client(BINARY, &[0]).repeat(5000)).expect("it is taken");
            // After the answers it has been read, and is paused.
            client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            client.read_exact(&mut [0; 20 * 3]).expect("the burst is answered");
            match how {
                "RST" => {
                    rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO))
                        .expect("it can be");
                }
                "Close and FIN" => {
                    client.write_all(&frames::client(CLOSE, &close(1000, ""))).expect("it is taken");
                }
                _ => {
                    // With unread bytes, the end would be a reset.
                    client.set_nonblocking(true).expect("it can be");
                    while client.read(&mut [0; 1000]).is_ok() {}
                }
            }
            drop(client);
            let begun = Instant::now();
            wait_until("the connection is removed", || postern.metric("postern_connections") == Some(0.0));
            assert!(begun.elapsed() < 3 * SECOND, "{:?} after {how}", begun.elapsed());
        }
    }
}
