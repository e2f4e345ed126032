//! How often somebody may fail to log in.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use paloma_session::Monotonic;

/// Most addresses, and most pairs of address and user, that are remembered. The one that failed least recently makes room.
const ENTRIES_MAX: usize = 16_384;
const WINDOW: Duration = Duration::from_secs(60);
/// The first delay; each further failure doubles it.
const DELAY_FIRST: Duration = Duration::from_secs(10);
const DELAY_MAX: Duration = Duration::from_secs(300);
/// After so long without a failure all is forgotten.
const FORGET: Duration = Duration::from_secs(600);

/// Counts failed logins by address, and by address and user; never by user alone, or a stranger could lock a user out.
///
/// Whoever fails too often within a minute has to wait, longer with each further failure. IPv6 addresses count by their
/// first 64 bits, which one customer usually has to himself.
#[derive(Debug)]
pub struct LoginLimiter {
    failures_max: u32,
    addresses: Table,
    pairs: Table,
    hasher: RandomState,
}

/// An address, alone or with a user: that by a hash, since names may be long.
type Key = (IpAddr, Option<u64>);

#[derive(Debug, Default)]
struct Table {
    entries: HashMap<Key, Entry>,
    /// By the moment of the last failure; the number tells failures of one moment apart.
    order: BTreeMap<(Monotonic, u64), Key>,
    failures: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    last: (Monotonic, u64),
    window: Monotonic,
    failures: u32,
    strikes: u32,
    blocked_until: Monotonic,
}

impl LoginLimiter {
    /// Lets `failures_per_minute_max` failures a minute go by without a delay.
    #[must_use]
    pub fn new(failures_per_minute_max: u32) -> Self {
        Self {
            failures_max: failures_per_minute_max,
            addresses: Table::default(),
            pairs: Table::default(),
            hasher: RandomState::new(),
        }
    }

    /// Lets another number of failures go by from here on.
    pub fn set_failures_max(&mut self, failures_per_minute_max: u32) {
        self.failures_max = failures_per_minute_max;
    }

    /// Whether a login may be tried.
    #[must_use]
    pub fn may_try(&self, now: Monotonic, address: IpAddr, user: Option<&str>) -> bool {
        let address = network(address);
        let is_free = |until: Option<Monotonic>| until.is_none_or(|until| until <= now);
        let pair = user.map(|user| (address, Some(self.hash(user))));
        is_free(self.addresses.blocked_until(&(address, None)))
            && pair.is_none_or(|pair| is_free(self.pairs.blocked_until(&pair)))
    }

    /// A login has failed.
    pub fn handle_failure(&mut self, now: Monotonic, address: IpAddr, user: Option<&str>) {
        let address = network(address);
        let alone = (address, None);
        self.addresses.fail(now, alone, self.failures_max);
        if let Some(user) = user {
            let pair = (address, Some(self.hash(user)));
            self.pairs.fail(now, pair, self.failures_max);
        }
    }

    /// A login has succeeded, so this user's earlier failures at this address were slips. The address's own count stays:
    /// one account of one's own must not buy tries at others.
    pub fn handle_success(&mut self, address: IpAddr, user: &str) {
        let pair = (network(address), Some(self.hash(user)));
        self.pairs.remove(&pair);
    }

    /// How many addresses and pairs are remembered.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.addresses.entries.len() + self.pairs.entries.len()
    }

    fn hash(&self, user: &str) -> u64 {
        self.hasher.hash_one(user)
    }
}

impl Table {
    fn blocked_until(&self, key: &Key) -> Option<Monotonic> {
        self.entries.get(key).map(|entry| entry.blocked_until)
    }

    fn fail(&mut self, now: Monotonic, key: Key, failures_max: u32) {
        let old = self.remove(&key);
        self.make_room(now);
        let old = old.filter(|entry| now.since(entry.last.0) < FORGET);
        self.failures += 1;
        let mut entry = old.unwrap_or(Entry {
            last: (now, 0),
            window: now,
            failures: 0,
            strikes: 0,
            blocked_until: now,
        });
        if now.since(entry.window) >= WINDOW {
            entry.window = now;
            entry.failures = 0;
        }
        entry.failures = entry.failures.saturating_add(1);
        if entry.failures >= failures_max || entry.strikes > 0 {
            let factor = 1_u32.checked_shl(entry.strikes).unwrap_or(u32::MAX);
            let delay = DELAY_FIRST.saturating_mul(factor).min(DELAY_MAX);
            entry.blocked_until = now.saturating_add(delay);
            entry.strikes = entry.strikes.saturating_add(1);
        }
        entry.last = (now, self.failures);
        self.order.insert(entry.last, key);
        self.entries.insert(key, entry);
    }

