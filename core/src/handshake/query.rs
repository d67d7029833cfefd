//! The query of the target of a request.

use std::fmt;

use super::display::escaped;

/// The query of the target of a request, which may contain a token. So it is not shown by `Debug`, and only single parameters
/// can be read.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
pub struct Query<'h>(&'h str);

impl<'h> Query<'h> {
    /// Returns the query of a target: the part after the first question mark. It is empty if there is none.
    pub(super) fn of(target: &'h str) -> Query<'h> {
        Query(target.split_once('?').map_or("", |(_, query)| query))
    }

    /// Returns a query that was kept.
    pub(crate) fn of_text(query: &'h str) -> Query<'h> {
        Query(query)
    }

    /// Returns the whole query.
    pub(crate) fn as_str(&self) -> &'h str {
        self.0
    }

    /// Returns the value of the first parameter with this name, as it was sent: not percent-decoded. It is empty if the
    /// parameter has none. `None` if there is no such parameter.
    pub fn get(&self, name: &str) -> Option<&'h str> {
        self.0.split('&').find_map(|parameter| {
            let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            // Only a parameter without a name has an empty one.
            (key == name && !key.is_empty()).then_some(value)
        })
    }

    /// Returns the value of the first parameter with this name, percent-decoded, where a plus is a space. `None` if there is no
    /// such parameter, or it is not UTF-8.
    pub fn decoded(&self, name: &str) -> Option<String> {
        let plain = |byte| if byte == b'+' { b' ' } else { byte };
        String::from_utf8(escaped(self.get(name)?.as_bytes(), b'%', plain)?).ok()
    }
}

impl fmt::Debug for Query<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(target: &str, name: &str, value: Option<&str>) {
        assert_eq!(Query::of(target).get(name), value, "{name} of {target}");
    }

    #[test]
    fn a_parameter_has_the_value_that_was_sent() {
        check("/ws?format=protobuf", "format", Some("protobuf"));
        check("/ws?a=1&format=protobuf&format=json", "format", Some("protobuf"));
        check("/ws?format", "format", Some(""));
        check("/ws?format=", "format", Some(""));
        check("/ws?format=a=b?c", "format", Some("a=b?c"));
        check("/ws?Format=protobuf&xformat=1&format2=2", "format", None);
        check("/ws?format=%41", "format", Some("%41"));
        for target in ["/ws", "/ws?", "/ws?&", "/ws?=x", ""] {
            check(target, "format", None);
            check(target, "", None);
        }
    }

    #[test]
    fn a_parameter_is_decoded() {
        let query = Query::of("/ws?a=%7B%22b%22:+%C3%A4%7D&c=%4&d=%FF&e");
        assert_eq!(query.decoded("a").as_deref(), Some("{\"b\": ä}"));
        for (name, expected) in [("c", None), ("d", None), ("e", Some("")), ("f", None)] {
            assert_eq!(query.decoded(name).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn a_token_in_the_query_is_not_shown() {
        assert_eq!(format!("{:?}", Query::of("/ws?token=s3cret")), "12 bytes");
    }
}
