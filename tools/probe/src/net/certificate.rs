//! The parts of a certificate (RFC 5280) that explain why it is not valid, read from its DER.
//!
//! The verifier of rustls decides whether a certificate is valid, and returns neither its names nor its dates for a valid one.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::time::certificate_time;

/// A certificate of a server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Certificate {
    /// The organization and the common name of its issuer, if it has them.
    pub(crate) issuer: String,
    /// Whether it is its own issuer.
    pub(crate) is_self_issued: bool,
    /// Seconds since 1970.
    pub(crate) not_before: i64,
    pub(crate) not_after: i64,
    /// The names and addresses that it is for.
    pub(crate) names: Vec<String>,
}

impl Certificate {
    /// Reads a certificate. `None` if its DER is malformed.
    pub(crate) fn parse(der: &[u8]) -> Option<Certificate> {
        let mut certificate = Der(Der(der).expect(SEQUENCE)?);
        let mut tbs = Der(certificate.expect(SEQUENCE)?);
        tbs.skip_if(VERSION)?;
        tbs.expect(INTEGER)?;
        tbs.expect(SEQUENCE)?;
        let issuer = tbs.expect(SEQUENCE)?;
        let mut validity = Der(tbs.expect(SEQUENCE)?);
        let (not_before, not_after) = (validity.time()?, validity.time()?);
        let subject = tbs.expect(SEQUENCE)?;
        let mut names = Vec::new();
        while let Some((tag, contents)) = tbs.next() {
            if tag == EXTENSIONS {
                names = alternative_names(contents).unwrap_or_default();
            }
        }
        Some(Certificate {
            issuer: name(issuer),
            is_self_issued: issuer == subject,
            not_before,
            not_after,
            names,
        })
    }
}

/// Returns the organization and the common name of a Name (RFC 5280 §4.1.2.4).
fn name(der: &[u8]) -> String {
    let (mut organization, mut common_name) = (None, None);
    let mut sets = Der(der);
    while let Some((SET, set)) = sets.next() {
        let Some((SEQUENCE, attribute)) = Der(set).next() else { continue };
        let mut attribute = Der(attribute);
        let (Some((OID, kind)), Some((_, value))) = (attribute.next(), attribute.next()) else { continue };
        let value = Some(String::from_utf8_lossy(value).into_owned());
        match kind {
            COMMON_NAME => common_name = value,
            ORGANIZATION => organization = value,
            _ => {}
        }
    }
    [organization, common_name].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// Returns the names of the extension subjectAltName (RFC 5280 §4.2.1.6).
fn alternative_names(extensions: &[u8]) -> Option<Vec<String>> {
    let mut extensions = Der(Der(extensions).expect(SEQUENCE)?);
    while let Some((SEQUENCE, extension)) = extensions.next() {
        let mut extension = Der(extension);
        if extension.expect(OID)? != ALTERNATIVE_NAME {
            continue;
        }
        extension.skip_if(BOOLEAN)?;
        let mut names = Der(Der(extension.expect(OCTET_STRING)?).expect(SEQUENCE)?);
        let names = std::iter::from_fn(|| names.next());
        return Some(names.filter_map(|(tag, contents)| general_name(tag, contents)).collect());
    }
    None
}

fn general_name(tag: u8, contents: &[u8]) -> Option<String> {
    match tag {
        DNS_NAME => Some(String::from_utf8_lossy(contents).into_owned()),
        IP_ADDRESS => {
            let v4 = <[u8; 4]>::try_from(contents).map(|bytes| Ipv4Addr::from(bytes).to_string());
            v4.or_else(|_| <[u8; 16]>::try_from(contents).map(|bytes| Ipv6Addr::from(bytes).to_string())).ok()
        }
        _ => None,
    }
}

/// Elements of DER (X.690), consumed from the front.
struct Der<'d>(&'d [u8]);

impl<'d> Der<'d> {
    /// Returns the next element: its tag and its contents. `None` at the end, and if it is malformed.
    fn next(&mut self) -> Option<(u8, &'d [u8])> {
        let (&[tag, first], rest) = self.0.split_first_chunk()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // The length in one to four bytes.
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (contents, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, contents))
    }

    fn expect(&mut self, tag: u8) -> Option<&'d [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, contents)| contents)
    }

    /// Skips an optional element.
    fn skip_if(&mut self, tag: u8) -> Option<()> {
        if self.0.first() == Some(&tag) { self.next().map(drop) } else { Some(()) }
    }

    fn time(&mut self) -> Option<i64> {
        let (tag, contents) = self.next()?;
        let text = str::from_utf8(contents).ok().filter(|_| [UTC_TIME, GENERALIZED_TIME].contains(&tag))?;
        certificate_time(text)
    }
}

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const DNS_NAME: u8 = 0x82;
const IP_ADDRESS: u8 = 0x87;

/// 2.5.4.3
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// 2.5.4.10
const ORGANIZATION: &[u8] = &[0x55, 0x04, 0x0a];
/// 2.5.29.17
const ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 0x11];

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, date_time_ymd};

    use super::*;

    fn certificate() -> Vec<u8> {
        let mut params =
            CertificateParams::new(["chat.example.com".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()])
                .unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Example");
        params.distinguished_name.push(DnType::CommonName, "Root É");
        params.not_before = date_time_ymd(2024, 2, 29);
        params.not_after = date_time_ymd(2051, 1, 1);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn a_certificate_has_an_issuer_dates_and_names() {
        let parsed = Certificate::parse(&certificate()).unwrap();
        assert_eq!(parsed.issuer, "Example Root É");
        assert!(parsed.is_self_issued);
        assert_eq!(parsed.not_before, 1_709_164_800);
        assert_eq!(parsed.not_after, 2_556_144_000);
        assert_eq!(parsed.names, ["chat.example.com", "127.0.0.1", "::1"]);
    }

    #[test]
    fn malformed_der_does_not_panic() {
        let der = certificate();
        for at in 0..der.len() {
            Certificate::parse(&der[..at]);
            for value in [0, 0x7f, 0x80, 0x84, 0xff] {
                let mut changed = der.clone();
                changed[at] = value;
                Certificate::parse(&changed);
            }
        }
        assert_eq!(Certificate::parse(&[]), None);
        assert_eq!(Certificate::parse(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
    }
}
