//! The order of the steps, with all I/O.

mod open;
mod upgrade;

use std::time::SystemTime;

use crate::credentials::Credentials;
use crate::judge::answer::Asked;
use crate::judge::gateway::{Gateway, Kind};
use crate::judge::login::Granted;
use crate::judge::{self, answer, clock, open as judge_open};
use crate::net::dial::{self, Dialer};
use crate::net::http::{Exchange, MAX_BODY, NoAnswer, exchange};
use crate::net::tls::TlsClient;
use crate::options::{Common, Login, ProbeOptions};
use crate::report::{Report, Step, StepName, Verdict};
use crate::target::Target;
use crate::time::unix;

pub(crate) use open::connect_command;
pub(crate) use upgrade::{Knock, Opened, write as write_request};

/// Walks from the name to the application. Ends at the first step without which the next ones make no sense.
pub(crate) fn walk(options: &ProbeOptions, report: &mut Report) {
    let common = &options.common;
    let Some(dialer) = reach(common, report) else { return report.stop() };
    let exchanged = ask_for_nothing(&dialer, &common.target);
    let seen = exchanged.as_ref().map(|exchange| exchange.answer.clone()).map_err(Clone::clone);
    if !report.add(judge::gateway::step(&common.target, &seen)) {
        return report.stop();
    }
    let Ok(exchange) = exchanged else { return };
    let gateway = Gateway::recognize(&exchange.answer);
    let skew = clock::skew(&exchange);
    report.add(clock::clock(skew));

    let mut credentials = common.credentials.clone();
    if let Some(login) = &options.login
        && !log_in(login, common, &mut credentials, report)
    {
        return report.stop();
    }
    if let Some(step) = judge_token(&credentials, skew.unwrap_or_default()) {
        report.add(step);
    }

    let asked = Asked {
        target: &common.target,
        gateway: &gateway,
        has_credentials: !credentials.is_empty(common.target.credentials().next().is_some()),
        origin: common.origin.as_deref(),
        redaction: credentials.redaction(),
    };
    let knock = Knock { dialer: &dialer, common, credentials: Some(&credentials) };
    let Some(opened) = upgrade(&asked, &knock, report) else { return report.stop() };
    report.add(judge_open::compression(opened.is_compressed));
    open::check(options, &asked, &knock, opened, report);
}

/// Resolves the name, connects, and performs a TLS handshake. `None` if one of them fails.
pub(crate) fn reach(common: &Common, report: &mut Report) -> Option<Dialer> {
    let Common { target, timeout, .. } = common;
    let found = dial::resolve(&target.host, target.port, *timeout);
    report.add(judge::reach::name(&target.host, &found));
    let attempts = dial::try_all(&found.ok()?, target.port, *timeout);
    report.add(judge::reach::tcp(target, &attempts));
    let (address, _) = attempts.into_iter().find(|(_, result)| result.is_ok())?;
    let mut dialer = Dialer { address, tls: None, timeout: *timeout };
    if !target.is_tls {
        report.add(Step::skipped(StepName::Tls, "not used, because of ws://"));
        return Some(dialer);
    }
    match TlsClient::new(&target.host, common.ca.as_deref(), common.is_insecure) {
        Ok(client) => dialer.tls = Some(client),
        Err(reason) => {
            let advice = "install the package ca-certificates, or pass a PEM file with --ca";
            report.add(Step::failed(StepName::Tls, reason, advice));
            return None;
        }
    }
    let seen = dialer.inspect_tls()?;
    let is_good = report.add(judge::reach::tls(target, &seen, unix(SystemTime::now())));
    (is_good || seen.result.is_ok()).then_some(dialer)
}

/// Requests a path that does not exist, because its answer is the gateway's own.
pub(crate) fn ask_for_nothing(dialer: &Dialer, target: &Target) -> Result<Exchange, NoAnswer> {
    let request = format!(
        "GET /postern-probe HTTP/1.1\r\nHost: {}\r\nUser-Agent: {USER_AGENT}\r\nAccept: */*\r\nConnection: \
         close\r\n\r\n",
        target.authority()
    );
    exchange(&mut dialer.open()?, request.as_bytes(), dialer.timeout, MAX_BODY)
}

/// Logs in, and adds the credentials of the answer. Returns whether it has succeeded.
fn log_in(login: &Login, common: &Common, credentials: &mut Credentials, report: &mut Report) -> bool {
    credentials.add_secret(&login.body);
    let seen = post(login, common);
    let seen = seen.map(|exchange| exchange.answer);
    let gateway = seen
        .as_ref()
        .map_or(Gateway { kind: Kind::Other, name: "the server".to_owned() }, Gateway::recognize);
    if let Ok(answer) = &seen {
        let granted = Granted::find(answer);
        match granted.token {
            Some(token) => credentials.add_token(&token),
            None => granted.cookies.iter().for_each(|cookie| credentials.add_cookie(cookie)),
        }
    }
    let asked = Asked {
        target: &login.target,
        gateway: &gateway,
        has_credentials: true,
        origin: None,
        redaction: credentials.redaction(),
    };
    report.add(judge::login::step(&asked, &seen))
}

fn post(login: &Login, common: &Common) -> Result<Exchange, NoAnswer> {
    let Login { target, body } = login;
    let broken = |reason: String| NoAnswer::Broken(format!("{}: {reason}", target.authority()));
    let found = dial::resolve(&target.host, target.port, common.timeout);
    let addresses = found.map_err(|_| broken("the name has no address".to_owned()))?;
    let tls = match target.is_tls {
        true => Some(TlsClient::new(&target.host, common.ca.as_deref(), common.is_insecure).map_err(broken)?),
        false => None,
    };
    let attempts = dial::try_all(&addresses, target.port, common.timeout);
    let address = attempts.into_iter().find(|(_, result)| result.is_ok());
    let (address, _) = address.ok_or_else(|| broken("no connection can be opened".to_owned()))?;
    let dialer = Dialer { address, tls, timeout: common.timeout };
    let request = format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: {USER_AGENT}\r\nAccept: application/json\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        target.path_and_query(),
        target.authority(),
        body.len()
    );
    exchange(&mut dialer.open()?, request.as_bytes(), dialer.timeout, MAX_BODY)
}

fn judge_token(credentials: &Credentials, skew: i64) -> Option<Step> {
    if let Some((place, token)) = credentials.token() {
        return Some(clock::token(place, &token, unix(SystemTime::now()) + skew));
    }
    let text = "not a JSON Web Token, so its expiry is not visible";
    credentials.is_opaque().then(|| Step::skipped(StepName::Token, text))
}

/// Requests an upgrade, first without credentials. `None` if it is refused.
fn upgrade(asked: &Asked<'_>, knock: &Knock<'_>, report: &mut Report) -> Option<Opened> {
    let bare = asked.has_credentials.then(|| {
        let (seen, opened) = Knock { credentials: None, ..*knock }.open();
        if let Some(opened) = opened {
            opened.socket.close();
        }
        seen
    });
    let (seen, opened) = knock.open();
    let step = answer::upgrade(asked, &seen);
    if let Some(bare) = bare
        && let Some(access) = answer::access(asked, &bare, step.verdict == Verdict::Passed)
    {
        report.add(access);
    }
    report.add(step);
    opened
}

/// The name of this program in the logs of servers.
pub(crate) const USER_AGENT: &str = concat!("postern-probe/", env!("CARGO_PKG_VERSION"));
