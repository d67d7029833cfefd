//! The order of the rules, one case for each, and what must hold for all inputs.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

const NOT_AVAILABLE: Decision = Decision::Refused(Refusal::Error(ErrorCode::NotAvailable));

fn patterns(texts: &[&str]) -> Vec<Pattern> {
    texts.iter().map(|text| Pattern::parse(text).unwrap()).collect()
}

fn name(text: &str) -> ChannelName<'_> {
    ChannelName::parse(text).unwrap()
}

/// Returns options that allow everything to every client.
fn open() -> ChannelOptions {
    ChannelOptions {
        allow_subscribe_for_client: true,
        allow_user_limited_channels: true,
        allow_publish_for_client: true,
        allow_publish_for_subscriber: true,
        allow_presence_for_client: true,
        allow_presence_for_subscriber: true,
        allow_history_for_client: true,
        allow_history_for_subscriber: true,
        presence: true,
        history_size: 10,
        history_ttl: Duration::from_secs(10),
        ..ChannelOptions::default()
    }
}

fn subject<'a>(user: &'a str, grants: &'a [Pattern], is_subscribed: bool) -> Subject<'a> {
    Subject { user, grants, is_subscribed }
}

#[track_caller]
fn check_subscribe(
    channel: &str,
    options: &ChannelOptions,
    grants: &[&str],
    (token, hook): (TokenVerdict, Hook),
    expected: Decision,
) {
    let grants = patterns(grants);
    let decision = subscribe(subject("1", &grants, false), name(channel), options, token, hook);
    assert_eq!(decision, expected, "{channel}");
}

#[test]
fn subscribe_is_decided_by_the_first_rule_that_applies() {
    use Decision::{Allowed, AskHook, Refused};
    const NOTHING: (TokenVerdict, Hook) = (TokenVerdict::Absent, Hook::Off);
    let expired = Refusal::Error(ErrorCode::TokenExpired);
    let closed = ChannelOptions::default();
    let limited = ChannelOptions { allow_user_limited_channels: true, ..closed.clone() };
    let for_pattern = ChannelOptions { subscribe_for: patterns(&["a:*", "u.{id}"]), ..closed.clone() };
    let all = ChannelOptions { subscribe_for: patterns(&["a:*"]), ..open() };

    // A token decides, in every channel.
    for channel in ["a:1", "$a:1", "a:#2", "$a:x#2"] {
        check_subscribe(channel, &closed, &[], (TokenVerdict::Valid, Hook::Pending), Allowed(Source::Token));
        check_subscribe(
            channel,
            &all,
            &["*"],
            (TokenVerdict::Refused(expired), Hook::Allowed),
            Refused(expired),
        );
    }
    // A private channel needs one.
    check_subscribe("$a:1", &all, &["$a:1", "*"], (TokenVerdict::Absent, Hook::Allowed), DENIED);
    check_subscribe("$a:#1", &all, &[], NOTHING, DENIED);
    // The users in a name.
    check_subscribe("a:d#1,2", &limited, &[], NOTHING, Allowed(Source::UserLimited));
    check_subscribe(
        "a:d#1,2",
        &limited,
        &[],
        (TokenVerdict::Absent, Hook::Pending),
        Allowed(Source::UserLimited),
    );
    check_subscribe("a:d#2,3", &all, &["*"], (TokenVerdict::Absent, Hook::Allowed), DENIED);
    check_subscribe("a:d#1,2", &closed, &[], NOTHING, DENIED);
    check_subscribe("a:d#1,2", &closed, &[], (TokenVerdict::Absent, Hook::Pending), AskHook);
    // The grants of the identity.
    check_subscribe(
        "a:1",
        &closed,
        &["b", "a:*"],
        (TokenVerdict::Absent, Hook::Pending),
        Allowed(Source::Grant),
    );
    check_subscribe("a:1", &all, &["a:1"], NOTHING, Allowed(Source::Grant));
    check_subscribe("a:2", &closed, &["a:1"], NOTHING, DENIED);
    // The patterns of the namespace.
    check_subscribe(
        "a:1",
        &for_pattern,
        &[],
        (TokenVerdict::Absent, Hook::Pending),
        Allowed(Source::Pattern),
    );
    check_subscribe("u.1", &for_pattern, &[], NOTHING, Allowed(Source::Pattern));
    check_subscribe("u.2", &for_pattern, &[], NOTHING, DENIED);
    // The hook.
    let missing = ErrorCode::UnknownChannel;
    check_subscribe("b:1", &all, &[], (TokenVerdict::Absent, Hook::Pending), AskHook);
    check_subscribe("b:1", &closed, &[], (TokenVerdict::Absent, Hook::Allowed), Allowed(Source::Hook));
    check_subscribe(
        "b:1",
        &all,
        &[],
        (TokenVerdict::Absent, Hook::Refused(missing)),
        Refused(missing.into()),
    );
    // The option for every client.
    check_subscribe("b:1", &all, &[], NOTHING, Allowed(Source::Client));
    check_subscribe("b:1", &closed, &[], NOTHING, DENIED);
}

