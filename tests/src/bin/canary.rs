//! Searches the output of all processes of a run of the tests for secrets: `canary FOLDER`. See `.ci/canary`.
//!
//! Exits with 0 if there is none, with 1 if there is one, and with 2 if the search is not conclusive.

use std::path::Path;
use std::process::ExitCode;

use postern_tests::canary::check::check;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder] = &arguments[..] else {
        eprintln!("canary: one folder expected, of a run of the tests");
        return ExitCode::from(2);
    };
    let report = match check(Path::new(folder)) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("canary: {folder}: {error}");
            return ExitCode::from(2);
        }
    };
    for leak in &report.leaks {
        eprintln!("canary: {leak}");
    }
    for gap in &report.gaps {
        eprintln!("canary: nothing is proved: {gap}");
    }
    println!("{report}");
    match (report.leaks.is_empty(), report.gaps.is_empty()) {
        (false, _) => ExitCode::from(1),
        (true, false) => ExitCode::from(2),
        (true, true) => ExitCode::SUCCESS,
    }
}
