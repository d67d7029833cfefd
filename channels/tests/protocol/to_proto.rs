//! Converts commands to the types of an SDK. The fuzz targets contain this file too.

use std::collections::HashMap;

use centrifuge_client_core::{Bytes, proto};
use postern_channels::protocol::{Command, Delta, FilterNode, Raw, Request, SubscribeRequest};

/// Converts a decoded command. A filter that is malformed is left out.
pub(crate) fn to_proto(command: &Command<'_>) -> proto::Command {
    let mut proto = proto::Command { id: command.id, ..Default::default() };
    match &command.request {
        Request::Pong => {}
        Request::Connect(connect) => {
            proto.connect = Some(proto::ConnectRequest {
                token: owned(&connect.token),
                data: bytes(connect.data),
                subs: connect
                    .subs
                    .iter()
                    .map(|(channel, sub)| (owned(channel), subscribe_to_proto(sub)))
                    .collect(),
                name: owned(&connect.name),
                version: owned(&connect.version),
                headers: connect
                    .headers
                    .iter()
                    .map(|(name, value)| (owned(name), owned(value)))
                    .collect::<HashMap<_, _>>(),
                flag: connect.flag,
                ..Default::default()
            });
        }
        Request::Subscribe(subscribe) => proto.subscribe = Some(subscribe_to_proto(subscribe)),
        Request::Unsubscribe { channel } => {
            proto.unsubscribe = Some(proto::UnsubscribeRequest { channel: owned(channel) });
        }
        Request::Publish(publish) => {
            proto.publish = Some(proto::PublishRequest {
                channel: owned(&publish.channel),
                data: bytes(publish.data),
                r#type: publish.kind,
                ..Default::default()
            });
        }
        Request::Presence { channel } => {
            proto.presence = Some(proto::PresenceRequest { channel: owned(channel) })
        }
        Request::PresenceStats { channel } => {
            proto.presence_stats = Some(proto::PresenceStatsRequest { channel: owned(channel) });
        }
        Request::History(history) => {
            proto.history = Some(proto::HistoryRequest {
                channel: owned(&history.channel),
                limit: history.limit,
                since: history
                    .since
                    .as_ref()
                    .map(|since| proto::StreamPosition { offset: since.offset, epoch: owned(&since.epoch) }),
                reverse: history.reverse,
            });
        }
        Request::Rpc(rpc) => {
            proto.rpc = Some(proto::RpcRequest { data: bytes(rpc.data), method: owned(&rpc.method) });
        }
        Request::Send { data } => proto.send = Some(proto::SendRequest { data: bytes(*data) }),
        Request::Refresh { token } => proto.refresh = Some(proto::RefreshRequest { token: owned(token) }),
        Request::SubRefresh(refresh) => {
            proto.sub_refresh = Some(proto::SubRefreshRequest {
                channel: owned(&refresh.channel),
                token: owned(&refresh.token),
                r#type: refresh.kind,
                ..Default::default()
            });
        }
    }
    proto
}

fn subscribe_to_proto(subscribe: &SubscribeRequest<'_>) -> proto::SubscribeRequest {
    proto::SubscribeRequest {
        channel: owned(&subscribe.channel),
        token: owned(&subscribe.token),
        recover: subscribe.recover,
        epoch: owned(&subscribe.epoch),
        offset: subscribe.offset,
        data: bytes(subscribe.data),
        positioned: subscribe.positioned,
        recoverable: subscribe.recoverable,
        join_leave: subscribe.join_leave,
        delta: match subscribe.delta {
            Delta::Off => String::new(),
            Delta::Fossil => "fossil".to_owned(),
            Delta::Unknown => "unknown".to_owned(),
        },
        tf: subscribe.filter.and_then(|filter| filter.tree().ok()).map(|tree| filter_to_proto(&tree)),
        flag: subscribe.flag,
        r#type: subscribe.kind,
        ..Default::default()
    }
}

fn filter_to_proto(node: &FilterNode<'_>) -> proto::FilterNode {
    proto::FilterNode {
        op: owned(&node.op),
        key: owned(&node.key),
        cmp: owned(&node.cmp),
        val: owned(&node.val),
        vals: node.vals.iter().map(|val| owned(val)).collect(),
        nodes: node.nodes.iter().map(filter_to_proto).collect(),
    }
}

fn owned(string: &str) -> String {
    string.to_owned()
}

fn bytes(raw: Raw<'_>) -> Bytes {
    Bytes::copy_from_slice(raw.as_bytes())
}
