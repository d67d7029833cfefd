//! Requests to a real server, which can misbehave.

pub(crate) mod server;

use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use ureq::http::Request;

use super::*;
use server::{Reaction, Server};

type Outcome = Result<Answer, RequestError>;

const TIMEOUT: Duration = Duration::from_secs(10);

fn client(server: &Server, timeout: Duration) -> Client {
    let url = HttpUrl::parse(&server.url("/hook")).unwrap();
    Client::new(&url, ClientConfig { timeout, max_body: 1024, max_idle: 2, accept: "application/json" })
}

fn pool(server: &Server, max_threads: usize, max_queued: usize, timeout: Duration) -> Pool {
    let config = PoolConfig { name: "test-pool", max_threads, max_queued, timeout };
    Pool::new(client(server, timeout), config)
}

fn post(server: &Server, body: &str) -> Request<Vec<u8>> {
    Request::post(server.url("/hook")).header("Content-Type", "text/plain").body(body.into()).unwrap()
}

fn get(server: &Server) -> Request<Vec<u8>> {
    Request::get(server.url("/hook")).header("Authorization", "Bearer a").body(Vec::new()).unwrap()
}

fn submit(pool: &Pool, request: Request<Vec<u8>>) -> Result<Receiver<Outcome>, SubmitError> {
    let (sender, receiver) = channel();
    pool.submit(request, move |outcome| drop(sender.send(outcome)))?;
    Ok(receiver)
}

#[test]
fn requests_have_their_method_headers_and_body_and_share_a_connection() {
    let server = Server::start(|request| {
        let text = format!("{} {}", request.head.lines().next().unwrap(), request.body);
        Reaction::ok(&text)
    });
    let client = client(&server, TIMEOUT);
    for body in ["a", "b", ""] {
        let answer = client.send(post(&server, body), None).unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!(String::from_utf8(answer.body).unwrap(), format!("POST /hook HTTP/1.1 {body}"));
        assert_eq!(answer.headers["x-test"], "1");
    }
    let answer = client.send(get(&server), None).unwrap();
    assert_eq!(answer.body, b"GET /hook HTTP/1.1 ");
    assert_eq!((server.connections(), server.requests().len()), (1, 4));
    let head = server.requests()[3].head.to_lowercase();
    assert!(head.contains("authorization: bearer a") && head.contains("accept: application/json"), "{head}");
    assert!(!head.contains("content-length"), "{head}");
}

#[test]
fn redirect_is_an_answer_and_is_not_followed() {
    let other = Server::start(|_| Reaction::ok("other"));
    let location = other.url("/hook");
    let server = Server::start(move |_| {
        Reaction::Answer(format!("HTTP/1.1 307 T\r\nLocation: {location}\r\nContent-Length: 4\r\n\r\nbody"))
    });
    let answer = client(&server, TIMEOUT).send(post(&server, "a"), None).unwrap();
    assert_eq!((answer.status, answer.body.len()), (307, 0));
    assert_eq!(other.connections(), 0);
}

#[test]
fn answer_that_cannot_be_used_is_an_error() {
    let chunked = |length: usize| format!("{length:x}\r\n{}\r\n0\r\n\r\n", "a".repeat(length));
    for (answer, expected) in [
        (
            format!("HTTP/1.1 200 OK\r\nContent-Length: 1025\r\n\r\n{}", "a".repeat(1025)),
            Some(RequestError::TooLarge(1024)),
        ),
        (
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}", chunked(1025)),
            Some(RequestError::TooLarge(1024)),
        ),
        ("junk\r\n\r\n".to_owned(), None),
        (String::new(), None),
    ] {
        let server = Server::start({
            let answer = answer.clone();
            move |_| Reaction::Last(answer.clone())
        });
        let error = client(&server, TIMEOUT).send(post(&server, "a"), None).unwrap_err();
        match expected {
            Some(expected) => assert_eq!(error, expected, "{answer:.40}"),
            None => assert!(matches!(error, RequestError::Other(_)), "{answer:.40}: {error:?}"),
        }
    }
}

#[test]
fn server_that_hangs_or_answers_slowly_is_left_after_the_timeout() {
    for reaction in [Reaction::Hang, Reaction::Drip] {
        let server = Server::start(move |_| reaction.clone());
        let timeout = Duration::from_millis(300);
        let start = Instant::now();
        let error = client(&server, timeout).send(post(&server, "a"), None).unwrap_err();
        assert_eq!(error, RequestError::Timeout(timeout));
        assert!((timeout..TIMEOUT).contains(&start.elapsed()));
    }
}

#[test]
fn pool_starts_threads_when_they_are_needed_and_no_more_than_allowed() {
    let server = Server::start(|_| Reaction::Hang);
    let pool = pool(&server, 2, 10, Duration::from_millis(500));
    assert_eq!(pool.threads(), 0);
    let answers: Vec<_> = (0..4).map(|_| submit(&pool, get(&server)).unwrap()).collect();
    assert_eq!(pool.threads(), 2);
    let errors = answers.iter().map(|answer| answer.recv_timeout(TIMEOUT).unwrap().unwrap_err());
    // The time in the queue counts, too.
    let [timeout, not_sent] = [RequestError::Timeout(Duration::from_millis(500)), RequestError::NotSent];
    assert_eq!(errors.collect::<Vec<_>>(), [timeout.clone(), timeout, not_sent.clone(), not_sent]);
    assert_eq!(server.connections(), 2, "a request was sent that would have been given up soon");
}

#[test]
fn idle_thread_is_used_again() {
    let server = Server::start(|_| Reaction::ok("a"));
    let pool = pool(&server, 8, 10, TIMEOUT);
    for _ in 0..20 {
        let answer = submit(&pool, get(&server)).unwrap();
        assert_eq!(answer.recv_timeout(TIMEOUT).unwrap().unwrap().status, 200);
        // The callback is called before the thread is idle.
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(pool.threads() <= 2, "{} threads", pool.threads());
}

#[test]
fn full_queue_refuses_at_once_and_dropped_pool_completes_what_is_queued() {
    let server = Server::start(|_| Reaction::Hang);
    let pool = pool(&server, 1, 2, TIMEOUT);
    let start = Instant::now();
    let sending = submit(&pool, get(&server)).unwrap();
    while server.connections() == 0 {
        assert!(start.elapsed() < TIMEOUT);
        std::thread::sleep(Duration::from_millis(1));
    }
    let queued = [submit(&pool, get(&server)).unwrap(), submit(&pool, get(&server)).unwrap()];
    assert!(matches!(submit(&pool, get(&server)), Err(SubmitError::QueueFull)));
    drop(pool);
    for answer in queued {
        assert_eq!(answer.try_recv().unwrap().unwrap_err(), RequestError::Stopped);
    }
    assert!(sending.try_recv().is_err());
    assert!(start.elapsed() < TIMEOUT);
}
