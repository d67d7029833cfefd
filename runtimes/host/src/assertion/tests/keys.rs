//! The usable keys of a set, and their algorithms.

use jsonwebtoken::Algorithm as A;

use super::super::keys::KeySet;
use super::*;

fn parse(jwks: &[Value]) -> Result<KeySet, &'static str> {
    KeySet::parse(set(jwks).as_bytes())
}

/// Checks the number of keys that may have signed a token, and whether one of the set has its id.
#[track_caller]
fn check(keys: &KeySet, kid: Option<&str>, algorithm: A, count: usize, is_named: bool) {
    let found = keys.find(kid, algorithm);
    assert_eq!((found.keys.len(), found.is_named), (count, is_named), "{kid:?} {algorithm:?}");
}

/// Returns a key with some members changed.
fn changed(mut jwk: Value, members: &[(&str, Value)]) -> Value {
    members.iter().for_each(|(name, value)| jwk[*name] = value.clone());
    jwk
}

#[test]
fn unusable_keys_are_ignored() {
    let (p256, p384, ed) =
        (Signer::p256("a", 1).jwk(), Signer::p384("a", 1).jwk(), Signer::ed25519("a", 1).jwk());
    let rsa = Signer::rsa("a", A::RS256).jwk();
    let unusable = [
        ("an empty object", json!({})),
        ("a text", json!("key")),
        ("a secret", json!({ "kty": "oct", "k": base64url([7; 32]), "alg": "HS256" })),
        ("an unknown type", json!({ "kty": "AKP", "alg": "ML-DSA-65", "pub": "AA" })),
        ("an unknown curve", changed(p256.clone(), &[("crv", json!("secp256k1"))])),
        ("P-521", changed(p384.clone(), &[("crv", json!("P-521")), ("alg", json!("ES512"))])),
        ("X25519", changed(ed.clone(), &[("crv", json!("X25519"))])),
        ("for encryption", changed(p256.clone(), &[("use", json!("enc"))])),
        ("for another use", changed(p256.clone(), &[("use", json!("tls"))])),
        ("only for signing", changed(p256.clone(), &[("key_ops", json!(["sign"]))])),
        ("with the algorithm of an HMAC", changed(rsa.clone(), &[("alg", json!("HS256"))])),
        ("with the algorithm of another curve", changed(p256.clone(), &[("alg", json!("ES384"))])),
        ("with the algorithm of an encryption", changed(rsa.clone(), &[("alg", json!("RSA-OAEP"))])),
        ("with an unknown algorithm", changed(rsa.clone(), &[("alg", json!("RS1"))])),
        ("a kid that is a number", changed(p256.clone(), &[("kid", json!(1))])),
        ("a point that is not on the curve", changed(p256.clone(), &[("y", json!(base64url([1; 32])))])),
        ("half a point", changed(p256.clone(), &[("y", json!(""))])),
        (
            "a point of the other curve",
            changed(p384.clone(), &[("crv", json!("P-256")), ("alg", json!("ES256"))]),
        ),
        ("an empty Ed25519 key", changed(ed.clone(), &[("x", json!(""))])),
        ("an Ed25519 key that is too short", changed(ed.clone(), &[("x", json!(base64url([1; 31])))])),
        ("an Ed25519 key that is too long", changed(ed.clone(), &[("x", json!(base64url([1; 33])))])),
        ("RSA of 1024 bits", changed(rsa.clone(), &[("n", json!(base64url([0xff; 128])))])),
        ("RSA of 2047 bits", changed(rsa.clone(), &[("n", json!(base64url([0x7f; 256])))])),
        (
            "RSA of 1024 bits after zeros",
            changed(rsa.clone(), &[("n", json!(base64url([[0; 128], [0xff; 128]].concat())))]),
        ),
        ("RSA of 8192 bits", changed(rsa.clone(), &[("n", json!(base64url([0xff; 1024])))])),
        ("RSA with the exponent 1", changed(rsa.clone(), &[("e", json!(base64url([1])))])),
        ("RSA with an even exponent", changed(rsa.clone(), &[("e", json!(base64url([1, 0])))])),
        ("RSA without an exponent", changed(rsa.clone(), &[("e", json!(""))])),
        ("not base64url", changed(p256.clone(), &[("x", json!("+/=="))])),
    ];
    let good = Signer::p256("good", 9).jwk();
    for (name, jwk) in unusable {
        assert!(parse(std::slice::from_ref(&jwk)).is_err(), "{name} alone");
        let keys = parse(&[jwk, good.clone()]).unwrap();
        assert_eq!(keys.len(), 1, "{name} and a usable one");
        check(&keys, Some("good"), A::ES256, 1, true);
    }
}

#[test]
fn keys_with_other_members_are_usable() {
    let p256 = Signer::p256("a", 1).jwk();
    for members in [
        vec![("use", json!("sig"))],
        vec![("key_ops", json!(["verify"]))],
        vec![("x5t", json!("AA")), ("x5c", json!(["MIIB"])), ("issued", json!(1)), ("iat", json!([]))],
    ] {
        assert!(parse(&[changed(p256.clone(), &members)]).is_ok(), "{members:?}");
    }
}

#[test]
fn json_that_is_not_a_set_is_refused() {
    for json in [
        "",
        "{}",
        "[]",
        "null",
        "<html>",
        r#"{"keys":{}}"#,
        r#"{"keys":[]}"#,
        r#"{"keys":[1]}"#,
        "\u{feff}{}",
    ] {
        assert!(KeySet::parse(json.as_bytes()).is_err(), "{json}");
    }
    // Some issuers publish certificates in the same object.
    let json = json!({ "keys": [Signer::p256("a", 1).jwk()], "public_cert": {}, "public_certs": [] });
    assert!(KeySet::parse(json.to_string().as_bytes()).is_ok());
}

#[test]
fn key_is_found_by_its_id_and_algorithm() {
    let (ec, rsa) = (Signer::p256("same", 1).jwk(), Signer::rsa("same", A::RS256).jwk());
    let keys = parse(&[ec.clone(), rsa]).unwrap();
    check(&keys, Some("same"), A::ES256, 1, true);
    check(&keys, Some("same"), A::RS256, 1, true);
    check(&keys, Some("same"), A::PS256, 0, true);
    check(&keys, Some("other"), A::ES256, 0, false);
    // A token without an id may be signed with any key that supports its algorithm.
    check(&keys, None, A::ES256, 1, false);
    check(&keys, None, A::ES384, 0, false);
    let two = parse(&[ec.clone(), Signer::p256("next", 2).jwk()]).unwrap();
    check(&two, None, A::ES256, 2, false);
    check(&two, Some("next"), A::ES256, 1, true);
    // A key without an id may have signed a token with an unknown id.
    let mut nameless = Signer::p256("", 3).jwk();
    nameless.as_object_mut().unwrap().remove("kid");
    let keys = parse(&[ec.clone(), nameless]).unwrap();
    check(&keys, Some("same"), A::ES256, 1, true);
    check(&keys, Some("other"), A::ES256, 1, false);
    check(&keys, None, A::ES256, 2, false);
    check(&keys, Some("other"), A::RS256, 0, false);
    // Every client can send tokens, and each key costs a signature verification.
    let many: Vec<Value> = (1..=40).map(|seed| Signer::p256("many", seed).jwk()).collect();
    check(&parse(&many).unwrap(), None, A::ES256, 16, false);
}
