//! Out of a session's queue: what a connection is pulled for, and what follows from what was written.

use paloma_session::{DropCause as UnsentCause, Now, Transmit, TransmitStatus};

use super::Broker;
use crate::accounting::DropCause;
use crate::connection::{ConnectionId, Pause, Phase};
use crate::session::SessionKey;

impl Broker {
    pub(super) fn transmit(
        &mut self,
        now: Now,
        id: ConnectionId,
        out: &mut Transmit,
    ) -> TransmitStatus {
        let Some(entry) = self.connections.get_mut(id.key()) else {
            return TransmitStatus::Close;
        };
        entry.is_transmit_due = false;
        let key = match &mut entry.phase {
            Phase::Handshake(handshake) => {
                let before = out.len();
                let status = handshake.poll_transmit(out);
                self.traffic.count_early(out.len() - before);
                return status;
            }
            Phase::Authenticating(_) => return TransmitStatus::Drained,
            Phase::Closing(farewell) => {
                out.put(&std::mem::take(farewell));
                return TransmitStatus::Close;
            }
            Phase::Open(open) => open.session,
        };
        let is_timed = entry.sample.is_some();
        self.purge_if_stale(key);
        let (sent_before, dropped_before) = (out.sent().qos0, out.dropped().len());
        let status = self.transmit_open(now, id, key, out);
        self.account_transmit(key, out, sent_before, dropped_before);
        if is_timed {
            self.end_sample(now, id, key);
        }
        self.resume_answered(now, id);
        self.refill(key);
        status
    }

    /// What was written made room for what waits elsewhere. Most sessions have nothing elsewhere.
    fn refill(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.get(key) else {
            return;
        };
        let (has_spilled, has_replays) = (session.spill.is_some(), session.has_replays());
        if session.is_stored && session.protocol.wants_ids(session.ids_ahead_max()) {
            self.assign_ids(key);
        }
        if has_spilled {
            self.load_more(key);
        }
        if has_replays {
            self.list_replays(key);
        }
    }

    /// Answers have left: if there were too many, more packets may come.
    fn resume_answered(&mut self, now: Now, id: ConnectionId) {
        let Some(entry) = self.connections.get(id.key()) else {
            return;
        };
        if entry.pause == Some(Pause::Answers)
            && let Phase::Open(open) = &entry.phase
            && open.protocol.may_read()
        {
            self.resume(now, id);
        }
    }

    /// Notes the time of a message that is no longer waiting for its receiver.
    fn end_sample(&mut self, now: Now, id: ConnectionId, key: SessionKey) {
        let Some(entry) = self.connections.get_mut(id.key()) else {
            return;
        };
        let Some(sample) = entry.sample else {
            return;
        };
        let next = self
            .sessions
            .get(key)
            .and_then(|session| session.protocol.queue().front());
        if next.is_none_or(|next| sample.is_before(next.message().id())) {
            entry.sample = None;
            self.latency.note(sample.elapsed_ns(now.monotonic));
        }
    }

    /// Counts what `out` has come to hold since it had sent so many QoS 0 messages and dropped so many in all.
    pub(super) fn account_transmit(
        &mut self,
        key: SessionKey,
        out: &mut Transmit,
        sent_before: u32,
        dropped_before: usize,
    ) {
        self.traffic.count_written(out.take_counts());
        self.accounting.delivered += u64::from(out.sent().qos0 - sent_before);
        for dropped in out.dropped().get(dropped_before..).unwrap_or_default() {
            let cause = match dropped.cause {
                UnsentCause::Expired => DropCause::Expired,
                UnsentCause::TooLarge | UnsentCause::NotSupported => DropCause::PacketTooLarge,
            };
            self.drop_copy(key, &dropped.outbound, cause);
        }
    }

    fn transmit_open(
        &mut self,
        now: Now,
        id: ConnectionId,
        key: SessionKey,
        out: &mut Transmit,
    ) -> TransmitStatus {
        let committed = self.commits.committed();
        let Some(entry) = self.connections.get_mut(id.key()) else {
            return TransmitStatus::Close;
        };
        match (&mut entry.phase, self.sessions.get_mut(key)) {
            (Phase::Open(open), Some(session)) => {
                // Messages that are over once they are written leave their allocations to the next.
                std::mem::swap(&mut self.messages, out.pool_mut());
                let status =
                    open.protocol
                        .poll_transmit(now, committed, &mut session.protocol, out);
                std::mem::swap(&mut self.messages, out.pool_mut());
                status
            }
            (
                Phase::Handshake(_) | Phase::Authenticating(_) | Phase::Open(_) | Phase::Closing(_),
                _,
            ) => TransmitStatus::Close,
        }
    }
}
