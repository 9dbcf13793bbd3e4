//! Floor 1: bytes ⇄ types, without sockets.
//!
//! * [`attrs`]: the `key=value;…` grammar of the last argument · [`ask`]: the questions of the control protocol, parsed
//! * [`refusal`]: the answers that begin with `!` · [`token`]: leases that name themselves, with a keyed MAC
//! * [`offer_token`]: the right of a leg to ring its agent · [`register`]: that an agent's phone has registered
//! * [`own_call`]: that an agent's phone has a call which no offer brought
//! * [`rtjson`]: the route document for Kamailio
//! * [`resp`]: RESP2, commands in, replies out
//! * [`api`]: the bodies of the HTTP interface · [`heartbeat`]: what a node says of itself · [`problem`]: what it says when there is no answer
//! * [`record`]: records, events and commands of a cell, as JSON
//! * [`ari`]: what an Asterisk tells, and is asked
//! * [`redirect`]: a SIP request in, the redirect server's answer out
//! * [`sip`]: SIP messages, with the crate `rsip` behind a fence

pub mod api;
pub mod ari;
pub mod ask;
pub mod attrs;
pub mod heartbeat;
pub mod offer_token;
pub mod own_call;
pub mod problem;
pub mod queue_api;
pub mod record;
pub mod redirect;
pub mod refusal;
pub mod register;
pub mod resp;
pub mod rtjson;
pub mod sip;
pub mod token;
