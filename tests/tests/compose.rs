//! `deploy/compose.yaml` as Compose itself understands it, in both profiles: who can reach whom, and how each container
//! is confined. No container runs here; what is in the images is looked at by `.ci/image`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Command, Output};

use postern_tests::postern::{Postern, Runtime};
use postern_tests::{provision, workspace};
use serde_json::{Map, Value};

const PROFILES: [&str; 2] = ["dev", "prod"];
const FILE: &str = "deploy/compose.yaml";

/// What Compose makes of the file with these variables.
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

    /// The services of the profile: Compose prints all.
    fn services(&self) -> BTreeMap<&str, &Value> {
        let services = object(&self.text["services"]).iter();
        services
            .filter(|(_, service)| strings(&service["profiles"]).contains(self.profile))
            .map(|(name, service)| (name.as_str(), service))
            .collect()
    }

    /// The service that runs Postern, with its name.
    fn postern(&self) -> (&str, &Value) {
        let mut services = self.services().into_iter();
        services.find(|(name, _)| name.starts_with("websocket")).expect("one service is Postern")
    }

    /// Who is on this network.
    fn members(&self, network: &str) -> BTreeSet<&str> {
        let services = self.services().into_iter();
        services
            .filter(|(_, service)| object(&service["networks"]).contains_key(network))
            .map(|(name, _)| name)
            .collect()
    }
}

/// Runs `docker-compose config` and turns what it prints into JSON.
fn compose(profile: &str, variables: &[(&str, &str)]) -> Output {
    const SCRIPT: &str = "
import json, subprocess, sys, yaml
done = subprocess.run([sys.executable, '-m', 'compose', *sys.argv[1:]], stdout=subprocess.PIPE)
json.dump(yaml.safe_load(done.stdout), sys.stdout)
sys.exit(done.returncode)
";
    let packages = provision::docker_compose().unwrap_or_else(|failure| panic!("{failure}"));
    // Away from deploy/.env, which is whoever's who runs the tests.
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

/// Both profiles with what `.env.example` says, and a secret.
fn both() -> [Project; 2] {
    let example = variables("deploy/.env.example");
    PROFILES.map(|profile| {
        let mut variables: Vec<_> =
            example.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        variables.push(("JWT_SECRET", "an-example"));
        Project::new(profile, &variables)
    })
}

/// The variables of a file as `.env`.
fn variables(path: &str) -> BTreeMap<String, String> {
    let text = fs::read_to_string(workspace::path(path)).expect("it is there");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| line.split_once('=').unwrap_or_else(|| panic!("{path}: {line}")))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[track_caller]
fn object(value: &Value) -> &Map<String, Value> {
    value.as_object().unwrap_or_else(|| panic!("no object: {value}"))
}

#[track_caller]
fn strings(value: &Value) -> BTreeSet<&str> {
    value.as_array().into_iter().flatten().map(|item| item.as_str().expect("a string")).collect()
}

/// The environment of a service, as text.
#[track_caller]
fn environment(service: &Value) -> BTreeMap<&str, &str> {
    let variables = object(&service["environment"]).iter();
    variables.map(|(name, value)| (name.as_str(), value.as_str().expect("a string"))).collect()
}

#[track_caller]
fn seconds(text: &str) -> u64 {
    text.strip_suffix('s')
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("no seconds: {text}"))
}

#[test]
fn only_the_gateway_has_a_port() {
    for project in both() {
        let with_ports: Vec<_> =
            project.services().into_iter().filter(|(_, service)| !service["ports"].is_null()).collect();
        let [(name, service)] = with_ports[..] else { panic!("not one service: {with_ports:?}") };
        assert_eq!(name, "traefik");
        assert_eq!(service["ports"], serde_json::json!([{"published": 9191, "target": 9191}]));
        for (name, service) in project.services() {
            assert!(service["network_mode"].is_null(), "{name} goes around the networks");
        }
    }
    let other = Project::new("prod", &[("JWT_SECRET", "x"), ("HOST_PORT", "8083")]);
    assert_eq!(other.services()["traefik"]["ports"][0]["published"], 8083);
    assert_eq!(other.services()["traefik"]["ports"][0]["target"], 9191, "the port of deploy/traefik");
}

#[test]
fn nobody_but_the_gateway_is_on_a_network_with_postern() {
    for project in both() {
        let (postern, service) = project.postern();
        for network in object(&service["networks"]).keys() {
            let mut others = project.members(network);
            others.remove(postern);
            match network.as_str() {
                "websocket" => assert_eq!(others, BTreeSet::from(["traefik"])),
                // For backends, of which this file has none.
                "backends" => assert_eq!(others, BTreeSet::new()),
                // The way out, alone.
                "crates" => {
                    assert_eq!((project.profile, others), ("dev", BTreeSet::new()));
                }
                other => panic!("{postern} is on {other}"),
            }
        }
        assert_eq!(project.members("identity"), BTreeSet::from(["identity", "traefik"]));
        for inner in ["websocket", "identity", "backends"] {
            assert_eq!(project.text["networks"][inner]["internal"], true, "{inner}");
        }
    }
}

/// A backend or Prometheus that joins the network for them reaches the control port, and nothing of the gateway's.
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
            assert_eq!(service["networks"][network]["aliases"], serde_json::json!(["websocket"]), "{name}");
        }
        // The file says to backends where the control port is.
        let text = fs::read_to_string(workspace::path(FILE)).expect("it is there");
        assert!(text.contains(&format!("http://websocket:{}", control.port())), "{control}");
    }
}

