//! `deploy/compose.yaml` as Compose reads it, in both profiles: the networks, and the confinement of each container. No
//! container runs here; `.ci/image` checks the images.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Command, Output};

use postern_tests::postern::{Postern, Runtime};
use postern_tests::{provision, settings_in, workspace};
use serde_json::{Map, Value, json};

const PROFILES: [&str; 2] = ["dev", "prod"];
const FILE: &str = "deploy/compose.yaml";

/// The output of Compose for the file and these variables.
struct Project {
    text: Value,
    profile: &'static str,
}

impl Project {
    fn new(profile: &'static str, variables: &[(&str, &str)]) -> Self {
        let output = compose(profile, variables);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "profile {profile}: {said}");
        Self { text: serde_json::from_slice(&output.stdout).expect("JSON"), profile }
    }

    /// Returns the services of the profile: Compose prints all.
    fn services(&self) -> BTreeMap<&str, &Value> {
        let services = object(&self.text["services"]).iter();
        services
            .filter(|(_, service)| strings(&service["profiles"]).contains(self.profile))
            .map(|(name, service)| (name.as_str(), service))
            .collect()
    }

    /// Returns the service that runs Postern, with its name.
    fn postern(&self) -> (&str, &Value) {
        let mut services = self.services().into_iter();
        services.find(|(name, _)| name.starts_with("websocket")).expect("one service is Postern")
    }

    /// Returns the services on this network.
    fn members(&self, network: &str) -> BTreeSet<&str> {
        let services = self.services().into_iter();
        services
            .filter(|(_, service)| object(&service["networks"]).contains_key(network))
            .map(|(name, _)| name)
            .collect()
    }
}

/// Runs `docker-compose config`, and converts its output into JSON.
fn compose(profile: &str, variables: &[(&str, &str)]) -> Output {
    const SCRIPT: &str = "
import json, subprocess, sys, yaml
done = subprocess.run([sys.executable, '-m', 'compose', *sys.argv[1:]], stdout=subprocess.PIPE)
json.dump(yaml.safe_load(done.stdout), sys.stdout)
sys.exit(done.returncode)
";
    let packages = provision::docker_compose().unwrap_or_else(|failure| panic!("{failure}"));
    // Not in the folder of deploy/.env, which belongs to the developer.
    let folder = tempfile::tempdir().expect("a temporary folder");
    Command::new("python3")
        .args(["-c", SCRIPT, "--file"])
        .arg(workspace::path(FILE))
        .arg("--project-directory")
        .arg(folder.path())
        .args(["--profile", profile, "config"])
        .current_dir(&folder)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", folder.path())
        .env("PYTHONPATH", packages)
        .envs(variables.iter().copied())
        .output()
        .expect("python3 runs")
}

/// Returns both profiles with the variables of `.env.example`, and a secret.
fn both() -> [Project; 2] {
    let mut variables = settings_in("deploy/.env.example");
    variables.push(("JWT_SECRET", "an-example"));
    PROFILES.map(|profile| Project::new(profile, &variables))
}

#[track_caller]
fn object(value: &Value) -> &Map<String, Value> {
    value.as_object().unwrap_or_else(|| panic!("not an object: {value}"))
}

#[track_caller]
fn strings(value: &Value) -> BTreeSet<&str> {
    value.as_array().into_iter().flatten().map(|item| item.as_str().expect("a string")).collect()
}

/// Returns the environment of a service, as text.
#[track_caller]
fn environment(service: &Value) -> BTreeMap<&str, &str> {
    let variables = object(&service["environment"]).iter();
    variables.map(|(name, value)| (name.as_str(), value.as_str().expect("a string"))).collect()
}

#[track_caller]
fn seconds(text: &str) -> u64 {
    text.strip_suffix('s')
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("not seconds: {text}"))
}

#[test]
fn only_the_gateway_has_a_port() {
    for project in both() {
        let with_ports: Vec<_> =
            project.services().into_iter().filter(|(_, service)| !service["ports"].is_null()).collect();
        let [(name, service)] = with_ports[..] else { panic!("not one service: {with_ports:?}") };
        assert_eq!(name, "traefik");
        assert_eq!(service["ports"], json!([{"published": 9191, "target": 9191}]));
        for (name, service) in project.services() {
            assert!(service["network_mode"].is_null(), "{name} does not use the networks");
        }
    }
    let other = Project::new("prod", &[("JWT_SECRET", "x"), ("HOST_PORT", "8083")]);
    assert_eq!(other.services()["traefik"]["ports"][0]["published"], 8083);
    assert_eq!(other.services()["traefik"]["ports"][0]["target"], 9191, "the port of deploy/traefik");
}

