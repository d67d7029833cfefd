use super::*;
use crate::handshake::opaque::IdCharset;

fn judge(headers: &[(&str, &[u8])], options: &[&[u8]]) -> Result<Identity, HandshakeError> {
    let names = IdentityHeaders::default();
    let mut values = IdentityHeaderValues::default();
    headers.iter().for_each(|(name, value)| values.add_line(&names, name, value));
    options.iter().for_each(|option| values.add_connection_option(&names, option));
    values.identity(&IdentityRules::default())
}

/// Creates an identity of an id, an e-mail address, a name, a session and an expiry.
fn identity([id, email, name, session_id, token_exp]: [&[u8]; 5]) -> Identity {
    let values = IdentityValues { id, email, name, session_id, token_exp, ..IdentityValues::default() };
    IdentityRules::default().identity(&values).expect("an identity")
}

const NAMES: [&str; 5] = ["User-ID", "User-Email", "User-Name", "User-Session-ID", "User-Token-Exp"];

#[test]
fn an_identity_is_the_three_headers_in_any_case() {
    let user =
        judge(&[("user-id", b"123"), ("USER-NAME", b"John Doe"), ("User-Email", b"john@example.com")], &[])
            .expect("an identity");
    assert_eq!((user.id(), user.name(), user.email()), ("123", Some("John Doe"), Some("john@example.com")));
    let user = judge(&[("User-Id", b"u-1")], &[]).expect("an identity");
    assert_eq!((user.id(), user.name(), user.email()), ("u-1", None, None));
    let user = judge(&[("User-Id", b"u-1"), ("User-Name", b"Ann")], &[]).expect("an identity");
    assert_eq!((user.id(), user.name(), user.email()), ("u-1", Some("Ann"), None));
}

#[test]
fn a_session_has_an_id_and_an_end_if_they_are_said() {
    let user =
        judge(&[("user-session-id", b"s-7"), ("User-Token-Exp", b"1800000000"), ("User-ID", b"1")], &[])
            .expect("an identity");
    assert_eq!((user.session_id(), user.token_exp()), (Some("s-7"), Some(1_800_000_000)));
    assert_eq!((user.id(), user.email(), user.name()), ("1", None, None));
    let user = identity([b"1", b"a@b", b"Ann", b"", b"0"]);
    assert_eq!((user.session_id(), user.token_exp()), (None, Some(0)));
    assert_eq!((user.email(), user.name()), (Some("a@b"), Some("Ann")));
    let user = identity([b"1", b"", b"", b"7", b""]);
    assert_eq!((user.session_id(), user.token_exp()), (Some("7"), None));
    let long = [b'x'; 400];
    let user = identity([&long[..255], &long, &long, &long[..255], b"99999999999"]);
    assert_eq!(user.session_id().map(str::len), Some(255));
    assert_eq!(user.token_exp(), Some(99_999_999_999));
}

#[test]
fn the_id_of_the_request_is_kept_beside_all_else() {
    let user = identity([b"1", b"a@b", b"Ann", b"s", b"12"]);
    let user = user.with_request_id(Some("r-1"));
    assert_eq!((user.request_id(), user.token_exp(), user.session_id()), (Some("r-1"), Some(12), Some("s")));
    let user = user.with_request_id(None);
    assert_eq!((user.request_id(), user.token_exp(), user.name()), (None, Some(12), Some("Ann")));
    let longest = "x".repeat(RequestId::MAX);
    let user = user.with_request_id(Some(&longest));
    assert_eq!((user.request_id(), user.token_exp()), (Some(&longest[..]), Some(12)));
    assert_eq!(user.with_request_id(Some(&(longest + "x"))).request_id(), None);
}

#[test]
fn the_page_and_the_subprotocol_are_kept_with_all_else() {
    let client = Some(Client::Obfuscated("_x"));
    let (page, chat) = (Some("https://app.example.com"), Some("chat"));
    for (request_id, client) in [(None, None), (Some("r-1"), None), (None, client), (Some("r-1"), client)] {
        let user = Identity::new(b"1", b"a@b", b"Ann").expect("an identity").with_request(request_id, client);
        for (origin, subprotocol) in [(None, None), (page, None), (None, chat), (page, chat)] {
            let known = user.clone().with_page(origin, subprotocol);
            assert_eq!((known.origin(), known.subprotocol()), (origin, subprotocol));
            assert_eq!((known.request_id(), known.client()), (user.request_id(), user.client()));
            assert_eq!((known.id(), known.name(), known.token_exp()), ("1", Some("Ann"), None));
            // Each can be replaced without the others.
            let other = known.with_request(Some("r-2"), None);
            assert_eq!((other.origin(), other.subprotocol()), (origin, subprotocol));
            assert_eq!((other.request_id(), other.client()), (Some("r-2"), None));
            assert_eq!(other.with_page(None, None).with_request(request_id, client), user);
        }
    }
    let long = "x".repeat(Identity::MAX_ORIGIN + 1);
    let user = Identity::new(b"1", b"", b"").expect("an identity");
    assert_eq!(user.clone().with_page(Some(&long), Some(&long)), user);
    assert_eq!(user.clone().with_page(Some("https://a\nb"), None), user);
    assert_eq!(user.with_page(Some(&long[1..]), None).origin(), Some(&long[1..]));
}

