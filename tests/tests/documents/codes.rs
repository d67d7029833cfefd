//! docs/troubleshooting.md has each code that Postern can say, with its status, and no other.
//!
//! What it can say is read from the source: there the compiler has seen to it that each error has a code.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use postern_core::close_code;
use postern_core::handshake::HandshakeError;
use postern_identity::page::PAGE;
use postern_tests::documents::{document, files, spans};
use postern_tests::workspace;

/// The text of a source file, without its tests.
fn source(path: &str) -> String {
    let text = fs::read_to_string(workspace::path(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    text.split("#[cfg(test)]").next().unwrap_or_default().to_owned()
}

/// Returns the text of all source files below a folder, without tests.
fn sources(folder: &str) -> Vec<String> {
    let is_test = |path: &str| path.contains("/tests/") || path.ends_with("/tests.rs");
    files(folder, ".rs").iter().filter(|path| !is_test(path)).map(|path| source(path)).collect()
}

/// What a function says of each variant: from `Name::Variant | Name::Other => value,` to the variants and their values.
fn arms(source: &str, function: &str, name: &str) -> BTreeMap<String, String> {
    let body = source.split(&format!("fn {function}(")).nth(1).unwrap_or_else(|| panic!("no fn {function}"));
    let body = body.split("\n    }\n").next().unwrap_or_default();
    let mut arms = BTreeMap::new();
    let parts: Vec<&str> = body.split("=>").collect();
    for pair in parts.windows(2) {
        let [before, after] = pair else { continue };
        let value = after.trim_start().trim_start_matches('{').trim_start();
        let value = value.split([',', '\n', '}']).next().unwrap_or_default().trim().trim_matches('"');
        for part in before.split(&format!("{name}::")).skip(1) {
            let variant: String = part.chars().take_while(|c| c.is_alphanumeric()).collect();
            arms.insert(variant, value.to_owned());
        }
    }
    arms
}

/// The rows of a table: what stands between backticks in the first cell, and the others.
fn rows(heading: &str) -> Vec<Vec<String>> {
    let document = document("docs/troubleshooting.md");
    let rows = document.rows(heading, "code").iter().map(|(_, cells)| cells.clone());
    rows.map(|mut cells| {
        cells[0] = cells[0].trim_matches('`').to_owned();
        cells
    })
    .collect()
}

/// The codes of a table with their statuses. Each stands there once, and says what to do.
fn listed(heading: &str) -> BTreeMap<String, String> {
    let rows = rows(heading);
    let listed: BTreeMap<_, _> = rows.iter().map(|cells| (cells[0].clone(), cells[1].clone())).collect();
    assert_eq!(listed.len(), rows.len(), "{heading}: a code stands there twice");
    assert!(
        rows.iter().all(|cells| cells[2..].iter().all(|cell| !cell.is_empty())),
        "{heading}: an empty cell"
    );
    listed
}

#[test]
fn each_refusal_is_listed_with_its_status() {
    let all = HandshakeError::all().into_iter();
    let said = all.map(|error| (error.code().to_owned(), error.status().to_string())).collect();
    assert_eq!(listed("Refusals"), said);
}

#[test]
fn each_refusal_of_the_control_port_is_listed_with_its_status() {
    let mut said = BTreeMap::new();
    for source in sources("runtimes/host/src/control") {
        for (call, known, place) in [("ApiError::new(", None, 1), ("ApiError::bad(", Some("400"), 0)] {
            for part in source.split(call).skip(1) {
                // Where the one is made by the other, no text stands there.
                let code = part.split(',').nth(place).and_then(|word| word.trim().strip_prefix('"'));
                let Some(code) = code.and_then(|word| word.strip_suffix('"')) else { continue };
                let name = part.split("StatusCode::").nth(1).unwrap_or_default();
                let name: String = name.chars().take_while(|c| c.is_ascii_uppercase() || *c == '_').collect();
                said.insert(code.to_owned(), known.map_or_else(|| number(&name), str::to_owned));
            }
        }
    }
    assert!(said.len() > 10, "{said:?}");
    assert_eq!(listed("Refusals of the control port"), said);
}

/// The number of a status (RFC 9110 §15).
fn number(name: &str) -> String {
    let numbers = [
        ("BAD_REQUEST", 400),
        ("UNAUTHORIZED", 401),
        ("FORBIDDEN", 403),
        ("NOT_FOUND", 404),
        ("METHOD_NOT_ALLOWED", 405),
        ("REQUEST_TIMEOUT", 408),
        ("PAYLOAD_TOO_LARGE", 413),
        ("UNSUPPORTED_MEDIA_TYPE", 415),
        ("SERVICE_UNAVAILABLE", 503),
    ];
    let found = numbers.iter().find(|(known, _)| *known == name);
    found.unwrap_or_else(|| panic!("add the number of {name}")).1.to_string()
}

#[test]
fn each_close_code_is_listed() {
    // The names of RFC 6455 §7.4.1 and of its registry, as tungstenite has them.
    let names = [
        ("Normal", 1000),
        ("GOING_AWAY", 1001),
        ("PROTOCOL_ERROR", 1002),
        ("UNSUPPORTED_DATA", 1003),
        ("INVALID_PAYLOAD", 1007),
        ("POLICY_VIOLATION", 1008),
        ("MESSAGE_TOO_BIG", 1009),
        ("MANDATORY_EXTENSION", 1010),
        ("INTERNAL_ERROR", 1011),
        ("SERVICE_RESTART", 1012),
        ("TRY_AGAIN_LATER", 1013),
    ];
    let mut said: BTreeSet<u16> = close_code::ALL.into();
    for source in sources("core/src") {
        for part in source.split("CloseCode::").skip(1) {
            let name: String = part.chars().take_while(|c| c.is_ascii_uppercase() || *c == '_').collect();
            said.extend(names.iter().find(|(known, _)| *known == name).map(|(_, code)| code));
        }
    }
    let rows = rows("Close codes");
    let listed: BTreeSet<u16> = rows.iter().map(|cells| cells[0].parse().expect("a number")).collect();
    assert_eq!(listed, said);
    assert_eq!(listed.len(), rows.len(), "a code stands there twice");

    // The reasons, too, are those that are said.
    let core = sources("core/src").concat() + &sources("runtimes/host/src/control").concat();
    for cells in &rows {
        for reason in spans(&cells[1]) {
            assert!(core.contains(&format!("\"{reason}\"")), "{}: nobody says {reason}", cells[0]);
        }
    }
    let errors = source("core/src/frame/error.rs");
    let (codes, reasons) =
        (arms(&errors, "close_code", "ProtocolError"), arms(&errors, "reason", "ProtocolError"));
    for (name, code) in names.iter().filter(|(_, code)| (1007..=1009).contains(code)) {
        let of_code = codes.iter().filter(|(_, said)| said.ends_with(&format!("CloseCode::{name}")));
        let said: BTreeSet<&str> = of_code.map(|(variant, _)| reasons[variant].as_str()).collect();
        let row = rows.iter().find(|cells| cells[0] == code.to_string()).expect("it is listed");
        assert_eq!(spans(&row[1]).collect::<BTreeSet<_>>(), said, "{code}");
    }
}

/// What stands beside 1006 in the log is what the core says.
#[test]
fn the_reasons_of_1006_are_listed() {
    let document = document("docs/troubleshooting.md");
    let rows = document.rows("Close codes", "reason").iter();
    let listed: BTreeSet<_> = rows.map(|(_, cells)| cells[0].trim_matches('`').to_owned()).collect();
    let source = source("core/src/session/ending.rs");
    let (codes, reasons) = (arms(&source, "code", "Ending"), arms(&source, "reason", "Ending"));
    let silent =
        codes.iter().filter(|(_, code)| *code == "1006").map(|(variant, _)| reasons[variant].clone());
    assert_eq!(listed, silent.collect());
}

/// The page of the development chain explains each code that Postern closes with.
#[test]
fn the_page_explains_each_close_code() {
    for row in rows("Close codes") {
        let code = &row[0];
        assert!(PAGE.contains(&format!("  {code}: [")), "{code} is not in the page");
    }
}
