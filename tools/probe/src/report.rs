//! Steps with their verdicts, as lines of text or as one JSON object.

use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::{Map, Value, json};

use crate::target::Target;

/// A step of the path from a client to the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StepName {
    Name,
    Tcp,
    Tls,
    Gateway,
    Clock,
    Login,
    Token,
    Access,
    Upgrade,
    Compression,
    Application,
    RoundTrip,
    Size,
    Idle,
}

impl StepName {
    /// Returns the name as it is printed.
    fn label(self) -> &'static str {
        match self {
            StepName::Name => "name",
            StepName::Tcp => "TCP",
            StepName::Tls => "TLS",
            StepName::Gateway => "gateway",
            StepName::Clock => "clock",
            StepName::Login => "login",
            StepName::Token => "token",
            StepName::Access => "access",
            StepName::Upgrade => "upgrade",
            StepName::Compression => "compression",
            StepName::Application => "application",
            StepName::RoundTrip => "round trip",
            StepName::Size => "size",
            StepName::Idle => "idle",
        }
    }

    /// Returns the name in JSON.
    fn key(self) -> String {
        self.label().to_ascii_lowercase().replace(' ', "_")
    }
}

/// The verdict about a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passed,
    Failed,
    /// It could not be checked, which is not a fault.
    Skipped,
}

/// A step with the observation, and what to do.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Step {
    pub(crate) name: StepName,
    pub(crate) verdict: Verdict,
    /// The observation, in one line.
    pub(crate) text: String,
    /// Sentences about what to do. A step that passed may have some, too.
    pub(crate) advice: Vec<String>,
    /// Values for JSON.
    pub(crate) data: Map<String, Value>,
}

impl Step {
    pub(crate) fn passed(name: StepName, text: impl Into<String>) -> Step {
        Step::new(name, Verdict::Passed, text.into())
    }

    pub(crate) fn failed(name: StepName, text: impl Into<String>, advice: impl Into<String>) -> Step {
        Step::new(name, Verdict::Failed, text.into()).advise(advice)
    }

    pub(crate) fn skipped(name: StepName, text: impl Into<String>) -> Step {
        Step::new(name, Verdict::Skipped, text.into())
    }

    fn new(name: StepName, verdict: Verdict, text: String) -> Step {
        Step { name, verdict, text, advice: Vec::new(), data: Map::new() }
    }

    /// Adds a sentence about what to do. An empty one is ignored.
    pub(crate) fn advise(mut self, advice: impl Into<String>) -> Step {
        self.advice.extend(Some(advice.into()).filter(|advice| !advice.is_empty()));
        self
    }

    /// Adds a value for JSON. Null is ignored.
    pub(crate) fn with(mut self, key: &str, value: impl Into<Value>) -> Step {
        let value = value.into();
        if !value.is_null() {
            self.data.insert(key.to_owned(), value);
        }
        self
    }

    /// Returns the line, and a line for each piece of advice.
    fn lines(&self, is_colored: bool) -> String {
        let (mark, color) = match self.verdict {
            Verdict::Passed => ("✓", "32"),
            Verdict::Failed => ("✗", "31"),
            Verdict::Skipped => ("-", "2"),
        };
        let mark = if is_colored { format!("\x1b[{color}m{mark}\x1b[0m") } else { mark.to_owned() };
        let mut lines = format!("{mark} {:<WIDTH$} {}\n", self.name.label(), self.text);
        for advice in &self.advice {
            lines.push_str(&format!("  {:<WIDTH$} → {advice}\n", ""));
        }
        lines
    }

    fn json(&self) -> Value {
        let mut object = self.data.clone();
        object.insert("step".to_owned(), self.name.key().into());
        let verdict = match self.verdict {
            Verdict::Passed => "passed",
            Verdict::Failed => "failed",
            Verdict::Skipped => "skipped",
        };
        object.insert("verdict".to_owned(), verdict.into());
        object.insert("text".to_owned(), self.text.clone().into());
        if !self.advice.is_empty() {
            object.insert("advice".to_owned(), self.advice.clone().into());
        }
        object.into()
    }
}

