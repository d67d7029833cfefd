//! Hooks: events that are sent to a backend.

use crate::settings::feature::Feature;
use crate::settings::hooks;
use crate::settings::names::*;
use crate::settings::setting::{Setting, text};

pub(super) fn settings() -> Vec<Setting> {
    vec![
        text(
            HOOK_URL,
            "URL",
            "",
            |_, text| if text.is_empty() { Ok(()) } else { hooks::check_url(text) },
            "The URL to which events are sent: connections that are opened and\n\
             closed, channels that get their first subscription and lose their\n\
             last one. Without it none are sent",
        )
        .needs(Feature::Hooks, ""),
        text(
            HOOK_SECRET,
            "SECRET,…",
            "",
            |_, text| if text.is_empty() { Ok(()) } else { hooks::check_secrets(text) },
            "The secret of the signatures of these requests: at least 24\n\
             characters, or whsec_ and base64. Several secrets make a signature\n\
             each, for rotation. Not as a flag: flags are visible to other\n\
             users of the host",
        )
        .secret()
        .needs(Feature::Hooks, ""),
    ]
}
