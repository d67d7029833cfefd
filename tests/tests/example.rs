//! The examples in a real browser, through Traefik: users bid and talk, lose their connections, and miss nothing. Pictures are written
//! to `target/screenshots`.

use std::fs;
use std::process::Command;
use std::time::Duration;

use postern_chain::example::Example;
use postern_tests::binaries::Binary;
use postern_tests::browser::Browser;
use postern_tests::gateway::{Addresses, Gateway, Running};
use postern_tests::identity::Identity;
use postern_tests::postern::{API_KEY, Postern, Runtime};
use postern_tests::process::Process;
use postern_tests::{http, ports, provision};
use rustix::process::Signal;
use serde_json::{Value, json};

/// Identity with the files of an example, Traefik, and Postern with the channels of the example.
struct Chain {
    traefik: Option<Running>,
    addresses: Addresses,
    postern: Postern,
    _identity: Identity,
}

impl Chain {
    fn start(example: Example, runtime: Runtime) -> Self {
        let channels = fs::read_to_string(example.channels()).expect("the channels file");
        let postern = Postern::with(runtime, &[]).channels(&channels).control().start();
        let folders = example.files().unwrap_or_else(|failure| panic!("{failure}"));
        let folders: Vec<_> = folders.iter().map(|folder| folder.to_string_lossy()).collect();
        let arguments: Vec<&str> = folders.iter().flat_map(|folder| ["--files", folder]).collect();
        let identity = Identity::start_with(&arguments);
        let addresses =
            Addresses { gateway: ports::free(), identity: identity.address(), postern: postern.address() };
        let mut chain = Self { traefik: None, addresses, postern, _identity: identity };
        chain.start_traefik();
        chain
    }

    fn start_traefik(&mut self) {
        let (from, to) = Gateway::Traefik.with_page(self.addresses);
        self.traefik = Some(Running::start_at(Gateway::Traefik, self.addresses, &[(&from, &to)]));
    }

    fn url(&self) -> String {
        url(self.addresses.gateway.port())
    }

    /// Calls a method of the server API, and returns its result.
    #[track_caller]
    fn call(&self, method: &str, parameters: &Value) -> Value {
        let answer = self.postern.post(&format!("/api/{method}"), parameters).json();
        assert!(answer["result"].is_object(), "{answer}");
        answer["result"].clone()
    }

    #[track_caller]
    fn publish(&self, channel: &str, data: Value) {
        self.call("publish", &json!({ "channel": channel, "data": data }));
    }

    /// Returns the history of a channel.
    #[track_caller]
    fn history(&self, channel: &str) -> Vec<Value> {
        let history = self.call("history", &json!({ "channel": channel, "limit": -1 }));
        history["publications"].as_array().expect("a list").clone()
    }
}

fn url(port: u16) -> String {
    format!("http://localhost:{port}/example/")
}

/// A page of the auction.
struct Page(Browser);

impl Page {
    #[track_caller]
    fn enter(&mut self, url: &str, email: &str) {
        self.0.open(url);
        self.0.wait_for("document.querySelectorAll('#users button').length === 3");
        self.0.click(&format!("[data-email='{email}']"));
        self.wait_for_text("state", "Connected");
        // The history has been read.
        self.0.wait_for(
            "document.querySelector('#bids li') !== null && document.querySelector('#chat p') !== null",
        );
    }

    #[track_caller]
    fn bid(&mut self, amount: u32) {
        self.0.fill("#amount", &amount.to_string());
        self.0.click("#place");
    }

    #[track_caller]
    fn say(&mut self, text: &str) {
        self.0.fill("#text", text);
        self.0.click("#send");
    }

    #[track_caller]
    fn wait_for_text(&mut self, id: &str, text: &str) {
        self.0.wait_for(&format!("document.getElementById('{id}')?.textContent === {}", json!(text)));
    }

    /// Waits until one of the elements contains this text.
    #[track_caller]
    fn wait_for_one(&mut self, selector: &str, text: &str) {
        self.0.wait_for(&format!(
            "[...document.querySelectorAll({})].some((found) => found.textContent.includes({}))",
            json!(selector),
            json!(text)
        ));
    }