#[test]
fn the_client_is_kept_if_it_is_known() {
    let client = Some(Client::Address("2001:db8::17".parse().expect("an address")));
    for exp in [None, Some(&b"12"[..])] {
        let user = || identity([b"1", b"a@b", b"Ann", b"s", exp.unwrap_or_default()]);
        assert_eq!(user().client(), None);
        for request_id in [None, Some("r-1")] {
            let known = user().with_request(request_id, client);
            assert_eq!((known.client(), known.request_id()), (Some("2001:db8::17"), request_id));
            assert_eq!((known.token_exp(), known.session_id()), (exp.map(|_| 12), Some("s")));
            let other = known.with_request(Some("r-2"), Some(Client::Obfuscated("_x")));
            assert_eq!((other.client(), other.request_id()), (Some("_x"), Some("r-2")));
            assert_eq!(other.with_request(None, None), user());
        }
    }
}

#[test]
fn it_is_small() {
    assert!(size_of::<Identity>() <= 24);
}

#[test]
fn a_bad_session_id_breaks_a_handshake() {
    for bad in [&b"1,2"[..], b"1 2", b"{http.x}", b"\xe9", &[b'x'; 256]] {
        let verdict = judge(&[("User-ID", b"1"), ("User-Session-ID", bad)], &[]).map(drop);
        assert_eq!(verdict, Err(HandshakeError::SessionIdInvalid), "{}", bad.escape_ascii());
    }
}

#[test]
fn an_expiry_is_a_number_of_seconds_or_breaks_the_handshake() {
    for bad in [
        &b"never"[..],
        b"-1",
        b"+1",
        b"1.5",
        b"1e9",
        b"1 2",
        b"0x7",
        b"1,2",
        b"1800000000000",
        b"999999999999",
        b"\xd9\xa1",
    ] {
        let verdict = judge(&[("User-ID", b"1"), ("User-Token-Exp", bad)], &[]).map(drop);
        assert_eq!(verdict, Err(HandshakeError::TokenExpInvalid), "{}", bad.escape_ascii());
    }
}

#[test]
fn a_header_without_a_name_is_not_read() {
    let names = IdentityHeaders { session_id: String::new(), ..IdentityHeaders::default() };
    let mut values = IdentityHeaderValues::default();
    values.add_line(&names, "User-ID", b"1");
    values.add_line(&names, "User-Session-ID", b"{}");
    values.add_connection_option(&names, b"");
    assert_eq!(values.identity(&IdentityRules::default()).expect("an identity").session_id(), None);
}

#[test]
fn an_empty_header_is_an_absent_one() {
    for empty in [&b""[..], b" ", b"\t", b" \t "] {
        let headers = NAMES.map(|name| (name, if name == "User-ID" { b"1" } else { empty }));
        assert_eq!(judge(&headers, &[]), judge(&headers[..1], &[]), "{}", empty.escape_ascii());
        let verdict = judge(&[("User-ID", empty), ("User-Name", b"Ann")], &[]).map(drop);
        assert_eq!(verdict, Err(HandshakeError::IdentityMissing), "{}", empty.escape_ascii());
        // Two lines are two lines.
        for name in NAMES {
            for lines in [[(name, &b"1"[..]), (name, empty)], [(name, empty), (name, &b"1"[..])]] {
                let verdict = judge(&lines, &[]).map(drop);
                assert_eq!(verdict, Err(HandshakeError::IdentityTwice), "{name}");
            }
        }
    }
}

#[test]
fn an_id_is_1_to_255_bytes_of_utf8() {
    #[track_caller]
    fn check(id: &[u8], verdict: Result<(), HandshakeError>) {
        let case = id.escape_ascii().to_string();
        assert_eq!(judge(&[("User-ID", id)], &[]).map(drop), verdict, "{case}");
        let session = [("User-ID", &b"1"[..]), ("User-Session-ID", id)];
        let verdict = match verdict {
            Err(HandshakeError::IdentityInvalid) => Err(HandshakeError::SessionIdInvalid),
            // There need not be one.
            _ => Ok(()),
        };
        assert_eq!(judge(&session, &[]).map(drop), verdict, "{case} of a session");
    }
    check(b"", Err(HandshakeError::IdentityMissing));
    check(b"A-Za-z09._:@+=/|", Ok(()));
    check(&[b'x'; 255], Ok(()));
    check(&[b'x'; 256], Err(HandshakeError::IdentityInvalid));
    check("é".repeat(127).as_bytes(), Ok(()));
    check("é".repeat(128).as_bytes(), Err(HandshakeError::IdentityInvalid));
    for byte in 0..=255u8 {
        let is_id = byte.is_ascii_graphic() && !b",{}$\"".contains(&byte);
        let verdict = if is_id { Ok(()) } else { Err(HandshakeError::IdentityInvalid) };
        check(&[b'a', byte, b'b'], verdict);
    }
    check(b"{http.reverse_proxy.header.User-Id}", Err(HandshakeError::IdentityInvalid));
    check(b"1,2", Err(HandshakeError::IdentityInvalid));
    check("o'brien%40例え".as_bytes(), Ok(()));
}

