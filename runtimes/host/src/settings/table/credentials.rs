//! Credentials: the end of connections whose tokens have expired.

use crate::settings::names::*;
use crate::settings::setting::{Setting, duration, duration_or_off};

pub(super) fn settings() -> Vec<Setting> {
    vec![
        duration(
            EXPIRY_GRACE,
            |settings| &mut settings.expiry.grace,
            "The time that a client has for a new token after the old one has\n\
             expired. Then the connection is closed: with 4401, and with 3005\n\
             on channels",
        ),
        duration_or_off(
            EXPIRY_SPREAD,
            |settings| &mut settings.expiry.spread,
            "Connections are closed at a random time of this length after that,\n\
             so that clients whose tokens expire together do not return\n\
             together. 0 closes them at once",
        ),
    ]
}
