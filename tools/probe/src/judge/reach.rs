//! Names, TCP and TLS.

use std::net::IpAddr;

use crate::display::Redaction;
use crate::net::certificate::Certificate;
use crate::net::dial::{Attempt, ConnectFault, NameFault};
use crate::net::tls::{TlsFault, TlsSeen};
use crate::report::{Step, StepName};
use crate::target::Target;
use crate::time::{latency, period};

/// Judges the addresses of a name.
pub(crate) fn name(host: &str, found: &Result<Vec<IpAddr>, NameFault>) -> Step {
    match found {
        Ok(addresses) if addresses.iter().any(|address| address.to_string() == host) => {
            Step::passed(StepName::Name, format!("{host} is an address"))
        }
        Ok(addresses) => {
            let texts: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
            Step::passed(StepName::Name, format!("{host} is {}", texts.join(", "))).with("addresses", texts)
        }
        Err(NameFault::Unknown(error)) => {
            let error = Redaction::default().show(error);
            Step::failed(StepName::Name, format!("{host} has no address: {error}"), NO_ADDRESS)
        }
        Err(NameFault::TimedOut) => {
            let text = format!("the resolver does not answer the question for {host} in time");
            Step::failed(
                StepName::Name,
                text,
                "check the name servers in /etc/resolv.conf, and whether they can be reached",
            )
        }
    }
}

/// Judges the attempts to connect to all addresses of a name.
pub(crate) fn tcp(target: &Target, attempts: &[Attempt]) -> Step {
    let failures: Vec<String> = attempts
        .iter()
        .filter_map(|(address, result)| Some(format!("{address} {}", fault(result.as_ref().err()?))))
        .collect();
    if let Some((address, Ok(time))) = attempts.iter().find(|(_, result)| result.is_ok()) {
        let step =
            Step::passed(StepName::Tcp, format!("{address} accepts connections, in {}", latency(*time)))
                .with("address", address.to_string());
        return if failures.is_empty() {
            step
        } else {
            step.advise(format!(
                "{}: some clients try these addresses first; remove them from DNS, or listen on them",
                failures.join("; ")
            ))
        };
    }
    let port = target.port;
    let advice = match attempts.first() {
        Some((_, Err(ConnectFault::Refused))) => format!(
            "no process listens on port {port}: start the gateway, or correct the port. `ss -ltnp sport = :{port}` shows the \
             listener; for a container, `docker ps` shows whether it runs and publishes the port (HOST_PORT)"
        ),
        Some((_, Err(ConnectFault::TimedOut))) => format!(
            "a firewall or a security group drops the packets, or the host is off: allow port {port} from this \
             machine"
        ),
        Some((_, Err(ConnectFault::Unreachable))) => {
            "this machine has no route to the address: check the network, the VPN, and whether the address is \
             private".to_owned()
        }
        Some((_, Err(ConnectFault::Other(_)) | Ok(_))) | None => "check the network of this machine".to_owned(),
    };
    Step::failed(StepName::Tcp, failures.join("; "), advice)
}

fn fault(fault: &ConnectFault) -> String {
    match fault {
        ConnectFault::Refused => "refuses connections".to_owned(),
        ConnectFault::TimedOut => "does not answer in time".to_owned(),
        ConnectFault::Unreachable => "cannot be reached".to_owned(),
        ConnectFault::Other(error) => error.clone(),
    }
}

/// Judges a TLS handshake. `now` is in seconds since 1970.
pub(crate) fn tls(target: &Target, seen: &TlsSeen, now: i64) -> Step {
    let step = match (&seen.result, &seen.ignored) {
        (Ok(version), None) => {
            let mut step = Step::passed(
                StepName::Tls,
                format!("{version}, {}", describe(seen.certificate.as_ref(), now)),
            );
            if let Some(certificate) = &seen.certificate
                && certificate.not_after - now < RENEW * DAY
            {
                step = step.advise("renew the certificate: it expires in less than 14 days");
            }
            step.with("version", *version)
        }
        (Ok(_), Some(fault)) => {
            failed(target, fault, seen, now).advise("the probe continues, because of --insecure")
        }
        (Err(fault), _) => failed(target, fault, seen, now),
    };
    match &seen.certificate {
        None => step,
        Some(certificate) => step
            .with("issuer", certificate.issuer.clone())
            .with("names", certificate.names.clone())
            .with("days_left", (certificate.not_after - now).div_euclid(DAY)),
    }
}

