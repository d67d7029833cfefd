//! Invalid settings and their errors.

use super::*;

#[test]
fn each_invalid_value_has_its_error() {
    for (name, value, complaint) in [
        ("PORT", "http", "not a whole number; write a whole number from 0 to 65535"),
        ("PORT", "-1", "is negative; write a whole number from 0 to 65535"),
        ("PORT", "65536", "must be at most 65535"),
        ("POSTERN_LISTEN", "8080", "8080 is not an address with a port; write 0.0.0.0:8080"),
        ("POSTERN_LISTEN", "0.0.0.0:1,::2", "::2 is not an address with a port; write [::2]:8080"),
        (
            "POSTERN_LISTEN",
            "0.0.0.0:1,",
            "an item of the list is empty; write a value between commas, and none at the end",
        ),
        (
            "POSTERN_LISTEN",
            "unix:run/x",
            "a Unix socket needs an absolute path; write for example unix:/run/postern.sock",
        ),
        ("POSTERN_LISTEN_MODE", "rw", "not the mode of a socket in octal; write for example 0660"),
        (
            "POSTERN_LISTEN_OWNER",
            "nobody-of-that-name",
            "there is no user nobody-of-that-name on this host; write for example 1000:1000",
        ),
        ("POSTERN_IDENTITY", "keycloak", "must be one of user, oauth2-proxy, authelia, authentik, pomerium"),
        (
            "POSTERN_PROXY_SECRET_HEADER",
            "User_Id",
            "the same header as POSTERN_USER_ID_HEADER, except for case and separators; write another",
        ),
        ("POSTERN_PROXY_SECRET_FILE", "/no/such/file", NO_FILE),
        ("POSTERN_REJECT", "drop", "must be one of http, close"),
        (
            "POSTERN_SUBPROTOCOLS",
            "a b",
            "a b is not a subprotocol; write letters, digits and !#$%&'*+-.^_`|~, for example chat",
        ),
        (
            "POSTERN_SUBPROTOCOLS",
            "chat,,x",
            "an item of the list is empty; write a value between commas, and none at the end",
        ),
        ("POSTERN_CLIENT_ADDRESS", "X-Real-IP", "must be one of auto, x-forwarded-for, forwarded, off"),
        ("POSTERN_PATH", "ws", "ws is not a path; write for example /ws"),
        ("POSTERN_PATH", "*", "* is not a path; write /* for every path"),
        (
            "POSTERN_PATH",
            "/ws*",
            "/ws* has a misplaced asterisk: it is only allowed at the end, after a slash; write /* for every \
             path, or for example /ws/* for every path below /ws",
        ),
        (
            "POSTERN_PATH",
            "/*/ws",
            "/*/ws has a misplaced asterisk: it is only allowed at the end, after a slash; write /* for every \
             path, or for example /ws/* for every path below /ws",
        ),
        ("POSTERN_HEALTH_PATH", "healthz", "healthz is not a path; write for example /healthz"),
        ("POSTERN_HEALTH_PATH", "/a,/b", "not one path; write for example /healthz, or off"),
        ("POSTERN_HEALTH_PATH", "/*", "not one path; write for example /healthz, or off"),
        (
            "POSTERN_HEALTH_PATH",
            "/ws",
            "POSTERN_PATH serves WebSockets at this path; write another, for example /healthz",
        ),
        ("POSTERN_PATH", "/ws?a", "/ws?a is not a path alone; leave out the query and the fragment"),
        ("POSTERN_PATH", "/ws#a", "/ws#a is not a path alone; leave out the query and the fragment"),
        ("POSTERN_PATH", "/a b", "/a b is not a path; write other than visible ASCII percent-encoded"),
        ("POSTERN_PATH", "/é", "/é is not a path; write other than visible ASCII percent-encoded"),
        ("POSTERN_WORKERS", "many", "not a whole number; write a whole number from 0 to 128"),
        ("POSTERN_WORKERS", "129", "must be at most 128"),
        ("POSTERN_USER_ID_HEADER", "User ID", "not the name of a header; write for example X-User-Id"),
        (
            "POSTERN_USER_ID_HEADER",
            "Authorization",
            "Authorization has another meaning and cannot contain an identity",
        ),
        (
            "POSTERN_USER_ID_HEADER",
            "sec_websocket_key",
            "Sec-WebSocket-Key has another meaning and cannot contain an identity",
        ),
        (
            "POSTERN_USER_ID_HEADER",
            "user_name",
            "the same header as POSTERN_USER_NAME_HEADER, except for case and separators; write another",
        ),
        (
            "POSTERN_USER_NAME_HEADER",
            "User-Email",
            "the same header as POSTERN_USER_EMAIL_HEADER, except for case and separators; write another",
        ),
        (
            "POSTERN_PATH",
            "/ws,/connection/websocket",
            "/connection/websocket is also a path of POSTERN_CHANNELS_PATH; write another, or take it out there",
        ),
        (
            "POSTERN_CHANNELS_PATH",
            "/ws",
            "/ws is also a path of POSTERN_PATH; write another, or take it out there",
        ),
        (
            "POSTERN_CHANNELS_UNI_PATH",
            "/uni,/connection/websocket",
            "/connection/websocket is also a path of POSTERN_CHANNELS_PATH; write another, or take it out there",
        ),
        (
            "POSTERN_TRUSTED_PROXIES",
            "10.0.0.0/33",
            "10.0.0.0/33 is not a block of addresses: the number after / is 0 to 32 here; write for example \
             10.0.0.0/8, or loopback, private, any",
        ),
        (
            "POSTERN_TRUSTED_PROXIES",
            "private,traefik",
            "traefik is not a block of addresses: names are not looked up, so write the address of the host or its \
             network; write for example 10.0.0.0/8, or loopback, private, any",
        ),
        (
            "POSTERN_ALLOWED_ORIGINS",
            "https://a.example/",
            "an origin ends after its host or port; write https://a.example",
        ),
        (
            "POSTERN_ALLOWED_ORIGINS",
            "https://a.example:8443/app",
            "an origin ends after its host or port; write https://a.example:8443",
        ),
        (
            "POSTERN_ALLOWED_ORIGINS",
            "a.example",
            "a.example is not an origin; write for example https://a.example",
        ),
        (
            "POSTERN_ALLOWED_ORIGINS",
            "*.example.com",
            "*.example.com is not an origin; write for example https://*.example.com",
        ),
        (
            "POSTERN_ALLOWED_ORIGINS",
            "https://app-*.example.com",
            "in https://app-*.example.com, * is not the whole first label of a name, or not the only one; write for \
             example https://*.example.com",
        ),
        (
            "POSTERN_ALLOWED_ORIGINS",
            "https://*",
            "https://* is every host; write for example https://*.example.com, or * to admit every origin",
        ),
        (
            "POSTERN_ALLOWED_ORIGINS",
            "https://bücher.example",
            "browsers send the host of https://bücher.example in ASCII; write it in that form, for example \
             https://xn--bcher-kva.example",
        ),
        (
            "POSTERN_HOST_HEADER",
            "Forwarded",
            "Forwarded has more in it than a host; write for example X-Forwarded-Host",
        ),
        (
            "POSTERN_HOST_HEADER",
            "Host",
            "Host is read without this setting; write for example X-Forwarded-Host, or off",
        ),
        ("POSTERN_USER_ID_CHARSET", "utf-8", "must be one of strict, opaque, any"),
        ("POSTERN_USER_NAME_ENCODING", "rfc2047", "must be one of auto, raw"),
        ("POSTERN_ALLOWED_ORIGINS", "https://a.example,*", "* is every origin; write it alone"),
        (
            "POSTERN_ALLOWED_ORIGINS",
            "https://",
            "https:// is not an origin; write for example https://app.example.com",
        ),
        ("POSTERN_ASSERTION", "iap", "must be one of off, pomerium, google-iap, cloudflare, custom"),
        ("POSTERN_ASSERTION_HEADER", "X Y", "not the name of a header; write for example X-User-Id"),
        ("POSTERN_ASSERTION_HEADER", "Cookie", "Cookie has another meaning and cannot contain an identity"),
        (
            "POSTERN_ASSERTION_AUDIENCE",
            "a,,b",
            "an item of the list is empty; write a value between commas, and none at the end",
        ),
        (
            "POSTERN_ASSERTION_JWKS",
            "file:///etc/jwks.json",
            "not an https URL; write https, or the path of a file without a scheme",
        ),
        (
            "POSTERN_ASSERTION_ISSUER",
            "https://issuer.example",
            "has no effect while POSTERN_ASSERTION is off; write POSTERN_ASSERTION=custom, or one of pomerium, \
             google-iap, cloudflare",
        ),
        (
            "POSTERN_ASSERTION",
            "pomerium",
            "needs POSTERN_ASSERTION_ISSUER, too; write for example app.example.com, the host of the route",
        ),
        (
            "POSTERN_ASSERTION",
            "google-iap",
            "needs POSTERN_ASSERTION_AUDIENCE, too; write for example /projects/NUMBER/global/backendServices/ID",
        ),
        ("POSTERN_STRICT_KEY", "maybe", "must be one of true, false"),
        ("POSTERN_MAX_CONNECTIONS", "-1", "is negative; write a whole number from 0"),
        (
            "POSTERN_MAX_MESSAGE",
            "64Q",
            "not a size: Q is not a unit; write for example 64KiB, with B, KiB, MiB, GiB or TiB",
        ),
        ("POSTERN_MAX_MESSAGE", "1TiB", "must be at most 1GiB"),
        ("POSTERN_MAX_MESSAGE", "64KB", "not a size; units are powers of 1024, write 64KiB"),
        ("POSTERN_MAX_MESSAGE", "0", "must be at least 1B"),
        ("POSTERN_MAX_MESSAGE", "2GiB", "must be at most 1GiB"),
        ("POSTERN_MAX_FRAME", "0", "must be at least 1B"),
        ("POSTERN_MAX_FRAGMENTS", "0", "must be at least 1"),
        ("POSTERN_MESSAGE_TIMEOUT", "30", "a duration needs a unit; write 30s or 30ms"),
        ("POSTERN_MAX_BACKLOG", "0", "must be at least 1KiB"),
        ("POSTERN_WRITE_TIMEOUT", "25h", "must be at most 24h"),
        ("POSTERN_CLOSE_TIMEOUT", "0", "must be more than 0; write for example 25s, 500ms or 1m"),
        ("POSTERN_HANDSHAKE_TIMEOUT", "0s", "must be more than 0; write for example 25s, 500ms or 1m"),
        ("POSTERN_HANDSHAKE_TIMEOUT", "soon", "not a duration; write for example 25s, 500ms or 1m"),
        ("POSTERN_MAX_HEAD", "511", "must be at least 512B"),
        ("POSTERN_MAX_HEAD", "2MiB", "must be at most 1MiB"),
        ("POSTERN_MAX_HEADERS", "257", "must be at most 256"),
        ("LOG_LEVEL", "loud", "must be one of trace, debug, info, warn, error, critical"),
        ("LOG_FORMAT", "xml", "must be one of term, json"),
        ("POSTERN_LOG_MESSAGES", "all", "must be one of full, truncated, size, off"),
        ("POSTERN_LOG_EMAIL", "none", "must be one of full, masked, off"),
        ("POSTERN_CONTROL", "9091", "9091 is not an address with a port; write 127.0.0.1:9091, or off"),
        ("POSTERN_API_KEY_FILE", "/no/such/file", NO_FILE),
    ] {
        let error = Texts { environment: &[(name, value)], ..Texts::default() }.error();
        assert_eq!(error, format!("{name}={value}: {complaint}"));
    }
}

