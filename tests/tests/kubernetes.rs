//! The manifests of `deploy/kubernetes`: built by kubectl, judged by the schemas, and run as far as no cluster is needed: both
//! binaries with the settings of the pod, its probes, and its routes in a real Traefik.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use postern_tests::canary::{self, Kind};
use postern_tests::identity::Identity;
use postern_tests::kubernetes::Manifests;
use postern_tests::postern::{Postern, Runtime};
use postern_tests::process::Process;
use postern_tests::ws::Handshake;
use postern_tests::{http, ports, provision, settings_in, wait_until, workspace};
use rustix::process::Signal;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// Returns the manifests without and with the component `proxy-secret`.
fn both_ways() -> [(&'static str, Manifests); 2] {
    [("as shipped", Manifests::shipped()), ("with the proxy secret", Manifests::with_proxy_secret())]
}

#[test]
fn schemas_of_kubernetes_and_types_of_traefik_accept_the_manifests() {
    for (how, manifests) in both_ways() {
        for version in ["1.27", "1.37"] {
            let complaints = manifests.complaints(version);
            assert!(complaints.is_empty(), "{how}, Kubernetes {version}: {complaints}");
        }
    }
}

#[test]
fn component_of_rabbitmq_has_the_url_in_a_file_and_the_broker_can_be_reached() {
    let manifests = Manifests::with_component("rabbitmq");
    for version in ["1.27", "1.37"] {
        let complaints = manifests.complaints(version);
        assert!(complaints.is_empty(), "Kubernetes {version}: {complaints}");
    }
    let variables = manifests.container()["env"].as_array().expect("a list");
    let value = |name: &str| {
        let variable = variables.iter().find(|variable| variable["name"] == name);
        variable.unwrap_or_else(|| panic!("no {name}"))["value"].as_str().expect("a text")
    };
    let place = "/run/secrets/postern/";
    assert_eq!(value("POSTERN_AMQP_URL_FILE").strip_prefix(place), Some("amqp-url"));
    assert!(value("POSTERN_API_KEY_FILE").starts_with(place), "the same Secret");
    let egress = manifests.one("NetworkPolicy", "postern")["spec"]["egress"].as_array().expect("a list");
    let ports = egress.iter().flat_map(|rule| rule["ports"].as_array().expect("a list"));
    let ports: Vec<_> = ports.map(|port| port["port"].as_u64()).collect();
    assert_eq!(ports, [Some(5672), Some(53), Some(53)]);
    // The comment shows a URL that Postern accepts.
    let comment = fs::read_to_string(workspace::path("deploy/kubernetes/rabbitmq/kustomization.yaml"));
    let comment = comment.expect("it is there");
    let url = comment.split("amqp-url=").nth(1).and_then(|rest| rest.lines().next()).expect("a URL");
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), url).expect("it is written");
    let settings = [
        ("POSTERN_AMQP_URL_FILE", file.path().to_str().expect("a path")),
        ("POSTERN_AMQP_MODE", value("POSTERN_AMQP_MODE")),
    ];
    for runtime in Runtime::BOTH {
        let shown = Postern::settings(runtime, &settings);
        assert_eq!(shown["POSTERN_AMQP_MODE"], "each", "{runtime}");
    }
}

