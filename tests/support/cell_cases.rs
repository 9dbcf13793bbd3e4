//! What a store of cells promises, promise by promise. Every store keeps every one.

use super::cell_bench::*;
use mqs::domain::id::QueueId;
use mqs::domain::time::EpochMs;
use mqs::store::StoreError;
use mqs::store::cell::{
    Accepted, BATCH_MAX, Batch, CALL_ID_BYTES_MAX, Candidate, Change, Committed, ENDED_KEPT_MS, Image,
    Leader, Leadership, Look, NAME_BYTES_MAX, NUMBER_MAX, Opened, Place, Position, REGISTRATION_GRACE_MS,
    Redeemed, Register, Rewrite,
};

pub async fn a_cell_that_nobody_knows_is_empty_and_whole(h: &impl Harness) {
    let bench = Bench::new(h);
    assert_eq!(bench.redeem("o", "l").await, Redeemed::Unknown);
    assert_eq!(bench.queue("q").await, "");
    assert_eq!(bench.sent(Position(0), 10).await, Vec::<String>::new());
    assert_eq!(bench.store.outbox(&bench.cell, Position(0), 10).await.unwrap(), []);
    assert_eq!(bench.told("g").await, Position(0));
    assert_eq!(bench.registered().await, "");
    let image = bench.here(7).await;
    let (cursor, clock) = (Position(0), EpochMs(0));
    assert_eq!(image, Image { before: 0, seq: 0, cursor, clock, records: Vec::new(), whole: true });
}

pub async fn one_of_two_candidates_leads_and_keeps_its_epoch(h: &impl Harness) {
    let bench = Bench::new(h);
    let Leadership::Yours { epoch, now } = bench.lead("a", 0, LONG_MS, true).await else { panic!("not a") };
    assert!(epoch >= now.0, "an epoch is at least the time: {epoch}, {now}");
    for epoch in [0, epoch, epoch + 5] {
        let Leadership::Theirs { holder, left_ms, .. } = bench.lead("b", epoch, LONG_MS, true).await else {
            panic!("b leads too")
        };
        assert!(holder == "a" && left_ms > 0 && left_ms <= LONG_MS, "{holder} {left_ms}");
    }
    assert_eq!(bench.yours("a", epoch).await, epoch);
    // Its answer was lost, or it is a namesake: it has not led all the time.
    assert!(matches!(bench.lead("a", 0, LONG_MS, true).await, Leadership::Theirs { .. }));
}

pub async fn whoever_is_late_leads_on_unless_somebody_came_between(h: &impl Harness) {
    let bench = Bench::new(h);
    let Leadership::Yours { epoch: first, .. } = bench.lead("a", 0, SHORT_MS, true).await else {
        panic!("not a")
    };
    h.pass(SHORT_MS).await;
    assert!(matches!(bench.lead("a", first, SHORT_MS, false).await,
        Leadership::Yours { epoch, .. } if epoch == first));
    h.pass(SHORT_MS).await;
    let second = bench.yours("b", 0).await;
    assert!(second > first);
    assert!(matches!(bench.lead("a", first, LONG_MS, true).await,
        Leadership::Theirs { holder, .. } if holder == "b"));
}

pub async fn a_renewed_leadership_lasts_from_then_on(h: &impl Harness) {
    let bench = Bench::new(h);
    let Leadership::Yours { epoch, .. } = bench.lead("a", 0, SHORT_MS, true).await else { panic!("not a") };
    bench.lead("a", epoch, LONG_MS, true).await;
    h.pass(SHORT_MS).await;
    assert!(matches!(bench.lead("b", 0, LONG_MS, true).await, Leadership::Theirs { .. }));
}

pub async fn who_resigns_makes_room_at_once_and_the_epoch_rises(h: &impl Harness) {
    let bench = Bench::new(h);
    let first = bench.yours("a", 0).await;
    assert!(!bench.resign("b", first).await && !bench.resign("a", first + 1).await);
    assert!(bench.resign("a", first).await);
    assert!(!bench.resign("a", first).await, "once");
    let second = bench.yours("a", first).await;
    assert!(second > first, "whoever gave it up does not have it any more");
    assert!(bench.resign("a", second).await);
    // Not even whoever may not found it finds it unknown.
    assert!(matches!(bench.lead("b", 0, LONG_MS, false).await,
        Leadership::Yours { epoch, .. } if epoch > second));
}

