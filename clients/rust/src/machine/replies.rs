//! The messages of the server.

use std::time::Instant;

use super::Machine;
use super::connection::State;
use super::requests::Kind;
use crate::close::codes;
use crate::event::Event;
use crate::protocol::{Push, Reply};

impl Machine {
    /// Handles a text message of the server.
    pub fn handle_message(&mut self, text: &str, now: Instant) {
        for line in text.lines().filter(|line| !line.is_empty()) {
            if !matches!(self.state, State::Connecting | State::Connected { .. }) {
                // An earlier line has ended the connection.
                return;
            }
            self.note_arrival(now);
            let is_read = match serde_json::from_str(line) {
                Ok(reply) => self.handle_reply(reply, now),
                Err(_) => None,
            };
            if is_read.is_none() {
                self.reconnect(codes::BAD_REPLY, "the server has sent a message that is not a reply", now);
            }
        }
    }

    /// Returns `None` if the reply has not the form that it must have.
    fn handle_reply(&mut self, reply: Reply, now: Instant) -> Option<()> {
        if let Some(push) = reply.push {
            self.handle_push(push, now);
        } else if reply.id == 0 {
            self.handle_ping();
        } else if let Some(pending) = self.pending.remove(&reply.id) {
            let id = reply.id;
            match pending.kind {
                Kind::Connect => self.handle_connect(reply.result(|reply| reply.connect)?, now),
                Kind::Refresh => self.handle_refresh(reply.result(|reply| reply.refresh)?, now),
                Kind::Subscribe(channel) => {
                    self.handle_subscribe(channel, id, reply.result(|reply| reply.subscribe)?, now);
                }
                Kind::SubRefresh(channel) => {
                    self.handle_sub_refresh(channel, reply.result(|reply| reply.sub_refresh)?, now);
                }
                Kind::Unsubscribe => {}
                Kind::Request(id) => self.handle_answer(id, reply),
            }
        }
        Some(())
    }

    fn handle_push(&mut self, push: Push, now: Instant) {
        let channel = push.channel;
        if let Some(publication) = push.publication {
            self.handle_publication(channel, publication);
        } else if let Some(join) = push.join {
            if self.is_subscribed(&channel) {
                self.events.push_back(Event::Join { channel, info: join.info });
            }
        } else if let Some(leave) = push.leave {
            if self.is_subscribed(&channel) {
                self.events.push_back(Event::Leave { channel, info: leave.info });
            }
        } else if let Some(unsubscribe) = push.unsubscribe {
            self.handle_unsubscribe(channel, unsubscribe, now);
        } else if let Some(subscribe) = push.subscribe {
            self.handle_server_subscription(channel, subscribe);
        } else if let Some(message) = push.message {
            self.events.push_back(Event::Message { data: message.data });
        } else if let Some(expiry) = push.refresh {
            self.handle_refresh(Ok(expiry), now);
        }
    }
}
