//! The settings of events for a backend, which are interpreted together.

use std::sync::Arc;

use super::error::{SettingsError, SettingsErrors};
use super::model::Settings;
use super::names::{HOOK_SECRET, HOOK_SECRET_FILE, HOOK_URL};
use super::secret::{self, Replaceable};
use super::setting::ResolvedSetting;
use super::value::ValueError;
use crate::hooks::{self, HookSettings, SigningSecrets};
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
pub(super) fn hooks(
    chosen: &[ResolvedSetting],
    settings: &mut Settings,
    errors: &mut SettingsErrors,
) -> Option<HookSettings> {
    let find = |name: &str| chosen.iter().find(|chosen| chosen.setting.name == name);
    let text = |name: &str| find(name).map(|chosen| &*chosen.text).filter(|text| !text.is_empty());
    // A text that cannot be parsed was reported when it was checked.
    let url = text(HOOK_URL).and_then(|text| url(text).ok())?;
    let mut refuse = |name: &str, complaint: &str| {
        if let Some(chosen) = find(name) {
            errors.add(SettingsError::value(chosen.setting, &chosen.text, chosen.source, complaint));
        }
    };
    let secrets = match (text(HOOK_SECRET), text(HOOK_SECRET_FILE)) {
        (None, None) => {
            refuse(HOOK_URL, NO_SECRET);
            return None;
        }
        (Some(_), Some(_)) => {
            refuse(HOOK_SECRET_FILE, "POSTERN_HOOK_SECRET is set already; leave out one of the two");
            return None;
        }
        (Some(secrets), None) => SigningSecrets::new(hooks::secrets(secrets).ok()?),
        (None, Some(path)) => {
            let secrets = SigningSecrets::default();
            match secret::read_into(Arc::new(secrets.clone()), path, HOOK_SECRET_FILE) {
                Ok(file) => settings.secret_files.push(file),
                Err(complaint) => {
                    refuse(HOOK_SECRET_FILE, complaint.as_ref());
                    return None;
                }
            }
            secrets
        }
    };
    let (timeout, concurrency) = (settings.hook_timeout, settings.hook_concurrency);
    Some(HookSettings { url, secrets, timeout, concurrency })
}

impl Replaceable for SigningSecrets {
    fn replace(&self, text: &str) -> Result<(), ValueError> {
        self.set(hooks::secrets(text)?);
        Ok(())
    }
}

const NO_SECRET: &str = "events are signed, so that the backend can distinguish them from forged ones; set POSTERN_HOOK_SECRET, for \
                         example to whsec_ and the output of openssl rand -base64 32";

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use crate::hooks::HookSettings;
    use crate::settings::{Outcome, Program, load};

    const PROGRAM: Program =
        Program { name: "postern", version: "1", about: "", has_workers: true, commands: &[] };

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
        assert_eq!(settings.secrets.lengths(), [24, 24]);
    }

    #[test]
    fn secrets_of_a_file_are_replaced_when_it_is_read_again() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        let write = |text: &str| std::fs::write(path, text).unwrap();
        write("0123456789abcdef01234567\n");
        let environment = [URL, ("POSTERN_HOOK_SECRET_FILE", path)]
            .map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let Ok(Outcome::Start(loaded)) = load(&PROGRAM, [], environment, || Ok(None)) else {
            panic!("a start")
        };
        let hooks = loaded.settings.hooks.unwrap();
        assert_eq!(hooks.secrets.lengths(), [24]);
        let [file] = &loaded.settings.secret_files[..] else { panic!("one file") };
        write("0123456789abcdef01234567,0123456789abcdef0123456789");
        file.read_again().unwrap();
        assert_eq!(hooks.secrets.lengths(), [24, 26]);
        write("hunter2");
        let error = file.read_again().unwrap_err().to_string();
        assert!(
            error.starts_with("in the file: a secret is shorter") && !error.contains("hunter2"),
            "{error}"
        );
        assert_eq!(hooks.secrets.lengths(), [24, 26]);
        let both =
            [URL, ("POSTERN_HOOK_SECRET", "0123456789abcdef01234567"), ("POSTERN_HOOK_SECRET_FILE", path)];
        let error = read(&both).unwrap_err();
        assert!(error.contains("POSTERN_HOOK_SECRET is set already; leave out one of the two"), "{error}");
        let error = read(&[URL, ("POSTERN_HOOK_SECRET_FILE", path)]).unwrap_err();
        assert!(error.contains("in the file: a secret is shorter"), "{error}");
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
