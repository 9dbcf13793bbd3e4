//! Random traces against a model that is nothing but `domain`'s own functions: whatever is asked of a store, in whatever
//! order and however often, it answers as the model does, and carries the same loads.

use super::store_bench::{CHOOSE, Harness, LIFE, id, record};
use mqs::domain::admission::{Admit, Limit, Scope, Usage};
use mqs::domain::id::{PoolId, Slot};
use mqs::domain::lease::{self, Lease, LeaseState, Lifetimes, Settle, Settled};
use mqs::domain::node::NodeState;
use mqs::domain::pool::{self, Kind, Loaded, Lookup, Rules};
use mqs::domain::time::EpochMs;
use mqs::store::{Answer, NodeRecord, Pick, PoolRules, SettleOne, View, Written};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest};
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The short ones of the leases. A trace that takes longer between two sleeps says nothing, and is not counted.
const SHORT: Lifetimes = Lifetimes { held_ms: 250, call_max_ms: 250 };
const LEASES: u8 = 16;
/// Calls at once of all that are limited, and of one tenant.
const POOL_CALLS: u32 = 5;
const TENANT_CALLS: u32 = 2;
const NAMES: [&str; 6] = ["n0", "n1", "n2", "n3", "n4", "n5"];
/// Above all that the leases of a trace can fill four times over: from there on Redis counts nodes as equally full.
const CAPACITIES: [u32; 5] = [5, 6, 7, 10, 14];

#[derive(Clone, Debug)]
pub enum Step {
    /// Lookups of one batch; true: with short leases.
    Pick(Vec<Ask>, bool),
    /// Verbs of one batch; true: with short lives.
    Settle(Vec<(u8, Verb)>, bool),
    /// A node becomes this, or is forgotten.
    Define(u8, Option<Shape>),
    /// The short leases run out, and a sweep follows.
    Sleep,
    /// The caller takes a new view.
    Look,
    /// The process dies at once, and another one goes on.
    Crash,
}

#[derive(Clone, Debug)]
pub struct Ask {
    lease: u8,
    kind: Kind,
    emergency: bool,
    zone: Option<bool>,
    tag: bool,
    exclude: Vec<u8>,
    node: u8,
    targets_max: u8,
    /// Limited, as a call of no tenant or of one of two.
    limited: Option<Option<bool>>,
    overflows: bool,
}

#[derive(Clone, Debug)]
pub enum Verb {
    Confirm { branch: u8, slot: Option<u8>, late: bool },
    Fail(u8),
    Done,
    Adopt(Vec<u8>),
}

#[derive(Clone, Debug)]
pub struct Shape {
    capacity: u32,
    zone: Option<bool>,
    tag: bool,
    state: NodeState,
}

impl Ask {
    fn lookup(&self) -> Lookup {
        let name = |n: &u8| NAMES[usize::from(*n)].parse().unwrap();
        Lookup {
            kind: self.kind,
            zone: self.zone.map(zone),
            tags: self.tag.then(|| "t".parse().unwrap()).into_iter().collect(),
            exclude: self.exclude.iter().map(name).collect(),
            node: (self.kind == Kind::Agent).then(|| name(&self.node)),
            emergency: self.emergency,
            targets_max: self.targets_max,
        }
    }

    fn admit(&self) -> Vec<Admit> {
        let calls = |most| Limit { calls: Some(most), rate: None };
        let Some(tenant) = self.limited else { return Vec::new() };
        let of = |first| if first { "a.b" } else { "c" }.parse().map(Scope::Tenant).unwrap();
        let pool = Admit { scope: Scope::Pool, limit: calls(POOL_CALLS) };
        let tenant = tenant.map(|first| Admit { scope: of(first), limit: calls(TENANT_CALLS) });
        std::iter::once(pool).chain(tenant).collect()
    }
}

fn zone(first: bool) -> mqs::domain::id::Zone {
    if first { "z1" } else { "z2" }.parse().unwrap()
}

fn rules(short: bool) -> PoolRules {
    // An odd reserve, so that rooms are rounded.
    let choose = Rules { agent_reserve_pm: 130, zone_spill_pm: 500, ..CHOOSE };
    PoolRules { choose, life: if short { SHORT } else { LIFE } }
}

