//! Tokens: their issuer, the verifier of the host, and a model of their outcomes and of the ends that they cause.

use std::sync::Mutex;
use std::time::Duration;

use postern_channels::claims::{
    ConnectionClaims, Fault as Unverified, SubscriptionClaims, TokenClaims, Tokens,
};
use postern_core::handshake::{Identity, TokenDetails};
use postern_core::{TokenCheck, Verdict};

use super::plan::TokenPlan;
use crate::fault::Fault;
use crate::random::Random;

/// The issuer of all tokens. It is also the verifier that workers call, and the service that the host asks.
#[derive(Debug)]
pub(crate) struct Issuer {
    plan: TokenPlan,
    fault: Option<Fault>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The virtual time.
    now: Duration,
    issued: Vec<Issued>,
    /// Whether the verifier is always available.
    is_healed: bool,
    random: Random,
}

/// A token.
#[derive(Debug)]
struct Issued {
    claims: TokenClaims,
    is_forged: bool,
    /// The user of the client that sends it.
    user: String,
    /// The channel of the subscription for which it is sent. `None`: it is for the connection.
    channel: Option<String>,
    verified: Option<Verified>,
}

/// The verification of a token.
#[derive(Debug, Clone, Copy)]
struct Verified {
    at: Duration,
    /// Whether the verifier was available.
    is_available: bool,
    /// The latest time at which the worker learns of the verdict.
    known_at: Duration,
}

/// The number of a token.
pub(crate) type Serial = usize;

/// The outcome of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is accepted, and expires at this time.
    Accepted(Option<Duration>),
    /// The command has this error.
    Error(u32),
    /// The connection is closed with 3500.
    Close,
}

