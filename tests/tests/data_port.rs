//! HTTP of the data port: requirements of the standards, health checks, silent connections, address families.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use postern_tests::chain::{Chain, through_each};
use postern_tests::ports;
use postern_tests::postern::{Postern, Runtime};
use postern_tests::process::wait_until_listening;
use postern_tests::ws::Handshake;
use rustix::process::Signal;

/// Returns the whole response to these bytes.
fn answer(to: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(to).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    stream.write_all(bytes).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer, and the end");
    answer
}

/// HAProxy passes on the client's URL; the others convert it into a path.
#[test]
fn url_as_the_target_is_served_through_every_gateway() {
    through_each(|gateway, runtime| {
        let chain = Chain::start(gateway, runtime);
        let token = chain.login("john@example.com");
        let url = format!("http://{}/ws", chain.address());
        chain.visit_as_john(chain.handshake().target(url).bearer(&token).open());
    });
}

/// RFC 9110 §9.3.2 and §6.6.1.
#[test]
fn response_has_a_date_and_no_content_for_head() {
    for postern in Postern::both(&[("POSTERN_HEALTH_PATH", "/healthz")]) {
        for (target, get, head) in [("/healthz", 200, 200), ("/other", 404, 404), ("/ws", 400, 405)] {
            for (method, status) in [("GET", get), ("HEAD", head)] {
                let request = format!("{method} {target} HTTP/1.1\r\nHost: x\r\n\r\n");
                let answer = answer(postern.address(), request.as_bytes());
                assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}{answer}");
                let (head, content) = answer.split_once("\r\n\r\n").expect("a head");
                assert_eq!(content.is_empty(), method == "HEAD", "{answer}");
                let date = head.lines().find_map(|line| line.strip_prefix("Date: "));
                let date = date.unwrap_or_else(|| panic!("no date: {answer}"));
                assert!(is_now(date), "{date}");
            }
        }
        // Requests that are refused before they are complete.
        for (bytes, content) in [(&b"GET /ws HTTP/1.1\nA: b"[..], true), (b"HEAD /ws HTTP/1.1\nA: b", false)]
        {
            let answer = answer(postern.address(), bytes);
            assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("\r\nDate: "), "{answer}");
            assert_eq!(!answer.ends_with("\r\n\r\n"), content, "{answer}");
        }
    }
}

/// Whether an IMF-fixdate is at most a minute away from the present, by its time of day and its form.
fn is_now(date: &str) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let number =
        |range: std::ops::Range<usize>| date.get(range).and_then(|digits| digits.parse::<u64>().ok());
    let (Some(hour), Some(minute), Some(second)) = (number(17..19), number(20..22), number(23..25)) else {
        return false;
    };
    let of_day = hour * 3600 + minute * 60 + second;
    let apart = (86_400 + now % 86_400 - of_day) % 86_400;
    date.len() == 29 && date.ends_with(" GMT") && !(60..=86_340).contains(&apart)
}

#[test]
fn health_checks_need_no_identity_and_are_not_logged() {
    let settings =
        [("POSTERN_HEALTH_PATH", "/"), ("POSTERN_TRUSTED_PROXIES", "192.0.2.1"), ("LOG_LEVEL", "info")];
    for postern in Postern::both_with_control(&settings) {
        for request in
            ["GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HEAD / HTTP/1.0\r\n\r\n", "GET /?a HTTP/1.0\r\n\r\n"]
        {
            let answer = answer(postern.address(), request.as_bytes());
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{request}{answer}");
            assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
        }
        let metrics = postern.get("/metrics").text();
        assert!(!metrics.contains("postern_handshakes_rejected_total{"), "{metrics}");
        assert_eq!(postern.count("refused"), 0);
    }
}

