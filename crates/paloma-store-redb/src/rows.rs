//! The bodies of the records that have a row of their own.

use bytestring::ByteString;
use paloma_broker::store::{
    FanOutRecord, MessageId, Owner, RetainedRecord, SessionId, SessionRecord, SubscriptionRecord,
    WillRecord,
};
use paloma_broker::wire::{Damaged, Reader, put_bytes, put_number, put_option, put_text};
use paloma_codec::{Message, Qos, SubscriptionId};
use paloma_session::Wall;

pub(crate) fn put_session(out: &mut Vec<u8>, record: &SessionRecord) {
    put_owner(out, &record.owner);
    put_number(out, u64::from(record.expiry_seconds));
    put_option(out, record.disconnected_at, put_wall);
    put_number(out, record.maybe_sent.0);
}

pub(crate) fn session(body: &[u8]) -> Result<SessionRecord, Damaged> {
    let mut reader = Reader::new(body);
    let record = SessionRecord {
        owner: owner(&mut reader)?,
        expiry_seconds: reader.small()?,
        disconnected_at: reader.option(wall)?,
        maybe_sent: MessageId(reader.number()?),
    };
    reader.finish()?;
    Ok(record)
}

pub(crate) fn put_subscription(out: &mut Vec<u8>, record: &SubscriptionRecord) {
    out.push(record.options);
    put_number(out, record.id.map_or(0, |id| u64::from(id.get())));
    if let Some(after) = &record.replay_after {
        put_text(out, after);
    }
}

/// The filter is the record's key.
pub(crate) fn subscription(filter: &str, body: &[u8]) -> Result<SubscriptionRecord, Damaged> {
    let mut reader = Reader::new(body);
    let record = SubscriptionRecord {
        filter: ByteString::from(filter),
        options: reader.byte()?,
        id: match reader.small()? {
            0 => None,
            id => Some(SubscriptionId::new(id).ok_or(Damaged)?),
        },
        replay_after: match reader.is_empty() {
            true => None,
            false => Some(reader.text()?),
        },
    };
    reader.finish()?;
    Ok(record)
}

pub(crate) fn put_will(out: &mut Vec<u8>, record: &WillRecord) {
    out.push(record.qos.bits());
    out.push(u8::from(record.retain));
    put_number(out, u64::from(record.delay_seconds));
    put_option(out, record.due_at, put_wall);
    out.extend_from_slice(record.message.as_bytes());
}

pub(crate) fn will(body: &[u8]) -> Result<WillRecord, Damaged> {
    let mut reader = Reader::new(body);
    let qos = qos(reader.byte()?)?;
    let retain = reader.flag()?;
    let delay_seconds = reader.small()?;
    let due_at = reader.option(wall)?;
    Ok(WillRecord {
        message: message(reader.rest())?,
        qos,
        retain,
        delay_seconds,
        due_at,
    })
}

/// What is stored of a retained message beside the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RetainedRow {
    pub(crate) topic: ByteString,
    /// Length of the message.
    pub(crate) bytes: u32,
    pub(crate) qos: Qos,
    pub(crate) author: Option<Owner>,
}

pub(crate) fn put_retained(out: &mut Vec<u8>, record: &RetainedRecord) {
    put_bytes(out, record.message.topic_bytes());
    put_number(out, record.message.len() as u64);
    out.push(record.qos.bits());
    put_option(out, record.author.as_ref(), put_owner);
}

pub(crate) fn retained(body: &[u8]) -> Result<RetainedRow, Damaged> {
    let mut reader = Reader::new(body);
    let row = RetainedRow {
        topic: reader.text()?,
        bytes: reader.small()?,
        qos: qos(reader.byte()?)?,
        author: reader.option(owner)?,
    };
    reader.finish()?;
    Ok(row)
}

/// A fan-out, how far it has come, and the length of its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FanOutRow {
    pub(crate) record: FanOutRecord,
    pub(crate) after: Option<SessionId>,
    pub(crate) bytes: u32,
}

pub(crate) fn put_fan_out(out: &mut Vec<u8>, row: &FanOutRow) {
    let record = &row.record;
    out.push(record.qos.bits());
    out.push(u8::from(record.retain));
    put_option(out, record.origin, |out, id| put_number(out, id.0));
    put_number(out, record.sessions_until.0);
    put_option(out, row.after, |out, id| put_number(out, id.0));
    put_number(out, u64::from(row.bytes));
}

/// The message's number is the record's key.
pub(crate) fn fan_out(message: MessageId, body: &[u8]) -> Result<FanOutRow, Damaged> {
    let mut reader = Reader::new(body);
    let record = FanOutRecord {
        message,
        qos: qos(reader.byte()?)?,
        retain: reader.flag()?,
        origin: reader.option(|reader| reader.number().map(SessionId))?,
        sessions_until: SessionId(reader.number()?),
    };
    let row = FanOutRow {
        record,
        after: reader.option(|reader| reader.number().map(SessionId))?,
        bytes: reader.small()?,
    };
    reader.finish()?;
    Ok(row)
}

pub(crate) fn message(bytes: &[u8]) -> Result<Message, Damaged> {
    Message::from_bytes(bytes).map_err(|_| Damaged)
}

pub(crate) fn qos(bits: u8) -> Result<Qos, Damaged> {
    Qos::from_bits(bits).ok_or(Damaged)
}

pub(crate) fn put_wall(out: &mut Vec<u8>, wall: Wall) {
    put_number(out, wall.as_millis());
}

pub(crate) fn wall(reader: &mut Reader<'_>) -> Result<Wall, Damaged> {
    reader.number().map(Wall::from_millis)
}

pub(crate) fn put_owner(out: &mut Vec<u8>, owner: &Owner) {
    put_bytes(out, owner.client_id.as_bytes());
    put_option(out, owner.user.as_ref(), |out, user| {
        put_bytes(out, user.as_bytes());
    });
    out.push(u8::from(owner.has_own_rules));
}

pub(crate) fn owner(reader: &mut Reader<'_>) -> Result<Owner, Damaged> {
    Ok(Owner {
        client_id: reader.text()?,
        user: reader.option(Reader::text)?,
        has_own_rules: reader.flag()?,
    })
}
