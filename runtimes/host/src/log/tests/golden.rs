//! Every kind of record in both formats, compared byte by byte with the lines in `golden.txt`.
//!
//! `BLESS=1 cargo test -p postern-host golden` writes that file again.

use std::{env, fs};

use postern_core::handshake::{IdentityRules, IdentityValues};
use postern_core::policy::RateKind;
use postern_core::record::{CredentialsEnd, RefreshRefusal};

use super::*;

/// The text of `golden.txt`: for each case a title, and after it the lines in both formats.
#[derive(Default)]
struct Golden(String);

impl Golden {
    fn case(&mut self, title: &str, settings: LogSettings, log_records: impl Fn(&Log)) {
        self.0.push_str(&format!("# {title}\n"));
        for format in [LogFormat::Term, LogFormat::Json] {
            for line in log(LogSettings { format, ..settings }, &log_records) {
                self.0.push_str(&without_time(&line));
                self.0.push('\n');
            }
        }
    }

    fn record(&mut self, title: &str, settings: LogSettings, record: Record<'_>) {
        self.case(title, settings, |log| log.worker(0x5f).record(&record));
    }
}

#[test]
fn every_record_is_the_golden_line() {
    let mut golden = Golden::default();
    add_records_of_users(&mut golden);
    add_messages(&mut golden);
    add_records_of_requests(&mut golden);
    add_records_of_the_process(&mut golden);

    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/log/tests/golden.txt");
    if env::var_os("BLESS").is_some() {
        fs::write(path, &golden.0).unwrap();
    }
    let expected = fs::read_to_string(path).unwrap();
    for (number, (line, expected)) in golden.0.lines().zip(expected.lines()).enumerate() {
        assert_eq!(line, expected, "line {} of golden.txt", number + 1);
    }
    assert_eq!(golden.0.lines().count(), expected.lines().count());
}

fn users() -> Vec<(&'static str, Identity)> {
    let user = |id: &str, email: &str, name: &str| {
        let rules = IdentityRules { ids: IdCharset::Any, ..IdentityRules::default() };
        let (id, email, name) = (id.as_bytes(), email.as_bytes(), name.as_bytes());
        let values = IdentityValues { id, email, name, ..IdentityValues::default() };
        rules.identity(&values).unwrap()
    };
    vec![
        ("plain", user("123", "john@example.com", "John Doe")),
        ("only an id", user("123", "", "")),
        ("sentence in all values", user("1, conn: 9", "x@y) - ID: 1", "Admin (1): x")),
        ("quotation marks", user("o'brien", "\"a\"@b.c", "Joe \"J\" \\n Doe")),
        ("hidden characters", user("a\u{fffe}", "a\u{200b}@b.c", "eoD\u{202e} \u{e0041}\u{2028}")),
        ("other scripts", user("张三", "rené@exämple.fr", "Дима विक्रम 🚀")),
        ("dashes", user("-", "-", "-")),
        (
            "request id and client",
            user("7", "", "Ann")
                .with_request(Some("a/b|c"), Some(Client::Address("203.0.113.9".parse().unwrap()))),
        ),
    ]
}

fn add_records_of_users(golden: &mut Golden) {
    let connection = CONNECTION;
    for (title, identity) in &users() {
        golden.record(&format!("established: {title}"), TERM, established(identity));
        golden.record(&format!("message: {title}"), TERM, text(identity, "Hello World"));
        golden.record(&format!("closed: {title}"), TERM, closed(identity));
        let round_trip = Duration::from_micros(1_500);
        golden.record(&format!("pong: {title}"), TERM, Record::Pong { connection, identity, round_trip });
        for email in [EmailLog::Masked, EmailLog::Off] {
            let settings = LogSettings { email, ..TERM };
            golden.record(
                &format!("established, e-mail {email:?}: {title}"),
                settings,
                established(identity),
            );
            golden.record(&format!("message, e-mail {email:?}: {title}"), settings, text(identity, "Hi"));
        }
    }
    let identity = &john();
    let answered = Record::Established {
        connection,
        peer: Peer::Unix,
        identity,
        subprotocol: Some("bearer"),
        is_offer_unanswered: true,
        took: Duration::from_secs(2),
    };
    golden.record("established with a subprotocol", TERM, answered);
    for kind in [RateKind::Messages, RateKind::Bytes] {
        let exceeded =
            |is_first| Record::RateExceeded { connection, identity, kind, per_second: 20, is_first };
        golden.record(&format!("rate exceeded: {kind:?}"), TERM, exceeded(true));
        golden.record(&format!("rate exceeded again: {kind:?}"), TERM, exceeded(false));
    }
    let kept = Record::RateKept { connection, identity, lasted: Duration::from_millis(1_234), pauses: 5 };
    golden.record("rate kept", TERM, kept);
    for cause in
        [CredentialsEnd::Expired, CredentialsEnd::Revoked, CredentialsEnd::Refused, CredentialsEnd::Unchecked]
    {
        let ended = Record::CredentialsEnded { connection, identity, cause };
        golden.record(&format!("credentials ended: {cause:?}"), TERM, ended);
    }
    let session = IdentityValues {
        id: b"7",
        session_id: b"s-1",
        token_exp: b"1800000000",
        ..IdentityValues::default()
    };
    let session = IdentityRules::default().identity(&session).unwrap();
    golden.record("token refreshed", TERM, Record::TokenRefreshed { connection, identity: &session });
    let refused =
        Record::RefreshRefused { connection, identity: &session, refusal: RefreshRefusal::OtherUser };
    golden.record("refresh refused", TERM, refused);
    golden.record("established in a session", TERM, established(&session));
    let ended = Record::CredentialsEnded { connection, identity: &session, cause: CredentialsEnd::Expired };
    golden.record("credentials ended with an expiry", TERM, ended);
    for micros in [0, 1, 999, 12_000, 3_600_000_000] {
        let round_trip = Duration::from_micros(micros);
        golden.record(
            &format!("pong after {micros} µs"),
            TERM,
            Record::Pong { connection, identity, round_trip },
        );
    }
}

