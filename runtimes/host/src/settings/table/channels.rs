//! Channels: where they are served, and their limits.

use std::path::Path;

use crate::channels_file;
use crate::settings::feature::Feature;
use crate::settings::model::ServedAtPath;
use crate::settings::names::*;
use crate::settings::net;
use crate::settings::setting::{Setting, boolean, choice, count, size, text, value_at};
use crate::settings::tokens;
use crate::settings::value::{self, OFF, is_off};

pub(super) fn settings() -> Vec<Setting> {
    vec![
        choice(
            APP,
            |settings| &mut settings.channels.app,
            &[("echo", ServedAtPath::Echo), ("channels", ServedAtPath::Channels)],
            "What POSTERN_PATH serves: echo sends each message back, channels\n\
             speaks the protocol of POSTERN_CHANNELS_PATH",
        ),
        value_at(
            CHANNELS_PATH,
            "PATH,…",
            |settings| &mut settings.channels.paths,
            |text| if is_off(text) { Ok(Vec::new()) } else { net::paths(text) },
            |paths| if paths.is_empty() { OFF.to_owned() } else { paths.join(",") },
            "The paths of channels, in the client protocol of Centrifugo, for\n\
             its SDKs. off serves none",
        ),
        value_at(
            CHANNELS_UNI_PATH,
            "PATH,…",
            |settings| &mut settings.channels.bare_paths,
            |text| if is_off(text) { Ok(Vec::new()) } else { net::paths(text) },
            |paths| if paths.is_empty() { OFF.to_owned() } else { paths.join(",") },
            "The paths of channels for clients without an SDK, which send no\n\
             commands: /connection/uni_websocket in Centrifugo. off serves\n\
             none",
        ),
        text(
            CHANNELS_FILE,
            "FILE",
            "",
            |settings, text| {
                if !text.is_empty() {
                    settings.channels.namespaces = channels_file::read_or_first_error(Path::new(text))?;
                    settings.channels.file = Some(text.into());
                }
                Ok(())
            },
            "The file with the options of the channels, in TOML. It is read\n\
             again at SIGHUP. Without it, clients have their personal\n\
             channels only",
        ),
        choice(
            PERSONAL_CHANNEL,
            |settings| &mut settings.channels.personal_channel,
            &[("on", true), ("off", false)],
            "Whether each client is subscribed to #ID, the channel of its\n\
             user",
        )
        .placeholder("on|off"),
        boolean(
            SHARE_EMAIL,
            |settings| &mut settings.channels.share_email,
            "Whether other clients in a channel see the e-mail address of a\n\
             user, in addition to the id and the name",
        ),
        text(
            JWT_SECRET,
            "SECRET",
            "",
            |_, _| Ok(()),
            "The secret of connection and subscription tokens with HS256, at\n\
             least 32 bytes. Without it and without POSTERN_TOKEN_JWKS no token\n\
             is accepted. Not as a flag: flags are visible to other users of\n\
             the host. A build without signed identities ignores it",
        )
        .secret(),
        text(
            TOKEN_JWKS,
            "URL|FILE",
            "",
            |_, text| if text.is_empty() { Ok(()) } else { tokens::keys(text) },
            "The public keys of such tokens: an https URL, an http URL of this\n\
             host, or a file, which is read every 2 s",
        )
        .needs(Feature::Assertion, ""),
        text(
            TOKEN_JWKS_INSECURE,
            "true|false",
            "false",
            |_, text| value::boolean(text).map(drop),
            "Allows an http URL of another host. Anyone on the network path can\n\
             then replace the keys and subscribe to any channel",
        )
        .needs(Feature::Assertion, "false"),
        text(
            TOKEN_ISSUER,
            "TEXT",
            "",
            |_, _| Ok(()),
            "The issuer (iss) that tokens must have; by default any or none",
        )
        .needs(Feature::Assertion, ""),
        text(
            TOKEN_AUDIENCE,
            "TEXT,…",
            "",
            |_, text| if text.is_empty() { Ok(()) } else { net::words(text).map(drop) },
            "The audience (aud): tokens must contain one of these; by default\n\
             any or none",
        )
        .needs(Feature::Assertion, ""),
        count(
            MAX_CHANNELS,
            |settings| &mut settings.channels.max_channels,
            1..=65_535,
            "The most channels of a client",
        ),
        size(
            HISTORY_MEMORY,
            |settings| &mut settings.channels.history_memory,
            64 * 1024..=1 << 40,
            "The memory of all histories together. Above it the channels that\n\
             were not used for the longest time lose theirs",
        ),
    ]
}
