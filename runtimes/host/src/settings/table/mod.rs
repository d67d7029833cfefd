//! All settings in one table, with a file for each group. `--help`, `--print-config`, the names that are known and the
//! values that apply come from it.

mod channels;
mod control;
mod credentials;
mod engine;
mod hooks;
mod identity;
mod limits;
mod listening;
mod liveness;
mod log;
mod source;
mod stopping;

use std::sync::LazyLock;

use super::names::{
    TOKEN_EXP, TOKEN_ID, TOKEN_ISSUED_AT, USER_CHANNELS, USER_EMAIL, USER_ID, USER_NAME, USER_SESSION_ID,
};
use super::setting::Setting;

/// Grouped. Within a group, the settings that are most often needed come first.
pub(super) static SETTINGS: LazyLock<Vec<Setting>> = LazyLock::new(|| {
    let groups = [
        ("Listening", listening::settings()),
        ("Channels", channels::settings()),
        ("Engine", engine::settings()),
        ("Identity", identity::settings()),
        ("Credentials", credentials::settings()),
        ("Hooks", hooks::settings()),
        ("Sources", source::settings()),
        ("Limits", limits::settings()),
        ("Liveness", liveness::settings()),
        ("Log", log::settings()),
        ("Control", control::settings()),
        ("Stopping", stopping::settings()),
    ];
    let settings = groups
        .into_iter()
        .flat_map(|(group, settings)| settings.into_iter().map(move |setting| Setting { group, ..setting }));
    settings.collect()
});

/// The settings of the headers that describe a user.
pub(super) const IDENTITY_HEADERS: [&str; 8] =
    [USER_ID, USER_EMAIL, USER_NAME, USER_SESSION_ID, TOKEN_EXP, TOKEN_ISSUED_AT, TOKEN_ID, USER_CHANNELS];
