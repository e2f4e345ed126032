//! Packets of all kinds for property tests: only what a version can carry, only what its sender may send.

use bytes::Bytes;
use bytestring::ByteString;
use paloma_codec::*;
use paloma_topic::{Target, TopicName};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::From;

/// A packet with the version and the side it fits.
pub(crate) fn any_packet() -> BoxedStrategy<(ProtocolVersion, From, Packet)> {
    prop_oneof![
        v5().prop_map(|(from, packet)| (ProtocolVersion::V5, from, packet)),
        (v3_version(), v3()).prop_map(|(version, (from, packet))| (version, from, packet)),
        v3_version().prop_flat_map(|version| {
            connect_v3(version).prop_map(move |packet| (version, From::First, packet))
        }),
    ]
    .boxed()
}

/// A 5.0 packet that a server can decode in an open connection.
pub(crate) fn client_packets(version: ProtocolVersion) -> BoxedStrategy<Packet> {
    let packets = if version.is_v5() {
        v5().boxed()
    } else {
        v3().boxed()
    };
    packets
        .prop_filter_map("of a client", |(from, packet)| {
            (from == From::Client).then_some(packet)
        })
        .boxed()
}

fn v3_version() -> BoxedStrategy<ProtocolVersion> {
    select(vec![ProtocolVersion::V3_1, ProtocolVersion::V3_1_1]).boxed()
}

/// Strings around the corners: empty, several bytes a character, U+FEFF, longer than a length byte.
fn text() -> BoxedStrategy<ByteString> {
    prop_oneof![
        Just(String::new()),
        "[a-z]{1,8}",
        "[a-zé台🌡\u{feff}\u{1}]{1,8}",
        "x{120,200}"
    ]
    .prop_map(ByteString::from)
    .boxed()
}

fn binary() -> BoxedStrategy<Bytes> {
    vec(any::<u8>(), 0..200).prop_map(Bytes::from).boxed()
}

pub(crate) fn topic() -> BoxedStrategy<TopicName> {
    "[a-zé台 $/]{1,24}"
        .prop_map(|text| TopicName::new(text).unwrap())
        .boxed()
}

fn target() -> BoxedStrategy<Target> {
    let levels = vec(select(vec!["a", "b", "", "+", "台所"]), 1..5);
    let filter = (levels, any::<bool>()).prop_filter_map("empty", |(levels, ends_in_hash)| {
        let text = levels.join("/") + if ends_in_hash { "/#" } else { "" };
        (!text.is_empty()).then_some(text)
    });
    (option::of("[a-z$]{1,5}"), filter)
        .prop_map(|(share, filter)| {
            let text = share.map_or(filter.clone(), |share| format!("$share/{share}/{filter}"));
            Target::parse(text).unwrap()
        })
        .boxed()
}

fn user_properties() -> BoxedStrategy<UserProperties> {
    vec((text(), text()), 0..4)
        .prop_map(|pairs| {
            let mut properties = UserProperties::new();
            for (name, value) in pairs {
                properties.push(&name, &value).unwrap();
            }
            properties
        })
        .boxed()
}

fn id() -> BoxedStrategy<PacketId> {
    (1..=u16::MAX)
        .prop_map(|id| PacketId::new(id).unwrap())
        .boxed()
}

fn qos() -> BoxedStrategy<Qos> {
    select(vec![Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce]).boxed()
}

fn subscription_id() -> BoxedStrategy<SubscriptionId> {
    prop_oneof![1..200_u32, 1..=SubscriptionId::MAX]
        .prop_map(|id| SubscriptionId::new(id).unwrap())
        .boxed()
}

fn delivery() -> BoxedStrategy<Delivery> {
    prop_oneof![
        Just(Delivery::AtMostOnce),
        (id(), any::<bool>()).prop_map(|(id, dup)| Delivery::AtLeastOnce { id, dup }),
        (id(), any::<bool>()).prop_map(|(id, dup)| Delivery::ExactlyOnce { id, dup }),
    ]
    .boxed()
}

fn publish_topic() -> BoxedStrategy<PublishTopic<TopicName>> {
    let alias = || (1..=u16::MAX).prop_map(|alias| TopicAlias::new(alias).unwrap());
    prop_oneof![
        topic().prop_map(PublishTopic::Name),
        alias().prop_map(PublishTopic::Alias),
        (topic(), alias()).prop_map(|(name, alias)| PublishTopic::Define { name, alias }),
    ]
    .boxed()
}

