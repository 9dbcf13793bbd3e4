//! Where the things of a pool are: its keys, which shelves its definitions make, and the plans that lookups have on them.

use super::conn::Reply;
use super::record;
use crate::domain::id::{PoolId, Slot, Tag, Zone};
use crate::domain::node::Node;
use crate::domain::pool::{self, Kind, Lookup, Plan, Rules, Shelf};
use crate::store::{NodeRecord, StoreError, View};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

/// Plans that are remembered for one version of a pool's definitions.
const PLANS_MAX: usize = 1024;

/// With more shelves than this a lookup that is alone is searched for as a batch of one.
const ALONE_SHELVES_MAX: usize = 64;

/// The names of a pool's keys.
pub(super) struct Keys {
    lease: String,
    own: String,
    ver: String,
    touch: String,
    at: String,
    tomb: String,
    birth: String,
    pub(super) node: String,
    /// The first is that of the nodes that are not for choosing.
    shelves: Vec<String>,
}

impl Keys {
    fn new(pool: &PoolId, shelves: Vec<String>) -> Keys {
        let key = |name: &str| format!("{{mqs:p:{pool}}}:{name}");
        Keys {
            lease: key("lease"),
            own: key("own"),
            ver: key("ver"),
            touch: key("touch"),
            at: key("at"),
            tomb: key("tomb"),
            birth: key("birth"),
            node: key("node"),
            shelves,
        }
    }

    pub(super) fn pick(&self) -> impl Iterator<Item = &String> {
        [&self.lease, &self.own, &self.ver, &self.touch, &self.at, &self.tomb]
            .into_iter()
            .chain(&self.shelves)
    }

    pub(super) fn pick_alone<'a>(&'a self, alone: &'a Alone) -> impl Iterator<Item = &'a String> {
        [&self.lease, &self.own, &self.ver, &self.touch, &self.tomb].into_iter().chain(&alone.shelves)
    }

    pub(super) fn sweep(&self) -> impl Iterator<Item = &String> {
        [&self.lease, &self.own, &self.ver, &self.at, &self.tomb].into_iter().chain(&self.shelves)
    }

    pub(super) fn view(&self) -> impl Iterator<Item = &String> {
        [&self.birth, &self.ver, &self.node, &self.own].into_iter().chain(&self.shelves)
    }

    pub(super) fn known(&self) -> impl Iterator<Item = &String> {
        [&self.birth, &self.lease].into_iter()
    }

    pub(super) fn carried(&self) -> impl Iterator<Item = &String> {
        [&self.own, &self.lease].into_iter()
    }

    pub(super) fn usage(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.lease)
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = &String> {
        [&self.birth, &self.ver, &self.node, &self.own, &self.at].into_iter().chain(&self.shelves)
    }
}

/// What follows from one version of a pool's definitions.
pub(super) struct Layout {
    version: u64,
    pub(super) keys: Keys,
    /// Number of each shelf among `keys.shelves`, from 1 as Lua counts.
    number_of: BTreeMap<Shelf, usize>,
    plans: Mutex<HashMap<Wish, Arc<WrittenPlan>>>,
}

/// A plan, as the scripts read it.
pub(super) struct WrittenPlan {
    /// For a batch.
    pub(super) text: String,
    /// For a lookup that is alone; a plan that is not plain has none.
    pub(super) alone: Option<Alone>,
}

/// The plan of a lookup that is alone: any node of these shelves.
pub(super) struct Alone {
    /// Keys of the shelves of the caller's zone, then of the others.
    shelves: Vec<String>,
    /// How many are of the caller's zone.
    pub(super) near: usize,
    /// In thousandths; empty: no limit.
    pub(super) room: String,
}

/// What a plan depends on, besides the definitions.
#[derive(PartialEq, Eq, Hash)]
struct Wish {
    kind: Kind,
    zone: Option<Zone>,
    tags: BTreeSet<Tag>,
    agent_reserve_pm: u32,
}

