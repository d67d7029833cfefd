//! Many connections whose tokens expire in the same second.
//!
//! `EXPIRY=20000` runs it with 20,000 connections, and `--nocapture` prints the figures. Each connection needs an open file, and there
//! are some more.

use std::env;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use postern_tests::canary::{self, Kind};
use postern_tests::frames::{TEXT, client};
use postern_tests::issuer::{hs256, unix_time};
use postern_tests::postern::{Postern, Runtime};
use serde_json::json;

const CHANNELS: &str = "/connection/websocket";

/// Returns the number of connections that the environment asks for.
fn asked_for() -> Option<usize> {
    env::var("EXPIRY").ok().map(|value| value.parse().expect("EXPIRY is a number of connections"))
}

/// Opens a connection, and sends a message.
fn open(postern: &Postern, path: &str, lines: &[(&str, &str)], message: Option<&str>) -> TcpStream {
    let mut handshake = postern.handshake().target(path).header("User-ID", "7");
    for (name, value) in lines {
        handshake = handshake.header(name, value);
    }
    let mut stream = TcpStream::connect(postern.address()).expect("it listens");
    stream.write_all(&handshake.bytes()).expect("the request is taken");
    let mut head = [0; 12];
    stream.read_exact(&mut head).expect("an answer");
    assert_eq!(head, *b"HTTP/1.1 101");
    if let Some(message) = message {
        stream.write_all(&client(TEXT, message.as_bytes())).expect("it is open");
    }
    stream
}

/// The connections are closed evenly over the spread, and an echo of another connection is fast at the same time: a worker closes
/// a few of them at a time.
#[test]
fn connections_that_expire_in_the_same_second_are_closed_a_few_at_a_time() {
    // Other processes delay an echo on a busy machine.
    let (count, limit, time_to_connect) = asked_for().map_or((1_500, 150, 4), |count| (count, 10, 25));
    let secret = canary::mint(Kind::Setting);
    for runtime in Runtime::BOTH {
        for spread in [0, 4] {
            let spread_text = format!("{spread}s");
            let settings = [
                ("POSTERN_WORKERS", "1"),
                ("POSTERN_PING_INTERVAL", "0"),
                ("POSTERN_EXPIRY_GRACE", "1s"),
                ("POSTERN_EXPIRY_SPREAD", if spread == 0 { "0" } else { &spread_text }),
                ("POSTERN_LOG_MESSAGES", "off"),
                ("JWT_SECRET", &secret),
            ];
            let postern = Postern::start_with_control(runtime, &settings);
            // The connections are open before that.
            let exp = unix_time() + time_to_connect;
            let (at, token) = (exp.to_string(), hs256(&secret, &json!({ "sub": "7", "exp": exp })));
            let connect = json!({ "id": 1, "connect": { "token": token } }).to_string();
            // The tokens of the gateway, and for each fourth connection a token of channels alone.
            let streams: Vec<TcpStream> = (0..count)
                .map(|number| match number % 4 {
                    0 => open(&postern, CHANNELS, &[], Some(&connect)),
                    _ => open(&postern, "/ws", &[("User-Token-Exp", &at)], None),
                })
                .collect();
            let mut quiet = postern.open();
            let open_now = || postern.metric("postern_connections").expect("a metric") as usize;
            assert_eq!(open_now(), count + 1, "{runtime}: all are open before the tokens expire");
            let deadline = Instant::now() + Duration::from_secs(60);
            let (mut latencies, mut counts) = (Vec::new(), Vec::new());
            let mut asked = Instant::now();
            loop {
                let start = Instant::now();
                quiet.echo("an echo");
                latencies.push(start.elapsed());
                if asked.elapsed() > Duration::from_millis(100) {
                    asked = Instant::now();
                    counts.push((start, open_now()));
                    if counts.last().is_some_and(|(_, open)| *open == 1) {
                        break;
                    }
                }
                assert!(start < deadline, "{runtime}: {counts:?}");
                thread::sleep(Duration::from_millis(1));
            }
            let is_closing = |open: usize| open > count / 50 && open < count - count / 50;
            let closing: Vec<_> = counts.iter().filter(|(_, open)| is_closing(*open)).collect();
            let took =
                closing.last().zip(closing.first()).map_or(Duration::ZERO, |(last, first)| last.0 - first.0);
            if spread > 0 {
                assert!(took > Duration::from_secs(spread) * 3 / 4, "{runtime}: closed within {took:?}");
                // In the middle, about half of them are open.
                let middle = closing[closing.len() / 2].1 * 100 / count;
                assert!((30..=70).contains(&middle), "{runtime}: {middle} % in the middle");
            }
            latencies.sort_unstable();
            let (p99, most) = (latencies[latencies.len() * 99 / 100], latencies[latencies.len() - 1]);
            println!(
                "{runtime}, {count} connections, a spread of {spread} s: closed in {took:?}, an echo p99 {p99:?}, at most {most:?}"
            );
            assert!(p99 <= Duration::from_millis(limit), "{runtime}: {p99:?}");
            drop(streams);
        }
    }
}
