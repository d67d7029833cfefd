//! Forged tokens, and tokens of the issuer with any header and any claims.
//!
//! * A token that the issuer did not sign is never accepted.
//! * A signed token is accepted only if a second reader finds the required content: the algorithm of the key and no
//!   `crit`; the issuer, the audience, a valid time, and the id, each of its type.

use std::path::PathBuf;
use std::process;
use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER;
use jsonwebtoken::jwk::EllipticCurve;
use jsonwebtoken::{Algorithm, EncodingKey};
use postern_core::handshake::{Asserted, Assertion, AssertionVerifier};
use postern_host::assertion::{AssertionSettings, KeySource, start};
use serde_json::{Map, Value, json};
use slog::{Discard, Logger, o};

/// Checks an input:
///
/// ```text
///   [0: 1] [a token]
///   [1: 1] [the header, in JSON, without NUL] [NUL] [the claims, in JSON, where NOW is a past time and SOON a future one]
/// ```
///
/// # Panics
/// That is the finding.
pub fn check(input: &[u8]) {
    let Some((&choice, rest)) = input.split_first() else { return };
    if choice & 1 == 0 {
        let verdict = WORLD.verifier().verify(rest);
        assert!(verdict.is_err(), "accepted without a signature: {verdict:?}");
        return;
    }
    let Some(nul) = rest.iter().position(|&byte| byte == 0) else { return };
    let (header, claims) = rest.split_at(nul);
    let claims = &claims[1..];
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let claims = replace(claims, b"NOW", &now.to_string());
    let claims = replace(&claims, b"SOON", &(now + 60).to_string());
    let message = format!("{}.{}", base64url(header), base64url(&claims));
    let token = signed(&message);
    if let Ok(asserted) = WORLD.verifier().verify(token.as_bytes()) {
        check_header(header);
        check_claims(&claims, &asserted, now);
    }
}

/// Signs a message with another library than the one that verifies it.
fn signed(message: &str) -> String {
    let signer = (DEFAULT_PROVIDER.signer_factory)(&Algorithm::EdDSA, &WORLD.key).expect("an Ed25519 key");
    format!("{message}.{}", base64url(&signer.sign(message.as_bytes())))
}

fn check_header(header: &[u8]) {
    let header = object(header);
    assert_eq!(header.get("alg"), Some(&json!("EdDSA")));
    // The set has one key. A token without a key id uses it.
    assert!(header.get("kid").is_none_or(|kid| kid.is_null() || *kid == json!(KID)));
    assert!(header.get("crit").is_none_or(Value::is_null));
}

fn check_claims(claims: &[u8], asserted: &Asserted, now: u64) {
    let claims = object(claims);
    assert_eq!(claims.get("iss"), Some(&json!(ISSUER)));
    let audience = json!(AUDIENCE);
    match claims.get("aud") {
        Some(Value::Array(audiences)) => assert!(audiences.contains(&audience)),
        one => assert_eq!(one, Some(&audience)),
    }
    let number = |claim: &str| claims.get(claim).map(|value| value.as_f64().expect("a number"));
    // A second may have passed since.
    let (now, leeway) = (now as f64, 32.0);
    assert!(number("exp").expect("it is required") > now - leeway);
    for begin in ["nbf", "iat"].into_iter().filter_map(number) {
        assert!(begin < now + leeway);
    }
    match claims.get("sub") {
        Some(Value::Number(number)) => {
            // The digits of a whole number, and no other form of a number in JSON.
            assert_eq!(number.to_string(), asserted.id);
            assert!(!asserted.id.is_empty() && asserted.id.bytes().all(|byte| byte.is_ascii_digit()));
        }
        sub => assert_eq!(sub, Some(&json!(asserted.id))),
    }
    let display = |claim: &str| claims.get(claim).and_then(Value::as_str).unwrap_or_default();
    assert_eq!((display("email"), display("name")), (asserted.email.as_str(), asserted.name.as_str()));
}

fn object(json: &[u8]) -> Map<String, Value> {
    serde_json::from_slice(json).expect("what is believed is an object")
}

/// A verifier with the keys of an issuer, and the issuer's own key.
struct World {
    assertion: Assertion,
    key: EncodingKey,
}

impl World {
    fn verifier(&self) -> &dyn AssertionVerifier {
        &*self.assertion.verifier
    }
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let key = EncodingKey::from_ed_der(PKCS8_ED25519);
    let x = (DEFAULT_PROVIDER.key_utils.ed_pub_components_from_private_key)(
        PKCS8_ED25519,
        &EllipticCurve::Ed25519,
    );
    let x = base64url(&x.expect("an Ed25519 key"));
    let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "kid": KID, "x": x });
    let path: PathBuf = std::env::temp_dir().join(format!("postern-fuzz-{}.json", process::id()));
    std::fs::write(&path, json!({ "keys": [jwk] }).to_string()).expect("a file");
    let settings = AssertionSettings {
        header: "X-Assertion".to_owned(),
        issuer: ISSUER.to_owned(),
        audience: vec![AUDIENCE.to_owned()],
        keys: KeySource::File(path.clone()),
        id_claims: vec!["sub".to_owned()],
        email_claims: vec!["email".to_owned()],
        name_claims: vec!["name".to_owned()],
    };
    let started = start(Some(&settings), &Logger::root(Discard, o!()));
    let (assertion, _) = started.expect("keys").expect("settings");
    // The keys have been read. They stay when the file is removed.
    let _ = std::fs::remove_file(path);
    World { assertion, key }
});

fn replace(text: &[u8], what: &[u8], by: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, behind)) = rest.split_first() {
        if let Some(behind) = rest.strip_prefix(what) {
            out.extend_from_slice(by.as_bytes());
            rest = behind;
        } else {
            out.push(*first);
            rest = behind;
        }
    }
    out
}

/// Encodes in base64url (RFC 4648 §5), without padding.
fn base64url(bytes: &[u8]) -> String {
    let digit = |bits: u32| char::from(ALPHABET[(bits & 63) as usize]);
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let group =
            chunk.iter().fold(0, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        out.extend((0..=chunk.len()).map(|index| digit(group >> (18 - 6 * index))));
    }
    out
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

const ISSUER: &str = "me";
const AUDIENCE: &str = "us";
const KID: &str = "k";

/// A key whose secret is 32 times the same letter, in PKCS #8 (RFC 8410).
const PKCS8_ED25519: &[u8] =
    b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20ssssssssssssssssssssssssssssssss";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_token_is_believed() {
        let claims = br#"{"iss":"me","aud":"us","sub":"1","exp":SOON}"#;
        let claims = replace(claims, b"SOON", "4102444800");
        let header = base64url(br#"{"alg":"EdDSA","kid":"k"}"#);
        let message = format!("{header}.{}", base64url(&claims));
        let token = signed(&message);
        assert_eq!(WORLD.verifier().verify(token.as_bytes()).map(|asserted| asserted.id), Ok("1".to_owned()));
    }
}
