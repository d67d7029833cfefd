//! Credentials: the end of connections whose tokens have expired, and checks of tokens on open connections.

use crate::settings::auth;
use crate::settings::feature::Feature;
use crate::settings::names::*;
use crate::settings::setting::{Setting, choice, duration, duration_or_off, text};

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
        text(
            AUTH_URL,
            "URL",
            "",
            |_, text| if text.is_empty() { Ok(()) } else { auth::check_url(text) },
            "The URL at which the gateway asks whether a token holds\n\
             (forwardAuth, auth_request). It is asked about tokens that\n\
             clients send on open connections. Without it they are verified\n\
             with JWT_SECRET and POSTERN_TOKEN_JWKS",
        )
        .needs(Feature::Assertion, ""),
        duration_or_off(
            AUTH_CACHE,
            |settings| &mut settings.auth_cache,
            "The time for which an answer of POSTERN_AUTH_URL is used again for\n\
             the same token. 0 asks each time",
        )
        .default("10s"),
        choice(
            IN_BAND_AUTH,
            |settings| &mut settings.in_band.refresh,
            &[("on", true), ("off", false)],
            "on lets a client of echo refresh its token by a text message:\n\
             {\"type\":\"refresh\",\"token\":…}. Such messages are neither sent\n\
             back nor logged",
        )
        .placeholder("off|on")
        .needs(Feature::Assertion, "off"),
    ]
}