pub async fn an_unknown_cell_is_given_to_who_led_or_may_found_it(h: &impl Harness) {
    let bench = Bench::new(h);
    assert!(matches!(bench.lead("a", 0, LONG_MS, false).await, Leadership::Unknown { .. }));
    assert!(matches!(bench.lead("a", 0, LONG_MS, false).await, Leadership::Unknown { .. }));
    let far = 5_000_000_000_000;
    assert_eq!(bench.yours("b", far).await, far + 1, "above what the candidate knows");
    let other = Bench { cell: "other".parse().unwrap(), ..Bench::new(h) };
    assert!(other.yours("a", 0).await < far, "cells do not know each other");
}

pub async fn a_leader_gets_a_new_epoch_when_it_wants_one(h: &impl Harness) {
    let bench = Bench::new(h);
    let first = bench.yours("a", 0).await;
    let anew =
        Candidate { holder: "a".to_owned(), epoch: first, ttl_ms: LONG_MS, anew: true, may_found: false };
    let said = bench.store.lead(&bench.cell, &anew).await.unwrap();
    assert!(matches!(said, Leadership::Yours { epoch, .. } if epoch > first), "{said:?}");
    // Who does not lead does not get the leadership by wanting more of it.
    let other = Candidate { holder: "b".to_owned(), ..anew };
    let said = bench.store.lead(&bench.cell, &other).await.unwrap();
    assert!(matches!(said, Leadership::Theirs { .. }), "{said:?}");
}

pub async fn an_epoch_that_was_opened_is_not_given_again(h: &impl Harness) {
    let bench = Bench::new(h);
    let far = 5_000_000_000_000;
    bench.here(far).await;
    let first = bench.yours("a", 0).await;
    assert_eq!(first, far + 1);
    // Somebody whose leadership the store has forgotten.
    bench.here(far + 9).await;
    assert_eq!(bench.yours("a", first).await, far + 10, "its own is shut out");
}

pub async fn twenty_candidates_at_once_have_one_leader(h: &impl Harness) {
    let bench = Bench::new(h);
    let names: Vec<String> = (0..20).map(|n| format!("i{n}")).collect();
    let asked = names.iter().map(|name| bench.lead(name, 0, LONG_MS, true));
    let said = futures_util::future::join_all(asked).await;
    let leaders = said.iter().filter(|said| matches!(said, Leadership::Yours { .. })).count();
    assert_eq!(leaders, 1, "{said:?}");
}

pub async fn whoever_opens_shuts_out_older_epochs(h: &impl Harness) {
    let mut old = Bench::led(h).await;
    old.write(vec![put("r", "1")]).await;
    let new = Bench { epoch: old.epoch + 1, seq: old.seq, ..Bench::new(h) };
    // It is shut out by opening, not by leading.
    old.write(vec![put("r", "2")]).await;
    assert_eq!(new.here(new.epoch).await.records, pairs(&[("r", "2")]));
    let fenced = Committed::Fenced { epoch: new.epoch };
    assert_eq!(old.commit(&old.batch(old.seq + 1, vec![put("r", "3")])).await, fenced);
    let again = Batch { rewrite: Some(Rewrite { first: true, last: true }), ..old.batch(9, vec![]) };
    assert_eq!(old.commit(&again).await, fenced);
    assert_eq!(old.open(old.epoch).await, Opened::Fenced { epoch: new.epoch });
    assert_eq!(
        old.store.open(&old.cell, old.epoch, false).await.unwrap(),
        Opened::Fenced { epoch: new.epoch }
    );
    assert_eq!(new.records().await, pairs(&[("r", "2")]));
    let Opened::Here(image) = new.store.open(&new.cell, new.epoch, false).await.unwrap() else { panic!() };
    assert_eq!((image.seq, image.records.len()), (old.seq, 0), "without records");
}

