//! Control: the port for health, metrics and operators.

use super::{CONTROL, Group, Setting, set};
use crate::settings::{net, secret};

pub(super) static SETTINGS: &[Setting] = &[
    Setting {
        name: CONTROL,
        placeholder: "ADDRESS",
        default: "127.0.0.1:9090",
        group: Group::Control,
        is_secret: false,
        help: "Where /livez, /readyz, /metrics and /api are served; never to\n\
               users, so not an address that they can reach; off for nowhere",
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
        help: "A file with that instead",
        apply: |settings, text| secret::apply_file(&mut settings.control.api_keys, text, secret::API_KEY),
    },
];
