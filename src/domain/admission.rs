//! Admission: how many calls a pool, or one tenant of it, may have at once, and how many a second it may begin.
//!
//! The calls at once are counted by leases, so nothing is lost when a process dies. The calls a second are a token bucket, kept
//! as one number (the *theoretical arrival time* of GCRA, ITU-T I.371): nothing has to be filled up while nobody calls.
//!
//! The Redis store says the same in Lua (`store/redis/pick.lua`); one contract suite runs over all stores.

use super::id::Tenant;
use super::time::EpochMs;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Whom a limit is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// All calls of the pool.
    Pool,
    /// One tenant's calls in the pool.
    Tenant(Tenant),
}

impl fmt::Display for Scope {
    /// As it stands in keys and records: `p`, or `t:` and the name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scope::Pool => f.write_str("p"),
            Scope::Tenant(tenant) => write!(f, "t:{tenant}"),
        }
    }
}

impl FromStr for Scope {
    type Err = String;
    fn from_str(text: &str) -> Result<Scope, String> {
        match (text, text.strip_prefix("t:")) {
            ("p", _) => Ok(Scope::Pool),
            (_, Some(name)) => name.parse().map(Scope::Tenant).map_err(|e| format!("scope {text:?}: {e}")),
            (_, None) => Err(format!("scope {text:?} is neither p nor t:NAME")),
        }
    }
}

/// What a scope may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    /// Calls at once; `None`: any number.
    pub calls: Option<u32>,
    /// Calls a second; `None`: any number.
    pub rate: Option<Rate>,
}

impl Limit {
    /// Whether there is anything to keep.
    pub fn is_none(&self) -> bool {
        self.calls.is_none() && self.rate.is_none()
    }
}

/// The limits of a pool: its own, and those of its tenants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// For all calls of the pool together.
    pub pool: Limit,
    /// For the calls of each tenant that is not named.
    pub each_tenant: Limit,
    /// For the calls of those that are.
    pub tenants: BTreeMap<Tenant, Limit>,
}

impl Limits {
    /// What a call has to keep.
    pub fn of(&self, tenant: Option<&Tenant>) -> Vec<Admit> {
        let of_tenant = tenant.map(|tenant| {
            let limit = *self.tenants.get(tenant).unwrap_or(&self.each_tenant);
            Admit { scope: Scope::Tenant(tenant.clone()), limit }
        });
        let of_pool = Admit { scope: Scope::Pool, limit: self.pool };
        std::iter::once(of_pool).chain(of_tenant).filter(|admit| !admit.limit.is_none()).collect()
    }

    /// The limits whose owners are known by name.
    pub fn named(&self) -> Vec<Admit> {
        let tenants = self.tenants.keys().filter_map(|tenant| self.of(Some(tenant)).pop());
        let tenants = tenants.filter(|admit| admit.scope != Scope::Pool);
        self.of(None).into_iter().chain(tenants).collect()
    }
}

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// A token comes each time this has passed, in µs.
    pub interval_us: u64,
    /// So many tokens are there at most, and at the beginning: at least 1.
    pub burst: u32,
}

impl Rate {
    /// So many thousandths of a call a second (at least 1), and so many at one moment (at least 1).
    pub fn new(per_second_milli: u32, burst: u32) -> Rate {
        Rate { interval_us: 1_000_000_000 / u64::from(per_second_milli.max(1)), burst: burst.max(1) }
    }

    /// How far the theoretical arrival time may be ahead of the clock, in µs.
    pub fn tolerance_us(self) -> u64 {
        self.interval_us.saturating_mul(u64::from(self.burst.saturating_sub(1)))
    }
}

/// One limit that a call has to keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admit {
    /// Whose.
    pub scope: Scope,
    /// Which.
    pub limit: Limit,
}

/// Which part of a limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// The calls at once.
    Calls,
    /// The calls a second; the next one is admitted after this time, in ms.
    Rate {
        /// At least 1.
        wait_ms: u64,
    },
}

impl Reached {
    /// The word for it in metrics and explanations.
    pub fn as_str(self) -> &'static str {
        match self {
            Reached::Calls => "calls",
            Reached::Rate { .. } => "rate",
        }
    }
}

/// What a scope has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Its live leases.
    pub live: u32,
    /// When the bucket would be full again, in µs since the epoch.
    pub arrival_us: u64,
}

impl Usage {
    /// Whether one call more is within the limit.
    pub fn admits(&self, limit: &Limit, now: EpochMs) -> Result<(), Reached> {
        if limit.calls.is_some_and(|most| self.live >= most) {
            return Err(Reached::Calls);
        }
        let Some(rate) = limit.rate else { return Ok(()) };
        let until = now.0.saturating_mul(1000).saturating_add(rate.tolerance_us());
        match self.arrival_us.checked_sub(until) {
            None | Some(0) => Ok(()),
            Some(ahead_us) => Err(Reached::Rate { wait_ms: ahead_us.div_ceil(1000) }),
        }
    }

