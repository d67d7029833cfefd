//! Liveness: how it is found out that a user is gone who has not said so.

use super::{Group, Setting, set};
use crate::settings::value::{duration, duration_or_off};

pub(super) static SETTINGS: &[Setting] = &[
    Setting {
        name: "POSTERN_PING_INTERVAL",
        placeholder: "TIME",
        default: "25s",
        group: Group::Liveness,
        is_secret: false,
        help: "A client that has been quiet for so long is pinged, a tenth\n\
               sooner or later so that not all are at once; 0 is never,\n\
               and then the idle timeout of a gateway ends connections",
        apply: |settings, text| set(&mut settings.worker.keep_alive.interval, duration_or_off(text)),
    },
    Setting {
        name: "POSTERN_PONG_TIMEOUT",
        placeholder: "TIME",
        default: "10s",
        group: Group::Liveness,
        is_secret: false,
        help: "How long a client may take to answer, beyond it 4408",
        apply: |settings, text| set(&mut settings.worker.keep_alive.timeout, duration(text)),
    },
];