    /// Returns the amounts of all bids, in their order.
    fn bids(&mut self) -> Value {
        self.0.value("[...document.querySelectorAll('#bids [data-bid]')].map(({ dataset }) => Number(dataset.bid)).reverse()")
    }

    /// Returns the texts of all messages, in their order.
    fn messages(&mut self) -> Value {
        self.0.value("[...document.querySelectorAll('#chat p')].map((item) => item.lastChild.textContent)")
    }
}

#[test]
fn three_users_bid_and_talk_and_miss_nothing() {
    let browser = Browser::start();
    let mut pages = [Page(browser.new_page()), Page(browser.new_page()), Page(browser)];
    for runtime in Runtime::BOTH {
        let mut chain = Chain::start(Example::Auction, runtime);
        for page in &mut pages {
            page.0.set_screen(DESKTOP, "light");
            page.0.open("about:blank");
        }
        let mut console = pages[0].0.new_page();
        console.open(&format!("http://{}/", chain.postern.control()));
        if runtime == Runtime::Mio {
            pages[0].0.open(&chain.url());
            pages[0].0.wait_for("document.getElementById('welcome')?.hidden === false");
            check_view(&mut pages[0].0, "welcome");
        }
        for (page, email) in pages.iter_mut().zip(["john@example.com", "ann@example.com", "rene@example.com"])
        {
            page.enter(&chain.url(), email);
        }
        let [john, ann, rene] = &mut pages;

        // All see all.
        for (page, you) in [(&mut *john, "John Doe"), (ann, "Ann Example"), (rene, "Renée 李 Дима")] {
            page.wait_for_text("present-count", "3");
            page.wait_for_one("#present .name", &format!("{you} (you)"));
        }
        john.bid(120);
        for page in [&mut *john, ann, rene] {
            page.wait_for_text("price", "€120");
        }
        john.wait_for_text("leader", "You lead.");
        ann.wait_for_text("leader", "John Doe leads.");
        ann.0.click("[data-more='50']");
        for page in [&mut *john, ann, rene] {
            page.wait_for_text("price", "€170");
        }
        rene.bid(175);
        rene.wait_for_text("message", "The next bid is at least €180.");
        chain.publish("auction:42", json!({ "bid": 200, "by": "<i>Telephone</i>" }));
        rene.say(MARKUP);
        ann.say("Good evening, everyone");
        for page in [&mut *john, ann, rene] {
            page.wait_for_text("leader", "<i>Telephone</i> leads.");
            page.wait_for_one("#chat p", MARKUP);
            page.wait_for_one("#chat p", "Good evening");
            assert_eq!(
                page.0.value("document.querySelectorAll('main i, main b, #chat img').length"),
                0,
                "{runtime}"
            );
        }
        // Bids that are too low, and data that are not bids.
        for data in [
            json!({ "bid": 150 }),
            json!({ "bid": "900" }),
            json!("900"),
            json!(null),
            json!({ "bid": 1e300 }),
        ] {
            chain.publish("auction:42", data);
        }
        chain
            .call("publish", &json!({ "user": "u-1001", "data": { "text": "You have been <b>outbid</b>" } }));
        ann.wait_for_text("notice", "You have been <b>outbid</b>");
        john.wait_for_one("#bids li.late", "€150");
        john.wait_for_text("price", "€200");

        // The line of one page is cut, while the others continue.
        ann.0.click("#cut");
        ann.wait_for_text("state", "Connecting");
        john.wait_for_text("present-count", "2");
        john.bid(300);
        john.wait_for_text("price", "€300");
        rene.bid(310);
        rene.wait_for_text("price", "€310");
        rene.say("Ann is not here");
        rene.wait_for_one("#chat p", "Ann is not here");
        assert_eq!(ann.0.value("document.getElementById('price').textContent"), "€200", "{runtime}");
        ann.wait_for_text("state", "Connected");
        ann.wait_for_text("price", "€310");
        ann.wait_for_one("#events p", "2 bids missed, and recovered in order.");
        ann.wait_for_one("#events p", "1 message missed, and recovered in order.");
        ann.wait_for_text("recovered", "3");
        john.wait_for_text("present-count", "3");

        // The gateway is restarted, and a backend publishes in the meantime.
        chain.traefik = None;
        for page in [&mut *john, ann, rene] {
            page.wait_for_text("state", "Connecting");
        }
        for bid in [350, 360, 370] {
            chain.publish("auction:42", json!({ "bid": bid, "by": "Telephone bidder" }));
        }
        chain.publish("room:42", json!({ "text": "The gateway is restarting" }));
        chain.start_traefik();
        for page in [&mut *john, ann, rene] {
            page.wait_for_text("state", "Connected");
            page.wait_for_text("price", "€370");
            page.wait_for_one("#events p", "3 bids missed, and recovered in order.");
            page.wait_for_one("#events p", "1 message missed, and recovered in order.");
            page.wait_for_text("present-count", "3");
        }

        // Each page has everything that the server has, in the same order.
        let whole = |history: Vec<Value>, wanted: fn(&Value) -> Option<Value>| -> Value {
            history.iter().filter_map(|publication| wanted(&publication["data"])).collect()
        };
        let bids = whole(chain.history("auction:42"), |data| data["bid"].as_u64().map(Value::from));
        let messages = whole(chain.history("room:42"), |data| data["text"].as_str().map(Value::from));
        assert_eq!((bids.as_array().map(Vec::len), messages.as_array().map(Vec::len)), (Some(9), Some(4)));
        for page in [&mut *john, ann, rene] {
            assert_eq!(page.bids(), bids, "{runtime}");
            assert_eq!(page.messages(), messages, "{runtime}");
            assert_eq!(page.0.value("document.getElementById('missing').textContent"), "0", "{runtime}");
        }
        // A page that is loaded later has the same from the history.
        rene.0.value("window.isOld = true; setTimeout(() => location.reload(), 50); 0");
        rene.0.wait_for("!window.isOld && document.readyState === 'complete'");
        rene.wait_for_text("state", "Connected");
        rene.wait_for_text("price", "€370");
        rene.wait_for_one("#chat p", "The gateway is restarting");
        assert_eq!((rene.bids(), rene.messages()), (bids, messages), "{runtime}");

        if runtime == Runtime::Mio {
            for (screen, colours) in
                [(DESKTOP, "light"), (DESKTOP, "dark"), (TABLET, "light"), (PHONE, "light"), (PHONE, "dark")]
            {
                ann.0.set_screen(screen, colours);
                check_view(&mut ann.0, &format!("room-{}-{colours}", screen.0));
            }
            // The console has watched all of it.
            console.set_screen(DESKTOP, "light");
            console.ask("Page.bringToFront", &json!({}));
            console.wait_for("document.querySelector('#cards p')?.firstChild.textContent.trim() === '3'");
            console.screenshot("console-auction");
        }

        // A backend disconnects a user, and another one logs in.
        chain.call("disconnect", &json!({ "user": "123" }));
        john.wait_for_one("#refusal", "Postern has ended the connection");
        john.0.click("[data-email='ann@example.com']");
        john.wait_for_text("state", "Connected");
        john.wait_for_one("#present .name", "Ann Example (you)");
        john.wait_for_text("present-count", "2");
        john.0.click("#logout");
        john.0.wait_for("document.getElementById('welcome')?.hidden === false");

        for page in &mut pages {
            assert_eq!(complaints(&mut page.0), [""; 0], "{runtime}");
            let foreign = "performance.getEntriesByType('resource').filter(({ name }) => !name.startsWith(location.origin)).length";
            assert_eq!(page.0.value(foreign), 0, "{runtime}");
        }
    }
}

