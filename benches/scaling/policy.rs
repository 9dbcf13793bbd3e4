//! MQS beside its rivals in quiet times: the same calls at the same moments, through the same instances.

use super::fleet::{Evenness, Fleet};
use super::order::{Key, Order};
use super::shelves::Shelves;
use super::traffic::{Agenda, Arrivals, Hold};
use fastrand::Rng;
use mqs::domain::pool::{Lookup, Rules};

/// How long it takes until the first calls are up, in ms: instances look meanwhile.
const FILL_MS: u64 = 60_000;

/// Who chooses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Who {
    /// One count for all.
    Mqs,
    /// Any node, the larger the likelier.
    Random,
    /// Each instance in its own turn, from where it happens to be.
    InTurn,
    /// The less occupied of two drawn ones, by the true count.
    TwoShared,
    /// The same by a view that each instance takes so often, in ms, and its own picks since.
    TwoViews(u64),
    /// The same by the calls of the instance alone.
    TwoOwn,
    /// The least occupied by such a view.
    LeastViews(u64),
    /// Kamailio's algorithm 10, call load: the fewest calls of this instance, whatever the capacity, the first in the list among equals
    /// (`ds_get_leastloaded` of its module `dispatcher`).
    Dispatcher,
}

#[derive(Clone)]
pub struct Case {
    pub capacities: Vec<u32>,
    pub instances: usize,
    pub calls: usize,
    pub hold: Hold,
    /// How long it runs before it is looked at, and then, in s.
    pub warm_s: u64,
    pub seconds: u64,
    pub seed: u64,
    pub check_every: u64,
}

pub const RULES: Rules = Rules { agent_reserve_pm: 0, zone_spill_pm: 800, targets_max: 3 };

/// A call that is up.
#[derive(Clone, Copy)]
struct Call {
    node: u16,
    instance: u16,
}

/// What was seen each second, and how many picks were held against `domain::pool::pick`.
pub struct Seen {
    pub each_second: Vec<Evenness>,
    pub picks: u64,
    pub checked: u64,
}

pub fn run(case: &Case, who: Who) -> Seen {
    let (mut chance, mut lots) = (Rng::with_seed(case.seed), Rng::with_seed(case.seed ^ 0x5eed));
    let mut fleet = Fleet::new(&case.capacities, 0);
    let mut choice = Choice::new(case, who, &fleet, &mut lots);
    let lasts_ms = (case.warm_s + case.seconds) * 1000;
    let mut agenda = Agenda::new(lasts_ms);
    for number in 0..case.calls as u64 {
        choice.look(&fleet, number * FILL_MS / case.calls as u64);
        let instance = chance.usize(..case.instances);
        let node = choice.dial(&mut fleet, instance, &mut lots);
        let call = Call { node: node as u16, instance: instance as u16 };
        agenda.put(case.hold.draw_left(&mut chance), call);
    }
    let mut arrivals = Arrivals::new(case.calls as f64 / case.hold.mean_s, &mut chance);
    let mut seen = Seen { each_second: Vec::new(), picks: case.calls as u64, checked: 0 };
    for now in 0..lasts_ms {
        for call in agenda.take(now) {
            choice.end(&mut fleet, call);
        }
        choice.look(&fleet, FILL_MS + now);
        for _ in 0..arrivals.at(now, &mut chance) {
            let (instance, hold) = (chance.usize(..case.instances), case.hold.draw(&mut chance));
            let node = choice.dial(&mut fleet, instance, &mut lots);
            agenda.put(now + hold, Call { node: node as u16, instance: instance as u16 });
            seen.picks += 1;
        }
        if now >= case.warm_s * 1000 && now % 1000 == 999 {
            seen.each_second.push(fleet.evenness(|_| true));
        }
    }
    seen.checked = choice.shelves.checked();
    seen
}

/// What each kind of chooser keeps; most keep little of it.
struct Choice {
    who: Who,
    shelves: Shelves,
    lookup: Lookup,
    /// A column a node, a row an instance: what the instance believes of its load.
    counts: Vec<u32>,
    /// The least by that belief, an instance each.
    orders: Vec<Order>,
    turns: Vec<usize>,
    looked: Vec<u64>,
    /// Sums of capacities, to draw by.
    sums: Vec<u32>,
}

