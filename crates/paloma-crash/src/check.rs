//! The one judge of a history.
//!
//! What it demands of a broker that acknowledges durably, whatever happened to it in between:
//!
//! - **lost**: a message that was acknowledged reached every subscriber that was surely subscribed from before it was sent until
//!   after it was acknowledged, and did not start anew since; a reader of retained messages finds none older than the last
//!   acknowledged one, and none that was deleted; a subscription that was acknowledged and is still there has brought what was
//!   retained when it was asked for, or something newer. A message may be gone only if its lifetime has passed since it was first
//!   sent, by a wall clock as far as it is believed; Session Present says that a session is there whenever its client knows it.
//! - **duplicated**: nothing comes twice at QoS 2; at QoS 1 only where somebody repeated it, be it at QoS 2 since the subscription
//!   has changed. A retained message comes at QoS 2 as often as its subscriber has asked for it.
//! - **reordered**: first arrivals of a stream ascend, but for a repeated message that came by first while its subscriber had no
//!   subscription, or whose lifetime was over then; at QoS 1 also for one whose lifetime was over.
//! - **wrong**: nothing comes to who is not subscribed, from before a clean start, or with a broken payload; Session Present does not
//!   invent sessions; the protocol is kept.

mod clock;
mod retained;
mod subscriptions;
#[cfg(test)]
mod tests;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};

pub use self::verdict::Verdict;

use self::clock::Clock;
use self::subscriptions::Subscriptions;
use crate::cast::{Cast, Kind, is_deletion};
use crate::history::{Event, History};
use crate::message::Label;

/// Judges a history that has come to rest: everybody is connected and has taken what there was.
#[must_use]
pub fn check(cast: &Cast, history: &History) -> Verdict {
    let mut judge = Judge::new(cast);
    for (time, event) in history.events().iter().enumerate() {
        judge.take(time, event);
    }
    judge.finish()
}

#[derive(Default)]
struct Fate {
    first_sent: usize,
    sends: u32,
    acknowledged: Option<usize>,
}

#[derive(Default)]
struct Watch {
    since: usize,
    seen: BTreeMap<u16, u32>,
}

struct Judge<'a> {
    cast: &'a Cast,
    verdict: Verdict,
    fates: BTreeMap<Label, Fate>,
    subscriptions: Subscriptions,
    /// Time and QoS of the last arrival.
    received: BTreeMap<(u16, Label), (usize, u8)>,
    retained_only: BTreeSet<(u16, Label)>,
    /// By subscriber and retained stream: what came, and when.
    kept: BTreeMap<(u16, u16), Vec<(usize, u32)>>,
    /// How often a retained message came at QoS 2.
    kept_twice: BTreeMap<(u16, Label), u32>,
    /// By subscriber, stream and QoS: each number that was the highest when it came, with its time.
    highest: BTreeMap<(u16, u16, u8), Vec<(u32, usize)>>,
    crashes: Vec<usize>,
    clock: Clock,
    watches: BTreeMap<u32, Watch>,
}

impl<'a> Judge<'a> {
    fn new(cast: &'a Cast) -> Self {
        Self {
            cast,
            verdict: Verdict::default(),
            fates: BTreeMap::new(),
            subscriptions: Subscriptions::new(cast),
            received: BTreeMap::new(),
            retained_only: BTreeSet::new(),
            kept: BTreeMap::new(),
            kept_twice: BTreeMap::new(),
            highest: BTreeMap::new(),
            crashes: Vec::new(),
            clock: Clock::default(),
            watches: BTreeMap::new(),
        }
    }