/// What a store must know, and what it must have said to the last step.
#[derive(Clone, Debug)]
pub struct Model {
    /// The embedded store adds targets as they are now; others add those that they are given.
    own_fallbacks: bool,
    now: EpochMs,
    nodes: BTreeMap<Slot, NodeRecord>,
    leases: BTreeMap<u8, Lease>,
    touches: u64,
    touched: BTreeMap<Slot, u64>,
    /// Fallbacks that go with the last lookups.
    fallbacks: Vec<Vec<Slot>>,
    answers: Vec<Answer>,
    said: Vec<Settled>,
}

impl Model {
    fn loaded(&self) -> Vec<Loaded> {
        let load = |slot| self.leases.values().filter(|l| l.counted_on(self.now) == Some(slot)).count();
        let row = |(slot, record): (&Slot, &NodeRecord)| Loaded {
            node: record.node.clone(),
            load: u32::try_from(load(*slot)).unwrap(),
            touched: self.touched.get(slot).copied().unwrap_or(0),
        };
        self.nodes.iter().map(row).collect()
    }

    fn live(&self) -> Vec<bool> {
        (0..LEASES).map(|lease| self.leases.get(&lease).is_some_and(|l| l.is_live(self.now))).collect()
    }

    fn usage(&self, scope: &Scope) -> Usage {
        let counted = |lease: &&Lease| lease.is_live(self.now) && lease.scopes.contains(scope);
        Usage { live: u32::try_from(self.leases.values().filter(counted).count()).unwrap(), arrival_us: 0 }
    }

    fn order(&self, lookup: &Lookup, rules: &Rules) -> Result<Vec<Slot>, pool::NoPick> {
        let loaded = self.loaded();
        let order = pool::pick(&loaded, lookup, rules).targets?;
        Ok(order.into_iter().map(|i| loaded[i].node.slot).collect())
    }

    fn touch(&mut self, slot: Slot) {
        self.touches += 1;
        // Where nobody stands, nothing is remembered.
        if self.nodes.contains_key(&slot) {
            self.touched.insert(slot, self.touches);
        }
    }

    fn pick(&mut self, ask: &Ask, fallbacks: &[Slot], rules: &PoolRules) -> Answer {
        let known = self.leases.get(&ask.lease).filter(|lease| lease.answers_repeat(self.now));
        if let Some(known) = known {
            return Answer::Repeat(known.targets.iter().flatten().copied().collect());
        }
        if self.leases.get(&ask.lease).is_some_and(|lease| lease.is_overflowed(self.now)) {
            return Answer::Overflow;
        }
        for admit in ask.admit() {
            if let Err(reached) = self.usage(&admit.scope).admits(&admit.limit, self.now) {
                let tenant = admit.scope != Scope::Pool;
                return Answer::Refused(pool::NoPick::Limit { tenant, reached });
            }
        }
        let lookup = ask.lookup();
        let mut targets = match self.order(&lookup, &rules.choose) {
            Ok(targets) => targets,
            Err(_) if ask.overflows => {
                self.leases.insert(ask.lease, Lease::overflowed(self.now));
                return Answer::Overflow;
            }
            Err(why) => return Answer::Refused(why),
        };
        if !self.own_fallbacks {
            let chosen = targets[0];
            let behind = fallbacks.iter().copied().filter(|slot| *slot != chosen);
            targets = std::iter::once(chosen).chain(behind).collect();
            targets.truncate(usize::from(lookup.targets_max.min(rules.choose.targets_max)));
        }
        self.touch(targets[0]);
        let lease = Lease {
            state: LeaseState::Held,
            attempt: 0,
            targets: targets.iter().copied().map(Some).collect(),
            expires: self.now + rules.life.held_ms,
            scopes: ask.admit().into_iter().map(|admit| admit.scope).collect(),
        };
        self.leases.insert(ask.lease, lease);
        Answer::Leased(targets)
    }

    fn settle(&mut self, lease: u8, verb: &Verb, life: Lifetimes) -> Settled {
        let (next, said) = lease::settle(self.leases.remove(&lease), &settle(verb, self.now), life, self.now);
        if let Some(next) = next.filter(|next| next.expires > self.now) {
            self.leases.insert(lease, next);
        }
        if let Settled::Moved { slot, .. } = &said {
            self.touch(*slot);
        }
        said
    }

    fn define(&mut self, index: u8, shape: &Option<Shape>) {
        let slot = Slot(u16::from(index));
        let Some(shape) = shape else {
            self.nodes.remove(&slot);
            self.touched.remove(&slot);
            return;
        };
        let mut record = record(slot.0, &format!("{} {}", NAMES[usize::from(index)], shape.capacity));
        let node = std::sync::Arc::make_mut(&mut record.node);
        node.zone = shape.zone.map(zone);
        node.tags = shape.tag.then(|| "t".parse().unwrap()).into_iter().collect();
        node.state = shape.state;
        self.nodes.insert(slot, record);
    }
}

