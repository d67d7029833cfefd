//! Messages that a backend publishes, and the publications that channels make of them.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::sync::Arc;

use crate::channel::{ChannelName, InvalidChannel};
use crate::exchange::{HistoryOptions, Publish, Version};
use crate::namespaces::options::DataFormat;
use crate::namespaces::{ChannelOptions, Namespaces};
use crate::protocol::{Raw, RawError, write_json_string};
use crate::publication::Tags;

/// A message that a backend publishes to one or more channels.
#[derive(Debug, Default)]
pub struct Message<'b> {
    /// The payload.
    pub payload: Payload<'b>,
    /// Labels for filters.
    pub tags: Tags,
    /// The idempotency key: of several messages with the same key, a channel publishes the first one.
    pub key: Option<Box<str>>,
    /// The version of the state that the message contains.
    pub version: Option<Version>,
    /// Whether the message is delivered and not kept.
    pub skips_history: bool,
    /// Whether subscribers get a delta, also if the namespace does not say so.
    pub has_delta: bool,
}

/// The payload of a message. Each form that a namespace asks for is made once.
#[derive(Debug)]
pub struct Payload<'b> {
    sent: Sent<'b>,
    json: OnceCell<Result<Arc<[u8]>, RawError>>,
    binary: OnceCell<Arc<[u8]>>,
}

/// The payload as the backend has sent it.
#[derive(Debug)]
enum Sent<'b> {
    Bytes(Cow<'b, [u8]>),
    Text(&'b str),
}

/// The reason why a channel does not publish a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishError {
    /// The text is not the name of a channel.
    Channel(InvalidChannel),
    /// The namespace of the channel is not configured.
    UnknownNamespace,
    /// The channel requires JSON, and the payload is not one JSON text in UTF-8.
    NotJson,
    /// The payload has more than [`MAX_DEPTH`](crate::protocol::MAX_DEPTH) levels.
    TooDeep,
    /// The channel requires a JSON object.
    NotAnObject,
    /// The payload is longer than the channel accepts.
    TooLarge {
        /// The length in bytes.
        length: usize,
        /// The limit of the channel in bytes.
        limit: usize,
    },
    /// The message has a version, and is not kept.
    VersionWithoutHistory,
}

impl Message<'_> {
    /// Returns the publication to `channel`. `time` is in milliseconds since the Unix epoch.
    ///
    /// # Errors
    /// The first rule of the channel that the message breaks.
    pub fn publication(
        &self,
        namespaces: &Namespaces,
        channel: &str,
        time: i64,
    ) -> Result<Publish, PublishError> {
        let options = find_channel(namespaces, channel)?;
        let data = self.payload.form(options)?;
        let limit = options.max_publication;
        if limit != 0 && data.len() > limit {
            return Err(PublishError::TooLarge { length: data.len(), limit });
        }
        let history = HistoryOptions::of(options).filter(|_| !self.skips_history);
        if self.version.is_some() && history.is_none() {
            return Err(PublishError::VersionWithoutHistory);
        }
        Ok(Publish {
            channel: channel.into(),
            data,
            info: None,
            tags: self.tags.clone(),
            delta: self.has_delta || options.delta_publish,
            time,
            history,
            key: self.key.clone(),
            version: self.version.clone(),
        })
    }
}

/// Returns the options of a channel.
///
/// # Errors
/// The text is not the name of a channel, or its namespace is not configured.
pub fn find_channel<'n>(
    namespaces: &'n Namespaces,
    channel: &str,
) -> Result<&'n Arc<ChannelOptions>, PublishError> {
    let name = ChannelName::parse(channel).map_err(PublishError::Channel)?;
    namespaces.options(name).ok_or(PublishError::UnknownNamespace)
}

