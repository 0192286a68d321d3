//! How often one address may try passwords.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// So many attempts may fail in a row,
const BURST: u32 = 10;
/// and another one every so often.
const ANOTHER_EVERY: Duration = Duration::from_secs(2);
/// So many addresses are known at a time; those beyond share one account.
const ADDRESSES_MAX: usize = 4096;

/// The attempts of each address that were not, or not yet, successful.
#[derive(Default)]
pub(super) struct Attempts(Mutex<HashMap<Option<IpAddr>, Account>>);

/// Attempts of one address.
#[derive(Clone, Copy)]
struct Account {
    spent: u32,
    /// As of when; attempts come back as time goes by.
    at: Duration,
}

impl Account {
    fn as_of(self, now: Duration) -> Self {
        let back = now.saturating_sub(self.at).as_millis() / ANOTHER_EVERY.as_millis();
        let back = u32::try_from(back).unwrap_or(u32::MAX);
        match self.spent.checked_sub(back) {
            None | Some(0) => Self { spent: 0, at: now },
            Some(spent) => Self { spent, at: self.at + ANOTHER_EVERY * back },
        }
    }
}

impl Attempts {
    /// Takes an attempt. Errors: there is none left; when there is another one.
    pub(super) fn take(&self, address: Option<IpAddr>, now: Duration) -> Result<(), Duration> {
        let mut accounts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut whose = address.map(network);
        if !accounts.contains_key(&whose) && accounts.len() >= ADDRESSES_MAX {
            accounts.retain(|_, account| account.as_of(now).spent > 0);
            if accounts.len() >= ADDRESSES_MAX {
                whose = None;
            }
        }
        let account = accounts.entry(whose).or_insert(Account { spent: 0, at: now });
        *account = account.as_of(now);
        if account.spent >= BURST {
            return Err((account.at + ANOTHER_EVERY).saturating_sub(now));
        }
        account.spent += 1;
        Ok(())
    }

    /// Gives an attempt back: it was successful, or came to nothing.
    pub(super) fn give_back(&self, address: Option<IpAddr>) {
        let mut accounts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = accounts.get_mut(&address.map(network)) {
            account.spent = account.spent.saturating_sub(1);
        }
    }
}

/// Whoever has one address of IPv6 has 2^64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_run_out_and_come_back() {
        let attempts = Attempts::default();
        let address: Option<IpAddr> = "10.0.0.1".parse().ok();
        let mut now = Duration::from_secs(100);
        for _ in 0..BURST {
            attempts.take(address, now).unwrap();
        }
        assert_eq!(attempts.take(address, now), Err(ANOTHER_EVERY));
        attempts.take("10.0.0.2".parse().ok(), now).unwrap();
        now += ANOTHER_EVERY;
        attempts.take(address, now).unwrap();
        assert!(attempts.take(address, now).is_err());
        attempts.give_back(address);
        attempts.take(address, now).unwrap();
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let attempts = Attempts::default();
        for host in 0..u64::from(BURST) {
            let address = Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(host));
            attempts.take(Some(address.into()), Duration::ZERO).unwrap();
        }
        assert!(attempts.take("2001:db8::ffff".parse().ok(), Duration::ZERO).is_err());
        attempts.take("2001:db8:1::1".parse().ok(), Duration::ZERO).unwrap();
    }

    #[test]
    fn a_flood_of_addresses_takes_bounded_memory() {
        let attempts = Attempts::default();
        let refused = (0..2 * ADDRESSES_MAX as u32).filter(|at| {
            attempts.take(Some(std::net::Ipv4Addr::from_bits(*at).into()), Duration::ZERO).is_err()
        });
        assert_eq!(refused.count(), ADDRESSES_MAX - BURST as usize);
        assert!(attempts.0.lock().unwrap().len() <= ADDRESSES_MAX + 1);
    }
}
