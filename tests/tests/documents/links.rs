//! Links, paths and figures in documents.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use postern_tests::documents::{Document, all, document, files, spans};
use postern_tests::workspace;

#[test]
fn links_lead_to_files_and_headings_of_the_repository() {
    let documents = all();
    let root = fs::canonicalize(workspace::root()).expect("the root");
    let mut count = 0;
    for from in &documents {
        let folder = Path::new(&from.path).parent().unwrap_or(Path::new(""));
        for (line, link) in from.links.iter().filter(|(_, link)| !link.contains(':')) {
            let place = format!("{}:{line}: {link}", from.path);
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let path = if path.is_empty() { PathBuf::from(&from.path) } else { folder.join(path) };
            let path = fs::canonicalize(root.join(path)).unwrap_or_else(|error| panic!("{place}: {error}"));
            let to = path.strip_prefix(&root).unwrap_or_else(|_| panic!("{place}: not in the repository"));
            if !anchor.is_empty() {
                let to = documents.iter().find(|document| Path::new(&document.path) == to);
                let to = to.unwrap_or_else(|| panic!("{place}: an anchor in a file that is not a document"));
                assert!(to.anchors.iter().any(|of_heading| of_heading == anchor), "{place}: no such heading");
            }
            count += 1;
        }
    }
    assert!(count > 30, "{count} links");
}

/// A clone downloads all versions of all pictures.
#[test]
fn pictures_are_small_and_each_is_shown() {
    let documents = all();
    let pictures = files("docs/images", "png");
    assert!(pictures.len() >= 2, "{pictures:?}");
    for picture in pictures {
        let size = fs::metadata(workspace::path(&picture)).expect("it is there").len();
        assert!(size < 150_000, "{picture} has {size} bytes");
        let name = picture.rsplit('/').next().unwrap_or_default();
        let is_shown = |(_, link): &(usize, String)| link.ends_with(&format!("images/{name}"));
        assert!(documents.iter().any(|document| document.links.iter().any(is_shown)), "{picture}");
    }
}

#[test]
fn paths_in_code_spans_exist() {
    let is_path = |word: &&str| {
        let is_plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
        let folders = [
            "core", "channels", "runtimes", "tests", "tools", "benches", "docs", "fuzz", "deploy",
            "examples", ".ci", ".cargo",
        ];
        is_plain && word.split_once('/').is_some_and(|(first, _)| folders.contains(&first))
    };
    let mut count = 0;
    for document in all() {
        for (line, span) in &document.code {
            // Fuzzing creates the artifacts.
            for word in
                span.split_whitespace().filter(is_path).filter(|word| !word.starts_with("fuzz/artifacts"))
            {
                assert!(workspace::path(word).exists(), "{}:{line}: there is no {word}", document.path);
                count += 1;
            }
        }
    }
    assert!(count > 60, "{count} paths");
}

/// The second column of the table of invariants names tests, from the root or from `core/src`.
#[test]
fn tests_of_invariants_exist() {
    let mut count = 0;
    for (line, cells) in document("ARCHITECTURE.md").rows("Invariants and their tests", "invariant") {
        let mut here = PathBuf::new();
        for span in spans(&cells[1]).filter(|span| span.contains(['.', '/'])) {
            let places = [Path::new("core/src").join(span), PathBuf::from(span), here.join(span)];
            let found = places.into_iter().find(|path| workspace::root().join(path).exists());
            let path = found.unwrap_or_else(|| panic!("ARCHITECTURE.md:{line}: there is no {span}"));
            here = path.parent().unwrap_or(Path::new("")).to_owned();
            count += 1;
        }
    }
    assert!(count > 10, "{count} tests");
}

#[test]
fn tables_of_fuzz_targets_are_complete() {
    let manifest = fs::read_to_string(workspace::path("fuzz/Cargo.toml")).expect("the manifest");
    let targets = manifest.split("[[bin]]").skip(1).filter_map(|part| part.split('"').nth(1));
    let targets: BTreeSet<_> = targets.map(|name| format!("`{name}`")).collect();
    for path in ["CONTRIBUTING.md", "fuzz/README.md"] {
        let document = document(path);
        let is_of_targets = |header: &[String]| header[0] == "target" && header[1] != "executions";
        let tables = document.tables.iter().filter(|table| is_of_targets(&table.rows[0].1));
        let listed: BTreeSet<_> =
            tables.flat_map(|table| &table.rows[1..]).map(|(_, cells)| cells[0].clone()).collect();
        assert_eq!(listed, targets, "{path}");
    }
}

