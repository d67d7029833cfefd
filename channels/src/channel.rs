//! The name of a channel, and what its special characters mean.
//!
//! ```text
//!  $   auction   :   42.bids   #   1,2
//!  │      │             │           └ the users who may use it, after the last `#`
//!  │      │             └ the rest of the name
//!  │      └ the namespace, in front of the first `:` that no `#` precedes
//!  └ private: a subscription needs a token
//! ```
//!
//! `#ID` and `auction:#ID` are the personal channels of the user `ID`. A user id may contain `#`, `,` and `%`; in a name these
//! three are written as `%23`, `%2C` and `%25`, so the id of a user can never be read as the ids of two others.

use std::borrow::Cow;

/// The maximum length of a name, in bytes.
pub const MAX_CHANNEL: usize = 255;

/// The valid name of a channel.
///
/// A name consists of at most [`MAX_CHANNEL`] visible ASCII characters and spaces. The ids of users after the last `#` may
/// contain other characters than ASCII, as the ids that an Identity service gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelName<'a> {
    text: &'a str,
}

/// Why a text is not the name of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidChannel {
    /// It is empty. A client that sends it breaks the protocol ([`Disconnect::BadRequest`](crate::Disconnect::BadRequest)).
    Empty,
    /// It is longer than [`MAX_CHANNEL`] bytes ([`ErrorCode::BadRequest`](crate::ErrorCode::BadRequest)).
    TooLong,
    /// It contains a character that is not allowed ([`ErrorCode::BadRequest`](crate::ErrorCode::BadRequest)).
    Character,
}

impl<'a> ChannelName<'a> {
    /// Parses a name.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn parse(text: &'a str) -> Result<ChannelName<'a>, InvalidChannel> {
        if text.is_empty() {
            return Err(InvalidChannel::Empty);
        }
        if text.len() > MAX_CHANNEL {
            return Err(InvalidChannel::TooLong);
        }
        let (front, users) = text.rsplit_once(USERS).unwrap_or((text, ""));
        let is_valid = front.bytes().all(|byte| (b' '..=b'~').contains(&byte))
            && !users.chars().any(|character| character.is_control());
        if is_valid { Ok(ChannelName { text }) } else { Err(InvalidChannel::Character) }
    }

    /// Returns the whole name.
    pub fn as_str(self) -> &'a str {
        self.text
    }

    /// Returns the name of its namespace. `None` if it belongs to no namespace.
    pub fn namespace(self) -> Option<&'a str> {
        let (front, _) = self.public().split_once(NAMESPACE)?;
        // The id of a user may contain colons: `#f:25:john` has no namespace.
        (!front.contains(USERS)).then_some(front)
    }

    /// Returns whether a subscription needs a token.
    pub fn is_private(self) -> bool {
        self.text.starts_with(PRIVATE)
    }

    /// Returns whether only the users after its `#` may use it.
    pub fn is_user_limited(self) -> bool {
        self.text.contains(USERS)
    }

    /// Returns whether `user` is in its list of users. False if it has no list.
    pub fn lists(self, user: &str) -> bool {
        let Some((_, users)) = self.text.rsplit_once(USERS) else { return false };
        let user = escape_user(user);
        !user.is_empty() && users.split(',').any(|listed| listed == user)
    }

    /// Returns whether it is the personal channel of `user`, in a namespace or without one.
    pub fn is_personal_of(self, user: &str) -> bool {
        let rest = match self.namespace() {
            Some(namespace) => self.text.get(namespace.len() + 1..).unwrap_or_default(),
            None => self.text,
        };
        !user.is_empty() && rest.strip_prefix(USERS).is_some_and(|id| id == escape_user(user))
    }

    /// Returns the name without the `$` of a private channel.
    fn public(self) -> &'a str {
        self.text.strip_prefix(PRIVATE).unwrap_or(self.text)
    }
}

/// Returns the name of the personal channel of a user, `#ID` or `NAMESPACE:#ID`. `None` if that is not the name of a channel,
/// because the id is empty, very long, or contains a control character.
pub fn personal_channel(namespace: Option<&str>, user: &str) -> Option<String> {
    let id = escape_user(user);
    let name = match namespace {
        Some(namespace) => format!("{namespace}{NAMESPACE}{USERS}{id}"),
        None => format!("{USERS}{id}"),
    };
    (!user.is_empty() && ChannelName::parse(&name).is_ok()).then_some(name)
}

/// Returns the id of a user as it is written in a name: with `%23`, `%2C` and `%25` for `#`, `,` and `%`.
fn escape_user(user: &str) -> Cow<'_, str> {
    match user.contains(['%', USERS, ',']) {
        false => Cow::Borrowed(user),
        // The percent sign comes first, so that the others are not escaped twice.
        true => Cow::Owned(user.replace('%', "%25").replace(USERS, "%23").replace(',', "%2C")),
    }
}

