//! Names in the environment that Kubernetes and Docker make for a service or container called `postern` or `postern-…`:
//! <https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables>,
//! <https://docs.docker.com/engine/network/links/#environment-variables>. They begin like settings, but the operator did
//! not write them.

use std::collections::HashSet;
use std::net::IpAddr;

/// Distinguishes links from other variables, by name and value together, so that a misspelt setting is not mistaken
/// for a link.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// The prefix of the names of each link, such as `POSTERN` in `POSTERN_PORT=tcp://…`.
    aliases: HashSet<String>,
}

impl Links {
    /// Finds the links among these variables.
    pub(super) fn among<'v>(variables: impl Iterator<Item = (&'v str, &'v str)>) -> Links {
        let aliases = variables.filter(|(_, value)| is_address(value));
        let aliases = aliases.filter_map(|(name, _)| name.strip_suffix("_PORT").map(str::to_owned));
        Links { aliases: aliases.collect() }
    }

    /// Whether a variable is a link, or a part of one.
    pub(super) fn has(&self, name: &str, value: &str) -> bool {
        if name.ends_with("_PORT") && is_address(value) {
            return true;
        }
        if name.ends_with("_SERVICE_HOST") {
            return value.parse::<IpAddr>().is_ok();
        }
        if let Some((_, port)) = name.split_once("_SERVICE_PORT") {
            return (port.is_empty() || port.starts_with('_')) && is_port(value);
        }
        is_of_port(name, value) || self.is_of_container(name, value)
    }

    /// Whether this is `ALIAS_NAME=/web/postern`, or `ALIAS_ENV_…` with the environment of the other container.
    fn is_of_container(&self, name: &str, value: &str) -> bool {
        let is_linked = |alias: Option<&str>| alias.is_some_and(|alias| self.aliases.contains(alias));
        is_linked(name.strip_suffix("_NAME")) && value.starts_with('/')
            || name.match_indices("_ENV_").any(|(at, _)| is_linked(name.get(..at)))
    }
}

/// Whether this is `ALIAS_PORT_8080_TCP=tcp://…`, or the same name with `_PROTO`, `_PORT` or `_ADDR` after it.
fn is_of_port(name: &str, value: &str) -> bool {
    // Each match is tried, because an alias may itself end in `_PORT`.
    let after_port = name.match_indices('_').filter_map(|(at, _)| name.get(at..)?.strip_prefix("_PORT_"));
    after_port.map(|rest| rest.splitn(3, '_')).any(|mut words| {
        let is_number = words.next().is_some_and(is_port);
        let is_protocol = words.next().is_some_and(|word| PROTOCOLS.contains(&&*word.to_ascii_lowercase()));
        let is_value = match words.next() {
            None => is_address(value),
            Some("PROTO") => PROTOCOLS.contains(&value),
            Some("PORT") => is_port(value),
            Some("ADDR") => value.parse::<IpAddr>().is_ok(),
            // Of a range of ports.
            Some("START" | "END") => is_address(value),
            Some("PORT_START" | "PORT_END") => is_port(value),
            Some(_) => false,
        };
        is_number && is_protocol && is_value
    })
}

/// Whether this has the form `tcp://10.0.0.11:8080`.
fn is_address(value: &str) -> bool {
    value.split_once("://").is_some_and(|(protocol, _)| PROTOCOLS.contains(&protocol))
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

const PROTOCOLS: [&str; 3] = ["tcp", "udp", "sctp"];

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the variables that Kubernetes 1.31 makes for a Service, and Docker for a link.
    fn of(alias: &str) -> Vec<(String, &'static str)> {
        let variables = [
            ("SERVICE_HOST", "10.0.0.11"),
            ("SERVICE_PORT", "8080"),
            ("SERVICE_PORT_HTTP", "8080"),
            ("SERVICE_PORT_WEB_SOCKET", "8081"),
            ("PORT", "tcp://10.0.0.11:8080"),
            ("PORT_8080_TCP", "tcp://10.0.0.11:8080"),
            ("PORT_8080_TCP_PROTO", "tcp"),
            ("PORT_8080_TCP_PORT", "8080"),
            ("PORT_8080_TCP_ADDR", "10.0.0.11"),
            ("PORT_8125_UDP", "udp://[fd00::1]:8125"),
            ("PORT_8125_UDP_PROTO", "udp"),
            ("PORT_8125_UDP_ADDR", "fd00::1"),
            ("PORT_3868_SCTP", "sctp://10.0.0.11:3868"),
            ("NAME", "/gateway/postern"),
            ("ENV_PATH", "/usr/bin"),
        ];
        variables.map(|(name, value)| (format!("{alias}_{name}"), value)).into()
    }

    #[test]
    fn variables_of_kubernetes_and_docker_are_links() {
        for alias in
            ["POSTERN", "POSTERN_SMOL", "POSTERN_CONTROL", "POSTERN_LISTEN", "POSTERN_PORT", "POSTERN_1"]
        {
            let variables = of(alias);
            let links = Links::among(variables.iter().map(|(name, value)| (&**name, *value)));
            for (name, value) in &variables {
                assert!(links.has(name, value), "{name}={value}");
            }
        }
    }

    #[test]
    fn a_misspelt_setting_is_not_a_link() {
        for (name, value) in [
            ("POSTERN_PORT", "8080"),
            ("POSTERN_PORT", "http://10.0.0.11:8080"),
            ("POSTERN_SERVICE_HOST", "postern"),
            ("POSTERN_SERVICE_HOST", ""),
            ("POSTERN_SERVICE_PORT", "tcp"),
            ("POSTERN_SERVICE_PORTS", "8080"),
            ("POSTERN_PORT_8080", "tcp://10.0.0.11:8080"),
            ("POSTERN_PORT_HTTP_TCP", "tcp://10.0.0.11:8080"),
            ("POSTERN_PORT_8080_TCP", "8080"),
            ("POSTERN_PORT_8080_TCP_HOST", "10.0.0.11"),
            ("POSTERN_NAME", "/gateway/postern"),
            ("POSTERN_ENV_PATH", "/usr/bin"),
            ("POSTERN_MAX_MESAGE", "64KiB"),
            ("POSTERN_LISTEN", "tcp://0.0.0.0:8080"),
        ] {
            let others = Links::among([("POSTERN_OTHER_PORT", "tcp://10.0.0.12:1")].into_iter());
            assert!(!others.has(name, value), "{name}={value}");
        }
    }
}
