//! Signed identities with both binaries: only the token determines the user, and keys change.

use std::fs;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use postern_tests::at_the_same_time;
use postern_tests::http::Response;
use postern_tests::issuer::{Certificate, KeyServer, Signer, claims_of_john, key_set};
use postern_tests::postern::{Postern, Runtime};
use postern_tests::ws::{Handshake, Outcome};
use serde_json::{Value, json};

const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "postern";
const HEADER: &str = "X-Assertion";

/// Ten times the time that a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(30);

fn token(signer: &Signer) -> String {
    token_with(signer, &[])
}

/// Returns a token with some claims changed.
fn token_with(signer: &Signer, changes: &[(&str, Value)]) -> String {
    let mut claims = claims_of_john(ISSUER, AUDIENCE);
    changes.iter().for_each(|(claim, value)| claims[claim] = value.clone());
    signer.token(&claims)
}

fn start(runtime: Runtime, keys: &str) -> Postern {
    start_with(runtime, keys, &[])
}

fn start_with(runtime: Runtime, keys: &str, more: &[(&str, &str)]) -> Postern {
    let settings = [
        ("POSTERN_ASSERTION", "custom"),
        ("POSTERN_ASSERTION_HEADER", HEADER),
        ("POSTERN_ASSERTION_ISSUER", ISSUER),
        ("POSTERN_ASSERTION_AUDIENCE", AUDIENCE),
        ("POSTERN_ASSERTION_JWKS", keys),
        ("LOG_LEVEL", "trace"),
    ];
    Postern::start(runtime, &[&settings, more].concat())
}

fn handshake(postern: &Postern, token: &str) -> Handshake {
    Handshake::to(postern.address()).header(HEADER, token)
}

#[track_caller]
fn check(response: &Response, status: u16, code: &str) {
    assert_eq!((response.status, &response.json()["error"]["code"]), (status, &code.into()), "{response}");
    assert_eq!(response.headers.contains_key("www-authenticate"), status == 401, "{response}");
    assert_eq!(response.headers.contains_key("retry-after"), status == 503, "{response}");
}

#[track_caller]
fn refused(handshake: Handshake, status: u16, code: &str) {
    check(&handshake.refused(), status, code);
}

