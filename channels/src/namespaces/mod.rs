//! Namespaces: channels that share options.

mod contradictions;
pub mod file;
pub mod options;
pub mod patterns;
mod value;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use options::ChannelOptions;
pub use patterns::{InvalidPattern, Pattern};

use crate::channel::{ChannelName, NAMESPACE};

/// The options of all channels of a node. By default there is no namespace, and everything is off.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Namespaces {
    without: Arc<ChannelOptions>,
    named: BTreeMap<Box<str>, Arc<ChannelOptions>>,
}

impl Namespaces {
    /// Returns namespaces with the options of the channels without a namespace, and of each namespace by its name.
    pub fn new(
        without: ChannelOptions,
        named: impl IntoIterator<Item = (Box<str>, ChannelOptions)>,
    ) -> Namespaces {
        let named = named.into_iter().map(|(name, options)| (name, Arc::new(options))).collect();
        Namespaces { without: Arc::new(without), named }
    }

    /// Returns the options of a channel. `None` if there is no namespace with its name
    /// ([`ErrorCode::UnknownChannel`](crate::ErrorCode::UnknownChannel)).
    pub fn options(&self, channel: ChannelName<'_>) -> Option<&Arc<ChannelOptions>> {
        match channel.namespace() {
            Some(namespace) => self.named.get(namespace),
            None => Some(&self.without),
        }
    }

    /// Returns the options of a procedure, whose namespace is in front of its first colon. `None` if there is no such namespace
    /// ([`ErrorCode::MethodNotFound`](crate::ErrorCode::MethodNotFound)).
    pub fn of_method(&self, method: &str) -> Option<&Arc<ChannelOptions>> {
        match method.split_once(NAMESPACE) {
            Some((namespace, _)) => self.named.get(namespace),
            None => Some(&self.without),
        }
    }

    /// Returns the options of the channels without a namespace.
    pub fn without_namespace(&self) -> &Arc<ChannelOptions> {
        &self.without
    }

    /// Returns each namespace by its name, in alphabetical order.
    pub fn named(&self) -> impl Iterator<Item = (&str, &Arc<ChannelOptions>)> {
        self.named.iter().map(|(name, options)| (&**name, options))
    }
}

/// Returns whether a text can be the name of a namespace: at least two letters, digits, hyphens, dots or underscores.
pub fn is_namespace_name(text: &str) -> bool {
    text.len() >= 2
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_has_the_options_of_its_namespace() {
        let of = |presence| ChannelOptions { presence, ..ChannelOptions::default() };
        let namespaces = Namespaces::new(of(false), [("auction".into(), of(true))]);
        let presence = |text| {
            let channel = ChannelName::parse(text).unwrap();
            namespaces.options(channel).map(|options| options.presence)
        };
        for text in ["auction:42", "$auction:42", "auction:#42", "auction:"] {
            assert_eq!(presence(text), Some(true), "{text}");
        }
        for text in ["auction", "#42", "auction#42", "#auction:42", "$auction"] {
            assert_eq!(presence(text), Some(false), "{text}");
        }
        for text in ["auctions:42", ":42", "$$auction:42", "$:auction:42"] {
            assert_eq!(presence(text), None, "{text}");
        }
        assert_eq!(namespaces.named().map(|(name, _)| name).collect::<Vec<_>>(), ["auction"]);
    }

    #[test]
    fn a_name_of_a_namespace_has_no_special_characters() {
        for name in ["ab", "a-b", "a_b.c", "42"] {
            assert!(is_namespace_name(name), "{name}");
        }
        for name in ["", "a", "a:b", "$ab", "a#b", "a b", "é", "a/b", "a*"] {
            assert!(!is_namespace_name(name), "{name}");
        }
    }
}
