//! Figures that stand in several documents are the same in all of them. docs/PERFORMANCE.md is where they are measured.

use postern_tests::documents::document;
use postern_tests::documents::markdown::{Document, Table};

/// A row of a table of servers, by the name without its version.
fn row<'t>(table: &'t Table, server: &str) -> Option<&'t [String]> {
    let is_it = |cells: &Vec<String>| {
        let name = cells[0].replace('*', "");
        name == server || name.split(' ').next() == Some(server)
    };
    table.rows.iter().map(|(_, cells)| cells).find(|cells| is_it(cells)).map(Vec::as_slice)
}

/// The figure of a server in a column of the table below a heading.
#[track_caller]
fn figure(document: &Document, heading: &str, column: &str, server: &str) -> String {
    let mut tables = document.tables.iter().filter(|table| table.heading == heading);
    let found = tables.find_map(|table| {
        let place = table.header.iter().position(|name| name == column)?;
        row(table, server)?.get(place).cloned()
    });
    found.unwrap_or_else(|| panic!("PERFORMANCE.md: no {column} of {server} under `{heading}`"))
}

#[test]
fn the_comparison_is_what_was_measured() {
    let (readme, measured) = (document("README.md"), document("docs/PERFORMANCE.md"));
    let table = readme.table("How fast it is", "");
    let columns = [
        ("Instructions for each message", "A"),
        ("Instructions for each message", "C"),
        ("Instructions for each message", "E"),
        ("Processor time", "A"),
        ("Processor time", "bytes a connection"),
    ];
    assert!(table.rows.len() >= 7 && table.header.len() == 1 + columns.len(), "{table:?}");
    for (line, cells) in &table.rows {
        let server = cells[0].trim_matches('*');
        for ((heading, column), shown) in columns.iter().zip(&cells[1..]) {
            let figure = figure(&measured, heading, column, server);
            assert_eq!(shown, &figure, "README.md:{line}: {server}, {column}");
        }
    }
}

#[test]
fn the_figures_of_capacity_are_what_was_measured() {
    let (operation, measured) = (document("docs/operation.md"), document("docs/PERFORMANCE.md"));
    let text = |document: &Document, heading: &str| {
        let from = document.headings.iter().position(|found| found.title == heading).expect("the heading");
        let end = document.headings.get(from + 1).map_or(usize::MAX, |next| next.line);
        let from = document.headings[from].line;
        let lines = document.prose.iter().filter(|(line, _)| (from..end).contains(line));
        lines.map(|(_, text)| text.as_str()).collect::<Vec<_>>().join(" ")
    };
    let shown = text(&operation, "Capacity");
    for (heading, column, server, unit) in [
        ("Idle connections", "resident, B/connection", "postern", "bytes of `postern`"),
        ("Idle connections", "resident, B/connection", "postern-smol", "of `postern-smol`"),
        ("Idle connections", "a million need, GB", "postern", "GB"),
        ("Processor time", "upgrades a second", "postern", "upgrades a second"),
        ("Processor time", "A", "postern", "times the processor time"),
        ("A minute at full load", "messages", "A, postern", "messages of 20 bytes"),
        ("A minute at full load", "p50, µs", "A, postern", "µs and 99"),
        ("A minute at full load", "p99, µs", "A, postern", "µs"),
    ] {
        let figure = figure(&measured, heading, column, server);
        assert!(shown.contains(&format!("{figure} {unit}")), "{figure} {unit} is not in: {shown}");
    }
    let logged = "280 ns more";
    assert!(shown.contains(logged) && text(&measured, "Settings that matter").contains(logged));
}
