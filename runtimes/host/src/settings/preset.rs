//! What the identity headers are called by those who write them.

use postern_core::handshake::HandshakeConfig;

use super::table::{TOKEN_EXP, USER_EMAIL, USER_ID, USER_NAME, USER_SESSION_ID};
use super::value::ValueError;

/// The headers of one kind of gateway.
struct Preset {
    name: &'static str,
    /// The defaults of settings, each with its name.
    headers: [(&'static str, &'static str); 5],
}

/// The first is the default, and what the defaults in the table say. Where a gateway has no header for the session
/// or its end, none is read: the gateway would not take a client's own away.
const PRESETS: [Preset; 5] = [
    preset("user", ["User-ID", "User-Email", "User-Name", "User-Session-ID", "User-Token-Exp"]),
    preset(
        "oauth2-proxy",
        ["X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Preferred-Username", OFF, OFF],
    ),
    preset("authelia", ["Remote-User", "Remote-Email", "Remote-Name", OFF, OFF]),
    preset("authentik", ["X-authentik-uid", "X-authentik-email", "X-authentik-name", OFF, OFF]),
    preset("pomerium", ["X-Pomerium-Claim-Sub", "X-Pomerium-Claim-Email", "X-Pomerium-Claim-Name", OFF, OFF]),
];

const fn preset(name: &'static str, headers: [&'static str; 5]) -> Preset {
    let [id, email, user_name, session_id, token_exp] = headers;
    let headers = [
        (USER_ID, id),
        (USER_EMAIL, email),
        (USER_NAME, user_name),
        (USER_SESSION_ID, session_id),
        (TOKEN_EXP, token_exp),
    ];
    Preset { name, headers }
}

/// The text of a setting by which a header is not read.
pub(super) const OFF: &str = "off";

/// Whether a text says `off`, in any case.
pub(super) fn is_off(text: &str) -> bool {
    text.eq_ignore_ascii_case(OFF)
}

/// Whether there is such a preset.
pub(super) fn check(name: &str) -> Result<(), ValueError> {
    if PRESETS.iter().any(|preset| preset.name.eq_ignore_ascii_case(name)) {
        return Ok(());
    }
    Err(format!("must be one of {}", PRESETS.map(|preset| preset.name).join(", ")).into())
}

/// What a setting is by default where the preset of this name holds.
pub(super) fn default(preset: &str, setting: &str) -> Option<&'static str> {
    let preset = PRESETS.iter().find(|known| known.name.eq_ignore_ascii_case(preset))?;
    preset.headers.iter().find(|(name, _)| *name == setting).map(|(_, header)| *header)
}

/// Sets the name of an optional header.
pub(super) fn optional_header(
    handshake: &mut HandshakeConfig,
    text: &str,
    field: impl FnOnce(&mut HandshakeConfig) -> &mut String,
) -> Result<(), ValueError> {
    *field(handshake) = if is_off(text) { String::new() } else { super::net::header_name(text)? };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::table::SETTINGS;

    #[test]
    fn the_first_preset_is_what_the_table_says() {
        for (name, header) in PRESETS[0].headers {
            let setting = SETTINGS.iter().find(|setting| setting.name == name).unwrap();
            assert_eq!(setting.default, header);
        }
    }

    #[test]
    fn each_preset_names_headers_that_may_carry_an_identity() {
        for preset in &PRESETS {
            check(preset.name).unwrap();
            for (name, header) in preset.headers {
                crate::settings::net::header_name(header).unwrap();
                assert_eq!(default(preset.name, name), Some(header));
            }
        }
        assert_eq!(default("user", "POSTERN_PATH"), None);
        assert_eq!(default("keycloak", USER_ID), None);
    }
}
