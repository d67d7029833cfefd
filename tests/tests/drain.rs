//! The drain of a process: announced, spread over time, within its limit, and without lost messages.

use std::cell::Cell;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use async_tungstenite::tungstenite::client::IntoClientRequest;
use async_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use async_tungstenite::tungstenite::{self, Message};
use postern_tests::postern::{Postern, Runtime};
use postern_tests::ws::Outcome;
use rustix::process::Signal;
use serde_json::{Value, json};
use smol::net::TcpStream;
use smol::stream::StreamExt;
use smol::{LocalExecutor, Timer};

#[test]
fn process_is_not_ready_and_still_accepts_during_the_grace() {
    let settings = [("POSTERN_DRAIN_GRACE", "2s"), ("POSTERN_DRAIN_SPREAD", "0")];
    for runtime in Runtime::BOTH {
        for by_signal in [true, false] {
            let mut postern = Postern::start_with_control(runtime, &settings);
            let mut before = postern.open();
            assert_eq!(postern.get("/readyz").status, 200, "{runtime}");
            let begun = Instant::now();
            if by_signal {
                postern.process.signal(Signal::TERM).expect("a signal");
                postern.wait_for("draining");
            } else {
                let answer = postern.post("/api/drain", &json!({}));
                assert_eq!(
                    (answer.status, answer.json()),
                    (200, json!({ "result": { "draining": true } })),
                    "{runtime}"
                );
                assert_eq!(
                    postern.post("/api/drain", &json!({})).status,
                    200,
                    "{runtime}: a second request has no effect"
                );
            }
            let ready = postern.get("/readyz");
            assert_eq!((ready.status, &ready.json()["reasons"]), (503, &json!(["draining"])), "{runtime}");
            assert_eq!(postern.get("/livez").status, 200, "{runtime}");
            let mut late = postern.open();
            late.echo("a gateway may still route to it");
            before.echo("earlier connections are served");
            for (sample, value) in [("postern_draining", 1.0), ("postern_drain_remaining", 2.0)] {
                assert_eq!(postern.metric(sample), Some(value), "{runtime}: {sample}");
            }
            for open in [&mut before, &mut late] {
                assert_eq!(open.close_code(), 1012, "{runtime}");
                assert!(begun.elapsed() >= Duration::from_secs(2), "{runtime}: {:?}", begun.elapsed());
            }
            let status = postern.process.wait(Duration::from_secs(10)).expect("it ends");
            assert!(status.success(), "{runtime}: {status}");
        }
    }
}

#[test]
fn after_the_grace_only_earlier_connections_are_served() {
    for (runtime, workers) in Runtime::WITH_WORKERS {
        let settings =
            [("POSTERN_DRAIN_SPREAD", "1h"), ("POSTERN_DRAIN_HARD", "3s"), ("POSTERN_WORKERS", workers)];
        let mut postern = Postern::start(runtime, &settings);
        let mut open = postern.open();
        let begun = Instant::now();
        postern.process.signal(Signal::TERM).expect("a signal");
        postern.wait_for("stopping");
        let deadline = Instant::now() + Duration::from_secs(2);
        while postern.john().send().is_ok_and(|outcome| {
            assert!(matches!(outcome, Outcome::Refused(response) if response.status == 503));
            true
        }) {
            assert!(Instant::now() < deadline, "the port is open");
            thread::sleep(Duration::from_millis(10));
        }
        // It is closed within the hard limit, and served until then.
        while begun.elapsed() < Duration::from_millis(200) {
            match open.socket.send(Message::text("still served")) {
                Ok(()) => match open.socket.read() {
                    Ok(Message::Close(_)) | Err(_) => break,
                    Ok(_) => {}
                },
                Err(_) => break,
            }
        }
        let status = postern.process.wait(Duration::from_secs(10)).expect("it ends");
        assert!(status.success() && begun.elapsed() < Duration::from_secs(8), "{status}");
    }
}

#[test]
fn hard_limit_ends_the_drain() {
    let settings = [("POSTERN_DRAIN_HARD", "1s"), ("POSTERN_CLOSE_TIMEOUT", "60s")];
    for mut postern in Postern::both(&settings) {
        let _deaf = postern.open();
        let begun = Instant::now();
        assert!(postern.terminate().success());
        let took = begun.elapsed();
        assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(5), "{took:?}");
        postern.wait_for("stopping at once");
    }
}

