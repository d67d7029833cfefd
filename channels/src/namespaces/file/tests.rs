//! Files and their errors.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::channel::ChannelName;
use crate::namespaces::options::{Conflation, DataFormat, DeltaType, RecoveryMode, SlowPolicy};

/// Returns the options of a channel.
#[track_caller]
fn options(text: &str, channel: &str) -> ChannelOptions {
    let namespaces = parse(text).unwrap_or_else(|errors| panic!("{errors:?}"));
    ChannelOptions::clone(namespaces.options(ChannelName::parse(channel).unwrap()).unwrap())
}

/// Checks that a file has exactly these errors.
#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let errors = parse(text).expect_err(text);
    assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expected, "{text}");
}

#[test]
fn a_file_without_options_closes_all_channels() {
    for text in ["", "# nothing", "[without_namespace]\n", "[namespaces]\n", "namespaces = {}", "\u{feff}"] {
        assert_eq!(options(text, "news"), ChannelOptions::default(), "{text:?}");
    }
    assert_eq!(options("[namespaces.news]", "news:1"), ChannelOptions::default());
}

#[test]
fn every_option_can_be_set() {
    let text = r#"
        [without_namespace]
        allow_subscribe_for_client = true
        # The rest is in a namespace.
        [namespaces.auction]
        subscribe_for = ["auction:*", "auction:{id}.bids"]
        publish_for = ["$auction:{id}"]
        allow_user_limited_channels = true
        allow_publish_for_subscriber = true
        allow_publish_for_client = true
        allow_presence_for_client = true
        allow_presence_for_subscriber = true
        allow_history_for_client = true
        allow_history_for_subscriber = true
        presence = true
        join_leave = true
        force_push_join_leave = true
        history_size = 1_000
        history_ttl = "5m"
        history_meta_ttl = "48h"
        history_bytes = "1MiB"
        allow_positioning = true
        force_positioning = true
        allow_recovery = true
        force_recovery = true
        force_recovery_mode = "cache"
        auto_cache_recover = true
        publication_data_format = "json_object"
        max_publication = 0x1000
        rate = 20
        exclude_publisher = true
        allowed_delta_types = ["fossil"]
        delta_publish = true
        allow_tags_filter = true
        allow_channel_compaction = true
        slow = "drop"

        [namespaces.ticker]
        conflate = "latest"
        conflate_interval = "250ms"
        slow = "conflate"

        [namespaces.sale]
        subscribe_hook = true
        publish_hook = true
        rpc_hook = true
    "#;
    assert!(options(text, "news").allow_subscribe_for_client);
    let auction = options(text, "auction:42");
    let patterns = |patterns: &[Pattern]| patterns.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(patterns(&auction.subscribe_for), ["auction:*", "auction:{id}.bids"]);
    assert_eq!(patterns(&auction.publish_for), ["$auction:{id}"]);
    assert_eq!((auction.history_size, auction.history_ttl), (1000, Duration::from_secs(300)));
    assert_eq!((auction.history_meta_ttl, auction.history_bytes), (Duration::from_secs(48 * 3600), 1 << 20));
    assert_eq!((auction.max_publication, auction.rate), (4096, 20));
    assert_eq!(auction.force_recovery_mode, RecoveryMode::Cache);
    assert_eq!(auction.publication_data_format, DataFormat::JsonObject);
    assert_eq!(auction.allowed_delta_types, [DeltaType::Fossil]);
    assert_eq!(auction.slow, SlowPolicy::Drop);
    let ticker = options(text, "ticker:1");
    assert_eq!((ticker.conflate, ticker.slow), (Conflation::Latest, SlowPolicy::Conflate));
    assert_eq!(ticker.conflate_interval, Duration::from_millis(250));
    let sale = options(text, "sale:1");
    assert!(sale.subscribe_hook && sale.publish_hook && sale.rpc_hook);
    // Every option is set above.
    for option in OPTIONS {
        assert!(text.contains(&format!(" {} = ", option.name)), "{}", option.name);
    }
    // Shown, they are a file with the same meaning.
    for (name, expected) in [("auction", &auction), ("ticker", &ticker), ("sale", &sale)] {
        let lines: Vec<String> = OPTIONS
            .iter()
            .filter(|option| option.show(expected) != option.show(&ChannelOptions::default()))
            .map(|option| format!("{} = {}", option.name, option.show(expected)))
            .collect();
        let text = format!("[namespaces.{name}]\n{}", lines.join("\n"));
        assert_eq!(&options(&text, &format!("{name}:1")), expected, "{text}");
    }
}