/// Returns the errors that the browser has reported, such as violations of the policy of the page. Connections that fail while the gateway
/// restarts are expected, and left out.
fn complaints(browser: &mut Browser) -> Vec<String> {
    let is_connection = |text: &String| {
        ["WebSocket connection to", "net::ERR_CONNECTION"].iter().any(|beginning| text.contains(beginning))
    };
    browser.complaints.drain(..).filter(|text| !is_connection(text)).collect()
}

/// Checks that a view is accessible and fits onto the screen, and takes a picture.
#[track_caller]
fn check_view(browser: &mut Browser, name: &str) {
    browser.ask("Page.bringToFront", &json!({}));
    let axe = provision::axe().unwrap_or_else(|failure| panic!("{failure}"));
    let axe = fs::read_to_string(axe.join("axe-core/axe.min.js")).expect("axe");
    browser.value(&format!("window.axe ?? ({{}}); {axe}; true"));
    let found = browser.value(
        "axe.run().then(({ violations }) => violations
            .filter(({ impact }) => ['serious', 'critical'].includes(impact))
            .map(({ id, nodes }) => `${id}: ${nodes[0].html}`).join(', '))",
    );
    assert_eq!(found, "", "{name}");
    assert_eq!(
        browser.value("document.documentElement.scrollWidth <= innerWidth"),
        true,
        "{name} is too wide"
    );
    browser.screenshot(&format!("example-{name}"));
}

