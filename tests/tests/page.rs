//! The page of the development chain in a real browser, through each gateway: it logs in, connects in each way, and shows the
//! echoes and the reason of each end.

use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use postern_tests::gateway::{Addresses, Gateway, Running};
use postern_tests::identity::Identity;
use postern_tests::postern::{API_KEY, Postern, Runtime};
use postern_tests::process::{Ending, Process};
use postern_tests::{http, provision};
use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::{Message, WebSocket};

/// A browser with one page, controlled by the DevTools protocol.
struct Browser {
    socket: WebSocket<TcpStream>,
    next: u64,
    /// Errors that the browser has logged, such as violations of the page's policy.
    complaints: Vec<String>,
    _process: Process,
    _folder: TempDir,
}

impl Browser {
    fn start() -> Self {
        let (chromium, libraries, fonts) =
            provision::chromium().unwrap_or_else(|failure| panic!("{failure}"));
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut command = Command::new(chromium);
        command.args(["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"]);
        command.args(["--disable-background-networking", "--disable-component-update", "--disable-quic"]);
        command.args(["--disable-dev-shm-usage", "--remote-debugging-port=0", "about:blank"]);
        command.arg(format!("--user-data-dir={}", folder.path().display()));
        command.env("LD_LIBRARY_PATH", libraries).env("FONTCONFIG_PATH", fonts).env("HOME", folder.path());
        let process = Process::spawn("chromium", &mut command).expect("it starts").ending(Ending::Terminate);
        let beginning = "DevTools listening on ws://";
        let line = process.wait_for_line(|line| line.starts_with(beginning), PATIENCE).expect("it listens");
        let address = line[beginning.len()..].split('/').next().and_then(|address| address.parse().ok());
        let address: SocketAddr = address.unwrap_or_else(|| panic!("no address in {line}"));
        let pages = http::request(address, "GET", "/json/list", &[], b"").expect("an answer").json();
        let page = pages.as_array().expect("a list").iter().find(|target| target["type"] == "page");
        let url = page.expect("a page")["webSocketDebuggerUrl"].as_str().expect("an address").to_owned();
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        let (socket, _) = tungstenite::client(url, stream).expect("an upgrade");
        let mut browser =
            Self { socket, next: 0, complaints: Vec::new(), _process: process, _folder: folder };
        for domain in ["Page.enable", "Log.enable", "Runtime.enable"] {
            browser.ask(domain, &json!({}));
        }
        browser
    }

    /// Sends a command and returns its result.
    #[track_caller]
    fn ask(&mut self, method: &str, parameters: &Value) -> Value {
        self.next += 1;
        let command = json!({ "id": self.next, "method": method, "params": parameters });
        self.socket.send(Message::text(command.to_string())).expect("it is sent");
        loop {
            let message = self.socket.read().expect("an answer");
            let message: Value = serde_json::from_str(message.to_text().expect("text")).expect("JSON");
            match message["method"].as_str() {
                Some("Log.entryAdded") if message["params"]["entry"]["level"] == "error" => {
                    self.complaints.push(message["params"]["entry"]["text"].to_string());
                }
                Some("Runtime.exceptionThrown") => self.complaints.push(message["params"].to_string()),
                _ if message["id"] == self.next => {
                    assert!(message["error"].is_null(), "{method}: {message}");
                    return message["result"].clone();
                }
                _ => {}
            }
        }
    }

    /// Returns the value of an expression in the page.
    #[track_caller]
    fn value(&mut self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.ask("Runtime.evaluate", &parameters);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Waits until an expression in the page is true.
    #[track_caller]
    fn wait_for(&mut self, expression: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.value(expression) != true {
            assert!(
                Instant::now() < deadline,
                "{expression} does not become true; the page shows\n{}",
                self.value("document.body.innerText")
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    #[track_caller]
    fn open(&mut self, url: &str) {
        self.ask("Page.navigate", &json!({ "url": url }));
        self.wait_for(&format!("document.readyState === 'complete' && location.href === '{url}'"));
    }

    #[track_caller]
    fn wait_for_status(&mut self, status: &str) {
        self.wait_for(&format!("document.getElementById('status').textContent === '{status}'"));
    }

    /// Waits until the log of the page has an entry of this kind with this text.
    #[track_caller]
    fn wait_for_entry(&mut self, kind: &str, text: &str) {
        self.wait_for(&format!(
            "[...document.querySelectorAll('#log .{kind}')].some((item) => item.textContent.includes({}))",
            json!(text)
        ));
    }

    #[track_caller]
    fn click(&mut self, id: &str) {
        self.value(&format!("document.getElementById('{id}').click()"));
    }

    /// Logs in and connects in one of the ways.
    #[track_caller]
    fn connect(&mut self, way: &str) {
        self.value(&format!("document.querySelector('input[value={way}]').click()"));
        self.click("connect");
    }

    #[track_caller]
    fn send(&mut self, text: &str) {
        self.value(&format!("document.getElementById('text').value = {}", json!(text)));
        self.click("send");
    }
}

/// Starts Identity, a gateway that routes the page, and Postern.
fn chain(gateway: Gateway, runtime: Runtime) -> (Running, Postern, Identity) {
    let (identity, postern) = (Identity::start(), Postern::start_with_control(runtime, &[]));
    let (identity_address, postern_address) = (identity.address(), postern.address());
    let addresses =
        Addresses { gateway: identity_address, identity: identity_address, postern: postern_address };
    let (from, to) = gateway.with_page(addresses);
    (Running::start(gateway, identity_address, postern_address, &[(&from, &to)]), postern, identity)
}

#[test]
fn page_logs_in_connects_in_each_way_and_shows_why_a_connection_ended() {
    let mut browser = Browser::start();
    for (gateway, runtime) in Gateway::ALL.into_iter().zip(Runtime::BOTH.into_iter().cycle()) {
        let (running, postern, _identity) = chain(gateway, runtime);
        browser.open(&format!("http://localhost:{}/", running.address().port()));
        browser.wait_for("document.getElementById('send').disabled");
        for (way, subprotocol) in [("cookie", ""), ("subprotocol", ", subprotocol bearer"), ("query", "")] {
            browser.connect(way);
            browser.wait_for_status("Connected");
            browser.wait_for_entry("connected", &format!("/ws by {way}{subprotocol}"));
            let text = format!("Hello by {way}, Renée 李");
            browser.send(&text);
            browser.wait_for_entry("received", &text);
            postern.wait_for(&format!("Message from John Doe (123): {text}"));
            browser.click("disconnect");
            browser.wait_for_status("Closed with 1000");
        }
        assert_eq!(browser.complaints, [""; 0], "{gateway}");

        browser.click("reconnect");
        browser.wait_for_status("Connected");
        let headers = [("X-API-Key", API_KEY), ("Content-Type", "application/json")];
        let body = br#"{"user":"123","code":4403,"reason":"logged out"}"#;
        let answer = http::request(postern.control(), "POST", "/api/disconnect", &headers, body);
        assert_eq!(answer.expect("an answer").status, 200);
        browser.wait_for_status("Closed with 4403");
        browser.wait_for_entry("closed", r#"4403 "logged out": not allowed"#);

        // The browser reports both refusals in its console, too.
        browser.value("document.getElementById('password').value = 'wrong'");
        browser.connect("cookie");
        browser.wait_for_entry("refused", "401: ");
        browser.wait_for_status("Not connected");
        browser.connect("none");
        browser.wait_for_status("Closed with 1006");
        browser.wait_for_entry("closed", "A page cannot see the status");
        browser.complaints.clear();
    }
}

/// Starting a browser, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
