//! What goes wrong: the kinds of faults, how they come over the world, and how they pass.

use super::plan::Ms;
use super::world::{Ev, World};
use std::collections::BTreeMap;

/// An output of an instance that a fault waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    Any,
    Lead,
    Open,
    Commit,
    Inbox,
    Connect,
    List,
    Attend,
    Originate,
    Join,
    DropLeg,
    /// A phone is told of its transfer.
    Tell,
    /// A caller leaves the application: hung up, or to a treatment.
    Leave,
}

impl Filter {
    /// Those that say more happen more often.
    pub const ALL: [Filter; 18] = [
        Filter::Any,
        Filter::Lead,
        Filter::Open,
        Filter::Commit,
        Filter::Commit,
        Filter::Commit,
        Filter::Inbox,
        Filter::Connect,
        Filter::List,
        Filter::Attend,
        Filter::Originate,
        Filter::Originate,
        Filter::Join,
        Filter::Join,
        Filter::DropLeg,
        Filter::DropLeg,
        Filter::Tell,
        Filter::Leave,
    ];

    pub fn lets(self, other: Filter) -> bool {
        self == Filter::Any || self == other
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leg {
    Request,
    Answer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Drop,
    /// Long enough that others overtake it, or that nobody waits for it any more.
    Delay,
    Repeat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    Leader,
    Any,
}

#[derive(Clone, Copy, Debug)]
pub enum Fault {
    Crash {
        who: Victim,
        down_ms: Ms,
    },
    /// The instance dies with its n-th output of a kind: before it acts upon it, or right after.
    CrashAt {
        filter: Filter,
        nth: u32,
        executed: bool,
        down_ms: Ms,
    },
    Stop {
        who: Victim,
        for_ms: Ms,
    },
    /// The instance stands still with its n-th output in its hand, and acts upon it when it goes on. `checked`: it has
    /// looked at its right to act before, so that the request leaves it although nobody would let it any more; what is
    /// called so, the proxy's fence has to stop.
    StopAt {
        filter: Filter,
        nth: u32,
        checked: bool,
        for_ms: Ms,
    },
    Message {
        filter: Filter,
        leg: Leg,
        how: How,
        count: u32,
    },
    /// The store's clock jumps; nobody else's does.
    StoreClock {
        by_ms: i64,
    },
    CutOff {
        who: Victim,
        for_ms: Ms,
    },
    StoreAway {
        for_ms: Ms,
    },
    /// A replica takes the store's place.
    ForgetLast {
        ago_ms: Ms,
    },
    ForgetAll,
    NodeDeath {
        node: usize,
        for_ms: Ms,
    },
    /// A link is dead, and nobody sees it.
    HalfOpen {
        node: usize,
        for_ms: Ms,
    },
    LinkCut {
        node: usize,
    },
    ProxyRestart {
        proxy: usize,
        for_ms: Ms,
    },
    RegisterLost {
        count: u32,
    },
    /// A node answers 500.
    Refusal {
        filter: Filter,
        count: u32,
    },
}

#[derive(Clone, Copy, Debug)]
pub struct Timed {
    pub at: Ms,
    pub what: Fault,
}

impl Fault {
    pub fn word(&self) -> &'static str {
        match self {
            Fault::Crash { .. } => "crash",
            Fault::CrashAt { .. } => "crash-at",
            Fault::Stop { .. } => "stop",
            Fault::StopAt { checked: false, .. } => "stop-at",
            Fault::StopAt { checked: true, .. } => "stop-at-wire",
            Fault::Message { how: How::Drop, .. } => "message-drop",
            Fault::Message { how: How::Delay, .. } => "message-delay",
            Fault::Message { how: How::Repeat, .. } => "message-repeat",
            Fault::StoreClock { .. } => "store-clock",
            Fault::CutOff { .. } => "cut-off",
            Fault::StoreAway { .. } => "store-away",
            Fault::ForgetLast { .. } => "forget-last",
            Fault::ForgetAll => "forget-all",
            Fault::NodeDeath { .. } => "node-death",
            Fault::HalfOpen { .. } => "half-open",
            Fault::LinkCut { .. } => "link-cut",
            Fault::ProxyRestart { .. } => "proxy-restart",
            Fault::RegisterLost { .. } => "register-lost",
            Fault::Refusal { .. } => "refusal",
        }
    }

    pub const WORDS: [&'static str; 19] = [
        "crash",
        "crash-at",
        "stop",
        "stop-at",
        "stop-at-wire",
        "message-drop",
        "message-delay",
        "message-repeat",
        "store-clock",
        "cut-off",
        "store-away",
        "forget-last",
        "forget-all",
        "node-death",
        "half-open",
        "link-cut",
        "proxy-restart",
        "register-lost",
        "refusal",
    ];
}

/// A fault that waits for its moment.
pub struct Armed {
    pub what: Fault,
    pub left: u32,
}

/// A fault as it went.
pub struct Went {
    pub at: Ms,
    pub what: Fault,
    /// When it did something to somebody.
    pub bit: Option<Ms>,
}

#[derive(Default)]
pub struct Faults {
    pub armed: BTreeMap<usize, Armed>,
    pub went: Vec<Went>,
    /// When anything was struck, whether or not it had an effect.
    pub last_blow: Ms,
    /// Outages that have not bitten yet, by what they are of.
    pub store_away: Option<usize>,
    pub cut_off: BTreeMap<usize, usize>,
    pub half_open: BTreeMap<usize, usize>,
    pub proxy: BTreeMap<usize, usize>,
}

/// What happens to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Arrives,
    Lost,
    Late,
    Twice,
}

