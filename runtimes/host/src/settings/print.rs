//! The settings as an env file.

use std::fmt::Write;

use postern_channels::namespaces::Namespaces;

use super::names::{LOG_QUEUE, MAX_CONNECTIONS, MAX_HANDSHAKES, MAX_MEMORY, WORKERS};
use super::plan::Plan;
use super::setting::{ResolvedSetting, Source};
use crate::channels_file;

/// Returns one line for each setting that has an effect in this build: its value, its source, and what applies on
/// this host if that differs. The text can be used as `.env`, except for secrets and queries of URLs. The warnings
/// follow as comments.
pub(super) fn config(chosen: &[ResolvedSetting], plan: &Plan) -> String {
    let chosen = || chosen.iter().filter(|chosen| chosen.setting.is_effective());
    let lines: Vec<String> =
        chosen().map(|chosen| format!("{}={}", chosen.setting.name, value(chosen))).collect();
    let width = lines.iter().map(String::len).filter(|length| *length <= WIDEST).max().unwrap_or_default();
    let mut out = String::new();
    let mut group = None;
    for (line, chosen) in lines.iter().zip(chosen()) {
        if group != Some(chosen.setting.group) {
            let gap = if group.is_some() { "\n" } else { "" };
            // Writing to a string does not fail, here and below.
            let _ = writeln!(out, "{gap}# {}", chosen.setting.group);
            group = Some(chosen.setting.group);
        }
        let _ = write!(out, "{line:width$}  # {}", origin(chosen.source));
        if let Some(holds) = on_this_host(chosen, plan) {
            let _ = write!(out, "; {holds} on this host");
        }
        out.push('\n');
    }
    if !plan.warnings.is_empty() {
        let _ = writeln!(out, "\n# Warnings");
    }
    for warning in &plan.warnings {
        let _ = writeln!(out, "# {warning}");
    }
    out
}

/// Returns that the settings are valid, their warnings, and a line for each namespace of a channels file.
pub(super) fn check(plan: &Plan, namespaces: Option<&Namespaces>) -> String {
    let mut out = "the settings are valid\n".to_owned();
    for warning in &plan.warnings {
        let _ = writeln!(out, "warning: {warning}");
    }
    if let Some(namespaces) = namespaces {
        out.push_str("the channels file is valid\n");
        out.push_str(&channels_file::describe(namespaces));
    }
    out
}

/// Returns the value that applies on this host, if it differs from the text.
fn on_this_host(chosen: &ResolvedSetting, plan: &Plan) -> Option<usize> {
    let holds = match chosen.setting.name {
        MAX_CONNECTIONS => plan.max_connections,
        MAX_HANDSHAKES => plan.rules().handshake.max_handshakes,
        MAX_MEMORY => plan.rules().max_memory,
        LOG_QUEUE => plan.log.queue,
        WORKERS => plan.workers.get(),
        _ => return None,
    };
    let is_automatic = chosen.text == "0" || chosen.text == "auto";
    let is_reduced = chosen.text.parse().is_ok_and(|written: usize| written > holds);
    (is_automatic || is_reduced).then_some(holds).filter(|holds| *holds != 0)
}

fn origin(source: Source) -> &'static str {
    match source {
        Source::Flag => "flag",
        Source::Environment => "environment",
        Source::DotEnv { .. } => ".env",
        Source::Default => "default",
    }
}

/// Returns the value, quoted where an env file needs it.
fn value(chosen: &ResolvedSetting) -> String {
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

/// A longer line does not move the comments of the others.
const WIDEST: usize = 56;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::setting::{Setting, text};
    use crate::settings::{Host, Outcome, Program, load};

    fn example() -> Setting {
        Setting { group: "Log", ..text("POSTERN_EXAMPLE", "KEY", "", |_, _| Ok(()), "") }
    }

    fn printed(setting: Setting, text: &str, source: Source) -> String {
        let chosen = ResolvedSetting { setting: Box::leak(Box::new(setting)), text: text.to_owned(), source };
        let program = Program { name: "", version: "", about: "", has_workers: true, commands: &[] };
        match load(&program, [], [], || Ok(None)) {
            Ok(Outcome::Start(loaded)) => {
                config(&[chosen], &Plan::resolve(&program, &loaded, &Host::detect()))
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_secret_is_not_printed_but_its_absence_is() {
        let printed = |text| printed(example().secret(), text, Source::Environment);
        assert_eq!(printed("hunter2"), "# Log\nPOSTERN_EXAMPLE=***  # environment\n");
        assert_eq!(printed(""), "# Log\nPOSTERN_EXAMPLE=  # environment\n");
    }

    #[test]
    fn neither_the_password_nor_the_query_of_a_url_is_printed() {
        let text = "https://user:hunter2@issuer.example/jwks.json?key=hunter2";
        let shown = "POSTERN_EXAMPLE=\"https://***@issuer.example/jwks.json?***\"  # flag\n";
        assert_eq!(printed(example(), text, Source::Flag), format!("# Log\n{shown}"));
    }
}
