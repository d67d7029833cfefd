//! Decisions about what a client may do in a channel.
//!
//! A function takes what is known about the client and the channel, and returns a [`Decision`]. The first rule that applies
//! decides.
//!
//! [`subscribe`]:
//! 1. A subscription token: its verdict.
//! 2. A private channel: 103.
//! 3. A name with a `#` that does not list the user: 103. One that does, with `allow_user_limited_channels`: allowed.
//! 4. The channels that the identity grants, and the patterns of `subscribe_for`: allowed.
//! 5. The hook: its answer.
//! 6. `allow_subscribe_for_client`: allowed. Otherwise 103.
//!
//! [`publish`]:
//! 1. The patterns of `publish_for`: allowed.
//! 2. Without a subscription, a private channel, or a name with a `#` that does not list the user: 103.
//! 3. The hook: its answer.
//! 4. `allow_publish_for_client`, and `allow_publish_for_subscriber` with a subscription: allowed. Otherwise 103.
//!
//! [`presence`] and [`history`]:
//! 1. The feature is off: 108.
//! 2. As the second rule of [`publish`].
//! 3. The options for every client, and those for subscribers with a subscription: allowed. Otherwise 103.
//!
//! A `#` in a name therefore limits a channel to the users in it even if a namespace is open to every client. Only a
//! subscription token, which names the channel and the user, opens it to another user.

use std::sync::Arc;

use crate::channel::{ChannelName, InvalidChannel};
use crate::namespaces::{ChannelOptions, InvalidPattern, Namespaces, Pattern};
use crate::{Disconnect, ErrorCode};

/// The client of a request.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The id of its user, which is not empty.
    pub user: &'a str,
    /// The channels to which the identity grants subscriptions.
    pub grants: &'a [Pattern],
    /// Whether the connection is subscribed to the channel, by itself or by the server.
    pub is_subscribed: bool,
}

/// The result of a subscription token that came with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenVerdict {
    /// There is no token.
    Absent,
    /// It is valid for this user and this channel.
    Valid,
    /// It is not.
    Refused(Refusal),
}

/// The state of the hook that decides about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// The namespace has no such hook.
    Off,
    /// The hook has not been asked yet.
    Pending,
    /// The hook allows the request.
    Allowed,
    /// The hook refuses the request with this code.
    Refused(ErrorCode),
}

/// A decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The request is allowed, by this rule.
    Allowed(Source),
    /// The request is refused.
    Refused(Refusal),
    /// The hook decides: ask it, and decide again with its answer.
    AskHook,
}

/// A refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The request gets an error reply.
    Error(ErrorCode),
    /// The connection is closed.
    Disconnect(Disconnect),
}

/// The rule that allows a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// A subscription token.
    Token,
    /// `allow_user_limited_channels`, and the name lists the user.
    UserLimited,
    /// The identity grants the channel.
    Grant,
    /// A pattern of the namespace.
    Pattern,
    /// The hook.
    Hook,
    /// An option for every client.
    Client,
    /// An option for subscribers.
    Subscriber,
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Refusal {
        Refusal::Error(code)
    }
}

impl From<InvalidChannel> for Refusal {
    fn from(error: InvalidChannel) -> Refusal {
        match error {
            InvalidChannel::Empty => Refusal::Disconnect(Disconnect::BadRequest),
            InvalidChannel::TooLong | InvalidChannel::Character => Refusal::Error(ErrorCode::BadRequest),
        }
    }
}

/// Returns the channel that a request names, and its options.
///
/// # Errors
/// The text is not a name (107, or 3501 if it is empty), or there is no such namespace (102).
pub fn find_channel<'n, 't>(
    namespaces: &'n Namespaces,
    text: &'t str,
) -> Result<(ChannelName<'t>, &'n Arc<ChannelOptions>), Refusal> {
    let channel = ChannelName::parse(text)?;
    let options = namespaces.options(channel).ok_or(ErrorCode::UnknownChannel)?;
    Ok((channel, options))
}

