//! Which pages may connect: origins and hosts are compared as hosts, also through gateways that change `Host`.

use postern_tests::chain::Chain;
use postern_tests::gateway::Gateway;
use postern_tests::postern::{Postern, Runtime};
use postern_tests::ws::{Handshake, Outcome};

/// The status of a handshake, which ends a connection that is open.
#[track_caller]
fn status(handshake: &Handshake) -> u16 {
    match handshake.send().unwrap_or_else(|failure| panic!("{failure}")) {
        Outcome::Open(open) => {
            open.close();
            101
        }
        Outcome::Refused(refusal) => {
            assert!((400..500).contains(&refusal.status), "{refusal}");
            refusal.status
        }
    }
}

#[test]
fn an_origin_of_the_own_host_is_admitted_however_the_host_is_spelt() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start(runtime, &[]);
        for (host, origin, expected) in [
            ("app.example.com", "https://app.example.com", 101),
            ("app.example.com.", "https://app.example.com", 101),
            ("app.example.com", "https://app.example.com.", 101),
            ("app.example.com.:8443", "https://APP.example.com.:443", 101),
            ("[::1]:9191", "http://[0:0:0:0:0:0:0:1]:3000", 101),
            ("127.0.0.1", "http://127.0.0.1:3000", 101),
            ("xn--bcher-kva.example", "https://xn--bcher-kva.example", 101),
            ("app.example.com", "https://app.example.com..", 403),
            ("app.example.com", "https://example.com", 403),
            ("app.example.com", "https://app.example.com.evil.test", 403),
            ("app.example.com", "https://app.example.com@evil.test", 403),
            ("app.example.com", "https://evil.test/app.example.com", 403),
            ("app.example.com", "https://app.example.com, https://evil.test", 403),
            ("app.example.com", "null", 403),
            ("app.example.com", "", 403),
        ] {
            let handshake = postern.john();
            let handshake = handshake.instead("Host", host).header("Origin", origin);
            assert_eq!(status(&handshake), expected, "{runtime}: {origin} at {host}");
        }
        let refusal = postern.john().header("Origin", "https://evil.test").refused();
        for name in ["POSTERN_ALLOWED_ORIGINS", "POSTERN_HOST_HEADER"] {
            assert!(refusal.text().contains(name), "{runtime}: {refusal}");
            postern.wait_for(name);
        }
    }
}

#[test]
fn every_origin_that_a_client_sends_can_be_listed() {
    let origins = [
        "https://app.example.com:8443",
        "http://192.0.2.7",
        "http://[2001:db8::1]:8080",
        "http://localhost:5173",
        "ws://device.local",
        "null",
        "file://",
        "chrome-extension://aapbdbdomjkkjkaonfhkkikfgjllcleb",
        "moz-extension://3c9f0a0e-2b7e-4a3f-8f53-0d5c4a0f3f0d",
        "capacitor://localhost",
        "ionic://localhost",
        "tauri://localhost",
        "app://obsidian.md",
        "vscode-webview://1k2j3h4g5f",
    ];
    for runtime in Runtime::BOTH {
        let postern = Postern::start(runtime, &[("POSTERN_ALLOWED_ORIGINS", &origins.join(","))]);
        let john = |origin: &str| postern.john().header("Origin", origin);
        for origin in origins {
            assert_eq!(status(&john(origin)), 101, "{runtime}: {origin}");
        }
        for origin in [
            "https://app.example.com",
            "http://localhost",
            "https://localhost",
            "app://other.md",
            "wss://device.local",
        ] {
            assert_eq!(status(&john(origin)), 403, "{runtime}: {origin}");
        }
    }
}