#[test]
fn an_error_names_the_source_of_the_value() {
    let complaint = "not a size; write for example 64KiB";
    let flags = &["--max-message", "much"];
    assert_eq!(Texts { flags, ..Texts::default() }.error(), format!("--max-message=much: {complaint}"));
    let environment = &[("POSTERN_MAX_MESSAGE", "much")];
    assert_eq!(
        Texts { environment, ..Texts::default() }.error(),
        format!("POSTERN_MAX_MESSAGE=much: {complaint}")
    );
    let dotenv = "# The longest\nPORT=1\n\nPOSTERN_MAX_MESSAGE=much";
    assert_eq!(
        Texts { dotenv, ..Texts::default() }.error(),
        format!(".env line 4: POSTERN_MAX_MESSAGE=much: {complaint}")
    );
    // Only the value that applies is checked.
    let texts = Texts { flags: &["--max-message=1KiB"], dotenv, ..Texts::default() };
    assert_eq!(texts.settings().session.max_message, 1024);
}

#[test]
fn an_error_is_one_line_whatever_it_quotes() {
    let environment = &[("POSTERN_PATH", "/a\nb\u{202e}\\")];
    assert_eq!(
        Texts { environment, ..Texts::default() }.error(),
        r"POSTERN_PATH=/a\nb\u{202e}\: /a\nb\u{202e}\ is not a path; write other than visible ASCII percent-encoded"
    );
}