impl Choice {
    fn new(case: &Case, who: Who, fleet: &Fleet, lots: &mut Rng) -> Choice {
        let (nodes, instances) = (fleet.nodes.len(), case.instances);
        let mut sum = 0;
        let sums = case.capacities.iter().map(|capacity| {
            sum += capacity;
            sum
        });
        let ordered = matches!(who, Who::Dispatcher | Who::LeastViews(_));
        let orders = (0..if ordered { instances } else { 0 }).map(|_| {
            let mut order = Order::new(nodes);
            order.set_all(fleet.nodes.iter().map(|n| of_own(who, Key::of(n))));
            order
        });
        let look_ms = look_ms(who).unwrap_or(1);
        Choice {
            who,
            shelves: Shelves::new(fleet, RULES, case.check_every),
            lookup: Lookup::new_call(1),
            counts: vec![0; nodes * instances],
            orders: orders.collect(),
            turns: (0..instances).map(|_| lots.usize(..nodes)).collect(),
            // Instances look at different moments.
            looked: (0..instances as u64).map(|number| number * look_ms / instances as u64).collect(),
            sums: sums.collect(),
        }
    }

    /// Instances whose time it is take their views.
    fn look(&mut self, fleet: &Fleet, now: u64) {
        let Some(look_ms) = look_ms(self.who) else { return };
        let nodes = fleet.nodes.len();
        for (instance, next) in self.looked.iter_mut().enumerate().filter(|(_, next)| **next <= now) {
            *next += look_ms;
            match self.who {
                Who::LeastViews(_) => self.orders[instance].set_all(fleet.nodes.iter().map(Key::of)),
                Who::TwoViews(_) => self.counts[instance * nodes..][..nodes]
                    .iter_mut()
                    .zip(&fleet.nodes)
                    .for_each(|(count, n)| *count = n.load),
                Who::Mqs | Who::Random | Who::InTurn | Who::TwoShared | Who::TwoOwn | Who::Dispatcher => {}
            }
        }
    }

    fn dial(&mut self, fleet: &mut Fleet, instance: usize, lots: &mut Rng) -> usize {
        let nodes = fleet.nodes.len();
        let node = match self.who {
            Who::Mqs => self.shelves.pick(fleet, &self.lookup).expect("there is room"),
            Who::Random => self.draw(lots),
            Who::InTurn => {
                self.turns[instance] = (self.turns[instance] + 1) % nodes;
                self.turns[instance]
            }
            Who::TwoShared => self.less(fleet, lots, |node| fleet.nodes[node].load),
            Who::TwoViews(_) | Who::TwoOwn => {
                self.less(fleet, lots, |node| self.counts[instance * nodes + node])
            }
            Who::LeastViews(_) | Who::Dispatcher => self.orders[instance].least().expect("there are nodes"),
        };
        fleet.give(node);
        self.count(fleet, instance, node, 1);
        node
    }

    fn end(&mut self, fleet: &mut Fleet, call: Call) {
        let (node, instance) = (usize::from(call.node), usize::from(call.instance));
        fleet.take(node);
        self.count(fleet, instance, node, -1);
    }

    /// What an instance learns of a call of its own.
    fn count(&mut self, fleet: &Fleet, instance: usize, node: usize, change: i32) {
        let place = instance * fleet.nodes.len() + node;
        match self.who {
            Who::Mqs => self.shelves.moved(fleet, node),
            Who::TwoOwn => self.counts[place] = self.counts[place].saturating_add_signed(change),
            // Ends are in the next view.
            Who::TwoViews(_) => self.counts[place] = self.counts[place].saturating_add_signed(change.max(0)),
            Who::LeastViews(_) | Who::Dispatcher => {
                let views = matches!(self.who, Who::LeastViews(_));
                let key = self.orders[instance].key(node);
                let after = key.after.saturating_add_signed(if views { change.max(0) } else { change });
                self.orders[instance].set(node, Key { after, ..key });
            }
            Who::Random | Who::InTurn | Who::TwoShared => {}
        }
    }

    fn draw(&self, lots: &mut Rng) -> usize {
        let lot = lots.u32(..self.sums.last().copied().unwrap_or(1));
        self.sums.partition_point(|sum| *sum <= lot)
    }

    fn less(&self, fleet: &Fleet, lots: &mut Rng, load: impl Fn(usize) -> u32) -> usize {
        let (a, b) = (self.draw(lots), self.draw(lots));
        let capacity = |node: usize| u64::from(fleet.nodes[node].node.capacity);
        let cross = |x: usize, y: usize| u64::from(load(x) + 1) * capacity(y);
        if cross(b, a) < cross(a, b) { b } else { a }
    }
}

fn look_ms(who: Who) -> Option<u64> {
    match who {
        Who::TwoViews(ms) | Who::LeastViews(ms) => Some(ms),
        Who::Mqs | Who::Random | Who::InTurn | Who::TwoShared | Who::TwoOwn | Who::Dispatcher => None,
    }
}

/// The key before the first call: `dispatcher` knows neither capacities nor who waits longest.
fn of_own(who: Who, key: Key) -> Key {
    if who == Who::Dispatcher { Key { after: 1, capacity: 1, touched: 0 } } else { key }
}
