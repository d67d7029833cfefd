//! Tokens of channels.

use std::fs;

use jsonwebtoken::{Algorithm, EncodingKey};
use postern_channels::claims::{
    self, ConnectionClaims, Fault, Overrides, SubscriptionClaims, SubscriptionDetails, TokenClaims,
};
use postern_channels::permissions::Refusal;
use postern_channels::{Disconnect, ErrorCode};

use super::*;
use crate::assertion::tokens::{TokenSettings, TokenVerifier};

const SECRET: &[u8] = b"a secret of the backend";

fn hmac(secret: &[u8]) -> Signer {
    Signer { kid: "hmac", algorithm: Algorithm::HS256, key: EncodingKey::from_secret(secret) }
}

fn start(settings: &TokenSettings) -> TokenVerifier {
    TokenVerifier::start(settings, &no_log()).unwrap()
}

fn with_secret() -> TokenVerifier {
    start(&TokenSettings { secret: Some(SECRET.to_vec()), ..TokenSettings::default() })
}

/// Returns a verifier with the public keys of these signers, and the folder of their file.
fn with_keys(signers: &[&Signer], secret: Option<&[u8]>) -> (TokenVerifier, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwks.json");
    fs::write(&path, set(&signers.iter().map(|signer| signer.jwk()).collect::<Vec<_>>())).unwrap();
    let settings = TokenSettings {
        secret: secret.map(Vec::from),
        keys: Some(KeySource::File(path)),
        ..TokenSettings::default()
    };
    (start(&settings), folder)
}

fn claims_of(user: &str) -> ConnectionClaims {
    let common = TokenClaims { user: user.to_owned(), ..TokenClaims::default() };
    ConnectionClaims { common, ..ConnectionClaims::default() }
}