#[test]
fn publish_is_decided_by_the_first_rule_that_applies() {
    #[track_caller]
    fn check(channel: &str, options: &ChannelOptions, is_subscribed: bool, hook: Hook, expected: Decision) {
        let decision = publish(subject("1", &[], is_subscribed), name(channel), options, hook);
        assert_eq!(decision, expected, "{channel}");
    }
    use Decision::{Allowed, AskHook};
    let closed = ChannelOptions::default();
    let open = open();
    let subscribers = ChannelOptions { allow_publish_for_subscriber: true, ..closed.clone() };
    let for_pattern = ChannelOptions { publish_for: patterns(&["a:*", "$a:{id}"]), ..closed.clone() };

    check("a:1", &for_pattern, false, Hook::Refused(ErrorCode::Internal), Allowed(Source::Pattern));
    check("$a:1", &for_pattern, false, Hook::Off, Allowed(Source::Pattern));
    check("$a:2", &for_pattern, true, Hook::Off, DENIED);
    // A private channel, and one for other users, are open to subscribers only.
    for channel in ["$a:1", "a:#2"] {
        check(channel, &open, false, Hook::Allowed, DENIED);
        check(channel, &open, true, Hook::Off, Allowed(Source::Client));
        check(channel, &subscribers, true, Hook::Off, Allowed(Source::Subscriber));
        check(channel, &subscribers, true, Hook::Pending, AskHook);
    }
    check("a:#1", &open, false, Hook::Off, Allowed(Source::Client));
    check("b:1", &open, true, Hook::Pending, AskHook);
    check("b:1", &closed, false, Hook::Allowed, Allowed(Source::Hook));
    let limit = ErrorCode::TooManyRequests;
    check("b:1", &open, false, Hook::Refused(limit), Decision::Refused(limit.into()));
    check("b:1", &open, false, Hook::Off, Allowed(Source::Client));
    check("b:1", &subscribers, true, Hook::Off, Allowed(Source::Subscriber));
    check("b:1", &subscribers, false, Hook::Off, DENIED);
    check("b:1", &closed, true, Hook::Off, DENIED);
}

#[test]
fn presence_and_history_need_the_feature_first_and_then_a_permission() {
    type Ask = fn(Subject<'_>, ChannelName<'_>, &ChannelOptions) -> Decision;
    let open = open();
    let off = ChannelOptions { presence: false, history_size: 0, ..open.clone() };
    let without_time = ChannelOptions { history_ttl: Duration::ZERO, ..open.clone() };
    let subscribers =
        ChannelOptions { allow_presence_for_client: false, allow_history_for_client: false, ..open.clone() };
    let closed = ChannelOptions {
        allow_presence_for_subscriber: false,
        allow_history_for_subscriber: false,
        ..subscribers.clone()
    };
    for ask in [presence as Ask, history] {
        let decide = |channel: &str, options, is_subscribed| {
            ask(subject("1", &[], is_subscribed), name(channel), options)
        };
        // 108 also where the client may do nothing.
        for channel in ["a:1", "$a:1", "a:#2"] {
            assert_eq!(decide(channel, &off, true), NOT_AVAILABLE);
            assert_eq!(decide(channel, &off, false), NOT_AVAILABLE);
        }
        assert_eq!(decide("a:1", &open, false), Decision::Allowed(Source::Client));
        assert_eq!(decide("a:#1", &open, false), Decision::Allowed(Source::Client));
        assert_eq!(decide("a:1", &subscribers, true), Decision::Allowed(Source::Subscriber));
        assert_eq!(decide("a:1", &subscribers, false), DENIED);
        assert_eq!(decide("a:1", &closed, true), DENIED);
        for channel in ["$a:1", "a:#2"] {
            assert_eq!(decide(channel, &open, false), DENIED);
            assert_eq!(decide(channel, &subscribers, true), Decision::Allowed(Source::Subscriber));
        }
    }
    assert_eq!(history(subject("1", &[], true), name("a:1"), &without_time), NOT_AVAILABLE);
}

#[test]
fn a_channel_is_found_by_its_name() {
    let namespaces = Namespaces::new(ChannelOptions::default(), [("auction".into(), open())]);
    let refusal = |text: &str| find_channel(&namespaces, text).map(|_| ()).unwrap_err();
    let (channel, options) = find_channel(&namespaces, "auction:42").unwrap();
    assert_eq!(channel.as_str(), "auction:42");
    assert!(options.presence);
    assert!(!find_channel(&namespaces, "#42").unwrap().1.presence);
    assert_eq!(refusal(""), Refusal::Disconnect(Disconnect::BadRequest));
    assert_eq!(refusal(&"a".repeat(256)), Refusal::Error(ErrorCode::BadRequest));
    assert_eq!(refusal("é"), Refusal::Error(ErrorCode::BadRequest));
    assert_eq!(refusal("auctions:42"), Refusal::Error(ErrorCode::UnknownChannel));
}

