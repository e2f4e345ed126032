//! Messages for very many sessions, given out a part each turn.
//!
//! Jobs run one after another. A later message on a topic whose job is unfinished becomes a job behind it, so that
//! order holds; the publisher's session keeps its later answers behind the one that a job owes.
//!
//! A job with copies that are stored is itself stored, in the batch that holds the message and the publisher's packet id.
//! Its sessions come in the order of their numbers, so that how far it has come is one number, which each batch with copies
//! of it notes. A broker that starts goes on behind that number. Shared subscriptions are no part of a job, since another
//! member might be chosen then: their copies are made at once.

use std::collections::VecDeque;

use paloma_codec::{Message, Qos};
use paloma_session::Outbound;
use paloma_topic::TopicNameRef;

use super::Broker;
use super::publish::{Answer, Outcome, Routed};
use super::recipients::Recipient;
use crate::accounting::DropCause;
use crate::auth::Action;
use crate::store::{FanOutRecord, MessageId, SessionId, StoreOp};
use crate::tag::{Share, Tag};

/// Unfinished jobs; above it the oldest is finished at once, which bounds what jobs hold.
const JOBS_MAX: usize = 64;

#[derive(Debug)]
pub(super) struct FanOut {
    pub(super) routed: Routed,
    pub(super) recipients: Vec<Recipient>,
    pub(super) position: usize,
    pub(super) outcome: Outcome,
    pub(super) answer: Option<Answer>,
    /// The store knows it.
    pub(super) is_stored: bool,
}

/// The jobs, oldest first.
#[derive(Debug, Default)]
pub(super) struct FanOuts {
    jobs: VecDeque<FanOut>,
}

impl FanOuts {
    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    pub(super) fn is_busy_with(&self, topic: TopicNameRef<'_>) -> bool {
        self.jobs
            .iter()
            .any(|job| job.routed.message.topic() == topic)
    }

    /// Copies that are still to be made.
    pub(super) fn pending(&self) -> u64 {
        self.jobs
            .iter()
            .map(|job| job.recipients.len().saturating_sub(job.position) as u64)
            .sum()
    }
}

impl Broker {
    pub(super) fn push_fan_out(&mut self, mut job: FanOut) {
        self.deliver_shared(&mut job);
        self.store_job(&mut job);
        // The copies are counted as made now, and as queued until they are handed on.
        self.accounting.copies += job.recipients.len() as u64;
        self.fan_outs.jobs.push_back(job);
        if self.fan_outs.jobs.len() > JOBS_MAX {
            let mut steps = usize::MAX;
            self.run_first_job(&mut steps);
        }
    }

    fn deliver_shared(&mut self, job: &mut FanOut) {
        let is_shared = |recipient: &mut Recipient| recipient.share.is_some();
        let shared: Vec<_> = job.recipients.extract_if(.., is_shared).collect();
        for recipient in &shared {
            self.deliver(&job.routed, recipient, &mut job.outcome);
        }
    }

    /// Has the store know of the job if it has copies to store.
    fn store_job(&mut self, job: &mut FanOut) {
        let Self { sessions, .. } = self;
        let number = |recipient: &Recipient| {
            let session = sessions.get(recipient.session)?;
            Some((session.is_durable(), session.id))
        };
        let is_stored = |recipient: &Recipient| {
            recipient.qos != Qos::AtMostOnce
                && number(recipient).is_some_and(|(is_durable, _)| is_durable)
        };
        let upgrades = self.behaviour.upgrade_outgoing_qos;
        if (job.routed.qos == Qos::AtMostOnce && !upgrades) || !job.recipients.iter().any(is_stored)
        {
            return;
        }
        job.recipients
            .sort_by_cached_key(|recipient| number(recipient).map(|(_, id)| id));
        let record = FanOutRecord {
            message: MessageId(job.routed.message.id()),
            qos: job.routed.qos,
            retain: job.routed.retain,
            origin: job.routed.origin.and_then(|key| self.stored_id(key)),
            sessions_until: SessionId(self.last_session),
        };
        self.put_message(&job.routed.message, &mut job.outcome);
        self.commits.push(StoreOp::PutFanOut(record));
        job.outcome.put_in = Outcome::HELD;
        job.is_stored = true;
    }

