//! The secret that a gateway sends in a separate header to authenticate itself.

use std::fmt;
use std::sync::Arc;

use subtle::{Choice, ConstantTimeEq};

use super::error::HandshakeError;
use super::single_header::SingleHeader;

/// The secret that each request must contain, in addition to the peer's address. If no secret is set, none is required.
///
/// An address proves only where a request came from: any other program at a trusted address could claim to be any user. It
/// cannot know the secret of the gateway, which the gateway writes over a header of the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxySecret {
    /// The header that carries it, compared without case. Default `X-Postern-Secret`.
    pub header: String,
    /// The accepted secrets. Default none: no secret is required.
    pub secrets: Secrets,
}

impl Default for ProxySecret {
    fn default() -> ProxySecret {
        ProxySecret { header: "X-Postern-Secret".to_owned(), secrets: Secrets::default() }
    }
}

/// Secrets, any of which is accepted. Several are useful while one replaces another. [`Debug`](fmt::Debug) shows only their
/// number.
#[derive(Clone)]
pub struct Secrets(Kept);

#[derive(Clone)]
enum Kept {
    Fixed(Arc<[Box<[u8]>]>),
    Stored(Arc<dyn SecretStore>),
}

/// Secrets that can change while the process runs.
pub trait SecretStore: fmt::Debug + Send + Sync {
    /// Returns the current secrets. Called once for each request with a secret; must not block.
    fn current(&self) -> Secrets;
}

impl Secrets {
    /// Creates a set of these secrets.
    pub fn new(secrets: impl IntoIterator<Item = String>) -> Secrets {
        Secrets(Kept::Fixed(
            secrets.into_iter().map(|secret| secret.into_bytes().into_boxed_slice()).collect(),
        ))
    }

    /// Creates a set that reads the secrets from the store for each request.
    pub fn stored(store: Arc<dyn SecretStore>) -> Secrets {
        Secrets(Kept::Stored(store))
    }

    /// Whether the set is empty, so that no secret is required.
    pub fn is_empty(&self) -> bool {
        self.fixed().is_empty()
    }

    /// Whether `secret` is one of them. The time depends on the lengths alone, not on the bytes.
    pub fn contains(&self, secret: &[u8]) -> bool {
        self.fixed().iter().fold(Choice::from(0), |found, known| found | known.ct_eq(secret)).into()
    }

    fn fixed(&self) -> Arc<[Box<[u8]>]> {
        match &self.0 {
            Kept::Fixed(secrets) => secrets.clone(),
            Kept::Stored(store) => store.current().fixed(),
        }
    }
}

impl Default for Secrets {
    fn default() -> Secrets {
        Secrets::new([])
    }
}

impl PartialEq for Secrets {
    fn eq(&self, other: &Secrets) -> bool {
        let others = other.fixed();
        self.fixed().len() == others.len() && others.iter().all(|secret| self.contains(secret))
    }
}

impl Eq for Secrets {}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.fixed().len())
    }
}