    /// Takes a token for a call that was admitted. `live` is the business of whoever counts leases.
    pub fn take_token(&mut self, limit: &Limit, now: EpochMs) {
        if let Some(rate) = limit.rate {
            self.arrival_us =
                self.arrival_us.max(now.0.saturating_mul(1000)).saturating_add(rate.interval_us);
        }
    }

    /// Whether it says no more than a scope that was never used.
    pub fn is_spent(&self, now: EpochMs) -> bool {
        self.live == 0 && self.arrival_us <= now.0.saturating_mul(1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: EpochMs = EpochMs(1_000_000);

    /// How many of `asked` calls, all at `now`, are admitted.
    fn admitted(usage: &mut Usage, limit: &Limit, asked: usize, now: EpochMs) -> usize {
        (0..asked)
            .filter(|_| {
                let ok = usage.admits(limit, now).is_ok();
                if ok {
                    usage.take_token(limit, now);
                }
                ok
            })
            .count()
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let limit = Limit { calls: None, rate: Some(Rate::new(10_000, 5)) };
        let mut usage = Usage::default();
        assert_eq!(admitted(&mut usage, &limit, 100, T), 5);
        assert_eq!(usage.admits(&limit, T), Err(Reached::Rate { wait_ms: 100 }));
        assert_eq!(admitted(&mut usage, &limit, 100, T + 99), 0);
        assert_eq!(admitted(&mut usage, &limit, 100, T + 100), 1);
        assert_eq!(
            admitted(&mut usage, &limit, 100, T + 1_100),
            5,
            "no more than the burst, however long ago"
        );
        let slow: usize = (0..1000).map(|n| admitted(&mut usage, &limit, 3, T + 10_000 + n * 10)).sum();
        assert!((104..=105).contains(&slow), "10 s at 10 a second and the burst: {slow}");
    }

    #[test]
    fn calls_at_once_are_refused_at_the_limit_and_not_before() {
        let limit = Limit { calls: Some(2), rate: None };
        assert_eq!(Usage { live: 1, arrival_us: 0 }.admits(&limit, T), Ok(()));
        assert_eq!(Usage { live: 2, arrival_us: 0 }.admits(&limit, T), Err(Reached::Calls));
        assert_eq!(Usage::default().admits(&Limit { calls: Some(0), rate: None }, T), Err(Reached::Calls));
        assert_eq!(Usage { live: 9, arrival_us: u64::MAX }.admits(&Limit::default(), T), Ok(()));
    }

    #[test]
    fn a_rate_below_one_a_second_and_one_above_a_million_keep_their_sense() {
        let hourly = Limit { calls: None, rate: Some(Rate::new(1, 1)) };
        let mut usage = Usage::default();
        assert_eq!(admitted(&mut usage, &hourly, 2, T), 1);
        assert_eq!(usage.admits(&hourly, T), Err(Reached::Rate { wait_ms: 1_000_000 }));
        let wild = Limit { calls: None, rate: Some(Rate::new(u32::MAX, u32::MAX)) };
        assert_eq!(admitted(&mut Usage::default(), &wild, 10_000, T), 10_000);
    }

    #[test]
    fn a_tenant_has_its_own_limit_or_that_of_each_and_the_pools() {
        let calls = |most| Limit { calls: Some(most), rate: None };
        let tenants = [("acme".parse().unwrap(), calls(3)), ("free".parse().unwrap(), Limit::default())];
        let limits = Limits { pool: calls(9), each_tenant: calls(1), tenants: tenants.into() };
        let of = |tenant: &str| {
            let found = limits.of(tenant.parse().ok().as_ref());
            found.iter().map(|a| format!("{}={}", a.scope, a.limit.calls.unwrap())).collect::<Vec<_>>()
        };
        assert_eq!(of(""), ["p=9"]);
        assert_eq!(of("acme"), ["p=9", "t:acme=3"]);
        assert_eq!(of("other"), ["p=9", "t:other=1"]);
        assert_eq!(of("free"), ["p=9"]);
        assert_eq!(limits.named().len(), 2);
        assert_eq!(Limits::default().of("acme".parse().ok().as_ref()), []);
    }

    #[test]
    fn scopes_are_written_and_read_alike() {
        for text in ["p", "t:acme", "t:acme.example.com"] {
            assert_eq!(text.parse::<Scope>().unwrap().to_string(), text);
        }
        for wrong in ["", "q", "t:", "t:a,b", "t:a b"] {
            assert!(wrong.parse::<Scope>().is_err(), "{wrong:?}");
        }
    }
}
