//! Wills.

use std::time::{Duration, Instant};

use paloma_codec::{Connect, Disconnect, DisconnectReason, PayloadFormat, Will};

use crate::client::Client;
use crate::lab::{Lab, text, user_properties, will};
use crate::suite::{Section, both, v5};
use crate::verdict::{Verdict, ensure, same};

// A line a test.
#[rustfmt::skip]
pub(super) fn section() -> Section {
    Section {
        name: "3.1.2.5 Wills",
        tests: vec![
            both("[MQTT-3.1.2-7] [MQTT-3.1.2-8] [MQTT311-3.1.2-8]", a_connection_that_breaks_leaves_its_will),
            both("[MQTT-3.1.2-10] [MQTT-3.14.4-3] [MQTT311-3.1.2-10] [MQTT311-3.14.4-3]", a_disconnect_discards_the_will),
            both("[MQTT-3.1.2-10] [MQTT311-3.1.2-10]", a_will_is_published_once),
            both("[MQTT-3.1.2-8] [MQTT311-3.1.2-12]", without_a_will_nothing_is_published),
            both("[MQTT-3.1.2-8] [MQTT311-3.1.2-8] [MQTT311-4.8.0-1]", a_protocol_error_leaves_the_will),
            both("[MQTT-3.1.2-8] [MQTT-3.1.4-3] [MQTT311-3.1.2-8]", a_takeover_leaves_the_will_of_the_earlier_connection),
            both("[MQTT-3.1.2-8] [MQTT-3.1.4-3] [MQTT311-3.1.2-8]", a_takeover_that_resumes_leaves_the_will_of_the_earlier_connection),
            both("[MQTT-3.1.2-8] [MQTT-3.1.0-2] [MQTT311-3.1.2-8] [MQTT311-3.1.0-2]", a_second_connect_leaves_the_will_and_the_session),
            both("[MQTT-3.1.2-12] [MQTT311-3.1.2-14] [MQTT311-3.1.2-9]", a_will_is_published_at_its_qos),
            both("[MQTT-3.1.2-14] [MQTT311-3.1.2-16]", a_will_without_retain_is_not_retained),
            both("[MQTT-3.1.2-15] [MQTT311-3.1.2-17]", a_will_with_retain_is_retained),
            v5("[MQTT-3.1.2-8] [MQTT-3.1.2-10] [MQTT-3.14.4-3]", a_disconnect_with_will_sends_it),
            v5("[MQTT-3.1.2-8]", a_disconnect_with_an_error_sends_the_will),
            v5("[MQTT-3.1.2-8] [MQTT-3.1.3-9]", a_will_waits_for_its_delay).slow(),
            v5("[MQTT-3.1.3-9]", a_client_that_is_back_within_the_delay_suppresses_its_will).slow(),
            v5("[MQTT-3.1.2-8]", a_session_that_ends_before_the_delay_sends_the_will).slow(),
            v5("[MQTT-3.1.2-8] [MQTT-3.1.2-4]", a_clean_start_within_the_delay_sends_the_will),
            v5("[MQTT-3.1.3-9] [MQTT-3.1.4-3]", a_takeover_that_resumes_suppresses_a_delayed_will).slow(),
            v5("[MQTT-3.1.3-10] [MQTT-3.3.2-4]", properties_of_a_will_are_passed_on),
        ],
    }
}

/// Who hears the will, on which topic.
fn heir(lab: &Lab<'_>) -> Verdict<(Client, String)> {
    let topic = lab.topic("will");
    let mut reader = lab.client("heir")?;
    reader.subscribe(&[(&topic, 2)])?;
    Ok((reader, topic))
}

fn with_will(lab: &Lab<'_>, will: Will) -> Connect {
    Connect {
        will: Some(will),
        ..lab.clean("testator")
    }
}

/// A CONNECT with a will that waits, and a session of these seconds.
fn delayed(lab: &Lab<'_>, topic: &str, delay: u32, session: u32) -> Verdict<Connect> {
    Ok(Connect {
        will: Some(Will {
            delay_seconds: delay,
            ..will(topic, 0, "late")?
        }),
        session_expiry_seconds: session,
        ..lab.lasting("testator")
    })
}

fn a_connection_that_breaks_leaves_its_will(lab: &Lab<'_>) -> Verdict {
    let (mut heir, topic) = heir(lab)?;
    let (client, _) = lab.connect(&with_will(lab, will(&topic, 0, "gone")?))?;
    heir.quiet()?;
    client.cut();
    heir.payloads(&["gone"])
}

