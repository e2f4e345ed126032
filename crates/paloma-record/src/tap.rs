//! Between an adapter and the core: every input passes through here, and can be written down.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use paloma_broker::store::{
    Committed, LoadRequest, Loaded, Recovered, Space, Store, StoreBatch, StoreError,
};
use paloma_broker::wire::{put_number, put_option, put_text};
use paloma_broker::{
    AuthOutcome, Authorizer, Broker, BrokerConfig, CloseCause, ConnectionId, ConnectionInfo,
    Effect, Explanation, Limits, Notice, Recovery, Refusal, Reply, TraceId, TraceTarget, Traced,
};
use paloma_codec::{DecodeError, PacketRef, ProtocolVersion};
use paloma_session::{Now, Transmit, TransmitStatus};
use paloma_topic::TopicNameRef;

use crate::event::kind;
use crate::recorder::{Ended, Recorder, Settings};
use crate::state::{put_address, put_info, put_limits, put_loaded, put_outcome};

/// A [`Broker`] whose inputs are recorded, if anybody wants that; its methods are those of the broker.
///
/// It can be looked at as the broker that it is. It cannot be changed as one, so that no input goes past the record.
#[derive(Debug)]
pub struct Tap {
    broker: Broker,
    recorder: Option<Box<Recorder>>,
}

impl Deref for Tap {
    type Target = Broker;

    fn deref(&self) -> &Broker {
        &self.broker
    }
}

/// A store that is listened to while it is recovered from.
#[derive(Debug)]
struct Heard<'a> {
    store: &'a mut dyn Store,
    recorder: &'a mut Recorder,
}

impl Store for Heard<'_> {
    fn recover(&mut self, each: &mut dyn FnMut(Recovered)) -> Result<(), StoreError> {
        self.store.recover(&mut |recovered| {
            self.recorder.recovered(&recovered);
            each(recovered);
        })
    }

    fn commit(&mut self, group: &mut Vec<StoreBatch>) -> Result<Committed, StoreError> {
        self.store.commit(group)
    }

    fn read_queue(&mut self, request: &LoadRequest) -> Result<Loaded, StoreError> {
        self.store.read_queue(request)
    }
}

impl Tap {
    /// As [`Broker::recover`], recorded from the first moment on if `settings` say how.
    ///
    /// # Errors
    /// As there.
    pub fn recover(
        mut config: BrokerConfig,
        now: Now,
        store: &mut dyn Store,
        settings: Option<Settings>,
    ) -> Result<(Self, Recovery), StoreError> {
        let Some(settings) = settings else {
            let (broker, recovery) = Broker::recover(config, now, store)?;
            let recorder = None;
            return Ok((Self { broker, recorder }, recovery));
        };
        let mut recorder = Recorder::new(&mut config, now, settings);
        let mut heard = Heard {
            store,
            recorder: &mut recorder,
        };
        let (broker, recovery) = Broker::recover(config, now, &mut heard)?;
        recorder.after();
        recorder.pen.event(kind::READY);
        recorder.check_bounds();
        let recorder = Some(Box::new(recorder));
        Ok((Self { broker, recorder }, recovery))
    }

    // ---- the record ---------------------------------------------------------------------------------------------

    /// Whether there is enough of the record to be worth a write.
    #[inline]
    #[must_use]
    pub fn is_record_ripe(&self) -> bool {
        self.recorder
            .as_ref()
            .is_some_and(|recorder| recorder.is_ripe())
    }

    /// Takes what is to be written next, between two turns, for [`seal`](crate::seal); `into` is empty if nothing is. Says
    /// why the record ended, if that was its last part.
    pub fn take_record(&mut self, into: &mut Vec<u8>) -> Option<Ended> {
        into.clear();
        let recorder = self.recorder.as_mut()?;
        recorder.take(into);
        let ended = recorder.ended;
        if ended.is_some() {
            self.recorder = None;
        }
        ended
    }

    /// Records nothing from here on.
    pub fn end_record(&mut self) {
        if let Some(recorder) = self.recorder.take() {
            recorder.mute();
        }
    }

    /// Between two turns: a record that has grown too long ends.
    #[inline]
    pub fn end_turn(&mut self) {
        if let Some(recorder) = &mut self.recorder {
            recorder.check_bounds();
        }
    }

    /// What an authenticator gave as a client's rules, for which [`Broker::clients`] shows others while its inputs are
    /// recorded.
    #[must_use]
    pub fn rules_of(&self, rules: &Arc<dyn Authorizer>) -> Arc<dyn Authorizer> {
        let recorder = self.recorder.as_ref();
        let original = recorder.and_then(|recorder| recorder.original(rules));
        original.unwrap_or_else(|| Arc::clone(rules))
    }

    #[inline]
    fn recorder(&mut self) -> Option<&mut Recorder> {
        self.recorder
            .as_deref_mut()
            .filter(|recorder| recorder.ended.is_none())
    }

    /// Writes down an input without fields.
    #[inline]
    fn note(&mut self, now: Now, kind: u8) {
        if let Some(recorder) = self.recorder() {
            recorder.pen.time(now);
            recorder.pen.event(kind);
        }
    }

