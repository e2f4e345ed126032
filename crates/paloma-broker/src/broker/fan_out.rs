//! Messages for very many sessions, given out a part each turn.
//!
//! Jobs run one after another. A later message on a topic whose job is unfinished becomes a job behind it, so that
//! order holds; the publisher's session keeps its later answers behind the one that a job owes.

use std::collections::VecDeque;

use paloma_session::Outbound;
use paloma_topic::TopicNameRef;

use super::Broker;
use super::publish::{Answer, Outcome, Recipient, Routed};
use crate::accounting::DropCause;
use crate::auth::Action;
use crate::tag::Tag;

/// Unfinished jobs; above it the oldest is finished at once, which bounds what jobs hold.
const JOBS_MAX: usize = 64;

#[derive(Debug)]
pub(super) struct FanOut {
    pub(super) routed: Routed,
    pub(super) recipients: Vec<Recipient>,
    pub(super) position: usize,
    pub(super) outcome: Outcome,
    pub(super) answer: Option<Answer>,
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
    pub(super) fn push_fan_out(&mut self, job: FanOut) {
        // The copies are counted as made now, and as queued until they are handed on.
        self.accounting.copies += job.recipients.len() as u64;
        self.fan_outs.jobs.push_back(job);
        if self.fan_outs.jobs.len() > JOBS_MAX {
            let mut steps = usize::MAX;
            self.run_first_job(&mut steps);
        }
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
        while *steps > 0
            && let Some(recipient) = job.recipients.get(job.position)
        {
            *steps -= 1;
            job.position += 1;
            if self.is_withheld(&job.routed, recipient, &mut job.outcome) {
                continue;
            }
            // `deliver` counts the copy; it was counted when the job was made.
            self.accounting.copies -= 1;
            self.deliver(&job.routed, recipient, &mut job.outcome);
        }
        if job.position < job.recipients.len() {
            self.fan_outs.jobs.push_front(job);
        } else {
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
                group: recipient.share,
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
