//! The broker's process ends, and another one starts from the store.

use paloma_session::Wall;

use super::{BELIEVED_BACK, BELIEVED_FORWARD, Happening, World};
use crate::violation::Invariant;

impl World {
    /// The process ends now; another one runs after so long, in which nothing else happens. What was under way to clients may
    /// still come, and what was under way to the broker does not.
    pub(super) fn crash(&mut self, millis: u64) {
        self.counts.faults += 1;
        self.counts.messages += self.host.broker.accounting().published;
        let at = self.at();
        self.trace
            .line(at, || "---- the broker's process ends".to_owned());
        for number in self.wires.keys().copied().collect::<Vec<_>>() {
            self.lose_host(number);
        }
        self.happenings.retain(|_, happening| {
            !matches!(
                happening,
                Happening::Committed | Happening::Authenticated(_) | Happening::StallCheck(_)
            )
        });
        self.move_to(at + millis * 1_000_000);
        let (config, now) = (&self.config, self.now);
        match self.host.restart(config, now) {
            Ok((survived, mark)) => {
                self.set_clock_since(mark.wall);
                self.oracle.crashed(self.believed(), survived);
                let at = self.at();
                self.trace
                    .mix(at, 5, 0, &survived.unwrap_or(0).to_le_bytes());
                self.trace
                    .line(at, || "---- the broker has started again".to_owned());
            }
            Err(what) => self.oracle.violated(now, Invariant::I11, what),
        }
        self.settle();
    }

    /// A connection loses its broker.
    fn lose_host(&mut self, number: usize) {
        let half_open = self.options.half_open;
        let Some(wire) = self.wires.get_mut(&number) else {
            return;
        };
        let Some(name) = wire.name.take() else {
            return;
        };
        wire.let_into = self.oracle.let_into(name);
        if wire.host.take().is_none() {
            return;
        }
        wire.up.cut(0);
        let down = wire.random.index(wire.down.len() + 1);
        wire.down.cut(down);
        let is_noticed = !half_open || wire.random.chance(60);
        if is_noticed || self.is_calm {
            self.notice(number, false);
        }
    }

    /// A broker that starts believes the wall clock only as far as that can have gone on since its store was written.
    fn set_clock_since(&mut self, mark: Wall) {
        if mark == Wall::default() {
            self.disbelieved_millis = 0;
            return;
        }
        let step = self.now.wall.as_millis().cast_signed() - mark.as_millis().cast_signed();
        self.disbelieved_millis = if (-BELIEVED_BACK..=BELIEVED_FORWARD).contains(&step) {
            0
        } else {
            step
        };
    }
}
