//! A table of requests that name a user: bytes in, verdict out. Sent to both binaries, each row has one verdict. Sent through
//! each gateway by a client with a token, each row is admitted as the user of the token or refused, but never admitted as
//! another user.

use std::time::{Duration, Instant};

use postern_tests::chain::{Chain, through_each};
use postern_tests::http::{Connection, Response};
use postern_tests::postern::Postern;
use postern_tests::ws::Handshake;

/// The expected result of a request that is sent to Postern.
#[derive(Debug, Clone)]
enum Verdict {
    /// A 101, for this user as the log shows it: `Name (e-mail) - ID: id`.
    Admitted(String),
    /// A 101 for John, with a name or an address that the log escapes.
    AdmittedOddly,
    /// This status, with this code.
    Refused(u16, &'static str),
}

/// The expected result through a gateway, with a token of John.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Through {
    /// A 101 for John, or a refusal by the gateway or Postern.
    AdmittedOrRefused,
    /// A 101 for John: the gateway overwrites the client's headers, and must not refuse them.
    Admitted,
}

struct Row {
    case: String,
    /// Whole header lines.
    lines: Vec<u8>,
    /// The header of John that they replace, if they do.
    instead_of: &'static str,
    /// The value of `Connection`.
    connection: &'static str,
    direct: Verdict,
    through: Through,
}

/// The headers of John, as a gateway would write them.
const JOHN: [(&str, &str); 3] =
    [("User-ID", "123"), ("User-Email", "john@example.com"), ("User-Name", "John Doe")];

/// The characters of a header's name other than letters, digits and `-` (RFC 9110 §5.6.2).
const SEPARATORS: &str = "!#$%&'*+.^_`|~";

/// Returns John in the log, with one header changed.
fn john_with(header: &str, shown: &str) -> Verdict {
    let show = |name: &str, usual: &str| if name == header { shown.to_owned() } else { usual.to_owned() };
    Verdict::Admitted(format!(
        "{} ({}) - ID: {}",
        show("User-Name", "John Doe"),
        show("User-Email", "john@example.com"),
        show("User-ID", "123")
    ))
}

fn john() -> Verdict {
    john_with("", "")
}

/// The rows.
#[derive(Default)]
struct Table(Vec<Row>);

impl Table {
    /// Adds a row with lines in addition to the lines of John.
    fn add(&mut self, case: impl Into<String>, lines: impl AsRef<[u8]>, direct: Verdict) -> &mut Row {
        self.put(case.into(), "", lines.as_ref(), direct)
    }

    /// Adds a row with a value that replaces John's.
    fn value(&mut self, case: &str, header: &'static str, value: impl AsRef<[u8]>, direct: Verdict) {
        let lines = [header.as_bytes(), b": ", value.as_ref(), b"\r\n"].concat();
        self.put(format!("{header} {case}"), header, &lines, direct);
    }

    fn put(&mut self, case: String, instead_of: &'static str, lines: &[u8], direct: Verdict) -> &mut Row {
        let through = Through::AdmittedOrRefused;
        self.0.push(Row { case, lines: lines.to_vec(), instead_of, connection: "Upgrade", direct, through });
        self.0.last_mut().expect("it has just been added")
    }
}

fn table() -> Vec<Row> {
    let mut table = Table::default();
    table.add("no other line", "", john()).through = Through::Admitted;
    for (header, value) in JOHN {
        names(&mut table, header, value);
        lines(&mut table, header, value);
        nominations(&mut table, header);
    }
    ids(&mut table);
    for header in ["User-Email", "User-Name"] {
        display_values(&mut table, header);
    }
    sessions(&mut table);
    table.0
}

/// Adds names that equal or resemble the name of `header`.
fn names(table: &mut Table, header: &'static str, value: &str) {
    let alias = || Verdict::Refused(400, "identity_alias");
    for separator in SEPARATORS.chars() {
        let name = header.replace('-', &separator.to_string());
        table.add(&name, format!("{name}: attacker\r\n"), alias());
        let name = name.to_lowercase();
        table.add(format!("{name}, without a value"), format!("{name}:\r\n"), alias());
    }
    let mixed: String = header
        .chars()
        .enumerate()
        .map(|(at, c)| if at % 2 == 0 { c.to_ascii_lowercase() } else { c.to_ascii_uppercase() })
        .collect();
    for name in [header.to_lowercase(), header.to_uppercase(), mixed] {
        // Without another line it is the header itself; through a gateway it is overwritten.
        let line = format!("{name}: {value}\r\n");
        table.put(name.clone(), header, line.as_bytes(), john()).through = Through::Admitted;
        let alias = name.replace('-', "_");
        table.add(&alias, format!("{alias}: attacker\r\n"), Verdict::Refused(400, "identity_alias"));
    }
    for other in ["X-", "X_"] {
        table.add(format!("{other}{header}"), format!("{other}{header}: attacker\r\n"), john());
    }
    let no_http = || Verdict::Refused(400, "not_http");
    for (case, name) in [
        ("space before the colon", format!("{header} ").into_bytes()),
        ("TAB before the colon", format!("{header}\t").into_bytes()),
        ("NUL after the name", format!("{header}\0").into_bytes()),
        ("0xff after the name", [header.as_bytes(), b"\xff"].concat()),
        ("a soft hyphen for the hyphen", header.replace('-', "\u{ad}").into_bytes()),
        ("a space for the hyphen", header.replace('-', " ").into_bytes()),
    ] {
        table.add(format!("{header}: {case}"), [&name[..], b": attacker\r\n"].concat(), no_http());
    }
}

