//! Listeners with methods of their own, anonymous clients, certificates and the limit on failed logins.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

mod support;

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use paloma_auth::{
    AclRules, Certificates, Chain, Last, ListenerAuth, OpenTopics, Passwords, set_password,
};
use paloma_broker::{AllowAll, AuthOutcome, AuthRequest, Authenticator, Identity};
use paloma_codec::ConnAckReason;
use support::{Answer, BAD, allow, answer, at, login, request, scratch, secret};

const ANONYMOUS: Answer = Answer::Allow(None);
const NOT_AUTHORIZED: Answer = Answer::Deny(ConnAckReason::NotAuthorized);

#[track_caller]
fn check(chain: &Chain, seconds: u64, request: &AuthRequest, expected: Answer) {
    let outcome = chain.authenticate_at(at(seconds), request);
    assert_eq!(answer(&outcome), expected, "{seconds} s {request:?}");
}

fn passwords(directory: &str) -> Arc<Passwords> {
    let path = scratch(directory).join("passwords");
    set_password(&path, "ann", b"secret").unwrap();
    Arc::new(Passwords::read(&path).unwrap())
}

fn from(address: [u8; 4], mut request: AuthRequest) -> AuthRequest {
    request.info.address = Some(IpAddr::from(address));
    request
}

fn at_listener(listener: u16, mut request: AuthRequest) -> AuthRequest {
    request.info.listener = listener;
    request
}

#[test]
fn d9_each_listener_has_its_own_methods_and_word_on_anonymous_clients() {
    let chain = Chain::new(
        vec![
            ListenerAuth {
                methods: vec![passwords("chain-listeners")],
                ..ListenerAuth::default()
            },
            ListenerAuth {
                allow_anonymous: true,
                ..ListenerAuth::default()
            },
            ListenerAuth {
                methods: vec![passwords("chain-listeners-2")],
                allow_anonymous: true,
                ..ListenerAuth::default()
            },
            ListenerAuth::default(),
        ],
        10,
    );
    let nobody = || request(None, None);
    check(&chain, 0, &login("ann", "secret"), allow("ann"));
    check(&chain, 0, &nobody(), NOT_AUTHORIZED);
    check(&chain, 0, &at_listener(1, nobody()), ANONYMOUS);
    check(
        &chain,
        0,
        &at_listener(1, login("ann", "anything")),
        ANONYMOUS,
    );
    check(&chain, 0, &at_listener(2, nobody()), ANONYMOUS);
    check(&chain, 0, &at_listener(2, login("ann", "wrong")), BAD);
    check(&chain, 0, &at_listener(2, login("eve", "wrong")), BAD);
    check(&chain, 0, &at_listener(2, request(Some("ann"), None)), BAD);
    check(&chain, 0, &at_listener(3, nobody()), NOT_AUTHORIZED);
    check(
        &chain,
        0,
        &at_listener(3, login("ann", "secret")),
        NOT_AUTHORIZED,
    );
    // A listener that nobody described.
    check(&chain, 0, &at_listener(4, nobody()), NOT_AUTHORIZED);
}

#[test]
fn an_unknown_method_is_refused_even_where_anybody_may_come() {
    // [MQTT-4.12.0-1]
    let open = ListenerAuth {
        allow_anonymous: true,
        ..ListenerAuth::default()
    };
    let chain = Chain::new(vec![open], 10);
    let request = AuthRequest {
        method: Some(("SCRAM-SHA-1".into(), secret("n,,n=u,r=x"))),
        ..request(None, None)
    };
    let expected = Answer::Deny(ConnAckReason::BadAuthenticationMethod);
    check(&chain, 0, &request, expected);
}

#[test]
fn a_listeners_rules_are_for_whoever_brings_none() {
    let rules = AclRules::parse(Path::new("acl"), "user ann\ntopic read a\n").unwrap();
    let chain = Chain::new(
        vec![ListenerAuth {
            allow_anonymous: true,
            rules: Some(Arc::new(rules)),
            ..ListenerAuth::default()
        }],
        10,
    );
    let outcome = chain.authenticate_at(at(0), &request(None, None));
    let AuthOutcome::Allow(admission) = outcome else {
        panic!("{outcome:?}");
    };
    assert!(format!("{:?}", admission.rules.unwrap()).starts_with("AclRules"));
}

#[test]
fn a_verified_certificates_name_is_the_user_whatever_connect_says() {
    let chain = Chain::new(
        vec![ListenerAuth {
            methods: vec![Arc::new(Certificates), passwords("chain-certificates")],
            ..ListenerAuth::default()
        }],
        10,
    );
    let with_name = |name: &str, mut request: AuthRequest| {
        request.info.certificate_name = Some(name.into());
        request
    };
    check(
        &chain,
        0,
        &with_name("device 7", request(None, None)),
        allow("device 7"),
    );
    check(
        &chain,
        0,
        &with_name("device 7", login("ann", "wrong")),
        allow("device 7"),
    );
    check(
        &chain,
        0,
        &with_name("", login("ann", "secret")),
        NOT_AUTHORIZED,
    );
    check(
        &chain,
        0,
        &with_name("a\nb", request(None, None)),
        NOT_AUTHORIZED,
    );
    check(&chain, 0, &login("ann", "secret"), allow("ann"));
    check(&chain, 0, &request(None, None), NOT_AUTHORIZED);
}

