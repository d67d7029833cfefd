//! Converts replies from the types of an SDK to the types of the server, which borrow from them.

use centrifuge_client_core::proto;
use postern_channels::protocol::{
    Answer, ClientInfo, ConnectResult, Data, HistoryResult, Publication, Push, PushBody, Reply, ReplyError,
    SubscribePush, SubscribeResult, Topic,
};

/// Converts replies to the types of the server, which borrow from them.
pub(crate) fn views(replies: &[proto::Reply]) -> Vec<Reply<'_>> {
    replies.iter().map(view_reply).collect()
}

/// Returns a list that views borrow. It is leaked: a test has only some thousand of them.
fn list<'a, T>(items: impl Iterator<Item = T>) -> &'a [T] {
    Box::leak(items.collect())
}

fn view_reply<'a>(reply: &'a proto::Reply) -> Reply<'a> {
    let id = reply.id;
    let answer = |answer| Reply::Answer { id, answer };
    if let Some(error) = &reply.error {
        let error = ReplyError { code: error.code, message: &error.message, is_temporary: error.temporary };
        Reply::Error { id, error }
    } else if let Some(push) = &reply.push {
        Reply::Push(view_push(push))
    } else if let Some(result) = &reply.connect {
        answer(Answer::Connect(view_connect(result)))
    } else if let Some(result) = &reply.subscribe {
        answer(Answer::Subscribe(view_subscribe(result)))
    } else if reply.unsubscribe.is_some() {
        answer(Answer::Unsubscribe)
    } else if reply.publish.is_some() {
        answer(Answer::Publish)
    } else if let Some(result) = &reply.presence {
        let presence = list(result.presence.iter().map(|(client, info)| (&client[..], view_info(info))));
        answer(Answer::Presence { presence })
    } else if let Some(result) = &reply.presence_stats {
        answer(Answer::PresenceStats { clients: result.num_clients, users: result.num_users })
    } else if let Some(result) = &reply.history {
        let publications = list(result.publications.iter().map(|value| view_publication(value)));
        answer(Answer::History(HistoryResult { publications, epoch: &result.epoch, offset: result.offset }))
    } else if let Some(result) = &reply.rpc {
        answer(Answer::Rpc { data: &result.data })
    } else if let Some(result) = &reply.refresh {
        let proto::RefreshResult { client, version, .. } = result;
        answer(Answer::Refresh { client, version, expires: result.expires.then_some(result.ttl) })
    } else if let Some(result) = &reply.sub_refresh {
        answer(Answer::SubRefresh { expires: result.expires.then_some(result.ttl) })
    } else {
        Reply::Ping
    }
}

fn view_push<'a>(push: &'a proto::Push) -> Push<'a> {
    let topic = match (push.id, &push.channel[..]) {
        (0, "") => Topic::Connection,
        (0, channel) => Topic::Channel(channel),
        (id, _) => Topic::Id(id),
    };
    let body = if let Some(value) = &push.r#pub {
        PushBody::Publication(view_publication(value))
    } else if let Some(proto::Join { info: Some(info) }) = &push.join {
        PushBody::Join(view_info(info))
    } else if let Some(proto::Leave { info: Some(info) }) = &push.leave {
        PushBody::Leave(view_info(info))
    } else if let Some(value) = &push.unsubscribe {
        PushBody::Unsubscribe { code: value.code, reason: &value.reason }
    } else if let Some(value) = &push.message {
        PushBody::Message { data: &value.data }
    } else if let Some(value) = &push.subscribe {
        PushBody::Subscribe(SubscribePush {
            recoverable: value.recoverable,
            epoch: &value.epoch,
            offset: value.offset,
            positioned: value.positioned,
            data: &value.data,
        })
    } else if let Some(value) = &push.disconnect {
        PushBody::Disconnect { code: value.code, reason: &value.reason }
    } else if let Some(value) = &push.refresh {
        PushBody::Refresh { expires: value.expires.then_some(value.ttl) }
    } else {
        panic!("no other push is generated")
    };
    Push { topic, body }
}

fn view_connect<'a>(result: &'a proto::ConnectResult) -> ConnectResult<'a> {
    ConnectResult {
        client: &result.client,
        version: &result.version,
        expires: result.expires.then_some(result.ttl),
        data: &result.data,
        subs: list(result.subs.iter().map(|(channel, result)| (&channel[..], view_subscribe(result)))),
        ping: result.ping,
        pong: result.pong,
        session: &result.session,
        node: &result.node,
        time: result.time,
    }
}

fn view_subscribe<'a>(result: &'a proto::SubscribeResult) -> SubscribeResult<'a> {
    SubscribeResult {
        expires: result.expires.then_some(result.ttl),
        recoverable: result.recoverable,
        epoch: &result.epoch,
        publications: list(result.publications.iter().map(|value| view_publication(value))),
        recovered: result.recovered,
        offset: result.offset,
        positioned: result.positioned,
        data: &result.data,
        was_recovering: result.was_recovering,
        delta: result.delta,
        id: result.id,
    }
}

fn view_publication<'a>(value: &'a proto::Publication) -> Publication<'a> {
    Publication {
        data: Data::Raw(&value.data),
        info: value.info.as_ref().map(|info| view_info(info)),
        offset: value.offset,
        tags: list(value.tags.iter().map(|(name, value)| (name[..].into(), value[..].into()))),
        delta: value.delta,
        epoch: &value.epoch,
    }
}

fn view_info<'a>(info: &'a proto::ClientInfo) -> ClientInfo<'a> {
    ClientInfo {
        user: &info.user,
        client: &info.client,
        conn_info: &info.conn_info,
        chan_info: &info.chan_info,
    }
}
