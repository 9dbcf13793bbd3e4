//! Floor 4: whom we call. The rooms do not see each other.
//!
//! * [`ari`]: a cell's nodes, driven by its leader
//! * [`dns`]: where a node's address leads · [`probe`]: does anybody answer SIP there · [`trust`]: whose word on a TLS peer
//!   counts · [`prober`]: the same questions, again and again, for `dispatch::health`

pub mod ari;
pub mod dns;
pub mod probe;
pub mod prober;
pub mod trust;
