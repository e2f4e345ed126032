//! Rules of 5.0 that have no statement id there: which properties may stand where, how often, and with which values.

use paloma_codec::DisconnectReason;

use super::{EITHER, refuses, refuses_first};
use crate::lab::Lab;
use crate::suite::{Section, v5};
use crate::verdict::{Verdict, ensure};
use crate::wire;

// A line a test.
#[rustfmt::skip]
pub(super) fn section() -> Section {
    Section {
        name: "Properties and reason codes",
        tests: vec![
            v5("[PALOMA-5.0-prop-table]", properties_of_other_packets_are_refused_in_connect),
            v5("[PALOMA-5.0-prop-table]", properties_of_other_packets_are_refused_in_publish),
            v5("[PALOMA-5.0-prop-table]", properties_of_other_packets_are_refused_in_acknowledgements),
            v5("[PALOMA-5.0-prop-table]", properties_of_other_packets_are_refused_in_subscribe_and_unsubscribe),
            v5("[PALOMA-5.0-prop-table] [MQTT-3.14.2-2]", properties_of_other_packets_are_refused_in_disconnect_and_auth),
            v5("[PALOMA-5.0-prop-table]", properties_of_other_packets_are_refused_in_a_will),
            v5("[PALOMA-5.0-prop-unknown]", unknown_properties_close_the_connection),
            v5("[PALOMA-5.0-prop-twice]", a_property_that_stands_twice_is_refused),
            v5("[PALOMA-5.0-prop-length]", a_property_length_beyond_the_packet_closes_the_connection),
            v5("[PALOMA-5.0-prop-value-cut]", a_property_that_ends_outside_its_block_closes_the_connection),
            v5("[PALOMA-5.0-prop-flag]", flags_other_than_0_and_1_are_refused),
            v5("[PALOMA-5.0-payload-format]", a_payload_format_other_than_0_and_1_closes_the_connection),
            v5("[PALOMA-5.0-prop-all]", every_property_of_connect_is_accepted_once),
            v5("[PALOMA-5.0-prop-all]", user_properties_are_accepted_wherever_they_may_stand),
        ],
    }
}

/// Every property with a right value, and the packets of a client that may carry it: C connect, W will, P publish,
/// A acknowledgement, S subscribe, U unsubscribe, D disconnect, X auth.
const TABLE: &[(&[u8], &str)] = &[
    (&[0x01, 1], "WP"),
    (&[0x02, 0, 0, 0, 9], "WP"),
    (&[0x03, 0, 1, b'a'], "WP"),
    (&[0x08, 0, 1, b'a'], "WP"),
    (&[0x09, 0, 1, b'a'], "WP"),
    (&[0x0B, 1], "S"),
    (&[0x11, 0, 0, 0, 9], "CD"),
    (&[0x12, 0, 1, b'a'], ""),
    (&[0x13, 0, 9], ""),
    (&[0x15, 0, 1, b'a'], "CX"),
    (&[0x16, 0, 1, b'a'], "CX"),
    (&[0x17, 1], "C"),
    (&[0x18, 0, 0, 0, 9], "W"),
    (&[0x19, 1], "C"),
    (&[0x1A, 0, 1, b'a'], ""),
    // A Server Reference is a server's, but stands in the table of DISCONNECT.
    (&[0x1C, 0, 1, b'a'], "D"),
    (&[0x1F, 0, 1, b'a'], "ADX"),
    (&[0x21, 0, 9], "C"),
    (&[0x22, 0, 9], "C"),
    (&[0x23, 0, 1], "P"),
    (&[0x24, 1], ""),
    (&[0x25, 1], ""),
    (&[0x26, 0, 1, b'a', 0, 1, b'b'], "CWPASUDX"),
    (&[0x27, 0, 0, 4, 0], "C"),
    (&[0x28, 1], ""),
    (&[0x29, 1], ""),
    (&[0x2A, 1], ""),
];

/// The properties that a packet may not carry.
fn foreign(packet: char) -> impl Iterator<Item = &'static [u8]> {
    TABLE
        .iter()
        .filter(move |(_, packets)| !packets.contains(packet))
        .map(|(bytes, _)| *bytes)
}

fn named(property: &[u8]) -> String {
    format!("property {:#04x}", property.first().copied().unwrap_or(0))
}

fn properties_of_other_packets_are_refused_in_connect(lab: &Lab<'_>) -> Verdict {
    for property in foreign('C') {
        let bytes = wire::connect_properties(&lab.id("a"), &[property]);
        refuses_first(lab, &named(property), &bytes)?;
    }
    Ok(())
}

