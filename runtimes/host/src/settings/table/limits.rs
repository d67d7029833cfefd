//! Limits of one connection, of one user, and of all connections.

use postern_core::handshake::HandshakeConfig;
use postern_core::policy::Rate;
use postern_core::session::RatePolicy;

use crate::settings::feature::Feature;
use crate::settings::names::*;
use crate::settings::setting::{
    Setting, choice, count, duration, duration_or_off, number, optional_count, optional_size, size, value_at,
};
use crate::settings::value::{self, GIB, switch};
use crate::users::UserPolicy;

pub(super) fn settings() -> Vec<Setting> {
    vec![
        optional_count(
            MAX_CONNECTIONS,
            |settings| &mut settings.max_connections,
            usize::MAX,
            "The most connections; one more gets 503. 0 is as many as the\n\
             limit of open files allows, which is raised at start (ulimit\n\
             -Hn). A larger number is reduced to that",
        ),
        optional_count(
            MAX_CONNECTIONS_PER_USER,
            |settings| &mut settings.max_connections_per_user,
            usize::MAX,
            "The most connections of one user, on all nodes together with\n\
             POSTERN_ENGINE=redis; 0 is unlimited",
        ),
        choice(
            USER_POLICY,
            |settings| &mut settings.user_policy,
            &[("reject", UserPolicy::Reject), ("replace", UserPolicy::Replace)],
            "What happens to one connection more: reject refuses it with\n\
             429; replace admits it and closes the user's oldest with 4409",
        ),
        number(
            "POSTERN_CONNECT_RATE",
            |settings| &mut settings.connect_rate,
            0..=MOST_A_SECOND,
            "New connections per second, with as many at once; above it\n\
             503. 0 is unlimited",
        ),
        value_at(
            MESSAGE_RATE,
            "N",
            |settings| &mut settings.session.message_rate.per_second,
            |text| value::number(text, 0..=MOST_A_SECOND).map(u64::from),
            u64::to_string,
            "Messages per second of one connection, checked after each\n\
             read; 0 is unlimited",
        ),
        optional_count(
            MESSAGE_BURST,
            |settings| &mut settings.message_burst,
            MOST_A_SECOND as usize,
            "How many messages may arrive at once; 0 is twice the rate",
        ),
        value_at(
            BYTE_RATE,
            "SIZE",
            |settings| &mut settings.session.byte_rate,
            |text| {
                let most = value::size(text, 0..=GIB)? as u64;
                Ok(Rate { per_second: most, burst: most })
            },
            |rate| rate.per_second.to_string(),
            "Bytes per second of one connection, with as many at once; 0 is\n\
             unlimited",
        ),
        choice(
            RATE_POLICY,
            |settings| &mut settings.session.rate_policy,
            &[("pause", RatePolicy::Pause), ("close", RatePolicy::Close)],
            "What to do above these two rates: pause reads from the client\n\
             at exactly the rate; close closes the connection with 4429",
        ),
        size(
            MAX_MESSAGE,
            |settings| &mut settings.session.max_message,
            1..=GIB,
            "The longest message; a longer one closes with 1009",
        ),
        size(
            MAX_FRAME,
            |settings| &mut settings.session.max_frame,
            1..=GIB,
            "The longest frame of a message; a longer one closes with 1009",
        )
        .default("$POSTERN_MAX_MESSAGE"),
        number(
            MAX_FRAGMENTS,
            |settings| &mut settings.session.max_fragments,
            1..=u32::MAX,
            "The most frames of one message; more close with 1008",
        ),
        duration_or_off(
            "POSTERN_MESSAGE_TIMEOUT",
            |settings| &mut settings.session.message_timeout,
            "The longest time to receive one message; a slower one closes\n\
             with 1008. 0 is unlimited",
        ),
        number(
            "POSTERN_CONTROL_RATE",
            |settings| &mut settings.session.control_rate,
            0..=MOST_A_SECOND,
            "Pings, pongs and closes per second of one connection, with\n\
             twice as many at once; more close with 1008. 0 is unlimited",
        ),
        value_at(
            COMPRESSION,
            "on|off",
            |settings| &mut settings.handshake.compression,
            |text| switch(text, [("on", true), ("off", false)]),
            |is_on| if *is_on { "on" } else { "off" }.to_owned(),
            "Whether permessage-deflate is negotiated when a client offers\n\
             it. It saves bandwidth on long, repetitive text, and costs CPU\n\
             time",
        )
        .needs(Feature::Compression, "off"),
        size(
            COMPRESSION_MIN,
            |settings| &mut settings.session.compression_min,
            0..=GIB,
            "The shortest message that is compressed. Shorter messages, and\n\
             those that would not shrink, are sent uncompressed. 0\n\
             compresses all",
        )
        .needs(Feature::Compression, "64B"),
        size(
            MAX_BACKLOG,
            |settings| &mut settings.session.max_backlog,
            1024..=GIB,
            "The most pending output of one connection; above it the\n\
             connection is closed with 4413. Its messages are not read\n\
             while a quarter of it is pending, or 256KiB, or 1/64 of\n\
             POSTERN_MAX_MEMORY",
        ),
        duration_or_off(
            "POSTERN_WRITE_TIMEOUT",
            |settings| &mut settings.session.write_timeout,
            "Drops a connection whose pending output makes no progress for\n\
             this long. 0 is unlimited",
        ),
        duration(
            "POSTERN_CLOSE_TIMEOUT",
            |settings| &mut settings.session.close_timeout,
            "The longest time for a client to answer a Close",
        ),
        duration(
            "POSTERN_HANDSHAKE_TIMEOUT",
            |settings| &mut settings.handshake.timeout,
            "The longest time from the connection to the end of the request\n\
             head; a slower request gets 408",
        ),
        optional_size(
            MAX_MEMORY,
            |settings| &mut settings.max_memory,
            1..=MOST_MEMORY,
            "The most memory for incomplete messages, pending output and\n\
             subscriptions of all connections; above it the slowest of the\n\
             large ones are closed. 0 is half of the host's memory, or of\n\
             the lowest limit of this process (cgroup, ulimit -v and -d)",
        ),
        count(
            MAX_HANDSHAKES,
            |settings| &mut settings.handshake.max_handshakes,
            0..=usize::MAX,
            "The most handshakes in progress; for one more, the oldest gets\n\
             503. A larger number than half of the connections that the\n\
             limit of open files allows is reduced to that. 0 disables this\n\
             limit",
        ),
        size(
            "POSTERN_MAX_HEAD",
            |settings| &mut settings.handshake.max_head,
            512..=1024 * 1024,
            "The longest request head, with its cookies and tokens; a\n\
             longer one gets 431",
        ),
        count(
            "POSTERN_MAX_HEADERS",
            |settings| &mut settings.handshake.max_headers,
            1..=HandshakeConfig::MOST_HEADERS,
            "The most header lines of a request, up to 256; more get 431",
        ),
    ]
}

/// No host has more.
const MOST_MEMORY: usize = 1 << 50;

/// Higher rates are typing errors.
const MOST_A_SECOND: u32 = 1_000_000;
