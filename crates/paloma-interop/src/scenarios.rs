//! What ordinary clients do with a broker, written once for every library and both versions.
//!
//! A scenario is played by two libraries, which may be the same: `near` does what the scenario is about, and `far`
//! is whom it does it to.

use std::thread;
use std::time::Duration;

use crate::broker::{Broker, skips_other_brokers};
use crate::peer::{
    Connect, Event, Incoming, Library, Outgoing, Peer, Properties, Subscription, Version,
};

/// Ends a phase: what was published before it has arrived before it.
const END: &str = "scenario/end";

/// Who plays a scenario, and before which broker.
#[derive(Debug)]
pub struct Stage {
    broker: Broker,
    near: Library,
    far: Library,
    version: Version,
}

impl Stage {
    fn near(&self) -> Peer {
        self.near.peer_of(&self.broker, self.version)
    }

    fn far(&self) -> Peer {
        self.far.peer_of(&self.broker, self.version)
    }

    fn is_v5(&self) -> bool {
        self.version == Version::V5
    }

    /// A connected publisher of the library `near`.
    fn publisher(&self) -> Peer {
        let mut peer = self.near();
        assert!(!peer.connect(&Connect::clean("publisher")));
        peer
    }

    /// A connected client of the library `far`, subscribed at QoS 2.
    fn subscriber(&self, filter: &str) -> Peer {
        let mut peer = self.far();
        peer.connect(&Connect::clean("subscriber"));
        peer.subscribe(filter, 2);
        peer.subscribe(END, 2);
        peer
    }

    /// A client leaves with DISCONNECT, and the broker has noticed; `count` says how many connections of that name have
    /// ended then.
    fn see_off(&self, mut peer: Peer, client_id: &str, count: usize) {
        peer.disconnect();
        self.broker.await_departure(client_id, count);
    }
}

/// Plays one scenario with a broker of its own, which must survive it.
pub fn play(scenario: fn(&Stage), near: Library, far: Library, version: Version) {
    if !near.is_available() || !far.is_available() {
        return;
    }
    play_on(Broker::start(), scenario, (near, far), version);
}

/// The same with a broker that was started for it.
pub fn play_on(
    broker: Broker,
    scenario: fn(&Stage),
    (near, far): (Library, Library),
    version: Version,
) {
    let stage = Stage {
        broker,
        near,
        far,
        version,
    };
    scenario(&stage);
    stage.broker.stop();
}

fn end(publisher: &mut Peer) {
    publisher.publish(&Outgoing::new(END, "", 2));
}

/// What `subscriber` has received since the last time, without the end mark.
fn everything(publisher: &mut Peer, subscriber: &mut Peer) -> Vec<Incoming> {
    end(publisher);
    subscriber.messages_until(END)
}

fn payloads(messages: &[Incoming]) -> Vec<String> {
    messages
        .iter()
        .map(|m| String::from_utf8_lossy(&m.payload).into_owned())
        .collect()
}

/// Each published QoS meets each subscribed one, and the lower of the two arrives. [MQTT-3.8.4-8]
pub fn each_qos_arrives_at_the_lower_of_the_two(stage: &Stage) {
    let mut subscriber = stage.far();
    subscriber.connect(&Connect::clean("subscriber"));
    for granted in 0..=2 {
        subscriber.subscribe(&format!("at/{granted}"), granted);
    }
    let mut publisher = stage.publisher();
    for granted in 0..=2_u8 {
        for published in 0..=2_u8 {
            let payload = format!("{published} to {granted}");
            publisher.publish(&Outgoing::new(
                &format!("at/{granted}"),
                &payload,
                published,
            ));
            let message = subscriber.message();
            assert_eq!(message.topic, format!("at/{granted}"));
            assert_eq!(message.payload, payload.as_bytes());
            assert_eq!(message.qos, published.min(granted), "{payload}");
            assert!(!message.retain, "{payload}");
        }
    }
}

