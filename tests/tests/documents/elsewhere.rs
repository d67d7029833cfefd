//! Blocks that are not run here, and why. What can be checked of them without running them is checked.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use postern_tests::binaries::Binary;
use postern_tests::documents::markdown::Block;
use postern_tests::workspace;

/// Commands that begin in the same way.
struct Elsewhere {
    begins: &'static str,
    /// Why they are not run here.
    because: &'static str,
    check: Check,
}

/// What is checked instead of running it.
#[derive(Clone, Copy)]
enum Check {
    /// Nothing can be: it is a program of others.
    Nothing,
    /// The program of the repository is there, and its help has each flag.
    Flags,
    /// The script of the repository is there, and has each flag in its text.
    Script,
    /// What Cargo is told to take exists: packages, tests, benches.
    Cargo,
}

const ELSEWHERE: &[Elsewhere] = &[
    Elsewhere {
        begins: "cargo test",
        because: "it runs this very test, or runs beside it; Cargo cannot build for both at once",
        check: Check::Cargo,
    },
    Elsewhere {
        begins: "cargo nextest run",
        because: "it runs this very test, and is a tool of others",
        check: Check::Nothing,
    },
    Elsewhere { begins: ".ci/run", because: "it runs this very test", check: Check::Script },
    Elsewhere { begins: ".ci/canary", because: "it runs this very test", check: Check::Script },
    Elsewhere { begins: ".ci/", because: "`.ci/run` runs it beside the tests", check: Check::Script },
    Elsewhere {
        begins: "deploy/release",
        because: "minutes: two release builds, which are compared",
        check: Check::Script,
    },
    Elsewhere { begins: "deploy/dev", because: "`tests/tests/reload.rs` runs it", check: Check::Script },
    Elsewhere { begins: "CONFORMANCE=all cargo test", because: "ten minutes", check: Check::Cargo },
    Elsewhere {
        begins: "cargo bench -p postern-benches",
        because: "minutes; .ci/run runs each bench once",
        check: Check::Cargo,
    },
    Elsewhere { begins: "critcmp", because: "it compares what such runs have left", check: Check::Nothing },
    Elsewhere {
        begins: "benches/",
        because: "minutes on a quiet machine, and root for some of them",
        check: Check::Flags,
    },
    Elsewhere {
        begins: "cargo build --release",
        because: "minutes; the tests run the same binaries from the dev profile",
        check: Check::Cargo,
    },
    Elsewhere {
        begins: "RUSTFLAGS=\"-C target-feature=+crt-static\" cargo build",
        because: "minutes, and musl; `benches/small` builds it",
        check: Check::Cargo,
    },
    Elsewhere { begins: "rustup target add", because: "it changes the toolchain", check: Check::Nothing },
    Elsewhere { begins: "cargo llvm-cov", because: "a tool of others, and minutes", check: Check::Cargo },
    Elsewhere { begins: "cargo mutants", because: "a tool of others, and an hour", check: Check::Cargo },
    Elsewhere { begins: "cargo deny", because: "`.ci/deny` runs it", check: Check::Nothing },
    Elsewhere { begins: "docker ", because: "no container engine runs here", check: Check::Nothing },
    Elsewhere {
        begins: "buildah ",
        because: "it wants an image that has to be fetched",
        check: Check::Nothing,
    },
    Elsewhere { begins: "kubectl ", because: "there is no cluster here", check: Check::Nothing },
    Elsewhere { begins: "systemd-analyze ", because: "a test of the units runs it", check: Check::Nothing },
    Elsewhere { begins: "systemctl ", because: "systemd does not run here", check: Check::Nothing },
    Elsewhere { begins: "sudo systemctl ", because: "systemd does not run here", check: Check::Nothing },
    Elsewhere { begins: "journalctl ", because: "systemd does not run here", check: Check::Nothing },
];

/// Blocks that are no lines of such commands.
const BLOCKS: &[(&str, &str, &str, &str)] = &[
    ("CONTRIBUTING.md", "Fuzzing", "sh", "twenty minutes; `contributing.rs` looks for the targets"),
    ("SECURITY.md", "Traefik", "yaml", "`security.rs` puts it into the configuration that is shipped"),
    ("SECURITY.md", "nginx", "nginx", "`security.rs` puts it into the configuration that is shipped"),
    ("SECURITY.md", "Caddy", "caddyfile", "run by hand, as the text says: Caddy is not fetched by the tests"),
    ("SECURITY.md", "HAProxy", "haproxy", "`security.rs` puts it into the configuration that is shipped"),
    ("SECURITY.md", "Envoy", "yaml", "run by hand, as the text says: Envoy is not fetched by the tests"),
];

/// What of a block is in neither table.
pub(crate) fn unknown(block: &Block) -> Vec<String> {
    let is_listed = |(document, heading, language, _): &&(&str, &str, &str, &str)| {
        block.document == *document && block.heading == *heading && block.language == *language
    };
    if BLOCKS.iter().any(|listed| is_listed(&listed)) {
        return Vec::new();
    }
    if !block.is(&["sh", "bash"]) {
        return vec![block.to_string()];
    }
    let commands = block.commands();
    let is_unknown = |command: &&String| !ELSEWHERE.iter().any(|listed| command.starts_with(listed.begins));
    commands.iter().filter(is_unknown).map(|command| format!("{block}: {command}")).collect()
}

