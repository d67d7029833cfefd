//! Limits: what one connection, one user and all of them may take.

use std::num::NonZeroUsize;

use postern_core::handshake::HandshakeConfig;
use postern_core::policy::Rate;
use postern_core::session::{RatePolicy, SessionConfig};

use super::{
    COMPRESSION, COMPRESSION_MIN, Group, MAX_CONNECTIONS, MAX_HANDSHAKES, Setting, handshake, session, set,
};
use crate::settings::value::{GIB, choice, count, duration, duration_or_off, number, size, switch};
use crate::users::UserPolicy;

pub(super) static SETTINGS: &[Setting] = &[
    Setting {
        name: MAX_CONNECTIONS,
        placeholder: "N",
        default: "0",
        group: Group::Limits,
        is_secret: false,
        help: "Connections at a time, beyond them 503; 0 is as many as the\n\
               limit of open files allows, which is raised at start\n\
               (ulimit -Hn); a larger number is reduced to that",
        apply: |settings, text| set(&mut settings.max_connections, count(text, 0..=usize::MAX)),
    },
    Setting {
        name: "POSTERN_MAX_CONNECTIONS_PER_USER",
        placeholder: "N",
        default: "0",
        group: Group::Limits,
        is_secret: false,
        help: "Connections of one user at a time; 0 is any number",
        apply: |settings, text| {
            settings.max_connections_per_user = NonZeroUsize::new(count(text, 0..=usize::MAX)?);
            Ok(())
        },
    },
    Setting {
        name: "POSTERN_USER_POLICY",
        placeholder: "HOW",
        default: "reject",
        group: Group::Limits,
        is_secret: false,
        help: "What follows beyond them: reject refuses the new one; replace\n\
               admits it, and closes the oldest of the user with 4409",
        apply: |settings, text| {
            let choices = [("reject", UserPolicy::Reject), ("replace", UserPolicy::Replace)];
            set(&mut settings.user_policy, choice(text, &choices))
        },
    },
    Setting {
        name: "POSTERN_CONNECT_RATE",
        placeholder: "N",
        default: "0",
        group: Group::Limits,
        is_secret: false,
        help: "New connections a second, with as many at once, beyond them\n\
               503; 0 is any number",
        apply: |settings, text| set(&mut settings.connect_rate, number(text, 0..=MOST_A_SECOND)),
    },
    Setting {
        name: "POSTERN_MESSAGE_RATE",
        placeholder: "N",
        default: "0",
        group: Group::Limits,
        is_secret: false,
        help: "Messages a second of one connection, judged after each read;\n\
               0 is any number",
        apply: |settings, text| {
            set(
                &mut session(settings).message_rate.per_second,
                number(text, 0..=MOST_A_SECOND).map(u64::from),
            )
        },
    },
    Setting {
        name: "POSTERN_MESSAGE_BURST",
        placeholder: "N",
        default: "0",
        group: Group::Limits,
        is_secret: false,
        help: "As many of them may come at once; 0 is twice the rate",
        apply: |settings, text| {
            let burst = u64::from(number(text, 0..=MOST_A_SECOND)?);
            let rate = &mut session(settings).message_rate;
            rate.burst = if burst == 0 { rate.per_second * 2 } else { burst };
            Ok(())
        },
    },
    Setting {
        name: "POSTERN_BYTE_RATE",
        placeholder: "SIZE",
        default: "0",
        group: Group::Limits,
        is_secret: false,
        help: "Bytes a second of one connection, with as many at once;\n\
               0 is any number",
        apply: |settings, text| {
            let most = size(text, 0..=GIB)? as u64;
            session(settings).byte_rate = Rate { per_second: most, burst: most };
            Ok(())
        },
    },
    Setting {
        name: "POSTERN_RATE_POLICY",
        placeholder: "HOW",
        default: "pause",
        group: Group::Limits,
        is_secret: false,
        help: "What follows above the rates of messages and bytes: pause\n\
               reads from the client exactly at its rate; close closes\n\
               with 4429",
        apply: |settings, text| {
            let choices = [("pause", RatePolicy::Pause), ("close", RatePolicy::Close)];
            set(&mut session(settings).rate_policy, choice(text, &choices))
        },
    },
    Setting {
        name: "POSTERN_MAX_MESSAGE",
        placeholder: "SIZE",
        default: "64KiB",
        group: Group::Limits,
        is_secret: false,
        help: "The longest message; a longer one closes with 1009",
        apply: |settings, text| set(&mut session(settings).max_message, size(text, 1..=GIB)),
    },
    Setting {
        name: "POSTERN_MAX_FRAME",
        placeholder: "SIZE",
        default: "$POSTERN_MAX_MESSAGE",
        group: Group::Limits,
        is_secret: false,
        help: "The longest frame of a message; a longer one closes with 1009",
        apply: |settings, text| set(&mut session(settings).max_frame, size(text, 1..=GIB)),
    },
    Setting {
        name: "POSTERN_MAX_FRAGMENTS",
        placeholder: "N",
        default: "1024",
        group: Group::Limits,
        is_secret: false,
        help: "Frames of one message; more close with 1008",
        apply: |settings, text| set(&mut session(settings).max_fragments, number(text, 1..=u32::MAX)),
    },
    Setting {
        name: "POSTERN_MESSAGE_TIMEOUT",
        placeholder: "TIME",
        default: "30s",
        group: Group::Limits,
        is_secret: false,
        help: "From the first byte of a message to its last, beyond it 1008;\n\
               0 is for ever",
        apply: |settings, text| set(&mut session(settings).message_timeout, duration_or_off(text)),
    },
    Setting {
        name: "POSTERN_CONTROL_RATE",
        placeholder: "N",
        default: "20",
        group: Group::Limits,
        is_secret: false,
        help: "Pings, pongs and closes a second and connection, with twice as\n\
               many at once; more close with 1008; 0 is any number",
        apply: |settings, text| set(&mut session(settings).control_rate, number(text, 0..=MOST_A_SECOND)),
    },
    Setting {
        name: COMPRESSION,
        placeholder: "on|off",
        default: "off",
        group: Group::Limits,
        is_secret: false,
        help: "Whether permessage-deflate is agreed on when a client offers\n\
               it; pays for long, repetitive text, and costs time",
        apply: |settings, text| {
            set(&mut handshake(settings).compression, switch(text, [("on", true), ("off", false)]))
        },
    },
    Setting {
        name: COMPRESSION_MIN,
        placeholder: "SIZE",
        default: "64B",
        group: Group::Limits,
        is_secret: false,
        help: "The shortest message that is compressed; shorter ones, and\n\
               those that would not get shorter, go as they are;\n\
               0 compresses all",
        apply: |settings, text| set(&mut session(settings).compression_min, size(text, 0..=GIB)),
    },
    Setting {
        name: "POSTERN_MAX_BACKLOG",
        placeholder: "SIZE",
        default: "1MiB",
        group: Group::Limits,
        is_secret: false,
        help: "What may wait for a peer that reads too slowly, beyond it\n\
               4413; at a quarter of it its own messages wait too, or at\n\
               256KiB, or at the 64th part of POSTERN_MAX_MEMORY",
        apply: |settings, text| {
            let most = size(text, 1024..=GIB)?;
            session(settings).max_backlog = most;
            session(settings).pause_backlog = SessionConfig::default().pause_backlog.min(most / 4);
            Ok(())
        },
    },
    Setting {
        name: "POSTERN_WRITE_TIMEOUT",
        placeholder: "TIME",
        default: "10s",
        group: Group::Limits,
        is_secret: false,
        help: "How long a peer may take nothing of what waits for it before\n\
               it is dropped; 0 is for ever",
        apply: |settings, text| set(&mut session(settings).write_timeout, duration_or_off(text)),
    },
    Setting {
        name: "POSTERN_CLOSE_TIMEOUT",
        placeholder: "TIME",
        default: "5s",
        group: Group::Limits,
        is_secret: false,
        help: "How long a peer may take to answer a Close",
        apply: |settings, text| set(&mut session(settings).close_timeout, duration(text)),
    },
    Setting {
        name: "POSTERN_HANDSHAKE_TIMEOUT",
        placeholder: "TIME",
        default: "5s",
        group: Group::Limits,
        is_secret: false,
        help: "From the connection to the end of the request head, beyond it\n\
               408",
        apply: |settings, text| set(&mut handshake(settings).timeout, duration(text)),
    },
    Setting {
        name: "POSTERN_MAX_MEMORY",
        placeholder: "SIZE",
        default: "0",
        group: Group::Limits,
        is_secret: false,
        help: "What all connections together may hold of messages that are\n\
               not whole or not taken, beyond it the slowest are ended;\n\
               0 is half of this host's memory, or of the least limit on\n\
               this process (cgroup, ulimit -v, ulimit -d)",
        apply: |settings, text| set(&mut settings.worker.max_memory, size(text, 0..=MOST_MEMORY)),
    },
    Setting {
        name: MAX_HANDSHAKES,
        placeholder: "N",
        default: "4096",
        group: Group::Limits,
        is_secret: false,
        help: "Requests that may be arriving at a time; for one more, the one\n\
               that has taken the longest gets 503; at most a half of the\n\
               connections that the limit of open files allows; 0 is any\n\
               number",
        apply: |settings, text| set(&mut handshake(settings).max_handshakes, count(text, 0..=usize::MAX)),
    },
    Setting {
        name: "POSTERN_MAX_HEAD",
        placeholder: "SIZE",
        default: "16KiB",
        group: Group::Limits,
        is_secret: false,
        help: "The longest request head, beyond it 431; large cookies and\n\
               tokens stand in there",
        apply: |settings, text| set(&mut handshake(settings).max_head, size(text, 512..=1024 * 1024)),
    },
    Setting {
        name: "POSTERN_MAX_HEADERS",
        placeholder: "N",
        default: "100",
        group: Group::Limits,
        is_secret: false,
        help: "Header lines of a request, beyond them 431; 256 at most",
        apply: |settings, text| {
            set(&mut handshake(settings).max_headers, count(text, 1..=HandshakeConfig::MOST_HEADERS))
        },
    },
];

/// No host has more.
const MOST_MEMORY: usize = 1 << 50;

/// Rates above this are typing errors.
const MOST_A_SECOND: u32 = 1_000_000;
