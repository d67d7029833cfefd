//! The page of the development chain: logs in, opens a WebSocket, and shows the answers.
//!
//! It is one file that loads no other resources. With `cargo chain` the gateway routes `/` to it.

use std::hash::{BuildHasher, RandomState};

use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};

/// Returns the page with a new nonce.
pub fn page() -> Response<Full<Bytes>> {
    respond(PAGE, "")
}

/// Returns a page that is a file: its scripts and styles get a nonce, and it may load files that are next to it.
pub fn page_of_file(page: &str) -> Response<Full<Bytes>> {
    let page = ["script", "style"].into_iter().fold(page.to_owned(), |page, name| {
        page.replace(&format!("<{name}>"), &format!("<{name} nonce=\"{{{{nonce}}}}\">"))
    });
    respond(&page, "'self' ")
}

/// Returns a page with a new nonce for each `{{nonce}}`. `own` is empty, or a source that scripts, styles and images may have.
fn respond(page: &str, own: &str) -> Response<Full<Bytes>> {
    // The keys of each state are random, so that the next value cannot be guessed.
    let [high, low] = [0, 1].map(|half: u64| RandomState::new().hash_one(half));
    let nonce = format!("{high:016x}{low:016x}");
    let mut response = Response::new(Full::new(Bytes::from(page.replace("{{nonce}}", &nonce))));
    let policy = format!(
        "default-src 'none'; script-src {own}'nonce-{nonce}'; style-src {own}'nonce-{nonce}'; img-src {own}data:; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let policy = HeaderValue::try_from(policy).expect("it is printable ASCII");
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, policy);
    let fixed: [(HeaderName, &'static str); 4] = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// The page with `{{nonce}}` as the placeholder of the nonce.
pub const PAGE: &str = include_str!("page.html");

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::users::{PASSWORD, USERS};

    fn text(response: Response<Full<Bytes>>) -> String {
        let body = smol::block_on(response.into_body().collect()).expect("it is complete").to_bytes();
        String::from_utf8(body.to_vec()).expect("it is UTF-8")
    }

    #[test]
    fn script_and_style_have_the_nonce_of_the_policy_and_each_view_a_new_one() {
        let mut nonces = Vec::new();
        for _ in 0..2 {
            let response = page();
            let policy = response.headers()[CONTENT_SECURITY_POLICY].to_str().expect("ASCII").to_owned();
            assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"), "{policy}");
            let nonce =
                policy.split("'nonce-").nth(1).and_then(|rest| rest.split('\'').next()).expect("a nonce");
            assert_eq!(nonce.len(), 32);
            let page = text(response);
            for element in ["script", "style"] {
                assert_eq!(page.matches(&format!("<{element}")).count(), 1, "{element}");
                assert!(page.contains(&format!("<{element} nonce=\"{nonce}\">")), "{element}");
            }
            assert!(!page.contains("{{"), "something is not filled in");
            nonces.push(nonce.to_owned());
        }
        assert_ne!(nonces[0], nonces[1]);
    }

    #[test]
    fn scripts_and_styles_of_a_file_get_the_nonce() {
        let response =
            page_of_file("<style>p {}</style><script src=\"a.js\" defer></script><script>1</script>");
        let policy = response.headers()[CONTENT_SECURITY_POLICY].to_str().expect("ASCII").to_owned();
        let nonce = policy.split("'nonce-").nth(1).and_then(|rest| rest.split('\'').next()).expect("a nonce");
        let expected = format!(
            "<style nonce=\"{nonce}\">p {{}}</style><script src=\"a.js\" defer></script><script nonce=\"{nonce}\">1</script>"
        );
        assert!(policy.contains("script-src 'self' 'nonce-") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(text(response), expected);
    }

    /// A browser would silently ignore what the policy forbids: script and style in attributes, and resources of
    /// other hosts.
    #[test]
    fn the_page_loads_nothing_and_has_no_script_or_style_in_attributes() {
        for forbidden in
            ["http:", "https://", " src=", " style=", " onclick=", " onsubmit=", "@import", "url("]
        {
            assert!(!PAGE.contains(forbidden), "{forbidden}");
        }
    }

    #[test]
    fn each_demo_user_can_be_chosen_and_each_field_has_a_label() {
        for user in &USERS {
            assert!(PAGE.contains(&format!("<option value=\"{}\">", user.email)), "{}", user.email);
        }
        assert!(PAGE.contains(&format!("value=\"{PASSWORD}\"")));
        for field in ["email", "password", "text"] {
            assert!(PAGE.contains(&format!("<label for=\"{field}\">")), "{field}");
        }
    }
}
