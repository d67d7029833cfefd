//! Identity: who a user is, and who may say so.

use postern_core::handshake::{ClientAddress, IdCharset, NameEncoding, Reject};

use super::*;
use crate::settings::preset::{self, optional_header};
use crate::settings::value::{boolean, choice};
use crate::settings::{assertion, net, secret};

pub(super) static SETTINGS: &[Setting] = &[
    Setting {
        name: IDENTITY,
        placeholder: "WHOSE",
        default: "user",
        group: Group::Identity,
        is_secret: false,
        help: "What the headers below are called unless they are set: user (as\n\
               shown), oauth2-proxy (X-Forwarded-User), authelia (Remote-User),\n\
               authentik (X-authentik-uid), pomerium (X-Pomerium-Claim-Sub)",
        // It only changes the defaults of the next ones.
        apply: |_, text| preset::check(text),
    },
    Setting {
        name: USER_ID,
        placeholder: "HEADER",
        default: "User-ID",
        group: Group::Identity,
        is_secret: false,
        help: "The header in which the gateway puts the user's id;\nan upgrade without it is 401",
        apply: |settings, text| set(&mut handshake(settings).identity.id, net::header_name(text)),
    },
    Setting {
        name: "POSTERN_USER_ID_CHARSET",
        placeholder: "CHARSET",
        default: "opaque",
        group: Group::Identity,
        is_secret: false,
        help: "What the ids of users and sessions may consist of; others are 400.\n\
               opaque: UTF-8 without spaces, commas, { } $ \" and characters that\n\
               do not show; strict: A-Z a-z 0-9 . _ : @ + = / | -; any: opaque\n\
               with commas and inner spaces, for names of directories",
        apply: |settings, text| {
            let choices =
                [("strict", IdCharset::Strict), ("opaque", IdCharset::Opaque), ("any", IdCharset::Any)];
            set(&mut handshake(settings).identity_rules.ids, choice(text, &choices))
        },
    },
    Setting {
        name: USER_EMAIL,
        placeholder: "HEADER",
        default: "User-Email",
        group: Group::Identity,
        is_secret: false,
        help: "The one for the e-mail address, for the log; optional",
        apply: |settings, text| set(&mut handshake(settings).identity.email, net::header_name(text)),
    },
    Setting {
        name: USER_NAME,
        placeholder: "HEADER",
        default: "User-Name",
        group: Group::Identity,
        is_secret: false,
        help: "The one for the display name, for the log; optional",
        apply: |settings, text| set(&mut handshake(settings).identity.name, net::header_name(text)),
    },
    Setting {
        name: "POSTERN_USER_NAME_ENCODING",
        placeholder: "HOW",
        default: "auto",
        group: Group::Identity,
        is_secret: false,
        help: "How the name and the e-mail address are read: auto decodes encoded\n\
               words (RFC 2047, =?UTF-8?Q?Ren=C3=A9e?=) and percent-encoding\n\
               (Ren%C3%A9e); raw decodes nothing",
        apply: |settings, text| {
            let choices = [("auto", NameEncoding::Auto), ("raw", NameEncoding::Raw)];
            set(&mut handshake(settings).identity_rules.names, choice(text, &choices))
        },
    },
    Setting {
        name: USER_SESSION_ID,
        placeholder: "HEADER",
        default: "User-Session-ID",
        group: Group::Identity,
        is_secret: false,
        help: "The one for the id of the session; optional, a bad one is 400.\n\
               off reads none: for gateways that pass on a client's own",
        apply: |settings, text| {
            optional_header(handshake(settings), text, |handshake| &mut handshake.identity.session_id)
        },
    },
    Setting {
        name: "POSTERN_REQUEST_ID_HEADER",
        placeholder: "HEADER",
        default: "X-Request-Id",
        group: Group::Identity,
        is_secret: false,
        help: "The one for the id of the request, which every log record\n\
               and the 101 repeat; without it the trace of traceparent is\n\
               taken, or one is made. off takes and repeats none",
        apply: |settings, text| {
            optional_header(handshake(settings), text, |handshake| &mut handshake.request_id)
        },
    },
    Setting {
        name: TOKEN_EXP,
        placeholder: "HEADER",
        default: "User-Token-Exp",
        group: Group::Identity,
        is_secret: false,
        help: "The one for the end of the token, in seconds since 1970;\n\
               optional, anything else is 400; off reads none",
        apply: |settings, text| {
            optional_header(handshake(settings), text, |handshake| &mut handshake.identity.token_exp)
        },
    },
    Setting {
        name: ASSERTION,
        placeholder: "WHOSE",
        default: "off",
        group: Group::Identity,
        is_secret: false,
        help: "Take the identity from a signed token (JWT), not from those\n\
               headers: of pomerium, google-iap, cloudflare, custom, or off;\n\
               an upgrade without a valid one is 401",
        apply: |_, text| assertion::preset(text).map(drop),
    },
    Setting {
        name: ASSERTION_HEADER,
        placeholder: "HEADER",
        default: "",
        group: Group::Identity,
        is_secret: false,
        help: "The header with the token, alone or after Bearer; only custom\n\
               needs it. Authorization is one",
        apply: |_, text| if_given(text, net::token_header),
    },
    Setting {
        name: ASSERTION_ISSUER,
        placeholder: "TEXT",
        default: "",
        group: Group::Identity,
        is_secret: false,
        help: "Who signs (iss): the host of the route for pomerium,\n\
               https://TEAM.cloudflareaccess.com for cloudflare",
        apply: |_, _| Ok(()),
    },
    Setting {
        name: ASSERTION_AUDIENCE,
        placeholder: "TEXT,…",
        default: "",
        group: Group::Identity,
        is_secret: false,
        help: "For whom (aud); the token must name one of these. pomerium\n\
               needs none: there it is the host of the route",
        apply: |_, text| if_given(text, |text| net::words(text).map(drop)),
    },
    Setting {
        name: ASSERTION_JWKS,
        placeholder: "URL|FILE",
        default: "",
        group: Group::Identity,
        is_secret: false,
        help: "The issuer's keys; only custom needs it. A URL of https, or\n\
               of http on this host; or a file, read every two seconds",
        apply: |_, text| if_given(text, |text| assertion::keys(text).map(drop)),
    },
    Setting {
        name: ASSERTION_JWKS_INSECURE,
        placeholder: "true|false",
        default: "false",
        group: Group::Identity,
        is_secret: false,
        help: "Allow that URL to be of http on another host, such as a\n\
               service of the cluster. Anyone on the network path can then\n\
               replace the keys, and be any user",
        apply: |_, text| boolean(text).map(drop),
    },
    Setting {
        name: ASSERTION_ID_CLAIM,
        placeholder: "NAME,…",
        default: "sub",
        group: Group::Identity,
        is_secret: false,
        help: "The claim with the user's id, a text or a whole number; of\n\
               several the first that is not empty. user.id is the claim id in\n\
               the object user. For cloudflare the default is sub,common_name",
        apply: |_, text| assertion::claims(text).map(drop),
    },
    Setting {
        name: ASSERTION_EMAIL_CLAIM,
        placeholder: "NAME,…",
        default: "email",
        group: Group::Identity,
        is_secret: false,
        help: "The one with the e-mail address, for the log; optional",
        apply: |_, text| assertion::claims(text).map(drop),
    },
    Setting {
        name: ASSERTION_NAME_CLAIM,
        placeholder: "NAME,…",
        default: "name,preferred_username",
        group: Group::Identity,
        is_secret: false,
        help: "The one with the display name, for the log; optional",
        apply: |_, text| assertion::claims(text).map(drop),
    },
    Setting {
        name: "POSTERN_TRUSTED_PROXIES",
        placeholder: "CIDR,…",
        default: "loopback",
        group: Group::Identity,
        is_secret: false,
        help: "Peers whose word about a user is taken; others are 403. Blocks\n\
               such as 10.0.0.0/8, and loopback (this host), private\n\
               (RFC 1918, fc00::/7), cgnat (100.64.0.0/10), link-local\n\
               (169.254.0.0/16, fe80::/10), any (every peer)",
        apply: |settings, text| set(&mut handshake(settings).trusted_proxies, net::proxies(text)),
    },
    Setting {
        name: "POSTERN_CLIENT_ADDRESS",
        placeholder: "HEADER",
        default: "auto",
        group: Group::Identity,
        is_secret: false,
        help: "The header in which a trusted proxy says the address of the\n\
               client, for the log: x-forwarded-for, forwarded, auto (the first\n\
               of the two that is there), off. It never decides anything",
        apply: |settings, text| {
            let choices = [
                ("auto", ClientAddress::Auto),
                ("x-forwarded-for", ClientAddress::XForwardedFor),
                ("forwarded", ClientAddress::Forwarded),
                ("off", ClientAddress::Off),
            ];
            set(&mut handshake(settings).client_address, choice(text, &choices))
        },
    },
    Setting {
        name: secret::SECRET,
        placeholder: "SECRET,…",
        default: "",
        group: Group::Identity,
        is_secret: true,
        help: "What a trusted proxy must send beside that, at least 16 characters;\n\
               several are for the time in which one replaces another. Not as a\n\
               flag: other users of the host see those",
        apply: |settings, text| secret::apply(&mut handshake(settings).proxy_secret.secrets, text),
    },
    Setting {
        name: secret::SECRET_FILE,
        placeholder: "PATH",
        default: "",
        group: Group::Identity,
        is_secret: false,
        help: "A file with that instead, read again at SIGHUP",
        apply: |settings, text| {
            let secrets = &mut handshake(settings).proxy_secret.secrets;
            let file = secret::apply_file(secrets, text, secret::SECRET_FILE, secret::SECRET)?;
            settings.secret_files.extend(file);
            Ok(())
        },
    },
    Setting {
        name: SECRET_HEADER,
        placeholder: "HEADER",
        default: "X-Postern-Secret",
        group: Group::Identity,
        is_secret: false,
        help: "The header in which it is sent, in exactly one line; else 403",
        apply: |settings, text| set(&mut handshake(settings).proxy_secret.header, net::header_name(text)),
    },
    Setting {
        name: ALLOWED_ORIGINS,
        placeholder: "ORIGIN,…",
        default: "",
        group: Group::Identity,
        is_secret: false,
        help: "Origins of pages that may connect in addition to those of the same\n\
               host, such as https://app.example.com:8443, tauri://localhost,\n\
               null; https://*.example.com is any one label; * is all; others\n\
               are 403",
        apply: |settings, text| set(&mut handshake(settings).allowed_origins, net::origins(text)),
    },
    Setting {
        name: HOST_HEADER,
        placeholder: "HEADER",
        default: "off",
        group: Group::Identity,
        is_secret: false,
        help: "The header of the gateway with the host that the page asked for,\n\
               if the gateway writes another one into Host: for example\n\
               X-Forwarded-Host; several hosts in it are 400. off reads Host",
        apply: |settings, text| set(&mut handshake(settings).host_header, net::host_header(text)),
    },
    Setting {
        name: "POSTERN_REJECT",
        placeholder: "HOW",
        default: "http",
        group: Group::Identity,
        is_secret: false,
        help: "How 401, 403 and 429 are said: http, or close, which admits nobody\n\
               but opens the connection to close it with 4401, 4403 or 4430, for\n\
               pages: browsers show them no status",
        apply: |settings, text| {
            let choices = [("http", Reject::Http), ("close", Reject::Close)];
            set(&mut handshake(settings).reject, choice(text, &choices))
        },
    },
    Setting {
        name: "POSTERN_STRICT_KEY",
        placeholder: "true|false",
        default: "false",
        group: Group::Identity,
        is_secret: false,
        help: "Admit only a Sec-WebSocket-Key of exactly 16 bytes, as\n\
               RFC 6455 demands; a widespread curl recipe sends 13",
        apply: |settings, text| set(&mut handshake(settings).strict_key, boolean(text)),
    },
];

/// Checks a text that may be left out.
fn if_given(text: &str, check: fn(&str) -> Result<(), ValueError>) -> Result<(), ValueError> {
    if text.is_empty() { Ok(()) } else { check(text) }
}