#[test]
fn other_notations_of_toml_mean_the_same() {
    let expected = options("[namespaces.auction]\npresence = true\nrate = 5", "auction:1");
    for text in [
        "namespaces.auction.presence = true\nnamespaces.auction.rate = 5",
        "namespaces = { auction = { presence = true, rate = 5 } }",
        "[namespaces]\nauction.presence = true\nauction.rate = 0b101",
        "[namespaces.\"auction\"]\r\n\"presence\" = true\r\nrate = +5\r\n",
    ] {
        assert_eq!(options(text, "auction:1"), expected, "{text}");
    }
    assert_eq!(
        options("[without_namespace]\nhistory_ttl = 0\nhistory_bytes = 0", "a"),
        ChannelOptions::default()
    );
}

#[test]
fn an_unknown_name_has_a_suggestion() {
    for (text, expected) in [
        (
            "[without_namespace]\npresense = true",
            "line 2, column 1: \"presense\" is unknown; did you mean presence?",
        ),
        (
            "[namespaces.ab]\n  History-Size = 1",
            "line 2, column 3: \"History-Size\" is unknown; did you mean history_size?",
        ),
        (
            "[namespaces.ab]\ncolour = 1",
            "line 2, column 1: \"colour\" is unknown; docs/channels.md lists the options",
        ),
        (
            "[namespaces.ab]\nallow_subscribe_for_anonymous = true",
            "line 2, column 1: \"allow_subscribe_for_anonymous\" is not an option of Postern; every user has an id, so leave it out",
        ),
        (
            "[namespaces.ab]\nchannel_regex = \"a\"",
            "line 2, column 1: \"channel_regex\" is not an option of Postern; patterns in subscribe_for and publish_for limit the names",
        ),
        ("[namespace.ab]", "line 1, column 2: \"namespace\" is unknown; did you mean namespaces?"),
        (
            "presence = true",
            "line 1, column 1: presence belongs in a namespace; write it below [without_namespace] or [namespaces.NAME]",
        ),
        (
            "port = 1",
            "line 1, column 1: \"port\" is unknown; the tables are [without_namespace] and [namespaces.NAME]",
        ),
        (
            "[namespaces]\npresence = true",
            "line 2, column 1: presence belongs in a namespace; write it below [namespaces.NAME]",
        ),
    ] {
        check(text, &[expected]);
    }
}

#[test]
fn a_value_of_the_wrong_type_has_a_suggestion() {
    for (option, value, expected) in [
        ("presence", "1", "a whole number instead of true or false; write true or false"),
        ("presence", "\"true\"", "a text, not true or false; write true without quotation marks"),
        ("history_size", "\"10\"", "a text, not a number; write 10 without quotation marks"),
        (
            "history_size",
            "1.5",
            "a number with a fraction instead of a whole number; write a number from 0 to 1000000",
        ),
        ("history_size", "-1", "-1 is out of range; write a number from 0 to 1000000"),
        ("history_size", "1_000_001", "1000001 is out of range; write a number from 0 to 1000000"),
        (
            "rate",
            "99999999999999999999",
            "99999999999999999999 is out of range; write a number from 0 to 1000000",
        ),
        ("history_ttl", "300", "a duration is a text with a unit; write for example \"300s\""),
        (
            "history_ttl",
            "true",
            "true or false instead of a duration; write for example \"25s\", \"500ms\", \"5m\" or \"720h\"",
        ),
        ("history_ttl", "\"30d\"", "the units are ms, s, m and h; write \"720h\""),
        ("history_ttl", "\"8785h\"", "\"8785h\" is too long; the maximum is 8784h"),
        (
            "history_ttl",
            "07:32:00",
            "a date or a time instead of a duration; write for example \"25s\", \"500ms\", \"5m\" or \"720h\"",
        ),
        ("max_publication", "\"64KB\"", "\"64KB\" is not a size; write \"64KiB\""),
        ("max_publication", "-1", "-1 is not a size; the maximum is 64GiB"),
        (
            "max_publication",
            "[]",
            "a list instead of a size; write for example \"64KiB\", with B, KiB, MiB or GiB",
        ),
        ("slow", "\"pause\"", "\"pause\" is not a value; write \"close\" or \"drop\" or \"conflate\""),
        ("slow", "true", "true or false instead of a text; write \"close\" or \"drop\" or \"conflate\""),
        ("allowed_delta_types", "\"fossil\"", "a text instead of a list; write for example [\"fossil\"]"),
        ("allowed_delta_types", "[\"xdelta\"]", "\"xdelta\" is not a value; write \"fossil\""),
        ("subscribe_for", "\"ab:*\"", "a text instead of a list; write for example [\"ab:*\"]"),
        ("subscribe_for", "[1]", "a whole number instead of a text; write a pattern such as \"auction:*\""),
        ("presence", "{}", "a table instead of true or false; write true or false"),
    ] {
        let column = option.len() + 4 + usize::from(value.starts_with('[') && value.len() > 2);
        check(
            &format!("[namespaces.ab]\n{option} = {value}"),
            &[&*format!("line 2, column {column}: {option}: {expected}")],
        );
    }
}

