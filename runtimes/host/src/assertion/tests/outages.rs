//! Keys that are missing or change, and servers that misbehave. A valid token is accepted until the cache expires, and no other
//! token is.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use super::super::cache::{Cache, LIFE, UNKNOWN_KEY_INTERVAL, Unknown};
use super::super::keys::KeySet;
use super::super::refresh::Refresher;
use super::super::source::FILE_INTERVAL;
use super::server::{Reaction, Server};
use super::*;

/// Ten times the time that a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(60);

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn token(signer: &Signer) -> Vec<u8> {
    signer.token(&claims(now()))
}

fn start(keys: KeySource) -> JwtVerifier {
    JwtVerifier::start(&settings(keys), &no_log()).unwrap()
}

fn start_with(server: &Server) -> JwtVerifier {
    start(KeySource::parse(&server.url(), false).unwrap())
}

/// Verifies the token until the verdict is this one.
#[track_caller]
fn wait_for(verifier: &JwtVerifier, token: &[u8], verdict: Result<(), AssertionError>) {
    let begun = Instant::now();
    loop {
        let last = verifier.verify(token).map(drop);
        if last == verdict {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "still {last:?}, and not {verdict:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn response(status: &str, headers: &str, body: &str) -> Reaction {
    let length = body.len();
    Reaction::Last(format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{headers}\r\n{body}"))
}

#[test]
fn client_is_asked_to_try_again_until_keys_have_been_fetched() {
    let signer = Signer::p256("a", 1);
    let server = Server::start(response("500 Internal Server Error", "", "sorry"));
    let verifier = start_with(&server);
    assert_eq!(verifier.verify(&token(&signer)), Err(AssertionError::KeysUnavailable));
    assert_eq!(verifier.verify(b"rubbish"), Err(AssertionError::KeysUnavailable));
    server.react(Reaction::ok(&set(&[signer.jwk()])));
    wait_for(&verifier, &token(&signer), Ok(()));
}

/// Checks that the last valid set is used if the server gives this answer to the second request.
#[track_caller]
fn check_outage(reaction: Reaction) {
    let (signer, attacker) = (Signer::p256("a", 1), Signer::p256("b", 2));
    let (good, forged) = (token(&signer), token(&attacker));
    let server = Server::start(Reaction::ok(&set(&[signer.jwk()])));
    let verifier = start_with(&server);
    wait_for(&verifier, &good, Ok(()));
    let before = server.requests();
    server.react(reaction);
    // The unknown key causes a fetch, which fails.
    let begun = Instant::now();
    let mut verdict = verifier.verify(&forged);
    assert_eq!(verdict, Err(AssertionError::KeysUnavailable));
    while verdict == Err(AssertionError::KeysUnavailable) {
        verifier.verify(&good).expect("the last valid set is used");
        assert!(begun.elapsed() < PATIENCE, "the fetch does not end");
        thread::sleep(Duration::from_millis(10));
        verdict = verifier.verify(&forged);
    }
    assert_eq!(verdict, Err(AssertionError::Key));
    verifier.verify(&good).expect("the last valid set is used");
    assert!(server.requests() > before);
}

#[test]
fn server_fails() {
    check_outage(response("500 Internal Server Error", "", ""));
    check_outage(response("404 Not Found", "", &set(&[Signer::p256("b", 2).jwk()])));
    check_outage(response("206 Partial Content", "", &set(&[Signer::p256("b", 2).jwk()])));
    check_outage(response("304 Not Modified", "", ""));
    check_outage(Reaction::Last(String::new()));
}

#[test]
fn server_hangs() {
    check_outage(Reaction::Hang);
}

#[test]
fn server_answers_slowly() {
    check_outage(Reaction::Drip);
}

#[test]
fn server_redirects() {
    let elsewhere = Server::start(Reaction::ok(&set(&[Signer::p256("b", 2).jwk()])));
    for status in [
        "301 Moved Permanently",
        "302 Found",
        "303 See Other",
        "307 Temporary Redirect",
        "308 Permanent Redirect",
    ] {
        check_outage(response(status, &format!("Location: {}\r\n", elsewhere.url()), ""));
    }
    assert_eq!(elsewhere.requests(), 0, "a redirect was followed");
}

#[test]
fn server_sends_garbage() {
    check_outage(response("200 OK", "", "<html>maintenance</html>"));
    check_outage(response("200 OK", "", r#"{"keys":[]}"#));
    check_outage(response("200 OK", "", &set(&[json!({ "kty": "oct", "kid": "b", "k": "AAAA" })])));
    check_outage(Reaction::Last("\0".repeat(4096)));
    check_outage(Reaction::Last("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"keys\":".to_owned()));
}

#[test]
fn server_sends_too_much() {
    let mut large = json!({ "keys": [Signer::p256("b", 2).jwk()] });
    large["pad"] = json!("x".repeat(256 * 1024));
    check_outage(response("200 OK", "", &large.to_string()));
    check_outage(response("200 OK", &format!("X-Pad: {}\r\n", "x".repeat(1 << 20)), "{}"));
}

#[test]
fn server_does_not_listen() {
    let signer = Signer::p256("a", 1);
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let verifier = start(KeySource::parse(&format!("http://{closed}/jwks.json"), false).unwrap());
    assert_eq!(verifier.verify(&token(&signer)), Err(AssertionError::KeysUnavailable));
}

#[test]
fn new_key_is_fetched_when_a_token_names_it_and_the_old_one_is_dropped() {
    let (old, new) = (Signer::p256("old", 1), Signer::p256("new", 2));
    let server = Server::start(Reaction::ok(&set(&[old.jwk()])));
    let verifier = start_with(&server);
    wait_for(&verifier, &token(&old), Ok(()));
    server.react(Reaction::ok(&set(&[new.jwk()])));
    verifier.verify(&token(&old)).expect("no token has caused a fetch");
    assert_eq!(verifier.verify(&token(&new)), Err(AssertionError::KeysUnavailable));
    wait_for(&verifier, &token(&new), Ok(()));
    assert_eq!(verifier.verify(&token(&old)), Err(AssertionError::Key));
    assert_eq!(server.requests(), 2);
}

/// Tokens without an id are tried with each key, so a signature that matches no key may belong to a newer key.
#[test]
fn tokens_without_kid_survive_a_rotation() {
    let nameless = |signer: &Signer| {
        let header = json!({ "alg": signer.algorithm }).to_string();
        signer.sign(&header, &claims(now()).to_string())
    };
    let (old, new) = (Signer::p256("old", 1), Signer::p256("new", 2));
    let server = Server::start(Reaction::ok(&set(&[old.jwk()])));
    let verifier = start_with(&server);
    wait_for(&verifier, &nameless(&old), Ok(()));
    server.react(Reaction::ok(&set(&[old.jwk(), new.jwk()])));
    assert_eq!(verifier.verify(&nameless(&new)), Err(AssertionError::KeysUnavailable));
    wait_for(&verifier, &nameless(&new), Ok(()));
    verifier.verify(&nameless(&old)).expect("both keys are published");
    let attacker = Signer::p256("old", 66);
    assert_eq!(verifier.verify(&nameless(&attacker)), Err(AssertionError::Signature));
    assert_eq!(server.requests(), 2);
}

#[test]
fn unknown_keys_cause_one_fetch_per_minute() {
    let signer = Signer::p256("a", 1);
    let server = Server::start(Reaction::ok(&set(&[signer.jwk()])));
    let verifier = start_with(&server);
    wait_for(&verifier, &token(&signer), Ok(()));
    let mut refused = 0;
    for number in 0..2000 {
        let header = json!({ "alg": "ES256", "kid": format!("unknown-{number}") }).to_string();
        // The signature does not matter if the key is unknown.
        let forged = format!("{}.{}.AAAA", base64url(header), base64url("{}"));
        let verdict = verifier.verify(forged.as_bytes()).unwrap_err();
        assert!([AssertionError::Key, AssertionError::KeysUnavailable].contains(&verdict));
        refused += usize::from(verdict == AssertionError::Key);
        if number % 100 == 0 {
            verifier.verify(&token(&signer)).expect("a known key");
            thread::sleep(Duration::from_millis(10));
        }
    }
    assert!(refused > 0);
    assert_eq!(server.requests(), 2);
}

/// Puts a new set into the cache.
fn renew(cache: &Cache, now: Instant) -> Arc<KeySet> {
    cache.replace(KeySet::parse(set(&[Signer::p256("a", 1).jwk()]).as_bytes()).unwrap(), now);
    cache.keys(now).unwrap()
}

#[test]
fn unknown_key_causes_another_fetch_after_a_minute() {
    let cache = Cache::default();
    let start = Instant::now();
    let replace = || renew(&cache, start);
    let old = replace();
    assert_eq!(cache.miss(&old, start), Unknown::Ask);
    assert_eq!(cache.miss(&old, start), Unknown::Wait);
    cache.begin();
    assert_eq!(cache.miss(&old, start), Unknown::Wait);
    let new = replace();
    assert_eq!(cache.miss(&new, start + UNKNOWN_KEY_INTERVAL - Duration::from_nanos(1)), Unknown::Refuse);
    assert_eq!(cache.miss(&new, start + UNKNOWN_KEY_INTERVAL), Unknown::Ask);
    assert!(cache.fail(start).is_some());
    assert_eq!(cache.miss(&new, start + UNKNOWN_KEY_INTERVAL), Unknown::Refuse);
}

/// A token that was verified with the previous keys during a fetch is not refused because the fetch has ended.
#[test]
fn token_is_verified_again_if_the_keys_were_replaced() {
    let cache = Cache::default();
    let start = Instant::now();
    let replace = || renew(&cache, start);
    let old = replace();
    assert_eq!(cache.miss(&old, start), Unknown::Ask);
    let new = replace();
    assert_eq!(cache.miss(&old, start), Unknown::Again);
    assert_eq!(cache.miss(&new, start), Unknown::Refuse);
}

#[test]
fn cache_expires_a_day_after_the_keys_were_confirmed() {
    let cache = Cache::default();
    let start = Instant::now();
    assert!(cache.keys(start).is_none());
    assert_eq!(cache.fail(start), None);
    cache.replace(KeySet::parse(set(&[Signer::p256("a", 1).jwk()]).as_bytes()).unwrap(), start);
    let last = LIFE - Duration::from_nanos(1);
    assert!(cache.keys(start + last).is_some());
    assert!(cache.keys(start + LIFE).is_none());
    assert_eq!(cache.fail(start + last), Some(last));
    cache.confirm(start + last);
    assert!(cache.keys(start + LIFE).is_some());
}

#[test]
fn valid_token_is_refused_when_the_keys_are_too_old() {
    let signer = Signer::p256("a", 1);
    let server = Server::start(Reaction::ok(&set(&[signer.jwk()])));
    let verifier = start_with(&server);
    let token = token(&signer);
    wait_for(&verifier, &token, Ok(()));
    let later = |by| verifier.verify_at(&token, SystemTime::now(), Instant::now() + by).map(drop);
    assert_eq!(later(LIFE - PATIENCE), Ok(()));
    assert_eq!(later(LIFE), Err(AssertionError::KeysUnavailable));
}

#[test]
fn changed_file_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwks.json");
    let (old, new) = (Signer::p256("old", 1), Signer::p256("new", 2));
    fs::write(&path, set(&[old.jwk()])).unwrap();
    let verifier = start(KeySource::File(path.clone()));
    verifier.verify(&token(&old)).expect("the keys of a file are read at the start");
    // Half a file, as during a write that is not atomic.
    fs::write(&path, "{\"keys\":[").unwrap();
    assert_eq!(verifier.verify(&token(&new)), Err(AssertionError::KeysUnavailable));
    wait_for(&verifier, &token(&new), Err(AssertionError::Key));
    verifier.verify(&token(&old)).expect("the last valid set is used");
    // No token causes this read.
    fs::write(&path, set(&[new.jwk()])).unwrap();
    wait_for(&verifier, &token(&new), Ok(()));
    assert_eq!(verifier.verify(&token(&old)), Err(AssertionError::Key));
}

/// Kubernetes changes a mounted Secret this way: the path contains a symbolic link to a folder, and the link is replaced.
#[test]
fn keys_in_a_file_rotate_when_a_symbolic_link_in_its_path_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (Signer::p256("old", 1), Signer::p256("new", 2));
    for (name, signer) in [("..1", &old), ("..2", &new)] {
        fs::create_dir(folder.path().join(name)).unwrap();
        fs::write(folder.path().join(name).join("jwks.json"), set(&[signer.jwk()])).unwrap();
    }
    let (data, next) = (folder.path().join("..data"), folder.path().join("..next"));
    symlink("..1", &data).unwrap();
    let path = folder.path().join("jwks.json");
    symlink("..data/jwks.json", &path).unwrap();
    let verifier = start(KeySource::File(path.clone()));
    verifier.verify(&token(&old)).expect("the keys of a file are read at the start");
    symlink("..2", &next).unwrap();
    fs::rename(&next, &data).unwrap();
    wait_for(&verifier, &token(&new), Ok(()));
    assert_eq!(verifier.verify(&token(&old)), Err(AssertionError::Key));
}

/// A file that is missing for a long time is still read as often as before, and its keys remain in use.
#[test]
fn file_that_was_missing_is_read_without_delay() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwks.json");
    let signer = Signer::p256("a", 1);
    fs::write(&path, set(&[signer.jwk()])).unwrap();
    let cache = Arc::new(Cache::default());
    let source = KeySource::File(path.clone());
    let mut refresher = Refresher::new(&source, Subject::Assertions, cache.clone(), no_log());
    assert_eq!(refresher.fetch().unwrap(), FILE_INTERVAL);
    fs::remove_file(&path).unwrap();
    for _ in 0..1000 {
        let failure = refresher.fetch().unwrap_err();
        assert_eq!(refresher.record_failure(&failure), FILE_INTERVAL);
    }
    assert!(cache.keys(Instant::now()).is_some());
    let new = Signer::p256("b", 2);
    fs::write(&path, set(&[new.jwk()])).unwrap();
    assert_eq!(refresher.fetch().unwrap(), FILE_INTERVAL);
    let keys = cache.keys(Instant::now()).unwrap();
    assert!(keys.find(Some("b"), Algorithm::ES256).is_named);
}

#[test]
fn start_fails_if_the_file_has_no_keys() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwks.json");
    let error = || {
        let keys = KeySource::File(path.clone());
        let error = JwtVerifier::start(&settings(keys), &no_log()).map(drop).unwrap_err().to_string();
        error.replace(&path.display().to_string(), "FILE")
    };
    assert!(error().starts_with("POSTERN_ASSERTION_JWKS=FILE: cannot be read: No such file"), "{}", error());
    fs::write(&path, "{}").unwrap();
    assert_eq!(error(), "POSTERN_ASSERTION_JWKS=FILE: it is not a JWK Set");
    fs::write(&path, "x".repeat(300_000)).unwrap();
    assert_eq!(error(), "POSTERN_ASSERTION_JWKS=FILE: it has more than 256 KiB, which no JWK Set needs");
}

#[test]
fn thread_ends_when_the_verifier_is_dropped() {
    let server = Server::start(Reaction::ok(&set(&[Signer::p256("a", 1).jwk()])));
    let verifier = start_with(&server);
    let cache: Weak<Cache> = Arc::downgrade(&verifier.keys.cache);
    drop(verifier);
    let begun = Instant::now();
    while cache.strong_count() > 0 {
        assert!(begun.elapsed() < PATIENCE, "the thread still has the cache");
        thread::sleep(Duration::from_millis(10));
    }
}
