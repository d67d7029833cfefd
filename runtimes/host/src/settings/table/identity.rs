//! Identity: where it comes from, and which peers are trusted to send it.

use postern_core::handshake::{ClientAddress, IdCharset, NameEncoding, Reject};

use crate::settings::feature::Feature;
use crate::settings::names::*;
use crate::settings::setting::{
    Setting, boolean, choice, header, optional_header, show_optional_header, text, value_at,
};
use crate::settings::value::{self, ValueError};
use crate::settings::{assertion, net, preset, secret};

pub(super) fn settings() -> Vec<Setting> {
    headers().into_iter().chain(assertions()).chain(trust()).collect()
}

fn headers() -> Vec<Setting> {
    vec![
        // It only changes the defaults of the settings below.
        text(
            IDENTITY,
            "PRESET",
            "user",
            |_, text| preset::check(text),
            "The names of the headers below, unless they are set: user (as\n\
             shown), oauth2-proxy (X-Forwarded-User), authelia (Remote-User),\n\
             authentik (X-authentik-uid), pomerium (X-Pomerium-Claim-Sub)",
        ),
        header(
            USER_ID,
            |settings| &mut settings.handshake.identity.id,
            "The header with the user's id, which the gateway sets; an upgrade\nwithout it gets 401",
        ),
        choice(
            "POSTERN_USER_ID_CHARSET",
            |settings| &mut settings.handshake.identity_rules.ids,
            &[("strict", IdCharset::Strict), ("opaque", IdCharset::Opaque), ("any", IdCharset::Any)],
            "The characters of the ids of users and sessions; others get 400.\n\
             opaque: UTF-8 without spaces, commas, { } $ \" and invisible\n\
             characters; strict: A-Z a-z 0-9 . _ : @ + = / | -; any: opaque\n\
             with commas and inner spaces, for directory names",
        )
        .placeholder("CHARSET"),
        header(
            USER_EMAIL,
            |settings| &mut settings.handshake.identity.email,
            "The header with the e-mail address, for the log; optional. See\n\
             POSTERN_SHARE_EMAIL",
        ),
        header(
            USER_NAME,
            |settings| &mut settings.handshake.identity.name,
            "The header with the display name, for the log and for other\n\
             clients in a channel; optional",
        ),
        choice(
            "POSTERN_USER_NAME_ENCODING",
            |settings| &mut settings.handshake.identity_rules.names,
            &[("auto", NameEncoding::Auto), ("raw", NameEncoding::Raw)],
            "How the name and the e-mail address are decoded: auto decodes\n\
             encoded words (RFC 2047, =?UTF-8?Q?Ren=C3=A9e?=) and\n\
             percent-encoding (Ren%C3%A9e); raw decodes nothing",
        ),
        optional_header(
            USER_SESSION_ID,
            |settings| &mut settings.handshake.identity.session_id,
            "The header with the id of the session; optional, but an invalid one\n\
             gets 400. off ignores it, for gateways that pass on a client's own",
        ),
        optional_header(
            "POSTERN_REQUEST_ID_HEADER",
            |settings| &mut settings.handshake.request_id,
            "The header with the id of the request, which log records and the\n\
             101 repeat. Without it the id is taken from traceparent, or\n\
             generated. off ignores it, and the 101 has none",
        ),
        optional_header(
            TOKEN_EXP,
            |settings| &mut settings.handshake.identity.token_exp,
            "The header with the expiry of the token, in seconds since 1970;\n\
             optional, but anything else gets 400. off ignores it",
        ),
        optional_header(
            TOKEN_ISSUED_AT,
            |settings| &mut settings.handshake.identity.token_issued_at,
            "The header with the time at which the token was issued, in seconds\n\
             since 1970, for /api/revoke. Only for a gateway that removes a\n\
             client's own header of this name: User-Token-Issued-At",
        ),
        optional_header(
            TOKEN_ID,
            |settings| &mut settings.handshake.identity.token_id,
            "The header with the id of the token (jti), for /api/revoke. Only\n\
             for a gateway that removes a client's own header of this name:\n\
             User-Token-ID",
        ),
        optional_header(
            USER_CHANNELS,
            |settings| &mut settings.handshake.identity.channels,
            "The header with patterns of channels to which the user may\n\
             subscribe, such as auction:*,user.{id}.*. Only for a gateway that\n\
             removes a client's own header of this name: User-Channels",
        ),
    ]
}