#[test]
fn health_is_503_while_the_process_drains() {
    let settings =
        [("POSTERN_HEALTH_PATH", "/healthz"), ("POSTERN_DRAIN_GRACE", "30s"), ("POSTERN_DRAIN_SPREAD", "0")];
    for mut postern in Postern::both(&settings) {
        let check = || answer(postern.address(), b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(check().starts_with("HTTP/1.1 200 "));
        postern.process.signal(Signal::TERM).expect("it lives");
        postern.wait_for("draining");
        let answer = answer(postern.address(), b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("not_ready"), "{answer}");
        // Users are still admitted.
        postern.open();
        postern.process.kill();
    }
}

#[test]
fn silent_connection_is_closed_without_a_response_or_a_warning() {
    let settings = [("POSTERN_HANDSHAKE_TIMEOUT", "300ms"), ("LOG_LEVEL", "debug")];
    for postern in Postern::both_with_control(&settings) {
        assert_eq!(answer(postern.address(), b""), "");
        let line = postern.wait_for("abandoned");
        assert!(line.contains("DEB") && line.contains("bytes_received: 0"), "{line}");
        assert!(answer(postern.address(), b"G").starts_with("HTTP/1.1 408 "));
        postern.wait_for("handshake_timeout");
        let rejected = postern.metric("postern_handshakes_rejected_total{reason=\"handshake_timeout\"}");
        assert_eq!(rejected, Some(1.0));
    }
}

#[test]
fn path_with_an_asterisk_serves_all_paths_below_it() {
    for postern in
        Postern::both(&[("POSTERN_PATH", "/ws,/rooms/*"), ("POSTERN_HEALTH_PATH", "/rooms/health")])
    {
        for (target, expected) in [
            ("/ws", 101),
            ("/rooms/7?x", 101),
            ("/rooms/a/b", 101),
            ("/rooms", 404),
            ("/ws/7", 404),
            ("/rooms/health", 200),
        ] {
            assert_eq!(postern.john().target(target).status(), expected, "{target}");
        }
    }
}

/// Returns a port that is free in both families.
fn free_in_both() -> u16 {
    (0..100)
        .map(|_| ports::free().port())
        .find(|port| TcpListener::bind((Ipv6Addr::UNSPECIFIED, *port)).is_ok())
        .expect("a free port")
}

#[test]
fn unspecified_address_listens_on_both_families_and_logs_the_peer() {
    let has_ipv6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    for runtime in Runtime::BOTH {
        for addresses in [&["[::]"][..], &["0.0.0.0", "[::]"], &["[::]", "0.0.0.0"]] {
            let port = free_in_both();
            let listen: String = addresses.iter().map(|address| format!(",{address}:{port}")).collect();
            let postern = Postern::with(runtime, &[]).listening(&listen).start();
            let mut to = vec![(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), "peer: 127.0.0.1:")];
            if has_ipv6 {
                to.push((SocketAddr::from((Ipv6Addr::LOCALHOST, port)), "peer: [::1]:"));
            }
            for (address, peer) in to {
                wait_until_listening(address, Duration::from_secs(10)).expect("it listens");
                // Both are loopback, which is trusted.
                drop(Handshake::to(address).as_john().open());
                let is_logged = |line: &str| line.contains("established") && line.contains(peer);
                postern.process.wait_for_line(is_logged, Duration::from_secs(10)).expect("the peer itself");
            }
        }
    }
}

#[test]
fn default_listens_on_both_families() {
    for runtime in Runtime::BOTH {
        assert_eq!(Postern::settings(runtime, &[])["POSTERN_LISTEN"], "[::]:8080", "{runtime}");
    }
}

#[test]
fn log_of_an_untrusted_peer_names_the_value_to_add() {
    for postern in Postern::both(&[("POSTERN_TRUSTED_PROXIES", "cgnat,link-local")]) {
        assert_eq!(postern.john().status(), 403);
        let line = postern.wait_for("peer_not_trusted");
        let detail = "detail: POSTERN_TRUSTED_PROXIES needs 127.0.0.1 or loopback if this is your gateway";
        assert!(line.contains(detail), "{line}");
    }
}
