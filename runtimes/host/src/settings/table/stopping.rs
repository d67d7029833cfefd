//! Stopping: how a process takes its leave.

use super::{Group, Setting, set};
use crate::settings::value::{duration, duration_or_off};

pub(super) static SETTINGS: &[Setting] = &[
    Setting {
        name: "POSTERN_DRAIN_GRACE",
        placeholder: "TIME",
        default: "5s",
        group: Group::Stopping,
        is_secret: false,
        help: "After SIGTERM /readyz is 503, and connections are accepted for\n\
               so long still: until all who send them have seen it",
        apply: |settings, text| set(&mut settings.drain.grace, duration_or_off(text)),
    },
    Setting {
        name: "POSTERN_DRAIN_SPREAD",
        placeholder: "TIME",
        default: "30s",
        group: Group::Stopping,
        is_secret: false,
        help: "Then nobody is accepted, and the connections are closed with\n\
               1012, evenly over this time",
        apply: |settings, text| set(&mut settings.drain.spread, duration_or_off(text)),
    },
    Setting {
        name: "POSTERN_DRAIN_HARD",
        placeholder: "TIME",
        default: "60s",
        group: Group::Stopping,
        is_secret: false,
        help: "The process ends this long after SIGTERM, even if connections or\n\
               log records are left; the log has at least a second. A second\n\
               SIGTERM ends it at once. SIGINT closes all connections at once",
        apply: |settings, text| set(&mut settings.drain.hard, duration(text)),
    },
];
