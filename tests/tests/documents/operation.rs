//! The scenes of docs/operation.md.

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::symlink;

use postern_tests::documents::document;
use postern_tests::documents::markdown::spans;
use postern_tests::documents::shell::Shell;
use postern_tests::postern::{API_KEY, Postern, Runtime};
use postern_tests::ws::{Handshake, Outcome};
use postern_tests::{canary, http, ports, workspace};
use rustix::process::Signal;
use serde_json::Value;

use crate::readme::PATIENCE;
use crate::{Section, elsewhere};

pub(crate) fn starting(section: &Section) {
    let [build, start, log] = section.blocks();
    elsewhere::check(build);
    let (address, control) = (ports::free(), ports::free());
    // The last line is the process itself, so that it and not the shell is what is ended.
    let shell = Shell::new()
        .replace("\npostern\n", "\nexec postern\n")
        .port(8080, address)
        .port(8081, control)
        .set("PORT", &address.port().to_string())
        .set("POSTERN_CONTROL", &control.to_string());
    let mut postern = shell.start(start);
    postern.wait_until_listening(address, PATIENCE).expect("it listens");
    shell.logged(&postern, log);
    let printed = postern.lines();
    // What holds is what production.env says, and `.env` is where it comes from.
    let shipped = fs::read_to_string(workspace::path("deploy/production.env")).expect("it is there");
    let mut count = 0;
    for line in shipped.lines().filter(|line| line.contains('=') && !line.starts_with('#')) {
        let shown =
            |printed: &String| printed.starts_with(&format!("{line} ")) && printed.ends_with("# .env");
        assert!(printed.iter().any(shown), "{line} is not in {printed:#?}");
        count += 1;
    }
    assert!(count > 3, "{shipped}");
    postern.signal(Signal::INT).expect("it runs");
    postern.wait(PATIENCE).expect("it ends");
}

pub(crate) fn probes(section: &Section) {
    let [requests, answers, image] = section.blocks();
    for runtime in Runtime::BOTH {
        let postern = Postern::start_with_control(runtime, &[]);
        let shell = Shell::new().port(8081, postern.control());
        shell.prints(requests, 0, answers);
        // An image would run this; here its words are run by a program of the same name.
        let words = image.text.split_once("CMD ").expect("a command").1;
        let words: Vec<String> = serde_json::from_str(words).expect("a list of words");
        let [program, arguments @ ..] = &words[..] else { panic!("{image}: no words") };
        assert_eq!(program, "/postern");
        let mut probe = shell.command("sh");
        let control = postern.control().to_string();
        probe.env("POSTERN_CONTROL", &control).args(["-c", "exec postern \"$@\"", "probe"]).args(arguments);
        let output = probe.output().expect("it runs");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "{\"status\":\"live\"}\n", "{runtime}");
        assert!(output.status.success(), "{runtime}");
    }
}

pub(crate) fn stopping(section: &Section) {
    let [log] = section.blocks();
    for runtime in Runtime::BOTH {
        let settings = [("POSTERN_DRAIN_GRACE", "300ms"), ("POSTERN_DRAIN_SPREAD", "300ms")];
        let mut postern = Postern::start(runtime, &settings);
        let mut client = Handshake::to(postern.address()).as_john().subprotocols(&["postern.v1.json"]).open();
        postern.process.signal(Signal::TERM).expect("it runs");
        let notice = client.socket.read().expect("a notice");
        let notice: Value = serde_json::from_str(notice.to_text().expect("a text")).expect("JSON");
        let documented = document("docs/operation.md");
        let documented = documented.code_spans().into_iter().find_map(|(_, span)| {
            serde_json::from_str::<Value>(span).ok().filter(|value| value["type"] == "disconnect")
        });
        let documented = documented.expect("the notice is documented");
        for key in ["type", "code", "reason", "reconnect"] {
            assert_eq!(notice[key], documented[key], "{runtime}: {key}");
        }
        assert!(notice["reconnect_after_ms"].is_u64() && documented["reconnect_after_ms"].is_u64());
        while client.socket.read().is_ok() {}
        assert!(postern.process.wait(PATIENCE).expect("it ends").success(), "{runtime}");
        Shell::new().logged(&postern.process, log);
    }
}

pub(crate) fn restarts(section: &Section) {
    let [log] = section.blocks();
    for runtime in Runtime::BOTH {
        // So long those who have come are waited for.
        let settings = [("POSTERN_HANDSHAKE_TIMEOUT", "1s")];
        let mut postern = Postern::start_leading(runtime, "", &settings);
        // By a rename, as the text says: the new one is a link of the same name.
        let (program, new) = (postern.program(), postern.folder().join("new"));
        symlink(runtime.binary().path(), &new).expect("a link");
        fs::rename(new, program).expect("it is renamed");
        postern.process.signal(Signal::USR2).expect("it runs");
        Shell::new().logged(&postern.process, log);
        Handshake::to(postern.address()).as_john().open().echo("Hello");
    }
}

pub(crate) fn the_control_port(section: &Section) {
    let [requests, answers, drain, draining] = section.blocks();
    for runtime in Runtime::BOTH {
        let postern = Postern::start_with_control(runtime, &[]);
        let mut user = Handshake::to(postern.address()).as_john().open();
        let shell = Shell::new().port(8081, postern.control()).set("KEY", API_KEY);
        shell.prints_at_once(requests, answers);
        assert_eq!(user.socket.read().expect("a message").to_text().expect("a text"), "The report is ready");
        assert!(user.socket.read().expect("a close").is_close());
        every_path_is_there(&postern);
        shell.prints_at_once(drain, draining);
    }
}

