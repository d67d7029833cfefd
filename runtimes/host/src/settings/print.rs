//! The settings as an env file.

use std::fmt::Write;

use super::sources::{ResolvedSetting, Source};
use super::table::{MAX_CONNECTIONS, MAX_HANDSHAKES};
use super::{Settings, features};

/// One line for each setting, grouped, with where its value came from, and with what holds on this host if that is not
/// the value: `settings` is complete. It can be fed back as `.env`, except for secrets and for the queries of URLs. What
/// this build cannot obey is not among them. The warnings follow as comments.
pub(super) fn config(chosen: &[ResolvedSetting], settings: &Settings) -> String {
    let chosen = || chosen.iter().filter(|chosen| features::obeys(chosen.setting));
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
        let _ = write!(out, "{line:width$}  # {}", origin(chosen.source));
        if let Some(holds) = on_this_host(chosen, settings) {
            let _ = write!(out, "; {holds} on this host");
        }
        out.push('\n');
    }
    if !settings.warnings.is_empty() {
        let _ = writeln!(out, "\n# Warnings");
    }
    for warning in &settings.warnings {
        let _ = writeln!(out, "# {warning}");
    }
    out
}

/// The same without their sources: each name with its value, and without anything secret.
pub(super) fn shown(chosen: &[ResolvedSetting]) -> Vec<(&'static str, String)> {
    let chosen = chosen.iter().filter(|chosen| features::obeys(chosen.setting));
    chosen.map(|chosen| (chosen.setting.name, chosen.setting.show(&chosen.text).into_owned())).collect()
}

/// The value of a setting that depends on the host, if it is not what was chosen.
fn on_this_host(chosen: &ResolvedSetting, settings: &Settings) -> Option<usize> {
    let holds = match chosen.setting.name {
        MAX_CONNECTIONS => settings.max_connections,
        MAX_HANDSHAKES => settings.worker.handshake.max_handshakes,
        "POSTERN_MAX_MEMORY" => settings.worker.max_memory,
        "POSTERN_LOG_QUEUE" => settings.log.queue,
        "POSTERN_WORKERS" => settings.workers,
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

/// The value, between quotation marks where an env file needs them.
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

    fn printed(chosen: ResolvedSetting) -> String {
        let program = crate::settings::Program { name: "", version: "", about: "", has_workers: true };
        match crate::settings::load(&program, [], [], || Ok(None)) {
            Ok(crate::settings::Outcome::Start(settings)) => config(&[chosen], &settings),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_secret_is_not_printed_but_its_absence_is() {
        let chosen = |text: &str| ResolvedSetting {
            setting: &SECRET,
            text: text.to_owned(),
            source: Source::Environment,
        };
        assert_eq!(printed(chosen("hunter2")), "# Log\nPOSTERN_EXAMPLE=***  # environment\n");
        assert_eq!(printed(chosen("")), "# Log\nPOSTERN_EXAMPLE=  # environment\n");
    }

    #[test]
    fn of_a_url_neither_the_password_nor_the_query_is_printed() {
        static PUBLIC: Setting = Setting { is_secret: false, ..SECRET };
        let text = "https://user:hunter2@issuer.example/jwks.json?key=hunter2".to_owned();
        let chosen = ResolvedSetting { setting: &PUBLIC, text, source: Source::Flag };
        let printed = printed(chosen);
        let shown = "POSTERN_EXAMPLE=\"https://***@issuer.example/jwks.json?***\"  # flag\n";
        assert_eq!(printed, format!("# Log\n{shown}"));
    }
}