/// The form of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Text,
    Json,
    /// Nothing is printed.
    Silent,
}

/// All steps. With text, each is printed as soon as it is known: some take long.
#[derive(Debug)]
pub(crate) struct Report {
    url: String,
    format: Format,
    is_colored: bool,
    steps: Vec<Step>,
    /// Whether steps were left out after one that failed.
    is_stopped: bool,
}

impl Report {
    pub(crate) fn new(target: &Target, is_json: bool, is_terminal: bool) -> Report {
        let is_colored = is_terminal && std::env::var_os("NO_COLOR").is_none();
        let format = if is_json { Format::Json } else { Format::Text };
        Report { url: target.shown(), format, is_colored, steps: Vec::new(), is_stopped: false }
    }

    /// Creates a report that is not printed.
    pub(crate) fn silent(target: &Target) -> Report {
        Report { format: Format::Silent, ..Report::new(target, false, false) }
    }

    /// Returns the lines of the steps that failed.
    pub(crate) fn failures(&self) -> String {
        let failed = self.steps.iter().filter(|step| step.verdict == Verdict::Failed);
        failed.map(|step| step.lines(false)).collect()
    }

    /// Adds a step. Returns whether it did not fail.
    pub(crate) fn add(&mut self, step: Step) -> bool {
        if self.format == Format::Text {
            print(&step.lines(self.is_colored));
        }
        let is_good = step.verdict != Verdict::Failed;
        self.steps.push(step);
        is_good
    }

    /// Notes that the steps after the last one are left out.
    pub(crate) fn stop(&mut self) {
        self.is_stopped = true;
    }

    /// Prints the end, or all of the JSON. Returns the exit status.
    pub(crate) fn finish(self) -> ExitCode {
        let failed = self.steps.iter().filter(|step| step.verdict == Verdict::Failed).count();
        if self.format == Format::Json {
            print(&format!("{}\n", self.json()));
        } else {
            let result = match failed {
                0 => "all checks passed".to_owned(),
                1 => "1 check failed".to_owned(),
                _ => format!("{failed} checks failed"),
            };
            let rest = if self.is_stopped { "; the steps after it were not checked" } else { "" };
            print(&format!("\n{}: {result}{rest}\n", self.url));
        }
        if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn json(&self) -> Value {
        let is_ok = self.steps.iter().all(|step| step.verdict != Verdict::Failed);
        let steps: Vec<Value> = self.steps.iter().map(Step::json).collect();
        json!({ "url": self.url, "ok": is_ok, "steps": steps })
    }
}

fn print(text: &str) {
    // The reader may have closed the pipe. The exit status still counts.
    let mut stdout = io::stdout();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// The width of the longest name.
const WIDTH: usize = 11;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_one_line_and_its_advice() {
        let step = Step::failed(StepName::Tcp, "refused", "start it")
            .advise("")
            .with("port", 80)
            .with("none", Value::Null);
        assert_eq!(step.lines(false), "✗ TCP         refused\n              → start it\n");
        let object = json!({ "step": "tcp", "verdict": "failed", "text": "refused", "advice": ["start \
            it"], "port": 80 });
        assert_eq!(step.json(), object);
        assert_eq!(Step::passed(StepName::RoundTrip, "fast").lines(false), "✓ round trip  fast\n");
        assert_eq!(StepName::RoundTrip.key(), "round_trip");
    }

    #[test]
    fn a_report_is_good_if_no_step_failed() {
        let target = Target::parse("ws://a/b?token=c").unwrap();
        let mut report = Report::new(&target, true, false);
        assert!(
            report.add(Step::passed(StepName::Name, "a"))
                && report.add(Step::skipped(StepName::Tls, "plain"))
        );
        assert_eq!(
            (report.json()["ok"].clone(), report.json()["url"].clone()),
            (true.into(), "ws://a/b?…".into())
        );
        assert!(!report.add(Step::failed(StepName::Tcp, "refused", "start it")));
        assert_eq!(report.json()["ok"], false);
    }
}