/// Payloads are bytes of any value and number.
pub fn payloads_arrive_unchanged(stage: &Stage) {
    let mut subscriber = stage.subscriber("payload");
    let mut publisher = stage.publisher();
    let all_bytes: Vec<u8> = (0..=255).collect();
    for length in [0, 1, 127, 128, 16_383, 16_384, 300_000] {
        let payload: Vec<u8> = all_bytes.iter().copied().cycle().take(length).collect();
        for qos in 0..=2 {
            publisher.publish(&Outgoing::new("payload", &payload, qos));
            assert!(
                subscriber.message().payload == payload,
                "{length} bytes at QoS {qos}"
            );
        }
    }
}

/// A burst arrives complete and in order. [MQTT-4.6.0-6]
pub fn a_burst_arrives_complete_and_in_order(stage: &Stage) {
    const COUNT: usize = 300;
    let mut subscriber = stage.subscriber("burst");
    let mut publisher = stage.publisher();
    for qos in 0..=2 {
        let burst = (0..COUNT).map(|number| Outgoing::new("burst", number.to_string(), qos));
        publisher.publish_all(burst, 20);
        let received = payloads(&everything(&mut publisher, &mut subscriber));
        let expected: Vec<String> = (0..COUNT).map(|number| number.to_string()).collect();
        assert_eq!(received, expected, "QoS {qos}");
    }
}

/// A clean session ends with its connection, and a persistent one is resumed with what came meanwhile.
pub fn a_persistent_session_is_resumed_with_its_queue(stage: &Stage) {
    let mut publisher = stage.publisher();
    let persistent = Connect::persistent("sleeper");
    let mut sleeper = stage.far();
    assert!(!sleeper.connect(&persistent), "no session yet");
    sleeper.subscribe("while/away", 2);
    sleeper.subscribe(END, 2);
    stage.see_off(sleeper, "sleeper", 1);

    for number in 0..20_u8 {
        let qos = 1 + number % 2;
        publisher.publish(&Outgoing::new("while/away", number.to_string(), qos));
    }
    let mut sleeper = stage.far();
    assert!(sleeper.connect(&persistent), "the session is present");
    let received = everything(&mut publisher, &mut sleeper);
    // Order is a promise within one QoS; libraries hand QoS 2 to the application when its exchange ends.
    for qos in 1..=2_u8 {
        let of_qos: Vec<Incoming> = received.iter().filter(|m| m.qos == qos).cloned().collect();
        let expected: Vec<String> = (qos - 1..20).step_by(2).map(|n| n.to_string()).collect();
        assert_eq!(payloads(&of_qos), expected, "QoS {qos}");
    }
    stage.see_off(sleeper, "sleeper", 2);

    let mut sleeper = stage.far();
    assert!(
        !sleeper.connect(&Connect::clean("sleeper")),
        "a clean start ends the session"
    );
    sleeper.subscribe(END, 2);
    publisher.publish(&Outgoing::new("while/away", "for nobody", 2));
    assert_eq!(everything(&mut publisher, &mut sleeper), []);
    stage.see_off(sleeper, "sleeper", 3);

    let mut sleeper = stage.far();
    assert!(
        !sleeper.connect(&persistent),
        "a clean session left nothing behind"
    );
}

