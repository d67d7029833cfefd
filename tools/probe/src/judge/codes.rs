//! What to do about each refusal of Postern, and about each Close. The code of a refusal is in the body of the answer. The
//! table in `docs/troubleshooting.md` has the cause of each.

use super::gateway::Gateway;

/// Returns what to do about the refusal with this code. `None` if it is not a code of Postern.
pub(crate) fn refusal(code: &str, gateway: &Gateway) -> Option<String> {
    let advice = match code {
        "not_http" => {
            "the gateway must use plain HTTP/1.1 towards Postern, without TLS, HTTP/2 and the PROXY protocol"
        }
        "bare_line_feed" => "fix the client that writes requests by hand; gateways do not do this",
        "http_version" => {
            "the gateway must use HTTP/1.1 towards Postern: nginx needs `proxy_http_version 1.1`"
        }
        "request_target" => "the gateway must send a path, or pass `Host` on as the client sent it",
        "host" => {
            "the gateway must pass on exactly one `Host`, and one line of the header in POSTERN_HOST_HEADER"
        }
        "request_body" => "the gateway must not add `Content-Length` or `Transfer-Encoding` to an upgrade",
        "upgrade_missing" | "connection_upgrade_missing" => gateway.pass_upgrade(),
        "websocket_key" => "the gateway must pass on exactly one `Sec-WebSocket-Key`",
        "identity_twice" => {
            "the gateway adds an identity header where it should replace it (SECURITY.md, Gateways)"
        }
        "identity_alias" => {
            "a header such as `User_ID` is in the request: the gateway should drop it, as in deploy/traefik"
        }
        "identity_nominated" => "the gateway must write `Connection` itself, and not pass the client's on",
        "identity_invalid" => {
            "two ids are joined, the gateway left a placeholder, or the id has other characters: \
             POSTERN_USER_ID_CHARSET=any allows them"
        }
        "session_id_invalid" => "fix Identity, or set POSTERN_USER_SESSION_ID_HEADER=off",
        "token_exp_invalid" => {
            "Identity must send seconds since 1970; or set POSTERN_USER_TOKEN_EXP_HEADER=off"
        }
        "token_issued_at_invalid" => {
            "Identity must send seconds since 1970; or set POSTERN_USER_TOKEN_ISSUED_AT_HEADER=off"
        }
        "token_id_invalid" => "fix Identity, or set POSTERN_USER_TOKEN_ID_HEADER=off",
        "origin_twice" => "find the proxy that adds a second `Origin`",
        "identity_missing" => gateway.add_identity(),
        "assertion_missing" => {
            "the gateway must send the signed token in the header of POSTERN_ASSERTION_HEADER; Pomerium needs \
             pass_identity_headers: true"
        }
        "assertion_invalid" => {
            "the log of Postern has the rule in `detail`; POSTERN_ASSERTION_JWKS may belong to another issuer"
        }
        "assertion_not_now" => "compare the clocks of the issuer and of Postern's host",
        "assertion_issuer" => "set POSTERN_ASSERTION_ISSUER to the `iss` of the tokens",
        "assertion_audience" => {
            "add the `aud` of the tokens to POSTERN_ASSERTION_AUDIENCE, if it means this service"
        }
        "assertion_subject" => {
            "set POSTERN_ASSERTION_ID_CLAIM to the claim of the tokens that has the id of the user"
        }
        "token_expired" => {
            "log in again for a new token. If new tokens are refused as well, compare the clocks of all hosts"
        }
        "token_missing" => {
            "pass a token with --token, --cookie or --subprotocol; if you did, the gateway must pass it on \
             (POSTERN_REVALIDATE)"
        }
        "first_message" => {
            "this path expects a token in the first message (POSTERN_FIRST_MESSAGE_PATH): pass it with \
             --connect-token"
        }
        "token_refused" => "log in again: the service of POSTERN_AUTH_URL refuses the token",
        "token_unchecked" => {
            "check POSTERN_AUTH_URL, and look for `a token cannot be checked` in the log of Postern"
        }
        "revoked" => "log in again: the token, the session or the user was revoked",
        "refresh_target"
        | "refresh_without_expiry"
        | "refresh_not_found"
        | "refresh_other_user"
        | "refresh_closing" => "this is the path of refreshes; connect to the path without /refresh",
        "refresh_incomplete" => "a worker of Postern does not answer: check its log and its load",
        "peer_not_trusted" => {
            "add the gateway's address to POSTERN_TRUSTED_PROXIES: Postern's log has it as `peer`. If you did \
             not connect to the gateway, \
             do: only gateways may connect to Postern"
        }
        "proxy_secret" => {
            "the gateway must send a secret of POSTERN_PROXY_SECRET, in one line of POSTERN_PROXY_SECRET_HEADER"
        }
        "origin_not_allowed" => {
            "add the page's origin to POSTERN_ALLOWED_ORIGINS. If it has the host of this URL, the gateway \
             replaces `Host`: pass it on, or \
             set POSTERN_HOST_HEADER=X-Forwarded-Host"
        }
        "not_found" => {
            "the path is not in POSTERN_PATH or POSTERN_CHANNELS_PATH: correct it, or find the prefix that the \
             gateway adds or removes"
        }
        "method_not_allowed" => "a proxy has changed the method: an upgrade is a GET",
        "handshake_timeout" => {
            "the request did not arrive in time: check the network between gateway and Postern"
        }
        "websocket_version" => {
            "a proxy removes or changes `Sec-WebSocket-Version: 13`, which this request has: pass it on unchanged"
        }
        "too_many_requests" => {
            "close other connections of this user, raise POSTERN_MAX_CONNECTIONS_PER_USER, or set \
             POSTERN_USER_POLICY=replace"
        }
        "head_too_large" => {
            "raise POSTERN_MAX_HEAD, for example to 32KiB, or send shorter cookies and tokens"
        }
        "too_many_headers" => "raise POSTERN_MAX_HEADERS",
        "draining" => "the process is stopping: try again. The gateway should select instances by /readyz",
        "overloaded" => "add instances, or raise POSTERN_MAX_CONNECTIONS and the limit of open files",
        "too_fast" => "try again: more connections arrive than POSTERN_CONNECT_RATE allows",
        "crowded" => {
            "try again; find the clients that send their requests slowly, or add memory or instances"
        }
        "log_stalled" => "check the reader of Postern's log, or set POSTERN_LOG_STALL=drop",
        "assertion_keys_unavailable" => {
            "Postern's host must be able to reach POSTERN_ASSERTION_JWKS: see its log"
        }
        _ => return None,
    };
    Some(advice.to_owned())
}

