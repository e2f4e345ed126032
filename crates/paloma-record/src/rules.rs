//! The authorizer, recorded and replayed: a record has its answers, in the order in which the core asked.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use paloma_broker::{Action, Authorizer, Grant, Identity};
use paloma_topic::{TopicFilterRef, TopicNameRef};

use crate::event::Answer;

/// Sets of rules of single clients that are kept in mind before those that nobody uses any more are looked for.
const KEPT_MIN: usize = 64;

/// What the rules have answered and no event has yet. Everything here happens under the lock of the core that asks, so that
/// plain loads and stores do.
///
/// A record has no answers that allow something behind the last other one of an input: with rules that allow everything, and
/// most do most of the time, it has none.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// How many of the latest allow something, one after the other.
    allowed: AtomicU64,
    /// Those before.
    waiting: Mutex<Vec<u8>>,
    has_waiting: AtomicBool,
    /// Nothing is written down: somebody only looks, or the record has ended.
    pub(crate) is_muted: AtomicBool,
}

impl Answers {
    #[inline]
    fn push(&self, answer: Answer) {
        if self.is_muted.load(Ordering::Relaxed) {
            return;
        }
        if answer == Answer::Allowed(true) {
            // Asked at every publish.
            let allowed = self.allowed.load(Ordering::Relaxed) + 1;
            return self.allowed.store(allowed, Ordering::Relaxed);
        }
        self.put(answer);
    }

    #[cold]
    fn put(&self, answer: Answer) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..self.allowed.swap(0, Ordering::Relaxed) {
            Answer::Allowed(true).put(&mut waiting);
        }
        answer.put(&mut waiting);
        self.has_waiting.store(true, Ordering::Relaxed);
    }

    /// Moves what waits to the end of `out`.
    #[inline(always)]
    pub(crate) fn take(&self, out: &mut Vec<u8>) {
        if self.has_waiting.load(Ordering::Relaxed) {
            self.take_waiting(out);
        }
        self.allowed.store(0, Ordering::Relaxed);
    }

    #[cold]
    fn take_waiting(&self, out: &mut Vec<u8>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        out.append(&mut waiting);
        self.has_waiting.store(false, Ordering::Relaxed);
    }
}

/// An authorizer whose answers are written down. Only the core asks it.
#[derive(Debug)]
pub(crate) struct Recorded {
    pub(crate) rules: Arc<dyn Authorizer>,
    answers: Arc<Answers>,
    /// The epoch that it gave last; one more than any at first.
    epoch: AtomicU32,
}

impl Recorded {
    pub(crate) fn new(rules: Arc<dyn Authorizer>, answers: &Arc<Answers>) -> Self {
        Self {
            rules,
            answers: Arc::clone(answers),
            epoch: AtomicU32::new(u32::MAX),
        }
    }
}

impl Authorizer for Recorded {
    fn is_allowed(
        &self,
        identity: &Identity,
        client_id: &str,
        action: Action,
        topic: TopicNameRef<'_>,
    ) -> bool {
        let is_allowed = self.rules.is_allowed(identity, client_id, action, topic);
        self.answers.push(Answer::Allowed(is_allowed));
        is_allowed
    }

    fn grant(&self, identity: &Identity, client_id: &str, filter: TopicFilterRef<'_>) -> Grant {
        let grant = self.rules.grant(identity, client_id, filter);
        self.answers.push(Answer::Granted(grant));
        grant
    }

    fn covers_reserved(&self) -> bool {
        let covers = self.rules.covers_reserved();
        self.answers.push(Answer::Covers(covers));
        covers
    }

    fn epoch(&self) -> u16 {
        let epoch = self.rules.epoch();
        // Asked at every message, so that only a change is written down.
        if self.epoch.load(Ordering::Relaxed) != u32::from(epoch)
            && !self.answers.is_muted.load(Ordering::Relaxed)
        {
            self.epoch.store(epoch.into(), Ordering::Relaxed);
            self.answers.push(Answer::Epoch(epoch));
        }
        epoch
    }
}