impl<'b> Payload<'b> {
    /// Takes bytes. A channel of JSON accepts them if they are a JSON text.
    pub fn bytes(bytes: impl Into<Cow<'b, [u8]>>) -> Payload<'b> {
        Payload::new(Sent::Bytes(bytes.into()))
    }

    /// Takes a text, which becomes a JSON string in a channel of JSON.
    pub fn text(text: &'b str) -> Payload<'b> {
        Payload::new(Sent::Text(text))
    }

    fn new(sent: Sent<'b>) -> Payload<'b> {
        Payload { sent, json: OnceCell::new(), binary: OnceCell::new() }
    }

    /// Returns the payload in the form that a channel keeps.
    fn form(&self, options: &ChannelOptions) -> Result<Arc<[u8]>, PublishError> {
        if options.publication_data_format == DataFormat::Binary {
            let bytes = || match &self.sent {
                Sent::Bytes(bytes) => bytes.as_ref().into(),
                Sent::Text(text) => text.as_bytes().into(),
            };
            return Ok(self.binary.get_or_init(bytes).clone());
        }
        let json = self.json.get_or_init(|| match &self.sent {
            Sent::Bytes(bytes) => Raw::new(bytes).compact().map(|text| text.as_ref().into()),
            Sent::Text(text) => {
                let mut quoted = Vec::with_capacity(text.len() + 2);
                write_json_string(&mut quoted, text);
                Ok(quoted.into())
            }
        });
        let data = json.clone().map_err(|error| match error {
            RawError::NotJson => PublishError::NotJson,
            RawError::TooDeep => PublishError::TooDeep,
        })?;
        if options.publication_data_format == DataFormat::JsonObject && !data.starts_with(b"{") {
            return Err(PublishError::NotAnObject);
        }
        Ok(data)
    }
}

impl Default for Payload<'_> {
    fn default() -> Self {
        Payload::bytes(&b"null"[..])
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn namespaces() -> Namespaces {
        let of = |publication_data_format| ChannelOptions {
            publication_data_format,
            max_publication: 8,
            ..ChannelOptions::default()
        };
        let kept = ChannelOptions {
            history_size: 10,
            history_ttl: Duration::from_secs(60),
            ..ChannelOptions::default()
        };
        let named = [
            ("object".into(), of(DataFormat::JsonObject)),
            ("binary".into(), of(DataFormat::Binary)),
            ("kept".into(), kept),
        ];
        Namespaces::new(of(DataFormat::Json), named)
    }

    #[track_caller]
    fn check(payload: Payload<'_>, channel: &str, expected: Result<&[u8], PublishError>) {
        let message = Message { payload, ..Message::default() };
        let publication = message.publication(&namespaces(), channel, 7);
        let data = publication.as_ref().map(|publication| &*publication.data).map_err(|error| *error);
        assert_eq!(data, expected, "{message:?} to {channel}");
    }

    #[test]
    fn payload_takes_the_form_of_the_channel() {
        check(Payload::bytes(&b" [1, 2] "[..]), "a", Ok(b"[1,2]"));
        check(Payload::bytes(&b"[1, 2]"[..]), "binary:a", Ok(b"[1, 2]"));
        check(Payload::bytes(&b"{ }"[..]), "object:a", Ok(b"{}"));
        check(Payload::bytes(&b"\xff"[..]), "binary:a", Ok(b"\xff"));
        check(Payload::text("a\"\n"), "a", Ok(br#""a\"\n""#));
        check(Payload::text("a\"\n"), "binary:a", Ok(b"a\"\n"));
    }

    #[test]
    fn channel_refuses_what_its_options_do_not_allow() {
        check(Payload::bytes(&b"\xff"[..]), "a", Err(PublishError::NotJson));
        check(Payload::bytes(&b""[..]), "a", Err(PublishError::NotJson));
        let deep = ["[".repeat(200), "]".repeat(200)].concat();
        check(Payload::bytes(deep.into_bytes()), "a", Err(PublishError::TooDeep));
        check(Payload::bytes(&b"1"[..]), "object:a", Err(PublishError::NotAnObject));
        check(Payload::text("{}"), "object:a", Err(PublishError::NotAnObject));
        check(Payload::bytes(&b"12345678"[..]), "a", Ok(b"12345678"));
        check(Payload::bytes(&b"123456789"[..]), "a", Err(PublishError::TooLarge { length: 9, limit: 8 }));
        check(Payload::default(), "nosuch:a", Err(PublishError::UnknownNamespace));
        for (channel, error) in [
            ("", InvalidChannel::Empty),
            ("\u{e9}", InvalidChannel::Character),
            (&"a".repeat(256), InvalidChannel::TooLong),
        ] {
            check(Payload::default(), channel, Err(PublishError::Channel(error)));
        }
    }

    #[test]
    fn version_needs_a_message_that_is_kept() {
        let version = || Some(Version { number: 1, epoch: "".into() });
        let of = |message: Message<'_>, channel: &str| {
            message.publication(&namespaces(), channel, 7).map(|publication| publication.history.is_some())
        };
        assert_eq!(of(Message { version: version(), ..Message::default() }, "kept:a"), Ok(true));
        assert_eq!(of(Message { skips_history: true, ..Message::default() }, "kept:a"), Ok(false));
        let skipped = Message { version: version(), skips_history: true, ..Message::default() };
        assert_eq!(of(skipped, "kept:a"), Err(PublishError::VersionWithoutHistory));
        let of_channel = Message { version: version(), ..Message::default() };
        assert_eq!(of(of_channel, "a"), Err(PublishError::VersionWithoutHistory));
    }
}