#[test]
fn component_of_redis_has_its_password_in_a_file_and_can_be_reached() {
    let manifests = Manifests::with_component("redis");
    for version in ["1.27", "1.37"] {
        let complaints = manifests.complaints(version);
        assert!(complaints.is_empty(), "Kubernetes {version}: {complaints}");
    }
    let variables = manifests.container()["env"].as_array().expect("a list");
    let value = |name: &str| {
        let variable = variables.iter().find(|variable| variable["name"] == name);
        variable.unwrap_or_else(|| panic!("no {name}"))["value"].as_str().expect("a text")
    };
    let server = &manifests.one("StatefulSet", "postern-redis")["spec"];
    let container = &server["template"]["spec"]["containers"][0];
    let service = &manifests.one("Service", "postern-redis")["spec"];
    let policy = &manifests.one("NetworkPolicy", "postern-redis")["spec"];
    let labels = &server["template"]["metadata"]["labels"];
    for selector in [
        &server["selector"]["matchLabels"],
        &service["selector"],
        &policy["podSelector"]["matchLabels"],
        &manifests.one("NetworkPolicy", "postern")["spec"]["egress"][0]["to"][0]["podSelector"]["matchLabels"],
    ] {
        assert_eq!(selector, labels);
    }
    assert_eq!(
        policy["ingress"][0]["from"][0]["podSelector"],
        manifests.one("Deployment", "postern")["spec"]["selector"]
    );
    let port = &service["ports"][0]["port"];
    assert_eq!(*port, container["ports"][0]["containerPort"]);
    assert_eq!(value("POSTERN_REDIS_URL"), format!("redis://postern-redis:{port}"));
    let key = &container["env"][0]["valueFrom"]["secretKeyRef"];
    let file = value("POSTERN_REDIS_PASSWORD_FILE").strip_prefix("/run/secrets/postern/");
    assert_eq!((key["name"].as_str(), key["key"].as_str()), (Some("postern"), file));
    let password = tempfile::NamedTempFile::new().expect("a file");
    fs::write(password.path(), "secret").expect("it is written");
    let settings = [
        ("POSTERN_ENGINE", value("POSTERN_ENGINE")),
        ("POSTERN_REDIS_URL", value("POSTERN_REDIS_URL")),
        ("POSTERN_REDIS_PASSWORD_FILE", password.path().to_str().expect("a path")),
    ];
    for runtime in Runtime::BOTH {
        let shown = Postern::settings(runtime, &settings);
        assert_eq!(shown["POSTERN_ENGINE"], "redis", "{runtime}");
    }
}

#[test]
fn schemas_and_types_reject_mistakes() {
    let manifests = Manifests::shipped();
    for (kind, name, place, value) in [
        ("Deployment", "postern", "/spec/template/spec/securityContext/runAsNonRott", json!(true)),
        ("NetworkPolicy", "postern", "/spec/ingress/0/from", json!("traefik")),
        ("Middleware", "identity-jwt-validate", "/spec/forwardAuth/authResponseHeader", json!(["A"])),
        ("IngressRoute", "postern", "/spec/routes/0/services/0/prot", json!(8080)),
    ] {
        let complaints = manifests.changed(kind, name, place, value).only(kind).complaints("1.37");
        let field = place.rsplit('/').next().expect("a field");
        assert!(complaints.contains(field), "{kind} {place}: {complaints:?}");
    }
}

#[test]
fn every_selector_selects_the_pods() {
    let manifests = Manifests::shipped();
    let deployment = &manifests.one("Deployment", "postern")["spec"];
    let labels = &deployment["template"]["metadata"]["labels"];
    let spreads = manifests.pod()["topologySpreadConstraints"].as_array().expect("a list");
    let selectors = [
        &deployment["selector"]["matchLabels"],
        &manifests.one("Service", "postern")["spec"]["selector"],
        &manifests.one("Service", "postern-control")["spec"]["selector"],
        &manifests.one("PodDisruptionBudget", "postern")["spec"]["selector"]["matchLabels"],
        &manifests.one("NetworkPolicy", "postern")["spec"]["podSelector"]["matchLabels"],
    ];
    let of_spreads = spreads.iter().map(|spread| &spread["labelSelector"]["matchLabels"]);
    for selector in selectors.into_iter().chain(of_spreads) {
        let selector = selector.as_object().expect("labels");
        let is_selected = selector.iter().all(|(name, value)| labels[name] == *value);
        assert!(is_selected && !selector.is_empty(), "{selector:?} does not select {labels}");
    }
    // A selector selects only pods of its namespace.
    for manifest in manifests.all().iter().filter(|manifest| manifest["kind"] != "Namespace") {
        assert_eq!(manifest["metadata"]["namespace"], "postern", "{manifest}");
    }
}

/// Returns the number of a port of the container, which is named by its name or number.
#[track_caller]
fn port(container: &Value, port: &Value) -> u64 {
    let ports = container["ports"].as_array().expect("ports");
    let number = ports.iter().find(|known| known["name"] == *port || known["containerPort"] == *port);
    number.and_then(|port| port["containerPort"].as_u64()).unwrap_or_else(|| panic!("no port {port}"))
}

