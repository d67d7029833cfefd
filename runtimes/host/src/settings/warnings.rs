//! Warnings at start: settings that are accepted and have no effect, or an effect that is unlikely to be intended.
//!
//! One pass over the settings gives all warnings, for the log and for `--print-config`. A setting that only has an
//! effect together with others is a row of [`NEEDS`]; every other rule is a function in [`RULES`].

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use postern_core::handshake::parse_block;
use slog::Level;

use super::error::one_line;
use super::loaded::LoadedSettings;
use super::model::{Program, Settings};
use super::names::*;
use super::net;
use super::setting::{ResolvedSetting, Source};
use super::table::IDENTITY_HEADERS;
use super::tls;
use super::value::{show_duration, show_size};
use crate::listen::Address;
use postern_core::session::RatePolicy;

/// One warning: a sentence that begins with the name of a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning(String);

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Returns all warnings of settings that have been read without an error. `cores` is the number of event loops if no other
/// is set.
pub(super) fn find(program: &Program, loaded: &LoadedSettings, cores: NonZeroUsize) -> Vec<Warning> {
    let LoadedSettings { settings, texts, repeated, links } = loaded;
    let event_loops = if program.has_workers { settings.workers.unwrap_or(cores).get() } else { 1 };
    let view = View { program, settings, texts, event_loops };
    let repeated = repeated.iter().map(|(name, earlier, later)| {
        format!("{name} in line {earlier} of .env has no effect: line {later} sets it again; remove one of the two")
    });
    let needs = NEEDS.iter().filter_map(|needs| needs.check(&view));
    let rules = RULES.iter().flat_map(|rule| rule(&view));
    let sentences = repeated.chain(needs).chain(rules).chain(of_links(links));
    sentences.map(|sentence| Warning(one_line(&sentence))).collect()
}

/// Returns one warning of the names in the environment that Kubernetes or Docker made for a service, if there are any.
fn of_links(names: &[String]) -> Option<String> {
    let (first, others) = names.split_first()?;
    let (subject, are) = match others {
        [] => (first.clone(), "is a variable"),
        [other] => (format!("{first} and {other}"), "are variables"),
        others => (format!("{first} and {} others", others.len()), "are variables"),
    };
    Some(format!(
        "{subject} {are} that Kubernetes or Docker makes for a service, not a setting, and {} ignored; write \
         enableServiceLinks: false in the pod to be without",
        if others.is_empty() { "is" } else { "are" },
    ))
}

/// The input of a rule.
struct View<'s> {
    program: &'s Program,
    settings: &'s Settings,
    texts: &'s [ResolvedSetting],
    event_loops: usize,
}

impl View<'_> {
    fn chosen(&self, name: &str) -> Option<&ResolvedSetting> {
        self.texts.iter().find(|chosen| chosen.setting.name == name)
    }

    fn text(&self, name: &str) -> &str {
        self.chosen(name).map_or("", |chosen| &chosen.text)
    }

    /// Whether it was set to a value other than its default.
    fn is_set(&self, name: &str) -> bool {
        self.chosen(name).is_some_and(|chosen| {
            chosen.source != Source::Default && !chosen.text.eq_ignore_ascii_case(&chosen.setting.default)
        })
    }

    /// Whether its value disables something: empty, `off`, `false`, `no`, or zero.
    fn is_off(&self, name: &str) -> bool {
        let text = self.text(name).to_ascii_lowercase();
        let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let is_zero = !number.is_empty() && number.bytes().all(|byte| byte == b'0');
        is_zero || ["", "off", "false", "no"].contains(&&*text)
    }

    /// Returns `NAME=value` without secrets.
    fn show(&self, name: &str) -> String {
        let shown = self.chosen(name).map(|chosen| chosen.setting.show(&chosen.text));
        format!("{name}={}", shown.unwrap_or_default())
    }

    /// Returns the memory of one event loop for buffers. `None` if the host decides.
    fn memory_of_an_event_loop(&self) -> Option<usize> {
        self.settings.max_memory.map(|most| most.get() / self.event_loops)
    }

    /// Returns the items of a list.
    fn items(&self, name: &str) -> Vec<&str> {
        self.text(name).split(',').map(str::trim).filter(|item| !item.is_empty()).collect()
    }
}

