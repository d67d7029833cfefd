//! All settings, in one table with a file for each group: `--help`, `--print-config`, the names that are known and the values that hold
//! are made from it.

mod control;
mod identity;
mod limits;
mod listening;
mod liveness;
mod log;
mod stopping;

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use postern_core::handshake::HandshakeConfig;
use postern_core::session::SessionConfig;

use super::Settings;
use super::value::ValueError;
use crate::url;

/// One setting.
#[derive(Debug)]
pub(super) struct Setting {
    /// Its name in the environment and in `.env`; the flag is made of it.
    pub(super) name: &'static str,
    /// What stands for the value in `--help`.
    pub(super) placeholder: &'static str,
    /// The text that holds if nobody gives another. May refer to a setting further up, as `$PORT`.
    pub(super) default: &'static str,
    /// Under which heading it stands.
    pub(super) group: Group,
    /// Whether its value must not be shown.
    pub(super) is_secret: bool,
    /// What it does, in lines short enough for a terminal.
    pub(super) help: &'static str,
    /// Reads a text and sets what it says, or says what is wrong with it.
    pub(super) apply: fn(&mut Settings, &str) -> Result<(), ValueError>,
}

impl Setting {
    /// The flag without its dashes: `POSTERN_MAX_HEAD` is `max-head`, `LOG_LEVEL` is `log-level`.
    pub(super) fn flag(&self) -> String {
        let name = self.name.strip_prefix(super::sources::PREFIX).unwrap_or(self.name);
        name.to_ascii_lowercase().replace('_', "-")
    }

    /// Its value as it may be shown to whoever sees the screen or keeps the output.
    pub(super) fn show<'t>(&self, value: &'t str) -> Cow<'t, str> {
        if self.is_secret && !value.is_empty() { Cow::Borrowed("***") } else { self.public(value) }
    }

    /// A text in which its value stands, without the user, the password and the query of a URL.
    pub(super) fn public<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let is_url = URLS.contains(&self.name) || text.contains("://");
        if is_url { url::redact_url(text) } else { Cow::Borrowed(text) }
    }
}

/// A heading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    Listening,
    Identity,
    Limits,
    Liveness,
    Log,
    Control,
    Stopping,
}

impl Group {
    pub(super) fn title(self) -> &'static str {
        match self {
            Group::Listening => "Listening",
            Group::Identity => "Identity",
            Group::Limits => "Limits",
            Group::Liveness => "Liveness",
            Group::Log => "Log",
            Group::Control => "Control",
            Group::Stopping => "Stopping",
        }
    }
}

/// Grouped, and within a group the ones that most people look for first.
pub(super) static SETTINGS: LazyLock<Vec<&Setting>> = LazyLock::new(|| {
    let groups = [
        listening::SETTINGS,
        identity::SETTINGS,
        limits::SETTINGS,
        liveness::SETTINGS,
        log::SETTINGS,
        control::SETTINGS,
        stopping::SETTINGS,
    ];
    groups.into_iter().flatten().collect()
});

/// The settings of the headers that are believed: no two of them may name the same header.
pub(super) const IDENTITY_HEADERS: [&str; 7] =
    [USER_ID, USER_EMAIL, USER_NAME, USER_SESSION_ID, TOKEN_EXP, SECRET_HEADER, HOST_HEADER];

/// The settings whose values are URLs, even if somebody forgets the scheme.
const URLS: [&str; 3] = [ASSERTION_ISSUER, ASSERTION_JWKS, ALLOWED_ORIGINS];

/// The setting that only a program with several workers obeys.
pub(super) const WORKERS: &str = "POSTERN_WORKERS";

/// The setting with the addresses of the data listeners.
pub(super) const LISTEN: &str = "POSTERN_LISTEN";

/// The setting with the path of health checks.
pub(super) const HEALTH_PATH: &str = "POSTERN_HEALTH_PATH";

/// The setting that names the preset of the identity headers.
pub(super) const IDENTITY: &str = "POSTERN_IDENTITY";

pub(super) const USER_ID: &str = "POSTERN_USER_ID_HEADER";
pub(super) const USER_EMAIL: &str = "POSTERN_USER_EMAIL_HEADER";
pub(super) const USER_NAME: &str = "POSTERN_USER_NAME_HEADER";
pub(super) const USER_SESSION_ID: &str = "POSTERN_USER_SESSION_ID_HEADER";
pub(super) const TOKEN_EXP: &str = "POSTERN_USER_TOKEN_EXP_HEADER";
pub(super) const SECRET_HEADER: &str = "POSTERN_PROXY_SECRET_HEADER";
const ALLOWED_ORIGINS: &str = "POSTERN_ALLOWED_ORIGINS";
const HOST_HEADER: &str = "POSTERN_HOST_HEADER";

pub(super) const MAX_CONNECTIONS: &str = "POSTERN_MAX_CONNECTIONS";
pub(super) const MAX_HANDSHAKES: &str = "POSTERN_MAX_HANDSHAKES";
pub(super) const COMPRESSION: &str = "POSTERN_COMPRESSION";
pub(super) const COMPRESSION_MIN: &str = "POSTERN_COMPRESSION_MIN";
pub(super) const CONTROL: &str = "POSTERN_CONTROL";

/// The switch of the signed identity, with which the names of its other settings begin.
pub(super) const ASSERTION: &str = "POSTERN_ASSERTION";
pub(super) const ASSERTION_HEADER: &str = "POSTERN_ASSERTION_HEADER";
pub(super) const ASSERTION_ISSUER: &str = "POSTERN_ASSERTION_ISSUER";
pub(super) const ASSERTION_AUDIENCE: &str = "POSTERN_ASSERTION_AUDIENCE";
pub(super) const ASSERTION_JWKS: &str = "POSTERN_ASSERTION_JWKS";
pub(super) const ASSERTION_JWKS_INSECURE: &str = "POSTERN_ASSERTION_JWKS_INSECURE";
pub(super) const ASSERTION_ID_CLAIM: &str = "POSTERN_ASSERTION_ID_CLAIM";
pub(super) const ASSERTION_EMAIL_CLAIM: &str = "POSTERN_ASSERTION_EMAIL_CLAIM";
pub(super) const ASSERTION_NAME_CLAIM: &str = "POSTERN_ASSERTION_NAME_CLAIM";

fn handshake(settings: &mut Settings) -> &mut HandshakeConfig {
    &mut settings.worker.handshake
}

fn session(settings: &mut Settings) -> &mut SessionConfig {
    // Nobody shares it while settings are read, so nothing is cloned.
    Arc::make_mut(&mut settings.worker.session)
}

fn set<T>(place: &mut T, value: Result<T, ValueError>) -> Result<(), ValueError> {
    *place = value?;
    Ok(())
}
