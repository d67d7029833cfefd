//! Configurations that judge upgrade requests, each with the peer that sends them.

use std::net::IpAddr;
use std::sync::LazyLock;

use postern_core::handshake::{
    AllowedOrigins, HandshakeConfig, HandshakeError, IdentityHeaders, Peer, TrustedProxies,
};

/// A configuration, and the peer that sends to it.
pub(crate) struct Site {
    pub(crate) config: HandshakeConfig,
    pub(crate) peer: Peer,
}

/// The defaults, and a site where everything is different.
pub(crate) static SITES: LazyLock<[Site; 2]> = LazyLock::new(|| {
    let peer = |ip: [u8; 4]| Peer::Tcp { ip: IpAddr::from(ip), port: 40_000 };
    let other = HandshakeConfig {
        paths: vec!["/".to_owned(), "/chat".to_owned()],
        identity: IdentityHeaders {
            id: "X-Auth-Request-User".to_owned(),
            email: "X-Auth-Request-Email".to_owned(),
            name: "X-Auth-Request-Preferred-Username".to_owned(),
            session_id: String::new(),
            token_exp: "X-Auth-Request-Expires".to_owned(),
            token_issued_at: "X-Auth-Request-Issued".to_owned(),
            token_id: "X-Auth-Request-Token".to_owned(),
            channels: "X-Auth-Request-Channels".to_owned(),
        },
        trusted_proxies: TrustedProxies::private(),
        allowed_origins: AllowedOrigins::Any,
        strict_key: true,
        subprotocols: vec!["postern.v1.json".to_owned(), "chat".to_owned()],
        max_headers: 12,
        ..HandshakeConfig::default()
    };
    [
        Site { config: HandshakeConfig::default(), peer: peer([127, 0, 0, 1]) },
        Site { config: other, peer: peer([10, 0, 0, 1]) },
    ]
});

/// Asserts that the bytes of a request can cause this error. They cannot cause errors about time, load or the address of the
/// peer.
pub(crate) fn check_status(error: HandshakeError) {
    assert!(matches!(error.status(), 400 | 401 | 403 | 404 | 405 | 426 | 431), "{error:?}");
    assert_ne!(error, HandshakeError::PeerNotTrusted);
}
