//! Chromium without a window.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use postern_chain::workspace;
use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::{Message, WebSocket};

use crate::process::{Ending, Process};
use crate::{http, provision};

/// A browser with one page, controlled by the DevTools protocol.
#[derive(Debug)]
pub struct Browser {
    socket: WebSocket<TcpStream>,
    next: u64,
    /// Errors that the browser has logged, such as violations of the page's policy.
    pub complaints: Vec<String>,
    address: SocketAddr,
    /// Its process and its folder, which all pages share.
    parts: Arc<(Process, TempDir)>,
}

impl Browser {
    /// Starts it without a window.
    ///
    /// # Panics
    ///
    /// If it cannot be downloaded, or does not start.
    #[track_caller]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Does the same with further flags.
    ///
    /// # Panics
    ///
    /// As [`start`](Browser::start).
    #[track_caller]
    pub fn start_with(flags: &[&str]) -> Self {
        let (chromium, libraries, fonts) =
            provision::chromium().unwrap_or_else(|failure| panic!("{failure}"));
        let chinese = provision::chinese_font().unwrap_or_else(|failure| panic!("{failure}"));
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut command = Command::new(chromium);
        command.args(["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"]);
        command.args(["--disable-background-networking", "--disable-component-update", "--disable-quic"]);
        command.args(["--disable-dev-shm-usage", "--remote-debugging-port=0", "about:blank"]);
        command.args(flags).arg(format!("--user-data-dir={}", folder.path().display()));
        command.env("LD_LIBRARY_PATH", libraries).env("FONTCONFIG_PATH", fonts).env("HOME", folder.path());
        command.env("XDG_DATA_HOME", chinese);
        let process = Process::spawn("chromium", &mut command).expect("it starts").ending(Ending::Terminate);
        let beginning = "DevTools listening on ws://";
        let line = process.wait_for_line(|line| line.starts_with(beginning), PATIENCE).expect("it listens");
        let address = line[beginning.len()..].split('/').next().and_then(|address| address.parse().ok());
        let address: SocketAddr = address.unwrap_or_else(|| panic!("no address in {line}"));
        let pages = http::request(address, "GET", "/json/list", &[], b"").expect("an answer").json();
        let page = pages.as_array().expect("a list").iter().find(|target| target["type"] == "page");
        Self::attach(address, page.expect("a page"), Arc::new((process, folder)))
    }

    /// Opens another page, with the same cookies.
    ///
    /// # Panics
    ///
    /// If the browser does not open one.
    #[track_caller]
    pub fn new_page(&self) -> Self {
        let page = http::request(self.address, "PUT", "/json/new?about:blank", &[], b"").expect("an answer");
        Self::attach(self.address, &page.json(), self.parts.clone())
    }

    #[track_caller]
    fn attach(address: SocketAddr, page: &Value, parts: Arc<(Process, TempDir)>) -> Self {
        let url = page["webSocketDebuggerUrl"].as_str().expect("an address").to_owned();
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        let (socket, _) = tungstenite::client(url, stream).expect("an upgrade");
        let mut browser = Self { socket, next: 0, complaints: Vec::new(), address, parts };
        for domain in ["Page.enable", "Log.enable", "Runtime.enable"] {
            browser.ask(domain, &json!({}));
        }
        browser
    }

    /// Sends a command and returns its result.
    ///
    /// # Panics
    ///
    /// If it fails.
    #[track_caller]
    pub fn ask(&mut self, method: &str, parameters: &Value) -> Value {
        let answer = self.answer(method, parameters);
        assert!(answer["error"].is_null(), "{method}: {answer}");
        answer["result"].clone()
    }

    /// Sends a command and returns its answer: a result, or an error.
    #[track_caller]
    fn answer(&mut self, method: &str, parameters: &Value) -> Value {
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
                _ if message["id"] == self.next => return message,
                _ => {}
            }
        }
    }

    /// Returns the value of an expression in the page.
    ///
    /// # Panics
    ///
    /// If it throws.
    #[track_caller]
    pub fn value(&mut self, expression: &str) -> Value {
        let answer = self.evaluate(expression);
        assert!(answer["error"].is_null(), "{expression}: {answer}");
        let result = &answer["result"];
        assert!(result["exceptionDetails"].is_null(), "{expression}: {result}");
        result["result"]["value"].clone()
    }

    #[track_caller]
    fn evaluate(&mut self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        self.answer("Runtime.evaluate", &parameters)
    }

    /// Waits until an expression in the page is true. The page may be replaced by another one in that time.
    ///
    /// # Panics
    ///
    /// If it does not become true, with the text of the page, or if it throws.
    #[track_caller]
    pub fn wait_for(&mut self, expression: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.evaluate(expression);
            let is_replaced =
                answer["error"]["message"].as_str().is_some_and(|text| text.contains("navigated"));
            assert!(answer["error"].is_null() || is_replaced, "{expression}: {answer}");
            let result = &answer["result"];
            assert!(result["exceptionDetails"].is_null(), "{expression}: {result}");
            if result["result"]["value"] == true {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{expression} does not become true; the page shows\n{}",
                self.value("document.body.innerText")
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Opens a page, and waits until it is complete.
    ///
    /// # Panics
    ///
    /// If it does not load.
    #[track_caller]
    pub fn open(&mut self, url: &str) {
        self.ask("Page.navigate", &json!({ "url": url }));
        self.wait_for(&format!("document.readyState === 'complete' && location.href === '{url}'"));
    }

    /// Clicks on an element.
    ///
    /// # Panics
    ///
    /// If no element matches the selector.
    #[track_caller]
    pub fn click(&mut self, selector: &str) {
        self.value(&format!("document.querySelector({}).click()", json!(selector)));
    }

    /// Replaces the text of a field.
    ///
    /// # Panics
    ///
    /// If no element matches the selector.
    #[track_caller]
    pub fn fill(&mut self, selector: &str, text: &str) {
        self.value(&format!("document.querySelector({}).value = {}", json!(selector), json!(text)));
    }

    /// Shows the page on a screen of this size in CSS pixels, with light or dark colours.
    pub fn set_screen(&mut self, (width, height): (u32, u32), colours: &str) {
        let metrics =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.ask("Emulation.setDeviceMetricsOverride", &metrics);
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": colours }] });
        self.ask("Emulation.setEmulatedMedia", &features);
    }

    /// Writes a picture of the page to `target/screenshots/NAME.png`.
    ///
    /// # Panics
    ///
    /// If the file cannot be written.
    #[track_caller]
    pub fn screenshot(&mut self, name: &str) {
        let picture = self.ask("Page.captureScreenshot", &json!({ "format": "png" }));
        let picture = STANDARD.decode(picture["data"].as_str().expect("a picture")).expect("base64");
        let folder = workspace::path("target/screenshots");
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join(name).with_extension("png"), picture).expect("it is written");
    }
}

/// Starting a browser, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