/// Other documents link to docs/PERFORMANCE.md instead. A copy of a figure would not be updated by the next measurement. The comparison
/// in README.md has its own test.
#[test]
fn measured_figures_occur_only_in_performance_md() {
    // At least three digits with a comma or a point: short numbers occur by chance.
    let figures = |text: &str| -> BTreeSet<String> {
        let words = text.split(|c: char| c.is_whitespace() || "|*()`".contains(c));
        let words = words.map(|word| word.trim_matches([',', '.', ':', ';']));
        let is_figure = |word: &&str| {
            word.chars().filter(char::is_ascii_digit).count() >= 3
                && word.contains([',', '.'])
                && word.chars().all(|c| c.is_ascii_digit() || ",.".contains(c))
        };
        words.filter(is_figure).map(str::to_owned).collect()
    };
    let measured = document("docs/PERFORMANCE.md");
    let tables = measured.tables.iter().filter(|table| table.heading != "Scenarios");
    let cells = tables.flat_map(|table| &table.rows[1..]).flat_map(|(_, cells)| &cells[1..]);
    let known: BTreeSet<_> = cells.flat_map(|cell| figures(cell)).collect();
    assert!(known.len() > 40, "{} figures", known.len());
    let topics = ["instruction", "idle connection", "upgrades a second", "processor time", "messages of"];
    for document in
        all().iter().filter(|document| !["docs/PERFORMANCE.md", "CHANGELOG.md"].contains(&&*document.path))
    {
        let compared: BTreeSet<_> = rows_of_comparison(document).map(|(line, _)| *line).collect();
        for (index, text) in document.text.lines().enumerate() {
            if compared.contains(&(index + 1)) {
                continue;
            }
            let repeated: Vec<_> =
                figures(text).into_iter().filter(|figure| known.contains(figure)).collect();
            // One figure may be equal by chance, unless the line is about the same topic.
            let is_about_speed = topics.iter().any(|topic| text.contains(topic));
            assert!(
                repeated.len() < 2 && (repeated.is_empty() || !is_about_speed),
                "{}:{} repeats {repeated:?} of docs/PERFORMANCE.md: link to it",
                document.path,
                index + 1
            );
        }
    }
}

#[test]
fn comparison_in_the_readme_has_the_figures_of_performance_md() {
    let measured = document("docs/PERFORMANCE.md");
    let measured = measured.tables.iter().find(|table| table.heading == "Channels of other servers");
    let measured = &measured.expect("the table").rows;
    let readme = document("README.md");
    let header = rows_of_comparison(&readme).next().expect("the header");
    let mut count = 0;
    for (row, column) in [
        ("processor time of a delivery, one at a time", "one at a time"),
        ("processor time of a delivery, 16 at once", "16 at once"),
        ("resident memory of a subscribed connection", "memory"),
    ] {
        let column = measured[0].1.iter().position(|cell| cell == column).expect("a column");
        let (line, cells) = rows_of_comparison(&readme).find(|(_, cells)| cells[0] == row).expect(row);
        for (server, figure) in header.1.iter().zip(cells).skip(1) {
            // The names of servers have a version there.
            let server = server.split(' ').next().unwrap_or_default();
            let names = [server.to_owned(), format!("**{}**", server.to_lowercase())];
            let found = measured.iter().find(|(_, cells)| names.contains(&cells[0]));
            let Some((_, cells)) = found else {
                assert_eq!(figure, "not measured", "README.md:{line}: {server}");
                continue;
            };
            let figure = figure.split(' ').next().unwrap_or_default();
            assert_eq!(figure, cells[column], "README.md:{line}: {server}");
            count += 1;
        }
    }
    assert_eq!(count, 12);
}

/// Returns the rows of the comparison with other servers, which only README.md has, with their lines.
fn rows_of_comparison(document: &Document) -> impl Iterator<Item = &(usize, Vec<String>)> {
    let tables = document.tables.iter().filter(|table| table.heading == "Compared with others");
    tables.flat_map(|table| &table.rows)
}
