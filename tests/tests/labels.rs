//! `deploy/traefik/labels.yaml`: the routes as Docker labels equal the routes of the file, and a real Traefik that
//! reads them from Docker protects Postern in the same way. No Docker runs here: a small server answers Traefik's
//! requests to Docker with the shipped labels.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use postern_chain::gateway::{Gateway, traefik_on, wait_until_routed};
use postern_tests::chain::assert_john_logged;
use postern_tests::identity::{Identity, login_at};
use postern_tests::postern::{Postern, Runtime};
use postern_tests::process::Process;
use postern_tests::ws::Handshake;
use postern_tests::{http, ports, workspace};
use serde_json::{Value, json};

fn yaml(path: &str) -> Value {
    let text = fs::read_to_string(workspace::path(path)).expect("it is there");
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns the labels of each service.
fn labels() -> BTreeMap<String, BTreeMap<String, String>> {
    let file = yaml("deploy/traefik/labels.yaml");
    let services = file["services"].as_object().expect("services");
    services
        .iter()
        .map(|(name, service)| {
            let labels = service["labels"].as_object().expect("labels");
            let text = |value: &Value| {
                value.as_str().expect("a text").replace("${COMPOSE_PROJECT_NAME:-deploy}", "deploy")
            };
            (name.clone(), labels.iter().map(|(label, value)| (label.clone(), text(value))).collect())
        })
        .collect()
}

/// Collects the path and the text of each value of the file, as in a label: a list is joined by commas.
fn settings(value: &Value, path: &str, found: &mut BTreeMap<String, String>) {
    let text = match value {
        Value::Object(entries) => {
            for (name, value) in entries {
                settings(value, &format!("{path}.{name}"), found);
            }
            return;
        }
        Value::Array(items) => {
            let texts = items.iter().map(|item| item.as_str().map(str::to_owned).unwrap_or_default());
            texts.collect::<Vec<_>>().join(",")
        }
        Value::String(text) => text.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    };
    found.insert(path.to_owned(), text);
}

#[test]
fn labels_have_the_values_of_the_file() {
    let mut in_file = BTreeMap::new();
    let file = yaml("deploy/traefik/dynamic.yaml");
    for part in ["middlewares", "routers"] {
        settings(&file["http"][part], &format!("traefik.http.{part}"), &mut in_file);
    }
    // The file has a variable in place of the address in compose.yaml.
    let compose = yaml("deploy/compose.yaml");
    let identity =
        compose["services"]["traefik"]["environment"]["IDENTITY_URL"].as_str().expect("an address");
    let address = "traefik.http.middlewares.identity-jwt-validate.forwardAuth.address";
    in_file.insert(address.to_owned(), format!("{identity}/identity/validate"));

    let mut in_labels: BTreeMap<_, _> = labels().into_values().flatten().collect();
    assert_eq!(in_labels.remove("traefik.enable").as_deref(), Some("true"));
    assert_eq!(in_labels.remove("traefik.docker.network").as_deref(), Some("deploy_websocket"));
    assert!(
        compose["services"]["websocket"]["networks"].get("websocket").is_some(),
        "the network of the label"
    );
    for (service, port) in [("websocket", "8080"), ("identity", "9292")] {
        let label = format!("traefik.http.services.{service}.loadBalancer.server.port");
        assert_eq!(in_labels.remove(&label).as_deref(), Some(port), "{label}");
    }
    assert_eq!(in_labels, in_file);
}

/// Answers Traefik's requests to Docker with these containers.
fn docker(containers: Vec<Value>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it is bound");
    let containers = Arc::new(containers);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let containers = Arc::clone(&containers);
            thread::spawn(move || answer(stream, &containers));
        }
    });
    address
}

