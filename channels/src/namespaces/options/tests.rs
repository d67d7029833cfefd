//! The table and the documentation have all options.

use super::*;

#[test]
fn every_field_has_one_option_of_its_name() {
    let shown = format!("{:#?}", ChannelOptions::default());
    let fields: Vec<&str> = shown
        .lines()
        .filter_map(|line| line.strip_prefix("    ")?.split_once(':'))
        .map(|(name, _)| name)
        .filter(|name| !name.starts_with(' '))
        .collect();
    let mut names: Vec<&str> = OPTIONS.iter().map(|option| option.name).collect();
    assert_eq!(fields.len(), names.len(), "{fields:?}");
    for field in fields {
        let at = names.iter().position(|name| *name == field);
        names.remove(at.unwrap_or_else(|| panic!("{field} is not in the table")));
    }
}

#[test]
fn every_option_changes_the_field_of_its_name() {
    for option in OPTIONS {
        let (default, mut changed) = (ChannelOptions::default(), ChannelOptions::default());
        match option.kind {
            OptionKind::Switch(field) => *field(&mut changed) = true,
            OptionKind::Count(field, _) | OptionKind::Size(field) => *field(&mut changed) = 7,
            OptionKind::Rate(field) => *field(&mut changed) = 7,
            OptionKind::Duration(field, _) => *field(&mut changed) = Duration::from_secs(7),
            OptionKind::Patterns(field) => field(&mut changed).push(Pattern::parse("a").unwrap()),
            OptionKind::Deltas(field) => field(&mut changed).push(DeltaType::Fossil),
            OptionKind::Recovery(field) => *field(&mut changed) = RecoveryMode::Cache,
            OptionKind::Format(field) => *field(&mut changed) = DataFormat::Binary,
            OptionKind::Conflation(field) => *field(&mut changed) = Conflation::Latest,
            OptionKind::Slow(field) => *field(&mut changed) = SlowPolicy::Drop,
        }
        let lines = |options| format!("{options:?}").replace(", ", "\n");
        let (default, changed) = (lines(default), lines(changed));
        let different: Vec<&str> = changed
            .lines()
            .zip(default.lines())
            .filter(|(one, other)| one != other)
            .map(|(one, _)| one.trim_start_matches("ChannelOptions { "))
            .collect();
        let name = different.first().and_then(|line| line.split_once(':')).map(|(name, _)| name);
        assert_eq!(name, Some(option.name), "{different:?}");
    }
}

/// Returns the tables of the documentation: one for each group.
fn tables() -> String {
    let default = ChannelOptions::default();
    let mut out = String::new();
    let mut group = "";
    for option in OPTIONS {
        if option.group != group {
            group = option.group;
            out.push_str(&format!("\n### {group}\n\n| option | default | effect |\n|---|---|---|\n"));
        }
        let own = if option.is_own { " *" } else { "" };
        let (name, value, help) = (option.name, option.show(&default), option.help);
        out.push_str(&format!("| `{name}`{own} | `{value}` | {help} |\n"));
    }
    out.trim_start().to_owned()
}

#[test]
fn the_documentation_has_all_options() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/channels.md");
    let document = std::fs::read_to_string(path).unwrap();
    let tables = tables();
    assert!(document.contains(&tables), "docs/channels.md must contain:\n\n{tables}");
    // There is no other row of an option.
    let (_, options) = document.split_once("\n## Options\n").unwrap();
    let options = options.split("\n## ").next().unwrap_or_default();
    let rows = options.lines().filter(|line| line.starts_with("| `") && line.matches(" | ").count() == 2);
    assert_eq!(rows.count(), OPTIONS.len());
}

#[test]
fn the_file_in_the_documentation_is_valid() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/channels.md");
    let document = std::fs::read_to_string(path).unwrap();
    let files: Vec<&str> =
        document.split("```toml\n").skip(1).filter_map(|part| part.split("```").next()).collect();
    assert!(!files.is_empty());
    for file in files {
        crate::namespaces::file::parse(file).unwrap_or_else(|errors| panic!("{errors:?}\n{file}"));
    }
}
