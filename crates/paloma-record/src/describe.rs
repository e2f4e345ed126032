//! Packets and effects in words, each in one line, for whoever follows a replay.

use std::fmt::{self, Write};

use paloma_broker::Effect;
use paloma_codec::{Connect, Packet, Publish, PublishTopic};
use paloma_session::Now;

/// Nanoseconds of the broker's clock as seconds.
pub(crate) struct Seconds(pub(crate) Now);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.monotonic.as_nanos();
        write!(
            f,
            "{}.{:06}",
            nanos / 1_000_000_000,
            nanos / 1_000 % 1_000_000
        )
    }
}

/// A packet; its payload as a length.
pub(crate) fn packet(packet: &Packet) -> String {
    match packet {
        Packet::Connect(connect) => describe_connect(connect),
        Packet::ConnAck(ack) => format!("CONNACK {:?} present={}", ack.reason, ack.session_present),
        Packet::Publish(publish) => describe_publish(publish),
        Packet::Subscribe(subscribe) => {
            let mut text = format!("SUBSCRIBE {}", subscribe.id.get());
            for filter in &subscribe.filters {
                add(
                    &mut text,
                    format_args!(" {:?} {:?}", filter.target.to_string(), filter.options.qos),
                );
                if filter.options.no_local {
                    text.push_str(" no-local");
                }
            }
            text
        }
        Packet::Unsubscribe(unsubscribe) => {
            let mut text = format!("UNSUBSCRIBE {}", unsubscribe.id.get());
            for filter in &unsubscribe.filters {
                add(&mut text, format_args!(" {:?}", filter.to_string()));
            }
            text
        }
        Packet::SubAck(ack) => format!("SUBACK {} {:?}", ack.id.get(), ack.reasons),
        Packet::UnsubAck(ack) => format!("UNSUBACK {} {:?}", ack.id.get(), ack.reasons),
        Packet::PubAck(ack) => format!("PUBACK {} {:?}", ack.id.get(), ack.reason),
        Packet::PubRec(ack) => format!("PUBREC {} {:?}", ack.id.get(), ack.reason),
        Packet::PubRel(ack) => format!("PUBREL {} {:?}", ack.id.get(), ack.reason),
        Packet::PubComp(ack) => format!("PUBCOMP {} {:?}", ack.id.get(), ack.reason),
        Packet::Disconnect(disconnect) => format!("DISCONNECT {:?}", disconnect.reason),
        Packet::Auth(auth) => format!("AUTH {:?}", auth.reason),
        Packet::PingReq | Packet::PingResp => packet.packet_type().to_string(),
    }
}

fn describe_connect(connect: &Connect) -> String {
    let mut text = format!(
        "CONNECT {:?} {} clean={} expiry={} keep-alive={}",
        &*connect.client_id,
        connect.version,
        connect.clean_start,
        connect.session_expiry_seconds,
        connect.keep_alive_seconds,
    );
    if let Some(user) = &connect.username {
        add(&mut text, format_args!(" user={:?}", &**user));
    }
    if let Some(will) = &connect.will {
        add(&mut text, format_args!(" will={:?}", will.topic.as_str()));
    }
    text
}

fn describe_publish(publish: &Publish) -> String {
    let mut text = match &publish.topic {
        PublishTopic::Name(name) => format!("PUBLISH {:?}", name.as_str()),
        PublishTopic::Alias(alias) => format!("PUBLISH alias {}", alias.get()),
        PublishTopic::Define { name, alias } => {
            format!("PUBLISH {:?} as alias {}", name.as_str(), alias.get())
        }
    };
    let bytes = publish.payload.len();
    add(
        &mut text,
        format_args!(" {bytes} bytes {:?}", publish.delivery.qos()),
    );
    if let Some(id) = publish.delivery.id() {
        add(&mut text, format_args!(" id={}", id.get()));
    }
    if publish.delivery.is_dup() {
        text.push_str(" dup");
    }
    if publish.retain {
        text.push_str(" retain");
    }
    if let Some(seconds) = publish.properties.message_expiry_seconds {
        add(&mut text, format_args!(" expires in {seconds} s"));
    }
    text
}

/// An effect, but for those that are told of in other ways.
pub(crate) fn effect(effect: &Effect) -> Option<String> {
    match effect {
        Effect::Transmit(_) => None,
        Effect::Resume(id) => Some(format!("{id:?} may be read again")),
        Effect::Close(id, cause) => Some(format!("{id:?} is to be closed: {cause}")),
        Effect::Authenticate(id, request) => {
            Some(format!("{id:?} who is {:?}?", &*request.client_id))
        }
        Effect::Persist(batch) => {
            let (number, count) = (batch.seq.0, batch.ops.len());
            Some(format!("store batch {number}: {count} changes"))
        }
        Effect::Load(request) => Some(format!(
            "load of session {}: {} entries after {}",
            request.session.0, request.count, request.after.0
        )),
    }
}

fn add(text: &mut String, part: fmt::Arguments<'_>) {
    // Writing into a string cannot fail.
    let _ = text.write_fmt(part);
}
