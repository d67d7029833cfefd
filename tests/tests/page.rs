//! The page of the development chain in a real browser, through each gateway: it logs in, connects in each way, and shows the
//! echoes and the reason of each end.

use postern_tests::browser::Browser;
use postern_tests::gateway::{Addresses, Gateway, Running};
use postern_tests::http;
use postern_tests::identity::Identity;
use postern_tests::postern::{API_KEY, Postern, Runtime};
use serde_json::json;

/// The page of the Identity service.
struct Page(Browser);

impl Page {
    #[track_caller]
    fn wait_for_status(&mut self, status: &str) {
        self.0.wait_for(&format!("document.getElementById('status').textContent === '{status}'"));
    }

    /// Waits until the log of the page has an entry of this kind with this text.
    #[track_caller]
    fn wait_for_entry(&mut self, kind: &str, text: &str) {
        self.0.wait_for(&format!(
            "[...document.querySelectorAll('#log .{kind}')].some((item) => item.textContent.includes({}))",
            json!(text)
        ));
    }

    #[track_caller]
    fn click(&mut self, id: &str) {
        self.0.value(&format!("document.getElementById('{id}').click()"));
    }

    /// Logs in and connects in one of the ways.
    #[track_caller]
    fn connect(&mut self, way: &str) {
        self.0.value(&format!("document.querySelector('input[value={way}]').click()"));
        self.click("connect");
    }

    #[track_caller]
    fn send(&mut self, text: &str) {
        self.0.value(&format!("document.getElementById('text').value = {}", json!(text)));
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
    let mut page = Page(Browser::start());
    for (gateway, runtime) in Gateway::ALL.into_iter().zip(Runtime::BOTH.into_iter().cycle()) {
        let (running, postern, _identity) = chain(gateway, runtime);
        page.0.open(&format!("http://localhost:{}/", running.address().port()));
        page.0.wait_for("document.getElementById('send').disabled");
        for (way, subprotocol) in [("cookie", ""), ("subprotocol", ", subprotocol bearer"), ("query", "")] {
            page.connect(way);
            page.wait_for_status("Connected");
            page.wait_for_entry("connected", &format!("/ws by {way}{subprotocol}"));
            let text = format!("Hello by {way}, Renée 李");
            page.send(&text);
            page.wait_for_entry("received", &text);
            postern.wait_for(&format!("Message from John Doe (123): {text}"));
            page.click("disconnect");
            page.wait_for_status("Closed with 1000");
        }
        assert_eq!(page.0.complaints, [""; 0], "{gateway}");

        page.click("reconnect");
        page.wait_for_status("Connected");
        let headers = [("X-API-Key", API_KEY), ("Content-Type", "application/json")];
        let body = br#"{"user":"123","disconnect":{"code":4403,"reason":"logged out"}}"#;
        let answer = http::request(postern.control(), "POST", "/api/disconnect", &headers, body);
        assert_eq!(answer.expect("an answer").status, 200);
        page.wait_for_status("Closed with 4403");
        page.wait_for_entry("closed", r#"4403 "logged out": not allowed"#);

        // The browser reports both refusals in its console, too.
        page.0.value("document.getElementById('password').value = 'wrong'");
        page.connect("cookie");
        page.wait_for_entry("refused", "401: ");
        page.wait_for_status("Not connected");
        page.connect("none");
        page.wait_for_status("Closed with 1006");
        page.wait_for_entry("closed", "A page cannot see the status");
        page.0.complaints.clear();
    }
}
