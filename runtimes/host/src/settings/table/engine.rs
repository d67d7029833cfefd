//! The engine: channels within this process, or over several nodes by Redis.

use std::fs;

use postern_channels::relay::WhenDown;

use crate::engine;
use crate::settings::feature::Feature;
use crate::settings::hints;
use crate::settings::names::*;
use crate::settings::setting::{Setting, boolean, choice, duration, number, size, text, value_at};
use crate::settings::value::ValueError;

pub(super) fn settings() -> Vec<Setting> {
    vec![
        choice(
            ENGINE,
            |settings| &mut settings.engine.is_redis,
            &[("memory", false), ("redis", true)],
            "Where channels are: in the memory of this process, or in\n\
             Redis, which several nodes share",
        )
        .placeholder("memory|redis")
        .needs(Feature::Redis, "memory"),
        value_at(
            REDIS_URL,
            "URL",
            |settings| &mut settings.engine.url,
            |text| {
                engine::check_url(text)?;
                Ok(text.to_owned())
            },
            String::clone,
            "The address of Redis:\n\
             redis://USER:PASSWORD@HOST:PORT/DATABASE, rediss: with TLS, or\n\
             unix:PATH. With Sentinel, redis+sentinel: or rediss+sentinel:\n\
             //USER:PASSWORD@HOST:PORT,HOST:PORT/MASTER_NAME/DATABASE. To\n\
             Redis Cluster, redis+cluster: or rediss+cluster:\n\
             //USER:PASSWORD@HOST:PORT,HOST:PORT",
        ),
        text(
            REDIS_PASSWORD,
            "SECRET",
            "",
            |settings, text| set_password(&mut settings.engine.password, text, REDIS_PASSWORD_FILE),
            "The password of Redis, unless it is in the URL. Not as a\n\
             flag: flags are visible to other users of the host",
        )
        .secret(),
        text(
            REDIS_PASSWORD_FILE,
            "FILE",
            "",
            |settings, path| set_password_of_file(&mut settings.engine.password, path, REDIS_PASSWORD),
            "The file with the password of Redis",
        ),
        text(
            REDIS_SENTINEL_PASSWORD,
            "SECRET",
            "",
            |settings, text| {
                set_password(&mut settings.engine.sentinel_password, text, REDIS_SENTINEL_PASSWORD_FILE)
            },
            "The password of the sentinels, if they have one. Not as a\n\
             flag: flags are visible to other users of the host",
        )
        .secret(),
        text(
            REDIS_SENTINEL_PASSWORD_FILE,
            "FILE",
            "",
            |settings, path| {
                set_password_of_file(&mut settings.engine.sentinel_password, path, REDIS_SENTINEL_PASSWORD)
            },
            "The file with the password of the sentinels",
        ),
        text(
            REDIS_CA_FILE,
            "FILE",
            "",
            |_, _| Ok(()),
            "Certificates of authorities in PEM format, which are trusted for\n\
             Redis in addition to those of the system",
        )
        .needs(Feature::Redis, ""),
        text(
            REDIS_CERT_FILE,
            "FILE",
            "",
            |_, _| Ok(()),
            "The certificate of Postern in PEM format, if Redis asks for one\n\
             (tls-auth-clients)",
        )
        .needs(Feature::Redis, ""),
        text(REDIS_KEY_FILE, "FILE", "", |_, _| Ok(()), "The private key of this certificate in PEM format")
            .needs(Feature::Redis, ""),
        value_at(
            REDIS_PREFIX,
            "TEXT",
            |settings| &mut settings.engine.prefix,
            prefix,
            String::clone,
            "The beginning of all keys and names in Redis, before a\n\
             colon. Nodes with the same prefix have the same channels",
        ),
        duration(
            REDIS_TIMEOUT,
            |settings| &mut settings.engine.timeout,
            "The time for a reply of Redis. After three late replies in a\n\
             row the connection is opened again",
        ),
        duration(
            REDIS_PROBE,
            |settings| &mut settings.engine.probe,
            "The time without a message after which a message to this\n\
             node is sent by Redis. If it does not arrive in the same\n\
             time, the connection is opened again",
        ),
        size(
            REDIS_QUEUE,
            |settings| &mut settings.engine.queue,
            64 * 1024..=1 << 30,
            "The most bytes of commands that wait for replies of Redis,\n\
             and the most bytes of its messages that wait for this\n\
             process",
        ),
        choice(
            ENGINE_DOWN,
            |settings| &mut settings.engine.when_down,
            &[("local", WhenDown::Local), ("refuse", WhenDown::Refuse)],
            "What clients can do while Redis cannot be reached: local\n\
             lets them subscribe, and delivers within this node in\n\
             channels without history; refuse answers with a temporary\n\
             error",
        )
        .placeholder("local|refuse"),
        boolean(
            ENGINE_REQUIRED,
            |settings| &mut settings.engine.is_required,
            "Whether /readyz answers 503 while Redis cannot be reached",
        ),
        choice(
            REDIS_FAILOVER,
            |settings| &mut settings.engine.is_failover_noticed,
            &[("rotate", true), ("trust", false)],
            "Whether channels begin a new epoch after a failover or a\n\
             restart of Redis, so that publications that it has lost are\n\
             noticed; trust keeps the epoch",
        )
        .placeholder("rotate|trust"),
        duration(
            POSITION_CHECK,
            |settings| &mut settings.engine.position_check,
            "The time after which a channel without messages is compared\n\
             with Redis, give or take a fifth",
        ),
        number(
            RECOVER_RATE,
            |settings| &mut settings.engine.recover_rate,
            0..=1_000_000,
            "The most histories that are read from Redis in a second. The\n\
             other recoveries wait for up to 2 s. 0 is any number",
        ),
    ]
}

/// Sets a password, unless the setting `other` has set it.
fn set_password(place: &mut Option<String>, text: &str, other: &str) -> Result<(), ValueError> {
    if text.is_empty() {
        return Ok(());
    }
    if place.is_some() {
        return Err(format!("{other} is set already; leave out one of the two").into());
    }
    *place = Some(text.to_owned());
    Ok(())
}

/// Sets a password that a file contains. The errors do not quote the contents.
fn set_password_of_file(place: &mut Option<String>, path: &str, other: &str) -> Result<(), ValueError> {
    if path.is_empty() {
        return Ok(());
    }
    let text =
        fs::read_to_string(path).map_err(|error| format!("cannot read the file: {}", hints::file(&error)))?;
    set_password(place, text.trim_end_matches(['\r', '\n']), other)
}

/// Checks that a prefix does not change where a key ends, or the part of it that Redis Cluster hashes:
/// the prefix itself, in braces.
fn prefix(text: &str) -> Result<String, ValueError> {
    let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    if text.is_empty() || text.len() > 64 || !text.bytes().all(is_valid) {
        return Err(
            "it has 1 to 64 letters, digits, hyphens, dots, colons or underscores; write for example \
                    postern-staging"
                .into(),
        );
    }
    Ok(text.to_owned())
}
