//! Calendar time in UTC, and the letters that `strftime` has for it.

use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const WEEKDAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS_BEFORE: [u64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];

/// The letters that [`Utc::write_letter`] knows.
pub(crate) const LETTERS: &str = "aAbBCdDeFHIjklmMnNprRsStTuwyYzZ@";

/// A moment, split into what calendars and clocks show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Utc {
    pub(crate) unix_seconds: u64,
    pub(crate) nanoseconds: u32,
    year: u64,
    month: usize,
    day: u64,
    day_of_year: u64,
    weekday: usize,
    hour: u64,
    minute: u64,
    second: u64,
}

impl Utc {
    /// The moment `now`; times before 1970 count as its beginning.
    pub(crate) fn new(now: SystemTime) -> Self {
        Self::from_unix(now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO))
    }

    fn from_unix(since: Duration) -> Self {
        let unix_seconds = since.as_secs();
        let days = unix_seconds / 86_400;
        // Eras of 400 years that begin on 1 March, so that a leap day is the last of its year.
        let from_march = days + 719_468;
        let era = from_march / 146_097;
        let day_of_era = from_march % 146_097;
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_march_year =
            day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_march_year + 2) / 153;
        let month0 = (march_month + 2) % 12;
        let day = day_of_march_year - (153 * march_month + 2) / 5 + 1;
        let year = year_of_era + era * 400 + u64::from(month0 < 2);
        let month = usize::try_from(month0).unwrap_or(0);
        let is_leap =
            year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let before = DAYS_BEFORE.get(month).copied().unwrap_or(0);
        Self {
            unix_seconds,
            nanoseconds: since.subsec_nanos(),
            year,
            month,
            day,
            day_of_year: before + day + u64::from(is_leap && month > 1),
            weekday: usize::try_from((days + 4) % 7).unwrap_or(0),
            hour: unix_seconds / 3_600 % 24,
            minute: unix_seconds / 60 % 60,
            second: unix_seconds % 60,
        }
    }

    /// `2016-08-10T09:47:38`.
    pub(crate) fn date_time(&self) -> String {
        format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
            self.year,
            self.month + 1,
            self.day,
            self.hour,
            self.minute,
            self.second
        )
    }

    /// Writes what `strftime` writes for `%` and this letter; nothing for one that is not in
    /// [`LETTERS`].
    pub(crate) fn write_letter(&self, letter: char, out: &mut Vec<u8>) {
        let weekday = WEEKDAYS.get(self.weekday).copied().unwrap_or("");
        let month = MONTHS.get(self.month).copied().unwrap_or("");
        let short = |name: &'static str| name.get(..3).unwrap_or(name);
        let half = if self.hour < 12 { "AM" } else { "PM" };
        let hour12 = (self.hour + 11) % 12 + 1;
        let (year, month_number, day) = (self.year, self.month + 1, self.day);
        let (hour, minute, second) = (self.hour, self.minute, self.second);
        let written = match letter {
            'a' => write!(out, "{}", short(weekday)),
            'A' => write!(out, "{weekday}"),
            'b' => write!(out, "{}", short(month)),
            'B' => write!(out, "{month}"),
            'C' => write!(out, "{:02}", year / 100),
            'd' => write!(out, "{day:02}"),
            'D' => write!(out, "{month_number:02}/{day:02}/{:02}", year % 100),
            'e' => write!(out, "{day:2}"),
            'F' => write!(out, "{year}-{month_number:02}-{day:02}"),
            'H' => write!(out, "{hour:02}"),
            'I' => write!(out, "{hour12:02}"),
            'j' => write!(out, "{:03}", self.day_of_year),
            'k' => write!(out, "{hour:2}"),
            'l' => write!(out, "{hour12:2}"),
            'm' => write!(out, "{month_number:02}"),
            'M' => write!(out, "{minute:02}"),
            'n' => writeln!(out),
            'N' => write!(out, "{:09}", self.nanoseconds),
            'p' => write!(out, "{half}"),
            'r' => write!(out, "{hour12:02}:{minute:02}:{second:02} {half}"),
            'R' => write!(out, "{hour:02}:{minute:02}"),
            's' => write!(out, "{}", self.unix_seconds),
            'S' => write!(out, "{second:02}"),
            't' => write!(out, "\t"),
            'T' => write!(out, "{hour:02}:{minute:02}:{second:02}"),
            'u' => write!(out, "{}", (self.weekday + 6) % 7 + 1),
            'w' => write!(out, "{}", self.weekday),
            'y' => write!(out, "{:02}", year % 100),
            'Y' => write!(out, "{year}"),
            'z' => write!(out, "+0000"),
            'Z' => write!(out, "UTC"),
            '@' => write!(out, "@"),
            _ => Ok(()),
        };
        written.expect("a Vec takes every write");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(seconds: u64, expected: &str) {
        let moment = Utc::from_unix(Duration::from_secs(seconds));
        let mut out = moment.date_time().into_bytes();
        for letter in " a j".chars() {
            if letter == ' ' {
                out.push(b' ');
            } else {
                moment.write_letter(letter, &mut out);
            }
        }
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn calendars_agree_with_date() {
        check(0, "1970-01-01T00:00:00 Thu 001");
        check(951_782_399, "2000-02-28T23:59:59 Mon 059");
        check(951_782_400, "2000-02-29T00:00:00 Tue 060");
        check(951_868_800, "2000-03-01T00:00:00 Wed 061");
        check(978_307_199, "2000-12-31T23:59:59 Sun 366");
        check(1_470_818_943, "2016-08-10T08:49:03 Wed 223");
        check(4_107_542_400, "2100-03-01T00:00:00 Mon 060");
    }

    #[test]
    fn every_letter_writes_something() {
        for letter in LETTERS.chars() {
            let mut out = Vec::new();
            Utc::from_unix(Duration::new(1_470_818_943, 5)).write_letter(letter, &mut out);
            assert!(!out.is_empty(), "{letter}");
        }
    }

    #[test]
    fn letters_are_those_of_strftime() {
        let mut out = Vec::new();
        for letter in "FTNpIyBZzseu".chars() {
            Utc::from_unix(Duration::new(1_470_818_943, 5)).write_letter(letter, &mut out);
            out.push(b'|');
        }
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "2016-08-10|08:49:03|000000005|AM|08|16|August|UTC|+0000|1470818943|10|3|"
        );
    }
}
