//! Listening: where it listens, and for what.

use postern_core::service::SUBPROTOCOL;

use super::{Group, LISTEN, Setting, WORKERS, handshake, set};
use crate::settings::net;
use crate::settings::value::{count, mode};

pub(super) static SETTINGS: &[Setting] = &[
    Setting {
        name: "PORT",
        placeholder: "PORT",
        default: "8080",
        group: Group::Listening,
        is_secret: false,
        help: "The port, on all IPv4 addresses",
        // It only stands in the default of the next one.
        apply: |_, text| count(text, 0..=65_535).map(drop),
    },
    Setting {
        name: LISTEN,
        placeholder: "ADDRESS,…",
        default: "0.0.0.0:$PORT",
        group: Group::Listening,
        is_secret: false,
        help: "Addresses with ports to listen on, instead of PORT;\n0.0.0.0:8080,[::]:8080 is both families, unix:/run/postern.sock a\n\
               Unix socket, whose peers are trusted: its mode says who they are",
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
        help: "Where WebSockets are served; any other path is 404",
        apply: |settings, text| set(&mut handshake(settings).paths, net::paths(text)),
    },
    Setting {
        name: "POSTERN_SUBPROTOCOLS",
        placeholder: "NAME,…",
        default: "",
        group: Group::Listening,
        is_secret: false,
        help: "Subprotocols that are answered if a client offers them, preferred\n\
               first; bearer and access_token are in addition answered. A\n\
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
