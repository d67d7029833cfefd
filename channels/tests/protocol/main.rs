//! The protocol, compared with independent implementations: the codec of an SDK, and serde_json.

mod commands;
mod random;
mod replies;
mod reply_random;
mod reply_views;
mod texts;
mod to_proto;
