//! Liveness: the detection of dead peers.

use crate::settings::names::*;
use crate::settings::setting::{Setting, duration, duration_or_off};

pub(super) fn settings() -> Vec<Setting> {
    vec![
        duration_or_off(
            PING_INTERVAL,
            |settings| &mut settings.keep_alive.interval,
            "Pings a client that has been silent for this long, 10 % sooner or\n\
             later so that pings are spread. 0 disables pings, and gateways then\n\
             end idle connections after their own timeouts",
        ),
        duration(
            PONG_TIMEOUT,
            |settings| &mut settings.keep_alive.timeout,
            "Closes the connection with 4408 if a ping is not answered within\nthis time",
        ),
    ]
}
