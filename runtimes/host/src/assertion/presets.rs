//! What the gateways that sign identities agree on with nobody: header, issuer, audience, and where the keys are.
//!
//! What is the same for all customers of a gateway is filled in; what is not has to be set.

/// Who signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// Pomerium: <https://www.pomerium.com/docs/capabilities/getting-users-identity>. Issuer and audience are the
    /// host of the route.
    Pomerium,
    /// Google's Identity-Aware Proxy: <https://cloud.google.com/iap/docs/signed-headers-howto>.
    GoogleIap,
    /// Cloudflare Access:
    /// <https://developers.cloudflare.com/cloudflare-one/identity/authorization-cookie/validating-json/>.
    Cloudflare,
    /// Somebody else: everything has to be set.
    Custom,
}

impl Preset {
    /// The header with the token.
    pub(crate) fn header(self) -> Option<&'static str> {
        match self {
            Preset::Pomerium => Some("X-Pomerium-Jwt-Assertion"),
            Preset::GoogleIap => Some("X-Goog-IAP-JWT-Assertion"),
            Preset::Cloudflare => Some("Cf-Access-Jwt-Assertion"),
            Preset::Custom => None,
        }
    }

    /// The claim `iss`.
    pub(crate) fn issuer(self) -> Option<&'static str> {
        match self {
            Preset::GoogleIap => Some("https://cloud.google.com/iap"),
            Preset::Pomerium | Preset::Cloudflare | Preset::Custom => None,
        }
    }

    /// The claim `aud`, given the issuer.
    pub(crate) fn audience(self, issuer: &str) -> Option<String> {
        match self {
            Preset::Pomerium => Some(host(issuer).to_owned()),
            Preset::GoogleIap | Preset::Cloudflare | Preset::Custom => None,
        }
    }

    /// The claims with the user's id, where that is not the one of all others.
    pub(crate) fn id_claims(self) -> Option<&'static str> {
        match self {
            // The `sub` of a service token is empty; its client is in `common_name`.
            Preset::Cloudflare => Some("sub,common_name"),
            Preset::Pomerium | Preset::GoogleIap | Preset::Custom => None,
        }
    }

    /// Where the keys are, given the issuer.
    pub(crate) fn keys(self, issuer: &str) -> Option<String> {
        match self {
            Preset::Pomerium => Some(format!("https://{}/.well-known/pomerium/jwks.json", host(issuer))),
            Preset::GoogleIap => Some("https://www.gstatic.com/iap/verify/public_key-jwk".to_owned()),
            Preset::Cloudflare => Some(format!("{}/cdn-cgi/access/certs", issuer.trim_end_matches('/'))),
            Preset::Custom => None,
        }
    }

    /// What an issuer looks like, for whoever has not set it.
    pub(crate) fn issuer_example(self) -> &'static str {
        match self {
            Preset::Pomerium => "app.example.com, the host of the route",
            Preset::Cloudflare => "https://TEAM.cloudflareaccess.com",
            Preset::GoogleIap | Preset::Custom => "https://issuer.example.com",
        }
    }

    /// What an audience looks like, for whoever has not set it.
    pub(crate) fn audience_example(self) -> &'static str {
        match self {
            Preset::GoogleIap => "/projects/NUMBER/global/backendServices/ID",
            Preset::Cloudflare => "the Application Audience (AUD) tag of the application",
            Preset::Pomerium | Preset::Custom => "https://app.example.com",
        }
    }
}

/// The host of an issuer that is one, or that is a URL (Pomerium's `jwt_issuer_format`).
fn host(issuer: &str) -> &str {
    issuer.strip_prefix("https://").unwrap_or(issuer).trim_end_matches('/')
}
