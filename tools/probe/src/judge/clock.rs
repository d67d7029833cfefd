//! Clocks and tokens.

use std::time::SystemTime;

use crate::display::Redaction;
use crate::net::http::Exchange;
use crate::report::{Step, StepName};
use crate::time::{http_date, period, unix};
use crate::token::Token;

/// Returns by how many seconds the clock of a server is ahead of this machine's, negative if it is behind. `None` without a
/// `Date`.
///
/// `Date` has whole seconds, and was written at some time between the request and the answer. The result is the difference that
/// is closest to zero within these bounds.
pub(crate) fn skew(exchange: &Exchange) -> Option<i64> {
    skew_between(http_date(exchange.answer.header("date")?)?, exchange.sent, exchange.received)
}

fn skew_between(date: i64, sent: SystemTime, received: SystemTime) -> Option<i64> {
    let (sent, received) = (unix(sent), unix(received));
    Some(if date > received { date - received } else { (date - sent).min(0) })
}

/// Judges the difference between the clocks.
pub(crate) fn clock(skew: Option<i64>) -> Step {
    let Some(skew) = skew else {
        return Step::skipped(StepName::Clock, "not checked: the answers have no Date");
    };
    let step = match skew {
        -1..=1 => Step::passed(StepName::Clock, "the server's clock agrees with this machine's"),
        _ => {
            let direction = if skew > 0 { "ahead of" } else { "behind" };
            let text = format!("the server's clock is {} {direction} this machine's", period(skew));
            if skew.abs() < MAX_SKEW {
                Step::passed(StepName::Clock, text)
            } else {
                let advice = "tokens seem to have expired, or not to be valid yet: synchronize both clocks by \
                              NTP (`timedatectl`), also Identity's";
                Step::failed(StepName::Clock, text, advice)
            }
        }
    };
    step.with("skew_seconds", skew)
}

/// Judges a token. `now` is the server's time in seconds since 1970, if it is known, otherwise this machine's.
pub(crate) fn token(place: &str, token: &Token, now: i64) -> Step {
    let issuer = token.issuer.as_deref().map(|issuer| format!(" of {}", Redaction::default().show(issuer)));
    let described = format!(
        "{} token{} ({place})",
        Redaction::default().show(&token.algorithm),
        issuer.unwrap_or_default()
    );
    let failed = |text: String, advice| Step::failed(StepName::Token, format!("{described}: {text}"), advice);
    let future = |time: Option<i64>| time.filter(|time| *time > now + LEEWAY);
    let step = if let Some(expires) = token.expires.filter(|expires| *expires <= now) {
        failed(
            format!("it expired {} ago", period(now - expires)),
            "log in again for a new token. If new tokens are expired as well, compare the clocks of Identity \
             and the gateway",
        )
    } else if let Some(not_before) = future(token.not_before) {
        failed(
            format!("it is not valid for another {}", period(not_before - now)),
            "the claim `nbf` is in the future: synchronize the clocks of Identity and the gateway by NTP",
        )
    } else if let Some(issued) = future(token.issued) {
        failed(
            format!("it was issued {} in the future", period(issued - now)),
            "the clock of Identity is ahead: synchronize the clocks of Identity and the gateway by NTP",
        )
    } else {
        match token.expires {
            Some(expires) => {
                Step::passed(StepName::Token, format!("{described}, expires in {}", period(expires - now)))
            }
            None => Step::passed(StepName::Token, format!("{described}, without an expiry")),
        }
    };
    step.with("issuer", token.issuer.clone())
        .with("algorithm", token.algorithm.clone())
        .with("seconds_left", token.expires.map(|expires| expires - now))
}

/// The difference between two clocks from which tokens fail, in seconds.
const MAX_SKEW: i64 = 30;

/// The seconds in the future for which a token is not refused: the usual tolerance of libraries.
const LEEWAY: i64 = 60;

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::report::Verdict;

    #[test]
    fn the_skew_is_the_least_that_explains_a_date() {
        let at = |millis| UNIX_EPOCH + Duration::from_millis(millis);
        for (date, sent, received, skew) in [
            (100, 100_900, 100_950, 0),
            (101, 100_900, 101_100, 0),
            (100, 100_900, 101_100, 0),
            (160, 100_000, 100_500, 60),
            (40, 100_000, 100_500, -60),
        ] {
            assert_eq!(skew_between(date, at(sent), at(received)), Some(skew), "{date}");
        }
    }

    #[test]
    fn clocks_must_agree() {
        for (skew, verdict, text) in [
            (None, Verdict::Skipped, "no Date"),
            (Some(-1), Verdict::Passed, "agrees"),
            (Some(10), Verdict::Passed, "10 s ahead of"),
            (Some(600), Verdict::Failed, "10 min ahead of"),
            (Some(-600), Verdict::Failed, "10 min behind"),
        ] {
            let step = clock(skew);
            assert!(step.verdict == verdict && step.text.contains(text), "{step:?}");
            assert_eq!(step.advice.join("").contains("NTP"), verdict == Verdict::Failed);
        }
    }

    #[test]
    fn each_time_of_a_token_is_checked() {
        let now = 1_700_000_000;
        let valid = Token {
            algorithm: "HS256".to_owned(),
            issuer: Some("https://id".to_owned()),
            expires: Some(now + 3600),
            not_before: Some(now),
            issued: Some(now - 1),
        };
        for (changed, verdict, text, advice) in [
            (valid.clone(), Verdict::Passed, "HS256 token of https://id (cookie), expires in 60 min", ""),
            (Token { expires: None, ..valid.clone() }, Verdict::Passed, "without an expiry", ""),
            (
                Token { expires: Some(now - 300), ..valid.clone() },
                Verdict::Failed,
                "expired 5 min ago",
                "log in again",
            ),
            (Token { not_before: Some(now + 300), ..valid.clone() }, Verdict::Failed, "another 5 min", "nbf"),
            (
                Token { issued: Some(now + 300), ..valid.clone() },
                Verdict::Failed,
                "5 min in the future",
                "NTP",
            ),
        ] {
            let step = token("cookie", &changed, now);
            assert_eq!(step.verdict, verdict, "{step:?}");
            assert!(step.text.contains(text) && step.advice.join("").contains(advice), "{step:?}");
        }
    }
}
