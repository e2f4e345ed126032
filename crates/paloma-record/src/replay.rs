//! Driving a core with what another one took in.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use paloma_broker::store::{
    Committed, LoadRequest, Loaded, Recovered, Store, StoreBatch, StoreError,
};
use paloma_broker::wire::Reader;
use paloma_broker::{
    Admission, AuthOutcome, Authorizer, Broker, ConnectionId, Explanation, Reply, TraceEvent,
    TraceId, TraceTarget,
};
use paloma_codec::{DecodeLimits, Decoder, ProtocolVersion, frame_len};
use paloma_session::{Now, Transmit};
use paloma_topic::TopicNameRef;

use crate::describe::{self, Seconds};
use crate::digest::Digest;
use crate::error::{RecordError, ReplayError};
use crate::event::{Event, Scan};
use crate::file::Blocks;
use crate::recorder::Ended;
use crate::redact::Frame;
use crate::rules::{Played, Script};
use crate::state::{Outcome, Start};

/// A core that takes in what a record has, step by step.
#[derive(Debug)]
pub struct Replay<'a> {
    blocks: Blocks<'a>,
    /// Where the block that is read begins, its length, and what is left of it.
    block: (u64, usize, Reader<'a>),
    scan: Scan<'a>,
    version: String,
    broker: Broker,
    script: Arc<Script>,
    /// Rules of single clients, by their numbers.
    rules: BTreeMap<u64, Arc<dyn Authorizer>>,
    /// What reads each connection, and the client's end of it.
    decoders: BTreeMap<ConnectionId, (Decoder, Option<Decoder>)>,
    transmit: Transmit,
    digest: Digest,
    step: u64,
    /// Hashes that were compared.
    checks: u64,
    ended: Option<Ended>,
    watched: Option<TraceId>,
    told: Vec<String>,
}

/// What one input did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Step {
    /// Its number; the first is 1.
    pub number: u64,
    /// What came, and what the core gave out because of it, in lines. Names in them are escaped.
    pub lines: Vec<String>,
}

/// A store that gives back what the record has.
#[derive(Debug)]
struct Given(Vec<Recovered>);

impl Store for Given {
    fn recover(&mut self, each: &mut dyn FnMut(Recovered)) -> Result<(), StoreError> {
        std::mem::take(&mut self.0).into_iter().for_each(each);
        Ok(())
    }

    fn commit(&mut self, _: &mut Vec<StoreBatch>) -> Result<Committed, StoreError> {
        Err(StoreError::Corrupt("a record takes nothing"))
    }

    fn read_queue(&mut self, _: &LoadRequest) -> Result<Loaded, StoreError> {
        Err(StoreError::Corrupt("a record is not read from"))
    }
}

impl<'a> Replay<'a> {
    /// Makes the core that the record begins with.
    ///
    /// # Errors
    /// That is not a record, or it is damaged before the first step.
    pub fn new(record: &'a [u8]) -> Result<Self, ReplayError> {
        let mut source = Source {
            blocks: Blocks::new(record)?,
            block: (0, 0, Reader::new(&[])),
            scan: Scan::default(),
        };
        let script = Arc::new(Script::default());
        let (start, recovered) = source.read_start(&script)?;
        let mut config = start.config();
        config.authorizer = Arc::new(Played::new(&script));
        let now = source.scan.now;
        let made = catch_unwind(AssertUnwindSafe(|| {
            Broker::recover(config, now, &mut Given(recovered))
        }));
        let made = made.map_err(|_| ReplayError::Panicked { step: 0 })?;
        let (broker, _) = made.map_err(|_| RecordError::Damaged { offset: 0 })?;
        if !script.is_kept() {
            return Err(ReplayError::Rules { step: 0 });
        }
        Ok(Self {
            blocks: source.blocks,
            block: source.block,
            scan: source.scan,
            version: start.version.to_string(),
            broker,
            script,
            rules: BTreeMap::new(),
            decoders: BTreeMap::new(),
            transmit: Transmit::new(start.transmit_bytes, start.large_bytes_min),
            digest: Digest::default(),
            step: 0,
            checks: 0,
            ended: None,
            watched: None,
            told: Vec::new(),
        })
    }