fn answer(stream: TcpStream, containers: &[Value]) {
    let mut reader = BufReader::new(stream.try_clone().expect("a second descriptor"));
    let mut stream = stream;
    loop {
        let mut line = String::new();
        if !reader.read_line(&mut line).is_ok_and(|read| read > 0) {
            return;
        }
        let mut header = String::new();
        while reader.read_line(&mut header).is_ok_and(|read| read > 2) {
            header.clear();
        }
        let target = line.split(' ').nth(1).unwrap_or_default();
        // `/v1.51/containers/json?limit=0`, or without the version.
        let path = target.split('?').next().unwrap_or_default();
        let path =
            path.split_once("/v1.").and_then(|(_, rest)| rest.split_once('/')).map_or(path, |(_, path)| path);
        let body = match path.trim_start_matches('/').split('/').collect::<Vec<_>>()[..] {
            ["_ping"] => json!("OK"),
            ["version"] => json!({ "Version": "28.0.0", "ApiVersion": "1.44", "MinAPIVersion": "1.24" }),
            // Traefik reads the ids in the list, and requests each container.
            ["containers", "json"] => containers
                .iter()
                .map(|container| json!({ "Id": container["Id"], "State": "running" }))
                .collect(),
            ["containers", id, "json"] => {
                containers.iter().find(|container| container["Id"] == id).cloned().unwrap_or_default()
            }
            ["events"] => {
                // No event: the response does not end.
                let _ = stream
                    .write_all(b"HTTP/1.1 200 OK\r\nApi-Version: 1.44\r\nTransfer-Encoding: chunked\r\n\r\n");
                continue;
            }
            _ => json!({}),
        };
        let body = if line.starts_with("HEAD ") { String::new() } else { body.to_string() };
        let head = "HTTP/1.1 200 OK\r\nApi-Version: 1.44\r\nContent-Type: application/json";
        let answer = format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// Returns a container as Docker describes it, on a network that the gateway reaches and on one that it does not.
fn container(name: &str, labels: &BTreeMap<String, String>) -> Value {
    let mut networks = json!({ format!("deploy_{name}"): { "IPAddress": "127.0.0.1" } });
    if name == "websocket" {
        networks["deploy_backends"] = json!({ "IPAddress": "192.0.2.1" });
    }
    json!({
        "Id": name, "Name": format!("/{name}"),
        "State": { "Status": "running", "Running": true },
        "HostConfig": { "NetworkMode": "bridge" },
        "Config": { "Labels": labels },
        "NetworkSettings": { "Networks": networks },
    })
}

#[test]
fn traefik_with_the_labels_protects_postern() {
    for runtime in Runtime::BOTH {
        let (identity, postern) = (Identity::start(), Postern::start(runtime, &[]));
        let mut labels = labels();
        let ports = [("websocket", postern.address()), ("identity", identity.address())];
        for (service, address) in ports {
            let label = format!("traefik.http.services.{service}.loadBalancer.server.port");
            let port =
                labels.get_mut(service).and_then(|labels| labels.get_mut(&label)).expect("it is there");
            *port = address.port().to_string();
        }
        for text in labels.values_mut().flat_map(BTreeMap::values_mut) {
            *text = text.replace("http://identity:9292", &format!("http://{}", identity.address()));
        }
        let containers = labels.iter().map(|(name, labels)| container(name, labels)).collect();
        let docker = docker(containers);

        // The provider of the comment in the labels, with the address of the server above.
        let gateway = ports::free();
        let configuration = traefik_on(gateway).expect("it is there");
        let (before, rest) = configuration.split_once("\nproviders:\n").expect("its providers");
        let (_, after) = rest.split_once("\nping:").expect("what follows them");
        let provider = format!("docker:\n    exposedByDefault: false\n    endpoint: tcp://{docker}");
        let configuration = format!("{before}\nproviders:\n  {provider}\n\nping:{after}");
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("traefik.yaml"), configuration).expect("a file");
        let mut command = Command::new(Gateway::Traefik.provision().expect("Traefik"));
        command.arg("--configFile=traefik.yaml").current_dir(folder.path());
        let mut traefik = Process::spawn("traefik", &mut command).expect("it starts");
        traefik.wait_until_listening(gateway, PATIENCE).expect("it listens");
        wait_until_routed(gateway).unwrap_or_else(|failure| {
            let lines = traefik.lines().into_iter().filter(|line| !line.contains("\"GET /ws "));
            panic!("the labels are not routes: {failure}\n{}", lines.collect::<Vec<_>>().join("\n"))
        });

        let token = login_at(gateway, "john@example.com");
        let mut client = Handshake::to(gateway).bearer(&token).open();
        client.echo("Hello World");
        client.close();
        assert_john_logged(&postern);
        // A client cannot send an identity, neither as a header nor as its alias.
        assert_eq!(Handshake::to(gateway).header("User-ID", "admin").status(), 401);
        assert_eq!(Handshake::to(gateway).bearer(&token).header("User_ID", "admin").status(), 400);
        let exact = http::request(gateway, "GET", "/ws/", &[], b"").expect("an answer");
        assert_eq!(exact.status, 404, "{exact}");
    }
}

/// 185 MB of Traefik are read from a cold disk.
const PATIENCE: Duration = Duration::from_secs(30);