/// Retained messages: the newest is what a new subscriber gets, and an empty one clears it.
pub fn retained_messages_greet_new_subscribers(stage: &Stage) {
    let mut publisher = stage.publisher();
    publisher.publish(&Outgoing::new("state/lamp", "off", 1).retained());
    publisher.publish(&Outgoing::new("state/lamp", "on", 1).retained());
    publisher.publish(&Outgoing::new("state/door", "open", 2).retained());
    publisher.publish(&Outgoing::new("state/bell", "rang", 1).retained());
    publisher.publish(&Outgoing::new("state/bell", "", 1).retained());

    let mut subscriber = stage.subscriber("state/#");
    let mut greetings = everything(&mut publisher, &mut subscriber);
    greetings.sort_by(|one, other| one.topic.cmp(&other.topic));
    let of = |m: &Incoming| (m.topic.clone(), m.payload.clone(), m.qos, m.retain);
    let expected = [
        ("state/door".to_owned(), b"open".to_vec(), 2, true),
        ("state/lamp".to_owned(), b"on".to_vec(), 1, true),
    ];
    assert_eq!(greetings.iter().map(of).collect::<Vec<_>>(), expected);

    publisher.publish(&Outgoing::new("state/lamp", "dim", 1).retained());
    let live = subscriber.message();
    assert_eq!(
        (live.payload.as_slice(), live.retain),
        (b"dim".as_slice(), false)
    );
}

/// Retain Handling and Retain As Published. [MQTT-3.3.1-10] [MQTT-3.3.1-13]
pub fn retain_options_are_followed(stage: &Stage) {
    let mut publisher = stage.publisher();
    publisher.publish(&Outgoing::new("kept", "1", 1).retained());
    let mut subscriber = stage.subscriber("nothing");
    let as_published = Subscription {
        retain_as_published: true,
        ..Subscription::new("kept", 1)
    };
    let if_new = Subscription {
        retain_handling: 1,
        ..as_published.clone()
    };
    let never = Subscription {
        retain_handling: 2,
        ..as_published.clone()
    };

    for (subscription, greeted) in [
        (&never, false),
        (&if_new, false),
        (&as_published, true),
        (&if_new, false),
    ] {
        subscriber.subscribe_as(subscription);
        let greetings = everything(&mut publisher, &mut subscriber);
        assert_eq!(
            greetings.len(),
            usize::from(greeted),
            "{subscription:?}: {greetings:?}"
        );
    }
    publisher.publish(&Outgoing::new("kept", "2", 1).retained());
    assert!(subscriber.message().retain, "retain as published");
    publisher.publish(&Outgoing::new("kept", "3", 1));
    assert!(!subscriber.message().retain, "not retained as published");
    subscriber.unsubscribe("kept");
    subscriber.subscribe_as(&if_new);
    assert_eq!(
        payloads(&everything(&mut publisher, &mut subscriber)),
        ["2"]
    );
}

/// A will is published when the connection is lost, and never after DISCONNECT. [MQTT-3.1.2-8]
pub fn a_will_is_published_when_the_connection_is_lost(stage: &Stage) {
    let mut witness = stage.subscriber("will/#");
    let mut publisher = stage.publisher();
    let will = Outgoing::new("will/mortal", "gone", 1).retained();

    let mut polite = stage.near();
    polite.connect(&Connect::clean("mortal").with_will(will.clone()));
    stage.see_off(polite, "mortal", 1);
    assert_eq!(
        everything(&mut publisher, &mut witness),
        [],
        "no will after DISCONNECT"
    );

    let mut mortal = stage.near();
    mortal.connect(&Connect::clean("mortal").with_will(will));
    assert_eq!(
        everything(&mut publisher, &mut witness),
        [],
        "no will while connected"
    );
    mortal.cut();
    let message = witness.message();
    assert_eq!(
        (message.topic.as_str(), message.payload.as_slice()),
        ("will/mortal", &b"gone"[..])
    );
    assert_eq!((message.qos, message.retain), (1, false));

    let mut late = stage.far();
    late.connect(&Connect::clean("late"));
    late.subscribe("will/mortal", 1);
    let message = late.message();
    assert_eq!(
        (message.payload.as_slice(), message.retain),
        (&b"gone"[..], true)
    );
}

