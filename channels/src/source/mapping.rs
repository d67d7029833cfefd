//! The publications that follow from a delivery.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::str;

use crate::channel::personal_channel;
use crate::exchange::{Publish, Version};
use crate::message::{Message, Payload, PublishError};
use crate::namespaces::Namespaces;

/// A message as a broker delivers it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Delivery<'d> {
    /// `channel.NAME` or `user.ID`.
    pub routing_key: &'d str,
    /// The headers whose names begin with [`HEADER_PREFIX`]. Others may be left out.
    pub headers: &'d [(&'d str, Header<'d>)],
    /// The media type of the body.
    pub content_type: Option<&'d str>,
    /// The id of the message, which is its idempotency key.
    pub message_id: Option<&'d str>,
    /// When the message was sent, in seconds since the Unix epoch.
    pub timestamp: Option<u64>,
    /// The time after which the message is useless, in milliseconds since `timestamp`, as text.
    pub expiration: Option<&'d str>,
    /// The payload.
    pub body: &'d [u8],
}

/// The value of a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Header<'d> {
    /// A text.
    Text(&'d str),
    /// A whole number.
    Number(i64),
    /// A truth value.
    Flag(bool),
    /// A list of texts.
    List(Vec<&'d str>),
    /// Anything else.
    Other,
}

/// The prefix of the names of all headers that have an effect.
pub const HEADER_PREFIX: &str = "x-postern-";

/// The effect of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is published, to each channel once.
    Publish(Vec<Publish>),
    /// It is too old: it is acknowledged and not published.
    Expired,
    /// It can never be published.
    DeadLetter(Poison),
}

/// The reason why a delivery can never be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Poison {
    /// Neither the routing key nor a header names a channel or a user.
    NoTarget,
    /// A header has a value of another type.
    Header,
    /// The name of a channel breaks the rules for names.
    Channel,
    /// The id of a user cannot be a part of the name of a channel.
    User,
    /// The namespace of a channel is not configured.
    UnknownNamespace,
    /// The body is a text according to its media type, and not valid UTF-8.
    NotUtf8,
    /// A channel requires JSON, and the body is something else, or has too many levels.
    NotJson,
    /// A channel requires a JSON object.
    NotAnObject,
    /// The body is longer than a channel accepts.
    TooLarge,
    /// The message has a version, and a channel has no history.
    Version,
}

impl Poison {
    /// All reasons.
    pub const ALL: [Poison; 10] = [
        Poison::NoTarget,
        Poison::Header,
        Poison::Channel,
        Poison::User,
        Poison::UnknownNamespace,
        Poison::NotUtf8,
        Poison::NotJson,
        Poison::NotAnObject,
        Poison::TooLarge,
        Poison::Version,
    ];

    /// Returns the name of the reason in metrics and in the log.
    pub fn label(self) -> &'static str {
        match self {
            Poison::NoTarget => "no_target",
            Poison::Header => "header",
            Poison::Channel => "channel",
            Poison::User => "user",
            Poison::UnknownNamespace => "unknown_namespace",
            Poison::NotUtf8 => "not_utf8",
            Poison::NotJson => "not_json",
            Poison::NotAnObject => "not_an_object",
            Poison::TooLarge => "too_large",
            Poison::Version => "version",
        }
    }
}

/// Says what the sender has to change.
impl fmt::Display for Poison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Poison::NoTarget => {
                "it names no channel and no user; send it with the routing key channel.NAME or user.ID, or with the \
                 header x-postern-channel or x-postern-user"
            }
            Poison::Header => "a header that begins with x-postern- has a value of another type",
            Poison::Channel => {
                "the name of a channel may have 255 visible ASCII characters and spaces; others only in the ids after #"
            }
            Poison::User => {
                "the id of a user must not be empty, have a control character, or be longer than a channel"
            }
            Poison::UnknownNamespace => {
                "the namespace of the channel is not in the file of POSTERN_CHANNELS_FILE"
            }
            Poison::NotUtf8 => "the body is not UTF-8, although its content type is a text",
            Poison::NotJson => {
                "the body is not one JSON text in UTF-8, which the channel requires; send it as text/plain, or set \
                 publication_data_format"
            }
            Poison::NotAnObject => "the body must be a JSON object for this channel",
            Poison::TooLarge => "the body is longer than the channel accepts (max_publication)",
            Poison::Version => "x-postern-version needs a channel with history, and no x-postern-skip-history",
        })
    }
}

impl From<PublishError> for Poison {
    fn from(error: PublishError) -> Poison {
        match error {
            PublishError::Channel(_) => Poison::Channel,
            PublishError::UnknownNamespace => Poison::UnknownNamespace,
            PublishError::NotJson | PublishError::TooDeep => Poison::NotJson,
            PublishError::NotAnObject => Poison::NotAnObject,
            PublishError::TooLarge { .. } => Poison::TooLarge,
            PublishError::VersionWithoutHistory => Poison::Version,
        }
    }
}

/// Returns the effect of a delivery. `time` is in milliseconds since the Unix epoch.
///
/// A message for several channels is published to all of them or, if one does not accept it, to none.
pub fn map(delivery: &Delivery<'_>, namespaces: &Namespaces, time: i64) -> Outcome {
    match publications(delivery, namespaces, time) {
        Ok(publications) if publications.is_empty() => Outcome::Expired,
        Ok(publications) => Outcome::Publish(publications),
        Err(poison) => Outcome::DeadLetter(poison),
    }
}