/// Returns the settings of the signed identity. They only make sense together, so [`assertion::assertion`] interprets
/// them, and here each text is only checked.
fn assertions() -> Vec<Setting> {
    let settings = vec![
        text(
            ASSERTION,
            "PRESET",
            "off",
            |_, text| assertion::preset(text).map(drop),
            "Takes the identity from a signed token (JWT) instead of those\n\
             headers: pomerium, google-iap, cloudflare, custom, or off. An\n\
             upgrade without a valid token gets 401",
        ),
        text(
            ASSERTION_HEADER,
            "HEADER",
            "",
            |_, text| if_given(text, net::token_header),
            "The header with the token, alone or after Bearer, such as\n\
             Authorization; only custom needs it",
        ),
        text(
            ASSERTION_ISSUER,
            "TEXT",
            "",
            |_, _| Ok(()),
            "The issuer (iss): the host of the route for pomerium,\n\
             https://TEAM.cloudflareaccess.com for cloudflare",
        ),
        text(
            ASSERTION_AUDIENCE,
            "TEXT,…",
            "",
            |_, text| if_given(text, |text| net::words(text).map(drop)),
            "The audience (aud): the token must contain one of these. For\n\
             pomerium the default is the host of the route",
        ),
        text(
            ASSERTION_JWKS,
            "URL|FILE",
            "",
            |_, text| if_given(text, |text| assertion::keys(text).map(drop)),
            "The issuer's keys; only custom needs it. An https URL, an http URL\n\
             of this host, or a file, which is read every 2 s",
        ),
        text(
            ASSERTION_JWKS_INSECURE,
            "true|false",
            "false",
            |_, text| value::boolean(text).map(drop),
            "Allows an http URL of another host, such as a service of the\n\
             cluster. Anyone on the network path can then replace the keys and\n\
             be any user",
        ),
        text(
            ASSERTION_ID_CLAIM,
            "NAME,…",
            "sub",
            |_, text| assertion::claims(text).map(drop),
            "The claim with the user's id, a string or an integer; of several\n\
             names the first that is not empty. user.id is the member id of the\n\
             object user. For cloudflare the default is sub,common_name",
        ),
        text(
            ASSERTION_EMAIL_CLAIM,
            "NAME,…",
            "email",
            |_, text| assertion::claims(text).map(drop),
            "The claim with the e-mail address, for the log; optional",
        ),
        text(
            ASSERTION_NAME_CLAIM,
            "NAME,…",
            "name,preferred_username",
            |_, text| assertion::claims(text).map(drop),
            "The claim with the display name, for the log and for other clients\n\
             in a channel; optional",
        ),
        text(
            ASSERTION_EXPIRY,
            "true|false",
            "false",
            |settings, text| {
                settings.is_assertion_expiry_enforced = value::boolean(text)?;
                Ok(())
            },
            "Whether a connection ends when that token expires. Only for a\n\
             gateway whose tokens last as long as the session: others sign a\n\
             new one for each request, which lasts for minutes",
        ),
    ];
    let needs = |(setting, without)| Setting::needs(setting, Feature::Assertion, without);
    // A build without the feature allows the defaults.
    let defaults = ["off", "", "", "", "", "false", "sub", "email", "name,preferred_username", "false"];
    settings.into_iter().zip(defaults).map(needs).collect()
}

fn trust() -> Vec<Setting> {
    vec![
        text(
            TRUSTED_PROXIES,
            "CIDR,…",
            "loopback",
            |settings, text| {
                settings.handshake.trusted_proxies = net::proxies(text)?;
                Ok(())
            },
            "The peers whose identity headers are trusted; others get 403.\n\
             Networks such as 10.0.0.0/8, and loopback (this host), private\n\
             (RFC 1918, fc00::/7), cgnat (100.64.0.0/10), link-local\n\
             (169.254.0.0/16, fe80::/10), any (every peer)",
        ),
        choice(
            "POSTERN_CLIENT_ADDRESS",
            |settings| &mut settings.handshake.client_address,
            &[
                ("auto", ClientAddress::Auto),
                ("x-forwarded-for", ClientAddress::XForwardedFor),
                ("forwarded", ClientAddress::Forwarded),
                ("off", ClientAddress::Off),
            ],
            "The header of a trusted proxy with the client's address:\n\
             x-forwarded-for, forwarded, auto (the first of the two that is\n\
             present), or off. The address is only logged",
        )
        .placeholder("HEADER"),
        text(
            SECRET,
            "SECRET,…",
            "",
            |settings, text| secret::apply(&mut settings.handshake.proxy_secret.secrets, text),
            "A secret that a trusted proxy must send in addition, at least 16\n\
             characters. Several are valid at once, for rotation. Not as a flag:\n\
             flags are visible to other users of the host",
        )
        .secret(),
        text(
            SECRET_FILE,
            "PATH",
            "",
            |settings, text| {
                let secrets = &mut settings.handshake.proxy_secret.secrets;
                let file = secret::apply_file(secrets, text, SECRET_FILE, SECRET)?;
                settings.secret_files.extend(file);
                Ok(())
            },
            "Read it from this file, and again at SIGHUP",
        ),
        header(
            SECRET_HEADER,
            |settings| &mut settings.handshake.proxy_secret.header,
            "The header with the secret, in exactly one line; otherwise 403",
        ),
        text(
            ALLOWED_ORIGINS,
            "ORIGIN,…",
            "",
            |settings, text| {
                settings.handshake.allowed_origins = net::origins(text)?;
                Ok(())
            },
            "Origins of pages that may connect, in addition to those of the same\n\
             host: https://app.example.com:8443, tauri://localhost, null. In\n\
             https://*.example.com the asterisk is one label; * is every\n\
             origin; others get 403",
        ),
        value_at(
            HOST_HEADER,
            "HEADER",
            |settings| &mut settings.handshake.host_header,
            net::host_header,
            |header| show_optional_header(header),
            "The gateway's header with the host that the page requested, for\n\
             example X-Forwarded-Host, if the gateway changes Host. Several\n\
             hosts in it get 400. off uses Host",
        ),
        choice(
            "POSTERN_REJECT",
            |settings| &mut settings.handshake.reject,
            &[("http", Reject::Http), ("close", Reject::Close)],
            "How 401, 403 and 429 are sent: http; or close, which opens the\n\
             WebSocket only to close it with 4401, 4403 or 4430, because\n\
             browsers do not show pages the status",
        ),
        boolean(
            "POSTERN_STRICT_KEY",
            |settings| &mut settings.handshake.strict_key,
            "Requires a Sec-WebSocket-Key of 16 bytes, as RFC 6455 demands; a\n\
             widespread curl recipe sends 13",
        ),
    ]
}

/// Checks a text that may be left out.
fn if_given(text: &str, check: fn(&str) -> Result<(), ValueError>) -> Result<(), ValueError> {
    if text.is_empty() { Ok(()) } else { check(text) }
}
