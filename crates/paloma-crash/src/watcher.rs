//! A reader of retained messages with a clean session.

use std::collections::{BTreeMap, BTreeSet};

use paloma_interop::peer::Version;
use paloma_interop::raw::Frame;
use paloma_interop::wire::{self, Connect, PUBACK};

use crate::cast::{Cast, Kind, is_deletion};
use crate::client::{Client, Stage, Then};
use crate::history::{Event, History};
use crate::message::Label;

/// Reads all retained messages once.
#[derive(Clone, Debug)]
pub struct Watcher {
    watch: u32,
    name: String,
    is_subscribed: bool,
    /// Streams of which a value has to come.
    missing: BTreeSet<u16>,
}

impl Watcher {
    /// A reader of what the broker must have by the history so far, while nobody publishes.
    #[must_use]
    pub fn new(cast: &Cast, history: &History, watch: u32) -> Self {
        // The last number acknowledged and the last one sent.
        let mut numbers: BTreeMap<u16, (Option<u32>, u32)> = BTreeMap::new();
        for event in history.events() {
            match event {
                Event::Sent(label) => {
                    let (_, sent) = numbers.entry(label.stream).or_default();
                    *sent = label.number.max(*sent);
                }
                Event::Acknowledged(label) => {
                    let (acknowledged, _) = numbers.entry(label.stream).or_default();
                    *acknowledged = Some(label.number).max(*acknowledged);
                }
                _ => {}
            }
        }
        let must_be_there = |stream: &u16| {
            cast.streams[usize::from(*stream)].kind == Kind::Retained
                && numbers.get(stream).is_some_and(|(acknowledged, sent)| {
                    acknowledged.is_some_and(|lower| !(lower..=*sent).any(is_deletion))
                })
        };
        Self {
            watch,
            name: format!("w{watch}"),
            is_subscribed: false,
            missing: (0..cast.streams.len() as u16)
                .filter(must_be_there)
                .collect(),
        }
    }

    /// Ends it, whether everything has come or not.
    pub fn finish(&self, history: &mut History) {
        history.add(Event::WatchEnded(self.watch));
    }
}

impl Client for Watcher {
    fn name(&self) -> &str {
        &self.name
    }

    fn connect(&mut self, stage: &mut Stage<'_>) {
        stage
            .out
            .extend(Connect::new(Version::V5, &self.name).encode());
    }

    fn handle(&mut self, frame: &Frame, stage: &mut Stage<'_>) -> Then {
        match frame.first {
            0x20 => {
                stage.add(Event::Watching(self.watch));
                stage
                    .out
                    .extend(wire::subscribe(Version::V5, 1, &[("kept/#", 1)]));
            }
            0x90 => self.is_subscribed = true,
            _ => {
                let Some(publish) = frame.publish(Version::V5) else {
                    return Then::Stay;
                };
                if publish.qos > 0 {
                    stage.out.extend(wire::ack(PUBACK, publish.id));
                }
                match Label::of(&publish.payload) {
                    Some(label) => {
                        self.missing.remove(&label.stream);
                        stage.add(Event::Watched(self.watch, label));
                    }
                    None if publish.payload.is_empty() => {}
                    None => stage.add(Event::Foul(format!("{}: a broken payload", self.name))),
                }
            }
        }
        Then::Stay
    }

    fn poke(&mut self, _stage: &mut Stage<'_>) -> Then {
        Then::Stay
    }

    fn handle_closed(&mut self, _stage: &mut Stage<'_>) {}

    fn calm(&mut self) {}

    fn is_at_rest(&self) -> bool {
        self.is_subscribed && self.missing.is_empty()
    }
}
