//! Floor 3: a cell: its one leader drives the nodes and the queues.
//!
//! * [`pilot`]: leadership, commit, take-over and reconcile, without I/O
//! * [`codec`]: what it says, as the store keeps it · [`shell`]: runs it

pub mod codec;
pub mod pilot;
pub mod shell;
