//! What the cases of the store's contract are written with: one pool of a store, and short words for what is done to it.

use mqs::domain::health::Condition;
use mqs::domain::id::{LeaseId, NodeId, PoolId, Slot};
use mqs::domain::lease::{Lifetimes, Settle, Settled};
use mqs::domain::node::{Node, NodeState};
use mqs::domain::pool::{Kind, Lookup, Rules};
use mqs::domain::time::EpochMs;
use mqs::store::{Answer, NodeRecord, Pick, PoolRules, SettleOne, Store, Swept, View, Written};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Held leases of the cases that wait for their end live so long. Long enough for a slow machine to do in that time
/// what the case does before it waits.
pub const SHORT_MS: u64 = 400;

pub const LIFE: Lifetimes = Lifetimes { held_ms: 30_000, call_max_ms: 14_400_000 };
pub const CHOOSE: Rules = Rules { agent_reserve_pm: 0, zone_spill_pm: 800, targets_max: 3 };

/// A store, and how time passes for it.
pub trait Harness {
    fn store(&self) -> &dyn Store;
    /// Lets so much time pass, and a little more.
    async fn pass(&self, ms: u64);
    /// Lets the time pass that ended leases are remembered for.
    async fn pass_tombs(&self, pool: &PoolId);
}

/// One pool of a store.
pub struct Bench<'a, H> {
    pub harness: &'a H,
    pub pool: PoolId,
    pub rules: PoolRules,
    /// What is said to be known already. It grows old unless `look` is called.
    pub seen: View,
}