/// Adds rows with several lines.
fn lines(table: &mut Table, header: &'static str, value: &str) {
    let twice = || Verdict::Refused(400, "identity_twice");
    for (case, lines) in [
        ("again", format!("{header}: {value}\r\n")),
        ("again with another value", format!("{header}: attacker\r\n")),
        ("again in lower case", format!("{}: attacker\r\n", header.to_lowercase())),
        ("again without a value", format!("{header}:\r\n")),
        ("three times", format!("{header}: attacker\r\n{header}: attacker\r\n")),
    ] {
        table.add(format!("{header} {case}"), lines, twice()).through = Through::Admitted;
    }
    let no_http = || Verdict::Refused(400, "not_http");
    for (case, lines) in [
        ("folded into the line before", format!("X-Other: a\r\n {header}: attacker\r\n")),
        ("folded with a TAB", format!("X-Other: a\r\n\t{header}: attacker\r\n")),
        ("with a folded value", format!("X-Other: a\r\n{header}:\r\n attacker\r\n")),
    ] {
        table.add(format!("{header} {case}"), lines, no_http());
    }
    for (case, lines) in [
        ("after a bare LF", format!("X-Other: a\n{header}: attacker\r\n")),
        ("ended by a bare LF", format!("{header}: attacker\n")),
    ] {
        table.add(format!("{header} {case}"), lines, Verdict::Refused(400, "bare_line_feed"));
    }
    let after_cr = format!("X-Other: a\r{header}: attacker\r\n");
    table.add(format!("{header} after a bare CR"), after_cr, no_http());
}

/// Adds rows with `Connection`, which asks the next proxy to remove the headers that it names.
fn nominations(table: &mut Table, header: &'static str) {
    let nominated = || Verdict::Refused(400, "identity_nominated");
    let in_line: &[&'static str] = match header {
        "User-ID" => &["Upgrade, User-ID", "user-id, upgrade", "Upgrade,\tUSER-ID ,,"],
        "User-Email" => &["Upgrade, User-Email", "user-email, upgrade", "Upgrade,\tUSER-EMAIL ,,"],
        _ => &["Upgrade, User-Name", "user-name, upgrade", "Upgrade,\tUSER-NAME ,,"],
    };
    for connection in in_line {
        table.add(format!("Connection: {connection}"), "", nominated()).connection = connection;
        let forged = format!("{header}: attacker\r\n");
        let row = table.add(
            format!("Connection: {connection}, with two lines"),
            forged,
            Verdict::Refused(400, "identity_twice"),
        );
        row.connection = connection;
    }
    for lines in [
        format!("Connection: {header}\r\n"),
        format!("connection: keep-alive\r\nCONNECTION: {}\r\n", header.to_lowercase()),
    ] {
        table.add(format!("a further Connection: {header}"), lines, nominated());
    }
}