fn settle(verb: &Verb, now: EpochMs) -> Settle {
    match verb {
        Verb::Confirm { branch, slot, late } => Settle::Confirm {
            branch: *branch,
            slot: slot.map(|slot| Slot(u16::from(slot))),
            latest: if *late { EpochMs(now.0 - 1000) } else { now + LIFE.call_max_ms },
        },
        Verb::Fail(branch) => Settle::Fail { branch: *branch },
        Verb::Done => Settle::Done,
        Verb::Adopt(slots) => {
            Settle::Adopt { targets: slots.iter().map(|slot| Slot(u16::from(*slot))).collect() }
        }
    }
}

/// The model, for stores that add their own fallbacks, or for those that do not.
pub struct Machine<const OWN_FALLBACKS: bool>;

impl<const OWN_FALLBACKS: bool> ReferenceStateMachine for Machine<OWN_FALLBACKS> {
    type State = Model;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Model> {
        let shapes = prop::collection::vec(prop::option::weighted(0.8, shape()), NAMES.len());
        let model = |shapes: Vec<Option<Shape>>| {
            let mut model = Model {
                own_fallbacks: OWN_FALLBACKS,
                now: EpochMs(1_700_000_000_000),
                nodes: BTreeMap::new(),
                leases: BTreeMap::new(),
                touches: 0,
                touched: BTreeMap::new(),
                fallbacks: Vec::new(),
                answers: Vec::new(),
                said: Vec::new(),
            };
            (0..).zip(&shapes).for_each(|(index, shape)| model.define(index, shape));
            model
        };
        shapes.prop_map(model).boxed()
    }

    fn transitions(_: &Model) -> BoxedStrategy<Step> {
        let short = prop::bool::weighted(0.3);
        prop_oneof![
            8 => (prop::collection::vec(ask(), 1..6), short).prop_map(|(asks, short)| {
                // Where nothing is usable an emergency call goes by the caller's view, which does not know its batch.
                let alone = asks.iter().find(|ask| ask.emergency).cloned();
                Step::Pick(alone.map_or(asks, |ask| vec![ask]), short)
            }),
            7 => (prop::collection::vec((0..LEASES, verb()), 1..5), short)
                .prop_map(|(verbs, short)| Step::Settle(verbs, short)),
            2 => (0..6u8, prop::option::weighted(0.85, shape())).prop_map(|(index, shape)| Step::Define(index, shape)),
            1 => Just(Step::Sleep),
            2 => Just(Step::Look),
            2 => Just(Step::Crash),
        ]
        .boxed()
    }

    fn apply(mut model: Model, step: &Step) -> Model {
        match step {
            Step::Pick(asks, short) => {
                let wide = Rules { targets_max: pool::TARGETS_MAX, ..rules(*short).choose };
                let all = |ask: &Ask| Lookup { targets_max: pool::TARGETS_MAX, ..ask.lookup() };
                model.fallbacks =
                    asks.iter().map(|ask| model.order(&all(ask), &wide).unwrap_or_default()).collect();
                let asked: Vec<_> = asks.iter().zip(model.fallbacks.clone()).collect();
                model.answers =
                    asked.iter().map(|(ask, fallbacks)| model.pick(ask, fallbacks, &rules(*short))).collect();
            }
            Step::Settle(verbs, short) => {
                let life = rules(*short).life;
                model.said = verbs.iter().map(|(lease, verb)| model.settle(*lease, verb, life)).collect();
            }
            Step::Define(index, shape) => model.define(*index, shape),
            Step::Sleep => model.now = model.now + SHORT.held_ms + 1,
            Step::Look | Step::Crash => {}
        }
        model
    }
}

fn ask() -> impl Strategy<Value = Ask> {
    let kind = prop_oneof![6 => Just(Kind::New), 1 => Just(Kind::Callback), 2 => Just(Kind::Agent)];
    let wishes = (prop::option::weighted(0.4, any::<bool>()), prop::bool::weighted(0.25));
    let exclude = prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec(0..6u8, 1..4)];
    let limited = prop::option::weighted(0.4, prop::option::weighted(0.8, any::<bool>()));
    let more = (1..5u8, limited, prop::bool::weighted(0.2));
    (0..LEASES, kind, prop::bool::weighted(0.1), wishes, exclude, 0..6u8, more).prop_map(
        |(lease, kind, emergency, (zone, tag), exclude, node, (targets_max, limited, overflows))| Ask {
            lease,
            kind,
            // An agent's leg is not an emergency call: nobody asks for both.
            emergency: emergency && kind != Kind::Agent,
            zone,
            tag,
            exclude,
            node,
            targets_max,
            limited,
            overflows,
        },
    )
}

