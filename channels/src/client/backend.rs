//! What a backend changes of a client.

use std::sync::Arc;
use std::time::Instant;

use super::credentials::Grant;
use super::{Client, Turn};
use crate::backend::ServerSubscription;
use crate::exchange::Subscribed;
use crate::hub::Form;
use crate::protocol::{Push, PushBody, Reply, SubscribePush, SubscribeRequest, Topic};
use crate::publication::{ClientInfo, Since};
use crate::view::{self, subscribe_result};

impl Client {
    /// Subscribes the client to a channel. Returns false if it is not connected, is subscribed already, or cannot be.
    pub(crate) fn subscribe_by_server(
        &mut self,
        subscription: &ServerSubscription,
        turn: &mut Turn<'_>,
    ) -> bool {
        let channel: Arc<str> = (*subscription.channel).into();
        if !self.is_connected() || self.wants(&channel, turn.hub) {
            return false;
        }
        let Ok(options) = self.server_side_options(&channel, turn) else { return false };
        let &ServerSubscription { expires_at, overrides, .. } = subscription;
        let (info, data) = (subscription.info.clone(), subscription.data.clone());
        self.set_grant(&channel, Some(Grant { expires_at, info, data, overrides }));
        let recovery = subscription.recover_since.as_ref().map(|since| SubscribeRequest {
            recover: true,
            epoch: since.epoch.as_ref().into(),
            offset: since.offset,
            ..SubscribeRequest::default()
        });
        let begun = self.begin_subscription(0, channel.clone(), recovery.as_ref(), &options, true, turn);
        begun.inspect_err(|_| self.forget_grant(&channel)).is_ok()
    }

    /// Pushes a subscription that the server has made, and the publications that the client has missed.
    pub(super) fn push_subscribed(
        &mut self,
        channel: &Arc<str>,
        subscribed: &Subscribed,
        since: Option<Since>,
        form: Form,
        turn: &mut Turn<'_>,
    ) {
        let Some(slot) = turn.hub.find(channel) else { return };
        let result = subscribe_result(subscribed, since, form, None, &[]);
        let data = self.take_data(channel);
        let topic = Topic::Channel(channel);
        let body = PushBody::Subscribe(SubscribePush {
            recoverable: result.recoverable,
            epoch: result.epoch,
            offset: result.offset,
            positioned: result.positioned,
            data: data.as_deref().unwrap_or_default(),
        });
        turn.replies.push(&Reply::Push(Push { topic, body }));
        for publication in &subscribed.publications {
            view::push_publication(&mut turn.replies, form, slot, publication, None);
        }
    }

    /// Changes when the connection expires. Returns false if it is not connected.
    pub(crate) fn refresh_by_server(
        &mut self,
        expires_at: Option<Instant>,
        info: Option<&Arc<[u8]>>,
        turn: &mut Turn<'_>,
    ) -> bool {
        if !self.is_connected() {
            return false;
        }
        if let Some(info) = info {
            let old = self.info(turn.identity, turn.config.share_email);
            let new = ClientInfo { conn_info: Some(info.clone()), ..ClientInfo::clone(&old) };
            self.info = Some(Arc::new(new));
        }
        self.set_expiry(expires_at);
        let body = PushBody::Refresh { expires: turn.ttl(expires_at) };
        turn.replies.push(&Reply::Push(Push { topic: Topic::Connection, body }));
        true
    }
}