#[test]
fn an_unknown_name_with_our_prefix_is_an_error() {
    for (name, line) in [
        ("POSTERN_PAHT", "POSTERN_PAHT: no such setting; did you mean POSTERN_PATH?"),
        ("POSTERN_MAX_MESAGE", "POSTERN_MAX_MESAGE: no such setting; did you mean POSTERN_MAX_MESSAGE?"),
        (
            "POSTERN_TRUSTED_PROXY",
            "POSTERN_TRUSTED_PROXY: no such setting; did you mean POSTERN_TRUSTED_PROXIES?",
        ),
        ("POSTERN_COLOUR", "POSTERN_COLOUR: no such setting; --help lists them"),
        ("POSTERN_PRT", "POSTERN_PRT: no such setting; did you mean PORT?"),
        ("POSTERN_PORT", "POSTERN_PORT: no such setting; did you mean PORT?"),
        ("POSTERN_LOG_LEVEL", "POSTERN_LOG_LEVEL: no such setting; did you mean LOG_LEVEL?"),
        ("POSTERN_MAX_MSG", "POSTERN_MAX_MSG: no such setting; did you mean POSTERN_MAX_MESSAGE?"),
        ("postern_path", "postern_path: no such setting; did you mean POSTERN_PATH?"),
        ("POSTERN_", "POSTERN_: no such setting; --help lists them"),
    ] {
        assert_eq!(Texts { environment: &[(name, "x")], ..Texts::default() }.error(), line);
        let dotenv = &format!("{name}=x");
        assert_eq!(Texts { dotenv, ..Texts::default() }.error(), format!(".env line 1: {line}"));
    }
    let environment = &[("HOST_PORT", "x"), ("JWT_SECRET", "x"), ("LOG_LEVELS", "x"), ("PATH", "x")];
    Texts { environment, dotenv: "JWT_SECRET=x\nRUST_LOG=y", ..Texts::default() }.settings();
}

