//! The manifests of `deploy/kubernetes`: put together by kubectl, judged by the schemas, and, where no cluster is needed
//! for it, run: both binaries with the settings of the pod, its probes, and its routes in a real Traefik.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use postern_tests::canary::{self, Kind};
use postern_tests::identity::Identity;
use postern_tests::kubernetes::Manifests;
use postern_tests::postern::{Postern, Runtime};
use postern_tests::process::Process;
use postern_tests::ws::{Handshake, Outcome};
use postern_tests::{http, ports, provision, workspace};
use rustix::process::Signal;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// As it is, and with the component.
fn both_ways() -> [(&'static str, Manifests); 2] {
    [("as it is", Manifests::shipped()), ("with the proxy secret", Manifests::with_proxy_secret())]
}

#[test]
fn kubernetes_and_traefik_know_every_field() {
    for (how, manifests) in both_ways() {
        for version in ["1.27", "1.37"] {
            let complaints = manifests.complaints(version);
            assert!(complaints.is_empty(), "{how}, Kubernetes {version}: {complaints}");
        }
    }
}

#[test]
fn a_mistake_in_a_manifest_is_found() {
    let manifests = Manifests::with_proxy_secret();
    let container = "/spec/template/spec/containers/0";
    for (kind, name, place, value) in [
        ("Deployment", "postern", &*format!("{container}/livenessProbe/periodSeconds"), Some(json!("ten"))),
        ("Deployment", "postern", "/spec/template/spec/securityContext/runAsNonRott", Some(json!(true))),
        ("Deployment", "postern", "/spec/selector", None),
        ("NetworkPolicy", "postern", "/spec/ingress/0/form", Some(json!([]))),
        ("PodDisruptionBudget", "postern", "/spec/selector/matchLabels", Some(json!("postern"))),
        ("Middleware", "identity-jwt-validate", "/spec/forwardAuth/trustForwardHeader", Some(json!("no"))),
        ("Middleware", "identity-jwt-validate", "/spec/forwardAuth/authResponseHeader", Some(json!(["A"]))),
        ("IngressRoute", "postern", "/spec/routes/0/services/0/prot", Some(json!(8080))),
    ] {
        let complaints = manifests.changed(kind, name, place, value).only(kind).complaints("1.37");
        let field = place.rsplit('/').next().expect("a field");
        assert!(complaints.contains(field), "{kind} {place}: {complaints:?}");
    }
}

#[test]
fn every_selector_finds_the_pods() {
    let manifests = Manifests::shipped();
    let deployment = &manifests.one("Deployment", "postern")["spec"];
    let labels = &deployment["template"]["metadata"]["labels"];
    let spreads = deployment["template"]["spec"]["topologySpreadConstraints"].as_array().expect("a list");
    let selectors = [
        &deployment["selector"]["matchLabels"],
        &manifests.one("Service", "postern")["spec"]["selector"],
        &manifests.one("Service", "postern-control")["spec"]["selector"],
        &manifests.one("PodDisruptionBudget", "postern")["spec"]["selector"]["matchLabels"],
        &manifests.one("NetworkPolicy", "postern")["spec"]["podSelector"]["matchLabels"],
    ];
    let of_spreads = spreads.iter().map(|spread| &spread["labelSelector"]["matchLabels"]);
    for selector in selectors.into_iter().chain(of_spreads) {
        assert!(is_selected(selector, labels), "{selector} does not select {labels}");
    }
    // What is not in the namespace of the pods selects nothing.
    for manifest in manifests.all() {
        let (of, name) = if manifest["kind"] == "Namespace" {
            ("name", &manifest["metadata"]["name"])
        } else {
            ("namespace", &manifest["metadata"]["namespace"])
        };
        assert_eq!(name, "postern", "{of} of {manifest}");
    }
}

/// Whether these labels have all that `selector` wants, and it wants something.
fn is_selected(selector: &Value, labels: &Value) -> bool {
    let wanted = selector.as_object().expect("labels");
    !wanted.is_empty() && wanted.iter().all(|(name, value)| labels[name] == *value)
}

/// The number of a port of the container, by its name or itself.
#[track_caller]
fn port(container: &Value, port: &Value) -> u64 {
    let ports = container["ports"].as_array().expect("ports");
    let number = ports.iter().find(|known| known["name"] == *port || known["containerPort"] == *port);
    number.and_then(|port| port["containerPort"].as_u64()).unwrap_or_else(|| panic!("no port {port}"))
}

#[test]
fn every_port_is_where_postern_listens() {
    let manifests = Manifests::shipped();
    let (container, environment) = (manifests.container(), manifests.environment());
    let service = &manifests.one("Service", "postern")["spec"]["ports"];
    assert_eq!(service.as_array().map(Vec::len), Some(1), "users are not led to the control port");
    let data = port(container, &service[0]["targetPort"]);
    assert_eq!(environment["PORT"], data.to_string());
    assert_eq!(service[0]["port"], data);
    let route = &manifests.one("IngressRoute", "postern")["spec"]["routes"][0]["services"];
    assert_eq!(*route, json!([{ "name": "postern", "port": service[0]["name"] }]));

    let control: SocketAddr = environment["POSTERN_CONTROL"].parse().expect("an address");
    assert!(control.ip().is_unspecified(), "the kubelet asks at the pod's address");
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let asked = port(container, &container[probe]["httpGet"]["port"]);
        assert_eq!(asked, u64::from(control.port()), "{probe}");
    }
    // Its name resolves to each pod, ready or not.
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

/// The files that the pod finds where its Secret is mounted, and the settings that lead there, elsewhere.
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
        let volumes = &manifests.one("Deployment", "postern")["spec"]["template"]["spec"]["volumes"];
        assert_eq!(
            *volumes,
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

    /// Starts it, with a control port and on a port of this machine. Gives the address of its control port.
    #[track_caller]
    fn start(&mut self, runtime: Runtime) -> (Postern, SocketAddr) {
        self.environment.remove("PORT");
        let control = ports::free();
        self.environment.insert("POSTERN_CONTROL".to_owned(), control.to_string());
        let mut settings = self.settings();
        // Not the nought of the tests: the pod has the default.
        settings.push(("POSTERN_DRAIN_GRACE", "5s"));
        let mut postern = Postern::start(runtime, &settings);
        postern.process.wait_until_listening(control, PATIENCE).expect("its control port listens");
        (postern, control)
    }
}

/// What `--print-config` says of this setting.
#[track_caller]
fn shown(lines: &[String], setting: &str) -> String {
    let value = lines.iter().find_map(|line| line.strip_prefix(setting)?.strip_prefix('='));
    value.and_then(|value| value.split_whitespace().next()).unwrap_or_else(|| panic!("{setting}")).to_owned()
}

/// In whole seconds.
#[track_caller]
fn seconds(lines: &[String], setting: &str) -> u64 {
    shown(lines, setting).strip_suffix('s').and_then(|number| number.parse().ok()).expect("seconds")
}

#[test]
fn both_take_the_settings_of_the_pod() {
    for (how, manifests) in both_ways() {
        let pod = Pod::of(&manifests);
        for runtime in Runtime::BOTH {
            let lines = Postern::print_config(runtime, &pod.settings());
            for (name, value) in pod.settings() {
                assert_eq!(shown(&lines, name), value, "{runtime} {how}");
            }
            let deployment = &manifests.one("Deployment", "postern")["spec"]["template"]["spec"];
            let grace = deployment["terminationGracePeriodSeconds"].as_u64().expect("a number");
            assert!(grace > seconds(&lines, "POSTERN_DRAIN_HARD") + 5, "{runtime}");
            // Who is told to drain by /api is out of the Service before it stops accepting.
            let probe = &manifests.container()["readinessProbe"];
            let number = |field: &str| probe[field].as_u64().expect("a number");
            let noticed = number("periodSeconds") * number("failureThreshold");
            assert!(noticed < seconds(&lines, "POSTERN_DRAIN_GRACE"), "{runtime}");
        }
    }
    // The limits are those that are recommended everywhere.
    let production = fs::read_to_string(workspace::path("deploy/production.env")).expect("it is there");
    let environment = Manifests::shipped().environment();
    let limits =
        production.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
    for (name, value) in limits {
        assert_eq!(environment.get(name).map(String::as_str), Some(value), "{name}");
    }
}

/// Kubernetes gives every pod the addresses of the namespace's Services, unless it is told not to.
#[test]
fn the_names_of_the_service_in_the_environment_of_a_pod_cost_nothing() {
    let manifests = Manifests::shipped();
    let service = manifests.one("Service", "postern")["metadata"]["name"].as_str().expect("a name");
    let name = format!("{}_SERVICE_HOST", service.to_uppercase());
    for runtime in Runtime::BOTH {
        let printed = Postern::print_config(runtime, &[(&name, "10.96.0.7")]);
        let warnings = printed.iter().filter(|line| line.contains(&name)).count();
        assert_eq!(warnings, 1, "{runtime}: {printed:?}");
    }
    let pod = &manifests.one("Deployment", "postern")["spec"]["template"]["spec"];
    assert_eq!(pod["enableServiceLinks"], false);
}

#[test]
fn the_probes_say_how_it_is() {
    let manifests = Manifests::shipped();
    let mut pod = Pod::of(&manifests);
    for runtime in Runtime::BOTH {
        let (mut postern, control) = pod.start(runtime);
        let probe = |name: &str| {
            let path = manifests.container()[name]["httpGet"]["path"].as_str().expect("a path");
            http::request(control, "GET", path, &[], b"").expect("an answer").status
        };
        for name in ["startupProbe", "livenessProbe", "readinessProbe"] {
            assert_eq!(probe(name), 200, "{runtime}: {name}");
        }
        let info = |key: &str| {
            let headers = [("X-API-Key", key)];
            http::request(control, "GET", "/api/info", &headers, b"").expect("an answer").status
        };
        assert_eq!((info(&pod.secret("api-key")), info("another-key-of-24-digits")), (200, 401), "{runtime}");
        // This host is not in a private network, so nobody here is the gateway.
        assert_eq!(Handshake::to(postern.address()).as_john().refused().status, 403, "{runtime}");
        postern.process.signal(Signal::TERM).expect("a signal");
        postern.wait_for("draining");
        assert_eq!((probe("readinessProbe"), probe("livenessProbe")), (503, 200), "{runtime}");
    }
}

/// The standard `restricted`, which the namespace demands, and what goes beyond it.
#[test]
fn the_pod_may_do_next_to_nothing() {
    let manifests = Manifests::shipped();
    let labels = &manifests.one("Namespace", "postern")["metadata"]["labels"];
    assert_eq!(labels["pod-security.kubernetes.io/enforce"], "restricted");
    let pod = &manifests.one("Deployment", "postern")["spec"]["template"]["spec"];
    assert_eq!(
        pod["securityContext"],
        json!({
            "runAsNonRoot": true,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "fsGroup": 65532,
            "seccompProfile": { "type": "RuntimeDefault" },
        })
    );
    assert_eq!(pod["automountServiceAccountToken"], false);
    for field in ["hostNetwork", "hostPID", "hostIPC", "initContainers"] {
        assert!(pod[field].is_null(), "{field}");
    }
    let container = manifests.container();
    assert_eq!(
        container["securityContext"],
        json!({
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": { "drop": ["ALL"] },
        })
    );
    for kind in ["requests", "limits"] {
        for resource in ["cpu", "memory"] {
            assert!(container["resources"][kind][resource].is_string(), "{kind} of {resource}");
        }
    }
    let strategy = &manifests.one("Deployment", "postern")["spec"]["strategy"];
    assert_eq!(strategy["rollingUpdate"], json!({ "maxSurge": 1, "maxUnavailable": 0 }));
}

/// Whether a NetworkPolicy lets a pod with these labels, in a namespace of this name, come to this port.
fn admits(policy: &Value, namespace: &str, pod: &Value, port: u64) -> bool {
    let namespace = json!({ "kubernetes.io/metadata.name": namespace });
    let is_peer = |peer: &Value| {
        // What is left out admits more; so nothing may be.
        assert_eq!(peer.as_object().map(Map::len), Some(2), "{peer}");
        is_selected(&peer["namespaceSelector"]["matchLabels"], &namespace)
            && is_selected(&peer["podSelector"]["matchLabels"], pod)
    };
    policy["spec"]["ingress"].as_array().expect("rules").iter().any(|rule| {
        let (from, ports) =
            (rule["from"].as_array().expect("peers"), rule["ports"].as_array().expect("ports"));
        assert!(!from.is_empty() && !ports.is_empty(), "{rule} admits everybody, or everywhere");
        from.iter().any(is_peer) && ports.iter().any(|known| known["port"] == port)
    })
}

#[test]
fn only_the_gateway_reaches_the_port_for_users() {
    let manifests = Manifests::shipped();
    let policy = manifests.one("NetworkPolicy", "postern");
    assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
    assert_eq!(policy["spec"]["egress"], json!([]));
    let container = manifests.container();
    let (data, control) = (port(container, &json!("websocket")), port(container, &json!("control")));
    let named = |name: &str| json!({ "app.kubernetes.io/name": name });
    for (namespace, pod, to_data, to_control) in [
        ("traefik", "traefik", true, false),
        ("monitoring", "prometheus", false, true),
        ("traefik", "whoami", false, false),
        ("default", "traefik", false, false),
        ("monitoring", "grafana", false, false),
        ("default", "prometheus", false, false),
        ("postern", "postern", false, false),
    ] {
        let admitted =
            (admits(policy, namespace, &named(pod), data), admits(policy, namespace, &named(pod), control));
        assert_eq!(admitted, (to_data, to_control), "{pod} in {namespace}");
    }
    // A backend is let in by its own label, whatever it is called.
    let backend = json!({ "app.kubernetes.io/name": "orders", "postern-api": "allowed" });
    for (namespace, pod, to_control) in [
        ("postern", &backend, true),
        ("default", &backend, false),
        ("postern", &json!({ "app.kubernetes.io/name": "orders" }), false),
        ("postern", &json!({ "postern-api": "denied" }), false),
    ] {
        let admitted = (admits(policy, namespace, pod, data), admits(policy, namespace, pod, control));
        assert_eq!(admitted, (false, to_control), "{pod} in {namespace}");
    }
}

/// The routes of the chain without Kubernetes, which the other tests run.
fn shipped_routes() -> Value {
    let text = fs::read_to_string(workspace::path("deploy/traefik/dynamic.yaml")).expect("it is there");
    serde_saphyr::from_str(&text).expect("YAML")
}

#[test]
fn identity_is_asked_as_without_kubernetes() {
    let manifests = Manifests::shipped();
    let shipped = shipped_routes();
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
    assert!(host.starts_with("Host(`") && path == rule, "{host} {path}");
    assert_eq!(route["middlewares"][0]["name"], name);
}

/// A real Traefik with the middlewares and the route of the manifests, as its provider for files takes them.
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
fn the_routes_lead_to_both_through_a_real_traefik() {
    let identity = Identity::start();
    let token = identity.login("john@example.com");
    for (how, manifests) in both_ways() {
        let is_secret = how != "as it is";
        for runtime in Runtime::BOTH {
            let mut pod = Pod::of(&manifests);
            let trusted = pod.environment.get_mut("POSTERN_TRUSTED_PROXIES").expect("it is set");
            trusted.push_str(",loopback");
            let (postern, _) = pod.start(runtime);
            let secret = if is_secret { pod.secret("proxy-secret") } else { String::new() };
            let (_folder, gateway, _traefik) =
                traefik(&manifests, identity.address(), postern.address(), &secret);
            let handshake = || Handshake::to(gateway).instead("Host", "app.example.com");
            let deadline = Instant::now() + PATIENCE;
            // It listens a moment before it has read its routes.
            let refusal = loop {
                let refusal = handshake().refused();
                if refusal.status != 404 || Instant::now() > deadline {
                    break refusal;
                }
                thread::sleep(Duration::from_millis(20));
            };
            assert_eq!(refusal.status, 401, "{runtime} {how}: nobody without a token");
            assert_eq!(
                Handshake::to(gateway).bearer(&token).refused().status,
                404,
                "{runtime}: another host"
            );
            let guess = "a-guess-of-a-client";
            let claims =
                handshake().bearer(&token).header("User-ID", "456").header("X-Postern-Secret", guess);
            for handshake in [handshake().bearer(&token), claims] {
                let mut open = handshake.open();
                open.echo("Hello");
                open.close();
            }
            // The shipped settings mask e-mail addresses.
            let is_john = |line: &String| line.contains("User: John Doe (j***@e***.com) - ID: 123");
            while postern.log().iter().filter(|line| is_john(line)).count() < 2 {
                assert!(Instant::now() < deadline, "{runtime} {how}: {:#?}", postern.log());
                thread::sleep(Duration::from_millis(20));
            }
            // Whoever comes past the gateway, from a trusted address.
            let past = Handshake::to(postern.address()).as_john().send().expect("an answer");
            match past {
                Outcome::Open(_) => assert!(!is_secret, "{runtime} {how}"),
                Outcome::Refused(refusal) => assert!(is_secret && refusal.status == 403, "{runtime} {how}"),
            }
        }
    }
}

/// Ten times what a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(30);
