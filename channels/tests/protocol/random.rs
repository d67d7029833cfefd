//! Random texts and values.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Any string, with many characters that JSON has to escape.
pub(crate) fn string() -> impl Strategy<Value = String> {
    vec(
        prop_oneof![
            any::<char>(),
            select(vec!['"', '\\', '\n', '\r', '\t', '\0', '\u{1f}', '\u{7f}', 'a', 'é', '😀'])
        ],
        0..12,
    )
    .prop_map(|chars| chars.into_iter().collect())
}

/// A string that is not empty.
pub(crate) fn name() -> impl Strategy<Value = String> {
    (any::<char>(), string()).prop_map(|(first, rest)| format!("{first}{rest}"))
}

/// The tokens of a JSON text. White space may be inserted between any two of them.
pub(crate) fn tokens() -> impl Strategy<Value = Vec<String>> {
    let string = string().prop_map(|string| vec![serde_json::to_string(&string).expect("a string")]);
    let fixed = select(vec![
        "null",
        "true",
        "false",
        "0",
        "-0.5e+10",
        "1E-2",
        "123456789012345678901234567890",
        r#""\u00e9\ud800\/""#,
    ])
    .prop_map(|token| vec![token.to_owned()]);
    let number = any::<i64>().prop_map(|number| vec![number.to_string()]);
    let leaf = prop_oneof![string, fixed, number];
    leaf.prop_recursive(5, 40, 5, |inner| {
        let array = vec(inner.clone(), 0..5).prop_map(|items| list("[", items, "]"));
        let member = (self::string(), inner).prop_map(|(name, value)| {
            let name = serde_json::to_string(&name).expect("a string");
            [vec![name, ":".to_owned()], value].concat()
        });
        let object = vec(member, 0..5).prop_map(|members| list("{", members, "}"));
        prop_oneof![array, object]
    })
}

fn list(open: &str, items: Vec<Vec<String>>, close: &str) -> Vec<String> {
    let mut tokens = vec![open.to_owned()];
    for (at, item) in items.into_iter().enumerate() {
        if at > 0 {
            tokens.push(",".to_owned());
        }
        tokens.extend(item);
    }
    tokens.push(close.to_owned());
    tokens
}

/// A compact JSON text.
pub(crate) fn json() -> impl Strategy<Value = String> {
    tokens().prop_map(|tokens| tokens.concat())
}

/// Nothing, or a compact JSON text other than `null`, which the SDK does not distinguish from nothing.
pub(crate) fn optional_json() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), json().prop_filter("null", |text| text != "null")]
}