#[test]
fn each_invalid_command_line_has_its_error() {
    for (flags, line) in [
        (&["--lisen", "x"] as &[&str], "--lisen: no such flag; did you mean --listen?"),
        (&["--print-confg"], "--print-confg: no such flag; did you mean --print-config?"),
        (&["--colour=x"], "--colour: no such flag; --help lists them"),
        (&["-p", "8080"], "-p: no such flag; --help lists them"),
        (&["8080"], "8080: settings are flags, as in --port 8080; --help lists them"),
        (&["--port"], "--port: a value is missing; write --port <PORT>"),
        (&["--port", "1", "--port", "2"], "--port: given twice; leave out one of the two"),
        (&["--port", "--path=/a"], "--port: a value is missing; write --port <PORT>"),
        (&["--port", "-1"], "--port=-1: is negative; write a whole number from 0 to 65535"),
        (&["--prot", "8080"], "--prot: no such flag; did you mean --port?"),
        (&["-port", "8080"], "-port: no such flag; did you mean --port?"),
        (&["--Max_Message=1KiB"], "--Max_Message: no such flag; did you mean --max-message?"),
        (&["--postern-max-message=1KiB"], "--postern-max-message: no such flag; did you mean --max-message?"),
        (&["serve"], "serve: settings are flags, as in --port 8080; --help lists them"),
        (&["--"], "--: no such flag; --help lists them"),
        (&["--help=all"], "--help: takes no value; write --help"),
        (&["--print-config=yes"], "--print-config: takes no value; write --print-config"),
        (
            &["--path="],
            "--path=: an item of the list is empty; write a value between commas, and none at the end",
        ),
    ] {
        assert_eq!(Texts { flags, ..Texts::default() }.error(), line, "{flags:?}");
    }
}

