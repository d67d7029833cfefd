//! All settings, in one table: `--help`, `--print-config`, the names that are known and the values that hold
//! are made from it.

use std::sync::Arc;

use postern_core::handshake::{HandshakeConfig, Reject};
use postern_core::session::SessionConfig;
use slog::Level;

use super::preset::{self, optional_header};
use super::value::{Complaint, GIB, boolean, choice, count, duration, duration_or_off, mode, size};
use super::{Settings, assertion, net, secret};
use crate::log::{EmailLog, LogFormat, MessageLog};

/// One setting.
#[derive(Debug)]
pub(super) struct Setting {
    /// Its name in the environment and in `.env`; the flag is made of it.
    pub(super) name: &'static str,
    /// What stands for the value in `--help`.
    pub(super) placeholder: &'static str,
    /// The text that holds if nobody gives another. May refer to a setting further up, as `$PORT`.
    pub(super) default: &'static str,
    /// Under which heading it stands.
    pub(super) group: Group,
    /// Whether its value must not be shown.
    pub(super) is_secret: bool,
    /// What it does, in lines short enough for a terminal.
    pub(super) help: &'static str,
    /// Reads a text and sets what it says, or says what is wrong with it.
    pub(super) apply: fn(&mut Settings, &str) -> Result<(), Complaint>,
}

impl Setting {
    /// The flag without its dashes: `POSTERN_MAX_HEAD` is `max-head`, `LOG_LEVEL` is `log-level`.
    pub(super) fn flag(&self) -> String {
        let name = self.name.strip_prefix(super::sources::PREFIX).unwrap_or(self.name);
        name.to_ascii_lowercase().replace('_', "-")
    }
}

/// A heading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    Listening,
    Identity,
    Limits,
    Log,
}

impl Group {
    pub(super) fn title(self) -> &'static str {
        match self {
            Group::Listening => "Listening",
            Group::Identity => "Identity",
            Group::Limits => "Limits",
            Group::Log => "Log",
        }
    }
}

