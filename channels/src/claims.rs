//! The claims of tokens whose signature has been verified: connection tokens and subscription tokens.
//!
//! The outcome is exact, because SDKs act on it: after 109 they fetch another token, after 103 the subscription has failed, and
//! after 3500 the connection is not opened again.
//!
//! | | connection token | subscription token |
//! |---|---|---|
//! | the token has expired (`exp`), or is not valid yet (`nbf`) | 109 | 109 |
//! | of another user (`sub`) | 3500 | 3500 |
//! | `channel` | 3500 if there is one | 3500 if it is another one, 103 if there is none |
//! | `info` is not one JSON text | 3500 | 103 |
//! | `expire_at` has passed | 110 | 110 |
//! | a channel in `channels` or `subs` that is not a name | 107 | |
//!
//! The first row that applies decides. A token that cannot be verified at all has the outcome of [`Fault::refuse_connection`]
//! or [`Fault::refuse_subscription`].

use std::borrow::Cow;
use std::fmt::Debug;

use crate::channel::ChannelName;
use crate::namespaces::ChannelOptions;
use crate::permissions::Refusal;
use crate::protocol::Raw;
use crate::{Disconnect, ErrorCode};

/// Verifies tokens. Workers call it while they handle a message, so it does not wait.
pub trait Tokens: Debug + Send + Sync {
    /// Verifies the signature of a connection token, and returns its claims.
    ///
    /// # Errors
    /// See [`Fault`].
    fn connection(&self, token: &str) -> Result<ConnectionClaims, Fault>;

    /// Verifies the signature of a subscription token, and returns its claims.
    ///
    /// # Errors
    /// See [`Fault`].
    fn subscription(&self, token: &str) -> Result<SubscriptionClaims, Fault>;

    /// Returns the current time, in seconds since 1970.
    fn time(&self) -> u64;

    /// Returns whether the host checks connection tokens, by [`Operation::CheckToken`](crate::engine::Operation::CheckToken).
    /// Then [`connection`](Tokens::connection) is not called.
    fn are_checked_by_host(&self) -> bool {
        false
    }
}

/// The claims that both kinds of tokens have. Times are seconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenClaims {
    /// `sub`: the id of the user. Empty if there is none.
    pub user: String,
    /// `channel`: only in subscription tokens.
    pub channel: Option<String>,
    /// `exp`: when the token expires.
    pub expires_at: Option<u64>,
    /// `nbf`: from when the token is valid.
    pub not_before: Option<u64>,
    /// `expire_at`: when the connection or the subscription expires, in place of `exp`. 0: never.
    pub expire_at: Option<u64>,
    /// `info`, or the bytes of `b64info`, which takes precedence. Must be a JSON text.
    pub info: Option<Vec<u8>>,
}

/// The claims of a connection token.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnectionClaims {
    /// The claims that both kinds of tokens have.
    pub common: TokenClaims,
    /// `channels`: channels to which the server subscribes the connection.
    pub channels: Vec<String>,
    /// `subs`: the same, with options.
    pub subs: Vec<(String, SubscriptionDetails)>,
}

/// The claims of a subscription token.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubscriptionClaims {
    /// The claims that both kinds of tokens have.
    pub common: TokenClaims,
    /// `override`: options of this subscription.
    pub overrides: Overrides,
}

/// An entry of the claim `subs`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubscriptionDetails {
    /// `info`, or the bytes of `b64info`. Must be a JSON text.
    pub info: Option<Vec<u8>>,
    /// `data`, or the bytes of `b64data`, for the client.
    pub data: Option<Vec<u8>>,
    /// `override`.
    pub overrides: Overrides,
}

/// Options of one subscription, which replace options of its namespace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Replaces [`ChannelOptions::presence`].
    pub presence: Option<bool>,
    /// Replaces [`ChannelOptions::join_leave`].
    pub join_leave: Option<bool>,
    /// Replaces [`ChannelOptions::force_push_join_leave`].
    pub force_push_join_leave: Option<bool>,
    /// Replaces [`ChannelOptions::force_positioning`].
    pub force_positioning: Option<bool>,
    /// Replaces [`ChannelOptions::force_recovery`].
    pub force_recovery: Option<bool>,
}

/// The wishes of a subscribe request. Without the right they are not granted, which is not an error.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wishes {
    /// `positioned`.
    pub positioned: bool,
    /// `recoverable`.
    pub recoverable: bool,
    /// `join_leave`.
    pub join_leave: bool,
}

/// The features of one subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// The client is in the presence of the channel.
    pub presence: bool,
    /// Other subscribers get its join and its leave.
    pub join_leave: bool,
    /// It gets the joins and leaves of others.
    pub gets_join_leave: bool,
    /// It gets a notification of gaps.
    pub positioned: bool,
    /// It can recover.
    pub recoverable: bool,
}