    fn take(&mut self, time: usize, event: &Event) {
        match *event {
            Event::Sent(label) => {
                let fate = self.fates.entry(label).or_insert_with(|| Fate {
                    first_sent: time,
                    ..Fate::default()
                });
                fate.sends += 1;
            }
            Event::Acknowledged(label) => {
                self.verdict.acknowledged += 1;
                if let Some(fate) = self.fates.get_mut(&label) {
                    fate.acknowledged.get_or_insert(time);
                }
            }
            Event::Refused(_) => {}
            Event::Recovered(_) => self.clock.start(time),
            Event::Subscribing(who, filter) => self.subscriptions.ask(time, who, filter),
            Event::Subscribed(who, filter) => {
                if let Some(last) = self.subscriptions.last(who, filter) {
                    last.subscribed.get_or_insert(time);
                }
            }
            Event::Unsubscribing(who, filter) => {
                if let Some(last) = self.subscriptions.last(who, filter) {
                    last.unsubscribing.get_or_insert(time);
                }
            }
            Event::Unsubscribed(who, filter) => {
                if let Some(last) = self.subscriptions.last(who, filter) {
                    last.unsubscribed.get_or_insert(time);
                }
            }
            Event::Wiping(who) => self.subscriptions.begin_wipe(who, time),
            Event::Wiped(who) => self.subscriptions.end_wipe(who, time),
            Event::Received {
                subscriber,
                label,
                qos,
                dup,
                retain,
            } => self.take_received(time, (subscriber, label), qos, dup, retain),
            Event::Connected {
                ref client,
                present,
                expected,
            } => self.take_connected(time, client, present, expected),
            Event::Watching(watch) => self.watches.entry(watch).or_default().since = time,
            Event::Watched(watch, label) => {
                let watch = self.watches.entry(watch).or_default();
                watch.seen.insert(label.stream, label.number);
            }
            Event::WatchEnded(watch) => self.end_watch(time, watch),
            Event::Crashed(_) => {
                self.crashes.push(time);
                self.clock.stop();
            }
            Event::ClockSet(seconds) => self.clock.set(time, seconds),
            Event::Foul(ref what) => {
                self.verdict.wrong += 1;
                self.verdict.say(format!("{time}: {what}"));
            }
        }
    }

    fn take_connected(&mut self, time: usize, client: &str, present: bool, expected: bool) {
        if present == expected {
            return;
        }
        if expected {
            self.verdict.lost += 1;
            self.verdict
                .say(format!("{time}: the session of {client} is lost"));
        } else {
            self.verdict.wrong += 1;
            self.verdict
                .say(format!("{time}: {client} has a session that it never made"));
        }
    }

    fn take_received(
        &mut self,
        time: usize,
        (who, label): (u16, Label),
        qos: u8,
        dup: bool,
        retain: bool,
    ) {
        self.verdict.received += 1;
        let Some(fate) = self.fates.get(&label) else {
            self.verdict.wrong += 1;
            self.verdict
                .say(format!("{time}: s{who} got {label}, which nobody sent"));
            return;
        };
        let stream = &self.cast.streams[usize::from(label.stream)];
        let is_repeated = fate.sends > 1 && stream.qos == 1;
        if !self
            .subscriptions
            .may_have(who, label, fate.first_sent, time)
        {
            self.verdict.wrong += 1;
            self.verdict
                .say(format!("{time}: s{who} got {label} without a subscription"));
        }
        let is_stale = fate
            .acknowledged
            .is_some_and(|acknowledged| self.subscriptions.wiped_between(who, acknowledged, time));
        if is_stale && !retain {
            self.verdict.wrong += 1;
            self.verdict.say(format!(
                "{time}: s{who} got {label} from before its clean start"
            ));
        }
        if qos > stream.qos {
            self.verdict.wrong += 1;
            self.verdict
                .say(format!("{time}: s{who} got {label} at QoS {qos}"));
        }
        if stream.kind == Kind::Retained {
            let kept = self.kept.entry((who, label.stream)).or_default();
            kept.push((time, label.number));
        }
        if retain {
            if !self.received.contains_key(&(who, label)) {
                self.retained_only.insert((who, label));
            }
            if qos == 2 {
                self.take_kept_again(time, who, label);
            }
            return;
        }
        if let Some((before, qos_before)) = self.received.insert((who, label), (time, qos)) {
            let was_killed = self.crashes.iter().any(|crash| *crash > before);
            // Once at QoS 1 and, by another subscription, at QoS 2 is no promise of exactly once.
            let is_explained = qos.min(qos_before) < 2 && (dup || is_repeated || was_killed);
            if !is_explained {
                self.verdict.duplicated += 1;
                self.verdict.say(format!(
                    "{time}: s{who} got {label} at QoS {qos} again, first at {before}"
                ));
            }
            return;
        }
        self.take_first(time, who, label, qos);
    }

