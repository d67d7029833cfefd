//! All values that users control, in the log: in both formats, with all settings.
//!
//! * Each record is one line of valid UTF-8, for any contents of names, addresses and payloads.
//! * No line contains a character that controls a terminal, changes the direction of text, or is invisible.
//! * A line in JSON is an object, and the name and the payload can be restored from it.
//! * Both formats have the same message.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use postern_core::frame::DataKind;
use postern_core::handshake::{
    HandshakeError, IdCharset, Identity, IdentityRules, IdentityValues, NameEncoding,
};
use postern_core::model::PEER;
use postern_core::session::{Ending, Traffic};
use postern_core::{ConnectionId, Record, Recorder, Summary};
use postern_host::log::{EmailLog, Log, LogFormat, LogSettings, MessageLog};

use crate::unescape::{take_quoted, unescape};

/// Checks an input:
///
/// ```text
///   [settings: 1] [id: 1] [length of the address: 1] [length of the name: 1] [address] [name] [payload]
/// ```
///
/// # Panics
/// That is the finding.
pub fn check(input: &[u8]) {
    let Some((&[choice, id, email, name], rest)) = input.split_first_chunk() else { return };
    let (email, rest) = rest.split_at(usize::from(email).min(rest.len()));
    let (name, payload) = rest.split_at(usize::from(name).min(rest.len()));
    // The id is a part of the name, which has all kinds of characters in it. Ids that the handshake refuses never reach
    // the log.
    let rules = IdentityRules { ids: IdCharset::Any, names: NameEncoding::Raw };
    let ids = [&name[..usize::from(id).min(name.len())], &[b'u', id], b"u"];
    let mut users = ids.iter().map(|id| IdentityValues { id, email, name, ..IdentityValues::default() });
    let Some(user) = users.find_map(|values| rules.identity(&values).ok()) else { return };
    let kind = if choice & 1 == 0 { DataKind::Text } else { DataKind::Binary };
    let messages = match choice >> 1 & 3 {
        0 => MessageLog::Full,
        1 => MessageLog::Truncated,
        2 => MessageLog::Size,
        _ => MessageLog::Off,
    };
    let email = match choice >> 3 & 3 {
        0 | 3 => EmailLog::Full,
        1 => EmailLog::Masked,
        _ => EmailLog::Off,
    };
    let settings = LogSettings { messages, email, ..LogSettings::default() };
    let said = Said { user: &user, kind, payload };
    let json = said.log(LogSettings { format: LogFormat::Json, ..settings });
    let term = said.log(LogSettings { format: LogFormat::Term, ..settings });

    json.lines().for_each(|line| check_fields(line, &said, settings));
    let sentences: Vec<String> = json.lines().map(sentence).collect();
    assert_eq!(sentences.len(), if messages == MessageLog::Off { 3 } else { 4 }, "{json}");
    check_term(&term, &sentences);
    check_established(&sentences[0], &user, email);
    if messages != MessageLog::Off {
        check_message(&sentences[1], &said, messages);
    }
    let behind = take_name(sentences[sentences.len() - 2].strip_prefix(CLOSED).expect("a sentence"), &user);
    assert_eq!(take_id(behind.strip_prefix(" (").expect("an id"), &user), ")");
}

const ESTABLISHED: &str = "WebSocket connection established - User: ";
const MESSAGE: &str = "Message from ";
const CLOSED: &str = "WebSocket connection closed for user ";

/// The logged values that a client controls.
struct Said<'a> {
    user: &'a Identity,
    kind: DataKind,
    payload: &'a [u8],
}