/// Checks each command of a block that is in the table, without running it.
///
/// # Panics
///
/// If it says something that is not so.
#[track_caller]
pub(crate) fn check(block: &Block) {
    for command in block.commands() {
        if let Some(listed) = ELSEWHERE.iter().find(|listed| command.starts_with(listed.begins))
            && let Some(wrong) = listed.check.wrong(&command)
        {
            panic!("{block}: {command}: it is not run here ({}), and {wrong}", listed.because);
        }
    }
}

impl Check {
    /// What is wrong with a command.
    fn wrong(self, command: &str) -> Option<String> {
        let words: Vec<&str> = command.split_whitespace().collect();
        match self {
            Self::Nothing => None,
            Self::Flags => program(words[0]).or_else(|| {
                let help = Command::new(workspace::path(words[0])).arg("--help").output();
                let help = help.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
                missing_flag(&words, &help.unwrap_or_default())
            }),
            Self::Script => program(words[0]).or_else(|| {
                let text = fs::read_to_string(workspace::path(words[0])).unwrap_or_default();
                missing_flag(&words, &text)
            }),
            Self::Cargo => targets(&words),
        }
    }
}

/// What is wrong with a program of the repository.
fn program(path: &str) -> Option<String> {
    match fs::metadata(workspace::path(path)) {
        Ok(metadata) if metadata.permissions().mode() & 0o111 != 0 => None,
        Ok(_) => Some(format!("{path} is not executable")),
        Err(error) => Some(format!("{path}: {error}")),
    }
}

fn missing_flag(words: &[&str], help: &str) -> Option<String> {
    let mut flags = words.iter().filter(|word| word.starts_with("--"));
    flags.find(|flag| !help.contains(**flag)).map(|flag| format!("there is no {flag}"))
}

/// What is wrong with what Cargo is told to take.
fn targets(words: &[&str]) -> Option<String> {
    let ours = words.split(|word| *word == "--").next().unwrap_or_default();
    for pair in ours.windows(2) {
        let [flag, name] = pair else { continue };
        let paths = match *flag {
            "-p" | "--package" => {
                let name = name.strip_prefix("postern-").unwrap_or("mio");
                vec![format!("{name}/Cargo.toml"), format!("runtimes/{name}/Cargo.toml")]
            }
            "--test" => ["tests/tests", "fuzz/tests"]
                .iter()
                .flat_map(|tests| [format!("{tests}/{name}.rs"), format!("{tests}/{name}/main.rs")])
                .collect(),
            "--bench" => vec![format!("benches/benches/{name}.rs")],
            "--manifest-path" => vec![(*name).to_owned()],
            "--example" => vec![format!("core/examples/{name}.rs")],
            _ => continue,
        };
        if !paths.iter().any(|path| workspace::path(path).exists()) {
            return Some(format!("there is no {name}"));
        }
    }
    None
}

#[test]
fn what_is_not_run_here_names_what_there_is() {
    let documents = postern_tests::documents::all();
    let blocks = documents.iter().flat_map(|document| &document.blocks);
    let mut count = 0;
    for block in blocks.filter(|block| block.is(&["sh", "bash"])) {
        check(block);
        count += 1;
    }
    assert!(count > 20, "{count} blocks");
}

/// Commands within sentences: too short to be run, and long enough to be wrong.
#[test]
fn commands_between_backticks_have_the_flags_that_are_named() {
    let help = |binary: Binary| {
        let output = Command::new(binary.path()).arg("--help").output().expect("it runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let helps = [
        ("postern-smol ", help(Binary::PosternSmol)),
        ("postern ", help(Binary::Postern)),
        ("cargo chain ", help(Binary::Chain)),
    ];
    let mut count = 0;
    for document in postern_tests::documents::all() {
        for (line, span) in document.code_spans() {
            let wrong =
                if let Some((program, help)) = helps.iter().find(|(program, _)| span.starts_with(program)) {
                    let mut words = span.strip_prefix(program).unwrap_or_default().split_whitespace();
                    let unknown = words.find(|word| !help.contains(word));
                    unknown.map(|word| format!("there is no {word}"))
                } else if let Some(listed) = ELSEWHERE.iter().find(|listed| span.starts_with(listed.begins)) {
                    listed.check.wrong(span)
                } else {
                    continue;
                };
            assert_eq!(wrong, None, "{}:{line}: {span}", document.path);
            count += 1;
        }
    }
    assert!(count > 20, "{count} commands");
}

#[test]
fn what_there_is_not_is_noticed() {
    for (check, command) in [
        (Check::Flags, "benches/compare --no-such-flag"),
        (Check::Flags, "benches/no-such-bench"),
        (Check::Script, ".ci/canary --no-such-flag"),
        (Check::Cargo, "cargo test -p postern-nothing"),
        (Check::Cargo, "cargo test -p postern-tests --test nothing"),
        (Check::Cargo, "cargo bench -p postern-benches --bench nothing"),
    ] {
        assert!(check.wrong(command).is_some(), "{command}");
    }
    for (check, command) in [
        (Check::Flags, "benches/compare --scenarios A"),
        (Check::Cargo, "cargo test -p postern-tests --test documents -- --no-such-flag"),
        (Check::Cargo, "cargo build -p postern"),
    ] {
        assert_eq!(check.wrong(command), None, "{command}");
    }
}
