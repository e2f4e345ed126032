//! Lines as JSON objects, one a line; what is bytes is base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use bytestring::ByteString;
use paloma_broker::store::{
    FanOutRecord, Mark, MessageId, Owner, QueueEntry, SessionId, SessionRecord, SubscriptionRecord,
    WillRecord,
};
use paloma_codec::{
    Message, MessageParts, PacketId, PayloadFormat, PublishProperties, Qos, SubscriptionId,
};
use paloma_session::Wall;
use paloma_topic::TopicName;
use serde_json::{Map, Value, json};

use super::dump::Line;
use super::import::Fault;
use crate::journal::Flight;

pub(super) fn to_json(line: &Line) -> Value {
    match line {
        Line::Mark(mark) => json!({
            "type": "mark", "message": mark.message.0, "session": mark.session.0,
            "wall": mark.wall.as_millis(),
        }),
        Line::Session(id, record) => json!({
            "type": "session", "session": id.0, "owner": owner_to_json(&record.owner),
            "expiry_seconds": record.expiry_seconds,
            "disconnected_at": record.disconnected_at.map(Wall::as_millis),
            "maybe_sent": record.maybe_sent.0,
        }),
        Line::Will(id, record) => json!({
            "type": "will", "session": id.0, "message": message_to_json(&record.message),
            "qos": record.qos.bits(), "retain": record.retain,
            "delay_seconds": record.delay_seconds, "due_at": record.due_at.map(Wall::as_millis),
        }),
        Line::Subscription(id, record) => json!({
            "type": "subscription", "session": id.0, "filter": &*record.filter,
            "options": record.options, "id": record.id.map(SubscriptionId::get),
            "replay_after": record.replay_after.as_deref(),
        }),
        Line::Received(id, packet) => json!({
            "type": "received", "session": id.0, "packet": packet.get(),
        }),
        Line::Message(message) => json!({
            "type": "message", "message": message_to_json(message),
        }),
        Line::Entry(id, entry, flight) => json!({
            "type": "entry", "session": id.0, "message": entry.message.0, "bytes": entry.bytes,
            "qos": entry.qos.bits(), "retain": entry.retain,
            "subscription_ids": entry.subscription_ids.iter().map(|id| id.get()).collect::<Vec<_>>(),
            "share": entry.share.as_deref(),
            "packet": flight.map(|flight| flight.packet.get()),
            "received": flight.is_some_and(|flight| flight.is_received),
        }),
        Line::Retained(qos, author) => json!({
            "type": "retained", "qos": qos.bits(), "author": author.as_ref().map(owner_to_json),
        }),
        Line::FanOut(record, after) => json!({
            "type": "fan_out", "message": record.message.0, "qos": record.qos.bits(),
            "retain": record.retain, "origin": record.origin.map(|id| id.0),
            "sessions_until": record.sessions_until.0, "after": after.map(|id| id.0),
        }),
    }
}

fn owner_to_json(owner: &Owner) -> Value {
    json!({
        "client_id": &*owner.client_id, "user": owner.user.as_deref(),
        "has_own_rules": owner.has_own_rules,
    })
}

fn message_to_json(message: &Message) -> Value {
    let properties = message.properties();
    let user: Vec<_> = properties.user_properties().collect();
    json!({
        "id": message.id(), "stamp": message.stamp(), "topic": message.topic().as_str(),
        "expiry_seconds": message.expiry_seconds(),
        "is_utf8": properties.payload_format() == PayloadFormat::Utf8,
        "content_type": properties.content_type(),
        "response_topic": properties.response_topic().map(|topic| topic.as_str().to_owned()),
        "correlation_data": properties.correlation_data().map(|data| STANDARD.encode(data)),
        "user_properties": user,
        "payload": STANDARD.encode(message.payload()),
    })
}