fn a_disconnect_discards_the_will(lab: &Lab<'_>) -> Verdict {
    let (mut heir, topic) = heir(lab)?;
    let (client, _) = lab.connect(&with_will(lab, will(&topic, 0, "never")?))?;
    client.disconnect()?;
    heir.quiet()
}

fn a_will_is_published_once(lab: &Lab<'_>) -> Verdict {
    let (mut heir, topic) = heir(lab)?;
    let connect = Connect {
        will: Some(will(&topic, 0, "once")?),
        ..lab.lasting("testator")
    };
    let (client, _) = lab.connect(&connect)?;
    client.cut();
    heir.payloads(&["once"])?;
    // The next connection of the same session has none.
    let client = lab.back("testator")?;
    client.cut();
    heir.quiet()
}

fn without_a_will_nothing_is_published(lab: &Lab<'_>) -> Verdict {
    let (mut heir, topic) = heir(lab)?;
    let (client, _) = lab.connect(&with_will(lab, will(&topic, 0, "first")?))?;
    client.cut();
    heir.payloads(&["first"])?;
    lab.client("testator")?.cut();
    heir.quiet()
}

fn a_protocol_error_leaves_the_will(lab: &Lab<'_>) -> Verdict {
    let (mut heir, topic) = heir(lab)?;
    let (mut client, _) = lab.connect(&with_will(lab, will(&topic, 0, "wrong")?))?;
    client.send_bytes(&[0x36, 0])?;
    client.ends()?;
    heir.payloads(&["wrong"])
}

fn a_takeover_leaves_the_will_of_the_earlier_connection(lab: &Lab<'_>) -> Verdict {
    let (mut heir, topic) = heir(lab)?;
    let (mut first, _) = lab.connect(&with_will(lab, will(&topic, 0, "taken over")?))?;
    let second = lab.client("testator")?;
    first.is_refused(&[DisconnectReason::SessionTakenOver])?;
    heir.payloads(&["taken over"])?;
    second.disconnect()?;
    heir.quiet()
}

fn a_takeover_that_resumes_leaves_the_will_of_the_earlier_connection(lab: &Lab<'_>) -> Verdict {
    let (mut heir, topic) = heir(lab)?;
    let connect = Connect {
        will: Some(will(&topic, 0, "taken over")?),
        ..lab.lasting("testator")
    };
    let (mut first, _) = lab.connect(&connect)?;
    let _second = lab.back("testator")?;
    first.is_refused(&[DisconnectReason::SessionTakenOver])?;
    heir.payloads(&["taken over"])?;
    heir.quiet()
}

fn a_second_connect_leaves_the_will_and_the_session(lab: &Lab<'_>) -> Verdict {
    let (mut heir, topic) = heir(lab)?;
    let connect = Connect {
        will: Some(will(&topic, 0, "wrong")?),
        ..lab.lasting("testator")
    };
    let (mut client, _) = lab.connect(&connect)?;
    client.send(&connect)?;
    client.is_refused(&[DisconnectReason::ProtocolError])?;
    heir.payloads(&["wrong"])?;
    lab.back("testator").map(drop)
}

fn a_will_is_published_at_its_qos(lab: &Lab<'_>) -> Verdict {
    lab.needs_qos(2)?;
    let (mut heir, topic) = heir(lab)?;
    for qos in 0..=2 {
        let (client, _) = lab.connect(&with_will(lab, will(&topic, qos, "will")?))?;
        client.cut();
        same("QoS", heir.message()?.delivery.qos().bits(), qos)?;
    }
    Ok(())
}

fn a_will_without_retain_is_not_retained(lab: &Lab<'_>) -> Verdict {
    let (mut heir, topic) = heir(lab)?;
    let (client, _) = lab.connect(&with_will(lab, will(&topic, 0, "will")?))?;
    client.cut();
    same("RETAIN", heir.message()?.retain, false)?;
    let mut later = lab.client("later")?;
    later.subscribe(&[(&topic, 0)])?;
    later.quiet()
}

fn a_will_with_retain_is_retained(lab: &Lab<'_>) -> Verdict {
    let topic = lab.retained_topic("will")?;
    let mut heir = lab.client("heir")?;
    heir.subscribe(&[(&topic, 1)])?;
    let bequest = Will {
        retain: true,
        ..will(&topic, 1, "kept")?
    };
    let (client, _) = lab.connect(&with_will(lab, bequest))?;
    client.cut();
    same("RETAIN for who was there", heir.message()?.retain, false)?;
    let mut later = lab.client("later")?;
    later.subscribe(&[(&topic, 1)])?;
    let got = later.message()?;
    same("RETAIN for who came later", got.retain, true)?;
    same("the payload", text(&got), "kept")
}

