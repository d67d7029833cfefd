//! The commands in documents: commands with output are run and must print it, commands of README.md are run, and all
//! others must name programs, flags, packages and tests that exist.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use postern_tests::binaries::Binary;
use postern_tests::chain::{Chain, assert_john_logged};
use postern_tests::documents::shell::{PATIENCE, Shell};
use postern_tests::documents::{Block, all, document, files};
use postern_tests::gateway::Gateway;
use postern_tests::postern::{API_KEY, Postern, Runtime};
use postern_tests::process::{Process, Stream, wait_until_listening};
use postern_tests::ws::Handshake;
use postern_tests::{http, ports, provision, workspace};
use rustix::process::Signal;

/// Starts Identity, Traefik and a Postern with a control port, and returns a shell with their ports, a token of John and the API
/// key.
fn chain(runtime: Runtime) -> (Chain, SocketAddr, Shell) {
    let control = ports::free();
    let address = control.to_string();
    // curl does not reply to Close frames.
    let settings =
        [("POSTERN_CONTROL", &*address), ("POSTERN_API_KEY", API_KEY), ("POSTERN_CLOSE_TIMEOUT", "200ms")];
    let chain = Chain::start_with(Gateway::Traefik, runtime, &settings, &[]);
    wait_until_listening(control, PATIENCE).expect("the control port listens");
    let shell = Shell::new()
        .port(9191, chain.address())
        .port(9292, chain.identity.address())
        .port(8081, control)
        .set("POSTERN_CONTROL", &address)
        .set("TOKEN", &chain.login("john@example.com"))
        .set("KEY", API_KEY)
        .set("POSTERN_API_KEY", API_KEY);
    (chain, control, shell)
}

/// Headings with commands that need another environment.
const NOT_RUN: [&str; 2] = [
    // It starts a Postern that runs forever.
    "Starting",
    // It needs a Postern that does not trust the gateway. `tests/tests/trust.rs` tests that.
    "6. Is the proxy trusted?",
];

#[test]
fn commands_print_the_output_that_documents_show() {
    let mut count = 0;
    let paths = ["docs/operation.md", "docs/troubleshooting.md"];
    for (path, runtime) in paths.into_iter().flat_map(|path| Runtime::BOTH.map(|runtime| (path, runtime))) {
        let document = document(path);
        let pairs: Vec<_> = document
            .blocks
            .windows(2)
            .filter(|pair| {
                pair[0].is_shell() && pair[1].language == "text" && pair[0].heading == pair[1].heading
            })
            .filter(|pair| !NOT_RUN.contains(&&*pair[0].heading))
            .collect();
        let headings: BTreeSet<_> = pairs.iter().map(|pair| &pair[0].heading).collect();
        for heading in headings {
            let (chain, _, mut shell) = chain(runtime);
            if path == "docs/troubleshooting.md" {
                shell = shell.define(document.block("upgrade() {"));
            }
            // The commands of the control port need a connected user.
            let _user = Handshake::to(chain.postern.address()).as_john().open();
            for pair in pairs.iter().filter(|pair| pair[0].heading == *heading) {
                shell.prints(&pair[0], &pair[1]);
                count += 1;
            }
        }
    }
    assert!(count > 20, "{count} blocks with output");
}

#[test]
fn readme_starts_postern_and_exchanges_a_message() {
    let readme = document("README.md");
    for runtime in Runtime::BOTH {
        let (address, control) = (ports::free(), ports::free());
        let shell = Shell::new()
            .replace("cargo run --release", &format!("exec {runtime}"))
            .port(8080, address)
            .set("PORT", &address.port().to_string())
            .set("POSTERN_CONTROL", &control.to_string());
        let mut postern = shell.start(readme.block("cargo run --release"));
        postern.wait_until_listening(address, PATIENCE).expect("it listens");
        shell.prints(readme.block("/dev/tcp/"), readme.block("101 Switching Protocols\n…"));
        for line in readme.block("WebSocket connection established").text.lines() {
            let line = line.trim_matches('…');
            postern.wait_for_line(|logged| logged.contains(line), PATIENCE).expect("the shown log");
        }
        postern.signal(Signal::INT).expect("it runs");
        assert_eq!(postern.wait(PATIENCE).expect("it ends").code(), Some(0), "{runtime}");
    }
}

