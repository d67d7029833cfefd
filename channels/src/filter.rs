//! Filters: a subscriber selects publications by their tags.

use std::cmp::Ordering;

use crate::ErrorCode;
use crate::protocol::FilterNode;
use crate::publication::Tags;

/// A filter for publications, checked and ready for use.
///
/// A comparison with a tag that a publication does not have is false, except for `neq`, `nin` and `nex`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter(Node);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    And(Box<[Node]>),
    Or(Box<[Node]>),
    Not(Box<Node>),
    Compare { key: Box<str>, comparison: Comparison },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Comparison {
    Equal(Box<str>),
    In(Box<[Box<str>]>),
    Exists,
    StartsWith(Box<str>),
    EndsWith(Box<str>),
    Contains(Box<str>),
    /// Numbers with one of these orders, as bits of [`order_bit`].
    Number {
        value: Box<str>,
        orders: u8,
    },
}

impl Filter {
    /// The most comparisons and values of a filter.
    pub const MAX_SIZE: usize = 128;
    /// The most bytes of keys and values of a filter.
    pub const MAX_BYTES: usize = 4_096;

    /// Checks a filter.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::BadRequest`] if an operator or a comparison is unknown, if a part is missing or does not belong there, or if
    /// the filter is too large.
    pub fn new(node: &FilterNode<'_>) -> Result<Filter, ErrorCode> {
        let mut budget = Budget { size: Filter::MAX_SIZE, bytes: Filter::MAX_BYTES };
        Node::new(node, &mut budget).map(Filter).ok_or(ErrorCode::BadRequest)
    }

    /// Returns the number of bytes that the filter occupies in memory.
    pub(crate) fn memory(&self) -> usize {
        self.0.memory()
    }

    /// Returns whether a publication with these tags is selected.
    pub fn selects(&self, tags: &Tags) -> bool {
        self.0.selects(tags)
    }
}

/// The size that a filter may still have.
struct Budget {
    size: usize,
    bytes: usize,
}

impl Budget {
    fn text(&mut self, text: &str) -> Option<Box<str>> {
        self.bytes = self.bytes.checked_sub(text.len())?;
        Some(text.into())
    }

    fn take(&mut self, size: usize) -> Option<()> {
        self.size = self.size.checked_sub(size)?;
        Some(())
    }
}

impl Node {
    /// Converts a node, with the recursion that the decoder of the tree has allowed.
    fn new(node: &FilterNode<'_>, budget: &mut Budget) -> Option<Node> {
        budget.take(1)?;
        let all = |budget: &mut Budget| {
            node.nodes.iter().map(|node| Node::new(node, budget)).collect::<Option<Box<[Node]>>>()
        };
        match &*node.op {
            "and" if !node.nodes.is_empty() => all(budget).map(Node::And),
            "or" if !node.nodes.is_empty() => all(budget).map(Node::Or),
            "not" => match node.nodes.as_slice() {
                [only] => Some(Node::Not(Box::new(Node::new(only, budget)?))),
                _ => None,
            },
            "" if node.nodes.is_empty() => Node::comparison(node, budget),
            _ => None,
        }
    }

    fn comparison(node: &FilterNode<'_>, budget: &mut Budget) -> Option<Node> {
        if node.key.is_empty() && !matches!(&*node.cmp, "ex" | "nex") {
            return None;
        }
        let key = budget.text(&node.key)?;
        let value = |budget: &mut Budget| budget.text(&node.val);
        let number = |budget: &mut Budget, orders: &[Ordering]| {
            Decimal::parse(&node.val)?;
            let orders = orders.iter().map(|&order| order_bit(order)).sum();
            Some(Comparison::Number { value: budget.text(&node.val)?, orders })
        };
        let (is_negated, comparison) = match &*node.cmp {
            "eq" => (false, Comparison::Equal(value(budget)?)),
            "neq" => (true, Comparison::Equal(value(budget)?)),
            cmp @ ("in" | "nin") if !node.vals.is_empty() => {
                budget.take(node.vals.len())?;
                let values = node.vals.iter().map(|value| budget.text(value)).collect::<Option<_>>()?;
                (cmp == "nin", Comparison::In(values))
            }
            "ex" => (false, Comparison::Exists),
            "nex" => (true, Comparison::Exists),
            "sw" => (false, Comparison::StartsWith(value(budget)?)),
            "ew" => (false, Comparison::EndsWith(value(budget)?)),
            "ct" => (false, Comparison::Contains(value(budget)?)),
            "lt" => (false, number(budget, &[Ordering::Less])?),
            "lte" => (false, number(budget, &[Ordering::Less, Ordering::Equal])?),
            "gt" => (false, number(budget, &[Ordering::Greater])?),
            "gte" => (false, number(budget, &[Ordering::Greater, Ordering::Equal])?),
            _ => return None,
        };
        let compare = Node::Compare { key, comparison };
        Some(if is_negated { Node::Not(Box::new(compare)) } else { compare })
    }

