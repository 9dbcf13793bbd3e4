//! Answers that are not a route: `!WORD key=value;…` over RESP, a problem document over HTTP.

use super::attrs::encode;
use std::fmt;

/// A question that is malformed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct BadRequest {
    /// The culprit: an argument, attribute or member.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

impl BadRequest {
    /// Names the culprit and what is wrong with it.
    pub fn new(field: &str, reason: String) -> BadRequest {
        BadRequest { field: field.to_owned(), reason }
    }
}

/// The word of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefusalWord {
    /// Nodes are there, none has room.
    Full,
    /// No node would do.
    NoNode,
    /// No such pool.
    NoPool,
    /// An admission limit.
    Limit,
    /// The question is malformed.
    BadReq,
    /// Not a token of ours.
    BadToken,
    /// Nothing is known of what was asked for.
    Unknown,
    /// The token of an offer does not let this leg ring.
    Void,
    /// The store does not answer, and without it this cannot be answered.
    Away,
    /// This instance serves no cell.
    NoCell,
}

impl RefusalWord {
    /// As it is written on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            RefusalWord::Full => "FULL",
            RefusalWord::NoNode => "NONODE",
            RefusalWord::NoPool => "NOPOOL",
            RefusalWord::Limit => "LIMIT",
            RefusalWord::BadReq => "BADREQ",
            RefusalWord::BadToken => "BADTOKEN",
            RefusalWord::Unknown => "UNKNOWN",
            RefusalWord::Void => "VOID",
            RefusalWord::Away => "AWAY",
            RefusalWord::NoCell => "NOCELL",
        }
    }

    /// The HTTP status. Never a 5xx: that means "the helper is broken", and Kamailio's `http_client` drops its body.
    pub fn http_status(self) -> u16 {
        match self {
            RefusalWord::Full | RefusalWord::NoNode | RefusalWord::Limit => 429,
            RefusalWord::NoPool | RefusalWord::NoCell | RefusalWord::Unknown => 404,
            RefusalWord::BadReq => 400,
            RefusalWord::BadToken | RefusalWord::Void => 403,
            RefusalWord::Away => 424,
        }
    }

    /// One sentence for people.
    pub fn title(self) -> &'static str {
        match self {
            RefusalWord::Full => "no node has room for this call",
            RefusalWord::NoNode => "no node may take this call",
            RefusalWord::NoPool => "there is no such pool",
            RefusalWord::Limit => "an admission limit is reached",
            RefusalWord::BadReq => "the request is malformed",
            RefusalWord::BadToken => "this is not a valid token",
            RefusalWord::Unknown => "nothing is known of this",
            RefusalWord::Void => "this leg may not ring the agent",
            RefusalWord::Away => "the store does not answer",
            RefusalWord::NoCell => "this instance serves no cell",
        }
    }
}

/// A refusal, with all that either transport says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which.
    pub word: RefusalWord,
    /// The SIP status that the caller should see.
    pub sip_code: u16,
    /// When to ask again, in seconds.
    pub retry_after_s: Option<u32>,
    /// The culprit of a malformed question.
    pub field: Option<String>,
    /// Why; for the `Reason` header and the log.
    pub reason: String,
}

impl Refusal {
    /// A malformed question: SIP 400.
    pub fn bad_request(bad: BadRequest) -> Refusal {
        let BadRequest { field, reason } = bad;
        Refusal { word: RefusalWord::BadReq, sip_code: 400, retry_after_s: None, field: Some(field), reason }
    }

    /// Not a token of ours: SIP 400.
    pub fn bad_token(reason: &str) -> Refusal {
        let (word, field) = (RefusalWord::BadToken, Some("token".to_owned()));
        Refusal { word, sip_code: 400, retry_after_s: None, field, reason: reason.to_owned() }
    }

    /// No such pool: the proxy's script is wrong, SIP 500.
    pub fn no_pool(name: &str) -> Refusal {
        let reason = format!("no pool {name:?}");
        Refusal {
            word: RefusalWord::NoPool,
            sip_code: 500,
            retry_after_s: None,
            field: Some("pool".to_owned()),
            reason,
        }
    }

    /// The token of an offer does not let this leg ring: SIP 403.
    pub fn void(reason: &str) -> Refusal {
        let (word, reason) = (RefusalWord::Void, reason.to_owned());
        Refusal { word, sip_code: 403, retry_after_s: None, field: None, reason }
    }

    /// The store does not answer, and nothing else may: SIP 503, and soon again.
    pub fn away(reason: &str) -> Refusal {
        let (word, retry_after_s) = (RefusalWord::Away, Some(1));
        Refusal { word, sip_code: 503, retry_after_s, field: None, reason: reason.to_owned() }
    }

    /// The proxy's script asks an instance that has no queues: SIP 500.
    pub fn no_cell() -> Refusal {
        let (word, reason) = (RefusalWord::NoCell, RefusalWord::NoCell.title().to_owned());
        Refusal { word, sip_code: 500, retry_after_s: None, field: None, reason }
    }

    /// Nothing is known of what was asked for.
    pub fn unknown(reason: String) -> Refusal {
        Refusal { word: RefusalWord::Unknown, sip_code: 404, retry_after_s: None, field: None, reason }
    }
}

impl fmt::Display for Refusal {
    /// As it goes over RESP: one line, printable ASCII only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "!{} code={}", self.word.as_str(), self.sip_code)?;
        if let Some(s) = self.retry_after_s {
            write!(f, ";retry={s}")?;
        }
        if let Some(field) = &self.field {
            write!(f, ";field={}", encode(field))?;
        }
        write!(f, ";reason={}", encode(&self.reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_one_line_whatever_it_quotes() {
        let bad = BadRequest::new("ft", "a\r\nX: y; z=1 é".to_owned());
        assert_eq!(
            Refusal::bad_request(bad).to_string(),
            "!BADREQ code=400;field=ft;reason=a%0D%0AX:%20y%3B%20z%3D1%20%C3%A9"
        );
    }
}