pub(crate) fn publish_properties() -> BoxedStrategy<PublishProperties> {
    let format = select(vec![PayloadFormat::Bytes, PayloadFormat::Utf8]);
    let expiry = option::of(any::<u32>());
    let rest = (
        option::of(text()),
        option::of(topic()),
        option::of(binary()),
        user_properties(),
    );
    (format, expiry, rest)
        .prop_map(
            |(
                payload_format,
                message_expiry_seconds,
                (content_type, response_topic, data, user),
            )| {
                PublishProperties {
                    payload_format,
                    message_expiry_seconds,
                    content_type,
                    response_topic,
                    correlation_data: data,
                    subscription_ids: Vec::new(),
                    user_properties: user,
                }
            },
        )
        .boxed()
}

pub(crate) fn publish_v5() -> BoxedStrategy<(From, Publish)> {
    let ids = vec(subscription_id(), 0..3);
    (
        delivery(),
        any::<bool>(),
        publish_topic(),
        publish_properties(),
        binary(),
        ids,
    )
        .prop_map(|(delivery, retain, topic, mut properties, payload, ids)| {
            let from = if ids.is_empty() {
                From::Client
            } else {
                From::Server
            };
            properties.subscription_ids = ids;
            (
                from,
                Publish {
                    delivery,
                    retain,
                    topic,
                    properties,
                    payload,
                },
            )
        })
        .boxed()
}

fn publish_v3() -> BoxedStrategy<Packet> {
    (delivery(), any::<bool>(), topic(), binary())
        .prop_map(|(delivery, retain, topic, payload)| {
            let publish = Publish {
                delivery,
                retain,
                ..Publish::new(topic, payload)
            };
            Packet::Publish(Box::new(publish))
        })
        .boxed()
}

fn authentication() -> BoxedStrategy<Option<Authentication>> {
    option::of((text(), option::of(binary())))
        .prop_map(|authentication| {
            authentication.map(|(method, data)| Authentication {
                method,
                data: data.map(Secret::new),
            })
        })
        .boxed()
}

fn will(properties: BoxedStrategy<PublishProperties>, delay: bool) -> BoxedStrategy<Will> {
    let delay = if delay {
        any::<u32>().boxed()
    } else {
        Just(0).boxed()
    };
    (topic(), binary(), qos(), any::<bool>(), delay, properties)
        .prop_map(
            |(topic, payload, qos, retain, delay_seconds, properties)| Will {
                topic,
                payload,
                qos,
                retain,
                delay_seconds,
                properties,
            },
        )
        .boxed()
}

fn connect_v3(version: ProtocolVersion) -> BoxedStrategy<Packet> {
    let login = option::of((text(), option::of(binary())));
    let will = option::of(will(Just(PublishProperties::default()).boxed(), false));
    (any::<bool>(), any::<u16>(), "[a-z]{1,23}", login, will)
        .prop_map(
            move |(clean_start, keep_alive_seconds, client_id, login, will)| {
                let (username, password) = login.unzip();
                Packet::Connect(Box::new(Connect {
                    version,
                    clean_start,
                    keep_alive_seconds,
                    client_id: client_id.into(),
                    will,
                    username,
                    password: password.flatten().map(Secret::new),
                    session_expiry_seconds: if clean_start { 0 } else { u32::MAX },
                    ..Connect::default()
                }))
            },
        )
        .boxed()
}

fn connect_v5() -> BoxedStrategy<Packet> {
    let basics = (any::<bool>(), any::<u16>(), text());
    let login = (option::of(text()), option::of(binary()), authentication());
    let will = option::of(will(publish_properties().boxed(), true));
    let numbers = (
        any::<u32>(),
        1..=u16::MAX,
        option::of(1..=u32::MAX),
        any::<u16>(),
    );
    let rest = (any::<bool>(), any::<bool>(), user_properties());
    (basics, login, will, numbers, rest)
        .prop_map(|(basics, login, will, numbers, rest)| {
            let (clean_start, keep_alive_seconds, client_id) = basics;
            let (username, password, authentication) = login;
            let (session_expiry_seconds, receive_maximum, packet_size, topic_alias_maximum) =
                numbers;
            let (request_response_information, request_problem_information, user_properties) = rest;
            Packet::Connect(Box::new(Connect {
                version: ProtocolVersion::V5,
                clean_start,
                keep_alive_seconds,
                client_id,
                will,
                username,
                password: password.map(Secret::new),
                session_expiry_seconds,
                receive_maximum: ReceiveMaximum::new(receive_maximum).unwrap(),
                maximum_packet_size: packet_size.map(|size| size.try_into().unwrap()),
                topic_alias_maximum,
                request_response_information,
                request_problem_information,
                authentication,
                user_properties,
            }))
        })
        .boxed()
}