/// Reads one object.
pub(super) fn from_json(value: &Value) -> Result<Line, Fault> {
    let fields = Fields::of(value)?;
    Ok(match fields.text("type")? {
        "mark" => Line::Mark(Mark {
            message: MessageId(fields.number("message")?),
            session: SessionId(fields.number("session")?),
            wall: Wall::from_millis(fields.number("wall")?),
        }),
        "session" => Line::Session(
            fields.session()?,
            SessionRecord {
                owner: owner(&fields.object("owner")?)?,
                expiry_seconds: fields.number("expiry_seconds")?,
                disconnected_at: fields.optional("disconnected_at")?.map(Wall::from_millis),
                maybe_sent: MessageId(fields.number("maybe_sent")?),
            },
        ),
        "will" => Line::Will(
            fields.session()?,
            WillRecord {
                message: message(&fields.object("message")?)?,
                qos: fields.qos()?,
                retain: fields.flag("retain")?,
                delay_seconds: fields.number("delay_seconds")?,
                due_at: fields.optional("due_at")?.map(Wall::from_millis),
            },
        ),
        "subscription" => Line::Subscription(
            fields.session()?,
            SubscriptionRecord {
                filter: fields.text("filter")?.into(),
                options: fields.number("options")?,
                id: match fields.optional("id")? {
                    Some(id) => Some(SubscriptionId::new(id).ok_or(Fault::Field("id"))?),
                    None => None,
                },
                // Exports of earlier versions have none.
                replay_after: match fields.0.contains_key("replay_after") {
                    true => fields.maybe_text("replay_after")?.map(ByteString::from),
                    false => None,
                },
            },
        ),
        "received" => {
            let packet = PacketId::new(fields.number("packet")?).ok_or(Fault::Field("packet"))?;
            Line::Received(fields.session()?, packet)
        }
        "message" => Line::Message(message(&fields.object("message")?)?),
        "entry" => entry(&fields)?,
        "retained" => Line::Retained(
            fields.qos()?,
            match fields.maybe("author")? {
                Some(author) => Some(owner(&Fields::of(author)?)?),
                None => None,
            },
        ),
        "fan_out" => Line::FanOut(
            FanOutRecord {
                message: MessageId(fields.number("message")?),
                qos: fields.qos()?,
                retain: fields.flag("retain")?,
                origin: fields.optional("origin")?.map(SessionId),
                sessions_until: SessionId(fields.number("sessions_until")?),
            },
            fields.optional("after")?.map(SessionId),
        ),
        _ => return Err(Fault::Field("type")),
    })
}

fn entry(fields: &Fields<'_>) -> Result<Line, Fault> {
    let mut subscription_ids = Vec::new();
    for id in fields.list("subscription_ids")? {
        let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
        let id = id.and_then(SubscriptionId::new);
        subscription_ids.push(id.ok_or(Fault::Field("subscription_ids"))?);
    }
    let is_received = fields.flag("received")?;
    let flight = match fields.optional("packet")? {
        Some(packet) => Some(Flight {
            packet: PacketId::new(packet).ok_or(Fault::Field("packet"))?,
            is_received,
        }),
        None => None,
    };
    let entry = QueueEntry {
        message: MessageId(fields.number("message")?),
        bytes: fields.number("bytes")?,
        qos: fields.qos()?,
        retain: fields.flag("retain")?,
        subscription_ids,
        share: fields.maybe_text("share")?.map(ByteString::from),
    };
    Ok(Line::Entry(fields.session()?, entry, flight))
}

fn owner(fields: &Fields<'_>) -> Result<Owner, Fault> {
    Ok(Owner {
        client_id: fields.text("client_id")?.into(),
        user: fields.maybe_text("user")?.map(ByteString::from),
        has_own_rules: fields.flag("has_own_rules")?,
    })
}

