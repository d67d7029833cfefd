//! The rule "exactly one header line", for all headers that decide something.

use std::fmt;

use super::error::HandshakeError;

/// The line of one header, gathered in a single pass over the header lines of a request.
///
/// A client can add a second line that the gateway did not replace, write a name that another server takes for the same
/// one, or ask a proxy to drop the gateway's line. Each of these is a [`HeaderFault`].
#[derive(Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct SingleHeader<'h> {
    value: Option<&'h [u8]>,
    /// The first in the order of [`HeaderFault`] that was seen.
    fault: Option<HeaderFault>,
}

/// Why the line of a header is not trusted. A request with several faults is refused for the first in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum HeaderFault {
    /// There is a second line.
    Repeated,
    /// There is a line whose name differs only in its separators.
    Alias,
    /// `Connection` names the header.
    Nominated,
}

impl<'h> SingleHeader<'h> {
    /// Adds a line of this header.
    pub(super) fn add(&mut self, value: &'h [u8]) {
        if self.value.replace(value).is_some() {
            self.add_fault(HeaderFault::Repeated);
        }
    }

    /// Adds any line of the request: it may be one of the header `wanted`, or an alias of it.
    #[inline]
    pub(super) fn add_line(&mut self, wanted: &str, name: &str, value: &'h [u8]) {
        // Most names are of another length, and then neither the header nor an alias of it.
        if name.len() != wanted.len() {
            return;
        }
        if name.eq_ignore_ascii_case(wanted) {
            self.add(value);
        } else if is_alias(name, wanted) {
            self.add_fault(HeaderFault::Alias);
        }
    }

    /// Adds an item of `Connection`. A proxy that obeys it drops the header of that name (RFC 9110 §7.6.1), so a client
    /// that nominates the header `wanted` tries to hide the gateway's line.
    pub(super) fn add_connection_option(&mut self, wanted: &str, option: &[u8]) {
        // An empty item of the list is not the name of a header.
        if !option.is_empty() && option.eq_ignore_ascii_case(wanted.as_bytes()) {
            self.add_fault(HeaderFault::Nominated);
        }
    }

    fn add_fault(&mut self, fault: HeaderFault) {
        self.fault = Some(self.fault.map_or(fault, |seen| seen.min(fault)));
    }

    /// Returns why the line is not trusted.
    pub(super) fn fault(&self) -> Option<HeaderFault> {
        self.fault
    }

    /// Returns the value, or `None` if there is no line.
    ///
    /// # Errors
    /// The first [`HeaderFault`].
    pub(super) fn value(&self) -> Result<Option<&'h [u8]>, HeaderFault> {
        self.fault.map_or(Ok(self.value), Err)
    }

    /// Returns the value, if there is exactly one line and it is trusted.
    pub(super) fn exactly_one(&self) -> Option<&'h [u8]> {
        self.value().ok().flatten()
    }
}

/// The refusal for a fault of a header that says who the user is.
impl From<HeaderFault> for HandshakeError {
    fn from(fault: HeaderFault) -> HandshakeError {
        match fault {
            HeaderFault::Repeated => HandshakeError::IdentityTwice,
            HeaderFault::Alias => HandshakeError::IdentityAlias,
            HeaderFault::Nominated => HandshakeError::IdentityNominated,
        }
    }
}

/// Shows whether there is a line, but not its value, which may be a secret.
impl fmt::Debug for SingleHeader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SingleHeader")
            .field("is_present", &self.value.is_some())
            .field("fault", &self.fault)
            .finish()
    }
}

/// Whether `name` differs from `wanted` only in its separators: `User_ID`, `user.id`, `User!ID`. Traefik passes such a
/// header from the client (CVE-2026-54763, CVE-2026-88011), and CGI-like servers take it for the real one.
fn is_alias(name: &str, wanted: &str) -> bool {
    name.len() == wanted.len()
        && name.bytes().zip(wanted.bytes()).all(|(a, b)| {
            a.eq_ignore_ascii_case(&b) || !(a.is_ascii_alphanumeric() || b.is_ascii_alphanumeric())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: &str = "User-ID";

    #[track_caller]
    fn check(lines: &[(&str, &str)], options: &[&str], verdict: Result<Option<&str>, HeaderFault>) {
        let mut header = SingleHeader::default();
        lines.iter().for_each(|(name, value)| header.add_line(WANTED, name, value.as_bytes()));
        options.iter().for_each(|option| header.add_connection_option(WANTED, option.as_bytes()));
        let verdict = verdict.map(|value| value.map(str::as_bytes));
        assert_eq!(header.value(), verdict, "{lines:?} {options:?}");
        assert_eq!(header.exactly_one(), verdict.ok().flatten(), "{lines:?} {options:?}");
        assert_eq!(header.fault(), verdict.err(), "{lines:?} {options:?}");
    }

    #[test]
    fn one_line_in_any_case_is_its_value() {
        check(&[], &["upgrade", ""], Ok(None));
        check(&[("user-id", "1"), ("User-IDs", "2"), ("UserID", "3")], &["user"], Ok(Some("1")));
        check(&[("USER-ID", "")], &[], Ok(Some("")));
    }

    #[test]
    fn the_first_fault_in_order_is_the_verdict() {
        let (line, alias) = (("User-ID", "1"), ("User_Id", "1"));
        check(&[line, line], &[], Err(HeaderFault::Repeated));
        check(&[alias, line], &[], Err(HeaderFault::Alias));
        check(&[alias], &[], Err(HeaderFault::Alias));
        check(&[line], &["user-id"], Err(HeaderFault::Nominated));
        check(&[alias, line], &["user-id"], Err(HeaderFault::Alias));
        check(&[alias, line, line], &["user-id"], Err(HeaderFault::Repeated));
    }

    #[test]
    fn a_header_without_a_name_is_never_there() {
        let mut header = SingleHeader::default();
        header.add_line("", "User-ID", b"1");
        header.add_connection_option("", b"");
        assert_eq!(header.value(), Ok(None));
    }

    #[test]
    fn the_value_is_not_shown() {
        let mut header = SingleHeader::default();
        header.add(b"0123");
        assert_eq!(format!("{header:?}"), "SingleHeader { is_present: true, fault: None }");
    }
}
