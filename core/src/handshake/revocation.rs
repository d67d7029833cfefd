//! Revoked credentials: their connections end, and upgrades with them are refused.

use std::fmt;

use super::identity::Identity;

/// The credentials that are revoked: those for which all conditions that are present hold. Without a condition there are none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Revocation {
    /// The id of the user.
    pub user: Option<Box<str>>,
    /// The id of the session.
    pub session: Option<Box<str>>,
    /// The id of the token.
    pub token_id: Option<Box<str>>,
    /// The token was issued before this time, in seconds since 1970. A token whose time of issue is unknown counts as one of
    /// these, because it may be.
    pub issued_before: Option<u64>,
}

impl Revocation {
    /// Returns whether the credentials of a user are revoked.
    pub fn matches(&self, identity: &Identity) -> bool {
        let Revocation { user, session, token_id, issued_before } = self;
        let token = identity.token();
        !self.is_empty()
            && user.as_deref().is_none_or(|user| user == identity.id())
            && session.as_deref().is_none_or(|session| identity.session_id() == Some(session))
            && token_id.as_deref().is_none_or(|id| token.id == Some(id))
            && issued_before.is_none_or(|time| token.issued_at.is_none_or(|issued_at| issued_at < time))
    }

    /// Returns whether no condition is present.
    pub fn is_empty(&self) -> bool {
        *self == Revocation::default()
    }
}

/// The revocations of a process, for all its workers. The host provides it, because state that workers share needs a lock.
/// Workers call it when a user is admitted or refreshed, never for a message.
pub trait Revocations: fmt::Debug + Send + Sync {
    /// Returns whether the credentials of a user are revoked.
    fn are_revoked(&self, identity: &Identity) -> bool;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::TokenDetails;

    fn identity(session: &[u8], token: TokenDetails<'_>) -> Identity {
        use crate::handshake::{IdentityRules, IdentityValues};
        let values = IdentityValues { id: b"1", session_id: session, ..IdentityValues::default() };
        IdentityRules::default().identity(&values).unwrap().with_token(token)
    }

    #[test]
    fn all_conditions_must_hold() {
        let token = TokenDetails { exp: None, issued_at: Some(100), id: Some("t") };
        let known = identity(b"s", token);
        let some = |text: &str| Some(Box::from(text));
        for (user, session, token_id, issued_before, is_revoked) in [
            (None, None, None, None, false),
            (some("1"), None, None, None, true),
            (some("2"), None, None, None, false),
            (None, some("s"), None, None, true),
            (None, some("1"), None, None, false),
            (None, None, some("t"), None, true),
            (None, None, some("s"), None, false),
            (None, None, None, Some(101), true),
            (None, None, None, Some(100), false),
            (some("1"), some("s"), some("t"), Some(101), true),
            (some("1"), some("s"), some("t"), Some(100), false),
            (some("2"), some("s"), None, None, false),
        ] {
            let revocation = Revocation { user, session, token_id, issued_before };
            assert_eq!(revocation.matches(&known), is_revoked, "{revocation:?}");
        }
        let unknown = identity(b"", TokenDetails::default());
        let before = Revocation { issued_before: Some(1), ..Revocation::default() };
        assert!(before.matches(&unknown), "it may have been issued at any time");
        for revocation in [
            Revocation { session: some("s"), ..Revocation::default() },
            Revocation { token_id: some("t"), ..Revocation::default() },
        ] {
            assert!(!revocation.matches(&unknown), "{revocation:?}");
        }
    }
}