#[test]
fn readme_logs_in_and_upgrades_with_curl() {
    let (chain, control, shell) = chain(Runtime::Mio);
    let mut curl = shell.start(document("README.md").block("curl -i -N"));
    chain.postern.wait_for("WebSocket connection established - User: John Doe (john@example.com) - ID: 123");
    // A reader presses Ctrl-C, after which curl would not print its output.
    let headers = [("X-API-Key", API_KEY), ("Content-Type", "application/json")];
    let answer = http::request(
        control,
        "POST",
        "/api/disconnect",
        &headers,
        br#"{"user":"123","disconnect":{"code":1000}}"#,
    );
    assert_eq!(answer.expect("an answer").status, 200);
    curl.wait(PATIENCE).expect("it ends with the connection");
    let lines = curl.lines_of(Stream::Out);
    assert!(lines.iter().any(|line| line.starts_with("HTTP/1.1 101 ")), "{lines:?}");
}

/// Node has no cookies, so `page.cjs` adds them.
#[test]
fn readme_connects_from_javascript() {
    let readme = document("README.md");
    let (chain, _, shell) = chain(Runtime::Smol);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut node = shell.command("node");
    // The gateway listens on IPv4 only, and old versions of Node use the first address of `localhost`.
    node.arg("--dns-result-order=ipv4first").arg(workspace::path("tests/tests/documents/page.cjs"));
    let is_run = |block: &&Block| block.language == "js" && block.heading == "JavaScript in a browser";
    let blocks: Vec<_> = readme.blocks.iter().filter(is_run).collect();
    assert_eq!(blocks.len(), 2, "with a cookie, and without");
    for (index, block) in blocks.into_iter().enumerate() {
        let file = folder.path().join(format!("{index}.js"));
        fs::write(&file, shell.replaced(&block.text)).expect("a file");
        node.arg(file);
    }
    node.env("NODE_PATH", provision::node_ws().expect("the Node client"));
    let mut node = Process::spawn("page", &mut node).expect("node starts");
    assert!(node.wait(PATIENCE).expect("it ends").success(), "{:?}", node.lines());
    assert_eq!(
        node.lines_of(Stream::Out),
        ["Received: Hello World", "Disconnected: 1000 ", "bySubprotocol: open, bearer", "byQuery: open, "]
    );
    assert_john_logged(&chain.postern);
}

/// `tests/tests/recipes.rs` runs the recipes.
#[test]
fn uses_in_readme_are_parts_of_the_recipes() {
    let (readme, recipes) = (document("README.md"), document("docs/recipes.md"));
    let code: BTreeSet<_> =
        recipes.blocks.iter().flat_map(|block| block.text.lines().map(str::trim)).collect();
    let uses: Vec<_> = readme.blocks.iter().filter(|block| block.heading == "Three uses").collect();
    assert_eq!(uses.len(), 3);
    for block in uses {
        assert!(block.text.lines().count() <= 10, "{}", block.place);
        for line in block.text.lines().map(str::trim) {
            assert!(code.contains(line), "{}: {line} is not in docs/recipes.md", block.place);
        }
    }
}

#[test]
fn readme_uses_the_control_port() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start_with_control(runtime, &[]);
        let mut user = Handshake::to(postern.address()).as_john().open();
        user.echo("Hello");
        let shell = Shell::new().port(8081, postern.control()).set("POSTERN_API_KEY", API_KEY);
        let printed = shell.run(document("README.md").block("/readyz"));
        for part in [r#"{"status":"ready"}"#, r#""user":"123""#, r#"{"sent":1}"#] {
            assert!(printed.contains(part), "{runtime}: {part} is not in {printed}");
        }
        assert!(user.socket.read().expect("a message").is_text());
    }
}

