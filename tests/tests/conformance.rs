//! The Autobahn test suite, which checks the conformance to RFC 6455 and RFC 7692, on both binaries.
//!
//! All cases of sections 1 to 10 run. Of sections 12 and 13 (compression), which take minutes, a subset runs;
//! `CONFORMANCE=all` runs all of them.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::Duration;

use postern_tests::postern::{Postern, Runtime};
use postern_tests::process::Process;
use postern_tests::{forwarder, provision};

/// The limits for the largest cases: 9.1.6 sends 16 MiB, 9.3.1 a message in 65,536 fragments. The suite does not accept
/// uncompressed text after compression was negotiated, so all messages are compressed.
const SETTINGS: [(&str, &str); 5] = [
    ("POSTERN_MAX_MESSAGE", "16MiB"),
    ("POSTERN_MAX_FRAGMENTS", "65536"),
    ("POSTERN_LOG_MESSAGES", "off"),
    ("POSTERN_COMPRESSION", "on"),
    ("POSTERN_COMPRESSION_MIN", "0"),
];

/// Both verdicts of each case: on its messages, and on its close.
type Verdicts = BTreeMap<String, [String; 2]>;

/// Runs the suite with `selection` against `postern`, and returns the verdicts.
#[track_caller]
fn run(postern: &Postern, selection: &[&str]) -> Verdicts {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let address = forwarder::start(postern.address(), &["User-ID: 1"]).expect("the forwarder");
    let package = provision::kosoku().unwrap_or_else(|failure| panic!("{failure}"));
    let mut command = Command::new("python3");
    command.env("PYTHONPATH", package).args(["-c", "from kosoku._cli import main; main()", "-p", "2"]);
    command.args(selection).arg("-o").arg(folder.path()).arg(format!("{address}/ws"));
    let mut process = Process::spawn("kosoku", &mut command).expect("the suite starts");
    // The report has the results.
    process.wait(Duration::from_secs(1200)).expect("the suite ends");

    let report = fs::read(folder.path().join("index.json"));
    let report = report.unwrap_or_else(|error| panic!("no report ({error}): {:?}", process.lines()));
    let report: serde_json::Value = serde_json::from_slice(&report).expect("JSON");
    let agents = report.as_object().expect("agents");
    let cases = agents.values().flat_map(|cases| cases.as_object().expect("cases"));
    let word = |case: &serde_json::Value, name: &str| case[name].as_str().unwrap_or_default().to_owned();
    cases.map(|(id, case)| (id.clone(), [word(case, "behavior"), word(case, "behaviorClose")])).collect()
}

/// Returns the cases that have not passed, including NON-STRICT.
fn offenders(verdicts: &Verdicts) -> Vec<(&String, &[String; 2])> {
    let is_fine = |verdict: &String| verdict == "OK" || verdict == "INFORMATIONAL";
    verdicts.iter().filter(|(_, verdicts)| !verdicts.iter().all(is_fine)).collect()
}

#[track_caller]
fn check(selection: &[&str], count: usize) {
    for postern in Postern::both(&SETTINGS) {
        let verdicts = run(&postern, selection);
        let offenders = offenders(&verdicts);
        assert!(offenders.is_empty(), "{} of {}: {offenders:?}", offenders.len(), verdicts.len());
        // The suite accepts an empty selection.
        assert_eq!(verdicts.len(), count, "{:?}", verdicts.keys());
    }
}

#[test]
fn rfc_6455_is_implemented_strictly() {
    check(&["-x", "12.*", "-x", "13.*"], 301);
}

#[test]
fn rfc_7692_is_implemented_strictly() {
    if std::env::var_os("CONFORMANCE").is_some_and(|which| which == "all") {
        return check(&["-i", "12.*", "-i", "13.*"], 216);
    }
    // Of each section its smallest messages and a case of larger ones in fragments: all kinds of offers.
    let cases = (1..=5).map(|kind| format!("12.{kind}")).chain((1..=7).map(|offer| format!("13.{offer}")));
    let cases: Vec<String> = cases.flat_map(|kind| [format!("{kind}.2"), format!("{kind}.11")]).collect();
    let selection: Vec<&str> = cases.iter().flat_map(|case| ["-i", case.as_str()]).collect();
    check(&selection, 24);
}

#[test]
fn suite_reports_a_server_that_does_not_conform() {
    let postern = Postern::start(Runtime::Mio, &[("POSTERN_MAX_MESSAGE", "1KiB")]);
    let verdicts = run(&postern, &["-i", "1.1.1", "-i", "9.1.1"]);
    let offenders: Vec<&str> = offenders(&verdicts).into_iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(offenders, ["9.1.1"], "{verdicts:?}");
}
