//! Sessions: what outlives a connection, for how long.

use std::time::Duration;

use paloma_codec::{Connect, Disconnect, DisconnectReason};

use crate::lab::{Lab, message};
use crate::suite::{Section, both, v5, v311};
use crate::verdict::{Verdict, ensure, same};
use crate::wire;

// A line a test.
#[rustfmt::skip]
pub(super) fn section() -> Section {
    Section {
        name: "4.1 Sessions",
        tests: vec![
            both("[MQTT-3.1.2-5] [MQTT-3.1.2-23] [MQTT-4.1.0-1] [MQTT311-3.1.2-4] [MQTT311-3.1.2-5] [MQTT311-4.1.0-1]", messages_wait_for_a_client_whose_session_lasts),
            both("[MQTT-3.1.2-5] [MQTT311-3.1.2-4] [MQTT311-3.1.3-2] [MQTT-3.1.3-2]", subscriptions_are_there_after_resume),
            both("[MQTT-3.1.2-4] [MQTT311-3.1.2-6]", a_clean_start_forgets_subscriptions_and_messages),
            both("[MQTT-3.1.2-4] [MQTT-4.1.0-2] [MQTT311-3.1.2-6] [MQTT311-3.2.2-3]", nothing_is_kept_of_a_clean_session),
            both("[MQTT-3.1.2-6] [MQTT311-3.2.2-3]", a_new_client_gets_a_session_of_its_own),
            both("[MQTT-3.1.4-3] [MQTT-4.1.0-1] [MQTT311-3.1.4-2] [MQTT311-4.1.0-2]", a_takeover_keeps_the_session),
            both("[MQTT-4.1.0-1] [MQTT311-4.1.0-1]", messages_queued_at_qos_1_and_2_come_in_order),
            v5("[MQTT-4.1.0-2] [MQTT-3.1.2-23]", a_session_ends_when_its_expiry_has_passed).slow(),
            v5("[MQTT-3.1.2-23] [MQTT-4.1.0-2]", without_session_expiry_nothing_is_kept),
            v5("[MQTT-3.1.2-23]", session_expiry_can_be_changed_in_disconnect).slow(),
            v5("[MQTT-3.14.2-1] [PALOMA-5.0-expiry-from-zero]", session_expiry_cannot_be_changed_from_zero_in_disconnect),
            v5("[MQTT-4.1.0-2]", session_expiry_set_to_zero_in_disconnect_ends_the_session),
            v5("[MQTT-4.1.0-1]", a_session_does_not_expire_while_its_client_is_there).slow(),
            v311("[MQTT311-4.1.0-1] [MQTT311-3.1.2-4]", a_session_of_3_1_1_is_kept),
            both("[MQTT-3.2.2-5] [MQTT-3.2.2-4] [MQTT311-3.2.2-3]", session_present_is_false_after_the_state_was_discarded),
        ],
    }
}

fn messages_wait_for_a_client_whose_session_lasts(lab: &Lab<'_>) -> Verdict {
    lab.needs_qos(2)?;
    let topic = lab.topic("t");
    let (mut reader, _) = lab.resume("reader")?;
    reader.subscribe(&[(&topic, 2)])?;
    reader.disconnect()?;
    let mut writer = lab.client("writer")?;
    writer.publish(&message(&topic, 1, "one")?)?;
    writer.publish(&message(&topic, 2, "two")?)?;
    let mut reader = lab.back("reader")?;
    for (payload, qos) in [("one", 1), ("two", 2)] {
        let got = reader.message()?;
        same("the payload", crate::lab::text(&got), payload)?;
        same("QoS", got.delivery.qos().bits(), qos)?;
        same("DUP", got.delivery.is_dup(), false)?;
    }
    reader.quiet()
}