    fn memory(&self) -> usize {
        size_of::<Node>()
            + match self {
                Node::And(nodes) | Node::Or(nodes) => nodes.iter().map(Node::memory).sum(),
                Node::Not(node) => node.memory(),
                Node::Compare { key, comparison } => key.len() + comparison.memory(),
            }
    }

    fn selects(&self, tags: &Tags) -> bool {
        match self {
            Node::And(nodes) => nodes.iter().all(|node| node.selects(tags)),
            Node::Or(nodes) => nodes.iter().any(|node| node.selects(tags)),
            Node::Not(node) => !node.selects(tags),
            Node::Compare { key, comparison } => tags.get(key).is_some_and(|tag| comparison.holds(tag)),
        }
    }
}

impl Comparison {
    /// Returns the number of bytes of its values.
    fn memory(&self) -> usize {
        match self {
            Comparison::Exists => 0,
            Comparison::In(values) => values.iter().map(|value| size_of::<Box<str>>() + value.len()).sum(),
            Comparison::Equal(value)
            | Comparison::StartsWith(value)
            | Comparison::EndsWith(value)
            | Comparison::Contains(value)
            | Comparison::Number { value, .. } => value.len(),
        }
    }

    fn holds(&self, tag: &str) -> bool {
        match self {
            Comparison::Equal(value) => tag == &**value,
            Comparison::In(values) => values.iter().any(|value| tag == &**value),
            Comparison::Exists => true,
            Comparison::StartsWith(value) => tag.starts_with(&**value),
            Comparison::EndsWith(value) => tag.ends_with(&**value),
            Comparison::Contains(value) => tag.contains(&**value),
            Comparison::Number { value, orders } => match (Decimal::parse(tag), Decimal::parse(value)) {
                (Some(tag), Some(value)) => orders & order_bit(tag.compare(&value)) != 0,
                _ => false,
            },
        }
    }
}

fn order_bit(order: Ordering) -> u8 {
    match order {
        Ordering::Less => 1,
        Ordering::Equal => 2,
        Ordering::Greater => 4,
    }
}

/// A decimal number of any size: a sign, digits, and possibly a point with further digits. It is compared as text, so that
/// numbers above 2^53 are exact.
struct Decimal<'a> {
    is_negative: bool,
    /// Without zeros at the start.
    whole: &'a str,
    /// Without zeros at the end.
    fraction: &'a str,
}

