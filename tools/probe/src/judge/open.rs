//! An open connection: compression, the application, the round trip, the size of messages, the idle time-out.

use std::time::Duration;

use super::answer::Asked;
use super::codes;
use super::gateway::Kind;
use crate::net::websocket::Ended;
use crate::report::{Step, StepName};
use crate::time::latency;

/// Judges the negotiation of permessage-deflate.
pub(crate) fn compression(is_compressed: bool) -> Step {
    let text = if is_compressed {
        "permessage-deflate is negotiated, without context takeover"
    } else {
        "off: the server does not offer it (POSTERN_COMPRESSION=off), or a proxy removes Sec-WebSocket-Extensions"
    };
    Step::passed(StepName::Compression, text).with("negotiated", is_compressed)
}

/// The observation about the first message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ApplicationSeen {
    /// The server sends each message back.
    Echo,
    /// Channels: the version of the server, and the user's subscriptions.
    Channels {
        version: String,
        subscriptions: usize,
    },
    /// Channels, and an error reply to `connect`.
    ChannelsError {
        code: u64,
        message: String,
    },
    /// Another message.
    Other(String),
    Ended(Ended),
    Silent,
}

/// Judges the answer to the first message, which is a command `connect` of channels and also a text for an echo.
pub(crate) fn application(asked: &Asked<'_>, seen: &ApplicationSeen) -> Step {
    let failed = |text: String, advice: String| Step::failed(StepName::Application, text, advice);
    match seen {
        ApplicationSeen::Echo => Step::passed(StepName::Application, "echo: the server sends a message back")
            .with("application", "echo"),
        ApplicationSeen::Channels { version, subscriptions } => {
            let version = asked.redaction.show(version);
            let subscriptions = match subscriptions {
                0 => String::new(),
                1 => ", with 1 subscription of the server".to_owned(),
                count => format!(", with {count} subscriptions of the server"),
            };
            Step::passed(StepName::Application, format!("channels: connected to {version}{subscriptions}"))
                .with("application", "channels")
        }
        ApplicationSeen::ChannelsError { code, message } => {
            let advice = match code {
                101 => "the user is not authenticated: pass a connection token with --connect-token",
                109 => "the connection token has expired: get another one",
                103 => "this user may not connect",
                100 | 111 => "try again; see the log of Postern",
                _ => "see the log of Postern",
            };
            failed(
                format!(
                    "channels: `connect` fails with {code} \
                            {}",
                    asked.redaction.show(message)
                ),
                advice.to_owned(),
            )
        }
        ApplicationSeen::Other(text) => failed(
            format!("the answer is neither an echo nor a reply of channels: {}", asked.redaction.show(text)),
            "the path belongs to another application: connect to a path of POSTERN_PATH or \
             POSTERN_CHANNELS_PATH"
                .to_owned(),
        ),
        ApplicationSeen::Ended(ended) => failed(
            format!("the connection ends after the first message: {}", describe(asked, ended)),
            advice(asked, ended),
        ),
        ApplicationSeen::Silent => failed(
            "no answer to a message".to_owned(),
            "the path belongs to another application, or a proxy buffers messages".to_owned(),
        ),
    }
}

/// Judges the times from pings to their pongs. `missing` pings have no pong.
pub(crate) fn round_trip(asked: &Asked<'_>, times: &mut [Duration], ended: Option<&Ended>) -> Step {
    times.sort_unstable();
    let at = |percent: usize| times.get((times.len() * percent).div_ceil(100).saturating_sub(1)).copied();
    match (at(50), at(90), at(99), times.last(), ended) {
        (Some(p50), Some(p90), Some(p99), Some(max), None) => {
            let text = format!(
                "p50 {}, p90 {}, p99 {}, max {} of {} pings",
                latency(p50),
                latency(p90),
                latency(p99),
                latency(*max),
                times.len()
            );
            let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
            Step::passed(StepName::RoundTrip, text)
                .with("p50_us", micros(p50))
                .with("p90_us", micros(p90))
                .with("p99_us", micros(p99))
                .with("max_us", micros(*max))
        }
        (_, _, _, _, Some(ended)) => Step::failed(
            StepName::RoundTrip,
            format!("the connection ends after {} pings: {}", times.len(), describe(asked, ended)),
            advice(asked, ended),
        ),
        _ => Step::failed(
            StepName::RoundTrip,
            format!("a ping has no answer in time, after {} with one", times.len()),
            "a proxy buffers or drops frames, or the server is overloaded: check their load",
        ),
    }
}

/// The observation about a large message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SizeSeen {
    /// The size that should pass.
    pub(crate) wanted: usize,
    /// The largest size that passed.
    pub(crate) largest: usize,
    /// The end of the connection after a larger message. `None`: no answer in time.
    pub(crate) ended: Option<Ended>,
}

