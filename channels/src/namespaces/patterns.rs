//! Patterns of channel names, as options and `User-Channels` contain them.
//!
//! * `*` matches one or more characters of any kind, but not the `$` at the beginning of a private channel.
//! * `{id}` matches the id of the user. A pattern contains it at most once, and not next to a `*`.
//! * Every other character matches itself.
//!
//! No pattern matches a name with a `#`: such a channel is for the users in its name.
//!
//! The id of a user is compared byte by byte, so a `*` or `{id}` in it has no meaning. It must also be a whole part of the name:
//! `user.{id}.*` does not match for an id with a dot, because `user.1.2.inbox` would be a channel of user `1` and of user `1.2`.

use std::fmt;

use crate::channel::{ChannelName, MAX_CHANNEL, PRIVATE, USERS};

/// A pattern of channel names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// Not empty. Contains [`ID`] at most once, and no other braces.
    text: Box<str>,
    /// The characters next to [`ID`] that an id must not contain. Empty without [`ID`].
    limits: [Option<char>; 2],
}

/// Why a text is not a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidPattern {
    /// It is empty.
    Empty,
    /// It is longer than a name may be.
    TooLong,
    /// It contains a character that no name contains.
    Character,
    /// It contains a `#`.
    UserLimited,
    /// It contains `{` or `}` that do not belong to `{id}`.
    Brace,
    /// It contains `{id}` twice.
    RepeatedId,
    /// Two of its wildcards have nothing between them.
    Adjacent,
}

impl InvalidPattern {
    /// Returns what is wrong and what to write instead: the end of a sentence that begins with the pattern.
    pub fn complaint(self) -> &'static str {
        match self {
            InvalidPattern::Empty => "is empty; write a pattern such as \"auction:*\"",
            InvalidPattern::TooLong => "is longer than 255 bytes, the maximum length of a channel's name",
            InvalidPattern::Character => "contains a character that is not visible ASCII",
            InvalidPattern::UserLimited => {
                "contains a #; channels for listed users are allowed with allow_user_limited_channels = true"
            }
            InvalidPattern::Brace => "contains a brace; the only placeholder is {id}",
            InvalidPattern::RepeatedId => "contains {id} twice",
            InvalidPattern::Adjacent => {
                "has two wildcards next to each other; write a separator between them, as in \"user.{id}.*\""
            }
        }
    }
}

impl Pattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn parse(text: &str) -> Result<Pattern, InvalidPattern> {
        if text.is_empty() {
            return Err(InvalidPattern::Empty);
        }
        if text.len() > MAX_CHANNEL {
            return Err(InvalidPattern::TooLong);
        }
        if !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return Err(InvalidPattern::Character);
        }
        if text.contains(USERS) {
            return Err(InvalidPattern::UserLimited);
        }
        let mut parts = text.split(ID);
        let (before, after) = (parts.next().unwrap_or_default(), parts.next());
        if parts.next().is_some() {
            return Err(InvalidPattern::RepeatedId);
        }
        let rest = after.unwrap_or_default();
        if before.contains(['{', '}']) || rest.contains(['{', '}']) {
            return Err(InvalidPattern::Brace);
        }
        let is_beside_id = after.is_some() && (before.ends_with(ANY) || rest.starts_with(ANY));
        if text.contains("**") || is_beside_id {
            return Err(InvalidPattern::Adjacent);
        }
        let limits = match after {
            // With a fixed text in front of it, the id has one place where it can begin.
            Some(after) => {
                [before.chars().next_back().filter(|_| before.contains(ANY)), after.chars().next()]
            }
            None => [None, None],
        };
        Ok(Pattern { text: text.into(), limits })
    }

    /// Returns the text of the pattern.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns whether it matches the name of a channel, for the user `user`. `user` is not empty.
    pub fn matches(&self, channel: ChannelName<'_>, user: &str) -> bool {
        if channel.is_user_limited() || channel.is_private() != self.text.starts_with(PRIVATE) {
            return false;
        }
        let has_id = self.text.contains(ID);
        if has_id && (user.is_empty() || self.limits.into_iter().flatten().any(|limit| user.contains(limit)))
        {
            return false;
        }
        let mut chunks = self.text.split(ANY).map(|chunk| Chunk::new(chunk, user));
        let Some(mut rest) = chunks.next().and_then(|first| first.strip(channel.as_str().as_bytes())) else {
            return false;
        };
        let Some(mut chunk) = chunks.next() else { return rest.is_empty() };
        for next in chunks {
            // The first place is the best one: it leaves most of the name to the rest of the pattern.
            let Some(found) = (1..=rest.len()).find_map(|at| chunk.strip(rest.get(at..)?)) else {
                return false;
            };
            (rest, chunk) = (found, next);
        }
        // The last chunk ends the name.
        rest.len().checked_sub(chunk.len()).is_some_and(|at| {
            at >= 1 && rest.get(at..).and_then(|end| chunk.strip(end)).is_some_and(<[u8]>::is_empty)
        })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The text between two `*`, with the id of the user in its place.
#[derive(Debug, Clone, Copy)]
struct Chunk<'p>([&'p str; 3]);

