//! Listening: addresses, paths and subprotocols.

use postern_channels::exchange::WorkerId;

use crate::settings::names::*;
use crate::settings::net;
use crate::settings::setting::{Setting, optional_count, text, value_at};
use crate::settings::value::{count, mode};

pub(super) fn settings() -> Vec<Setting> {
    vec![
        // It is only used in the default of the next setting.
        text(
            PORT,
            "PORT",
            "8080",
            |_, text| count(text, 0..=65_535).map(drop),
            "The port, on all IPv4 and IPv6 addresses of the host",
        ),
        text(
            LISTEN,
            "ADDRESS,…",
            "[::]:$PORT",
            |settings, text| {
                settings.listen = net::addresses(text)?;
                Ok(())
            },
            "Addresses to listen on, instead of PORT: [::]:8080 is every IPv4\n\
             and IPv6 address, 0.0.0.0:8080 every IPv4 address. A Unix socket\n\
             is unix:/run/postern.sock; all its peers are trusted, and its\n\
             mode says which processes can connect",
        ),
        value_at(
            LISTEN_MODE,
            "MODE",
            |settings| &mut settings.socket_access.mode,
            mode,
            |mode| format!("{mode:04o}"),
            "The mode of Unix sockets, in octal: processes with write\n\
             permission can connect",
        ),
        value_at(
            LISTEN_OWNER,
            "USER:GROUP",
            |settings| &mut settings.socket_access.owner,
            net::owner,
            |_| String::new(),
            "The owner of Unix sockets, by name or number. USER and :GROUP are\n\
             also allowed",
        ),
        value_at(
            PATH,
            "PATH,…",
            |settings| &mut settings.handshake.paths,
            net::paths,
            |paths| paths.join(","),
            "The paths of WebSockets for POSTERN_APP; any path that is neither\n\
             here nor in POSTERN_CHANNELS_PATH is 404. /ws/* is every path\n\
             below /ws, /* is every path",
        ),
        value_at(
            HEALTH_PATH,
            "PATH",
            |settings| &mut settings.handshake.health_path,
            net::health_path,
            |_| "off".to_owned(),
            "A path for health checks on the data port: GET and HEAD get 200\n\
             without an identity, or 503 while the process drains or has\n\
             POSTERN_MAX_CONNECTIONS connections. Not logged",
        ),
        value_at(
            SUBPROTOCOLS,
            "NAME,…",
            |settings| &mut settings.handshake.subprotocols,
            net::subprotocols,
            |names| names.join(","),
            "Subprotocols to select from a client's offers, preferred first.\n\
             bearer and access_token are selected if no other matches. A\n\
             browser fails the connection if none of its offers is selected",
        ),
        optional_count(
            WORKERS,
            |settings| &mut settings.workers,
            WorkerId::MAX_WORKERS,
            "The number of event loops; 0 is one for each core, at most 128",
        ),
    ]
}
