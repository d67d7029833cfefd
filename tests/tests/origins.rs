//! The check of origins: origins and hosts are compared as hosts, also through gateways that change `Host`.

use postern_tests::chain::Chain;
use postern_tests::gateway::Gateway;
use postern_tests::postern::{Postern, Runtime};

/// The unit tests of the core have all spellings.
#[test]
fn only_origins_of_the_host_and_listed_ones_are_admitted() {
    let listed = [("POSTERN_ALLOWED_ORIGINS", "https://*.example.org:8443,app://obsidian.md,null")];
    for postern in Postern::both(&listed) {
        for (origin, expected) in [
            ("https://app.example.com", 101),
            ("https://APP.example.com.:8443", 101),
            ("https://tenant.example.org:8443", 101),
            ("app://obsidian.md", 101),
            ("null", 101),
            ("https://example.org:8443", 403),
            ("https://app.example.com.evil.test", 403),
            ("https://app.example.com@evil.test", 403),
            ("", 403),
        ] {
            let handshake = postern.john().instead("Host", "app.example.com").header("Origin", origin);
            assert_eq!(handshake.status(), expected, "{origin}");
        }
        let refusal = postern.john().header("Origin", "https://evil.test").refused();
        for name in ["POSTERN_ALLOWED_ORIGINS", "POSTERN_HOST_HEADER"] {
            assert!(refusal.text().contains(name), "{refusal}");
            postern.wait_for(name);
        }
    }
}

/// nginx's `$host` has no trailing dot, and no port.
#[test]
fn trailing_dot_of_the_host_does_not_matter_through_gateways() {
    let host = "proxy_set_header Host       $http_host;";
    let without_dot = [(host, "proxy_set_header Host $host;")];
    for (gateway, runtime, changes) in [
        (Gateway::Nginx, Runtime::Mio, &without_dot[..]),
        (Gateway::Nginx, Runtime::Smol, &[]),
        (Gateway::Traefik, Runtime::Mio, &[]),
        (Gateway::Haproxy, Runtime::Smol, &[]),
        (Gateway::Caddy, Runtime::Mio, &[]),
        (Gateway::Envoy, Runtime::Smol, &[]),
    ] {
        let chain = Chain::start_with(gateway, runtime, &[], changes);
        let token = chain.login("john@example.com");
        for (host, origin, expected) in [
            ("app.example.com.", "https://app.example.com.", 101),
            ("app.example.com.", "https://app.example.com", 101),
            ("app.example.com", "https://app.example.com.", 101),
            ("app.example.com:9191", "https://app.example.com:9191", 101),
            ("app.example.com", "https://evil.test", 403),
        ] {
            let handshake = chain.handshake().bearer(&token).instead("Host", host).header("Origin", origin);
            assert_eq!(handshake.status(), expected, "{gateway}, {runtime}: {origin} at {host}");
        }
    }
}

/// A gateway that writes its own `Host` passes on the original in another header.
#[test]
fn gateway_that_changes_host_can_pass_on_the_original() {
    let nginx = [(
        "proxy_set_header Host       $http_host;",
        "proxy_set_header Host postern.internal;\n            proxy_set_header X-Forwarded-Host $http_host;",
    )];
    let traefik = [(
        "    websocket:\n      loadBalancer:\n",
        "    websocket:\n      loadBalancer:\n        passHostHeader: false\n",
    )];
    // After the line that passes on the original.
    let haproxy = [(
        "    http-request set-header X-Forwarded-Host %[req.hdr(Host)]\n",
        "    http-request set-header X-Forwarded-Host %[req.hdr(Host)]\n    http-request set-header Host postern.internal\n",
    )];
    for (gateway, runtime, changes) in [
        (Gateway::Nginx, Runtime::Mio, &nginx),
        (Gateway::Traefik, Runtime::Smol, &traefik),
        (Gateway::Haproxy, Runtime::Mio, &haproxy),
    ] {
        for (setting, expected) in [("off", 403), ("X-Forwarded-Host", 101)] {
            let chain = Chain::start_with(gateway, runtime, &[("POSTERN_HOST_HEADER", setting)], changes);
            let token = chain.login("john@example.com");
            let page = |origin: &str| {
                let handshake = chain.handshake().bearer(&token).instead("Host", "app.example.com");
                handshake.header("Origin", origin)
            };
            let case = format!("{gateway}, {runtime}, {setting}");
            assert_eq!(page("https://app.example.com").status(), expected, "{case}");
            assert_eq!(page("https://evil.test").status(), 403, "{case}");
            // The gateway replaces the header of the client.
            let forged = page("https://evil.test").header("X-Forwarded-Host", "evil.test");
            assert_eq!(forged.status(), 403, "{case}");
        }
    }
}

#[test]
fn host_header_with_several_hosts_is_refused() {
    for postern in Postern::both(&[("POSTERN_HOST_HEADER", "X-Forwarded-Host")]) {
        let page = || {
            let handshake = postern.john().instead("Host", "postern.internal");
            handshake.header("Origin", "https://app.example.com")
        };
        let host = |host: &str| page().header("X-Forwarded-Host", host);
        assert_eq!(host("app.example.com:8443").status(), 101);
        assert_eq!(host("app.example.com.").status(), 101);
        // Absent or empty: `Host` is used.
        assert_eq!(page().status(), 403);
        assert_eq!(host("").status(), 403);
        for several in [
            host("app.example.com, app.example.com"),
            host("app.example.com").header("X-Forwarded-Host", "app.example.com"),
            host("app.example.com").header("x-forwarded-host", ""),
            host("https://app.example.com"),
        ] {
            let refusal = several.refused_with(400, "host");
            assert!(refusal.text().contains("POSTERN_HOST_HEADER"), "{refusal}");
        }
    }
}
