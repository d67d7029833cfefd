//! Any bytes as an upgrade request, in the portions that the fuzzer chooses; many times a second.
//!
//! * However they are cut, [`HeadReader`] says the same of them, and its limit is exact.
//! * A request that is admitted keeps every rule of the handshake, as a second reader sees it, and its 101 has
//!   the form of one.
//! * A refusal has a status that we know, is framed to the byte, and holds nothing of the request.
//!
//! What is only as fast as somebody else's parser, or says nothing new of most inputs, is left to
//! [`head_reference`](crate::head_reference): the 101 to the byte, and refusals read by a parser of HTTP.

use postern_core::Input;
use postern_core::handshake::{
    Accepted, HandshakeError, HeadReader, Reply, RequestId, UpgradeRequest, reject,
};

use crate::cuts::Cuts;
use crate::request::Request;
use crate::sites::{SITES, Site, check_status};
use crate::upgrade::CONNECTION;

/// Checks all of it.
///
/// # Panics
/// That is the finding.
pub fn check(input: &[u8]) {
    let (site, cuts, bytes) = Cuts::read(input);
    let mut copy = bytes.to_vec();
    let verdict = read(Cuts::none(), bytes, &mut copy, usize::MAX);
    assert_eq!(read(cuts, bytes, &mut copy, usize::MAX), verdict, "the split decides");
    match verdict {
        Ok(Some(len)) => {
            let head = &bytes[..len];
            let ends = head.windows(4).position(|end| end == b"\r\n\r\n");
            assert_eq!(ends, Some(len - 4), "not the first end");
            assert_eq!(read(cuts, bytes, &mut copy, len), verdict, "with a limit of {len}");
            let over = read(cuts, bytes, &mut copy, len - 1);
            assert_eq!(over, Err(HandshakeError::HeadTooLarge), "with a limit of {}", len - 1);
            check_answer(head, &mut copy[..len], &SITES[usize::from(site) % SITES.len()]);
        }
        Ok(None) => {}
        Err(error) => check_refusal(error),
    }
}

/// Reads portions of a copy until there is a verdict: the length of the head. No verdict is `Ok(None)`.
fn read(cuts: Cuts<'_>, bytes: &[u8], copy: &mut [u8], max: usize) -> Result<Option<usize>, HandshakeError> {
    let mut reader = HeadReader::new(max);
    let mut received = 0;
    for portion in cuts.portions(copy) {
        let len = portion.len();
        let mut input = Input::new(portion);
        match reader.receive(&mut input) {
            Ok(None) => {
                assert!(input.is_empty(), "asks for more although there is more");
                received += len;
                assert_eq!(reader.collected(), received);
                assert!(received < max, "holds a head that is too large already");
            }
            Ok(Some(head)) => {
                assert!(bytes.starts_with(&head), "bytes doubled, changed or lost");
                assert_eq!(head.len(), received + len - input.len(), "what is behind the head is not left");
                return Ok(Some(head.len()));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn check_answer(head: &[u8], copy: &mut [u8], site: &Site) {
    let mut answer = Vec::new();
    let admission = UpgradeRequest::parse(copy, &site.config)
        .and_then(|request| request.identify(site.peer, &site.config))
        .map(|admission| admission.accept(&mut answer, &site.config, CONNECTION));
    match admission {
        Ok(Accepted { identity, subprotocol, is_offer_unanswered, deflate }) => {
            assert!(deflate.is_none(), "compression is switched off at both sites");
            let request = Request::read(head);
            request.check_admitted(&site.config, &identity);
            request.check_offers(subprotocol.as_deref(), is_offer_unanswered);
            let request_id = RequestId::new(identity.request_id(), site.config.instance, CONNECTION);
            check_101(&answer, subprotocol.as_deref(), request_id);
        }
        Err(error) => {
            assert!(answer.is_empty(), "part of a 101 before the refusal");
            check_refusal(error);
        }
    }
}

/// Asserts that this is a 101 with an accept key of the right length, and with nothing else but the subprotocol and the
/// id of the request.
fn check_101(answer: &[u8], subprotocol: Option<&str>, request_id: RequestId<'_>) {
    let key = answer.strip_prefix(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ",
    );
    let (key, mut rest) = key.and_then(|rest| rest.split_at_checked(28)).expect("a 101 with its key");
    assert!(key.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(byte)));
    if let Some(subprotocol) = subprotocol {
        rest = rest.strip_prefix(b"\r\nSec-WebSocket-Protocol: ").expect("the subprotocol");
        rest = rest.strip_prefix(subprotocol.as_bytes()).expect("the subprotocol");
    }
    let text = request_id.to_string();
    let is_harmless = |byte: u8| byte.is_ascii_graphic() && !b",\\{}$\"".contains(&byte);
    assert!(text.bytes().all(is_harmless), "{text}");
    assert_eq!(rest, format!("\r\nX-Request-Id: {text}\r\n\r\n").as_bytes());
}

/// Asserts that this refuses with `error`, and that its body is ours.
fn check_refusal(error: HandshakeError) {
    check_status(error);
    let mut answer = Vec::with_capacity(512);
    reject(&mut answer, error, Reply { retry_after: 7, ..Reply::default() });
    let status = error.status();
    let digits = [status / 100, status / 10 % 10, status % 10].map(|digit| b'0' + digit as u8);
    assert!(answer.starts_with(b"HTTP/1.1 ") && answer[9..12] == digits, "{}", answer.escape_ascii());
    let end = answer.windows(4).position(|end| end == b"\r\n\r\n").expect("the end of the head");
    let body = &answer[end + 4..];
    let inner = body.strip_prefix(br#"{"error":{"code":""#).and_then(|rest| rest.strip_suffix(br#""}}"#));
    let inner = inner.and_then(|rest| rest.strip_prefix(error.code().as_bytes()));
    let message = inner.and_then(|rest| rest.strip_prefix(br#"","message":""#));
    assert_eq!(message, Some(error.message().as_bytes()));
}