#[test]
fn client_of_the_subprotocol_gets_the_time_to_reconnect() {
    for mut postern in Postern::both(&[]) {
        let handshake = || postern.john();
        let mut told = handshake().subprotocols(&["postern.v1.json"]).open();
        assert_eq!(told.response.header("sec-websocket-protocol"), "postern.v1.json");
        let mut plain = handshake().open();
        postern.process.signal(Signal::TERM).expect("a signal");
        let message = told.receive();
        let Message::Text(text) = message else { panic!("a notice is expected, not {message:?}") };
        let notice: Value = serde_json::from_str(&text).expect("JSON");
        let after = notice["reconnect_after_ms"].as_u64().expect("a number");
        assert!((100..3_100).contains(&after), "{notice}");
        let expected = json!({
            "type": "disconnect",
            "code": 1012,
            "reason": "service restart",
            "reconnect": true,
            "reconnect_after_ms": after,
        });
        assert_eq!(notice, expected);
        for open in [&mut told, &mut plain] {
            assert_eq!(open.close_code(), 1012);
        }
        assert!(postern.process.wait(Duration::from_secs(10)).expect("it ends").success());
    }
}

/// The results of one of many clients.
struct Seen {
    echoes: u64,
    code: CloseCode,
    at: Instant,
}

/// Runs a client that sends message after message until it gets a Close. It counts itself in `connected`.
async fn talk(to: SocketAddr, connected: &Cell<usize>) -> Result<Seen, tungstenite::Error> {
    let mut request = format!("ws://{to}/ws").into_client_request()?;
    request.headers_mut().insert("User-ID", "123".parse().expect("a value"));
    let (mut socket, _) = async_tungstenite::client_async(request, TcpStream::connect(to).await?).await?;
    connected.set(connected.get() + 1);
    let mut seen = Seen { echoes: 0, code: CloseCode::Abnormal, at: Instant::now() };
    loop {
        // A message that crosses Postern's Close is not answered.
        if socket.send(Message::text("hello")).await.is_err() {
            break;
        }
        match socket.next().await {
            Some(Ok(Message::Text(_))) => seen.echoes += 1,
            Some(Ok(Message::Close(Some(frame)))) => {
                seen.code = frame.code;
                seen.at = Instant::now();
            }
            Some(Ok(other)) => panic!("{other:?}"),
            Some(Err(_)) | None => break,
        }
        if seen.code != CloseCode::Abnormal {
            // Until the end of the stream.
            while socket.next().await.is_some_and(|message| message.is_ok()) {}
            break;
        }
        Timer::after(Duration::from_millis(500)).await;
    }
    Ok(seen)
}

/// Returns the sum of the messages received, from the lines about the ends of connections.
fn received(postern: &Postern) -> u64 {
    let lines = postern.log();
    let ends = lines.iter().filter(|line| line.contains("connection closed for user"));
    let number =
        |line: &String| line.split("messages_received: ").nth(1)?.split(',').next()?.parse::<u64>().ok();
    ends.map(|line| number(line).expect("a number")).sum()
}

/// `POSTERN_TEST_CONNECTIONS` sets the number of connections, up to the limit of open files.
#[test]
fn many_connections_under_load_are_closed_evenly_without_lost_messages() {
    let count =
        std::env::var("POSTERN_TEST_CONNECTIONS").map_or(500, |count| count.parse().expect("a number"));
    const SPREAD: Duration = Duration::from_secs(5);
    let settings = [("POSTERN_DRAIN_SPREAD", "5s"), ("POSTERN_LOG_MESSAGES", "off")];
    for mut postern in Postern::both(&settings) {
        let (connected, executor) = (Cell::new(0), LocalExecutor::new());
        let (seen, stopped) = smol::block_on(executor.run(async {
            let begun = Instant::now();
            let mut clients = Vec::new();
            while connected.get() < count {
                assert!(begun.elapsed() < Duration::from_secs(120), "they do not all connect");
                // No more at the same time than the kernel's queue accepts.
                let more = (count - clients.len()).min(100);
                clients.extend((0..more).map(|_| executor.spawn(talk(postern.address(), &connected))));
                while connected.get() < clients.len() && begun.elapsed() < Duration::from_secs(120) {
                    Timer::after(Duration::from_millis(1)).await;
                }
            }
            postern.process.signal(Signal::TERM).expect("a signal");
            let stopped = Instant::now();
            let mut seen = Vec::new();
            for client in clients {
                seen.push(client.await.expect("a client that talks"));
            }
            (seen, stopped)
        }));
        let status = postern.process.wait(Duration::from_secs(10)).expect("it ends");
        assert!(status.success() && stopped.elapsed() < 2 * SPREAD, "{status}");

        assert!(seen.iter().all(|seen| seen.code == CloseCode::Restart), "not all got 1012");
        let echoes: u64 = seen.iter().map(|seen| seen.echoes).sum();
        assert_eq!(received(&postern), echoes, "each received message was answered");
        let mut bursts = [0; 10];
        for seen in &seen {
            let at = seen.at.saturating_duration_since(stopped).as_secs_f64() / SPREAD.as_secs_f64();
            bursts[((at * 10.0) as usize).min(9)] += 1;
        }
        let mean = count / bursts.len();
        assert!(bursts.iter().all(|&burst| burst <= 2 * mean), "{bursts:?}, {mean} are the mean");
        println!("{count} connections, closed in tenths of {SPREAD:?}: {bursts:?}, {echoes} echoes");
    }
}