#[cfg(unix)]
#[test]
fn a_setting_that_is_not_utf_8_is_an_error() {
    use std::os::unix::ffi::OsStringExt;
    let odd = || OsString::from_vec(vec![0xff]);
    let load = |flags: Vec<OsString>, environment: Vec<(OsString, OsString)>| {
        load(&POSTERN, flags, environment, || Ok(None)).map(drop).map_err(|errors| errors.to_string())
    };
    let error = "--path: the value is not UTF-8; write it with visible ASCII characters";
    assert_eq!(load(vec!["--path".into(), odd()], vec![]), Err(error.to_owned()));
    assert_eq!(load(vec![odd()], vec![]), Err("an argument is not UTF-8; --help lists the flags".to_owned()));
    let error = "POSTERN_PATH: the value is not UTF-8; write it with visible ASCII characters".to_owned();
    assert_eq!(load(vec![], vec![("POSTERN_PATH".into(), odd())]), Err(error));
    assert_eq!(load(vec![], vec![("OTHER".into(), odd()), (odd(), odd())]), Ok(()));
}

#[test]
fn a_dotenv_that_cannot_be_read_is_named_without_its_secrets() {
    let dotenv = "PORT=1\nJWT_SECRET=hunter2 hunter2\n";
    assert_eq!(Texts { dotenv, ..Texts::default() }.error(), format!(".env line 2: {NO_LINE}"));
    assert_eq!(Texts { dotenv: "hunter2", ..Texts::default() }.error(), format!(".env line 1: {NO_LINE}"));
    let denied = load(&POSTERN, [], [], || Err(ErrorKind::PermissionDenied.into())).unwrap_err();
    let said = denied.to_string();
    assert!(said.starts_with("cannot read .env: permission denied; let the user "), "{said}");
    let directory = load(&POSTERN, [], [], || Err(ErrorKind::IsADirectory.into())).unwrap_err();
    assert_eq!(directory.to_string(), "cannot read .env: it is a directory; write the path of a file");
}

#[test]
fn each_line_of_dotenv_that_is_wrong_has_its_number() {
    let dotenv = "# a comment\n\nPORT=1\nNOTES=\"two\nlines\"\nhunter2 hunter2\nPOSTERN_PAHT=/a\n\
                  POSTERN_MAX_MESSAGE=64KB\nexport POSTERN_WORKERS=many\nPOSTERN_PATH='/a\n";
    let expected = [
        format!(".env line 6: {NO_LINE}"),
        ".env line 7: POSTERN_PAHT: no such setting; did you mean POSTERN_PATH?".to_owned(),
        format!(".env line 10: {NO_LINE}"),
        ".env line 9: POSTERN_WORKERS=many: not a whole number; write a whole number from 0 to 128"
            .to_owned(),
        ".env line 8: POSTERN_MAX_MESSAGE=64KB: not a size; units are powers of 1024, write 64KiB".to_owned(),
    ];
    assert_eq!(Texts { dotenv, ..Texts::default() }.errors(), expected);
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let texts = Texts {
        flags: &["--prot", "1", "--colour=x", "--message-timeout=30", "serve"],
        environment: &[
            ("POSTERN_USER_NAME_HEADER", "User-Email"),
            ("PORT", "http"),
            ("POSTERN_TRUSTED_PROXY", "1"),
            ("POSTERN_ASSERTION", "custom"),
        ],
        dotenv: "LOG_FORMAT=xml\nPOSTERN_X=1",
    };
    let expected = [
        "--prot: no such flag; did you mean --port?",
        "--colour: no such flag; --help lists them",
        "serve: settings are flags, as in --port 8080; --help lists them",
        "POSTERN_TRUSTED_PROXY: no such setting; did you mean POSTERN_TRUSTED_PROXIES?",
        ".env line 2: POSTERN_X: no such setting; --help lists them",
        "PORT=http: not a whole number; write a whole number from 0 to 65535",
        "--message-timeout=30: a duration needs a unit; write 30s or 30ms",
        ".env line 1: LOG_FORMAT=xml: must be one of term, json",
        "POSTERN_USER_NAME_HEADER=User-Email: the same header as POSTERN_USER_EMAIL_HEADER, except for case \
         and separators; write another",
        "POSTERN_ASSERTION=custom: needs POSTERN_ASSERTION_HEADER, too; write for example X-Jwt-Assertion",
        "POSTERN_ASSERTION=custom: needs POSTERN_ASSERTION_ISSUER, too; write for example https://issuer.example.com",
        "POSTERN_ASSERTION=custom: needs POSTERN_ASSERTION_AUDIENCE, too; write for example https://app.example.com",
        "POSTERN_ASSERTION=custom: needs POSTERN_ASSERTION_JWKS, too; write for example \
         https://issuer.example.com/jwks.json or /etc/postern/jwks.json",
    ];
    let errors = texts.errors();
    if cfg!(feature = "assertion") {
        assert_eq!(errors, expected);
    }
}

