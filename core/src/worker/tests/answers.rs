//! Answers that are not a 101: their dates, answers to HEAD, health checks, and the connections that get none.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::handshake::{Readiness, Reject};

#[derive(Debug)]
struct Ready(AtomicBool);

impl Readiness for Ready {
    fn is_ready(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Returns a runtime with a clock, `/healthz` and `/ws/*`.
fn runtime() -> (Runtime, Arc<Ready>) {
    let ready = Arc::new(Ready(AtomicBool::new(true)));
    let mut config = WorkerConfig::default();
    config.handshake.wall_clock = Some(|| Duration::from_secs(784_111_777));
    config.handshake.health_path = Some("/healthz".to_owned());
    config.handshake.readiness = Some(ready.clone());
    config.handshake.paths = vec!["/ws".to_owned(), "/ws/*".to_owned()];
    (Runtime::of(config), ready)
}

const DATE: &str = "\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n";

/// Returns the answer to a request, split at each offset, and its records.
#[track_caller]
fn ask(request: &str, refusal: Option<HandshakeError>) -> (String, Vec<String>) {
    let answers: Vec<_> = (0..=request.len())
        .map(|at| {
            let (mut runtime, _) = runtime();
            let key = runtime.open_from(PEER, refusal);
            for part in [&request[..at], &request[at..]] {
                if !part.is_empty() && runtime.worker.connections.contains(key.0) {
                    runtime.feed(key, part.as_bytes());
                }
            }
            let answer = String::from_utf8(runtime.wire(key).to_vec()).expect("ASCII");
            (answer, runtime.recorder.0)
        })
        .collect();
    assert!(answers.iter().all(|answer| *answer == answers[0]), "the split decides: {request}");
    answers.into_iter().next().expect("one at least")
}

#[test]
fn a_refusal_has_the_text_of_the_host() {
    let mut config = WorkerConfig::default();
    config.handshake.refusal_text = |error| if error.status() == 404 { "see PATH" } else { error.message() };
    let mut runtime = Runtime::of(config);
    for (path, body) in [
        ("/other", r#"{"error":{"code":"not_found","message":"see PATH"}}"#),
        ("/ws#a", r#"{"error":{"code":"request_target","message":"the request target must be"#),
    ] {
        let key = runtime.open();
        runtime.feed(key, HEAD.replace("GET /ws", &format!("GET {path}")).as_bytes());
        let answer = String::from_utf8_lossy(runtime.wire(key));
        assert!(answer.contains(&format!("\r\n\r\n{body}")), "{answer}");
    }
}

#[test]
fn a_refusal_has_a_date_and_to_head_no_content() {
    for (path, refusal, status) in [
        ("/other", None, 404),
        ("/ws", Some(HandshakeError::Overloaded), 503),
        ("/ws", None, 405),
        ("/ws#a", None, 400),
    ] {
        let get = if status == 405 { "POST" } else { "GET" };
        let request = HEAD.replace("GET /ws", &format!("{get} {path}"));
        let (whole, notes) = ask(&request, refusal);
        let (head, body) = whole.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")) && head.contains(DATE), "{whole}");
        assert!(!body.is_empty() && head.contains(&format!("Content-Length: {}", body.len())), "{whole}");
        let (answer, of_head) = ask(&request.replacen(get, "HEAD", 1), refusal);
        let without_retry = |text: &str| text.split("Retry-After").next().map(str::to_owned);
        assert_eq!(without_retry(&answer), without_retry(&format!("{head}\r\n\r\n")), "{path}");
        assert!(answer.ends_with("\r\n\r\n") && of_head == notes, "{of_head:?}");
    }
}

#[test]
fn a_head_that_is_refused_before_its_end_gets_no_content_if_its_method_is_head() {
    for (request, status) in
        [("HEAD /ws HTTP/1.1\nA: b", 400), (&format!("HEAD /{}", "x".repeat(20_000)), 431)]
    {
        for (request, has_content) in
            [(request.to_owned(), false), (request.replacen("HEAD", "GET", 1), true)]
        {
            let (mut runtime, _) = runtime();
            let key = runtime.open();
            runtime.feed(key, request.as_bytes());
            let answer = String::from_utf8_lossy(runtime.wire(key)).into_owned();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains(DATE), "{answer}");
            assert_eq!(!answer.ends_with("\r\n\r\n"), has_content, "{answer}");
        }
    }
    // A request that never ends does not get one either.
    let (mut runtime, _) = runtime();
    let key = runtime.open();
    runtime.feed(key, b"HEAD /ws HTTP/1.1\r\n");
    runtime.wait(Duration::from_secs(5));
    let answer = String::from_utf8_lossy(runtime.wire(key)).into_owned();
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.ends_with("\r\n\r\n"), "{answer}");
}

#[test]
fn a_health_check_is_answered_without_an_identity_and_not_recorded() {
    let ready = "{\"status\":\"ready\"}";
    for (request, content) in [
        ("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", ready),
        ("GET /healthz?from=lb HTTP/1.1\r\nHost: 10.0.0.1:8080\r\nAccept: */*\r\n\r\n", ready),
        ("GET http://x/healthz HTTP/1.1\r\nHost: x\r\n\r\n", ready),
        ("GET /healthz HTTP/1.1\r\nHost:\r\n\r\n", ready),
        ("GET /healthz HTTP/1.0\r\n\r\n", ready),
        ("HEAD /healthz HTTP/1.0\r\nHost: x\r\n\r\n", ""),
        ("HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n", ""),
    ] {
        let (answer, notes) = ask(request, None);
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains(DATE), "{request}\n{answer}");
        assert!(head.contains("\r\nConnection: close\r\n"), "{answer}");
        assert_eq!((body, notes), (content, Vec::new()), "{request}");
    }
    for (request, note) in [
        ("GET /healthz HTTP/1.1\r\n\r\n", "rejected Host"),
        ("GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "rejected Host"),
        ("GET /healthz HTTP/2.0\r\nHost: a\r\n\r\n", "rejected HttpVersion"),
        ("GET /ws HTTP/1.0\r\nHost: a\r\n\r\n", "rejected HttpVersion"),
        ("POST /healthz HTTP/1.1\r\nHost: a\r\n\r\n", "rejected NotFound"),
        ("GET /healthz/ HTTP/1.1\r\nHost: a\r\n\r\n", "rejected NotFound"),
        ("GET /healthz HTTP/1.1\nHost: a\r\n\r\n", "rejected BareLineFeed"),
    ] {
        assert_eq!(ask(request, None).1, [note], "{request}");
    }
}

#[test]
fn health_is_503_when_no_user_is_taken() {
    let check = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    for (refusal, status) in
        [(HandshakeError::Overloaded, 503), (HandshakeError::Draining, 503), (HandshakeError::TooFast, 200)]
    {
        let (answer, notes) = ask(check, Some(refusal));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{refusal:?}: {answer}");
        assert_eq!(notes, [""; 0]);
        // An upgrade is refused as before.
        assert_eq!(ask(HEAD, Some(refusal)).1, [format!("rejected {refusal:?}")]);
    }
    let (mut runtime, ready) = runtime();
    ready.0.store(false, Ordering::Relaxed);
    let key = runtime.open();
    runtime.feed(key, check.as_bytes());
    let answer = String::from_utf8_lossy(runtime.wire(key)).into_owned();
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("{\"status\":\"not_ready\"}"),
        "{answer}"
    );
    assert!(answer.contains("\r\nRetry-After: "), "{answer}");
    runtime.wait(Duration::from_secs(1));
    assert!(runtime.worker.is_empty() && runtime.recorder.0.is_empty(), "{:?}", runtime.recorder);
}

#[test]
fn without_a_health_path_there_is_none() {
    let mut runtime = Runtime::of(WorkerConfig::default());
    let key = runtime.open();
    runtime.feed(key, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(runtime.recorder.0, ["rejected NotFound"]);
}

#[test]
fn a_path_that_ends_in_an_asterisk_serves_all_below_it() {
    for (path, is_served) in [
        ("/ws", true),
        ("/ws/", true),
        ("/ws/room/7?token=x", true),
        ("/ws/*", true),
        ("/wsx", false),
        ("/w", false),
        ("/", false),
    ] {
        let (answer, _) = ask(&HEAD.replace("GET /ws", &format!("GET {path}")), None);
        assert_eq!(answer.starts_with("HTTP/1.1 101 "), is_served, "{path}: {answer}");
    }
    let mut config = WorkerConfig::default();
    config.handshake.paths = vec!["/*".to_owned()];
    for path in ["/", "/ws", "/a/b"] {
        let mut runtime = Runtime::of(config.clone());
        let key = runtime.open();
        runtime.feed(key, HEAD.replace("GET /ws", &format!("GET {path}")).as_bytes());
        assert!(runtime.wire(key).starts_with(b"HTTP/1.1 101 "), "{path}");
    }
}

#[test]
fn a_connection_without_a_byte_is_closed_without_an_answer_and_is_no_refusal() {
    for reject in [Reject::Http, Reject::Close] {
        let mut config = WorkerConfig::default();
        config.handshake.reject = reject;
        let mut runtime = Runtime::of(config);
        let silent = runtime.open();
        let begun = runtime.open();
        runtime.feed(begun, b"G");
        runtime.wait(Duration::from_millis(4_999));
        assert_eq!(runtime.worker.len(), 2);
        runtime.wait(Duration::from_millis(1));
        assert!(runtime.wire(silent).is_empty(), "{}", runtime.wire(silent).escape_ascii());
        assert_eq!(runtime.transport(silent), Transport::Close);
        assert!(runtime.wire(begun).starts_with(b"HTTP/1.1 408 "));
        assert_eq!(runtime.recorder.0, ["abandoned after 0", "rejected Timeout"]);
    }
}
