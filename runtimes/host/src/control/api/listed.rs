//! The method `channels`: the channels with subscribers, on all nodes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::error::MethodError;
use super::others::Others;
use super::params::Params;
use super::result::{MethodResult, raw};
use super::{glob, remote};
use crate::channels::Node;

/// Channels with their numbers of subscriptions, in the answer to another node.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Listed {
    channels: BTreeMap<String, usize>,
    /// Whether some are missing.
    is_incomplete: bool,
}

/// Lists the channels with subscribers whose names match a pattern.
pub(in super::super) async fn channels(node: &Node, params: &Params<'_>) -> MethodResult {
    let mut listed = Listed::here(node, params)?;
    let others = match Others::ask(node, remote::of_channels(params), None) {
        Some(asked) => Some(asked.contents().await),
        None => None,
    };
    let Some((others, answers)) = others else { return Ok(raw(&json!({ "channels": listed.to_json() }))) };
    let incomplete = answers.iter().filter(|answer| !listed.add(answer)).count();
    let channels = listed.to_json();
    Ok(match others {
        Others::Done { nodes, silent, .. } => raw(&json!({
            "channels": channels,
            "nodes": nodes + 1,
            "silent_nodes": silent,
            "incomplete_nodes": incomplete,
        })),
        Others::Unreachable | Others::Pending => raw(&json!({ "channels": channels, "unreachable": true })),
    })
}

impl Listed {
    /// Lists the channels of this node.
    pub(super) fn here(node: &Node, params: &Params<'_>) -> Result<Listed, MethodError> {
        let pattern = params.text("pattern")?;
        let matches = |name: &str| pattern.is_empty() || glob::matches(&pattern, name);
        let channels = node.channels(matches).into_iter();
        let channels = channels.map(|(name, subscriptions)| (name.to_string(), subscriptions));
        Ok(Listed { channels: channels.collect(), is_incomplete: false })
    }

    /// Encodes the channels, without the last ones if the result would have more than about `most` bytes.
    pub(super) fn encode(mut self, most: usize) -> Vec<u8> {
        let mut length = 0;
        let number = self.channels.len();
        let is_within = |(name, _): &(String, usize)| {
            length += raw(name).get().len() + NUMBER;
            length <= most
        };
        self.channels = self.channels.into_iter().take_while(is_within).collect();
        self.is_incomplete = self.channels.len() < number;
        raw(&self).get().as_bytes().into()
    }

    /// Adds the channels of another node. Returns whether none of them is missing.
    fn add(&mut self, answer: &[u8]) -> bool {
        let Ok(other) = serde_json::from_slice::<Listed>(answer) else { return false };
        for (name, subscriptions) in other.channels {
            let sum = self.channels.entry(name).or_default();
            *sum = sum.saturating_add(subscriptions);
        }
        !other.is_incomplete
    }

    fn to_json(&self) -> Value {
        let channel = |(name, count): (&String, &usize)| (name.clone(), json!({ "num_clients": count }));
        Value::Object(self.channels.iter().map(channel).collect())
    }
}

/// The most characters of a number of subscriptions, with the characters around it.
const NUMBER: usize = 22;

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(channels: &[(&str, usize)]) -> Listed {
        let channels = channels.iter().map(|(name, count)| ((*name).to_owned(), *count));
        Listed { channels: channels.collect(), is_incomplete: false }
    }

    #[test]
    fn the_subscriptions_of_nodes_are_added_up() {
        let mut sum = listed(&[("a", 1), ("b", 2)]);
        assert!(sum.add(&listed(&[("b", 3), ("#\"1", 4)]).encode(1_000)));
        assert_eq!(sum, listed(&[("#\"1", 4), ("a", 1), ("b", 5)]));
        for junk in [&b""[..], b"{}", b"[]", b"{\"channels\":{\"a\":-1},\"is_incomplete\":false}"] {
            assert!(!sum.add(junk), "{junk:?}");
        }
        assert_eq!(sum, listed(&[("#\"1", 4), ("a", 1), ("b", 5)]));
    }

    #[test]
    fn an_answer_has_as_many_channels_as_fit() {
        let channels: Vec<(String, usize)> = (0..100).map(|index| (format!("c{index:03}"), index)).collect();
        let channels: Vec<(&str, usize)> =
            channels.iter().map(|(name, count)| (name.as_str(), *count)).collect();
        for (most, expected) in [(0, 0), (27, 0), (28, 1), (280, 10), (10_000, 100)] {
            let mut sum = Listed::default();
            let answer = listed(&channels).encode(most);
            assert!(answer.len() <= most + 50, "{most}: {}", answer.len());
            assert_eq!(sum.add(&answer), expected == 100, "{most}");
            assert_eq!(sum, listed(&channels[..expected]), "{most}");
        }
    }
}
