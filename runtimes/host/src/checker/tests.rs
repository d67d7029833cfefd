use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use postern_core::{BearerToken, TokenCheck, Verdict};
use slog::{Discard, Logger, o};

use super::service::{AuthService, MOST_THREADS};
use super::*;
use crate::outbound::tests::server::{Reaction, Server};

const PATIENCE: Duration = Duration::from_secs(10);

fn settings(url: &str, cache: Duration) -> AuthSettings {
    AuthSettings { url: HttpUrl::parse(url).unwrap(), cache }
}

fn service(server: &Server, cache: Duration, timeout: Duration) -> (AuthService, Arc<Counts>) {
    let counts = Arc::new(Counts::default());
    let url = server.url("/identity/validate");
    let log = Logger::root(Discard, o!());
    (
        AuthService::new(&settings(&url, cache), &HandshakeConfig::default(), timeout, counts.clone(), &log),
        counts,
    )
}

fn token(text: &str) -> TokenCheck {
    let token = BearerToken::new(text.as_bytes()).unwrap();
    TokenCheck { token, path: None, origin: None, client: None }
}

fn check(service: &AuthService, check: &TokenCheck) -> Receiver<Verdict> {
    let (sender, receiver) = channel();
    service.check(check, Box::new(move |verdict| drop(sender.send(verdict))));
    receiver
}

fn verdict(service: &AuthService, text: &str) -> Verdict {
    check(service, &token(text)).recv_timeout(PATIENCE).unwrap()
}

fn answer(status: &str, headers: &str) -> Reaction {
    Reaction::Answer(format!("HTTP/1.1 {status}\r\n{headers}Content-Length: 2\r\n\r\n{{}}"))
}

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn service_is_asked_as_a_gateway_asks() {
    let server = Server::start(|_| {
        answer(
            "200 OK",
            "User-ID: 7\r\nUser-Name: Ann\r\nUser-Session-ID: s\r\nUser-Token-Exp: 1800000000\r\n",
        )
    });
    let (service, _) = service(&server, MINUTE, PATIENCE);
    let asked = TokenCheck {
        path: Some("/chat".into()),
        origin: Some("https://app.example:8443".into()),
        client: Some("203.0.113.9".into()),
        ..token("ey.J.x")
    };
    let Verdict::Valid(user) = check(&service, &asked).recv_timeout(PATIENCE).unwrap() else {
        panic!("it holds")
    };
    assert_eq!((user.id(), user.name(), user.session_id()), ("7", Some("Ann"), Some("s")));
    assert_eq!(user.token_exp(), Some(1_800_000_000));
    let request = &server.requests()[0];
    assert!(request.head.starts_with("GET /identity/validate HTTP/1.1\r\n"), "{}", request.head);
    for (name, value) in [
        ("authorization", "Bearer ey.J.x"),
        ("x-forwarded-method", "GET"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "app.example:8443"),
        ("x-forwarded-uri", "/chat"),
        ("x-forwarded-for", "203.0.113.9"),
    ] {
        assert_eq!(request.header(name), value, "{name}");
    }
}

#[test]
fn only_a_success_with_an_identity_is_a_yes() {
    let cases = [
        (answer("204 No Content", "User-ID: 7\r\n"), "valid"),
        (answer("401 Unauthorized", "User-ID: 7\r\n"), "refused"),
        (answer("403 Forbidden", ""), "refused"),
        (answer("200 OK", ""), "unknown"),
        (answer("200 OK", "User-ID:\r\n"), "unknown"),
        (answer("200 OK", "User-ID: 7\r\nUser-ID: 8\r\n"), "unknown"),
        (answer("200 OK", "User-ID: 7\r\nUser-Token-Exp: never\r\n"), "unknown"),
        (answer("302 Found", "Location: /login\r\nUser-ID: 7\r\n"), "unknown"),
        (answer("400 Bad Request", ""), "unknown"),
        (answer("404 Not Found", "User-ID: 7\r\n"), "unknown"),
        (answer("500 Internal Server Error", "User-ID: 7\r\n"), "unknown"),
        (Reaction::Last(String::new()), "unknown"),
        (Reaction::Last("garbage\r\n\r\n".to_owned()), "unknown"),
        (Reaction::Hang, "unknown"),
        (Reaction::Drip, "unknown"),
    ];
    for (reaction, expected) in cases {
        let shown = format!("{reaction:?}");
        let server = Server::start(move |_| reaction.clone());
        let (service, _) = service(&server, MINUTE, Duration::from_millis(300));
        let found = match verdict(&service, "a") {
            Verdict::Valid(_) => "valid",
            Verdict::Refused => "refused",
            Verdict::Unknown => "unknown",
        };
        assert_eq!(found, expected, "{shown}");
    }
}

