//! The answer to an upgrade request.

use serde_json::Value;

use super::codes;
use super::gateway::{Gateway, Kind};
use crate::display::Redaction;
use crate::net::http::{Answer, NoAnswer};
use crate::net::websocket::Ended;
use crate::report::{Step, StepName};
use crate::target::Target;

/// The observation about an upgrade request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum UpgradeSeen {
    /// A 101, and a Pong in answer to a Ping.
    Accepted {
        subprotocol: Option<String>,
        /// `X-Request-Id` of the 101.
        request_id: Option<String>,
    },
    Refused(Answer),
    /// A 101 that does not answer the request, and the reason.
    Invalid(String),
    NoAnswer(NoAnswer),
    /// A 101, and the end of the connection before the Pong.
    Ended(Ended),
    /// A 101, and no Pong in time.
    Silent,
}

/// The request, as far as remedies depend on it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) target: &'a Target,
    pub(crate) gateway: &'a Gateway,
    pub(crate) has_credentials: bool,
    pub(crate) origin: Option<&'a str>,
    pub(crate) redaction: &'a Redaction,
}

/// Returns the code and the text in the body of an answer in the form of Postern and of the development Identity service.
fn coded(answer: &Answer) -> Option<(String, String)> {
    let body: Value = serde_json::from_str(&answer.body).ok()?;
    let error = body.get("error")?;
    let text = |name: &str| error.get(name).and_then(Value::as_str).map(str::to_owned);
    Some((text("code")?, text("message").unwrap_or_default()))
}

/// Returns the code of an answer if Postern has written it, and not Identity. Both write the same answer for an expired token.
pub(crate) fn postern_code(answer: &Answer) -> Option<String> {
    let (code, message) = coded(answer)?;
    let any = Gateway { kind: Kind::Other, name: String::new() };
    let is_identity = code == "token_expired" || code == "token_missing" && !message.starts_with("no token");
    (codes::refusal(&code, &any).is_some() && !is_identity).then_some(code)
}

/// Judges the answer to a request without credentials, if the request with credentials was judged as `is_open`. `None` if it has
/// the same fault as that one.
pub(crate) fn access(asked: &Asked<'_>, seen: &UpgradeSeen, is_open: bool) -> Option<Step> {
    let passed = |text: String| Some(Step::passed(StepName::Access, text));
    match seen {
        UpgradeSeen::Refused(answer) if postern_code(answer).as_deref() == Some("identity_missing") => {
            if asked.gateway.kind == Kind::Postern {
                passed("without identity headers, Postern refuses the upgrade with 401".to_owned())
            } else if is_open {
                let step = passed("without credentials, Postern refuses the upgrade with 401".to_owned())?;
                Some(step.advise(
                    "the gateway passes requests without credentials on: it must remove identity headers that clients send \
                     (SECURITY.md, Gateways)",
                ))
            } else {
                Some(Step::failed(
                    StepName::Access,
                    "the gateway does not ask Identity: it passes a request without credentials on to Postern",
                    asked.gateway.add_identity(),
                ))
            }
        }
        UpgradeSeen::Refused(answer) if matches!(answer.status, 301..=303 | 307 | 308 | 401 | 403) => {
            passed(format!("without credentials, the upgrade is refused: {}", describe(asked, answer)))
        }
        UpgradeSeen::Accepted { .. } => {
            let step = passed("the upgrade needs no credentials".to_owned())?;
            Some(step.advise(
                "this is right for POSTERN_FIRST_MESSAGE_PATH, whose clients send a token later; otherwise \
                 check the gateway",
            ))
        }
        UpgradeSeen::Ended(Ended::Closed { code: code @ 4000.., reason }) => {
            let reason = asked.redaction.show(reason);
            passed(format!("without credentials, the connection is closed with {code} {reason}"))
        }
        UpgradeSeen::Refused(_)
        | UpgradeSeen::Ended(_)
        | UpgradeSeen::Invalid(_)
        | UpgradeSeen::NoAnswer(_)
        | UpgradeSeen::Silent => None,
    }
}