/// Each filter gets what it matches. [MQTT-4.7.1-1]
pub fn wildcards_match_as_the_standard_says(stage: &Stage) {
    const TOPICS: [&str; 8] = ["a", "a/b", "a/b/c", "a/x/c", "/a", "a/", "b", "é/b"];
    const FILTERS: [(&str, &[&str]); 9] = [
        ("#", &TOPICS),
        ("a/#", &["a", "a/b", "a/b/c", "a/x/c", "a/"]),
        ("+", &["a", "b"]),
        ("+/b", &["a/b", "é/b"]),
        ("a/+/c", &["a/b/c", "a/x/c"]),
        ("/+", &["/a"]),
        ("+/+", &["a/b", "/a", "a/", "é/b"]),
        ("a/+", &["a/b", "a/"]),
        ("a/b", &["a/b"]),
    ];
    let mut publisher = stage.publisher();
    let mut subscriber = stage.subscriber("unused");
    for (filter, expected) in FILTERS {
        subscriber.subscribe(filter, 1);
        for topic in TOPICS {
            publisher.publish(&Outgoing::new(topic, "", 1));
        }
        // Unsubscribed first, or `#` would get the end mark twice.
        subscriber.unsubscribe(filter);
        let received = everything(&mut publisher, &mut subscriber);
        let topics: Vec<&str> = received
            .iter()
            .map(|message| message.topic.as_str())
            .collect();
        assert_eq!(topics, expected, "{filter}");
    }
}

/// After UNSUBACK nothing more comes. [MQTT-3.10.4-2]
pub fn unsubscribing_ends_delivery(stage: &Stage) {
    let mut publisher = stage.publisher();
    let mut subscriber = stage.subscriber("news");
    publisher.publish(&Outgoing::new("news", "heard", 1));
    assert_eq!(subscriber.message().payload, b"heard");
    subscriber.unsubscribe("news");
    publisher.publish(&Outgoing::new("news", "unheard", 1));
    assert_eq!(everything(&mut publisher, &mut subscriber), []);
}

/// A shared subscription hands each message to one member; an ordinary one still gets all.
pub fn a_shared_subscription_gives_each_message_to_one_member(stage: &Stage) {
    const COUNT: usize = 60;
    let mut members: Vec<Peer> = (0..3)
        .map(|number| {
            let mut member = stage.far();
            member.connect(&Connect::clean(&format!("member-{number}")));
            member.subscribe("$share/crew/work/+", 1);
            member.subscribe(END, 2);
            member
        })
        .collect();
    let mut onlooker = stage.subscriber("work/#");
    let mut publisher = stage.publisher();
    for number in 0..COUNT {
        publisher.publish(&Outgoing::new(
            &format!("work/{}", number % 7),
            number.to_string(),
            1,
        ));
    }
    end(&mut publisher);
    let mut received: Vec<usize> = Vec::new();
    for member in &mut members {
        let messages = payloads(&member.messages_until(END));
        assert!(!messages.is_empty(), "each member gets its share");
        received.extend(
            messages
                .iter()
                .map(|payload| payload.parse::<usize>().unwrap()),
        );
    }
    received.sort_unstable();
    assert_eq!(received, (0..COUNT).collect::<Vec<_>>());
    assert_eq!(onlooker.messages_until(END).len(), COUNT);
}

/// Properties of a PUBLISH reach its receivers unchanged and in order. [MQTT-3.3.2-17]
pub fn properties_arrive_unchanged(stage: &Stage) {
    let mut subscriber = stage.subscriber("rich");
    let mut publisher = stage.publisher();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let properties = Properties {
        user: vec![
            pair("one", "1"),
            pair("one", "again"),
            pair("", ""),
            pair("zwei", "zwölf ☃"),
        ],
        content_type: Some("text/plain".to_owned()),
        response_topic: Some("answers/here".to_owned()),
        correlation: Some((0..=255).collect()),
        format: Some(1),
        ..Properties::default()
    };
    for qos in 0..=2 {
        publisher.publish(&Outgoing::new("rich", "text", qos).with(properties.clone()));
        assert_eq!(subscriber.message().properties, properties, "QoS {qos}");
    }
    publisher.publish(&Outgoing::new("rich", "text", 1));
    assert_eq!(
        subscriber.message().properties,
        Properties::default(),
        "nothing is added"
    );
}

