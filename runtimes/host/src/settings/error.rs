//! Errors in settings, one line each.

use std::fmt;
use std::slice;

use super::setting::{Setting, Source};
use crate::escape::Escaped;

/// All errors in the settings of one start: at least one [`SettingsError`].
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct SettingsErrors(Vec<SettingsError>);

impl SettingsErrors {
    /// Returns each error, in the order in which the settings were read.
    pub fn iter(&self) -> slice::Iter<'_, SettingsError> {
        self.0.iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds an error, unless it is there already: a value may be checked alone, and again with others.
    pub(super) fn add(&mut self, error: SettingsError) {
        if !self.0.contains(&error) {
            self.0.push(error);
        }
    }

    /// Adds an error, unless the same value has another one already.
    pub(super) fn add_if_first(&mut self, error: SettingsError) {
        if !self.iter().any(|known| known.subject == error.subject) {
            self.0.push(error);
        }
    }

    /// Returns the value of a result, or adds its error.
    pub(super) fn note<T>(&mut self, result: Result<T, SettingsError>) -> Option<T> {
        result.map_err(|error| self.add(error)).ok()
    }
}

/// One error per line.
impl fmt::Display for SettingsErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.iter().enumerate() {
            let gap = if index > 0 { "\n" } else { "" };
            write!(f, "{gap}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for SettingsErrors {}

/// One setting that cannot be used: where it is set, what is wrong with it, and what to write instead. It is one line,
/// ready for standard error after the name of the program.
///
/// The line begins with the flag, the line of `.env`, or, for the environment, the variable itself:
///
/// ```text
/// --max-message=64Q: not a size; write for example 64KiB
/// .env line 3: POSTERN_PATH=ws: ws is not a path; write for example /ws
/// POSTERN_MAX_MESSAGE=64Q: not a size; write for example 64KiB
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsError {
    /// The place and the value of the setting. Empty if the error is not about a value.
    subject: String,
    complaint: String,
}

impl SettingsError {
    /// Creates the error for a value that its setting does not accept.
    pub(super) fn value(setting: &Setting, text: &str, source: Source, complaint: &str) -> SettingsError {
        // The complaint may contain the value, or an item of it if it is a list.
        let quoted = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        let complaint = quoted.fold(complaint.to_owned(), |complaint, item| {
            let shown = setting.public(item);
            if shown == item { complaint } else { complaint.replace(item, &shown) }
        });
        let (text, complaint) = (setting.show(text), setting.public(&complaint));
        let name = match source {
            Source::Flag => format!("--{}", setting.flag()),
            Source::DotEnv { .. } | Source::Environment | Source::Default => setting.name.to_owned(),
        };
        SettingsError {
            subject: one_line(&format!("{}{name}={text}: ", source.place())),
            complaint: one_line(&complaint),
        }
    }

    /// Creates any other error. It is one line, even if the sentence quotes several.
    pub(super) fn new(sentence: fmt::Arguments<'_>) -> SettingsError {
        SettingsError { subject: String::new(), complaint: one_line(&sentence.to_string()) }
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.subject, self.complaint)
    }
}

impl std::error::Error for SettingsError {}

/// Escapes all characters that could end the line or change how it is displayed, except for backslashes.
pub(super) fn one_line(sentence: &str) -> String {
    let parts: Vec<String> = sentence.split('\\').map(|part| Escaped(part.as_bytes()).to_string()).collect();
    parts.join("\\")
}

#[cfg(test)]
mod tests {
    use crate::settings::{Program, load};

    const PROGRAM: Program =
        Program { name: "postern", version: "1", about: "", has_workers: true, commands: &[] };

    #[test]
    fn an_error_shows_no_password_and_no_query_of_a_url() {
        let (jwks, issuer, origins) =
            ("POSTERN_ASSERTION_JWKS", "POSTERN_ASSERTION_ISSUER", "POSTERN_ALLOWED_ORIGINS");
        let pomerium = ("POSTERN_ASSERTION", "pomerium");
        for (environment, line) in [
            (
                &[(jwks, "https://user:hunter2@issuer.example/jwks.json")][..],
                "POSTERN_ASSERTION_JWKS=https://***@issuer.example/jwks.json: keys are public; leave out the user \
                 and the password",
            ),
            (
                &[(jwks, "https://user:hunter2?@issuer.example/jwks.json?key=hunter2")],
                "POSTERN_ASSERTION_JWKS=https://***@issuer.example/jwks.json?***: not a URL; write for example \
                 https://issuer.example/jwks.json",
            ),
            (
                &[(jwks, "ftp://issuer.example/jwks.json?key=hunter2")],
                "POSTERN_ASSERTION_JWKS=ftp://issuer.example/jwks.json?***: not an https URL; write https, or \
                 the path of a file without a scheme",
            ),
            (
                &[pomerium, (issuer, "user:hunter2@app.example.com")],
                "POSTERN_ASSERTION_ISSUER=***@app.example.com: makes \
                 https://***@app.example.com/.well-known/pomerium/jwks.json the place of the keys, which is not a \
                 URL; write for example app.example.com, the host of the route",
            ),
            (
                &[(origins, "https://user:hunter2@app.example.com")],
                "POSTERN_ALLOWED_ORIGINS=https://***@app.example.com: https://***@app.example.com is not an \
                 origin; write for example https://app.example.com",
            ),
            (
                &[(origins, "user:hunter2@app.example.com")],
                "POSTERN_ALLOWED_ORIGINS=***@app.example.com: ***@app.example.com is not an origin; write for \
                 example https://***@app.example.com",
            ),
            (
                &[("POSTERN_ASSERTION", "https://user:hunter2@issuer.example")],
                "POSTERN_ASSERTION=https://***@issuer.example: must be one of off, pomerium, google-iap, \
                 cloudflare, custom",
            ),
        ] {
            let environment = environment.iter().map(|(name, value)| (name.into(), value.into()));
            let error = load(&PROGRAM, [], environment, || Ok(None)).unwrap_err();
            assert_eq!(error.to_string(), line);
        }
    }
}