pub async fn batches_follow_each_other_and_a_repeated_one_changes_nothing(h: &impl Harness) {
    let mut bench = Bench::led(h).await;
    let first = bench.batch(1, vec![put("a", "1"), event("one")]);
    assert_eq!(bench.commit(&first).await, Committed::Done);
    assert_eq!(bench.commit(&first).await, Committed::Repeated);
    assert_eq!(bench.commit(&bench.batch(2, vec![put("a", "2")])).await, Committed::Done);
    assert_eq!(bench.commit(&first).await, Committed::Repeated);
    assert_eq!(bench.commit(&bench.batch(4, vec![put("a", "4")])).await, Committed::Gap { seq: 2 });
    assert_eq!(bench.records().await, pairs(&[("a", "2")]));
    assert_eq!(bench.store.outbox(&bench.cell, Position(0), 9).await.unwrap().len(), 1);
    // Who has not opened has not seen what is here.
    let early = Batch { epoch: bench.epoch + 1, ..bench.batch(3, vec![put("a", "5")]) };
    assert_eq!(bench.commit(&early).await, Committed::Gap { seq: 2 });
    // What another epoch wrote under this number is another batch.
    bench.epoch += 1;
    assert_eq!(bench.here(bench.epoch).await.seq, 2);
    assert_eq!(bench.commit(&bench.batch(2, vec![put("a", "6")])).await, Committed::Gap { seq: 2 });
    assert_eq!(bench.commit(&bench.batch(3, vec![put("a", "7")])).await, Committed::Done);
    assert_eq!(bench.records().await, pairs(&[("a", "7")]));
}

pub async fn changes_are_made_in_their_order(h: &impl Harness) {
    let mut bench = Bench::led(h).await;
    bench
        .write(vec![put("a", "1"), delete("a"), put("b", "1"), put("b", "2"), put("c", ""), delete("d")])
        .await;
    assert_eq!(bench.records().await, pairs(&[("b", "2"), ("c", "")]));
    let odd = "line\r\nline\0 é {x}";
    bench.write(vec![delete("b"), put("b", "3"), put("{b}:st", odd), delete("c")]).await;
    assert_eq!(bench.records().await, pairs(&[("b", "3"), ("{b}:st", odd)]));
}

pub async fn a_batch_keeps_the_cursor_and_the_clock_which_never_go_back(h: &impl Harness) {
    let mut bench = Bench::led(h).await;
    let now = |clock, cursor| (Position(cursor), EpochMs(clock));
    for ((cursor, clock), wanted) in
        [(now(1_000, 5), now(1_000, 5)), (now(900, 7), now(1_000, 7)), (now(2_000, 6), now(2_000, 7))]
    {
        bench.seq += 1;
        let batch = Batch { cursor, clock, ..bench.batch(bench.seq, vec![]) };
        assert_eq!(bench.commit(&batch).await, Committed::Done);
        let image = bench.here(bench.epoch).await;
        assert_eq!((image.cursor, image.clock, image.seq), (wanted.0, wanted.1, bench.seq));
    }
}

pub async fn a_batch_with_one_bad_change_is_refused_whole_and_the_culprit_named(h: &impl Harness) {
    let mut bench = Bench::led(h).await;
    bench.write(vec![put("r", "1"), place("q", "c", 0, 0)]).await;
    let long = "x".repeat(10_000);
    let too_long = "x".repeat(NAME_BYTES_MAX + 1);
    let late = Place { priority: 0, enqueued: EpochMs(NUMBER_MAX + 1) };
    let queue: QueueId = "q".parse().unwrap();
    for (bad, named) in [
        (put("", "x"), "\"\" is empty"),
        (put("a b", "x"), "has ' ' at position 1"),
        (put("a\0", "x"), "has '\\0' at position 1"),
        (delete("\r\nDEL x"), "has '\\r' at position 0"),
        (put("naïve", "x"), "has 'ï' at position 2"),
        (put(&long, "x"), "has 10000 bytes; at most 200"),
        (delete(&too_long), "has 201 bytes"),
        (place("q", "c\u{7f}", 0, 0), "call"),
        (place("q", "loud", 1001, 0), "\"loud\" has priority 1001"),
        (leave("q", &long), "call"),
        (Change::Place { queue: queue.clone(), call: "late".to_owned(), place: late }, "\"late\""),
        (issue("o\t"), "offer"),
        (revoke(""), "offer"),
    ] {
        let changes = vec![put("r", "2"), delete("r"), event("e"), place("q", "d", 0, 0), bad.clone()];
        let said = bench.store.commit(&bench.cell, &bench.batch(bench.seq + 1, changes)).await;
        let Err(StoreError::Refused { op: "commit", cause }) = said else { panic!("{bad:?}: {said:?}") };
        assert!(cause.starts_with("change 4: ") && cause.contains(named), "{bad:?}: {cause}");
        assert!(cause.len() < 400, "{cause}");
    }
    let many = vec![put("r", "2"); BATCH_MAX + 1];
    let said = bench.store.commit(&bench.cell, &bench.batch(bench.seq + 1, many)).await;
    assert!(matches!(&said, Err(StoreError::Refused { cause, .. }) if cause.contains("513")), "{said:?}");
    let odd = Batch { cursor: Position(NUMBER_MAX + 1), ..bench.batch(bench.seq + 1, vec![]) };
    assert!(bench.store.commit(&bench.cell, &odd).await.is_err());

    assert_eq!(bench.records().await, pairs(&[("r", "1")]));
    assert_eq!((bench.queue("q").await.as_str(), bench.here(bench.epoch).await.seq), ("c", bench.seq));
    assert_eq!(bench.store.outbox(&bench.cell, Position(0), 9).await.unwrap(), []);
    let most = "x".repeat(NAME_BYTES_MAX);
    bench.write(vec![put(&most, "x"), place("q", &most, 1000, 0), issue(&most)]).await;
    assert_eq!(bench.redeem(&most, &most).await, Redeemed::Yes);
}

