//! Requests to a real server, which can misbehave.

pub(crate) mod server;

use std::time::{Duration, Instant};

use ureq::http::Request;

use super::*;
use server::{Reaction, Server};

const TIMEOUT: Duration = Duration::from_secs(10);

fn client(server: &Server, timeout: Duration) -> Client {
    let url = HttpUrl::parse(&server.url("/hook")).unwrap();
    Client::new(&url, ClientConfig { timeout, max_body: 1024, max_idle: 2, accept: "application/json" })
}

fn post(server: &Server, body: &str) -> Request<Vec<u8>> {
    Request::post(server.url("/hook")).header("Content-Type", "text/plain").body(body.into()).unwrap()
}

fn get(server: &Server) -> Request<Vec<u8>> {
    Request::get(server.url("/hook")).header("Authorization", "Bearer a").body(Vec::new()).unwrap()
}

#[test]
fn requests_have_their_method_headers_and_body_and_share_a_connection() {
    let server = Server::start(|request| {
        let text = format!("{} {}", request.head.lines().next().unwrap(), request.body);
        Reaction::ok(&text)
    });
    let client = client(&server, TIMEOUT);
    for body in ["a", "b", ""] {
        let answer = client.send(post(&server, body)).unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!(String::from_utf8(answer.body).unwrap(), format!("POST /hook HTTP/1.1 {body}"));
        assert_eq!(answer.headers["x-test"], "1");
    }
    let answer = client.send(get(&server)).unwrap();
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
    let answer = client(&server, TIMEOUT).send(post(&server, "a")).unwrap();
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
        let error = client(&server, TIMEOUT).send(post(&server, "a")).unwrap_err();
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
        let error = client(&server, timeout).send(post(&server, "a")).unwrap_err();
        assert_eq!(error, RequestError::Timeout(timeout));
        assert!((timeout..TIMEOUT).contains(&start.elapsed()));
    }
}