    #[inline]
    fn after(&mut self) {
        if let Some(recorder) = self.recorder() {
            recorder.after();
        }
    }

    // ---- inputs -------------------------------------------------------------------------------------------------

    /// [`Broker::open`].
    ///
    /// # Errors
    /// As there.
    pub fn open(&mut self, now: Now, info: ConnectionInfo) -> Result<ConnectionId, Refusal> {
        self.note_open(now, kind::OPEN, &info);
        let opened = self.broker.open(now, info);
        self.note_opened(&opened);
        opened
    }

    /// [`Broker::open_admitted`].
    ///
    /// # Errors
    /// As there.
    pub fn open_admitted(
        &mut self,
        now: Now,
        info: ConnectionInfo,
    ) -> Result<ConnectionId, Refusal> {
        self.note_open(now, kind::OPEN_ADMITTED, &info);
        let opened = self.broker.open_admitted(now, info);
        self.note_opened(&opened);
        opened
    }

    fn note_open(&mut self, now: Now, kind: u8, info: &ConnectionInfo) {
        if let Some(recorder) = self.recorder() {
            recorder.pen.time(now);
            put_info(recorder.pen.event(kind), info);
        }
    }

    fn note_opened(&mut self, opened: &Result<ConnectionId, Refusal>) {
        if let Some(recorder) = self.recorder() {
            recorder.digest.opened(opened);
            recorder.after();
        }
    }

    /// [`Broker::admit_peer`].
    ///
    /// # Errors
    /// As there.
    pub fn admit_peer(&mut self, now: Now, address: Option<IpAddr>) -> Result<(), Refusal> {
        if let Some(recorder) = self.recorder() {
            recorder.pen.time(now);
            put_option(recorder.pen.event(kind::ADMIT), address, put_address);
        }
        let admitted = self.broker.admit_peer(now, address);
        if let Some(recorder) = self.recorder() {
            recorder.digest.admitted(admitted);
        }
        admitted
    }

    /// [`Broker::handle_packet_in_place`]; `frame` is what the packet was decoded from.
    #[inline]
    pub fn handle_packet(
        &mut self,
        now: Now,
        id: ConnectionId,
        packet: &mut PacketRef<'_>,
        frame: &[u8],
    ) -> bool {
        let broker = &self.broker;
        if let Some(recorder) = &mut self.recorder
            && recorder.ended.is_none()
        {
            recorder.packet(now, id, (packet, frame), || broker.next_random());
        }
        let goes_on = self.broker.handle_packet_in_place(now, id, packet);
        self.after();
        goes_on
    }

    /// [`Broker::may_read`].
    #[inline]
    pub fn may_read(&mut self, id: ConnectionId) -> bool {
        let may_read = self.broker.may_read(id);
        if !may_read && let Some(recorder) = self.recorder() {
            // A yes leaves the core as it was.
            recorder.pen.event_of(kind::MAY_NOT_READ, id);
            recorder.digest.answered(may_read);
        }
        may_read
    }

    /// [`Broker::handle_invalid`].
    pub fn handle_invalid(
        &mut self,
        now: Now,
        id: ConnectionId,
        error: DecodeError,
        version: Option<ProtocolVersion>,
    ) {
        if let Some(recorder) = self.recorder() {
            recorder.pen.time(now);
            let out = recorder.pen.event_of(kind::INVALID, id);
            out.push(error as u8);
            put_option(out, version, |out, version| out.push(version.level()));
        }
        self.broker.handle_invalid(now, id, error, version);
        self.after();
    }

    /// [`Broker::count_received_bytes`].
    #[inline]
    pub fn count_received_bytes(&mut self, bytes: usize) {
        if let Some(recorder) = self.recorder() {
            put_number(recorder.pen.event(kind::RECEIVED), bytes as u64);
        }
        self.broker.count_received_bytes(bytes);
    }

    /// [`Broker::handle_closed`].
    pub fn handle_closed(&mut self, now: Now, id: ConnectionId, cause: CloseCause) {
        if let Some(recorder) = self.recorder() {
            recorder.pen.time(now);
            recorder.pen.event_of(kind::CLOSED, id).push(cause as u8);
        }
        self.broker.handle_closed(now, id, cause);
        self.after();
    }

    /// [`Broker::handle_reply`].
    pub fn handle_reply(&mut self, now: Now, mut reply: Reply) {
        if let Some(recorder) = self.recorder() {
            recorder.pen.time(now);
            note_reply(recorder, &mut reply);
        }
        self.broker.handle_reply(now, reply);
        self.after();
    }

    /// [`Broker::handle_timeout`].
    pub fn handle_timeout(&mut self, now: Now) {
        self.note(now, kind::TIMEOUT);
        self.broker.handle_timeout(now);
        self.after();
    }

    /// [`Broker::set_outside_bytes`].
    pub fn set_outside_bytes(&mut self, bytes: u64) {
        if let Some(recorder) = self.recorder() {
            recorder.outside(bytes);
        }
        self.broker.set_outside_bytes(bytes);
    }

