//! Any bytes as an upgrade request.
//!
//! * [`HeadReader`] gives the same verdict for every split, and its limit is exact. It leaves the bytes after the head
//!   in the input.
//! * A request that is admitted keeps every rule of the handshake, as a second reader finds, and the 101 follows from
//!   its key, to the byte.
//! * A refusal has a known status, is one response of HTTP/1.1 by another parser, and contains no bytes of the request.

use postern_core::Input;
use postern_core::handshake::{
    Accepted, HandshakeError, HeadReader, Reply, RequestId, UpgradeRequest, reject,
};

use crate::sites::{SITES, Site, check_status};
use crate::upgrade::CONNECTION;
use crate::{portions, request, response};

/// Checks all of these properties.
///
/// # Panics
/// That is the finding.
pub fn check(bytes: &[u8]) {
    let verdict = read([bytes].into_iter(), usize::MAX);
    check_reading(bytes, &verdict);
    match verdict {
        Ok(Some(head)) => SITES.iter().for_each(|site| check_answer(&head, site)),
        Ok(None) => {}
        Err(error) => check_refusal(error),
    }
}

type Verdict = Result<Option<Vec<u8>>, HandshakeError>;

/// Reads portions until there is a verdict: the head. No verdict is `Ok(None)`.
fn read<'p>(portions: impl Iterator<Item = &'p [u8]>, max: usize) -> Verdict {
    let mut reader = HeadReader::new(max);
    let mut received = 0;
    for portion in portions {
        let mut portion = portion.to_vec();
        let portion_len = portion.len();
        let mut input = Input::new(&mut portion);
        match reader.receive(&mut input) {
            Ok(None) => {
                assert!(input.is_empty(), "asks for more although there is more");
                received += portion_len;
                assert_eq!(reader.collected(), received);
                assert!(received < max, "holds a head that is too large already");
            }
            Ok(Some(head)) => {
                assert_eq!(
                    head.len(),
                    received + portion_len - input.len(),
                    "the rest is not left in the input"
                );
                return Ok(Some(head.into_vec()));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn check_reading(bytes: &[u8], verdict: &Verdict) {
    assert_eq!(read(portions::by_content(bytes), usize::MAX), *verdict, "the split decides");
    assert_eq!(read(bytes.chunks(1), usize::MAX), *verdict, "the split decides");
    let Ok(Some(head)) = verdict else { return };
    assert!(bytes.starts_with(head));
    assert_eq!(head.windows(4).position(|end| end == b"\r\n\r\n"), Some(head.len() - 4), "not the first end");
    for (max, verdict) in [(head.len(), verdict), (head.len() - 1, &Err(HandshakeError::HeadTooLarge))] {
        assert_eq!(read([bytes].into_iter(), max), *verdict, "with a limit of {max}");
        assert_eq!(read(portions::by_content(bytes), max), *verdict, "split, with a limit of {max}");
    }
}

fn check_answer(head: &[u8], site: &Site) {
    let mut bytes = head.to_vec();
    let mut answer = Vec::new();
    let admission = UpgradeRequest::parse(&mut bytes, &site.config)
        .and_then(|request| request.identify(site.peer, &site.config))
        .map(|admission| admission.accept(&mut answer, &site.config, CONNECTION));
    match admission {
        Ok(Accepted { identity, subprotocol, is_offer_unanswered, deflate }) => {
            assert!(deflate.is_none(), "compression is switched off at both sites");
            let request = request::Request::read(head);
            request.check_admitted(&site.config, &identity);
            request.check_offers(subprotocol.as_deref(), is_offer_unanswered);
            let request_id = RequestId::new(identity.request_id(), site.config.instance, CONNECTION);
            response::check_101(
                &answer,
                request.one("Sec-WebSocket-Key"),
                subprotocol.as_deref(),
                request_id,
            );
        }
        Err(error) => {
            assert!(answer.is_empty(), "part of a 101 before the refusal");
            check_refusal(error);
        }
    }
}

fn check_refusal(error: HandshakeError) {
    check_status(error);
    let mut answer = Vec::new();
    reject(&mut answer, error, Reply { retry_after: 7, ..Reply::default() });
    response::check_refusal(&answer, error);
}
