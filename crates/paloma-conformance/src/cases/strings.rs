//! Strings on the wire.

use super::{EITHER, TOPIC_FILTER, TOPIC_NAME, refuses, refuses_first};
use crate::lab::{Lab, message, text, topic_of, user_properties};
use crate::suite::{Section, both, v5};
use crate::verdict::{Verdict, same};
use crate::wire;

// A line a test.
#[rustfmt::skip]
pub(super) fn section() -> Section {
    Section {
        name: "1.5 Data representation",
        tests: vec![
            both("[MQTT-1.5.4-1] [MQTT-3.1.3-4] [MQTT311-1.5.3-1] [MQTT311-3.1.3-4]", client_identifiers_that_are_not_utf8_close_the_connection),
            both("[MQTT-1.5.4-1] [MQTT-3.3.2-1] [MQTT311-1.5.3-1] [MQTT311-3.3.2-1]", topic_names_that_are_not_utf8_close_the_connection),
            both("[MQTT-1.5.4-1] [MQTT-3.8.3-1] [MQTT311-1.5.3-1] [MQTT311-3.8.3-1]", filters_of_subscribe_that_are_not_utf8_close_the_connection),
            both("[MQTT-1.5.4-1] [MQTT-3.10.3-1] [MQTT311-1.5.3-1] [MQTT311-3.10.3-1]", filters_of_unsubscribe_that_are_not_utf8_close_the_connection),
            both("[MQTT-3.1.3-11] [MQTT-3.1.3-12] [MQTT311-3.1.3-10] [MQTT311-3.1.3-11]", will_topics_and_user_names_that_are_not_utf8_close_the_connection),
            both("[MQTT-1.5.4-2] [MQTT-4.7.3-2] [MQTT311-1.5.3-2] [MQTT311-4.7.3-2]", null_characters_close_the_connection),
            both("[MQTT-1.5.4-3] [MQTT-4.7.3-4] [MQTT311-1.5.3-3] [MQTT311-4.7.3-4]", a_byte_order_mark_is_kept),
            v5("[MQTT-1.5.7-1]", both_halves_of_a_user_property_have_to_be_utf8),
            v5("[MQTT-1.5.7-1]", user_properties_may_be_empty_strings),
            v5("[MQTT-3.3.2-13] [MQTT-3.3.2-19]", response_topic_and_content_type_have_to_be_utf8),
        ],
    }
}

/// Not UTF-8: a surrogate, an overlong slash, a lone continuation, a cut sequence, above U+10FFFF.
const ILL_FORMED: [&[u8]; 5] = [
    b"a\xED\xA0\x80",
    b"a\xC0\xAF",
    b"a\x80",
    b"a\xE2\x82",
    b"a\xF4\x90\x80\x80",
];

fn client_identifiers_that_are_not_utf8_close_the_connection(lab: &Lab<'_>) -> Verdict {
    for id in ILL_FORMED {
        let connect = wire::connect_with(lab.version(), 0x02, &[&wire::text(id)]);
        refuses_first(lab, &format!("{id:02x?}"), &connect)?;
    }
    Ok(())
}

fn topic_names_that_are_not_utf8_close_the_connection(lab: &Lab<'_>) -> Verdict {
    let none = wire::no_properties(lab.version());
    for topic in ILL_FORMED {
        for first in [0x30, 0x32] {
            let bytes = wire::publish(first, topic, 1, &none, b"x");
            refuses(lab, &format!("{topic:02x?}"), &bytes, TOPIC_NAME)?;
        }
    }
    Ok(())
}

fn filters_of_subscribe_that_are_not_utf8_close_the_connection(lab: &Lab<'_>) -> Verdict {
    let none = wire::no_properties(lab.version());
    for filter in ILL_FORMED {
        let bytes = wire::subscribe(0x82, 1, &none, &[(filter, 0)]);
        refuses(lab, &format!("{filter:02x?}"), &bytes, TOPIC_FILTER)?;
    }
    Ok(())
}

fn filters_of_unsubscribe_that_are_not_utf8_close_the_connection(lab: &Lab<'_>) -> Verdict {
    let none = wire::no_properties(lab.version());
    for filter in ILL_FORMED {
        let bytes = wire::unsubscribe(0xA2, 1, &none, &[filter]);
        refuses(lab, &format!("{filter:02x?}"), &bytes, TOPIC_FILTER)?;
    }
    Ok(())
}

