//! Gateways: recognized by the headers and the texts of their answers, with the lines of their configurations.

use crate::display::Redaction;
use crate::net::http::{Answer, NoAnswer};
use crate::report::{Step, StepName};
use crate::target::Target;

/// A gateway, or another server that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gateway {
    pub(crate) kind: Kind,
    /// The name for people, with the version if the server states it.
    pub(crate) name: String,
}

/// The kinds of gateways for which the remedies differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Traefik,
    Nginx,
    Haproxy,
    Caddy,
    Envoy,
    Apache,
    Cloudflare,
    Amazon,
    /// Postern, without a gateway that can be recognized.
    Postern,
    Other,
}

impl Gateway {
    /// Recognizes the server that has answered a request for a path that does not exist.
    pub(crate) fn recognize(answer: &Answer) -> Gateway {
        let of = |kind, name: &str| Gateway { kind, name: name.to_owned() };
        let server = Redaction::default().show(answer.header("server").unwrap_or_default());
        let lower = server.to_ascii_lowercase();
        if answer.header("cf-ray").is_some() || lower == "cloudflare" {
            return of(Kind::Cloudflare, "Cloudflare");
        }
        if answer.header("x-amz-cf-id").is_some() {
            return of(Kind::Amazon, "Amazon CloudFront");
        }
        let kinds = [
            ("nginx", Kind::Nginx),
            ("openresty", Kind::Nginx),
            ("caddy", Kind::Caddy),
            ("envoy", Kind::Envoy),
            ("istio", Kind::Envoy),
            ("apache", Kind::Apache),
            ("awselb", Kind::Amazon),
            ("haproxy", Kind::Haproxy),
            ("traefik", Kind::Traefik),
        ];
        if let Some((_, kind)) = kinds.iter().find(|(part, _)| lower.contains(part)) {
            return of(*kind, &server);
        }
        let body = answer.body.trim_start();
        if super::answer::postern_code(answer).is_some() {
            return of(Kind::Postern, "Postern");
        }
        if answer.status == 404 && body.starts_with("404 page not found") {
            return of(Kind::Traefik, "Traefik");
        }
        if body.starts_with("<html><body><h1>") && answer.header("server").is_none() {
            return of(Kind::Haproxy, "HAProxy");
        }
        let via = Redaction::default().show(answer.header("via").unwrap_or_default());
        match (server.is_empty(), via.is_empty()) {
            (false, _) => of(Kind::Other, &server),
            (true, false) => of(Kind::Other, &via),
            (true, true) => of(Kind::Other, "an unknown server"),
        }
    }

    /// Returns what to do if it has no route for a path.
    pub(crate) fn route(&self, path: &str) -> String {
        match self.kind {
            Kind::Traefik => format!(
                "Traefik needs a router with the rule Path(`{path}`) on the entry point of this port (`grep -n \
                 websocket-router \
                 gateway.yaml`, deploy/traefik/dynamic.yaml); its log and its dashboard show routers with errors"
            ),
            Kind::Nginx => format!(
                "nginx needs a `location` for {path} in the `server` of this name, as in deploy/nginx/nginx.conf"
            ),
            Kind::Haproxy => format!(
                "HAProxy needs a `use_backend` for {path} in the frontend, as in deploy/haproxy/haproxy.cfg"
            ),
            Kind::Caddy | Kind::Envoy | Kind::Apache | Kind::Cloudflare | Kind::Amazon | Kind::Other => {
                format!("add a route for {path}, for this host name, to the gateway; or correct the path")
            }
            Kind::Postern => "nothing is served at this path".to_owned(),
        }
    }