impl ProxySecret {
    /// Checks that a request contains one of the secrets, in exactly one line of [`ProxySecret::header`].
    pub(super) fn check(&self, header: &SingleHeader<'_>) -> Result<(), HandshakeError> {
        let is_known = header.exactly_one().is_some_and(|value| self.secrets.contains(value));
        if self.secrets.is_empty() || is_known { Ok(()) } else { Err(HandshakeError::ProxySecret) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    const OLD: &str = "0123456789abcdef0123456789abcdef";
    const NEW: &str = "fedcba9876543210fedcba9876543210";

    fn judge(secrets: &[&str], headers: &[(&str, &str)], options: &[&str]) -> Result<(), HandshakeError> {
        let secrets = Secrets::new(secrets.iter().map(|secret| (*secret).to_owned()));
        let asked = ProxySecret { secrets, ..ProxySecret::default() };
        let mut header = SingleHeader::default();
        headers.iter().for_each(|(name, value)| header.add_line(&asked.header, name, value.as_bytes()));
        options.iter().for_each(|option| header.add_connection_option(&asked.header, option.as_bytes()));
        asked.check(&header)
    }

    #[test]
    fn each_of_the_secrets_proves_it_in_any_case_of_the_name() {
        for name in ["X-Postern-Secret", "x-postern-secret", "X-POSTERN-SECRET"] {
            for secret in [OLD, NEW] {
                assert_eq!(judge(&[OLD, NEW], &[(name, secret)], &["Upgrade"]), Ok(()));
            }
        }
    }

    #[test]
    fn anything_but_one_line_with_a_secret_is_refused() {
        const NAME: &str = "X-Postern-Secret";
        let upper = OLD.to_uppercase();
        let joined = format!("{OLD},{OLD}");
        for headers in [
            &[][..],
            &[(NAME, "")],
            &[(NAME, &OLD[1..])],
            &[(NAME, &OLD[..31])],
            &[(NAME, &upper)],
            &[(NAME, NEW)],
            &[(NAME, &joined)],
            &[(NAME, OLD), (NAME, OLD)],
            &[(NAME, OLD), (NAME, "wrong")],
            &[("X_Postern_Secret", OLD)],
            &[(NAME, OLD), ("x.postern.secret", "wrong")],
            &[("Authorization", OLD)],
        ] {
            assert_eq!(judge(&[OLD], headers, &["Upgrade"]), Err(HandshakeError::ProxySecret), "{headers:?}");
        }
        let nominated = judge(&[OLD], &[(NAME, OLD)], &["upgrade", "x-postern-secret"]);
        assert_eq!(nominated, Err(HandshakeError::ProxySecret));
    }

    #[test]
    fn nothing_is_asked_while_there_is_no_secret() {
        assert_eq!(judge(&[], &[], &[]), Ok(()));
        assert_eq!(judge(&[], &[("X-Postern-Secret", "a"), ("X_Postern_Secret", "b")], &[]), Ok(()));
    }

    /// A store with one secret for the first request, and another one afterwards.
    #[derive(Debug, Default)]
    struct Changing(AtomicBool);

    impl SecretStore for Changing {
        fn current(&self) -> Secrets {
            let secret = if self.0.load(Ordering::Relaxed) { NEW } else { OLD };
            Secrets::new([secret.to_owned()])
        }
    }

    #[test]
    fn stored_secrets_are_those_that_hold_when_they_are_asked_for() {
        let store = Arc::new(Changing::default());
        let (secrets, clone) = (Secrets::stored(store.clone()), Secrets::stored(store.clone()).clone());
        assert!(secrets.contains(OLD.as_bytes()) && clone.contains(OLD.as_bytes()) && !secrets.is_empty());
        store.0.store(true, Ordering::Relaxed);
        for secrets in [secrets, clone] {
            assert!(secrets.contains(NEW.as_bytes()) && !secrets.contains(OLD.as_bytes()));
            assert_eq!(format!("{secrets:?}"), "Secrets(1)");
        }
    }

    #[test]
    fn secrets_are_equal_if_they_are_the_same_and_never_shown() {
        let secrets = |texts: &[&str]| Secrets::new(texts.iter().map(|text| (*text).to_owned()));
        assert_eq!(secrets(&[OLD]), secrets(&[OLD]));
        assert_ne!(secrets(&[OLD]), secrets(&[NEW]));
        assert_ne!(secrets(&[OLD]), secrets(&[OLD, NEW]));
        let mut header = SingleHeader::default();
        let asked = ProxySecret { secrets: secrets(&[OLD, NEW]), ..ProxySecret::default() };
        header.add_line(&asked.header, "X-Postern-Secret", OLD.as_bytes());
        let shown = format!("{asked:?} {header:?}");
        assert!(shown.contains("Secrets(2)") && shown.contains("is_present: true"), "{shown}");
        assert!(!shown.contains("0123") && !shown.contains("48, 49"), "{shown}");
    }
}
