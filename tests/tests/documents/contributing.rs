//! What CONTRIBUTING.md says of tools that are not run here.

use std::fs;

use postern_tests::documents::document;
use postern_tests::documents::markdown::Table;
use postern_tests::workspace;

/// The block runs for twenty minutes; what it names is there.
#[test]
fn the_long_fuzz_run_names_targets_with_a_corpus() {
    let document = document("CONTRIBUTING.md");
    let block = document.blocks.iter().find(|block| block.heading == "Fuzzing").expect("a block");
    let line =
        block.commands().into_iter().find_map(|line| line.strip_prefix("for target in ").map(str::to_owned));
    let line = line.expect("a loop over targets");
    let targets: Vec<_> = line.trim_end_matches("; do").split_whitespace().collect();
    assert_eq!(targets, ["head", "frames"]);
    let manifest = fs::read_to_string(workspace::path("fuzz/Cargo.toml")).expect("it is there");
    for target in targets {
        assert!(manifest.contains(&format!("name = \"{target}\"")), "there is no target {target}");
        for path in [format!("fuzz/corpus/{target}"), format!("fuzz/{target}.dict")] {
            assert!(workspace::path(&path).exists(), "there is no {path}");
        }
    }
}

/// The table of fuzz targets has each of them.
#[test]
fn all_fuzz_targets_are_listed() {
    let manifest = fs::read_to_string(workspace::path("fuzz/Cargo.toml")).expect("it is there");
    let targets = manifest.split("[[bin]]").skip(1).filter_map(|part| part.split('"').nth(1));
    let mut targets: Vec<_> = targets.map(|name| format!("`{name}`")).collect();
    targets.sort();
    for path in ["CONTRIBUTING.md", "fuzz/README.md"] {
        let document = document(path);
        let of_targets = |table: &&Table| table.header[0] == "target" && table.header[1] != "executions";
        let tables: Vec<_> = document.tables.iter().filter(of_targets).collect();
        let [table] = tables[..] else { panic!("{path}: {} tables of targets", tables.len()) };
        let mut listed: Vec<_> = table.rows.iter().map(|(_, cells)| cells[0].clone()).collect();
        listed.sort();
        assert_eq!(listed, targets, "{path}");
    }
}