    /// Returns what to do if a proxy does not pass `Upgrade` and `Connection` on.
    pub(crate) fn pass_upgrade(&self) -> &'static str {
        match self.kind {
            Kind::Nginx => {
                "nginx needs `proxy_http_version 1.1`, `proxy_set_header Upgrade $http_upgrade` and \
                 `proxy_set_header Connection \
                 $connection_upgrade` in the `location`, as in deploy/nginx/nginx.conf"
            }
            Kind::Apache => "Apache needs `ProxyPass /ws http://…/ws upgrade=websocket` (2.4.47 or later)",
            Kind::Envoy => {
                "Envoy needs `upgrade_configs: [{upgrade_type: websocket}]` in its connection manager or route"
            }
            Kind::Haproxy => {
                "HAProxy needs `http-request set-header Connection Upgrade` if a rule has replaced it"
            }
            Kind::Cloudflare => "switch WebSockets on in the network settings of the zone",
            Kind::Traefik => {
                "Traefik passes upgrades on unless a middleware removes `Upgrade` or `Connection`: check \
                 `customRequestHeaders`, and \
                 proxies in front of it"
            }
            Kind::Caddy | Kind::Amazon | Kind::Postern | Kind::Other => {
                "find the proxy that removes `Upgrade` and `Connection`, and configure it for WebSocket"
            }
        }
    }

    /// Returns what to do if it does not add the identity headers.
    pub(crate) fn add_identity(&self) -> &'static str {
        match self.kind {
            Kind::Traefik => {
                "the router needs a middleware `forwardAuth` that asks Identity, and `User-ID` must be in its \
                 `authResponseHeaders`, \
                 under the name of POSTERN_USER_ID_HEADER, as in deploy/traefik/dynamic.yaml"
            }
            Kind::Nginx => {
                "the `location` needs `auth_request`, and `User-ID` an `auth_request_set` and a `proxy_set_header`, as in \
                 deploy/nginx/nginx.conf"
            }
            Kind::Haproxy => {
                "the backend needs the action `lua.identity` and `http-request set-header User-ID`, as in \
                 deploy/haproxy"
            }
            Kind::Postern => {
                "connect to the gateway instead; or, to play the gateway from an address in \
                 POSTERN_TRUSTED_PROXIES, pass --header \
                 'User-ID: 1'"
            }
            Kind::Caddy | Kind::Envoy | Kind::Apache | Kind::Cloudflare | Kind::Amazon | Kind::Other => {
                "the gateway must ask Identity about each upgrade, and copy `User-ID` from the answer into the \
                 request"
            }
        }
    }

    /// Returns the setting of the idle time-out.
    pub(crate) fn idle_timeout(&self) -> &'static str {
        match self.kind {
            Kind::Nginx => "`proxy_read_timeout` of nginx",
            Kind::Haproxy => "`timeout tunnel` of HAProxy",
            Kind::Envoy => "`stream_idle_timeout` of Envoy",
            Kind::Apache => "`ProxyWebsocketIdleTimeout` of Apache",
            Kind::Amazon => "the idle time-out of the load balancer",
            Kind::Caddy => "`stream_timeout` of Caddy",
            Kind::Cloudflare => {
                "the idle time-out of Cloudflare (100 s), or of a proxy between it and Postern"
            }
            Kind::Traefik | Kind::Postern | Kind::Other => {
                "the idle time-out of a proxy, a load balancer or a NAT on the path"
            }
        }
    }
}

/// Judges the answer to a request for a path that does not exist.
pub(crate) fn step(target: &Target, seen: &Result<Answer, NoAnswer>) -> Step {
    match seen {
        Ok(answer) if wants_tls(answer) => Step::failed(
            StepName::Gateway,
            format!("port {} expects TLS", target.port),
            "use wss:// instead of ws://",
        ),
        Ok(answer) => {
            let gateway = Gateway::recognize(answer);
            let text = match gateway.kind {
                Kind::Postern => "Postern answers itself; a gateway in front of it is not visible".to_owned(),
                Kind::Traefik | Kind::Haproxy if answer.header("server").is_none() => {
                    format!("{}, by the text of its {}", gateway.name, answer.status)
                }
                Kind::Traefik
                | Kind::Nginx
                | Kind::Haproxy
                | Kind::Caddy
                | Kind::Envoy
                | Kind::Apache
                | Kind::Cloudflare
                | Kind::Amazon
                | Kind::Other => gateway.name.clone(),
            };
            Step::passed(StepName::Gateway, text).with("gateway", gateway.name)
        }
        Err(NoAnswer::NotHttp(bytes)) if bytes.starts_with(TLS_ALERT) => Step::failed(
            StepName::Gateway,
            format!("port {} expects TLS", target.port),
            "use wss:// instead of ws://",
        ),
        Err(NoAnswer::NotHttp(bytes)) => {
            let beginning = Redaction::default().show(&String::from_utf8_lossy(bytes));
            Step::failed(
                StepName::Gateway,
                format!("the answer is not HTTP/1.1; it begins with {beginning:?}"),
                "another service has this port: correct the port, or the address of the gateway",
            )
        }
        Err(NoAnswer::Closed) => Step::failed(
            StepName::Gateway,
            "the server closes the connection without an answer",
            "check the log of the gateway. It may expect the PROXY protocol, TLS, or another name in `Host`; a \
             port of a container \
             may be published although no process listens inside",
        ),
        Err(NoAnswer::TimedOut) => Step::failed(
            StepName::Gateway,
            "the server accepts the connection, and does not answer a request in time",
            "the process may be stopped or overloaded: check its log and its load",
        ),
        Err(NoAnswer::Broken(error)) => Step::failed(
            StepName::Gateway,
            Redaction::default().show(error),
            "see the log of the gateway, and check the network",
        ),
    }
}