fn message(fields: &Fields<'_>) -> Result<Message, Fault> {
    let topic = |name| {
        let text = fields.maybe_text(name)?;
        text.map(|text| TopicName::new(ByteString::from(text)).map_err(|_| Fault::Field(name)))
            .transpose()
    };
    let mut properties = PublishProperties {
        message_expiry_seconds: fields.optional("expiry_seconds")?,
        content_type: fields.maybe_text("content_type")?.map(ByteString::from),
        response_topic: topic("response_topic")?,
        correlation_data: fields.maybe_bytes("correlation_data")?.map(Bytes::from),
        ..PublishProperties::default()
    };
    if fields.flag("is_utf8")? {
        properties.payload_format = PayloadFormat::Utf8;
    }
    for pair in fields.list("user_properties")? {
        let text = |at| pair.get(at).and_then(Value::as_str);
        let (Some(name), Some(value)) = (text(0), text(1)) else {
            return Err(Fault::Field("user_properties"));
        };
        let pushed = properties.user_properties.push(name, value);
        pushed.map_err(|_| Fault::Field("user_properties"))?;
    }
    let topic = topic("topic")?.ok_or(Fault::Field("topic"))?;
    let payload = fields.maybe_bytes("payload")?;
    let parts = MessageParts {
        id: fields.number("id")?,
        stamp: fields.number("stamp")?,
        topic: topic.borrowed(),
        properties: &properties,
        payload: &payload.ok_or(Fault::Field("payload"))?,
    };
    Message::new(&parts, &mut Vec::new()).map_err(|_| Fault::Field("message"))
}

/// The fields of an object, by name.
struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    fn of(value: &'a Value) -> Result<Self, Fault> {
        value.as_object().map(Self).ok_or(Fault::NoObject)
    }

    fn maybe(&self, name: &'static str) -> Result<Option<&'a Value>, Fault> {
        let value = self.0.get(name).ok_or(Fault::Field(name))?;
        Ok(Some(value).filter(|value| !value.is_null()))
    }

    fn optional<T: TryFrom<u64>>(&self, name: &'static str) -> Result<Option<T>, Fault> {
        let Some(value) = self.maybe(name)? else {
            return Ok(None);
        };
        let number = value.as_u64().and_then(|number| T::try_from(number).ok());
        number.map(Some).ok_or(Fault::Field(name))
    }

    fn number<T: TryFrom<u64>>(&self, name: &'static str) -> Result<T, Fault> {
        self.optional(name)?.ok_or(Fault::Field(name))
    }

    fn session(&self) -> Result<SessionId, Fault> {
        self.number("session").map(SessionId)
    }

    fn qos(&self) -> Result<Qos, Fault> {
        Qos::from_bits(self.number("qos")?).ok_or(Fault::Field("qos"))
    }

    fn flag(&self, name: &'static str) -> Result<bool, Fault> {
        let value = self.maybe(name)?.and_then(Value::as_bool);
        value.ok_or(Fault::Field(name))
    }

    fn maybe_text(&self, name: &'static str) -> Result<Option<&'a str>, Fault> {
        let Some(value) = self.maybe(name)? else {
            return Ok(None);
        };
        value.as_str().map(Some).ok_or(Fault::Field(name))
    }

    fn text(&self, name: &'static str) -> Result<&'a str, Fault> {
        self.maybe_text(name)?.ok_or(Fault::Field(name))
    }

    fn maybe_bytes(&self, name: &'static str) -> Result<Option<Vec<u8>>, Fault> {
        let Some(text) = self.maybe_text(name)? else {
            return Ok(None);
        };
        let bytes = STANDARD.decode(text);
        bytes.map(Some).map_err(|_| Fault::Field(name))
    }

    fn list(&self, name: &'static str) -> Result<&'a [Value], Fault> {
        let list = self.maybe(name)?.and_then(Value::as_array);
        list.map(Vec::as_slice).ok_or(Fault::Field(name))
    }

    fn object(&self, name: &'static str) -> Result<Self, Fault> {
        self.maybe(name)?.map_or(Err(Fault::Field(name)), Self::of)
    }
}
