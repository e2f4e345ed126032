//! Tokens: which keys and claims let in, and which forgeries do not.
#![cfg(feature = "jwt")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use paloma_auth::{Jwt, JwtKeys, JwtRules};
use paloma_broker::{Action, AuthRequest};
use paloma_topic::TopicNameRef;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};
use support::{Answer, BAD, admission, allow, judge, login, request, scratch};

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

/// Tests run a few seconds after second 1,000,000 of the epoch.
const EXP: u64 = 1_000_300;

fn token(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(header), encode(claims));
    let signature = URL_SAFE_NO_PAD.encode(sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

fn hmac_with(secret: &[u8]) -> impl Fn(&[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    move |message| hmac::sign(&key, message).as_ref().to_vec()
}

fn hs256(claims: &Value) -> String {
    token(&json!({"alg": "HS256"}), claims, hmac_with(SECRET))
}

fn secret_keys(directory: &str) -> JwtKeys {
    let path = scratch(directory).join("secret");
    fs::write(&path, [SECRET, b"\n"].concat()).unwrap();
    JwtKeys::read_secret(&path).unwrap()
}

fn with_token(token: &str) -> AuthRequest {
    login("ignored", token)
}

#[track_caller]
fn check(jwt: &Jwt, token: &str, expected: Answer) {
    assert_eq!(judge(jwt, 0, &with_token(token)), expected, "{token}");
}

#[track_caller]
fn check_claims(rules: JwtRules, claims: &Value, expected: Answer) {
    let name = format!("jwt-claims-{}", std::panic::Location::caller().line());
    check(
        &Jwt::new(secret_keys(&name), rules),
        &hs256(claims),
        expected,
    );
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}

fn pem(prefix: &[u8], key: &[u8]) -> String {
    let body = STANDARD.encode([prefix, key].concat());
    format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n")
}

const ED25519_PREFIX: &[u8] = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";
const P256_PREFIX: &[u8] = b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";

#[test]
fn a_shared_secret_signs_for_hs256() {
    let jwt = Jwt::new(secret_keys("jwt-hs256"), JwtRules::default());
    let claims = json!({"sub": "ann", "exp": EXP});
    check(&jwt, &hs256(&claims), allow("ann"));
    let forged = token(&json!({"alg": "HS256"}), &claims, hmac_with(&[b'x'; 32]));
    check(&jwt, &forged, BAD);
    // The vector of RFC 7515, appendix A.1, whose time is long over here or long ahead.
    let printed = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    let key = r#"{"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}"#;
    let rules = JwtRules {
        user_claim: "iss".to_owned(),
        ..JwtRules::default()
    };
    let jwt = Jwt::new(JwtKeys::parse(Path::new("jwk"), key).unwrap(), rules);
    check(&jwt, printed, allow("joe"));
}

#[test]
fn rsa_keys_in_pem_and_jwks_sign_for_rs256() {
    let token = fs::read_to_string(data("rs256.jwt")).unwrap();
    for name in ["rs256.pem", "rs256.jwks"] {
        let jwt = Jwt::new(JwtKeys::read(&data(name)).unwrap(), JwtRules::default());
        check(&jwt, token.trim(), allow("ann"));
        let forged = hs256(&json!({"sub": "ann", "exp": EXP}));
        check(&jwt, &forged, BAD);
    }
}

#[test]
fn p256_keys_sign_for_es256() {
    let random = SystemRandom::new();
    let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap();
    let sign = |message: &[u8]| pair.sign(&random, message).unwrap().as_ref().to_vec();
    let token = token(
        &json!({"alg": "ES256"}),
        &json!({"sub": "ann", "exp": EXP}),
        sign,
    );
    let point = pair.public_key().as_ref();
    let encode = |bytes| URL_SAFE_NO_PAD.encode(bytes);
    let jwk =
        json!({"kty": "EC", "crv": "P-256", "x": encode(&point[1..33]), "y": encode(&point[33..])});
    for text in [pem(P256_PREFIX, point), jwk.to_string()] {
        let keys = JwtKeys::parse(Path::new("key"), &text).unwrap();
        check(&Jwt::new(keys, JwtRules::default()), &token, allow("ann"));
    }
}

fn ed25519() -> Ed25519KeyPair {
    let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap()
}

#[test]
fn ed25519_keys_sign_for_eddsa_and_are_chosen_by_id() {
    let pairs = [ed25519(), ed25519()];
    let jwk = |pair: &Ed25519KeyPair, id: &str| {
        let x = URL_SAFE_NO_PAD.encode(pair.public_key());
        json!({"kty": "OKP", "crv": "Ed25519", "kid": id, "x": x})
    };
    let jwks = json!({"keys": [jwk(&pairs[0], "a"), jwk(&pairs[1], "b")]});
    let keys = JwtKeys::parse(Path::new("jwks"), &jwks.to_string()).unwrap();
    let jwt = Jwt::new(keys, JwtRules::default());
    let claims = json!({"sub": "ann", "exp": EXP});
    for (header, pair, expected) in [
        (json!({"alg": "EdDSA", "kid": "b"}), 1, allow("ann")),
        (json!({"alg": "EdDSA"}), 1, allow("ann")),
        (json!({"alg": "EdDSA", "kid": "a"}), 1, BAD),
        (json!({"alg": "EdDSA", "kid": "c"}), 1, BAD),
    ] {
        let sign = |message: &[u8]| pairs[pair].sign(message).as_ref().to_vec();
        check(&jwt, &token(&header, &claims, sign), expected);
    }
    let keys = pem(ED25519_PREFIX, pairs[0].public_key().as_ref());
    let jwt = Jwt::new(
        JwtKeys::parse(Path::new("pem"), &keys).unwrap(),
        JwtRules::default(),
    );
    let sign = |message: &[u8]| pairs[0].sign(message).as_ref().to_vec();
    check(
        &jwt,
        &token(&json!({"alg": "EdDSA"}), &claims, sign),
        allow("ann"),
    );
}

#[test]
fn a_token_cannot_choose_how_it_is_checked() {
    let pair = ed25519();
    let public = pem(ED25519_PREFIX, pair.public_key().as_ref());
    let keys = JwtKeys::parse(Path::new("pem"), &public).unwrap();
    let jwt = Jwt::new(keys, JwtRules::default());
    let claims = json!({"sub": "ann", "exp": EXP});
    for algorithm in [
        "none", "None", "NONE", "", "HS256", "ES256", "RS256", "HS512", "eddsa",
    ] {
        let header = json!({"alg": algorithm});
        check(&jwt, &token(&header, &claims, |_| Vec::new()), BAD);
        check(
            &jwt,
            &token(&header, &claims, hmac_with(public.as_bytes())),
            BAD,
        );
        check(
            &jwt,
            &token(&header, &claims, hmac_with(pair.public_key().as_ref())),
            BAD,
        );
    }
    let sign = |message: &[u8]| pair.sign(message).as_ref().to_vec();
    check(
        &jwt,
        &token(&json!({"alg": "EdDSA", "crit": ["b64"]}), &claims, sign),
        BAD,
    );
    check(&jwt, &token(&json!({"alg": 1}), &claims, sign), BAD);
}

#[test]
fn times_issuer_and_audience_have_to_fit() {
    let default = JwtRules::default;
    for (claims, expected) in [
        (json!({"sub": "ann"}), BAD),
        (json!({"sub": "ann", "exp": 999_990}), BAD),
        (json!({"sub": "ann", "exp": 999_991}), allow("ann")),
        (json!({"sub": "ann", "exp": 1_000_000.5}), allow("ann")),
        (json!({"sub": "ann", "exp": -1}), BAD),
        (json!({"sub": "ann", "exp": 1e300}), BAD),
        (json!({"sub": "ann", "exp": "1000300"}), BAD),
        (json!({"sub": "ann", "exp": u64::MAX}), BAD),
        (
            json!({"sub": "ann", "exp": EXP, "nbf": 1_000_010}),
            allow("ann"),
        ),
        (json!({"sub": "ann", "exp": EXP, "nbf": 1_000_011}), BAD),
        (json!({"sub": "ann", "exp": EXP, "nbf": "now"}), BAD),
        (json!({"sub": "", "exp": EXP}), BAD),
        (json!({"sub": 7, "exp": EXP}), BAD),
        (json!({"sub": "a\u{0}", "exp": EXP}), BAD),
        (json!({"exp": EXP}), BAD),
        (json!({"sub": "ann", "exp": EXP, "aud": "somebody"}), BAD),
        (json!([1]), BAD),
    ] {
        check_claims(default(), &claims, expected);
    }
    let rules = || JwtRules {
        issuer: Some("us".to_owned()),
        audience: Some("mqtt".to_owned()),
        user_claim: "name".to_owned(),
        ..default()
    };
    for (claims, expected) in [
        (
            json!({"name": "ann", "exp": EXP, "iss": "us", "aud": "mqtt"}),
            allow("ann"),
        ),
        (
            json!({"name": "ann", "exp": EXP, "iss": "us", "aud": ["x", "mqtt"]}),
            allow("ann"),
        ),
        (
            json!({"name": "ann", "exp": EXP, "iss": "us", "aud": ["x"]}),
            BAD,
        ),
        (json!({"name": "ann", "exp": EXP, "iss": "us"}), BAD),
        (
            json!({"name": "ann", "exp": EXP, "iss": "them", "aud": "mqtt"}),
            BAD,
        ),
        (json!({"name": "ann", "exp": EXP, "aud": "mqtt"}), BAD),
        (
            json!({"sub": "ann", "exp": EXP, "iss": "us", "aud": "mqtt"}),
            BAD,
        ),
    ] {
        check_claims(rules(), &claims, expected);
    }
}

#[test]
fn expiry_and_rules_come_with_the_admission() {
    let jwt = Jwt::new(secret_keys("jwt-admission"), JwtRules::default());
    let claims = json!({"sub": "ann", "exp": EXP, "acl": ["read a/#", "own/%u"]});
    let admission = admission(&jwt, 100, &with_token(&hs256(&claims)));
    assert_eq!(admission.valid_for, Some(Duration::from_secs(210)));
    let rules = admission.rules.clone().unwrap();
    let may = |action, topic| {
        let topic = TopicNameRef::new(topic).unwrap();
        rules.is_allowed(&admission.identity, "c1", action, topic)
    };
    assert!(may(Action::Read, "a/b") && may(Action::Write, "own/ann"));
    assert!(!may(Action::Write, "a/b") && !may(Action::Write, "own/bob"));
    for acl in [json!("read a"), json!([1]), json!(["peek a"]), json!(null)] {
        let claims = json!({"sub": "ann", "exp": EXP, "acl": acl});
        check(&jwt, &hs256(&claims), BAD);
    }
}

#[test]
fn what_has_not_the_form_of_a_token_is_left_to_others() {
    let jwt = Jwt::new(secret_keys("jwt-form"), JwtRules::default());
    let long = "x".repeat(17_000);
    for password in ["", "secret", "a.b.c", "e30.e30.", "..", &long] {
        check(&jwt, password, Answer::NotMine);
    }
    assert_eq!(judge(&jwt, 0, &request(Some("ann"), None)), Answer::NotMine);
    let good = hs256(&json!({"sub": "ann", "exp": EXP}));
    check(&jwt, &format!("{good}="), BAD);
    check(&jwt, good.trim_end_matches(|c| c != '.'), BAD);
    check(&jwt, &good, allow("ann"));
}

#[test]
fn keys_are_reloaded_and_broken_files_change_nothing() {
    let path = scratch("jwt-reload").join("keys");
    let pairs = [ed25519(), ed25519()];
    let text = |pair: &Ed25519KeyPair| pem(ED25519_PREFIX, pair.public_key().as_ref());
    let token_of = |pair: &Ed25519KeyPair| {
        let sign = |message: &[u8]| pair.sign(message).as_ref().to_vec();
        token(
            &json!({"alg": "EdDSA"}),
            &json!({"sub": "ann", "exp": EXP}),
            sign,
        )
    };
    fs::write(&path, text(&pairs[0])).unwrap();
    let jwt = Jwt::new(JwtKeys::read(&path).unwrap(), JwtRules::default());
    let certificate = text(&pairs[0]).replace("PUBLIC KEY", "CERTIFICATE");
    let truncated = pem(ED25519_PREFIX, b"short");
    for broken in [
        "",
        "keys",
        "{}",
        r#"{"keys": []}"#,
        "{",
        &certificate,
        &truncated,
    ] {
        fs::write(&path, broken).unwrap();
        assert!(jwt.reload().is_err(), "{broken}");
        check(&jwt, &token_of(&pairs[0]), allow("ann"));
    }
    fs::write(&path, text(&pairs[1])).unwrap();
    jwt.reload().unwrap();
    check(&jwt, &token_of(&pairs[0]), BAD);
    check(&jwt, &token_of(&pairs[1]), allow("ann"));
}

#[test]
fn short_secrets_and_public_keys_are_no_secrets() {
    let path = scratch("jwt-secrets").join("secret");
    for secret in [&SECRET[1..], b"", pem(ED25519_PREFIX, &[0; 32]).as_bytes()] {
        fs::write(&path, secret).unwrap();
        assert!(JwtKeys::read_secret(&path).is_err());
    }
    let short = r#"{"kty":"oct","k":"AAAA"}"#;
    assert!(JwtKeys::parse(Path::new("jwk"), short).is_err());
}

#[test]
fn e2_debug_output_holds_no_key() {
    let jwt = Jwt::new(secret_keys("jwt-debug"), JwtRules::default());
    let shown = format!("{jwt:?}");
    assert!(!shown.contains("0123456789"), "{shown}");
}
