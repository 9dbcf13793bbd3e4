//! Floor 0: the rules, without I/O, clock or randomness; `std` only.
//!
//! * [`id`]: names that were parsed once · [`time`]: milliseconds of the store's clock · [`uri`]: SIP, tel and urn addresses
//! * [`node`], [`health`], [`pool`]: who may take a call, and who shall ([`pool::pick`])
//! * [`service`], [`discovery`]: nodes that the DNS names, and what becomes of a pool when it names others
//! * [`admission`]: how many calls a pool or a tenant may have, at once and a second
//! * [`registration`]: nodes that register themselves by heartbeat, and what becomes of one that falls silent
//! * [`call`], [`agent`], [`offer`], [`queue`]: what the virtual queue is made of
//! * [`matching`]: which waiting call goes to which agent · [`controller`]: the queue's machine, where all its rules are
//! * [`lease`]: one channel's claim on a node, and what `CONFIRM`, `FAIL` and `DONE` do to it

pub mod admission;
pub mod agent;
pub mod call;
pub mod census;
pub mod controller;
pub mod discovery;
pub mod health;
pub mod id;
pub mod lease;
pub mod matching;
pub mod node;
pub mod offer;
pub mod pool;
pub mod queue;
pub mod registration;
pub mod service;
pub mod time;
pub mod uri;
