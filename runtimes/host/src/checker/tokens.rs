//! The tokens of channels when a service checks connection tokens.

use std::sync::Arc;

use postern_channels::claims::{ConnectionClaims, Fault, SubscriptionClaims, Tokens};

use crate::assertion::TokenVerifier;
use crate::revocations::unix_time;

/// Returns the verifier of the tokens of channels. `has_service` if a service checks connection tokens; then the keys are for
/// subscription tokens only.
pub(crate) fn tokens(has_service: bool, keys: Option<Arc<TokenVerifier>>) -> Option<Arc<dyn Tokens>> {
    if has_service {
        return Some(Arc::new(ByService { keys }));
    }
    keys.map(|keys| keys as Arc<dyn Tokens>)
}

#[derive(Debug)]
struct ByService {
    keys: Option<Arc<TokenVerifier>>,
}

impl Tokens for ByService {
    fn connection(&self, _: &str) -> Result<ConnectionClaims, Fault> {
        // It is not called.
        Err(Fault::Invalid)
    }

    fn subscription(&self, token: &str) -> Result<SubscriptionClaims, Fault> {
        self.keys.as_ref().ok_or(Fault::Invalid)?.subscription(token.as_bytes())
    }

    fn time(&self) -> u64 {
        unix_time()
    }

    fn are_checked_by_host(&self) -> bool {
        true
    }
}