fn publications(delivery: &Delivery<'_>, namespaces: &Namespaces, time: i64) -> Result<Vec<Publish>, Poison> {
    let message = message(delivery)?;
    let mut publications: Vec<Publish> = Vec::new();
    let mut known = BTreeSet::new();
    for channel in channels(delivery)? {
        // A channel that is named twice gets the message once.
        if !known.contains(&channel) {
            publications.push(message.publication(namespaces, &channel, time)?);
            known.insert(channel);
        }
    }
    let age = delivery.timestamp.map_or(0, |sent| {
        let sent = i64::try_from(sent).unwrap_or(i64::MAX).saturating_mul(1000);
        u64::try_from(time.saturating_sub(sent)).unwrap_or(0)
    });
    let most = delivery.expiration.and_then(|text| text.parse().ok()).unwrap_or(u64::MAX);
    // A subscriber that was away would not get it from the history either.
    publications.retain(|publication| {
        let kept = publication.history.map(|history| history.ttl.as_millis());
        age <= most && kept.is_none_or(|kept| u128::from(age) <= kept)
    });
    Ok(publications)
}

/// Returns the channels of a delivery. Headers replace the routing key.
fn channels<'d>(delivery: &'d Delivery<'d>) -> Result<Vec<Cow<'d, str>>, Poison> {
    let personal = |user: &str| personal_channel(None, user).map(Cow::Owned).ok_or(Poison::User);
    let (named, users) = (delivery.header("channel"), delivery.header("user"));
    if named.is_none() && users.is_none() {
        let key = delivery.routing_key;
        return match (key.strip_prefix("channel."), key.strip_prefix("user.")) {
            (Some(channel), _) => Ok(vec![Cow::Borrowed(channel)]),
            (None, Some(user)) => Ok(vec![personal(user)?]),
            (None, None) => Err(Poison::NoTarget),
        };
    }
    let named = names(named)?.into_iter().map(|channel| Ok(Cow::Borrowed(channel)));
    let users = names(users)?.into_iter().map(personal);
    let channels: Vec<_> = named.chain(users).collect::<Result<_, _>>()?;
    if channels.is_empty() { Err(Poison::NoTarget) } else { Ok(channels) }
}

/// Returns the names in a header: a text with commas, or a list whose texts may contain commas.
fn names<'d>(header: Option<&'d Header<'d>>) -> Result<Vec<&'d str>, Poison> {
    match header {
        None => Ok(Vec::new()),
        Some(Header::Text(text)) => Ok(text.split(',').map(str::trim).collect()),
        Some(Header::List(names)) => Ok(names.clone()),
        Some(Header::Number(_) | Header::Flag(_) | Header::Other) => Err(Poison::Header),
    }
}

fn message<'d>(delivery: &Delivery<'d>) -> Result<Message<'d>, Poison> {
    let media_type = delivery.content_type.unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    let kind = media_type.split('/').next().unwrap_or_default();
    let is_text = kind.eq_ignore_ascii_case("text") && !media_type.eq_ignore_ascii_case("text/json");
    let payload = match str::from_utf8(delivery.body) {
        Ok(text) if is_text => Payload::text(text),
        Err(_) if is_text => return Err(Poison::NotUtf8),
        Ok(_) | Err(_) => Payload::bytes(delivery.body),
    };
    let number = match delivery.header("version") {
        None => 0,
        Some(Header::Number(number)) => u64::try_from(*number).map_err(|_| Poison::Header)?,
        Some(Header::Text(text)) => text.parse().map_err(|_| Poison::Header)?,
        Some(Header::Flag(_) | Header::List(_) | Header::Other) => return Err(Poison::Header),
    };
    let epoch = match delivery.header("version-epoch") {
        None => "",
        Some(Header::Text(text)) => text,
        Some(Header::Number(_) | Header::Flag(_) | Header::List(_) | Header::Other) => {
            return Err(Poison::Header);
        }
    };
    let tags: Vec<(&str, Cow<'_, str>)> = delivery
        .headers
        .iter()
        .filter_map(|(name, value)| {
            let key = name.strip_prefix(HEADER_PREFIX)?.strip_prefix("tag-")?;
            Some(match value {
                Header::Text(text) => Ok((key, Cow::Borrowed(*text))),
                Header::Number(number) => Ok((key, Cow::Owned(number.to_string()))),
                Header::Flag(flag) => Ok((key, Cow::Owned(flag.to_string()))),
                Header::List(_) | Header::Other => Err(Poison::Header),
            })
        })
        .collect::<Result<_, _>>()?;
    Ok(Message {
        payload,
        tags: tags.iter().map(|(key, value)| (*key, &**value)).collect(),
        key: delivery.message_id.filter(|id| !id.is_empty()).map(Into::into),
        version: (number > 0).then(|| Version { number, epoch: epoch.into() }),
        skips_history: delivery.flag("skip-history")?,
        has_delta: delivery.flag("delta")?,
    })
}

impl<'d> Delivery<'d> {
    /// Returns the header with this name after the prefix.
    fn header(&self, name: &str) -> Option<&'d Header<'d>> {
        let is_named = |header: &str| header.strip_prefix(HEADER_PREFIX) == Some(name);
        self.headers.iter().find(|(header, _)| is_named(header)).map(|(_, value)| value)
    }

    /// Returns a header that is true or false. It is false if it is absent.
    fn flag(&self, name: &str) -> Result<bool, Poison> {
        match self.header(name) {
            None => Ok(false),
            Some(Header::Flag(flag)) => Ok(*flag),
            Some(Header::Text(text)) => text.parse().map_err(|_| Poison::Header),
            Some(Header::Number(_) | Header::List(_) | Header::Other) => Err(Poison::Header),
        }
    }
}

#[cfg(test)]
mod tests;