fn verb() -> impl Strategy<Value = Verb> {
    let slot = prop::option::of(0..7u8);
    prop_oneof![
        4 => (0..3u8, slot, prop::bool::weighted(0.1)).prop_map(|(branch, slot, late)| Verb::Confirm { branch, slot, late }),
        3 => (0..3u8).prop_map(Verb::Fail),
        3 => Just(Verb::Done),
        2 => prop::collection::vec(0..7u8, 0..3).prop_map(Verb::Adopt),
    ]
}

fn shape() -> impl Strategy<Value = Shape> {
    let state = prop_oneof![
        8 => Just(NodeState::Active),
        1 => Just(NodeState::Draining),
        1 => Just(NodeState::Down),
        1 => Just(NodeState::Removed),
    ];
    let capacity = prop::sample::select(CAPACITIES.to_vec());
    let zone = prop::option::weighted(0.6, any::<bool>());
    (capacity, zone, prop::bool::weighted(0.4), state).prop_map(|(capacity, zone, tag, state)| Shape {
        capacity,
        zone,
        tag,
        state,
    })
}

/// A harness that the model can drive.
pub trait Driven: Harness {
    /// Whether leases run out while a slow machine works on a trace.
    const REAL_TIME: bool = true;
    /// One for the next trace.
    fn fresh() -> Self;
    /// The process that uses the store dies without a word. Nothing happens to a store that ends with it, or is elsewhere.
    fn crash(&mut self) {}
}

/// A store while a trace runs on it.
pub struct Run<D> {
    runtime: tokio::runtime::Runtime,
    driven: D,
    pool: PoolId,
    seen: View,
    /// When the first short lease since the last sleep may have been given.
    first_short: Option<Instant>,
    /// The trace took too long: leases may have run out that the model counts.
    lost_track: bool,
}

static RUNS: AtomicU32 = AtomicU32::new(0);
static LOST: AtomicU32 = AtomicU32::new(0);

pub struct Traces<D, const OWN_FALLBACKS: bool>(PhantomData<D>);

impl<D: Driven, const OWN_FALLBACKS: bool> StateMachineTest for Traces<D, OWN_FALLBACKS> {
    type SystemUnderTest = Run<D>;
    type Reference = Machine<OWN_FALLBACKS>;

    fn init_test(model: &Model) -> Run<D> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let number = RUNS.fetch_add(1, Ordering::SeqCst);
        let driven = runtime.block_on(async { D::fresh() });
        let pool = format!("m{number}").parse().unwrap();
        let mut run =
            Run { runtime, driven, pool, seen: View::empty(), first_short: None, lost_track: false };
        run.define(model);
        run.look();
        run
    }

    fn apply(mut run: Run<D>, model: &Model, step: Step) -> Run<D> {
        if run.lost_track {
            return run;
        }
        let short = matches!(&step, Step::Pick(_, true) | Step::Settle(_, true));
        if short && run.first_short.is_none() {
            run.first_short = Some(monotonic());
        }
        let outcome = run.step(model, &step);
        let (loads, live, used) = (run.loads(), run.live(), run.used());
        if D::REAL_TIME
            && run
                .first_short
                .is_some_and(|first| first.elapsed() >= Duration::from_millis(SHORT.held_ms - 5))
        {
            LOST.fetch_add(1, Ordering::SeqCst);
            run.lost_track = true;
            return run;
        }
        match outcome {
            Outcome::Answers(answers) => assert_eq!(answers, model.answers, "{step:?}"),
            Outcome::Said(said) => assert_eq!(said, model.said, "{step:?}"),
            Outcome::Nothing => {}
        }
        let wanted: Vec<_> = model.loaded().iter().map(|n| (n.node.slot, n.load, n.touched)).collect();
        assert_eq!(loads, wanted, "slot, load, touched after {step:?}");
        assert_eq!(live, model.live(), "live leases after {step:?}");
        let counted: Vec<_> = scopes().iter().map(|scope| model.usage(scope)).collect();
        assert_eq!(used, counted, "calls that limits count after {step:?}");
        run
    }
}

enum Outcome {
    Answers(Vec<Answer>),
    Said(Vec<Settled>),
    Nothing,
}

