//! Floor 4: who calls us. The rooms do not see each other; each brings questions to [`crate::dispatch::Dispatcher`].
//!
//! * [`listen`]: sockets, shared by all servers: modes, left-over files, TLS, the cap on connections
//! * [`resp`]: RESP2 over Unix socket and TCP · [`http`]: HTTP/1.1 over TCP and Unix socket
//! * [`sip`]: the redirect server, over UDP and TCP · [`nodes`]: nodes that connect by themselves

pub mod http;
pub mod listen;
pub mod nodes;
pub mod resp;
pub mod sip;