fn properties_of_other_packets_are_refused_in_publish(lab: &Lab<'_>) -> Verdict {
    for property in foreign('P') {
        let block = wire::block(&[property]);
        let bytes = wire::publish(0x30, lab.topic("t").as_bytes(), 0, &block, b"x");
        refuses(lab, &named(property), &bytes, EITHER)?;
    }
    Ok(())
}

fn properties_of_other_packets_are_refused_in_acknowledgements(lab: &Lab<'_>) -> Verdict {
    for first in [0x40, 0x50, 0x62, 0x70] {
        for property in foreign('A') {
            let block = wire::block(&[property]);
            let bytes = wire::packet(first, &[&[0, 1, 0], &block[..]].concat());
            let what = format!("{} in {first:#04x}", named(property));
            refuses(lab, &what, &bytes, EITHER)?;
        }
    }
    Ok(())
}

fn properties_of_other_packets_are_refused_in_subscribe_and_unsubscribe(lab: &Lab<'_>) -> Verdict {
    for property in foreign('S') {
        let bytes = wire::subscribe(0x82, 1, &wire::block(&[property]), &[(b"a", 0)]);
        refuses(
            lab,
            &format!("{} in SUBSCRIBE", named(property)),
            &bytes,
            EITHER,
        )?;
    }
    for property in foreign('U') {
        let bytes = wire::unsubscribe(0xA2, 1, &wire::block(&[property]), &[b"a"]);
        refuses(
            lab,
            &format!("{} in UNSUBSCRIBE", named(property)),
            &bytes,
            EITHER,
        )?;
    }
    Ok(())
}

fn properties_of_other_packets_are_refused_in_disconnect_and_auth(lab: &Lab<'_>) -> Verdict {
    for property in foreign('D') {
        let bytes = wire::packet(0xE0, &[&[0], &wire::block(&[property])[..]].concat());
        refuses(
            lab,
            &format!("{} in DISCONNECT", named(property)),
            &bytes,
            EITHER,
        )?;
    }
    for property in foreign('X') {
        let bytes = wire::packet(0xF0, &[&[0x18], &wire::block(&[property])[..]].concat());
        refuses(lab, &format!("{} in AUTH", named(property)), &bytes, EITHER)?;
    }
    Ok(())
}

fn properties_of_other_packets_are_refused_in_a_will(lab: &Lab<'_>) -> Verdict {
    for property in foreign('W') {
        let rest = [
            &[0][..],
            &wire::text(lab.id("a")),
            &wire::block(&[property]),
            &wire::text(lab.topic("will")),
            &wire::text("payload"),
        ]
        .concat();
        let bytes = wire::connect("MQTT", 5, 0x06, &rest);
        refuses_first(lab, &named(property), &bytes)?;
    }
    Ok(())
}

fn unknown_properties_close_the_connection(lab: &Lab<'_>) -> Verdict {
    for unknown in [0x00, 0x04, 0x0A, 0x14, 0x20, 0x2B, 0x7F] {
        let block = wire::block(&[&[unknown, 1]]);
        let bytes = wire::publish(0x30, lab.topic("t").as_bytes(), 0, &block, b"x");
        refuses(lab, &format!("property {unknown:#04x}"), &bytes, EITHER)?;
        let bytes = wire::connect_properties(&lab.id("a"), &[&[unknown, 1]]);
        refuses_first(lab, &format!("property {unknown:#04x} in CONNECT"), &bytes)?;
    }
    Ok(())
}

fn a_property_that_stands_twice_is_refused(lab: &Lab<'_>) -> Verdict {
    for (property, packets) in TABLE {
        if property.first() == Some(&0x26) {
            continue;
        }
        let twice = wire::block(&[property, property]);
        let what = format!("{} twice", named(property));
        if packets.contains('C') {
            let method: &[u8] = &[0x15, 0, 1, b'a'];
            let is_data = property.first() == Some(&0x16);
            let all: &[&[u8]] = if is_data {
                &[method, property, property]
            } else {
                &[property, property]
            };
            let bytes = wire::connect_properties(&lab.id("a"), all);
            refuses_first(lab, &what, &bytes)?;
        }
        if packets.contains('P') {
            let bytes = wire::publish(0x30, lab.topic("t").as_bytes(), 0, &twice, b"x");
            refuses(lab, &what, &bytes, EITHER)?;
        }
        if packets.contains('A') {
            let bytes = wire::packet(0x40, &[&[0, 1, 0], &twice[..]].concat());
            refuses(lab, &what, &bytes, EITHER)?;
        }
        if packets.contains('D') {
            let bytes = wire::packet(0xE0, &[&[0], &twice[..]].concat());
            refuses(lab, &what, &bytes, EITHER)?;
        }
    }
    Ok(())
}