/// Values of `User-ID`.
fn ids(table: &mut Table) {
    const ID: &str = "User-ID";
    let missing = || Verdict::Refused(401, "identity_missing");
    let invalid = || Verdict::Refused(400, "identity_invalid");
    table.put("no User-ID".to_owned(), ID, b"", missing());
    for (case, value) in [("empty", ""), ("blank", "   "), ("a TAB", "\t")] {
        table.value(case, ID, value, missing());
    }
    for (case, value) in [
        ("a placeholder", "{http.reverse_proxy.header.User-Id}"),
        ("a template", "{{ user.id }}"),
        ("a variable", "$identity_id"),
        ("joined", "1,2"),
        ("joined with a space", "123, attacker"),
        ("with a space", "1 2"),
        ("with a TAB", "1\t2"),
        ("quoted", "\"123\""),
        ("with a zero-width space", "1\u{200b}2"),
        ("with a soft hyphen", "1\u{ad}2"),
        ("with an override of direction", "1\u{202e}2"),
        ("with a line separator", "1\u{2028}2"),
        ("with a byte order mark", "\u{feff}12"),
        ("with a no-break space", "1\u{a0}2"),
        ("with a control character in two bytes", "1\u{85}2"),
        ("with a tag", "1\u{e0031}"),
    ] {
        table.value(case, ID, value, invalid());
    }
    // Opaque, and shown between quotation marks if it could be mistaken for more than an id.
    for (case, value, shown) in [
        ("a path that climbs", "..\\123", "\"..\\\\123\""),
        ("with a percent sign", "%31", "%31"),
        ("with a semicolon", "123;admin", "123;admin"),
        ("with brackets", "<123>", "\"<123>\""),
        ("in another script", "１２３", "１２３"),
        ("with an apostrophe", "o'brien@example.com", "o'brien@example.com"),
        ("percent-encoded", "john%40example.com", "john%40example.com"),
        ("that says more than an id", "1):x", "\"1):x\""),
        ("with an escape of a line", "1\\n2", "\"1\\\\n2\""),
    ] {
        table.value(case, ID, value, john_with(ID, shown));
    }
    for length in [256, 257, 5000] {
        table.value(&format!("of {length} bytes"), ID, "a".repeat(length), invalid());
    }
    let longest = "a".repeat(255);
    table.value("of 255 bytes", ID, &longest, john_with(ID, &longest));
    let all = "AZaz09._:@+=/|-";
    table.value("of all that an id may have", ID, all, john_with(ID, all));
    table.value("between spaces", ID, " \t 123\t ", john());
    for byte in (0..=8).chain(11..=12).chain(14..=31).chain([127]) {
        let no_http = Verdict::Refused(400, "not_http");
        table.value(&format!("with the byte {byte:#04x}"), ID, [b'1', byte, b'2'], no_http);
    }
    for byte in 128..=255 {
        table.value(&format!("with the byte {byte:#04x}"), ID, [b'1', byte], invalid());
    }
}

/// Values of `User-Email` and `User-Name`: an invalid one does not fail a handshake.
fn display_values(table: &mut Table, header: &'static str) {
    let absent = |table: &mut Table, case: &str, value: &str| {
        table.value(case, header, value, john_with(header, "-"));
    };
    table.put(format!("no {header}"), header, b"", john_with(header, "-"));
    absent(table, "empty", "");
    absent(table, "blank", "   ");
    absent(table, "a TAB", "\t");
    let placeholder = format!("{{http.reverse_proxy.header.{header}}}");
    let quoted = format!("{placeholder:?}");
    table.value("a placeholder", header, &placeholder, john_with(header, &quoted));
    table.value("joined", header, "1,2", john_with(header, "\"1,2\""));
    table.value(
        "that says more than a name",
        header,
        "x (y) - ID: 1",
        john_with(header, "\"x (y) - ID: 1\""),
    );
    let longest = "a".repeat(256);
    for length in [256, 257, 5000] {
        let value = "a".repeat(length);
        table.value(&format!("of {length} bytes"), header, value, john_with(header, &longest));
    }
    for byte in (0..=9).chain(11..=12).chain(14..=31).chain([127]) {
        let dropped = john_with(header, "AnnLee");
        table.value(
            &format!("with the byte {byte:#04x}"),
            header,
            [b"Ann", &[byte][..], b"Lee"].concat(),
            dropped,
        );
    }
    // Not UTF-8, so Latin-1, whose first half is control characters.
    for byte in 128..=255_u8 {
        let value = [b"Ann", &[byte][..], b"Lee"].concat();
        let latin1 = char::from(byte);
        let verdict = match latin1 {
            _ if latin1.is_control() => john_with(header, "AnnLee"),
            _ if latin1.is_alphabetic() => john_with(header, &format!("Ann{latin1}Lee")),
            _ => Verdict::AdmittedOddly,
        };
        table.value(&format!("with the byte {byte:#04x}"), header, value, verdict);
    }
}

/// Adds the headers of the session. Each gateway replaces them with Identity's.
fn sessions(table: &mut Table) {
    for (header, good, bad, code) in [
        ("User-Session-ID", "s-1", ["1,2", "{http.x}", "a b"], "session_id_invalid"),
        ("User-Token-Exp", "4102444800", ["never", "1.5", "1800000000000"], "token_exp_invalid"),
    ] {
        let mut plain = |case: String, lines: String, direct| {
            table.add(case, lines, direct).through = Through::Admitted;
        };
        plain(header.to_owned(), format!("{header}: {good}\r\n"), john());
        for (case, empty) in [("empty", ""), ("blank", "   "), ("a TAB", "\t")] {
            plain(format!("{header} {case}"), format!("{header}: {empty}\r\n"), john());
        }
        for value in bad {
            let refused = Verdict::Refused(400, code);
            plain(format!("{header}: {value}"), format!("{header}: {value}\r\n"), refused);
        }
        for (case, second) in [("twice", good), ("again without a value", "")] {
            let twice = format!("{header}: {good}\r\n{header}: {second}\r\n");
            plain(format!("{header} {case}"), twice, Verdict::Refused(400, "identity_twice"));
        }
        for separator in SEPARATORS.chars() {
            let name = header.replacen('-', &separator.to_string(), 1);
            table.add(&name, format!("{name}: {good}\r\n"), Verdict::Refused(400, "identity_alias"));
        }
        let nominated = format!("Connection: {header}\r\n");
        table.add(nominated.trim_end(), &nominated, Verdict::Refused(400, "identity_nominated"));
    }
}