pub async fn the_largest_batch_is_applied_at_once(h: &impl Harness) {
    let mut bench = Bench::led(h).await;
    let all = |of: fn(usize) -> Change| (0..BATCH_MAX).map(of).collect::<Vec<_>>();
    bench.write(all(|n| put(&format!("r{n}"), "x"))).await;
    bench.write(all(|n| place("q", &format!("c{n:03}"), 0, 0))).await;
    bench.write(all(|n| issue(&format!("o{n}")))).await;
    bench.write(all(|n| event(&format!("e{n}")))).await;
    bench.write(all(|n| delete(&format!("r{n}")))).await;
    assert_eq!(bench.records().await, []);
    let queue = bench.store.queue(&bench.cell, &"q".parse().unwrap(), usize::MAX).await.unwrap();
    assert_eq!((queue.len(), queue[511].as_str()), (BATCH_MAX, "c511"));
    let told = bench.store.outbox(&bench.cell, Position(0), usize::MAX).await.unwrap();
    let texts: Vec<String> = told.into_iter().map(|one| one.text).collect();
    assert_eq!(texts, (0..BATCH_MAX).map(|n| format!("e{n}")).collect::<Vec<_>>());
    assert_eq!(bench.redeem("o511", "l").await, Redeemed::Yes);
}

pub async fn everything_is_written_anew_in_several_batches(h: &impl Harness) {
    let mut bench = Bench::led(h).await;
    bench
        .write(vec![put("old", "1"), place("q", "c", 0, 0), place("r", "c", 0, 0), issue("o"), event("e")])
        .await;
    let sent = bench.send("k").await;
    bench.register("bob@x", "p1", 60_000, "id", 1).await;
    bench.seq = 40;
    assert_eq!(bench.rewrite(true, false, vec![put("a", "1"), place("q", "d", 0, 0)]).await, Committed::Done);
    let image = bench.here(bench.epoch).await;
    assert_eq!((image.whole, image.seq), (false, 41));
    assert_eq!(bench.rewrite(false, false, vec![put("b", "1")]).await, Committed::Done);
    // The leader ends here, and another one begins.
    let image = bench.take_over().await;
    assert_eq!((image.whole, image.records), (false, pairs(&[("a", "1"), ("b", "1")])));
    assert_eq!(bench.rewrite(true, false, vec![put("c", "1")]).await, Committed::Done);
    let first =
        Batch { rewrite: Some(Rewrite { first: true, last: false }), ..bench.batch(bench.seq, vec![]) };
    assert_eq!(bench.commit(&first).await, Committed::Repeated, "a repeated first one deletes nothing");
    bench.seq += 1;
    assert_eq!(bench.rewrite(false, true, vec![]).await, Committed::Gap { seq: bench.seq - 2 });
    bench.seq -= 2;
    assert_eq!(bench.rewrite(false, true, vec![place("s", "c", 0, 0)]).await, Committed::Done);
    assert_eq!(bench.commit(&first).await, Committed::Repeated, "nor does one that was long on its way");
    let image = bench.here(bench.epoch).await;
    assert_eq!((image.whole, image.records), (true, pairs(&[("c", "1")])));
    assert_eq!([bench.queue("q").await, bench.queue("r").await, bench.queue("s").await], ["", "", "c"]);
    assert_eq!(bench.redeem("o", "l").await, Redeemed::Unknown);
    // What others wrote stays.
    assert_eq!(bench.sent(Position(0), 9).await, ["k"]);
    assert_eq!(bench.store.send(&bench.cell, "k", "do k").await.unwrap(), Accepted::Repeated(sent));
    assert_eq!(bench.store.outbox(&bench.cell, Position(0), 9).await.unwrap().len(), 1);
    assert_eq!(bench.registered().await, "bob@x via p1 for 60000");
    assert_eq!(bench.rewrite(true, true, vec![put("d", "1")]).await, Committed::Done);
    let image = bench.here(bench.epoch).await;
    assert_eq!((image.whole, image.records), (true, pairs(&[("d", "1")])));
}

