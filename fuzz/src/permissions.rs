//! Decisions about what a client may do in a channel, compared with a second implementation of the rules.
//!
//! The second implementation splits the name of the channel by hand and matches patterns by recursion.

use std::time::Duration;

use postern_channels::channel::ChannelName;
use postern_channels::namespaces::{ChannelOptions, Pattern};
use postern_channels::permissions::{
    Decision, Hook, Refusal, Source, Subject, TokenVerdict, history, parse_grants, presence, publish,
    subscribe,
};
use postern_channels::{Disconnect, ErrorCode};

/// Checks an input: two bytes of switches, then five lines with the channel, the user, the grants, and the patterns of
/// `subscribe_for` and `publish_for`, separated by commas.
///
/// # Panics
/// That is the finding.
pub fn check(input: &[u8]) {
    let Some((&[low, high], rest)) = input.split_first_chunk::<2>() else { return };
    let Ok(text) = str::from_utf8(rest) else { return };
    let mut lines = text.splitn(5, '\n');
    let mut line = || lines.next().unwrap_or_default();
    let (name, user, grants) = (line(), line(), parse_grants(line()).0);
    let (subscribe_for, publish_for) = (parse_grants(line()).0, parse_grants(line()).0);
    let (Ok(channel), false) = (ChannelName::parse(name), user.is_empty()) else { return };
    let is_on = |bit: u32| (u32::from(low) | u32::from(high) << 8) & 1 << bit != 0;
    let options = ChannelOptions {
        allow_subscribe_for_client: is_on(0),
        allow_user_limited_channels: is_on(1),
        allow_publish_for_client: is_on(2),
        allow_publish_for_subscriber: is_on(3),
        allow_presence_for_client: is_on(4),
        allow_presence_for_subscriber: is_on(5),
        allow_history_for_client: is_on(6),
        allow_history_for_subscriber: is_on(7),
        presence: is_on(8),
        history_size: usize::from(is_on(9)),
        history_ttl: Duration::from_secs(u64::from(is_on(10))),
        subscribe_for,
        publish_for,
        ..ChannelOptions::default()
    };
    let is_subscribed = is_on(11);
    let token = match (is_on(12), is_on(13)) {
        (false, _) => TokenVerdict::Absent,
        (true, true) => TokenVerdict::Valid,
        (true, false) => TokenVerdict::Refused(Refusal::Disconnect(Disconnect::InvalidToken)),
    };
    let hook = match (is_on(14), is_on(15)) {
        (false, false) => Hook::Off,
        (false, true) => Hook::Pending,
        (true, false) => Hook::Allowed,
        (true, true) => Hook::Refused(ErrorCode::Internal),
    };
    let subject = Subject { user, grants: &grants, is_subscribed };

    let (is_private, is_listed) =
        (name.starts_with('$'), listed(name).map(|ids| ids.contains(&user.to_owned())));
    let matches = |patterns: &[Pattern]| {
        is_listed.is_none() && patterns.iter().any(|pattern| matches(pattern.as_str(), name, user))
    };
    let refused = |code| Decision::Refused(Refusal::Error(code));
    let denied = refused(ErrorCode::PermissionDenied);
    let by_hook = match hook {
        Hook::Off => None,
        Hook::Pending => Some(Decision::AskHook),
        Hook::Allowed => Some(Decision::Allowed(Source::Hook)),
        Hook::Refused(code) => Some(refused(code)),
    };
    let allowed = |is_allowed: bool, source| is_allowed.then_some(Decision::Allowed(source));

    let by_token = match token {
        TokenVerdict::Absent => None,
        TokenVerdict::Valid => Some(Decision::Allowed(Source::Token)),
        TokenVerdict::Refused(refusal) => Some(Decision::Refused(refusal)),
    };
    let expected = by_token
        .or((is_private || is_listed == Some(false)).then_some(denied))
        .or(allowed(is_listed == Some(true) && options.allow_user_limited_channels, Source::UserLimited))
        .or(allowed(matches(&grants), Source::Grant))
        .or(allowed(matches(&options.subscribe_for), Source::Pattern))
        .or(by_hook)
        .or(allowed(options.allow_subscribe_for_client, Source::Client))
        .unwrap_or(denied);
    assert_eq!(subscribe(subject, channel, &options, token, hook), expected, "subscribe: {name:?} {user:?}");

    let is_closed = !is_subscribed && (is_private || is_listed == Some(false));
    let closed = is_closed.then_some(denied);
    let by_options = |for_client, for_subscriber: bool| {
        allowed(for_client, Source::Client)
            .or(allowed(for_subscriber && is_subscribed, Source::Subscriber))
            .unwrap_or(denied)
    };
    let expected = allowed(matches(&options.publish_for), Source::Pattern)
        .or(closed)
        .or(by_hook)
        .unwrap_or(by_options(options.allow_publish_for_client, options.allow_publish_for_subscriber));
    assert_eq!(publish(subject, channel, &options, hook), expected, "publish: {name:?} {user:?}");

    let off = |is_off: bool| is_off.then_some(refused(ErrorCode::NotAvailable));
    let expected = off(!is_on(8))
        .or(closed)
        .unwrap_or(by_options(options.allow_presence_for_client, options.allow_presence_for_subscriber));
    assert_eq!(presence(subject, channel, &options), expected, "presence: {name:?} {user:?}");
    let expected = off(!is_on(9) || !is_on(10))
        .or(closed)
        .unwrap_or(by_options(options.allow_history_for_client, options.allow_history_for_subscriber));
    assert_eq!(history(subject, channel, &options), expected, "history: {name:?} {user:?}");
}

/// Returns the users in a name, if it is limited to some.
fn listed(name: &str) -> Option<Vec<String>> {
    let at = name.rfind('#')?;
    let decode = |id: &str| id.replace("%2C", ",").replace("%23", "#").replace("%25", "%");
    let encode = |id: &str| id.replace('%', "%25").replace('#', "%23").replace(',', "%2C");
    let ids = name[at + 1..].split(',');
    // An id in another spelling than ours is not the id of a user.
    Some(ids.filter(|id| !id.is_empty() && encode(&decode(id)) == **id).map(decode).collect())
}

/// Returns whether a pattern matches a name without a `#`.
fn matches(pattern: &str, name: &str, user: &str) -> bool {
    if pattern.starts_with('$') != name.starts_with('$') {
        return false;
    }
    if let Some(at) = pattern.find("{id}") {
        let (before, after) = (&pattern[..at], &pattern[at + 4..]);
        let is_ambiguous = after.chars().next().is_some_and(|next| user.contains(next))
            || (before.contains('*') && before.chars().last().is_some_and(|last| user.contains(last)));
        if is_ambiguous {
            return false;
        }
    }
    rest_matches(pattern.as_bytes(), name.as_bytes(), user.as_bytes())
}

fn rest_matches(pattern: &[u8], name: &[u8], user: &[u8]) -> bool {
    if let Some(pattern) = pattern.strip_prefix(b"{id}") {
        return name.strip_prefix(user).is_some_and(|name| rest_matches(pattern, name, user));
    }
    match (pattern, name) {
        ([], []) => true,
        ([b'*', pattern @ ..], [_, name @ ..]) => {
            (0..=name.len()).any(|skipped| rest_matches(pattern, &name[skipped..], user))
        }
        ([wanted, pattern @ ..], [found, name @ ..]) => wanted == found && rest_matches(pattern, name, user),
        ([], _) | (_, []) => false,
    }
}
