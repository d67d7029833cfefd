//! The settings of events for a backend, which are interpreted together.

use super::error::{SettingsError, SettingsErrors};
use super::names::{HOOK_SECRET, HOOK_URL};
use super::setting::ResolvedSetting;
use super::value::ValueError;
use crate::hooks::{self, HookSettings};
use crate::outbound::{HttpUrl, HttpUrlError};

/// Checks the URL of the backend.
pub(super) fn check_url(text: &str) -> Result<(), ValueError> {
    url(text).map(drop)
}

fn url(text: &str) -> Result<HttpUrl, ValueError> {
    HttpUrl::parse(text).map_err(|error| match error {
        HttpUrlError::Scheme => {
            "not an http or https URL; write for example https://backend.example/hooks".into()
        }
        HttpUrlError::Malformed => "not a URL; write for example https://backend.example/hooks".into(),
        HttpUrlError::Credentials => {
            "requests are authenticated by their signature; leave out the user and the password".into()
        }
    })
}

/// Checks the secrets of the signatures.
pub(super) fn check_secrets(text: &str) -> Result<(), ValueError> {
    hooks::secrets(text).map(drop).map_err(ValueError::from)
}

/// Interprets the texts together. Each is valid alone. Returns `None` if no events are sent, or after adding to `errors`.
pub(super) fn hooks(chosen: &[ResolvedSetting], errors: &mut SettingsErrors) -> Option<HookSettings> {
    let find = |name: &str| chosen.iter().find(|chosen| chosen.setting.name == name);
    let text = |name: &str| find(name).map(|chosen| &*chosen.text).filter(|text| !text.is_empty());
    // A text that cannot be parsed was reported when it was checked.
    let url = text(HOOK_URL).and_then(|text| url(text).ok())?;
    let Some(secrets) = text(HOOK_SECRET) else {
        if let Some(chosen) = find(HOOK_URL) {
            errors.add(SettingsError::value(chosen.setting, &chosen.text, chosen.source, NO_SECRET));
        }
        return None;
    };
    hooks::secrets(secrets).ok().map(|secrets| HookSettings { url, secrets })
}

const NO_SECRET: &str = "events are signed, so that the backend can distinguish them from forged ones; set POSTERN_HOOK_SECRET, for \
                         example to whsec_ and the output of openssl rand -base64 32";

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use crate::hooks::HookSettings;
    use crate::settings::{Outcome, Program, load};

    const PROGRAM: Program = Program { name: "postern", version: "1", about: "", has_workers: true };

    fn read(settings: &[(&str, &str)]) -> Result<Option<HookSettings>, String> {
        let environment = settings.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        match load(&PROGRAM, [], environment, || Ok(None)) {
            Ok(Outcome::Start(loaded)) => Ok(loaded.settings.hooks),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        }
    }

    const URL: (&str, &str) = ("POSTERN_HOOK_URL", "http://backend:3000/hooks");

    #[test]
    fn events_are_sent_if_there_are_a_url_and_a_secret() {
        assert_eq!(read(&[]), Ok(None));
        let secrets = "0123456789abcdef01234567, whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let settings = read(&[URL, ("POSTERN_HOOK_SECRET", secrets)]).unwrap().unwrap();
        assert_eq!(settings.url.to_string(), URL.1);
        assert_eq!(settings.secrets.iter().map(Vec::len).collect::<Vec<_>>(), [24, 24]);
    }

    #[test]
    fn settings_that_cannot_be_used_are_reported() {
        let error = read(&[URL]).unwrap_err();
        assert!(
            error.starts_with("POSTERN_HOOK_URL=http://backend:3000/hooks: events are signed"),
            "{error}"
        );
        for (url, expected) in [
            ("backend", "not an http or https URL"),
            ("http://", "not a URL"),
            ("http://user:hunter2@backend/", "requests are authenticated by their signature"),
        ] {
            let error = read(&[("POSTERN_HOOK_URL", url)]).unwrap_err();
            assert!(error.contains(expected) && !error.contains("hunter2"), "{url}: {error}");
        }
        let error = read(&[URL, ("POSTERN_HOOK_SECRET", "hunter2")]).unwrap_err();
        assert!(error.starts_with("POSTERN_HOOK_SECRET=***: a secret is shorter"), "{error}");
    }
}