#[test]
fn a_pattern_must_match_channels_of_its_namespace() {
    for (table, pattern, expected) in [
        ("namespaces.ab", "ab", "\"ab\" matches no channel of this namespace; begin it with \"ab:\""),
        ("namespaces.ab", "abc:*", "\"abc:*\" matches no channel of this namespace; begin it with \"ab:\""),
        ("namespaces.ab", "*:1", "\"*:1\" matches no channel of this namespace; begin it with \"ab:\""),
        (
            "namespaces.ab",
            "$ab:*",
            "\"$ab:*\" begins with $; private channels need a subscription token, so leave it out",
        ),
        (
            "namespaces.ab",
            "ab:#*",
            "\"ab:#*\" contains a #; channels for listed users are allowed with allow_user_limited_channels = true",
        ),
        ("namespaces.ab", "ab:{user}", "\"ab:{user}\" contains a brace; the only placeholder is {id}"),
        (
            "without_namespace",
            "ab:*",
            "\"ab:*\" matches no channel without a namespace; write it below [namespaces.ab]",
        ),
        ("without_namespace", "*:*", "\"*:*\" matches no channel without a namespace, because of its colon"),
    ] {
        check(
            &format!("[{table}]\nsubscribe_for = [\"{pattern}\"]"),
            &[&*format!("line 2, column 18: subscribe_for: {expected}")],
        );
    }
    assert_eq!(options("[namespaces.ab]\npublish_for = [\"$ab:*\"]", "ab:1").publish_for.len(), 1);
    assert_eq!(options("[without_namespace]\nsubscribe_for = [\"user.{id}\"]", "a").subscribe_for.len(), 1);
}

#[test]
fn a_namespace_has_a_valid_name() {
    for name in ["a", "\"a:b\"", "\"\"", "\"é\"", "\"a b\""] {
        let shown = if name == "a" { "\"a\"" } else { name };
        check(
            &format!("[namespaces.{name}]"),
            &[&*format!(
                "line 1, column 13: {shown} is not a name of a namespace; write at least two letters, digits, -, _ or ."
            )],
        );
    }
    check("namespaces.ab = 1", &["line 1, column 12: namespaces.ab is not a table; write [namespaces.ab]"]);
    check(
        "[[namespaces]]\nname = \"ab\"",
        &["line 1, column 3: not a table; write [namespaces.NAME] for each namespace"],
    );
    check("without_namespace = 1", &["line 1, column 1: not a table; write [without_namespace]"]);
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    for (lines, option) in [
        ("history_size = 1", "history_size"),
        ("history_ttl = \"1s\"", "history_ttl"),
        ("history_size = 1\nhistory_ttl = \"2s\"\nhistory_meta_ttl = \"1s\"", "history_meta_ttl"),
        ("history_size = 1\nhistory_ttl = \"721h\"", "history_ttl"),
        ("history_bytes = 1", "history_bytes"),
        ("history_size = 1\nhistory_ttl = \"1s\"\nhistory_bytes = 1\nmax_publication = 2", "history_bytes"),
        ("allow_history_for_client = true", "allow_history_for_client"),
        ("allow_history_for_subscriber = true", "allow_history_for_subscriber"),
        ("allow_positioning = true", "allow_positioning"),
        ("force_positioning = true", "force_positioning"),
        ("allow_recovery = true", "allow_recovery"),
        ("force_recovery = true", "force_recovery"),
        ("force_recovery_mode = \"cache\"", "force_recovery_mode"),
        ("auto_cache_recover = true", "auto_cache_recover"),
        ("allow_presence_for_client = true", "allow_presence_for_client"),
        ("allow_presence_for_subscriber = true", "allow_presence_for_subscriber"),
        ("force_push_join_leave = true", "force_push_join_leave"),
        ("subscribe_for = [\"ab:*\"]\nallow_subscribe_for_client = true", "subscribe_for"),
        ("publish_for = [\"ab:*\"]\nallow_publish_for_client = true", "publish_for"),
        ("subscribe_hook = true\nallow_subscribe_for_client = true", "subscribe_hook"),
        ("allow_publish_for_client = true\npublish_hook = true", "publish_hook"),
        ("publish_hook = true\nallow_publish_for_subscriber = true", "publish_hook"),
        ("delta_publish = true", "delta_publish"),
        ("conflate_interval = \"100ms\"", "conflate_interval"),
        ("conflate = \"latest\"\nconflate_interval = 0", "conflate_interval"),
        ("conflate = \"latest\"\nhistory_size = 1\nhistory_ttl = \"1s\"\nforce_recovery = true", "conflate"),
        ("conflate = \"latest\"\nallow_tags_filter = true", "conflate"),
        ("conflate = \"latest\"\nexclude_publisher = true", "conflate"),
        ("conflate = \"latest\"\nallowed_delta_types = [\"fossil\"]", "conflate"),
        ("slow = \"conflate\"\nhistory_size = 1\nhistory_ttl = \"1s\"\nallow_positioning = true", "slow"),
    ] {
        let line = lines.lines().position(|line| line.split(' ').next() == Some(option)).unwrap() + 2;
        let errors = parse(&format!("[namespaces.ab]\n{lines}")).expect_err(lines);
        let [error] = &errors[..] else { panic!("{lines}: {errors:?}") };
        assert!(error.to_string().starts_with(&format!("line {line}, column 1: {option} ")), "{error}");
    }
    // These do not contradict each other.
    for lines in [
        "publish_for = [\"$ab:*\"]\nallow_publish_for_client = true",
        "conflate = \"latest\"",
        "conflate = \"latest\"\nhistory_size = 1\nhistory_ttl = \"1s\"\nforce_recovery = true\nforce_recovery_mode = \"cache\"",
        "history_size = 1\nhistory_ttl = \"720h\"",
    ] {
        options(&format!("[namespaces.ab]\n{lines}"), "ab:1");
    }
}