/// A connection that its token allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// When it expires. `None`: never.
    pub expires_at: Option<u64>,
    /// The information about the connection for subscribers, a compact JSON text.
    pub info: Option<Vec<u8>>,
    /// The channels to which the server subscribes it, each once.
    pub subscriptions: Vec<(String, SubscriptionDetails)>,
}

/// A subscription that its token allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// When it expires. `None`: never.
    pub expires_at: Option<u64>,
    /// The information about the subscription for other subscribers, a compact JSON text.
    pub info: Option<Vec<u8>>,
    /// Options of the subscription.
    pub overrides: Overrides,
}

/// Why a token cannot be verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// It is not a token, or not one of this issuer.
    Invalid,
    /// The keys of the issuer are not available, so nothing is known about it.
    Unavailable,
}

impl Fault {
    /// Returns the answer to a connection token: 3500, or 100 if the client should try again.
    pub fn refuse_connection(self) -> Refusal {
        match self {
            Fault::Invalid => INVALID,
            Fault::Unavailable => Refusal::Error(ErrorCode::Internal),
        }
    }

    /// Returns the answer to a subscription token: 103, or 100 if the client should try again.
    pub fn refuse_subscription(self) -> Refusal {
        match self {
            Fault::Invalid => DENIED,
            Fault::Unavailable => Refusal::Error(ErrorCode::Internal),
        }
    }
}

/// Judges the claims of a connection token, for the authenticated user. Also for the token of a `refresh`.
/// `now` is in seconds since 1970.
///
/// # Errors
/// The first row of the [table](self) that applies.
pub fn connection(claims: ConnectionClaims, user: &str, now: u64) -> Result<Connection, Refusal> {
    let ConnectionClaims { common, channels, subs } = claims;
    check_time(&common, now)?;
    if common.user.is_empty() || common.user != user || common.channel.is_some() {
        return Err(INVALID);
    }
    let info = compact(common.info.as_deref(), INVALID)?;
    let expires_at = check_expiry(&common, now)?;
    let mut subscriptions: Vec<(String, SubscriptionDetails)> = Vec::new();
    // An entry with options takes precedence.
    for (channel, details) in subs.into_iter().chain(channels.into_iter().map(|name| (name, <_>::default())))
    {
        if ChannelName::parse(&channel).is_err() {
            return Err(ErrorCode::BadRequest.into());
        }
        let info = compact(details.info.as_deref(), INVALID)?;
        if subscriptions.iter().all(|(known, _)| *known != channel) {
            subscriptions.push((channel, SubscriptionDetails { info, ..details }));
        }
    }
    Ok(Connection { expires_at, info, subscriptions })
}

/// Judges the claims of a subscription token, for a user and the channel of the request. Also for the token of a
/// `sub_refresh`. `now` is in seconds since 1970.
///
/// # Errors
/// The first row of the [table](self) that applies.
pub fn subscription(
    claims: SubscriptionClaims,
    user: &str,
    channel: ChannelName<'_>,
    now: u64,
) -> Result<Subscription, Refusal> {
    let SubscriptionClaims { common, overrides } = claims;
    check_time(&common, now)?;
    if common.user.is_empty() || common.user != user {
        return Err(INVALID);
    }
    match common.channel.as_deref() {
        None | Some("") => return Err(DENIED),
        Some(named) if named != channel.as_str() => return Err(INVALID),
        Some(_) => {}
    }
    let info = compact(common.info.as_deref(), DENIED)?;
    Ok(Subscription { expires_at: check_expiry(&common, now)?, info, overrides })
}

impl Overrides {
    /// Returns the features of a subscription in a channel with these options.
    pub fn features(self, options: &ChannelOptions, wishes: Wishes) -> Features {
        let join_leave = self.join_leave.unwrap_or(options.join_leave);
        let pushes = self.force_push_join_leave.unwrap_or(options.force_push_join_leave);
        let positioning = self.force_positioning.unwrap_or(options.force_positioning);
        let recovery = self.force_recovery.unwrap_or(options.force_recovery);
        Features {
            presence: self.presence.unwrap_or(options.presence),
            join_leave,
            gets_join_leave: join_leave && (pushes || wishes.join_leave),
            positioned: options.has_history()
                && (positioning || (options.allow_positioning && wishes.positioned)),
            recoverable: options.has_history()
                && (recovery || (options.allow_recovery && wishes.recoverable)),
        }
    }
}

