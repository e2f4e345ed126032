//! What is not a packet: what a broker starts with, where a connection comes from, what authenticator and store say.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use paloma_broker::store::{
    FanOutRecord, FlightRecord, FlightState, Loaded, Loss, Mark, MessageId, Owner, QueueEntry,
    QueueSummary, Recovered, RetainedRecord, SessionId, SessionRecord, SubscriptionRecord,
    WillRecord,
};
use paloma_broker::wire::{Damaged, Reader, put_bytes, put_number, put_option, put_text};
use paloma_broker::{
    AuthOutcome, BrokerConfig, ConnectionInfo, Identity, Limits, ListenerTerms, MountPoint,
    Transport,
};
use paloma_codec::{ConnAckReason, PacketId, ProtocolVersion, Qos, Secret, SubscriptionId};
use paloma_session::{Monotonic, Wall};

use crate::recorder::Settings;
use crate::redact::{put_message, put_secret, read_message, read_secret};

/// What a broker was made with, and by which version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) version: ByteString,
    pub(crate) seed: Option<[u8; 32]>,
    pub(crate) limits: Limits,
    pub(crate) upgrade_outgoing_qos: bool,
    pub(crate) check_retain_source: bool,
    pub(crate) client_id_prefix: ByteString,
    pub(crate) allow_empty_client_id: bool,
    pub(crate) sys_interval_seconds: u32,
    pub(crate) transmit_bytes: usize,
    pub(crate) large_bytes_min: usize,
}

pub(crate) fn put_start(out: &mut Vec<u8>, config: &BrokerConfig, settings: &Settings) {
    put_text(out, env!("CARGO_PKG_VERSION"));
    let seed = settings.with_secrets.then_some(config.seed);
    put_option(out, seed, |out, seed| out.extend_from_slice(&seed));
    put_limits(out, &config.limits);
    out.push(config.behaviour.upgrade_outgoing_qos.into());
    out.push(config.behaviour.check_retain_source.into());
    put_text(out, &config.client_id_prefix);
    out.push(config.allow_empty_client_id.into());
    put_number(out, config.sys_interval_seconds.into());
    put_number(out, settings.transmit_bytes as u64);
    put_number(out, settings.large_bytes_min as u64);
}

pub(crate) fn read_start(reader: &mut Reader<'_>) -> Result<Start, Damaged> {
    Ok(Start {
        version: reader.text()?,
        seed: reader.option(Reader::array)?,
        limits: read_limits(reader)?,
        upgrade_outgoing_qos: reader.flag()?,
        check_retain_source: reader.flag()?,
        client_id_prefix: reader.text()?,
        allow_empty_client_id: reader.flag()?,
        sys_interval_seconds: reader.small()?,
        transmit_bytes: reader.small()?,
        large_bytes_min: reader.small()?,
    })
}

impl Start {
    pub(crate) fn config(&self) -> BrokerConfig {
        let mut config = BrokerConfig::new(self.seed.unwrap_or_default());
        config.limits = self.limits.clone();
        config.behaviour.upgrade_outgoing_qos = self.upgrade_outgoing_qos;
        config.behaviour.check_retain_source = self.check_retain_source;
        config.client_id_prefix = self.client_id_prefix.to_string();
        config.allow_empty_client_id = self.allow_empty_client_id;
        config.sys_interval_seconds = self.sys_interval_seconds;
        config
    }
}

/// By their names, so that a record outlives limits that come and go.
pub(crate) fn put_limits(out: &mut Vec<u8>, limits: &Limits) {
    let mut numbers = Vec::new();
    limits
        .clone()
        .visit(&mut |name, number| numbers.push((name, *number)));
    put_number(out, numbers.len() as u64);
    for (name, number) in numbers {
        put_text(out, name);
        put_number(out, number);
    }
}

pub(crate) fn read_limits(reader: &mut Reader<'_>) -> Result<Limits, Damaged> {
    let read = reader.list(|reader| Ok((reader.text()?, reader.number()?)))?;
    let mut limits = Limits::default();
    limits.visit(&mut |name, number| {
        if let Some((_, value)) = read.iter().find(|(known, _)| known == name) {
            *number = *value;
        }
    });
    Ok(limits)
}

pub(crate) fn put_address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => put_bytes(out, &address.octets()),
        IpAddr::V6(address) => put_bytes(out, &address.octets()),
    }
}

