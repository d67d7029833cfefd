//! Publications and clients as the protocol encodes them.

use std::sync::Arc;

use crate::exchange::{PresenceChange, PresenceEvent, Subscribed};
use crate::hub::Form;
use crate::protocol::{self, Data, Encoding, Message, Push, PushBody, Reply, SubscribeResult, Topic};
use crate::publication::{ClientInfo, Publication, Since};

/// The ids of clients as texts, which the views of their publications borrow.
pub(crate) struct ClientTexts(Vec<[u8; 36]>);

impl ClientTexts {
    pub(crate) fn of_publishers<'p>(
        publications: impl IntoIterator<Item = &'p Arc<Publication>>,
    ) -> ClientTexts {
        let text = |publication: &Arc<Publication>| {
            publication.info.as_ref().map_or([0; 36], |info| info.client.text())
        };
        ClientTexts(publications.into_iter().map(text).collect())
    }

    pub(crate) fn of_clients(clients: &[Arc<ClientInfo>]) -> ClientTexts {
        ClientTexts(clients.iter().map(|info| info.client.text()).collect())
    }

    /// Returns the publications from which the texts were made.
    pub(crate) fn publications<'v>(
        &'v self,
        publications: &'v [Arc<Publication>],
    ) -> Vec<protocol::Publication<'v>> {
        publications.iter().zip(&self.0).map(|(publication, text)| view(publication, text)).collect()
    }

    /// Returns the clients from which the texts were made, by their ids.
    pub(crate) fn clients<'v>(
        &'v self,
        clients: &'v [Arc<ClientInfo>],
    ) -> Vec<(&'v str, protocol::ClientInfo<'v>)> {
        clients.iter().zip(&self.0).map(|(info, text)| (as_str(text), client_view(info, text))).collect()
    }
}

fn view<'v>(publication: &'v Publication, text: &'v [u8; 36]) -> protocol::Publication<'v> {
    let position = publication.position.as_ref();
    protocol::Publication {
        data: Data::Raw(&publication.data),
        info: publication.info.as_deref().map(|info| client_view(info, text)),
        offset: position.map_or(0, |position| position.offset),
        tags: publication.tags.as_slice(),
        delta: false,
        // Clients need the epoch with the first publication of a stream only.
        epoch: position
            .filter(|position| position.offset == 1)
            .map_or("", |position| position.epoch.as_str()),
    }
}

fn client_view<'v>(info: &'v ClientInfo, text: &'v [u8; 36]) -> protocol::ClientInfo<'v> {
    protocol::ClientInfo {
        user: &info.user,
        client: as_str(text),
        conn_info: info.conn_info.as_deref().unwrap_or_default(),
        chan_info: info.chan_info.as_deref().unwrap_or_default(),
    }
}

/// Returns the text of a client's id, which is ASCII.
fn as_str(text: &[u8; 36]) -> &str {
    str::from_utf8(text).unwrap_or_default()
}

/// Writes the message that contains a publication.
pub(crate) fn write_publication(encoding: Encoding, out: &mut Vec<u8>, publication: &Arc<Publication>) {
    let text = publication.info.as_ref().map_or([0; 36], |info| info.client.text());
    let body = PushBody::Publication(view(publication, &text));
    write_push(encoding, out, &publication.channel, body);
}

/// Writes the message that tells of a client that has joined or left.
pub(crate) fn write_presence(encoding: Encoding, out: &mut Vec<u8>, event: &PresenceEvent) {
    let text = event.info.client.text();
    let info = client_view(&event.info, &text);
    let body = match event.change {
        PresenceChange::Join => PushBody::Join(info),
        PresenceChange::Leave => PushBody::Leave(info),
    };
    write_push(encoding, out, &event.channel, body);
}

/// Writes a message with a push of a channel.
pub(crate) fn write_push(encoding: Encoding, out: &mut Vec<u8>, channel: &str, body: PushBody<'_>) {
    Message::new(encoding, out).push(&Reply::Push(Push { topic: Topic::Channel(channel), body }));
}

/// Returns the result of a subscription.
pub(crate) fn subscribe_result<'v>(
    subscribed: &'v Subscribed,
    since: Option<Since>,
    form: Form,
    publications: &'v [protocol::Publication<'v>],
) -> SubscribeResult<'v> {
    let position = subscribed.position.as_ref();
    let is_recovered = subscribed.is_recovered && since.is_some();
    let offset = match since.filter(|_| is_recovered) {
        // The client moves its position by the publications.
        Some(since) => since.offset,
        None => position.map_or(0, |position| position.offset),
    };
    SubscribeResult {
        recoverable: form.has(Form::RECOVERABLE),
        epoch: position.map_or("", |position| position.epoch.as_str()),
        publications,
        recovered: is_recovered,
        offset,
        positioned: form.has(Form::POSITIONED),
        was_recovering: form.has(Form::WAS_RECOVERING),
        ..SubscribeResult::default()
    }
}