    /// Takes the next step; `None` at the end of the record.
    ///
    /// # Errors
    /// The record cannot be read on, or this core does not what the recorded one did. There is no next step then.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "what belongs to inputs is named, and all others are inputs"
    )]
    pub fn step(&mut self) -> Result<Option<Step>, ReplayError> {
        loop {
            let Some((offset, event)) = self.next_event()? else {
                return Ok(None);
            };
            match event {
                Event::Check(recorded) => self.compare(recorded)?,
                Event::Random(numbers) => self.broker.give_random(numbers),
                Event::Outside(bytes) => self.broker.set_outside_bytes(bytes),
                Event::End(ended) => self.ended = Some(ended),
                Event::Start(_) | Event::Recovered(_) | Event::Ready | Event::Answer(_) => {
                    return Err(RecordError::Damaged { offset }.into());
                }
                input => return self.take(offset, input).map(Some),
            }
        }
    }

    /// The core as it is after the last step.
    #[must_use]
    pub const fn broker(&self) -> &Broker {
        &self.broker
    }

    /// The hash of everything that the core has given out.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.digest.value()
    }

    /// How often that was compared with the hash in the record.
    #[must_use]
    pub const fn checks(&self) -> u64 {
        self.checks
    }

    /// The version of the broker that was recorded.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Why the record ended before its broker did, once that has been read.
    #[must_use]
    pub const fn ended(&self) -> Option<Ended> {
        self.ended
    }

    /// What time it is in the record.
    #[must_use]
    pub const fn now(&self) -> Now {
        self.scan.now
    }

    /// Has the answers of the rules about a client and a topic kept in mind, and tells what becomes of messages for the
    /// client in the steps from here on.
    pub fn watch(&mut self, client_id: &str, topic: &str) {
        self.script.watch(client_id, topic);
        let target = TraceTarget::Client(client_id.into());
        self.watched = self.broker.begin_trace(target, false);
    }

    /// [`Broker::explain`] after the last step. False if it had to be assumed that the rules allow something, because the
    /// record does not tell.
    #[must_use]
    pub fn explain(&self, client_id: &str, topic: TopicNameRef<'_>) -> (Explanation, bool) {
        let (explanation, is_unknown) = self
            .script
            .look(|| self.broker.explain(self.scan.now, client_id, topic));
        (explanation, !is_unknown)
    }

    // ---- one step -------------------------------------------------------------------------------------------------

    fn next_event(&mut self) -> Result<Option<(u64, Event<'a>)>, ReplayError> {
        let mut source = Source {
            blocks: self.blocks.clone(),
            block: self.block,
            scan: self.scan.clone(),
        };
        let event = source.next()?;
        if let Some((_, Event::Start(_) | Event::Check(_) | Event::End(_) | Event::Answer(_))) =
            &event
        {
        } else if event.is_some() {
            source.read_answers(&self.script)?;
        }
        (self.blocks, self.block, self.scan) = (source.blocks, source.block, source.scan);
        Ok(event)
    }

    fn compare(&mut self, recorded: u64) -> Result<(), ReplayError> {
        let (step, replayed) = (self.step, self.hash());
        if recorded != replayed {
            return Err(ReplayError::Outputs {
                step,
                recorded,
                replayed,
            });
        }
        self.checks += 1;
        Ok(())
    }

    fn take(&mut self, offset: u64, input: Event<'a>) -> Result<Step, ReplayError> {
        self.step += 1;
        let step = self.step;
        let outcome = catch_unwind(AssertUnwindSafe(|| self.perform(input)));
        outcome
            .map_err(|_| ReplayError::Panicked { step })?
            .ok_or(RecordError::Damaged { offset })?;
        if !self.script.is_kept() {
            return Err(ReplayError::Rules { step });
        }
        self.tell_traced();
        let lines = std::mem::take(&mut self.told);
        Ok(Step {
            number: step,
            lines,
        })
    }

    /// Gives one input to the core; `None` if it cannot be one.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "each half of the inputs is named in one of two functions"
    )]
    fn perform(&mut self, input: Event<'a>) -> Option<()> {
        let now = self.scan.now;
        match input {
            Event::Admit(address) => {
                let admitted = self.broker.admit_peer(now, address);
                self.digest.admitted(admitted);
                self.tell(format!("a peer comes: {admitted:?}"));
            }
            Event::Open(info) => {
                let opened = self.broker.open(now, info);
                self.opened(&opened);
            }
            Event::OpenAdmitted(info) => {
                let opened = self.broker.open_admitted(now, info);
                self.opened(&opened);
            }
            Event::Packet(id, frame) => self.packet(id, frame)?,
            Event::Invalid(id, error, version) => {
                self.tell(format!("{id:?} > no packet: {error}"));
                self.broker.handle_invalid(now, id, error, version);
            }
            Event::MayNotRead(id) => {
                let may_read = self.broker.may_read(id);
                self.digest.answered(may_read);
                self.tell(format!("{id:?} is not read for now"));
            }
            Event::ReceivedBytes(bytes) => {
                self.broker
                    .count_received_bytes(usize::try_from(bytes).ok()?);
            }
            Event::Closed(id, cause) => {
                self.tell(format!("{id:?} | {cause}"));
                self.decoders.remove(&id);
                self.broker.handle_closed(now, id, cause);
            }
            Event::Transmit(id) => self.transmit(id),
            Event::FinishTurn => {
                self.broker.finish_turn(now);
                self.take_effects();
            }
            Event::Timeout => self.broker.handle_timeout(now),
            other => return self.perform_rare(other),
        }
        Some(())
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "what is neither here nor there is no input"
    )]
    fn perform_rare(&mut self, input: Event<'a>) -> Option<()> {
        let now = self.scan.now;
        match input {
            Event::Authenticated(id, outcome) => {
                self.tell(format!(
                    "{id:?} the authenticator says {}",
                    verdict(&outcome)
                ));
                let outcome = self.outcome(outcome);
                self.reply(Reply::Authenticated(id, outcome));
            }
            Event::Committed(seq) => {
                self.tell(format!("store batch {} is committed", seq.0));
                self.reply(Reply::Committed(seq));
            }
            Event::Loaded(loaded) => {
                let count = loaded.entries.len();
                self.tell(format!(
                    "{count} entries of session {} are loaded",
                    loaded.session.0
                ));
                self.reply(Reply::Loaded(loaded));
            }
            Event::Space(space) => {
                self.tell(format!("the store's room: {space:?}"));
                self.reply(Reply::Space(space));
            }
            Event::ShutDown => {
                self.tell("the broker is to stop".to_owned());
                self.broker.shut_down(now);
            }
            Event::SetLimits(limits) => {
                self.tell("other limits".to_owned());
                self.broker.set_limits(*limits);
            }
            Event::RulesChanged => {
                self.tell("the rules have changed".to_owned());
                self.script.forget();
                self.broker.handle_rules_changed(now);
            }
            Event::RenewAdmissions => {
                self.tell("admissions are to be renewed".to_owned());
                self.broker.renew_admissions(now);
            }
            Event::Disconnect(client_id) => {
                self.tell(format!("an operator sends {:?} away", &*client_id));
                let was_connected = self.broker.disconnect(now, &client_id);
                self.digest.answered(was_connected);
            }
            _ => return None,
        }
        Some(())
    }

    fn opened(&mut self, opened: &Result<ConnectionId, paloma_broker::Refusal>) {
        self.digest.opened(opened);
        match opened {
            Ok(id) => {
                // What came was within the limits; how many filters are kept of a SUBSCRIBE depends on them.
                let limits = DecodeLimits {
                    filters_per_subscribe_max: self
                        .broker
                        .limits()
                        .filters_per_subscribe_max
                        .into(),
                    ..DecodeLimits::UNLIMITED
                };
                self.digest.note_version(*id, false);
                self.decoders.insert(*id, (Decoder::server(limits), None));
                self.tell(format!("{id:?} opens"));
            }
            Err(refusal) => self.tell(format!("a connection is refused: {refusal}")),
        }
    }

    fn packet(&mut self, id: ConnectionId, frame: Frame<'_>) -> Option<()> {
        let bytes = frame.to_bytes();
        let (server, client) = self.decoders.get_mut(&id)?;
        let (packet, len) = server.decode(&bytes).ok()??;
        if len != bytes.len() {
            return None;
        }
        let version = server.version();
        if client.is_none()
            && let Some(version) = version
        {
            self.digest.note_version(id, version == ProtocolVersion::V5);
            *client = Some(Decoder::client(version, DecodeLimits::UNLIMITED));
        }
        let text = packet.clone().into_owned().to_string();
        let now = self.scan.now;
        self.told.push(format!("{} {id:?} > {text}", Seconds(now)));
        self.broker.handle_packet(now, id, packet);
        Some(())
    }

    fn transmit(&mut self, id: ConnectionId) {
        self.transmit.clear();
        let now = self.scan.now;
        let (broker, transmit) = (&mut self.broker, &mut self.transmit);
        // An adapter closes such a connection and goes on.
        let written = catch_unwind(AssertUnwindSafe(|| broker.poll_transmit(now, id, transmit)));
        let Ok(status) = written else {
            return self.tell(format!("{id:?} the broker panics while it writes"));
        };
        self.digest.transmitted(id, &self.transmit, status);
        let bytes: Vec<u8> = self.transmit.pieces().flatten().copied().collect();
        let mut rest = bytes.as_slice();
        while let Ok(Some(len)) = frame_len(rest, paloma_codec::PACKET_BYTES_MAX) {
            let Some((frame, others)) = rest.split_at_checked(len) else {
                break;
            };
            rest = others;
            let client = self.decoders.get_mut(&id);
            let client = client.and_then(|(_, client)| client.as_mut());
            let decoded = client.and_then(|client| client.decode(frame).ok().flatten());
            let text = decoded.map_or_else(
                || format!("{len} bytes"),
                |(packet, _)| packet.into_owned().to_string(),
            );
            self.tell(format!("{id:?} < {text}"));
        }
    }

    fn reply(&mut self, reply: Reply) {
        self.broker.handle_reply(self.scan.now, reply);
        self.take_effects();
    }

    fn take_effects(&mut self) {
        while let Some(effect) = self.broker.poll_effect() {
            self.digest.effect(&effect);
            if let Some(text) = describe::effect(&effect) {
                self.tell(text);
            }
        }
    }

    fn outcome(&mut self, outcome: Outcome) -> AuthOutcome {
        match outcome {
            Outcome::Allow {
                identity,
                rules,
                valid_for,
                data,
            } => {
                let rules = rules.map(|number| {
                    let played = || -> Arc<dyn Authorizer> { Arc::new(Played::new(&self.script)) };
                    Arc::clone(self.rules.entry(number).or_insert_with(played))
                });
                AuthOutcome::Allow(Box::new(Admission {
                    identity,
                    rules,
                    valid_for,
                    data,
                }))
            }
            Outcome::Deny(reason) => AuthOutcome::Deny(reason),
            Outcome::Continue(data) => AuthOutcome::Continue(data),
        }
    }

    fn tell(&mut self, text: String) {
        let now = self.scan.now;
        self.told.push(format!("{} {text}", Seconds(now)));
    }

    /// What became of messages for the client that is watched.
    fn tell_traced(&mut self) {
        if self.watched.is_none() {
            return;
        }
        for traced in self.broker.take_traced().0 {
            if let TraceEvent::Dropped { topic, cause } = &traced.event {
                let cause = cause.label();
                self.tell(format!("  not given to it: {:?}, {cause}", &**topic));
            } else if let TraceEvent::Queued {
                topic, is_in_store, ..
            } = &traced.event
            {
                let place = if *is_in_store { "store" } else { "queue" };
                self.tell(format!("  given to it: {:?}, in its {place}", &**topic));
            }
        }
    }
}

