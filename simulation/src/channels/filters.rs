//! Tags of publications, filters for them, and a model of the publications that a filter selects.

use std::cmp::Ordering;

use centrifuge_client_core::proto::FilterNode;

use crate::random::Random;

/// The tags of a publication.
pub(crate) type Tags = Vec<(&'static str, &'static str)>;

/// Returns the tags of a publication: often only some of the keys.
pub(crate) fn tags(random: &mut Random) -> Tags {
    let mut tags = Vec::new();
    for key in KEYS {
        if random.one_in(2) {
            tags.push((key, random.pick(VALUES)));
        }
    }
    tags
}

/// Returns a filter that a server must accept.
pub(crate) fn filter(random: &mut Random) -> FilterNode {
    node(random, 3)
}

fn node(random: &mut Random, depth: usize) -> FilterNode {
    if depth == 0 || random.one_in(2) {
        return comparison(random);
    }
    let op = random.pick(["and", "or", "not"]);
    let count = if op == "not" { 1 } else { random.within(1..=3) };
    let nodes = (0..count).map(|_| node(random, depth - 1)).collect();
    FilterNode { op: op.to_owned(), nodes, ..FilterNode::default() }
}

fn comparison(random: &mut Random) -> FilterNode {
    let cmp = random.pick([
        "eq", "neq", "in", "nin", "ex", "nex", "sw", "ew", "ct", "lt", "lte", "gt", "gte", "eq", "gte",
    ]);
    let (mut val, mut vals) = ("", Vec::new());
    match cmp {
        "in" | "nin" => vals = (0..random.within(1..=3)).map(|_| random.pick(VALUES).to_owned()).collect(),
        "ex" | "nex" => {}
        "lt" | "lte" | "gt" | "gte" => val = random.pick(NUMBERS),
        _ => val = random.pick(VALUES),
    }
    let (key, cmp, val) = (random.pick(KEYS).to_owned(), cmp.to_owned(), val.to_owned());
    FilterNode { key, cmp, val, vals, ..FilterNode::default() }
}

/// Returns a filter that a server must refuse.
pub(crate) fn malformed_filter(random: &mut Random) -> FilterNode {
    let sound = filter(random);
    let mut malformed = comparison(random);
    match random.within(0..=5) {
        0 => malformed.cmp = "like".to_owned(),
        1 => (malformed.cmp, malformed.vals) = ("in".to_owned(), Vec::new()),
        2 => (malformed.cmp, malformed.val) = ("lt".to_owned(), "1e3".to_owned()),
        3 => (malformed.key, malformed.cmp) = (String::new(), "eq".to_owned()),
        4 => malformed = FilterNode { op: "xor".to_owned(), nodes: vec![sound.clone()], ..<_>::default() },
        _ => malformed = FilterNode { op: "not".to_owned(), nodes: Vec::new(), ..<_>::default() },
    }
    if random.one_in(2) {
        return malformed;
    }
    FilterNode { op: "and".to_owned(), nodes: vec![sound, malformed], ..<_>::default() }
}

/// Returns whether a filter selects a publication with these tags.
pub(crate) fn selects(filter: &FilterNode, tags: &Tags) -> bool {
    let FilterNode { op, key, cmp, val, vals, nodes } = filter;
    match op.as_str() {
        "and" => return nodes.iter().all(|node| selects(node, tags)),
        "or" => return nodes.iter().any(|node| selects(node, tags)),
        "not" => return !nodes.iter().any(|node| selects(node, tags)),
        _ => {}
    }
    let tag = tags.iter().find(|(name, _)| name == key).map(|(_, value)| *value);
    let order = tag.and_then(thousandths).zip(thousandths(val)).map(|(tag, value)| tag.cmp(&value));
    match cmp.as_str() {
        "eq" => tag == Some(val),
        "neq" => tag != Some(val),
        "in" => tag.is_some_and(|tag| vals.iter().any(|value| value == tag)),
        "nin" => tag.is_none_or(|tag| vals.iter().all(|value| value != tag)),
        "ex" => tag.is_some(),
        "nex" => tag.is_none(),
        "sw" => tag.is_some_and(|tag| tag.starts_with(val)),
        "ew" => tag.is_some_and(|tag| tag.ends_with(val)),
        "ct" => tag.is_some_and(|tag| tag.contains(val)),
        "lt" => order == Some(Ordering::Less),
        "lte" => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        "gt" => order == Some(Ordering::Greater),
        "gte" => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        _ => false,
    }
}

/// Returns a number of the few that occur, as an integer.
fn thousandths(text: &str) -> Option<i64> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) || fraction.len() > 3 {
        return None;
    }
    let whole: i64 = whole.parse().ok()?;
    let fraction: i64 = format!("{fraction:0<3}").parse().ok()?;
    Some(sign * (whole * 1000 + fraction))
}

/// The keys of tags.
const KEYS: [&str; 3] = ["kind", "lot", "price"];

/// The values of tags. Some are numbers, and some only look like them.
const VALUES: [&str; 13] = ["", "a", "ab", "abc", "b", "-2.5", "-0", "0", "1", "+1.0", "9.99", "10", "1e3"];

/// The values that `lt` and the like compare with.
const NUMBERS: [&str; 7] = ["-2.50", "0", "1", "+1", "9.9", "10", "1000"];
