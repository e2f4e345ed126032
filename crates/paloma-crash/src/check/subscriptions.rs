//! Who was subscribed to what, and when.

use std::collections::BTreeMap;

use crate::cast::Cast;
use crate::message::Label;

/// Every subscriber's subscriptions over the time of a history.
#[derive(Default)]
pub(super) struct Subscriptions {
    /// By subscriber and filter.
    intervals: BTreeMap<(u16, u8), Vec<Interval>>,
    /// By subscriber and stream: which of the subscriber's filters match.
    matching: BTreeMap<(u16, u16), Vec<u8>>,
    /// By subscriber: beginning and end of clean starts.
    wipes: BTreeMap<u16, Vec<(usize, Option<usize>)>>,
    /// SUBSCRIBEs that were sent, by subscriber and filter.
    asked: BTreeMap<(u16, u8), u32>,
}

/// From SUBSCRIBE to UNSUBACK, or to a clean start.
pub(super) struct Interval {
    pub(super) subscribing: usize,
    pub(super) subscribed: Option<usize>,
    pub(super) unsubscribing: Option<usize>,
    pub(super) unsubscribed: Option<usize>,
}

impl Subscriptions {
    pub(super) fn new(cast: &Cast) -> Self {
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
            matching,
            ..Self::default()
        }
    }

    /// A SUBSCRIBE is sent.
    pub(super) fn ask(&mut self, time: usize, who: u16, filter: u8) {
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

    /// The interval that SUBACK, UNSUBSCRIBE and UNSUBACK are about.
    pub(super) fn last(&mut self, who: u16, filter: u8) -> Option<&mut Interval> {
        self.intervals.get_mut(&(who, filter))?.last_mut()
    }

    /// A clean start is asked for.
    pub(super) fn begin_wipe(&mut self, who: u16, time: usize) {
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

    /// It is answered.
    pub(super) fn end_wipe(&mut self, who: u16, time: usize) {
        if let Some((_, end)) = self.wipes.entry(who).or_default().last_mut() {
            end.get_or_insert(time);
        }
        for (_, intervals) in self.intervals.range_mut((who, 0)..=(who, u8::MAX)) {
            if let Some(last) = intervals.last_mut() {
                last.unsubscribed.get_or_insert(time);
            }
        }
    }

    /// Whether the subscriber had a subscription at some time between the two.
    pub(super) fn may_have(&self, who: u16, label: Label, from: usize, to: usize) -> bool {
        self.intervals_for(who, label).any(|interval| {
            interval.subscribing < to && interval.unsubscribed.is_none_or(|end| end > from)
        })
    }

    /// Whether it had one all the time between the two.
    pub(super) fn must_have(&self, who: u16, label: Label, from: usize, to: usize) -> bool {
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

    /// Whether a clean start was asked for and answered between the two.
    pub(super) fn wiped_between(&self, who: u16, from: usize, to: usize) -> bool {
        let mut wipes = self.wipes.get(&who).into_iter().flatten();
        wipes.any(|(start, end)| from < *start && end.is_some_and(|end| end < to))
    }

    /// How many SUBSCRIBEs with a filter that matches the stream the subscriber has sent.
    pub(super) fn times_asked(&self, who: u16, stream: u16) -> u32 {
        let filters = self.matching.get(&(who, stream)).into_iter().flatten();
        let asked = filters.filter_map(|filter| self.asked.get(&(who, *filter)));
        asked.sum()
    }

    /// The subscriptions that are there to the end: subscriber, stream that one matches, and when it was asked for.
    pub(super) fn at_the_end(&self) -> impl Iterator<Item = (u16, u16, usize)> {
        self.matching
            .iter()
            .flat_map(move |((who, stream), filters)| {
                let asked = filters.iter().filter_map(move |filter| {
                    let last = self.intervals.get(&(*who, *filter))?.last()?;
                    let is_there = last.subscribed.is_some() && last.unsubscribing.is_none();
                    is_there.then_some(last.subscribing)
                });
                asked.map(move |subscribing| (*who, *stream, subscribing))
            })
    }
}
