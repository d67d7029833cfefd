//! The canary finds a secret in the output of a child, and reports the file, the line and the kind.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use postern_tests::binaries::Binary;
use postern_tests::canary::{self, Kind};
use postern_tests::process::{Process, Stream};

/// The variable with the text that a child writes.
const PLANT: &str = "CANARY_PLANT";

const SECRET: &str = "correct-horse-battery-staple";

const PATIENCE: Duration = Duration::from_secs(20);

/// A child that writes a text: a secret if one of the tests below sets it.
#[test]
fn child_writes_a_line() {
    canary::secret(Kind::Token, SECRET);
    let said = env::var(PLANT).unwrap_or_else(|_| "no secret".to_owned());
    let mut command = Command::new("sh");
    command.args(["-c", "echo before; echo \"key: $SAID\"; echo \"key: $SAID\" >&2"]).env("SAID", &said);
    let mut child = Process::spawn("child", &mut command).expect("sh starts");
    assert!(child.wait(PATIENCE).expect("it ends").success());
    assert_eq!(child.lines_of(Stream::Out), ["before".to_owned(), format!("key: {said}")]);
}

/// Runs that test in another process with a folder for the canary, where its child writes `said`. Then searches the folder.
fn search(folder: &Path, said: Option<&str>) -> Process {
    let mut test = Command::new(env::current_exe().expect("the path of this test"));
    test.args(["--exact", "child_writes_a_line"]).env(canary::VARIABLE, folder);
    test.env_remove(PLANT).envs(said.map(|said| (PLANT, said)));
    let output = test.output().expect("this test runs again");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let mut canary = Command::new(Binary::Canary.path());
    let mut canary = Process::spawn("canary", canary.arg(folder)).expect("the canary starts");
    canary.wait(PATIENCE).expect("it ends");
    canary
}

#[test]
fn secret_in_the_output_is_found_and_not_shown() {
    for (said, form) in [
        ("correct-horse-battery-staple", "unencoded"),
        ("?x=correct-horse-battery-staple&y", "unencoded"),
        ("CORRECT-HORSE-BATTERY-STAPLE", "in upper case"),
        ("Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5LXN0YXBsZQ==", "in base64"),
        ("QmVhcmVyIGNvcnJlY3QtaG9yc2UtYmF0dGVyeS1zdGFwbGU=", "in base64"),
        ("636f72726563742d686f7273652d626174746572792d737461706c65", "in hexadecimal"),
        ("horse-battery-staple", "unencoded"),
    ] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut canary = search(folder.path(), Some(said));
        assert_eq!(
            canary.wait(PATIENCE).expect("it has ended").code(),
            Some(1),
            "{said}: {:?}",
            canary.lines()
        );
        let found: Vec<String> =
            canary.lines_of(Stream::Err).into_iter().filter(|line| line.contains(": a token ")).collect();
        assert_eq!(found.len(), 2, "on standard output and on standard error: {:?}", canary.lines());
        for line in &found {
            assert!(line.contains("/child.") && line.contains(&format!(": a token {form}, ")), "{line}");
            // One of three lines precedes them, and either stream may be read first.
            let number = line.split(".output:").nth(1).and_then(|rest| rest.split(':').next());
            assert!(["1", "2", "3"].map(Some).contains(&number), "{line}");
            assert!(!line.contains(said), "{line}");
        }
    }
}

#[test]
fn output_without_a_secret_has_no_leak_and_gaps_are_reported() {
    for said in [None, Some("correct-horse"), Some("another-horse-battery")] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut canary = search(folder.path(), said);
        assert_eq!(canary.wait(PATIENCE).expect("it has ended").code(), Some(2), "{:?}", canary.lines());
        let lines = canary.lines().join("\n");
        assert!(lines.contains("3 lines, 0 leaks"), "{lines}");
        for gap in ["no postern has logged at the most verbose level", "no cookie was used"] {
            assert!(lines.contains(&format!("nothing is proved: {gap}")), "{lines}");
        }
    }
}

#[test]
fn folder_without_a_valid_list_is_an_error() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::create_dir(folder.path().join("damaged")).expect("a folder");
    fs::write(
        folder.path().join("damaged/secrets"),
        "token	not hexadecimal
",
    )
    .expect("a file");
    for (name, complaint) in
        [("missing", "No such file"), ("", "No such file"), ("damaged", "the list of secrets is damaged")]
    {
        let mut canary = Command::new(Binary::Canary.path());
        let mut canary = Process::spawn("canary", canary.arg(folder.path().join(name))).expect("it starts");
        assert_eq!(canary.wait(PATIENCE).expect("it ends").code(), Some(2));
        assert!(
            canary
                .lines()
                .join(
                    "
"
                )
                .contains(complaint),
            "{:?}",
            canary.lines()
        );
    }
}