/// A setting that has an effect only while at least one other is on.
struct Needs {
    setting: &'static str,
    needed: &'static [&'static str],
}

impl Needs {
    fn check(&self, view: &View<'_>) -> Option<String> {
        let Needs { setting, needed } = self;
        if !view.is_set(setting) || needed.iter().any(|name| !view.is_off(name)) {
            return None;
        }
        let state = |name: &&str| match view.text(name) {
            "" => format!("{name} is not set"),
            text => format!("{name} is {text}"),
        };
        let states: Vec<String> = needed.iter().map(state).collect();
        Some(format!(
            "{} has no effect while {}; set {}, or leave {setting} out",
            view.show(setting),
            states.join(" and "),
            needed.join(" or "),
        ))
    }
}

const NEEDS: &[Needs] = &[
    Needs { setting: USER_POLICY, needed: &[MAX_CONNECTIONS_PER_USER] },
    Needs { setting: MESSAGE_BURST, needed: &[MESSAGE_RATE] },
    Needs { setting: RATE_POLICY, needed: &[MESSAGE_RATE, BYTE_RATE] },
    Needs { setting: COMPRESSION_MIN, needed: &[COMPRESSION] },
    Needs { setting: PONG_TIMEOUT, needed: &[PING_INTERVAL] },
    Needs { setting: SECRET_HEADER, needed: &[SECRET, SECRET_FILE] },
    Needs { setting: TOKEN_JWKS_INSECURE, needed: &[TOKEN_JWKS] },
    Needs { setting: TOKEN_ISSUER, needed: &[JWT_SECRET, TOKEN_JWKS] },
    Needs { setting: TOKEN_AUDIENCE, needed: &[JWT_SECRET, TOKEN_JWKS] },
    Needs { setting: HOOK_CONCURRENCY, needed: &[HOOK_URL] },
    Needs { setting: AUTH_CACHE, needed: &[AUTH_URL] },
    Needs { setting: HOOK_SECRET, needed: &[HOOK_URL] },
    Needs { setting: HOOK_SECRET_FILE, needed: &[HOOK_URL] },
    Needs { setting: HOOK_TIMEOUT, needed: &[HOOK_URL] },
    Needs { setting: AMQP_EXCHANGE, needed: &[AMQP_URL, AMQP_URL_FILE] },
    Needs { setting: AMQP_QUEUE, needed: &[AMQP_URL, AMQP_URL_FILE] },
    Needs { setting: AMQP_PREFETCH, needed: &[AMQP_URL, AMQP_URL_FILE] },
    Needs { setting: AMQP_CA_FILE, needed: &[AMQP_URL, AMQP_URL_FILE] },
    Needs { setting: AMQP_CERT_FILE, needed: &[AMQP_URL, AMQP_URL_FILE] },
    Needs { setting: AMQP_KEY_FILE, needed: &[AMQP_URL, AMQP_URL_FILE] },
    Needs { setting: AMQP_DEAD_LETTER, needed: &[AMQP_URL, AMQP_URL_FILE] },
    Needs { setting: NATS_SUBJECT, needed: &[NATS_URL, NATS_URL_FILE] },
    Needs { setting: NATS_QUEUE, needed: &[NATS_URL, NATS_URL_FILE] },
    Needs { setting: NATS_CA_FILE, needed: &[NATS_URL, NATS_URL_FILE] },
    Needs { setting: NATS_CERT_FILE, needed: &[NATS_URL, NATS_URL_FILE] },
    Needs { setting: NATS_KEY_FILE, needed: &[NATS_URL, NATS_URL_FILE] },
    Needs { setting: API_KEY, needed: &[CONTROL] },
    Needs { setting: API_KEY_FILE, needed: &[CONTROL] },
];

