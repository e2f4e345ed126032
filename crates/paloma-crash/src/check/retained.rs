//! What is demanded of retained messages.

use super::{Fate, Judge};
use crate::cast::{Kind, is_deletion};
use crate::message::Label;

impl Judge<'_> {
    /// Each SUBSCRIBE has a retained message sent once.
    pub(super) fn take_kept_again(&mut self, time: usize, who: u16, label: Label) {
        let asked = self.subscriptions.times_asked(who, label.stream);
        let came = self.kept_twice.entry((who, label)).or_default();
        *came += 1;
        if *came > asked {
            self.verdict.duplicated += 1;
            self.verdict.say(format!(
                "{time}: s{who} got the retained {label} for the {came}. time and asked {asked} times"
            ));
        }
    }

    pub(super) fn end_watch(&mut self, time: usize, watch: u32) {
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

    /// What was retained for certain when a subscription was asked for that is there to the end, and has not come since, nor
    /// anything newer. What was deleted since may have been so before its turn came.
    pub(super) fn never_brought(&self) -> Vec<(usize, u16, Label)> {
        let mut missing = Vec::new();
        for (who, stream, subscribing) in self.subscriptions.at_the_end() {
            if self.cast.streams[usize::from(stream)].kind != Kind::Retained {
                continue;
            }
            let Some(label) = self.retained_at(stream, subscribing) else {
                continue;
            };
            let came = self.kept.get(&(who, stream)).into_iter().flatten();
            let mut came = came.filter(|(time, _)| *time > subscribing);
            if !came.any(|(_, number)| *number >= label.number) {
                missing.push((subscribing, who, label));
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
