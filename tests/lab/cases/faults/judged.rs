//! The judge, judged: what is wrong is seen, and what a busy machine does is not taken for it.

use anyhow::{Result, ensure};

use super::limits::within;
use crate::Case;
use crate::cases::judge::{Call, Sample, Wrong, compare, doubled, percentile, true_again};
use crate::cases::machine::{Machine, TooBusy};
use crate::cases::row::Row;
use crate::room::Lab;

pub const CASES: &[Case] = &[
    Case { name: "faults::the_judge_sees_what_is_wrong", needs: &[], run: judge_sees },
    Case { name: "faults::the_limits_hold_what_is_wrong", needs: &[], run: limits_hold },
    Case { name: "faults::a_busy_machine_is_no_fault", needs: &[], run: busy_machine },
];

const GRACE_S: f64 = 0.3;

fn call(id: &str, node: usize, lease: Option<&str>) -> Call {
    Call { id: id.to_owned(), node, lease: lease.map(str::to_owned), from: 10.0, to: 20.0 }
}

fn sample(at: f64, live: &[(&str, usize)]) -> Sample {
    Sample { at, live: live.iter().map(|(lease, slot)| ((*lease).to_owned(), *slot)).collect() }
}

fn judge_sees(_: &Lab) -> Result<()> {
    let calls = [call("a", 0, Some("l1")), call("b", 1, Some("l2")), call("c", 1, None)];
    for (what, sample, missing, extra) in [
        ("all but the call without a lease", sample(15.0, &[("l1", 0), ("l2", 1)]), 1, 0),
        ("a lease on another node", sample(15.0, &[("l1", 0), ("l2", 0)]), 2, 1),
        ("a lease on another node, at first", sample(10.1, &[("l1", 0), ("l2", 0)]), 0, 0),
        ("a lease too few", sample(15.0, &[("l1", 0)]), 2, 0),
        ("a lease of nobody", sample(15.0, &[("l1", 0), ("l2", 1), ("l3", 1)]), 1, 1),
        ("before the calls", sample(5.0, &[("l1", 0)]), 0, 1),
        ("at their end", sample(20.1, &[("l1", 0)]), 0, 0),
        ("after their end", sample(25.0, &[("l1", 0)]), 0, 1),
    ] {
        let wrong = compare(&sample, &calls, GRACE_S);
        ensure!(wrong == Wrong { missing, extra }, "{what}: {wrong:?}");
    }
    ensure!(doubled(&calls) == 0);
    let delays = [1.0, 2.0, 3.0, 50.0];
    ensure!([50, 75, 99].map(|percent| percentile(&delays, percent)) == [2.0, 3.0, 50.0]);
    let mut row = Row::default();
    row.judge_delays(&[1.0, 1.0, 9.0], &delays);
    ensure!((row.added_ms, row.slowed) == ([1.0, 49.0, 49.0, 49.0], 1), "{:?} {}", row.added_ms, row.slowed);
    let twice = [call("a", 0, Some("l1")), call("a", 1, Some("l1")), call("b", 0, Some("l2"))];
    ensure!(doubled(&twice) == 1, "a call at two nodes is not seen");
    Ok(())
}

/// Ten samples a second from the end of the fault on, wrong in these spans.
fn seen(wrong: &[(f64, f64)]) -> f64 {
    let samples = (0..100).map(|n| f64::from(n) / 10.0);
    let samples = samples.map(|at| (at, wrong.iter().any(|(from, to)| (*from..*to).contains(&at))));
    true_again(&samples.collect::<Vec<_>>())
}

/// Each criterion by itself, on a machine with nothing else to do.
fn limits_hold(_: &Lab) -> Result<()> {
    for (what, wrong, from, to) in [
        ("never", &[][..], 0.0, 0.0),
        ("for a second", &[(0.0, 1.05)], 1.0, 1.0),
        ("with a short peace in it", &[(0.0, 1.05), (2.0, 3.05)], 3.0, 3.0),
        ("a blip, much later", &[(0.0, 1.05), (6.0, 6.25)], 1.0, 1.0),
        ("again, much later, and not for a moment only", &[(0.0, 1.05), (6.0, 7.05)], 7.0, 7.0),
        ("to the end", &[(4.0, 10.0)], 9.8, 10.0),
    ] {
        let until = seen(wrong);
        ensure!((from - 0.06..to + 0.06).contains(&until), "wrong {what}: true again after {until}");
    }
    let good = Row { calls: 1140, true_again_s: 4.9, ..Row::default() };
    let limits = within(5.0);
    limits.check(&good)?;
    for (what, row) in [
        ("a call that failed", Row { failed: 1, ..good.clone() }),
        ("a call with two leases", Row { doubled: 1, ..good.clone() }),
        ("a lease that is left", Row { residue: 1, ..good.clone() }),
        ("counts that are wrong too long", Row { true_again_s: 5.1, ..good.clone() }),
        ("calls that were not made", Row { calls: 900, ..good.clone() }),
    ] {
        ensure!(limits.check(&row).is_err(), "nobody minds {what}");
    }
    Ok(())
}