/// Each returns a sentence for every case that it finds.
const RULES: &[fn(&View<'_>) -> Vec<String>] = &[
    port_beside_listen,
    settings_of_unix_sockets,
    proxies_without_a_network,
    host_bits,
    covered_networks,
    repeated_items,
    any_proxy,
    identity_beside_assertion,
    insecure_keys,
    short_secret,
    workers_of_a_single_loop,
    more_for_a_user_than_for_all,
    more_handshakes_than_connections,
    frames_and_messages,
    compression_of_nothing,
    memory,
    byte_rate,
    settings_of_redis,
    files_without_tls,
    sentinel_password_without_sentinels,
    messages_for_each_instance,
    messages_that_are_not_logged,
    drain,
    reachable_control,
];

fn port_beside_listen(view: &View<'_>) -> Vec<String> {
    let port = view.text(PORT).parse::<u16>().ok();
    let has_port = |address: &Address| matches!(address, Address::Tcp(tcp) if Some(tcp.port()) == port);
    let is_used = view.settings.listen.iter().any(has_port);
    let is_idle = view.chosen(PORT).is_some_and(|chosen| chosen.source != Source::Default) && !is_used;
    sentence(is_idle, || {
        format!(
            "{} has no effect because {} is set; leave PORT out, or write the port in POSTERN_LISTEN",
            view.show(PORT),
            view.show(LISTEN)
        )
    })
}

fn settings_of_unix_sockets(view: &View<'_>) -> Vec<String> {
    let has_unix = view.settings.listen.iter().any(|address| matches!(address, Address::Unix(_)));
    let idle = [LISTEN_MODE, LISTEN_OWNER].into_iter().filter(|name| !has_unix && view.is_set(name));
    idle.map(|name| {
        format!(
            "{} has no effect while POSTERN_LISTEN has no Unix socket; leave {name} out, or write an address such as \
             unix:/run/postern.sock",
            view.show(name)
        )
    })
    .collect()
}

fn proxies_without_a_network(view: &View<'_>) -> Vec<String> {
    let is_unix_alone = view.settings.listen.iter().all(|address| matches!(address, Address::Unix(_)));
    sentence(is_unix_alone && view.is_set(TRUSTED_PROXIES), || {
        format!(
            "{} has no effect while POSTERN_LISTEN has Unix sockets alone: their peers are trusted by \
             POSTERN_LISTEN_MODE; leave POSTERN_TRUSTED_PROXIES out",
            view.show(TRUSTED_PROXIES)
        )
    })
}

fn host_bits(view: &View<'_>) -> Vec<String> {
    let items = view.items(TRUSTED_PROXIES).into_iter();
    let wide = items.filter_map(|item| {
        let block = parse_block(item)?;
        let network = block.trunc();
        (network != block).then(|| {
            format!(
                "{TRUSTED_PROXIES} trusts the whole network {network} by {item}; write {network}, or {}/{} for that host \
                 alone",
                block.addr(),
                block.max_prefix_len()
            )
        })
    });
    wide.collect()
}

fn covered_networks(view: &View<'_>) -> Vec<String> {
    let blocks = |item: &str| net::proxies(item).map(|list| list.blocks().to_vec()).unwrap_or_default();
    let items = view.items(TRUSTED_PROXIES);
    let all: Vec<_> = items.iter().map(|item| blocks(item)).collect();
    let mut sentences = Vec::new();
    for (index, (item, narrow)) in items.iter().zip(&all).enumerate() {
        let covering = items.iter().zip(&all).enumerate().find(|(other, (_, wide))| {
            let is_covered = narrow.iter().all(|narrow| wide.iter().any(|wide| wide.contains(narrow)));
            // Of two equal items, the second is reported.
            let is_same = narrow.len() == wide.len() && narrow.iter().all(|block| wide.contains(block));
            *other != index && is_covered && !(is_same && index < *other)
        });
        if let Some((_, (wide, _))) = covering.filter(|_| !narrow.is_empty()) {
            sentences
                .push(format!("{TRUSTED_PROXIES}: {item} has no effect: {wide} includes it; leave it out"));
        }
    }
    sentences
}

fn repeated_items(view: &View<'_>) -> Vec<String> {
    let mut sentences = Vec::new();
    for name in [PATH, SUBPROTOCOLS, ALLOWED_ORIGINS, ASSERTION_AUDIENCE] {
        let mut seen = HashSet::new();
        let repeated = view.items(name).into_iter().filter(|item| !seen.insert(*item));
        sentences.extend(repeated.map(|item| {
            let item = view.chosen(name).map(|chosen| chosen.setting.show(item)).unwrap_or_default();
            format!("{name} has {item} twice; leave out one of the two")
        }));
    }
    sentences
}

fn any_proxy(view: &View<'_>) -> Vec<String> {
    let handshake = &view.settings.handshake;
    // With a signed identity, a client that reaches the port still needs a token.
    let is_open = handshake.trusted_proxies.trusts_any() && view.settings.assertion.is_none();
    sentence(is_open, || {
        let knows = knows_the_secret(view.settings);
        format!("{TRUSTED_PROXIES} trusts every peer: any client{knows} can be any user")
    })
}

fn identity_beside_assertion(view: &View<'_>) -> Vec<String> {
    if view.settings.assertion.is_none() {
        return Vec::new();
    }
    let settings = [IDENTITY].into_iter().chain(IDENTITY_HEADERS);
    let idle = settings.filter(|name| view.is_set(name));
    idle.map(|name| {
        format!(
            "{} has no effect while {} takes the identity from a signed token; leave one of the two out",
            view.show(name),
            view.show(ASSERTION)
        )
    })
    .collect()
}

fn short_secret(view: &View<'_>) -> Vec<String> {
    let length = view.text(JWT_SECRET).len();
    sentence((1..LEAST_SECRET).contains(&length), || {
        format!(
            "JWT_SECRET has {length} bytes: anyone who guesses it can make tokens for any channel; write at least \
             {LEAST_SECRET}, for example 64 hexadecimal digits"
        )
    })
}

fn insecure_keys(view: &View<'_>) -> Vec<String> {
    let scheme = view.text(ASSERTION_JWKS).get(..7).unwrap_or_default();
    let is_http = scheme.eq_ignore_ascii_case("http://");
    sentence(
        view.is_set(ASSERTION_JWKS_INSECURE) && !view.is_off(ASSERTION_JWKS_INSECURE) && !is_http,
        || {
            format!(
                "{} has no effect while {ASSERTION_JWKS} is not a URL of http, and certificates are checked as ever; leave it \
             out",
                view.show(ASSERTION_JWKS_INSECURE)
            )
        },
    )
}

fn workers_of_a_single_loop(view: &View<'_>) -> Vec<String> {
    sentence(
        !view.program.has_workers && view.settings.workers.is_some_and(|workers| workers.get() > 1),
        || {
            format!(
                "{} has no effect: {} has one event loop; leave it out",
                view.show(WORKERS),
                view.program.name
            )
        },
    )
}

fn more_for_a_user_than_for_all(view: &View<'_>) -> Vec<String> {
    let (all, user) = (view.settings.max_connections, view.settings.max_connections_per_user);
    sentence(all.zip(user).is_some_and(|(all, user)| user >= all), || {
        format!(
            "{} has no effect: {} is no more; write a smaller number",
            view.show(MAX_CONNECTIONS_PER_USER),
            view.show(MAX_CONNECTIONS)
        )
    })
}

fn more_handshakes_than_connections(view: &View<'_>) -> Vec<String> {
    let handshakes = view.settings.handshake.max_handshakes;
    let is_idle = view.is_set(MAX_HANDSHAKES)
        && view.settings.max_connections.is_some_and(|all| handshakes >= all.get());
    sentence(is_idle, || {
        format!(
            "{} has no effect: {} is no more; write a smaller number",
            view.show(MAX_HANDSHAKES),
            view.show(MAX_CONNECTIONS)
        )
    })
}

fn frames_and_messages(view: &View<'_>) -> Vec<String> {
    let session = &view.settings.session;
    let longest =
        session.max_frame.saturating_mul(usize::try_from(session.max_fragments).unwrap_or(usize::MAX));
    let mut sentences = sentence(session.max_frame > session.max_message, || {
        format!(
            "{} has no effect: a message is at most {}; write at most as much",
            view.show(MAX_FRAME),
            view.show(MAX_MESSAGE)
        )
    });
    sentences.extend(sentence(longest < session.max_message, || {
        format!(
            "{} cannot be reached: with {} and {} a message has at most {}",
            view.show(MAX_MESSAGE),
            view.show(MAX_FRAME),
            view.show(MAX_FRAGMENTS),
            show_size(longest)
        )
    }));
    sentences
}

fn compression_of_nothing(view: &View<'_>) -> Vec<String> {
    let session = &view.settings.session;
    let is_idle = view.settings.handshake.compression && session.compression_min > session.max_message;
    sentence(is_idle, || {
        format!(
            "{} compresses no message: a message is at most {}; write a smaller size",
            view.show(COMPRESSION_MIN),
            view.show(MAX_MESSAGE)
        )
    })
}

fn memory(view: &View<'_>) -> Vec<String> {
    let Some(share) = view.memory_of_an_event_loop() else { return Vec::new() };
    let workers = view.event_loops;
    let session = &view.settings.session;
    let (max_memory, max_message) = (view.show(MAX_MEMORY), view.show(MAX_MESSAGE));
    let for_each = match workers {
        1 => String::new(),
        _ => format!(" for each of the {workers} event loops"),
    };
    if share < session.max_message {
        let least = show_size(session.max_message.saturating_mul(workers));
        return vec![format!(
            "{max_memory} is less than one message of {max_message}{for_each}: such a message ends connections; write at \
             least {least}"
        )];
    }
    if share < LEAST_MEMORY {
        let least = show_size(LEAST_MEMORY.saturating_mul(workers));
        return vec![format!(
            "{max_memory} leaves {}{for_each}: a few messages at once end connections; write at least {least}",
            show_size(share)
        )];
    }
    sentence(view.is_set(MAX_BACKLOG) && session.max_backlog > share, || {
        format!(
            "{} cannot be reached: {max_memory} leaves {}{for_each}",
            view.show(MAX_BACKLOG),
            show_size(share)
        )
    })
}

fn byte_rate(view: &View<'_>) -> Vec<String> {
    let session = &view.settings.session;
    let (rate, message) = (session.byte_rate.per_second, session.max_message as u64);
    sentence(rate > 0 && rate < message, || {
        let follows = match session.rate_policy {
            RatePolicy::Pause => format!("such a message uses up {} s", message.div_ceil(rate)),
            RatePolicy::Close => "such a message closes its connection with 4429".to_owned(),
        };
        format!(
            "{} is less than one message of {} a second: {follows}; write a larger rate, or a smaller message",
            view.show(BYTE_RATE),
            view.show(MAX_MESSAGE)
        )
    })
}

fn settings_of_redis(view: &View<'_>) -> Vec<String> {
    let settings = [
        REDIS_URL,
        REDIS_PASSWORD,
        REDIS_PASSWORD_FILE,
        REDIS_SENTINEL_PASSWORD,
        REDIS_SENTINEL_PASSWORD_FILE,
        REDIS_CA_FILE,
        REDIS_CERT_FILE,
        REDIS_KEY_FILE,
        REDIS_PREFIX,
        REDIS_TIMEOUT,
        REDIS_PROBE,
        REDIS_QUEUE,
        ENGINE_DOWN,
        ENGINE_REQUIRED,
        REDIS_FAILOVER,
        POSITION_CHECK,
        RECOVER_RATE,
    ];
    let unused = |name: &&str| !view.settings.engine.is_redis && view.is_set(name);
    let describe = |name| {
        format!(
            "{} has no effect while {}; set {ENGINE}=redis, or leave {name} out",
            view.show(name),
            view.show(ENGINE)
        )
    };
    settings.into_iter().filter(unused).map(describe).collect()
}

fn files_without_tls(view: &View<'_>) -> Vec<String> {
    let redis = view.settings.engine.is_redis.then_some((tls::REDIS, REDIS_URL, "rediss"));
    let amqp = (!view.is_off(AMQP_URL)).then_some((tls::AMQP, AMQP_URL, "amqps"));
    let mut warnings = Vec::new();
    let nats = (!view.is_off(NATS_URL)).then_some((tls::NATS, NATS_URL, "tls"));
    for (names, url, scheme) in redis.into_iter().chain(amqp).chain(nats) {
        let unused = |name: &&str| !view.text(url).starts_with(scheme) && view.is_set(name);
        warnings.extend(names.into_iter().filter(unused).map(|name| {
            format!(
                "{} has no effect while {} is without TLS; write a URL with {scheme}, or leave {name} out",
                view.show(name),
                view.show(url)
            )
        }));
    }
    warnings
}

fn sentinel_password_without_sentinels(view: &View<'_>) -> Vec<String> {
    let has_sentinels = view.text(REDIS_URL).contains("+sentinel:");
    let unused = |name: &&str| view.settings.engine.is_redis && !has_sentinels && view.is_set(name);
    let names = [REDIS_SENTINEL_PASSWORD, REDIS_SENTINEL_PASSWORD_FILE].into_iter().filter(unused);
    names
        .map(|name| {
            format!(
                "{} has no effect while {} has no sentinels; write a URL with redis+sentinel, or leave {name} out",
                view.show(name),
                view.show(REDIS_URL)
            )
        })
        .collect()
}

fn messages_for_each_instance(view: &View<'_>) -> Vec<String> {
    let source = &view.settings.source;
    let brokers =
        [(source.amqp.is_some(), AMQP_MODE, "message_id"), (source.nats.is_some(), NATS_MODE, "Nats-Msg-Id")];
    let is_due = |(is_on, mode, _): &(bool, &str, &str)| {
        *is_on && view.settings.engine.is_redis && view.text(mode).eq_ignore_ascii_case("each")
    };
    let describe = |(_, mode, id): (bool, &str, &str)| {
        format!(
            "{} publishes each message without a {id} once for every instance, because all instances have the same channels with {}; write \
             {mode}=shared",
            view.show(mode),
            view.show(ENGINE)
        )
    };
    brokers.into_iter().filter(is_due).map(describe).collect()
}

fn messages_that_are_not_logged(view: &View<'_>) -> Vec<String> {
    let is_idle = view.is_set(LOG_MESSAGES)
        && !view.is_off(LOG_MESSAGES)
        && !Level::Info.is_at_least(view.settings.log.level);
    sentence(is_idle, || {
        format!(
            "{} has no effect while {} leaves out messages; write LOG_LEVEL=info, or leave POSTERN_LOG_MESSAGES out",
            view.show(LOG_MESSAGES),
            view.show(LOG_LEVEL)
        )
    })
}

fn drain(view: &View<'_>) -> Vec<String> {
    let drain = view.settings.drain;
    let left = drain.hard.saturating_sub(drain.grace);
    let milliseconds = |duration: Duration| usize::try_from(duration.as_millis()).unwrap_or(usize::MAX);
    if drain.spread <= left {
        return Vec::new();
    }
    let needed = show_duration(milliseconds(drain.grace + drain.spread));
    let (grace, spread, hard) = (view.show(DRAIN_GRACE), view.show(DRAIN_SPREAD), view.show(DRAIN_HARD));
    vec![match left {
        Duration::ZERO => format!(
            "{spread} has no effect: {hard} ends the process no later than {grace}; write POSTERN_DRAIN_HARD={needed} or \
             more"
        ),
        _ => format!(
            "{spread} is cut to {}, which is what {grace} leaves of {hard}; write POSTERN_DRAIN_HARD={needed} or more",
            show_duration(milliseconds(left))
        ),
    }]
}

fn reachable_control(view: &View<'_>) -> Vec<String> {
    let Some(address) = view.settings.control.address else { return Vec::new() };
    let ip = address.ip().to_canonical();
    let what = if ip.is_unspecified() {
        "listens on all addresses of this host"
    } else if is_public(ip) {
        "is a public address"
    } else {
        return Vec::new();
    };
    vec![format!(
        "{} {what}, and users must not reach the control port; write an address that only operators reach, for example \
         127.0.0.1:{}",
        view.show(CONTROL),
        address.port()
    )]
}

/// Returns the condition in a warning that a client or process can be any user, if there is a proxy secret.
pub(super) fn knows_the_secret(settings: &Settings) -> &'static str {
    if settings.handshake.proxy_secret.secrets.is_empty() { "" } else { " that knows the proxy secret" }
}

/// Whether an address may be reached from the internet: not one of this host, of a link or of a private network
/// (RFC 1918, RFC 6598, RFC 4193).
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let is_shared = ip.octets().starts_with(&[100]) && (64..128).contains(&ip.octets()[1]);
            !(ip.is_loopback() || ip.is_private() || ip.is_link_local() || is_shared)
        }
        IpAddr::V6(ip) => !(ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local()),
    }
}

fn sentence(is_due: bool, sentence: impl FnOnce() -> String) -> Vec<String> {
    if is_due { vec![sentence()] } else { Vec::new() }
}

/// RFC 7518 §3.2: a key for HS256 is as long as its hash.
const LEAST_SECRET: usize = 32;

/// An event loop with less memory closes connections in ordinary use.
const LEAST_MEMORY: usize = 512 * 1024;
