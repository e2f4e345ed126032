//! Packets in words, each in one line, for whoever reads what went over a wire. Names are escaped and secrets are not shown.

use core::fmt;

use alloc::string::ToString;

use crate::{Connect, Packet, Publish, PublishTopic, ReceiveMaximum};

/// Bytes of a payload that are shown.
const PAYLOAD_BYTES_MAX: usize = 12;

/// `{}` gives the length of a payload, `{:#}` how it begins as well.
impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.packet_type())?;
        match self {
            Self::Connect(connect) => write_connect(f, connect),
            Self::ConnAck(ack) => write!(f, " {:?} present={}", ack.reason, ack.session_present),
            Self::Publish(publish) => write_publish(f, publish),
            Self::Subscribe(subscribe) => {
                write!(f, " {}", subscribe.id.get())?;
                for filter in &subscribe.filters {
                    let (target, options) = (filter.target.to_string(), filter.options);
                    write!(f, " {target:?} {:?}", options.qos)?;
                    if options.no_local {
                        f.write_str(" no-local")?;
                    }
                }
                Ok(())
            }
            Self::Unsubscribe(unsubscribe) => {
                write!(f, " {}", unsubscribe.id.get())?;
                let mut filters = unsubscribe.filters.iter();
                filters.try_for_each(|filter| write!(f, " {:?}", filter.to_string()))
            }
            Self::SubAck(ack) => write!(f, " {} {:?}", ack.id.get(), ack.reasons),
            Self::UnsubAck(ack) => write!(f, " {} {:?}", ack.id.get(), ack.reasons),
            Self::PubAck(ack) => write!(f, " {} {:?}", ack.id.get(), ack.reason),
            Self::PubRec(ack) => write!(f, " {} {:?}", ack.id.get(), ack.reason),
            Self::PubRel(ack) => write!(f, " {} {:?}", ack.id.get(), ack.reason),
            Self::PubComp(ack) => write!(f, " {} {:?}", ack.id.get(), ack.reason),
            Self::Disconnect(disconnect) => write!(f, " {:?}", disconnect.reason),
            Self::Auth(auth) => write!(f, " {:?}", auth.reason),
            Self::PingReq | Self::PingResp => Ok(()),
        }
    }
}

fn write_connect(f: &mut fmt::Formatter<'_>, connect: &Connect) -> fmt::Result {
    write!(
        f,
        " {:?} {} clean={} expiry={} keep-alive={}",
        &*connect.client_id,
        connect.version,
        connect.clean_start,
        connect.session_expiry_seconds,
        connect.keep_alive_seconds,
    )?;
    if connect.receive_maximum != ReceiveMaximum::MAX {
        write!(f, " receive-maximum={}", connect.receive_maximum.get())?;
    }
    if let Some(user) = &connect.username {
        write!(f, " user={:?}", &**user)?;
    }
    if let Some(will) = &connect.will {
        write!(f, " will={:?}", will.topic.as_str())?;
        if will.delay_seconds > 0 {
            write!(f, " after {} s", will.delay_seconds)?;
        }
    }
    Ok(())
}

