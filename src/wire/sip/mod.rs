//! SIP messages (RFC 3261), as far as the redirect server, probes, the demo's nodes and its callers need them.
//!
//! The crate `rsip` lives behind this fence and nowhere else. `read` makes a message plain before `rsip` sees it — sizes, folded
//! lines, compact names, lists, Content-Length — and keeps the start line, addresses and parameters to itself, since those
//! `rsip` reads wrongly. `write` refuses every text that could end a line. `via` is where a response goes, `frame` cuts a stream
//! into messages, `mend` finds what is left of a request that cannot be read and can still be answered.

mod frame;
mod mend;
mod read;
mod via;
mod write;

pub use frame::{Frame, Framer};
pub use mend::{Broken, mend};
pub use read::{SipError, parse, parse_stream};
pub use via::ViaError;
pub use write::{Draft, NotSendable};

use rsip::headers::UntypedHeader as _;
use rsip::{Header, Headers};

/// The largest message, in bytes: what fits into a UDP datagram.
pub const MESSAGE_MAX: usize = 65_535;

/// The largest head (start line and headers), in bytes.
pub const HEAD_MAX: usize = 16 * 1024;

/// The most headers.
pub const HEADERS_MAX: usize = 200;

/// What a branch begins with (RFC 3261 §8.1.1.7).
pub const BRANCH_COOKIE: &str = "z9hG4bK";

/// A message that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A question.
    Request(Request),
    /// An answer.
    Response(Response),
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The method as it came; methods are case-sensitive (RFC 3261 §7.1).
    pub method: String,
    /// The Request-URI as it came: printable ASCII.
    pub uri: String,
    /// The headers.
    pub head: Head,
    /// The body.
    pub body: Vec<u8>,
}

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status: 100 to 699.
    pub code: u16,
    /// The reason phrase.
    pub reason: String,
    /// The headers.
    pub head: Head,
    /// The body.
    pub body: Vec<u8>,
}

/// The headers of a message: exactly one From, To, Call-ID and CSeq, and at least one Via.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    headers: Headers,
    cseq: u32,
    cseq_method: String,
}

impl Head {
    /// The Call-ID.
    pub fn call_id(&self) -> &str {
        self.first(|h| if let Header::CallId(v) = h { Some(v.value()) } else { None })
    }

    /// Number and method of the CSeq.
    pub fn cseq(&self) -> (u32, &str) {
        (self.cseq, &self.cseq_method)
    }

    /// The From header, as it came.
    pub fn from(&self) -> &str {
        self.first(|h| if let Header::From(v) = h { Some(v.value()) } else { None })
    }

    /// The To header, as it came.
    pub fn to(&self) -> &str {
        self.first(|h| if let Header::To(v) = h { Some(v.value()) } else { None })
    }

    /// The topmost Via, as it came.
    pub fn via(&self) -> &str {
        self.first(|h| if let Header::Via(v) = h { Some(v.value()) } else { None })
    }

    /// The tag of the To header: there once a dialog is.
    pub fn to_tag(&self) -> Option<&str> {
        read::param(self.to(), "tag")
    }

    /// The tag of the From header; clients of before RFC 3261 send none.
    pub fn from_tag(&self) -> Option<&str> {
        read::param(self.from(), "tag")
    }

    /// Whether quotes and angle brackets of From and To are closed: what is added behind them is then a parameter of the header.
    pub fn addresses_are_closed(&self) -> bool {
        read::is_closed(self.from()) && read::is_closed(self.to())
    }

    /// What the request wants whoever serves it to understand (RFC 3261 §8.2.2.3), as it came.
    pub fn required(&self) -> Option<&str> {
        self.headers.iter().find_map(|h| if let Header::Require(v) = h { Some(v.value()) } else { None })
    }

    /// The branch of the topmost Via: names the transaction (RFC 3261 §17.1.3).
    pub fn branch(&self) -> Option<&str> {
        read::param(self.via(), "branch")
    }

    /// The first header of this name that `rsip` has no type for, such as `X-MQS-Lease`.
    pub fn other(&self, name: &str) -> Option<&str> {
        self.headers.iter().find_map(|h| {
            let Header::Other(found, value) = h else { return None };
            found.eq_ignore_ascii_case(name).then_some(value.as_str())
        })
    }

    /// What a response repeats of its request (RFC 3261 §8.2.6.2), and Record-Route for the dialog (§12.1.1): name and value.
    fn echoed(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.headers.iter().filter_map(|h| {
            if let Header::Via(v) = h {
                Some(("Via", v.value()))
            } else if let Header::From(v) = h {
                Some(("From", v.value()))
            } else if let Header::CallId(v) = h {
                Some(("Call-ID", v.value()))
            } else if let Header::CSeq(v) = h {
                Some(("CSeq", v.value()))
            } else if let Header::RecordRoute(v) = h {
                Some(("Record-Route", v.value()))
            } else {
                None
            }
        })
    }

    fn first<'a>(&'a self, of: impl Fn(&'a Header) -> Option<&'a str>) -> &'a str {
        // `read` lets no message in without them.
        self.headers.iter().find_map(of).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