#[test]
fn a_syntax_error_has_a_place() {
    for (text, place) in [
        ("[without_namespace", "line 1, column 19: not TOML: "),
        ("[namespaces.ab]\npresence true", "line 2, column "),
        ("[namespaces.ab]\npresence = yes", "line 2, column 12: not TOML: "),
        ("[namespaces.ab]\npresence = true\npresence = true", "line 3, column 1: not TOML: duplicate key"),
        ("[namespaces.ab]\n[namespaces.ab]", "line 2, column "),
        ("[namespaces.ab]\nslow = \"é\" x", "line 2, column 12: not TOML: "),
        ("[namespaces.ab]\nslow = \"", "line 2, column 9: not TOML: "),
        (
            "{\"namespaces\": []}",
            "line 1, column 1: the file is not TOML; a namespace begins with a line such as [namespaces.auction]",
        ),
    ] {
        let errors = parse(text).expect_err(text);
        assert!(errors.iter().any(|error| error.to_string().starts_with(place)), "{text}: {errors:?}");
        assert!(errors.iter().all(|error| !error.complaint.contains('\n')), "{errors:?}");
    }
}

#[test]
fn all_errors_are_found_in_the_order_of_their_places() {
    check(
        "[without_namespace]\nslow = 1\npresense = true\n[namespaces.b]\n[namespaces.ab]\nallow_recovery = true\n",
        &[
            "line 2, column 8: slow: a whole number instead of a text; write \"close\" or \"drop\" or \"conflate\"",
            "line 3, column 1: \"presense\" is unknown; did you mean presence?",
            "line 4, column 13: \"b\" is not a name of a namespace; write at least two letters, digits, -, _ or .",
            "line 6, column 1: allow_recovery has no effect without a history; set history_size and history_ttl",
        ],
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(5_000) })]

    #[test]
    fn any_text_is_read_or_has_an_error_in_one_of_its_lines(
        lines in proptest::collection::vec(
            prop_oneof![
                "[a-z_\\[\\]={}\".#é0-9 ,]{0,20}",
                proptest::sample::select(OPTIONS).prop_flat_map(|option| {
                    "(true|1|\"1s\"|\"latest\"|\\[\"ab:\\*\"\\]|\\{)".prop_map(move |value| format!("{} = {value}", option.name))
                }),
                Just("[namespaces.ab]".to_owned()),
                Just("[without_namespace]".to_owned()),
            ],
            0..8,
        ),
    ) {
        let text = lines.join("\n");
        if let Err(errors) = parse(&text) {
            prop_assert!(!errors.is_empty());
            for error in errors {
                prop_assert!((1..=lines.len().max(1)).contains(&error.line), "{}", error);
                let line = lines.get(error.line - 1).map_or(0, |line| line.chars().count());
                prop_assert!((1..=line + 1).contains(&error.column), "{}", error);
                prop_assert!(!error.complaint.contains('\n') && !error.complaint.is_empty(), "{}", error);
            }
        }
    }
}
