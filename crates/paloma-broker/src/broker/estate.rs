//! What a session that has ended leaves in the store for the other members of its groups.

use std::collections::VecDeque;

use super::Broker;
use super::deliver::{LOAD_BYTES, outbound_of};
use super::publish::Outcome;
use crate::accounting::DropCause;
use crate::effect::Effect;
use crate::session::{SessionEntry, Spill};
use crate::store::{LoadRequest, Loaded, SessionId, SessionRecord, StoreOp};

/// Entries that are read at a time.
const LOAD_COUNT: u32 = 256;

/// The queue of a session that has ended, as far as it is in the store only.
#[derive(Debug)]
struct Estate {
    session: SessionId,
    spill: Box<Spill>,
}

/// The queues that are being handed on, one after another.
#[derive(Debug, Default)]
pub(super) struct Estates {
    list: VecDeque<Estate>,
}

impl Estates {
    /// Copies that are still to be handed on or dropped.
    pub(super) fn pending(&self) -> u64 {
        self.list
            .iter()
            .map(|estate| u64::from(estate.spill.count))
            .sum()
    }

    /// Whether the next part is to be asked for.
    pub(super) fn is_waiting(&self) -> bool {
        let first = self.list.front();
        first.is_some_and(|estate| !estate.spill.is_loading)
    }
}

impl Broker {
    /// Has the store forget a session that has ended: at once, or once what it shared with others has been handed on.
    /// Until then it stands there as one that has ended, so that it is never resumed. [MQTT-3.1.2-4]
    pub(super) fn delete_session(&mut self, session: &mut SessionEntry) {
        let has_heirs = self.groups.members() > 0;
        let Some(spill) = session.spill.take_if(|_| has_heirs) else {
            return self.commits.push(StoreOp::DeleteSession(session.id));
        };
        let record = SessionRecord {
            expiry_seconds: 0,
            ..session.record(None)
        };
        self.commits.push(StoreOp::PutSession(session.id, record));
        // What is in memory is handed on in this batch.
        for message in session.held_messages() {
            self.commits.push(StoreOp::Dequeue(session.id, message));
        }
        // A load for the session that is under way finds nobody.
        let is_loading = false;
        let spill = Box::new(Spill {
            is_loading,
            ..*spill
        });
        self.estates.list.push_back(Estate {
            session: session.id,
            spill,
        });
    }

    /// Asks for the next part of the first queue. Behind the turn's batch, since the part may be in it.
    pub(super) fn load_estate(&mut self) {
        if let Some(estate) = self.estates.list.front_mut()
            && !estate.spill.is_loading
        {
            estate.spill.is_loading = true;
            self.effects.push_back(Effect::Load(LoadRequest {
                session: estate.session,
                after: estate.spill.after,
                count: LOAD_COUNT,
                bytes: LOAD_BYTES,
            }));
        }
    }

    /// Takes in a part of a queue whose session has ended: shared messages go to another member, the rest is dropped.
    /// [MQTT-4.8.2-4]
    pub(super) fn handle_inherited(&mut self, loaded: Loaded) {
        let Some(estate) = self.estates.list.front_mut() else {
            return;
        };
        if estate.session != loaded.session || !estate.spill.is_loading {
            return;
        }
        // What the session had asked for before its end comes beside what is asked for now.
        let first = loaded.entries.first();
        if first.is_some_and(|(entry, _)| entry.message <= estate.spill.after) {
            return;
        }
        estate.spill.is_loading = false;
        let id = estate.session;
        let handed = u32::try_from(loaded.entries.len()).unwrap_or(u32::MAX);
        let left = estate.spill.count.saturating_sub(handed);
        estate.spill.count = left;
        if let Some((last, _)) = loaded.entries.last() {
            estate.spill.after = last.message;
        }
        if handed == 0 || left == 0 {
            self.estates.list.pop_front();
        }
        for (entry, message) in loaded.entries {
            let outbound = outbound_of(&self.groups, &entry, message);
            self.commits.push(StoreOp::Dequeue(id, entry.message));
            let cause = DropCause::SessionEnded;
            self.hand_on_or_drop(&outbound, true, cause, &mut Outcome::default());
        }
        if handed == 0 {
            for _ in 0..left {
                self.accounting.count_drop(DropCause::StoreLost);
            }
        }
        if handed == 0 || left == 0 {
            self.commits.push(StoreOp::DeleteSession(id));
        }
    }
}
