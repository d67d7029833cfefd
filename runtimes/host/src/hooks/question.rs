//! The body of a request about a command, in the format of CloudEvents 1.0.

use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use postern_channels::hooks::{HookCommand, HookRequest};
use postern_channels::protocol::{Encoding, Raw};
use serde_json::{Value, json};

use super::event::{Source, identity_members};
use crate::log::rfc3339;

/// Returns the body of a request with this id.
pub(super) fn write(request: &HookRequest, id: &str, source: &Source) -> String {
    let (kind, member, subject, data) = match &request.command {
        HookCommand::Subscribe { channel, data } => ("subscribe", "channel", channel, data),
        HookCommand::Publish { channel, data, .. } => ("publish", "channel", channel, data),
        HookCommand::Rpc { method, data } => ("rpc", "method", method, data),
    };
    let mut members = identity_members(&request.identity, request.client.connection, source);
    members.insert("client_id".to_owned(), json!(request.id.to_string()));
    members.insert(member.to_owned(), json!(subject));
    let encoding = match request.encoding {
        Encoding::Json => "json",
        Encoding::Protobuf => "protobuf",
    };
    members.insert("encoding".to_owned(), json!(encoding));
    let mut members = Value::Object(members).to_string();
    // The value of the client is not parsed, so that its numbers stay unchanged.
    if !data.is_empty() {
        members.pop();
        match Raw::new(data).compact() {
            Ok(text) => {
                members.push_str(",\"data\":");
                // A JSON text is UTF-8.
                members.push_str(str::from_utf8(&text).unwrap_or("null"));
            }
            Err(_) => {
                members.push_str(",\"b64data\":\"");
                members.push_str(&STANDARD.encode(data));
                members.push('"');
            }
        }
        members.push('}');
    }
    format!(
        r#"{{"specversion":"1.0","id":"{id}","source":{},"type":"postern.hook.{kind}","time":"{}","subject":{},"datacontenttype":"application/json","data":{members}}}"#,
        json!(source.uri()),
        rfc3339(SystemTime::now()),
        json!(subject),
    )
}
