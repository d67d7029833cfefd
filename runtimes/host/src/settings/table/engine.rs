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
             redis://USER:PASSWORD@HOST:PORT/DATABASE, or unix:PATH",
        ),
        text(
            REDIS_PASSWORD,
            "SECRET",
            "",
            |settings, text| set_password(settings, text, REDIS_PASSWORD_FILE),
            "The password of Redis, unless it is in the URL. Not as a\n\
             flag: flags are visible to other users of the host",
        )
        .secret(),
        text(
            REDIS_PASSWORD_FILE,
            "FILE",
            "",
            |settings, path| {
                if path.is_empty() {
                    return Ok(());
                }
                // The errors do not quote the contents.
                let text = fs::read_to_string(path)
                    .map_err(|error| format!("cannot read the file: {}", hints::file(&error)))?;
                set_password(settings, text.trim_end_matches(['\r', '\n']), REDIS_PASSWORD)
            },
            "The file with the password of Redis",
        ),
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

fn set_password(settings: &mut crate::settings::Settings, text: &str, other: &str) -> Result<(), ValueError> {
    if text.is_empty() {
        return Ok(());
    }
    if settings.engine.password.is_some() {
        return Err(format!("{other} is set already; leave out one of the two").into());
    }
    settings.engine.password = Some(text.to_owned());
    Ok(())
}

/// Checks that a prefix does not change where a key ends, or the part of it that Redis Cluster hashes.
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