/// Each path of the table is served, by the method that it has there.
fn every_path_is_there(postern: &Postern) {
    let document = document("docs/operation.md");
    let table = document.table("The control port", "");
    let mut count = 0;
    for (line, cells) in &table.rows {
        for request in spans(&cells[0]) {
            let (method, path) = request.split_once(' ').expect("a method and a path");
            let headers = [("X-API-Key", API_KEY)];
            let answer = http::request(postern.control(), method, path, &headers, b"").expect("an answer");
            assert!(![404, 405].contains(&answer.status), "docs/operation.md:{line}: {request}: {answer}");
            count += 1;
        }
    }
    assert_eq!(count, 8, "as many as there are routes");
}

pub(crate) fn keys(section: &Section) {
    let [make] = section.blocks();
    let secret = Shell::new().succeed(make).concat();
    assert!(
        secret.len() == 64 && secret.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{} digits",
        secret.len()
    );
    // The table says how one is changed: with both, the old and the new gateway are let in. Not with that one: it has been
    // printed.
    let [old, new] = [(); 2].map(|()| canary::mint(canary::Kind::ProxySecret));
    for runtime in Runtime::BOTH {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("secret");
        fs::write(&file, format!("{old},{new}\n")).expect("a file");
        let path = file.to_str().expect("a path");
        let settings = [("POSTERN_PROXY_SECRET_FILE", path), ("POSTERN_HANDSHAKE_TIMEOUT", "1s")];
        let mut postern = Postern::start_leading(runtime, "", &settings);
        let admitted = |postern: SocketAddr, secret: &str| {
            let handshake = Handshake::to(postern).as_john().header("X-Postern-Secret", secret);
            matches!(handshake.send().expect("an answer"), Outcome::Open(_))
        };
        assert!(admitted(postern.address(), &old) && admitted(postern.address(), &new), "{runtime}");
        // A successor reads the file anew.
        fs::write(&file, &new).expect("a file");
        postern.process.signal(Signal::USR2).expect("it runs");
        postern.wait_for("serving those who have come");
        assert!(!admitted(postern.address(), &old) && admitted(postern.address(), &new), "{runtime}");
    }
}

/// The records of connections have the level, the event and the fields that the tables have, and no others.
#[test]
fn the_log_has_the_records_that_are_listed() {
    let document = document("docs/operation.md");
    let table = document.table("The log", "record");
    let listed = |record: &str| {
        let row = table.rows.iter().find(|(_, cells)| cells[0].contains(record));
        let (_, cells) = row.unwrap_or_else(|| panic!("{record} is not in the table"));
        let [level, event, fields] = [&cells[1], &cells[2], &cells[3]];
        // What follows the first semicolon is there under a condition.
        let always = fields.split(';').next().unwrap_or_default();
        let [always, all] =
            [always, fields].map(|fields| spans(fields).map(str::to_owned).collect::<BTreeSet<_>>());
        (level.clone(), spans(event).collect::<String>(), always, all)
    };
    let common = document.table("The log", "field");
    let common = |event: &str| -> Vec<String> {
        let is_of_user = !["upgrade_rejected", "connection_abandoned"].contains(&event);
        let has = |records: &str| match records {
            "all" => true,
            "of an admitted user" => is_of_user,
            "of a text message" => event == "message",
            _ => false,
        };
        let rows = common.rows.iter().filter(|(_, cells)| has(&cells[1]));
        rows.flat_map(|(_, cells)| spans(&cells[0])).map(str::to_owned).collect()
    };
    for runtime in Runtime::BOTH {
        let settings = [("LOG_FORMAT", "json"), ("LOG_LEVEL", "debug"), ("POSTERN_PING_INTERVAL", "100ms")];
        let postern = Postern::start(runtime, &settings);
        let mut client = Handshake::to(postern.address()).as_john().subprotocols(&["postern.v1.json"]).open();
        client.echo("Hello");
        // It answers pings while it reads, and the first one comes soon.
        assert!(client.socket.read().expect("a ping").is_ping());
        client.socket.flush().expect("a pong");
        postern.wait_for("Pong from");
        client.close();
        Handshake::to(postern.address()).refused();
        drop(TcpStream::connect(postern.address()).expect("it listens"));
        for record in [
            "WebSocket connection established",
            "Message from",
            "WebSocket connection closed",
            "WebSocket upgrade refused",
            "Pong from",
            "WebSocket upgrade abandoned",
        ] {
            let line: Value = serde_json::from_str(&postern.wait_for(record)).expect("JSON");
            let keys = line.as_object().expect("an object").keys().cloned();
            let keys: BTreeSet<String> =
                keys.filter(|key| !["ts", "level", "event", "msg"].contains(&&**key)).collect();
            let (level, event, always, all) = listed(record);
            assert_eq!(line["level"], level, "{runtime}: {record}");
            assert_eq!(line["event"], event, "{runtime}: {record}");
            let [always, all] = [always, all]
                .map(|fields| -> BTreeSet<String> { fields.into_iter().chain(common(&event)).collect() });
            assert!(keys.is_superset(&always) && keys.is_subset(&all), "{runtime}: {record}: {keys:?}");
        }
    }
}