impl Issuer {
    pub(crate) fn new(plan: TokenPlan, fault: Option<Fault>, random: Random) -> Issuer {
        let state = State { now: Duration::ZERO, issued: Vec::new(), is_healed: false, random };
        Issuer { plan, fault, state: Mutex::new(state) }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Whether clients may have tokens.
    pub(crate) fn is_used(&self) -> bool {
        self.plan.way != Way::Off
    }

    pub(crate) fn set_now(&self, now: Duration) {
        self.state().now = now;
    }

    /// From now on the verifier is always available.
    pub(crate) fn heal(&self) {
        self.state().is_healed = true;
    }

    /// Issues a token to a client of a user, for its connection or for a channel. Returns its number and its text. Sound ones are
    /// always accepted; among the others are tokens of another user, forged ones and expired ones.
    pub(crate) fn issue(
        &self,
        user: &str,
        channel: Option<&str>,
        is_sound: bool,
        random: &mut Random,
    ) -> (Serial, String) {
        let mut state = self.state();
        let now = EPOCH + state.now.as_secs();
        let least = if is_sound { SOUND } else { 1 };
        let ttl = random.within(least..=self.plan.longest.max(least)) as u64;
        let mut claims = TokenClaims {
            user: user.to_owned(),
            channel: channel.map(str::to_owned),
            expires_at: (!random.one_in(5)).then_some(now + ttl),
            ..TokenClaims::default()
        };
        let mut is_forged = false;
        if !is_sound {
            match random.within(0..=29) {
                0 => claims.user = "another".to_owned(),
                1 => is_forged = true,
                2 | 3 => claims.expires_at = Some(now - random.within(0..=3) as u64),
                4 => claims.not_before = Some(now + 31 + ttl),
                5 => claims.channel = random.pick([None, Some("another")]).map(str::to_owned),
                6 => claims.expire_at = Some(now - random.within(0..=3) as u64),
                7 => claims.expire_at = Some(0),
                8 | 9 => claims.expire_at = Some(now + ttl + 1),
                10 => claims.not_before = Some(now + 29),
                _ => {}
            }
        }
        let serial = state.issued.len();
        let text = if is_forged { format!("{FORGED}{serial}") } else { serial.to_string() };
        let (user, channel) = (user.to_owned(), channel.map(str::to_owned));
        state.issued.push(Issued { claims, is_forged, user, channel, verified: None });
        (serial, text)
    }

    /// Verifies a token. The worker learns of the verdict at `known_at`, or at once.
    fn verify(&self, text: &str, delay: Duration) -> Result<TokenClaims, Unverified> {
        let mut state = self.state();
        let number = text.strip_prefix(FORGED).unwrap_or(text);
        let serial: Serial = number.parse().map_err(|_| Unverified::Invalid)?;
        let is_available = state.is_healed || !state.random.one_in(12);
        let now = state.now;
        let issued = state.issued.get_mut(serial).ok_or(Unverified::Invalid)?;
        issued.verified = Some(Verified { at: now, is_available, known_at: now + delay });
        if !is_available {
            return Err(Unverified::Unavailable);
        }
        if issued.is_forged && self.fault != Some(Fault::AcceptedForgery) {
            return Err(Unverified::Invalid);
        }
        let mut claims = issued.claims.clone();
        if self.fault == Some(Fault::InventedExpiry) {
            claims.expires_at.get_or_insert(EPOCH + now.as_secs() + 60);
        }
        Ok(claims)
    }

    /// Returns the token that reaches the server.
    pub(crate) fn on_the_way(&self, token: Option<String>, user: &str, channel: Option<&str>) -> String {
        let may_lend = self.fault == Some(Fault::LentToken) && self.is_used();
        match token {
            Some(_) if self.fault == Some(Fault::LostToken) => String::new(),
            None if may_lend => {
                let mut random = Random::new(self.state().issued.len() as u64);
                self.issue(user, channel, true, &mut random).1
            }
            token => token.unwrap_or_default(),
        }
    }

    /// Answers the host that asks about a connection token. The answer arrives after `delay`.
    pub(crate) fn check(&self, check: &TokenCheck, delay: Duration) -> Verdict {
        let text = str::from_utf8(check.token.as_bytes()).unwrap_or_default();
        let claims = match self.verify(text, delay) {
            Ok(claims) => claims,
            Err(Unverified::Invalid) => return Verdict::Refused,
            Err(Unverified::Unavailable) => return Verdict::Unknown,
        };
        let now = EPOCH + self.state().now.as_secs();
        if !is_in_time(&claims, now) {
            return Verdict::Refused;
        }
        let token = TokenDetails { exp: claims.expires_at, ..TokenDetails::default() };
        match Identity::new(claims.user.as_bytes(), b"", b"") {
            Ok(user) => Verdict::Valid(user.with_token(token)),
            Err(_) => Verdict::Refused,
        }
    }

    /// Returns the outcome of a token that was verified.
    pub(crate) fn outcome(&self, serial: Serial) -> Option<Outcome> {
        let state = self.state();
        let issued = state.issued.get(serial)?;
        Some(self.outcome_of(issued, &issued.verified?))
    }

    fn outcome_of(&self, issued: &Issued, verified: &Verified) -> Outcome {
        let Issued { claims, is_forged, user, channel, .. } = issued;
        let now = EPOCH + verified.at.as_secs();
        let is_by_service = self.plan.way == Way::Service && channel.is_none();
        let invalid = if channel.is_none() { Outcome::Close } else { Outcome::Error(DENIED) };
        if !verified.is_available {
            return Outcome::Error(INTERNAL);
        }
        if *is_forged {
            return if is_by_service { Outcome::Error(TOKEN_EXPIRED) } else { invalid };
        }
        if !is_in_time(claims, now) {
            return Outcome::Error(TOKEN_EXPIRED);
        }
        if claims.user != *user {
            return Outcome::Close;
        }
        let at = |time: u64| Duration::from_secs(time.saturating_sub(EPOCH));
        if is_by_service {
            return Outcome::Accepted(claims.expires_at.map(at));
        }
        match (channel, &claims.channel) {
            (Some(_), None) => return Outcome::Error(DENIED),
            (asked, named) if asked != named => return Outcome::Close,
            _ => {}
        }
        match claims.expire_at {
            None => Outcome::Accepted(claims.expires_at.map(at)),
            Some(0) => Outcome::Accepted(None),
            Some(time) if time <= now => Outcome::Error(EXPIRED),
            Some(time) => Outcome::Accepted(Some(at(time))),
        }
    }

    /// Checks what a reply says about the expiry that a token has caused, or that there is none without a token.
    ///
    /// # Errors
    /// The promise that is broken.
    pub(crate) fn check_reply(
        &self,
        serial: Option<Serial>,
        (expires, ttl): (bool, u32),
    ) -> Result<(), &'static str> {
        let Some(serial) = serial else {
            return if expires || ttl > 0 { Err("something expires without a token") } else { Ok(()) };
        };
        let outcome = self.outcome(serial).ok_or("a token is accepted without a verification")?;
        let Outcome::Accepted(expires_at) = outcome else {
            return Err("a token is accepted that must be refused");
        };
        let Some(at) = expires_at else {
            return if expires { Err("a token without an expiry expires") } else { Ok(()) };
        };
        let state = self.state();
        let verified = state.issued.get(serial).and_then(|issued| issued.verified);
        let verified_at = verified.map_or(Duration::ZERO, |verified| verified.at);
        // The verifier counts in seconds, and the ttl is rounded up.
        let most = (at + Duration::from_secs(2)).saturating_sub(verified_at).as_secs();
        let least = at.saturating_sub(state.now).as_secs();
        if !expires || u64::from(ttl) > most || u64::from(ttl) < least {
            return Err("a reply has another time until the token expires");
        }
        Ok(())
    }

