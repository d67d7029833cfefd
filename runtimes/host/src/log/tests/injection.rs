//! No user, gateway or operator can forge a record: neither a line nor a field.

use proptest::prelude::*;

use super::*;
use crate::escape::is_harmful;

#[test]
fn a_name_and_a_message_cannot_forge_a_record() {
    let user = Identity::new(b"9", b"x@y) - ID: 1", b"Admin (1): x").unwrap();
    let line =
        line(TERM, text(&user, "hi\r\n2026-05-09T12:34:56.789Z INFO Message from Admin (1): rm, conn: 1"));
    assert_eq!(
        line,
        r#"INFO Message from "Admin (1): x" (9): hi\r\n2026-05-09T12:34:56.789Z INFO Message from Admin (1): rm, conn: 1, conn: 7, request_id: 0000005f-7, opcode: text, bytes: 69"#
    );
    let established = lines(TERM, &[established(&user)]);
    assert!(established[0].contains(r#"User: "Admin (1): x" ("x@y) - ID: 1") - ID: 9, "#), "{established:?}");
}

#[test]
fn the_reason_of_an_operator_cannot_forge_a_record() {
    let user = john();
    let Record::Closed { connection, identity, summary, .. } = closed(&user) else { unreachable!() };
    let ending = Ending::Closed(CloseCode(4403));
    let reason = "logged out\n2026-05-09T12:34:56.789Z INFO forged\u{202e}";
    let record = Record::Closed { connection, identity, ending, reason, summary };
    let line = line(TERM, record);
    assert!(
        line.contains(r"side: server, reason: logged out\n2026-05-09T12:34:56.789Z INFO forged\u{202e}, "),
        "{line}"
    );
    assert_eq!(json(JSON, record)["reason"], reason);
}

#[test]
fn an_id_cannot_forge_a_record() {
    let id = r"7):.Message.from.Admin.(1):\n";
    let user = Identity::new(id.as_bytes(), b"", b"Ann").unwrap();
    let closed = lines(TERM, &[closed(&user)]);
    assert!(
        closed[0].contains(r#" for user Ann ("7):.Message.from.Admin.(1):\\n"), conn: 7, "#),
        "{closed:?}"
    );
    let established = lines(TERM, &[established(&user)]);
    assert!(
        established[0].contains(r#" - ID: "7):.Message.from.Admin.(1):\\n", conn: 7, "#),
        "{established:?}"
    );
    // With the widest charset.
    let rules = IdentityRules { ids: IdCharset::Any, ..IdentityRules::default() };
    let id = b"1, conn: 9, request_id: x";
    let user = rules.identity(&IdentityValues { id, ..IdentityValues::default() }).unwrap();
    assert_eq!(
        line(TERM, text(&user, "hi")),
        r#"INFO Message from - ("1, conn: 9, request_id: x"): hi, conn: 7, request_id: 0000005f-7, opcode: text, bytes: 2"#
    );
}

/// Returns bytes that a gateway, a client or an attacker may send as text, among them sequences that have broken logs.
fn nasty() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop_oneof![
        any::<Vec<u8>>(),
        any::<String>().prop_map(String::into_bytes),
        any::<char>().prop_map(|c| c.to_string().into_bytes()),
        prop::sample::select(vec![
            "\r\n",
            "\n",
            "\x1b[2J",
            "\u{9b}31m",
            "\u{202e}",
            "\u{2066}",
            "\u{2028}",
            "\u{feff}",
            "\u{e0041}",
            "\"",
            "\\",
            "\\n",
            "(1): ",
            "}\n{",
            "\0",
            "John Doe",
            "Дима",
            "é",
            ", conn: 1",
        ])
        .prop_map(|piece| piece.as_bytes().to_vec()),
    ];
    prop::collection::vec(pieces, 0..8).prop_map(|pieces| pieces.concat())
}

/// Returns ids of the widest charset.
fn ids() -> impl Strategy<Value = String> {
    let parts = prop::sample::select(vec![
        "a",
        "1",
        "): ",
        ", conn: 1",
        "\\",
        "\\n",
        "é",
        "👤",
        "'",
        "\u{fffe}",
        "%0a",
    ]);
    let id = prop::collection::vec(parts, 1..6).prop_map(|parts| parts.concat());
    id.prop_filter("a space at its end", |id| IdCharset::Any.admits(id))
}

proptest! {
    #[test]
    fn one_record_is_one_harmless_line(
        id in ids(), email in nasty(), name in nasty(), payload in nasty(),
        is_text: bool,
        shown in prop::sample::select(vec![MessageLog::Full, MessageLog::Truncated, MessageLog::Size]),
        address in prop::sample::select(vec![EmailLog::Full, EmailLog::Masked, EmailLog::Off]),
    ) {
        let rules = IdentityRules { ids: IdCharset::Any, ..IdentityRules::default() };
        let values = IdentityValues { id: id.as_bytes(), email: &email, name: &name, ..IdentityValues::default() };
        let user = rules.identity(&values).unwrap();
        let kind = if is_text { DataKind::Text } else { DataKind::Binary };
        let message = Record::Message { connection: CONNECTION, identity: &user, kind, payload: &payload };
        let records = [established(&user), message, closed(&user)];

        let settings = LogSettings { messages: shown, email: address, ..TERM };
        let term = lines(settings, &records);
        let json = lines(LogSettings { format: LogFormat::Json, ..settings }, &records);
        prop_assert_eq!((term.len(), json.len()), (records.len(), records.len()));
        let events = ["connection_established", "message", "connection_closed"];
        for (line, event) in json.iter().zip(events) {
            let json: serde_json::Value = serde_json::from_str(line).unwrap();
            prop_assert_eq!(json["event"].as_str(), Some(event));
            prop_assert_eq!(json["user_id"].as_str(), Some(user.id()));
            prop_assert_eq!(json["session_id"].as_str(), Some("0000005f-7"));
            prop_assert_eq!(json["user_name"].as_str(), user.name());
            match address {
                EmailLog::Full => prop_assert_eq!(json["user_email"].as_str(), user.email()),
                EmailLog::Masked => prop_assert_eq!(json["user_email"].is_string(), user.email().is_some()),
                EmailLog::Off => prop_assert!(json.get("user_email").is_none()),
            }
        }
        let json_message: serde_json::Value = serde_json::from_str(&json[1]).unwrap();
        let whole = String::from_utf8_lossy(&payload);
        match (shown, kind) {
            (MessageLog::Full, DataKind::Text) => {
                prop_assert_eq!(json_message["text"].as_str(), Some(whole.as_ref()));
            }
            (MessageLog::Truncated, DataKind::Text) => {
                let text = json_message["text"].as_str().unwrap();
                prop_assert!(payload.len() > 256 || text == whole);
                prop_assert_eq!(json_message["is_truncated"].as_bool().unwrap_or_default(), payload.len() > 256);
            }
            _ => prop_assert!(json_message.get("text").is_none()),
        }
        for (term, json) in term.iter().zip(&json) {
            prop_assert!(!term.contains(is_harmful), "{}", term);
            prop_assert!(!json.contains(is_harmful), "{}", json);
            // Both formats have the same level and sentence.
            let json: serde_json::Value = serde_json::from_str(json).unwrap();
            let (message, level) = (json["msg"].as_str().unwrap(), json["level"].as_str().unwrap());
            prop_assert!(without_time(term).starts_with(&format!("{level} {message}, conn: 7, request_id: 0000005f-7, ")), "{}", term);
        }
    }
}
