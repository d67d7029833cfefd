//! Hooks: events that are sent to a backend, and its decisions.

use std::time::Duration;

use crate::settings::feature::Feature;
use crate::settings::hooks;
use crate::settings::names::*;
use crate::settings::setting::{Setting, count, text, value_at};
use crate::settings::value;

/// The longest time for a decision.
const LONGEST: Duration = Duration::from_secs(60);

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
        text(
            HOOK_SECRET_FILE,
            "FILE",
            "",
            |_, _| Ok(()),
            "A file that contains what POSTERN_HOOK_SECRET would. It is read\n\
             again at SIGHUP",
        )
        .needs(Feature::Hooks, ""),
        value_at(
            HOOK_TIMEOUT,
            "TIME",
            |settings| &mut settings.hook_timeout,
            |text| match value::duration(text)? {
                time if time > LONGEST => Err("more than a minute; write for example 3s".into()),
                time => Ok(time),
            },
            |time| format!("{}s", time.as_secs()),
            "The time that the backend has to decide about a command of a\n\
             client, in a namespace with subscribe_hook, publish_hook or\n\
             rpc_hook. Afterwards the client gets the temporary error 100",
        )
        .default("3s")
        .needs(Feature::Hooks, "3s"),
        count(
            HOOK_CONCURRENCY,
            |settings| &mut settings.hook_concurrency,
            1..=1024,
            "The most such requests at the same time. Each uses a thread. Up\n\
             to 4096 more are queued",
        )
        .default("64")
        .needs(Feature::Hooks, "64"),
    ]
}