fn conn_ack() -> BoxedStrategy<Packet> {
    let reason = select(ConnAckReason::ALL);
    let numbers = (
        option::of(any::<u32>()),
        1..=u16::MAX,
        option::of(1..=u32::MAX),
        any::<u16>(),
    );
    let flags = any::<[bool; 5]>();
    let texts = (
        option::of(text()),
        option::of(text()),
        option::of(text()),
        option::of(text()),
    );
    let rest = (
        qos(),
        option::of(any::<u16>()),
        authentication(),
        user_properties(),
    );
    (reason, numbers, flags, texts, rest)
        .prop_map(|(reason, numbers, flags, texts, rest)| {
            let (session_expiry_seconds, receive_maximum, packet_size, topic_alias_maximum) =
                numbers;
            let (assigned_client_id, reason_string, response_information, server_reference) = texts;
            let (maximum_qos, server_keep_alive_seconds, authentication, user_properties) = rest;
            Packet::ConnAck(Box::new(ConnAck {
                session_present: flags[0] && reason == ConnAckReason::Success,
                reason,
                session_expiry_seconds,
                receive_maximum: ReceiveMaximum::new(receive_maximum).unwrap(),
                maximum_qos,
                retain_available: flags[1],
                maximum_packet_size: packet_size.map(|size| size.try_into().unwrap()),
                assigned_client_id,
                topic_alias_maximum,
                reason_string,
                user_properties,
                wildcard_subscriptions_available: flags[2],
                subscription_ids_available: flags[3],
                shared_subscriptions_available: flags[4],
                server_keep_alive_seconds,
                response_information,
                server_reference,
                authentication,
            }))
        })
        .boxed()
}

fn ack<R: Copy + core::fmt::Debug + 'static>(reasons: &'static [R]) -> BoxedStrategy<Ack<R>> {
    (id(), select(reasons), option::of(text()), user_properties())
        .prop_map(|(id, reason, reason_string, user_properties)| Ack {
            id,
            reason,
            reason_string,
            user_properties,
        })
        .boxed()
}

fn acks() -> BoxedStrategy<Packet> {
    prop_oneof![
        ack(PubAckReason::ALL).prop_map(Packet::PubAck),
        ack(PubRecReason::ALL).prop_map(Packet::PubRec),
        ack(PubRelReason::ALL).prop_map(Packet::PubRel),
        ack(PubCompReason::ALL).prop_map(Packet::PubComp),
    ]
    .boxed()
}

fn subscribe() -> BoxedStrategy<Packet> {
    let handling = select(vec![
        RetainHandling::Send,
        RetainHandling::SendIfNew,
        RetainHandling::DoNotSend,
    ]);
    let filter = (target(), qos(), any::<bool>(), any::<bool>(), handling).prop_map(
        |(target, qos, no_local, retain_as_published, retain_handling)| {
            let no_local = no_local && matches!(target, Target::Plain(_));
            let options = SubscribeOptions {
                qos,
                no_local,
                retain_as_published,
                retain_handling,
            };
            SubscribeFilter { target, options }
        },
    );
    let parts = (
        id(),
        option::of(subscription_id()),
        vec(filter, 1..5),
        user_properties(),
    );
    parts
        .prop_map(|(id, subscription_id, filters, user_properties)| {
            let mut subscribe = Subscribe::new(id, filters);
            subscribe.subscription_id = subscription_id;
            subscribe.user_properties = user_properties;
            Packet::Subscribe(subscribe)
        })
        .boxed()
}

fn unsubscribe() -> BoxedStrategy<Packet> {
    (id(), vec(target(), 1..5), user_properties())
        .prop_map(|(id, filters, user_properties)| {
            Packet::Unsubscribe(Unsubscribe {
                id,
                filters,
                user_properties,
            })
        })
        .boxed()
}

fn subscription_acks() -> BoxedStrategy<Packet> {
    let explained = || (id(), option::of(text()), user_properties());
    prop_oneof![
        (explained(), vec(select(SubAckReason::ALL), 1..5)).prop_map(
            |((id, reason_string, user_properties), reasons)| {
                Packet::SubAck(Box::new(SubAck {
                    id,
                    reasons,
                    reason_string,
                    user_properties,
                }))
            }
        ),
        (explained(), vec(select(UnsubAckReason::ALL), 1..5)).prop_map(
            |((id, reason_string, user_properties), reasons)| {
                Packet::UnsubAck(Box::new(UnsubAck {
                    id,
                    reasons,
                    reason_string,
                    user_properties,
                }))
            }
        ),
    ]
    .boxed()
}

