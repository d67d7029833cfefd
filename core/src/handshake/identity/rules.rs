//! The rules for the values of an [`Identity`].

use super::{Identity, token_line};
use crate::handshake::display::{NameEncoding, push_display};
use crate::handshake::error::HandshakeError;
use crate::handshake::opaque::IdCharset;

/// The values of an identity, from headers or from a token. An empty value is the same as a missing one, because many gateways
/// cannot omit a header.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct IdentityValues<'a> {
    /// The user's id. Required.
    pub id: &'a [u8],
    /// The e-mail address.
    pub email: &'a [u8],
    /// The display name.
    pub name: &'a [u8],
    /// The session's id.
    pub session_id: &'a [u8],
    /// When the token expires, in decimal digits, in seconds since 1970.
    pub token_exp: &'a [u8],
    /// When the token was issued, in decimal digits, in seconds since 1970.
    pub token_issued_at: &'a [u8],
    /// The id of the token.
    pub token_id: &'a [u8],
}

/// The configurable rules for the values of an [`Identity`].
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct IdentityRules {
    /// The characters that the id of a user or of a session may have. Default [`IdCharset::Opaque`].
    pub ids: IdCharset,
    /// The decoding of names and e-mail addresses. Default [`NameEncoding::Auto`].
    pub names: NameEncoding,
}

impl IdentityRules {
    /// Creates an identity from these values. Ids and the expiry must be valid. An invalid name or e-mail address is converted
    /// to some text.
    ///
    /// # Errors
    /// [`HandshakeError::IdentityMissing`] for an empty id; [`HandshakeError::IdentityInvalid`] for an id,
    /// [`HandshakeError::SessionIdInvalid`] for a session's id that is longer than 255 bytes, not UTF-8, or not of
    /// [`IdentityRules::ids`]; [`HandshakeError::TokenIdInvalid`] for a token's id, which has no spaces either;
    /// [`HandshakeError::TokenExpInvalid`] and [`HandshakeError::TokenIssuedAtInvalid`] for anything but 1 to 11 digits.
    pub fn identity(&self, values: &IdentityValues<'_>) -> Result<Identity, HandshakeError> {
        let IdentityValues { id, email, name, session_id, token_exp, token_issued_at, token_id } = *values;
        if id.is_empty() {
            return Err(HandshakeError::IdentityMissing);
        }
        let id = self.check_id(id).ok_or(HandshakeError::IdentityInvalid)?;
        let session_id = self.check_id(session_id).ok_or(HandshakeError::SessionIdInvalid)?;
        let token_exp = check_seconds(token_exp).ok_or(HandshakeError::TokenExpInvalid)?;
        let issued_at = check_seconds(token_issued_at).ok_or(HandshakeError::TokenIssuedAtInvalid)?;
        let token_id = self.check_id(token_id).filter(|id| !id.contains(' '));
        let token_id = token_id.ok_or(HandshakeError::TokenIdInvalid)?;
        let token = token_line(token_exp, issued_at, token_id);
        // All values together are shorter than 2^16 bytes. An offset that did not fit would drop the values after it.
        let end = |text: &String| u16::try_from(text.len()).unwrap_or(u16::MAX);
        let mut text =
            String::with_capacity(id.len() + email.len() + name.len() + session_id.len() + token.len());
        text.push_str(id);
        // Checked: at most 255.
        let id_end = text.len() as u8;
        push_display(&mut text, email, self.names);
        let email_end = end(&text);
        push_display(&mut text, name, self.names);
        let name_end = end(&text);
        text.push_str(session_id);
        let session_id_end = end(&text);
        text.push_str(&token);
        let text = text.into_boxed_str();
        Ok(Identity { text, id_end, request_id_len: 0, email_end, name_end, session_id_end })
    }

    /// Returns the id as text, if it is valid or empty.
    fn check_id<'a>(&self, id: &'a [u8]) -> Option<&'a str> {
        let text = std::str::from_utf8(id).ok()?;
        (text.len() <= Identity::MAX_ID && self.ids.admits(text)).then_some(text)
    }
}

/// Returns a time as text, if it is only a number of seconds, or empty.
fn check_seconds(time: &[u8]) -> Option<&str> {
    let is_valid = time.len() <= Identity::MAX_EXP_DIGITS && time.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(time).ok().filter(|_| is_valid)
}
