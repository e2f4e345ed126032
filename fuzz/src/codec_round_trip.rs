//! A choice, then bytes as the fields of packets of the program's own: what can be written decodes to the same.

use arbitrary::{Arbitrary, Unstructured};
use bytestring::ByteString;
use paloma_codec::{
    Auth, AuthReason, Authentication, ConnAck, ConnAckReason, Connect, DecodeLimits, Decoder,
    Disconnect, DisconnectReason, Packet, PacketId, ProtocolVersion, PubAck, PubAckReason, PubRec,
    PubRecReason, Publish, PublishProperties, Qos, Secret, SubAck, SubAckReason, Subscribe,
    SubscribeFilter, SubscribeOptions, Unsubscribe, UserProperties, Will,
};
use paloma_topic::{Target, TopicName};

/// Builds a packet of the bytes, encodes it and decodes it again.
pub fn run(data: &[u8]) {
    let mut data = Unstructured::new(data);
    let Ok(fields) = Fields::arbitrary(&mut data) else {
        return;
    };
    let Some(packet) = packet(&fields) else {
        return;
    };
    for version in [ProtocolVersion::V3_1_1, ProtocolVersion::V5] {
        let mut bytes = vec![0xA5];
        if packet.encode(version, &mut bytes).is_err() {
            assert_eq!(bytes, [0xA5]);
            continue;
        }
        let bytes = bytes.get(1..).unwrap_or_default();
        assert_eq!(packet.encoded_len(version), Ok(bytes.len()));
        let decoded = decode(&packet, version, bytes);
        if version.is_v5() || matches!(packet, Packet::Connect(_)) {
            assert_eq!(decoded.as_ref(), Some(&packet));
        } else {
            assert!(decoded.is_some(), "{packet:?} from {bytes:02x?}");
        }
    }
}

#[derive(Debug, Arbitrary)]
struct Fields<'a> {
    kind: u8,
    number: u32,
    flag: bool,
    id: u16,
    text: Option<&'a str>,
    topic: &'a str,
    data: Option<&'a [u8]>,
    pairs: Vec<(&'a str, &'a str)>,
    entries: Vec<(&'a str, u8)>,
}

fn packet(fields: &Fields<'_>) -> Option<Packet> {
    let id = PacketId::new(fields.id)?;
    let reason_string = fields.text.map(Into::into);
    let mut user_properties = UserProperties::new();
    for (name, value) in &fields.pairs {
        user_properties.push(name, value).ok()?;
    }
    let [code, ..] = fields.number.to_le_bytes();
    let authentication = fields.text.map(|method| Authentication {
        method: method.into(),
        data: fields.data.map(secret),
    });
    Some(match fields.kind % 11 {
        0 => connect(fields, user_properties)?,
        1 => Packet::ConnAck(Box::new(ConnAck {
            session_present: fields.flag,
            reason: ConnAckReason::from_code(code)?,
            reason_string,
            user_properties,
            authentication,
            ..ConnAck::default()
        })),
        2 | 3 => publish(fields, user_properties)?,
        4 => Packet::PubAck(PubAck {
            id,
            reason: PubAckReason::from_code(code)?,
            reason_string,
            user_properties,
        }),
        5 => Packet::PubRec(PubRec {
            id,
            reason: PubRecReason::from_code(code)?,
            reason_string,
            user_properties,
        }),
        6..=8 => subscriptions(fields, id, reason_string, user_properties)?,
        9 => Packet::Disconnect(Box::new(Disconnect {
            reason: DisconnectReason::from_code(code)?,
            session_expiry_seconds: None,
            reason_string,
            user_properties,
            server_reference: fields.flag.then(|| fields.topic.into()),
        })),
        _ => Packet::Auth(Box::new(Auth {
            reason: AuthReason::from_code(code)?,
            authentication,
            reason_string: fields.flag.then(|| fields.topic.into()),
            user_properties,
        })),
    })
}

