//! What remembering leases costs: in a process of its own, since memory is measured.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use mqs::dispatch::ledger::{LEASES_MAX, Ledger};
use mqs::domain::id::{LeaseId, Slot};
use mqs::domain::lease::{Lifetimes, Settle, Settled};
use mqs::domain::time::EpochMs;

/// docs/configuration.md promises this for a full ledger.
const CAP: u64 = 64 << 20;

const CALLS: usize = 2 * LEASES_MAX + 20_000;

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    status.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[test]
fn a_full_ledger_stays_below_its_cap() {
    let life = Lifetimes { held_ms: 30_000, call_max_ms: 14_400_000 };
    let (ledger, before) = (Ledger::default(), resident());
    let id =
        |n: usize| LeaseId((n as u128).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_be_bytes());
    let now = |n: usize| EpochMs(1_700_000_000_000 + (n / 100) as u64);
    let targets = [Slot(1), Slot(2), Slot(3)];
    // More than it remembers, live and ended, as calls come: answered, heard, and every second one over.
    for n in 0..CALLS {
        let latest = now(n) + life.call_max_ms;
        ledger.answered(id(n), &targets, life, now(n));
        let confirm = Settle::Confirm { branch: 0, slot: Some(Slot(1)), latest };
        ledger.told(id(n), &confirm, Some(&Settled::Confirmed), life, now(n));
        if n % 2 == 1 {
            ledger.told(id(n), &Settle::Done, Some(&Settled::Ended), life, now(n));
        }
    }
    let count = ledger.count(now(CALLS));
    // The last one took the place of another, and ended.
    assert_eq!((count.held, count.confirmed as usize), (0, LEASES_MAX - 1));
    let cost = resident() - before;
    eprintln!("{LEASES_MAX} leases and as many ends: {:.1} MiB", cost as f64 / f64::from(1 << 20));
    assert!(cost < CAP, "{cost} bytes");
}