#[test]
fn the_charset_is_that_of_the_rules() {
    let id = |ids, id: &[u8]| {
        let rules = IdentityRules { ids, ..IdentityRules::default() };
        let user = rules.identity(&IdentityValues { id, ..IdentityValues::default() });
        user.map(|user| user.id().to_owned())
    };
    assert_eq!(id(IdCharset::Strict, b"it's"), Err(HandshakeError::IdentityInvalid));
    assert_eq!(id(IdCharset::Opaque, b"it's"), Ok("it's".to_owned()));
    assert_eq!(id(IdCharset::Opaque, b"CN=A B,O=C"), Err(HandshakeError::IdentityInvalid));
    assert_eq!(id(IdCharset::Any, b"CN=A B,O=C"), Ok("CN=A B,O=C".to_owned()));
    assert_eq!(id(IdCharset::Any, b" a"), Err(HandshakeError::IdentityInvalid));
}

#[test]
fn an_id_is_compared_byte_by_byte() {
    let spellings = ["%41", "A", "a", "é", "e\u{301}", "Ａ"];
    for a in spellings {
        for b in spellings {
            let same = identity([a.as_bytes(), b"", b"", b"", b""]).id() == b;
            assert_eq!(same, a == b, "{a} and {b}");
        }
    }
}

#[test]
fn a_missing_id_and_a_bad_one_are_different_errors() {
    assert_eq!(judge(&[("User-Name", b"Ann")], &[]).map(drop), Err(HandshakeError::IdentityMissing));
}

#[test]
fn each_header_may_stand_there_once() {
    for name in NAMES {
        let headers = [("User-ID", &b"1"[..]), (name, b"1"), (name, b"1")];
        assert_eq!(judge(&headers, &[]).map(drop), Err(HandshakeError::IdentityTwice), "{name}");
    }
}

#[test]
fn any_other_separator_makes_an_alias() {
    for separator in "!#$%&'*+.^_`|~".chars() {
        for name in NAMES {
            let alias = name.replace('-', &separator.to_string()).to_lowercase();
            let headers = [("User-ID", &b"1"[..]), (&alias, b"2")];
            assert_eq!(judge(&headers, &[]).map(drop), Err(HandshakeError::IdentityAlias), "{alias}");
        }
    }
    for other in ["UserID", "User--ID", "User-IDs", "XUser-ID", "User-I_", "Userx1d"] {
        assert!(judge(&[("User-ID", b"1"), (other, b"2")], &[]).is_ok(), "{other}");
    }
}

#[test]
fn connection_must_not_nominate_one() {
    for name in NAMES {
        for option in [name.to_owned(), name.to_lowercase(), name.to_uppercase()] {
            let verdict = judge(&[("User-ID", b"1")], &[b"Upgrade", option.as_bytes()]).map(drop);
            assert_eq!(verdict, Err(HandshakeError::IdentityNominated), "{option}");
        }
    }
    assert!(judge(&[("User-ID", b"1")], &[b"Upgrade", b"keep-alive", b"User"]).is_ok());
}

#[track_caller]
fn check_name(value: &[u8], name: Option<&str>) {
    let user =
        judge(&[("User-ID", b"1"), ("User-Name", value)], &[]).expect("a bad name never breaks a handshake");
    assert_eq!(user.name(), name);
    let user = judge(&[("User-ID", b"1"), ("User-Email", value)], &[]).expect("nor does a bad address");
    assert_eq!(user.email(), name);
}

#[test]
fn names_are_utf8_else_latin1() {
    check_name("Renée 李 Дима 😀".as_bytes(), Some("Renée 李 Дима 😀"));
    check_name(b"Ren\xe9e", Some("Renée"));
    check_name(b"100%", Some("100%"));
    check_name(b"Ren%C3%A9e", Some("Renée"));
    check_name(b"=?utf-8?q?Ren=C3=A9e?=", Some("Renée"));
    check_name(b"", None);
}

#[test]
fn names_lose_control_characters_and_outer_spaces() {
    check_name(b"  A\tn\x01n\x7f ", Some("Ann"));
    check_name("\u{85}A\u{9b}n\u{0}n \u{1b}".as_bytes(), Some("Ann"));
    check_name(b"\t \x01", None);
}

#[test]
fn names_are_cut_between_characters() {
    check_name("x".repeat(256).as_bytes(), Some(&"x".repeat(256)));
    check_name("x".repeat(257).as_bytes(), Some(&"x".repeat(256)));
    check_name(("x".repeat(255) + "é").as_bytes(), Some(&"x".repeat(255)));
    check_name(&[0xe9; 300], Some(&"é".repeat(128)));
}
