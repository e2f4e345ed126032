//! What happened, as a hash, and as lines for whoever wants to read them.

use std::fmt::{self, Write};

use paloma_codec::{Connect, Packet, Publish, PublishTopic};

const OFFSET: u64 = 0xCBF2_9CE4_8422_2325;
const PRIME: u64 = 0x0100_0000_01B3;

/// Collects what happens in a world.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    lines: Option<Vec<String>>,
}

impl Trace {
    pub(crate) fn new(wants_lines: bool) -> Self {
        Self {
            hash: OFFSET,
            lines: wants_lines.then(Vec::new),
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }

    /// Mixes in something that happened at a time.
    pub(crate) fn mix(&mut self, at: u64, kind: u8, who: usize, bytes: &[u8]) {
        let head = at.to_le_bytes();
        let who = (who as u64).to_le_bytes();
        for byte in head.iter().chain([&kind]).chain(&who).chain(bytes) {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(PRIME);
        }
    }

    /// Adds a line if anybody reads them.
    pub(crate) fn line(&mut self, at: u64, text: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{} {}", Seconds(at), text()));
        }
    }
}

/// Nanoseconds as seconds.
pub(crate) struct Seconds(pub(crate) u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>6}.{:06}",
            self.0 / 1_000_000_000,
            self.0 / 1_000 % 1_000_000
        )
    }
}

/// A packet in one line, payloads cut short.
pub(crate) fn describe(packet: &Packet) -> String {
    match packet {
        Packet::Publish(publish) => describe_publish(publish),
        Packet::Connect(connect) => describe_connect(connect),
        Packet::ConnAck(ack) => {
            format!("CONNACK {:?} present={}", ack.reason, ack.session_present)
        }
        Packet::Subscribe(subscribe) => {
            let filters = subscribe.filters.iter();
            let filters: Vec<_> = filters
                .map(|filter| format!("{} {:?}", filter.target, filter.options.qos))
                .collect();
            format!("SUBSCRIBE {} {}", subscribe.id.get(), filters.join(", "))
        }
        Packet::Unsubscribe(unsubscribe) => {
            let filters: Vec<_> = unsubscribe
                .filters
                .iter()
                .map(ToString::to_string)
                .collect();
            format!(
                "UNSUBSCRIBE {} {}",
                unsubscribe.id.get(),
                filters.join(", ")
            )
        }
        Packet::SubAck(ack) => format!("SUBACK {} {:?}", ack.id.get(), ack.reasons),
        Packet::UnsubAck(ack) => format!("UNSUBACK {} {:?}", ack.id.get(), ack.reasons),
        Packet::PubAck(ack) => format!("PUBACK {} {:?}", ack.id.get(), ack.reason),
        Packet::PubRec(ack) => format!("PUBREC {} {:?}", ack.id.get(), ack.reason),
        Packet::PubRel(ack) => format!("PUBREL {} {:?}", ack.id.get(), ack.reason),
        Packet::PubComp(ack) => format!("PUBCOMP {} {:?}", ack.id.get(), ack.reason),
        Packet::Disconnect(disconnect) => format!("DISCONNECT {:?}", disconnect.reason),
        Packet::PingReq | Packet::PingResp | Packet::Auth(_) => packet.packet_type().to_string(),
    }
}

fn describe_connect(connect: &Connect) -> String {
    let will = connect.will.as_ref();
    let will = will.map_or_else(String::new, |will| {
        format!(" will={} delay={}", will.topic.as_str(), will.delay_seconds)
    });
    format!(
        "CONNECT {} {:?} clean={} expiry={} keep-alive={} receive-maximum={}{will}",
        connect.client_id,
        connect.version,
        connect.clean_start,
        connect.session_expiry_seconds,
        connect.keep_alive_seconds,
        connect.receive_maximum.get(),
    )
}

fn describe_publish(publish: &Publish) -> String {
    let topic = match &publish.topic {
        PublishTopic::Name(name) => name.as_str().to_owned(),
        PublishTopic::Alias(alias) => format!("alias {}", alias.get()),
        PublishTopic::Define { name, alias } => {
            format!("{} as alias {}", name.as_str(), alias.get())
        }
    };
    let payload = String::from_utf8_lossy(&publish.payload);
    let head: String = payload.chars().take(12).collect();
    let mut text = format!("PUBLISH {topic} {head:?} {:?}", publish.delivery);
    if publish.retain {
        text.push_str(" retain");
    }
    // Writing to a string does not fail.
    if let Some(seconds) = publish.properties.message_expiry_seconds {
        let _ = write!(text, " expires in {seconds} s");
    }
    let ids = &publish.properties.subscription_ids;
    if !ids.is_empty() {
        let ids: Vec<u32> = ids.iter().map(|id| id.get()).collect();
        let _ = write!(text, " ids {ids:?}");
    }
    text
}
