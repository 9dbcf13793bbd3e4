//! Messages out. The start line is ours; every text is refused that could end a line or begin another.

use super::read::{has_control, is_token};
use super::{Head, Request};

/// A text that must not be sent; which.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} cannot stand in a SIP message")]
pub struct NotSendable(pub String);

/// A message that is being written.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Whole lines.
    text: String,
    /// The first text that could have ended a line; the message is then never sent.
    wrong: Option<NotSendable>,
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
        Ok(Draft::new(&[method, " ", uri, " SIP/2.0"]))
    }

    /// A response to `request`: Via, From, Call-ID, CSeq and Record-Route as they came, and To with `to_tag` unless it has one
    /// already (RFC 3261 §8.2.6.2).
    pub fn response(request: &Request, code: u16, reason: &str, to_tag: Option<&str>) -> Draft {
        let head: &Head = &request.head;
        let mut draft = Draft::new(&["SIP/2.0 ", &code.to_string(), " ", reason]);
        for (name, value) in head.echoed() {
            draft.line(&[name, ": ", value]);
        }
        match (head.to_tag(), to_tag) {
            (None, Some(tag)) => draft.line(&["To: ", head.to(), ";tag=", tag]),
            (Some(_), _) | (None, None) => draft.line(&["To: ", head.to()]),
        }
        draft
    }

    /// Adds a header.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl AsRef<str>) -> Draft {
        self.line(&[name, ": ", value.as_ref()]);
        self
    }

    /// The message with its body and Content-Length.
    pub fn bytes(mut self, body: &[u8]) -> Result<Vec<u8>, NotSendable> {
        self.line(&["Content-Length: ", &body.len().to_string()]);
        if let Some(wrong) = self.wrong {
            return Err(wrong);
        }
        self.text.push_str("\r\n");
        let mut bytes = self.text.into_bytes();
        bytes.extend_from_slice(body);
        Ok(bytes)
    }

    fn new(start: &[&str]) -> Draft {
        // Room for an ordinary response.
        let mut draft = Draft { text: String::with_capacity(1024), wrong: None };
        draft.line(start);
        draft
    }

    fn line(&mut self, parts: &[&str]) {
        if self.wrong.is_none() && parts.iter().any(|part| has_control(part)) {
            self.wrong = Some(NotSendable(parts.concat().chars().take(80).collect()));
        }
        parts.iter().for_each(|part| self.text.push_str(part));
        self.text.push_str("\r\n");
    }
}