fn subscriptions_are_there_after_resume(lab: &Lab<'_>) -> Verdict {
    let topic = lab.topic("t");
    let (mut reader, _) = lab.resume("reader")?;
    reader.subscribe(&[(&topic, 1)])?;
    reader.disconnect()?;
    let mut reader = lab.back("reader")?;
    reader.publish(&message(&topic, 1, "x")?)?;
    reader.payloads(&["x"])
}

fn a_clean_start_forgets_subscriptions_and_messages(lab: &Lab<'_>) -> Verdict {
    let topic = lab.topic("t");
    let (mut reader, _) = lab.resume("reader")?;
    reader.subscribe(&[(&topic, 1)])?;
    reader.disconnect()?;
    let mut writer = lab.client("writer")?;
    writer.publish(&message(&topic, 1, "waiting")?)?;
    let mut reader = lab.client("reader")?;
    reader.quiet()?;
    writer.publish(&message(&topic, 1, "live")?)?;
    reader.quiet()
}

fn nothing_is_kept_of_a_clean_session(lab: &Lab<'_>) -> Verdict {
    let topic = lab.topic("t");
    let mut reader = lab.client("reader")?;
    reader.subscribe(&[(&topic, 1)])?;
    reader.disconnect()?;
    let mut writer = lab.client("writer")?;
    writer.publish(&message(&topic, 1, "waiting")?)?;
    let (mut reader, present) = lab.resume("reader")?;
    same("Session Present", present, false)?;
    reader.quiet()
}

fn a_new_client_gets_a_session_of_its_own(lab: &Lab<'_>) -> Verdict {
    let topic = lab.topic("t");
    let (mut reader, present) = lab.resume("reader")?;
    same("Session Present", present, false)?;
    let (mut other, present) = lab.resume("other")?;
    same("Session Present", present, false)?;
    reader.subscribe(&[(&topic, 1)])?;
    reader.publish(&message(&topic, 1, "x")?)?;
    reader.payloads(&["x"])?;
    other.quiet()
}

fn a_takeover_keeps_the_session(lab: &Lab<'_>) -> Verdict {
    let topic = lab.topic("t");
    let (mut first, _) = lab.resume("reader")?;
    first.subscribe(&[(&topic, 1)])?;
    let mut second = lab.back("reader")?;
    first.is_refused(&[DisconnectReason::SessionTakenOver])?;
    let mut writer = lab.client("writer")?;
    writer.publish(&message(&topic, 1, "x")?)?;
    second.payloads(&["x"])?;
    second.quiet()
}

fn messages_queued_at_qos_1_and_2_come_in_order(lab: &Lab<'_>) -> Verdict {
    lab.needs_qos(1)?;
    let topic = lab.topic("t");
    let (mut reader, _) = lab.resume("reader")?;
    reader.subscribe(&[(&topic, 1)])?;
    reader.disconnect()?;
    let mut writer = lab.client("writer")?;
    let numbers: Vec<String> = (0..50).map(|number| number.to_string()).collect();
    for number in &numbers {
        writer.publish(&message(&topic, 1, number)?)?;
    }
    let mut reader = lab.back("reader")?;
    let wanted: Vec<&str> = numbers.iter().map(String::as_str).collect();
    reader.payloads(&wanted)?;
    reader.quiet()
}

/// A CONNECT whose session lasts for so many seconds.
fn lasting(lab: &Lab<'_>, name: &str, seconds: u32) -> Connect {
    Connect {
        session_expiry_seconds: seconds,
        ..lab.lasting(name)
    }
}

fn a_session_ends_when_its_expiry_has_passed(lab: &Lab<'_>) -> Verdict {
    let (client, ack) = lab.connect(&lasting(lab, "a", 1))?;
    if ack
        .session_expiry_seconds
        .is_some_and(|seconds| seconds > 1)
    {
        return crate::lab::not_applicable("the broker sets an expiry of its own");
    }
    client.disconnect()?;
    let (longer, _) = lab.connect(&lasting(lab, "longer", 120))?;
    longer.disconnect()?;
    std::thread::sleep(Duration::from_millis(2_600));
    // Not before it has passed.
    let (_longer, ack) = lab.connect(&lasting(lab, "longer", 120))?;
    same(
        "Session Present before its expiry",
        ack.session_present,
        true,
    )?;
    let (_client, ack) = lab.connect(&lasting(lab, "a", 1))?;
    same(
        "Session Present after its expiry",
        ack.session_present,
        false,
    )
}

