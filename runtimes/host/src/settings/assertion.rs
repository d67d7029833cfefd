//! The settings of the signed identity, which are interpreted together.

use super::error::{SettingsError, SettingsErrors};
use super::names::{
    ASSERTION, ASSERTION_AUDIENCE, ASSERTION_EMAIL_CLAIM, ASSERTION_HEADER, ASSERTION_ID_CLAIM,
    ASSERTION_ISSUER, ASSERTION_JWKS, ASSERTION_JWKS_INSECURE, ASSERTION_NAME_CLAIM,
};
use super::net;
use super::setting::ResolvedSetting;
use super::value::{ValueError, boolean, choice};
use crate::assertion::{AssertionSettings, KeySource, Preset};

/// Parses the preset. `None` if identities are not signed.
pub(super) fn preset(text: &str) -> Result<Option<Preset>, ValueError> {
    let choices = [
        ("off", None),
        ("pomerium", Some(Preset::Pomerium)),
        ("google-iap", Some(Preset::GoogleIap)),
        ("cloudflare", Some(Preset::Cloudflare)),
        ("custom", Some(Preset::Custom)),
    ];
    choice(text, &choices)
}

/// Parses a URL or a file with keys. Another setting decides whether http is allowed, so it is allowed here.
pub(super) fn keys(text: &str) -> Result<KeySource, ValueError> {
    KeySource::parse(text, true).map_err(ValueError::from)
}

/// Parses names of claims separated by commas.
pub(super) fn claims(text: &str) -> Result<Vec<String>, ValueError> {
    let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
    if names.iter().any(String::is_empty) {
        return Err("the name of a claim is missing; write for example sub, or sub,common_name".into());
    }
    Ok(names)
}

/// Returns the default that a preset gives a setting.
pub(super) fn default(preset_name: &str, setting: &str) -> Option<&'static str> {
    if setting == ASSERTION_ID_CLAIM { preset(preset_name).ok()??.id_claims() } else { None }
}