/// Judges the answer to an upgrade request.
pub(crate) fn upgrade(asked: &Asked<'_>, seen: &UpgradeSeen) -> Step {
    let failed = |text: String, advice: String| Step::failed(StepName::Upgrade, text, advice);
    match seen {
        UpgradeSeen::Accepted { subprotocol, request_id, .. } => {
            let mut text = "101, and the server answers a ping".to_owned();
            if let Some(subprotocol) = subprotocol {
                text.push_str(&format!("; subprotocol {}", asked.redaction.show(subprotocol)));
            }
            if let Some(id) = request_id {
                text.push_str(&format!("; request id {}", asked.redaction.show(id)));
            }
            Step::passed(StepName::Upgrade, text).with("status", 101).with("request_id", request_id.clone())
        }
        UpgradeSeen::Refused(answer) => {
            let code = coded(answer).map(|(code, _)| asked.redaction.show(&code));
            failed(describe(asked, answer), advice(asked, answer)).with("status", answer.status).with("code", code)
        }
        UpgradeSeen::Invalid(reason) => failed(
            format!("101, but {reason}"),
            "a proxy or a cache answers instead of the server, or changes the headers of the 101: find it on \
             the path".to_owned(),
        ),
        UpgradeSeen::NoAnswer(NoAnswer::Closed) => failed(
            "the connection is closed without an answer".to_owned(),
            "the gateway or a firewall ends upgrades: check its log for this request".to_owned(),
        ),
        UpgradeSeen::NoAnswer(NoAnswer::TimedOut) => failed(
            "no answer in time".to_owned(),
            "Identity or Postern does not answer the gateway: check `docker ps`, and the addresses in the \
             gateway's configuration".to_owned(),
        ),
        UpgradeSeen::NoAnswer(NoAnswer::NotHttp(_)) => {
            failed("the answer is not HTTP/1.1".to_owned(), "find the proxy that answers with other \
                bytes".to_owned())
        }
        UpgradeSeen::NoAnswer(NoAnswer::Broken(error)) => failed(asked.redaction.show(error), "check the \
            network".to_owned()),
        UpgradeSeen::Ended(Ended::Closed { code, reason }) => {
            let shown = asked.redaction.show(reason);
            failed(format!("101, then a Close with {code} {shown}"), codes::close(*code, reason, asked.gateway))
                .with("close_code", *code)
                .with("code", codes::refusal(reason, asked.gateway).map(|_| reason.clone()))
        }
        UpgradeSeen::Ended(Ended::Lost(error)) => failed(
            format!("101, then {}", asked.redaction.show(error)),
            "a proxy passes the 101 on, and no frames after it: check that it has no buffering and no short \
             time-out".to_owned(),
        ),
        UpgradeSeen::Ended(Ended::Invalid(error)) => failed(
            format!("101, then bytes that are not a frame: {error}"),
            "a proxy changes the bytes after the 101: find it on the path".to_owned(),
        ),
        UpgradeSeen::Silent => failed(
            "101, and no answer to a ping".to_owned(),
            "a proxy passes the 101 on, and no frames after it: check that it does not buffer".to_owned(),
        ),
    }
}

/// Describes an answer in one line.
pub(super) fn describe(asked: &Asked<'_>, answer: &Answer) -> String {
    let status = answer.status;
    if let Some((code, message)) = coded(answer) {
        let by = if postern_code(answer).is_some() { " by Postern" } else { "" };
        return format!("{status}{by}, {}: {}", asked.redaction.show(&code), asked.redaction.show(&message));
    }
    if let Some(location) = answer.header("location") {
        // The query of a log-in page may contain state.
        let location = location.split(['?', '#']).next().unwrap_or_default();
        return format!("{status}, a redirect to {}", asked.redaction.show(location));
    }
    let body = asked.redaction.show(&answer.body);
    let is_text = !body.is_empty() && !body.starts_with('<');
    let from =
        if asked.gateway.kind == Kind::Postern { "" } else { &*format!(" from {}", asked.gateway.name) };
    if is_text { format!("{status}{from}: {body}") } else { format!("{status}{from}") }
}

