//! Messages out. The start line is ours; every text is refused that could end a line or begin another.

use super::read::is_token;
use super::{Head, Request};
use rsip::{Header, Headers};

/// A text that must not be sent; which.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} cannot stand in a SIP message")]
pub struct NotSendable(pub String);

/// A message that is being written.
#[derive(Clone, Debug)]
pub struct Draft {
    start: String,
    headers: Headers,
}

impl Draft {
    /// A request line. The caller adds Via, From, To, Call-ID, CSeq and Max-Forwards (RFC 3261 §8.1.1).
    pub fn request(method: &str, uri: &str) -> Result<Draft, NotSendable> {
        if method.is_empty() || !method.bytes().all(is_token) {
            return Err(NotSendable(method.to_owned()));
        }
        if uri.is_empty() || !uri.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(NotSendable(uri.to_owned()));
        }
        Ok(Draft { start: format!("{method} {uri} SIP/2.0"), headers: Headers::default() })
    }

    /// A response to `request`: Via, From, Call-ID, CSeq and Record-Route as they came, and To with `to_tag` unless it has one
    /// already (RFC 3261 §8.2.6.2).
    pub fn response(request: &Request, code: u16, reason: &str, to_tag: Option<&str>) -> Draft {
        let head: &Head = &request.head;
        let mut headers: Headers = head.echoed().cloned().collect::<Vec<_>>().into();
        let to = match (head.to_tag(), to_tag) {
            (None, Some(tag)) => format!("{};tag={tag}", head.to()),
            (Some(_), _) | (None, None) => head.to().to_owned(),
        };
        headers.push(Header::To(to.into()));
        Draft { start: format!("SIP/2.0 {code} {reason}"), headers }
    }

    /// Adds a header.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Draft {
        let value = value.into();
        self.headers.push(match name {
            "Via" => Header::Via(value.into()),
            "From" => Header::From(value.into()),
            "To" => Header::To(value.into()),
            "Call-ID" => Header::CallId(value.into()),
            "CSeq" => Header::CSeq(value.into()),
            "Contact" => Header::Contact(value.into()),
            "Max-Forwards" => Header::MaxForwards(value.into()),
            "User-Agent" => Header::UserAgent(value.into()),
            "Content-Type" => Header::ContentType(value.into()),
            other => Header::Other(other.to_owned(), value),
        });
        self
    }

    /// The message with its body and Content-Length.
    pub fn bytes(self, body: &[u8]) -> Result<Vec<u8>, NotSendable> {
        let mut lines = vec![self.start];
        lines.extend(self.headers.iter().map(ToString::to_string));
        if let Some(line) = lines.iter().find(|line| line.chars().any(|c| c.is_control() && c != '\t')) {
            return Err(NotSendable(line.chars().take(80).collect()));
        }
        lines.push(format!("Content-Length: {}\r\n\r\n", body.len()));
        let mut bytes = lines.join("\r\n").into_bytes();
        bytes.extend_from_slice(body);
        Ok(bytes)
    }
}
