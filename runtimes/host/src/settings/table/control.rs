//! Control: the port for health, metrics and operators.

use crate::settings::feature::Feature;
use crate::settings::names::*;
use crate::settings::setting::{Setting, choice, text};
use crate::settings::{net, secret};

pub(super) fn settings() -> Vec<Setting> {
    vec![
        text(
            CONTROL,
            "ADDRESS",
            "127.0.0.1:8081",
            |settings, text| {
                settings.control.address = net::control(text)?;
                Ok(())
            },
            "The address of /livez, /readyz, /metrics and /api, which users must\n\
             not be able to reach; off disables it. If POSTERN_LISTEN has port\n\
             8081, the default is the next free port",
        )
        .needs(Feature::Control, "off"),
        text(
            API_KEY,
            "KEY,…",
            "",
            |settings, text| secret::apply(&mut settings.control.api_keys, text),
            "The value of X-API-Key for /api, at least 16 characters; without it\n\
             /api is 403. Several keys are valid at once, for rotation. Not as a\n\
             flag: flags are visible to other users of the host",
        )
        .secret()
        .needs(Feature::Control, ""),
        text(
            API_KEY_FILE,
            "PATH",
            "",
            |settings, text| {
                let file = secret::apply_file(&mut settings.control.api_keys, text, API_KEY_FILE, API_KEY)?;
                settings.secret_files.extend(file);
                Ok(())
            },
            "Read it from this file, and again at SIGHUP",
        )
        .needs(Feature::Control, ""),
        choice(
            CONSOLE,
            |settings| &mut settings.control.has_console,
            &[("on", true), ("off", false)],
            "Whether / of the control port is a page with live figures and,\n\
             with a key, connections, channels and actions",
        )
        .placeholder("on|off")
        .needs(Feature::Control, "off"),
    ]
}