impl World {
    /// A fault of the plan comes.
    pub fn strike(&mut self, index: usize) {
        if self.healed {
            return;
        }
        let what = self.plan.faults[index].what;
        let number = self.faults.went.len();
        self.faults.last_blow = self.now;
        self.faults.went.push(Went { at: self.now, what, bit: None });
        match what {
            Fault::Crash { who, down_ms } => {
                if let Some(inst) = self.victim(who) {
                    self.crash(inst, down_ms, number);
                }
            }
            Fault::Stop { who, for_ms } => {
                if let Some(inst) = self.victim(who) {
                    self.stop(inst, for_ms, number);
                }
            }
            Fault::CrashAt { nth, .. } | Fault::StopAt { nth, .. } => {
                self.faults.armed.insert(number, Armed { what, left: nth });
            }
            Fault::Message { count, .. } | Fault::RegisterLost { count } | Fault::Refusal { count, .. } => {
                self.faults.armed.insert(number, Armed { what, left: count });
            }
            Fault::StoreClock { by_ms } => {
                self.store.jump_ms += by_ms;
                self.bite(number);
            }
            Fault::CutOff { who, for_ms } => {
                if let Some(inst) = self.victim(who) {
                    self.instances[inst].cut_until = self.now + for_ms;
                    self.faults.cut_off.insert(inst, number);
                    self.shake_until(self.now + for_ms);
                }
            }
            Fault::StoreAway { for_ms } => {
                self.store.away_until = self.now + for_ms;
                self.faults.store_away = Some(number);
                self.shake_until(self.now + for_ms);
            }
            Fault::ForgetLast { ago_ms } => {
                // The replica's state is that of now; it takes over when it lags by so much.
                self.store.keep_replica();
                self.after(ago_ms, Ev::Replica(number));
            }
            Fault::ForgetAll => {
                self.store.forget_all(self.now);
                if self.callers.iter().any(|caller| caller.is_inside()) {
                    self.bite(number);
                }
                self.shake();
            }
            Fault::NodeDeath { node, for_ms } => self.kill_node(node, for_ms, number),
            Fault::HalfOpen { node, for_ms } => self.half_open(node, for_ms, number),
            Fault::LinkCut { node } => self.cut_link(node, number),
            Fault::ProxyRestart { proxy, for_ms } => {
                self.proxies[proxy].down_until = self.now + for_ms;
                self.proxies[proxy].shaken = self.now + for_ms;
                self.faults.proxy.insert(proxy, number);
            }
        }
    }

    /// The replica that lagged is the store now.
    pub fn replica_takes_over(&mut self, number: usize) {
        if !self.healed && self.store.take_replica(self.now) {
            self.bite(number);
            self.shake();
        }
    }