pub async fn a_queue_is_ordered_by_priority_then_time_then_name(h: &impl Harness) {
    let mut bench = Bench::led(h).await;
    bench
        .write(vec![
            place("q", "late", 0, 9),
            place("q", "b", 0, 5),
            place("q", "a", 0, 5),
            place("q", "high", 1000, 99),
            place("q", "middle", 500, 0),
            place("other", "a", 0, 0),
        ])
        .await;
    assert_eq!(bench.queue("q").await, "high middle a b late");
    bench
        .write(vec![place("q", "late", 1000, 0), place("q", "high", 0, 99), leave("q", "a"), leave("q", "x")])
        .await;
    assert_eq!(bench.queue("q").await, "late middle b high");
    assert_eq!(bench.queue("other").await, "a");
    bench
        .write(vec![place("q", "b", 0, 0), leave("q", "b"), leave("q", "late"), place("q", "late", 0, 1)])
        .await;
    assert_eq!(bench.queue("q").await, "middle late high");
    let two = bench.store.queue(&bench.cell, &"q".parse().unwrap(), 2).await.unwrap();
    assert_eq!(two, ["middle", "late"]);
    assert_eq!(bench.store.queue(&bench.cell, &"q".parse().unwrap(), 0).await.unwrap(), Vec::<String>::new());
}

pub async fn a_token_is_good_for_one_leg_in_its_epoch(h: &impl Harness) {
    let mut bench = Bench::led(h).await;
    assert_eq!(bench.redeem("o", "l1").await, Redeemed::Unknown);
    bench.write(vec![issue("o"), issue("p"), issue("v")]).await;
    assert_eq!(bench.redeem("o", "l1").await, Redeemed::Yes);
    assert_eq!(bench.redeem("o", "l1").await, Redeemed::Again);
    assert_eq!(bench.redeem("o", "l2").await, Redeemed::Used);
    assert_eq!(bench.redeem("p", "l1").await, Redeemed::Yes, "tokens do not know each other");
    bench.write(vec![revoke("o"), revoke("v")]).await;
    assert_eq!(bench.redeem("o", "l1").await, Redeemed::Unknown);
    assert_eq!(bench.redeem("v", "l1").await, Redeemed::Unknown);
    bench.write(vec![issue("o"), issue("v"), revoke("v")]).await;
    assert_eq!(bench.redeem("v", "l1").await, Redeemed::Unknown);
    assert_eq!(bench.redeem("o", "l2").await, Redeemed::Yes, "a new token");
    bench.write(vec![issue("o")]).await;
    assert_eq!(bench.redeem("o", "l3").await, Redeemed::Used, "the same token, said again");
    bench.write(vec![revoke("o"), issue("o")]).await;
    assert_eq!(bench.redeem("o", "l3").await, Redeemed::Yes);

    bench.write(vec![issue("n")]).await;
    bench.take_over().await;
    assert_eq!(bench.redeem("o", "l3").await, Redeemed::Stale);
    assert_eq!(bench.redeem("n", "l1").await, Redeemed::Stale);
    bench.write(vec![issue("o"), issue("n")]).await;
    assert_eq!(bench.redeem("o", "l4").await, Redeemed::Used, "whoever rings, rings on");
    assert_eq!(bench.redeem("o", "l3").await, Redeemed::Again);
    assert_eq!(bench.redeem("n", "l1").await, Redeemed::Yes);
}

