//! A JWK Set (RFC 7517): which of its keys can verify a token, and with which algorithms.
//!
//! The key determines the algorithm, not the token. A key verifies a token only if its type, curve and `alg` allow the algorithm
//! that the token names. A public key is therefore never used as the secret of an HMAC (RFC 8725 §2.1).

use std::ops::RangeInclusive;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};
use serde::Deserialize;
use serde_json::Value;

use super::signatures;

/// The keys of one issuer.
#[derive(Debug, Clone)]
pub(super) struct KeySet {
    keys: Vec<Key>,
}

/// A public key that can verify.
#[derive(Debug, Clone)]
struct Key {
    kid: Option<String>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

/// The keys that may have signed a token.
#[derive(Debug)]
pub(super) struct Candidates<'k> {
    pub(super) keys: Vec<&'k DecodingKey>,
    /// Whether a key of the set has the id of the token. Otherwise a newer set may contain the key.
    pub(super) is_named: bool,
}

impl KeySet {
    /// Parses a JWK Set. Keys that cannot verify a supported signature are ignored, as RFC 7517 §5 recommends.
    ///
    /// # Errors
    /// It is not a JWK Set, or contains no usable key.
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

    /// Returns the number of keys, at least one.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether both have the same keys, with the same ids and algorithms.
    pub(super) fn is_same(&self, other: &KeySet) -> bool {
        let is_same = |(one, other): (&Key, &Key)| {
            one.kid == other.kid
                && one.algorithms == other.algorithms
                && numbers(&one.key) == numbers(&other.key)
        };
        self.keys.len() == other.keys.len() && self.keys.iter().zip(&other.keys).all(is_same)
    }

    /// Returns the keys that may have signed a token with this id and algorithm. The id is only compared, and never used as a
    /// path, an address or a query.
    ///
    /// The id is optional for tokens and keys (RFC 7515 §4.1.4, RFC 7517 §4.5). A token without an id may be signed with any
    /// key of the issuer. A key without an id may have signed any token whose id no other key has. During a rotation there are
    /// several such keys.
    pub(super) fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Candidates<'_> {
        let is_named = |key: &Key| kid.is_some() && key.kid.as_deref() == kid;
        if self.keys.iter().any(is_named) {
            return Candidates { keys: self.fitting(algorithm, is_named), is_named: true };
        }
        let keys = self.fitting(algorithm, |key| kid.is_none() || key.kid.is_none());
        Candidates { keys, is_named: false }
    }

    /// Returns the keys that support this algorithm and satisfy `of`.
    fn fitting(&self, algorithm: Algorithm, of: impl Fn(&Key) -> bool) -> Vec<&DecodingKey> {
        let fitting = self.keys.iter().filter(|key| key.algorithms.contains(&algorithm) && of(key));
        fitting.map(|key| &key.key).take(MOST_TRIED).collect()
    }
}

impl Key {
    /// Returns the key if it is of a supported type and may be used to verify.
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

/// Returns the algorithms for keys of this type and curve. There are none for secrets and unknown types.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "types that the library adds later are not supported until they are listed here"
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

/// Whether the numbers of the key form a valid key. The library accepts any numbers.
fn is_sound(key: &DecodingKey, algorithm: Algorithm) -> bool {
    match key.kind() {
        DecodingKeyKind::RsaModulusExponent { n, e } => {
            let is_odd = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
            // With the exponent 1, everyone can sign, and an even one is not an RSA exponent.
            RSA_BITS.contains(&bits(n)) && is_odd(n) && EXPONENT_BITS.contains(&bits(e)) && is_odd(e)
        }
        DecodingKeyKind::SecretOrDer(bytes) => signatures::is_key(bytes, algorithm),
    }
}

/// Returns the numbers of a key.
fn numbers(key: &DecodingKey) -> (&[u8], &[u8]) {
    match key.kind() {
        DecodingKeyKind::RsaModulusExponent { n, e } => (n, e),
        DecodingKeyKind::SecretOrDer(point) => (point, &[]),
    }
}

/// Returns the number of significant bits of a big-endian number.
fn bits(number: &[u8]) -> usize {
    let significant = signatures::significant(number);
    let unused = significant.first().map_or(0, |byte| byte.leading_zeros() as usize);
    significant.len() * 8 - unused
}

/// The maximum number of keys that are tried for a token. Each costs a signature verification, and every client can send tokens.
const MOST_TRIED: usize = 16;

/// RFC 7518 §3.3 requires the minimum. The maximum limits the time of a verification.
const RSA_BITS: RangeInclusive<usize> = 2048..=4096;

/// The exponents that ring accepts.
const EXPONENT_BITS: RangeInclusive<usize> = 2..=33;