fn add_messages(golden: &mut Golden) {
    let long = ["x".repeat(255), "é".repeat(300)].concat();
    let payloads: [(&str, &[u8]); 9] = [
        ("text", b"Hello World"),
        ("nothing", b""),
        ("special characters", "€ \u{202e} \" \\ \n\r\t\u{8}\u{c}".as_bytes()),
        ("terminal controls", b"\x1b[2J\x07\x9b"),
        ("not UTF-8", b"not UTF-8: \xff\xc3"),
        ("long", long.as_bytes()),
        ("other scripts", "Дима 张三 🚀".as_bytes()),
        ("JSON", b"{\"a\":[1,2]}"),
        ("zero and DEL", b"\0\x01\x7f"),
    ];
    let users = users();
    let (_, identity) = users.last().unwrap();
    for (title, payload) in payloads {
        for kind in [DataKind::Text, DataKind::Binary] {
            for messages in [MessageLog::Full, MessageLog::Truncated, MessageLog::Size, MessageLog::Off] {
                let settings = LogSettings { messages, ..TERM };
                let message = Record::Message { connection: CONNECTION, identity, kind, payload };
                golden.record(&format!("{kind:?} message, {messages:?}: {title}"), settings, message);
            }
        }
    }
}

fn add_records_of_requests(golden: &mut Golden) {
    golden.record("rejected", TERM, rejected());
    let code = Some(CloseCode::from(4401));
    golden.record("rejected by a close frame", TERM, refused(HandshakeError::IdentityMissing, code));
    let mut refresh = refused(HandshakeError::RefreshOtherUser, None);
    if let Record::Rejected { is_refresh, .. } = &mut refresh {
        *is_refresh = true;
    }
    golden.record("refresh rejected", TERM, refresh);
    golden.record("rejected with a detail", TERM, refused(AssertionError::Signature.into(), None));
    for (ip, client) in [
        ("::ffff:10.1.2.3", None),
        ("203.0.113.9", Some(Client::Obfuscated("_hidden"))),
        ("2001:db8::1", Some(Client::Address("2001:db8::2".parse().unwrap()))),
        ("10.1.2.3", None),
        ("100.64.7.1", None),
        ("169.254.1.1", None),
    ] {
        let untrusted = Record::Rejected {
            connection: ConnectionId(u64::MAX),
            peer: Peer::Tcp { ip: ip.parse().unwrap(), port: 1 },
            request_id: None,
            client,
            is_refresh: false,
            error: HandshakeError::PeerNotTrusted,
            close_code: None,
            took: Duration::ZERO,
        };
        golden.record(&format!("rejected, untrusted: {ip}"), TERM, untrusted);
    }
    let abandoned = Record::Abandoned { connection: CONNECTION, peer: PEER, received: 5 };
    golden.record("abandoned", TERM, abandoned);
    golden.record("abandoned, below the level", LogSettings { level: Level::Info, ..TERM }, abandoned);
}

fn add_records_of_the_process(golden: &mut Golden) {
    golden.case("levels and events", TERM, |log| {
        let logger = log.logger();
        slog::crit!(logger, # "event", "one");
        slog::error!(logger, "two");
        warn!(logger, "three");
        info!(logger, "");
        debug!(logger, "five");
        slog::trace!(logger, "six");
    });
    golden.case("values", TERM, |log| {
        let logger = log.logger().new(o!("context" => "outer")).new(o!("context2" => "inner"));
        info!(
            logger, "integers"; "u8" => u8::MAX, "u64" => u64::MAX, "usize" => 7_usize, "i8" => i8::MIN, "i64" => i64::MIN,
            "isize" => -7_isize, "u128" => 7_u128, "u128 large" => u128::MAX, "i128" => -7_i128, "i128 large" => i128::MIN
        );
        info!(
            logger, "floats"; "f32" => 0.1_f32, "half" => 0.5, "whole" => 12.0, "zero" => 0.0, "minus" => -1.25,
            "small" => 0.001, "large" => 1e16, "nan" => f64::NAN, "infinite" => f64::INFINITY
        );
        info!(
            logger, "others"; "true" => true, "none" => None::<u64>, "some" => Some(1), "unit" => (), "char" => 'c',
            "string" => "s".to_owned(), "display" => %IpAddr::V4(Ipv4Addr::LOCALHOST), "debug" => ?Some("d"),
            "error" => %io::Error::from(io::ErrorKind::NotFound)
        );
    });
    golden.case("values with harmful characters", TERM, |log| {
        let logger = log.logger();
        for text in
            ["a\nb\r\tc", "\u{202e}x", "\u{9b}\u{7f}\0", "\u{e0041}y", "\x1b[2J\u{8}\u{c}", "\"q\" \\ \\n"]
        {
            warn!(logger, "before {text} after"; "str" => text, "display" => %text, "debug" => ?text);
        }
    });
    let mut lines = Vec::new();
    golden.case("dropped records", TERM, |_| ());
    for format in [LogFormat::Term, LogFormat::Json] {
        report(format, 2005, &mut lines);
    }
    for line in String::from_utf8(lines).unwrap().lines() {
        golden.0.push_str(&without_time(line));
        golden.0.push('\n');
    }
}