    /// [`Broker::finish_turn`].
    #[inline]
    pub fn finish_turn(&mut self, now: Now) {
        self.note(now, kind::FINISH_TURN);
        self.broker.finish_turn(now);
        self.after();
    }

    /// [`Broker::shut_down`].
    pub fn shut_down(&mut self, now: Now) {
        self.note(now, kind::SHUT_DOWN);
        self.broker.shut_down(now);
        self.after();
    }

    /// [`Broker::set_limits`].
    pub fn set_limits(&mut self, limits: Limits) {
        if let Some(recorder) = self.recorder() {
            put_limits(recorder.pen.event(kind::LIMITS), &limits);
        }
        self.broker.set_limits(limits);
    }

    /// [`Broker::handle_rules_changed`].
    pub fn handle_rules_changed(&mut self, now: Now) {
        self.note(now, kind::RULES_CHANGED);
        self.broker.handle_rules_changed(now);
        self.after();
    }

    /// [`Broker::renew_admissions`].
    pub fn renew_admissions(&mut self, now: Now) {
        self.note(now, kind::RENEW);
        self.broker.renew_admissions(now);
        self.after();
    }

    /// [`Broker::disconnect`].
    pub fn disconnect(&mut self, now: Now, client_id: &str) -> bool {
        if let Some(recorder) = self.recorder() {
            recorder.pen.time(now);
            put_text(recorder.pen.event(kind::DISCONNECT), client_id);
        }
        let was_connected = self.broker.disconnect(now, client_id);
        if let Some(recorder) = self.recorder() {
            recorder.digest.answered(was_connected);
            recorder.after();
        }
        was_connected
    }

    // ---- outputs ------------------------------------------------------------------------------------------------

    /// [`Broker::poll_effect`].
    #[inline]
    pub fn poll_effect(&mut self) -> Option<Effect> {
        let effect = self.broker.poll_effect();
        if let Some(recorder) = self.recorder()
            && let Some(effect) = &effect
        {
            recorder.digest.effect(effect);
        }
        effect
    }

    /// [`Broker::poll_transmit`].
    #[inline]
    pub fn poll_transmit(
        &mut self,
        now: Now,
        id: ConnectionId,
        out: &mut Transmit,
    ) -> TransmitStatus {
        if let Some(recorder) = self.recorder() {
            recorder.pen.time(now);
            recorder.pen.event_of(kind::TRANSMIT, id);
        }
        let status = self.broker.poll_transmit(now, id, out);
        if let Some(recorder) = self.recorder() {
            recorder.after();
            recorder.digest.transmitted(id, out, status);
        }
        status
    }

    // ---- what changes nothing that is recorded --------------------------------------------------------------------

    /// [`Broker::want_notices`].
    pub fn want_notices(&mut self) {
        self.broker.want_notices();
    }

    /// [`Broker::take_notices`].
    pub fn take_notices(&mut self) -> (VecDeque<Notice>, u64) {
        self.broker.take_notices()
    }

    /// [`Broker::begin_trace`].
    pub fn begin_trace(&mut self, target: TraceTarget, wants_payloads: bool) -> Option<TraceId> {
        self.broker.begin_trace(target, wants_payloads)
    }

    /// [`Broker::end_trace`].
    pub fn end_trace(&mut self, id: TraceId) {
        self.broker.end_trace(id);
    }

    /// [`Broker::take_traced`].
    pub fn take_traced(&mut self) -> (VecDeque<Traced>, u64) {
        self.broker.take_traced()
    }

    /// [`Broker::explain`], of which the record says nothing.
    #[must_use]
    pub fn explain(&self, now: Now, client_id: &str, topic: TopicNameRef<'_>) -> Explanation {
        let answers = self.recorder.as_ref().map(|recorder| &recorder.answers);
        let was_muted = answers.map(|answers| answers.is_muted.swap(true, Ordering::Relaxed));
        let explanation = self.broker.explain(now, client_id, topic);
        if let (Some(answers), Some(was_muted)) = (answers, was_muted) {
            answers.is_muted.store(was_muted, Ordering::Relaxed);
        }
        explanation
    }
}

fn note_reply(recorder: &mut Recorder, reply: &mut Reply) {
    let with_secrets = recorder.settings.with_secrets;
    match reply {
        Reply::Authenticated(id, outcome) => {
            let mut number = None;
            if let AuthOutcome::Allow(admission) = outcome
                && let Some(rules) = admission.rules.take()
            {
                let (known, recorded) = recorder.rules.record(rules, &recorder.answers);
                number = Some(known);
                admission.rules = Some(recorded);
            }
            let out = recorder.pen.event_of(kind::AUTHENTICATED, *id);
            put_outcome(out, outcome, number, with_secrets);
        }
        Reply::Committed(seq) => put_number(recorder.pen.event(kind::COMMITTED), seq.0),
        Reply::Loaded(loaded) => {
            put_loaded(recorder.pen.event(kind::LOADED), loaded, with_secrets);
        }
        Reply::Space(Space::Free) => {
            recorder.pen.event(kind::SPACE_FREE);
        }
        Reply::Space(Space::Full) => {
            recorder.pen.event(kind::SPACE_FULL);
        }
    }
}