fn write_publish(f: &mut fmt::Formatter<'_>, publish: &Publish) -> fmt::Result {
    match &publish.topic {
        PublishTopic::Name(name) => write!(f, " {:?}", name.as_str())?,
        PublishTopic::Alias(alias) => write!(f, " alias {}", alias.get())?,
        PublishTopic::Define { name, alias } => {
            write!(f, " {:?} as alias {}", name.as_str(), alias.get())?;
        }
    }
    write!(f, " {} bytes", publish.payload.len())?;
    if f.alternate() {
        let bytes = publish.payload.iter().take(PAYLOAD_BYTES_MAX).copied();
        write!(f, " \"")?;
        for byte in bytes {
            write!(f, "{}", byte.escape_ascii())?;
        }
        write!(f, "\"")?;
    }
    write!(f, " {:?}", publish.delivery.qos())?;
    if let Some(id) = publish.delivery.id() {
        write!(f, " id={}", id.get())?;
    }
    if publish.delivery.is_dup() {
        f.write_str(" dup")?;
    }
    if publish.retain {
        f.write_str(" retain")?;
    }
    let properties = &publish.properties;
    if let Some(seconds) = properties.message_expiry_seconds {
        write!(f, " expires in {seconds} s")?;
    }
    for id in properties.subscription_ids.iter() {
        write!(f, " for {id}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::String;
    use alloc::vec;

    use paloma_topic::{Target, TopicName};

    use super::*;
    use crate::{
        Delivery, PacketId, ProtocolVersion, Qos, Secret, Subscribe, SubscribeFilter,
        SubscribeOptions, TopicAlias, Will,
    };

    fn id(number: u16) -> PacketId {
        PacketId::new(number).unwrap()
    }

    fn name(topic: &str) -> TopicName {
        TopicName::new(String::from(topic)).unwrap()
    }

    fn publish() -> Publish {
        let mut publish = Publish::new(name("a\n/b"), b"twelve\n bytes, and more"[..].into());
        publish.delivery = Delivery::ExactlyOnce {
            id: id(7),
            dup: true,
        };
        publish
    }

    fn check(packet: Packet, line: &str) {
        assert_eq!(format!("{packet}"), line);
    }

    #[test]
    fn names_are_escaped_and_payloads_are_a_length() {
        let mut packet = publish();
        packet.retain = true;
        packet.properties.message_expiry_seconds = Some(5);
        let packet = Packet::Publish(packet.into());
        let line = r#"PUBLISH "a\n/b" 23 bytes ExactlyOnce id=7 dup retain expires in 5 s"#;
        check(packet, line);
    }

    #[test]
    fn a_payload_is_shown_as_it_begins_if_that_is_asked_for() {
        let packet = Packet::Publish(publish().into());
        assert_eq!(
            format!("{packet:#}"),
            r#"PUBLISH "a\n/b" 23 bytes "twelve\n byte" ExactlyOnce id=7 dup"#
        );
    }

    #[test]
    fn aliases_are_told_from_names() {
        let alias = TopicAlias::new(3).unwrap();
        let mut packet = Publish::new(name("a"), bytes::Bytes::new());
        packet.topic = PublishTopic::Define {
            name: name("a"),
            alias,
        };
        let line = r#"PUBLISH "a" as alias 3 0 bytes AtMostOnce"#;
        check(Packet::Publish(packet.clone().into()), line);
        packet.topic = PublishTopic::Alias(alias);
        let line = "PUBLISH alias 3 0 bytes AtMostOnce";
        check(Packet::Publish(packet.into()), line);
    }

    #[test]
    fn secrets_are_not_shown() {
        let mut connect = Connect {
            version: ProtocolVersion::V3_1_1,
            client_id: "c\"1".into(),
            username: Some("ann".into()),
            password: Some(Secret::from("hush")),
            ..Connect::default()
        };
        let mut will = Will::new(name("will"), b"hush"[..].into());
        will.delay_seconds = 3;
        connect.will = Some(will);
        let line = r#"CONNECT "c\"1" MQTT 3.1.1 clean=true expiry=0 keep-alive=0 user="ann" will="will" after 3 s"#;
        check(Packet::Connect(connect.into()), line);
    }

    #[test]
    fn filters_are_named_with_what_was_asked() {
        let mut options = SubscribeOptions::new(Qos::AtLeastOnce);
        options.no_local = true;
        let target = Target::parse(String::from("$share/g/a/#")).unwrap();
        let filter = SubscribeFilter { target, options };
        let packet = Packet::Subscribe(Subscribe::new(id(2), vec![filter]));
        check(packet, r#"SUBSCRIBE 2 "$share/g/a/#" AtLeastOnce no-local"#);
        check(Packet::PingReq, "PINGREQ");
    }
}