#[test]
fn only_the_gateway_shares_a_network_with_postern() {
    for project in both() {
        let (postern, service) = project.postern();
        for network in object(&service["networks"]).keys() {
            let mut others = project.members(network);
            others.remove(postern);
            match network.as_str() {
                "websocket" => assert_eq!(others, BTreeSet::from(["traefik"])),
                // For backends, which this file does not contain, and for services of other profiles.
                "backends" | "broker" => assert_eq!(others, BTreeSet::new()),
                // Access to the outside.
                "crates" => {
                    assert_eq!((project.profile, others), ("dev", BTreeSet::new()));
                }
                other => panic!("{postern} is on {other}"),
            }
        }
        assert_eq!(project.members("identity"), BTreeSet::from(["identity", "traefik"]));
        for inner in ["websocket", "identity", "backends", "broker"] {
            assert_eq!(project.text["networks"][inner]["internal"], true, "{inner}");
        }
    }
}

/// A backend or Prometheus on the network `backends` reaches the control port, and not the gateway's port.
#[test]
fn backends_reach_the_control_port_on_a_network_of_their_own() {
    for project in both() {
        let (name, service) = project.postern();
        let address = |network: &str| -> IpAddr {
            let text = service["networks"][network]["ipv4_address"].as_str().expect("an address");
            let address: Ipv4Addr = text.parse().expect("an address");
            let subnet = &project.text["networks"][network]["ipam"]["config"][0]["subnet"];
            let (prefix, length) =
                subnet.as_str().and_then(|subnet| subnet.split_once('/')).expect("a subnet");
            let prefix: Ipv4Addr = prefix.parse().expect("an address");
            assert_eq!((length, prefix.octets()[..3] == address.octets()[..3]), ("24", true), "{name}");
            address.into()
        };
        let environment = environment(service);
        let at = |setting: &str| environment[setting].parse::<SocketAddr>().expect("an address");
        let (data, control) = (at("POSTERN_LISTEN"), at("POSTERN_CONTROL"));
        assert_eq!((data.ip(), control.ip()), (address("websocket"), address("backends")), "{name}");
        assert_eq!(data.port().to_string(), environment["PORT"], "{name}");
        for network in ["websocket", "backends"] {
            assert_eq!(service["networks"][network]["aliases"], json!(["websocket"]), "{name}");
        }
        // The comment for backends names the control port.
        let text = fs::read_to_string(workspace::path(FILE)).expect("it is there");
        assert!(text.contains(&format!("http://websocket:{}", control.port())), "{control}");
    }
}

#[test]
fn every_container_is_confined_and_has_a_health_check() {
    for project in both() {
        assert_eq!(project.services().len(), 3);
        for (name, service) in project.services() {
            let place = format!("{name} of {}", project.profile);
            for (field, expected) in [
                ("read_only", json!(true)),
                ("cap_drop", json!(["ALL"])),
                ("cap_add", json!(null)),
                ("privileged", json!(null)),
                ("security_opt", json!(["no-new-privileges:true"])),
                ("user", json!("65532:65532")),
                ("restart", json!("unless-stopped")),
            ] {
                assert_eq!(service[field], expected, "{place}: {field}");
            }
            assert!(service["pids_limit"].is_u64(), "{place}");
            assert!(service["logging"]["options"]["max-size"].is_string(), "{place}: its log fills the disk");
            let health = &service["healthcheck"];
            assert_eq!(health["test"][0], "CMD", "{place}: the image has no shell");
            for time in ["interval", "timeout"] {
                seconds(health[time].as_str().unwrap_or_default());
            }
        }
    }
}

#[test]
fn postern_uses_its_environment_and_has_no_secret_of_others() {
    let key = "0123456789abcdef0123456789abcdef";
    let of_backends = [("JWT_SECRET", "x"), ("POSTERN_API_KEY", key)];
    let with_key = PROFILES.map(|profile| Project::new(profile, &of_backends));
    for project in both().into_iter().chain(with_key) {
        let (name, service) = project.postern();
        let environment = environment(service);
        assert!(!environment.contains_key("JWT_SECRET"), "{name} does not need it");
        assert_eq!(environment["POSTERN_TRUSTED_PROXIES"], "private", "{name}");
        let variables: Vec<_> = environment.iter().map(|(name, value)| (*name, *value)).collect();
        for runtime in Runtime::BOTH {
            let settings = Postern::settings(runtime, &variables);
            for (setting, value) in &environment {
                let shown = if *value == key { "***" } else { value };
                assert_eq!(settings[*setting], shown, "{runtime}: {setting}");
            }
            if project.profile == "prod" {
                let hard = &settings["POSTERN_DRAIN_HARD"];
                let grace = seconds(service["stop_grace_period"].as_str().unwrap_or_default());
                assert!(seconds(hard) + 10 <= grace, "{runtime} would be killed while it drains for {hard}");
            }
        }
    }
}

