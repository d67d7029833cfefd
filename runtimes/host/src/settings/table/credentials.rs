//! Credentials: the end of connections whose tokens have expired, and checks of tokens on open connections.

use postern_core::worker::Revalidate;

use crate::settings::auth;
use crate::settings::feature::Feature;
use crate::settings::names::*;
use crate::settings::net;
use crate::settings::setting::{Setting, choice, duration, duration_or_off, text, value_at};
use crate::settings::value::{self, OFF, ValueError, is_off};

pub(super) fn settings() -> Vec<Setting> {
    vec![
        duration(
            EXPIRY_GRACE,
            |settings| &mut settings.expiry.grace,
            "The time that a client has for a new token after the old one\n\
             has expired. Then the connection is closed: with 4401, and\n\
             with 3005 on channels",
        ),
        duration_or_off(
            EXPIRY_SPREAD,
            |settings| &mut settings.expiry.spread,
            "Connections are closed at a random time of this length after\n\
             that, so that clients whose tokens expire together do not\n\
             return together. 0 closes them at once",
        ),
        text(
            AUTH_URL,
            "URL",
            "",
            |_, text| if text.is_empty() { Ok(()) } else { auth::check_url(text) },
            "The URL at which the gateway asks whether a token holds\n\
             (forwardAuth, auth_request). It is asked about tokens that\n\
             clients send on open connections. Without it they are\n\
             verified with JWT_SECRET and POSTERN_TOKEN_JWKS",
        )
        .needs(Feature::Assertion, ""),
        duration_or_off(
            AUTH_CACHE,
            |settings| &mut settings.auth_cache,
            "The time for which an answer of POSTERN_AUTH_URL is used\n\
             again for the same token. 0 asks each time",
        )
        .default("10s"),
        choice(
            IN_BAND_AUTH,
            |settings| &mut settings.in_band.refresh,
            &[("on", true), ("off", false)],
            "on lets a client of echo refresh its token by a text\n\
             message: {\"type\":\"refresh\",\"token\":…}. Such messages are\n\
             neither sent back nor logged",
        )
        .placeholder("off|on")
        .needs(Feature::Assertion, "off"),
        value_at(
            FIRST_MESSAGE_PATH,
            "PATH,…",
            |settings| &mut settings.first_message_paths,
            |text| if is_off(text) { Ok(Vec::new()) } else { net::paths(text) },
            |paths| if paths.is_empty() { OFF.to_owned() } else { paths.join(",") },
            "The paths whose clients send their token in the first\n\
             message: {\"type\":\"auth\",\"token\":…}, or a connect of\n\
             channels. Identity headers are not read there, because the\n\
             gateway does not set them. A path that no other setting has\n\
             serves what POSTERN_PATH serves",
        )
        .needs(Feature::Assertion, "off"),
        value_at(
            REVALIDATE,
            "off|TIME|message",
            |settings| &mut settings.revalidate,
            revalidate,
            |when| if when.is_none() { OFF.to_owned() } else { String::new() },
            "When a token is checked again before a message of its client\n\
             is handled: if the last check was this time ago, or for each\n\
             message. The connection is closed with 4401 if it does not\n\
             hold any more. The gateway must pass the token on, which is\n\
             kept then",
        )
        .needs(Feature::Assertion, "off"),
    ]
}

/// Parses the time after which a token is checked again.
fn revalidate(text: &str) -> Result<Option<Revalidate>, ValueError> {
    if is_off(text) {
        return Ok(None);
    }
    if text.eq_ignore_ascii_case("message") {
        return Ok(Some(Revalidate::EachMessage));
    }
    let time = value::duration(text).map_err(|_| "not a time, off or message; write for example 30s")?;
    Ok(Some(Revalidate::After(time)))
}