pub async fn of_twenty_legs_at_once_one_may_ring(h: &impl Harness) {
    let mut bench = Bench::led(h).await;
    bench.write(vec![issue("o")]).await;
    let legs: Vec<String> = (0..20).map(|n| format!("leg-{n}@[::1]")).collect();
    let said = futures_util::future::join_all(legs.iter().map(|leg| bench.redeem("o", leg))).await;
    assert_eq!(said.iter().filter(|said| **said == Redeemed::Yes).count(), 1, "{said:?}");
    assert_eq!(said.iter().filter(|said| said.rings()).count(), 1, "{said:?}");
    let again = futures_util::future::join_all(legs.iter().map(|leg| bench.redeem("o", leg))).await;
    let rings = |said: &[Redeemed]| said.iter().position(|said| said.rings());
    assert_eq!(rings(&said), rings(&again));
}

pub async fn a_command_is_kept_once_and_in_order(h: &impl Harness) {
    let mut bench = Bench::led(h).await;
    let keys = ["k1", "{k}:2", "k3", "k4", "k5"];
    let mut at = Vec::new();
    for key in keys {
        at.push(bench.send(key).await);
    }
    assert!(at.windows(2).all(|pair| pair[0] < pair[1]) && at[0] > Position(0), "{at:?}");
    assert_eq!(bench.store.send(&bench.cell, "{k}:2", "other").await.unwrap(), Accepted::Repeated(at[1]));
    assert_eq!(bench.sent(Position(0), 100).await, keys);
    assert_eq!(bench.sent(Position(0), 2).await, keys[..2]);
    assert_eq!(bench.sent(at[1], 2).await, keys[2..4]);
    assert_eq!(bench.sent(at[4], 2).await, Vec::<String>::new());
    assert_eq!(bench.sent(Position(0), 0).await, Vec::<String>::new());

    bench.seq += 1;
    let done = Batch { cursor: at[2], ..bench.batch(bench.seq, vec![]) };
    assert_eq!(bench.commit(&done).await, Committed::Done);
    assert_eq!(bench.sent(Position(0), 100).await, keys[3..], "what is done is gone");
    assert_eq!(bench.store.send(&bench.cell, "k1", "do k1").await.unwrap(), Accepted::Repeated(at[0]));
    // What is sent behind a cursor that runs ahead would never be read.
    let ahead = Position(at[4].0 + 1_000_000_000);
    bench.seq += 1;
    bench.commit(&Batch { cursor: ahead, ..bench.batch(bench.seq, vec![]) }).await;
    assert!(bench.send("k6").await > ahead);
    assert_eq!(bench.sent(ahead, 9).await, ["k6"]);
    for key in ["", "a b", "\n", &"x".repeat(10_000)] {
        let said = bench.store.send(&bench.cell, key, "x").await;
        let Err(StoreError::Refused { op: "send", cause }) = said else { panic!("{key:?}: {said:?}") };
        assert!(cause.starts_with("the key "), "{cause}");
    }
}

pub async fn a_key_is_forgotten_in_time(h: &impl Harness) {
    let bench = Bench::led(h).await;
    let first = bench.send("k").await;
    h.pass_keys(&bench.cell).await;
    assert!(bench.send("k").await > first);
    assert_eq!(bench.sent(Position(0), 9).await, ["k", "k"]);
}

pub async fn events_are_told_in_order_and_groups_never_go_back(h: &impl Harness) {
    let mut bench = Bench::led(h).await;
    bench.write(vec![event("1"), put("a", "1"), event("2")]).await;
    bench.write(vec![event("3\n")]).await;
    let told = bench.store.outbox(&bench.cell, Position(0), 9).await.unwrap();
    let texts: Vec<&str> = told.iter().map(|one| one.text.as_str()).collect();
    assert_eq!(texts, ["1", "2", "3\n"]);
    assert!(told.windows(2).all(|pair| pair[0].position < pair[1].position));
    assert_eq!(bench.store.outbox(&bench.cell, told[0].position, 1).await.unwrap(), told[1..2]);
    assert_eq!(bench.store.outbox(&bench.cell, told[2].position, 9).await.unwrap(), []);

    let acknowledge =
        async |group: &str, upto| bench.store.acknowledge(&bench.cell, group, upto).await.unwrap();
    acknowledge("g", told[1].position).await;
    acknowledge("g", told[0].position).await;
    assert_eq!(bench.told("g").await, told[1].position);
    acknowledge("g", told[2].position).await;
    assert_eq!([bench.told("g").await, bench.told("h").await], [told[2].position, Position(0)]);
    let said = bench.store.acknowledge(&bench.cell, "g\r", Position(1)).await;
    assert!(matches!(&said, Err(StoreError::Refused { cause, .. }) if cause.contains("group")), "{said:?}");
    let said = bench.store.told(&bench.cell, &"g".repeat(10_000)).await;
    assert!(matches!(&said, Err(StoreError::Refused { cause, .. }) if cause.contains("10000")), "{said:?}");
}

