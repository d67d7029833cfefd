//! The methods that concern one channel.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use postern_channels::channel::{ChannelName, InvalidChannel, MAX_CHANNEL};
use postern_channels::exchange::{History, HistoryError, HistoryOptions, HistoryQuery};
use postern_channels::message::{self, PublishError};
use postern_channels::namespaces::options::DataFormat;
use postern_channels::namespaces::{ChannelOptions, Namespaces};
use postern_channels::protocol::MAX_DEPTH;
use postern_channels::publication::{ClientInfo, Publication, Since};
use postern_channels::relay::{ServerAnswer, ServerOperation};
use postern_channels::results;
use serde_json::json;
use smol::channel::RecvError;

use super::error::{MethodError, MethodErrorCode};
use super::params::Params;
use super::result::{MethodResult, from_text, raw};
use crate::channels::Node;

/// Returns the clients that are present in a channel.
pub(in super::super) async fn presence(node: &Node, params: &Params<'_>) -> MethodResult {
    let channel = with_presence(node, params)?;
    Ok(from_text(results::presence(&present(node, &channel).await?)))
}

/// Returns the numbers of clients and of users that are present in a channel.
pub(in super::super) async fn presence_stats(node: &Node, params: &Params<'_>) -> MethodResult {
    let channel = with_presence(node, params)?;
    if node.engine().is_none() {
        let stats = node.with(&channel, |exchange| exchange.presence_stats(&channel));
        return Ok(raw(&json!({ "num_clients": stats.clients, "num_users": stats.users })));
    }
    let clients = present(node, &channel).await?;
    let users: BTreeSet<&str> = clients.iter().map(|info| &*info.user).collect();
    Ok(raw(&json!({ "num_clients": clients.len(), "num_users": users.len() })))
}

/// Returns the clients that are present in a channel, on all nodes.
async fn present(node: &Node, channel: &str) -> Result<Vec<Arc<ClientInfo>>, MethodError> {
    let Some(engine) = node.engine() else {
        return Ok(node.with(channel, |exchange| exchange.presence(channel)));
    };
    match engine.ask(ServerOperation::Presence(channel.into())).recv().await {
        Ok(ServerAnswer::Presence(clients)) => Ok(clients),
        answer => Err(unavailable(answer)),
    }
}

/// Returns the name of a channel with presence.
fn with_presence(node: &Node, params: &Params<'_>) -> Result<String, MethodError> {
    let channel = params.text("channel")?;
    let config = node.config();
    if !find_channel(&config.namespaces, &channel)?.presence {
        return Err(MethodError::new(MethodErrorCode::NotAvailable, "set presence = true for the channel"));
    }
    Ok(channel)
}

/// Returns a part of the history of a channel.
pub(in super::super) async fn history(node: &Node, params: &Params<'_>) -> MethodResult {
    let (channel, history, is_binary) = with_history(node, params)?;
    let since = params.object("since")?;
    let since =
        since.map(|since| Ok(Since::new(&since.text("epoch")?, since.uint("offset")?))).transpose()?;
    let query = HistoryQuery {
        // A negative number asks for all.
        limit: usize::try_from(params.int("limit")?).ok(),
        since,
        is_reverse: params.flag("reverse")?,
    };
    let name: Arc<str> = channel.as_str().into();
    let answer = match node.engine() {
        None => node.with(&channel, |exchange| exchange.history(&name, &query, &history, Instant::now())),
        Some(engine) => match engine.ask(ServerOperation::History(name, query, history)).recv().await {
            Ok(ServerAnswer::History(answer)) => answer,
            answer => return Err(unavailable(answer)),
        },
    };
    let answer = answer.map_err(|error| match error {
        HistoryError::UnrecoverablePosition => MethodError::new(
            MethodErrorCode::UnrecoverablePosition,
            "the epoch is of an earlier stream; read the history without since",
        ),
        HistoryError::NothingBefore => {
            MethodError::bad("reverse needs a since with an offset of at least 1, or no since")
        }
    })?;
    let answer = if is_binary { in_base64(answer) } else { answer };
    Ok(from_text(results::history(&answer)))
}