impl<D: Driven> Run<D> {
    fn step(&mut self, model: &Model, step: &Step) -> Outcome {
        let store = self.driven.store();
        match step {
            Step::Pick(asks, short) => {
                if asks.iter().any(|ask| ask.emergency) {
                    self.look();
                }
                let store = self.driven.store();
                let pick = |(ask, fallbacks): (&Ask, &Vec<Slot>)| Pick {
                    lease: id(u32::from(ask.lease)),
                    lookup: ask.lookup(),
                    fallbacks: fallbacks.clone(),
                    admit: ask.admit(),
                    sticky: None,
                    overflows: ask.overflows,
                };
                let batch: Vec<Pick> = asks.iter().zip(&model.fallbacks).map(pick).collect();
                let rules = rules(*short);
                let picked = store.pick(&self.pool, &rules, &self.seen, &batch);
                Outcome::Answers(self.runtime.block_on(picked).unwrap())
            }
            Step::Settle(verbs, short) => {
                let now = self.runtime.block_on(store.now()).unwrap();
                let one = |(lease, verb): &(u8, Verb)| SettleOne {
                    lease: id(u32::from(*lease)),
                    verb: settle(verb, now),
                };
                let batch: Vec<SettleOne> = verbs.iter().map(one).collect();
                let rules = rules(*short);
                let said = store.settle(&self.pool, &rules, &self.seen, &batch);
                Outcome::Said(self.runtime.block_on(said).unwrap())
            }
            Step::Define(..) => {
                self.define(model);
                Outcome::Nothing
            }
            Step::Sleep => {
                self.runtime.block_on(self.driven.pass(SHORT.held_ms));
                let swept =
                    self.runtime.block_on(self.driven.store().sweep(&self.pool, &self.seen, 1000)).unwrap();
                assert!(!swept.more);
                self.first_short = None;
                Outcome::Nothing
            }
            Step::Look => {
                self.look();
                Outcome::Nothing
            }
            Step::Crash => {
                self.driven.crash();
                Outcome::Nothing
            }
        }
    }

    /// Behind the back of the caller, whose view stays as old as it is.
    fn define(&self, model: &Model) {
        let nodes: Vec<NodeRecord> = model.nodes.values().cloned().collect();
        let store = self.driven.store();
        let written = self.runtime.block_on(async {
            let now = store.view(&self.pool, &self.seen).await.unwrap();
            store.write_nodes(&self.pool, &now, &nodes).await.unwrap()
        });
        assert!(matches!(written, Written::Done(_)));
    }

    fn look(&mut self) {
        self.seen = self.runtime.block_on(self.driven.store().view(&self.pool, &self.seen)).unwrap();
    }

    fn live(&self) -> Vec<bool> {
        let all: Vec<_> = (0..LEASES).map(|lease| id(u32::from(lease))).collect();
        self.runtime.block_on(self.driven.store().known(&self.pool, &all)).unwrap().live
    }

    fn used(&self) -> Vec<Usage> {
        self.runtime.block_on(self.driven.store().usage(&self.pool, &scopes())).unwrap()
    }

    fn loads(&self) -> Vec<(Slot, u32, u64)> {
        let view = self.runtime.block_on(self.driven.store().view(&self.pool, &self.seen)).unwrap();
        view.loaded.iter().map(|n| (n.node.slot, n.load, n.touched)).collect()
    }
}

fn scopes() -> [Scope; 3] {
    ["p", "t:a.b", "t:c"].map(|scope| scope.parse().unwrap())
}

#[allow(clippy::disallowed_methods)]
fn monotonic() -> Instant {
    Instant::now()
}

/// Runs traces, and fails if too many of them said nothing.
pub fn run<D: Driven, const OWN_FALLBACKS: bool>(cases: u32, steps: usize) {
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 60, ..Config::default() };
    let traces = Machine::<OWN_FALLBACKS>::sequential_strategy(1..steps);
    let lost_before = LOST.load(Ordering::SeqCst);
    let result = TestRunner::new(config.clone()).run(&traces, |(model, steps, counter)| {
        Traces::<D, OWN_FALLBACKS>::test_sequential(config.clone(), model, steps, counter);
        Ok(())
    });
    result.unwrap_or_else(|e| panic!("{e}"));
    let lost = LOST.load(Ordering::SeqCst) - lost_before;
    assert!(
        lost <= cases / 2,
        "{lost} of {cases} traces took so long that they said nothing: a machine too slow?"
    );
}
