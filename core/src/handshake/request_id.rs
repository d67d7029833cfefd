//! The id of an upgrade request in the logs, here and at the gateway.

use std::fmt;

use super::opaque::is_request_id;
use super::single_header::SingleHeader;
use crate::id::ConnectionId;

/// The id of a request: the gateway's id, so that one search finds a connection in both logs, or a generated one. No
/// decision depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestId<'a> {
    /// The id from the header of [`HandshakeConfig::request_id`](super::HandshakeConfig::request_id) or
    /// in `traceparent`.
    Given(&'a str),
    /// An id that is generated, because the gateway sent none.
    Made {
        /// A number of the process.
        instance: u32,
        /// The number of the connection in it.
        connection: ConnectionId,
    },
}

impl<'a> RequestId<'a> {
    /// The longest accepted id, in bytes.
    pub const MAX: usize = 128;

    /// Returns the gateway's id, or a generated one if there is none.
    pub fn new(given: Option<&'a str>, instance: u32, connection: ConnectionId) -> RequestId<'a> {
        given.map_or(RequestId::Made { instance, connection }, RequestId::Given)
    }
}

impl fmt::Display for RequestId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestId::Given(id) => f.write_str(id),
            RequestId::Made { instance, connection } => write!(f, "{instance:08x}-{connection}"),
        }
    }
}

/// The headers of a request with its id. Any client can write them, so an invalid one counts as missing.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct RequestIdHeaders<'h> {
    id: SingleHeader<'h>,
    trace: SingleHeader<'h>,
}

impl<'h> RequestIdHeaders<'h> {
    /// Reads one line of the request. `wanted` is the name of the gateway's header.
    pub(super) fn add_line(&mut self, wanted: &str, name: &str, value: &'h [u8]) {
        if !wanted.is_empty() && name.eq_ignore_ascii_case(wanted) {
            self.id.add(value);
        } else if name.eq_ignore_ascii_case("traceparent") {
            self.trace.add(value);
        }
    }

    /// Returns the id if it is valid, or otherwise the id of the trace.
    pub(super) fn request_id(&self) -> Option<&'h str> {
        let id = self.id.exactly_one().filter(|id| id.len() <= RequestId::MAX && is_request_id(id));
        let id = id.or_else(|| trace_id(self.trace.exactly_one()?))?;
        std::str::from_utf8(id).ok()
    }
}

/// Returns the id of the trace in a `traceparent` (W3C Trace Context §3.2.2): version, 32 digits that are not all zero,
/// parent and flags, each in lowercase hexadecimal. Later versions may append to it.
fn trace_id(traceparent: &[u8]) -> Option<&[u8]> {
    let is_hex = |part: &[u8]| part.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let mut parts = traceparent.splitn(5, |&byte| byte == b'-');
    let [version, trace, parent, flags] = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
    let is_good = [(version, 2), (trace, 32), (parent, 16), (flags, 2)]
        .iter()
        .all(|(part, len)| part.len() == *len && is_hex(part));
    let is_known = version != b"ff" && (version != b"00" || parts.next().is_none());
    (is_good && is_known && trace.iter().any(|&digit| digit != b'0')).then_some(trace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(headers: &[(&str, &str)], id: Option<&str>) {
        let mut correlation = RequestIdHeaders::default();
        headers.iter().for_each(|(name, value)| correlation.add_line("X-Request-Id", name, value.as_bytes()));
        assert_eq!(correlation.request_id(), id, "{headers:?}");
    }

    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const TRACE_ID: Option<&str> = Some("4bf92f3577b34da6a3ce929d0e0e4736");

    #[test]
    fn the_gateway_names_a_request_in_one_of_two_headers() {
        check(&[], None);
        check(&[("x-request-id", "5f6c-1")], Some("5f6c-1"));
        check(&[("Traceparent", TRACE)], TRACE_ID);
        check(&[("traceparent", TRACE), ("X-REQUEST-ID", "a")], Some("a"));
        check(&[("x_request_id", "a"), ("trace-parent", TRACE)], None);
    }

    #[test]
    fn what_is_no_id_is_as_if_it_were_not_there() {
        let long = "x".repeat(128);
        check(&[("x-request-id", &long)], Some(&long));
        check(&[("x-request-id", "it's(1)#~%20;<2>")], Some("it's(1)#~%20;<2>"));
        for bad in ["", " ", "a b", "a,b", "a\"b", "a\\b", "{id}", "$id", "a\u{1b}", "é", &"x".repeat(129)] {
            check(&[("x-request-id", bad)], None);
            check(&[("x-request-id", bad), ("traceparent", TRACE)], TRACE_ID);
        }
        check(&[("x-request-id", "a"), ("x-request-id", "a")], None);
        check(&[("traceparent", TRACE), ("traceparent", TRACE)], None);
    }

    #[test]
    fn a_trace_has_the_form_of_its_standard() {
        check(&[("traceparent", &TRACE.replace("00-4", "cc-4"))], TRACE_ID);
        check(&[("traceparent", &(TRACE.replace("00-4", "cc-4") + "-what-comes"))], TRACE_ID);
        for bad in [
            TRACE.replace("00-4", "ff-4"),
            TRACE.replace("4bf9", "4BF9"),
            TRACE.replace("4bf9", "4bg9"),
            TRACE.replace("4bf9", "4bf"),
            TRACE.replace("-01", ""),
            TRACE.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            format!("{TRACE}-"),
            String::new(),
        ] {
            check(&[("traceparent", &bad)], None);
        }
    }

    #[test]
    fn one_of_our_own_is_the_process_and_the_connection() {
        let connection = ConnectionId(42);
        assert_eq!(RequestId::new(None, 0x5f, connection).to_string(), "0000005f-42");
        assert_eq!(RequestId::new(Some("a"), 0x5f, connection).to_string(), "a");
    }
}