/// With the profile `rabbitmq` there are two Posterns, and a broker that clients cannot reach.
#[test]
fn profiles_of_services_add_a_second_postern_that_differs_in_its_addresses_alone() {
    let url = "amqp://postern:correct-horse-battery@rabbitmq:5672/%2f";
    let variables =
        [("JWT_SECRET", "x"), ("RABBITMQ_PASSWORD", "correct-horse-battery"), ("POSTERN_AMQP_URL", url)];
    let prod = Project::new("prod", &variables);
    let (_, first) = prod.postern();
    for (profile, services) in
        [("rabbitmq", ["rabbitmq", "websocket-2"]), ("redis", ["redis", "websocket-2"])]
    {
        let project = Project::new(profile, &variables);
        assert_eq!(project.services().into_keys().collect::<Vec<_>>(), services);
        let (service, second) = (&project.text["services"][services[0]], project.postern().1);
        assert_eq!(object(&service["networks"]).keys().collect::<Vec<_>>(), ["broker"]);
        for (field, expected) in
            [("read_only", json!(true)), ("cap_drop", json!(["ALL"])), ("ports", json!(null))]
        {
            assert_eq!(service[field], expected, "{profile}: {field}");
        }
        let (mut one, mut other) = (environment(first), environment(second));
        for setting in ["POSTERN_LISTEN", "POSTERN_CONTROL"] {
            let ip = |text: &str| text.parse::<SocketAddr>().expect("an address").ip();
            let network = if setting == "POSTERN_LISTEN" { "websocket" } else { "backends" };
            let address = &second["networks"][network]["ipv4_address"];
            assert_eq!(address, &json!(ip(other[setting]).to_string()), "{setting}");
            assert_ne!(one.remove(setting), other.remove(setting));
        }
        assert_eq!(one, other, "{profile}");
        for network in ["websocket", "backends", "broker"] {
            assert_eq!(
                first["networks"][network]["aliases"], second["networks"][network]["aliases"],
                "{network}"
            );
        }
        assert_eq!(other["POSTERN_AMQP_URL"], url);
        assert_eq!(other["POSTERN_AMQP_MODE"], "each");
        for field in ["image", "user", "read_only", "cap_drop", "mem_limit", "healthcheck", "ulimits"] {
            assert_eq!(first[field], second[field], "{profile}: {field}");
        }
    }
    let broker = &Project::new("rabbitmq", &variables).text["services"]["rabbitmq"];
    assert_eq!(environment(broker)["RABBITMQ_DEFAULT_PASS"], "correct-horse-battery");
}

#[test]
fn limits_for_production_are_the_defaults_and_can_be_set() {
    let example = settings_in("deploy/.env.example");
    let limits = settings_in("deploy/production.env");
    let defaults = Project::new("prod", &[("JWT_SECRET", "x")]);
    let mut changed: Vec<(&str, &str)> = limits.iter().map(|(name, _)| (*name, "7")).collect();
    changed.extend([("JWT_SECRET", "x"), ("PORT", "8099")]);
    let changed = Project::new("prod", &changed);
    for (name, value) in limits {
        assert!(example.contains(&(name, value)), "{name} in .env.example");
        assert_eq!(environment(defaults.postern().1)[name], value, "{name} without a .env");
        assert_eq!(environment(changed.postern().1)[name], "7", "{name} cannot be set");
    }
    assert_eq!(environment(changed.postern().1)["PORT"], "8099");
    assert_eq!(environment(changed.services()["traefik"])["WEBSOCKET_URL"], "http://websocket:8099");
}

#[test]
fn compose_without_a_secret_fails_and_says_what_to_do() {
    assert!(settings_in("deploy/.env.example").contains(&("JWT_SECRET", "")), "no published secret");
    for profile in PROFILES {
        let output = compose(profile, &[]);
        assert!(!output.status.success());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("JWT_SECRET") && said.contains(".env.example"), "{said}");
    }
}

#[test]
fn gateway_has_the_configuration_and_version_of_the_tests() {
    for project in both() {
        let traefik = project.services()["traefik"];
        // The path is relative to the project's folder, which is a temporary one here.
        let volumes = strings(&traefik["volumes"]);
        assert_eq!(volumes.len(), 1);
        assert!(volumes.iter().all(|volume| volume.ends_with("/traefik:/etc/traefik:ro")), "{volumes:?}");
        assert_eq!(
            traefik["working_dir"], "/etc/traefik",
            "the path of the dynamic configuration has no folder"
        );
        // The configuration uses the variables that are set here.
        let routes = fs::read_to_string(workspace::path("deploy/traefik/dynamic.yaml")).expect("it is there");
        let asked: BTreeSet<_> =
            routes.split("{{ env \"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert_eq!(asked, environment(traefik).into_keys().collect());
        let version = provision::traefik().expect("it is provisioned");
        let version = version.parent().and_then(|folder| folder.file_name()).expect("a folder");
        let image = traefik["image"].as_str().expect("a name").replace(":v", "-");
        assert_eq!(image.as_str(), version, "the tests run the version of the image");
    }
}

#[test]
fn every_image_is_a_stage_of_the_dockerfile() {
    let dockerfile = fs::read_to_string(workspace::path("Dockerfile")).expect("it is there");
    for project in both() {
        for (name, service) in project.services() {
            if let Some(stage) = service["build"]["target"].as_str() {
                assert!(
                    dockerfile.contains(&format!(" AS {stage}\n")),
                    "{name}: stage {stage} does not exist"
                );
            } else {
                assert_eq!(name, "traefik", "the others are built");
            }
        }
    }
}
