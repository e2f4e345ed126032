//! Wall-clock time that does not jump.

use crate::time::{Monotonic, Now, Wall};

/// A step forward that is longer than this between two turns, or over a restart, is a clock that was set.
const PAUSE_MAX_MILLIS: u64 = 366 * 24 * 3_600 * 1_000;
/// So is a step back that is longer than this. Shorter ones are the corrections of a clock that is kept right.
const BACK_MAX_MILLIS: u64 = 3_600 * 1_000;

/// The wall clock's time, except that a jump of it is taken out for as long as this lives: by more than an hour back or a year
/// forward from one reading to the next. So neither does everything expire at once when a clock is set from 1970 to
/// today, nor is anything kept for decades when it is set back: lifetimes go on by as much as the monotonic clock. What
/// is stored, and what ages, has its times in the time that this gives.
#[derive(Debug, Default)]
pub struct WallClock {
    /// What the clocks said last; zero before the first time.
    last: Now,
    /// Its time less the clock's, in milliseconds.
    offset: i64,
}

impl WallClock {
    /// A clock that goes on from `mark`, when the store was last written; from the first reading if that is zero.
    #[must_use]
    pub fn since(mark: Wall, now: Now) -> Self {
        let mut clock = Self::default();
        if mark != Wall::default() {
            clock.last = Now::new(now.monotonic, mark);
            clock.read(now);
        }
        clock
    }

    /// What time it is when the clocks say `now`.
    #[inline]
    pub fn read(&mut self, now: Now) -> Now {
        let step = now
            .wall
            .as_millis()
            .wrapping_sub(self.last.wall.as_millis());
        if step.wrapping_add(BACK_MAX_MILLIS) > PAUSE_MAX_MILLIS + BACK_MAX_MILLIS {
            self.take_out(now, step);
        }
        self.last = now;
        let wall = now.wall.as_millis().wrapping_add_signed(self.offset);
        Now::new(now.monotonic, Wall::from_millis(wall))
    }

    /// The same for who only looks, as of the last reading's jumps.
    #[must_use]
    pub fn peek(&self, now: Now) -> Now {
        let wall = now.wall.as_millis().wrapping_add_signed(self.offset);
        Now::new(now.monotonic, Wall::from_millis(wall))
    }

    /// The wall clock has jumped, or is read for the first time.
    #[cold]
    fn take_out(&mut self, now: Now, step: u64) {
        if self.last == Now::default() {
            return;
        }
        // What should have passed has; whatever the clock says beyond that is taken out.
        let passed = millis(self.last.monotonic, now.monotonic);
        let jump = step.wrapping_sub(passed).cast_signed();
        self.offset = self.offset.wrapping_sub(jump);
    }
}

fn millis(from: Monotonic, to: Monotonic) -> u64 {
    u64::try_from(to.since(from).as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TODAY: u64 = 1_800_000_000_000;
    const HOUR: u64 = 3_600_000;
    const YEARS: u64 = 30 * 366 * 24 * HOUR;

    /// Reads the clock at each pair of monotonic and wall milliseconds.
    fn check(clock: &mut WallClock, steps: &[(u64, u64)], expected: &[u64]) {
        let read: Vec<_> = steps
            .iter()
            .map(|(monotonic, wall)| {
                let now = Now::new(Monotonic::from_millis(*monotonic), Wall::from_millis(*wall));
                clock.read(now).wall.as_millis()
            })
            .collect();
        assert_eq!(read, expected);
    }

    fn since(mark: u64, wall: u64) -> WallClock {
        let now = Now::new(Monotonic::from_millis(5), Wall::from_millis(wall));
        WallClock::since(Wall::from_millis(mark), now)
    }

    #[test]
    fn a_clock_that_goes_on_is_believed_over_a_pause_and_a_correction() {
        let steps = [
            (0, TODAY),
            (10, TODAY + 10),
            (20, TODAY + 100 * HOUR),
            (30, TODAY + 99 * HOUR + 1),
        ];
        let expected = steps.map(|(_, wall)| wall);
        check(&mut WallClock::default(), &steps, &expected);
        check(
            &mut since(TODAY, TODAY + HOUR),
            &[(6, TODAY + HOUR)],
            &[TODAY + HOUR],
        );
    }

    #[test]
    fn a_jump_in_either_direction_is_taken_out_and_time_goes_on() {
        let steps = [
            (0, TODAY),
            (10, TODAY + YEARS),
            (20, TODAY + YEARS + 10),
            (30, 5),
            (40, 15),
        ];
        let expected = [TODAY, TODAY + 10, TODAY + 20, TODAY + 30, TODAY + 40];
        check(&mut WallClock::default(), &steps, &expected);
    }

    #[test]
    fn a_jump_over_a_restart_is_taken_out_too() {
        check(
            &mut since(TODAY, TODAY + YEARS),
            &[(15, TODAY + YEARS + 10)],
            &[TODAY + 10],
        );
        check(&mut since(TODAY, 7), &[(15, 17)], &[TODAY + 10]);
        // Back from a jump: what was taken out is put back in.
        check(&mut since(TODAY, 7), &[(15, TODAY + 10)], &[TODAY + 10]);
    }

    #[test]
    fn a_store_without_a_time_says_nothing_about_the_clock() {
        check(&mut since(0, TODAY), &[(6, TODAY)], &[TODAY]);
    }
}
