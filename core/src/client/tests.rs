//! Our client against the words of RFC 6455 §4.1, and against our own server.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::handshake::{HandshakeConfig, HeadReader, Peer, UpgradeRequest};
use crate::id::ConnectionId;
use crate::{CloseCode, Codec, Event, Input, Session, SessionConfig, Transport, Turn};

/// The nonce and the accept value of RFC 6455 §1.3.
const NONCE: [u8; 16] = *b"the sample nonce";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

fn start(request: &ClientRequest<'_>) -> (ClientHandshake, String) {
    let mut out = Vec::new();
    let handshake = ClientHandshake::start(request, NONCE, &mut out).unwrap();
    (handshake, String::from_utf8(out).unwrap())
}

fn answer(request: &ClientRequest<'_>, response: &str) -> Result<Option<Connected>, ConnectError> {
    let (mut handshake, _) = start(request);
    let mut bytes = response.as_bytes().to_vec();
    handshake.receive(&mut Input::new(&mut bytes))
}

fn plain() -> ClientRequest<'static> {
    ClientRequest::new("localhost:8080", "/ws?room=1")
}

/// Returns a 101 with further header lines.
fn switched(more: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\n{more}\r\n"
    )
}

#[test]
fn the_request_is_as_the_rfc_has_it() {
    let request = ClientRequest {
        headers: &[("User-ID", "123")],
        subprotocols: &["postern.v1.json", "chat"],
        offers_deflate: true,
        ..plain()
    };
    let (_, text) = start(&request);
    assert_eq!(
        text,
        "GET /ws?room=1 HTTP/1.1\r\nHost: localhost:8080\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: postern.v1.json, chat\r\n\
         Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; \
         client_no_context_takeover; client_max_window_bits\r\nUser-ID: 123\r\n\r\n"
    );
}

