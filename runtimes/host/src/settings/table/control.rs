//! Control: the port for health, metrics and operators.

use super::{CONTROL, Group, Setting, set};
use crate::settings::{net, secret};

pub(super) static SETTINGS: &[Setting] = &[
    Setting {
        name: CONTROL,
        placeholder: "ADDRESS",
        default: "127.0.0.1:8081",
        group: Group::Control,
        is_secret: false,
        help: "The address of /livez, /readyz, /metrics and /api; users must\n\
               not be able to reach it. off turns it off. If POSTERN_LISTEN\n\
               has port 8081, the default is the next port",
        apply: |settings, text| set(&mut settings.control.address, net::control(text)),
    },
    Setting {
        name: secret::API_KEY,
        placeholder: "KEY,…",
        default: "",
        group: Group::Control,
        is_secret: true,
        help: "What X-API-Key must be for /api, at least 16 characters; without\n\
               it /api is 403. Several are for the time in which one replaces\n\
               another. Not as a flag: other users of the host see those",
        apply: |settings, text| secret::apply(&mut settings.control.api_keys, text),
    },
    Setting {
        name: secret::API_KEY_FILE,
        placeholder: "PATH",
        default: "",
        group: Group::Control,
        is_secret: false,
        help: "A file with that instead, read again at SIGHUP",
        apply: |settings, text| {
            let keys = &mut settings.control.api_keys;
            let file = secret::apply_file(keys, text, secret::API_KEY_FILE, secret::API_KEY)?;
            settings.secret_files.extend(file);
            Ok(())
        },
    },
];
