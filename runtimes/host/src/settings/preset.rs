//! The names of the identity headers that well-known gateways send.

use super::names::{TOKEN_EXP, USER_EMAIL, USER_ID, USER_NAME, USER_SESSION_ID};
use super::value::{OFF, ValueError};

/// The headers of one kind of gateway.
struct Preset {
    name: &'static str,
    id: &'static str,
    email: &'static str,
    user_name: &'static str,
}

/// The default preset: the names in the table.
const USER: &str = "user";

/// The other presets. These gateways have no header for the session or its end. They also do not remove one that a client
/// sends, so none is read.
const PRESETS: [Preset; 4] = [
    Preset {
        name: "oauth2-proxy",
        id: "X-Forwarded-User",
        email: "X-Forwarded-Email",
        user_name: "X-Forwarded-Preferred-Username",
    },
    Preset { name: "authelia", id: "Remote-User", email: "Remote-Email", user_name: "Remote-Name" },
    Preset {
        name: "authentik",
        id: "X-authentik-uid",
        email: "X-authentik-email",
        user_name: "X-authentik-name",
    },
    Preset {
        name: "pomerium",
        id: "X-Pomerium-Claim-Sub",
        email: "X-Pomerium-Claim-Email",
        user_name: "X-Pomerium-Claim-Name",
    },
];

/// Checks that there is a preset of this name.
pub(super) fn check(name: &str) -> Result<(), ValueError> {
    if name.eq_ignore_ascii_case(USER) || find(name).is_some() {
        return Ok(());
    }
    Err(format!("must be one of {USER}, {}", PRESETS.map(|preset| preset.name).join(", ")).into())
}

/// Returns the default that a preset gives a setting. `None` if the default of the table applies.
pub(super) fn default(preset: &str, setting: &str) -> Option<&'static str> {
    let preset = find(preset)?;
    Some(match setting {
        USER_ID => preset.id,
        USER_EMAIL => preset.email,
        USER_NAME => preset.user_name,
        USER_SESSION_ID | TOKEN_EXP => OFF,
        _ => return None,
    })
}

fn find(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_preset_names_headers_that_may_carry_an_identity() {
        for preset in &PRESETS {
            check(preset.name).unwrap();
            for (setting, header) in
                [(USER_ID, preset.id), (USER_EMAIL, preset.email), (USER_NAME, preset.user_name)]
            {
                crate::settings::net::header_name(header).unwrap();
                assert_eq!(default(preset.name, setting), Some(header));
            }
            assert_eq!(default(preset.name, "POSTERN_PATH"), None);
        }
        check("USER").unwrap();
        assert_eq!(default("user", USER_ID), None);
        assert_eq!(default("keycloak", USER_ID), None);
    }
}