/// Checks the time in which the token is valid. It has expired at `exp`, not only after it.
fn check_time(claims: &TokenClaims, now: u64) -> Result<(), Refusal> {
    let is_early = claims.not_before.is_some_and(|start| start > now.saturating_add(LEEWAY));
    let is_late = claims.expires_at.is_some_and(|end| end <= now);
    if is_early || is_late { Err(ErrorCode::TokenExpired.into()) } else { Ok(()) }
}

/// Returns when the connection or the subscription expires.
fn check_expiry(claims: &TokenClaims, now: u64) -> Result<Option<u64>, Refusal> {
    match claims.expire_at {
        None => Ok(claims.expires_at),
        Some(0) => Ok(None),
        Some(expire_at) if expire_at <= now => Err(ErrorCode::Expired.into()),
        Some(expire_at) => Ok(Some(expire_at)),
    }
}

fn compact(info: Option<&[u8]>, refusal: Refusal) -> Result<Option<Vec<u8>>, Refusal> {
    info.map(|info| Raw::new(info).compact().map(Cow::into_owned).map_err(|_| refusal)).transpose()
}

const INVALID: Refusal = Refusal::Disconnect(Disconnect::InvalidToken);
const DENIED: Refusal = Refusal::Error(ErrorCode::PermissionDenied);

