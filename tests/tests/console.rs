//! The console of the control port in a real browser. Pictures of it are written to `target/screenshots`.

use std::fs;
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use postern_tests::browser::Browser;
use postern_tests::channels::Client;
use postern_tests::postern::{API_KEY, Postern, Runtime};
use postern_tests::{provision, wait_until};
use serde_json::{Value, json};
use tungstenite::Message;

const CHANNELS: &str = "[namespaces.news]\nallow_subscribe_for_client = true\nallow_publish_for_client = true\n\
    presence = true\nhistory_size = 10\nhistory_ttl = \"1h\"\n";

/// The name of a user that would be an element if it were read as markup.
const MARKUP: &str = "<img src=x onerror=alert(1)>";

const DESKTOP: (u32, u32) = (1280, 800);
const PHONE: (u32, u32) = (390, 844);

#[test]
fn an_operator_sees_and_controls_an_instance() {
    for runtime in Runtime::BOTH {
        let settings = [
            ("POSTERN_DRAIN_SPREAD", "0"),
            ("POSTERN_DRAIN_GRACE", "2s"),
            ("POSTERN_PERSONAL_CHANNEL", "off"),
            // The client of echo answers no pings while the browser is used.
            ("POSTERN_PING_INTERVAL", "0"),
        ];
        let postern = Postern::with(runtime, &settings).channels(CHANNELS).control().start();
        let mut browser = Browser::start();
        let (john, pushes) = subscriber(&postern);
        let mut mallory = postern.handshake().header("User-ID", "6").header("User-Name", MARKUP).open();
        browser.set_screen(DESKTOP, "light");
        browser.open(&format!("http://{}/", postern.control()));

        // Without a key there are figures, and nothing else.
        browser.wait_for("document.getElementById('state').textContent === 'ready'");
        let figure = |title: &str| {
            format!(
                "[...document.querySelectorAll('#cards li')].find((card) => card.querySelector('h3').textContent === '{title}').querySelector('p').firstChild.textContent.trim()"
            )
        };
        browser.wait_for(&format!("{} === '2'", figure("Connections")));
        browser.wait_for(&format!("{} === '1'", figure("Subscriptions")));
        browser.click("nav a[href='#connections']");
        browser.wait_for(&shows("Enter one of the keys in POSTERN_API_KEY first."));
        assert_eq!(browser.value("document.querySelectorAll('#connection-table tbody tr').length"), 0);
        browser.fill("#key", "0123456789abcdef-a-wrong-key");
        browser.click("#key-form button");
        browser.wait_for(&shows("X-API-Key"));

        // With a key, connections are found and ended.
        browser.fill("#key", API_KEY);
        browser.click("#key-form button");
        let rows = "document.querySelectorAll('#connection-table tbody tr').length";
        browser.wait_for(&format!("{rows} === 2"));
        assert_eq!(browser.value("location.search"), "", "{runtime}");
        assert_eq!(browser.value("Object.keys(localStorage).length"), 0, "{runtime}");
        browser.fill("#find-connections input", "6");
        browser.click("#find-connections button");
        browser.wait_for(&format!("{rows} === 1"));
        assert_eq!(browser.value("document.querySelectorAll('td img, dd img').length"), 0, "{runtime}");
        assert_eq!(
            browser.value("document.querySelector('#connection-table td:nth-child(3)').textContent"),
            MARKUP
        );
        browser.click("#connection-table td button");
        browser.wait_for("document.getElementById('details').open");
        browser.screenshot(&format!("console-details-{runtime}"));
        for (answer, connections) in [("[value=no]", 2), ("[value=yes]", 1)] {
            if connections == 1 {
                browser.click("#connection-table td button");
            }
            browser.click("#details-actions button");
            browser.wait_for("document.getElementById('confirm').open");
            browser.click(&format!("#confirm {answer}"));
            browser.wait_for("!document.getElementById('confirm').open");
            wait_until("the connections are as many", || {
                postern.metric("postern_connections") == Some(f64::from(connections))
            });
        }
        assert_eq!(mallory.close_code(), 4403, "{runtime}");

        // A publication reaches a subscriber.
        browser.click("nav a[href='#channels']");
        browser.wait_for("document.querySelector('#channel-table td')?.textContent === 'news:1'");
        browser.fill("#publish input", "news:1");
        browser.fill("#publish textarea", r#"{"text":"#);
        browser.click("#publish button");
        browser.wait_for(&shows("The data is not JSON"));
        browser.fill("#publish textarea", r#"{"text":"<b>From the console</b>","big":12345678901234567890}"#);
        browser.click("#publish button");
        browser.wait_for(&shows("Published to 1 subscription, at offset 1."));
        let push = pushes.recv_timeout(Duration::from_secs(10)).expect("a push");
        assert_eq!(push["push"]["pub"]["data"]["text"], "<b>From the console</b>", "{runtime}: {push}");
        assert_eq!(push["push"]["pub"]["data"]["big"], json!(12_345_678_901_234_567_890_u64), "{runtime}");
        browser.click("#channel-table td button");
        browser.wait_for("document.querySelector('#details-body').textContent.includes('From the console')");
        assert!(
            browser
                .value("document.querySelector('#details-body').textContent")
                .to_string()
                .contains("John Doe")
        );
        assert_eq!(browser.value("document.querySelectorAll('#details b').length"), 0, "{runtime}");
        browser.click("#details-close");

        if runtime == Runtime::Mio {
            check_views(&mut browser);
        }

        // A drain has to be confirmed.
        browser.set_screen(DESKTOP, "light");
        browser.click("nav a[href='#process']");
        browser.click("#drain");
        browser.wait_for("document.getElementById('confirm').open");
        browser.click("#confirm [value=no]");
        browser.wait_for("!document.getElementById('confirm').open");
        assert_eq!(postern.metric("postern_draining"), Some(0.0), "{runtime}");
        browser.click("#drain");
        browser.click("#confirm [value=yes]");
        browser.wait_for("document.getElementById('state').textContent.startsWith('not ready: draining')");
        assert_eq!(john.join().expect("it reads to the end"), 3001, "{runtime}");

        let foreign = "performance.getEntriesByType('resource').filter(({ name }) => !name.startsWith(location.origin)).length";
        assert_eq!(browser.value(foreign), 0, "{runtime}");
        let violations: Vec<_> = browser
            .complaints
            .iter()
            .filter(|text| !text.contains("status of 4") && !text.contains("status of 503"))
            .collect();
        assert!(violations.is_empty(), "{runtime}: {violations:?}");
    }
}

/// Starts a client that is subscribed to `news:1` and answers pings. Returns the code with which it is closed, and its pushes.
fn subscriber(postern: &Postern) -> (JoinHandle<u16>, Receiver<Value>) {
    let mut john = Client::connect(postern, "123", "John Doe");
    john.subscribe("news:1");
    let (sender, pushes) = mpsc::channel();
    john.open.socket.get_ref().set_read_timeout(Some(Duration::from_secs(60))).expect("a time-out");
    let reader = thread::spawn(move || {
        loop {
            match john.open.receive() {
                Message::Text(text) if text.as_str() == "{}" => john.open.send("{}"),
                Message::Text(text) => {
                    // The test may have ended.
                    let _ = sender.send(serde_json::from_str(&text).expect("JSON"));
                }
                Message::Close(frame) => return frame.expect("a code").code.into(),
                other @ (Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {
                    panic!("{other:?}")
                }
            }
        }
    });
    (reader, pushes)
}

/// The console shows a message that contains this text.
fn shows(text: &str) -> String {
    format!("document.getElementById('message').textContent.includes({})", json!(text))
}

/// Checks that each view is accessible and fits onto the screen, in both colours and on a phone.
fn check_views(browser: &mut Browser) {
    let axe = provision::axe().unwrap_or_else(|failure| panic!("{failure}"));
    let axe = fs::read_to_string(axe.join("axe-core/axe.min.js")).expect("axe");
    browser.value(&format!("{axe}; true"));
    for (screen, colours) in [(DESKTOP, "light"), (DESKTOP, "dark"), (PHONE, "light")] {
        browser.set_screen(screen, colours);
        for view in ["figures", "connections", "channels", "process"] {
            browser.click(&format!("nav a[href='#{view}']"));
            browser.wait_for(&format!("!document.getElementById('{view}-view').hidden"));
            if view == "process" {
                browser.wait_for("document.querySelectorAll('#settings-table tbody tr').length > 50");
            }
            let found = browser.value(
                "axe.run().then(({ violations }) => violations
                    .filter(({ impact }) => ['serious', 'critical'].includes(impact))
                    .map(({ id, nodes }) => `${id}: ${nodes[0].html}`).join(', '))",
            );
            assert_eq!(found, "", "{view}, {colours}");
            let fits = browser.value("document.documentElement.scrollWidth <= innerWidth");
            assert_eq!(fits, true, "{view} is wider than {screen:?}");
            browser.screenshot(&format!("console-{view}-{}-{colours}", screen.0));
        }
    }
}

#[test]
fn the_console_can_be_turned_off() {
    for postern in Postern::both_with_control(&[("POSTERN_CONSOLE", "off")]) {
        for path in ["/", "/console.css", "/console.js"] {
            let response = postern.get(path);
            assert_eq!(response.status, 404, "{path}: {response}");
            assert!(response.text().contains("POSTERN_CONSOLE=on"), "{path}: {response}");
        }
        assert_eq!(postern.get("/metrics").status, 200);
    }
}