fn failed(target: &Target, fault: &TlsFault, seen: &TlsSeen, now: i64) -> Step {
    let certificate = seen.certificate.as_ref();
    let described = describe(certificate, now);
    let (text, advice) = match fault {
        TlsFault::Expired => (
            certificate.filter(|certificate| certificate.not_after < now).map_or_else(
                || "a certificate of the chain has expired".to_owned(),
                |certificate| format!("the certificate expired {} ago", period(now - certificate.not_after)),
            ),
            "renew the certificate, and reload the gateway, which may still have the old one in memory"
                .to_owned(),
        ),
        TlsFault::NotYetValid => (
            certificate.map_or_else(String::new, |certificate| {
                format!("the certificate becomes valid in {}", period(certificate.not_before - now))
            }),
            "compare the clock of this machine with the right time (`timedatectl`); or wait".to_owned(),
        ),
        TlsFault::WrongName => (
            format!("the certificate is not for {}, but for {}", target.host, names(certificate)),
            format!(
                "connect to a name of the certificate, or get one with {} as a subjectAltName. A gateway that \
                 has no certificate \
                 for a name sends its default one",
                target.host
            ),
        ),
        TlsFault::UnknownIssuer if certificate.is_some_and(|certificate| certificate.is_self_issued) => (
            format!("the certificate is self-signed: {described}"),
            "get a certificate of a public authority, or pass this one with --ca; browsers do not accept it"
                .to_owned(),
        ),
        TlsFault::UnknownIssuer => (
            format!("no trusted authority has signed the certificate: {described}"),
            if seen.sent == 1 {
                "the server sends only its own certificate: configure the file with the whole chain; or pass a \
                 private authority \
                 with --ca"
                    .to_owned()
            } else {
                "pass the certificate of a private authority with --ca".to_owned()
            },
        ),
        TlsFault::Certificate(error) => {
            (format!("the certificate is not valid: {error}"), "replace the certificate".to_owned())
        }
        TlsFault::NotTls => (
            format!("port {} does not use TLS", target.port),
            format!("use ws:// instead of wss://, or configure TLS for port {} of the gateway", target.port),
        ),
        TlsFault::Closed => (
            "the server ended the connection during the handshake".to_owned(),
            format!(
                "check that port {} has TLS, and that the gateway has a certificate for {}",
                target.port, target.host
            ),
        ),
        TlsFault::TimedOut => (
            "the server does not answer the handshake in time".to_owned(),
            format!("check that port {} has TLS", target.port),
        ),
        TlsFault::Other(error) => (
            Redaction::default().show(error),
            "check the versions and ciphers of TLS that the gateway allows; TLS 1.2 and 1.3 are needed"
                .to_owned(),
        ),
    };
    Step::failed(StepName::Tls, text, advice)
}

fn describe(certificate: Option<&Certificate>, now: i64) -> String {
    let Some(certificate) = certificate else { return "a certificate that cannot be read".to_owned() };
    let issuer = Redaction::default().show(&certificate.issuer);
    let issuer = if issuer.is_empty() { "an unnamed authority".to_owned() } else { issuer };
    let left = certificate.not_after - now;
    let validity =
        if left < 0 { format!("expired {} ago", period(left)) } else { format!("{} left", period(left)) };
    format!("issued by {issuer} for {}, {validity}", names(Some(certificate)))
}

/// Returns the first names of a certificate.
fn names(certificate: Option<&Certificate>) -> String {
    let names = certificate.map(|certificate| &*certificate.names).unwrap_or_default();
    let shown = names.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
    match names.len() {
        0 => "no name".to_owned(),
        1..=3 => Redaction::default().show(&shown),
        count => format!("{} and {} more", Redaction::default().show(&shown), count - 3),
    }
}

/// The days before its end in which a certificate should be renewed.
const RENEW: i64 = 14;

const DAY: i64 = 86_400;