#[test]
fn one_label_of_a_listed_origin_can_vary() {
    let listed =
        "https://*.example.com,https://*.example.org:8443,http://*.localhost:3000,https://good.test:443";
    for runtime in Runtime::BOTH {
        let postern = Postern::start(runtime, &[("POSTERN_ALLOWED_ORIGINS", listed)]);
        for (origin, expected) in [
            ("https://tenant.example.com", 101),
            ("https://TENANT.Example.COM.", 101),
            ("https://tenant.example.com:443", 101),
            ("https://tenant.example.org:8443", 101),
            ("http://tenant.localhost:3000", 101),
            ("https://good.test", 101),
            ("https://example.com", 403),
            ("https://a.b.example.com", 403),
            ("https://.example.com", 403),
            ("https://xexample.com", 403),
            ("http://tenant.example.com", 403),
            ("https://tenant.example.com:8443", 403),
            ("https://tenant.example.org", 403),
            ("https://tenant.example.com.evil.test", 403),
            ("https://evil.test/tenant.example.com", 403),
        ] {
            let handshake = postern.john().header("Origin", origin);
            assert_eq!(status(&handshake), expected, "{runtime}: {origin}");
        }
        for (bad, advice) in [
            ("*.example.com", "write for example https://*.example.com"),
            ("https://a*.example.com", "write for example https://*.example.com"),
            ("https://*.*.example.com", "write for example https://*.example.com"),
            ("https://*", "or * to admit every origin"),
            ("https://a.example/", "write https://a.example"),
        ] {
            let (status, lines) = Postern::refuse(runtime, &[("POSTERN_ALLOWED_ORIGINS", bad)]);
            assert_eq!(status.code(), Some(2), "{runtime}: {bad}");
            assert!(lines.len() == 1 && lines[0].ends_with(advice), "{runtime}, {bad}: {lines:?}");
        }
    }
}

/// nginx's `$host` has no trailing dot, and no port.
#[test]
fn a_trailing_dot_that_a_gateway_takes_away_shuts_no_page_out() {
    let host = "proxy_set_header Host       $http_host;";
    let without_dot = [(host, "proxy_set_header Host $host;")];
    for (gateway, runtime, changes) in [
        (Gateway::Nginx, Runtime::Mio, &without_dot[..]),
        (Gateway::Nginx, Runtime::Smol, &[]),
        (Gateway::Traefik, Runtime::Mio, &[]),
        (Gateway::Haproxy, Runtime::Smol, &[]),
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
            assert_eq!(status(&handshake), expected, "{gateway}, {runtime}: {origin} at {host}");
        }
    }
}

/// A gateway that writes its own `Host` says in another header what the client asked for.
#[test]
fn a_gateway_that_changes_host_can_pass_the_original_on() {
    let nginx = [(
        "proxy_set_header Host       $http_host;",
        "proxy_set_header Host postern.internal;\n            proxy_set_header X-Forwarded-Host $http_host;",
    )];
    let traefik = [(
        "    websocket:\n      loadBalancer:\n",
        "    websocket:\n      loadBalancer:\n        passHostHeader: false\n",
    )];
    // Behind the line that passes the original on.
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
            assert_eq!(status(&page("https://app.example.com")), expected, "{case}");
            assert_eq!(status(&page("https://evil.test")), 403, "{case}");
            // What the client says of it is replaced.
            let forged = page("https://evil.test").header("X-Forwarded-Host", "evil.test");
            assert_eq!(status(&forged), 403, "{case}");
        }
    }
}

#[test]
fn a_host_header_with_several_hosts_is_refused() {
    for runtime in Runtime::BOTH {
        let postern = Postern::start(runtime, &[("POSTERN_HOST_HEADER", "X-Forwarded-Host")]);
        let page = || {
            let handshake = postern.john().instead("Host", "postern.internal");
            handshake.header("Origin", "https://app.example.com")
        };
        let host = |host: &str| page().header("X-Forwarded-Host", host);
        assert_eq!(status(&host("app.example.com:8443")), 101, "{runtime}");
        assert_eq!(status(&host("app.example.com.")), 101, "{runtime}");
        // Absent or empty: `Host` counts.
        assert_eq!(status(&page()), 403, "{runtime}");
        assert_eq!(status(&host("")), 403, "{runtime}");
        for several in [
            host("app.example.com, app.example.com"),
            host("app.example.com").header("X-Forwarded-Host", "app.example.com"),
            host("app.example.com").header("x-forwarded-host", ""),
            host("https://app.example.com"),
        ] {
            let refusal = several.refused();
            assert_eq!(refusal.json()["error"]["code"], "host", "{runtime}: {refusal}");
            assert!(refusal.text().contains("POSTERN_HOST_HEADER"), "{runtime}: {refusal}");
        }
    }
}