#[test]
fn services_probes_and_routes_name_the_ports_of_postern() {
    let manifests = Manifests::shipped();
    let (container, environment) = (manifests.container(), manifests.environment());
    let service = &manifests.one("Service", "postern")["spec"]["ports"];
    assert_eq!(service.as_array().map(Vec::len), Some(1), "the Service for users has no control port");
    let data = port(container, &service[0]["targetPort"]);
    assert_eq!(environment["PORT"], data.to_string());
    assert_eq!(service[0]["port"], data);
    let route = &manifests.one("IngressRoute", "postern")["spec"]["routes"][0]["services"];
    assert_eq!(*route, json!([{ "name": "postern", "port": service[0]["name"] }]));

    let control: SocketAddr = environment["POSTERN_CONTROL"].parse().expect("an address");
    assert!(control.ip().is_unspecified(), "the kubelet uses the pod's address");
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let asked = port(container, &container[probe]["httpGet"]["port"]);
        assert_eq!(asked, u64::from(control.port()), "{probe}");
    }
    // Its name resolves to each pod, even if it is not ready.
    let headless = &manifests.one("Service", "postern-control")["spec"];
    assert_eq!(
        (&headless["clusterIP"], &headless["publishNotReadyAddresses"]),
        (&json!("None"), &json!(true))
    );
    let [ref offered] = headless["ports"].as_array().expect("ports")[..] else { panic!("{headless}") };
    assert_eq!(offered["port"], control.port());
    assert_eq!(port(container, &offered["targetPort"]), u64::from(control.port()));
    let pod = &manifests.one("Deployment", "postern")["spec"]["template"];
    assert_eq!(pod["metadata"]["annotations"]["prometheus.io/port"], control.port().to_string());
    assert_eq!(container["image"], format!("postern:{}", env!("CARGO_PKG_VERSION")));
}

/// The files of the pod's Secret in another folder, and the pod's settings with the paths of these files.
struct Pod {
    secrets: TempDir,
    environment: BTreeMap<String, String>,
}

impl Pod {
    #[track_caller]
    fn of(manifests: &Manifests) -> Self {
        let secrets = tempfile::tempdir().expect("a folder");
        let container = manifests.container();
        let [ref mount] = container["volumeMounts"].as_array().expect("mounts")[..] else {
            panic!("{container}");
        };
        assert_eq!(
            manifests.pod()["volumes"],
            json!([{
                "name": mount["name"],
                "secret": { "secretName": "postern", "defaultMode": 0o440 },
            }])
        );
        let mounted = Path::new(mount["mountPath"].as_str().expect("a path"));
        let mut environment = manifests.environment();
        for (name, value) in &mut environment {
            if name.ends_with("_FILE") {
                let key = Path::new(value).strip_prefix(mounted).expect("a file of the Secret").to_owned();
                let path = secrets.path().join(key);
                let kind = if name.contains("PROXY") { Kind::ProxySecret } else { Kind::Setting };
                fs::write(&path, canary::mint(kind) + "\n").expect("a secret");
                *value = path.to_str().expect("a path").to_owned();
            }
        }
        Self { secrets, environment }
    }

    #[track_caller]
    fn secret(&self, key: &str) -> String {
        let secret = fs::read_to_string(self.secrets.path().join(key)).expect("a secret");
        secret.trim_end().to_owned()
    }