    /// A fault has done something to somebody.
    pub fn bite(&mut self, number: usize) {
        let now = self.now;
        self.faults.last_blow = now;
        let Some(went) = self.faults.went.get_mut(number) else { return };
        if went.bit.is_none() {
            went.bit = Some(now);
            let word = went.what.word();
            self.coverage.count("bit", word);
        }
        // Also the last of several messages: what was lost with it is not judged as if it had been sent.
        self.shake();
    }

    fn victim(&mut self, who: Victim) -> Option<usize> {
        let awake: Vec<usize> = (0..self.instances.len()).filter(|i| self.instances[*i].is_awake()).collect();
        let leaders: Vec<usize> =
            awake.iter().copied().filter(|i| !self.instances[*i].links.is_empty()).collect();
        let from = if who == Victim::Leader && !leaders.is_empty() { leaders } else { awake };
        if from.is_empty() { None } else { Some(from[self.rng.usize(..from.len())]) }
    }

    /// What becomes of a message of an instance.
    pub fn fate(&mut self, kind: Filter, leg: Leg) -> Fate {
        let hit = self.faults.armed.iter().find_map(|(number, armed)| match armed.what {
            Fault::Message { filter, leg: of, how, .. } if filter.lets(kind) && of == leg => {
                Some((*number, how))
            }
            _ => None,
        });
        let Some((number, how)) = hit else { return Fate::Arrives };
        self.use_up(number);
        self.bite(number);
        match how {
            How::Drop => Fate::Lost,
            How::Delay => Fate::Late,
            How::Repeat => Fate::Twice,
        }
    }

    /// Whether a node refuses this request.
    pub fn refuses(&mut self, kind: Filter) -> bool {
        let hit = self.faults.armed.iter().find_map(|(number, armed)| match armed.what {
            Fault::Refusal { filter, .. } if filter == kind => Some(*number),
            _ => None,
        });
        hit.inspect(|number| self.use_up(*number)).inspect(|number| self.bite(*number)).is_some()
    }

    pub fn loses_register(&mut self) -> bool {
        let lost = |armed: &Armed| matches!(armed.what, Fault::RegisterLost { .. });
        let hit = self.faults.armed.iter().find(|(_, armed)| lost(armed)).map(|(number, _)| *number);
        hit.inspect(|number| self.use_up(*number)).inspect(|number| self.bite(*number)).is_some()
    }

    /// An instance is about to act upon an output: whether a fault has waited for it.
    pub fn boundary(&mut self, kind: Filter) -> Option<(usize, Fault)> {
        let mut due = None;
        for (number, armed) in &mut self.faults.armed {
            match armed.what {
                Fault::CrashAt { filter, .. } | Fault::StopAt { filter, .. } if filter.lets(kind) => {
                    armed.left -= 1;
                    if armed.left == 0 {
                        due = Some((*number, armed.what));
                        break;
                    }
                }
                _ => {}
            }
        }
        if let Some((number, _)) = due {
            self.faults.armed.remove(&number);
        }
        due
    }

    fn use_up(&mut self, number: usize) {
        if let Some(armed) = self.faults.armed.get_mut(&number) {
            armed.left -= 1;
            if armed.left == 0 {
                self.faults.armed.remove(&number);
            }
        }
    }

    /// Something was done to the store, to an instance or to what is between them: what is judged by time begins anew.
    pub fn shake(&mut self) {
        self.shake_until(self.now);
    }

    pub fn shake_until(&mut self, until: Ms) {
        self.shaken = self.shaken.max(until);
    }

    /// Nothing goes wrong from now on; what is wrong is put right.
    pub fn heal(&mut self) {
        self.healed = true;
        self.faults.armed.clear();
        self.store.away_until = self.now;
        self.shake_until(self.now + 1_000);
        for proxy in &mut self.proxies {
            proxy.down_until = proxy.down_until.min(self.now);
        }
        for node in 0..self.nodes.len() {
            self.revive_node(node);
            self.end_half_open(node);
        }
        for inst in 0..self.instances.len() {
            self.instances[inst].cut_until = self.now;
            let number = self.instances[inst].number;
            if self.instances[inst].is_dead() {
                self.boot(inst);
            } else {
                self.go_on(inst, number);
            }
        }
        self.call_everybody_to_work();
    }
}
