//! A table of tokens with their verdicts, and tests that no other token is accepted.

use std::sync::LazyLock;
use std::time::{Duration, UNIX_EPOCH};

use jsonwebtoken::Algorithm as A;
use postern_core::handshake::{AssertionError as E, IdentityRules};
use postern_core::{BearerToken, Verdict as Checked};
use proptest::prelude::*;

use super::super::claims::{LEEWAY, Refusal, Rules};
use super::super::keys::KeySet;
use super::*;
use crate::checker;

const NOW: u64 = 1_800_000_000;

/// Created once, because RSA signatures take long.
static WORLD: LazyLock<World> = LazyLock::new(World::new);
static GOOD: LazyLock<Vec<(&str, Vec<u8>)>> = LazyLock::new(|| good(&WORLD));

type Verdict = Result<(), Refusal>;

/// The keys of the issuer, each with its id, and some that are not usable.
struct World {
    es256: Signer,
    es384: Signer,
    ed: Signer,
    /// A key for all RS and PS algorithms, and the same key for RS256 only.
    rsa: Signer,
    rs256: Signer,
    /// Published for encryption.
    encryption: Signer,
    /// A key that is not published, with the id of one that is.
    attacker: Signer,
    keys: KeySet,
    rules: Rules,
}

impl World {
    fn new() -> World {
        let (es256, es384, ed) =
            (Signer::p256("es256", 1), Signer::p384("es384", 2), Signer::ed25519("ed", 3));
        let (rsa, rs256) = (Signer::rsa("rsa", A::RS256), Signer::rsa("rs256", A::RS256));
        let encryption = Signer::p256("encryption", 4);
        let mut for_encryption = encryption.jwk();
        for_encryption["use"] = json!("enc");
        let secret = json!({ "kty": "oct", "kid": "secret", "alg": "HS256", "k": base64url([7; 32]) });
        let keys = set(&[
            es256.jwk(),
            es384.jwk(),
            ed.jwk(),
            rsa.jwk_without_alg(),
            rs256.jwk(),
            for_encryption,
            secret,
        ]);
        World {
            es256,
            es384,
            ed,
            rsa,
            rs256,
            encryption,
            attacker: Signer::p256("es256", 66),
            keys: KeySet::parse(keys.as_bytes()).unwrap(),
            rules: Rules::new(&settings(KeySource::File("unused".into()))),
        }
    }

    fn verify(&self, token: &[u8]) -> Result<Asserted, Refusal> {
        self.rules.verify(token, &self.keys, UNIX_EPOCH + Duration::from_secs(NOW))
    }

    /// Returns the RSA key with another algorithm.
    fn rsa_with(&self, algorithm: A) -> Signer {
        Signer::rsa("rsa", algorithm)
    }

    /// Returns the usual token with another header.
    fn header(&self, header: Value) -> Vec<u8> {
        self.es256.sign(&header.to_string(), &claims(NOW).to_string())
    }

    /// Returns the usual token with one member of the header changed.
    fn header_with(&self, name: &str, value: Value) -> Vec<u8> {
        let mut header = self.es256.header();
        header[name] = value;
        self.header(header)
    }

    /// Returns the usual token with one claim changed, or without it for `None`.
    fn claim(&self, name: &str, value: impl Into<Option<Value>>) -> Vec<u8> {
        self.es256.token(&with(NOW, name, value))
    }

    /// Returns a token with an HMAC whose key is these bytes.
    fn hmac(&self, algorithm: A, kid: &str, secret: &[u8]) -> Vec<u8> {
        let signer = Signer { kid: "", algorithm, key: EncodingKey::from_secret(secret) };
        signer.sign(&json!({ "alg": algorithm, "kid": kid }).to_string(), &claims(NOW).to_string())
    }

    /// Returns the usual token with its parts changed.
    fn parts(&self, change: impl FnOnce(&mut Vec<String>)) -> Vec<u8> {
        let token = String::from_utf8(self.es256.token(&claims(NOW))).unwrap();
        let mut parts = token.split('.').map(str::to_owned).collect();
        change(&mut parts);
        parts.join(".").into_bytes()
    }