/// Rules that single clients have, each with a number. Clients that share theirs share them in the record too.
#[derive(Debug, Default)]
pub(crate) struct RuleBook {
    /// By the address of the rules, which stay as long as they are here.
    known: BTreeMap<usize, (u64, Arc<Recorded>)>,
    last: u64,
    prune_at: usize,
}

impl RuleBook {
    /// The number of these rules, and what the core is given in their place.
    pub(crate) fn record(
        &mut self,
        rules: Arc<dyn Authorizer>,
        answers: &Arc<Answers>,
    ) -> (u64, Arc<dyn Authorizer>) {
        if self.known.len() >= self.prune_at.max(KEPT_MIN) {
            self.known
                .retain(|_, (_, kept)| Arc::strong_count(kept) > 1);
            self.prune_at = 2 * self.known.len();
        }
        let address = Arc::as_ptr(&rules).cast::<()>().addr();
        let last = &mut self.last;
        let (number, recorded) = self.known.entry(address).or_insert_with(|| {
            *last += 1;
            (*last, Arc::new(Recorded::new(rules, answers)))
        });
        let recorded: Arc<Recorded> = Arc::clone(recorded);
        (*number, recorded)
    }

    /// The rules in whose place these stand.
    pub(crate) fn original(&self, rules: &Arc<dyn Authorizer>) -> Option<Arc<dyn Authorizer>> {
        let address = Arc::as_ptr(rules).cast::<()>().addr();
        let is_it = |kept: &&(u64, Arc<Recorded>)| Arc::as_ptr(&kept.1).addr() == address;
        let found = self.known.values().find(is_it);
        found.map(|(_, recorded)| Arc::clone(&recorded.rules))
    }
}

/// What a replay's rules have in common.
#[derive(Debug, Default)]
pub(crate) struct Script {
    state: Mutex<ScriptState>,
}

#[derive(Debug, Default)]
struct ScriptState {
    answers: VecDeque<Answer>,
    /// Something was asked that the record has another answer for.
    has_diverged: bool,
    /// Somebody only looks: nothing is taken from the answers.
    is_looking: bool,
    /// A look asked what the record does not tell.
    is_unknown: bool,
    /// The client and the topic whose last answers are kept in mind.
    watched: Option<(String, String)>,
    may_read: Option<bool>,
}

impl Script {
    fn state(&self) -> MutexGuard<'_, ScriptState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, answer: Answer) {
        self.state().answers.push_back(answer);
    }

    /// Whether everything was asked as it was when it was recorded.
    pub(crate) fn is_kept(&self) -> bool {
        let state = self.state();
        !state.has_diverged && state.answers.is_empty()
    }

    pub(crate) fn watch(&self, client_id: &str, topic: &str) {
        self.state().watched = Some((client_id.to_owned(), topic.to_owned()));
    }

    /// The rules are others from here on.
    pub(crate) fn forget(&self) {
        self.state().may_read = None;
    }

    /// Looks at the core without the answers that belong to its next steps. Says whether the record lacked one.
    pub(crate) fn look<R>(&self, look: impl FnOnce() -> R) -> (R, bool) {
        self.state().is_looking = true;
        let result = look();
        let mut state = self.state();
        state.is_looking = false;
        (result, std::mem::take(&mut state.is_unknown))
    }

    fn take<T>(&self, pick: impl FnOnce(Answer) -> Option<T>) -> Option<T> {
        let mut state = self.state();
        if state.is_looking {
            state.is_unknown = true;
            return None;
        }
        let answer = state.answers.pop_front();
        // What the record does not have was allowed.
        let found = pick(answer.unwrap_or(Answer::Allowed(true)));
        state.has_diverged |= found.is_none();
        found
    }
}

/// Answers as the record has them.
pub(crate) struct Played {
    script: Arc<Script>,
    epoch: AtomicU32,
}