/// Ends the namespace.
pub(crate) const NAMESPACE: char = ':';
/// Begins the name of a private channel.
pub(crate) const PRIVATE: char = '$';
/// Begins the list of users.
pub(crate) const USERS: char = '#';

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn name(text: &str) -> ChannelName<'_> {
        ChannelName::parse(text).unwrap()
    }

    #[test]
    fn a_name_has_at_most_255_visible_ascii_characters() {
        let longest = "a".repeat(MAX_CHANNEL);
        for valid in ["a", "a b", "!~", "auction:*", "/", "::", "$", "#", "$#", longest.as_str()] {
            assert_eq!(name(valid).as_str(), valid);
        }
        for (text, error) in [
            ("", InvalidChannel::Empty),
            (&*"a".repeat(MAX_CHANNEL + 1), InvalidChannel::TooLong),
            // 128 characters, 256 bytes: the length is judged first, and in bytes.
            (&*"é".repeat(128), InvalidChannel::TooLong),
            ("é", InvalidChannel::Character),
            ("a\n", InvalidChannel::Character),
            ("a\t", InvalidChannel::Character),
            ("\0", InvalidChannel::Character),
            ("a\x7f", InvalidChannel::Character),
            ("#a\n", InvalidChannel::Character),
            ("#a\u{85}", InvalidChannel::Character),
            ("é#a", InvalidChannel::Character),
            ("#é#a", InvalidChannel::Character),
        ] {
            assert_eq!(ChannelName::parse(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn the_namespace_ends_at_the_first_colon() {
        for (text, namespace) in [
            ("auction", None),
            ("auction:42", Some("auction")),
            ("auction:42:bids", Some("auction")),
            ("$auction:42", Some("auction")),
            ("$auction", None),
            ("$$auction:42", Some("$auction")),
            (":42", Some("")),
            ("auction:", Some("auction")),
            ("auction:#42", Some("auction")),
            ("#42", None),
            ("#f:25:john", None),
            ("auction#f:25:john", None),
            ("auction:#f:25:john", Some("auction")),
            ("auction/42", None),
        ] {
            assert_eq!(name(text).namespace(), namespace, "{text}");
        }
    }

    #[test]
    fn a_dollar_sign_is_special_at_the_beginning_only() {
        assert!(name("$a").is_private() && name("$a:b").is_private() && name("$").is_private());
        assert!(!name("a$").is_private() && !name("a:$b").is_private());
    }

    #[test]
    fn the_users_are_listed_after_the_last_number_sign() {
        for (text, listed, others) in [
            ("news", &[][..], &["", "news"][..]),
            ("news#42", &["42"], &["", "4", "2", "news", "42,", "#42"]),
            ("dialog#42,43", &["42", "43"], &["", "42,43", "4"]),
            ("a:dialog#42,43", &["42", "43"], &["dialog"]),
            ("a#1#2", &["2"], &["1", "1#2", "a"]),
            ("a#", &[], &["", "a"]),
            ("a#,", &[], &["", ","]),
            ("#1, 2", &["1", " 2"], &["2"]),
            ("#josé", &["josé"], &["jose"]),
            ("#a%2Cb,c%23d,e%25f", &["a,b", "c#d", "e%f"], &["a", "b", "a%2Cb", "c%23d", "d", "e%25f"]),
            ("#%2c", &[], &[",", "%2c"]),
        ] {
            for user in listed {
                assert!(name(text).lists(user), "{text}: {user}");
            }
            for user in others {
                assert!(!name(text).lists(user), "{text}: {user}");
            }
            assert_eq!(name(text).is_user_limited(), text.contains('#'), "{text}");
        }
    }

    #[test]
    fn a_personal_channel_is_that_of_one_user() {
        for (namespace, user, expected) in [
            (None, "42", "#42"),
            (Some("user"), "42", "user:#42"),
            (None, "john@example.com", "#john@example.com"),
            (None, "f:25:john", "#f:25:john"),
            (Some("user"), "f:25:john", "user:#f:25:john"),
            (None, "cn=John,ou=people", "#cn=John%2Cou=people"),
            (None, "a#b", "#a%23b"),
            (None, "100%", "#100%25"),
            (None, "josé", "#josé"),
        ] {
            let channel = personal_channel(namespace, user).unwrap();
            assert_eq!(channel, expected);
            assert!(name(&channel).is_personal_of(user), "{channel}");
            assert_eq!(name(&channel).namespace(), namespace, "{channel}");
        }
        for user in ["", "a\n", &*"a".repeat(MAX_CHANNEL)] {
            assert_eq!(personal_channel(None, user), None, "{user:?}");
        }
        assert!(personal_channel(None, &"a".repeat(MAX_CHANNEL - 1)).is_some());
        for text in ["news#42", "$#42", "#42,43", "#41", "42", "a:news#42", "#", "a:#"] {
            assert!(!name(text).is_personal_of("42") && !name(text).is_personal_of(""), "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(20_000) })]

        #[test]
        fn nobody_is_in_the_personal_channel_of_another_user(
            users in ("[a%#,:$.25C3é]{1,6}", "[a%#,:$.25C3é]{1,6}"),
            namespace in proptest::option::of("[a-z]{2}"),
        ) {
            let (user, other) = users;
            let channel = personal_channel(namespace.as_deref(), &user).unwrap();
            let name = ChannelName::parse(&channel).unwrap();
            prop_assert!(name.lists(&user) && name.is_personal_of(&user));
            prop_assert_eq!(name.lists(&other), user == other);
            prop_assert_eq!(name.is_personal_of(&other), user == other);
            prop_assert_eq!(name.namespace(), namespace.as_deref());
        }
    }
}
