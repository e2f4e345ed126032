//! The load's packets are those that paloma-codec would write.

use paloma_codec::{DecodeLimits, Decoder, PacketRef, ProtocolVersion};
use paloma_load::packet::{self, Hello, Qos, Version, first_byte};

/// Decodes `packet` as a server does that has seen a CONNECT, and encodes it again.
fn check(version: Version, packet: &[u8]) {
    let mut server = Decoder::server(DecodeLimits::UNLIMITED);
    let connect = hello(version, "client");
    let wire = match version {
        Version::V311 => ProtocolVersion::V3_1_1,
        Version::V5 => ProtocolVersion::V5,
    };
    let first = server.decode(&connect).expect("well formed");
    assert!(matches!(first, Some((PacketRef::Connect(_), used)) if used == connect.len()));
    assert_eq!(server.version(), Some(wire));

    let (decoded, used) = server.decode(packet).expect("well formed").expect("whole");
    assert_eq!(used, packet.len());
    let mut encoded = Vec::new();
    decoded
        .into_owned()
        .encode(wire, &mut encoded)
        .expect("can be written");
    assert_eq!(encoded, packet);
}

fn hello(version: Version, client_id: &str) -> Vec<u8> {
    packet::connect(&Hello {
        version,
        client_id,
        keep_alive_seconds: 600,
        username: None,
        password: None,
        keeps_session: false,
    })
}

fn check_both(packet: impl Fn(Version) -> Vec<u8>) {
    for version in [Version::V311, Version::V5] {
        check(version, &packet(version));
    }
}

#[test]
fn connect_is_the_codecs() {
    let logins = [
        (None, None),
        (Some("me"), None),
        (Some("me"), Some(&b"secret"[..])),
    ];
    for (version, keeps_session, (username, password)) in [Version::V311, Version::V5]
        .into_iter()
        .flat_map(|version| {
            let kept = [false, true].into_iter();
            kept.flat_map(move |kept| logins.into_iter().map(move |login| (version, kept, login)))
        })
    {
        let bytes = packet::connect(&Hello {
            version,
            client_id: "some-client",
            keep_alive_seconds: 600,
            username,
            password,
            keeps_session,
        });
        let mut server = Decoder::server(DecodeLimits::UNLIMITED);
        let (decoded, _) = server.decode(&bytes).expect("well formed").expect("whole");
        let mut encoded = Vec::new();
        let version = server.version().expect("known after CONNECT");
        decoded
            .into_owned()
            .encode(version, &mut encoded)
            .expect("can be written");
        assert_eq!(encoded, bytes);
    }
}

#[test]
fn subscribe_is_the_codecs() {
    for qos in [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce] {
        let filters: Vec<String> = (0..100).map(|n| format!("load/{n}/+/value")).collect();
        check_both(|version| packet::subscribe(version, 7, &filters, qos));
    }
}

#[test]
fn publish_is_the_codecs_at_every_length_and_qos() {
    for qos in [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce] {
        for payload_bytes in [0, 16, 100, 130, 20_000] {
            for retain in [false, true] {
                check_both(|version| {
                    packet::publish(version, "load/pair/000001", qos, retain, payload_bytes).bytes
                });
            }
        }
    }
}

#[test]
fn acknowledgements_and_disconnect_are_the_codecs() {
    for first in [
        first_byte::PUBACK,
        first_byte::PUBREC,
        first_byte::PUBREL,
        first_byte::PUBCOMP,
    ] {
        check_both(|_| packet::ack(first, 0x1234).to_vec());
    }
    check_both(|_| packet::DISCONNECT.to_vec());
    check_both(|_| vec![first_byte::PINGREQ, 0]);
}
