//! Verdicts about tokens, keys that change, and servers that misbehave.

mod keys;
mod outages;
mod server;
mod tokens;
mod vectors;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER;
use jsonwebtoken::jwk::EllipticCurve;
use jsonwebtoken::{Algorithm, AlgorithmFamily, EncodingKey};
use serde_json::{Value, json};
use slog::{Discard, Logger, o};

use super::*;

const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "postern";

/// A key pair of an issuer, with its id and algorithm. Tokens are signed by another library than the one that verifies them.
struct Signer {
    kid: &'static str,
    algorithm: Algorithm,
    key: EncodingKey,
}

impl Signer {
    /// Creates a key on the curve P-256 from a number.
    fn p256(kid: &'static str, seed: u8) -> Signer {
        // RFC 5208 around RFC 5915, without the public key.
        let prefix = hex("3041020100301306072a8648ce3d020106082a8648ce3d030107042730250201010420");
        let key = EncodingKey::from_ec_der(&[prefix, vec![seed; 32]].concat());
        Signer { kid, algorithm: Algorithm::ES256, key }
    }

    fn p384(kid: &'static str, seed: u8) -> Signer {
        let prefix = hex("304e020100301006072a8648ce3d020106052b81040022043730350201010430");
        let key = EncodingKey::from_ec_der(&[prefix, vec![seed; 48]].concat());
        Signer { kid, algorithm: Algorithm::ES384, key }
    }

    fn ed25519(kid: &'static str, seed: u8) -> Signer {
        let prefix = hex("302e020100300506032b657004220420");
        let key = EncodingKey::from_ed_der(&[prefix, vec![seed; 32]].concat());
        Signer { kid, algorithm: Algorithm::EdDSA, key }
    }

    /// Returns the RSA key of 2048 bits, which was generated for these tests.
    fn rsa(kid: &'static str, algorithm: Algorithm) -> Signer {
        Signer { kid, algorithm, key: EncodingKey::from_rsa_der(include_bytes!("rsa-2048.der")) }
    }

    /// Returns the public key.
    fn jwk(&self) -> Value {
        let (utils, key) = (&DEFAULT_PROVIDER.key_utils, self.key.as_bytes());
        let mut jwk = match self.algorithm.family() {
            AlgorithmFamily::Rsa => {
                let (n, e) = (utils.rsa_pub_components_from_private_key)(key).unwrap();
                json!({ "kty": "RSA", "n": base64url(n), "e": base64url(e) })
            }
            AlgorithmFamily::Ec => {
                let (curve, x, y) = (utils.ec_pub_components_from_private_key)(key, self.algorithm).unwrap();
                json!({ "kty": "EC", "crv": curve, "x": base64url(x), "y": base64url(y) })
            }
            AlgorithmFamily::Ed => {
                let x = (utils.ed_pub_components_from_private_key)(key, &EllipticCurve::Ed25519).unwrap();
                json!({ "kty": "OKP", "crv": "Ed25519", "x": base64url(x) })
            }
            AlgorithmFamily::Hmac => panic!("a secret has no public key"),
        };
        jwk["kid"] = json!(self.kid);
        jwk["alg"] = json!(self.algorithm);
        jwk
    }

    /// Returns the public key for all algorithms of its type.
    fn jwk_without_alg(&self) -> Value {
        let mut jwk = self.jwk();
        jwk.as_object_mut().unwrap().remove("alg");
        jwk
    }

    /// Returns the usual header.
    fn header(&self) -> Value {
        json!({ "alg": self.algorithm, "kid": self.kid, "typ": "JWT" })
    }

    /// Returns a token with the usual header.
    fn token(&self, claims: &Value) -> Vec<u8> {
        self.sign(&self.header().to_string(), &claims.to_string())
    }

    /// Returns a token with these texts as header and payload.
    fn sign(&self, header: &str, payload: &str) -> Vec<u8> {
        let message = format!("{}.{}", base64url(header), base64url(payload));
        let signer = (DEFAULT_PROVIDER.signer_factory)(&self.algorithm, &self.key).unwrap();
        format!("{message}.{}", base64url(signer.sign(message.as_bytes()))).into_bytes()
    }
}

fn set(jwks: &[Value]) -> String {
    json!({ "keys": jwks }).to_string()
}

/// Returns claims that are valid for an hour from `now`.
fn claims(now: u64) -> Value {
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "42", "email": "ann@example.com", "name": "Ann",
        "iat": now, "exp": now + 3600,
    })
}

/// Returns the same with one claim changed, or without it for `None`.
fn with(now: u64, name: &str, value: impl Into<Option<Value>>) -> Value {
    let mut claims = claims(now);
    let members = claims.as_object_mut().unwrap();
    match value.into() {
        Some(value) => members.insert(name.to_owned(), value),
        None => members.remove(name),
    };
    claims
}

fn settings(keys: KeySource) -> AssertionSettings {
    AssertionSettings {
        header: "X-Assertion".to_owned(),
        issuer: ISSUER.to_owned(),
        audience: vec![AUDIENCE.to_owned(), "other".to_owned()],
        keys,
        id_claims: vec!["sub".to_owned()],
        email_claims: vec!["email".to_owned()],
        name_claims: vec!["name".to_owned()],
    }
}

fn no_log() -> Logger {
    Logger::root(Discard, o!())
}

fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn hex(digits: &str) -> Vec<u8> {
    let digit = |index| u8::from_str_radix(&digits[index..index + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(digit).collect()
}