impl Played {
    pub(crate) fn new(script: &Arc<Script>) -> Self {
        Self {
            script: Arc::clone(script),
            epoch: AtomicU32::new(0),
        }
    }
}

impl fmt::Debug for Played {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Played").finish_non_exhaustive()
    }
}

impl Authorizer for Played {
    fn is_allowed(
        &self,
        _identity: &Identity,
        client_id: &str,
        action: Action,
        topic: TopicNameRef<'_>,
    ) -> bool {
        let is_watched = |state: &ScriptState| {
            action == Action::Read
                && state
                    .watched
                    .as_ref()
                    .is_some_and(|(client, name)| client == client_id && name == topic.as_str())
        };
        {
            let state = self.script.state();
            if state.is_looking
                && is_watched(&state)
                && let Some(known) = state.may_read
            {
                return known;
            }
        }
        let found = self.script.take(|answer| match answer {
            Answer::Allowed(is_allowed) => Some(is_allowed),
            Answer::Granted(_) | Answer::Covers(_) | Answer::Epoch(_) => None,
        });
        let mut state = self.script.state();
        if is_watched(&state) && found.is_some() {
            state.may_read = found;
        }
        found.unwrap_or(true)
    }

    fn grant(&self, _: &Identity, _: &str, _: TopicFilterRef<'_>) -> Grant {
        let found = self.script.take(|answer| match answer {
            Answer::Granted(grant) => Some(grant),
            Answer::Allowed(_) | Answer::Covers(_) | Answer::Epoch(_) => None,
        });
        found.unwrap_or(Grant::AllAllowed)
    }

    fn covers_reserved(&self) -> bool {
        let found = self.script.take(|answer| match answer {
            Answer::Covers(covers) => Some(covers),
            Answer::Allowed(_) | Answer::Granted(_) | Answer::Epoch(_) => None,
        });
        found.unwrap_or(true)
    }

    fn epoch(&self) -> u16 {
        let mut state = self.script.state();
        if !state.is_looking
            && let Some(Answer::Epoch(epoch)) = state.answers.front().copied()
        {
            state.answers.pop_front();
            self.epoch.store(epoch.into(), Ordering::Relaxed);
        }
        u16::try_from(self.epoch.load(Ordering::Relaxed)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answers of one input, as a record has them.
    fn check(answers: &[Answer], expected: &[Answer]) {
        let recorded = Answers::default();
        for answer in answers {
            recorded.push(*answer);
        }
        let (mut out, mut bytes) = (Vec::new(), Vec::new());
        recorded.take(&mut out);
        for answer in expected {
            answer.put(&mut bytes);
        }
        assert_eq!(out, bytes);
        // Nothing of it belongs to the next one.
        recorded.take(&mut out);
        assert_eq!(out, bytes);
    }

    #[test]
    fn what_is_allowed_is_left_out_at_the_end() {
        let (yes, no) = (Answer::Allowed(true), Answer::Allowed(false));
        let each = Answer::Granted(Grant::CheckEach);
        check(&[], &[]);
        check(&[yes; 200], &[]);
        check(&[yes, yes, no, yes], &[yes, yes, no]);
        check(&[no, yes, each, yes, yes], &[no, yes, each]);
        check(&[Answer::Epoch(3), yes], &[Answer::Epoch(3)]);
    }

    #[test]
    fn what_was_left_out_is_allowed_again() {
        let script = Script::default();
        script.push(Answer::Allowed(false));
        let ask = || {
            script.take(|answer| match answer {
                Answer::Allowed(is_allowed) => Some(is_allowed),
                Answer::Granted(_) | Answer::Covers(_) | Answer::Epoch(_) => None,
            })
        };
        assert_eq!([ask(), ask()], [Some(false), Some(true)]);
        assert!(script.is_kept());
        script.push(Answer::Covers(true));
        assert_eq!(ask(), None);
        assert!(!script.is_kept(), "another question was asked");
    }
}