/// One mistake is one error, even if other values derive from it.
#[test]
fn a_mistake_in_a_value_that_others_refer_to_is_reported_once() {
    for (name, value) in [("PORT", "http"), ("POSTERN_MAX_MESSAGE", "0"), ("POSTERN_IDENTITY", "keycloak")] {
        let error = Texts { environment: &[(name, value)], ..Texts::default() }.error();
        assert!(error.starts_with(&format!("{name}={value}: ")), "{error}");
    }
}

#[test]
fn two_listeners_cannot_have_one_port() {
    for (listen, control, error) in [
        (
            "0.0.0.0:1,127.0.0.1:1",
            "off",
            "POSTERN_LISTEN=0.0.0.0:1,127.0.0.1:1: 127.0.0.1:1 has the port of 0.0.0.0:1 in POSTERN_LISTEN; write \
             another, for example 2",
        ),
        (
            "0.0.0.0:8080",
            "127.0.0.1:8080",
            "POSTERN_CONTROL=127.0.0.1:8080: 127.0.0.1:8080 has the port of 0.0.0.0:8080 in POSTERN_LISTEN; write \
             another, for example 8081",
        ),
        (
            "[::]:8080",
            "127.0.0.1:8080",
            "POSTERN_CONTROL=127.0.0.1:8080: 127.0.0.1:8080 has the port of [::]:8080 in POSTERN_LISTEN; write \
             another, for example 8081",
        ),
        (
            "127.0.0.1:8080",
            "[::]:8080",
            "POSTERN_CONTROL=[::]:8080: [::]:8080 has the port of 127.0.0.1:8080 in POSTERN_LISTEN; write another, \
             for example 8081",
        ),
    ] {
        let environment = &[("POSTERN_LISTEN", listen), ("POSTERN_CONTROL", control)];
        assert_eq!(Texts { environment, ..Texts::default() }.error(), error);
    }
    for (listen, control) in [
        ("127.0.0.1:1,127.0.0.2:1", "127.0.0.3:1"),
        ("0.0.0.0:1,[::]:1", "off"),
        ("127.0.0.1:0,127.0.0.1:0", "127.0.0.1:0"),
        ("unix:/a,unix:/b", "127.0.0.1:1"),
    ] {
        let environment = &[("POSTERN_LISTEN", listen), ("POSTERN_CONTROL", control)];
        Texts { environment, ..Texts::default() }.settings();
    }
}

const NO_FILE: &str = "cannot read the file: there is no such file; create it, or write another path";

const NO_LINE: &str = "not NAME=value; a value with spaces needs quotation marks around it, and each quotation mark its \
                       partner";
