//! The methods that publish.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use postern_channels::channel::personal_channel;
use postern_channels::exchange::{HistoryOptions, Publish, Version};
use postern_channels::namespaces::ChannelOptions;
use postern_channels::namespaces::options::DataFormat;
use postern_channels::protocol::{MAX_DEPTH, Raw, RawError};
use postern_channels::publication::Tags;
use serde_json::json;
use serde_json::value::RawValue;
use slog::{Logger, debug};

use super::channel::find_channel;
use super::error::MethodError;
use super::params::Params;
use super::result::{MethodResult, outcome, raw};
use crate::channels::{Batch, unix_ms};

/// Publishes to one channel.
pub(in super::super) fn publish(batch: &mut Batch<'_>, params: &Params<'_>, log: &Logger) -> MethodResult {
    let channel = match (params.text("channel")?, params.text("user")?) {
        (channel, user) if user.is_empty() => channel,
        (channel, user) if channel.is_empty() => personal_channel_of(&user)?,
        _ => return Err(MethodError::bad("channel and user are present; name one of them")),
    };
    Message::parse(params)?.publish(batch, &channel, log)
}

/// Publishes to several channels. Each has its own result.
pub(in super::super) fn broadcast(batch: &mut Batch<'_>, params: &Params<'_>, log: &Logger) -> MethodResult {
    let (channels, users) = (params.texts("channels")?, params.texts("users")?);
    if channels.is_empty() && users.is_empty() {
        return Err(MethodError::bad("channels is missing; list the channels, or the ids of users in users"));
    }
    let message = Message::parse(params)?;
    let channels = channels.into_iter().map(Ok);
    let personal = users.iter().map(|user| personal_channel_of(user));
    let publish = |channel: Result<String, MethodError>| {
        outcome(&channel.and_then(|channel| message.publish(batch, &channel, log)))
    };
    let responses: Vec<Box<RawValue>> = channels.chain(personal).map(publish).collect();
    Ok(raw(&BTreeMap::from([("responses", responses)])))
}

fn personal_channel_of(user: &str) -> Result<String, MethodError> {
    personal_channel(None, user).ok_or_else(|| {
        MethodError::bad(
            "the id of a user must not be empty, have a control character, or be longer than a channel",
        )
    })
}

/// A message that is published to one or more channels.
struct Message<'b> {
    data: Data<'b>,
    tags: Tags,
    key: Option<Box<str>>,
    version: Option<Version>,
    skips_history: bool,
    /// Whether subscribers get a delta, also if the namespace does not say so.
    has_delta: bool,
}

/// The data of a message. Each form that a namespace asks for is made once.
struct Data<'b> {
    sent: Sent<'b>,
    json: OnceCell<Result<Arc<[u8]>, RawError>>,
    binary: OnceCell<Arc<[u8]>>,
}

/// The data as it was sent.
enum Sent<'b> {
    Json(&'b [u8]),
    Bytes(Vec<u8>),
}

impl<'b> Message<'b> {
    fn parse(params: &Params<'b>) -> Result<Message<'b>, MethodError> {
        let bytes = params.bytes("b64data")?;
        let sent = match params.raw("data") {
            Some(data) if bytes.is_empty() => Sent::Json(data),
            None | Some(b"null") if !bytes.is_empty() => Sent::Bytes(bytes),
            Some(_) => return Err(MethodError::bad("data and b64data are present; send one of them")),
            None => {
                return Err(MethodError::bad("data is missing; send any JSON value, or bytes in b64data"));
            }
        };
        let tags = params.labels("tags")?;
        let key = params.text("idempotency_key")?;
        let number = params.uint("version")?;
        let epoch = params.text("version_epoch")?.into();
        Ok(Message {
            data: Data { sent, json: OnceCell::new(), binary: OnceCell::new() },
            tags: tags.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect(),
            key: (!key.is_empty()).then(|| key.into()),
            version: (number > 0).then_some(Version { number, epoch }),
            skips_history: params.flag("skip_history")?,
            has_delta: params.flag("delta")?,
        })
    }

    fn publish(&self, batch: &mut Batch<'_>, channel: &str, log: &Logger) -> MethodResult {
        let config = batch.node().config();
        let options = find_channel(&config.namespaces, channel)?;
        let data = self.data.form(options)?;
        if options.max_publication != 0 && data.len() > options.max_publication {
            return Err(MethodError::bad(format!(
                "data has {} bytes; the channel accepts {} (max_publication)",
                data.len(),
                options.max_publication
            )));
        }
        let history = HistoryOptions::of(options).filter(|_| !self.skips_history);
        if self.version.is_some() && history.is_none() {
            return Err(MethodError::bad(
                "version needs history; set history_size and history_ttl for the channel, and send no skip_history",
            ));
        }
        let bytes = data.len();
        let publish = Publish {
            channel: channel.into(),
            data,
            info: None,
            tags: self.tags.clone(),
            delta: self.has_delta || options.delta_publish,
            time: unix_ms(),
            history,
            key: self.key.clone(),
            version: self.version.clone(),
        };
        let (position, delivered) = batch
            .with(channel, |exchange, inboxes| exchange.publish_to(publish, None, Instant::now(), inboxes));
        debug!(log, # "api_publish", "message published by the control port";
            "channel" => %crate::escape::Quoted(channel), "bytes" => bytes, "subscriptions" => delivered);
        let mut result = json!({ "delivered": delivered });
        if let Some(position) = position {
            result["offset"] = position.offset.into();
            result["epoch"] = position.epoch.as_str().into();
        }
        Ok(raw(&result))
    }
}

impl Data<'_> {
    /// Returns the data in the form that a channel keeps.
    fn form(&self, options: &ChannelOptions) -> Result<Arc<[u8]>, MethodError> {
        let sent = match &self.sent {
            Sent::Json(text) => text,
            Sent::Bytes(bytes) => bytes.as_slice(),
        };
        if options.publication_data_format == DataFormat::Binary {
            return Ok(self.binary.get_or_init(|| sent.into()).clone());
        }
        let json = self.json.get_or_init(|| Raw::new(sent).compact().map(|text| text.as_ref().into()));
        let data = json.clone().map_err(|error| match error {
            RawError::NotJson => {
                MethodError::bad("the data is not one JSON text in UTF-8, which the channel requires")
            }
            RawError::TooDeep => MethodError::bad(format!("the data has more than {MAX_DEPTH} levels")),
        })?;
        if options.publication_data_format == DataFormat::JsonObject && !data.starts_with(b"{") {
            return Err(MethodError::bad("the data must be a JSON object for this channel"));
        }
        Ok(data)
    }
}
