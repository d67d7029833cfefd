//! The methods that publish.

use std::collections::BTreeMap;

use postern_channels::channel::personal_channel;
use postern_channels::engine::Receipt;
use postern_channels::exchange::Version;
use postern_channels::message::{Message, Payload};
use serde_json::json;
use serde_json::value::RawValue;
use slog::{Logger, debug};

use super::channel::publish_error;
use super::error::MethodError;
use super::params::Params;
use super::result::{MethodResult, outcome, raw};
use crate::channels::{Batch, Publishing, unix_ms};

/// Publishes to one channel.
pub(in super::super) async fn publish(
    batch: &mut Batch<'_>,
    params: &Params<'_>,
    log: &Logger,
) -> MethodResult {
    let channel = match (params.text("channel")?, params.text("user")?) {
        (channel, user) if user.is_empty() => channel,
        (channel, user) if channel.is_empty() => personal_channel_of(&user)?,
        _ => return Err(MethodError::bad("channel and user are present; name one of them")),
    };
    let message = parse_message(params)?;
    publish_message(batch, &message, &channel)?.result(log).await
}

/// Publishes to several channels. Each has its own result.
pub(in super::super) async fn broadcast(
    batch: &mut Batch<'_>,
    params: &Params<'_>,
    log: &Logger,
) -> MethodResult {
    let (channels, users) = (params.texts("channels")?, params.texts("users")?);
    if channels.is_empty() && users.is_empty() {
        return Err(MethodError::bad("channels is missing; list the channels, or the ids of users in users"));
    }
    let message = parse_message(params)?;
    let channels = channels.into_iter().map(Ok);
    let personal = users.iter().map(|user| personal_channel_of(user));
    let publish = |channel: Result<String, MethodError>| {
        channel.and_then(|channel| publish_message(batch, &message, &channel))
    };
    let published: Vec<Result<Published, MethodError>> = channels.chain(personal).map(publish).collect();
    let mut responses: Vec<Box<RawValue>> = Vec::with_capacity(published.len());
    for published in published {
        let result = match published {
            Ok(published) => published.result(log).await,
            Err(error) => Err(error),
        };
        responses.push(outcome(&result));
    }
    Ok(raw(&BTreeMap::from([("responses", responses)])))
}

fn personal_channel_of(user: &str) -> Result<String, MethodError> {
    personal_channel(None, user).ok_or_else(|| {
        MethodError::bad(
            "the id of a user must not be empty, have a control character, or be longer than a channel",
        )
    })
}

/// A message from the parameters of a method.
fn parse_message<'b>(params: &Params<'b>) -> Result<Message<'b>, MethodError> {
    let bytes = params.bytes("b64data")?;
    let payload = match params.raw("data") {
        Some(data) if bytes.is_empty() => Payload::bytes(data),
        None | Some(b"null") if !bytes.is_empty() => Payload::bytes(bytes),
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
        payload,
        tags: tags.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect(),
        key: (!key.is_empty()).then(|| key.into()),
        version: (number > 0).then_some(Version { number, epoch }),
        skips_history: params.flag("skip_history")?,
        has_delta: params.flag("delta")?,
    })
}

/// Hands a message to the channel, and returns before it is published.
fn publish_message(
    batch: &mut Batch<'_>,
    message: &Message<'_>,
    channel: &str,
) -> Result<Published, MethodError> {
    let config = batch.node().config();
    let publication = message.publication(&config.namespaces, channel, unix_ms());
    let publication = publication.map_err(|error| publish_error(error, channel))?;
    let bytes = publication.data.len();
    Ok(Published { channel: channel.to_owned(), bytes, publishing: batch.publish(publication) })
}

/// A message that the node has accepted.
struct Published {
    channel: String,
    bytes: usize,
    publishing: Publishing,
}

impl Published {
    /// Returns the result of the method.
    async fn result(self, log: &Logger) -> MethodResult {
        let Published { channel, bytes, publishing } = self;
        let receipt = publishing.result().await.map_err(|failure| MethodError::unavailable(&failure))?;
        let Receipt { position, subscriptions, .. } = receipt;
        debug!(log, # "api_publish", "message published by the control port";
            "channel" => %crate::escape::Quoted(&channel), "bytes" => bytes, "subscriptions" => subscriptions);
        let mut result = json!({ "delivered": subscriptions });
        if let Some(position) = position {
            result["offset"] = position.offset.into();
            result["epoch"] = position.epoch.as_str().into();
        }
        Ok(raw(&result))
    }
}
