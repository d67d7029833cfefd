//! The recipes of docs/recipes.md, behind Traefik: JavaScript in a browser, the server API by curl, and Python.

use std::fs;
use std::process::Command;
use std::time::Duration;

use postern_tests::browser::Browser;
use postern_tests::documents::shell::Shell;
use postern_tests::documents::{Document, document};
use postern_tests::gateway::{Addresses, Gateway, Running};
use postern_tests::identity::{self, Identity};
use postern_tests::postern::{API_KEY, Postern, Runtime};
use postern_tests::process::{Process, Stream};
use postern_tests::provision;
use tempfile::TempDir;

/// The chain of the recipes.
struct Chain {
    traefik: Running,
    postern: Postern,
    _identity: Identity,
    folder: TempDir,
}

impl Chain {
    fn start(runtime: Runtime, recipes: &Document) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let channels = &recipes.block("[namespaces.room]").text;
        let postern = Postern::with(runtime, &[]).channels(channels).control().start();
        let identity = Identity::start();
        let (at, to) = (identity.address(), postern.address());
        let (from, with) = Gateway::Traefik.with_page(Addresses { gateway: at, identity: at, postern: to });
        let traefik = Running::start(Gateway::Traefik, at, to, &[(&from, &with)]);
        Self { traefik, postern, _identity: identity, folder }
    }
}

/// Runs the code of a page, in which `lines` has the lines that it prints.
fn run_in_page(browser: &mut Browser, code: &str) {
    let code = code.replace("import { Centrifuge } from 'centrifuge';", "");
    let code = code.replace("'wss://app.example", "'ws://' + location.host + '");
    browser.value(&format!(
        "window.lines = []; console.log = (...words) => lines.push(words.join(' ')); \
         window.run = (async () => {{ {code}\nwindow.client = client; }})(); 0"
    ));
    browser.wait_for("window.client?.state === 'connected'");
}

#[test]
fn pages_are_notified_and_watch_things() {
    let recipes = document("docs/recipes.md");
    let packages = provision::javascript_sdk().expect("the SDK");
    let sdk = fs::read_to_string(packages.join("centrifuge/dist/centrifuge.js")).expect("the SDK for pages");
    let mut browser = Browser::start();
    for runtime in Runtime::BOTH {
        let chain = Chain::start(runtime, &recipes);
        let shell = Shell::new().port(8081, chain.postern.control()).set("KEY", API_KEY);
        let open = |browser: &mut Browser| {
            browser.open(&format!("http://localhost:{}/", chain.traefik.address().port()));
            browser.value(
                "fetch('/identity/login', { method: 'POST', headers: { 'Content-Type': 'application/json' }, \
                 body: JSON.stringify({ email: 'john@example.com', password: 'password123' }) }).then(() => 0)",
            );
            browser.value(&format!("{sdk};\n0"));
        };

        open(&mut browser);
        run_in_page(&mut browser, &recipes.block("Notification:").text);
        shell.prints(recipes.block("on its way"), recipes.block("{\"delivered\":1}"));
        browser.wait_for("lines.includes('Notification: Your order is on its way')");

        browser.open("about:blank");
        open(&mut browser);
        run_in_page(&mut browser, &recipes.block("'Bid:'").text);
        browser.wait_for("Object.values(client.subscriptions())[0].state === 'subscribed'");
        for _ in 0..2 {
            shell.run(recipes.block("\"bid-7\""));
        }
        browser.wait_for("lines.includes('Bid: 120')");
        assert_eq!(browser.value("lines.length"), 1, "the second bid is the same one");
        // Before the chain ends, because the browser reports a lost connection.
        browser.open("about:blank");
        assert_eq!(browser.complaints, [""; 0]);
    }
}

#[test]
fn users_talk_to_each_other_in_python() {
    let recipes = document("docs/recipes.md");
    let package = provision::python_sdk().expect("the SDK");
    let expected: Vec<&str> = recipes.block("present: ").text.trim_end().lines().collect();
    for runtime in Runtime::BOTH {
        let chain = Chain::start(runtime, &recipes);
        let address = chain.traefik.address();
        let token = identity::login_at(address, "john@example.com");
        let script = chain.folder.path().join("room.py");
        let code = recipes.block("class Printer").text.replace("localhost:9191", &address.to_string());
        fs::write(&script, code).expect("the script is written");
        for run in 0..2 {
            let mut command = Command::new("python3");
            command.arg(&script).env("PYTHONPATH", &package).env("TOKEN", &token);
            let mut python = Process::spawn("python", &mut command).expect("Python starts");
            let status = python.wait(PATIENCE).expect("the script ends");
            assert!(status.success(), "{status}, {:?}", python.lines());
            let lines = python.lines_of(Stream::Out);
            // The second run reads the message of the first one.
            let earlier = if run == 0 { &[][..] } else { &["earlier: Hello"][..] };
            assert_eq!(lines, [earlier, &expected].concat());
        }
        let logged = &recipes.block("Message from John Doe").text;
        chain.postern.wait_for(logged.trim_end());
    }
}

const PATIENCE: Duration = Duration::from_secs(60);