/// Grouped, and within a group the ones that most people look for first.
pub(super) static SETTINGS: &[Setting] = &[
    Setting {
        name: "PORT",
        placeholder: "PORT",
        default: "8080",
        group: Group::Listening,
        is_secret: false,
        help: "The port, on all IPv4 addresses",
        // It only stands in the default of the next one.
        apply: |_, text| count(text, 0..=65_535).map(drop),
    },
    Setting {
        name: "POSTERN_LISTEN",
        placeholder: "ADDRESS,…",
        default: "0.0.0.0:$PORT",
        group: Group::Listening,
        is_secret: false,
        help: "Addresses with ports to listen on, instead of PORT;\n0.0.0.0:8080,[::]:8080 is both families, unix:/run/postern.sock a\n\
               Unix socket, whose peers are trusted: its mode says who they are",
        apply: |settings, text| set(&mut settings.listen, net::addresses(text)),
    },
    Setting {
        name: "POSTERN_LISTEN_MODE",
        placeholder: "MODE",
        default: "0660",
        group: Group::Listening,
        is_secret: false,
        help: "The mode of Unix sockets, in octal: who may write may connect",
        apply: |settings, text| set(&mut settings.socket_access.mode, mode(text)),
    },
    Setting {
        name: "POSTERN_LISTEN_OWNER",
        placeholder: "USER:GROUP",
        default: "",
        group: Group::Listening,
        is_secret: false,
        help: "To whom Unix sockets are given, by name or number; USER alone and\n:GROUP alone will do",
        apply: |settings, text| set(&mut settings.socket_access.owner, net::owner(text)),
    },
    Setting {
        name: "POSTERN_PATH",
        placeholder: "PATH,…",
        default: "/ws",
        group: Group::Listening,
        is_secret: false,
        help: "Where WebSockets are served; any other path is 404",
        apply: |settings, text| set(&mut handshake(settings).paths, net::paths(text)),
    },
    Setting {
        name: WORKERS,
        placeholder: "N",
        default: "0",
        group: Group::Listening,
        is_secret: false,
        help: "Event loops; 0 is one for each core",
        apply: |settings, text| set(&mut settings.workers, count(text, 0..=1024)),
    },
    Setting {
        name: IDENTITY,
        placeholder: "WHOSE",
        default: "user",
        group: Group::Identity,
        is_secret: false,
        help: "What the headers below are called unless they are set: user (as\n\
               shown), oauth2-proxy (X-Forwarded-User), authelia (Remote-User),\n\
               authentik (X-authentik-uid), pomerium (X-Pomerium-Claim-Sub)",
        // It only changes the defaults of the next ones.
        apply: |_, text| preset::check(text),
    },
    Setting {
        name: USER_ID,
        placeholder: "HEADER",
        default: "User-ID",
        group: Group::Identity,
        is_secret: false,
        help: "The header in which the gateway puts the user's id;\nan upgrade without it is 401",
        apply: |settings, text| set(&mut handshake(settings).identity.id, net::header_name(text)),
    },
    Setting {
        name: USER_EMAIL,
        placeholder: "HEADER",
        default: "User-Email",
        group: Group::Identity,
        is_secret: false,
        help: "The one for the e-mail address, for the log; optional",
        apply: |settings, text| set(&mut handshake(settings).identity.email, net::header_name(text)),
    },
    Setting {
        name: USER_NAME,
        placeholder: "HEADER",
        default: "User-Name",
        group: Group::Identity,
        is_secret: false,
        help: "The one for the display name, for the log; optional",
        apply: |settings, text| set(&mut handshake(settings).identity.name, net::header_name(text)),
    },
    Setting {
        name: USER_SESSION_ID,
        placeholder: "HEADER",
        default: "User-Session-ID",
        group: Group::Identity,
        is_secret: false,
        help: "The one for the id of the session; optional, a bad one is 400.\n\
               off reads none: for gateways that pass on a client's own",
        apply: |settings, text| {
            optional_header(handshake(settings), text, |handshake| &mut handshake.identity.session_id)
        },
    },
    Setting {
        name: TOKEN_EXP,
        placeholder: "HEADER",
        default: "User-Token-Exp",
        group: Group::Identity,
        is_secret: false,
        help: "The one for the end of the token, in seconds since 1970;\n\
               optional, anything else is 400; off reads none",
        apply: |settings, text| {
            optional_header(handshake(settings), text, |handshake| &mut handshake.identity.token_exp)
        },
    },
    Setting {
        name: ASSERTION,
        placeholder: "WHOSE",
        default: "off",
        group: Group::Identity,
        is_secret: false,
        help: "Take the identity from a signed token (JWT), not from those\n\
               headers: of pomerium, google-iap, cloudflare, custom, or off;\n\
               an upgrade without a valid one is 401",
        apply: |_, text| assertion::preset(text).map(drop),
    },
    Setting {
        name: ASSERTION_HEADER,
        placeholder: "HEADER",
        default: "",
        group: Group::Identity,
        is_secret: false,
        help: "The header with the token; only custom needs it",
        apply: |_, text| if_given(text, |text| net::header_name(text).map(drop)),
    },
    Setting {
        name: ASSERTION_ISSUER,
        placeholder: "TEXT",
        default: "",
        group: Group::Identity,
        is_secret: false,
        help: "Who signs (iss): the host of the route for pomerium,\n\
               https://TEAM.cloudflareaccess.com for cloudflare",
        apply: |_, _| Ok(()),
    },
    Setting {
        name: ASSERTION_AUDIENCE,
        placeholder: "TEXT,…",
        default: "",
        group: Group::Identity,
        is_secret: false,
        help: "For whom (aud); the token must name one of these. pomerium\n\
               needs none: there it is the host of the route",
        apply: |_, text| if_given(text, |text| net::words(text).map(drop)),
    },
    Setting {
        name: ASSERTION_JWKS,
        placeholder: "URL|FILE",
        default: "",
        group: Group::Identity,
        is_secret: false,
        help: "The issuer's keys; only custom needs it. A URL of https, or\n\
               of http on this host; or a file, read again when it changes",
        apply: |_, text| if_given(text, |text| assertion::keys(text).map(drop)),
    },
    Setting {
        name: ASSERTION_ID_CLAIM,
        placeholder: "NAME",
        default: "sub",
        group: Group::Identity,
        is_secret: false,
        help: "The claim with the user's id; must be a text",
        apply: |_, text| assertion::claim(text),
    },
    Setting {
        name: ASSERTION_EMAIL_CLAIM,
        placeholder: "NAME",
        default: "email",
        group: Group::Identity,
        is_secret: false,
        help: "The one with the e-mail address, for the log; optional",
        apply: |_, text| assertion::claim(text),
    },
    Setting {
        name: ASSERTION_NAME_CLAIM,
        placeholder: "NAME",
        default: "name",
        group: Group::Identity,
        is_secret: false,
        help: "The one with the display name, for the log; optional",
        apply: |_, text| assertion::claim(text),
    },
    Setting {
        name: "POSTERN_TRUSTED_PROXIES",
        placeholder: "CIDR,…",
        default: "loopback",
        group: Group::Identity,
        is_secret: false,
        help: "Peers whose word about a user is taken; others are 403. Blocks\n\
               such as 10.0.0.0/8, and loopback (this host), private\n\
               (RFC 1918, fc00::/7), any (whoever reaches the port)",
        apply: |settings, text| set(&mut handshake(settings).trusted_proxies, net::proxies(text)),
    },
    Setting {
        name: secret::SECRET,
        placeholder: "SECRET,…",
        default: "",
        group: Group::Identity,
        is_secret: true,
        help: "What a trusted proxy must send beside that, at least 16 characters;\n\
               several are for the time in which one replaces another. Not as a\n\
               flag: other users of the host see those",
        apply: |settings, text| secret::apply(&mut handshake(settings).proxy_secret, text),
    },
    Setting {
        name: secret::SECRET_FILE,
        placeholder: "PATH",
        default: "",
        group: Group::Identity,
        is_secret: false,
        help: "A file with that instead",
        apply: |settings, text| secret::apply_file(&mut handshake(settings).proxy_secret, text),
    },
    Setting {
        name: SECRET_HEADER,
        placeholder: "HEADER",
        default: "X-Postern-Secret",
        group: Group::Identity,
        is_secret: false,
        help: "The header in which it is sent, in exactly one line; else 403",
        apply: |settings, text| set(&mut handshake(settings).proxy_secret.header, net::header_name(text)),
    },
    Setting {
        name: "POSTERN_ALLOWED_ORIGINS",
        placeholder: "ORIGIN,…",
        default: "",
        group: Group::Identity,
        is_secret: false,
        help: "Pages that may connect beside those of the same host, such as\n\
               https://app.example.com; * is all; others are 403",
        apply: |settings, text| set(&mut handshake(settings).allowed_origins, net::origins(text)),
    },
    Setting {
        name: "POSTERN_REJECT",
        placeholder: "HOW",
        default: "http",
        group: Group::Identity,
        is_secret: false,
        help: "How 401, 403 and 429 are said: http, or close, which admits nobody\n\
               but opens the connection to close it with 4401, 4403 or 4430, for\n\
               pages: browsers show them no status",
        apply: |settings, text| {
            let choices = [("http", Reject::Http), ("close", Reject::Close)];
            set(&mut handshake(settings).reject, choice(text, &choices))
        },
    },
    Setting {
        name: "POSTERN_STRICT_KEY",
        placeholder: "true|false",
        default: "false",
        group: Group::Identity,
        is_secret: false,
        help: "Admit only a Sec-WebSocket-Key of exactly 16 bytes, as\n\
               RFC 6455 demands; a widespread curl recipe sends 13",
        apply: |settings, text| set(&mut handshake(settings).strict_key, boolean(text)),
    },
    Setting {
        name: "POSTERN_MAX_CONNECTIONS",
        placeholder: "N",
        default: "0",
        group: Group::Limits,
        is_secret: false,
        help: "Connections at a time, beyond them 503; 0 is as many as the limit\n\
               of open files allows, which is raised at start (ulimit -Hn)",
        apply: |settings, text| set(&mut settings.max_connections, count(text, 0..=usize::MAX)),
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
        apply: |settings, text| {
            let most = usize::try_from(u32::MAX).unwrap_or(usize::MAX);
            let fragments = count(text, 1..=most)?;
            set(
                &mut session(settings).max_fragments,
                u32::try_from(fragments).map_err(|_| "not a number".into()),
            )
        },
    },
    Setting {
        name: "POSTERN_MESSAGE_TIMEOUT",
        placeholder: "TIME",
        default: "30s",
        group: Group::Limits,
        is_secret: false,
        help: "From the first byte of a message to its last, beyond it 1008;\n0 is for ever",
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
        apply: |settings, text| {
            let rate = count(text, 0..=1_000_000)?;
            set(&mut session(settings).control_rate, u32::try_from(rate).map_err(|_| "not a number".into()))
        },
    },
    Setting {
        name: "POSTERN_COMPRESSION",
        placeholder: "on|off",
        default: "off",
        group: Group::Limits,
        is_secret: false,
        help: "Whether permessage-deflate is agreed on when a client offers it;\n\
               pays for long, repetitive text, and costs time",
        apply: |settings, text| {
            set(&mut handshake(settings).compression, choice(text, &[("on", true), ("off", false)]))
        },
    },
    Setting {
        name: "POSTERN_COMPRESSION_MIN",
        placeholder: "SIZE",
        default: "64B",
        group: Group::Limits,
        is_secret: false,
        help: "The shortest message that is compressed; shorter ones, and those\n\
               that would not get shorter, go as they are; 0 compresses all",
        apply: |settings, text| set(&mut session(settings).compression_min, size(text, 0..=GIB)),
    },
    Setting {
        name: "POSTERN_MAX_BACKLOG",
        placeholder: "SIZE",
        default: "1MiB",
        group: Group::Limits,
        is_secret: false,
        help: "What may wait for a peer that reads too slowly, beyond it 4413;\n\
               at a quarter of it, 256KiB at most, its own messages wait too",
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
        help: "How long a peer may take nothing of what waits for it before it\nis dropped; 0 is for ever",
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
        help: "From the connection to the end of the request head, beyond it 408",
        apply: |settings, text| set(&mut handshake(settings).timeout, duration(text)),
    },
    Setting {
        name: "POSTERN_MAX_HEAD",
        placeholder: "SIZE",
        default: "16KiB",
        group: Group::Limits,
        is_secret: false,
        help: "The longest request head, beyond it 431; large cookies and tokens\nstand in there",
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
    Setting {
        name: "LOG_LEVEL",
        placeholder: "LEVEL",
        default: "info",
        group: Group::Log,
        is_secret: false,
        help: "trace, debug, info, warn, error or critical; connections and\nmessages are info, refusals are warn",
        apply: |settings, text| set(&mut settings.log.level, choice(text, LEVELS)),
    },
    Setting {
        name: "LOG_FORMAT",
        placeholder: "FORMAT",
        default: "term",
        group: Group::Log,
        is_secret: false,
        help: "term, or json with one object a line",
        apply: |settings, text| {
            set(
                &mut settings.log.format,
                choice(text, &[("term", LogFormat::Term), ("json", LogFormat::Json)]),
            )
        },
    },
    Setting {
        name: "POSTERN_LOG_MESSAGES",
        placeholder: "HOW",
        default: "truncated",
        group: Group::Log,
        is_secret: false,
        help: "What is logged of each message: full, truncated (256 bytes),\nsize, or off",
        apply: |settings, text| {
            let choices = [
                ("full", MessageLog::Full),
                ("truncated", MessageLog::Truncated),
                ("size", MessageLog::Size),
                ("off", MessageLog::Off),
            ];
            set(&mut settings.log.messages, choice(text, &choices))
        },
    },
    Setting {
        name: "POSTERN_LOG_EMAIL",
        placeholder: "HOW",
        default: "full",
        group: Group::Log,
        is_secret: false,
        help: "What is logged of e-mail addresses: full, masked (j***@e***.com),\nor off",
        apply: |settings, text| {
            let choices = [("full", EmailLog::Full), ("masked", EmailLog::Masked), ("off", EmailLog::Off)];
            set(&mut settings.log.email, choice(text, &choices))
        },
    },
];

/// The settings of the headers that are believed: no two of them may name the same header.
pub(super) const IDENTITY_HEADERS: [&str; 6] =
    [USER_ID, USER_EMAIL, USER_NAME, USER_SESSION_ID, TOKEN_EXP, SECRET_HEADER];

/// The setting that only a program with several workers obeys.
pub(super) const WORKERS: &str = "POSTERN_WORKERS";

/// The setting that names the preset of the identity headers.
pub(super) const IDENTITY: &str = "POSTERN_IDENTITY";

pub(super) const USER_ID: &str = "POSTERN_USER_ID_HEADER";
pub(super) const USER_EMAIL: &str = "POSTERN_USER_EMAIL_HEADER";
pub(super) const USER_NAME: &str = "POSTERN_USER_NAME_HEADER";
pub(super) const USER_SESSION_ID: &str = "POSTERN_USER_SESSION_ID_HEADER";
pub(super) const TOKEN_EXP: &str = "POSTERN_USER_TOKEN_EXP_HEADER";
const SECRET_HEADER: &str = "POSTERN_PROXY_SECRET_HEADER";

/// The switch of the signed identity, with which the names of its other settings begin.
pub(super) const ASSERTION: &str = "POSTERN_ASSERTION";
pub(super) const ASSERTION_HEADER: &str = "POSTERN_ASSERTION_HEADER";
pub(super) const ASSERTION_ISSUER: &str = "POSTERN_ASSERTION_ISSUER";
pub(super) const ASSERTION_AUDIENCE: &str = "POSTERN_ASSERTION_AUDIENCE";
pub(super) const ASSERTION_JWKS: &str = "POSTERN_ASSERTION_JWKS";
pub(super) const ASSERTION_ID_CLAIM: &str = "POSTERN_ASSERTION_ID_CLAIM";
pub(super) const ASSERTION_EMAIL_CLAIM: &str = "POSTERN_ASSERTION_EMAIL_CLAIM";
pub(super) const ASSERTION_NAME_CLAIM: &str = "POSTERN_ASSERTION_NAME_CLAIM";

const LEVELS: &[(&str, Level)] = &[
    ("trace", Level::Trace),
    ("debug", Level::Debug),
    ("info", Level::Info),
    ("warn", Level::Warning),
    ("error", Level::Error),
    ("critical", Level::Critical),
];

fn handshake(settings: &mut Settings) -> &mut HandshakeConfig {
    &mut settings.service.handshake
}

fn session(settings: &mut Settings) -> &mut SessionConfig {
    // Nobody shares it while settings are read, so nothing is cloned.
    Arc::make_mut(&mut settings.service.session)
}

/// Checks a text that may be left out.
fn if_given(text: &str, check: fn(&str) -> Result<(), Complaint>) -> Result<(), Complaint> {
    if text.is_empty() { Ok(()) } else { check(text) }
}

fn set<T>(place: &mut T, value: Result<T, Complaint>) -> Result<(), Complaint> {
    *place = value?;
    Ok(())
}
