//! The manual page and the completions, which are made from the table of settings: checked by mandoc, and loaded by bash, zsh and
//! fish.

use std::fs;
use std::process::Command;
use std::time::Duration;

use postern_tests::binaries::Binary;
use postern_tests::postern::{Postern, Runtime};
use postern_tests::process::Process;
use postern_tests::provision;
use tempfile::TempDir;

/// Returns a folder with the manual page and the completions.
fn manual() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = Command::new(Binary::Manual.path());
    command.arg(folder.path()).arg("2026-01-31");
    assert!(command.status().expect("it starts").success());
    folder
}

/// Runs a command, and returns its output. Its standard error must be empty.
#[track_caller]
fn output(command: &mut Command) -> String {
    let output = command.output().expect("it starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && errors.is_empty(), "{command:?}: {}\n{text}\n{errors}", output.status);
    text
}

#[test]
fn mandoc_has_no_complaints_about_the_manual_page_which_has_all_settings() {
    let folder = manual();
    let page = folder.path().join("postern.1");
    let (mandoc, libraries) = provision::mandoc().expect("mandoc");
    let run = |arguments: &[&str]| {
        output(Command::new(&mandoc).env("LD_LIBRARY_PATH", &libraries).args(arguments).arg(&page))
    };
    let complaints = run(&["-T", "lint", "-W", "style"]);
    assert!(complaints.is_empty(), "{complaints}");
    let shown = run(&["-T", "utf8", "-O", "width=200"]).replace('\u{8}', "");
    let text = fs::read_to_string(&page).expect("text");
    for name in Postern::settings(Runtime::Mio, &[]).keys() {
        assert!(text.contains(&format!("[env: {name}]")), "{name} is not in the page");
    }
    assert!(shown.lines().count() > 300, "{shown}");
}

/// Checks the completions that a shell offers.
#[track_caller]
fn check_offers(offers: impl Fn(&str) -> String) {
    for (line, expected) in LINES {
        let offers = offers(line);
        assert!(offers.split_whitespace().any(|word| word == expected), "{line}: {offers:?}");
    }
}

#[test]
fn bash_completes_flags_and_subcommands() {
    let folder = manual();
    check_offers(|line| {
        let last = line.split(' ').count() - 1;
        let script = format!(
            "source postern.bash && complete -p postern > /dev/null && COMP_WORDS=({line}) COMP_CWORD={last} && \
             _postern postern \"${{COMP_WORDS[-1]}}\" \"${{COMP_WORDS[-2]}}\" && echo \"${{COMPREPLY[@]}}\""
        );
        output(Command::new("bash").current_dir(folder.path()).args(["--norc", "-c", &script]))
    });
}

#[test]
fn fish_completes_flags_and_subcommands() {
    let folder = manual();
    let (fish, libraries) = provision::fish().expect("fish");
    check_offers(|line| {
        let script = format!("source postern.fish; and complete --do-complete='{line}'");
        let mut command = Command::new(&fish);
        // It writes to its home folder.
        command.current_dir(folder.path()).env("HOME", folder.path()).env("LD_LIBRARY_PATH", &libraries);
        output(command.args(["--no-config", "-c", &script]))
    });
}

#[test]
fn zsh_completes_flags_and_subcommands() {
    let folder = manual();
    let root = provision::zsh().expect("zsh");
    let script = folder.path().join("complete.zsh");
    fs::write(&script, ZSH).expect("a script");
    for (line, expected) in LINES {
        let mut zsh = Command::new(root.join("bin/zsh"));
        zsh.current_dir(folder.path()).env("HOME", folder.path()).env("TERM", "dumb").env("ROOT", &root);
        let mut zsh =
            Process::spawn("zsh", zsh.arg("-f").arg(&script).args([line, expected])).expect("zsh starts");
        // It waits until the line is completed.
        let status = zsh.wait(PATIENCE).unwrap_or_else(|failure| panic!("{line}: {failure}"));
        assert!(status.success(), "{line}: {:?}", zsh.lines());
    }
}

/// The completion system of zsh works only in a terminal, which `zpty` provides. Types a line and a TAB, and waits for the
/// completed line.
const ZSH: &str = r#"
module_path=($ROOT/usr/lib/*/zsh/*(/))
zmodload zsh/zpty || exit 1
zpty shell $ROOT/bin/zsh -f -i
zpty -w shell "fpath=($PWD $ROOT/usr/share/zsh/functions/**/*(/)); module_path=($module_path)
autoload -Uz compinit; compinit -u -D; PS1=; echo rea'dy'"
zpty -r shell output '*ready*' || exit 1
zpty -n -w shell "$1"$'\t'
zpty -r shell output "*$2*"
"#;

/// The beginning of a command line, and its only completion.
const LINES: [(&str, &str); 5] = [
    ("postern --max-mess", "--max-message"),
    ("postern --print", "--print-config"),
    ("postern check", "check-config"),
    ("postern healthcheck --read", "--ready"),
    ("postern healthcheck --api-key-f", "--api-key-file"),
];

const PATIENCE: Duration = Duration::from_secs(60);