/// Decides whether a client may subscribe to a channel.
pub fn subscribe(
    subject: Subject<'_>,
    channel: ChannelName<'_>,
    options: &ChannelOptions,
    token: TokenVerdict,
    hook: Hook,
) -> Decision {
    match token {
        TokenVerdict::Valid => return Decision::Allowed(Source::Token),
        TokenVerdict::Refused(refusal) => return Decision::Refused(refusal),
        TokenVerdict::Absent => {}
    }
    if channel.is_private() {
        return DENIED;
    }
    if channel.is_user_limited() {
        if !channel.lists(subject.user) {
            return DENIED;
        }
        if options.allow_user_limited_channels {
            return Decision::Allowed(Source::UserLimited);
        }
    }
    if matches_any(subject.grants, channel, subject.user) {
        return Decision::Allowed(Source::Grant);
    }
    if matches_any(&options.subscribe_for, channel, subject.user) {
        return Decision::Allowed(Source::Pattern);
    }
    if let Some(decision) = hook.decide() {
        return decision;
    }
    if options.allow_subscribe_for_client { Decision::Allowed(Source::Client) } else { DENIED }
}

/// Decides whether a client may publish to a channel.
pub fn publish(
    subject: Subject<'_>,
    channel: ChannelName<'_>,
    options: &ChannelOptions,
    hook: Hook,
) -> Decision {
    // A pattern matches a private channel only if it begins with the `$` itself, and never a channel of listed users.
    if matches_any(&options.publish_for, channel, subject.user) {
        return Decision::Allowed(Source::Pattern);
    }
    if is_closed(subject, channel) {
        return DENIED;
    }
    if let Some(decision) = hook.decide() {
        return decision;
    }
    by_options(subject, options.allow_publish_for_client, options.allow_publish_for_subscriber)
}

/// Decides whether a client may ask for the presence in a channel, or for its numbers.
pub fn presence(subject: Subject<'_>, channel: ChannelName<'_>, options: &ChannelOptions) -> Decision {
    if !options.presence {
        return Decision::Refused(Refusal::Error(ErrorCode::NotAvailable));
    }
    if is_closed(subject, channel) {
        return DENIED;
    }
    by_options(subject, options.allow_presence_for_client, options.allow_presence_for_subscriber)
}

/// Decides whether a client may read the history of a channel.
pub fn history(subject: Subject<'_>, channel: ChannelName<'_>, options: &ChannelOptions) -> Decision {
    if !options.has_history() {
        return Decision::Refused(Refusal::Error(ErrorCode::NotAvailable));
    }
    if is_closed(subject, channel) {
        return DENIED;
    }
    by_options(subject, options.allow_history_for_client, options.allow_history_for_subscriber)
}

/// Parses the value of the header `User-Channels`: patterns, separated by commas. Returns those that are valid, and the first
/// error. A text that is not a pattern grants nothing.
pub fn parse_grants(value: &str) -> (Vec<Pattern>, Option<InvalidPattern>) {
    let mut error = None;
    let texts = value.split(',').map(|text| text.trim_matches([' ', '\t'])).filter(|text| !text.is_empty());
    let grants = texts
        .filter_map(|text| Pattern::parse(text).map_err(|invalid| error = error.or(Some(invalid))).ok())
        .collect();
    (grants, error)
}

impl Hook {
    /// Returns the decision of the hook. `None` if there is no hook.
    fn decide(self) -> Option<Decision> {
        match self {
            Hook::Off => None,
            Hook::Pending => Some(Decision::AskHook),
            Hook::Allowed => Some(Decision::Allowed(Source::Hook)),
            Hook::Refused(code) => Some(Decision::Refused(Refusal::Error(code))),
        }
    }
}

/// Returns whether a channel is closed to a client that is not subscribed to it: the options for every client do not apply.
fn is_closed(subject: Subject<'_>, channel: ChannelName<'_>) -> bool {
    let is_for_others = channel.is_user_limited() && !channel.lists(subject.user);
    !subject.is_subscribed && (channel.is_private() || is_for_others)
}

fn by_options(subject: Subject<'_>, for_client: bool, for_subscriber: bool) -> Decision {
    if for_client {
        Decision::Allowed(Source::Client)
    } else if for_subscriber && subject.is_subscribed {
        Decision::Allowed(Source::Subscriber)
    } else {
        DENIED
    }
}

fn matches_any(patterns: &[Pattern], channel: ChannelName<'_>, user: &str) -> bool {
    patterns.iter().any(|pattern| pattern.matches(channel, user))
}

const DENIED: Decision = Decision::Refused(Refusal::Error(ErrorCode::PermissionDenied));

#[cfg(test)]
mod tests;