#[test]
fn grants_are_a_list_of_patterns() {
    for (value, expected, is_valid) in [
        ("", &[][..], true),
        ("news", &["news"], true),
        ("news, auction:*,\tuser.{id}", &["news", "auction:*", "user.{id}"], true),
        (",, news ,", &["news"], true),
        ("news, a**, #1", &["news"], false),
    ] {
        let (grants, error) = parse_grants(value);
        assert_eq!(grants.iter().map(Pattern::as_str).collect::<Vec<_>>(), expected, "{value}");
        assert_eq!(error.is_none(), is_valid, "{value}");
    }
}

/// Returns any options that concern permissions.
fn any_options() -> impl Strategy<Value = ChannelOptions> {
    let pattern = proptest::sample::select(vec!["*", "a*", "$*", "{id}", "a.{id}", "{id}.*", "*.{id}"]);
    let patterns_of = |texts: Vec<&'static str>| patterns(&texts);
    let list = proptest::collection::vec(pattern, 0..3).prop_map(patterns_of);
    (any::<[bool; 10]>(), list.clone(), list).prop_map(|(switches, subscribe_for, publish_for)| {
        let [a, b, c, d, e, f, g, h, i, j] = switches;
        ChannelOptions {
            allow_subscribe_for_client: a,
            allow_user_limited_channels: b,
            allow_publish_for_client: c,
            allow_publish_for_subscriber: d,
            allow_presence_for_client: e,
            allow_presence_for_subscriber: f,
            allow_history_for_client: g,
            allow_history_for_subscriber: h,
            presence: i,
            history_size: usize::from(j),
            history_ttl: Duration::from_secs(1),
            subscribe_for,
            publish_for,
            ..ChannelOptions::default()
        }
    })
}

const HOOKS: [Hook; 4] =
    [Hook::Off, Hook::Pending, Hook::Allowed, Hook::Refused(ErrorCode::PermissionDenied)];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(20_000) })]

    #[test]
    fn without_a_token_no_rule_opens_a_private_channel_or_one_for_others(
        options in any_options(),
        channel in "[$]?[a1.]{1,3}(#[12](,[13])?)?",
        user in "[a12*.]{1,2}",
        grant in proptest::option::of("[a1.*]{1,3}"),
        hook in proptest::sample::select(&HOOKS[..]),
    ) {
        let name = name(&channel);
        let grants: Vec<Pattern> = grant.iter().filter_map(|text| Pattern::parse(text).ok()).collect();
        let subject = subject(&user, &grants, false);
        let is_for_others = name.is_user_limited() && !name.lists(&user);
        let may_subscribe = subscribe(subject, name, &options, TokenVerdict::Absent, hook);
        if name.is_private() || is_for_others {
            prop_assert_eq!(may_subscribe, DENIED);
            prop_assert!(!matches!(presence(subject, name, &options), Decision::Allowed(_)));
            prop_assert!(!matches!(history(subject, name, &options), Decision::Allowed(_)));
            let may_publish = publish(subject, name, &options, hook);
            let is_named = options.publish_for.iter().any(|pattern| pattern.as_str().starts_with('$'));
            let expected = may_publish == DENIED || (is_named && may_publish == Decision::Allowed(Source::Pattern));
            prop_assert!(expected, "{:?}", may_publish);
        }
    }

    #[test]
    fn being_subscribed_never_takes_a_permission_away(
        options in any_options(),
        channel in "[$]?[a1.]{1,3}(#[12])?",
        hook in proptest::sample::select(&HOOKS[..]),
    ) {
        let name = name(&channel);
        let [outside, inside] = [false, true].map(|is_subscribed| subject("1", &[], is_subscribed));
        let pairs = [
            (publish(outside, name, &options, hook), publish(inside, name, &options, hook)),
            (presence(outside, name, &options), presence(inside, name, &options)),
            (history(outside, name, &options), history(inside, name, &options)),
        ];
        for (before, after) in pairs {
            prop_assert!(!matches!(before, Decision::Allowed(_)) || matches!(after, Decision::Allowed(_)));
        }
    }

    #[test]
    fn default_options_allow_nothing_but_what_a_token_or_a_grant_or_a_hook_allows(
        channel in "[$]?[a1.:]{1,4}(#[12])?",
        user in "[a12]{1,2}",
        is_subscribed in any::<bool>(),
    ) {
        let (name, options) = (name(&channel), ChannelOptions::default());
        let subject = subject(&user, &[], is_subscribed);
        prop_assert_eq!(subscribe(subject, name, &options, TokenVerdict::Absent, Hook::Off), DENIED);
        prop_assert_eq!(publish(subject, name, &options, Hook::Off), DENIED);
        prop_assert_eq!(presence(subject, name, &options), NOT_AVAILABLE);
        prop_assert_eq!(history(subject, name, &options), NOT_AVAILABLE);
    }
}
