//! The selection of one of the offered subprotocols (RFC 6455 §4.2.2, 5). A browser fails a connection on which it
//! offered some and none was answered.

use std::borrow::Cow;

use super::config::HandshakeConfig;
use crate::field::list;

/// The subprotocols in which pages pass a token, which cannot set headers: they offer `bearer, <token>` or
/// `access_token, <token>`. The token is for the gateway; the marker can be answered.
const MARKERS: [&str; 2] = ["bearer", "access_token"];

/// The offers in the lines of `Sec-WebSocket-Protocol`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct OfferedSubprotocols<'h> {
    /// The index of the preferred one of [`HandshakeConfig::subprotocols`] among those offered.
    application: Option<usize>,
    /// The first offered one of [`MARKERS`], in the client's spelling.
    marker: Option<&'h str>,
    /// Whether anything was offered.
    is_any: bool,
}

impl<'h> OfferedSubprotocols<'h> {
    /// Reads one header line.
    pub(super) fn see(&mut self, value: &'h [u8], config: &HandshakeConfig) {
        for offer in list(value).filter(|offer| !offer.is_empty()) {
            self.is_any = true;
            let ours = config.subprotocols.iter().position(|ours| ours.as_bytes() == offer);
            self.application = [self.application, ours].into_iter().flatten().min();
            let is_marker = MARKERS.iter().any(|marker| marker.as_bytes().eq_ignore_ascii_case(offer));
            if is_marker && self.marker.is_none() {
                self.marker = std::str::from_utf8(offer).ok();
            }
        }
    }

    /// Returns the answer: the application's subprotocol, or otherwise the marker of a token exactly as the client
    /// wrote it. It is never a value that may contain a token, such as `base64url.bearer.authorization.k8s.io.<token>`:
    /// those are only offered, with another subprotocol that can be answered.
    pub(super) fn answer<'c>(&self, config: &'c HandshakeConfig) -> Option<Cow<'c, str>> {
        let application = self.application.and_then(|index| config.subprotocols.get(index));
        let marker = || self.marker.map(|marker| Cow::Owned(marker.to_owned()));
        application.map(|name| Cow::Borrowed(name.as_str())).or_else(marker)
    }

    /// Whether the client offered subprotocols, and none of them can be answered.
    pub(super) fn is_unanswered(&self) -> bool {
        self.is_any && self.application.is_none() && self.marker.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(ours: &[&str], lines: &[&str], answer: Option<&str>) {
        let subprotocols = ours.iter().map(|&name| name.to_owned()).collect();
        let config = HandshakeConfig { subprotocols, ..HandshakeConfig::default() };
        let mut offers = OfferedSubprotocols::default();
        lines.iter().for_each(|line| offers.see(line.as_bytes(), &config));
        assert_eq!(offers.answer(&config).as_deref(), answer, "{lines:?} of {ours:?}");
        let is_any = lines.iter().any(|line| line.bytes().any(|byte| byte != b',' && byte != b' '));
        assert_eq!(offers.is_unanswered(), is_any && answer.is_none(), "{lines:?} of {ours:?}");
    }

    #[test]
    fn the_preferred_subprotocol_of_the_application_is_answered() {
        let ours = ["graphql-transport-ws", "ocpp1.6", "chat"];
        check(&ours, &["chat"], Some("chat"));
        check(&ours, &["chat, ocpp1.6"], Some("ocpp1.6"));
        check(&ours, &["other ,chat", "graphql-transport-ws"], Some("graphql-transport-ws"));
        check(&ours, &["CHAT"], None);
        check(&ours, &["chats"], None);
        check(&ours, &[], None);
        check(&ours, &["", " , "], None);
        check(&[], &["chat"], None);
    }

    #[test]
    fn the_marker_of_a_token_is_answered_as_the_client_wrote_it() {
        for marker in ["bearer", "Bearer", "BEARER", "access_token", "Access_Token"] {
            check(&[], &[&format!("{marker}, a.b.c")], Some(marker));
            check(&[], &["a.b.c", marker], Some(marker));
            check(&["chat"], &[&format!("{marker}, a.b.c, chat")], Some("chat"));
        }
        check(&[], &["Bearer, bearer"], Some("Bearer"));
        check(&[], &["bearers, x"], None);
    }

    #[test]
    fn a_value_that_holds_a_token_is_never_answered() {
        for token in [
            "base64url.bearer.authorization.k8s.io.YS5iLmM",
            "base64url.bearer.phx.YS5iLmM",
            "bearer.YS5iLmM",
            "access_token.YS5iLmM",
            "authorization.bearer.YS5iLmM",
        ] {
            check(&["v4.channel.k8s.io", "phoenix"], &[token], None);
            check(
                &["v4.channel.k8s.io"],
                &[&format!("{token}, v4.channel.k8s.io")],
                Some("v4.channel.k8s.io"),
            );
            check(&["phoenix"], &["phoenix", token], Some("phoenix"));
        }
    }
}
