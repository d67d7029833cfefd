//! The stop of both binaries by signals, and the environment at their start.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use postern_tests::http::Connection;
use postern_tests::postern::{Postern, Runtime};
use rustix::process::Signal;

#[test]
fn signal_to_stop_closes_every_connection_and_exits_with_0() {
    for runtime in Runtime::BOTH {
        for (signal, code) in [
            (Signal::TERM, 1012),
            (Signal::POWER, 1012),
            (Signal::XCPU, 1012),
            (Signal::INT, 1001),
            (Signal::QUIT, 1001),
        ] {
            let mut postern = Postern::start(runtime, &[]);
            let mut clients: Vec<_> = (0..20).map(|_| postern.open()).collect();
            let mut unfinished = Connection::open(postern.address()).expect("a connection");
            unfinished.send(b"GET /ws HTTP/1.1\r\n").expect("the bytes are taken");
            clients[0].echo("before the signal");
            postern.process.signal(signal).expect("a signal");
            for client in &mut clients {
                assert_eq!(client.close_code(), code, "{runtime}: {signal:?}");
            }
            assert_eq!(unfinished.response().expect("a response").status, 503, "{runtime}");
            assert!(unfinished.is_closed(), "{runtime}");
            let status = postern.process.wait(Duration::from_secs(5)).expect("it ends");
            assert!(status.success(), "{runtime}: {status}");
            assert_eq!(postern.count("closed for user John Doe (123)"), 20, "{runtime}");
            assert_eq!(postern.count("stopping at once"), 0, "{runtime}");
        }
    }
}

/// One turn takes at most 256 connections. The others in the queue were once reset.
#[test]
fn all_connections_in_the_queue_are_answered_before_the_listener_is_closed() {
    for (runtime, workers) in Runtime::WITH_WORKERS {
        let mut postern = Postern::start(runtime, &[("POSTERN_WORKERS", workers)]);
        postern.open_stream();
        postern.process.signal(Signal::STOP).expect("a signal");
        let request = postern.john().bytes();
        let connect = || {
            let mut client = TcpStream::connect(postern.address()).expect("a place in the queue");
            client.write_all(&request).expect("the bytes are taken");
            client
        };
        let clients: Vec<TcpStream> = (0..600).map(|_| connect()).collect();
        postern.process.signal(Signal::INT).expect("a signal");
        postern.process.signal(Signal::CONT).expect("a signal");
        for mut client in clients {
            let mut answer = [0; 12];
            client.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
            client.read_exact(&mut answer).expect("an answer");
            assert!([b"HTTP/1.1 101", b"HTTP/1.1 503"].contains(&&answer), "{}", answer.escape_ascii());
        }
        let status = postern.process.wait(Duration::from_secs(10)).expect("it ends");
        assert!(status.success(), "{status}");
    }
}

#[test]
fn client_that_ignores_the_close_delays_the_stop_by_the_close_timeout() {
    for mut postern in Postern::both(&[("POSTERN_CLOSE_TIMEOUT", "300ms")]) {
        let _deaf = postern.open();
        let started = Instant::now();
        assert!(postern.terminate().success());
        let waited = started.elapsed();
        assert!(waited >= Duration::from_millis(300) && waited < Duration::from_secs(3), "{waited:?}");
    }
}

#[test]
fn second_signal_stops_at_once() {
    for mut postern in Postern::both(&[("POSTERN_CLOSE_TIMEOUT", "60s")]) {
        let _deaf = postern.open();
        postern.process.signal(Signal::TERM).expect("a signal");
        postern.wait_for("stopping");
        // Two signals within 100 ms are one request, and a busy process may read them 100 ms late.
        thread::sleep(Duration::from_millis(400));
        let started = Instant::now();
        assert!(postern.terminate().success());
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    }
}

/// The environment of a pod without `enableServiceLinks: false`, and of a container that Docker links.
#[test]
fn variables_of_kubernetes_and_docker_are_one_warning_and_misspelt_settings_an_error() {
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
        postern.open().close();
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
