//! The settings of the tokens of channels, which are interpreted together.

use super::error::{SettingsError, SettingsErrors};
use super::names::{JWT_SECRET, TOKEN_AUDIENCE, TOKEN_ISSUER, TOKEN_JWKS, TOKEN_JWKS_INSECURE};
use super::net;
use super::setting::ResolvedSetting;
use super::value::{ValueError, boolean};
use crate::assertion::{KeySource, TokenSettings};

/// Parses a URL or a file with keys. Another setting decides whether http is allowed, so it is allowed here.
pub(super) fn keys(text: &str) -> Result<(), ValueError> {
    KeySource::parse(text, true).map(drop).map_err(ValueError::from)
}

/// Interprets the texts together. Each is valid alone. Returns `None` if no token is accepted, or after adding to `errors`.
pub(super) fn tokens(chosen: &[ResolvedSetting], errors: &mut SettingsErrors) -> Option<TokenSettings> {
    let find = |name: &str| chosen.iter().find(|chosen| chosen.setting.name == name);
    let text = |name: &str| find(name).map(|chosen| &*chosen.text).filter(|text| !text.is_empty());
    let is_insecure = text(TOKEN_JWKS_INSECURE).is_some_and(|text| boolean(text) == Ok(true));
    // A text that cannot be parsed was reported when it was checked.
    let keys = text(TOKEN_JWKS).and_then(|text| KeySource::parse(text, true).ok());
    let complaint = match &keys {
        Some(keys) if keys.is_exposed() && !is_insecure => Err(EXPOSED.to_owned()),
        // A missing file is reported now, before the process listens.
        Some(keys) => keys.check(),
        None => Ok(()),
    };
    if let (Err(complaint), Some(blamed)) = (complaint, find(TOKEN_JWKS)) {
        errors.add(SettingsError::value(blamed.setting, &blamed.text, blamed.source, &complaint));
        return None;
    }
    let secret = text(JWT_SECRET).map(|secret| secret.as_bytes().to_vec());
    (secret.is_some() || keys.is_some()).then(|| TokenSettings {
        secret,
        keys,
        issuer: text(TOKEN_ISSUER).map(str::to_owned),
        audience: text(TOKEN_AUDIENCE).and_then(|text| net::words(text).ok()).unwrap_or_default(),
    })
}

const EXPOSED: &str = "plain http would let an attacker on the network path replace the keys; write https, or set \
                       POSTERN_TOKEN_JWKS_INSECURE=true if the network is trusted, such as the network of a cluster";

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use crate::assertion::{KeySource, TokenSettings};
    use crate::settings::{Outcome, Program, load};

    const PROGRAM: Program =
        Program { name: "postern", version: "1", about: "", has_workers: true, commands: &[] };

    fn read(settings: &[(&str, &str)]) -> Result<Option<TokenSettings>, String> {
        let environment = settings.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        match load(&PROGRAM, [], environment, || Ok(None)) {
            Ok(Outcome::Start(loaded)) => Ok(loaded.settings.channels.tokens),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn no_token_is_accepted_without_a_secret_or_keys() {
        assert!(read(&[]).unwrap().is_none());
        assert!(read(&[("JWT_SECRET", "")]).unwrap().is_none());
        assert!(read(&[("POSTERN_TOKEN_ISSUER", "me"), ("POSTERN_TOKEN_AUDIENCE", "a")]).unwrap().is_none());
    }

    #[test]
    fn everything_can_be_set() {
        let read = read(&[
            ("JWT_SECRET", "hunter2"),
            ("POSTERN_TOKEN_JWKS", "https://me.example/keys"),
            ("POSTERN_TOKEN_ISSUER", "me"),
            ("POSTERN_TOKEN_AUDIENCE", "a, b"),
        ]);
        let TokenSettings { secret, keys, issuer, audience } = read.unwrap().unwrap();
        assert_eq!((secret.as_deref(), issuer.as_deref()), (Some(&b"hunter2"[..]), Some("me")));
        assert_eq!(keys, Some(KeySource::parse("https://me.example/keys", false).unwrap()));
        assert_eq!(audience, ["a", "b"]);
    }

    #[test]
    fn keys_that_cannot_be_used_are_reported_before_anything_starts() {
        let exposed = ("POSTERN_TOKEN_JWKS", "http://keycloak.auth.svc:8080/certs");
        let error = read(&[exposed]).unwrap_err();
        assert!(
            error.starts_with("POSTERN_TOKEN_JWKS=http://keycloak.auth.svc:8080/certs: plain http would")
                && error.contains("POSTERN_TOKEN_JWKS_INSECURE=true"),
            "{error}"
        );
        assert!(read(&[exposed, ("POSTERN_TOKEN_JWKS_INSECURE", "true")]).unwrap().is_some());
        assert_eq!(
            read(&[("POSTERN_TOKEN_JWKS", "/no/such/file")]).unwrap_err(),
            "POSTERN_TOKEN_JWKS=/no/such/file: cannot be read: No such file or directory (os error 2)"
        );
        let error = read(&[("POSTERN_TOKEN_JWKS", "ftp://me.example/keys")]).unwrap_err();
        assert!(error.starts_with("POSTERN_TOKEN_JWKS=ftp://me.example/keys: not an https URL"), "{error}");
    }
}
