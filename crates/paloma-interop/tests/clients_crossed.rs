//! One library publishes, another receives: what one encodes, the broker forwards and the other decodes.

use paloma_interop::peer::Library::{self, MqttJs, Own, Paho, Rumqttc};
use paloma_interop::peer::Version;
use paloma_interop::scenarios::{self, Stage};

const PAIRS: [(Library, Library); 10] = [
    (Own, Paho),
    (Paho, Own),
    (Own, MqttJs),
    (MqttJs, Own),
    (Paho, MqttJs),
    (Paho, Rumqttc),
    (MqttJs, Paho),
    (MqttJs, Rumqttc),
    (Rumqttc, Paho),
    (Rumqttc, MqttJs),
];

fn check(scenario: fn(&Stage), versions: &[Version]) {
    for (near, far) in PAIRS {
        for version in versions {
            eprintln!("{near:?} before {far:?} in {version:?}");
            scenarios::play(scenario, near, far, *version);
        }
    }
}

#[test]
fn each_qos_arrives_at_the_lower_of_the_two() {
    check(
        scenarios::each_qos_arrives_at_the_lower_of_the_two,
        &Version::ALL,
    );
}

#[test]
fn payloads_arrive_unchanged() {
    check(scenarios::payloads_arrive_unchanged, &Version::ALL);
}

#[test]
fn a_persistent_session_is_resumed_with_its_queue() {
    check(
        scenarios::a_persistent_session_is_resumed_with_its_queue,
        &Version::ALL,
    );
}

#[test]
fn a_will_is_published_when_the_connection_is_lost() {
    check(
        scenarios::a_will_is_published_when_the_connection_is_lost,
        &[Version::V5],
    );
}

#[test]
fn properties_arrive_unchanged() {
    check(scenarios::properties_arrive_unchanged, &[Version::V5]);
}

#[test]
fn a_request_gets_its_response() {
    check(scenarios::a_request_gets_its_response, &[Version::V5]);
}

#[test]
fn topic_aliases_stand_for_topics() {
    check(scenarios::topic_aliases_stand_for_topics, &[Version::V5]);
}

#[test]
fn a_second_connection_takes_the_session_over() {
    check(
        scenarios::a_second_connection_takes_the_session_over,
        &Version::ALL,
    );
}