pub(crate) fn read_address(reader: &mut Reader<'_>) -> Result<IpAddr, Damaged> {
    let bytes = reader.bytes()?;
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return Ok(octets.into());
    }
    <[u8; 16]>::try_from(bytes)
        .map(IpAddr::from)
        .map_err(|_| Damaged)
}

pub(crate) fn version_of(level: u8) -> Result<ProtocolVersion, Damaged> {
    match level {
        3 => Ok(ProtocolVersion::V3_1),
        4 => Ok(ProtocolVersion::V3_1_1),
        5 => Ok(ProtocolVersion::V5),
        _ => Err(Damaged),
    }
}

pub(crate) fn put_info(out: &mut Vec<u8>, info: &ConnectionInfo) {
    put_option(out, info.address, put_address);
    put_number(out, info.listener.into());
    put_option(out, info.terms.as_deref(), |out, terms| {
        put_number(out, terms.versions.len() as u64);
        out.extend(terms.versions.iter().map(|version| version.level()));
        let mount = terms.mount_point.as_str();
        let has_mount = u8::from(!mount.is_empty()) << 1;
        out.push(u8::from(terms.allow_empty_client_id) | has_mount);
        put_text(out, &terms.client_id_prefix);
        if has_mount != 0 {
            put_text(out, mount);
        }
    });
    out.push(info.transport as u8);
    put_option(out, info.certificate_name.as_deref(), put_text);
    let accepted = info.accepted_at.map(Monotonic::as_nanos);
    put_option(out, accepted, put_number);
}

pub(crate) fn read_info(reader: &mut Reader<'_>) -> Result<ConnectionInfo, Damaged> {
    let address = reader.option(read_address)?;
    let listener = reader.small()?;
    let terms = reader.option(|reader| {
        let versions = reader.list(|reader| version_of(reader.byte()?))?;
        let flags = reader.byte()?;
        let client_id_prefix = reader.text()?.to_string();
        let mount_point = if flags & 2 == 0 {
            MountPoint::default()
        } else {
            MountPoint::new(&reader.text()?).map_err(|_| Damaged)?
        };
        Ok(Arc::new(ListenerTerms {
            versions,
            allow_empty_client_id: flags & 1 != 0,
            client_id_prefix,
            mount_point,
        }))
    })?;
    let transport = Transport::ALL.get(usize::from(reader.byte()?));
    Ok(ConnectionInfo {
        address,
        listener,
        terms,
        transport: *transport.ok_or(Damaged)?,
        certificate_name: reader.option(Reader::text)?,
        accepted_at: reader.option(Reader::number)?.map(Monotonic::from_nanos),
    })
}

/// What an authenticator said; rules of the client's own by their number.
#[derive(Debug)]
pub(crate) enum Outcome {
    Allow {
        identity: Identity,
        rules: Option<u64>,
        valid_for: Option<Duration>,
        data: Option<Secret>,
    },
    Deny(ConnAckReason),
    Continue(Secret),
}

pub(crate) fn put_outcome(
    out: &mut Vec<u8>,
    outcome: &AuthOutcome,
    rules: Option<u64>,
    with_secrets: bool,
) {
    match outcome {
        AuthOutcome::Allow(admission) => {
            out.push(0);
            put_option(out, admission.identity.user.as_deref(), put_text);
            put_option(out, rules, put_number);
            let nanos = admission.valid_for.map(|span| span.as_nanos());
            let nanos = nanos.map(|nanos| u64::try_from(nanos).unwrap_or(u64::MAX));
            put_option(out, nanos, put_number);
            put_option(out, admission.data.as_ref(), |out, data| {
                put_secret(out, data, with_secrets);
            });
        }
        AuthOutcome::Deny(reason) => out.extend_from_slice(&[1, reason.code()]),
        AuthOutcome::Continue(data) => {
            out.push(2);
            put_secret(out, data, with_secrets);
        }
    }
}

pub(crate) fn read_outcome(reader: &mut Reader<'_>) -> Result<Outcome, Damaged> {
    Ok(match reader.byte()? {
        0 => Outcome::Allow {
            identity: Identity {
                user: reader.option(Reader::text)?,
            },
            rules: reader.option(Reader::number)?,
            valid_for: reader.option(Reader::number)?.map(Duration::from_nanos),
            data: reader.option(read_secret)?,
        },
        1 => Outcome::Deny(ConnAckReason::from_code(reader.byte()?).ok_or(Damaged)?),
        2 => Outcome::Continue(read_secret(reader)?),
        _ => return Err(Damaged),
    })
}

