//! A message as the channels read it, and the answer to it.

use postern_channels::namespaces::Namespaces;
use postern_channels::source::{Delivery, HEADER_PREFIX, Header, Outcome, Poison, map};
use serde_json::{Value, json};

use super::protocol;

/// Returns the effect of a message. `key` is its subject after the prefix of `POSTERN_NATS_SUBJECT`.
pub(super) fn outcome(
    key: &str,
    headers: &[u8],
    payload: &[u8],
    namespaces: &Namespaces,
    time: i64,
) -> Outcome {
    let Some(all) = protocol::headers(headers) else { return Outcome::DeadLetter(Poison::Header) };
    let find = |wanted: &str| all.iter().find(|(name, _)| name == wanted).and_then(|(_, value)| *value);
    let mut own: Vec<(&str, Header<'_>)> = Vec::new();
    for (name, value) in all.iter().filter(|(name, _)| name.starts_with(HEADER_PREFIX)) {
        let Some(text) = *value else { return Outcome::DeadLetter(Poison::Header) };
        // A header that is sent several times is a list.
        match own.iter_mut().find(|(earlier, _)| earlier == name) {
            None => own.push((name, Header::Text(text))),
            Some((_, Header::List(texts))) => texts.push(text),
            Some((_, earlier)) => {
                let first = if let Header::Text(first) = *earlier { Some(first) } else { None };
                *earlier = Header::List(first.into_iter().chain([text]).collect());
            }
        }
    }
    let delivery = Delivery {
        routing_key: key,
        headers: &own,
        content_type: find("content-type"),
        message_id: find("nats-msg-id"),
        timestamp: None,
        expiration: None,
        body: payload,
    };
    map(&delivery, namespaces, time)
}

/// Returns the answer to a message that was published to this number of channels.
pub(super) fn published(channels: usize) -> Value {
    json!({ "result": { "channels": channels } })
}

/// Returns the answer to a message that can never be published. The numbers are the error codes of the server API.
pub(super) fn rejected(poison: Poison) -> Value {
    let code = match poison {
        Poison::UnknownNamespace => 102,
        Poison::Version => 108,
        Poison::NoTarget
        | Poison::Header
        | Poison::Channel
        | Poison::User
        | Poison::NotUtf8
        | Poison::NotJson
        | Poison::NotAnObject
        | Poison::TooLarge => 107,
    };
    error(code, &poison.to_string())
}

/// Returns the answer to a message that the engine did not accept.
pub(super) fn unavailable(text: &str) -> Value {
    error(100, &format!("the engine is unavailable ({text}); send the same message with a Nats-Msg-Id again"))
}

fn error(code: u32, message: &str) -> Value {
    json!({ "error": { "code": code, "message": message } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_the_subject_name_the_channels() {
        let namespaces = Namespaces::default();
        let channels = |key: &str, lines: &str| {
            let headers = format!("NATS/1.0\r\n{lines}\r\n");
            match outcome(key, headers.as_bytes(), b"1", &namespaces, 0) {
                Outcome::Publish(all) => {
                    let key = all[0].key.clone().map(|key| key.to_string()).unwrap_or_default();
                    (all.iter().map(|one| one.channel.to_string()).collect(), key)
                }
                Outcome::DeadLetter(poison) => (vec![poison.label().to_owned()], String::new()),
                Outcome::Expired => panic!("it has no age"),
            }
        };
        for (key, lines, expected, id) in [
            ("channel.a.b", "", &["a.b"][..], ""),
            ("channel.a", "nats-MSG-id: 7\r\n", &["a"], "7"),
            ("channel.a", "X-Postern-Channel: b, c\r\n", &["b", "c"], ""),
            ("channel.a", "X-Postern-Channel: b,c\r\nx-postern-channel: d\r\n", &["b,c", "d"], ""),
            (
                "channel.a",
                "x-postern-delta: 1\r\nx-postern-delta: 2\r\nx-postern-delta: 3\r\n",
                &["header"],
                "",
            ),
            ("user.7", "x-other: 1\r\n", &["#7"], ""),
            ("channel.", "", &["channel"], ""),
            ("channel.a", "no colon\r\n", &["header"], ""),
        ] {
            let expected: Vec<String> = expected.iter().map(|&channel| channel.to_owned()).collect();
            assert_eq!(channels(key, lines), (expected, id.to_owned()), "{lines:?}");
        }
        let bytes = b"NATS/1.0\r\nx-postern-channel: \xff\r\n\r\n";
        assert_eq!(outcome("channel.a", bytes, b"1", &namespaces, 0), Outcome::DeadLetter(Poison::Header));
    }

    #[test]
    fn answers_have_the_form_of_the_server_api() {
        assert_eq!(published(2).to_string(), r#"{"result":{"channels":2}}"#);
        let codes = Poison::ALL.map(|poison| rejected(poison)["error"]["code"].as_u64().unwrap());
        assert_eq!(codes, [107, 107, 107, 107, 102, 107, 107, 107, 107, 108]);
        assert_eq!(unavailable("down")["error"]["code"], 100);
    }
}
