//! How fast new connections may come.

use std::collections::BTreeMap;
use std::net::IpAddr;

use paloma_session::Monotonic;

use crate::effect::Refusal;
use crate::limits::Limits;

/// Addresses that are remembered at once; above it the longest unseen one is forgotten, which only ever lets it in.
const ADDRESSES_MAX: usize = 16_384;

/// Counts connections in windows of one second, in all and by address.
#[derive(Debug, Default)]
pub(crate) struct ConnectionRate {
    all: Window,
    by_address: BTreeMap<IpAddr, Window>,
    /// The second in which addresses that were not seen any more were last forgotten.
    tidied_in: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Window {
    second: u64,
    count: u32,
}

impl Window {
    fn admits(&mut self, second: u64, max: u32) -> bool {
        if self.second != second {
            *self = Self { second, count: 0 };
        }
        if self.count >= max {
            return false;
        }
        self.count += 1;
        true
    }
}

impl ConnectionRate {
    pub(crate) fn admit(
        &mut self,
        now: Monotonic,
        address: Option<IpAddr>,
        limits: &Limits,
    ) -> Result<(), Refusal> {
        let exempt = address.is_none_or(|address| address.is_loopback());
        if exempt && !limits.rate_limit_loopback {
            return Ok(());
        }
        // One is added so that the first second differs from a window that was never used.
        let second = now.as_nanos() / 1_000_000_000 + 1;
        if let Some(address) = address {
            // Once a second: a flood from very many addresses must not cost a look at all of them each time.
            if self.by_address.len() >= ADDRESSES_MAX && self.tidied_in != second {
                self.tidied_in = second;
                self.by_address.retain(|_, window| window.second == second);
            }
            if self.by_address.len() >= ADDRESSES_MAX {
                self.by_address.pop_first();
            }
            let window = self.by_address.entry(address).or_default();
            if !window.admits(second, limits.connections_per_second_per_address_max) {
                return Err(Refusal::AddressRateExceeded);
            }
        }
        if self.all.admits(second, limits.connections_per_second_max) {
            Ok(())
        } else {
            Err(Refusal::RateExceeded)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Monotonic {
        Monotonic::from_millis(milliseconds)
    }

    #[test]
    fn an_address_is_refused_above_its_rate_and_let_in_a_second_later() {
        let limits = Limits {
            connections_per_second_per_address_max: 2,
            ..Limits::default()
        };
        let mut rate = ConnectionRate::default();
        let address = Some(IpAddr::from([192, 0, 2, 1]));
        let mut admit = |now| rate.admit(at(now), address, &limits);
        assert_eq!(admit(0), Ok(()));
        assert_eq!(admit(10), Ok(()));
        assert_eq!(admit(20), Err(Refusal::AddressRateExceeded));
        assert_eq!(admit(1_000), Ok(()));
    }

    #[test]
    fn loopback_is_exempt_unless_told_otherwise() {
        let mut limits = Limits {
            connections_per_second_max: 0,
            ..Limits::default()
        };
        let mut rate = ConnectionRate::default();
        let address = Some(IpAddr::from([127, 0, 0, 1]));
        assert_eq!(rate.admit(at(0), address, &limits), Ok(()));
        limits.rate_limit_loopback = true;
        assert_eq!(
            rate.admit(at(0), address, &limits),
            Err(Refusal::RateExceeded)
        );
    }

    #[test]
    fn remembered_addresses_are_bounded() {
        let limits = Limits {
            connections_per_second_max: u32::MAX,
            ..Limits::default()
        };
        let mut rate = ConnectionRate::default();
        for n in 0..40_000_u32 {
            let _ = rate.admit(at(5), Some(IpAddr::from(n.to_be_bytes())), &limits);
        }
        assert!(rate.by_address.len() <= ADDRESSES_MAX);
    }
}