fn without_session_expiry_nothing_is_kept(lab: &Lab<'_>) -> Verdict {
    let (client, _) = lab.connect(&lasting(lab, "a", 0))?;
    client.disconnect()?;
    let (_client, ack) = lab.connect(&lasting(lab, "a", 0))?;
    same("Session Present", ack.session_present, false)
}

/// A DISCONNECT that says how long the session lasts from here on.
fn leave(seconds: u32) -> Disconnect {
    Disconnect {
        session_expiry_seconds: Some(seconds),
        ..Disconnect::new(DisconnectReason::NormalDisconnection)
    }
}

fn session_expiry_can_be_changed_in_disconnect(lab: &Lab<'_>) -> Verdict {
    let (client, _) = lab.connect(&lasting(lab, "longer", 1))?;
    client.disconnect_with(&leave(60))?;
    let (client, _) = lab.connect(&lasting(lab, "shorter", 60))?;
    client.disconnect_with(&leave(1))?;
    std::thread::sleep(Duration::from_millis(2_600));
    let (_longer, ack) = lab.connect(&lasting(lab, "longer", 1))?;
    same(
        "Session Present of the longer one",
        ack.session_present,
        true,
    )?;
    let (_shorter, ack) = lab.connect(&lasting(lab, "shorter", 60))?;
    same(
        "Session Present of the shorter one",
        ack.session_present,
        false,
    )
}

fn session_expiry_cannot_be_changed_from_zero_in_disconnect(lab: &Lab<'_>) -> Verdict {
    let mut client = lab.client("a")?;
    client.send(&leave(60))?;
    client.is_refused(&[DisconnectReason::ProtocolError])?;
    let (_client, present) = lab.resume("a")?;
    same("Session Present", present, false)
}

fn session_expiry_set_to_zero_in_disconnect_ends_the_session(lab: &Lab<'_>) -> Verdict {
    let (client, _) = lab.resume("a")?;
    client.disconnect_with(&leave(0))?;
    let (_client, present) = lab.resume("a")?;
    same("Session Present", present, false)
}

fn a_session_does_not_expire_while_its_client_is_there(lab: &Lab<'_>) -> Verdict {
    let topic = lab.topic("t");
    let (mut client, _) = lab.connect(&lasting(lab, "a", 1))?;
    client.subscribe(&[(&topic, 1)])?;
    client.wait(Duration::from_millis(2_300));
    client.publish(&message(&topic, 1, "x")?)?;
    client.payloads(&["x"])?;
    // A second is short on a busy machine, and what is asked is whether it is still there to be prolonged.
    client.disconnect_with(&leave(120))?;
    let (_client, ack) = lab.connect(&lasting(lab, "a", 1))?;
    same("Session Present", ack.session_present, true)
}

fn a_session_of_3_1_1_is_kept(lab: &Lab<'_>) -> Verdict {
    let (client, _) = lab.resume("a")?;
    client.cut();
    let (client, present) = lab.resume("a")?;
    same("Session Present", present, true)?;
    client.disconnect()
}

fn session_present_is_false_after_the_state_was_discarded(lab: &Lab<'_>) -> Verdict {
    let (client, _) = lab.resume("a")?;
    client.disconnect()?;
    lab.client("a")?.disconnect()?;
    let (mut client, present) = lab.resume("a")?;
    same("Session Present", present, false)?;
    client.send_bytes(&wire::PINGREQ)?;
    ensure(
        matches!(client.packet()?, paloma_codec::Packet::PingResp),
        "the new session works",
    )
}