fn verdict(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Allow { identity, .. } => match &identity.user {
            Some(user) => format!("it is {:?}", &**user),
            None => "it may come in".to_owned(),
        },
        Outcome::Deny(reason) => format!("no: {reason:?}"),
        Outcome::Continue(_) => "to go on".to_owned(),
    }
}

/// Reads a whole record without a core; says how many events it has.
///
/// # Errors
/// Where it is not what a recorder writes.
pub fn check(record: &[u8]) -> Result<u64, RecordError> {
    let mut source = Source {
        blocks: Blocks::new(record)?,
        block: (0, 0, Reader::new(&[])),
        scan: Scan::default(),
    };
    let mut count = 0;
    while source.next()?.is_some() {
        count += 1;
    }
    Ok(count)
}

/// Where events come from.
struct Source<'a> {
    blocks: Blocks<'a>,
    block: (u64, usize, Reader<'a>),
    scan: Scan<'a>,
}

impl<'a> Source<'a> {
    fn offset(&self) -> u64 {
        let (begins, len, reader) = &self.block;
        begins + (len - reader.len()) as u64
    }

    /// The next event, and where it stands; `None` at the end.
    fn next(&mut self) -> Result<Option<(u64, Event<'a>)>, RecordError> {
        loop {
            let offset = self.offset();
            let event = self.scan.next(&mut self.block.2);
            if let Some(event) = event.map_err(|_| RecordError::Damaged { offset })? {
                return Ok(Some((offset, event)));
            }
            let Some((begins, content)) = self.blocks.next()? else {
                return Ok(None);
            };
            self.block = (begins, content.len(), Reader::new(content));
            self.scan.begin_block();
        }
    }

    /// What the rules said while the input before was taken in: in the same block, right behind it.
    fn read_answers(&mut self, script: &Script) -> Result<(), RecordError> {
        while self.block.2.peek().is_some_and(Event::is_answer) {
            if let Some((_, Event::Answer(answer))) = self.next()? {
                script.push(answer);
            }
        }
        Ok(())
    }

    fn read_start(&mut self, script: &Script) -> Result<(Start, Vec<Recovered>), RecordError> {
        let Some((_, Event::Start(start))) = self.next()? else {
            return Err(RecordError::NotARecord);
        };
        let mut recovered = Vec::new();
        loop {
            match self.next()? {
                Some((_, Event::Recovered(one))) => recovered.push(*one),
                Some((_, Event::Answer(answer))) => script.push(answer),
                Some((_, Event::Ready)) => return Ok((*start, recovered)),
                Some((offset, _)) => return Err(RecordError::Damaged { offset }),
                None => {
                    let offset = self.offset();
                    return Err(RecordError::CutShort { offset });
                }
            }
        }
    }
}