impl Said<'_> {
    /// Logs a connection from its beginning to its end, and a refusal. Asserts what holds for every line.
    fn log(&self, settings: LogSettings) -> String {
        let sink = Sink::default();
        let log = Log::start(&settings, sink.clone()).expect("a thread");
        let mut worker = log.worker(0);
        let (connection, identity) = (ConnectionId(7), self.user);
        let took = Duration::from_millis(3);
        worker.record(&Record::Established {
            connection,
            peer: PEER,
            identity,
            subprotocol: Some("chat"),
            is_offer_unanswered: false,
            took,
        });
        worker.record(&Record::Message { connection, identity, kind: self.kind, payload: self.payload });
        let (ending, traffic) = (Ending::Eof, Traffic::default());
        let summary = Summary { lasted: took, round_trip: Some(took), traffic };
        worker.record(&Record::Closed { connection, identity, ending, reason: ending.reason(), summary });
        worker.record(&Record::Pong { connection, identity, round_trip: took });
        worker.record(&Record::Rejected {
            connection,
            peer: PEER,
            request_id: identity.request_id(),
            client: None,
            is_refresh: false,
            error: HandshakeError::Host,
            close_code: None,
            took,
        });
        drop(worker);
        drop(log);
        let written = sink.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let text = String::from_utf8(written).expect("valid UTF-8");
        let lines = text.strip_suffix('\n').expect("the end of the last line");
        assert!(!lines.contains(|c| c != '\n' && is_harmful(c)), "{}", lines.escape_debug());
        text
    }
}

/// Keeps the output of the log.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether a character is harmful: C0, DEL and C1; marks, embeddings, overrides and isolates of direction; line
/// separators of some viewers; characters without width; tags. By the Unicode standard, not by the table of the host.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}')
        || matches!(c, '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0001}' | '\u{e0020}'..='\u{e007f}')
}

/// Returns the message of a line in JSON.
fn sentence(line: &str) -> String {
    let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
    assert_eq!(line["conn"], 7, "{line}");
    assert!(matches!(line["level"].as_str(), Some("INFO" | "WARN" | "DEBUG")), "{line}");
    assert_eq!(line["ts"].as_str().map(str::len), Some("2026-05-09T12:34:56.789Z".len()));
    line["msg"].as_str().expect("a sentence").to_owned()
}

/// Asserts that a line in JSON has the user and the text in separate fields, exactly, and no field for values that the
/// settings leave out.
fn check_fields(line: &str, said: &Said<'_>, settings: LogSettings) {
    let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
    let text = |field: &str| line.get(field).map(|value| value.as_str().expect("a string"));
    let event = text("event").expect("an event");
    assert_eq!(text("session_id"), Some("00000000-7"), "{line}");
    if event == "upgrade_rejected" {
        assert_eq!((text("user_id"), text("user_name"), text("user_email")), (None, None, None), "{line}");
        return;
    }
    assert_eq!((text("user_id"), text("user_name")), (Some(said.user.id()), said.user.name()), "{line}");
    match settings.email {
        EmailLog::Full => assert_eq!(text("user_email"), said.user.email(), "{line}"),
        EmailLog::Masked => assert_eq!(text("user_email").is_some(), said.user.email().is_some(), "{line}"),
        EmailLog::Off => assert_eq!(text("user_email"), None, "{line}"),
    }
    if event == "connection_closed" {
        assert_eq!(line["duration_ms"], 3, "{line}");
    }
    if event != "message" {
        return assert_eq!(text("text"), None, "{line}");
    }
    let whole = String::from_utf8_lossy(said.payload);
    match (settings.messages, said.kind) {
        (MessageLog::Full, DataKind::Text) => assert_eq!(text("text"), Some(whole.as_ref()), "{line}"),
        (MessageLog::Truncated, DataKind::Text) => {
            let is_truncated = line.get("is_truncated").is_some();
            assert_eq!(is_truncated, said.payload.len() > 256, "{line}");
            let shown = text("text").expect("a text");
            // Bytes that are not UTF-8 are replaced, and the cut may go through some.
            assert!(is_truncated || shown == whole, "{line}");
            assert!(str::from_utf8(said.payload).is_err() || whole.starts_with(shown), "{line}");
        }
        (_, DataKind::Binary) | (MessageLog::Size | MessageLog::Off, _) => {
            assert_eq!(text("text"), None, "{line}")
        }
    }
}