fn a_disconnect_with_will_sends_it(lab: &Lab<'_>) -> Verdict {
    let (mut heir, topic) = heir(lab)?;
    let (client, _) = lab.connect(&with_will(lab, will(&topic, 0, "0x04")?))?;
    client.disconnect_with(&Disconnect::new(
        DisconnectReason::DisconnectWithWillMessage,
    ))?;
    heir.payloads(&["0x04"])?;
    heir.quiet()
}

fn a_disconnect_with_an_error_sends_the_will(lab: &Lab<'_>) -> Verdict {
    let (mut heir, topic) = heir(lab)?;
    let (client, _) = lab.connect(&with_will(lab, will(&topic, 0, "error")?))?;
    client.disconnect_with(&Disconnect::new(DisconnectReason::UnspecifiedError))?;
    heir.payloads(&["error"])
}

fn a_will_waits_for_its_delay(lab: &Lab<'_>) -> Verdict {
    let (mut heir, topic) = heir(lab)?;
    let (client, _) = lab.connect(&delayed(lab, &topic, 2, 60)?)?;
    let begin = Instant::now();
    client.cut();
    heir.payloads(&["late"])?;
    ensure(
        begin.elapsed() >= Duration::from_millis(1_900),
        format!("the will came after {:?}", begin.elapsed()),
    )
}

fn a_client_that_is_back_within_the_delay_suppresses_its_will(lab: &Lab<'_>) -> Verdict {
    let (mut heir, topic) = heir(lab)?;
    // On a busy machine two seconds may pass before the client is back, which then says nothing.
    for delay in [2, 8, 20] {
        let (client, _) = lab.connect(&delayed(lab, &topic, delay, 60)?)?;
        let begin = Instant::now();
        client.cut();
        let back = lab.back("testator")?;
        let is_in_time = begin.elapsed() < Duration::from_secs(u64::from(delay));
        heir.wait(Duration::from_secs(u64::from(delay) + 1));
        if is_in_time {
            return heir.quiet();
        }
        heir.message_if_any()?;
        back.disconnect()?;
    }
    crate::lab::not_applicable("the client never came back in time")
}

fn a_session_that_ends_before_the_delay_sends_the_will(lab: &Lab<'_>) -> Verdict {
    let (mut heir, topic) = heir(lab)?;
    let (client, ack) = lab.connect(&delayed(lab, &topic, 600, 1)?)?;
    if ack
        .session_expiry_seconds
        .is_some_and(|seconds| seconds > 1)
    {
        return crate::lab::not_applicable("the broker sets an expiry of its own");
    }
    client.cut();
    heir.payloads(&["late"])
}

fn a_clean_start_within_the_delay_sends_the_will(lab: &Lab<'_>) -> Verdict {
    let (mut heir, topic) = heir(lab)?;
    let (client, _) = lab.connect(&delayed(lab, &topic, 600, 600)?)?;
    client.cut();
    heir.quiet()?;
    // The session ends with the clean start, so its will is due.
    let _client = lab.client("testator")?;
    heir.payloads(&["late"])
}

fn a_takeover_that_resumes_suppresses_a_delayed_will(lab: &Lab<'_>) -> Verdict {
    let (mut heir, topic) = heir(lab)?;
    let (mut first, _) = lab.connect(&delayed(lab, &topic, 1, 60)?)?;
    let _second = lab.back("testator")?;
    first.is_refused(&[DisconnectReason::SessionTakenOver])?;
    heir.wait(Duration::from_millis(2_000));
    heir.quiet()
}

fn properties_of_a_will_are_passed_on(lab: &Lab<'_>) -> Verdict {
    let (mut heir, topic) = heir(lab)?;
    let mut bequest = will(&topic, 1, "will")?;
    bequest.properties.payload_format = PayloadFormat::Utf8;
    bequest.properties.content_type = Some("text/plain".into());
    bequest.properties.response_topic = Some(crate::lab::name("answer/here")?);
    bequest.properties.correlation_data = Some(bytes::Bytes::from_static(b"\x00\x01"));
    bequest.properties.user_properties = user_properties(&[("b", "1"), ("a", "2"), ("b", "0")])?;
    let wanted = bequest.properties.clone();
    let (client, _) = lab.connect(&with_will(lab, bequest))?;
    client.cut();
    same("the properties", heir.message()?.properties, wanted)
}
