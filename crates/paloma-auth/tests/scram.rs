//! SCRAM-SHA-256 through the port, with a client made of the RFC's formulas.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

mod support;

use std::fs;
use std::num::NonZeroU32;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use paloma_auth::{Method, Scram, ScramFile, remove_user, set_scram_password};
use paloma_broker::{AuthOutcome, AuthRequest, ConnectionId};
use ring::{digest, hmac, pbkdf2};
use support::{Answer, BAD, admission, allow, connections, judge, request, scratch, secret};

fn scram(directory: &str) -> Scram {
    let path = scratch(directory).join("scram");
    set_scram_password(&path, "ann", "secret").unwrap();
    set_scram_password(&path, "a,b=c", "pencil").unwrap();
    Scram::read(&path).unwrap()
}

fn step(connection: ConnectionId, data: &str) -> AuthRequest {
    AuthRequest {
        connection,
        method: Some(("SCRAM-SHA-256".into(), secret(data))),
        ..request(None, None)
    }
}

/// The server's answer to a first message, and the last message that it asks for with the server's proof.
fn exchange(
    scram: &Scram,
    connection: ConnectionId,
    user: &str,
    password: &str,
) -> (String, String, String) {
    let bare = format!("n={user},r=client-nonce");
    let Answer::Continue(challenge) = judge(scram, 0, &step(connection, &format!("n,,{bare}")))
    else {
        panic!("no challenge");
    };
    let fields: Vec<&str> = challenge.split(',').collect();
    let salt = STANDARD
        .decode(fields[1].strip_prefix("s=").unwrap())
        .unwrap();
    let iterations = fields[2].strip_prefix("i=").unwrap().parse().unwrap();
    let iterations = NonZeroU32::new(iterations).unwrap();
    let mut salted = [0; 32];
    let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
    pbkdf2::derive(
        algorithm,
        iterations,
        &salt,
        password.as_bytes(),
        &mut salted,
    );
    let sign = |key: &[u8], data: &[u8]| {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data)
            .as_ref()
            .to_vec()
    };
    let without_proof = format!("c=biws,{}", fields[0]);
    let signed = format!("{bare},{challenge},{without_proof}");
    let client_key = sign(&salted, b"Client Key");
    let stored_key = digest::digest(&digest::SHA256, &client_key);
    let signature = sign(stored_key.as_ref(), signed.as_bytes());
    let proof: Vec<u8> = client_key
        .iter()
        .zip(signature)
        .map(|(a, b)| a ^ b)
        .collect();
    let last = format!("{without_proof},p={}", STANDARD.encode(proof));
    let server = sign(&sign(&salted, b"Server Key"), signed.as_bytes());
    (challenge, last, format!("v={}", STANDARD.encode(server)))
}

#[test]
fn the_right_password_lets_in_and_the_server_proves_itself() {
    let scram = scram("scram-login");
    let [connection] = connections(1)[..] else {
        panic!();
    };
    // Twice on one connection: the second time is a re-authentication. [MQTT-4.12.1-1]
    for _ in 0..2 {
        let (_, last, proof) = exchange(&scram, connection, "ann", "secret");
        let admission = admission(&scram, 0, &step(connection, &last));
        assert_eq!(admission.identity.user.as_deref(), Some("ann"));
        assert_eq!(admission.data.unwrap(), secret(&proof));
        assert_eq!(scram.exchanges(), 0);
    }
    let (_, last, _) = exchange(&scram, connection, "a=2Cb=3Dc", "pencil");
    assert_eq!(judge(&scram, 0, &step(connection, &last)), allow("a,b=c"));
}

#[test]
fn a_wrong_password_a_stranger_and_a_replay_are_refused() {
    let scram = scram("scram-refused");
    let connection = connections(1)[0];
    let (_, last, _) = exchange(&scram, connection, "ann", "wrong");
    assert_eq!(judge(&scram, 0, &step(connection, &last)), BAD);
    let (_, last, _) = exchange(&scram, connection, "eve", "secret");
    assert_eq!(judge(&scram, 0, &step(connection, &last)), BAD);
    let (_, last, _) = exchange(&scram, connection, "ann", "secret");
    assert_eq!(judge(&scram, 0, &step(connection, &last)), allow("ann"));
    assert_eq!(judge(&scram, 0, &step(connection, &last)), BAD);
    let (_, _, _) = exchange(&scram, connection, "ann", "secret");
    assert_eq!(judge(&scram, 0, &step(connection, &last)), BAD);
}

