//! A delivery of the client library as the channels read it.

use std::str;

use lapin::message::Delivery as Received;
use lapin::types::{AMQPValue, ShortString};
use postern_channels::source::{self, HEADER_PREFIX, Header};

/// Calls `read` with a delivery. Headers that have no effect are left out.
pub(super) fn with_delivery<R>(received: &Received, read: impl FnOnce(&source::Delivery<'_>) -> R) -> R {
    let properties = &received.properties;
    let table = properties.headers().as_ref().map(|table| table.inner());
    let headers: Vec<(&str, Header<'_>)> = table
        .into_iter()
        .flatten()
        .filter(|(name, _)| name.as_str().starts_with(HEADER_PREFIX))
        .map(|(name, value)| (name.as_str(), header(value)))
        .collect();
    read(&source::Delivery {
        routing_key: received.routing_key.as_str(),
        headers: &headers,
        content_type: text(properties.content_type()),
        message_id: text(properties.message_id()),
        timestamp: *properties.timestamp(),
        expiration: text(properties.expiration()),
        body: &received.data,
    })
}

fn text(property: &Option<ShortString>) -> Option<&str> {
    property.as_ref().map(ShortString::as_str)
}

fn header(value: &AMQPValue) -> Header<'_> {
    match value {
        AMQPValue::Boolean(flag) => Header::Flag(*flag),
        AMQPValue::ShortShortInt(number) => Header::Number((*number).into()),
        AMQPValue::ShortShortUInt(number) => Header::Number((*number).into()),
        AMQPValue::ShortInt(number) => Header::Number((*number).into()),
        AMQPValue::ShortUInt(number) => Header::Number((*number).into()),
        AMQPValue::LongInt(number) => Header::Number((*number).into()),
        AMQPValue::LongUInt(number) => Header::Number((*number).into()),
        AMQPValue::LongLongInt(number) => Header::Number(*number),
        AMQPValue::FieldArray(array) => {
            let texts = array.as_slice().iter().map(as_text).collect::<Option<Vec<_>>>();
            texts.map_or(Header::Other, Header::List)
        }
        AMQPValue::ShortString(_) | AMQPValue::LongString(_) => {
            as_text(value).map_or(Header::Other, Header::Text)
        }
        AMQPValue::Float(_)
        | AMQPValue::Double(_)
        | AMQPValue::DecimalValue(_)
        | AMQPValue::Timestamp(_)
        | AMQPValue::FieldTable(_)
        | AMQPValue::ByteArray(_)
        | AMQPValue::Void => Header::Other,
    }
}

/// Returns a value that is a text in UTF-8.
fn as_text(value: &AMQPValue) -> Option<&str> {
    let short = value.as_short_string().map(ShortString::as_str);
    short.or_else(|| str::from_utf8(value.as_long_string()?.as_bytes()).ok())
}

#[cfg(test)]
mod tests {
    use lapin::BasicProperties;
    use lapin::types::{FieldArray, FieldTable, LongString};

    use super::*;

    #[test]
    fn properties_and_headers_are_read_and_others_left_out() {
        let long = |bytes: &[u8]| AMQPValue::LongString(LongString::from(bytes));
        let mut headers = FieldTable::default();
        for (name, value) in [
            ("x-postern-a", long(b"text")),
            ("x-postern-b", long(b"\xff")),
            (
                "x-postern-c",
                AMQPValue::FieldArray(FieldArray::from(vec![
                    long(b"a,b"),
                    AMQPValue::ShortString("c".into()),
                ])),
            ),
            ("x-postern-d", AMQPValue::FieldArray(FieldArray::from(vec![long(b"a"), AMQPValue::Void]))),
            ("x-postern-e", AMQPValue::LongUInt(7)),
            ("x-postern-f", AMQPValue::Boolean(true)),
            ("x-postern-g", AMQPValue::Double(1.0)),
            ("x-death", long(b"text")),
        ] {
            headers.insert(name.into(), value);
        }
        let mut received = Received::mock(1, "postern".into(), "channel.a".into(), false, b"1".to_vec());
        received.properties = BasicProperties::default()
            .with_headers(headers)
            .with_content_type("text/plain".into())
            .with_message_id("id".into())
            .with_timestamp(3)
            .with_expiration("1000".into());
        with_delivery(&received, |delivery| {
            let expected = [
                ("x-postern-a", Header::Text("text")),
                ("x-postern-b", Header::Other),
                ("x-postern-c", Header::List(vec!["a,b", "c"])),
                ("x-postern-d", Header::Other),
                ("x-postern-e", Header::Number(7)),
                ("x-postern-f", Header::Flag(true)),
                ("x-postern-g", Header::Other),
            ];
            assert_eq!(delivery.headers, expected);
            assert_eq!((delivery.routing_key, delivery.content_type), ("channel.a", Some("text/plain")));
            assert_eq!((delivery.message_id, delivery.timestamp), (Some("id"), Some(3)));
            assert_eq!((delivery.expiration, delivery.body), (Some("1000"), &b"1"[..]));
        });
    }
}
