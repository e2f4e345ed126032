//! What a broker records while scenarios are played with it replays to the same trace hash.

use std::path::PathBuf;
use std::process::Command;

use paloma_interop::broker::{Broker, Setup, paloma, skips_other_brokers};
use paloma_interop::peer::Library::Own;
use paloma_interop::peer::Version;
use paloma_interop::scenarios::{self, Stage};

/// Plays a scenario in both versions, and replays what was recorded.
fn check(name: &str, scenario: fn(&Stage), versions: &[Version]) {
    if skips_other_brokers("records are Paloma's own") {
        return;
    }
    for version in versions {
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let path = directory.join(format!("{name}-{version:?}.record"));
        let setup = Setup {
            configuration: format!("[record]\nfile = '{}'\n", path.display()),
            ..Setup::default()
        };
        let broker = Broker::of_program(paloma(), &setup);
        scenarios::play_on(broker, scenario, (Own, Own), *version);
        let mut replay = Command::new(paloma());
        let output = replay.arg("replay").arg("--quiet").arg(&path).output();
        let output = output.expect("the broker's program runs");
        let said = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{version:?}: {said}{errors}");
        // The hash in the record is that of the replay, or there would be an error.
        assert!(said.contains(", trace "), "{said}");
        assert!(!said.contains("compared 0 times"), "{said}");
    }
}

const BOTH: &[Version] = &[Version::V311, Version::V5];
const V5: &[Version] = &[Version::V5];

#[test]
fn every_qos_replays() {
    check(
        "qos",
        scenarios::each_qos_arrives_at_the_lower_of_the_two,
        BOTH,
    );
}

#[test]
fn a_burst_replays() {
    check(
        "burst",
        scenarios::a_burst_arrives_complete_and_in_order,
        BOTH,
    );
}

#[test]
fn a_resumed_session_replays() {
    check(
        "resumed",
        scenarios::a_persistent_session_is_resumed_with_its_queue,
        BOTH,
    );
}

#[test]
fn retained_messages_replay() {
    check(
        "retained",
        scenarios::retained_messages_greet_new_subscribers,
        BOTH,
    );
}

#[test]
fn a_will_and_a_takeover_replay() {
    check(
        "will",
        scenarios::a_will_is_published_when_the_connection_is_lost,
        BOTH,
    );
    check(
        "takeover",
        scenarios::a_second_connection_takes_the_session_over,
        BOTH,
    );
}

#[test]
fn a_shared_subscription_replays() {
    check(
        "shared",
        scenarios::a_shared_subscription_gives_each_message_to_one_member,
        V5,
    );
}

#[test]
fn aliases_expiry_and_properties_replay() {
    check("aliases", scenarios::topic_aliases_stand_for_topics, V5);
    check("expiry", scenarios::expired_messages_are_not_delivered, V5);
    check("properties", scenarios::properties_arrive_unchanged, V5);
}