pub async fn registrations_are_kept_by_proxy_and_refreshed(h: &impl Harness) {
    let bench = Bench::new(h);
    bench.register("bob@x", "p1", 60_000, "id-1", 1).await;
    bench.register("bob@x", "p2.example", 30_000, "id-2", 1).await;
    bench.register("eve@x", "p1", 60_000, "id-3", 1).await;
    assert_eq!(
        bench.registered().await,
        "bob@x via p1 for 60000, bob@x via p2.example for 30000, eve@x via p1 for 60000"
    );
    bench.register("bob@x", "p1", 90_000, "id-1", 2).await;
    bench.register("eve@x", "p1", 0, "id-3", 2).await;
    assert_eq!(bench.registered().await, "bob@x via p1 for 90000, bob@x via p2.example for 30000");
    for (aor, id) in [("a b@x", "i"), ("", "i"), (&"x".repeat(10_000), "i"), ("bob@x", "i\n"), ("bob@x", "")]
    {
        let proxy = "p1".parse().unwrap();
        let register =
            Register { aor: aor.to_owned(), proxy, expires_ms: 1, call_id: id.to_owned(), cseq: 1 };
        let said = bench.store.register(&bench.cell, &register).await;
        let Err(StoreError::Refused { op: "register", cause }) = said else { panic!("{aor:?}: {said:?}") };
        assert!(cause.contains("address-of-record") || cause.contains("Call-ID"), "{cause}");
    }
    bench.register("{ann}@[::1]", "p1", 60_000, &"i".repeat(CALL_ID_BYTES_MAX), u32::MAX).await;
    assert!(bench.registered().await.contains("{ann}@[::1] via p1 for 60000"));
}

pub async fn a_late_register_changes_nothing(h: &impl Harness) {
    let bench = Bench::new(h);
    bench.register("bob@x", "p1", 60_000, "id", 10).await;
    bench.register("bob@x", "p1", 30_000, "id", 9).await;
    bench.register("bob@x", "p1", 0, "id", 9).await;
    assert_eq!(bench.registered().await, "bob@x via p1 for 60000");
    bench.register("bob@x", "p1", 50_000, "id", 10).await;
    assert_eq!(bench.registered().await, "bob@x via p1 for 50000", "the same one, again");
    bench.register("bob@x", "p1", 0, "id", 12).await;
    bench.register("bob@x", "p1", 60_000, "id", 11).await;
    assert_eq!(bench.registered().await, "", "not even after the end");
    bench.register("bob@x", "p1", 40_000, "other", 1).await;
    assert_eq!(
        bench.registered().await,
        "bob@x via p1 for 40000",
        "a telephone that was restarted counts anew"
    );
    bench.register("bob@x", "p1", 0, "other", 2).await;
    h.pass_registrations(&bench.cell, ENDED_KEPT_MS).await;
    bench.register("bob@x", "p1", 20_000, "other", 1).await;
    assert_eq!(bench.registered().await, "bob@x via p1 for 20000", "forgotten in time");
}

pub async fn a_registration_ends_some_time_after_it_expires(h: &impl Harness) {
    let bench = Bench::new(h);
    bench.register("bob@x", "p1", 60_000, "id", 5).await;
    h.pass_registrations(&bench.cell, 60_000 + REGISTRATION_GRACE_MS - 10_000).await;
    assert_eq!(bench.registered().await, "bob@x via p1 for 60000");
    h.pass_registrations(&bench.cell, 10_000).await;
    assert_eq!(bench.registered().await, "");
    bench.register("bob@x", "p1", 60_000, "id", 4).await;
    assert_eq!(bench.registered().await, "bob@x via p1 for 60000", "what is over is forgotten");
}