/// The allowed difference between the issuer's clock and ours for `nbf`, in seconds. `exp` needs none: an SDK that gets 109
/// fetches another token.
const LEEWAY: u64 = 30;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn common() -> TokenClaims {
        TokenClaims { user: "1".into(), ..TokenClaims::default() }
    }

    fn connect(common: TokenClaims) -> Result<Connection, Refusal> {
        connection(ConnectionClaims { common, ..ConnectionClaims::default() }, "1", NOW)
    }

    fn subscribe(common: TokenClaims) -> Result<Subscription, Refusal> {
        let claims = SubscriptionClaims { common, ..SubscriptionClaims::default() };
        subscription(claims, "1", ChannelName::parse("$news").unwrap(), NOW)
    }

    fn with_channel(common: TokenClaims) -> TokenClaims {
        TokenClaims { channel: Some("$news".into()), ..common }
    }

    #[test]
    fn a_fault_has_the_same_place_in_both_kinds_of_tokens() {
        let (expired, late) = (Refusal::Error(ErrorCode::TokenExpired), Refusal::Error(ErrorCode::Expired));
        let other = "2".to_owned();
        for (claims, for_connection, for_subscription) in [
            (TokenClaims { expires_at: Some(NOW), ..common() }, expired, expired),
            (TokenClaims { expires_at: Some(0), ..common() }, expired, expired),
            (TokenClaims { not_before: Some(NOW + LEEWAY + 1), ..common() }, expired, expired),
            // The time is judged first.
            (TokenClaims { expires_at: Some(NOW), user: other.clone(), ..common() }, expired, expired),
            (TokenClaims { user: other, ..common() }, INVALID, INVALID),
            (TokenClaims { user: String::new(), ..common() }, INVALID, INVALID),
            (TokenClaims { info: Some(b"{".to_vec()), ..common() }, INVALID, DENIED),
            (TokenClaims { info: Some(b"1}".to_vec()), ..common() }, INVALID, DENIED),
            (TokenClaims { info: Some(Vec::new()), ..common() }, INVALID, DENIED),
            (TokenClaims { expire_at: Some(NOW), ..common() }, late, late),
        ] {
            assert_eq!(connect(claims.clone()), Err(for_connection), "{claims:?}");
            assert_eq!(subscribe(with_channel(claims.clone())), Err(for_subscription), "{claims:?}");
        }
    }

    #[test]
    fn a_user_without_an_id_never_has_a_token() {
        let claims = TokenClaims { user: String::new(), ..common() };
        let connection_claims = ConnectionClaims { common: claims.clone(), ..ConnectionClaims::default() };
        assert_eq!(connection(connection_claims, "", NOW), Err(INVALID));
        let claims = SubscriptionClaims { common: with_channel(claims), ..SubscriptionClaims::default() };
        assert_eq!(subscription(claims, "", ChannelName::parse("$news").unwrap(), NOW), Err(INVALID));
    }

    #[test]
    fn a_subscription_token_is_for_one_channel_and_not_for_a_connection() {
        assert_eq!(connect(with_channel(common())), Err(INVALID));
        assert_eq!(subscribe(common()), Err(DENIED));
        for (channel, expected) in [("", DENIED), ("news", INVALID), ("$news2", INVALID), ("$NEWS", INVALID)]
        {
            let claims = TokenClaims { channel: Some(channel.into()), ..common() };
            assert_eq!(subscribe(claims), Err(expected), "{channel}");
        }
        assert!(subscribe(with_channel(common())).is_ok());
    }

    #[test]
    fn expire_at_takes_the_place_of_exp() {
        for (exp, expire_at, expected) in [
            (None, None, None),
            (Some(NOW + 1), None, Some(NOW + 1)),
            (Some(NOW + 1), Some(0), None),
            (Some(NOW + 1), Some(NOW + 9), Some(NOW + 9)),
            (None, Some(NOW + 9), Some(NOW + 9)),
        ] {
            let claims =
                TokenClaims { expires_at: exp, expire_at, not_before: Some(NOW + LEEWAY), ..common() };
            assert_eq!(connect(claims.clone()).unwrap().expires_at, expected);
            assert_eq!(subscribe(with_channel(claims)).unwrap().expires_at, expected);
        }
    }

    #[test]
    fn info_is_compacted() {
        let claims = TokenClaims { info: Some(b" { \"a\" : [ 1, 2.0 ] }\n".to_vec()), ..common() };
        let expected = Some(b"{\"a\":[1,2.0]}".to_vec());
        assert_eq!(connect(claims.clone()).unwrap().info, expected);
        assert_eq!(subscribe(with_channel(claims)).unwrap().info, expected);
    }

    #[test]
    fn channels_of_a_connection_token_are_valid_names_and_occur_once() {
        let details = SubscriptionDetails {
            info: Some(b" 1".to_vec()),
            data: Some(b"x".to_vec()),
            overrides: Overrides { presence: Some(true), ..Overrides::default() },
        };
        let claims = |channels: &[&str], info: Option<&[u8]>| ConnectionClaims {
            common: common(),
            channels: channels.iter().map(|channel| (*channel).to_owned()).collect(),
            subs: vec![(
                "a".to_owned(),
                SubscriptionDetails { info: info.map(Vec::from), ..details.clone() },
            )],
        };
        let found = connection(claims(&["b", "a", "b"], Some(b" 1")), "1", NOW).unwrap().subscriptions;
        let with_options = SubscriptionDetails { info: Some(b"1".to_vec()), ..details.clone() };
        assert_eq!(found, [("a".to_owned(), with_options), ("b".to_owned(), SubscriptionDetails::default())]);
        for name in ["", "é", &*"a".repeat(256)] {
            let refusal = connection(claims(&[name], None), "1", NOW).unwrap_err();
            assert_eq!(refusal, Refusal::Error(ErrorCode::BadRequest));
        }
        assert_eq!(connection(claims(&[], Some(b"]")), "1", NOW), Err(INVALID));
    }

    #[test]
    fn overrides_replace_the_options_of_the_namespace() {
        let none = Wishes::default();
        let all = Wishes { positioned: true, recoverable: true, join_leave: true };
        let history =
            ChannelOptions { history_size: 1, history_ttl: Duration::from_secs(1), ..Default::default() };
        let on = Overrides {
            presence: Some(true),
            join_leave: Some(true),
            force_push_join_leave: Some(true),
            force_positioning: Some(true),
            force_recovery: Some(true),
        };
        let off = Overrides {
            presence: Some(false),
            join_leave: Some(false),
            force_push_join_leave: Some(false),
            force_positioning: Some(false),
            force_recovery: Some(false),
        };
        let shown = |features: Features| {
            let Features { presence, join_leave, gets_join_leave, positioned, recoverable } = features;
            [presence, join_leave, gets_join_leave, positioned, recoverable]
        };
        let forced = ChannelOptions {
            presence: true,
            join_leave: true,
            force_push_join_leave: true,
            force_positioning: true,
            force_recovery: true,
            ..history.clone()
        };
        let allowed = ChannelOptions {
            join_leave: true,
            allow_positioning: true,
            allow_recovery: true,
            ..history.clone()
        };
        assert_eq!(shown(on.features(&history, none)), [true; 5]);
        // Without a history there is nothing to recover.
        assert_eq!(shown(on.features(&ChannelOptions::default(), all)), [true, true, true, false, false]);
        assert_eq!(shown(off.features(&forced, none)), [false; 5]);
        assert_eq!(shown(Overrides::default().features(&forced, none)), [true; 5]);
        assert_eq!(shown(Overrides::default().features(&history, all)), [false; 5]);
        assert_eq!(shown(Overrides::default().features(&allowed, none)), [false, true, false, false, false]);
        assert_eq!(shown(Overrides::default().features(&allowed, all)), [false, true, true, true, true]);
    }

    #[test]
    fn a_token_that_cannot_be_verified_has_an_exact_outcome() {
        let internal = Refusal::Error(ErrorCode::Internal);
        assert_eq!(Fault::Invalid.refuse_connection(), INVALID);
        assert_eq!(Fault::Invalid.refuse_subscription(), DENIED);
        assert_eq!(Fault::Unavailable.refuse_connection(), internal);
        assert_eq!(Fault::Unavailable.refuse_subscription(), internal);
    }
}