/// Returns what to do about a Close of the server.
pub(crate) fn close(code: u16, reason: &str, gateway: &Gateway) -> String {
    // A refusal after the 101 has its code as the reason.
    if let Some(advice) = refusal(reason, gateway) {
        return advice;
    }
    match code {
        1001 | 1012 | 3001 => "the process is stopping or restarting: try again",
        1002 => "a proxy changes frames, or this is not Postern: check the path between gateway and Postern",
        1005 | 1006 => "the server gives no reason: see its log",
        1008 => {
            "a limit of control frames, fragments or time: see the reason, and POSTERN_CONTROL_RATE, \
                 POSTERN_MESSAGE_TIMEOUT"
        }
        1009 => "raise POSTERN_MAX_MESSAGE (and POSTERN_MAX_FRAME, if it is set), or send shorter messages",
        1011 => "see the log of the server",
        1013 => {
            "the server is overloaded, or a token cannot be checked now: add memory or instances, and check \
                 POSTERN_AUTH_URL"
        }
        3005 | 4401 => "log in again for a new token",
        3500 => {
            "the connection token of channels is not valid: pass another one with --connect-token; see \
                 JWT_SECRET or POSTERN_TOKEN_JWKS"
        }
        3501 => "the server does not accept this command: see the log of Postern",
        3502 => "the server expects the command `connect` sooner: check the round trip",
        3503 | 4403 => "an operator or a backend has disconnected this user",
        3504 | 4430 => "close other connections of this user, or raise POSTERN_MAX_CONNECTIONS_PER_USER",
        3507 => "this user may not connect to channels",
        3012 | 4408 => "a proxy delays or drops pings: check its buffers and its idle time-out",
        4409 => "a newer connection of the same user has replaced this one (POSTERN_USER_POLICY=replace)",
        4413 | 3008 => "the connection is too slow for its output",
        4429 | 3013 => "send more slowly, or raise POSTERN_MESSAGE_RATE and POSTERN_BYTE_RATE",
        _ => "see the log of the server for this close code",
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use postern_core::close_code;
    use postern_core::handshake::HandshakeError;

    use super::super::gateway::Kind;
    use super::*;

    #[test]
    fn each_refusal_and_each_close_of_postern_has_a_remedy() {
        let gateway = Gateway { kind: Kind::Nginx, name: "nginx".to_owned() };
        for error in HandshakeError::all() {
            assert!(refusal(error.code(), &gateway).is_some(), "{}", error.code());
            assert_eq!(close(4403, error.code(), &gateway), refusal(error.code(), &gateway).unwrap());
        }
        assert_eq!(refusal("token_invalid", &gateway), None, "a code of Identity");
        let unknown = close(4999, "", &gateway);
        for code in close_code::ALL.into_iter().chain([1001, 1002, 1008, 1009, 1012, 1013]) {
            assert_ne!(close(code, "", &gateway), unknown, "{code}");
        }
    }
}