fn a_property_length_beyond_the_packet_closes_the_connection(lab: &Lab<'_>) -> Verdict {
    let topic = wire::text(lab.topic("t"));
    let overrun = [&topic[..], &[0x7F, 0x01, 0x01]].concat();
    refuses(lab, "PUBLISH", &wire::packet(0x30, &overrun), EITHER)?;
    refuses(lab, "PUBACK", &wire::packet(0x40, &[0, 1, 0, 9]), EITHER)?;
    refuses(lab, "DISCONNECT", &wire::packet(0xE0, &[0, 9]), EITHER)?;
    let subscribe = wire::subscribe(0x82, 1, &[0x60], &[(b"a", 0)]);
    refuses(lab, "SUBSCRIBE", &subscribe, EITHER)?;
    let rest = [&[0x70][..], &wire::text(lab.id("a"))].concat();
    let connect = wire::connect("MQTT", 5, 0x02, &rest);
    refuses_first(lab, "CONNECT", &connect).map(drop)
}

fn a_property_that_ends_outside_its_block_closes_the_connection(lab: &Lab<'_>) -> Verdict {
    let topic = lab.topic("t");
    for cut in [
        &[1, 0x01][..],
        &[3, 0x02, 0, 0],
        &[2, 0x23, 0],
        &[3, 0x03, 0, 9],
        &[5, 0x26, 0, 1, b'a', 0],
    ] {
        let bytes = wire::publish(0x30, topic.as_bytes(), 0, cut, b"payload behind it");
        refuses(lab, &format!("{cut:02x?}"), &bytes, EITHER)?;
    }
    Ok(())
}

fn flags_other_than_0_and_1_are_refused(lab: &Lab<'_>) -> Verdict {
    for property in [&[0x17, 2][..], &[0x19, 2], &[0x17, 0xFF]] {
        let bytes = wire::connect_properties(&lab.id("a"), &[property]);
        refuses_first(lab, &named(property), &bytes)?;
    }
    Ok(())
}

fn a_payload_format_other_than_0_and_1_closes_the_connection(lab: &Lab<'_>) -> Verdict {
    for value in [2, 0xFF] {
        let block = wire::block(&[&[0x01, value]]);
        let bytes = wire::publish(0x30, lab.topic("t").as_bytes(), 0, &block, b"x");
        let mut reasons = EITHER.to_vec();
        reasons.push(DisconnectReason::PayloadFormatInvalid);
        refuses(lab, &format!("format {value}"), &bytes, &reasons)?;
    }
    Ok(())
}

fn every_property_of_connect_is_accepted_once(lab: &Lab<'_>) -> Verdict {
    let is_plain = |property: &&[u8]| !matches!(property.first(), Some(0x15 | 0x16));
    let properties: Vec<&[u8]> = TABLE
        .iter()
        .filter(|(_, packets)| packets.contains('C'))
        .map(|(property, _)| *property)
        .filter(is_plain)
        .collect();
    let mut client = lab.open()?;
    client.send_bytes(&wire::connect_properties(&lab.id("a"), &properties))?;
    let ack = crate::lab::conn_ack(&mut client)?;
    ensure(
        !ack.reason.is_error(),
        format!("CONNACK says {:?}", ack.reason),
    )?;
    client.ping()
}

fn user_properties_are_accepted_wherever_they_may_stand(lab: &Lab<'_>) -> Verdict {
    lab.needs_qos(2)?;
    let pair: &[u8] = &[0x26, 0, 1, b'a', 0, 1, b'b'];
    let block = wire::block(&[pair, pair]);
    let topic = lab.topic("t");
    let mut client = lab.open()?;
    client.send_bytes(&wire::connect_properties(&lab.id("a"), &[pair, pair]))?;
    crate::lab::conn_ack(&mut client)?;
    let id = paloma_codec::PacketId::MIN;
    client.send_bytes(&wire::subscribe(0x82, 1, &block, &[(topic.as_bytes(), 2)]))?;
    client.sub_ack(id)?;
    client.send_bytes(&wire::publish(0x34, topic.as_bytes(), 1, &block, b"x"))?;
    client.pub_rec(id)?;
    client.send_bytes(&wire::packet(0x62, &[&[0, 1, 0], &block[..]].concat()))?;
    client.pub_comp(id)?;
    let got = client.unacknowledged()?;
    let theirs = got.delivery.id().unwrap_or(id);
    let answer = [&theirs.get().to_be_bytes()[..], &[0], &block].concat();
    client.send_bytes(&wire::packet(0x50, &answer))?;
    client.pub_rel(theirs)?;
    client.send_bytes(&wire::packet(0x70, &answer))?;
    client.send_bytes(&wire::unsubscribe(0xA2, 1, &block, &[topic.as_bytes()]))?;
    client.unsub_ack(id)?;
    client.ping()?;
    client.send_bytes(&wire::packet(0xE0, &[&[0], &block[..]].concat()))?;
    client.ends().map(drop)
}
