//! A new leader: from the question for the leadership until it is ready, with 5,000 calls, 2,000 agents and 1,000 offers in
//! Redis.

use crate::line::Line;
use crate::store::{PATIENT, Writer, candidate, cell, served, summary};
use crate::support::full_or_quick;
use crate::world;
use mqs::cell::codec;
use mqs::cell::pilot::Found;
use mqs::clock::Stopwatch;
use mqs::domain::controller::Controller;
use mqs::store::cell::{CellStore as _, Leadership};
use mqs::store::redis::RedisStore;
use serde_json::{Value, json};
use std::hint::black_box;

const CALLS: usize = 5_000;
const OFFERS: usize = 1_000;

pub fn measure() -> Value {
    let folder = tempfile::tempdir().unwrap();
    let Some(redis) = served(folder.path()) else {
        return json!({"skipped": "no redis-server on the PATH"});
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = RedisStore::connect(&redis.url, PATIENT).unwrap();
        let (mut line, mut all) =
            Line::new(&world::setup(), OFFERS + OFFERS / 10, CALLS - OFFERS + OFFERS / 10);
        while line.controller.offers().count() < OFFERS || line.controller.calls().count() < CALLS {
            line.step(&mut all);
            assert!(all.len() < 1_000_000, "so many calls and offers there are never");
        }
        let writer = Writer::new(&store, line).await;
        take_over(&store, writer.resign().await).await
    })
}

async fn take_over(store: &RedisStore, line: Line) -> Value {
    let setup = world::setup();
    let there =
        (line.controller.calls().count(), line.controller.agents().count(), line.controller.offers().count());
    let rounds = full_or_quick(25, 5);
    let mut parts: [Vec<f64>; 5] = Default::default();
    for round in 0..rounds + 1 {
        let holder = format!("leader-{round}");
        let watch = Stopwatch::start();
        let ms = || watch.elapsed().as_secs_f64() * 1e3;
        let asked = store.lead(&cell(), &candidate(&holder)).await.unwrap();
        let Leadership::Yours { epoch, .. } = asked else { panic!("{asked:?}") };
        let leads = ms();
        let opened = store.open(&cell(), epoch, true).await.unwrap();
        let open = ms();
        let (found, errors) = codec::found(opened);
        let Found::Here { saved, clock, .. } = found else { panic!("{found:?}") };
        let read = ms();

        let mut controller = Controller::restore(epoch, setup.clone(), 1, saved, clock);
        while let Some(output) = controller.next_output() {
            black_box(output);
        }
        let ready = ms();
        assert!(errors.is_empty(), "{errors:?}");
        let here = (controller.calls().count(), controller.agents().count(), controller.offers().count());
        assert_eq!(here, there);
        assert!(store.resign(&cell(), &holder, epoch).await.unwrap());
        if round > 0 {
            let times = [leads, open - leads, read - open, ready - read, ready];
            parts.iter_mut().zip(times).for_each(|(part, ms)| part.push(ms));
        }
    }
    let [lead, open, read, restore, whole] = parts.map(summary);
    json!({
        "rounds": rounds, "calls": there.0, "agents": there.1, "offers": there.2,
        "whole_ms": whole, "lead_ms": lead, "open_ms": open, "read_ms": read, "restore_ms": restore,
    })
}
