//! Signatures in the form of Standard Webhooks: `v1,` and HMAC-SHA256 of `ID.TIMESTAMP.BODY` in base64.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

/// The secrets of the signatures, at least one. All clones share them.
#[derive(Clone, Default)]
pub(crate) struct SigningSecrets(Arc<RwLock<Vec<Vec<u8>>>>);

impl SigningSecrets {
    pub(crate) fn new(secrets: Vec<Vec<u8>>) -> SigningSecrets {
        SigningSecrets(Arc::new(RwLock::new(secrets)))
    }

    /// Replaces all secrets.
    pub(crate) fn set(&self, secrets: Vec<Vec<u8>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = secrets;
    }

    /// Returns the value of `webhook-signature`.
    pub(super) fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        let secrets = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let keys: Vec<_> = secrets.iter().map(|secret| SigningKey::new(secret)).collect();
        signatures(&keys, id, timestamp, body)
    }

    /// Returns the number of bytes of each secret.
    #[cfg(test)]
    pub(crate) fn lengths(&self) -> Vec<usize> {
        self.0.read().unwrap().iter().map(Vec::len).collect()
    }
}

/// Shows no secret.
impl fmt::Debug for SigningSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecrets")
    }
}

impl PartialEq for SigningSecrets {
    fn eq(&self, other: &SigningSecrets) -> bool {
        let get = |secrets: &SigningSecrets| secrets.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        get(self) == get(other)
    }
}

impl Eq for SigningSecrets {}

/// Signs requests.
#[derive(Debug)]
struct SigningKey(hmac::Key);

impl SigningKey {
    fn new(secret: &[u8]) -> SigningKey {
        SigningKey(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(format!("{id}.{timestamp}.").as_bytes());
        context.update(body);
        format!("v1,{}", STANDARD.encode(context.sign()))
    }
}

/// Returns the value of `webhook-signature`: a signature with each key, separated by spaces. `timestamp` is in seconds since
/// 1970.
fn signatures(keys: &[SigningKey], id: &str, timestamp: u64, body: &[u8]) -> String {
    keys.iter().map(|key| key.sign(id, timestamp, body)).collect::<Vec<_>>().join(" ")
}

/// Returns the key that a secret contains.
///
/// # Errors
/// It cannot be used. The text does not quote it.
pub(super) fn parse_secret(secret: &str) -> Result<Vec<u8>, &'static str> {
    let key = match secret.strip_prefix("whsec_") {
        Some(encoded) => STANDARD.decode(encoded).map_err(|_| {
            "a secret is not base64 after whsec_; write for example whsec_ and the output of openssl rand -base64 32"
        })?,
        None => secret.as_bytes().to_vec(),
    };
    if key.len() < MIN_SECRET {
        return Err(
            "a secret is shorter than 24 bytes; write for example whsec_ and the output of openssl rand -base64 32",
        );
    }
    Ok(key)
}

/// The shortest secret that Standard Webhooks allows, in bytes.
const MIN_SECRET: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification.
    #[test]
    fn signature_is_the_one_of_the_specification() {
        let secret = parse_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let keys = [SigningKey::new(&secret)];
        assert_eq!(
            signatures(&keys, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn there_is_a_signature_for_each_secret() {
        let keys = [SigningKey::new(&[1; 24]), SigningKey::new(&[2; 24])];
        let both = signatures(&keys, "1", 2, b"3");
        let each: Vec<_> = keys.iter().map(|key| key.sign("1", 2, b"3")).collect();
        assert_eq!(both.split(' ').collect::<Vec<_>>(), each);
    }

    #[test]
    fn secret_is_text_or_base64_and_long_enough() {
        assert_eq!(parse_secret("0123456789abcdefghijklmn").unwrap(), b"0123456789abcdefghijklmn");
        for (secret, complaint) in [
            ("", "shorter"),
            ("0123456789abcdefghijklm", "shorter"),
            ("whsec_", "shorter"),
            ("whsec_MfKQ", "shorter"),
            ("whsec_0123456789abcdefghijklm~", "base64"),
        ] {
            let error = parse_secret(secret).unwrap_err();
            assert!(error.contains(complaint), "{secret}: {error}");
        }
    }
}
