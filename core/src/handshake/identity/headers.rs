//! The headers in which a gateway sends the identity of the user.

use super::{Identity, IdentityRules, IdentityValues};
use crate::handshake::error::HandshakeError;
use crate::handshake::single_header::SingleHeader;

/// The names of the identity headers, compared without case. A header whose name is empty is not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityHeaders {
    /// The user's id. Required in every upgrade. Default `User-ID`.
    pub id: String,
    /// The user's e-mail address, for the log. Default `User-Email`.
    pub email: String,
    /// The user's display name, for the log. Default `User-Name`.
    pub name: String,
    /// The id of the session at the identity service. Default `User-Session-ID`.
    pub session_id: String,
    /// When the token expires, in seconds since 1970. Default `User-Token-Exp`.
    pub token_exp: String,
    /// When the token was issued, in seconds since 1970, for revocations. Default empty, for the reason of `channels`.
    pub token_issued_at: String,
    /// The id of the token, for revocations. Default empty, for the reason of `channels`.
    pub token_id: String,
    /// The channels that the gateway grants to the user, for an application: see
    /// [`Opening::channels`](crate::worker::Opening::channels). Default empty, because a gateway that does not know the header passes
    /// on a client's own.
    pub channels: String,
}

impl Default for IdentityHeaders {
    fn default() -> IdentityHeaders {
        IdentityHeaders {
            id: "User-ID".to_owned(),
            email: "User-Email".to_owned(),
            name: "User-Name".to_owned(),
            session_id: "User-Session-ID".to_owned(),
            token_exp: "User-Token-Exp".to_owned(),
            token_issued_at: String::new(),
            token_id: String::new(),
            channels: String::new(),
        }
    }
}

/// The identity headers of one request, gathered in a single pass over its lines.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(in crate::handshake) struct IdentityHeaderValues<'h> {
    id: SingleHeader<'h>,
    email: SingleHeader<'h>,
    name: SingleHeader<'h>,
    session_id: SingleHeader<'h>,
    token_exp: SingleHeader<'h>,
    token_issued_at: SingleHeader<'h>,
    token_id: SingleHeader<'h>,
    channels: SingleHeader<'h>,
}

impl<'h> IdentityHeaderValues<'h> {
    /// Reads one line of the request.
    pub(in crate::handshake) fn add_line(&mut self, names: &IdentityHeaders, name: &str, value: &'h [u8]) {
        self.each(names, |header, wanted| header.add_line(wanted, name, value));
    }

    /// Reads an item of `Connection`.
    pub(in crate::handshake) fn add_connection_option(&mut self, names: &IdentityHeaders, option: &[u8]) {
        self.each(names, |header, wanted| header.add_connection_option(wanted, option));
    }

    #[inline]
    fn each(&mut self, names: &IdentityHeaders, mut add: impl FnMut(&mut SingleHeader<'h>, &str)) {
        add(&mut self.id, &names.id);
        add(&mut self.email, &names.email);
        add(&mut self.name, &names.name);
        add(&mut self.session_id, &names.session_id);
        add(&mut self.token_exp, &names.token_exp);
        add(&mut self.token_issued_at, &names.token_issued_at);
        add(&mut self.token_id, &names.token_id);
        add(&mut self.channels, &names.channels);
    }

    /// Returns the identity, if none of the headers has a fault.
    pub(in crate::handshake) fn identity(&self, rules: &IdentityRules) -> Result<Identity, HandshakeError> {
        let headers = [
            self.id,
            self.email,
            self.name,
            self.session_id,
            self.token_exp,
            self.token_issued_at,
            self.token_id,
        ];
        let faults = headers.iter().chain([&self.channels]).filter_map(SingleHeader::fault);
        if let Some(fault) = faults.min() {
            return Err(fault.into());
        }
        let [id, email, name, session_id, token_exp, token_issued_at, token_id] =
            headers.map(|header| header.exactly_one().unwrap_or_default().trim_ascii());
        rules.identity(&IdentityValues { id, email, name, session_id, token_exp, token_issued_at, token_id })
    }

    /// Returns the channels, if the header is trusted and is UTF-8.
    pub(in crate::handshake) fn channels(&self) -> Option<&'h str> {
        let value = self.channels.exactly_one()?.trim_ascii();
        std::str::from_utf8(value).ok().filter(|value| !value.is_empty())
    }
}
