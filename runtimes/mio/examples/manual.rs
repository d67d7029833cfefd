//! Writes the manual page of `postern` and its completions for bash, zsh and fish, all from the table of settings.
//!
//! ```sh
//! cargo run --example manual -- target/manual "$(git log -1 --format=%cs)"
//! ```
//!
//! The arguments are a folder, and the date on the manual page. `deploy/package` puts the files into the Debian package; to use
//! them without it, copy `postern.1` to `/usr/local/share/man/man1`, and a completion to its place:
//!
//! * `postern.bash`: `/usr/local/share/bash-completion/completions/postern`
//! * `_postern`: a folder of zsh's `fpath`, such as `/usr/local/share/zsh/site-functions`
//! * `postern.fish`: `/usr/local/share/fish/vendor_completions.d`

use std::error::Error;
use std::fmt::Write;
use std::fs::{self, File};
use std::path::Path;
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::{Arg, Command, ValueHint};
use clap_complete::Shell;
use postern::PROGRAM;
use postern_host::settings::command_line;

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    let (Some(folder), Some(date), None) = (words.next(), words.next(), words.next()) else {
        eprintln!("manual: needs two arguments, a folder and a date such as 2026-01-31");
        return ExitCode::from(2);
    };
    match write(Path::new(&folder), &date.to_string_lossy()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("manual: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write(folder: &Path, date: &str) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(folder)?;
    let page = page(&command_line(&PROGRAM), date);
    fs::write(folder.join("postern.1"), page)?;
    let mut command = for_completion(command_line(&PROGRAM));
    for (shell, file) in
        [(Shell::Bash, "postern.bash"), (Shell::Zsh, "_postern"), (Shell::Fish, "postern.fish")]
    {
        let mut file = File::create(folder.join(file))?;
        clap_complete::generate(shell, &mut command, PROGRAM.name, &mut file);
    }
    Ok(())
}

/// Shortens the help of each argument to what fits into a list, and adds the values that its placeholder lists.
fn for_completion(command: Command) -> Command {
    let shorten = |arg: Arg| {
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let (help, _) = help.split_once("\n[env: ").unwrap_or((&help, ""));
        let help = help.replace('\n', " ");
        let end = [";", ". ", ": "].iter().filter_map(|mark| help.find(mark)).min().unwrap_or(help.len());
        let help = help.get(..end).unwrap_or_default().to_owned();
        let placeholder = placeholder(&arg).to_owned();
        let arg = arg.help(help);
        match placeholder.as_str() {
            "FILE" | "FOLDER" => arg.value_hint(ValueHint::AnyPath),
            values if values.contains('|') && values.chars().all(|c| c.is_ascii_lowercase() || c == '|') => {
                arg.value_parser(PossibleValuesParser::new(values.split('|').map(str::to_owned)))
            }
            _ => arg,
        }
    };
    command.mut_args(shorten).mut_subcommands(for_completion)
}

fn placeholder(arg: &Arg) -> &str {
    arg.get_value_names().and_then(|names| names.first()).map_or("", |name| name.as_str())
}

/// Returns the manual page, in the language of man(7).
fn page(command: &Command, date: &str) -> String {
    let name = PROGRAM.name;
    let mut page = format!(
        ".TH {} 1 {date} \"{name} {}\"\n.SH NAME\n{name} \\- {}\n.SH SYNOPSIS\n",
        name.to_uppercase(),
        PROGRAM.version,
        text(PROGRAM.about)
    );
    let usages =
        [("", "[OPTIONS]"), (" check-config", "[OPTIONS] [FILE]"), (" healthcheck", "[--ready] [OPTIONS]")];
    for (index, (subcommand, rest)) in usages.into_iter().enumerate() {
        let _ = write!(page, "{}", if index == 0 { "" } else { ".br\n" });
        let _ = writeln!(page, ".B {}\n{}", text(&format!("{name}{subcommand}")), text(rest));
    }
    page.push_str(".SH DESCRIPTION\n");
    let _ = writeln!(page, "{}", lines(DESCRIPTION));
    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    for paragraph in after.split("\n\n") {
        let _ = writeln!(page, ".PP\n{}", lines(paragraph));
    }

    page.push_str(".SH OPTIONS\n");
    let mut heading = None;
    for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
        if arg.get_help_heading() != heading {
            heading = arg.get_help_heading();
            let _ = writeln!(page, ".SS {}", text(heading.unwrap_or_default()));
        }
        let _ = writeln!(page, ".TP\n{}", flag(arg));
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        match help.split_once("\n[env: ") {
            Some((help, env)) => {
                let _ = writeln!(page, "{}\n.br\n{}", lines(help), text(&format!("[env: {env}")));
            }
            None => {
                let _ = writeln!(page, "{}", lines(&help));
            }
        }
    }
    page.push_str(END);
    page
}

/// Returns the head of an option: `-h, --help` or `--port PORT`.
fn flag(arg: &Arg) -> String {
    let short = arg.get_short().map(|short| format!("\\fB\\-{short}\\fR, ")).unwrap_or_default();
    let long = arg.get_long().unwrap_or_default();
    let value = if arg.get_action().takes_values() {
        format!(" \\fI{}\\fR", text(placeholder(arg)))
    } else {
        String::new()
    };
    format!("{short}\\fB{}\\fR{value}", text(&format!("--{long}")))
}

/// Returns a text in escaped lines of at most 80 bytes, which is the style of man(7), unless a word is longer. A character other than
/// ASCII counts as the escape by which mandoc replaces it, `\[u2026]`.
fn lines(help: &str) -> String {
    let length = |line: &str| text(line).chars().map(|c| if c.is_ascii() { 1 } else { 8 }).sum::<usize>();
    let mut lines = vec![String::new()];
    for word in help.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() || length(&format!("{line} {word}")) <= 80 => {
                if !line.is_empty() {
                    line.push(' ');
                }
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    let escaped: Vec<String> = lines.iter().map(|line| text(line)).collect();
    escaped.join("\n")
}

/// Escapes a line: backslashes, hyphens that must stay hyphens, and a mark that would begin a request.
fn text(line: &str) -> String {
    let escaped = line.replace('\\', "\\e").replace('-', "\\-");
    if escaped.starts_with(['.', '\'']) { format!("\\&{escaped}") } else { escaped }
}

const DESCRIPTION: &str = "\
Accepts WebSocket connections from an API gateway that has authenticated their users and names them in headers. Users publish
and subscribe to channels, or get their messages back. Backends send messages to users by HTTP.";

const END: &str = "\
.SH FILES
.TP
.I .env
Settings, in the working directory.
With the units of the Debian package it is
.IR /etc/postern/.env .
.SH EXIT STATUS
.TP
.B 0
All connections have ended after a signal or a request of the control port.
Also after
.BR \\-\\-help ,
.B \\-\\-print\\-config
and a successful check.
.TP
.B 1
A failure while it starts or serves; or
.B healthcheck
has found no healthy process.
.TP
.B 2
A setting or an argument cannot be used.
Each one has a line on standard error.
.SH SEE ALSO
.BR systemd.socket (5)
.PP
The folder
.I docs
of the repository, which the Debian package has in
.IR /usr/share/doc/postern .
";
