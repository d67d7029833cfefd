//! A JWK Set (RFC 7517): which of its keys can judge a token, and which algorithms each of them may be used with.
//!
//! The algorithm is the key's to say, not the token's: a token names one, and finds a key only if the type, the curve
//! and the `alg` of that key allow it. So a public key is never taken for the secret of an HMAC (RFC 8725 §2.1).

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};
use serde::Deserialize;
use serde_json::Value;

/// The keys of one issuer.
#[derive(Debug, Clone)]
pub(super) struct KeySet {
    keys: Vec<Key>,
}

/// A public key that can judge.
#[derive(Debug, Clone)]
struct Key {
    kid: Option<String>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

/// What a search for a token's key ends with.
#[derive(Debug)]
pub(super) enum Found<'k> {
    /// The token names these keys, of which there is more than one only if the issuer gave two the same id.
    Named(Vec<&'k DecodingKey>),
    /// The token does not say which key it is, so it may be any of these.
    Possible(Vec<&'k DecodingKey>),
    /// No key has this id. A newer set may.
    Unknown,
    /// The key that is named is for other algorithms, or no key is for this one.
    Unfit,
}

impl KeySet {
    /// Reads a JWK Set. Keys that are of no use for signatures of ours are left out, as RFC 7517 §5 asks.
    ///
    /// # Errors
    /// What is wrong with it: it is no JWK Set, or no key of it is of use.
    pub(super) fn parse(json: &[u8]) -> Result<KeySet, &'static str> {
        #[derive(Deserialize)]
        struct Members {
            keys: Vec<Value>,
        }
        let set: Members = serde_json::from_slice(json).map_err(|_| "not a JWK Set")?;
        let keys: Vec<Key> = set.keys.into_iter().filter_map(Key::usable).collect();
        if keys.is_empty() {
            return Err("a JWK Set without a key for RS, PS, ES or EdDSA signatures");
        }
        Ok(KeySet { keys })
    }

    /// How many keys there are: at least one.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether both have the same keys: under the same ids, for the same algorithms, with the same numbers.
    pub(super) fn is_same(&self, other: &KeySet) -> bool {
        let is_same = |(one, other): (&Key, &Key)| {
            one.kid == other.kid
                && one.algorithms == other.algorithms
                && numbers(&one.key) == numbers(&other.key)
        };
        self.keys.len() == other.keys.len() && self.keys.iter().zip(&other.keys).all(is_same)
    }

    /// The keys that a token with this id and this algorithm may be signed with. The id is compared and nothing else: it is
    /// no path, no address and no query.
    ///
    /// An id is optional for both (RFC 7515 §4.1.4, RFC 7517 §4.5). A token without one may be signed with any key of
    /// the issuer, and a key without one may have signed any token whose id is of no other key: during a rotation there
    /// are several of them.
    pub(super) fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Found<'_> {
        let Some(kid) = kid else {
            return match self.fitting(algorithm, |_| true) {
                none if none.is_empty() => Found::Unfit,
                keys => Found::Possible(keys),
            };
        };
        let is_named = |key: &Key| key.kid.as_deref() == Some(kid);
        let named = self.fitting(algorithm, is_named);
        if !named.is_empty() {
            return Found::Named(named);
        }
        if self.keys.iter().any(is_named) {
            return Found::Unfit;
        }
        match self.fitting(algorithm, |key| key.kid.is_none()) {
            none if none.is_empty() => Found::Unknown,
            keys => Found::Possible(keys),
        }
    }

    /// Those of the keys that are for this algorithm.
    fn fitting(&self, algorithm: Algorithm, of: impl Fn(&Key) -> bool) -> Vec<&DecodingKey> {
        let fitting = self.keys.iter().filter(|key| key.algorithms.contains(&algorithm) && of(key));
        fitting.map(|key| &key.key).take(MOST_TRIED).collect()
    }
}

impl Key {
    /// The key, if it is one that we know how to use, and that may be used to verify.
    fn usable(jwk: Value) -> Option<Key> {
        let jwk: Jwk = serde_json::from_value(jwk).ok()?;
        let is_for_signatures = matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature));
        let operations = jwk.common.key_operations.as_ref();
        let may_verify = operations.is_none_or(|operations| operations.contains(&KeyOperations::Verify));
        if !is_for_signatures || !may_verify {
            return None;
        }
        let mut algorithms = algorithms(&jwk.algorithm)?.to_vec();
        if let Some(only) = jwk.common.key_algorithm {
            let only = Algorithm::try_from(only).ok()?;
            algorithms.retain(|algorithm| *algorithm == only);
        }
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        let is_sound = !algorithms.is_empty() && is_sound(&key, *algorithms.first()?);
        is_sound.then_some(Key { kid: jwk.common.key_id, algorithms, key })
    }
}

/// The signatures that a key of this type and curve can be used for; none for secrets and for what we do not know.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "what the library will know later is of no use before we do"
)]
fn algorithms(parameters: &AlgorithmParameters) -> Option<&'static [Algorithm]> {
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    match parameters {
        AlgorithmParameters::RSA(_) => Some(&[RS256, RS384, RS512, PS256, PS384, PS512]),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Some(&[ES256]),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => Some(&[ES384]),
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => Some(&[EdDSA]),
        _ => None,
    }
}

/// Whether the numbers of the key are those of a key. The library takes them as they are, and finds out, or panics,
/// when a token is judged with them.
fn is_sound(key: &DecodingKey, algorithm: Algorithm) -> bool {
    match key.kind() {
        DecodingKeyKind::RsaModulusExponent { n, e } => {
            let modulus = bits(n);
            // With an even exponent, or 1, anyone can sign.
            let is_exponent = bits(e) >= 2 && e.last().is_some_and(|last| last % 2 == 1);
            is_exponent && RSA_BITS.contains(&modulus)
        }
        DecodingKeyKind::SecretOrDer(point) => {
            // The library takes the first 32 bytes, and panics if there are fewer.
            let is_whole = algorithm != Algorithm::EdDSA || point.len() == 32;
            // It fails if the point is not on the curve. That nothing was signed by it is no failure.
            is_whole && jsonwebtoken::crypto::verify("", b"", key, algorithm).is_ok()
        }
    }
}

/// What a key is made of.
fn numbers(key: &DecodingKey) -> (&[u8], &[u8]) {
    match key.kind() {
        DecodingKeyKind::RsaModulusExponent { n, e } => (n, e),
        DecodingKeyKind::SecretOrDer(point) => (point, &[]),
    }
}

/// How many bits a number in big endian has.
fn bits(number: &[u8]) -> usize {
    let significant = number.iter().position(|byte| *byte != 0).and_then(|first| number.get(first..));
    let significant = significant.unwrap_or_default();
    let unused = significant.first().map_or(0, |byte| byte.leading_zeros() as usize);
    significant.len() * 8 - unused
}

/// How many keys a token is tried with at most: each costs the time of a signature, and anyone can send a token.
const MOST_TRIED: usize = 16;

/// From what RFC 7518 §3.3 demands to what the library computes with.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;