/// Judges the size of messages that pass.
pub(crate) fn size(asked: &Asked<'_>, seen: &SizeSeen) -> Step {
    let SizeSeen { wanted, largest, ended } = seen;
    let step = if largest >= wanted {
        Step::passed(StepName::Size, format!("a message of {} passes", bytes(*wanted)))
    } else {
        let text = format!(
            "a message of {} does not pass; the largest that does has {}",
            bytes(*wanted),
            bytes(*largest)
        );
        let (how, advice) = match ended {
            Some(ended @ Ended::Closed { .. }) => (describe(asked, ended), advice(asked, ended)),
            Some(ended) => (
                describe(asked, ended),
                "without a Close, the limit belongs to a proxy or a firewall on the path and not to Postern: \
                 find it in its settings".to_owned(),
            ),
            None => ("no answer in time".to_owned(), "raise --timeout, or find the proxy that buffers \
                messages".to_owned()),
        };
        Step::failed(StepName::Size, format!("{text}: {how}"), advice)
    };
    step.with("largest", *largest)
}

/// The observation about an idle connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IdleSeen {
    /// The time for which the connection should stay open.
    pub(crate) wanted: Duration,
    /// The number of pings of the server, and the time until the first.
    pub(crate) pings: usize,
    pub(crate) first_ping: Option<Duration>,
    /// The end, with the time since bytes arrived last.
    pub(crate) ended: Option<(Duration, Ended)>,
}

/// Judges an idle connection.
pub(crate) fn idle(asked: &Asked<'_>, seen: &IdleSeen) -> Step {
    let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
    let step = match &seen.ended {
        None => {
            let pings = match seen.first_ping {
                Some(first) => {
                    format!("the server sends {} pings, the first after {}", seen.pings, seconds(first))
                }
                None => "the server sends no ping in this time".to_owned(),
            };
            Step::passed(
                StepName::Idle,
                format!("open after {} without messages; {pings}", seconds(seen.wanted)),
            )
        }
        Some((silence, Ended::Lost(how))) => {
            let how = asked.redaction.show(how);
            let setting = asked.gateway.idle_timeout();
            let by =
                if asked.gateway.kind == Kind::Postern { "" } else { &*format!(" ({})", asked.gateway.name) };
            Step::failed(
                StepName::Idle,
                format!("a proxy ends the connection{by} after {} without traffic: {how}", seconds(*silence)),
                format!(
                    "raise {setting}, or set POSTERN_PING_INTERVAL to less than {} s, so that pings keep the \
                     connection open",
                    silence.as_secs()
                ),
            )
            .with("timeout_seconds", silence.as_secs_f64())
        }
        Some((silence, ended)) => Step::failed(
            StepName::Idle,
            format!(
                "the server ends the connection after {} without traffic: {}",
                seconds(*silence),
                describe(asked, ended)
            ),
            advice(asked, ended),
        ),
    };
    step.with("pings", seen.pings)
}

fn describe(asked: &Asked<'_>, ended: &Ended) -> String {
    match ended {
        Ended::Closed { code, reason } => {
            format!("Close {code} {}", asked.redaction.show(reason)).trim_end().to_owned()
        }
        Ended::Lost(how) => asked.redaction.show(how),
        Ended::Invalid(error) => format!("the server violates the protocol: {error}"),
    }
}

fn advice(asked: &Asked<'_>, ended: &Ended) -> String {
    match ended {
        Ended::Closed { code, reason } => codes::close(*code, reason, asked.gateway),
        Ended::Lost(_) => {
            "a proxy or the server ended the connection without a Close: see their logs for this time"
                .to_owned()
        }
        Ended::Invalid(_) => "a proxy changes frames: find it on the path".to_owned(),
    }
}

