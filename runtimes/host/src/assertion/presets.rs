//! The header, issuer, audience and key source of the gateways that sign identities. Each uses its own.
//!
//! A preset fills in the values that are the same for all customers of a gateway. The others must be set.

/// The gateway that signs.
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
    /// Another gateway: all values must be set.
    Custom,
}

impl Preset {
    /// Returns the header with the token.
    pub(crate) fn header(self) -> Option<&'static str> {
        match self {
            Preset::Pomerium => Some("X-Pomerium-Jwt-Assertion"),
            Preset::GoogleIap => Some("X-Goog-IAP-JWT-Assertion"),
            Preset::Cloudflare => Some("Cf-Access-Jwt-Assertion"),
            Preset::Custom => None,
        }
    }

    /// Returns the claim `iss`.
    pub(crate) fn issuer(self) -> Option<&'static str> {
        match self {
            Preset::GoogleIap => Some("https://cloud.google.com/iap"),
            Preset::Pomerium | Preset::Cloudflare | Preset::Custom => None,
        }
    }

    /// Returns the claim `aud`, given the issuer.
    pub(crate) fn audience(self, issuer: &str) -> Option<String> {
        match self {
            Preset::Pomerium => Some(host(issuer).to_owned()),
            Preset::GoogleIap | Preset::Cloudflare | Preset::Custom => None,
        }
    }

    /// Returns the claims with the user's id, where they differ from the default.
    pub(crate) fn id_claims(self) -> Option<&'static str> {
        match self {
            // The `sub` of a service token is empty, and `common_name` has the client.
            Preset::Cloudflare => Some("sub,common_name"),
            Preset::Pomerium | Preset::GoogleIap | Preset::Custom => None,
        }
    }

    /// Returns the URL of the keys, given the issuer.
    pub(crate) fn keys(self, issuer: &str) -> Option<String> {
        match self {
            Preset::Pomerium => Some(format!("https://{}/.well-known/pomerium/jwks.json", host(issuer))),
            Preset::GoogleIap => Some("https://www.gstatic.com/iap/verify/public_key-jwk".to_owned()),
            Preset::Cloudflare => Some(format!("{}/cdn-cgi/access/certs", issuer.trim_end_matches('/'))),
            Preset::Custom => None,
        }
    }

    /// Returns an example of an issuer, for the error about a missing one.
    pub(crate) fn issuer_example(self) -> &'static str {
        match self {
            Preset::Pomerium => "app.example.com, the host of the route",
            Preset::Cloudflare => "https://TEAM.cloudflareaccess.com",
            Preset::GoogleIap | Preset::Custom => "https://issuer.example.com",
        }
    }

    /// Returns an example of an audience, for the error about a missing one.
    pub(crate) fn audience_example(self) -> &'static str {
        match self {
            Preset::GoogleIap => "/projects/NUMBER/global/backendServices/ID",
            Preset::Cloudflare => "the Application Audience (AUD) tag of the application",
            Preset::Pomerium | Preset::Custom => "https://app.example.com",
        }
    }
}

/// Returns the host of an issuer that is a host or a URL (Pomerium's `jwt_issuer_format`).
fn host(issuer: &str) -> &str {
    issuer.strip_prefix("https://").unwrap_or(issuer).trim_end_matches('/')
}
