//! The settings of the service that checks tokens, which are interpreted together.

use std::time::Duration;

use super::names::AUTH_URL;
use super::setting::ResolvedSetting;
use super::value::ValueError;
use crate::checker::AuthSettings;
use crate::outbound::{HttpUrl, HttpUrlError};

/// Checks the URL of the service.
pub(super) fn check_url(text: &str) -> Result<(), ValueError> {
    url(text).map(drop)
}

fn url(text: &str) -> Result<HttpUrl, ValueError> {
    HttpUrl::parse(text).map_err(|error| match error {
        HttpUrlError::Scheme => {
            "not an http or https URL; write the address that the gateway asks, for example \
             http://identity:9292/identity/validate"
                .into()
        }
        HttpUrlError::Malformed => {
            "not a URL; write for example http://identity:9292/identity/validate".into()
        }
        HttpUrlError::Credentials => {
            "the service is asked with the token of a user; leave out the user and the password".into()
        }
    })
}

/// Returns the service, if there is one.
pub(super) fn auth(chosen: &[ResolvedSetting], cache: Duration) -> Option<AuthSettings> {
    let text = &chosen.iter().find(|chosen| chosen.setting.name == AUTH_URL)?.text;
    // A text that cannot be parsed was reported when it was checked.
    url(text).ok().map(|url| AuthSettings { url, cache })
}
