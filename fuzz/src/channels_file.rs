//! Any text as a channels file.
//!
//! * A file that is refused has at least one error. Each error has a place in the file and one line of text, and they are in the
//!   order of their places.
//! * A file that is accepted means the same after its options are written again.
//! * A comment at the end of a file has no effect.

use std::fmt::Write;

use postern_channels::namespaces::file::{FileError, parse};
use postern_channels::namespaces::options::OPTIONS;
use postern_channels::namespaces::{ChannelOptions, Namespaces};

/// Checks the text of a file.
///
/// # Panics
/// That is the finding.
pub fn check(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    let result = parse(text);
    match &result {
        Ok(namespaces) => {
            let written = write(namespaces);
            assert_eq!(parse(&written).as_ref(), Ok(namespaces), "{text:?} became {written:?}");
            let commented = format!("{text}\n# a comment");
            assert_eq!(parse(&commented).as_ref(), Ok(namespaces), "{commented:?}");
        }
        Err(errors) => check_errors(text, errors),
    }
}

fn check_errors(text: &str, errors: &[FileError]) {
    assert!(!errors.is_empty(), "{text:?} is refused without an error");
    let places: Vec<_> = errors.iter().map(|error| (error.line, error.column)).collect();
    assert!(places.is_sorted(), "{text:?}: {errors:?}");
    let lines: Vec<&str> = text.split('\n').collect();
    for error in errors {
        let line = error.line.checked_sub(1).and_then(|index| lines.get(index));
        let line = line.unwrap_or_else(|| panic!("{text:?}: {error}"));
        assert!((1..=line.chars().count() + 1).contains(&error.column), "{text:?}: {error}");
        assert!(!error.complaint.is_empty() && !error.complaint.contains('\n'), "{text:?}: {error:?}");
    }
}

/// Writes the options that are not at their defaults.
fn write(namespaces: &Namespaces) -> String {
    let default = ChannelOptions::default();
    let mut out = String::new();
    let named = namespaces.named().map(|(name, options)| (format!("namespaces.\"{name}\""), options));
    for (table, options) in
        [("without_namespace".to_owned(), namespaces.without_namespace())].into_iter().chain(named)
    {
        writeln!(out, "[{table}]").expect("a string takes any text");
        for option in OPTIONS {
            let value = option.show(options);
            if value != option.show(&default) {
                writeln!(out, "{} = {value}", option.name).expect("a string takes any text");
            }
        }
    }
    out
}
