//! Events in the format of CloudEvents 1.0 (JSON event format).

use std::time::SystemTime;

use postern_core::handshake::{Identity, RequestId};
use postern_core::session::Side;
use postern_core::{ConnectionId, Record};
use serde_json::{Map, Value, json};

use crate::log::rfc3339;

/// The process that events come from.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// `/postern/HOST/INSTANCE`. The instance is different after each start.
    uri: String,
    instance: u32,
}

impl Source {
    pub(super) fn of_this_host(instance: u32) -> Source {
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Source::new(&name, instance)
    }

    pub(super) fn new(host: &str, instance: u32) -> Source {
        // Other characters are not allowed in a URI, or separate its parts.
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let host: String = host.chars().map(|c| if is_plain(c) { c } else { '-' }).collect();
        Source { uri: format!("/postern/{host}/{instance:08x}"), instance }
    }

    /// Returns the URI.
    pub(super) fn uri(&self) -> &str {
        &self.uri
    }

    /// Returns the id of the request for a decision with this number, which is not the id of an event.
    pub(super) fn request_id(&self, number: u64) -> String {
        format!("{:08x}-d{number}", self.instance)
    }

    /// Returns the id of the event with this number.
    pub(super) fn event_id(&self, sequence: u64) -> String {
        format!("{:08x}-{sequence}", self.instance)
    }
}

/// Returns the members about a connection.
pub(super) fn identity_members(
    identity: &Identity,
    connection: ConnectionId,
    source: &Source,
) -> Map<String, Value> {
    let mut members = Map::new();
    members.insert("user".to_owned(), json!(identity.id()));
    let request_id = RequestId::new(identity.request_id(), source.instance, connection).to_string();
    for (name, text) in [
        ("name", identity.name()),
        ("email", identity.email()),
        ("session", identity.session_id()),
        ("client", identity.client()),
        ("origin", identity.origin()),
        ("subprotocol", identity.subprotocol()),
        ("request_id", Some(request_id.as_str())),
    ] {
        // A value that the gateway has not sent is left out.
        if let Some(text) = text {
            members.insert(name.to_owned(), json!(text));
        }
    }
    members.insert("connection".to_owned(), json!(connection.0));
    members
}

/// An event without its number.
#[derive(Debug)]
pub(super) struct Event {
    kind: &'static str,
    time: SystemTime,
    /// The id of the user, or the name of the channel.
    subject: Box<str>,
    /// The member `data`.
    data: Box<str>,
}

impl Event {
    /// Returns the event of a record, if it has one.
    pub(super) fn of_record(record: &Record<'_>, source: &Source) -> Option<Event> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "only connections that open and close are events")]
        let (kind, connection, identity, more) = match *record {
            Record::Established { connection, identity, .. } => {
                ("postern.client.connected", connection, identity, json!({}))
            }
            Record::Closed { connection, identity, ending, reason, summary } => {
                let more = json!({
                    "code": ending.code(),
                    "reason": reason,
                    "initiator": match ending.side() {
                        Side::Client => "client",
                        Side::Server => "server",
                    },
                    "duration_ms": u64::try_from(summary.lasted.as_millis()).unwrap_or(u64::MAX),
                });
                ("postern.client.disconnected", connection, identity, more)
            }
            _ => return None,
        };
        let mut data = identity_members(identity, connection, source);
        if let Value::Object(more) = more {
            data.extend(more);
        }
        Some(Event::new(kind, identity.id(), Value::Object(data)))
    }

    /// Returns the event of a channel that has got its first subscription, or has lost its last one.
    pub(super) fn of_channel(channel: &str, is_occupied: bool) -> Event {
        let kind = if is_occupied { "postern.channel.occupied" } else { "postern.channel.vacated" };
        Event::new(kind, channel, json!({ "channel": channel }))
    }

    fn new(kind: &'static str, subject: &str, data: Value) -> Event {
        Event { kind, time: SystemTime::now(), subject: subject.into(), data: data.to_string().into() }
    }

    /// Returns about how many bytes of memory the event keeps.
    pub(super) fn memory(&self) -> usize {
        size_of::<(u64, Event)>() + self.subject.len() + self.data.len()
    }

    /// Appends the event, with its number, as a JSON object.
    pub(super) fn write(&self, sequence: u64, source: &Source, out: &mut String) {
        let text = |text: &str| Value::from(text).to_string();
        // The attribute `sequence` is compared as text, so it has as many digits as the largest number.
        out.push_str(&format!(
            r#"{{"specversion":"1.0","id":"{}","source":{},"type":"{}","time":"{}","subject":{},"sequence":"{sequence:020}","datacontenttype":"application/json","data":{}}}"#,
            source.event_id(sequence),
            text(&source.uri),
            self.kind,
            rfc3339(self.time),
            text(&self.subject),
            self.data,
        ));
    }
}