/// Interprets the texts together. Each is valid alone. Returns `None` if the assertion is off, or after adding to
/// `errors`: a setting that is missing, and one that has no effect, because its operator expects tokens to be
/// verified.
pub(super) fn assertion(
    chosen: &[ResolvedSetting],
    errors: &mut SettingsErrors,
) -> Option<AssertionSettings> {
    let find = |name: &str| chosen.iter().find(|chosen| chosen.setting.name == name);
    let switch = find(ASSERTION)?;
    let complain = |chosen: &ResolvedSetting, complaint: &str| {
        SettingsError::value(chosen.setting, &chosen.text, chosen.source, complaint)
    };
    let preset = errors.note(preset(&switch.text).map_err(|complaint| complain(switch, &complaint)))?;
    let Some(preset) = preset else {
        let is_idle = |chosen: &&ResolvedSetting| {
            let is_default = chosen.text == chosen.setting.default
                || chosen.setting.name == ASSERTION_JWKS_INSECURE && boolean(&chosen.text) == Ok(false);
            chosen.setting.name.starts_with(ASSERTION) && chosen.setting.name != ASSERTION && !is_default
        };
        chosen.iter().filter(is_idle).for_each(|idle| errors.add_if_first(complain(idle, NO_EFFECT)));
        return None;
    };
    let text = |name: &str| find(name).map(|chosen| chosen.text.clone()).filter(|text| !text.is_empty());
    let missing = |name: &str, example: &str| {
        complain(switch, &format!("needs {name}, too; write for example {example}"))
    };
    let header = text(ASSERTION_HEADER)
        .or(preset.header().map(str::to_owned))
        .ok_or_else(|| missing(ASSERTION_HEADER, "X-Jwt-Assertion"));
    let issuer = text(ASSERTION_ISSUER)
        .or(preset.issuer().map(str::to_owned))
        .ok_or_else(|| missing(ASSERTION_ISSUER, preset.issuer_example()));
    let (header, issuer) = (errors.note(header), errors.note(issuer));
    let audience = text(ASSERTION_AUDIENCE).or_else(|| preset.audience(issuer.as_deref()?));
    let audience = match audience {
        Some(audience) => net::words(&audience)
            .map_err(|complaint| complain(find(ASSERTION_AUDIENCE).unwrap_or(switch), &complaint)),
        None => Err(missing(ASSERTION_AUDIENCE, preset.audience_example())),
    };
    // If the audience derives from the issuer, only the missing issuer is reported.
    let is_derived = issuer.is_none() && preset.audience("").is_some();
    let audience = if is_derived && audience.is_err() { None } else { errors.note(audience) };
    let is_insecure = find(ASSERTION_JWKS_INSECURE).is_some_and(|chosen| boolean(&chosen.text) == Ok(true));
    let keys = keys_of(preset, text(ASSERTION_JWKS), issuer.as_deref(), is_insecure);
    let keys = match keys {
        // A missing file is reported now, before the process listens.
        Keys::Known(keys) => {
            let checked = keys.check().map(|()| keys);
            errors.note(
                checked.map_err(|complaint| complain(find(ASSERTION_JWKS).unwrap_or(switch), &complaint)),
            )
        }
        Keys::Bad(complaint) => {
            errors.add(complain(find(ASSERTION_JWKS).unwrap_or(switch), &complaint));
            None
        }
        Keys::Missing => {
            let example = "https://issuer.example.com/jwks.json or /etc/postern/jwks.json";
            errors.add(missing(ASSERTION_JWKS, example));
            None
        }
        Keys::OfNoIssuer => None,
        // Another missing setting may be the reason.
        Keys::BadIssuer(_) if audience.is_none() || header.is_none() => None,
        Keys::BadIssuer(place) => {
            let complaint = format!(
                "makes {place} the place of the keys, which is not a URL; write for example {}",
                preset.issuer_example()
            );
            errors.add(complain(find(ASSERTION_ISSUER).unwrap_or(switch), &complaint));
            None
        }
    };
    // A text that is not a list of names was reported when it was checked.
    let claims_of = |name: &str| claims(&text(name).unwrap_or_default()).unwrap_or_default();
    Some(AssertionSettings {
        header: header?,
        issuer: issuer?,
        audience: audience?,
        keys: keys?,
        id_claims: claims_of(ASSERTION_ID_CLAIM),
        email_claims: claims_of(ASSERTION_EMAIL_CLAIM),
        name_claims: claims_of(ASSERTION_NAME_CLAIM),
    })
}

/// The place of the keys, as the settings have it.
enum Keys {
    Known(KeySource),
    /// The text is not a valid place.
    Bad(ValueError),
    /// The preset has no default place.
    Missing,
    /// The place derives from the issuer, which is missing.
    OfNoIssuer,
    /// The place that derives from the issuer is not a URL.
    BadIssuer(String),
}

fn keys_of(preset: Preset, said: Option<String>, issuer: Option<&str>, is_insecure: bool) -> Keys {
    let keys = |text: &str| KeySource::parse(text, is_insecure).map_err(ValueError::from);
    if let Some(text) = said {
        return keys(&text).map_or_else(Keys::Bad, Keys::Known);
    }
    let Some(issuer) = issuer else {
        return if preset.keys("").is_some() { Keys::OfNoIssuer } else { Keys::Missing };
    };
    // A text made of an issuer may not be a URL.
    match preset.keys(issuer).map(|text| (keys(&text), text)) {
        Some((Ok(keys @ KeySource::Url(_)), _)) => Keys::Known(keys),
        Some((_, text)) => Keys::BadIssuer(text),
        None => Keys::Missing,
    }
}

