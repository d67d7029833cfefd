//! A figure that was measured stands in one document, docs/PERFORMANCE.md; other documents link to it. Otherwise one of
//! them is forgotten when the next run gives another figure.

use std::collections::BTreeSet;

use postern_tests::documents::{all, document};

/// Whether a word is a figure that is found by chance nowhere else: with a comma between thousands, or three digits and a
/// point or more.
fn is_figure(word: &str) -> bool {
    let digits = word.chars().filter(char::is_ascii_digit).count();
    digits >= 3
        && word.contains([',', '.'])
        && word.chars().all(|c| c.is_ascii_digit() || ",.".contains(c))
        && word.starts_with(|c: char| c.is_ascii_digit())
}

/// The figures of a line.
fn figures(line: &str) -> impl Iterator<Item = &str> {
    let words = line.split(|c: char| c.is_whitespace() || "|*()`".contains(c));
    words.map(|word| word.trim_matches([',', '.', ':', ';'])).filter(|word| is_figure(word))
}

#[test]
fn a_measured_figure_stands_in_one_document() {
    let measured = document("docs/PERFORMANCE.md");
    let rows =
        measured.tables.iter().filter(|table| table.heading != "Scenarios").flat_map(|table| &table.rows);
    let cells = rows.flat_map(|(_, cells)| cells.iter().skip(1));
    let known: BTreeSet<_> = cells.flat_map(|cell| figures(cell)).collect();
    assert!(known.len() > 40, "{} figures", known.len());
    let other = |path: &str| !["docs/PERFORMANCE.md", "CHANGELOG.md"].contains(&path);
    for document in all().iter().filter(|document| other(&document.path)) {
        for (line, text) in &document.prose {
            let repeated: Vec<_> = figures(text).filter(|figure| known.contains(figure)).collect();
            // Two figures in a line that are equal are no chance.
            assert!(
                repeated.len() < 2 && (repeated.is_empty() || !is_about_speed(text)),
                "{}:{line} repeats {repeated:?} of docs/PERFORMANCE.md: link to it",
                document.path
            );
        }
    }
}

/// Whether a line is about what PERFORMANCE.md measures.
fn is_about_speed(line: &str) -> bool {
    ["instruction", "idle connection", "upgrades a second", "processor time", "messages of"]
        .iter()
        .any(|text| line.contains(text))
}

/// The rows of a comparison are of one run on one machine. A server of others would be of another: `benches/compare` prints
/// them together.
#[test]
fn no_table_compares_with_servers_of_other_runs() {
    for path in ["README.md", "docs/PERFORMANCE.md"] {
        for table in &document(path).tables {
            for (line, cells) in &table.rows {
                let name = cells[0].to_lowercase();
                let other = ["tungstenite", "fastwebsockets", "sockudo", "wtx", "yawc", "tokio", "bun"];
                assert!(!other.iter().any(|other| name.contains(other)), "{path}:{line}: {name}");
            }
        }
    }
    let text =
        std::fs::read_to_string(postern_tests::workspace::path("docs/PERFORMANCE.md")).expect("it is there");
    for phrase in ["earlier day", "earlier one", "later day", "quieter day", "another machine", "older than"]
    {
        assert!(!text.contains(phrase), "docs/PERFORMANCE.md has figures of different runs: {phrase}");
    }
}