impl<'p> Chunk<'p> {
    fn new(text: &'p str, user: &'p str) -> Chunk<'p> {
        match text.split_once(ID) {
            Some((before, after)) => Chunk([before, user, after]),
            None => Chunk([text, "", ""]),
        }
    }

    fn len(self) -> usize {
        self.0.iter().map(|part| part.len()).sum()
    }

    /// Returns what follows it in `name`. `None` if `name` does not begin with it.
    fn strip(self, name: &[u8]) -> Option<&[u8]> {
        self.0.iter().try_fold(name, |rest, part| rest.strip_prefix(part.as_bytes()))
    }
}

/// The wildcard for one or more characters.
const ANY: char = '*';
/// The placeholder of the user's id.
const ID: &str = "{id}";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use regex::Regex;

    use super::*;

    #[track_caller]
    fn matches(pattern: &str, channel: &str, user: &str) -> bool {
        Pattern::parse(pattern).unwrap().matches(ChannelName::parse(channel).unwrap(), user)
    }

    #[test]
    fn a_star_matches_one_or_more_characters() {
        for (pattern, channel, expected) in [
            ("auction:*", "auction:42", true),
            ("auction:*", "auction:42:bids.all", true),
            ("auction:*", "auction:*", true),
            ("auction:*", "auction:", false),
            ("auction:*", "auction", false),
            ("auction:*", "xauction:42", false),
            ("auction:42", "auction:42", true),
            ("auction:42", "auction:421", false),
            ("*", "news", true),
            ("*", "$news", false),
            ("*s", "news", true),
            ("*s", "s", false),
            ("a*a", "aa", false),
            ("a*a", "aaa", true),
            ("a.*.c", "a.b.c", true),
            ("a.*.c", "a..c", false),
            ("a.*.c", "a.c.c", true),
            ("a.*.c.*", "a.b.c.c.d", true),
            ("*ab*ab", "xabxab", true),
            ("*ab*ab", "xabab", false),
            ("$chat:*", "$chat:1", true),
            ("$chat:*", "chat:1", false),
        ] {
            assert_eq!(matches(pattern, channel, "1"), expected, "{pattern} {channel}");
        }
    }

    #[test]
    fn id_matches_the_id_of_the_user() {
        for (pattern, channel, user, expected) in [
            ("user.{id}", "user.1", "1", true),
            ("user.{id}", "user.1", "2", false),
            ("user.{id}", "user.{id}", "1", false),
            ("user.{id}.*", "user.1.inbox", "1", true),
            ("user.{id}.*", "user.1", "1", false),
            ("user.{id}.*", "user.11.inbox", "1", false),
            ("{id}", "1", "1", true),
            ("*.{id}", "dm.7.1", "1", true),
            ("dm.{id}.*", "dm.1.7", "1", true),
            // The id is at the end and the text in front of it is fixed, so it may contain any character.
            ("user.{id}", "user.john@example.com", "john@example.com", true),
            ("user:{id}", "user:f:25:john", "f:25:john", true),
            // It is not: the name could also belong to another user.
            ("user.{id}.*", "user.1.2.inbox", "1.2", false),
            ("*.{id}", "dm.1.2", "1.2", false),
            // An id is never a pattern.
            ("user.{id}", "user.7", "*", false),
            ("user.{id}", "user.*", "*", true),
            ("user.{id}.x", "user.7.x", "*", false),
            ("user.{id}", "user.7", "{id}", false),
            ("user.{id}", "user.", "", false),
        ] {
            assert_eq!(matches(pattern, channel, user), expected, "{pattern} {channel} {user}");
        }
    }

    #[test]
    fn no_pattern_matches_a_channel_of_listed_users() {
        for channel in ["auction:#42", "auction:dialog#1,2", "auction:x#"] {
            assert!(!matches("auction:*", channel, "42"));
        }
        assert!(!matches("a{id}", "a#42", "#42"));
    }

    #[test]
    fn a_pattern_is_refused_with_the_rule_that_it_breaks() {
        for (text, error) in [
            ("", InvalidPattern::Empty),
            (&*"a".repeat(MAX_CHANNEL + 1), InvalidPattern::TooLong),
            ("é", InvalidPattern::Character),
            ("a\n", InvalidPattern::Character),
            ("a#1", InvalidPattern::UserLimited),
            ("{user}", InvalidPattern::Brace),
            ("{id", InvalidPattern::Brace),
            ("id}", InvalidPattern::Brace),
            ("{{id}}", InvalidPattern::Brace),
            ("{id}.{id}", InvalidPattern::RepeatedId),
            ("**", InvalidPattern::Adjacent),
            ("*{id}", InvalidPattern::Adjacent),
            ("{id}*", InvalidPattern::Adjacent),
        ] {
            assert_eq!(Pattern::parse(text), Err(error), "{text:?}");
            assert!(!error.complaint().ends_with('.'));
        }
        assert!(Pattern::parse(&"a".repeat(MAX_CHANNEL)).is_ok());
    }

    /// Returns the pattern as a regular expression.
    fn regex(pattern: &str, user: &str) -> Regex {
        let escaped = regex::escape(pattern).replace(r"\*", ".+").replace(r"\{id\}", &regex::escape(user));
        Regex::new(&format!("^(?s:{escaped})$")).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(50_000) })]

        #[test]
        fn a_pattern_matches_as_a_regular_expression_does(
            pattern in "\\$?([ab.]|[*]|\\{id\\}){1,8}",
            channel in "\\$?[ab.*]{1,9}",
            user in "[ab*{]{1,2}",
        ) {
            let Ok(parsed) = Pattern::parse(&pattern) else { return Ok(()) };
            let name = ChannelName::parse(&channel).unwrap();
            let is_public = name.is_private() == pattern.starts_with('$');
            let excluded = parsed.limits.into_iter().flatten().any(|limit| user.contains(limit));
            let expected = is_public && !excluded && regex(&pattern, &user).is_match(&channel);
            prop_assert_eq!(parsed.matches(name, &user), expected, "{} {} {}", pattern, channel, user);
        }

        #[test]
        fn two_users_share_no_channel_of_a_pattern_that_begins_with_their_ids(
            front in "[ab.]{0,3}",
            back in "([.:][ab.]{0,2}|[.:][*]|)",
            users in ("[ab.:*]{1,4}", "[ab.:*]{1,4}"),
            channel in "[ab.:*]{1,9}",
        ) {
            let pattern = Pattern::parse(&format!("{front}{{id}}{back}")).unwrap();
            let (user, other) = users;
            prop_assume!(user != other);
            for channel in [channel, format!("{front}{user}{}", back.replace('*', &other))] {
                let name = ChannelName::parse(&channel).unwrap();
                prop_assert!(!(pattern.matches(name, &user) && pattern.matches(name, &other)), "{} {}", pattern, channel);
            }
        }
    }
}