fn disconnect() -> BoxedStrategy<(From, Packet)> {
    let texts = (option::of(text()), option::of(text()));
    (
        select(DisconnectReason::ALL),
        option::of(any::<u32>()),
        texts,
        user_properties(),
    )
        .prop_map(
            |(
                reason,
                session_expiry_seconds,
                (reason_string, server_reference),
                user_properties,
            )| {
                let from = if session_expiry_seconds.is_some() {
                    From::Client
                } else {
                    From::Server
                };
                let disconnect = Disconnect {
                    reason,
                    session_expiry_seconds,
                    reason_string,
                    user_properties,
                    server_reference,
                };
                (from, Packet::Disconnect(Box::new(disconnect)))
            },
        )
        .boxed()
}

fn auth() -> BoxedStrategy<(From, Packet)> {
    let parts = (authentication(), option::of(text()), user_properties());
    (select(AuthReason::ALL), parts)
        .prop_map(|(reason, parts)| {
            let (authentication, reason_string, user_properties) = parts;
            let from = if reason == AuthReason::Success {
                From::Server
            } else {
                From::Client
            };
            let auth = match authentication {
                Some(_) => Auth {
                    reason,
                    authentication,
                    reason_string,
                    user_properties,
                },
                None => Auth::default(),
            };
            let from = if auth == Auth::default() {
                From::Server
            } else {
                from
            };
            (from, Packet::Auth(Box::new(auth)))
        })
        .boxed()
}

fn v5() -> BoxedStrategy<(From, Packet)> {
    prop_oneof![
        connect_v5().prop_map(|packet| (From::First, packet)),
        conn_ack().prop_map(|packet| (From::Server, packet)),
        publish_v5().prop_map(|(from, packet)| (from, Packet::Publish(Box::new(packet)))),
        (side(), acks()),
        subscribe().prop_map(|packet| (From::Client, packet)),
        unsubscribe().prop_map(|packet| (From::Client, packet)),
        subscription_acks().prop_map(|packet| (From::Server, packet)),
        disconnect(),
        auth(),
        pings(),
    ]
    .boxed()
}

fn v3() -> BoxedStrategy<(From, Packet)> {
    let reason = (0..=5_u8).prop_map(|code| ConnAckReason::from_v3_code(code).unwrap());
    let granted = [0, 1, 2, 0x80].map(|code| SubAckReason::from_code(code).unwrap());
    let targets = vec((target(), qos()), 1..5);
    prop_oneof![
        reason.prop_map(|reason| (
            From::Server,
            Packet::ConnAck(Box::new(ConnAck::refused(reason)))
        )),
        (side(), publish_v3()),
        (side(), id(), 0..4).prop_map(|(from, id, kind)| (from, bare_ack(id, kind))),
        (id(), targets).prop_map(|(id, targets)| {
            let filters = targets.into_iter().map(|(target, qos)| SubscribeFilter {
                target,
                options: SubscribeOptions::new(qos),
            });
            (
                From::Client,
                Packet::Subscribe(Subscribe::new(id, filters.collect())),
            )
        }),
        (id(), vec(select(granted.to_vec()), 1..5)).prop_map(|(id, reasons)| (
            From::Server,
            Packet::SubAck(Box::new(SubAck::new(id, reasons)))
        )),
        (id(), vec(target(), 1..5)).prop_map(|(id, filters)| (
            From::Client,
            Packet::Unsubscribe(Unsubscribe::new(id, filters))
        )),
        id().prop_map(|id| (
            From::Server,
            Packet::UnsubAck(Box::new(UnsubAck::new(id, Vec::new())))
        )),
        Just((From::Client, Packet::Disconnect(Box::default()))),
        pings(),
    ]
    .boxed()
}

fn bare_ack(id: PacketId, kind: i32) -> Packet {
    match kind {
        0 => Packet::PubAck(PubAck::new(id, PubAckReason::Success)),
        1 => Packet::PubRec(PubRec::new(id, PubRecReason::Success)),
        2 => Packet::PubRel(PubRel::new(id, PubRelReason::Success)),
        _ => Packet::PubComp(PubComp::new(id, PubCompReason::Success)),
    }
}

fn side() -> BoxedStrategy<From> {
    select(vec![From::Client, From::Server]).boxed()
}

fn pings() -> BoxedStrategy<(From, Packet)> {
    select(vec![
        (From::Client, Packet::PingReq),
        (From::Server, Packet::PingResp),
    ])
    .boxed()
}
