//! Listening: where it listens, and for what.

use postern_core::worker::SUBPROTOCOL;

use super::{Group, HEALTH_PATH, LISTEN, Setting, WORKERS, handshake, set};
use crate::settings::net;
use crate::settings::value::{count, mode};

pub(super) static SETTINGS: &[Setting] = &[
    Setting {
        name: "PORT",
        placeholder: "PORT",
        default: "8080",
        group: Group::Listening,
        is_secret: false,
        help: "The port, on all addresses of the host, IPv4 and IPv6",
        // It only stands in the default of the next one.
        apply: |_, text| count(text, 0..=65_535).map(drop),
    },
    Setting {
        name: LISTEN,
        placeholder: "ADDRESS,…",
        default: "[::]:$PORT",
        group: Group::Listening,
        is_secret: false,
        help: "Addresses with ports to listen on, instead of PORT; [::]:8080 is\n\
               all of both families, 0.0.0.0:8080 all of IPv4,\n\
               unix:/run/postern.sock a Unix socket, whose peers are trusted:\n\
               its mode says who they are",
        apply: |settings, text| set(&mut settings.listen, net::addresses(text)),
    },
    Setting {
        name: "POSTERN_LISTEN_MODE",
        placeholder: "MODE",
        default: "0660",
        group: Group::Listening,
        is_secret: false,
        help: "The mode of Unix sockets, in octal: who may write may connect",
        apply: |settings, text| set(&mut settings.socket_access.mode, mode(text)),
    },
    Setting {
        name: "POSTERN_LISTEN_OWNER",
        placeholder: "USER:GROUP",
        default: "",
        group: Group::Listening,
        is_secret: false,
        help: "To whom Unix sockets are given, by name or number; USER alone and\n:GROUP alone will do",
        apply: |settings, text| set(&mut settings.socket_access.owner, net::owner(text)),
    },
    Setting {
        name: "POSTERN_PATH",
        placeholder: "PATH,…",
        default: "/ws",
        group: Group::Listening,
        is_secret: false,
        help: "Where WebSockets are served; any other path is 404. /ws/* is\n\
               every path below /ws, /* is every path",
        apply: |settings, text| set(&mut handshake(settings).paths, net::paths(text)),
    },
    Setting {
        name: HEALTH_PATH,
        placeholder: "PATH",
        default: "off",
        group: Group::Listening,
        is_secret: false,
        help: "Where GET and HEAD get 200 without an identity, for health\n\
               checks of the data port; 503 while the process drains or has\n\
               POSTERN_MAX_CONNECTIONS connections. Not logged",
        apply: |settings, text| set(&mut handshake(settings).health_path, net::health_path(text)),
    },
    Setting {
        name: "POSTERN_SUBPROTOCOLS",
        placeholder: "NAME,…",
        default: "",
        group: Group::Listening,
        is_secret: false,
        help: "Subprotocols that are answered if a client offers them, preferred\n\
               first; bearer and access_token are answered in addition. A\n\
               browser fails a connection if none of its offers is answered",
        apply: |settings, text| {
            let mut names = net::subprotocols(text)?;
            if !names.iter().any(|name| name == SUBPROTOCOL) {
                names.push(SUBPROTOCOL.to_owned());
            }
            handshake(settings).subprotocols = names;
            Ok(())
        },
    },
    Setting {
        name: WORKERS,
        placeholder: "N",
        default: "0",
        group: Group::Listening,
        is_secret: false,
        help: "Event loops; 0 is one for each core",
        apply: |settings, text| set(&mut settings.workers, count(text, 0..=1024)),
    },
];
