//! Floor 4: whom we call. The rooms do not see each other.
//!
//! * [`dns`]: where a node's address leads · [`probe`]: does anybody answer SIP there

pub mod dns;
pub mod probe;
