//! Checks of settings that contradict each other.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::error::{SettingsError, SettingsErrors};
use super::model::Settings;
use super::names::{CONTROL, HEALTH_PATH, LISTEN};
use super::net;
use super::setting::{ResolvedSetting, Source};
use super::table::IDENTITY_HEADERS;
use super::value::is_off;
use crate::listen::Address;

pub(super) fn check(settings: &Settings, chosen: &[ResolvedSetting], errors: &mut SettingsErrors) {
    check_identity_headers(chosen, errors);
    check_ports(settings, chosen, errors);
    check_health_path(settings, chosen, errors);
}

/// Checks that no two settings name the same header. `off` is not a header.
fn check_identity_headers(chosen: &[ResolvedSetting], errors: &mut SettingsErrors) {
    let is_header =
        |chosen: &&ResolvedSetting| IDENTITY_HEADERS.contains(&chosen.setting.name) && !is_off(&chosen.text);
    let headers: Vec<&ResolvedSetting> = chosen.iter().filter(is_header).collect();
    for (index, one) in headers.iter().enumerate() {
        for other in headers.iter().skip(index + 1) {
            if !net::is_same_header(&one.text, &other.text) {
                continue;
            }
            // The error names the setting that an operator wrote, not the default.
            let (blamed, other) = if other.source == Source::Default { (one, other) } else { (other, one) };
            let complaint = format!(
                "the same header as that of {}, but for case and separators; write another",
                other.setting.name
            );
            errors.add(SettingsError::value(blamed.setting, &blamed.text, blamed.source, &complaint));
        }
    }
}

/// Checks that no two listeners have the same port of the same addresses: the system would refuse the second one.
fn check_ports(settings: &Settings, chosen: &[ResolvedSetting], errors: &mut SettingsErrors) {
    let tcp = |address: &Address| match address {
        Address::Tcp(address) => Some(*address),
        Address::Unix(_) => None,
    };
    let mut before: Vec<(SocketAddr, &str)> = Vec::new();
    let data = settings.listen.iter().filter_map(tcp).map(|address| (address, LISTEN));
    for (address, name) in data.chain(settings.control.address.map(|address| (address, CONTROL))) {
        // The system chooses a free port for port 0.
        let is_same = |other: SocketAddr| {
            let all = address.ip().is_unspecified() || other.ip().is_unspecified();
            // `[::]` also has the IPv4 addresses, unless a data listener has one of them with the same port.
            let both = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
            let is_both = name == CONTROL && (address.ip() == both || other.ip() == both);
            address.port() == other.port()
                && address.port() != 0
                && (address.is_ipv4() == other.is_ipv4() || is_both)
                && (all || address.ip() == other.ip())
        };
        if let Some((other, of)) = before.iter().find(|(other, _)| is_same(*other))
            && let Some(blamed) = chosen.iter().find(|chosen| chosen.setting.name == name)
        {
            let free = address.port().checked_add(1).unwrap_or(1024);
            let complaint =
                format!("{address} has the port of {other} in {of}; write another, for example {free}");
            errors.add(SettingsError::value(blamed.setting, &blamed.text, blamed.source, &complaint));
        }
        before.push((address, name));
    }
}

/// Checks that the path of health checks is not a path of WebSockets. Below a path that ends in `/*` it can be: the
/// longer path counts.
fn check_health_path(settings: &Settings, chosen: &[ResolvedSetting], errors: &mut SettingsErrors) {
    let handshake = &settings.handshake;
    if let Some(path) = &handshake.health_path
        && handshake.paths.contains(path)
        && let Some(blamed) = chosen.iter().find(|chosen| chosen.setting.name == HEALTH_PATH)
    {
        let complaint = "POSTERN_PATH serves WebSockets at this path; write another, for example /healthz";
        errors.add(SettingsError::value(blamed.setting, &blamed.text, blamed.source, complaint));
    }
}