#[test]
fn users_talk_without_an_sdk_and_miss_nothing() {
    let browser = Browser::start();
    let mut pages = [browser.new_page(), browser];
    for runtime in Runtime::BOTH {
        let mut chain = Chain::start(Example::Plain, runtime);
        let has = |text: &str| {
            format!(
                "[...document.querySelectorAll('#messages p')].filter(({{ textContent }}) => textContent === {}).length === 1",
                json!(text)
            )
        };
        let connected = "document.getElementById('state').textContent === 'Connected'";
        for (page, email) in pages.iter_mut().zip(["john@example.com", "rene@example.com"]) {
            page.open(&chain.url());
            page.fill("#email", email);
            page.click("#login button");
            page.wait_for(connected);
        }
        pages[0].fill("#text", MARKUP);
        pages[0].click("#say button");
        pages[1].wait_for(&has(&format!("John Doe: {MARKUP}")));
        assert_eq!(pages[1].value("document.querySelectorAll('#messages img').length"), 0, "{runtime}");

        // The second time, the position follows what the first recovery has delivered.
        for texts in [&["one", "two"][..], &["three"]] {
            chain.traefik = None;
            for page in &mut pages {
                page.wait_for("document.getElementById('state').textContent.startsWith('Closed: 1006')");
            }
            for text in texts {
                chain.publish("room:plain", json!({ "text": text }));
            }
            chain.start_traefik();
            for page in &mut pages {
                page.wait_for(connected);
                for text in texts {
                    page.wait_for(&has(&format!("Backend: {text}")));
                }
            }
        }
        pages[1].fill("#text", "Hello");
        pages[1].click("#say button");
        pages[0].wait_for(&has("Renée 李 Дима: Hello"));
        for page in &mut pages {
            assert_eq!(page.value("document.querySelectorAll('#messages p').length"), 5, "{runtime}");
            assert_eq!(complaints(page), [""; 0], "{runtime}");
        }
    }
}

/// Starts `cargo chain` with an example and these flags, and returns it with the port of its gateway.
#[track_caller]
fn cargo_chain(flags: &[&str], runtime: Runtime) -> (Process, u16) {
    let first = consecutive_ports();
    let ports = PORTS.map(|(_, offset)| first + offset);
    let mut command = Command::new(Binary::Chain.path());
    command.arg("--postern").arg(runtime.binary().path()).args(flags);
    command
        .args(PORTS.iter().zip(ports).flat_map(|((flag, _), port)| [(*flag).to_owned(), port.to_string()]));
    command.env("HOUSE_DELAY", "0.2").env("POSTERN_API_KEY", API_KEY);
    let chain = Process::spawn("chain", &mut command).expect("the command starts");
    let address = format!("The example is ready. Open {} in several tabs", url(ports[0]));
    chain.wait_for_line(|line| line.starts_with(&address), STARTING).expect("the address is printed");
    chain.wait_for_line(|line| line == "Ctrl-C ends everything.", PATIENCE).expect("the chain is ready");
    (chain, ports[0])
}

/// Returns the first of ten free ports.
fn consecutive_ports() -> u16 {
    loop {
        let first = ports::free().port();
        if (first + 1..first + 10).all(|port| ports::free().port() == port) {
            return first;
        }
    }
}