/// Returns the same history with the data in base64, as JSON strings.
fn in_base64(history: History) -> History {
    let encode = |publication: Arc<Publication>| {
        let data = format!("\"{}\"", STANDARD.encode(&publication.data));
        Arc::new(Publication { data: data.as_bytes().into(), ..Publication::clone(&publication) })
    };
    History { publications: history.publications.into_iter().map(encode).collect(), ..history }
}

/// Removes the publications of a channel.
pub(in super::super) async fn history_remove(node: &Node, params: &Params<'_>) -> MethodResult {
    let (channel, ..) = with_history(node, params)?;
    match node.engine() {
        None => node.with(&channel, |exchange| exchange.remove_history(&channel, Instant::now())),
        Some(engine) => {
            let operation = ServerOperation::RemoveHistory(channel.as_str().into());
            match engine.ask(operation).recv().await {
                Ok(ServerAnswer::Done) => {}
                answer => return Err(unavailable(answer)),
            }
        }
    }
    Ok(raw(&json!({})))
}

/// Returns the error of a request that the engine has not performed.
fn unavailable(answer: Result<ServerAnswer, RecvError>) -> MethodError {
    match answer {
        Ok(ServerAnswer::Unavailable(failure)) => MethodError::unavailable(&failure),
        // The engine answers each request, and with an answer of its kind.
        Ok(_) | Err(_) => MethodError::new(MethodErrorCode::Internal, "the engine has ended"),
    }
}

/// Returns the name of a channel with history, the bounds of the history, and whether the data is binary.
fn with_history(node: &Node, params: &Params<'_>) -> Result<(String, HistoryOptions, bool), MethodError> {
    let channel = params.text("channel")?;
    let config = node.config();
    let options = find_channel(&config.namespaces, &channel)?;
    let history = HistoryOptions::of(options).ok_or_else(|| {
        let advice = "set history_size and history_ttl for the channel";
        MethodError::new(MethodErrorCode::NotAvailable, advice)
    })?;
    Ok((channel, history, options.publication_data_format == DataFormat::Binary))
}

/// Returns the options of a channel.
///
/// # Errors
/// The text is not the name of a channel, or its namespace is not configured.
pub(super) fn find_channel<'n>(
    namespaces: &'n Namespaces,
    channel: &str,
) -> Result<&'n Arc<ChannelOptions>, MethodError> {
    message::find_channel(namespaces, channel).map_err(|error| publish_error(error, channel))
}

/// Returns the error of a message to a channel.
pub(super) fn publish_error(error: PublishError, channel: &str) -> MethodError {
    MethodError::bad(match error {
        PublishError::Channel(InvalidChannel::Empty) => {
            "channel is missing; name one, such as \"news\"".to_owned()
        }
        PublishError::Channel(InvalidChannel::TooLong) => {
            format!("the name of the channel has {} bytes; it may have {MAX_CHANNEL}", channel.len())
        }
        PublishError::Channel(InvalidChannel::Character) => {
            "the name of a channel may have visible ASCII characters and spaces; others only in the ids after #"
                .to_owned()
        }
        PublishError::UnknownNamespace => {
            let name = ChannelName::parse(channel).ok();
            let namespace = name.and_then(ChannelName::namespace).unwrap_or_default();
            return MethodError::new(
                MethodErrorCode::UnknownChannel,
                format!("add [namespaces.{namespace}] to the file of POSTERN_CHANNELS_FILE"),
            );
        }
        PublishError::NotJson => {
            "the data is not one JSON text in UTF-8, which the channel requires".to_owned()
        }
        PublishError::TooDeep => format!("the data has more than {MAX_DEPTH} levels"),
        PublishError::NotAnObject => "the data must be a JSON object for this channel".to_owned(),
        PublishError::TooLarge { length, limit } => {
            format!("data has {length} bytes; the channel accepts {limit} (max_publication)")
        }
        PublishError::VersionWithoutHistory => {
            "version needs history; set history_size and history_ttl for the channel, and send no skip_history"
                .to_owned()
        }
    })
}