/// Connects repeatedly until the keys have been fetched.
#[track_caller]
fn wait_until_admitted(postern: &Postern, token: &str) {
    let begun = Instant::now();
    loop {
        match handshake(postern, token).send().expect("an answer") {
            Outcome::Open(open) => return open.close(),
            Outcome::Refused(response) => check(&response, 503, "assertion_keys_unavailable"),
        }
        assert!(begun.elapsed() < PATIENCE, "no keys after {PATIENCE:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn token_determines_the_user_and_plain_headers_do_not() {
    for runtime in Runtime::BOTH {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let keys = folder.path().join("jwks.json");
        let (signer, attacker) = (Signer::new("a", 1), Signer::new("a", 2));
        fs::write(&keys, key_set(&[&signer])).expect("a file");
        let postern = start(runtime, keys.to_str().expect("UTF-8"));
        let good = token(&signer);
        let spoofed = |handshake: Handshake| {
            handshake.header("User-ID", "root").header("User-Name", "Root").header("User_ID", "root")
        };

        let mut open = spoofed(handshake(&postern, &good)).open();
        open.echo("Hello World");
        open.close();
        postern.wait_for("WebSocket connection established - User: John Doe (john@example.com) - ID: 123");
        postern.wait_for("Message from John Doe (123): Hello World");
        postern.wait_for("WebSocket connection closed for user John Doe (123)");

        let to = postern.address();
        refused(Handshake::to(to), 401, "assertion_missing");
        refused(Handshake::to(to).as_john(), 401, "assertion_missing");
        refused(handshake(&postern, "").as_john(), 401, "assertion_missing");
        refused(handshake(&postern, "garbage").as_john(), 401, "assertion_invalid");
        let forged = token(&attacker);
        refused(handshake(&postern, &forged).as_john(), 401, "assertion_invalid");
        refused(handshake(&postern, &good).header("x-assertion", &good), 400, "identity_twice");
        refused(handshake(&postern, &good).header("X_Assertion", &forged), 400, "identity_alias");
        let nominated = handshake(&postern, &good).instead("Connection", "Upgrade, X-Assertion");
        refused(nominated, 400, "identity_nominated");
        for (claim, value, status, code, detail) in [
            ("iss", json!("https://evil.test"), 401, "assertion_issuer", "iss is not the configured issuer"),
            ("aud", json!("another"), 401, "assertion_audience", "aud contains no configured audience"),
            ("exp", json!(1), 401, "assertion_not_now", "exp has passed"),
            (
                "exp",
                json!("4102444800"),
                401,
                "assertion_invalid",
                "a claim is missing or present twice or has the wrong type",
            ),
            (
                "sub",
                json!(12.3),
                401,
                "assertion_subject",
                "the claim with the user id is missing or is not a string or whole number",
            ),
            ("sub", json!(""), 401, "identity_missing", ""),
            ("sub", json!("a b"), 400, "identity_invalid", ""),
        ] {
            refused(handshake(&postern, &token_with(&signer, &[(claim, value)])), status, code);
            // Only the log has the rule.
            let detail = if detail.is_empty() { String::new() } else { format!(" detail: {detail},") };
            postern.wait_for(&format!(", code: {code},{detail} handshake_ms: "));
        }
        for detail in [
            "the token or its header is malformed or uses an unsupported alg or crit",
            "the signature is wrong",
        ] {
            postern.wait_for(&format!(", code: assertion_invalid, detail: {detail}, "));
        }

        for line in postern.log() {
            assert!(!line.contains("root") && !line.contains("Root"), "{runtime}: {line}");
            for token in [&good, &forged] {
                let signature = token.rsplit('.').next().expect("a token has three parts");
                assert!(!line.contains(signature), "{runtime}: a token in the log: {line}");
            }
        }
    }
}

#[test]
fn keys_of_a_url_rotate_and_remain_in_use_during_an_outage() {
    at_the_same_time(Runtime::BOTH, |runtime| {
        let (old, new) = (Signer::new("old", 1), Signer::new("new", 2));
        let server = KeyServer::start(key_set(&[&old]));
        let postern = start(runtime, &server.url());
        wait_until_admitted(&postern, &token(&old));

        server.rotate(key_set(&[&new]));
        handshake(&postern, &token(&old)).open().close();
        refused(handshake(&postern, &token(&new)), 503, "assertion_keys_unavailable");
        wait_until_admitted(&postern, &token(&new));
        refused(handshake(&postern, &token(&old)), 401, "assertion_invalid");
        assert_eq!(server.requests(), 2, "{runtime}: unknown keys cause one fetch per minute");

        server.fail();
        handshake(&postern, &token(&new)).open().close();
        let unknown = Signer::new("unknown", 3);
        refused(handshake(&postern, &token(&unknown)), 401, "assertion_invalid");
    });
}

#[test]
fn client_is_asked_to_try_again_until_keys_have_been_fetched() {
    for runtime in Runtime::BOTH {
        let signer = Signer::new("a", 1);
        let server = KeyServer::start(String::new());
        server.fail();
        let mut postern = start(runtime, &server.url());
        refused(handshake(&postern, &token(&signer)), 503, "assertion_keys_unavailable");
        refused(Handshake::to(postern.address()), 401, "assertion_missing");
        let line = postern.wait_for("cannot fetch the assertion keys");
        assert!(line.contains("the answer has the status 500") && line.contains(&server.url()), "{line}");
        server.rotate(key_set(&[&signer]));
        wait_until_admitted(&postern, &token(&signer));
        postern.wait_for("assertion keys can be fetched again");
        assert!(postern.terminate().success(), "{runtime}");
    }
}

#[test]
fn keys_are_fetched_only_from_a_server_with_a_trusted_certificate() {
    for runtime in Runtime::BOTH {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (ours, another) = (Certificate::generate(), Certificate::generate());
        let signer = Signer::new("a", 1);
        let server = KeyServer::start_tls(key_set(&[&signer]), &ours);
        let start_trusting = |certificate: &Certificate| {
            let roots = folder.path().join("roots.pem");
            fs::write(&roots, &certificate.pem).expect("a file");
            let roots = [("SSL_CERT_FILE", roots.to_str().expect("UTF-8")), ("SSL_CERT_DIR", "/nowhere")];
            start_with(runtime, &server.url(), &roots)
        };
        let postern = start_trusting(&another);
        let line = postern.wait_for("cannot fetch the assertion keys");
        assert!(line.contains("invalid peer certificate"), "{runtime}: {line}");
        refused(handshake(&postern, &token(&signer)), 503, "assertion_keys_unavailable");
        assert_eq!(server.requests(), 0, "{runtime}");
        wait_until_admitted(&start_trusting(&ours), &token(&signer));
    }
}

/// Volumes and deployment tools preserve the modification time of a file, and all keys of a curve have the same length.
#[test]
fn keys_of_a_file_rotate_although_its_metadata_do_not_change() {
    for runtime in Runtime::BOTH {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let keys = folder.path().join("jwks.json");
        let time = SystemTime::now() - Duration::from_secs(3600);
        let write = |signer: &Signer| {
            fs::write(&keys, key_set(&[signer])).expect("a file");
            let file = fs::File::options().write(true).open(&keys).expect("a file");
            file.set_modified(time).expect("a file with a time");
        };
        // With the same id, so that no token has an unknown key.
        let (old, new) = (Signer::new("same", 1), Signer::new("same", 2));
        write(&old);
        let mut postern = start(runtime, keys.to_str().expect("UTF-8"));
        // Postern has read the file before it listens.
        let mut before = handshake(&postern, &token(&old)).open();
        write(&new);
        postern.wait_for("assertion keys changed");
        handshake(&postern, &token(&new)).open().close();
        refused(handshake(&postern, &token(&old)), 401, "assertion_invalid");
        // While the file is missing or half written, its last keys remain in use.
        fs::remove_file(&keys).expect("a file");
        postern.wait_for("cannot be read");
        handshake(&postern, &token(&new)).open().close();
        fs::write(&keys, "{\"keys\":[").expect("a file");
        postern.wait_for("not a JWK Set");
        handshake(&postern, &token(&new)).open().close();
        write(&old);
        postern.wait_for("assertion keys can be fetched again");
        handshake(&postern, &token(&old)).open().close();
        before.echo("a connection outlives the key of its token");
        assert!(postern.terminate().success(), "{runtime}");
    }
}

#[test]
fn tokens_are_accepted_in_the_forms_of_gateways() {
    for runtime in Runtime::BOTH {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let keys = folder.path().join("jwks.json");
        let signer = Signer::new("a", 1);
        fs::write(&keys, key_set(&[&signer])).expect("a file");
        let keys = keys.to_str().expect("UTF-8");
        let with = |changes: &[(&str, Value)]| token_with(&signer, changes);

        // Most gateways forward the token in `Authorization`. The id can be a number, or in a nested object.
        let settings = [
            ("POSTERN_ASSERTION_HEADER", "Authorization"),
            ("POSTERN_ASSERTION_ID_CLAIM", "user.id,user_id,sub"),
        ];
        let postern = start_with(runtime, keys, &settings);
        let bearer = |scheme: &str, token: &str| {
            Handshake::to(postern.address()).header("Authorization", &format!("{scheme}{token}"))
        };
        let number = with(&[("user_id", json!(9_007_199_254_740_993_u64))]);
        bearer("Bearer ", &number).open().close();
        postern.wait_for("- ID: 9007199254740993");
        bearer("bearer ", &with(&[("user", json!({ "id": 42 }))])).open().close();
        postern.wait_for("- ID: 42");
        bearer("", &number).open().close();
        refused(bearer("Bearer", ""), 401, "assertion_missing");
        refused(bearer("Basic ", "dXNlcjpwYXNzd29yZA=="), 401, "assertion_invalid");
        refused(bearer("Bearer ", &number).header("authorization", "Bearer x"), 400, "identity_twice");
        refused(Handshake::to(postern.address()).as_john(), 401, "assertion_missing");
        let signature = number.rsplit('.').next().expect("a token has three parts");
        assert!(!postern.log().iter().any(|line| line.contains(signature)), "{runtime}: a token in the log");

        // The service tokens of Cloudflare have an empty `sub`.
        let settings = [("POSTERN_ASSERTION", "cloudflare"), ("POSTERN_ASSERTION_HEADER", "")];
        let postern = start_with(runtime, keys, &settings);
        let handshake =
            |token: &str| Handshake::to(postern.address()).header("Cf-Access-Jwt-Assertion", token);
        let service = with(&[("sub", json!("")), ("common_name", json!("e367826f.access"))]);
        handshake(&service).open().close();
        postern.wait_for("- ID: e367826f.access");
        handshake(&with(&[])).open().close();
        postern.wait_for("- ID: 123");
        refused(handshake(&with(&[("sub", json!(""))])), 401, "identity_missing");
    }
}

#[test]
fn http_to_another_host_must_be_allowed() {
    for runtime in Runtime::BOTH {
        let settings = [
            ("POSTERN_LISTEN", "127.0.0.1:0"),
            ("POSTERN_ASSERTION", "google-iap"),
            ("POSTERN_ASSERTION_AUDIENCE", AUDIENCE),
            ("POSTERN_ASSERTION_JWKS", "http://issuer.invalid:8080/jwks.json"),
        ];
        let (status, lines) = Postern::refuse(runtime, &settings);
        assert_eq!((status.code(), lines.len()), (Some(2), 1), "{runtime}: {lines:?}");
        assert!(lines[0].contains("POSTERN_ASSERTION_JWKS_INSECURE=true"), "{runtime}: {lines:?}");
        let allowed = [("POSTERN_ASSERTION_JWKS_INSECURE", "true")];
        let postern = start_with(runtime, "http://issuer.invalid:8080/jwks.json", &allowed);
        let warning = postern.wait_for("the assertion keys come over plain http");
        assert!(warning.contains("WARN"), "{runtime}: {warning}");
        postern.wait_for("cannot fetch the assertion keys");
    }
}

#[test]
fn start_fails_if_a_setting_or_the_file_is_missing() {
    for runtime in Runtime::BOTH {
        let (status, lines) = Postern::refuse(runtime, &[("POSTERN_ASSERTION", "pomerium")]);
        assert_eq!(status.code(), Some(2));
        assert_eq!(
            lines,
            [format!(
                "{runtime}: POSTERN_ASSERTION=pomerium: needs POSTERN_ASSERTION_ISSUER, too; write for example \
                 app.example.com, the host of the route"
            )]
        );
        let (status, lines) = Postern::refuse(
            runtime,
            &[
                ("POSTERN_LISTEN", "127.0.0.1:0"),
                ("POSTERN_ASSERTION", "google-iap"),
                ("POSTERN_ASSERTION_AUDIENCE", AUDIENCE),
                ("POSTERN_ASSERTION_JWKS", "/nowhere/jwks.json"),
            ],
        );
        assert_eq!(status.code(), Some(2), "{lines:?}");
        assert_eq!(
            lines,
            [format!(
                "{runtime}: POSTERN_ASSERTION_JWKS=/nowhere/jwks.json: cannot be read: No such file or directory \
                 (os error 2)"
            )]
        );
    }
}