/// A requester finds its answer by Response Topic and Correlation Data.
pub fn a_request_gets_its_response(stage: &Stage) {
    let mut responder = stage.far();
    responder.connect(&Connect::clean("responder"));
    responder.subscribe("requests", 1);
    let mut requester = stage.near();
    requester.connect(&Connect::clean("requester"));
    requester.subscribe("responses/requester", 1);
    for number in 0..5_u8 {
        let properties = Properties {
            response_topic: Some("responses/requester".to_owned()),
            correlation: Some(vec![number, 0, 255]),
            ..Properties::default()
        };
        requester.publish(&Outgoing::new("requests", [number], 1).with(properties));
        let request = responder.message();
        let answer = Properties {
            correlation: request.properties.correlation,
            ..Properties::default()
        };
        let topic = request.properties.response_topic.unwrap();
        responder.publish(&Outgoing::new(&topic, [number * 2], 1).with(answer));
        let response = requester.message();
        assert_eq!(response.payload, [number * 2]);
        assert_eq!(response.properties.correlation, Some(vec![number, 0, 255]));
    }
}

/// A message that waited longer than its expiry is not delivered; another says what is left. [MQTT-3.3.2-6]
pub fn expired_messages_are_not_delivered(stage: &Stage) {
    let mut publisher = stage.publisher();
    let mut sleeper = stage.far();
    sleeper.connect(&Connect::persistent("sleeper"));
    sleeper.subscribe("perishable", 1);
    sleeper.subscribe(END, 2);
    let lasting = |seconds| Properties {
        expiry_seconds: Some(seconds),
        ..Properties::default()
    };
    publisher.publish(&Outgoing::new("perishable", "fresh", 1).with(lasting(600)));
    assert_eq!(sleeper.message().properties.expiry_seconds, Some(600));
    stage.see_off(sleeper, "sleeper", 1);

    publisher.publish(&Outgoing::new("perishable", "short", 1).with(lasting(1)));
    publisher.publish(&Outgoing::new("perishable", "long", 1).with(lasting(600)));
    publisher.publish(&Outgoing::new("perishable", "for ever", 1));
    // Nothing announces that time has passed, so this is a sleep.
    thread::sleep(Duration::from_millis(2_100));
    let mut sleeper = stage.far();
    assert!(sleeper.connect(&Connect::persistent("sleeper")));
    let mut received = everything(&mut publisher, &mut sleeper);
    // At QoS 1 a client that leaves before its PUBACK does gets the message again.
    received.retain(|message| message.payload != b"fresh");
    assert_eq!(payloads(&received), ["long", "for ever"]);
    let left = received[0].properties.expiry_seconds.unwrap();
    assert!(
        (500..600).contains(&left),
        "{left} s are left of 600 after 2.1"
    );
    assert_eq!(received[1].properties.expiry_seconds, None);
}

