//! MQS' pick as a store makes it: `domain::pool::plan` says which shelves, the least of each is known at once.
//!
//! `domain::pool::pick` judges every node for every call, a thousand million judgements in the largest case. So it is asked for one pick
//! in `check_every`, and must name the same node.

use super::fleet::Fleet;
use super::order::{Key, Order};
use mqs::domain::id::Zone;
use mqs::domain::pool::{self, Lookup, Plan, Rules, Shelf};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

pub struct Shelves {
    rules: Rules,
    check_every: u64,
    picks: u64,
    checked: u64,
    orders: Vec<Order>,
    /// Places in `orders`.
    shelf_of: Vec<Option<usize>>,
    plans: BTreeMap<Option<Zone>, Rc<Search>>,
}

/// A plan with the shelves' places in `orders`.
struct Search {
    near: Vec<usize>,
    far: Vec<usize>,
    room_pm: Option<u32>,
}

impl Shelves {
    pub fn new(fleet: &Fleet, rules: Rules, check_every: u64) -> Shelves {
        let mut shelves = Shelves {
            rules,
            check_every,
            picks: 0,
            checked: 0,
            orders: Vec::new(),
            shelf_of: Vec::new(),
            plans: BTreeMap::new(),
        };
        shelves.lay_out(fleet);
        shelves
    }

    /// After a change of definitions.
    pub fn lay_out(&mut self, fleet: &Fleet) {
        let of: Vec<Option<Shelf>> = fleet.nodes.iter().map(|n| Shelf::of(&n.node)).collect();
        let all: Vec<Shelf> = of.iter().flatten().cloned().collect::<BTreeSet<_>>().into_iter().collect();
        let place = |shelf: &Shelf| all.iter().position(|other| other == shelf);
        self.shelf_of = of.iter().map(|shelf| shelf.as_ref().and_then(place)).collect();
        let laid = |number: usize| {
            let mut order = Order::new(fleet.nodes.len());
            let on = |of: &Option<usize>| *of == Some(number);
            let keys = fleet.nodes.iter().zip(&self.shelf_of);
            order.set_all(keys.map(|(n, of)| if on(of) { Key::of(n) } else { Key::default() }));
            order
        };
        self.orders = (0..all.len()).map(laid).collect();
        self.plans.clear();
        for zone in all.iter().map(|shelf| &shelf.zone).chain([&None]) {
            let lookup = Lookup { zone: zone.clone(), ..Lookup::new_call(1) };
            if let Plan::Search { near, far, room_pm, .. } = pool::plan(&fleet.nodes, &lookup, &self.rules) {
                let places = |of: &BTreeSet<Shelf>| of.iter().filter_map(place).collect();
                let search = Search { near: places(&near), far: places(&far), room_pm };
                self.plans.insert(zone.clone(), Rc::new(search));
            }
        }
    }

    /// After a change of a node's load.
    pub fn moved(&mut self, fleet: &Fleet, node: usize) {
        if let Some(shelf) = self.shelf_of[node] {
            self.orders[shelf].set(node, Key::of(&fleet.nodes[node]));
        }
    }

    /// The node that is leased for a lookup; `None`: refused.
    pub fn pick(&mut self, fleet: &Fleet, lookup: &Lookup) -> Option<usize> {
        // A zone without a node has the plan of no zone.
        let plan = self.plans.get(&lookup.zone).or_else(|| self.plans.get(&None)).cloned();
        let found = plan.and_then(|plan| self.search(&plan));
        self.picks += 1;
        if self.picks.is_multiple_of(self.check_every) {
            let picked = pool::pick(&fleet.nodes, lookup, &self.rules);
            let best = picked.targets.ok().and_then(|order| order.first().copied());
            assert_eq!(found, best, "pick {} is not that of domain::pool::pick", self.picks);
            self.checked += 1;
        }
        found
    }

    /// How many picks were held against `domain::pool::pick`.
    pub fn checked(&self) -> u64 {
        self.checked
    }

    /// As `store/redis/pick.lua` chooses.
    fn search(&self, plan: &Search) -> Option<usize> {
        let fits = |key: &Key| {
            let room = plan.room_pm.map(|pm| key.capacity.saturating_mul(pm) / 1000);
            room.is_none_or(|room| key.after <= room)
        };
        let spill_pm = u64::from(self.rules.zone_spill_pm);
        let spills = |key: &Key| u64::from(key.after) * 1000 > spill_pm * u64::from(key.capacity);
        let near = self.least(&plan.near, None);
        if let Some((node, key)) = near
            && fits(&key)
            && !spills(&key)
        {
            return Some(node);
        }
        self.least(&plan.far, near).filter(|(_, key)| fits(key)).map(|(node, _)| node)
    }

    fn least(&self, of: &[usize], best: Option<(usize, Key)>) -> Option<(usize, Key)> {
        let first = |shelf: &usize| self.orders[*shelf].least().map(|n| (n, self.orders[*shelf].key(n)));
        of.iter().filter_map(first).chain(best).reduce(|a, b| if b.1.before(b.0, &a.1, a.0) { b } else { a })
    }
}
