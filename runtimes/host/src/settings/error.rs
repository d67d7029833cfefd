//! Settings that cannot be used, in one line.

use std::fmt;

use super::sources::Source;
use super::table::Setting;
use crate::escape::Escaped;

/// What is wrong with the settings, where, and what to write instead: one line, ready for standard error behind
/// the name of the program.
///
/// ```text
/// POSTERN_MAX_MESSAGE=64Q: not a size; write for example 64KiB
/// .env: POSTERN_PATH=ws: ws is not a path; write for example /ws
/// --max-message=64Q: not a size; write for example 64KiB
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsError(String);

impl SettingsError {
    /// A value that its setting cannot take.
    pub(super) fn value(setting: &Setting, text: &str, source: Source, complaint: &str) -> SettingsError {
        // The complaint may quote the value, or an item of it if it is a list, or make something of it.
        let quoted = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        let complaint = quoted.fold(complaint.to_owned(), |complaint, item| {
            let shown = setting.public(item);
            if shown == item { complaint } else { complaint.replace(item, &shown) }
        });
        let (text, complaint) = (setting.show(text), setting.public(&complaint));
        let place = match source {
            Source::Flag => format!("--{}={text}", setting.flag()),
            Source::DotEnv => format!(".env: {}={text}", setting.name),
            Source::Environment | Source::Default => format!("{}={text}", setting.name),
        };
        SettingsError::new(format_args!("{place}: {complaint}"))
    }

    /// Anything else. Whatever the sentence quotes, it stays one line.
    pub(super) fn new(sentence: fmt::Arguments<'_>) -> SettingsError {
        let sentence = sentence.to_string();
        // A backslash is nobody's trouble here.
        let parts: Vec<String> =
            sentence.split('\\').map(|part| Escaped(part.as_bytes()).to_string()).collect();
        SettingsError(parts.join("\\"))
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SettingsError {}

#[cfg(test)]
mod tests {
    use crate::settings::{Program, load};

    const PROGRAM: Program = Program { name: "postern", version: "1", about: "", has_workers: true };

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
                "POSTERN_ASSERTION_JWKS=ftp://issuer.example/jwks.json?***: neither https nor a file; a file is \
                 written as its path alone",
            ),
            (
                &[pomerium, (issuer, "user:hunter2@app.example.com")],
                "POSTERN_ASSERTION_ISSUER=***@app.example.com: makes \
                 https://***@app.example.com/.well-known/pomerium/jwks.json the place of the keys, which is no \
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
