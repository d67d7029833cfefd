//! Checks of settings that need a feature which this build leaves out, or contradict each other.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::error::{SettingsError, SettingsErrors};
use super::feature::Feature;
use super::model::{ServedAtPath, Settings};
use super::names::{
    CHANNELS_PATH, CHANNELS_UNI_PATH, CONTROL, FIRST_MESSAGE_PATH, HEALTH_PATH, HOST_HEADER, IN_BAND_AUTH,
    LISTEN, PATH, REVALIDATE, SECRET_HEADER,
};
use super::net;
use super::setting::{ResolvedSetting, Source};
use super::table::IDENTITY_HEADERS;
use super::value::{boolean, is_off};
use crate::listen::Address;

/// Checks that settings do not contradict each other, and adds what is wrong to `errors`.
pub(super) fn check(settings: &Settings, chosen: &[ResolvedSetting], errors: &mut SettingsErrors) {
    check_trusted_headers(chosen, errors);
    check_ports(settings, chosen, errors);
    check_paths(settings, chosen, errors);
    check_health_path(settings, chosen, errors);
}

/// Checks that no two settings of trusted headers name the same one. `off` is not a header.
fn check_trusted_headers(chosen: &[ResolvedSetting], errors: &mut SettingsErrors) {
    let is_trusted =
        |name: &&str| IDENTITY_HEADERS.contains(name) || [SECRET_HEADER, HOST_HEADER].contains(name);
    let is_header = |chosen: &&ResolvedSetting| is_trusted(&chosen.setting.name) && !is_off(&chosen.text);
    let headers: Vec<&ResolvedSetting> = chosen.iter().filter(is_header).collect();
    for (index, one) in headers.iter().enumerate() {
        for other in headers.iter().skip(index + 1) {
            if !net::is_same_header(&one.text, &other.text) {
                continue;
            }
            // The error names the setting that an operator wrote, not the default.
            let (blamed, other) = if other.source == Source::Default { (one, other) } else { (other, one) };
            let complaint = format!(
                "the same header as {}, except for case and separators; write another",
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

/// Checks that no path serves two applications. It can be in both settings if both serve channels.
fn check_paths(settings: &Settings, chosen: &[ResolvedSetting], errors: &mut SettingsErrors) {
    let (paths, channels) = (&settings.handshake.paths, &settings.channels);
    let of_path = if channels.app == ServedAtPath::Channels { &Vec::new() } else { paths };
    for (name, others, other) in [
        (CHANNELS_PATH, of_path, PATH),
        (CHANNELS_UNI_PATH, paths, PATH),
        (CHANNELS_UNI_PATH, &channels.paths, CHANNELS_PATH),
    ] {
        let own = if name == CHANNELS_PATH { &channels.paths } else { &channels.bare_paths };
        let find = |name| chosen.iter().find(|chosen| chosen.setting.name == name);
        if let Some(path) = own.iter().find(|path| others.contains(path))
            && let (Some(one), Some(other)) = (find(name), find(other))
        {
            // The error names the setting that an operator wrote, not the default.
            let (blamed, other) = if one.source == Source::Default { (other, one) } else { (one, other) };
            let complaint = format!(
                "{path} is also a path of {}; write another, or take it out there",
                other.setting.name
            );
            errors.add(SettingsError::value(blamed.setting, &blamed.text, blamed.source, &complaint));
        }
    }
}

/// Checks that the path of health checks is not a path of WebSockets. Below a path that ends in `/*` it can be: the
/// longer path counts.
fn check_health_path(settings: &Settings, chosen: &[ResolvedSetting], errors: &mut SettingsErrors) {
    let handshake = &settings.handshake;
    if let Some(path) = &handshake.health_path
        && (handshake.paths.contains(path) || settings.first_message_paths.contains(path))
        && let Some(blamed) = chosen.iter().find(|chosen| chosen.setting.name == HEALTH_PATH)
    {
        let complaint = "POSTERN_PATH serves WebSockets at this path; write another, for example /healthz";
        errors.add(SettingsError::value(blamed.setting, &blamed.text, blamed.source, complaint));
    }
}

/// Checks that tokens on open connections can be checked, if a setting lets clients send them.
pub(super) fn check_tokens(settings: &Settings, chosen: &[ResolvedSetting], errors: &mut SettingsErrors) {
    let can_check = settings.auth.is_some() || settings.channels.tokens.is_some();
    let needing = [
        (IN_BAND_AUTH, settings.in_band.refresh),
        (FIRST_MESSAGE_PATH, !settings.first_message_paths.is_empty()),
        (REVALIDATE, settings.revalidate.is_some()),
    ];
    for (name, _) in needing.into_iter().filter(|(_, is_on)| *is_on && !can_check) {
        if let Some(blamed) = chosen.iter().find(|chosen| chosen.setting.name == name) {
            let complaint = "needs POSTERN_AUTH_URL, too, or JWT_SECRET or POSTERN_TOKEN_JWKS, because tokens have to be checked; \
                             write for example POSTERN_AUTH_URL=http://identity:9292/identity/validate";
            errors.add(SettingsError::value(blamed.setting, &blamed.text, blamed.source, complaint));
        }
    }
}

/// Checks that a setting does not need a feature that this build leaves out.
pub(super) fn check_feature(chosen: &ResolvedSetting) -> Result<(), SettingsError> {
    check_for(Feature::is_enabled, chosen)
}

fn check_for(is_enabled: fn(Feature) -> bool, chosen: &ResolvedSetting) -> Result<(), SettingsError> {
    let ResolvedSetting { setting, text, source } = chosen;
    // A default needs no feature.
    let without = setting.without_feature(is_enabled).filter(|_| *source != Source::Default);
    let Some((without, (feature, _))) = without.zip(setting.feature) else { return Ok(()) };
    if is_same(text, without) {
        return Ok(());
    }
    let instead = match without {
        "" => "leave it out".to_owned(),
        _ => format!("write {}={without}", setting.name),
    };
    let complaint = format!("{}, or {instead}", feature.lack());
    Err(SettingsError::value(setting, text, *source, &complaint))
}

/// Whether two texts mean the same.
fn is_same(text: &str, other: &str) -> bool {
    let means = |text: &str| boolean(text).ok();
    text.eq_ignore_ascii_case(other) || means(text).is_some() && means(text) == means(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::names::{API_KEY, ASSERTION, COMPRESSION, CONSOLE};
    use crate::settings::setting::Setting;
    use crate::settings::table::SETTINGS;

    fn setting(name: &str) -> &'static Setting {
        SETTINGS.iter().find(|setting| setting.name == name).unwrap()
    }

    /// Returns the complaint of a build without any feature.
    fn complaint(name: &str, text: &str, source: Source) -> Option<String> {
        let chosen = ResolvedSetting { setting: setting(name), text: text.to_owned(), source };
        check_for(|_| false, &chosen).err().map(|error| error.to_string())
    }

    #[test]
    fn a_setting_of_a_disabled_feature_is_refused_with_what_to_write_instead() {
        for (name, text, expected) in [
            (
                CONTROL,
                "127.0.0.1:8081",
                "POSTERN_CONTROL=127.0.0.1:8081: this build has no control port; build it with --features \
                 control, or write POSTERN_CONTROL=off",
            ),
            (
                API_KEY,
                "hunter2hunter2hunter2",
                "POSTERN_API_KEY=***: this build has no control port; build it with --features control, or \
                 leave it out",
            ),
            (
                ASSERTION,
                "pomerium",
                "POSTERN_ASSERTION=pomerium: this build has no signed identities; build it with --features \
                 assertion, or write POSTERN_ASSERTION=off",
            ),
            (
                COMPRESSION,
                "on",
                "POSTERN_COMPRESSION=on: this build has no compression; build it with --features \
                 compression, or write POSTERN_COMPRESSION=off",
            ),
        ] {
            assert_eq!(complaint(name, text, Source::Environment).as_deref(), Some(expected));
        }
    }

    #[cfg(feature = "assertion")]
    #[test]
    fn tokens_of_open_connections_need_something_that_checks_them() {
        use std::ffi::OsString;

        use crate::settings::{Program, load};

        const PROGRAM: Program =
            Program { name: "postern", version: "1", about: "", has_workers: true, commands: &[] };
        let load = |settings: &[(&str, &str)]| {
            let environment =
                settings.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
            load(&PROGRAM, [], environment, || Ok(None)).map(drop).map_err(|error| error.to_string())
        };
        let on = (IN_BAND_AUTH, "on");
        let error = load(&[on]).unwrap_err();
        assert!(
            error.starts_with("POSTERN_IN_BAND_AUTH=on: needs POSTERN_AUTH_URL, too, or JWT_SECRET"),
            "{error}"
        );
        let url = ("POSTERN_AUTH_URL", "http://identity:9292/identity/validate");
        for checked in [url, ("JWT_SECRET", "hunter2hunter2hunter2hunter2hunter2")] {
            assert_eq!(load(&[on, checked]), Ok(()));
        }
        for bad in ["identity:9292", "http://", "http://user:hunter2@identity/"] {
            let error = load(&[("POSTERN_AUTH_URL", bad)]).unwrap_err();
            assert!(error.starts_with("POSTERN_AUTH_URL=") && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_setting_that_needs_no_disabled_feature_is_accepted() {
        let mut count = 0;
        for setting in SETTINGS.iter() {
            let Some((_, without)) = setting.feature else { continue };
            count += 1;
            assert_eq!(complaint(setting.name, without, Source::Environment), None, "{setting:?}");
            assert_eq!(complaint(setting.name, "anything", Source::Default), None, "{setting:?}");
            // If the default turns the feature off, it is the same text.
            assert!([CONTROL, CONSOLE].contains(&setting.name) || setting.default == without, "{setting:?}");
        }
        assert_eq!(count, 51);
        assert_eq!(complaint("POSTERN_PATH", "/anything", Source::Environment), None);
        assert_eq!(setting(CONTROL).without_feature(|_| false), Some("off"));
        assert_eq!(setting(CONTROL).without_feature(|_| true), None);
    }
}