#[test]
fn e1_a_stranger_is_challenged_like_a_user_and_always_the_same() {
    let scram = scram("scram-strangers");
    let connection = connections(1)[0];
    let salt_of = |user| {
        let (challenge, _, _) = exchange(&scram, connection, user, "x");
        let fields: Vec<String> = challenge.split(',').map(str::to_owned).collect();
        (fields[1].clone(), fields[2].clone())
    };
    let (salt, iterations) = salt_of("eve");
    let (users_salt, users_iterations) = salt_of("ann");
    assert_eq!(salt.len(), users_salt.len());
    assert_eq!(iterations, users_iterations);
    assert_eq!(salt_of("eve").0, salt);
    assert_ne!(salt_of("bob").0, salt);
}

#[test]
fn exchanges_belong_to_their_connection_and_expire() {
    let scram = scram("scram-expiry");
    let connections = connections(2);
    let (_, last, _) = exchange(&scram, connections[0], "ann", "secret");
    assert_eq!(judge(&scram, 0, &step(connections[1], &last)), BAD);
    assert_eq!(judge(&scram, 60, &step(connections[0], &last)), BAD);
    let (_, last, _) = exchange(&scram, connections[0], "ann", "secret");
    assert_eq!(
        judge(&scram, 59, &step(connections[0], &last)),
        allow("ann")
    );
}

#[test]
fn so_many_exchanges_wait_and_no_more() {
    let scram = scram("scram-bounds");
    for connection in connections(5_000) {
        let first = step(connection, "n,,n=ann,r=x");
        assert!(matches!(judge(&scram, 0, &first), Answer::Continue(_)));
    }
    assert_eq!(scram.exchanges(), 4_096);
}

#[test]
fn other_methods_and_other_bytes_are_not_for_scram() {
    let scram = scram("scram-other");
    let connection = connections(1)[0];
    assert_eq!(judge(&scram, 0, &request(None, None)), Answer::NotMine);
    let mut other = step(connection, "n,,n=ann,r=x");
    other.method = Some(("SCRAM-SHA-1".into(), secret("n,,n=ann,r=x")));
    assert_eq!(judge(&scram, 0, &other), Answer::NotMine);
    assert_eq!(judge(&scram, 0, &step(connection, "")), BAD);
    other.method = Some((
        "SCRAM-SHA-256".into(),
        bytes::Bytes::from_static(b"\xff").into(),
    ));
    assert_eq!(judge(&scram, 0, &other), BAD);
    assert!(!scram.is_blocking());
}

#[test]
fn d8_a_broken_file_is_refused_and_leaves_the_users_in_force() {
    let directory = scratch("scram-file");
    let path = directory.join("scram");
    set_scram_password(&path, "ann", "secret").unwrap();
    let scram = Scram::read(&path).unwrap();
    let good = fs::read_to_string(&path).unwrap();
    for broken in [
        "",
        "ann:secret\n",
        "ann:SCRAM-SHA-256$1:AAAA$AAAA:AAAA\n",
        &good.repeat(2),
    ] {
        fs::write(&path, broken).unwrap();
        assert!(scram.reload().is_err(), "{broken}");
    }
    let (connection, other) = (connections(2)[0], "SCRAM-SHA-256");
    let (_, last, _) = exchange(&scram, connection, "ann", "secret");
    assert_eq!(judge(&scram, 0, &step(connection, &last)), allow("ann"));
    assert!(ScramFile::parse(Path::new(other), "").is_err());
    set_scram_password(&path, "bob", "x").unwrap();
    remove_user(&path, "ann").unwrap();
    assert!(remove_user(&path, "ann").is_err());
    assert!(set_scram_password(&path, "bób", "x").is_err());
    assert!(set_scram_password(&path, "bob", "ö").is_err());
}

#[test]
fn e2_debug_output_holds_no_secret() {
    let scram = scram("scram-debug");
    let connection = connections(1)[0];
    let (challenge, last, _) = exchange(&scram, connection, "ann", "secret");
    let outcome = AuthOutcome::Continue(secret(&challenge));
    let shown = format!("{scram:?} {:?} {outcome:?}", step(connection, &last));
    assert!(
        !shown.contains("client-nonce") && !shown.contains("p="),
        "{shown}"
    );
}