/// Asserts that the lines in the term format say these sentences.
fn check_term(term: &str, sentences: &[String]) {
    assert_eq!(term.lines().count(), sentences.len(), "{term}");
    for (line, sentence) in term.lines().zip(sentences) {
        let behind = line.get("2026-05-09T12:34:56.789Z".len()..).expect("a time");
        let behind = behind.strip_prefix(" INFO ").or(behind.strip_prefix(" WARN ")).expect("a level");
        let keys = behind.strip_prefix(sentence.as_str()).expect("the same sentence");
        assert!(keys.starts_with(", conn: 7, "), "{line}");
    }
}

/// Splits a name off the front of a message. Asserts that it is the user's, or a dash if there is none.
fn take_name<'s>(sentence: &'s str, user: &Identity) -> &'s str {
    let (name, behind) = take_shown(sentence, " (");
    assert_eq!(name.as_deref(), user.name(), "{sentence}");
    behind
}

/// Splits off the text up to `end`, or between quotation marks. A dash means an empty text.
fn take_shown<'s>(sentence: &'s str, end: &str) -> (Option<String>, &'s str) {
    if sentence.starts_with('"') {
        let (quoted, behind) = take_quoted(sentence);
        return (Some(String::from_utf8(quoted).expect("what was UTF-8 before")), behind);
    }
    let at = sentence.find(end).expect("an end");
    let (plain, behind) = sentence.split_at(at);
    ((plain != "-").then(|| plain.to_owned()), behind)
}

/// Splits an id off the front of a text. Asserts that it is the user's. Without quotation marks it is as long as the id,
/// and contains no character that ends one.
fn take_id<'s>(text: &'s str, user: &Identity) -> &'s str {
    if text.starts_with('"') {
        let (quoted, behind) = take_quoted(text);
        assert_eq!(quoted, user.id().as_bytes(), "{text}");
        return behind;
    }
    let behind = text.strip_prefix(user.id()).expect("the id");
    assert!(!user.id().contains(|c| "()[]<>\\, ".contains(c)), "{text}");
    behind
}

fn check_established(sentence: &str, user: &Identity, shown: EmailLog) {
    let behind = take_name(sentence.strip_prefix(ESTABLISHED).expect("a sentence"), user);
    let (email, behind) = take_shown(behind.strip_prefix(" (").expect("an address"), ") - ID: ");
    let behind = behind.strip_prefix(") - ID: ").expect("an id");
    assert_eq!(take_id(behind, user), "");
    match shown {
        EmailLog::Full => assert_eq!(email.as_deref(), user.email()),
        EmailLog::Masked => assert_eq!(email.is_some(), user.email().is_some()),
        EmailLog::Off => assert_eq!(email, None),
    }
}

fn check_message(sentence: &str, said: &Said<'_>, shown: MessageLog) {
    let behind = take_name(sentence.strip_prefix(MESSAGE).expect("a sentence"), said.user);
    let behind = take_id(behind.strip_prefix(" (").expect("an id"), said.user);
    let shown_payload = behind.strip_prefix("): ").expect("a payload");
    let payload = said.payload;
    match (shown, said.kind) {
        (MessageLog::Off | MessageLog::Size, _) => {
            assert_eq!(shown_payload, format!("{} bytes", payload.len()))
        }
        (MessageLog::Full, DataKind::Text) => assert_eq!(unescape(shown_payload), payload),
        (MessageLog::Truncated, DataKind::Text) if payload.len() <= 256 => {
            assert_eq!(unescape(shown_payload), payload);
        }
        (MessageLog::Truncated, DataKind::Text) => {
            let (front, cut) = shown_payload.rsplit_once("… (+").expect("a cut");
            let front = unescape(front);
            assert!(payload.starts_with(&front) && (253..=256).contains(&front.len()), "{shown_payload}");
            assert_eq!(cut, format!("{} bytes)", payload.len() - front.len()));
        }
        (MessageLog::Full | MessageLog::Truncated, DataKind::Binary) => {
            let hex: String = payload.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
            let head = format!("binary, {} bytes", payload.len());
            assert!(shown_payload.starts_with(&head) && shown_payload.contains(&hex), "{shown_payload}");
        }
    }
}
