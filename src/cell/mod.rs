//! Floor 3: a cell: its one leader drives the nodes and the queues.
//!
//! * [`pilot`]: leadership, commit, take-over and reconcile, without I/O
//! * [`codec`]: what it says, as the store keeps it · [`shell`]: runs it · [`watch`]: looks on, and counts
//! * [`desk`]: what people and programs see of it, and ask for, at every instance

pub mod codec;
pub mod desk;
pub mod pilot;
pub mod shell;
pub mod watch;

pub use desk::Desk;