impl<'a, H: Harness> Bench<'a, H> {
    pub fn new(harness: &'a H) -> Bench<'a, H> {
        let rules = PoolRules { choose: CHOOSE, life: LIFE };
        Bench { harness, pool: "p".parse().unwrap(), rules, seen: View::empty() }
    }

    /// A pool with nodes, each `id capacity [zone=…] [tags=…] [state=…]`, in slots from 0.
    pub async fn with(harness: &'a H, nodes: &[&str]) -> Bench<'a, H> {
        let mut bench = Bench::new(harness);
        bench.define(nodes).await;
        bench
    }

    fn store(&self) -> &'a dyn Store {
        self.harness.store()
    }

    pub async fn look(&mut self) -> &View {
        self.seen = self.store().view(&self.pool, &self.seen).await.unwrap();
        &self.seen
    }

    /// Replaces the definitions, and looks.
    pub async fn define(&mut self, nodes: &[&str]) {
        self.redefine(nodes).await;
        self.look().await;
    }

    /// Replaces the definitions behind the back of whoever goes by `seen`.
    pub async fn redefine(&self, nodes: &[&str]) {
        let records: Vec<NodeRecord> = (0..).zip(nodes).map(|(slot, text)| record(slot, text)).collect();
        let now = self.store().view(&self.pool, &View::empty()).await.unwrap();
        let written = self.store().write_nodes(&self.pool, &now, &records).await.unwrap();
        assert!(matches!(written, Written::Done(version) if version > now.version), "{written:?}");
    }

    /// `a=1 b=0`: what every node carries, as the store sees it now.
    pub async fn loads(&self) -> String {
        let view = self.store().view(&self.pool, &self.seen).await.unwrap();
        let loads = view.loaded.iter().map(|n| format!("{}={}", n.node.id, n.load));
        loads.collect::<Vec<_>>().join(" ")
    }

    pub async fn picks(&self, batch: &[Pick]) -> Vec<Answer> {
        let answers = self.store().pick(&self.pool, &self.rules, &self.seen, batch).await.unwrap();
        assert_eq!(answers.len(), batch.len());
        answers
    }

    pub async fn pick(&self, lease: u32, lookup: &Lookup) -> Answer {
        self.picks(&[self.ask(lease, lookup)]).await.remove(0)
    }

    /// A lookup with the fallbacks that are known.
    pub fn ask(&self, lease: u32, lookup: &Lookup) -> Pick {
        let wide = Rules { targets_max: 12, ..self.rules.choose };
        let picked =
            mqs::domain::pool::pick(&self.seen.loaded, &Lookup { targets_max: 12, ..lookup.clone() }, &wide);
        let slots = |order: Vec<usize>| order.into_iter().map(|i| self.seen.loaded[i].node.slot).collect();
        Pick::plain(id(lease), lookup.clone(), picked.targets.map(slots).unwrap_or_default())
    }

    /// Name of the node that a new call was leased on now, or what else was said.
    pub async fn chosen(&self, lease: u32, lookup: &Lookup) -> String {
        self.name(&self.pick(lease, lookup).await)
    }

    pub fn name(&self, answer: &Answer) -> String {
        let first = |targets: &[Slot]| {
            let slot = *targets.first().expect("an answer has targets");
            self.seen.at_slot(slot).map_or_else(|| format!("slot {slot}"), |n| n.node.id.to_string())
        };
        match answer {
            Answer::Leased(targets) => first(targets),
            Answer::Repeat(targets) => format!("again {}", first(targets)),
            Answer::Refused(why) => format!("{why:?}"),
            Answer::Overflow => "overflow".to_owned(),
        }
    }

    /// The leases of a slot by their numbers, and whether they are confirmed.
    pub async fn carried(&self, slot: u16) -> Vec<(u32, bool)> {
        let all = self.store().carried(&self.pool, Slot(slot)).await.unwrap();
        let number = |lease: mqs::domain::id::LeaseId| (0..6_000).find(|n| id(*n) == lease).unwrap();
        let mut all: Vec<(u32, bool)> = all.iter().map(|one| (number(one.lease), one.confirmed)).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    pub async fn known(&self, leases: &[LeaseId]) -> Vec<bool> {
        self.store().known(&self.pool, leases).await.unwrap().live
    }

    pub async fn settles(&self, batch: &[SettleOne]) -> Vec<Settled> {
        let said = self.store().settle(&self.pool, &self.rules, &self.seen, batch).await.unwrap();
        assert_eq!(said.len(), batch.len());
        said
    }

    pub async fn settle(&self, lease: u32, verb: Settle) -> Settled {
        self.settles(&[SettleOne { lease: id(lease), verb }]).await.remove(0)
    }

    pub async fn done(&self, lease: u32) -> Settled {
        self.settle(lease, Settle::Done).await
    }

    pub async fn fail(&self, lease: u32, branch: u8) -> Settled {
        self.settle(lease, Settle::Fail { branch }).await
    }

    pub async fn confirm(&self, lease: u32, branch: u8, slot: Option<u16>) -> Settled {
        let latest = self.now().await + LIFE.call_max_ms;
        self.settle(lease, Settle::Confirm { branch, slot: slot.map(Slot), latest }).await
    }

    pub async fn sweep(&self, limit: u32) -> Swept {
        self.store().sweep(&self.pool, &self.seen, limit).await.unwrap()
    }

    pub async fn now(&self) -> EpochMs {
        self.store().now().await.unwrap()
    }
}

pub fn id(n: u32) -> LeaseId {
    LeaseId(u128::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_be_bytes())
}

pub fn call() -> Lookup {
    Lookup::new_call(3)
}

pub fn to_agent_on(node: &str) -> Lookup {
    Lookup { kind: Kind::Agent, node: Some(node.parse().unwrap()), ..call() }
}

pub fn without(nodes: &[&str]) -> Lookup {
    let exclude: BTreeSet<NodeId> = nodes.iter().map(|n| n.parse().unwrap()).collect();
    Lookup { exclude, ..call() }
}

pub fn record(slot: u16, text: &str) -> NodeRecord {
    let mut words = text.split(' ');
    let mut node = Node {
        id: words.next().unwrap().parse().unwrap(),
        slot: Slot(slot),
        uri: format!("sip:127.0.1.{}", slot % 250 + 1).parse().unwrap(),
        capacity: words.next().unwrap().parse().unwrap(),
        zone: None,
        tags: BTreeSet::new(),
        state: NodeState::Active,
        health: Default::default(),
    };
    for word in words {
        match word.split_once('=').unwrap() {
            ("zone", zone) => node.zone = Some(zone.parse().unwrap()),
            ("tags", tags) => node.tags = tags.split(',').map(|t| t.parse().unwrap()).collect(),
            ("state", state) => node.state = state.parse().unwrap(),
            ("ramp", pm) => {
                node.health.condition = Condition::Warming;
                node.health.ramp_pm = pm.parse().unwrap();
            }
            ("health", condition) => node.health.condition = condition.parse().unwrap(),
            ("overruled", yes) => node.health.overruled = yes.parse().unwrap(),
            ("slot", slot) => node.slot = Slot(slot.parse().unwrap()),
            (other, _) => panic!("{other}"),
        }
    }
    NodeRecord { node: Arc::new(node), file_digest: None, since: EpochMs(0) }
}

pub fn targets(answer: &Answer) -> Vec<Slot> {
    match answer {
        Answer::Leased(targets) | Answer::Repeat(targets) => targets.clone(),
        Answer::Refused(why) => panic!("refused: {why:?}"),
        Answer::Overflow => panic!("overflow"),
    }
}

pub fn first(answer: &Answer) -> String {
    match answer {
        Answer::Leased(targets) => format!("leased {}", targets[0]),
        Answer::Repeat(targets) => format!("repeat {}", targets[0]),
        Answer::Refused(why) => format!("{why:?}"),
        Answer::Overflow => "overflow".to_owned(),
    }
}