fn busy_machine(_: &Lab) -> Result<()> {
    let calls = [call("a", 0, Some("l1"))];
    let told_late = |late: f64| sample(20.0 + late, &[("l1", 0)]);
    let idle = Machine::new(vec![(20.0, 0.002)], 0, vec![20.0]).learn(&[&told_late(0.2)], &calls)?;
    ensure!(idle.slowness() < 1.1 && idle.excuses(1000) == 0, "{idle:?}");
    // An end that is told 0.5 s late before the fault may be told 1.2 s late afterwards, and all takes longer.
    let slow = Machine::new(Vec::new(), 0, Vec::new()).learn(&[&told_late(0.5)], &calls)?;
    ensure!((slow.grace_s(25.0) - 1.2).abs() < 0.01 && slow.slowness() > 2.9, "{slow:?}");
    ensure!(slow.excuses(1000) == 0, "a call failed, though nobody was starved");
    // Late by 100 ms at one moment: deadlines were missed then, and not at other times.
    let once_late = (0..100).map(|n| (20.0 + f64::from(n) / 10.0, if n == 0 { 0.1 } else { 0.0 })).collect();
    let stalled = Machine::new(once_late, 0, vec![20.0]).learn(&[&told_late(0.2)], &calls)?;
    ensure!(stalled.grace_s(21.5) > 2.9 && stalled.grace_s(30.0) < 0.31, "{stalled:?}");
    ensure!(stalled.excuses(1000) == 50 && Machine::new(Vec::new(), 1, Vec::new()).excuses(1000) == 50);
    // Each caller who was refused may have left one lease for a while; nobody else has.
    let left = |extra| Wrong { missing: 0, extra };
    ensure!(!stalled.differs(&told_late(2.0), left(1)) && stalled.differs(&told_late(2.0), left(2)));
    ensure!(stalled.differs(&told_late(6.0), left(1)) && idle.differs(&told_late(2.0), left(1)));
    // However slow: a lease that stays is one that stays, calls that fail by the dozen fail, and two leases are two.
    let stays = Machine::new(vec![(20.0, 0.1)], 1, Vec::new()).learn(&[&told_late(3.1)], &calls);
    ensure!(stays.is_err(), "a lease that stays is not seen");
    let good = Row { calls: 1001, machine: stalled, ..Row::default() };
    let limits = within(5.0);
    limits.check(&Row { failed: 50, true_again_s: 9.9, ..good.clone() })?;
    for row in [
        Row { failed: 51, ..good.clone() },
        Row { true_again_s: 10.2, ..good.clone() },
        Row { doubled: 1, ..good.clone() },
        Row { residue: 1, ..good.clone() },
    ] {
        ensure!(limits.check(&row).is_err(), "excused: {}", row.line());
    }
    // Where others have the processor, a time shows nothing, and two leases are two all the same.
    let beats = (0..100).map(|n| (f64::from(n), if n < 6 { 0.02 } else { 0.0 })).collect();
    let hopeless = Row { machine: Machine::new(beats, 0, Vec::new()), ..good.clone() };
    let said = |row: Row| limits.check(&row).is_err_and(|error| error.is::<TooBusy>());
    ensure!(
        said(Row { failed: 500, ..hopeless.clone() }) && said(Row { true_again_s: 20.0, ..hopeless.clone() })
    );
    ensure!(!said(Row { doubled: 1, ..hopeless.clone() }) && !said(Row { residue: 1, ..hopeless }));
    ensure!(!said(Row { failed: 500, ..good }), "one late moment excuses everything");
    Ok(())
}