    /// First arrivals ascend, unless the publisher repeated one and the subscriber may have missed it the first time: it was not
    /// subscribed all the time from its sending until a later one came, or the message's lifetime was over. At QoS 1, where nothing
    /// waits for a commit, its end may be lost in a crash, behind which a clock that was set back says that it still lives.
    fn take_first(&mut self, time: usize, who: u16, label: Label, qos: u8) {
        let stream = &self.cast.streams[usize::from(label.stream)];
        let key = (who, label.stream, qos);
        let highest = self.highest.entry(key).or_default();
        let at = highest.partition_point(|(number, _)| *number < label.number);
        let Some(&(later, came)) = highest.get(at) else {
            highest.push((label.number, time));
            return;
        };
        let Some(fate) = self.fates.get(&label) else {
            return;
        };
        let is_repeated = fate.sends > 1;
        let was_missed = is_repeated
            && !self
                .subscriptions
                .must_have(who, label, fate.first_sent, came);
        let was_killed = self.crashes.iter().any(|crash| *crash > came);
        let had_expired =
            (is_repeated || qos == 1 && was_killed) && self.may_have_expired(label.stream, fate);
        let is_late_comer = was_missed || had_expired;
        if stream.kind != Kind::Will && !is_late_comer {
            self.verdict.reordered += 1;
            self.verdict
                .say(format!("{time}: s{who} got {label} after number {later}"));
        }
    }

    /// Whether a message's lifetime may be over. What a run itself takes is far less than any lifetime.
    fn may_have_expired(&self, stream: u16, fate: &Fate) -> bool {
        let lifetime = self.cast.streams[usize::from(stream)].lifetime_seconds;
        lifetime.is_some_and(|seconds| self.clock.passed_since(fate.first_sent) >= seconds.into())
    }

    fn finish(mut self) -> Verdict {
        let mut missing = Vec::new();
        for (label, fate) in &self.fates {
            let stream = &self.cast.streams[usize::from(label.stream)];
            let Some(acknowledged) = fate.acknowledged else {
                continue;
            };
            if stream.kind == Kind::Retained && is_deletion(label.number)
                || self.may_have_expired(label.stream, fate)
            {
                continue;
            }
            for who in 0..self.cast.subscribers.len() as u16 {
                let is_there = self.received.contains_key(&(who, *label))
                    || self.retained_only.contains(&(who, *label));
                if !is_there
                    && self
                        .subscriptions
                        .must_have(who, *label, fate.first_sent, acknowledged)
                {
                    missing.push((acknowledged, who, *label));
                }
            }
        }
        for (acknowledged, who, label) in missing {
            self.verdict.lost += 1;
            self.verdict.lost_at.push(acknowledged);
            self.verdict.say(format!(
                "s{who} never got {label}, acknowledged at {acknowledged}"
            ));
        }
        for (subscribing, who, label) in self.never_brought() {
            self.verdict.lost += 1;
            self.verdict.lost_at.push(subscribing);
            self.verdict.say(format!(
                "s{who} subscribed at {subscribing} and never got the retained {label} or a newer one"
            ));
        }
        self.verdict.lost_at.sort_unstable();
        self.verdict
    }
}