#[test]
fn cargo_chain_serves_the_auction_with_a_backend_that_bids() {
    let all = ["--example", "auction", "--nodes", "2", "--redis", "--rabbitmq"];
    let browser = Browser::start();
    let mut pages = [Page(browser.new_page()), Page(browser)];
    for (flags, runtime) in [(&all[..], Runtime::Mio), (&["--example", "auction", "--smol"], Runtime::Smol)] {
        let (mut chain, port) = cargo_chain(flags, runtime);
        for (page, email) in pages.iter_mut().zip(["john@example.com", "rene@example.com"]) {
            page.enter(&url(port), email);
        }
        let [john, rene] = &mut pages;
        for page in [&mut *john, rene] {
            page.wait_for_text("present-count", "2");
        }
        john.bid(120);
        for page in [&mut *john, rene] {
            page.wait_for_text("price", "€130");
            page.wait_for_text("leader", "Telephone bidder leads.");
        }
        john.wait_for_text("notice", "You have been outbid: the highest bid is €130.");
        rene.bid(500);
        john.wait_for_text("leader", "Renée 李 Дима leads.");
        let has_rabbitmq = flags.contains(&"--rabbitmq");
        if has_rabbitmq {
            // The printed command.
            let line = chain.lines().into_iter().find(|line| line.trim().starts_with("AMQP_URL="));
            let line = line.expect("a command for RabbitMQ").replace("--bid 500", "--bid 600");
            let status = Command::new("sh").args(["-c", &line]).env_remove("POSTERN_API_KEY").status();
            assert!(status.expect("sh starts").success(), "{line}");
            for page in [&mut *john, rene] {
                page.wait_for_text("price", "€600");
            }
        }
        chain.signal(Signal::INT).expect("it runs");
        assert_eq!(chain.wait(PATIENCE).expect("it ends").code(), Some(0), "{runtime}");
        // Each Postern has one of the two users.
        let sentence = |node: &str| {
            let prefix = format!("{node:>12} | ");
            let is_upgrade =
                |line: &&String| line.starts_with(&prefix) && line.contains("connection established");
            chain.lines().iter().filter(is_upgrade).count()
        };
        if has_rabbitmq {
            assert_eq!((sentence("postern 1"), sentence("postern 2")), (1, 1));
        }
    }
}

#[test]
fn the_gateways_route_the_files_of_an_example_and_no_others() {
    let folders = Example::Auction.files().unwrap_or_else(|failure| panic!("{failure}"));
    let folders: Vec<_> = folders.iter().map(|folder| folder.to_string_lossy()).collect();
    let arguments: Vec<&str> = folders.iter().flat_map(|folder| ["--files", folder]).collect();
    let identity = Identity::start_with(&arguments);
    let postern = Postern::start(Runtime::Mio, &[]);
    for gateway in Gateway::ALL {
        let addresses = Addresses {
            gateway: identity.address(),
            identity: identity.address(),
            postern: postern.address(),
        };
        let (from, to) = gateway.with_page(addresses);
        let running = Running::start(gateway, identity.address(), postern.address(), &[(&from, &to)]);
        let get = |path| http::request(running.address(), "GET", path, &[], b"").expect("an answer");
        for (path, text) in [
            ("/", "<title>Postern"),
            ("/example/", "<h1>Postern auction</h1>"),
            ("/example/auction.js", "Centrifuge("),
            ("/example/auction.css", ".card"),
            ("/example/centrifuge.js", "globalThis.Centrifuge"),
        ] {
            let file = get(path);
            assert!(file.status == 200 && file.text().contains(text), "{gateway}, {path}: {}", file.status);
        }
        for path in ["/example/channels.toml", "/example/house.py", "/example/none.js", "/auction.js"] {
            assert_eq!(get(path).status, 404, "{gateway}, {path}");
        }
        assert_eq!(get("/connection/websocket").status, 401, "{gateway}");
    }
}

/// A message that would be an element if it were read as markup.
const MARKUP: &str = "<img src=x onerror=alert(1)> <b>bold</b>";

const DESKTOP: (u32, u32) = (1280, 800);
const TABLET: (u32, u32) = (820, 1180);
const PHONE: (u32, u32) = (390, 844);

/// The flags for ports, and their places among [`consecutive_ports`]. The second node has the ports 4 and 5, and RabbitMQ has 7 to 9.
const PORTS: [(&str, u16); 6] = [
    ("--gateway-port", 0),
    ("--identity-port", 1),
    ("--port", 2),
    ("--control-port", 3),
    ("--redis-port", 6),
    ("--rabbitmq-port", 7),
];

/// In a clean clone this includes downloads.
const STARTING: Duration = Duration::from_secs(600);

const PATIENCE: Duration = Duration::from_secs(60);