#[test]
fn checks_of_the_same_token_share_a_request_and_its_answer() {
    let server = Server::start(|_| {
        std::thread::sleep(Duration::from_millis(100));
        answer("200 OK", "User-ID: 7\r\n")
    });
    let (service, counts) = service(&server, MINUTE, PATIENCE);
    let waiting: Vec<_> = (0..100).map(|_| check(&service, &token("a"))).collect();
    for receiver in waiting {
        assert!(matches!(receiver.recv_timeout(PATIENCE).unwrap(), Verdict::Valid(_)));
    }
    verdict(&service, "a");
    assert_eq!((server.requests().len(), counts.requests.load(Ordering::Relaxed)), (1, 1));
    verdict(&service, "b");
    let other = TokenCheck { path: Some("/other".into()), ..token("a") };
    check(&service, &other).recv_timeout(PATIENCE).unwrap();
    assert_eq!((server.requests().len(), service.cached()), (3, 3));
}

#[test]
fn answers_are_used_for_the_time_of_the_setting() {
    let server = Server::start(|_| answer("401 Unauthorized", ""));
    for (cache, expected) in [(Duration::ZERO, 3), (MINUTE, 1)] {
        let before = server.requests().len();
        let (service, _) = service(&server, cache, PATIENCE);
        (0..3).for_each(|_| assert_eq!(verdict(&service, "a"), Verdict::Refused));
        assert_eq!(server.requests().len() - before, expected, "{cache:?}");
    }
    let (service, _) = service(&server, Duration::from_millis(50), PATIENCE);
    let before = server.requests().len();
    verdict(&service, "a");
    std::thread::sleep(Duration::from_millis(80));
    verdict(&service, "a");
    assert_eq!(server.requests().len() - before, 2);
}

/// A service that hangs gets a few connections, and everything else is answered at once or in time.
#[test]
fn service_that_hangs_is_asked_by_a_few_threads_and_nothing_waits_longer_than_the_timeout() {
    let server = Server::start(|_| Reaction::Hang);
    let timeout = Duration::from_millis(400);
    let (service, _) = service(&server, MINUTE, timeout);
    let start = Instant::now();
    let waiting: Vec<_> = (0..5_000).map(|number| check(&service, &token(&format!("t{number}")))).collect();
    // No caller has waited.
    assert!(start.elapsed() < Duration::from_millis(300), "{:?}", start.elapsed());
    for receiver in waiting {
        assert_eq!(receiver.recv_timeout(PATIENCE).unwrap(), Verdict::Unknown);
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(server.connections() <= MOST_THREADS, "{}", server.connections());
}

#[test]
fn cache_is_bounded() {
    let cache = cache::Cache::new(MINUTE);
    let now = Instant::now();
    for number in 0..cache::MOST_ANSWERS + 100 {
        let key = cache.key(number.to_string().as_bytes(), "/");
        assert!(matches!(cache.begin(key, Box::new(|_| {}), now), cache::Step::Ask));
        cache.complete(key, &Verdict::Refused, now);
    }
    assert_eq!(cache.len(), cache::MOST_ANSWERS);
    // As many checks may wait, and one more is answered at once.
    let key = |number: usize| cache.key(format!("w{number}").as_bytes(), "/");
    (0..cache::MOST_WAITING).for_each(|number| _ = cache.begin(key(number), Box::new(|_| {}), now));
    let (sender, receiver) = channel();
    let done = Box::new(move |verdict| sender.send(verdict).unwrap());
    assert!(matches!(cache.begin(key(usize::MAX), done, now), cache::Step::Done));
    assert_eq!(receiver.try_recv(), Ok(Verdict::Unknown));
}