const NO_ADDRESS: &str = "\
check the spelling; add a DNS record, or a line of /etc/hosts. In a container, the names of other containers exist only in a \
network that both are in (`docker network inspect`)";

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use super::*;
    use crate::report::Verdict;

    fn target() -> Target {
        Target::parse("wss://chat.example.com/ws").unwrap()
    }

    #[track_caller]
    fn check(step: &Step, verdict: Verdict, text: &str, advice: &str) {
        assert_eq!(step.verdict, verdict, "{step:?}");
        assert!(step.text.contains(text), "{step:?}");
        assert!(step.advice.join("; ").contains(advice), "{step:?}");
        assert_eq!(step.advice.is_empty(), advice.is_empty(), "{step:?}");
    }

    #[test]
    fn names_have_addresses() {
        let addresses = || vec!["203.0.113.5".parse().unwrap(), "2001:db8::5".parse().unwrap()];
        check(&name("a.example", &Ok(addresses())), Verdict::Passed, "203.0.113.5, 2001:db8::5", "");
        check(&name("203.0.113.5", &Ok(addresses())), Verdict::Passed, "is an address", "");
        let unknown = NameFault::Unknown("Name or service not known".to_owned());
        check(&name("a.example", &Err(unknown)), Verdict::Failed, "not known", "DNS record");
        check(&name("a.example", &Err(NameFault::TimedOut)), Verdict::Failed, "in time", "resolv.conf");
    }

    #[test]
    fn one_address_that_accepts_is_enough() {
        let address: SocketAddr = "203.0.113.5:443".parse().unwrap();
        let good = (address, Ok(Duration::from_millis(12)));
        let bad = |fault| (address, Err(fault));
        check(&tcp(&target(), std::slice::from_ref(&good)), Verdict::Passed, "in 12.0 ms", "");
        check(
            &tcp(&target(), &[bad(ConnectFault::Refused), good]),
            Verdict::Passed,
            "accepts",
            "refuses connections",
        );
        for (fault, text, advice) in [
            (ConnectFault::Refused, "refuses connections", "start the gateway"),
            (ConnectFault::TimedOut, "in time", "firewall"),
            (ConnectFault::Unreachable, "cannot be reached", "route"),
            (ConnectFault::Other("odd".to_owned()), "odd", "network"),
        ] {
            check(&tcp(&target(), &[bad(fault)]), Verdict::Failed, text, advice);
        }
    }

    #[test]
    fn each_fault_of_tls_has_a_remedy() {
        let now = 1_700_000_000;
        let certificate = Certificate {
            issuer: "Example CA".to_owned(),
            is_self_issued: false,
            not_before: now - 10 * DAY,
            not_after: now + 80 * DAY,
            names: vec!["other.example.com".to_owned()],
        };
        let seen = |result, certificate: &Certificate| TlsSeen {
            result,
            ignored: None,
            certificate: Some(certificate.clone()),
            sent: 1,
        };
        let good = tls(&target(), &seen(Ok("TLS 1.3"), &certificate), now);
        check(
            &good,
            Verdict::Passed,
            "TLS 1.3, issued by Example CA for other.example.com, 80 days left",
            "",
        );
        assert_eq!(good.data["days_left"], 80);
        let soon = Certificate { not_after: now + 3 * DAY, ..certificate.clone() };
        check(&tls(&target(), &seen(Ok("TLS 1.3"), &soon), now), Verdict::Passed, "3 days left", "renew");
        let expired = Certificate { not_after: now - 3 * DAY, ..certificate.clone() };
        let own = Certificate { is_self_issued: true, ..certificate.clone() };
        for (fault, certificate, text, advice) in [
            (TlsFault::Expired, &expired, "expired 3 days ago", "renew"),
            (TlsFault::Expired, &certificate, "of the chain has expired", "renew"),
            (TlsFault::NotYetValid, &certificate, "becomes valid in", "clock"),
            (
                TlsFault::WrongName,
                &certificate,
                "not for chat.example.com, but for other.example.com",
                "subjectAltName",
            ),
            (TlsFault::UnknownIssuer, &certificate, "no trusted authority", "chain"),
            (TlsFault::UnknownIssuer, &own, "self-signed", "--ca"),
            (TlsFault::NotTls, &certificate, "port 443 does not use TLS", "ws://"),
            (TlsFault::Closed, &certificate, "ended the connection", "443"),
            (TlsFault::TimedOut, &certificate, "in time", "443"),
            (TlsFault::Other("x".to_owned()), &certificate, "x", "TLS 1.2"),
        ] {
            check(&tls(&target(), &seen(Err(fault), certificate), now), Verdict::Failed, text, advice);
        }
        let ignored = TlsSeen { ignored: Some(TlsFault::WrongName), ..seen(Ok("TLS 1.3"), &certificate) };
        check(&tls(&target(), &ignored, now), Verdict::Failed, "not for chat", "--insecure");
    }
}
