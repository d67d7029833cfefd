//! How both binaries start and stop.

use std::thread;
use std::time::{Duration, Instant};

use postern_tests::http::Connection;
use postern_tests::postern::{Postern, Runtime};
use postern_tests::ws::Handshake;
use rustix::process::Signal;
use tungstenite::Message;
use tungstenite::protocol::frame::coding::CloseCode;

#[test]
fn sigterm_and_sigint_close_every_connection_and_exit_0() {
    for runtime in Runtime::BOTH {
        for (signal, code) in [(Signal::TERM, CloseCode::Restart), (Signal::INT, CloseCode::Away)] {
            let mut postern = Postern::start(runtime, &[]);
            let mut clients: Vec<_> =
                (0..20).map(|_| Handshake::to(postern.address()).as_john().open()).collect();
            let mut unfinished = Connection::open(postern.address()).expect("a connection");
            unfinished.send(b"GET /ws HTTP/1.1\r\n").expect("the bytes are taken");
            clients[0].echo(Message::text("before"));
            postern.process.signal(signal).expect("a signal");
            for client in &mut clients {
                let message = client.receive();
                let Message::Close(Some(close)) = message else {
                    panic!("{runtime}: a Close is expected, not {message:?}");
                };
                assert_eq!(close.code, code, "{runtime}");
                // tungstenite answers the Close when it is driven once more.
                while client.socket.read().is_ok() {}
            }
            assert_eq!(unfinished.response().expect("an answer").status, 503, "{runtime}");
            assert!(unfinished.is_closed(), "{runtime}");
            let status = postern.process.wait(Duration::from_secs(5)).expect("it ends");
            assert!(status.success(), "{runtime}: {status}");
            let log = postern.log();
            let closed = log.iter().filter(|line| line.contains("closed for user John Doe (123)")).count();
            assert_eq!(closed, 20, "{runtime}: {log:?}");
        }
    }
}

#[test]
fn a_client_that_ignores_the_close_is_not_waited_for_longer_than_the_close_timeout() {
    for runtime in Runtime::BOTH {
        let mut postern = Postern::start(runtime, &[("POSTERN_CLOSE_TIMEOUT", "300ms")]);
        let _deaf = Handshake::to(postern.address()).as_john().open();
        let started = Instant::now();
        assert!(postern.terminate().success(), "{runtime}");
        let waited = started.elapsed();
        assert!(
            waited >= Duration::from_millis(300) && waited < Duration::from_secs(3),
            "{runtime}: {waited:?}"
        );
    }
}

#[test]
fn a_later_second_signal_ends_at_once() {
    for runtime in Runtime::BOTH {
        let mut postern = Postern::start(runtime, &[("POSTERN_CLOSE_TIMEOUT", "60s")]);
        let _deaf = Handshake::to(postern.address()).as_john().open();
        postern.process.signal(Signal::TERM).expect("a signal");
        postern.wait_for("stopping");
        // Within 100 ms it would be the same request, and a process that wakes late takes up to 100 ms more for it.
        thread::sleep(Duration::from_millis(400));
        let started = Instant::now();
        assert!(postern.terminate().success(), "{runtime}");
        assert!(started.elapsed() < Duration::from_secs(5), "{runtime}: {:?}", started.elapsed());
    }
}

#[test]
fn bad_settings_end_the_start_with_one_line_and_2() {
    for runtime in Runtime::BOTH {
        for (name, value) in [
            ("POSTERN_MAX_MESSAGE", "64Q"),
            ("POSTERN_HANDSHAKE_TIMEOUT", "soon"),
            ("POSTERN_LISTEN", "nowhere"),
            ("POSTERN_TRUSTED_PROXIES", "10.0.0.0/33"),
            ("POSTERN_MAX_MESAGE", "64KiB"),
            ("LOG_FORMAT", "xml"),
        ] {
            let (status, lines) = Postern::refuse(runtime, &[(name, value)]);
            assert_eq!(status.code(), Some(2), "{runtime}: {name}={value}: {lines:?}");
            assert_eq!(lines.len(), 1, "{runtime}: {name}={value}: {lines:?}");
            assert!(lines[0].contains(name), "{runtime}: {lines:?}");
        }
    }
}

/// In a pod without `enableServiceLinks: false`, and in a container that Docker links.
#[test]
fn names_that_kubernetes_and_docker_make_for_a_service_cost_a_warning_and_no_start() {
    let links = [
        ("POSTERN_PORT", "tcp://10.0.0.11:8080"),
        ("POSTERN_PORT_8080_TCP", "tcp://10.0.0.11:8080"),
        ("POSTERN_PORT_8080_TCP_ADDR", "10.0.0.11"),
        ("POSTERN_PORT_8080_TCP_PORT", "8080"),
        ("POSTERN_PORT_8080_TCP_PROTO", "tcp"),
        ("POSTERN_SERVICE_HOST", "10.0.0.11"),
        ("POSTERN_SERVICE_PORT", "8080"),
        ("POSTERN_SERVICE_PORT_HTTP", "8080"),
        ("POSTERN_CONTROL_PORT", "tcp://10.0.0.12:8081"),
        ("POSTERN_CONTROL_SERVICE_HOST", "10.0.0.12"),
        ("POSTERN_CONTROL_SERVICE_PORT", "8081"),
        ("POSTERN_CONTROL_PORT_8081_TCP_ADDR", "10.0.0.12"),
        ("POSTERN_SMOL_SERVICE_HOST", "fd00::13"),
        ("LOG_LEVEL", "WARNING"),
    ];
    for runtime in Runtime::BOTH {
        let mut postern = Postern::start(runtime, &links);
        Handshake::to(postern.address()).as_john().open().close();
        postern.wait_for("POSTERN_CONTROL_PORT and 12 others are variables that Kubernetes or Docker makes");
        assert!(postern.terminate().success(), "{runtime}");
        let lines = postern.process.lines();
        let warnings = lines.iter().filter(|line| line.contains("Kubernetes")).count();
        assert_eq!(warnings, 1, "{runtime}: {lines:?}");
        for misspelt in [("POSTERN_PORT", "8080"), ("POSTERN_SERVICE_PROT", "8080")] {
            let (status, lines) = Postern::refuse(runtime, &[&links[1..], &[misspelt]].concat());
            assert_eq!((status.code(), lines.len()), (Some(2), 1), "{runtime}: {lines:?}");
            assert!(lines[0].contains(misspelt.0), "{runtime}: {lines:?}");
        }
    }
}

#[test]
fn a_port_that_is_taken_is_named() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start(runtime, &[]);
        let (status, _) = Postern::refuse(runtime, &[("POSTERN_LISTEN", &postern.address().to_string())]);
        assert_eq!(status.code(), Some(1), "{runtime}");
    }
}
