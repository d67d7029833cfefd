//! JSON Web Tokens (RFC 7519), decoded and not verified: the probe has no keys.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

/// The claims of a token that concern its time, and that may be printed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) algorithm: String,
    pub(crate) issuer: Option<String>,
    /// Seconds since 1970.
    pub(crate) expires: Option<i64>,
    pub(crate) not_before: Option<i64>,
    pub(crate) issued: Option<i64>,
}

impl Token {
    /// Decodes three parts of base64url, of which the first two are JSON objects.
    pub(crate) fn decode(text: &str) -> Option<Token> {
        let mut parts = text.split('.');
        let (header, claims, _signature) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let object = |part: &str| -> Option<Value> {
            let value: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()?;
            value.is_object().then_some(value)
        };
        let (header, claims) = (object(header)?, object(claims)?);
        // Some issuers write fractions of seconds.
        let seconds = |name: &str| claims.get(name)?.as_f64().map(|seconds| seconds as i64);
        Some(Token {
            algorithm: header.get("alg")?.as_str()?.to_owned(),
            issuer: claims.get("iss").and_then(Value::as_str).map(str::to_owned),
            expires: seconds("exp"),
            not_before: seconds("nbf"),
            issued: seconds("iat"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(header: &str, claims: &str) -> String {
        [header, claims, "signature"].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".")
    }

    #[test]
    fn claims_are_decoded() {
        let text =
            encode(r#"{"alg":"ES256"}"#, r#"{"iss":"https://id","exp":1700000000.5,"nbf":1,"iat":"x"}"#);
        let token = Token::decode(&text).unwrap();
        assert_eq!((&*token.algorithm, token.issuer.as_deref()), ("ES256", Some("https://id")));
        assert_eq!((token.expires, token.not_before, token.issued), (Some(1_700_000_000), Some(1), None));
    }

    #[test]
    fn other_text_is_not_a_token() {
        let valid = encode(r#"{"alg":"none"}"#, "{}");
        assert!(Token::decode(&valid).is_some());
        for text in
            ["", "a.b.c", "abc", &valid[1..], &format!("{valid}.x"), &encode("[]", "{}"), &encode("{}", "{}")]
        {
            assert_eq!(Token::decode(text), None, "{text}");
        }
    }
}