fn bytes(count: usize) -> String {
    match count {
        0..1024 => format!("{count} bytes"),
        _ if count.is_multiple_of(1024 * 1024) => format!("{} MiB", count / 1024 / 1024),
        _ if count.is_multiple_of(1024) => format!("{} KiB", count / 1024),
        _ => format!("{count} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::gateway::Gateway;
    use super::*;
    use crate::display::Redaction;
    use crate::report::Verdict;
    use crate::target::Target;

    fn judge(judge: impl FnOnce(&Asked<'_>) -> Step) -> Step {
        let target = Target::parse("ws://a/ws").unwrap();
        let gateway = Gateway { kind: Kind::Nginx, name: "nginx/1.22".to_owned() };
        let redaction = Redaction::default();
        judge(&Asked {
            target: &target,
            gateway: &gateway,
            has_credentials: true,
            origin: None,
            redaction: &redaction,
        })
    }

    #[track_caller]
    fn check(step: &Step, verdict: Verdict, text: &str, advice: &str) {
        assert_eq!(step.verdict, verdict, "{step:?}");
        assert!(step.text.contains(text) && step.advice.join("").contains(advice), "{step:?}");
    }

    fn closed(code: u16, reason: &str) -> Ended {
        Ended::Closed { code, reason: reason.to_owned() }
    }

    #[test]
    fn the_application_is_echo_or_channels() {
        let version = "postern 0.1.0".to_owned();
        for (seen, verdict, text, advice) in [
            (ApplicationSeen::Echo, Verdict::Passed, "echo", ""),
            (
                ApplicationSeen::Channels { version, subscriptions: 2 },
                Verdict::Passed,
                "0.1.0, with 2 subscriptions",
                "",
            ),
            (
                ApplicationSeen::ChannelsError { code: 109, message: "token expired".to_owned() },
                Verdict::Failed,
                "109 token expired",
                "another one",
            ),
            (ApplicationSeen::Other("hi\x1b".to_owned()), Verdict::Failed, "neither", "POSTERN_PATH"),
            (
                ApplicationSeen::Ended(closed(3500, "invalid token")),
                Verdict::Failed,
                "3500",
                "--connect-token",
            ),
            (ApplicationSeen::Ended(closed(4401, "first_message")), Verdict::Failed, "4401", "first message"),
            (ApplicationSeen::Silent, Verdict::Failed, "no answer", "buffers"),
        ] {
            check(&judge(|asked| application(asked, &seen)), verdict, text, advice);
        }
    }

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let mut times: Vec<_> = (1..=100).rev().map(Duration::from_millis).collect();
        let step = judge(|asked| round_trip(asked, &mut times, None));
        check(&step, Verdict::Passed, "p50 50.0 ms, p90 90.0 ms, p99 99.0 ms, max 100 ms of 100 pings", "");
        let mut one = [Duration::from_millis(2)];
        check(
            &judge(|asked| round_trip(asked, &mut one, None)),
            Verdict::Passed,
            "p50 2.00 ms, p90 2.00 ms",
            "",
        );
        check(&judge(|asked| round_trip(asked, &mut [], None)), Verdict::Failed, "no answer", "buffers");
        let ended = closed(1008, "too many control frames");
        check(
            &judge(|asked| round_trip(asked, &mut one, Some(&ended))),
            Verdict::Failed,
            "1008",
            "POSTERN_CONTROL_RATE",
        );
    }

    #[test]
    fn a_limit_of_a_size_belongs_to_postern_or_to_a_proxy() {
        let seen = |largest, ended| SizeSeen { wanted: 65_536, largest, ended };
        check(&judge(|asked| size(asked, &seen(65_536, None))), Verdict::Passed, "64 KiB passes", "");
        let ended = Some(closed(1009, "message too big"));
        let step = judge(|asked| size(asked, &seen(1024, ended)));
        check(
            &step,
            Verdict::Failed,
            "largest that does has 1 KiB: Close 1009 message too big",
            "POSTERN_MAX_MESSAGE",
        );
        let ended = Some(Ended::Lost("the connection was reset".to_owned()));
        check(
            &judge(|asked| size(asked, &seen(1000, ended))),
            Verdict::Failed,
            "1000 bytes",
            "not to Postern",
        );
        check(&judge(|asked| size(asked, &seen(1000, None))), Verdict::Failed, "in time", "--timeout");
    }

    #[test]
    fn an_idle_timeout_is_found() {
        let wanted = Duration::from_secs(60);
        let seen = |ended| IdleSeen { wanted, pings: 2, first_ping: Some(Duration::from_secs(25)), ended };
        let open = judge(|asked| idle(asked, &seen(None)));
        check(
            &open,
            Verdict::Passed,
            "open after 60.0 s without messages; the server sends 2 pings, the first after 25.0 s",
            "",
        );
        let lost = Ended::Lost("the connection ended without a Close".to_owned());
        let step = judge(|asked| idle(asked, &seen(Some((Duration::from_millis(5010), lost)))));
        check(
            &step,
            Verdict::Failed,
            "(nginx/1.22) after 5.0 s without traffic",
            "`proxy_read_timeout` of nginx",
        );
        check(&step, Verdict::Failed, "", "POSTERN_PING_INTERVAL to less than 5 s");
        let step = judge(|asked| idle(asked, &seen(Some((Duration::from_secs(1), closed(4408, "no pong"))))));
        check(&step, Verdict::Failed, "4408 no pong", "idle time-out");
    }
}