#[test]
fn ones_own_authenticator_decides_what_is_left() {
    let chain = Chain::new(
        vec![ListenerAuth {
            methods: vec![passwords("chain-own"), Arc::new(Last(AllowAll))],
            rules: Some(Arc::new(OpenTopics)),
            ..ListenerAuth::default()
        }],
        10,
    );
    check(&chain, 0, &login("ann", "wrong"), BAD);
    check(&chain, 0, &login("eve", "anything"), ANONYMOUS);
    assert!(chain.is_blocking());
}

#[test]
fn e5_a_login_flood_computes_few_hashes_and_locks_nobody_else_out() {
    let passwords = passwords("chain-flood");
    let listener = ListenerAuth {
        methods: vec![Arc::clone(&passwords) as _],
        allow_anonymous: true,
        ..ListenerAuth::default()
    };
    let chain = Chain::new(vec![listener], 10);
    let limited = || Answer::Deny(ConnAckReason::QuotaExceeded);
    for attempt in 0..500 {
        let expected = if attempt < 10 { BAD } else { limited() };
        check(&chain, 0, &login("ann", "wrong"), expected);
    }
    assert_eq!(passwords.work().hashes, 10);
    // Another user at that address waits too; the same user elsewhere does not, and neither does who claims nothing.
    check(&chain, 0, &login("bob", "x"), limited());
    check(
        &chain,
        0,
        &from([192, 0, 2, 2], login("ann", "secret")),
        allow("ann"),
    );
    check(&chain, 0, &request(None, None), ANONYMOUS);
    check(&chain, 9, &login("ann", "secret"), limited());
    check(&chain, 10, &login("ann", "secret"), allow("ann"));
}

#[test]
fn e5_who_failed_too_often_is_refused_without_waiting_for_a_hash() {
    let passwords = passwords("chain-at-once");
    let listener = ListenerAuth {
        methods: vec![Arc::clone(&passwords) as _],
        ..ListenerAuth::default()
    };
    let chain = Chain::new(vec![listener], 2);
    let at_once = |request: AuthRequest| chain.authenticate_at_once_at(at(0), &request);
    for _ in 0..2 {
        assert!(at_once(login("ann", "wrong")).is_none());
        check(&chain, 0, &login("ann", "wrong"), BAD);
    }
    for refused in [login("ann", "secret"), login("bob", "x")] {
        let outcome = at_once(refused).unwrap();
        assert_eq!(answer(&outcome), Answer::Deny(ConnAckReason::QuotaExceeded));
    }
    assert_eq!(passwords.work().hashes, 2);
    let elsewhere = from([192, 0, 2, 2], login("ann", "secret"));
    assert!(at_once(elsewhere.clone()).is_none());
    check(&chain, 0, &elsewhere, allow("ann"));
    assert_eq!(answer(&at_once(elsewhere).unwrap()), allow("ann"));
    // Who offers nothing, or a method that is not there, needs no hash to be refused.
    let outcome = at_once(from([192, 0, 2, 3], request(None, None))).unwrap();
    assert_eq!(answer(&outcome), NOT_AUTHORIZED);
    assert_eq!(passwords.work().hashes, 3);
}

#[test]
fn d12_a_backend_that_is_down_refuses_and_is_not_the_clients_fault() {
    #[derive(Debug)]
    struct Down;
    impl Authenticator for Down {
        fn authenticate(&self, _: &AuthRequest) -> AuthOutcome {
            AuthOutcome::Deny(ConnAckReason::ServerUnavailable)
        }
    }
    let listener = ListenerAuth {
        methods: vec![Arc::new(Last(Down))],
        allow_anonymous: true,
        ..ListenerAuth::default()
    };
    let chain = Chain::new(vec![listener], 10);
    for _ in 0..100 {
        let expected = Answer::Deny(ConnAckReason::ServerUnavailable);
        check(&chain, 0, &login("ann", "secret"), expected);
    }
}

#[test]
fn the_real_clock_serves_as_well() {
    let open = ListenerAuth {
        allow_anonymous: true,
        ..ListenerAuth::default()
    };
    let chain = Chain::new(vec![open], 10);
    assert!(!chain.is_blocking());
    let outcome = chain.authenticate(&request(None, None));
    let AuthOutcome::Allow(admission) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(admission.identity, Identity::ANONYMOUS);
}