impl Layout {
    fn new<'a>(pool: &PoolId, version: u64, nodes: impl Iterator<Item = &'a Node>) -> Layout {
        let shelves: BTreeSet<Shelf> = nodes.filter_map(Shelf::of).collect();
        let off = format!("{{mqs:p:{pool}}}:s:off");
        let keys = std::iter::once(off).chain(shelves.iter().map(|shelf| shelf_key(pool, shelf))).collect();
        let number_of = shelves.into_iter().zip(2..).collect();
        Layout { version, keys: Keys::new(pool, keys), number_of, plans: Mutex::default() }
    }

    /// The shelves of what is there and of what is to come.
    pub(super) fn to_write(pool: &PoolId, old: &View, new: &[NodeRecord]) -> Layout {
        let nodes = old.nodes.iter().chain(new).map(|record| record.node.as_ref());
        Layout::new(pool, old.version, nodes)
    }

    /// Place of the node's shelf among the keys.
    pub(super) fn shelf_number(&self, node: &Node) -> usize {
        Shelf::of(node).and_then(|shelf| self.number_of.get(&shelf).copied()).unwrap_or(1)
    }

    /// The plan of a lookup, as the script reads it.
    pub(super) fn plan(&self, view: &View, lookup: &Lookup, rules: &Rules) -> Arc<WrittenPlan> {
        let general = match lookup.kind {
            Kind::New | Kind::Callback => !lookup.emergency && lookup.exclude.is_empty(),
            Kind::Agent => false,
        };
        let make = || Arc::new(self.write_plan(&pool::plan(&view.loaded, lookup, rules)));
        if !general {
            return make();
        }
        let wish = Wish {
            kind: lookup.kind,
            zone: lookup.zone.clone(),
            tags: lookup.tags.clone(),
            agent_reserve_pm: rules.agent_reserve_pm,
        };
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if plans.len() >= PLANS_MAX && !plans.contains_key(&wish) {
            plans.clear();
        }
        plans.entry(wish).or_insert_with(make).clone()
    }

    fn write_plan(&self, plan: &Plan) -> WrittenPlan {
        match plan {
            Plan::Pinned(slot) => WrittenPlan { text: format!("P{slot}"), alone: None },
            Plan::Search { near, far, room_pm, exclude } => {
                let room = room_pm.map(|pm| pm.to_string()).unwrap_or_default();
                let slots: Vec<Slot> = exclude.iter().copied().collect();
                let text =
                    format!("{room}|{}|{}|{}", self.numbers(near), self.numbers(far), record::slots(&slots));
                let key = |shelf| self.keys.shelves.get(self.number_of.get(shelf)?.checked_sub(1)?).cloned();
                let shelves: Option<Vec<String>> = near.iter().chain(far).map(key).collect();
                let shelves = shelves.filter(|keys| slots.is_empty() && keys.len() <= ALONE_SHELVES_MAX);
                let alone = shelves.map(|shelves| Alone { shelves, near: near.len(), room });
                WrittenPlan { text, alone }
            }
        }
    }

    fn numbers(&self, shelves: &BTreeSet<Shelf>) -> String {
        let numbers = shelves.iter().filter_map(|shelf| self.number_of.get(shelf)).map(usize::to_string);
        numbers.collect::<Vec<_>>().join(",")
    }

    pub(super) fn damaged(&self, op: &'static str, cause: &str) -> StoreError {
        StoreError::Damaged { op, key: self.keys.ver.clone(), cause: cause.to_owned() }
    }

    pub(super) fn unexpected(&self, op: &'static str, reply: &Reply) -> StoreError {
        let cause = format!("unexpected reply {reply:?}");
        StoreError::Damaged { op, key: self.keys.ver.clone(), cause: cause.chars().take(200).collect() }
    }

    /// The definitions were there, and are not: FLUSHALL, or an empty server in the place of the old one.
    pub(super) fn lost(&self, op: &'static str) -> StoreError {
        self.damaged(op, "the definitions are gone; they have to be written again")
    }
}

/// The layout of each pool that was used last.
#[derive(Default)]
pub(super) struct Layouts(Mutex<HashMap<PoolId, Arc<Layout>>>);

impl Layouts {
    /// One whose keys that do not depend on the definitions are right.
    pub(super) fn any(&self, pool: &PoolId) -> Arc<Layout> {
        let layouts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = layouts.get(pool).cloned();
        known.unwrap_or_else(|| Arc::new(Layout::new(pool, 0, std::iter::empty())))
    }

    pub(super) fn of(&self, pool: &PoolId, view: &View) -> Arc<Layout> {
        let mut layouts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(layout) = layouts.get(pool).filter(|layout| layout.version == view.version) {
            return layout.clone();
        }
        let nodes = view.nodes.iter().map(|record| record.node.as_ref());
        let layout = Arc::new(Layout::new(pool, view.version, nodes));
        layouts.insert(pool.clone(), layout.clone());
        layout
    }
}

fn shelf_key(pool: &PoolId, shelf: &Shelf) -> String {
    let zone = shelf.zone.as_ref().map_or("", Zone::as_str);
    let mut hash = Sha256::new_with_prefix(zone);
    for tag in &shelf.tags {
        hash.update([b',']);
        hash.update(tag.as_str());
    }
    let hash: String = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{{mqs:p:{pool}}}:s:{hash}")
}
