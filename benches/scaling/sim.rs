//! A simulation of nodes, instances and calls, in steps of a millisecond: `domain` chooses, judges health and answers without a
//! store; calls, callers and the network are made up. The same seed gives the same figures.
//!
//! * [`traffic`]: when calls come and how long they last · [`fleet`]: the nodes and what they carry
//! * [`order`]: the least of many, in a few steps · [`shelves`]: MQS' pick by it, held against `domain::pool::pick`
//! * [`policy`]: MQS beside its rivals, in quiet times · [`faults`]: MQS while nodes or the store are lost

pub mod faults;
pub mod fleet;
pub mod order;
pub mod policy;
pub mod shelves;
pub mod traffic;
