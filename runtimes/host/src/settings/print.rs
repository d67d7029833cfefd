//! The settings as an env file.

use std::fmt::Write;

use super::parts;
use super::sources::{Chosen, Source};
use super::warnings::Warning;

/// One line for each setting, grouped, with where its value came from. It can be fed back as `.env`, except for
/// secrets and for the queries of URLs. What this build cannot obey is not among them. The warnings follow as comments.
pub(super) fn config(chosen: &[Chosen], warnings: &[Warning]) -> String {
    let chosen = || chosen.iter().filter(|chosen| parts::obeys(chosen.setting));
    let lines: Vec<String> =
        chosen().map(|chosen| format!("{}={}", chosen.setting.name, value(chosen))).collect();
    let width = lines.iter().map(String::len).filter(|length| *length <= WIDEST).max().unwrap_or_default();
    let mut out = String::new();
    let mut group = None;
    for (line, chosen) in lines.iter().zip(chosen()) {
        if group != Some(chosen.setting.group) {
            let gap = if group.is_some() { "\n" } else { "" };
            // Writing to a string does not fail, here and below.
            let _ = writeln!(out, "{gap}# {}", chosen.setting.group.title());
            group = Some(chosen.setting.group);
        }
        let _ = writeln!(out, "{line:width$}  # {}", origin(chosen.source));
    }
    if !warnings.is_empty() {
        let _ = writeln!(out, "\n# Warnings");
    }
    for warning in warnings {
        let _ = writeln!(out, "# {warning}");
    }
    out
}

/// The same without their sources: each name with its value, and without anything secret.
pub(super) fn shown(chosen: &[Chosen]) -> Vec<(&'static str, String)> {
    let chosen = chosen.iter().filter(|chosen| parts::obeys(chosen.setting));
    chosen.map(|chosen| (chosen.setting.name, chosen.setting.show(&chosen.text).into_owned())).collect()
}

fn origin(source: Source) -> &'static str {
    match source {
        Source::Flag => "flag",
        Source::Environment => "environment",
        Source::DotEnv { .. } => ".env",
        Source::Default => "default",
    }
}

/// The value, between quotation marks where an env file needs them.
fn value(chosen: &Chosen) -> String {
    let shown = chosen.setting.show(&chosen.text);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.,:/[]@+=%*~".contains(c);
    if shown.chars().all(is_plain) {
        return shown.into_owned();
    }
    let mut quoted = String::from('"');
    for c in shown.chars() {
        if "\\\"$".contains(c) {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    quoted
}

/// A value that is longer does not push the comments of all others away.
const WIDEST: usize = 56;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::table::{Group, Setting};

    static SECRET: Setting = Setting {
        name: "POSTERN_EXAMPLE",
        placeholder: "KEY",
        default: "",
        group: Group::Log,
        is_secret: true,
        help: "",
        apply: |_, _| Ok(()),
    };

    #[test]
    fn a_secret_is_not_printed_but_its_absence_is() {
        let chosen =
            |text: &str| Chosen { setting: &SECRET, text: text.to_owned(), source: Source::Environment };
        assert_eq!(config(&[chosen("hunter2")], &[]), "# Log\nPOSTERN_EXAMPLE=***  # environment\n");
        assert_eq!(config(&[chosen("")], &[]), "# Log\nPOSTERN_EXAMPLE=  # environment\n");
    }

    #[test]
    fn of_a_url_neither_the_password_nor_the_query_is_printed() {
        static PUBLIC: Setting = Setting { is_secret: false, ..SECRET };
        let text = "https://user:hunter2@issuer.example/jwks.json?key=hunter2".to_owned();
        let chosen = Chosen { setting: &PUBLIC, text, source: Source::Flag };
        let printed = config(&[chosen], &[]);
        let shown = "POSTERN_EXAMPLE=\"https://***@issuer.example/jwks.json?***\"  # flag\n";
        assert_eq!(printed, format!("# Log\n{shown}"));
    }
}