/// SUBSCRIBE, UNSUBSCRIBE or SUBACK.
fn subscriptions(
    fields: &Fields<'_>,
    id: PacketId,
    reason_string: Option<ByteString>,
    user_properties: UserProperties,
) -> Option<Packet> {
    let entries = fields.entries.iter();
    Some(match fields.kind % 11 {
        6 => {
            let filters = entries.map(|(text, options)| {
                Some(SubscribeFilter {
                    target: Target::parse(*text).ok()?,
                    options: SubscribeOptions::from_bits(*options, ProtocolVersion::V5).ok()?,
                })
            });
            let mut subscribe = Subscribe::new(id, filters.collect::<Option<_>>()?);
            subscribe.subscription_id = fields.number.try_into().ok();
            subscribe.user_properties = user_properties;
            Packet::Subscribe(subscribe)
        }
        7 => {
            let filters = entries.map(|(text, _)| Target::parse(*text).ok());
            Packet::Unsubscribe(Unsubscribe {
                id,
                filters: filters.collect::<Option<_>>()?,
                user_properties,
            })
        }
        _ => {
            let reasons = entries.map(|(_, code)| SubAckReason::from_code(*code));
            Packet::SubAck(Box::new(SubAck {
                id,
                reasons: reasons.collect::<Option<_>>()?,
                reason_string,
                user_properties,
            }))
        }
    })
}

fn secret(bytes: &[u8]) -> Secret {
    Secret::new(bytes.to_vec().into())
}

fn properties(fields: &Fields<'_>, user_properties: UserProperties) -> PublishProperties {
    PublishProperties {
        message_expiry_seconds: fields.flag.then_some(fields.number),
        content_type: fields.text.map(Into::into),
        correlation_data: fields.data.map(|data| data.to_vec().into()),
        user_properties,
        ..PublishProperties::default()
    }
}

fn publish(fields: &Fields<'_>, user_properties: UserProperties) -> Option<Packet> {
    let payload = fields.data.unwrap_or_default().to_vec().into();
    let mut publish = Publish::new(TopicName::new(fields.topic).ok()?, payload);
    publish.retain = fields.flag;
    publish.properties = properties(fields, user_properties);
    Some(Packet::Publish(Box::new(publish)))
}

fn connect(fields: &Fields<'_>, user_properties: UserProperties) -> Option<Packet> {
    let mut connect = Connect {
        version: if fields.number & 1 == 0 {
            ProtocolVersion::V5
        } else {
            ProtocolVersion::V3_1_1
        },
        keep_alive_seconds: fields.id,
        client_id: fields.topic.into(),
        username: fields.text.map(Into::into),
        password: fields.data.map(secret),
        ..Connect::default()
    };
    if let Ok(topic) = TopicName::new(fields.topic) {
        let payload = fields.data.unwrap_or_default().to_vec().into();
        let mut will = Will::new(topic, payload);
        will.qos = Qos::from_bits(fields.kind >> 6)?;
        if connect.version.is_v5() {
            will.properties = properties(fields, user_properties);
        }
        connect.will = Some(will);
    }
    Some(Packet::Connect(Box::new(connect)))
}

/// Decodes as the side that may receive the packet.
fn decode(packet: &Packet, version: ProtocolVersion, bytes: &[u8]) -> Option<Packet> {
    let mut decoder = match packet {
        Packet::Connect(_) => Decoder::server(DecodeLimits::UNLIMITED),
        Packet::Subscribe(_) | Packet::Unsubscribe(_) => crate::codec::decoder(6, version),
        Packet::Disconnect(_) if !version.is_v5() => crate::codec::decoder(6, version),
        Packet::Auth(auth) if auth.reason == AuthReason::ReAuthenticate => {
            crate::codec::decoder(6, version)
        }
        _ => Decoder::client(version, DecodeLimits::UNLIMITED),
    };
    let (decoded, used) = decoder.decode(bytes).ok()??;
    assert_eq!(used, bytes.len());
    Some(decoded.into_owned())
}