/// Returns what to do about an answer.
fn advice(asked: &Asked<'_>, answer: &Answer) -> String {
    let gateway = asked.gateway;
    if let Some((code, message)) = coded(answer)
        && code == "not_found"
        && message.contains("/livez")
    {
        return "this is the control port (POSTERN_CONTROL): connect to the port for clients \
                (POSTERN_LISTEN), or to the gateway"
            .to_owned();
    }
    if let Some(code) = postern_code(answer) {
        if code == "origin_not_allowed"
            && let Some(origin) = asked.origin.filter(|origin| *origin != asked.target.origin())
        {
            return format!(
                "add {} to POSTERN_ALLOWED_ORIGINS, if pages of that origin are yours",
                asked.redaction.show(origin)
            );
        }
        return codes::refusal(&code, gateway).unwrap_or_default();
    }
    let identity = coded(answer).map(|(code, _)| code);
    match answer.status {
        200..=299 => format!(
            "the server does not treat the request as an upgrade: {}; or the path belongs to another service",
            gateway.pass_upgrade()
        ),
        300..=399 => {
            let location = answer.header("location").unwrap_or_default();
            if location.starts_with("https:") && !asked.target.is_tls {
                "use wss:// instead of ws://".to_owned()
            } else {
                "WebSocket clients do not follow redirects. If it is a log-in page, pass the session with \
                 --cookie; otherwise connect to \
                 the URL of the redirect"
                    .to_owned()
            }
        }
        400 => format!("the gateway or a proxy refuses the request: see its log; {}", gateway.pass_upgrade()),
        401 if !asked.has_credentials => {
            "log in, and pass the token with --token or --cookie; or let the probe log in with --login-url and \
             --login-body".to_owned()
        }
        401 if identity.as_deref() == Some("token_missing") => {
            "the gateway does not pass the token on to Identity: Traefik needs `Authorization`, `Cookie` and \
             `Sec-WebSocket-Protocol` in \
             authRequestHeaders; or Identity expects it in another place"
                .to_owned()
        }
        401 if identity.as_deref() == Some("token_expired") => {
            "log in again for a new token. If new tokens have expired as well, compare the clocks of all \
             hosts".to_owned()
        }
        401 => "Identity refuses the token: log in again. It may be truncated, or signed with another \
                JWT_SECRET than Identity has".to_owned(),
        403 => "Identity, the gateway or a firewall forbids this: see the log of the gateway, and whether this \
                user may connect".to_owned(),
        404 => gateway.route(&asked.target.path),
        405 | 426 | 501 => format!("a proxy on the path does not pass upgrades on: {}", gateway.pass_upgrade()),
        408 | 504 => {
            "Identity or Postern does not answer the gateway in time: check whether both run, and their \
             addresses".to_owned()
        }
        413 | 414 | 431 => {
            "the gateway limits the size of requests: send shorter cookies and tokens, or raise the limit (nginx \
             `large_client_header_buffers`, HAProxy `tune.bufsize`)"
                .to_owned()
        }
        429 => "the gateway limits the rate of requests: wait, or raise its limit".to_owned(),
        500 => {
            "Traefik and nginx answer 500 if they cannot reach Identity: check whether it runs (`docker ps | \
             grep identity`), and its \
             address in the gateway's configuration"
                .to_owned()
        }
        502 => {
            "the gateway cannot reach Postern: check whether it runs (`docker ps | grep websocket`, `postern \
             healthcheck`), and its address \
             in the gateway's configuration. In a container, 127.0.0.1 is the gateway itself: both need a \
             common network (`docker network \
             inspect`)"
                .to_owned()
        }
        503 => {
            "the gateway has no healthy server for this path, or Identity does not answer: check whether both \
             run, and their addresses".to_owned()
        }
        _ => "see the log of the gateway for this status".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use postern_core::session::ProtocolError;

    use super::*;
    use crate::report::Verdict;

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, headers: Vec::new(), body: body.to_owned() }
    }

    fn error(status: u16, code: &str, message: &str) -> Answer {
        answer(status, &serde_json::json!({ "error": { "code": code, "message": message } }).to_string())
    }

    /// Judges with a gateway of this kind.
    fn judge<R>(kind: Kind, has_credentials: bool, judge: impl FnOnce(&Asked<'_>) -> R) -> R {
        let target = Target::parse("ws://chat.example.com/ws").unwrap();
        let gateway = Gateway { kind, name: "the gateway".to_owned() };
        let mut redaction = Redaction::default();
        redaction.add("secret-token");
        let origin = Some("https://app.example.com");
        judge(&Asked { target: &target, gateway: &gateway, has_credentials, origin, redaction: &redaction })
    }

    #[test]
    fn each_answer_has_a_remedy() {
        let redirect =
            |to: &str| Answer { headers: vec![("location".to_owned(), to.to_owned())], ..answer(302, "") };
        for (kind, has_credentials, answer, text, advice) in [
            (
                Kind::Traefik,
                true,
                answer(404, "404 page not found"),
                "404 from the gateway: 404 page",
                "Path(`/ws`)",
            ),
            (Kind::Nginx, true, answer(404, "<html>"), "404 from the gateway", "`location` for /ws"),
            (Kind::Postern, true, error(404, "not_found", "the paths are /livez"), "404", "control port"),
            (
                Kind::Postern,
                true,
                error(404, "not_found", "x"),
                "404 by Postern, not_found: x",
                "POSTERN_PATH",
            ),
            (
                Kind::Traefik,
                false,
                error(401, "token_missing", "send a token"),
                "401, token_missing: send",
                "--token",
            ),
            (
                Kind::Traefik,
                true,
                error(401, "token_missing", "send a token"),
                "401, token_missing",
                "authRequestHeaders",
            ),
            (
                Kind::Traefik,
                true,
                error(401, "token_missing", "no token: the gateway"),
                "by Postern",
                "POSTERN_REVALIDATE",
            ),
            (Kind::Traefik, true, error(401, "token_invalid", "x"), "401, token_invalid", "JWT_SECRET"),
            (Kind::Traefik, true, error(401, "token_expired", "x"), "401", "log in again"),
            (Kind::Nginx, true, error(401, "identity_missing", "x"), "by Postern", "auth_request_set"),
            (Kind::Nginx, true, error(400, "upgrade_missing", "x"), "by Postern", "proxy_set_header Upgrade"),
            (
                Kind::Nginx,
                true,
                error(426, "websocket_version", "x"),
                "426 by Postern",
                "Sec-WebSocket-Version: 13",
            ),
            (Kind::Other, true, answer(426, ""), "426", "does not pass upgrades on"),
            (
                Kind::Traefik,
                true,
                error(403, "origin_not_allowed", "x"),
                "403",
                "https://app.example.com to POSTERN_ALLOWED_ORIGINS",
            ),
            (Kind::Traefik, true, error(403, "peer_not_trusted", "x"), "403", "POSTERN_TRUSTED_PROXIES"),
            (Kind::Traefik, true, answer(403, ""), "403", "Identity"),
            (Kind::Traefik, true, answer(500, ""), "500", "docker ps | grep identity"),
            (Kind::Traefik, true, answer(502, "Bad Gateway"), "502", "docker ps | grep websocket"),
            (Kind::Traefik, true, answer(503, ""), "503", "healthy"),
            (Kind::Traefik, true, answer(200, "<html>"), "200", "another service"),
            (
                Kind::Traefik,
                true,
                redirect("https://chat.example.com/ws?a=b"),
                "redirect to https://chat.example.com/ws",
                "wss://",
            ),
            (Kind::Traefik, true, redirect("/login?state=1"), "redirect to /login", "--cookie"),
            (Kind::Traefik, true, answer(418, "secret-token\x1b"), "[…]", "log"),
        ] {
            let step = judge(kind, has_credentials, |asked| upgrade(asked, &UpgradeSeen::Refused(answer)));
            assert_eq!(step.verdict, Verdict::Failed);
            assert!(step.text.contains(text), "{step:?}");
            assert!(step.advice.join("").to_lowercase().contains(&advice.to_lowercase()), "{step:?}");
            assert!(!step.text.contains(['\x1b', '\n']) && !step.text.contains("a=b"), "{step:?}");
        }
    }

    #[test]
    fn faults_after_a_101_have_a_remedy() {
        let closed =
            |code, reason: &str| UpgradeSeen::Ended(Ended::Closed { code, reason: reason.to_owned() });
        for (seen, text, advice) in [
            (
                closed(4403, "origin_not_allowed"),
                "a Close with 4403 origin_not_allowed",
                "POSTERN_ALLOWED_ORIGINS",
            ),
            (closed(1012, "service restart"), "1012 service restart", "try again"),
            (UpgradeSeen::Ended(Ended::Lost("the connection was reset".to_owned())), "reset", "buffering"),
            (
                UpgradeSeen::Ended(Ended::Invalid(ProtocolError::MessageTooBig)),
                "not a frame",
                "changes the bytes",
            ),
            (UpgradeSeen::Silent, "no answer to a ping", "buffer"),
            (
                UpgradeSeen::Invalid("Sec-WebSocket-Accept does not answer the key".to_owned()),
                "101, but",
                "cache",
            ),
            (UpgradeSeen::NoAnswer(NoAnswer::Closed), "without an answer", "firewall"),
            (UpgradeSeen::NoAnswer(NoAnswer::TimedOut), "in time", "docker ps"),
        ] {
            let step = judge(Kind::Traefik, true, |asked| upgrade(asked, &seen));
            assert_eq!(step.verdict, Verdict::Failed);
            assert!(step.text.contains(text) && step.advice.join("").contains(advice), "{step:?}");
        }
    }

    #[test]
    fn a_gateway_must_ask_identity() {
        let accepted = || UpgradeSeen::Accepted { subprotocol: None, request_id: None };
        let missing = || UpgradeSeen::Refused(error(401, "identity_missing", "x"));
        for (kind, seen, is_open, verdict, text) in [
            (Kind::Traefik, UpgradeSeen::Refused(answer(401, "")), true, Verdict::Passed, "refused: 401"),
            (Kind::Traefik, missing(), false, Verdict::Failed, "does not ask Identity"),
            (Kind::Traefik, missing(), true, Verdict::Passed, "without credentials, Postern refuses"),
            (Kind::Postern, missing(), false, Verdict::Passed, "without identity headers"),
            (Kind::Traefik, accepted(), true, Verdict::Passed, "needs no credentials"),
        ] {
            let step = judge(kind, true, |asked| access(asked, &seen, is_open)).unwrap();
            assert!(step.verdict == verdict && step.text.contains(text), "{step:?}");
        }
        let same = UpgradeSeen::Refused(answer(404, ""));
        assert_eq!(judge(Kind::Traefik, true, |asked| access(asked, &same, false)), None);
    }
}
