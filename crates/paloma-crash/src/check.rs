//! The one judge of a history.
//!
//! What it demands of a broker that acknowledges durably, whatever happened to it in between:
//!
//! - **lost**: a message that was acknowledged reached every subscriber that was surely subscribed from before it was sent until
//!   after it was acknowledged, and did not start anew since; a reader of retained messages finds none older than the last
//!   acknowledged one, and none that was deleted; a subscription that was acknowledged and is still there has brought what was
//!   retained when it was asked for, or something newer; Session Present says that a session is there whenever its client knows it.
//! - **duplicated**: nothing comes twice at QoS 2; at QoS 1 only where somebody repeated it, be it at QoS 2 since the subscription
//!   has changed. A retained message comes at QoS 2 as often as its subscriber has asked for it.
//! - **reordered**: first arrivals of a stream ascend, but for a repeated message that came by first while its subscriber had no
//!   subscription.
//! - **wrong**: nothing comes to who is not subscribed, from before a clean start, or with a broken payload; Session Present does not
//!   invent sessions; the protocol is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::cast::{Cast, Kind, is_deletion};
use crate::history::{Event, History};
use crate::message::Label;

/// Violations that are put into words; all are counted.
const WORDS_MAX: usize = 40;

/// What is wrong with a history, and how much was right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Messages that the broker had taken over.
    pub acknowledged: u64,
    /// Messages that it gave to subscribers, repetitions included.
    pub received: u64,
    /// Acknowledged but not delivered; lost sessions and retained messages too.
    pub lost: u64,
    /// Delivered more often than allowed.
    pub duplicated: u64,
    /// Delivered out of order.
    pub reordered: u64,
    /// Anything else.
    pub wrong: u64,
    /// What happened, with the time in the history.
    pub words: Vec<String>,
    /// The times at which messages that are lost were acknowledged, ascending.
    pub lost_at: Vec<usize>,
}

impl Verdict {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.lost + self.duplicated + self.reordered + self.wrong == 0
    }

    /// Adds the figures of another run.
    pub fn add(&mut self, other: &Self) {
        self.acknowledged += other.acknowledged;
        self.received += other.received;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.wrong += other.wrong;
        let room = WORDS_MAX.saturating_sub(self.words.len());
        self.words.extend(other.words.iter().take(room).cloned());
    }

    fn say(&mut self, words: String) {
        if self.words.len() < WORDS_MAX {
            self.words.push(words);
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            acknowledged,
            lost,
            duplicated,
            reordered,
            wrong,
            ..
        } = self;
        write!(
            f,
            "acknowledged {acknowledged}, lost {lost}, duplicated {duplicated}, reordered {reordered}, wrong {wrong}"
        )
    }
}

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

/// From SUBSCRIBE to UNSUBACK, or to a clean start.
struct Interval {
    subscribing: usize,
    subscribed: Option<usize>,
    unsubscribing: Option<usize>,
    unsubscribed: Option<usize>,
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
    /// By subscriber and filter.
    intervals: BTreeMap<(u16, u8), Vec<Interval>>,
    /// By subscriber and stream: which of the subscriber's filters match.
    matching: BTreeMap<(u16, u16), Vec<u8>>,
    /// By subscriber: beginning and end of clean starts.
    wipes: BTreeMap<u16, Vec<(usize, Option<usize>)>>,
    /// Time and QoS of the last arrival.
    received: BTreeMap<(u16, Label), (usize, u8)>,
    retained_only: BTreeSet<(u16, Label)>,
    /// By subscriber and retained stream: what came, and when.
    kept: BTreeMap<(u16, u16), Vec<(usize, u32)>>,
    /// How often a retained message came at QoS 2.
    kept_twice: BTreeMap<(u16, Label), u32>,
    /// SUBSCRIBEs that were sent, by subscriber and filter.
    asked: BTreeMap<(u16, u8), u32>,
    /// By subscriber, stream and QoS: each number that was the highest when it came, with its time.
    highest: BTreeMap<(u16, u16, u8), Vec<(u32, usize)>>,
    crashes: Vec<usize>,
    watches: BTreeMap<u32, Watch>,
}

