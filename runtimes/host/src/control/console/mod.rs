//! The console: a page for operators. The browser gets its data from `/metrics` and `/api`, with the key that is entered in the page.

use hyper::header::{
    CONTENT_SECURITY_POLICY, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};

use super::response::{HttpResponse, as_text};

/// A file of the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asset {
    Page,
    Style,
    Script,
}

impl Asset {
    /// Returns the file, with headers that allow nothing but the files of the console and requests to this port.
    pub(super) fn response(self) -> HttpResponse {
        let (content_type, text) = match self {
            Asset::Page => ("text/html; charset=utf-8", include_str!("console.html")),
            Asset::Style => ("text/css; charset=utf-8", include_str!("console.css")),
            Asset::Script => ("text/javascript; charset=utf-8", include_str!("console.js")),
        };
        let mut response = as_text(content_type, text.to_owned());
        let headers = response.headers_mut();
        for (name, value) in [
            (CONTENT_SECURITY_POLICY, POLICY),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (X_FRAME_OPTIONS, "DENY"),
            (REFERRER_POLICY, "no-referrer"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

/// `data:` allows the icon. With `trusted-types 'none'`, no script can insert markup.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";