    fn remove(&mut self, key: &Key) -> Option<Entry> {
        let entry = self.entries.remove(key)?;
        self.order.remove(&entry.last);
        Some(entry)
    }

    fn make_room(&mut self, now: Monotonic) {
        while let Some((&(last, _), &key)) = self.order.first_key_value() {
            if now.since(last) < FORGET && self.entries.len() < ENTRIES_MAX {
                break;
            }
            self.remove(&key);
        }
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Monotonic {
        Monotonic::from_millis(seconds * 1_000)
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[track_caller]
    fn check(limiter: &LoginLimiter, seconds: u64, host: &str, user: &str, expected: bool) {
        let may_try = limiter.may_try(at(seconds), address(host), Some(user));
        assert_eq!(may_try, expected, "{seconds} s {host} {user}");
    }

    fn fail(limiter: &mut LoginLimiter, seconds: u64, host: &str, user: &str, times: u32) {
        for _ in 0..times {
            limiter.handle_failure(at(seconds), address(host), Some(user));
        }
    }

    #[test]
    fn so_many_failures_a_minute_are_let_by() {
        let mut limiter = LoginLimiter::new(10);
        fail(&mut limiter, 0, "192.0.2.1", "ann", 9);
        check(&limiter, 0, "192.0.2.1", "ann", true);
        fail(&mut limiter, 60, "192.0.2.1", "ann", 9);
        check(&limiter, 60, "192.0.2.1", "ann", true);
        fail(&mut limiter, 61, "192.0.2.1", "ann", 1);
        check(&limiter, 61, "192.0.2.1", "ann", false);
        check(&limiter, 61, "192.0.2.1", "bob", false);
    }

    #[test]
    fn e5_a_stranger_does_not_lock_a_user_out_elsewhere() {
        let mut limiter = LoginLimiter::new(10);
        fail(&mut limiter, 0, "192.0.2.1", "ann", 1_000);
        check(&limiter, 0, "192.0.2.1", "ann", false);
        check(&limiter, 0, "192.0.2.2", "ann", true);
    }

    #[test]
    fn the_delay_grows_to_its_limit_and_is_forgotten_in_time() {
        let mut limiter = LoginLimiter::new(3);
        let mut now = 0;
        fail(&mut limiter, now, "192.0.2.1", "ann", 2);
        for delay in [10, 20, 40, 80, 160, 300, 300] {
            fail(&mut limiter, now, "192.0.2.1", "ann", 1);
            check(&limiter, now + delay - 1, "192.0.2.1", "ann", false);
            check(&limiter, now + delay, "192.0.2.1", "ann", true);
            now += delay;
        }
        now += 600;
        fail(&mut limiter, now, "192.0.2.1", "ann", 1);
        check(&limiter, now, "192.0.2.1", "ann", true);
    }

    #[test]
    fn a_success_forgives_the_user_and_not_the_address() {
        let mut limiter = LoginLimiter::new(10);
        fail(&mut limiter, 0, "192.0.2.1", "ann", 9);
        limiter.handle_success(address("192.0.2.1"), "ann");
        fail(&mut limiter, 0, "192.0.2.1", "bob", 1);
        check(&limiter, 0, "192.0.2.1", "ann", false);
        check(&limiter, 10, "192.0.2.1", "ann", true);
    }

    #[test]
    fn one_networks_ipv6_addresses_are_one() {
        let mut limiter = LoginLimiter::new(10);
        for host in 0..10 {
            fail(&mut limiter, 0, &format!("2001:db8::{host}"), "ann", 1);
        }
        check(&limiter, 0, "2001:db8::ffff", "ann", false);
        check(&limiter, 0, "2001:db8:0:1::1", "ann", true);
        fail(&mut limiter, 0, "::ffff:192.0.2.1", "ann", 10);
        check(&limiter, 0, "192.0.2.1", "ann", false);
    }

    #[test]
    fn memory_is_bounded_whoever_comes() {
        let mut limiter = LoginLimiter::new(10);
        for host in 0..40_000_u32 {
            limiter.handle_failure(at(0), IpAddr::from(host.to_be_bytes()), Some("ann"));
        }
        assert_eq!(limiter.entries(), 2 * ENTRIES_MAX);
        limiter.handle_failure(at(600), address("192.0.2.1"), Some("ann"));
        assert_eq!(limiter.entries(), 2);
        assert_eq!(limiter.addresses.order.len(), 1);
    }
}