#[test]
fn the_key_of_backends_comes_from_the_environment_and_is_shown_nowhere() {
    for profile in PROFILES {
        let key = "0123456789abcdef0123456789abcdef";
        let project = Project::new(profile, &[("JWT_SECRET", "x"), ("POSTERN_API_KEY", key)]);
        let (name, service) = project.postern();
        let environment = environment(service);
        assert_eq!(environment["POSTERN_API_KEY"], key, "{name}");
        let settings: Vec<_> = environment.into_iter().collect();
        for runtime in Runtime::BOTH {
            let printed = Postern::print_config(runtime, &settings).join("\n");
            assert!(
                printed.contains("POSTERN_API_KEY=***") && !printed.contains(key),
                "{runtime}: {printed}"
            );
            assert!(!printed.contains("# Warnings"), "{runtime}: {printed}");
        }
    }
}

#[test]
fn every_container_is_confined_and_watched() {
    for project in both() {
        assert_eq!(project.services().len(), 3);
        for (name, service) in project.services() {
            let place = format!("{name} of {}", project.profile);
            assert_eq!(service["read_only"], true, "{place}");
            assert_eq!(strings(&service["cap_drop"]), BTreeSet::from(["ALL"]), "{place}");
            assert!(service["cap_add"].is_null() && service["privileged"].is_null(), "{place}");
            assert!(strings(&service["security_opt"]).contains("no-new-privileges:true"), "{place}");
            assert_eq!(service["user"], "65532:65532", "{place}");
            assert_eq!(service["restart"], "unless-stopped", "{place}");
            assert!(service["pids_limit"].is_u64(), "{place}");
            assert!(
                service["logging"]["options"]["max-size"].is_string(),
                "{place}: its log may fill the disk"
            );
            let health = &service["healthcheck"];
            assert_eq!(health["test"][0], "CMD", "{place}: there is no shell in its image");
            assert!(health["test"].as_array().is_some_and(|test| test.len() > 1), "{place}");
            for time in ["interval", "timeout"] {
                seconds(health[time].as_str().unwrap_or_default());
            }
        }
    }
}

#[test]
fn postern_takes_its_environment_and_gets_no_secret() {
    for project in both() {
        let (name, service) = project.postern();
        let environment = environment(service);
        assert!(!environment.contains_key("JWT_SECRET"), "{name} has no use for it");
        assert_eq!(environment["POSTERN_TRUSTED_PROXIES"], "private", "{name}");
        let settings: Vec<_> = environment.iter().map(|(name, value)| (*name, *value)).collect();
        for runtime in Runtime::BOTH {
            let config = Postern::print_config(runtime, &settings);
            for (setting, value) in &environment {
                let line = format!("{setting}={value}");
                assert!(
                    config.iter().any(|printed| printed.starts_with(&line)),
                    "{runtime}: {line} is not in\n{}",
                    config.join("\n")
                );
            }
            if project.profile == "prod" {
                let hard = config.iter().find_map(|line| line.strip_prefix("POSTERN_DRAIN_HARD="));
                let hard = hard.and_then(|rest| rest.split_whitespace().next()).expect("it is a setting");
                let grace = seconds(service["stop_grace_period"].as_str().unwrap_or_default());
                assert!(seconds(hard) + 10 <= grace, "{runtime} would be killed while it drains for {hard}");
            }
        }
    }
}

#[test]
fn the_example_has_the_limits_for_production_and_says_them_to_postern() {
    let example = variables("deploy/.env.example");
    let limits = variables("deploy/production.env");
    assert!(!limits.is_empty());
    let without_example = Project::new("prod", &[("JWT_SECRET", "x")]);
    for (name, value) in &limits {
        assert_eq!(example.get(name), Some(value), "{name} in .env.example");
        let (_, service) = without_example.postern();
        assert_eq!(environment(service).get(name.as_str()), Some(&value.as_str()), "{name} without a .env");
    }
    let mut changed: Vec<(&str, &str)> = limits.keys().map(|name| (name.as_str(), "7")).collect();
    changed.extend([("JWT_SECRET", "x"), ("PORT", "8099")]);
    let changed = Project::new("prod", &changed);
    let (_, service) = changed.postern();
    for name in limits.keys() {
        assert_eq!(environment(service)[name.as_str()], "7", "{name} cannot be set");
    }
    assert_eq!(environment(service)["PORT"], "8099");
    assert_eq!(environment(changed.services()["traefik"])["WEBSOCKET_URL"], "http://websocket:8099");
}

#[test]
fn without_a_secret_it_does_not_start_and_says_what_to_do() {
    assert_eq!(
        variables("deploy/.env.example")["JWT_SECRET"],
        "",
        "nobody shall run with a published secret"
    );
    for profile in PROFILES {
        let output = compose(profile, &[]);
        assert!(!output.status.success());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("JWT_SECRET") && said.contains(".env.example"), "{said}");
    }
}

#[test]
fn the_gateway_has_the_configuration_that_the_tests_run() {
    for project in both() {
        let traefik = project.services()["traefik"];
        // The project's folder is a temporary one here: the path is relative to it.
        let volumes = strings(&traefik["volumes"]);
        assert_eq!(volumes.len(), 1);
        assert!(volumes.iter().all(|volume| volume.ends_with("/traefik:/etc/traefik:ro")), "{volumes:?}");
        assert_eq!(
            traefik["working_dir"], "/etc/traefik",
            "the dynamic configuration is named without a folder"
        );
        // The variables by which `gateway::Gateway` sets the addresses are the ones that are set here.
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
                assert!(dockerfile.contains(&format!(" AS {stage}\n")), "{name}: there is no stage {stage}");
            } else {
                assert_eq!(name, "traefik", "the others are built");
            }
        }
    }
}