/// An alias stands for its topic in both directions, and receivers never see the sender's. [MQTT-3.3.2-8]
pub fn topic_aliases_stand_for_topics(stage: &Stage) {
    let mut subscriber = stage.far();
    // paho resolves no aliases, rumqttc only after it has reported the message, and MQTT.js loses them at QoS 2.
    let (inbound, granted) = match stage.far {
        Library::Paho | Library::Rumqttc => (None, 2),
        Library::MqttJs => (Some(10), 1),
        Library::Own => (Some(10), 2),
    };
    subscriber.connect(&Connect {
        topic_alias_maximum: inbound,
        ..Connect::clean("subscriber")
    });
    subscriber.subscribe("long/topic/#", granted);
    let mut publisher = stage.publisher();
    let aliased = |topic: &str, alias, payload: &str, qos| {
        let properties = Properties {
            alias: Some(alias),
            ..Properties::default()
        };
        Outgoing::new(topic, payload, qos).with(properties)
    };
    let topics = ["long/topic/one", "long/topic/two", "long/topic/three"];
    for (index, topic) in topics.iter().enumerate() {
        let alias = index as u16 + 1;
        publisher.publish(&aliased(topic, alias, "defined", 1));
        assert_eq!(subscriber.message().topic, *topic);
        for qos in 0..=2 {
            publisher.publish(&aliased("", alias, "used", qos));
            let message = subscriber.message();
            assert_eq!(
                (message.topic.as_str(), message.qos),
                (*topic, qos.min(granted))
            );
        }
    }
    publisher.publish(&aliased("long/topic/new", 1, "defined again", 1));
    publisher.publish(&aliased("", 1, "used", 1));
    for _ in 0..2 {
        assert_eq!(subscriber.message().topic, "long/topic/new");
    }
}

/// A second connection with the same client id ends the first, with 0x8E in 5.0. [MQTT-3.1.4-3]
pub fn a_second_connection_takes_the_session_over(stage: &Stage) {
    let mut publisher = stage.publisher();
    let persistent = Connect::persistent("twin");
    let mut first = stage.near();
    first.connect(&persistent);
    first.subscribe("twin/news", 1);
    let mut second = stage.far();
    assert!(
        second.connect(&persistent),
        "the session goes to the second connection"
    );
    let reason = first.closed();
    // MQTT.js and rumqttc tell the code always, paho only if it read the packet before the end of the stream.
    if stage.is_v5() && reason.is_some() {
        assert_eq!(reason, Some(0x8E));
    }
    publisher.publish(&Outgoing::new("twin/news", "to the second", 1));
    assert_eq!(second.message().payload, b"to the second");
    while let Some(event) = first.next_event(Duration::ZERO) {
        assert!(
            !matches!(event, Event::Message(_)),
            "the first gets nothing more: {event:?}"
        );
    }
}

/// No Local keeps a client's own messages from it. [MQTT-3.8.3-3]
pub fn no_local_spares_a_client_its_own_messages(stage: &Stage) {
    let mut publisher = stage.publisher();
    let mut talker = stage.far();
    talker.connect(&Connect::clean("talker"));
    let others = Subscription {
        no_local: true,
        ..Subscription::new("room", 1)
    };
    assert_eq!(talker.subscribe_as(&others), [1]);
    talker.subscribe(END, 2);
    talker.publish(&Outgoing::new("room", "mine", 1));
    publisher.publish(&Outgoing::new("room", "yours", 1));
    assert_eq!(
        payloads(&everything(&mut publisher, &mut talker)),
        ["yours"]
    );
}

/// Overlapping subscriptions: one copy, at the highest QoS, with every identifier. [MQTT-3.3.4-2] [MQTT-3.3.4-4]
pub fn overlapping_subscriptions_get_one_copy_with_every_identifier(stage: &Stage) {
    if skips_other_brokers("it may send one copy for each subscription") {
        return;
    }
    let mut publisher = stage.publisher();
    let mut subscriber = stage.subscriber("unused");
    for (filter, qos, id) in [
        ("over/#", 0, 7),
        ("over/+", 2, 268_435_455),
        ("over/lap", 1, 1),
    ] {
        let subscription = Subscription {
            id: Some(id),
            ..Subscription::new(filter, qos)
        };
        assert_eq!(subscriber.subscribe_as(&subscription), [qos]);
    }
    publisher.publish(&Outgoing::new("over/lap", "once", 2));
    let received = everything(&mut publisher, &mut subscriber);
    assert_eq!(payloads(&received), ["once"]);
    assert_eq!(received[0].qos, 2);
    let mut ids = received[0].properties.subscription_ids.clone();
    ids.sort_unstable();
    assert_eq!(ids, [1, 7, 268_435_455]);
}
