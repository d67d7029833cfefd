//! `check-config`: settings and a channels file, checked together.

use std::fs;

use super::*;

/// Returns what is printed for these arguments.
#[track_caller]
fn checked(texts: &Texts<'_>) -> String {
    match texts.load() {
        Ok(Outcome::CheckConfig(loaded, file)) => {
            print::check(&Plan::resolve(&POSTERN, &loaded, &HOST), file.as_ref())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn valid_settings_are_summarised_with_their_warnings() {
    let texts = Texts { flags: &["check-config"], ..Texts::default() };
    assert_eq!(checked(&texts), "the settings are valid\n");
    let texts = Texts { flags: &["check-config", "--message-burst", "5"], ..Texts::default() };
    let lines = checked(&texts);
    let warnings: Vec<&str> = lines.lines().skip(1).collect();
    assert!(matches!(&warnings[..], [one] if one.starts_with("warning: POSTERN_MESSAGE_BURST")), "{lines}");
}

#[test]
fn errors_of_the_settings_and_of_the_file_are_reported_together() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("channels.toml");
    let path = path.to_str().unwrap();
    fs::write(path, "[without_namespace]\npresence = true\n").unwrap();
    for flags in [
        &["check-config", path][..],
        &["check-config", path, "--port", "1"],
        &["check-config", "--port=1", path],
    ] {
        let expected =
            "the settings are valid\nthe channels file is valid\nwithout_namespace: presence = true\n";
        assert_eq!(checked(&Texts { flags, ..Texts::default() }), expected);
    }
    fs::write(path, "[without_namespace]\npresence = 1\n[name]").unwrap();
    let texts = Texts { flags: &["check-config", path, "--prot", "1"], ..Texts::default() };
    assert_eq!(
        texts.errors(),
        [
            "--prot: no such flag; did you mean --port?".to_owned(),
            format!(
                "{path}: line 2, column 12: presence: a whole number instead of true or false; write true or false"
            ),
            format!(
                "{path}: line 3, column 2: \"name\" is unknown; the tables are [without_namespace] and [namespaces.NAME]"
            ),
        ]
    );
}

#[test]
fn wrong_arguments_are_errors() {
    for (flags, error) in [
        (&["check-config", "a\n", "a\n"][..], "check-config: checks one file; leave out a\\n"),
        (&["--port=1", "check-config"], "check-config: must be the first argument"),
        (
            &["check-config", "--print-config"],
            "--print-config: not a flag of check-config; leave out one of the two",
        ),
        (&["check-config", "--ready"], "--ready: no such flag; --help lists them"),
        (
            &["check-config", "healthcheck"],
            "healthcheck: cannot be read: No such file or directory (os error 2)",
        ),
    ] {
        let errors = Texts { flags, ..Texts::default() }.errors();
        assert!(errors.iter().any(|line| line == error), "{flags:?}: {errors:?}");
    }
    let help = Texts { flags: &["check-config", "--help"], ..Texts::default() }.printed();
    assert!(help.contains("postern check-config [OPTIONS] [FILE]"), "{help}");
    assert!(!help.contains("--print-config") && !help.contains("--ready "), "{help}");
}