/// Whether a server answers that the port is for TLS: the texts of nginx, Go, Apache and HAProxy.
fn wants_tls(answer: &Answer) -> bool {
    let body = answer.body.to_ascii_lowercase();
    let texts = [
        "plain http request was sent to https port",
        "http request to an https server",
        "speaking plain http to an ssl-enabled",
    ];
    answer.status == 400 && texts.iter().any(|text| body.contains(text))
}

/// The beginning of an alert (RFC 8446 §5.1), with which a TLS server answers other bytes.
const TLS_ALERT: &[u8] = &[0x15, 0x03];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Verdict;

    fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Answer {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Answer { status, headers, body: body.to_owned() }
    }

    #[test]
    fn gateways_are_recognized() {
        for (answer, kind, name) in [
            (answer(404, &[("server", "nginx/1.22.1")], ""), Kind::Nginx, "nginx/1.22.1"),
            (answer(404, &[("server", "Caddy")], ""), Kind::Caddy, "Caddy"),
            (answer(404, &[("server", "envoy")], ""), Kind::Envoy, "envoy"),
            (answer(404, &[("server", "awselb/2.0")], ""), Kind::Amazon, "awselb/2.0"),
            (answer(404, &[("server", "cloudflare"), ("cf-ray", "1")], ""), Kind::Cloudflare, "Cloudflare"),
            (answer(404, &[], "404 page not found\n"), Kind::Traefik, "Traefik"),
            (answer(404, &[], "<html><body><h1>404 Not Found</h1>"), Kind::Haproxy, "HAProxy"),
            (answer(404, &[], r#"{"error":{"code":"not_found","message":"x"}}"#), Kind::Postern, "Postern"),
            (answer(404, &[("server", "gunicorn")], ""), Kind::Other, "gunicorn"),
            (answer(404, &[("via", "1.1 google")], ""), Kind::Other, "1.1 google"),
            (answer(404, &[], ""), Kind::Other, "an unknown server"),
        ] {
            assert_eq!(Gateway::recognize(&answer), Gateway { kind, name: name.to_owned() });
        }
    }

    #[test]
    fn a_server_that_does_not_answer_http_has_a_remedy() {
        let target = Target::parse("ws://a:8443/ws").unwrap();
        for (seen, text, advice) in [
            (
                Ok(answer(400, &[], "Client sent an HTTP request to an HTTPS server.\n")),
                "8443 expects TLS",
                "wss://",
            ),
            (Err(NoAnswer::NotHttp(vec![0x15, 0x03, 0x01, 0, 2, 2, 70])), "8443 expects TLS", "wss://"),
            (Err(NoAnswer::NotHttp(b"SSH-2.0\x1b[2J\r\n".to_vec())), "SSH-2.0", "another service"),
            (Err(NoAnswer::Closed), "without an answer", "PROXY protocol"),
            (Err(NoAnswer::TimedOut), "in time", "overloaded"),
            (Err(NoAnswer::Broken("no route".to_owned())), "no route", "network"),
        ] {
            let step = step(&target, &seen);
            assert_eq!(step.verdict, Verdict::Failed);
            assert!(step.text.contains(text) && step.advice.join("").contains(advice), "{step:?}");
            assert!(!step.text.contains('\x1b'), "{step:?}");
        }
    }
}
