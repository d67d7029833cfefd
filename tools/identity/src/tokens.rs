//! The tokens: JSON Web Tokens, signed with HS256.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::errors::Error;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use crate::users::User;

/// The claims of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The user's id.
    pub sub: String,
    /// The user's email address.
    pub email: String,
    /// The user's name.
    pub name: String,
    /// The id of the session: the same in the token of a login and in those that refresh it.
    pub sid: String,
    /// The time of issue, in seconds since 1970.
    pub iat: u64,
    /// The time of expiry, in seconds since 1970.
    pub exp: u64,
    /// The id of the token.
    pub jti: String,
}

/// Signs and checks tokens with one secret.
pub struct Tokens {
    signing: EncodingKey,
    checking: DecodingKey,
    lifetime: Duration,
    on_issue: fn(&str),
}

/// The reason why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadToken {
    /// The token has expired. The client should log in again.
    Expired,
    /// The token is not signed with this secret, or was changed.
    Invalid,
}

impl Tokens {
    /// Creates tokens signed with `secret` that are valid for `lifetime`.
    pub fn new(secret: &[u8], lifetime: Duration) -> Self {
        let (signing, checking) = (EncodingKey::from_secret(secret), DecodingKey::from_secret(secret));
        Self { signing, checking, lifetime, on_issue: |_| {} }
    }

    /// Calls `on_issue` with each token that is issued.
    pub fn on_issue(self, on_issue: fn(&str)) -> Self {
        Self { on_issue, ..self }
    }

    /// Issues a token for `user` at `now`, in a new session.
    pub fn issue(&self, user: &User, now: SystemTime) -> Result<String, Error> {
        self.issue_for(user, self.lifetime, now)
    }

    /// Does the same for a token that is valid for `lifetime`, but not longer than others.
    pub fn issue_for(&self, user: &User, lifetime: Duration, now: SystemTime) -> Result<String, Error> {
        let iat = seconds(now);
        self.sign(&Claims {
            sub: user.id.to_owned(),
            email: user.email.to_owned(),
            name: user.name.to_owned(),
            sid: random_id(),
            iat,
            exp: iat.saturating_add(lifetime.min(self.lifetime).as_secs()),
            jti: random_id(),
        })
    }

    /// Issues a token at `now` that replaces a valid one: in the same session, and for the same time.
    pub fn refresh(&self, claims: &Claims, now: SystemTime) -> Result<String, Error> {
        let (iat, lifetime) = (seconds(now), claims.exp.saturating_sub(claims.iat));
        self.sign(&Claims { iat, exp: iat.saturating_add(lifetime), jti: random_id(), ..claims.clone() })
    }

    fn sign(&self, claims: &Claims) -> Result<String, Error> {
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &self.signing)?;
        (self.on_issue)(&token);
        Ok(token)
    }

    /// Returns the claims of `token` if it is signed with this secret and valid at `now`.
    pub fn check(&self, token: &str, now: SystemTime) -> Result<Claims, BadToken> {
        // Only this algorithm: with a list, the token would choose how it is checked.
        let mut validation = Validation::new(Algorithm::HS256);
        // The time is compared below: the library would read the clock and allow another minute.
        validation.validate_exp = false;
        let claims = jsonwebtoken::decode::<Claims>(token, &self.checking, &validation)
            .map_err(|_| BadToken::Invalid)?
            .claims;
        // RFC 7519, section 4.1.4: not to be accepted on or after `exp`.
        if claims.exp <= seconds(now) { Err(BadToken::Expired) } else { Ok(claims) }
    }
}

/// Returns an id. The keys of each state are random, which is sufficient for development.
fn random_id() -> String {
    format!("{:016x}", RandomState::new().hash_one("id"))
}

fn seconds(time: SystemTime) -> u64 {
    // A clock before 1970 gives tokens that have expired, which is the safe error.
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::users::USERS;

    const HOUR: Duration = Duration::from_secs(3600);

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn issue(secret: &str) -> String {
        Tokens::new(secret.as_bytes(), HOUR).issue(&USERS[2], now()).expect("HS256 signs anything")
    }

    #[test]
    fn token_contains_the_user_and_its_times() {
        let claims = Tokens::new(b"secret", HOUR).check(&issue("secret"), now()).expect("it is valid");
        assert_eq!((claims.sub.as_str(), claims.email.as_str()), ("u-1002", "rene@example.com"));
        assert_eq!(claims.name, "Renée 李 Дима");
        assert_eq!((claims.iat, claims.exp), (1_800_000_000, 1_800_003_600));
    }

    #[test]
    fn token_is_valid_until_its_last_second() {
        let tokens = Tokens::new(b"secret", HOUR);
        let token = issue("secret");
        assert!(tokens.check(&token, now() + HOUR - Duration::from_secs(1)).is_ok());
        assert_eq!(tokens.check(&token, now() + HOUR), Err(BadToken::Expired));
    }

    #[test]
    fn refreshed_token_has_the_session_and_the_lifetime_of_the_first() {
        let tokens = Tokens::new(b"secret", HOUR);
        let minute = Duration::from_secs(60);
        let first = tokens.issue_for(&USERS[0], minute, now()).and_then(|token| {
            tokens.refresh(&tokens.check(&token, now()).expect("it is valid"), now() + minute)
        });
        let second = tokens.check(&first.expect("it is signed"), now() + minute).expect("it is valid");
        assert_eq!((second.iat, second.exp - second.iat), (1_800_000_060, 60));
        let issue = |lifetime| {
            let token = tokens.issue_for(&USERS[0], lifetime, now()).expect("it is signed");
            tokens.check(&token, now()).expect("it is valid")
        };
        assert_ne!(issue(minute).sid, issue(minute).sid);
        assert_eq!(issue(HOUR * 9).exp, 1_800_003_600, "not longer than others");
    }

    #[test]
    fn changed_token_is_invalid() {
        let tokens = Tokens::new(b"secret", HOUR);
        assert_eq!(tokens.check(&issue("another secret"), now()), Err(BadToken::Invalid));
        let token = issue("secret");
        for end in 0..token.len() {
            let cut = token.get(..end).expect("a token is ASCII");
            assert_eq!(tokens.check(cut, now()), Err(BadToken::Invalid), "{cut:?}");
        }
    }

    #[test]
    fn token_without_signature_or_with_another_algorithm_is_invalid() {
        let tokens = Tokens::new(b"secret", HOUR);
        let signed = issue("secret");
        let payload = signed.split('.').nth(1).expect("a token has three parts");
        // {"alg":"none","typ":"JWT"}
        let unsigned = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{payload}.");
        assert_eq!(tokens.check(&unsigned, now()), Err(BadToken::Invalid));

        let claims = tokens.check(&signed, now()).expect("it is valid");
        let key = EncodingKey::from_secret(b"secret");
        let other = jsonwebtoken::encode(&Header::new(Algorithm::HS512), &claims, &key).expect("HS512 signs");
        assert_eq!(tokens.check(&other, now()), Err(BadToken::Invalid));
    }
}