impl<'a> Decimal<'a> {
    fn parse(text: &'a str) -> Option<Decimal<'a>> {
        let (is_negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (whole, fraction) = match digits.split_once('.') {
            Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
            Some(_) => return None,
            None => (digits, ""),
        };
        let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !is_number(whole) || !is_number(fraction) {
            return None;
        }
        let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
        // There is one zero.
        Some(Decimal {
            is_negative: is_negative && !(whole.is_empty() && fraction.is_empty()),
            whole,
            fraction,
        })
    }

    fn compare(&self, other: &Decimal<'_>) -> Ordering {
        let magnitude = |number: &Decimal<'a>, other: &Decimal<'_>| {
            let whole =
                number.whole.len().cmp(&other.whole.len()).then_with(|| number.whole.cmp(other.whole));
            whole.then_with(|| number.fraction.cmp(other.fraction))
        };
        match (self.is_negative, other.is_negative) {
            (false, false) => magnitude(self, other),
            (true, true) => magnitude(self, other).reverse(),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(key: &'static str, cmp: &'static str, val: &'static str) -> FilterNode<'static> {
        FilterNode { key: key.into(), cmp: cmp.into(), val: val.into(), ..FilterNode::default() }
    }

    fn list(key: &'static str, cmp: &'static str, vals: &[&'static str]) -> FilterNode<'static> {
        FilterNode { vals: vals.iter().map(|&value| value.into()).collect(), ..leaf(key, cmp, "") }
    }

    fn tree(op: &'static str, nodes: &[FilterNode<'static>]) -> FilterNode<'static> {
        FilterNode { op: op.into(), nodes: nodes.to_vec(), ..FilterNode::default() }
    }

    #[track_caller]
    fn check(node: &FilterNode<'_>, expected: bool) {
        let tags: Tags = [("sport", "football"), ("score", "10"), ("empty", "")].into_iter().collect();
        assert_eq!(Filter::new(node).unwrap().selects(&tags), expected, "{node:?}");
    }

    #[test]
    fn comparisons_of_texts() {
        let cases = [
            (leaf("sport", "eq", "football"), true),
            (leaf("sport", "eq", "foot"), false),
            (leaf("sport", "neq", "tennis"), true),
            (leaf("sport", "neq", "football"), false),
            (leaf("sport", "sw", "foot"), true),
            (leaf("sport", "sw", "ball"), false),
            (leaf("sport", "ew", "ball"), true),
            (leaf("sport", "ew", "foot"), false),
            (leaf("sport", "ct", "otb"), true),
            (leaf("sport", "ct", "x"), false),
            (leaf("sport", "ex", ""), true),
            (leaf("sport", "nex", ""), false),
            (leaf("empty", "eq", ""), true),
            (leaf("empty", "ex", ""), true),
            (list("sport", "in", &["tennis", "football"]), true),
            (list("sport", "in", &["tennis"]), false),
            (list("sport", "nin", &["tennis"]), true),
            (list("sport", "nin", &["tennis", "football"]), false),
        ];
        for (node, expected) in cases {
            check(&node, expected);
        }
    }

    #[test]
    fn a_missing_tag_makes_only_negative_comparisons_true() {
        for cmp in ["eq", "sw", "ew", "ct", "ex"] {
            check(&leaf("none", cmp, ""), false);
        }
        for cmp in ["lt", "lte", "gt", "gte"] {
            check(&leaf("none", cmp, "0"), false);
        }
        check(&list("none", "in", &[""]), false);
        check(&list("none", "nin", &[""]), true);
        check(&leaf("none", "neq", ""), true);
        check(&leaf("none", "nex", ""), true);
    }

    #[test]
    fn a_tag_may_have_an_empty_name_where_its_existence_is_asked() {
        check(&leaf("", "ex", ""), false);
        check(&leaf("", "nex", ""), true);
    }

    #[test]
    fn numbers_are_compared_exactly() {
        for (value, expected) in [
            ("9", ">"),
            ("10", "="),
            ("10.0", "="),
            ("+010", "="),
            ("10.01", "<"),
            ("9.99", ">"),
            ("-10", ">"),
            ("100", "<"),
            ("99999999999999999999999", "<"),
        ] {
            let node = |cmp| leaf("score", cmp, value);
            check(&node("gt"), expected == ">");
            check(&node("gte"), expected != "<");
            check(&node("lt"), expected == "<");
            check(&node("lte"), expected != ">");
        }
        let ordered = [
            "-9007199254740993",
            "-9007199254740992.5",
            "-1.5",
            "-1.25",
            "0",
            "0.001",
            "0.01",
            "2",
            "9007199254740992",
            "9007199254740993",
        ];
        for (place, left) in ordered.iter().enumerate() {
            for (other, right) in ordered.iter().enumerate() {
                let [left, right] = [left, right].map(|text| Decimal::parse(text).unwrap());
                assert_eq!(left.compare(&right), place.cmp(&other));
            }
        }
        assert_eq!(Decimal::parse("-0.0").unwrap().compare(&Decimal::parse("0").unwrap()), Ordering::Equal);
        // A tag that is not a number is neither less nor greater.
        for cmp in ["lt", "lte", "gt", "gte"] {
            check(&leaf("sport", cmp, "1"), false);
        }
    }

    #[test]
    fn nodes_are_combined() {
        let (yes, no) = (leaf("sport", "ex", ""), leaf("sport", "nex", ""));
        let [yes, no] = [&yes, &no];
        for (left, right, and, or) in [(yes, yes, true, true), (yes, no, false, true), (no, no, false, false)]
        {
            let both = [left.clone(), right.clone()];
            check(&tree("and", &both), and);
            check(&tree("or", &both), or);
            check(&tree("not", &[tree("and", &both)]), !and);
        }
    }

    #[test]
    fn an_invalid_filter_is_refused() {
        let valid = leaf("a", "eq", "b");
        let invalid = [
            FilterNode::default(),
            leaf("", "eq", "b"),
            leaf("a", "", "b"),
            leaf("a", "EQ", "b"),
            leaf("a", "in", "b"),
            list("a", "nin", &[]),
            leaf("a", "lt", ""),
            leaf("a", "lt", "x"),
            leaf("a", "gt", "1e3"),
            leaf("a", "gt", "1."),
            leaf("a", "gt", ".5"),
            tree("and", &[]),
            tree("or", &[]),
            tree("not", &[]),
            tree("not", &[valid.clone(), valid.clone()]),
            tree("xor", std::slice::from_ref(&valid)),
            tree("and", &[valid.clone(), leaf("a", "?", "")]),
            FilterNode { nodes: vec![valid.clone()], ..valid.clone() },
        ];
        for node in invalid {
            assert_eq!(Filter::new(&node), Err(ErrorCode::BadRequest), "{node:?}");
        }
    }

    #[test]
    fn a_filter_has_a_limited_size() {
        let nodes = |count| tree("or", &vec![leaf("a", "eq", "b"); count]);
        assert!(Filter::new(&nodes(Filter::MAX_SIZE - 1)).is_ok());
        assert!(Filter::new(&nodes(Filter::MAX_SIZE)).is_err());
        let values = |count| list("a", "in", &vec!["b"; count]);
        assert!(Filter::new(&values(Filter::MAX_SIZE - 1)).is_ok());
        assert!(Filter::new(&values(Filter::MAX_SIZE)).is_err());
        let long = |size: usize| FilterNode { val: "x".repeat(size).into(), ..leaf("a", "eq", "") };
        assert!(Filter::new(&long(Filter::MAX_BYTES - 1)).is_ok());
        assert!(Filter::new(&long(Filter::MAX_BYTES)).is_err());
    }
}
