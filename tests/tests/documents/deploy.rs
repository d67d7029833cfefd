//! The scenes of docs/deploy.md. No engine, no cluster and no systemd runs here: what they are told is looked up in their
//! files, and what is told to the shell is run.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use postern_tests::documents::markdown::Block;
use postern_tests::postern::Runtime;
use postern_tests::workspace;

use crate::Section;

pub(crate) fn compose(section: &Section) {
    let [production, development] = section.blocks();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let deploy = folder.path().join("deploy");
    fs::create_dir(&deploy).expect("it can be created");
    fs::copy(workspace::path("deploy/.env.example"), deploy.join(".env.example")).expect("it is there");
    for block in [production, development] {
        run(&without(block, "docker "), folder.path());
    }
    let secret = |text: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix("JWT_SECRET="));
        line.expect("the name is there").to_owned()
    };
    let made = fs::read_to_string(deploy.join(".env")).expect("it was made");
    assert_eq!(secret(&made).len(), 64, "{made}");
    let example = fs::read_to_string(deploy.join(".env.example")).expect("it is there");
    assert_eq!(made.replace(&secret(&made), ""), example, "all else is as it was");

    let file = fs::read_to_string(workspace::path("deploy/compose.yaml")).expect("it is there");
    for command in docker(production).iter().chain(&docker(development)) {
        let words: Vec<_> = command.split_whitespace().collect();
        assert_eq!(words[..2], ["docker", "compose"], "{command}");
        if let Some(at) = words.iter().position(|word| *word == "--profile") {
            assert!(["prod", "dev"].contains(&words[at + 1]), "{command}");
        }
        if words.contains(&"logs") {
            let service = words.last().expect("a service");
            assert!(file.contains(&format!("\n  {service}:\n")), "{command}: there is no {service}");
        }
    }
}

pub(crate) fn images(section: &Section) {
    let [build, run] = section.blocks();
    let dockerfile = fs::read_to_string(workspace::path("Dockerfile")).expect("it is there");
    let commands = docker(build);
    assert_eq!(commands.len(), 3);
    for command in &commands {
        let mut words = command.split_whitespace();
        while let Some(word) = words.next() {
            match word {
                "--target" => {
                    let stage = words.next().expect("a stage");
                    assert!(dockerfile.contains(&format!(" AS {stage}\n")), "{command}");
                }
                "--build-arg" => {
                    let name = words.next().and_then(|pair| pair.split('=').next()).expect("a name");
                    assert!(dockerfile.contains(&format!("ARG {name}=")), "{command}");
                }
                _ => {}
            }
        }
    }
    // What the container is given, both binaries take.
    let [command] = &docker(run)[..] else { panic!("{run}") };
    let words: Vec<_> = command.split_whitespace().collect();
    let after = |flag: &str| words[words.iter().position(|word| *word == flag).expect("the flag") + 1];
    let limits = fs::read_to_string(workspace::path(after("--env-file"))).expect("it is there");
    let pairs = limits.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
    let settings: Vec<_> = pairs.chain(after("--env").split_once('=')).collect();
    for runtime in Runtime::BOTH {
        postern_tests::postern::Postern::print_config(runtime, &settings);
    }
}

pub(crate) fn systemd(section: &Section) {
    let [units, drop_ins] = section.blocks();
    let root = tempfile::tempdir().expect("a temporary folder");
    let built = tempfile::tempdir().expect("a temporary folder");
    for runtime in Runtime::BOTH {
        symlink(runtime.binary().path(), built.path().join(runtime.to_string())).expect("a link");
    }
    for folder in ["usr/local/bin", "etc/systemd/system"] {
        fs::create_dir_all(root.path().join(folder)).expect("it can be created");
    }
    for block in [units, drop_ins] {
        let mut script = without(block, "systemctl ");
        for folder in ["/usr/local/bin/", "/etc/"] {
            script = script.replace(&format!(" {folder}"), &format!(" {}{folder}", root.path().display()));
        }
        // The builds of the tests stand in for those of the release.
        script = script.replace(" target/release/", &format!(" {}/", built.path().display()));
        run(&script, workspace::root());
    }
    for (installed, mode) in [
        ("usr/local/bin/postern", 0o755),
        ("usr/local/bin/postern-smol", 0o755),
        ("etc/systemd/system/postern.service", 0o644),
        ("etc/systemd/system/postern.socket", 0o644),
        ("etc/systemd/system/postern-control.socket", 0o644),
        ("etc/systemd/system/postern.service.d/smol.conf", 0o644),
        ("etc/systemd/system/postern.service.d/secrets.conf", 0o644),
        ("etc/postern/.env", 0o644),
        ("etc/postern/api-key", 0o600),
        ("etc/postern/proxy-secret", 0o600),
    ] {
        let path = root.path().join(installed);
        let metadata = fs::metadata(&path).unwrap_or_else(|error| panic!("{installed}: {error}"));
        let permissions = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777;
        assert_eq!(permissions, mode, "{installed}");
    }
}

pub(crate) fn kubernetes(section: &Section) {
    let [apply] = section.blocks();
    let mut count = 0;
    for path in apply.text.split_whitespace().filter(|word| word.starts_with("deploy/")) {
        assert!(workspace::path(path).exists(), "there is no {path}");
        count += 1;
    }
    assert_eq!(count, 2);
    assert!(workspace::path("deploy/kubernetes/kustomization.yaml").exists());
}

/// The commands of a block that are for Docker.
fn docker(block: &Block) -> Vec<String> {
    block.commands().into_iter().filter(|command| command.starts_with("docker ")).collect()
}

/// The lines of a block that do not begin like this.
fn without(block: &Block, beginning: &str) -> String {
    let lines = block.text.lines().filter(|line| !line.starts_with(beginning));
    lines.map(|line| format!("{line}\n")).collect()
}

/// Has bash run this in a folder.
#[track_caller]
fn run(script: &str, folder: &Path) {
    let status = Command::new("bash").args(["-euo", "pipefail", "-c", script]).current_dir(folder).status();
    assert!(status.expect("bash runs").success(), "{script}");
}