    /// Checks the error of a command with a token that was verified.
    ///
    /// # Errors
    /// The promise that is broken.
    pub(crate) fn check_error(&self, serial: Serial, code: u32) -> Result<(), &'static str> {
        match self.outcome(serial) {
            Some(Outcome::Error(expected)) if expected == code => Ok(()),
            _ => Err("the error of a token has no cause"),
        }
    }

    /// Whether one of these tokens must end the connection.
    pub(crate) fn has_invalid(&self, mut serials: impl Iterator<Item = Serial>) -> bool {
        serials.any(|serial| self.outcome(serial) == Some(Outcome::Close))
    }

    /// Whether something that these tokens have allowed, one after the other, may have ended because one has expired.
    pub(crate) fn may_have_ended(&self, serials: &[Serial]) -> bool {
        let state = self.state();
        let accepted = self.accepted(&state, serials);
        accepted.iter().enumerate().any(|(index, (_, expires_at))| {
            let Some(at) = expires_at.map(|at| at + self.plan.grace).filter(|at| *at <= state.now) else {
                return false;
            };
            // The next token may have been too late.
            accepted.get(index + 1).is_none_or(|(next, _)| next.known_at + LATEST >= at)
        })
    }

    /// Returns when something that these tokens have allowed, one after the other, must have ended. `None`: never.
    pub(crate) fn ends_at(&self, serials: &[Serial]) -> Option<Duration> {
        let state = self.state();
        let (verified, expires_at) = *self.accepted(&state, serials).last()?;
        let is_for_connection = serials.last().is_some_and(|&serial| state.issued[serial].channel.is_none());
        let spread = if is_for_connection { self.plan.spread } else { Duration::ZERO };
        // The verifier counts in seconds, and so does the list of expiries.
        let rounding = Duration::from_millis(2_001);
        let expires_at = expires_at?;
        let is_late = verified.known_at > verified.at;
        let from = if is_late { expires_at.max(verified.known_at + LATEST) } else { expires_at };
        Some(from + self.plan.grace + spread + rounding)
    }

    /// Returns the verifications of the tokens that were accepted, and when they expire.
    fn accepted(&self, state: &State, serials: &[Serial]) -> Vec<(Verified, Option<Duration>)> {
        let accepted = serials.iter().filter_map(|&serial| {
            let issued = state.issued.get(serial)?;
            let verified = issued.verified?;
            match self.outcome_of(issued, &verified) {
                Outcome::Accepted(expires_at) => Some((verified, expires_at)),
                Outcome::Error(_) | Outcome::Close => None,
            }
        });
        accepted.collect()
    }
}

impl Tokens for Issuer {
    fn connection(&self, token: &str) -> Result<ConnectionClaims, Unverified> {
        let common = self.verify(token, Duration::ZERO)?;
        Ok(ConnectionClaims { common, ..ConnectionClaims::default() })
    }

    fn subscription(&self, token: &str) -> Result<SubscriptionClaims, Unverified> {
        let common = self.verify(token, Duration::ZERO)?;
        Ok(SubscriptionClaims { common, ..SubscriptionClaims::default() })
    }

    fn time(&self) -> u64 {
        let now = if self.fault == Some(Fault::StoppedClock) { Duration::ZERO } else { self.state().now };
        EPOCH + now.as_secs()
    }

    fn are_checked_by_host(&self) -> bool {
        self.plan.way == Way::Service
    }
}

/// The verification of connection tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// There are no tokens.
    Off,
    /// Workers verify them by keys.
    Keys,
    /// The host asks a service.
    Service,
}

/// Whether a token is valid at a time, by the leeway of the protocol's table.
fn is_in_time(claims: &TokenClaims, now: u64) -> bool {
    claims.not_before.is_none_or(|start| start <= now + 30) && claims.expires_at.is_none_or(|end| end > now)
}

/// The start of virtual time, in seconds since 1970.
const EPOCH: u64 = 1_700_000_000;

/// The shortest time to live of a token for a client without faults, in seconds.
const SOUND: usize = 5;

/// The longest time after which a worker handles an event in its inbox.
const LATEST: Duration = Duration::from_secs(4);

/// The beginning of a token without a valid signature.
const FORGED: &str = "forged-";

/// The codes of errors.
const INTERNAL: u32 = 100;
const DENIED: u32 = 103;
const TOKEN_EXPIRED: u32 = 109;
const EXPIRED: u32 = 110;