#[test]
fn commands_name_flags_packages_tests_and_programs_that_exist() {
    let help = |binary: Binary, subcommand: Option<&str>| {
        let output = Command::new(binary.path()).args(subcommand).arg("--help").output().expect("it runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let helps = [
        ("postern-smol ", help(Binary::PosternSmol, None)),
        ("postern probe ", help(Binary::Postern, Some("probe"))),
        ("postern connect ", help(Binary::Postern, Some("connect"))),
        ("postern ", help(Binary::Postern, None)),
        ("cargo chain ", help(Binary::Chain, None)),
    ];
    let files = files("", "");
    let mut count = 0;
    for document in all() {
        let blocks = document.blocks.iter().filter(|block| block.is_shell());
        let lines = blocks.flat_map(|block| block.text.lines().map(|line| (&*block.place, line)));
        let spans = document.code.iter().map(|(_, span)| (&*document.path, &**span));
        for (place, command) in lines.chain(spans) {
            let command = command.split(" #").next().unwrap_or_default().trim();
            let wrong =
                if let Some((program, help)) = helps.iter().find(|(name, _)| command.starts_with(name)) {
                    let mut flags =
                        command[program.len()..].split([' ', '=']).filter(|word| word.starts_with("--"));
                    flags.find(|flag| !help.contains(*flag)).map(str::to_owned)
                } else if command.starts_with("cargo ") {
                    missing_target(command, &files)
                } else if [".ci/", "benches/", "deploy/"].iter().any(|folder| command.starts_with(folder)) {
                    missing_flag(command)
                } else {
                    continue;
                };
            assert_eq!(wrong, None, "{place}: {command}");
            count += 1;
        }
    }
    assert!(count > 50, "{count} commands");
}

/// Returns a package, test, bench, example or manifest of a `cargo` command that does not exist.
fn missing_target(command: &str, files: &[String]) -> Option<String> {
    let is_source = |folder: &str, name: &str| {
        let names = [format!("/{folder}/{name}.rs"), format!("/{folder}/{name}/main.rs")];
        files.iter().any(|path| names.iter().any(|name| path.ends_with(name)))
    };
    let is_package = |name: &str| {
        let line = format!("name = \"{name}\"\n");
        let manifests = files.iter().filter(|path| path.ends_with("/Cargo.toml"));
        manifests.into_iter().any(|path| {
            fs::read_to_string(workspace::path(path)).is_ok_and(|manifest| manifest.contains(&line))
        })
    };
    let words: Vec<_> = command.split(" -- ").next().unwrap_or_default().split_whitespace().collect();
    let missing = words.windows(2).find(|pair| !match pair[0] {
        "-p" | "--package" => is_package(pair[1]),
        "--test" => is_source("tests", pair[1]),
        "--bench" => is_source("benches", pair[1]),
        "--example" => is_source("examples", pair[1]),
        "--manifest-path" => workspace::path(pair[1]).exists(),
        _ => true,
    });
    missing.map(|pair| pair[1].to_owned())
}

/// Returns a script of the repository that does not exist, or a flag that does not occur in it.
fn missing_flag(command: &str) -> Option<String> {
    let mut words = command.split_whitespace();
    let path = words.next().unwrap_or_default();
    let path_on_disk = workspace::path(path);
    let Ok(script) = fs::read(&path_on_disk) else {
        return (!path_on_disk.exists()).then(|| path.to_owned());
    };
    let script = String::from_utf8_lossy(&script);
    words.filter(|word| word.starts_with("--")).find(|flag| !script.contains(*flag)).map(str::to_owned)
}

#[test]
fn missing_targets_and_flags_are_found() {
    let files = files("", "");
    for target in ["-p postern-nothing", "--test nothing", "--bench nothing", "--manifest-path nothing"] {
        assert!(missing_target(&format!("cargo test {target}"), &files).is_some(), "{target}");
    }
    for command in [".ci/canary --no-such-flag", "benches/no-such-bench"] {
        assert!(missing_flag(command).is_some(), "{command}");
    }
    let command = "cargo test -p postern-tests --test documents -- --no-such-flag";
    assert_eq!(missing_target(command, &files), None);
}