impl<'a> Judge<'a> {
    fn new(cast: &'a Cast) -> Self {
        let mut matching: BTreeMap<(u16, u16), Vec<u8>> = BTreeMap::new();
        for (who, subscriber) in (0..).zip(&cast.subscribers) {
            for stream in 0..cast.streams.len() as u16 {
                for (number, filter) in (0..).zip(&subscriber.filters) {
                    if cast.matches(&filter.filter, stream) {
                        matching.entry((who, stream)).or_default().push(number);
                    }
                }
            }
        }
        Self {
            cast,
            verdict: Verdict::default(),
            fates: BTreeMap::new(),
            intervals: BTreeMap::new(),
            matching,
            wipes: BTreeMap::new(),
            received: BTreeMap::new(),
            retained_only: BTreeSet::new(),
            kept: BTreeMap::new(),
            kept_twice: BTreeMap::new(),
            asked: BTreeMap::new(),
            highest: BTreeMap::new(),
            crashes: Vec::new(),
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
            Event::Refused(_) | Event::Recovered(_) => {}
            Event::Subscribing(who, filter) => self.take_subscribing(time, who, filter),
            Event::Subscribed(who, filter) => {
                if let Some(last) = self.last_interval(who, filter) {
                    last.subscribed.get_or_insert(time);
                }
            }
            Event::Unsubscribing(who, filter) => {
                if let Some(last) = self.last_interval(who, filter) {
                    last.unsubscribing.get_or_insert(time);
                }
            }
            Event::Unsubscribed(who, filter) => {
                if let Some(last) = self.last_interval(who, filter) {
                    last.unsubscribed.get_or_insert(time);
                }
            }
            Event::Wiping(who) => self.take_wiping(who, time),
            Event::Wiped(who) => self.take_wiped(who, time),
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
            Event::Crashed(_) => self.crashes.push(time),
            Event::Foul(ref what) => {
                self.verdict.wrong += 1;
                self.verdict.say(format!("{time}: {what}"));
            }
        }
    }

    fn take_subscribing(&mut self, time: usize, who: u16, filter: u8) {
        *self.asked.entry((who, filter)).or_default() += 1;
        let intervals = self.intervals.entry((who, filter)).or_default();
        // Repeated until its SUBACK comes.
        if (intervals.last()).is_none_or(|last| last.unsubscribing.is_some()) {
            intervals.push(Interval {
                subscribing: time,
                subscribed: None,
                unsubscribing: None,
                unsubscribed: None,
            });
        }
    }

    fn last_interval(&mut self, who: u16, filter: u8) -> Option<&mut Interval> {
        self.intervals.get_mut(&(who, filter))?.last_mut()
    }

    fn take_wiping(&mut self, who: u16, time: usize) {
        let wipes = self.wipes.entry(who).or_default();
        // Repeated until its CONNACK comes.
        if wipes.last().is_none_or(|(_, end)| end.is_some()) {
            wipes.push((time, None));
        }
        for (_, intervals) in self.intervals.range_mut((who, 0)..=(who, u8::MAX)) {
            if let Some(last) = intervals.last_mut() {
                last.unsubscribing.get_or_insert(time);
            }
        }
    }