    /// Takes a job back that had not come to its end: it goes on behind the session `after`.
    pub(super) fn resume_fan_out(
        &mut self,
        record: &FanOutRecord,
        message: Message,
        after: Option<SessionId>,
    ) {
        let origin = record
            .origin
            .and_then(|id| self.directory.number(&self.sessions, id));
        self.match_recipients(message.topic(), origin);
        let mut list = std::mem::take(&mut self.recipients.list);
        let Self { sessions, .. } = self;
        let number = |recipient: &Recipient| Some(sessions.get(recipient.session)?.id);
        list.retain(|recipient| {
            number(recipient).is_some_and(|id| Some(id) > after && id <= record.sessions_until)
        });
        list.sort_by_cached_key(number);
        let outcome = Outcome {
            recipients: list.len(),
            put_in: Outcome::HELD,
            ..Outcome::default()
        };
        let job = FanOut {
            routed: Routed {
                message,
                qos: record.qos,
                retain: record.retain,
                is_timed: false,
                origin,
                more_ids: std::mem::take(&mut self.recipients.more_ids),
            },
            recipients: list,
            position: 0,
            outcome,
            answer: None,
            is_stored: true,
        };
        self.accounting.copies += job.recipients.len() as u64;
        self.fan_outs.jobs.push_back(job);
    }

    /// Goes on with the jobs, `steps` recipients far.
    pub(super) fn run_fan_outs(&mut self, steps: &mut usize) {
        while *steps > 0 && !self.fan_outs.is_empty() {
            self.run_first_job(steps);
        }
    }

    fn run_first_job(&mut self, steps: &mut usize) {
        let Some(mut job) = self.fan_outs.jobs.pop_front() else {
            return;
        };
        let mut reached = None;
        while *steps > 0
            && let Some(recipient) = job.recipients.get(job.position)
        {
            *steps -= 1;
            job.position += 1;
            if let Some(session) = self.sessions.get(recipient.session) {
                reached = Some(session.id);
            }
            if self.is_withheld(&job.routed, recipient, &mut job.outcome) {
                continue;
            }
            // `deliver` counts the copy; it was counted when the job was made.
            self.accounting.copies -= 1;
            self.deliver(&job.routed, recipient, &mut job.outcome);
        }
        let message = MessageId(job.routed.message.id());
        if job.position < job.recipients.len() {
            if let Some(session) = reached.filter(|_| job.is_stored) {
                self.commits.push(StoreOp::AdvanceFanOut(message, session));
            }
            self.fan_outs.jobs.push_front(job);
        } else {
            if job.is_stored {
                self.commits.push(StoreOp::DeleteFanOut(message));
            }
            self.finish_publish(job.outcome, job.answer);
        }
    }

    /// The rules may have changed since the job was made: a recipient whom they shut out gets nothing.
    fn is_withheld(
        &mut self,
        routed: &Routed,
        recipient: &Recipient,
        outcome: &mut Outcome,
    ) -> bool {
        let topic = routed.message.topic();
        let session = self.sessions.get(recipient.session);
        let is_allowed = session.is_none_or(|session| {
            session
                .principal
                .may(&*self.authorizer, Action::Read, topic)
        });
        if !is_allowed {
            let tag = Tag {
                share: recipient.share.map(|group| Share {
                    group,
                    qos: routed.qos,
                    retain: routed.retain,
                }),
                is_stored: false,
            };
            let outbound = Outbound::new(routed.message.clone(), routed.qos)
                .with_retain(routed.retain)
                .with_share(tag.pack());
            self.hand_on_or_drop(&outbound, true, DropCause::NotAuthorized, outcome);
        }
        !is_allowed
    }
}