    fn settings(&self) -> Vec<(&str, &str)> {
        self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    /// Starts Postern with these settings, on ports of this host.
    #[track_caller]
    fn start(&self, runtime: Runtime) -> Postern {
        let of_host = ["PORT", "POSTERN_CONTROL"];
        let mut settings = self.settings();
        settings.retain(|(name, _)| !of_host.contains(name));
        // The default, which the pod has. The harness sets another grace, and a key.
        settings.extend([("POSTERN_DRAIN_GRACE", "5s"), ("POSTERN_API_KEY", "")]);
        Postern::start_with_control(runtime, &settings)
    }
}

#[test]
fn both_binaries_use_the_settings_of_the_pod() {
    for (how, manifests) in both_ways() {
        let pod = Pod::of(&manifests);
        for runtime in Runtime::BOTH {
            let settings = Postern::settings(runtime, &pod.settings());
            for (name, value) in pod.settings() {
                assert_eq!(settings[name], value, "{runtime} {how}: {name}");
            }
            let seconds = |name: &str| -> u64 {
                settings[name].strip_suffix('s').and_then(|number| number.parse().ok()).expect("seconds")
            };
            let grace = manifests.pod()["terminationGracePeriodSeconds"].as_u64().expect("a number");
            assert!(grace > seconds("POSTERN_DRAIN_HARD") + 5, "{runtime}");
            // After POST /api/drain the pod leaves the Service before it stops accepting.
            let probe = &manifests.container()["readinessProbe"];
            let number = |field: &str| probe[field].as_u64().expect("a number");
            let noticed = number("periodSeconds") * number("failureThreshold");
            assert!(noticed < seconds("POSTERN_DRAIN_GRACE"), "{runtime}");
        }
    }
    let environment = Manifests::shipped().environment();
    for (name, value) in settings_in("deploy/production.env") {
        assert_eq!(environment.get(name).map(String::as_str), Some(value), "{name}");
    }
}

#[test]
fn probes_and_api_respond_with_the_settings_of_the_pod() {
    let manifests = Manifests::shipped();
    let pod = Pod::of(&manifests);
    for runtime in Runtime::BOTH {
        let mut postern = pod.start(runtime);
        let probe = |postern: &Postern, name: &str| {
            postern.get(manifests.container()[name]["httpGet"]["path"].as_str().expect("a path")).status
        };
        for name in ["startupProbe", "livenessProbe", "readinessProbe"] {
            assert_eq!(probe(&postern, name), 200, "{runtime}: {name}");
        }
        let info = |key: &str| {
            let headers = [("X-API-Key", key)];
            http::request(postern.control(), "GET", "/api/info", &headers, b"").expect("a response").status
        };
        assert_eq!((info(&pod.secret("api-key")), info("another-key-of-24-digits")), (200, 401), "{runtime}");
        // The addresses of this host are not trusted, because a gateway has one of a private network.
        assert_eq!(postern.john().status(), 403, "{runtime}");
        postern.process.signal(Signal::TERM).expect("a signal");
        postern.wait_for("draining");
        assert_eq!(
            (probe(&postern, "readinessProbe"), probe(&postern, "livenessProbe")),
            (503, 200),
            "{runtime}"
        );
    }
}

/// The namespace enforces the standard `restricted`. These fields go beyond it, or are not checked by it.
#[test]
fn pod_has_no_privileges() {
    let manifests = Manifests::shipped();
    let labels = &manifests.one("Namespace", "postern")["metadata"]["labels"];
    assert_eq!(labels["pod-security.kubernetes.io/enforce"], "restricted");
    let (pod, container) = (manifests.pod(), manifests.container());
    for (place, expected) in [
        (&pod["securityContext"]["runAsUser"], json!(65532)),
        (&pod["securityContext"]["runAsGroup"], json!(65532)),
        (&pod["automountServiceAccountToken"], json!(false)),
        (&pod["enableServiceLinks"], json!(false)),
        (&container["securityContext"]["readOnlyRootFilesystem"], json!(true)),
        (&container["securityContext"]["capabilities"], json!({ "drop": ["ALL"] })),
        (
            &manifests.one("Deployment", "postern")["spec"]["strategy"]["rollingUpdate"],
            json!({ "maxSurge": 1, "maxUnavailable": 0 }),
        ),
    ] {
        assert_eq!(*place, expected);
    }
    for kind in ["requests", "limits"] {
        for resource in ["cpu", "memory"] {
            assert!(container["resources"][kind][resource].is_string(), "{kind} of {resource}");
        }
    }
}

#[test]
fn network_policy_admits_the_gateway_prometheus_and_labelled_backends() {
    let manifests = Manifests::shipped();
    let policy = &manifests.one("NetworkPolicy", "postern")["spec"];
    assert_eq!((&policy["policyTypes"], &policy["egress"]), (&json!(["Ingress", "Egress"]), &json!([])));
    let container = manifests.container();
    // A field that is missing, such as a selector or the ports, would admit more.
    let rule = |namespace: &str, label: Value, name: &str| {
        json!({
            "from": [{
                "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": namespace } },
                "podSelector": { "matchLabels": label },
            }],
            "ports": [{ "port": port(container, &json!(name)), "protocol": "TCP" }],
        })
    };
    let expected = json!([
        rule("traefik", json!({ "app.kubernetes.io/name": "traefik" }), "websocket"),
        rule("monitoring", json!({ "app.kubernetes.io/name": "prometheus" }), "control"),
        rule("postern", json!({ "postern-api": "allowed" }), "control"),
    ]);
    assert_eq!(policy["ingress"], expected);
}

