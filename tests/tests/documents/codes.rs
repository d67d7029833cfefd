//! docs/troubleshooting.md lists each code of Postern, with its status, and no other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use hyper::StatusCode;
use postern_core::close_code::{self, CloseCode};
use postern_core::frame::ProtocolError;
use postern_core::handshake::HandshakeError;
use postern_core::session::Ending;
use postern_identity::page::PAGE;
use postern_tests::documents::{document, files, spans};
use postern_tests::workspace;

/// Returns the rows of the table under a heading, by the code in the first cell. No code occurs twice.
fn rows(heading: &str, first: &str) -> BTreeMap<String, Vec<String>> {
    let document = document("docs/troubleshooting.md");
    let mut by_code = BTreeMap::new();
    for (line, cells) in document.rows(heading, first) {
        let code = cells[0].trim_matches('`').to_owned();
        assert!(by_code.insert(code, cells[1..].to_vec()).is_none(), "{heading}: line {line}: listed twice");
    }
    by_code
}

/// Checks the codes of a table and their statuses. All cells have a text.
#[track_caller]
fn check_statuses(heading: &str, expected: BTreeMap<String, u16>) {
    let rows = rows(heading, "code");
    assert!(rows.values().flatten().all(|cell| !cell.is_empty()), "{heading}: an empty cell");
    let status = |cells: &[String]| cells[0].parse().expect("a status");
    let listed: BTreeMap<_, _> = rows.into_iter().map(|(code, cells)| (code, status(&cells))).collect();
    assert_eq!(listed, expected, "{heading}");
}

#[test]
fn refusals_are_listed_with_their_statuses() {
    let all = HandshakeError::all().into_iter();
    check_statuses("Refusals", all.map(|error| (error.code().to_owned(), error.status())).collect());
}

/// The errors of the control port have no type that lists them, so they are read from its source.
#[test]
fn refusals_of_the_control_port_are_listed_with_their_statuses() {
    let named = |name: &str| {
        let is_it = |status: &StatusCode| {
            let reason = status.canonical_reason().unwrap_or_default();
            reason.to_uppercase().replace([' ', '-'], "_") == name
        };
        let statuses = (400..600).filter_map(|number| StatusCode::from_u16(number).ok());
        statuses.into_iter().find(is_it).unwrap_or_else(|| panic!("there is no status {name}")).as_u16()
    };
    let mut expected = BTreeMap::new();
    for path in files("runtimes/host/src/control", ".rs") {
        let source = fs::read_to_string(workspace::path(&path)).expect("a source file");
        let source = source.split("#[cfg(test)]").next().unwrap_or_default();
        for part in source.split("ApiError::").skip(1) {
            let words: Vec<_> = part.split(['(', ',']).map(str::trim).collect();
            let (code, status) = match words[..] {
                ["new", status, code, ..] => (code, status.trim_start_matches("StatusCode::")),
                ["bad", code, ..] => (code, "BAD_REQUEST"),
                _ => continue,
            };
            // `bad` passes its parameter to `new`.
            let Some(code) = code.strip_prefix('"').and_then(|code| code.strip_suffix('"')) else { continue };
            expected.insert(code.to_owned(), named(status));
        }
    }
    assert!(expected.len() > 10, "{expected:?}");
    check_statuses("Refusals of the control port", expected);
}

#[test]
fn close_codes_are_listed_with_their_reasons() {
    let mut reasons: BTreeMap<u16, BTreeSet<&str>> = BTreeMap::new();
    for error in ProtocolError::all() {
        reasons.entry(error.close_code().into()).or_default().insert(error.reason());
    }
    // Only an operator closes with 1000 or 1011.
    for code in (1001..5000).filter(|code| *code != 1011) {
        let reason = CloseCode(code).reason();
        if reason != CloseCode(4999).reason() {
            reasons.entry(code).or_default().insert(reason);
        }
    }
    // The reasons of the others are codes of refusals, or texts of an operator.
    for code in close_code::ALL {
        reasons.entry(code).or_default();
    }
    let rows = rows("Close codes", "code");
    let listed: BTreeSet<u16> = rows.keys().map(|code| code.parse().expect("a number")).collect();
    assert_eq!(listed, reasons.keys().copied().collect());
    for (code, reasons) in reasons.into_iter().filter(|(code, reasons)| *code != 1002 && !reasons.is_empty())
    {
        assert_eq!(spans(&rows[&code.to_string()][0]).collect::<BTreeSet<_>>(), reasons, "{code}");
    }
    // The page of the development chain explains them, too.
    for code in listed {
        assert!(PAGE.contains(&format!("  {code}: [")), "{code} is not in the page");
    }
}

#[test]
fn reasons_of_1006_are_listed() {
    let silent = [Ending::Eof, Ending::Broken, Ending::WriteStalled, Ending::Evicted];
    assert_eq!(silent.map(Ending::code), [1006; 4]);
    let listed: BTreeSet<_> = rows("Close codes", "reason").into_keys().collect();
    assert_eq!(listed, silent.map(|ending| ending.reason().to_owned()).into());
}