#[test]
fn every_bit_of_the_nonce_is_in_the_key() {
    use std::collections::HashSet;
    let key = |nonce| {
        let mut out = Vec::new();
        ClientHandshake::start(&plain(), nonce, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    let nonces = (0..128).map(|bit| (1u128 << bit).to_be_bytes()).chain([[0; 16], [0xff; 16]]);
    let keys: HashSet<String> = nonces.map(key).collect();
    assert_eq!(keys.len(), 130);
    assert!(key([0xff; 16]).contains("Sec-WebSocket-Key: /////////////////////w==\r\n"));
}

#[test]
fn a_request_that_could_mean_something_else_is_not_written() {
    let smuggled = ClientRequest { headers: &[("A", "b\r\nUser-ID: 1")], ..plain() };
    for (request, error) in [
        (ClientRequest::new("", "/"), InvalidRequest::Host),
        (ClientRequest::new("a b", "/"), InvalidRequest::Host),
        (ClientRequest::new("a\r\nX: y", "/"), InvalidRequest::Host),
        (ClientRequest::new("user@a", "/"), InvalidRequest::Host),
        (ClientRequest::new("a", "ws"), InvalidRequest::Target),
        (ClientRequest::new("a", "/ HTTP/1.1\r\nX: y"), InvalidRequest::Target),
        (ClientRequest::new("a", "/#fragment"), InvalidRequest::Target),
        (smuggled, InvalidRequest::HeaderValue),
        (ClientRequest { headers: &[("A b", "c")], ..plain() }, InvalidRequest::HeaderName),
        (ClientRequest { headers: &[("", "c")], ..plain() }, InvalidRequest::HeaderName),
        (ClientRequest { headers: &[("host", "c")], ..plain() }, InvalidRequest::HeaderName),
        (ClientRequest { subprotocols: &["a,b"], ..plain() }, InvalidRequest::Subprotocol),
        (ClientRequest { subprotocols: &["a", "a"], ..plain() }, InvalidRequest::Subprotocol),
    ] {
        let mut out = Vec::new();
        let result = ClientHandshake::start(&request, NONCE, &mut out).map(drop);
        assert_eq!(result, Err(error), "{request:?}");
        assert!(out.is_empty() && !error.to_string().is_empty());
    }
}

#[test]
fn only_the_answer_to_this_request_connects() {
    let ok = Ok(Some(Connected { subprotocol: None, deflate: None }));
    let refused = |status, retry_after| Err(ConnectError::Refused { status, retry_after });
    let full = switched("");
    let rows = [
        (full.clone(), ok.clone()),
        (full.replace("Upgrade: websocket", "upgrade: WebSocket"), ok.clone()),
        (full.replace("Connection: Upgrade", "Connection: keep-alive, upgrade"), ok.clone()),
        (full[..full.len() - 1].to_owned(), Ok(None)),
        ("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n".to_owned(), refused(401, None)),
        ("HTTP/1.1 503 Busy\r\nRetry-After: 7\r\n\r\n".to_owned(), refused(503, Some(7))),
        ("HTTP/1.1 503 Busy\r\nRetry-After: Fri, 31 Dec\r\n\r\n".to_owned(), refused(503, None)),
        ("HTTP/1.0 200 OK\r\n\r\n".to_owned(), refused(200, None)),
        (full.replace("HTTP/1.1", "HTTP/1.0"), Err(ConnectError::NotHttp)),
        ("\x16\x03\x01".to_owned(), Err(ConnectError::NotHttp)),
        ("SSH-2.0-OpenSSH\r\n\r\n".to_owned(), Err(ConnectError::NotHttp)),
        (full.replace("Upgrade: websocket\r\n", ""), Err(ConnectError::NoUpgrade)),
        (full.replace("websocket", "h2c"), Err(ConnectError::NoUpgrade)),
        (switched("Upgrade: websocket\r\n"), Err(ConnectError::NoUpgrade)),
        (full.replace("Connection: Upgrade\r\n", ""), Err(ConnectError::NoConnectionUpgrade)),
        (full.replace("s3pP", "S3pP"), Err(ConnectError::Accept)),
        (switched("Sec-WebSocket-Accept: x\r\n"), Err(ConnectError::Accept)),
        (switched("Sec-WebSocket-Protocol: chat\r\n"), Err(ConnectError::Subprotocol)),
        (
            full.replace("Connection: Upgrade", "Connection: keep-alive"),
            Err(ConnectError::NoConnectionUpgrade),
        ),
        (switched("Sec-WebSocket-Extensions: permessage-deflate\r\n"), Err(ConnectError::Extension)),
        (
            switched("Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n"),
            Err(ConnectError::Extension),
        ),
        (switched(&format!("A: {}\r\n", "b".repeat(15 * 1024))), ok.clone()),
        (switched(&format!("A: {}\r\n", "b".repeat(16 * 1024))), Err(ConnectError::HeadTooLarge)),
        (switched(&"A: b\r\n".repeat(100)), Err(ConnectError::HeadTooLarge)),
    ];
    for (response, verdict) in rows {
        let got = answer(&plain(), &response);
        assert_eq!(got, verdict, "{:?}", response.get(..200).unwrap_or(&response));
        assert!(got.err().is_none_or(|error| !error.to_string().is_empty()));
    }
}

#[test]
fn a_subprotocol_is_one_of_the_offered() {
    let request = ClientRequest { subprotocols: &["a", "b"], ..plain() };
    for (more, verdict) in [
        ("", Ok(None)),
        ("Sec-WebSocket-Protocol: b\r\n", Ok(Some("b"))),
        ("Sec-WebSocket-Protocol: B\r\n", Err(ConnectError::Subprotocol)),
        ("Sec-WebSocket-Protocol: a, b\r\n", Err(ConnectError::Subprotocol)),
        ("Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: b\r\n", Err(ConnectError::Subprotocol)),
    ] {
        let got = answer(&request, &switched(more)).map(|connected| connected.unwrap().subprotocol);
        assert_eq!(got, verdict.map(|name: Option<&str>| name.map(str::to_owned)), "{more}");
    }
}

#[test]
fn compression_is_as_offered() {
    let request = ClientRequest { offers_deflate: true, ..plain() };
    for (answered, bits) in [
        ("permessage-deflate; server_no_context_takeover", Some(15)),
        ("permessage-deflate; server_no_context_takeover; client_no_context_takeover", Some(15)),
        ("permessage-deflate; server_no_context_takeover; client_max_window_bits=9", Some(9)),
        ("permessage-deflate; server_no_context_takeover; server_max_window_bits=10", Some(15)),
        // We inflate each message alone.
        ("permessage-deflate", None),
        ("permessage-deflate; server_no_context_takeover=1", None),
        ("permessage-deflate; server_no_context_takeover; client_max_window_bits", None),
        ("permessage-deflate; server_no_context_takeover; client_max_window_bits=16", None),
        ("permessage-deflate; server_no_context_takeover; server_no_context_takeover", None),
        ("permessage-deflate; server_no_context_takeover; unknown", None),
        ("permessage-deflate; server_no_context_takeover, permessage-deflate", None),
        ("x-webkit-deflate-frame", None),
        ("", None),
    ] {
        let line = format!("Sec-WebSocket-Extensions: {answered}\r\n");
        let got =
            answer(&request, &switched(&line)).map(|connected| connected.unwrap().deflate.unwrap().bits);
        assert_eq!(got, bits.ok_or(ConnectError::Extension), "{answered}");
    }
}

/// Both ends of a connection, with the bytes that one has written and the other has not read yet.
struct Wire<K> {
    client: Session<crate::Client<K>>,
    server: Session,
    to_server: Vec<u8>,
    to_client: Vec<u8>,
    codec: Codec,
    now: Instant,
}

macro_rules! turn {
    ($wire:ident, $out:ident) => {
        Turn { now: $wire.now, out: &mut $wire.$out, is_backlogged: false, codec: &mut $wire.codec }
    };
}

/// Connects our client to our server.
fn connect(deflate: bool) -> Wire<impl FnMut() -> [u8; 4]> {
    let request = ClientRequest {
        headers: &[("User-ID", "123")],
        offers_deflate: deflate,
        ..ClientRequest::new("h", "/ws")
    };
    let config = HandshakeConfig { compression: deflate, ..HandshakeConfig::default() };
    let mut to_server = Vec::new();
    let mut handshake = ClientHandshake::start(&request, NONCE, &mut to_server).unwrap();
    let mut head =
        HeadReader::new(config.max_head).receive(&mut Input::new(&mut to_server)).unwrap().unwrap();
    let peer = Peer::Tcp { ip: IpAddr::from([127, 0, 0, 1]), port: 1 };
    let mut to_client = Vec::new();
    let admission = UpgradeRequest::parse(&mut head, &config).unwrap().identify(peer, &config).unwrap();
    let accepted = admission.accept(&mut to_client, &config, ConnectionId(1));
    let connected = handshake.receive(&mut Input::new(&mut to_client)).unwrap().unwrap();
    assert_eq!(connected.deflate.is_some(), deflate);
    let mut next = 0u32;
    let keys = move || {
        next = next.wrapping_add(0x9e37_79b9);
        next.to_be_bytes()
    };
    let session = Arc::new(SessionConfig::default());
    Wire {
        client: Session::client(session.clone(), keys).with_deflate(connected.deflate),
        server: Session::new(session).with_deflate(accepted.deflate),
        to_server: Vec::new(),
        to_client: Vec::new(),
        codec: Codec::new(),
        now: Instant::now(),
    }
}

#[test]
fn what_the_client_sends_comes_back_from_the_server() {
    for deflate in [false, true] {
        let mut wire = connect(deflate);
        for len in [0, 1, 125, 126, 4096, 65_535] {
            let text = "é".repeat(len / 2);
            let mut turn = turn!(wire, to_server);
            wire.client.send_text(&mut turn, text.as_str()).unwrap();
            let mut bytes = std::mem::take(&mut wire.to_server);
            assert!(!deflate || len < 4096 || bytes.len() < len / 4, "compressed");
            let mut input = Input::new(&mut bytes);
            let mut turn = turn!(wire, to_client);
            let Ok(Some(Event::Text(got))) = wire.server.next_event(&mut turn, &mut input) else { panic!() };
            wire.server.send_text(&mut turn, &got).unwrap();
            let mut bytes = std::mem::take(&mut wire.to_client);
            let mut input = Input::new(&mut bytes);
            let mut turn = turn!(wire, to_server);
            let Ok(Some(Event::Text(got))) = wire.client.next_event(&mut turn, &mut input) else { panic!() };
            assert_eq!(got.as_str(), text);
        }
    }
}

#[test]
fn the_server_closes_the_connection_and_the_client_waits_for_it() {
    for client_first in [true, false] {
        let mut wire = connect(false);
        if client_first {
            let mut turn = turn!(wire, to_server);
            wire.client.close(&mut turn, CloseCode::NORMAL, "bye");
        } else {
            let mut turn = turn!(wire, to_client);
            wire.server.close(&mut turn, CloseCode::NORMAL, "bye");
        }
        for _ in 0..2 {
            let mut bytes = std::mem::take(&mut wire.to_server);
            let mut turn = turn!(wire, to_client);
            while let Ok(Some(_)) = wire.server.next_event(&mut turn, &mut Input::new(&mut bytes)) {}
            let mut bytes = std::mem::take(&mut wire.to_client);
            let mut turn = turn!(wire, to_server);
            while let Ok(Some(_)) = wire.client.next_event(&mut turn, &mut Input::new(&mut bytes)) {}
        }
        assert_eq!(wire.server.transport(), Transport::Close);
        assert_eq!(wire.client.transport(), Transport::Open);
        assert!(wire.client.wants_read());
        let (at, _) = wire.client.poll_timeout().unwrap();
        assert_eq!(at, wire.now + Duration::from_secs(5));
        wire.client.handle_eof(wire.now);
        assert_eq!(wire.client.transport(), Transport::Close);
        assert_eq!(wire.client.ending().unwrap().code(), 1000);
    }
}

#[test]
fn a_server_that_does_not_close_is_left_after_a_while() {
    let mut wire = connect(false);
    let mut bytes = *b"\x88\x02\x03\xe8";
    let mut turn = turn!(wire, to_server);
    assert!(
        wire.client.next_event(&mut turn, &mut Input::new(&mut bytes)).is_ok_and(|event| event.is_some())
    );
    turn.now += Duration::from_secs(5);
    wire.client.handle_timeout(&mut turn);
    assert_eq!(wire.client.transport(), Transport::Close);
}

#[test]
fn pings_are_answered_with_a_mask() {
    let mut wire = connect(false);
    let mut bytes = *b"\x89\x02hi";
    let mut turn = turn!(wire, to_server);
    assert!(matches!(
        wire.client.next_event(&mut turn, &mut Input::new(&mut bytes)),
        Ok(Some(Event::Ping(_)))
    ));
    let pong = &wire.to_server;
    assert_eq!(pong[..2], [0x8a, 0x82]);
    let unmasked: Vec<u8> = pong[6..].iter().zip(&pong[2..6]).map(|(byte, key)| byte ^ key).collect();
    assert_eq!(unmasked, b"hi");
}

#[test]
fn text_of_a_server_must_be_utf8_and_its_frames_not_masked() {
    for (bytes, code) in [(&b"\x81\x02h\xff"[..], 1007), (b"\x81\x82\x00\x00\x00\x00hi", 1002)] {
        let mut wire = connect(false);
        let mut bytes = bytes.to_vec();
        let mut turn = turn!(wire, to_server);
        let error = wire.client.next_event(&mut turn, &mut Input::new(&mut bytes)).unwrap_err();
        assert_eq!(u16::from(error.close_code()), code);
        assert_eq!(wire.to_server[0], 0x88, "the server gets a Close");
    }
}
