//! The keys of `[pool.limit]`, `[pool.each_tenant]` and `[[pool.tenant]]`, and what holds between pools that overflow.

use super::PoolConfig;
use super::reader::{Reader, Spot};
use crate::domain::admission::{Limit, Limits, Rate};
use crate::domain::id::{PoolId, Tenant};
use std::collections::{BTreeMap, BTreeSet};

/// The most tenants that one pool names.
const TENANTS_MAX: usize = 10_000;

/// The most calls that a limit may allow at once: as many as a pool can carry.
const CALLS_MAX: i64 = 16_384_000;

/// The most calls a second that a limit may allow, in thousandths.
const RATE_MAX_PM: u32 = 10_000_000;

pub(super) fn limits(pool: &mut Reader<'_, '_>) -> Limits {
    let (own, each) = (pool.table("limit"), pool.table("each_tenant"));
    let mut tenants: BTreeMap<Tenant, Limit> = BTreeMap::new();
    for mut table in pool.tables("tenant", TENANTS_MAX) {
        let spot = table.spot_of("name");
        let name = table.text("name", str::parse::<Tenant>);
        table.require("name");
        let limit = limit(table);
        let Some(name) = name else { continue };
        if tenants.insert(name.clone(), limit).is_some() {
            pool.wrong(&spot, format!("two tenants of this pool have the name {name}"));
        }
    }
    Limits { pool: limit(own), each_tenant: limit(each), tenants }
}

fn limit(mut t: Reader<'_, '_>) -> Limit {
    let calls = t.number("calls", 0..=CALLS_MAX, " (calls at once)");
    let rate = t.thousandths("calls_per_second", 1..=RATE_MAX_PM);
    let burst = t.number("burst", 1..=1_000_000, " (calls)");
    if burst.is_some() && rate.is_none() && !t.has("calls_per_second") {
        t.wrong(&t.spot_of("burst"), "a burst is one of calls_per_second, which is not given");
    }
    t.done();
    // Without a word, a second's worth of calls may come at one moment.
    Limit { calls, rate: rate.map(|pm| Rate::new(pm, burst.unwrap_or(pm.div_ceil(1000)))) }
}

/// Who overflows must overflow into another pool, and not at last into itself.
pub(super) fn check_overflows(root: &Reader<'_, '_>, pools: &[PoolConfig], spots: &BTreeMap<PoolId, Spot>) {
    let next: BTreeMap<&PoolId, Option<&PoolId>> =
        pools.iter().map(|pool| (&pool.name, pool.overflow.as_ref())).collect();
    for pool in pools {
        let (Some(spot), Some(first)) = (spots.get(&pool.name), &pool.overflow) else { continue };
        if !next.contains_key(first) {
            root.wrong(spot, format!("there is no pool {first} to overflow into"));
            continue;
        }
        let (mut at, mut passed) = (Some(first), BTreeSet::from([&pool.name]));
        while let Some(name) = at {
            if !passed.insert(name) {
                if *name == pool.name {
                    root.wrong(spot, format!("pool {name} overflows into itself, by way of {first}"));
                }
                break;
            }
            at = next.get(name).copied().flatten();
        }
    }
}