pub(crate) fn put_loaded(out: &mut Vec<u8>, loaded: &Loaded, with_secrets: bool) {
    put_number(out, loaded.session.0);
    put_number(out, loaded.entries.len() as u64);
    for (entry, message) in &loaded.entries {
        put_entry(out, entry);
        put_message(out, message, with_secrets);
    }
}

pub(crate) fn read_loaded(reader: &mut Reader<'_>) -> Result<Loaded, Damaged> {
    Ok(Loaded {
        session: SessionId(reader.number()?),
        entries: reader.list(|reader| Ok((read_entry(reader)?, read_message(reader)?)))?,
    })
}

fn put_entry(out: &mut Vec<u8>, entry: &QueueEntry) {
    put_number(out, entry.message.0);
    put_number(out, entry.bytes.into());
    out.push(entry.qos.bits());
    out.push(entry.retain.into());
    put_number(out, entry.subscription_ids.len() as u64);
    for id in &entry.subscription_ids {
        put_number(out, id.get().into());
    }
    put_option(out, entry.share.as_deref(), put_text);
}

fn read_entry(reader: &mut Reader<'_>) -> Result<QueueEntry, Damaged> {
    Ok(QueueEntry {
        message: MessageId(reader.number()?),
        bytes: reader.small()?,
        qos: read_qos(reader)?,
        retain: reader.flag()?,
        subscription_ids: reader.list(read_subscription_id)?,
        share: reader.option(Reader::text)?,
    })
}

fn read_qos(reader: &mut Reader<'_>) -> Result<Qos, Damaged> {
    Qos::from_bits(reader.byte()?).ok_or(Damaged)
}

fn read_subscription_id(reader: &mut Reader<'_>) -> Result<SubscriptionId, Damaged> {
    SubscriptionId::new(reader.small()?).ok_or(Damaged)
}

fn read_packet_id(reader: &mut Reader<'_>) -> Result<PacketId, Damaged> {
    PacketId::new(reader.small()?).ok_or(Damaged)
}

fn put_owner(out: &mut Vec<u8>, owner: &Owner) {
    put_text(out, &owner.client_id);
    put_option(out, owner.user.as_deref(), put_text);
    out.push(owner.has_own_rules.into());
}

fn read_owner(reader: &mut Reader<'_>) -> Result<Owner, Damaged> {
    Ok(Owner {
        client_id: reader.text()?,
        user: reader.option(Reader::text)?,
        has_own_rules: reader.flag()?,
    })
}

fn put_wall(out: &mut Vec<u8>, wall: Wall) {
    put_number(out, wall.as_millis());
}

fn read_wall(reader: &mut Reader<'_>) -> Result<Wall, Damaged> {
    reader.number().map(Wall::from_millis)
}

pub(crate) fn put_recovered(out: &mut Vec<u8>, recovered: &Recovered, with_secrets: bool) {
    match recovered {
        Recovered::Mark(mark) => {
            out.push(0);
            put_number(out, mark.message.0);
            put_number(out, mark.session.0);
            put_wall(out, mark.wall);
        }
        Recovered::Session(id, record) => {
            out.push(1);
            put_number(out, id.0);
            put_owner(out, &record.owner);
            put_number(out, record.expiry_seconds.into());
            put_option(out, record.disconnected_at, put_wall);
            put_number(out, record.maybe_sent.0);
        }
        Recovered::Will(id, record) => {
            out.push(2);
            put_number(out, id.0);
            put_will(out, record, with_secrets);
        }
        Recovered::Subscription(id, record) => put_subscription(out, *id, record),
        Recovered::Received(id, packet) => {
            out.push(4);
            put_number(out, id.0);
            put_number(out, packet.get().into());
        }
        Recovered::Flight(id, record) => {
            out.push(5);
            put_number(out, id.0);
            put_flight(out, record, with_secrets);
        }
        Recovered::Queue(id, summary) => {
            out.push(6);
            put_number(out, id.0);
            let QueueSummary {
                count,
                bytes,
                first,
                last,
            } = *summary;
            for number in [count, bytes, first.0, last.0] {
                put_number(out, number);
            }
        }
        Recovered::Retained(record) => {
            out.push(7);
            put_message(out, &record.message, with_secrets);
            out.push(record.qos.bits());
            put_option(out, record.author.as_ref(), put_owner);
        }
        Recovered::FanOut(record, message, after) => {
            out.push(8);
            put_fan_out(out, record);
            put_message(out, message, with_secrets);
            put_option(out, after.map(|session| session.0), put_number);
        }
        Recovered::Lost(loss) => {
            out.push(9);
            put_number(out, loss.count);
        }
    }
}

