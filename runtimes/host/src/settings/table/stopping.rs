//! Stopping: how a process drains.

use crate::settings::names::*;
use crate::settings::setting::{Setting, duration, duration_or_off};

pub(super) fn settings() -> Vec<Setting> {
    vec![
        duration_or_off(
            DRAIN_GRACE,
            |settings| &mut settings.drain.grace,
            "After SIGTERM /readyz is 503, and connections are still accepted\n\
             for this long, so that load balancers can notice",
        ),
        duration_or_off(
            DRAIN_SPREAD,
            |settings| &mut settings.drain.spread,
            "Then no connection is accepted, and the existing ones are closed\n\
             with 1012, evenly over this time",
        ),
        duration(
            DRAIN_HARD,
            |settings| &mut settings.drain.hard,
            "Ends the process this long after SIGTERM, even if connections or\n\
             log records are left; the log has at least 1 s. A second SIGTERM\n\
             ends it immediately. SIGINT closes all connections immediately",
        ),
    ]
}
