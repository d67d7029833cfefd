//! The settings and metrics in the documents match both binaries.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use postern_tests::documents::{all, document, files, spans};
use postern_tests::postern::{Postern, Runtime};
use postern_tests::{http, workspace};

/// Returns the settings with their defaults, from `--print-config`.
fn defaults(runtime: Runtime) -> BTreeMap<String, String> {
    let lines = Postern::print_config(runtime, &[]);
    let settings = lines.iter().filter_map(|line| line.split(" #").next()?.trim().split_once('='));
    let settings: BTreeMap<_, _> =
        settings.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    assert!(settings.len() > 50, "{settings:?}");
    settings
}

#[test]
fn tables_list_all_settings_with_their_defaults() {
    let mut listed = BTreeMap::new();
    for (path, heading) in [("README.md", "Settings"), ("docs/operation.md", "Settings")] {
        let document = document(path);
        for (line, cells) in document.rows(heading, "name") {
            let names: Vec<_> = spans(&cells[0]).collect();
            let values: Vec<_> = cells[1].split(", ").collect();
            assert_eq!(names.len(), values.len(), "{path}:{line}: a default for each name");
            for (name, value) in names.into_iter().zip(values) {
                let value = if value == "none" { "" } else { value.trim_matches('`') };
                let before = listed.insert(name.to_owned(), value.to_owned());
                assert_eq!(before, None, "{path}:{line}: {name} is listed twice");
            }
        }
    }
    for runtime in Runtime::BOTH {
        let mut defaults = defaults(runtime);
        // The harness sets this for all tests.
        defaults.insert("POSTERN_CONTROL".to_owned(), "127.0.0.1:8081".to_owned());
        assert_eq!(listed, defaults, "{runtime}");
    }
}

/// Returns the words of a text that have this prefix.
fn names<'t>(text: &'t str, prefix: &str) -> impl Iterator<Item = &'t str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(move |word| word.starts_with(prefix) && !word.ends_with('_'))
}

/// Variables that Kubernetes adds to the environment. The documents warn of them.
const OF_KUBERNETES: [&str; 2] = ["POSTERN_SERVICE_HOST", "POSTERN_CONTROL_PORT"];

#[test]
fn named_settings_exist() {
    let defaults = defaults(Runtime::Mio);
    let shipped = ["deploy", ".ci", "benches", "tools"].into_iter().flat_map(|folder| files(folder, ""));
    let more = ["Dockerfile", ".cargo/config.toml"].map(str::to_owned);
    let documents = all().into_iter().map(|document| document.path);
    let mut count = 0;
    for path in documents.chain(shipped).chain(more) {
        let text =
            fs::read_to_string(workspace::path(&path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        for (index, line) in text.lines().enumerate() {
            for name in names(line, "POSTERN_").chain(names(line, "LOG_")) {
                let is_known = defaults.contains_key(name) || OF_KUBERNETES.contains(&name);
                assert!(is_known, "{path}:{}: there is no setting {name}", index + 1);
                count += 1;
            }
        }
    }
    assert!(count > 200, "{count} names");
}

#[test]
fn help_lists_all_settings() {
    for runtime in Runtime::BOTH {
        let help = Command::new(runtime.binary().path()).arg("--help").output().expect("it runs");
        let help = String::from_utf8_lossy(&help.stdout);
        for name in defaults(runtime).keys() {
            assert!(help.contains(&format!("[env: {name}]")), "{runtime}: {name}");
        }
    }
}

/// All metrics that documents name exist, and the table of docs/operation.md lists all of them.
#[test]
fn documented_metrics_are_those_that_are_served() {
    let document = document("docs/operation.md");
    let rows = document.rows("Metrics and alerts", "metric");
    let listed: BTreeSet<_> =
        rows.iter().flat_map(|(_, cells)| spans(&cells[0])).map(str::to_owned).collect();
    for runtime in Runtime::BOTH {
        let postern = Postern::start_with_control(runtime, &[]);
        let answer = http::request(postern.control(), "GET", "/metrics", &[], b"").expect("an answer");
        let text = answer.text();
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
        // A metric without samples has a type, too.
        let served: BTreeSet<_> = types.map(str::to_owned).collect();
        assert_eq!(listed, served, "{runtime}");
    }
    for document in all() {
        for (line, span) in &document.code {
            for name in
                names(span, "postern_").filter(|name| !["postern_host", "postern_core"].contains(name))
            {
                let is_served = listed.iter().any(|metric| metric == name);
                assert!(is_served, "{}:{line}: there is no metric {name}", document.path);
            }
        }
    }
}