const NO_EFFECT: &str = "has no effect while POSTERN_ASSERTION is off; write POSTERN_ASSERTION=custom, or one of \
                         pomerium, google-iap, cloudflare";

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use crate::assertion::{AssertionSettings, KeySource};
    use crate::settings::{Outcome, Program, load};

    const PROGRAM: Program =
        Program { name: "postern", version: "1", about: "", has_workers: true, commands: &[] };

    fn read(settings: &[(&str, &str)]) -> Result<Option<AssertionSettings>, String> {
        let environment = settings.iter().map(|(name, value)| {
            let name = if name.is_empty() {
                "POSTERN_ASSERTION".to_owned()
            } else {
                format!("POSTERN_ASSERTION_{name}")
            };
            (OsString::from(name), OsString::from(value))
        });
        match load(&PROGRAM, [], environment, || Ok(None)) {
            Ok(Outcome::Start(loaded)) => Ok(loaded.settings.assertion),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        }
    }

    fn url(text: &str) -> KeySource {
        KeySource::parse(text, true).unwrap()
    }

    #[test]
    fn it_is_off_by_default() {
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&[("", "off"), ("ID_CLAIM", "sub"), ("HEADER", "")]), Ok(None));
    }

    #[test]
    fn the_named_gateways_have_their_own_values() {
        let common = |header: &str, issuer: &str, audience: &str, keys| AssertionSettings {
            header: header.to_owned(),
            issuer: issuer.to_owned(),
            audience: vec![audience.to_owned()],
            keys,
            id_claims: vec!["sub".to_owned()],
            email_claims: vec!["email".to_owned()],
            name_claims: vec!["name".to_owned(), "preferred_username".to_owned()],
        };
        let pomerium = url("https://app.example.com/.well-known/pomerium/jwks.json");
        for issuer in ["app.example.com", "https://app.example.com", "https://app.example.com/"] {
            let expected = common("X-Pomerium-Jwt-Assertion", issuer, "app.example.com", pomerium.clone());
            assert_eq!(read(&[("", "pomerium"), ("ISSUER", issuer)]), Ok(Some(expected)));
        }
        let audience = "/projects/1/global/backendServices/2";
        let keys = url("https://www.gstatic.com/iap/verify/public_key-jwk");
        let expected = common("X-Goog-IAP-JWT-Assertion", "https://cloud.google.com/iap", audience, keys);
        assert_eq!(read(&[("", "google-iap"), ("AUDIENCE", audience)]), Ok(Some(expected)));
        let issuer = "https://team.cloudflareaccess.com";
        let keys = url("https://team.cloudflareaccess.com/cdn-cgi/access/certs");
        let expected = AssertionSettings {
            id_claims: vec!["sub".to_owned(), "common_name".to_owned()],
            ..common("Cf-Access-Jwt-Assertion", issuer, "4714c1", keys)
        };
        let settings = [("", "cloudflare"), ("ISSUER", issuer), ("AUDIENCE", "4714c1")];
        assert_eq!(read(&settings), Ok(Some(expected.clone())));
        // A value that is set applies, even if it is the default of another preset.
        let expected = AssertionSettings { id_claims: vec!["sub".to_owned()], ..expected };
        assert_eq!(read(&[&settings[..], &[("ID_CLAIM", "sub")]].concat()), Ok(Some(expected)));
    }

    #[test]
    fn http_of_another_host_has_to_be_allowed() {
        let settings = [
            ("", "custom"),
            ("HEADER", "authorization"),
            ("ISSUER", "me"),
            ("AUDIENCE", "a"),
            ("JWKS", "http://keycloak.auth.svc:8080/certs"),
        ];
        let error = read(&settings).unwrap_err();
        assert!(
            error.starts_with(
                "POSTERN_ASSERTION_JWKS=http://keycloak.auth.svc:8080/certs: plain http would let an attacker"
            ) && error.contains("POSTERN_ASSERTION_JWKS_INSECURE=true"),
            "{error}"
        );
        let read_with = |insecure| read(&[&settings[..], &[("JWKS_INSECURE", insecure)]].concat());
        for yes in ["true", "1", "Yes", "ON"] {
            let read = read_with(yes).unwrap().expect("settings");
            assert_eq!(read.keys, url("http://keycloak.auth.svc:8080/certs"), "{yes}");
            assert_eq!(read.header, "authorization");
        }
        for no in ["false", "0", "No", "off"] {
            assert!(read_with(no).is_err(), "{no}");
            assert_eq!(read_with_alone(no), Ok(None), "{no}: it is the default");
        }
        let error = read_with_alone("true").unwrap_err();
        assert!(error.starts_with("POSTERN_ASSERTION_JWKS_INSECURE=true: has no effect"), "{error}");
    }

    fn read_with_alone(insecure: &str) -> Result<Option<AssertionSettings>, String> {
        read(&[("JWKS_INSECURE", insecure)])
    }

    #[test]
    fn everything_can_be_set() {
        let settings = [
            ("HEADER", "X-Token"),
            ("ISSUER", "me"),
            ("AUDIENCE", "a, b"),
            ("JWKS", "https://me.example/keys"),
            ("ID_CLAIM", "uid, user.id"),
            ("EMAIL_CLAIM", "mail"),
            ("NAME_CLAIM", "nick"),
        ];
        let expected = AssertionSettings {
            header: "X-Token".to_owned(),
            issuer: "me".to_owned(),
            audience: vec!["a".to_owned(), "b".to_owned()],
            keys: url("https://me.example/keys"),
            id_claims: vec!["uid".to_owned(), "user.id".to_owned()],
            email_claims: vec!["mail".to_owned()],
            name_claims: vec!["nick".to_owned()],
        };
        for whose in ["custom", "pomerium", "google-iap", "cloudflare"] {
            let settings = [&[("", whose)], settings.as_slice()].concat();
            assert_eq!(read(&settings), Ok(Some(expected.clone())), "{whose}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let all =
            [("HEADER", "X-Token"), ("ISSUER", "me"), ("AUDIENCE", "a"), ("JWKS", "https://me.example/keys")];
        for (missing, _) in all {
            let settings: Vec<_> = all.into_iter().filter(|(name, _)| *name != missing).collect();
            let error = read(&[&[("", "custom")], settings.as_slice()].concat()).unwrap_err();
            let expected = format!("POSTERN_ASSERTION=custom: needs POSTERN_ASSERTION_{missing}, too; write");
            assert!(error.starts_with(&expected), "{error}");
        }
    }

    #[test]
    fn a_file_without_keys_is_told_before_anything_starts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("jwks.json");
        let shown = path.to_str().unwrap();
        let settings =
            [("", "custom"), ("HEADER", "X-Token"), ("ISSUER", "me"), ("AUDIENCE", "a"), ("JWKS", shown)];
        let error = || read(&settings).unwrap_err().replace(shown, "FILE");
        assert_eq!(
            error(),
            "POSTERN_ASSERTION_JWKS=FILE: cannot be read: No such file or directory (os error 2)"
        );
        std::fs::write(&path, "{}").unwrap();
        assert_eq!(error(), "POSTERN_ASSERTION_JWKS=FILE: it is not a JWK Set");
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert_eq!(error(), "POSTERN_ASSERTION_JWKS=FILE: is not a regular file, so it cannot be read again");
    }

    #[test]
    fn an_issuer_that_gives_no_address_is_to_blame() {
        let error = read(&[("", "cloudflare"), ("ISSUER", "team"), ("AUDIENCE", "a")]).unwrap_err();
        assert_eq!(
            error,
            "POSTERN_ASSERTION_ISSUER=team: makes team/cdn-cgi/access/certs the place of the keys, which is not a URL; \
             write for example https://TEAM.cloudflareaccess.com"
        );
        let error = read(&[("", "pomerium"), ("ISSUER", "a b")]).unwrap_err();
        assert!(error.starts_with("POSTERN_ASSERTION_ISSUER=a b: makes https://a b/"), "{error}");
    }
}