    fn take_wiped(&mut self, who: u16, time: usize) {
        if let Some((_, end)) = self.wipes.entry(who).or_default().last_mut() {
            end.get_or_insert(time);
        }
        for (_, intervals) in self.intervals.range_mut((who, 0)..=(who, u8::MAX)) {
            if let Some(last) = intervals.last_mut() {
                last.unsubscribed.get_or_insert(time);
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
        if !self.may_have(who, label, fate.first_sent, time) {
            self.verdict.wrong += 1;
            self.verdict
                .say(format!("{time}: s{who} got {label} without a subscription"));
        }
        let is_stale = fate.acknowledged.is_some_and(|acknowledged| {
            let mut wipes = self.wipes.get(&who).into_iter().flatten();
            wipes.any(|(start, end)| acknowledged < *start && end.is_some_and(|end| end < time))
        });
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

    /// Each SUBSCRIBE has a retained message sent once.
    fn take_kept_again(&mut self, time: usize, who: u16, label: Label) {
        let filters = self.matching.get(&(who, label.stream));
        let filters = filters.into_iter().flatten();
        let asked = filters.filter_map(|filter| self.asked.get(&(who, *filter)));
        let asked: u32 = asked.sum();
        let came = self.kept_twice.entry((who, label)).or_default();
        *came += 1;
        if *came > asked {
            self.verdict.duplicated += 1;
            self.verdict.say(format!(
                "{time}: s{who} got the retained {label} for the {came}. time and asked {asked} times"
            ));
        }
    }

    /// First arrivals ascend, unless the publisher repeated one and the subscriber may have missed it the first time: it was not
    /// subscribed all the time from its sending until a later one came.
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
        let is_late_comer = fate.sends > 1 && !self.must_have(who, label, fate.first_sent, came);
        if stream.kind != Kind::Will && !is_late_comer {
            self.verdict.reordered += 1;
            self.verdict
                .say(format!("{time}: s{who} got {label} after number {later}"));
        }
    }

    /// Whether the subscriber had a subscription at some time between the two.
    fn may_have(&self, who: u16, label: Label, from: usize, to: usize) -> bool {
        self.intervals_for(who, label).any(|interval| {
            interval.subscribing < to && interval.unsubscribed.is_none_or(|end| end > from)
        })
    }

    /// Whether it had one all the time between the two.
    fn must_have(&self, who: u16, label: Label, from: usize, to: usize) -> bool {
        let is_wiped = self.wipes.get(&who).into_iter().flatten();
        let mut later_wipes = is_wiped.filter(|(start, end)| *start > from || end.is_none());
        later_wipes.next().is_none()
            && self.intervals_for(who, label).any(|interval| {
                interval.subscribed.is_some_and(|start| start < from)
                    && interval.unsubscribing.is_none_or(|end| end > to)
            })
    }

    fn intervals_for(&self, who: u16, label: Label) -> impl Iterator<Item = &Interval> {
        let filters = self
            .matching
            .get(&(who, label.stream))
            .into_iter()
            .flatten();
        filters.flat_map(move |filter| self.intervals.get(&(who, *filter)).into_iter().flatten())
    }

    fn end_watch(&mut self, time: usize, watch: u32) {
        let Some(watch) = self.watches.remove(&watch) else {
            return;
        };
        for (number, stream) in (0..).zip(&self.cast.streams) {
            if stream.kind != Kind::Retained {
                continue;
            }
            let all = Label {
                stream: number,
                number: 0,
            }..=Label {
                stream: number,
                number: u32::MAX,
            };
            let mut lower = None;
            let mut upper = None;
            for (label, fate) in self.fates.range(all) {
                if fate.acknowledged.is_some_and(|at| at < watch.since) {
                    lower = Some(label.number);
                }
                upper = Some(label.number);
            }
            let seen = watch.seen.get(&number).copied();
            let is_right = match (seen, lower, upper) {
                (Some(seen), Some(lower), _) => lower <= seen,
                (Some(_), None, _) | (None, None, _) => true,
                (None, Some(lower), upper) => (lower..=upper.unwrap_or(lower)).any(is_deletion),
            };
            if !is_right {
                self.verdict.lost += 1;
                self.verdict.say(format!(
                    "{time}: retained {} is {seen:?}, not in {lower:?}..={upper:?}",
                    stream.topic
                ));
            }
        }
    }

    fn finish(mut self) -> Verdict {
        let mut missing = Vec::new();
        for (label, fate) in &self.fates {
            let stream = &self.cast.streams[usize::from(label.stream)];
            let Some(acknowledged) = fate.acknowledged else {
                continue;
            };
            if stream.kind == Kind::Retained && is_deletion(label.number) {
                continue;
            }
            for who in 0..self.cast.subscribers.len() as u16 {
                let is_there = self.received.contains_key(&(who, *label))
                    || self.retained_only.contains(&(who, *label));
                if !is_there && self.must_have(who, *label, fate.first_sent, acknowledged) {
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

    /// What was retained for certain when a subscription was asked for that is there to the end, and has not come since, nor
    /// anything newer. What was deleted since may have been so before its turn came.
    fn never_brought(&self) -> Vec<(usize, u16, Label)> {
        let mut missing = Vec::new();
        for ((who, stream), filters) in &self.matching {
            if self.cast.streams[usize::from(*stream)].kind != Kind::Retained {
                continue;
            }
            let asked = filters.iter().filter_map(|filter| {
                let last = self.intervals.get(&(*who, *filter))?.last()?;
                let is_there = last.subscribed.is_some() && last.unsubscribing.is_none();
                is_there.then_some(last.subscribing)
            });
            for subscribing in asked {
                let Some(label) = self.retained_at(*stream, subscribing) else {
                    continue;
                };
                let came = self.kept.get(&(*who, *stream)).into_iter().flatten();
                let mut came = came.filter(|(time, _)| *time > subscribing);
                if !came.any(|(_, number)| *number >= label.number) {
                    missing.push((subscribing, *who, label));
                }
            }
        }
        missing
    }

    /// The last value that was acknowledged before this time, if nothing that was sent from then on deletes it.
    fn retained_at(&self, stream: u16, time: usize) -> Option<Label> {
        let label = |number| Label { stream, number };
        let all = label(0)..=label(u32::MAX);
        let before = |(_, fate): &(&Label, &Fate)| fate.acknowledged.is_some_and(|at| at < time);
        let (last, _) = self.fates.range(all.clone()).rev().find(before)?;
        let (upper, _) = self.fates.range(all).next_back()?;
        let is_deleted = (last.number..=upper.number).any(is_deletion);
        (!is_deleted).then_some(*last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cast::{Filter, Publisher, Stream, Subscriber};
    use paloma_interop::peer::Version;

    const COUNT: u32 = 20;

    /// One publisher at both QoS and with a retained topic, one subscriber to the first two.
    fn cast() -> Cast {
        let stream = |topic: &str, qos, kind| Stream {
            publisher: 0,
            topic: topic.to_owned(),
            qos,
            kind,
        };
        Cast {
            streams: vec![
                stream("load/0/one", 1, Kind::Plain),
                stream("load/0/two", 2, Kind::Plain),
                stream("kept/0", 1, Kind::Retained),
            ],
            publishers: vec![Publisher {
                version: Version::V5,
                window: 1,
                streams: vec![0, 1, 2],
                will: None,
            }],
            subscribers: vec![Subscriber {
                version: Version::V5,
                receive_maximum: 10,
                filters: vec![Filter {
                    filter: "load/#".to_owned(),
                    qos: 2,
                    is_fickle: true,
                }],
                is_lazy: false,
                wipes: false,
            }],
            payload_bytes_max: 100,
        }
    }

    fn received(label: Label, qos: u8) -> Event {
        Event::Received {
            subscriber: 0,
            label,
            qos,
            dup: false,
            retain: false,
        }
    }

    fn label(stream: u16, number: u32) -> Label {
        Label { stream, number }
    }

    /// Everything in order, with a crash in the middle and a look at the retained message at the end.
    fn good() -> History {
        let mut history = History::new();
        history.add(Event::Subscribing(0, 0));
        history.add(Event::Subscribed(0, 0));
        for number in 0..COUNT {
            if number == COUNT / 2 {
                history.add(Event::Crashed(1));
                history.add(Event::Recovered(1));
            }
            for (stream, qos) in [(0, 1), (1, 2)] {
                history.add(Event::Sent(label(stream, number)));
                history.add(received(label(stream, number), qos));
                history.add(Event::Acknowledged(label(stream, number)));
            }
        }
        for number in 0..3 {
            history.add(Event::Sent(label(2, number)));
            history.add(Event::Acknowledged(label(2, number)));
        }
        history.add(Event::Watching(1));
        history.add(Event::Watched(1, label(2, 2)));
        history.add(Event::WatchEnded(1));
        history
    }

    /// Judges the good history after a change: lost, duplicated, reordered, wrong.
    fn check_doctored(change: impl FnOnce(&mut Vec<Event>), expected: [u64; 4]) {
        let mut history = good();
        change(history.events_mut());
        let verdict = check(&cast(), &history);
        let found = [
            verdict.lost,
            verdict.duplicated,
            verdict.reordered,
            verdict.wrong,
        ];
        assert_eq!(found, expected, "{:#?}", verdict.words);
        assert_eq!(verdict.is_clean(), expected == [0; 4]);
    }

    fn place(events: &[Event], wanted: &Event) -> usize {
        events.iter().position(|event| event == wanted).unwrap()
    }

    #[test]
    fn a_good_history_passes() {
        check_doctored(|_| {}, [0; 4]);
        let verdict = check(&cast(), &good());
        assert_eq!((verdict.acknowledged, verdict.received), (43, 40));
    }

    #[test]
    fn one_lost_message_is_caught_at_either_qos() {
        for (stream, qos) in [(0, 1), (1, 2)] {
            for number in 0..COUNT {
                let gone = received(label(stream, number), qos);
                check_doctored(|events| events.retain(|event| *event != gone), [1, 0, 0, 0]);
            }
        }
    }

    #[test]
    fn a_message_that_nobody_acknowledged_may_be_lost() {
        let (gone, silent) = (received(label(1, 5), 2), Event::Acknowledged(label(1, 5)));
        check_doctored(
            |events| events.retain(|event| *event != gone && *event != silent),
            [0; 4],
        );
    }

    #[test]
    fn one_duplicate_is_caught_at_qos_2_even_over_a_crash_or_with_dup() {
        check_doctored(|events| events.push(received(label(1, 3), 2)), [0, 1, 0, 0]);
        let again = Event::Received {
            subscriber: 0,
            label: label(1, 19),
            qos: 2,
            dup: true,
            retain: false,
        };
        check_doctored(|events| events.push(again), [0, 1, 0, 0]);
    }

    #[test]
    fn a_duplicate_at_qos_1_needs_a_reason() {
        check_doctored(
            |events| events.push(received(label(0, 19), 1)),
            [0, 1, 0, 0],
        );
        // The broker was killed since.
        check_doctored(|events| events.push(received(label(0, 3), 1)), [0; 4]);
        // The publisher had sent it again.
        let resent = [Event::Sent(label(0, 19)), received(label(0, 19), 1)];
        check_doctored(|events| events.extend(resent), [0; 4]);
    }

    #[test]
    fn one_reordered_message_is_caught() {
        for (stream, qos) in [(0, 1), (1, 2)] {
            check_doctored(
                |events| {
                    let one = place(events, &received(label(stream, 14), qos));
                    let other = place(events, &received(label(stream, 15), qos));
                    let (moved, at) = (events.remove(one), other);
                    events.insert(at, moved);
                },
                [0, 0, 1, 0],
            );
        }
    }

    #[test]
    fn a_repeated_message_may_come_late_to_who_was_not_subscribed_when_it_was_sent() {
        let late = |is_repeated: bool| {
            let mut history = History::new();
            history.add(Event::Sent(label(0, 0)));
            history.add(Event::Subscribing(0, 0));
            history.add(Event::Subscribed(0, 0));
            history.add(Event::Sent(label(0, 1)));
            history.add(received(label(0, 1), 1));
            history.add(Event::Crashed(1));
            if is_repeated {
                history.add(Event::Sent(label(0, 0)));
            }
            history.add(received(label(0, 0), 1));
            check(&cast(), &history).reordered
        };
        assert_eq!((late(true), late(false)), (0, 1));
    }

    #[test]
    fn a_repeated_message_may_come_late_to_who_was_not_subscribed_all_the_time() {
        // Sent before the subscription ends, taken while there is none, and repeated after the next has brought a later one.
        let late = |has_a_gap: bool, is_repeated: bool| {
            let mut history = History::new();
            history.add(Event::Subscribing(0, 0));
            history.add(Event::Subscribed(0, 0));
            history.add(Event::Sent(label(0, 0)));
            history.add(Event::Sent(label(0, 1)));
            if has_a_gap {
                history.add(Event::Unsubscribing(0, 0));
                history.add(Event::Unsubscribed(0, 0));
                history.add(Event::Subscribing(0, 0));
                history.add(Event::Subscribed(0, 0));
            }
            history.add(received(label(0, 1), 1));
            history.add(Event::Crashed(1));
            if is_repeated {
                history.add(Event::Sent(label(0, 0)));
            }
            // A gap behind the later one explains nothing.
            history.add(Event::Unsubscribing(0, 0));
            history.add(Event::Unsubscribed(0, 0));
            history.add(Event::Subscribing(0, 0));
            history.add(Event::Subscribed(0, 0));
            history.add(received(label(0, 0), 1));
            check(&cast(), &history).reordered
        };
        assert_eq!((late(true, true), late(true, false)), (0, 1));
        assert_eq!((late(false, true), late(false, false)), (1, 1));
    }

    #[test]
    fn a_message_that_came_at_qos_1_may_come_at_qos_2_after_a_crash() {
        // It went out before its commit, which was lost, and its publisher repeats it when the subscription is another.
        let twice = |first: u8, is_killed: bool| {
            let mut history = History::new();
            history.add(Event::Subscribing(0, 0));
            history.add(Event::Subscribed(0, 0));
            history.add(Event::Sent(label(1, 0)));
            history.add(received(label(1, 0), first));
            if is_killed {
                history.add(Event::Crashed(1));
            }
            history.add(Event::Sent(label(1, 0)));
            history.add(received(label(1, 0), 2));
            check(&cast(), &history).duplicated
        };
        assert_eq!((twice(1, true), twice(2, true)), (0, 1));
        assert_eq!((twice(1, false), twice(2, false)), (1, 1));
    }

    #[test]
    fn a_lost_or_an_invented_session_is_caught() {
        let connected = |present, expected| Event::Connected {
            client: "p0".to_owned(),
            present,
            expected,
        };
        check_doctored(|events| events.push(connected(false, true)), [1, 0, 0, 0]);
        check_doctored(|events| events.push(connected(true, false)), [0, 0, 0, 1]);
        check_doctored(|events| events.push(connected(true, true)), [0; 4]);
    }

    #[test]
    fn a_retained_message_that_is_gone_or_old_is_caught() {
        let seen = Event::Watched(1, label(2, 2));
        check_doctored(|events| events.retain(|event| *event != seen), [1, 0, 0, 0]);
        check_doctored(
            |events| {
                let at = place(events, &seen);
                events[at] = Event::Watched(1, label(2, 1));
            },
            [1, 0, 0, 0],
        );
    }

    #[test]
    fn a_deleted_retained_message_that_comes_back_is_caught() {
        let delete = |events: &mut Vec<Event>| {
            let at = place(events, &Event::Watching(1));
            let more = (3..7).flat_map(|number| {
                [
                    Event::Sent(label(2, number)),
                    Event::Acknowledged(label(2, number)),
                ]
            });
            events.splice(at..at, more);
        };
        check_doctored(delete, [1, 0, 0, 0]);
        check_doctored(
            |events| {
                delete(events);
                events.retain(|event| *event != Event::Watched(1, label(2, 2)));
            },
            [0; 4],
        );
    }

    /// A subscriber asks for what is retained, the broker is killed meanwhile, and the message comes so often.
    fn check_kept(came: u32, change: impl FnOnce(&mut Vec<Event>), expected: [u64; 2]) {
        let mut cast = cast();
        cast.subscribers[0].filters.push(Filter {
            filter: "kept/#".to_owned(),
            qos: 2,
            is_fickle: true,
        });
        let mut history = History::new();
        history.add(Event::Sent(label(2, 0)));
        history.add(Event::Acknowledged(label(2, 0)));
        history.add(Event::Subscribing(0, 1));
        history.add(Event::Subscribed(0, 1));
        history.add(Event::Crashed(1));
        for _ in 0..came {
            history.add(Event::Received {
                subscriber: 0,
                label: label(2, 0),
                qos: 2,
                dup: false,
                retain: true,
            });
        }
        change(history.events_mut());
        cast.streams[2].qos = 2;
        let verdict = check(&cast, &history);
        let found = [verdict.lost, verdict.duplicated];
        assert_eq!(found, expected, "{:#?}", verdict.words);
    }

    #[test]
    fn a_retained_message_that_a_subscription_never_brings_is_caught() {
        check_kept(1, |_| {}, [0, 0]);
        check_kept(0, |_| {}, [1, 0]);
        // What came before it was asked for is not what was asked for.
        check_kept(1, |events| events.rotate_right(1), [1, 0]);
        // It was not acknowledged, or the subscription was not.
        check_kept(0, |events| drop(events.remove(1)), [0, 0]);
        check_kept(0, |events| drop(events.remove(3)), [0, 0]);
        // The client does not want it any more.
        check_kept(0, |events| events.push(Event::Unsubscribing(0, 1)), [0, 0]);
        check_kept(0, |events| events.push(Event::Wiping(0)), [0, 0]);
        // It may have been deleted before its turn came.
        let deleted = (1..7).map(|number| Event::Sent(label(2, number)));
        check_kept(0, |events| events.extend(deleted), [0, 0]);
    }

    #[test]
    fn a_retained_message_that_comes_twice_at_qos_2_for_one_subscribe_is_caught() {
        check_kept(2, |_| {}, [0, 1]);
        check_kept(
            2,
            |events| events.insert(2, Event::Subscribing(0, 1)),
            [0, 0],
        );
    }

    #[test]
    fn messages_without_a_subscription_or_from_before_a_clean_start_are_caught() {
        let end = [Event::Unsubscribing(0, 0), Event::Unsubscribed(0, 0)];
        let late = [Event::Sent(label(0, 20)), received(label(0, 20), 1)];
        check_doctored(
            |events| events.extend(end.clone().into_iter().chain(late.clone())),
            [0, 0, 0, 1],
        );
        // A subscriber that begins anew is owed nothing from before, and must not get it.
        let gone = received(label(1, 19), 2);
        let wiped = [Event::Wiping(0), Event::Wiped(0)];
        check_doctored(
            |events| {
                events.retain(|event| *event != gone);
                events.extend(wiped.clone());
            },
            [0; 4],
        );
        check_doctored(
            |events| {
                events.retain(|event| *event != gone);
                events.extend(wiped);
                events.push(gone.clone());
            },
            [0, 0, 0, 1],
        );
    }

    #[test]
    fn what_nobody_sent_and_what_is_foul_is_caught() {
        check_doctored(
            |events| events.push(received(label(0, 99), 1)),
            [0, 0, 0, 1],
        );
        check_doctored(
            |events| events.push(Event::Foul("it".to_owned())),
            [0, 0, 0, 1],
        );
    }
}
