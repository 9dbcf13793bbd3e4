//! A small world, made from a seed: callers, agents with phones, two Kamailios, a few Asterisks, the store, and instances
//! that run the real pilot. Time is an argument, chance comes from the seed, and the same seed gives the same world again.
//!
//! * [`world`]: the queue of events, and everything that there is · [`plan`]: what a seed means
//! * [`people`]: callers and agents · [`operator`]: who lays agents down · [`proxy`]: the Kamailios · [`node`]: the Asterisks
//! * [`cockpit`]: the instances · [`desk`]: the store · [`net`]: what is between them
//! * [`dispatch`]: routing by the real load table · [`faults`]: what goes wrong
//! * [`checks`]: what must be so · [`ladder`]: what happened, for those who have to find out why

pub mod checks;
pub mod cockpit;
pub mod desk;
mod dispatch;
pub mod faults;
mod ladder;
mod net;
mod node;
mod operator;
mod people;
mod plan;
mod proxy;
mod world;

use checks::{Coverage, Failure};
use cockpit::Brain;
use desk::{MakeDesk, TableDesk};
use mqs::cell::pilot::{Pilot, Seeded, Settings};
use world::World;

/// Defects of the world around the pilot, put in on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorldBug {
    /// The proxy rings the phone whatever the store says of the token.
    NoFence,
    /// Load is a number that goes up and down.
    CountersForLeases,
}

/// What runs in the world.
#[derive(Clone, Copy)]
pub struct Options {
    pub seeded: Option<Seeded>,
    pub bug: Option<WorldBug>,
    /// Nothing goes wrong but what people do.
    pub calm: bool,
    pub brain: fn(Settings) -> Box<dyn Brain>,
    pub desk: MakeDesk,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            seeded: None,
            bug: None,
            calm: false,
            brain: |settings| Box::new(Pilot::new(settings)),
            desk: TableDesk::boxed,
        }
    }
}

/// How a seed went.
#[derive(Clone, Debug)]
pub struct Report {
    pub events: u64,
    pub ms: u64,
    pub coverage: Coverage,
}

pub fn run(seed: u64, options: Options) -> Result<Report, Box<Failure>> {
    World::new(seed, options).run(seed)
}
