//! Who comes in, and what it may do then, as client libraries tell it.

use paloma_interop::broker::{Broker, Setup, skips_other_brokers};
use paloma_interop::peer::Library::{self, MqttJs, Own, Paho, Rumqttc};
use paloma_interop::peer::{Connect, Outgoing, Peer, Subscription, Version};

/// Made by `paloma passwd`: ann's password is `secret`, bob's is `other`.
const PASSWORDS: &str = "\
ann:$argon2id$v=19$m=19456,t=2,p=1$kxAzmjnbVtBxFeACV5VeeA$EjsnBsO454VJEQUh3VOoDetAaKqh02q4UFlkw/FNCrM
bob:$argon2id$v=19$m=19456,t=2,p=1$aIjGYZ72AtkqkCUVix+GAg$rwAq1SI7KSa3Ws0XX08xecKqmBmH5AGriZjA1CrqVcs
";

/// Ann writes for everybody, bob reads.
const RULES: &str = "\
user ann
topic readwrite news/#
topic readwrite end/+
user bob
topic read news/#
topic read end/+
";

const BAD_USER_NAME_OR_PASSWORD: u8 = 0x86;
const NOT_AUTHORIZED: u8 = 0x87;

/// Plays `scene` with each library and version before one broker that asks for passwords. The last argument is a name that
/// belongs to the library and the version alone.
fn check(scene: fn(&Broker, Library, Version, &str)) {
    if skips_other_brokers("its files are others") {
        return;
    }
    let files = vec![
        ("passwords", PASSWORDS.to_owned()),
        ("rules", RULES.to_owned()),
    ];
    let broker = Broker::with(Setup {
        configuration: "[auth]\npassword_file = \"passwords\"\nacl_file = \"rules\"\n".to_owned(),
        files,
        files_max: None,
    });
    for library in [Paho, MqttJs, Rumqttc, Own] {
        if !library.is_available() {
            continue;
        }
        for version in Version::ALL {
            eprintln!("{library:?} in {version:?}");
            let name = format!("{library:?}-{}", version.level());
            scene(&broker, library, version, &name);
        }
    }
    broker.stop();
}

fn ann(broker: &Broker, library: Library, version: Version, id: &str) -> Peer {
    let mut peer = library.peer_of(broker, version);
    peer.connect(&Connect::clean(&format!("ann-{id}")).with_login("ann", "secret"));
    peer
}

fn bob(broker: &Broker, library: Library, version: Version, id: &str) -> Peer {
    let mut peer = library.peer_of(broker, version);
    peer.connect(&Connect::clean(&format!("bob-{id}")).with_login("bob", "other"));
    peer
}

#[test]
fn a_password_opens_and_a_wrong_one_says_that_it_is_wrong() {
    check(|broker, library, version, name| {
        let refusal = |connect: Connect| library.peer_of(broker, version).connect_in_vain(&connect);
        let connect = || Connect::clean(name);
        assert_eq!(
            refusal(connect().with_login("ann", "other")),
            BAD_USER_NAME_OR_PASSWORD
        );
        assert_eq!(refusal(connect()), NOT_AUTHORIZED, "nobody's password");
        let mut peer = library.peer_of(broker, version);
        assert!(!peer.connect(&connect().with_login("ann", "secret")));
        peer.subscribe("news/public", 1);
        peer.publish(&Outgoing::new("news/public", "from within", 1));
        assert_eq!(peer.message().payload, b"from within");
    });
}

#[test]
fn a_subscription_to_what_may_not_be_read_is_refused_in_its_answer() {
    check(|broker, library, version, name| {
        let mut bob = bob(broker, library, version, name);
        let refused = match version {
            Version::V311 => 0x80,
            Version::V5 => NOT_AUTHORIZED,
        };
        for filter in ["diary/#", "diary/ann", "$SYS/#"] {
            let answer = bob.subscribe_as(&Subscription::new(filter, 1));
            assert_eq!(answer, [refused], "{filter}");
        }
        // The connection goes on, and what may be read is.
        bob.subscribe("news/#", 1);
        let mut ann = ann(broker, Own, version, name);
        ann.publish(&Outgoing::new("news/public", "hear", 1));
        assert_eq!(bob.message().payload, b"hear");
    });
}

#[test]
fn a_message_that_may_not_be_written_reaches_nobody_and_5_says_so() {
    check(|broker, library, version, name| {
        let end = format!("end/{name}");
        let mut reader = bob(broker, Own, version, &format!("reader-{name}"));
        reader.subscribe("news/#", 2);
        reader.subscribe(&end, 1);
        let mut intruder = bob(broker, library, version, name);
        for qos in 0..=2 {
            let answer = intruder.publish_as(&Outgoing::new("news/public", "forged", qos));
            let expected = match (version, qos, library) {
                // Before 5.0 an acknowledgement cannot say no, and nothing acknowledges QoS 0.
                (Version::V311, _, _) | (_, 0, _) => 0,
                // It takes no notice of PUBREC's code, and its PUBREL is for an identifier that is not in use.
                (Version::V5, 2, Paho) => 0x92,
                (Version::V5, _, _) => NOT_AUTHORIZED,
            };
            assert_eq!(answer, expected, "{library:?} {version:?} at QoS {qos}");
        }
        // A retained one is no greeting either.
        intruder.publish_as(&Outgoing::new("news/kept", "forged", 1).retained());
        let mut ann = ann(broker, Own, version, name);
        ann.publish(&Outgoing::new("news/public", "true", 1));
        ann.publish(&Outgoing::new(&end, "", 1));
        let heard = reader.messages_until(&end);
        let payloads: Vec<&[u8]> = heard.iter().map(|m| m.payload.as_slice()).collect();
        assert_eq!(payloads, [b"true"]);
        let mut late = bob(broker, Own, version, &format!("late-{name}"));
        late.subscribe("news/#", 1);
        late.subscribe(&end, 1);
        ann.publish(&Outgoing::new(&end, "", 1));
        assert_eq!(late.messages_until(&end), []);
    });
}