#[test]
fn hs256_needs_the_secret() {
    let claims = json!({ "sub": "1" });
    let token = hmac(SECRET).token(&claims);
    assert_eq!(with_secret().connection(&token), Ok(claims_of("1")));
    let (other_key, unsigned) = (hmac(b"another secret").token(&claims), {
        let message = format!("{}.{}.", base64url(r#"{"alg":"none"}"#), base64url(claims.to_string()));
        message.into_bytes()
    });
    let long = Signer { algorithm: Algorithm::HS512, ..hmac(SECRET) }.token(&claims);
    let critical = hmac(SECRET).sign(r#"{"alg":"HS256","crit":["exp"],"exp":1}"#, &claims.to_string());
    let altered = [&token[..token.len() - 4], b"AAAA"].concat();
    for token in [other_key, unsigned, long, critical, altered, Vec::new(), b"a.b.c".to_vec()] {
        let shown = String::from_utf8_lossy(&token).into_owned();
        assert_eq!(with_secret().connection(&token), Err(Fault::Invalid), "{shown}");
        assert_eq!(with_secret().subscription(&token), Err(Fault::Invalid), "{shown}");
    }
    // Without a secret, and with an empty one, no token with HS256 is accepted.
    for secret in [None, Some(Vec::new())] {
        let verifier = start(&TokenSettings { secret, ..TokenSettings::default() });
        for key in [SECRET, b""] {
            assert_eq!(verifier.connection(&hmac(key).token(&claims)), Err(Fault::Invalid));
        }
    }
}

#[test]
fn other_algorithms_need_a_key_of_the_set() {
    let signers = [
        Signer::p256("p256", 1),
        Signer::p384("p384", 2),
        Signer::ed25519("ed25519", 3),
        Signer::rsa("rsa", Algorithm::RS256),
    ];
    let claims = json!({ "sub": "1" });
    let (verifier, _folder) = with_keys(&signers.each_ref(), Some(SECRET));
    for signer in &signers {
        assert_eq!(verifier.connection(&signer.token(&claims)), Ok(claims_of("1")), "{}", signer.kid);
        assert_eq!(with_secret().connection(&signer.token(&claims)), Err(Fault::Invalid), "{}", signer.kid);
    }
    assert_eq!(verifier.connection(&hmac(SECRET).token(&claims)), Ok(claims_of("1")));
    // A key with the id of another one.
    assert_eq!(verifier.connection(&Signer::p256("p256", 9).token(&claims)), Err(Fault::Invalid));
}

#[test]
fn a_public_key_is_not_a_secret() {
    let signer = Signer::ed25519("ed25519", 3);
    let (verifier, _folder) = with_keys(&[&signer], None);
    let jwk = signer.jwk();
    let public = jwk["x"].as_str().unwrap();
    let bytes = URL_SAFE_NO_PAD.decode(public).unwrap();
    for secret in [public.as_bytes(), &bytes, jwk.to_string().as_bytes()] {
        let forged = Signer { kid: "ed25519", ..hmac(secret) }.token(&json!({ "sub": "1" }));
        assert_eq!(verifier.connection(&forged), Err(Fault::Invalid));
    }
}

#[test]
fn nothing_is_known_about_a_token_while_the_keys_are_unavailable() {
    let keys = Some(KeySource::parse("http://127.0.0.1:9/jwks.json", false).unwrap());
    let verifier = start(&TokenSettings { keys, secret: Some(SECRET.to_vec()), ..TokenSettings::default() });
    let token = Signer::p256("p256", 1).token(&json!({ "sub": "1" }));
    assert_eq!(verifier.connection(&token), Err(Fault::Unavailable));
    assert_eq!(verifier.subscription(&token), Err(Fault::Unavailable));
    assert!(verifier.connection(&hmac(SECRET).token(&json!({ "sub": "1" }))).is_ok());
}

#[test]
fn issuer_and_audience_count_if_they_are_set() {
    let settings = TokenSettings {
        secret: Some(SECRET.to_vec()),
        issuer: Some(ISSUER.to_owned()),
        audience: vec![AUDIENCE.to_owned(), "other".to_owned()],
        ..TokenSettings::default()
    };
    let strict = start(&settings);
    for (claims, is_valid) in [
        (json!({ "sub": "1", "iss": ISSUER, "aud": AUDIENCE }), true),
        (json!({ "sub": "1", "iss": ISSUER, "aud": ["a", "other"] }), true),
        (json!({ "sub": "1", "iss": ISSUER }), false),
        (json!({ "sub": "1", "aud": AUDIENCE }), false),
        (json!({ "sub": "1", "iss": "another", "aud": AUDIENCE }), false),
        (json!({ "sub": "1", "iss": ISSUER, "aud": "another" }), false),
    ] {
        let token = hmac(SECRET).token(&claims);
        assert_eq!(strict.connection(&token).is_ok(), is_valid, "{claims}");
        assert!(with_secret().connection(&token).is_ok(), "{claims}");
    }
}

#[test]
fn claims_are_read_with_their_types() {
    let token = hmac(SECRET).token(&json!({
        "sub": "1", "exp": 20.5, "nbf": 10, "expire_at": 0, "info": { "a": 1.50 }, "channels": ["a", "b"], "meta": {},
        "subs": { "c": {
            "b64info": "MQ==", "data": [1], "override": { "presence": { "value": true }, "join_leave": { "value": false } },
        }, "d": {} },
    }));
    let found = with_secret().connection(&token).unwrap();
    assert_eq!(
        found.common,
        TokenClaims {
            user: "1".to_owned(),
            channel: None,
            expires_at: Some(20),
            not_before: Some(10),
            expire_at: Some(0),
            info: Some(b"{\"a\":1.5}".to_vec()),
        }
    );
    assert_eq!(found.channels, ["a", "b"]);
    let details = SubscriptionDetails {
        info: Some(b"1".to_vec()),
        data: Some(b"[1]".to_vec()),
        overrides: Overrides { presence: Some(true), join_leave: Some(false), ..Overrides::default() },
    };
    assert_eq!(found.subs, [("c".to_owned(), details), ("d".to_owned(), SubscriptionDetails::default())]);

    let token = hmac(SECRET).token(&json!({
        "sub": 42, "channel": "$a", "info": null, "b64info": "", "override": { "force_recovery": { "value": true } },
    }));
    let common =
        TokenClaims { user: "42".to_owned(), channel: Some("$a".to_owned()), ..TokenClaims::default() };
    let overrides = Overrides { force_recovery: Some(true), ..Overrides::default() };
    assert_eq!(with_secret().subscription(&token), Ok(SubscriptionClaims { common, overrides }));
    assert_eq!(with_secret().connection(&hmac(SECRET).token(&json!({}))), Ok(claims_of("")));
}

#[test]
fn a_claim_of_another_type_makes_a_token_invalid() {
    for claims in [
        r#"{"sub":["1"]}"#,
        r#"{"sub":-1}"#,
        r#"{"sub":1.5}"#,
        r#"{"sub":"1","sub":"2"}"#,
        r#"{"sub":"1","exp":"soon"}"#,
        r#"{"sub":"1","exp":-1}"#,
        r#"{"sub":"1","nbf":{}}"#,
        r#"{"sub":"1","expire_at":"0"}"#,
        r#"{"sub":"1","channel":1}"#,
        r#"{"sub":"1","channels":"a"}"#,
        r#"{"sub":"1","subs":{"a":{"b64data":"?"}}}"#,
        r#"{"sub":"1","subs":{"a":{"override":{"presence":true}}}}"#,
        r#"{"sub":"1","b64info":"not base64"}"#,
        r#"["1"]"#,
        "1",
        "",
    ] {
        let token = hmac(SECRET).sign(r#"{"alg":"HS256"}"#, claims);
        assert_eq!(with_secret().connection(&token), Err(Fault::Invalid), "{claims}");
    }
}

#[test]
fn the_outcome_of_a_token_is_exact() {
    let outcome = |claims: Value| {
        let found = with_secret().connection(&hmac(SECRET).token(&claims));
        found
            .map_err(Fault::refuse_connection)
            .and_then(|found| claims::connection(found, "1", 1000))
            .map(drop)
    };
    let invalid = Err(Refusal::Disconnect(Disconnect::InvalidToken));
    assert_eq!(outcome(json!({ "sub": "1", "exp": 1001 })), Ok(()));
    assert_eq!(outcome(json!({ "sub": "1", "exp": 1000 })), Err(Refusal::Error(ErrorCode::TokenExpired)));
    assert_eq!(outcome(json!({ "sub": "2" })), invalid);
    assert_eq!(outcome(json!({ "sub": "1", "channel": "a" })), invalid);
    assert_eq!(outcome(json!({ "sub": ["1"] })), invalid);
}

#[test]
fn settings_do_not_show_the_secret() {
    let settings = TokenSettings { secret: Some(SECRET.to_vec()), ..TokenSettings::default() };
    let secret = String::from_utf8_lossy(SECRET);
    assert!(
        !format!("{settings:?}").contains(&*secret)
            && !format!("{settings:?}").contains(&format!("{SECRET:?}"))
    );
    assert!(!format!("{:?}", start(&settings)).contains(&*secret));
}