    /// Returns a token that an attacker has signed, with a member of the header that refers to the attacker's key.
    fn attack(&self, name: &str, value: Value) -> Vec<u8> {
        let mut header = self.attacker.header();
        header[name] = value;
        self.attacker.sign(&header.to_string(), &claims(NOW).to_string())
    }
}

fn good(w: &World) -> Vec<(&'static str, Vec<u8>)> {
    let usual = claims(NOW);
    vec![
        ("ES256", w.es256.token(&usual)),
        ("ES384", w.es384.token(&usual)),
        ("EdDSA", w.ed.token(&usual)),
        ("RS256", w.rsa.token(&usual)),
        ("RS384", w.rsa_with(A::RS384).token(&usual)),
        ("RS512", w.rsa_with(A::RS512).token(&usual)),
        ("PS256", w.rsa_with(A::PS256).token(&usual)),
        ("PS384", w.rsa_with(A::PS384).token(&usual)),
        ("PS512", w.rsa_with(A::PS512).token(&usual)),
        ("RS256 with a key for RS256 only", w.rs256.token(&usual)),
        ("the second audience", w.claim("aud", json!("other"))),
        ("one audience of several", w.claim("aud", json!(["x", AUDIENCE]))),
        ("the last second of the leeway", w.claim("exp", json!(NOW - LEEWAY + 1))),
        ("exp with a fraction", w.claim("exp", json!(NOW as f64 + 0.5))),
        ("exp in the far future", w.claim("exp", json!(u64::MAX))),
        ("nbf within the leeway", w.claim("nbf", json!(NOW + LEEWAY))),
        ("iat within the leeway", w.claim("iat", json!(NOW + LEEWAY))),
        ("without iat", w.claim("iat", None)),
        (
            "without display values",
            w.es256.token(&json!({"iss":ISSUER,"aud":AUDIENCE,"sub":"42","exp":NOW+1})),
        ),
        ("a name that is a number", w.claim("name", json!(7))),
        ("other claims", w.claim("groups", json!([{ "a": [1, null] }]))),
        ("jku in addition to a known kid", w.header_with("jku", json!("https://evil.test/jwks.json"))),
        ("x5u in addition to a known kid", w.header_with("x5u", json!("https://evil.test/cert.pem"))),
        ("another typ", w.header_with("typ", json!("at+jwt"))),
        ("no typ", w.header(json!({ "alg": "ES256", "kid": "es256" }))),
        ("typ application/at+jwt", w.header_with("typ", json!("application/at+jwt"))),
        ("typ in lower case", w.header_with("typ", json!("jwt"))),
        ("iat with a fraction", w.claim("iat", json!(NOW as f64 + 0.25))),
        ("nbf with a fraction", w.claim("nbf", json!(NOW as f64 + 0.25))),
        ("no kid", w.header(json!({ "alg": "ES256" }))),
        ("kid null", w.header_with("kid", json!(null))),
        ("no kid, and several keys for its alg", w.rsa.sign(r#"{"alg":"RS256"}"#, &usual.to_string())),
        ("an id that is a number", w.claim("sub", json!(42))),
        ("longer than 8 KiB", w.claim("groups", json!(vec!["a group of the directory"; 1000]))),
    ]
}

fn bad(w: &World) -> Vec<(&'static str, Vec<u8>, Refusal)> {
    let usual = claims(NOW);
    let payload = base64url(usual.to_string());
    let unsigned = |alg: Value| {
        let header = base64url(json!({ "alg": alg, "kid": "es256" }).to_string());
        format!("{header}.{payload}.").into_bytes()
    };
    let public = serde_json::to_vec(&w.rsa.jwk()).unwrap();
    let raw = |header: &str, payload: &str| w.es256.sign(header, payload);
    let valid = w.es256.token(&usual);
    let text = String::from_utf8(valid.clone()).unwrap();
    let signature_of_another = {
        let another = String::from_utf8(w.claim("sub", json!("1"))).unwrap();
        another.rsplit('.').next().unwrap().to_owned()
    };
    let rules = [
        // RFC 8725 §2.1: the algorithm.
        ("alg none", unsigned(json!("none")), E::Malformed),
        ("alg None", unsigned(json!("None")), E::Malformed),
        ("alg NONE", unsigned(json!("NONE")), E::Malformed),
        ("alg nOnE", unsigned(json!("nOnE")), E::Malformed),
        ("alg none with a signature", w.header_with("alg", json!("none")), E::Malformed),
        ("a good header without a signature", w.parts(|parts| parts[2].clear()), E::Signature),
        ("alg empty", unsigned(json!("")), E::Malformed),
        ("alg missing", w.header(json!({ "kid": "es256" })), E::Malformed),
        ("alg null", w.header_with("alg", json!(null)), E::Malformed),
        ("alg a number", w.header_with("alg", json!(256)), E::Malformed),
        ("alg a list", w.header_with("alg", json!(["ES256"])), E::Malformed),
        ("alg in lower case", w.header_with("alg", json!("es256")), E::Malformed),
        ("alg unknown", w.header_with("alg", json!("ES256K")), E::Malformed),
        ("alg ES512", w.header_with("alg", json!("ES512")), E::Malformed),
        ("alg of an encryption", w.header_with("alg", json!("RSA-OAEP")), E::Malformed),
        ("alg twice", raw(r#"{"alg":"none","alg":"ES256","kid":"es256"}"#, &usual.to_string()), E::Malformed),
        ("HS256 keyed with the public key", w.hmac(A::HS256, "rsa", &public), E::Malformed),
        (
            "HS256 keyed with the modulus",
            w.hmac(A::HS256, "rsa", w.rsa.jwk()["n"].as_str().unwrap().as_bytes()),
            E::Malformed,
        ),
        ("HS256 with an empty key", w.hmac(A::HS256, "es256", b""), E::Malformed),
        ("HS256 with a secret of the set", w.hmac(A::HS256, "secret", &[7; 32]), E::Malformed),
        ("HS384", w.hmac(A::HS384, "es256", &public), E::Malformed),
        ("HS512", w.hmac(A::HS512, "es256", &public), E::Malformed),
        ("ES256 for an RSA key", w.header_with("kid", json!("rsa")), E::Key),
        ("ES256 for a P-384 key", w.header_with("kid", json!("es384")), E::Key),
        ("ES256 for an Ed25519 key", w.header_with("kid", json!("ed")), E::Key),
        ("RS256 for a P-256 key", Signer::rsa("es256", A::RS256).token(&usual), E::Key),
        ("PS256 for a key of RS256", Signer::rsa("rs256", A::PS256).token(&usual), E::Key),
        ("RS512 for a key of RS256", Signer::rsa("rs256", A::RS512).token(&usual), E::Key),
        ("EdDSA for a P-256 key", Signer::ed25519("es256", 3).token(&usual), E::Key),
        (
            "the header says PS256, the signature is RS256",
            w.rsa.sign(r#"{"alg":"PS256","kid":"rsa"}"#, &usual.to_string()),
            E::Signature,
        ),
        // The key.
        ("kid a number", w.header_with("kid", json!(1)), E::Malformed),
        ("kid a list", w.header_with("kid", json!(["es256"])), E::Malformed),
        ("kid twice", raw(r#"{"alg":"ES256","kid":"x","kid":"es256"}"#, &usual.to_string()), E::Malformed),
        ("kid of another key of that type", Signer::p256("es256", 4).token(&usual), E::Signature),
        ("the key of an attacker", w.attacker.token(&usual), E::Signature),
        ("jku of an attacker", w.attack("jku", json!("https://evil.test/jwks.json")), E::Signature),
        ("x5u of an attacker", w.attack("x5u", json!("https://evil.test/cert.pem")), E::Signature),
        ("jwk of an attacker", w.attack("jwk", w.attacker.jwk()), E::Signature),
        ("x5c of an attacker", w.attack("x5c", json!(["MIIB"])), E::Signature),
        ("jku not a text", w.header_with("jku", json!(1)), E::Malformed),
        // RFC 7515 §4.1.11.
        ("crit of a claim", w.header_with("crit", json!(["exp"])), E::Malformed),
        ("crit of an extension", w.header_with("crit", json!(["https://evil.test/ext"])), E::Malformed),
        ("crit empty", w.header_with("crit", json!([])), E::Malformed),
        ("crit a text", w.header_with("crit", json!("exp")), E::Malformed),
        (
            "b64 false",
            w.header(json!({ "alg": "ES256", "kid": "es256", "b64": false, "crit": ["b64"] })),
            E::Malformed,
        ),
        // The types of the claims (CVE-2026-25537).
        ("exp missing", w.claim("exp", None), E::Claims),
        ("exp null", w.claim("exp", json!(null)), E::Claims),
        ("exp a text", w.claim("exp", json!((NOW + 3600).to_string())), E::Claims),
        ("exp negative", w.claim("exp", json!(-1)), E::Claims),
        ("exp a list", w.claim("exp", json!([NOW + 3600])), E::Claims),
        ("exp an object", w.claim("exp", json!({ "": NOW })), E::Claims),
        ("exp true", w.claim("exp", json!(true)), E::Claims),
        ("exp out of the range of dates", w.claim("exp", json!(1e300)), E::Claims),
        (
            "exp out of the range of numbers",
            raw(
                &w.es256.header().to_string(),
                &usual.to_string().replace(&(NOW + 3600).to_string(), "1e400"),
            ),
            E::Claims,
        ),
        (
            "exp twice",
            raw(&w.es256.header().to_string(), &usual.to_string().replacen('{', r#"{"exp":1,"#, 1)),
            E::Claims,
        ),
        ("nbf a text", w.claim("nbf", json!("0")), E::Claims),
        ("nbf null", w.claim("nbf", json!(null)), E::Claims),
        ("iat a text", w.claim("iat", json!("0")), E::Claims),
        ("iat negative", w.claim("iat", json!(-1)), E::Claims),
        ("iss missing", w.claim("iss", None), E::Claims),
        ("iss null", w.claim("iss", json!(null)), E::Claims),
        ("iss a list", w.claim("iss", json!([ISSUER])), E::Claims),
        ("iss a number", w.claim("iss", json!(1)), E::Claims),
        ("aud missing", w.claim("aud", None), E::Claims),
        ("aud null", w.claim("aud", json!(null)), E::Claims),
        ("aud a number", w.claim("aud", json!(1)), E::Claims),
        ("aud an object", w.claim("aud", json!({ "postern": true })), E::Claims),
        ("aud a list in a list", w.claim("aud", json!([[AUDIENCE]])), E::Claims),
        ("sub a list", w.claim("sub", json!(["42"])), E::Claims),
        ("sub an object", w.claim("sub", json!({ "id": "42" })), E::Claims),
        // The format.
        ("one part", b"eyJhbGciOiJFUzI1NiJ9".to_vec(), E::Malformed),
        ("two parts", w.parts(|parts| drop(parts.pop())), E::Malformed),
        ("four parts", w.parts(|parts| parts.push(String::new())), E::Malformed),
        (
            "five parts, as an encrypted token has",
            w.parts(|parts| parts.extend(["a".into(), "b".into()])),
            E::Malformed,
        ),
        ("dots alone", b"..".to_vec(), E::Malformed),
        ("no dot", b"token".to_vec(), E::Malformed),
        ("a scheme before it", [b"Bearer ", valid.as_slice()].concat(), E::Malformed),
        ("a space after it", [valid.as_slice(), b" "].concat(), E::Malformed),
        ("two of them", [valid.as_slice(), b",", valid.as_slice()].concat(), E::Malformed),
        (
            "JSON serialization",
            json!({ "payload": payload, "signatures": [] }).to_string().into_bytes(),
            E::Malformed,
        ),
        ("bytes that are not UTF-8", [&[0xff, 0xfe], valid.as_slice()].concat(), E::Malformed),
        (
            "the other alphabet of base64",
            w.parts(|parts| parts[2] = parts[2].replace('-', "+").replace('_', "/") + "+"),
            E::Malformed,
        ),
        ("padding", w.parts(|parts| parts[2].push_str("==")), E::Malformed),
        ("the header is not JSON", raw("alg", &usual.to_string()), E::Malformed),
        ("the header is a list", raw("[]", &usual.to_string()), E::Malformed),
        (
            "the header has a byte after the JSON",
            raw(&format!("{}x", w.es256.header()), &usual.to_string()),
            E::Malformed,
        ),
        ("the payload is not JSON", raw(&w.es256.header().to_string(), "sub"), E::Claims),
        ("the payload is empty", raw(&w.es256.header().to_string(), ""), E::Claims),
        ("the payload is a list", raw(&w.es256.header().to_string(), "[]"), E::Claims),
        ("the payload is a token", raw(&w.es256.header().to_string(), &text), E::Claims),
        ("the payload is UTF-16", raw(&w.es256.header().to_string(), "\u{0}{\u{0}}"), E::Claims),
        (
            "the payload is deep",
            raw(
                &w.es256.header().to_string(),
                &usual.to_string().replacen(
                    '{',
                    &format!("{{\"x\":{}{},", "[".repeat(200), "]".repeat(200)),
                    1,
                ),
            ),
            E::Claims,
        ),
        ("as long as the longest head", vec![b'a'; 1 << 20], E::Malformed),
        // The signature.
        ("cut by a byte", valid[..valid.len() - 1].to_vec(), E::Malformed),
        ("cut by four", valid[..valid.len() - 4].to_vec(), E::Malformed),
        ("longer by three bytes", [valid.as_slice(), b"AAAA"].concat(), E::Signature),
        ("zeros (CVE-2022-21449)", w.parts(|parts| parts[2] = base64url([0; 64])), E::Signature),
        ("in DER", w.parts(|parts| parts[2] = base64url(hex("3006020101020101"))), E::Signature),
        ("of another token", w.parts(|parts| parts[2] = signature_of_another), E::Signature),
        (
            "the payload was changed",
            w.parts(|parts| parts[1] = base64url(with(NOW, "sub", json!("1")).to_string())),
            E::Signature,
        ),
        (
            "the header was changed",
            w.parts(|parts| parts[0] = base64url(r#"{"kid":"es256","alg":"ES256"}"#)),
            E::Signature,
        ),
        // The time, the issuer, the audience and the id of the user.
        ("expired by as much as the leeway", w.claim("exp", json!(NOW - LEEWAY)), E::Expired),
        ("expired long ago", w.claim("exp", json!(1)), E::Expired),
        ("exp 0", w.claim("exp", json!(0)), E::Expired),
        ("exp past, with a fraction", w.claim("exp", json!(NOW as f64 - 30.5)), E::Expired),
        ("not valid yet", w.claim("nbf", json!(NOW + LEEWAY + 1)), E::NotYetValid),
        ("issued in the future", w.claim("iat", json!(NOW + LEEWAY + 1)), E::NotYetValid),
        ("milliseconds for seconds", w.claim("nbf", json!(NOW * 1000)), E::NotYetValid),
        ("another issuer", w.claim("iss", json!("https://evil.test")), E::Issuer),
        ("the issuer in other case", w.claim("iss", json!("https://Issuer.example")), E::Issuer),
        ("the issuer with another slash", w.claim("iss", json!("https://issuer.example/")), E::Issuer),
        (
            "an issuer with the same prefix",
            w.claim("iss", json!("https://issuer.example.evil.test")),
            E::Issuer,
        ),
        ("an empty issuer", w.claim("iss", json!("")), E::Issuer),
        ("another audience", w.claim("aud", json!("another")), E::Audience),
        ("the audience in other case", w.claim("aud", json!("Postern")), E::Audience),
        ("an audience with the same prefix", w.claim("aud", json!("postern2")), E::Audience),
        ("several other audiences", w.claim("aud", json!(["a", "b"])), E::Audience),
        ("an empty list of audiences", w.claim("aud", json!([])), E::Audience),
        ("two audiences in one string", w.claim("aud", json!("postern other")), E::Audience),
        ("sub missing", w.claim("sub", None), E::Subject),
        ("sub null", w.claim("sub", json!(null)), E::Subject),
        ("sub true", w.claim("sub", json!(true)), E::Subject),
        ("sub a number with a fraction", w.claim("sub", json!(42.5)), E::Subject),
        ("sub a number below zero", w.claim("sub", json!(-1)), E::Subject),
    ];
    let unknown = [
        ("an unknown kid", w.header_with("kid", json!("es257"))),
        ("a kid in other case", w.header_with("kid", json!("ES256"))),
        ("an empty kid", w.header_with("kid", json!(""))),
        ("a path", w.header_with("kid", json!("../../../../dev/null"))),
        ("a query", w.header_with("kid", json!("es256' OR '1'='1"))),
        ("a URL", w.header_with("kid", json!("https://evil.test/key"))),
        ("a NUL after the kid", w.header_with("kid", json!("es256\u{0}"))),
        ("a kid of 4 KiB", w.header_with("kid", json!("k".repeat(4096)))),
        ("the key for encryption", w.encryption.token(&usual)),
    ];
    let unknown = unknown.map(|(name, token)| (name, token, E::Key)).into_iter().chain([
        (
            "no kid, and a key that is not published",
            w.attacker.sign(r#"{"alg":"ES256"}"#, &usual.to_string()),
            E::Signature,
        ),
        (
            "no kid, and the key for encryption",
            w.encryption.sign(r#"{"alg":"ES256"}"#, &usual.to_string()),
            E::Signature,
        ),
    ]);
    let rules = rules.into_iter().map(|(name, token, error)| (name, token, error.into()));
    let unknown = unknown.map(|(name, token, error)| (name, token, Refusal::UnknownKey(error)));
    rules.chain(unknown).collect()
}

#[test]
fn tokens_have_the_verdicts_of_the_table() {
    let world = &*WORLD;
    let good = GOOD.clone().into_iter().map(|(name, token)| (name, token, Ok(())));
    let bad = bad(world).into_iter().map(|(name, token, refusal)| (name, token, Err(refusal)));
    let vectors: Vec<(&str, Vec<u8>, Verdict)> = good.chain(bad).collect();
    assert!(vectors.len() >= 60, "only {} vectors", vectors.len());
    for (name, token, verdict) in vectors {
        assert_eq!(world.verify(&token).map(drop), verdict, "{name}: {}", token.escape_ascii());
    }
}

/// The same tokens, checked as those that clients send on open connections.
#[test]
fn checks_of_open_connections_accept_no_other_token_of_the_table() {
    let world = &*WORLD;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwks.json");
    let published = [&world.es256, &world.es384, &world.ed, &world.rs256].map(Signer::jwk);
    let mut for_encryption = world.encryption.jwk();
    for_encryption["use"] = json!("enc");
    let published = [&published[..], &[world.rsa.jwk_without_alg(), for_encryption]].concat();
    std::fs::write(&path, set(&published)).unwrap();
    let settings = TokenSettings {
        secret: Some(b"a secret that signs none of these tokens".to_vec()),
        keys: Some(KeySource::File(path)),
        issuer: Some(ISSUER.to_owned()),
        audience: vec![AUDIENCE.to_owned(), "other".to_owned()],
    };
    let verifier = TokenVerifier::start(&settings, &no_log()).unwrap();
    let clock = UNIX_EPOCH + Duration::from_secs(NOW);
    let check = |token: &[u8]| {
        let Ok(token) = BearerToken::new(token) else { return Checked::Refused };
        checker::verdict(verifier.user(token.as_bytes(), clock, Instant::now()), IdentityRules::default())
    };
    let mut count = 0;
    for (name, token) in &*GOOD {
        let verdict = check(token);
        // The table has tokens for request heads of any size.
        if token.len() > BearerToken::MAX {
            assert_eq!(verdict, Checked::Refused, "{name}");
        } else {
            assert!(matches!(&verdict, Checked::Valid(user) if user.id() == "42"), "{name}: {verdict:?}");
        }
        count += 1;
    }
    for (name, token, refusal) in bad(world) {
        let verdict = check(&token);
        let expected = match refusal {
            Refusal::Final(_) => &[Checked::Refused][..],
            // The keys are read again, once.
            Refusal::UnknownKey(_) => &[Checked::Refused, Checked::Unknown],
        };
        assert!(expected.contains(&verdict), "{name}: {verdict:?}");
        count += 1;
    }
    assert!(count >= 60, "only {count} tokens");
    // A token with the secret is accepted, and a public key is not a secret.
    let secret = world.hmac(A::HS256, "", b"a secret that signs none of these tokens");
    assert!(matches!(check(&secret), Checked::Valid(_)));
    let expired = |exp: u64| world.es256.token(&with(NOW, "exp", json!(exp)));
    assert_eq!(check(&expired(NOW - LEEWAY)), Checked::Refused);
}

#[test]
fn valid_token_has_the_claims_of_the_user() {
    let world = &*WORLD;
    let asserted = world.verify(&world.es256.token(&claims(NOW))).unwrap();
    let expected = Asserted {
        id: "42".to_owned(),
        email: "ann@example.com".to_owned(),
        name: "Ann".to_owned(),
        expires_at: NOW + 3600,
        issued_at: Some(NOW),
        token_id: String::new(),
    };
    assert_eq!(asserted, expected);
    for (id, known) in
        [(json!("t-1"), "t-1"), (json!("a b"), ""), (json!(7), ""), (json!("x".repeat(256)), "")]
    {
        assert_eq!(world.verify(&world.claim("jti", id)).unwrap().token_id, known);
    }
    let asserted = world.verify(&world.claim("email", json!(["a@b"]))).unwrap();
    assert_eq!((asserted.email.as_str(), asserted.name.as_str()), ("", "Ann"));
}

#[test]
fn names_of_claims_are_settings() {
    let world = &*WORLD;
    let settings = AssertionSettings {
        id_claims: vec!["uid".to_owned()],
        email_claims: vec!["mail".to_owned()],
        name_claims: vec!["sub".to_owned()],
        ..settings(KeySource::File("unused".into()))
    };
    let rules = Rules::new(&settings);
    let now = UNIX_EPOCH + Duration::from_secs(NOW);
    let asserted = rules.verify(&world.claim("uid", json!("u-1")), &world.keys, now).unwrap();
    assert_eq!((asserted.id.as_str(), asserted.email.as_str(), asserted.name.as_str()), ("u-1", "", "42"));
    let refusal = rules.verify(&world.es256.token(&claims(NOW)), &world.keys, now);
    assert_eq!(refusal, Err(E::Subject.into()));
}

/// Checks the id of a token with these members in its payload, taken from these claims.
#[track_caller]
fn check_id(names: &[&str], members: &str, expected: Result<&str, E>) {
    let world = &*WORLD;
    let settings = AssertionSettings {
        id_claims: names.iter().map(|name| (*name).to_owned()).collect(),
        ..settings(KeySource::File("unused".into()))
    };
    let usual = json!({ "iss": ISSUER, "aud": AUDIENCE, "exp": NOW + 60 }).to_string();
    let payload = usual.replacen('{', &format!("{{{members},"), 1);
    let token = world.es256.sign(&world.es256.header().to_string(), &payload);
    let verdict = Rules::new(&settings).verify(&token, &world.keys, UNIX_EPOCH + Duration::from_secs(NOW));
    let id = verdict.map(|asserted| asserted.id);
    assert_eq!(id, expected.map(str::to_owned).map_err(Refusal::from), "{names:?} {members}");
}

#[test]
fn only_whole_numbers_of_64_bits_are_ids() {
    for name in ["sub", "user_id"] {
        for (number, expected) in [
            ("42", Ok("42")),
            ("0", Ok("0")),
            // The first number that floating point cannot represent, and the largest of 64 bits.
            ("9007199254740993", Ok("9007199254740993")),
            ("18446744073709551615", Ok("18446744073709551615")),
            ("18446744073709551616", Err(E::Subject)),
            ("100000000000000000000000000000000000000", Err(E::Subject)),
            ("-1", Err(E::Subject)),
            ("-0", Err(E::Subject)),
            ("42.0", Err(E::Subject)),
            ("42.5", Err(E::Subject)),
            ("1e3", Err(E::Subject)),
            ("1E3", Err(E::Subject)),
            ("1e-3", Err(E::Subject)),
            ("1e400", Err(E::Claims)),
            ("042", Err(E::Claims)),
            ("+42", Err(E::Claims)),
            ("0x2a", Err(E::Claims)),
            ("NaN", Err(E::Claims)),
        ] {
            check_id(&[name], &format!(r#""{name}":{number}"#), expected);
        }
    }
}

#[test]
fn id_is_the_first_claim_that_is_not_empty() {
    let names = &["sub", "common_name"];
    check_id(names, r#""sub":"","common_name":"e367826f.access""#, Ok("e367826f.access"));
    check_id(names, r#""common_name":"e367826f.access""#, Ok("e367826f.access"));
    check_id(names, r#""sub":null,"common_name":"e367826f.access""#, Ok("e367826f.access"));
    check_id(names, r#""sub":"42","common_name":"e367826f.access""#, Ok("42"));
    check_id(names, r#""sub":42,"common_name":"e367826f.access""#, Ok("42"));
    check_id(names, r#""sub":"","common_name":"""#, Ok(""));
    check_id(names, r#""email":"ann@example.com""#, Err(E::Subject));
    // A claim that is not a valid id is an error of the issuer. The next claim could be another user.
    for odd in ["true", "false", "-1", "4.2"] {
        check_id(names, &format!(r#""sub":{odd},"common_name":"e367826f.access""#), Err(E::Subject));
    }
    for odd in ["[]", r#"["42"]"#, "{}"] {
        check_id(&["uid", "sub"], &format!(r#""uid":{odd},"sub":"42""#), Err(E::Subject));
    }
}

#[test]
fn dot_separates_names_of_objects_unless_a_claim_has_the_whole_name() {
    check_id(&["user.id"], r#""user":{"id":"42"}"#, Ok("42"));
    check_id(&["user.id"], r#""user":{"id":7}"#, Ok("7"));
    check_id(&["user.id"], r#""user":{"id":"42"},"user.id":"43""#, Ok("43"));
    check_id(&["a.b.c"], r#""a":{"b":{"c":"42"}}"#, Ok("42"));
    check_id(&["a.b.c"], r#""a.b":{"c":"42"}"#, Ok("42"));
    check_id(&["https://example.com/uid"], r#""https://example.com/uid":"42""#, Ok("42"));
    check_id(&["https://example.com/user.id"], r#""https://example.com/user":{"id":"42"}"#, Ok("42"));
    check_id(&["user.id"], r#""user":"42""#, Err(E::Subject));
    check_id(&["user.id"], r#""user":{"name":"Ann"}"#, Err(E::Subject));
    check_id(&["user", "sub"], r#""user":{"id":"1"},"sub":"42""#, Err(E::Subject));
    check_id(&["user.id", "sub"], r#""user":{"name":"Ann"},"sub":"42""#, Ok("42"));
}

#[test]
fn no_token_is_valid_before_1970() {
    let world = &*WORLD;
    let before = UNIX_EPOCH - Duration::from_secs(1);
    let refusal = world.rules.verify(&world.es256.token(&claims(NOW)), &world.keys, before);
    assert_eq!(refusal, Err(E::NotYetValid.into()));
}

#[test]
fn token_with_a_flipped_bit_or_a_missing_end_is_refused() {
    let world = &*WORLD;
    let token = world.ed.token(&claims(NOW));
    world.verify(&token).unwrap();
    for end in 0..token.len() {
        assert!(world.verify(&token[..end]).is_err(), "cut at {end}");
        for bit in 0..8 {
            let mut flipped = token.clone();
            flipped[end] ^= 1 << bit;
            assert!(world.verify(&flipped).is_err(), "{}", flipped.escape_ascii());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// A valid token is refused after any change.
    #[test]
    fn mutated_token_is_refused(
        which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        cut in 0..6usize,
        put in prop::collection::vec(any::<u8>(), 0..6),
    ) {
        let world = &*WORLD;
        let (name, token) = &GOOD[which.index(GOOD.len())];
        let at = at.index(token.len());
        let mut mutated = token.clone();
        mutated.splice(at..(at + cut).min(token.len()), put);
        if mutated != *token {
            prop_assert!(world.verify(&mutated).is_err(), "{}: {}", name, mutated.escape_ascii());
        }
    }

    /// Random bytes are refused without a panic.
    #[test]
    fn random_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), header in any::<bool>()) {
        let world = &*WORLD;
        let header = header.then(|| format!("{}.", base64url(world.ed.header().to_string())));
        let token = [header.unwrap_or_default().as_bytes(), &bytes].concat();
        prop_assert!(world.verify(&token).is_err());
    }
}