fn put_will(out: &mut Vec<u8>, record: &WillRecord, with_secrets: bool) {
    put_message(out, &record.message, with_secrets);
    out.extend_from_slice(&[record.qos.bits(), record.retain.into()]);
    put_number(out, record.delay_seconds.into());
    put_option(out, record.due_at, put_wall);
}

/// One with retained messages on their way is of a kind of its own, which earlier records do not have.
fn put_subscription(out: &mut Vec<u8>, id: SessionId, record: &SubscriptionRecord) {
    out.push(if record.replay_after.is_some() { 10 } else { 3 });
    put_number(out, id.0);
    put_text(out, &record.filter);
    out.push(record.options);
    put_option(out, record.id, |out, id| put_number(out, id.get().into()));
    if let Some(after) = &record.replay_after {
        put_text(out, after);
    }
}

fn put_flight(out: &mut Vec<u8>, record: &FlightRecord, with_secrets: bool) {
    put_number(out, record.packet.get().into());
    put_entry(out, &record.entry);
    let message = match &record.state {
        FlightState::Assigned(message) => Some(message),
        FlightState::Received => None,
    };
    put_option(out, message, |out, message| {
        put_message(out, message, with_secrets);
    });
}

fn put_fan_out(out: &mut Vec<u8>, record: &FanOutRecord) {
    put_number(out, record.message.0);
    out.extend_from_slice(&[record.qos.bits(), record.retain.into()]);
    put_option(out, record.origin.map(|session| session.0), put_number);
    put_number(out, record.sessions_until.0);
}

pub(crate) fn read_recovered(reader: &mut Reader<'_>) -> Result<Recovered, Damaged> {
    let kind = reader.byte()?;
    if let 1..=6 | 10 = kind {
        let id = SessionId(reader.number()?);
        return read_of_session(kind, id, reader);
    }
    Ok(match kind {
        0 => Recovered::Mark(Mark {
            message: MessageId(reader.number()?),
            session: SessionId(reader.number()?),
            wall: read_wall(reader)?,
        }),
        7 => Recovered::Retained(RetainedRecord {
            message: read_message(reader)?,
            qos: read_qos(reader)?,
            author: reader.option(read_owner)?,
        }),
        8 => {
            let record = FanOutRecord {
                message: MessageId(reader.number()?),
                qos: read_qos(reader)?,
                retain: reader.flag()?,
                origin: reader.option(Reader::number)?.map(SessionId),
                sessions_until: SessionId(reader.number()?),
            };
            let message = read_message(reader)?;
            let after = reader.option(Reader::number)?.map(SessionId);
            Recovered::FanOut(record, message, after)
        }
        9 => Recovered::Lost(Loss {
            what: "records",
            count: reader.number()?,
        }),
        _ => return Err(Damaged),
    })
}

fn read_of_session(kind: u8, id: SessionId, reader: &mut Reader<'_>) -> Result<Recovered, Damaged> {
    Ok(match kind {
        1 => Recovered::Session(
            id,
            SessionRecord {
                owner: read_owner(reader)?,
                expiry_seconds: reader.small()?,
                disconnected_at: reader.option(read_wall)?,
                maybe_sent: MessageId(reader.number()?),
            },
        ),
        2 => Recovered::Will(
            id,
            WillRecord {
                message: read_message(reader)?,
                qos: read_qos(reader)?,
                retain: reader.flag()?,
                delay_seconds: reader.small()?,
                due_at: reader.option(read_wall)?,
            },
        ),
        3 | 10 => Recovered::Subscription(
            id,
            SubscriptionRecord {
                filter: reader.text()?,
                options: reader.byte()?,
                id: reader.option(read_subscription_id)?,
                replay_after: (kind == 10).then(|| reader.text()).transpose()?,
            },
        ),
        4 => Recovered::Received(id, read_packet_id(reader)?),
        5 => {
            let packet = read_packet_id(reader)?;
            let entry = read_entry(reader)?;
            let message = reader.option(read_message)?;
            let state = message.map_or(FlightState::Received, FlightState::Assigned);
            let record = FlightRecord {
                packet,
                entry,
                state,
            };
            Recovered::Flight(id, record)
        }
        _ => Recovered::Queue(
            id,
            QueueSummary {
                count: reader.number()?,
                bytes: reader.number()?,
                first: MessageId(reader.number()?),
                last: MessageId(reader.number()?),
            },
        ),
    })
}
