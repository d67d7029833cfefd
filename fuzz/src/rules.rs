//! The rules that hold for commands in both encodings, and the comparison of the results of two readers.

use centrifuge_client_core::proto;
use postern_channels::protocol::{Command, Malformed};

use crate::to_proto::to_proto;

/// Applies the rules to a command that a second reader has parsed: leaves the request that counts, or returns the fault.
pub(crate) fn apply(mut command: proto::Command) -> Result<proto::Command, Malformed> {
    let mut one = proto::Command { id: command.id, ..Default::default() };
    if command.connect.is_some() {
        one.connect = command.connect.take();
    } else if command.ping.is_some() {
        return Err(Malformed::Request);
    } else if command.subscribe.is_some() {
        one.subscribe = command.subscribe.take();
    } else if command.unsubscribe.is_some() {
        one.unsubscribe = command.unsubscribe.take();
    } else if command.publish.is_some() {
        one.publish = command.publish.take();
    } else if command.presence.is_some() {
        one.presence = command.presence.take();
    } else if command.presence_stats.is_some() {
        one.presence_stats = command.presence_stats.take();
    } else if command.history.is_some() {
        one.history = command.history.take();
    } else if command.rpc.is_some() {
        one.rpc = command.rpc.take();
    } else if command.send.is_some() {
        one.send = command.send.take();
    } else if command.refresh.is_some() {
        one.refresh = command.refresh.take();
    } else if command.sub_refresh.is_some() {
        one.sub_refresh = command.sub_refresh.take();
    } else {
        return if one.id == 0 { Ok(one) } else { Err(Malformed::Request) };
    }
    if one.id == 0 && one.send.is_none() {
        return Err(Malformed::Id);
    }
    let channels = [
        one.subscribe.as_ref().map(|request| &request.channel),
        one.unsubscribe.as_ref().map(|request| &request.channel),
        one.publish.as_ref().map(|request| &request.channel),
        one.presence.as_ref().map(|request| &request.channel),
        one.presence_stats.as_ref().map(|request| &request.channel),
        one.history.as_ref().map(|request| &request.channel),
        one.sub_refresh.as_ref().map(|request| &request.channel),
    ];
    if channels.into_iter().flatten().any(String::is_empty) {
        return Err(Malformed::Channel);
    }
    if one.refresh.as_ref().is_some_and(|refresh| refresh.token.is_empty()) {
        return Err(Malformed::Token);
    }
    if let Some(subscribe) = &one.subscribe
        && subscribe.r#type == 0
        && !matches!(&subscribe.delta[..], "" | "fossil")
    {
        return Err(Malformed::Delta);
    }
    drop_unread(&mut one);
    Ok(one)
}

/// Removes the fields that Postern checks and drops.
fn drop_unread(command: &mut proto::Command) {
    if let Some(connect) = &mut command.connect {
        connect.dict.clear();
        connect.profile.clear();
        connect.subs.values_mut().for_each(drop_unread_of_subscribe);
    }
    if let Some(subscribe) = &mut command.subscribe {
        drop_unread_of_subscribe(subscribe);
    }
    if let Some(publish) = &mut command.publish {
        publish.key.clear();
        publish.removed = false;
    }
    if let Some(refresh) = &mut command.sub_refresh {
        refresh.track.clear();
        refresh.untrack.clear();
    }
}

fn drop_unread_of_subscribe(subscribe: &mut proto::SubscribeRequest) {
    subscribe.phase = 0;
    subscribe.cursor.clear();
    subscribe.limit = 0;
    subscribe.asc = false;
    if !matches!(&subscribe.delta[..], "" | "fossil") {
        subscribe.delta = "unknown".to_owned();
    }
    // Postern decodes filters later, and has its own limit for their levels.
    if subscribe.tf.as_ref().is_some_and(|node| levels(node) > 32) {
        subscribe.tf = None;
    }
}

fn levels(node: &proto::FilterNode) -> u32 {
    1 + node.nodes.iter().map(levels).max().unwrap_or_default()
}

/// Asserts that both readers have the same result for a command of `message`.
#[track_caller]
pub(crate) fn assert_same(
    message: &[u8],
    found: &Result<Command<'_>, Malformed>,
    expected: &Result<proto::Command, Malformed>,
) {
    let found = found.as_ref().map(to_proto).map_err(|fault| *fault);
    assert_eq!(found, *expected, "{}", message.escape_ascii());
}