impl Row {
    /// Returns the request: a handshake with these headers of a gateway, except for the one that the row replaces.
    fn request(&self, handshake: Handshake, headers: &[(&str, &str)]) -> Vec<u8> {
        let keeps = |(name, _): &&(&str, &str)| *name != self.instead_of;
        let handshake = headers
            .iter()
            .filter(keeps)
            .fold(handshake, |handshake, (name, value)| handshake.header(name, value))
            .instead("Connection", self.connection);
        let mut bytes = handshake.bytes();
        bytes.truncate(bytes.len() - 2);
        [&bytes[..], &self.lines, b"\r\n"].concat()
    }
}

/// Sends bytes and reads the response.
#[track_caller]
fn answer(to: std::net::SocketAddr, case: &str, bytes: &[u8]) -> Response {
    let mut connection = Connection::open(to).expect("a connection");
    connection.send(bytes).unwrap_or_else(|failure| panic!("{case}: {failure}"));
    connection.response().unwrap_or_else(|failure| panic!("{case}: {failure}"))
}

/// Returns the user in the `count`-th line about an admission, as the log shows it.
#[track_caller]
fn admitted(postern: &Postern, case: &str, count: usize) -> String {
    const SENTENCE: &str = "WebSocket connection established - User: ";
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let log = postern.log();
        let mut users = log.iter().filter_map(|line| line.split_once(SENTENCE));
        if let Some((_, rest)) = users.nth(count - 1) {
            assert!(users.next().is_none(), "{case}: more users than answers");
            return rest.split(", conn: ").next().unwrap_or_default().to_owned();
        }
        assert!(Instant::now() < deadline, "{case}: no user is logged");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn rows_sent_to_postern_have_their_verdict() {
    let table = table();
    assert!(table.len() >= 120, "{} rows", table.len());
    for postern in Postern::both(&[]) {
        let mut users = 0;
        for row in &table {
            let case = format!("{}", row.case.escape_debug());
            let bytes = row.request(postern.handshake(), &JOHN);
            let response = answer(postern.address(), &case, &bytes);
            match &row.direct {
                Verdict::Admitted(wanted) => {
                    assert_eq!(response.status, 101, "{case}: {response}");
                    users += 1;
                    let shown = admitted(&postern, &case, users);
                    assert_eq!(shown, *wanted, "{case}");
                }
                Verdict::AdmittedOddly => {
                    assert_eq!(response.status, 101, "{case}: {response}");
                    users += 1;
                    let shown = admitted(&postern, &case, users);
                    assert!(shown.ends_with(") - ID: 123") && shown.contains("Lee"), "{case}: {shown}");
                }
                Verdict::Refused(status, code) => {
                    assert_eq!(response.status, *status, "{case}: {response}");
                    assert_eq!(response.json()["error"]["code"], *code, "{case}: {response}");
                }
            }
        }
        assert_eq!(postern.count("connection established"), users);
        assert_eq!(postern.count("attacker"), 0);
    }
}

#[test]
fn rows_through_each_gateway_are_the_user_of_the_token_or_refused() {
    through_each(|gateway, runtime| {
        let chain = Chain::start(gateway, runtime);
        let authorization = format!("Bearer {}", chain.login("john@example.com"));
        let mut users = 0;
        for row in table() {
            let case = format!("{gateway}, {runtime}, {}", row.case.escape_debug());
            let headers = [("Authorization", authorization.as_str())];
            let bytes = row.request(Handshake::to(chain.address()), &headers);
            let response = answer(chain.address(), &case, &bytes);
            if response.status == 101 {
                users += 1;
                let shown = admitted(&chain.postern, &case, users);
                assert_eq!(shown, "John Doe (john@example.com) - ID: 123", "{case}");
            } else {
                assert_eq!(row.through, Through::AdmittedOrRefused, "{case}: {response}");
                assert!((400..500).contains(&response.status), "{case}: {response}");
            }
        }
        let log = chain.postern.log().join("\n");
        assert!(users > 20 && log.matches("connection established").count() == users, "{users}: {log}");
        assert!(!log.contains("attacker"), "{log}");
    });
}
