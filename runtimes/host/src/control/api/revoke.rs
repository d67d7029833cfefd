//! The method `revoke`: credentials that no longer hold.

use std::sync::Arc;

use postern_core::handshake::{Identity, Revocation};

use super::error::MethodError;
use super::params::Params;
use crate::revocations::{Entry, unix_time};
use crate::settings::Settings;

/// The properties of tokens that are read from requests.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct KnownTokens {
    has_id: bool,
    has_issued_at: bool,
}

impl KnownTokens {
    pub(in super::super) fn new(settings: &Settings) -> KnownTokens {
        let is_asserted = settings.assertion.is_some();
        let headers = &settings.handshake.identity;
        KnownTokens {
            has_id: is_asserted || !headers.token_id.is_empty(),
            has_issued_at: is_asserted || !headers.token_issued_at.is_empty(),
        }
    }
}

/// Parses the parameters of `revoke`.
pub(in super::super) fn revocation(params: &Params<'_>, tokens: KnownTokens) -> Result<Entry, MethodError> {
    params.check_names(&["user", "session", "token_id", "issued_before", "ttl"])?;
    let text = |name: &str| {
        let text = params.text(name)?;
        if text.len() > Identity::MAX_ID || text.contains(char::is_control) {
            let most = Identity::MAX_ID;
            return Err(MethodError::bad(format!(
                "{name} has at most {most} bytes, without control characters"
            )));
        }
        Ok((!text.is_empty()).then(|| Box::from(text)))
    };
    let issued_before = Some(params.uint("issued_before")?).filter(|time| *time != 0);
    let revocation = Revocation {
        user: text("user")?,
        session: text("session")?,
        token_id: text("token_id")?,
        issued_before,
    };
    if revocation.is_empty() {
        return Err(MethodError::bad("name a user, a session or a token_id, or write issued_before"));
    }
    if revocation.token_id.is_some() && !tokens.has_id {
        return Err(MethodError::bad("token_id needs POSTERN_USER_TOKEN_ID_HEADER: no token has a known id"));
    }
    if issued_before.is_some() && !tokens.has_issued_at {
        return Err(MethodError::bad(
            "issued_before needs POSTERN_USER_TOKEN_ISSUED_AT_HEADER: the time of issue of no token is known",
        ));
    }
    let ttl = match params.uint("ttl")? {
        0 => DEFAULT_TTL,
        ttl @ 1..=MAX_TTL => ttl,
        _ => return Err(MethodError::bad(format!("ttl is at most {MAX_TTL} seconds"))),
    };
    Ok(Entry { revocation: Arc::new(revocation), until: unix_time() + ttl })
}

/// The time for which a revocation is kept, in seconds: one day.
const DEFAULT_TTL: u64 = 24 * 60 * 60;

/// The longest time, in seconds: one year.
const MAX_TTL: u64 = 366 * 24 * 60 * 60;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str, tokens: KnownTokens) -> Result<Entry, String> {
        let params = Params::parse(body.as_bytes()).unwrap();
        revocation(&params, tokens).map_err(|error| error.as_json()["message"].to_string())
    }

    const ALL: KnownTokens = KnownTokens { has_id: true, has_issued_at: true };
    const NONE: KnownTokens = KnownTokens { has_id: false, has_issued_at: false };

    #[test]
    fn a_revocation_has_conditions_and_a_time() {
        let entry =
            parse(r#"{"user":"1","session":"s","token_id":"t","issued_before":7,"ttl":60}"#, ALL).unwrap();
        let some = |text: &str| Some(Box::from(text));
        let all =
            Revocation { user: some("1"), session: some("s"), token_id: some("t"), issued_before: Some(7) };
        assert_eq!(*entry.revocation, all);
        assert!((59..=60).contains(&(entry.until - unix_time())));
        let entry = parse(r#"{"session":"s","user":"","token_id":null,"issued_before":0}"#, NONE).unwrap();
        assert_eq!(*entry.revocation, Revocation { session: some("s"), ..Revocation::default() });
        assert!((86_399..=86_400).contains(&(entry.until - unix_time())));
    }

    #[test]
    fn a_revocation_of_everybody_or_of_unknown_tokens_is_refused() {
        for (body, message) in [
            ("{}", "name a user, a session or a token_id"),
            (r#"{"ttl":60}"#, "name a user, a session or a token_id"),
            (r#"{"user":"1","sesion":"s"}"#, "sesion is unknown; the members are user, session"),
            (r#"{"token_id":"t"}"#, "token_id needs POSTERN_USER_TOKEN_ID_HEADER"),
            (r#"{"user":"1","issued_before":7}"#, "issued_before needs POSTERN_USER_TOKEN_ISSUED_AT_HEADER"),
            (r#"{"user":"a\tb"}"#, "user has at most 255 bytes"),
            (r#"{"user":1}"#, "user must be a string"),
            (r#"{"user":"1","ttl":31622401}"#, "ttl is at most"),
        ] {
            let error = parse(body, NONE).unwrap_err();
            assert!(error.contains(message), "{body}: {error}");
        }
    }
}