pub async fn whoever_looks_sees_everything_and_changes_nothing(h: &impl Harness) {
    let mut bench = Bench::new(h);
    let look = async |bench: &Bench<'_>| bench.store.look(&bench.cell).await.unwrap();
    let blank = look(&bench).await;
    assert_eq!(blank, Look { now: blank.now, whole: true, ..Look::default() });
    assert_ne!(blank.now, EpochMs(0));
    // To have looked is not to have founded it.
    assert!(matches!(bench.lead("a", 0, LONG_MS, false).await, Leadership::Unknown { .. }));

    bench.take("a").await;
    let many: Vec<(String, String)> = (0..2_500).map(|n| (format!("c:{n:04}"), format!("{n}"))).collect();
    for part in many.chunks(BATCH_MAX) {
        bench.write(part.iter().map(|(name, text)| put(name, text)).collect()).await;
    }
    bench.write(vec![event("one"), event("two")]).await;
    bench.register("bob@x", "p1", 60_000, "id-1", 1).await;
    bench.register("eve@x", "p1", 60_000, "id-2", 1).await;
    bench.register("eve@x", "p1", 0, "id-2", 2).await;
    let first = bench.send("k1").await;
    let second = bench.send("k2").await;
    bench.seq += 1;
    let batch = Batch { cursor: first, ..bench.batch(bench.seq, vec![]) };
    assert_eq!(bench.commit(&batch).await, Committed::Done);

    let mut seen = look(&bench).await;
    seen.records.sort();
    assert_eq!(seen.records, many);
    assert_eq!((seen.epoch, seen.seq, seen.whole), (bench.epoch, bench.seq, true));
    assert_eq!((seen.cursor, seen.sent), (first, second));
    let told = bench.store.outbox(&bench.cell, Position(0), 10).await.unwrap();
    assert_eq!(told.last().map(|told| told.position), Some(seen.told));
    assert_eq!(seen.registrations, bench.store.registrations(&bench.cell).await.unwrap());
    assert_eq!(seen.registrations.len(), 1);
    let leader = seen.leader.clone().unwrap();
    assert_eq!((leader.holder.as_str(), leader.epoch), ("a", bench.epoch));
    assert!(leader.left_ms > LONG_MS / 2 && leader.left_ms <= LONG_MS, "{leader:?}");

    let mut again = look(&bench).await;
    again.records.sort();
    let left_ms = again.leader.as_ref().unwrap().left_ms;
    assert_eq!(again, Look { now: again.now, leader: Some(Leader { left_ms, ..leader }), ..seen });

    assert_eq!(bench.rewrite(true, false, vec![put("c:0001", "anew")]).await, Committed::Done);
    let torn = look(&bench).await;
    assert_eq!((torn.whole, torn.records), (false, pairs(&[("c:0001", "anew")])));
    assert!(bench.resign("a", bench.epoch).await);
    assert_eq!(look(&bench).await.leader, None);
    bench.lead("b", 0, SHORT_MS, false).await;
    h.pass(SHORT_MS).await;
    let late = look(&bench).await.leader.unwrap();
    assert_eq!((late.holder.as_str(), late.left_ms), ("b", 0));
    assert_ne!(late.epoch, bench.epoch, "it was granted, and not opened");
    assert_eq!(look(&bench).await.epoch, bench.epoch);
}

pub async fn names_and_numbers_that_are_none_are_refused(h: &impl Harness) {
    let bench = Bench::led(h).await;
    let long = "x".repeat(10_000);
    for holder in ["", "a b", long.as_str()] {
        let candidate =
            Candidate { holder: holder.to_owned(), epoch: 0, ttl_ms: 1, anew: false, may_found: true };
        let said = bench.store.lead(&bench.cell, &candidate).await;
        let Err(StoreError::Refused { op: "lead", cause }) = said else { panic!("{said:?}") };
        assert!(cause.contains("candidate"), "{cause}");
    }
    for epoch in [0, NUMBER_MAX + 1, u64::MAX] {
        let said = bench.store.open(&bench.cell, epoch, true).await;
        assert!(
            matches!(&said, Err(StoreError::Refused { op: "open", cause }) if cause.contains("epoch")),
            "{said:?}"
        );
        let batch = Batch { epoch, ..bench.batch(1, vec![]) };
        let said = bench.store.commit(&bench.cell, &batch).await;
        assert!(matches!(&said, Err(StoreError::Refused { op: "commit", .. })), "{said:?}");
    }
    for (offer, leg) in [("", "l"), ("o", ""), ("o o", "l"), ("o", "l\0"), (&long, "l"), ("o", &long)] {
        let said = bench.store.redeem(&bench.cell, offer, leg).await;
        assert!(matches!(&said, Err(StoreError::Refused { op: "redeem", .. })), "{said:?}");
    }
}