#[test]
fn middleware_and_path_are_those_of_the_chain_without_kubernetes() {
    let manifests = Manifests::shipped();
    let text = fs::read_to_string(workspace::path("deploy/traefik/dynamic.yaml")).expect("it is there");
    let shipped: Value = serde_saphyr::from_str(&text).expect("YAML");
    let name = "identity-jwt-validate";
    let (mut here, mut there) = (
        manifests.one("Middleware", name)["spec"]["forwardAuth"].clone(),
        shipped["http"]["middlewares"][name]["forwardAuth"].clone(),
    );
    for forward_auth in [&mut here, &mut there] {
        let address = forward_auth.as_object_mut().and_then(|fields| fields.remove("address"));
        let address = address.expect("an address");
        assert!(address.as_str().is_some_and(|address| address.ends_with("/identity/validate")), "{address}");
    }
    assert_eq!(here, there);
    assert!(here["authResponseHeaders"].as_array().is_some_and(|headers| headers.len() >= 3));
    let rule = shipped["http"]["routers"]["websocket-router"]["rule"].as_str().expect("a rule");
    let route = &manifests.one("IngressRoute", "postern")["spec"]["routes"][0];
    let (host, path) = route["match"].as_str().and_then(|rule| rule.split_once(" && ")).expect("a rule");
    assert!(host.starts_with("Host(`") && path == format!("({rule})"), "{host} {path}");
    assert_eq!(route["middlewares"][0]["name"], name);
}

/// Starts a real Traefik with the middlewares and the route of the manifests in a file.
#[track_caller]
fn traefik(
    manifests: &Manifests,
    identity: SocketAddr,
    postern: SocketAddr,
    secret: &str,
) -> (TempDir, SocketAddr, Process) {
    let mut middlewares = Map::new();
    for manifest in manifests.all().iter().filter(|manifest| manifest["kind"] == "Middleware") {
        let name = manifest["metadata"]["name"].as_str().expect("a name");
        let mut spec = manifest["spec"].clone();
        if let Some(address) = spec.pointer_mut("/forwardAuth/address") {
            *address = json!(format!("http://{identity}/identity/validate"));
        }
        if let Some(header) = spec.pointer_mut("/headers/customRequestHeaders/X-Postern-Secret") {
            *header = json!(secret);
        }
        middlewares.insert(name.to_owned(), spec);
    }
    let route = &manifests.one("IngressRoute", "postern")["spec"]["routes"][0];
    let names: Vec<_> =
        route["middlewares"].as_array().expect("a list").iter().map(|entry| &entry["name"]).collect();
    let routes = json!({ "http": {
        "middlewares": middlewares,
        "routers": { "postern": { "rule": route["match"], "middlewares": names, "service": "postern" } },
        "services": { "postern": { "loadBalancer": { "servers": [{ "url": format!("http://{postern}") }] } } },
    } });
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("dynamic.yaml"), routes.to_string()).expect("it is written");
    let address = ports::free();
    let text = postern_chain::gateway::traefik_on(address).expect("the file is as shipped");
    fs::write(folder.path().join("traefik.yaml"), text).expect("it is written");
    let mut command = Command::new(provision::traefik().expect("Traefik"));
    command.current_dir(folder.path()).arg("--configFile=traefik.yaml");
    let mut process = Process::spawn("traefik", &mut command).expect("it starts");
    process.wait_until_listening(address, PATIENCE).expect("it listens");
    (folder, address, process)
}

#[test]
fn real_traefik_routes_to_both_binaries_by_the_manifests() {
    let identity = Identity::start();
    let token = identity.login("john@example.com");
    for (how, manifests) in both_ways() {
        let is_secret = how != "as shipped";
        for runtime in Runtime::BOTH {
            let mut pod = Pod::of(&manifests);
            let trusted = pod.environment.get_mut("POSTERN_TRUSTED_PROXIES").expect("it is set");
            trusted.push_str(",loopback");
            let postern = pod.start(runtime);
            let secret = if is_secret { pod.secret("proxy-secret") } else { String::new() };
            let (_folder, gateway, _traefik) =
                traefik(&manifests, identity.address(), postern.address(), &secret);
            let handshake = || Handshake::to(gateway).instead("Host", "app.example.com");
            // Traefik listens before it has read its routes.
            wait_until("Traefik has routes", || handshake().status() != 404);
            assert_eq!(handshake().status(), 401, "{runtime} {how}: without a token");
            assert_eq!(Handshake::to(gateway).bearer(&token).status(), 404, "{runtime}: another host");
            let guess = "a-guess-of-a-client";
            let claims =
                handshake().bearer(&token).header("User-ID", "456").header("X-Postern-Secret", guess);
            for handshake in [handshake().bearer(&token), claims] {
                let mut open = handshake.open();
                open.echo("Hello");
                open.close();
            }
            // The shipped settings mask e-mail addresses.
            postern.wait_for_count("User: John Doe (j***@e***.com) - ID: 123", 2);
            // A client at a trusted address that is not the gateway.
            let status = postern.john().status();
            assert_eq!(status, if is_secret { 403 } else { 101 }, "{runtime} {how}");
        }
    }
}

/// Ten times the time that a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(30);
