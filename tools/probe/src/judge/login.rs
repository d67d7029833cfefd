//! A login before the upgrade.

use serde_json::Value;

use super::answer::{Asked, describe};
use crate::net::http::{Answer, NoAnswer};
use crate::report::{Step, StepName};

/// The credentials in the answer to a login.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Granted {
    pub(crate) token: Option<String>,
    /// `name=value`
    pub(crate) cookies: Vec<String>,
}

impl Granted {
    /// Finds the token and the cookies in an answer.
    pub(crate) fn find(answer: &Answer) -> Granted {
        let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        let token = TOKEN_NAMES.iter().find_map(|name| body.get(name)?.as_str()).map(str::to_owned);
        let cookie = |line: &str| line.split(';').next().map(|cookie| cookie.trim().to_owned());
        Granted { token, cookies: answer.headers("set-cookie").filter_map(cookie).collect() }
    }
}

/// Judges the answer to a login. `asked` has the URL of the login and its gateway.
pub(crate) fn step(asked: &Asked<'_>, seen: &Result<Answer, NoAnswer>) -> Step {
    let failed = |text: String, advice: &str| Step::failed(StepName::Login, text, advice);
    match seen {
        Ok(answer @ Answer { status: 200..=299, .. }) => {
            let granted = Granted::find(answer);
            match (&granted.token, granted.cookies.len()) {
                (Some(_), _) => Step::passed(StepName::Login, format!("{}, with a token", answer.status)),
                (None, 1..) => Step::passed(StepName::Login, format!("{}, with a cookie", answer.status)),
                (None, 0) => failed(
                    format!("{}, without a token and without a cookie", answer.status),
                    "the answer should be JSON with accessToken, access_token, token or jwt, or set a cookie; \
                     otherwise log in by hand, and \
                     pass the token with --token",
                ),
            }
        }
        Ok(answer) => {
            let text = describe(asked, answer);
            match answer.status {
                400 | 401 | 403 | 422 => failed(text, "check the e-mail address and the password in --login-body"),
                404 | 405 => failed(text, &format!("correct --login-url; or \
                    {}", asked.gateway.route(&asked.target.path))),
                500..=599 => failed(
                    text,
                    "check whether Identity runs (`docker ps | grep identity`), its log, and its address in the \
                     gateway's configuration",
                ),
                _ => failed(text, "correct --login-url, or log in by hand, and pass the token with --token"),
            }
            .with("status", answer.status)
        }
        Err(NoAnswer::Broken(error)) => failed(
            asked.redaction.show(error),
            "start Identity, or the gateway in front of it (`docker ps | grep identity`), or correct --login-url",
        ),
        Err(NoAnswer::Closed | NoAnswer::TimedOut | NoAnswer::NotHttp(_)) => {
            failed("no answer that is HTTP/1.1".to_owned(), "see the log of Identity, or correct --login-url")
        }
    }
}

/// The names of the token in the answers of identity services.
const TOKEN_NAMES: [&str; 5] = ["accessToken", "access_token", "token", "jwt", "id_token"];

#[cfg(test)]
mod tests {
    use super::super::gateway::{Gateway, Kind};
    use super::*;
    use crate::display::Redaction;
    use crate::report::Verdict;
    use crate::target::Target;

    #[test]
    fn an_answer_to_a_login_has_a_token_or_a_cookie() {
        let target = Target::parse("http://a/identity/login").unwrap();
        let gateway = Gateway { kind: Kind::Traefik, name: "Traefik".to_owned() };
        let redaction = Redaction::default();
        let asked = Asked {
            target: &target,
            gateway: &gateway,
            has_credentials: true,
            origin: None,
            redaction: &redaction,
        };
        let answer = |status, cookie: &str, body: &str| {
            let cookie = Some(cookie).filter(|cookie| !cookie.is_empty());
            let headers =
                cookie.map(|cookie| ("set-cookie".to_owned(), cookie.to_owned())).into_iter().collect();
            Ok(Answer { status, headers, body: body.to_owned() })
        };
        for (seen, verdict, text, advice) in [
            (answer(200, "", r#"{"accessToken":"abc"}"#), Verdict::Passed, "200, with a token", ""),
            (answer(200, "a=b; Path=/; HttpOnly", ""), Verdict::Passed, "200, with a cookie", ""),
            (answer(200, "", "hello"), Verdict::Failed, "without a token", "accessToken"),
            (answer(401, "", "no"), Verdict::Failed, "401 from Traefik: no", "--login-body"),
            (answer(404, "", ""), Verdict::Failed, "404", "Path(`/identity/login`)"),
            (answer(502, "", ""), Verdict::Failed, "502", "docker ps | grep identity"),
            (Err(NoAnswer::Broken("refused".to_owned())), Verdict::Failed, "refused", "start Identity"),
            (Err(NoAnswer::Closed), Verdict::Failed, "no answer", "log of Identity"),
        ] {
            let step = step(&asked, &seen);
            assert_eq!(step.verdict, verdict, "{step:?}");
            assert!(step.text.contains(text) && step.advice.join("").contains(advice), "{step:?}");
            assert!(!step.text.contains("abc"), "{step:?}");
        }
        let granted = Granted::find(&answer(200, "a=b; Path=/", r#"{"token":"t"}"#).unwrap());
        assert_eq!(granted, Granted { token: Some("t".to_owned()), cookies: vec!["a=b".to_owned()] });
    }
}