fn will_topics_and_user_names_that_are_not_utf8_close_the_connection(lab: &Lab<'_>) -> Verdict {
    let id = wire::text(lab.id("a"));
    let none = wire::no_properties(lab.version());
    for bad in ILL_FORMED {
        let will = [&id[..], &none, &wire::text(bad), &wire::text("payload")];
        let connect = wire::connect_with(lab.version(), 0x06, &will);
        refuses_first(lab, &format!("will topic {bad:02x?}"), &connect)?;
        let named = [&id[..], &wire::text(bad)];
        let connect = wire::connect_with(lab.version(), 0x82, &named);
        refuses_first(lab, &format!("user name {bad:02x?}"), &connect)?;
    }
    Ok(())
}

fn null_characters_close_the_connection(lab: &Lab<'_>) -> Verdict {
    let none = wire::no_properties(lab.version());
    let bad = b"a\0b";
    let connect = wire::connect_with(lab.version(), 0x02, &[&wire::text(bad)]);
    refuses_first(lab, "client identifier", &connect)?;
    let publish = wire::publish(0x30, bad, 0, &none, b"x");
    refuses(lab, "topic name", &publish, TOPIC_NAME)?;
    let subscribe = wire::subscribe(0x82, 1, &none, &[(bad, 0)]);
    refuses(lab, "filter of SUBSCRIBE", &subscribe, TOPIC_FILTER)?;
    let unsubscribe = wire::unsubscribe(0xA2, 1, &none, &[bad]);
    refuses(lab, "filter of UNSUBSCRIBE", &unsubscribe, TOPIC_FILTER)
}

fn a_byte_order_mark_is_kept(lab: &Lab<'_>) -> Verdict {
    let marked = lab.topic("\u{FEFF}a\u{FEFF}");
    let plain = lab.topic("a");
    let mut client = lab.client("a")?;
    client.subscribe(&[(&marked, 0)])?;
    client.publish(&message(&plain, 0, "plain")?)?;
    client.publish(&message(&marked, 0, "marked")?)?;
    let got = client.message()?;
    same("the payload", text(&got), "marked")?;
    same("the topic", topic_of(&got), marked.as_str())
}

fn both_halves_of_a_user_property_have_to_be_utf8(lab: &Lab<'_>) -> Verdict {
    for bad in ILL_FORMED.into_iter().chain([&b"a\0"[..]]) {
        let pairs = [
            [&[0x26], &wire::text(bad)[..], &wire::text("value")].concat(),
            [&[0x26], &wire::text("name")[..], &wire::text(bad)].concat(),
        ];
        for pair in pairs {
            let block = wire::block(&[&pair]);
            let bytes = wire::publish(0x30, lab.topic("t").as_bytes(), 0, &block, b"x");
            refuses(lab, &format!("{bad:02x?}"), &bytes, EITHER)?;
        }
    }
    Ok(())
}

fn user_properties_may_be_empty_strings(lab: &Lab<'_>) -> Verdict {
    let topic = lab.topic("t");
    let mut client = lab.client("a")?;
    client.subscribe(&[(&topic, 0)])?;
    let mut publish = message(&topic, 0, "x")?;
    publish.properties.user_properties = user_properties(&[("", ""), ("", "v"), ("n", "")])?;
    client.publish(&publish)?;
    let got = client.message()?;
    same(
        "the user properties",
        got.properties.user_properties,
        publish.properties.user_properties,
    )
}

fn response_topic_and_content_type_have_to_be_utf8(lab: &Lab<'_>) -> Verdict {
    for bad in ILL_FORMED.into_iter().chain([&b"a\0"[..]]) {
        for property in [0x08, 0x03] {
            let block = wire::block(&[&[property], &wire::text(bad)]);
            let bytes = wire::publish(0x30, lab.topic("t").as_bytes(), 0, &block, b"x");
            refuses(
                lab,
                &format!("property {property:#04x} {bad:02x?}"),
                &bytes,
                TOPIC_NAME,
            )?;
        }
    }
    Ok(())
}
