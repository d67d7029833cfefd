//! The signatures of tokens, verified by ring, which rustls uses too. So there is one cryptographic library in the process.

use std::sync::Once;

use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::signature::{self, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};
use ring::agreement::{self, EphemeralPrivateKey, agree_ephemeral};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents,
    UnparsedPublicKey, VerificationAlgorithm,
};
use ring::{error::Unspecified, hmac};

/// Makes jsonwebtoken verify signatures with this module. It must be called before a token is verified.
pub(super) fn install() {
    static INSTALL: Once = Once::new();
    // It fails only if another part of the process has installed a provider, which then verifies all tokens.
    INSTALL.call_once(|| {
        let _ = PROVIDER.install_default();
    });
}

/// Verifies only: this process signs nothing.
static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |_, _| Err(ErrorKind::InvalidAlgorithm.into()),
    verifier_factory: |algorithm, key| {
        let scheme = Scheme::of(*algorithm)?;
        Ok(Box::new(SignatureVerifier { algorithm: *algorithm, scheme, key: key.clone() }))
    },
    key_utils: KeyUtils::new_unimplemented(),
};

/// The verification of the signatures of an algorithm.
enum Scheme {
    Hmac(hmac::Algorithm),
    Rsa(&'static RsaParameters),
    /// The public key is one string of bytes.
    Curve(&'static dyn VerificationAlgorithm),
}

impl Scheme {
    #[expect(clippy::wildcard_enum_match_arm, reason = "algorithms are supported when they are listed here")]
    fn of(algorithm: Algorithm) -> Result<Scheme, Error> {
        Ok(match algorithm {
            Algorithm::HS256 => Scheme::Hmac(hmac::HMAC_SHA256),
            Algorithm::RS256 => Scheme::Rsa(&RSA_PKCS1_2048_8192_SHA256),
            Algorithm::RS384 => Scheme::Rsa(&RSA_PKCS1_2048_8192_SHA384),
            Algorithm::RS512 => Scheme::Rsa(&RSA_PKCS1_2048_8192_SHA512),
            Algorithm::PS256 => Scheme::Rsa(&RSA_PSS_2048_8192_SHA256),
            Algorithm::PS384 => Scheme::Rsa(&RSA_PSS_2048_8192_SHA384),
            Algorithm::PS512 => Scheme::Rsa(&RSA_PSS_2048_8192_SHA512),
            Algorithm::ES256 => Scheme::Curve(&ECDSA_P256_SHA256_FIXED),
            Algorithm::ES384 => Scheme::Curve(&ECDSA_P384_SHA384_FIXED),
            Algorithm::EdDSA => Scheme::Curve(&ED25519),
            // No token with other algorithms is accepted.
            _ => return Err(ErrorKind::InvalidAlgorithm.into()),
        })
    }
}

/// Verifies signatures of one algorithm with one key.
struct SignatureVerifier {
    algorithm: Algorithm,
    scheme: Scheme,
    key: DecodingKey,
}

impl Verifier<Vec<u8>> for SignatureVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        if self.key.family() != self.algorithm.family() {
            return Err(signature::Error::new());
        }
        let verdict = match (&self.scheme, self.key.kind()) {
            (Scheme::Hmac(hash), DecodingKeyKind::SecretOrDer(secret)) => {
                hmac::verify(&hmac::Key::new(*hash, secret), message, signature)
            }
            (Scheme::Rsa(parameters), DecodingKeyKind::RsaModulusExponent { n, e }) => {
                let key = RsaPublicKeyComponents { n: significant(n), e: significant(e) };
                key.verify(parameters, message, signature)
            }
            (Scheme::Curve(algorithm), DecodingKeyKind::SecretOrDer(point)) => {
                UnparsedPublicKey::new(*algorithm, point).verify(message, signature)
            }
            (Scheme::Hmac(_) | Scheme::Curve(_), DecodingKeyKind::RsaModulusExponent { .. })
            | (Scheme::Rsa(_), DecodingKeyKind::SecretOrDer(_)) => Err(Unspecified),
        };
        verdict.map_err(|Unspecified| signature::Error::new())
    }
}

impl JwtVerifier for SignatureVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

/// Whether a public key of this algorithm, as one string of bytes, can verify anything.
#[expect(clippy::wildcard_enum_match_arm, reason = "keys of other algorithms are not one string of bytes")]
pub(super) fn is_key(bytes: &[u8], algorithm: Algorithm) -> bool {
    match algorithm {
        Algorithm::ES256 => is_point(bytes, &agreement::ECDH_P256),
        Algorithm::ES384 => is_point(bytes, &agreement::ECDH_P384),
        // Half of all strings are a point of the curve. With the others no signature is valid.
        Algorithm::EdDSA => bytes.len() == 32,
        _ => false,
    }
}

/// Whether the bytes are a point of the curve. ring tells this only in a key agreement.
fn is_point(bytes: &[u8], curve: &'static agreement::Algorithm) -> bool {
    let peer = agreement::UnparsedPublicKey::new(curve, bytes);
    EphemeralPrivateKey::generate(curve, &SystemRandom::new())
        .and_then(|private| agree_ephemeral(private, &peer, |_| ()))
        .is_ok()
}

/// Returns a big-endian number without leading zeros, which ring does not accept, and some issuers publish.
pub(super) fn significant(number: &[u8]) -> &[u8] {
    let first = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
    number.get(first..).unwrap_or_default()
}
