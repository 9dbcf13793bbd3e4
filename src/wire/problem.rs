//! What HTTP says when there is no answer: a problem document (RFC 9457), on one line.

use super::attrs::encode;
use super::refusal::{Refusal, RefusalWord};
use serde::Serialize;

/// A problem document. Every member is always there; what does not apply is `null`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Names the sort of problem: `urn:mqs:refusal:…` as over RESP, `urn:mqs:problem:…` for what only HTTP has.
    #[serde(rename = "type")]
    pub kind: String,
    /// The sort of problem, for people.
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// The word of the refusal or trouble.
    pub code: &'static str,
    /// The SIP status that the caller should see, for a refused lookup.
    pub sip_code: Option<u16>,
    /// When to ask again, in seconds.
    pub retry_after_s: Option<u32>,
    /// What is wrong this time.
    pub detail: String,
    /// The culprit.
    pub field: Option<String>,
}

impl Problem {
    /// A problem that only HTTP has.
    pub fn new(trouble: Trouble, detail: String) -> Problem {
        Problem {
            kind: format!("urn:mqs:problem:{}", trouble.as_str().to_ascii_lowercase()),
            title: trouble.title(),
            status: trouble.http_status(),
            code: trouble.as_str(),
            sip_code: None,
            retry_after_s: trouble.retry_after_s(),
            detail,
            field: None,
        }
    }

    /// Names the culprit.
    pub fn about(self, field: &str) -> Problem {
        Problem { field: Some(field.to_owned()), ..self }
    }

    /// As it goes over RESP: `!WORD code=…;field=…;reason=…`, one line of printable ASCII.
    pub fn refusal(&self) -> String {
        let code = self.sip_code.unwrap_or(self.status);
        let retry = self.retry_after_s.map(|s| format!(";retry={s}")).unwrap_or_default();
        let field = self.field.as_ref().map(|field| format!(";field={}", encode(field))).unwrap_or_default();
        format!("!{} code={code}{retry}{field};reason={}", self.code, encode(&self.detail))
    }

    /// On one line.
    pub fn encode(&self) -> String {
        // Texts and numbers of ours: there is nothing that cannot be written.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        let Refusal { word, sip_code, retry_after_s, field, reason } = refusal;
        Problem {
            kind: format!("urn:mqs:refusal:{}", word.as_str().to_ascii_lowercase()),
            title: word.title(),
            status: RefusalWord::http_status(word),
            code: word.as_str(),
            sip_code: Some(sip_code),
            retry_after_s,
            detail: reason,
            field,
        }
    }
}

/// What can be wrong that RESP has no word for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// No such path.
    NoPath,
    /// The path is there, not for this method.
    Method,
    /// The body says that it is something else than JSON.
    MediaType,
    /// The body is larger than allowed.
    TooLarge,
    /// The body did not arrive in time.
    Slow,
    /// No bearer token, or not the right one.
    NoToken,
    /// A web page asks.
    Origin,
    /// The store did not answer: say it again.
    Store,
    /// Not yet able to answer, or no longer.
    NotReady,
    /// No such node.
    NotThere,
    /// A node of this name is there already.
    SameId,
    /// Another node has this address.
    SameUri,
    /// The node still carries calls.
    Loaded,
    /// The pool has no slot left.
    TooMany,
    /// The pool takes no nodes that register themselves.
    NotOpen,
    /// The node is the file's, an operator's or the DNS's.
    Owned,
    /// Others keep changing the pool.
    Busy,
    /// The configuration file is wrong.
    BadFile,
    /// There is no configuration file to read again.
    NoFile,
    /// This instance serves no cell.
    NoCell,
    /// No such queue.
    NoQueue,
    /// No such agent.
    NoAgent,
    /// No such call.
    NoCall,
    /// No such offer.
    NoOffer,
    /// No such treatment.
    NoTreatment,
    /// The call is with an agent, or on its way out.
    TooLate,
    /// The agent is not logged in.
    LoggedOut,
    /// The configuration lays the agent, or the queue, down.
    InFile,
    /// Another agent has the address-of-record.
    AorTaken,
    /// There are as many agents as can be.
    Full,
    /// There are as many queues as can be.
    QueuesFull,
    /// The call's node is not heard at present.
    NodeAway,
    /// Nobody has said in time what became of a command.
    Unheard,
    /// Nobody has read the commands for long.
    InboxFull,
    /// Too many listen.
    Streams,
}

impl Trouble {
    /// As it is written on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Trouble::NoPath => "NOPATH",
            Trouble::Method => "METHOD",
            Trouble::MediaType => "MEDIATYPE",
            Trouble::TooLarge => "TOOLARGE",
            Trouble::Slow => "SLOW",
            Trouble::NoToken => "NOTOKEN",
            Trouble::Origin => "ORIGIN",
            Trouble::Store => "STORE",
            Trouble::NotReady => "NOTREADY",
            Trouble::NotThere => "NOTTHERE",
            Trouble::SameId => "SAMEID",
            Trouble::SameUri => "SAMEURI",
            Trouble::Loaded => "LOADED",
            Trouble::TooMany => "TOOMANY",
            Trouble::NotOpen => "NOTOPEN",
            Trouble::Owned => "OWNED",
            Trouble::Busy => "BUSY",
            Trouble::BadFile => "BADFILE",
            Trouble::NoFile => "NOFILE",
            Trouble::NoCell => "NOCELL",
            Trouble::NoQueue => "NOQUEUE",
            Trouble::NoAgent => "NOAGENT",
            Trouble::NoCall => "NOCALL",
            Trouble::NoOffer => "NOOFFER",
            Trouble::NoTreatment => "NOTREATMENT",
            Trouble::TooLate => "TOOLATE",
            Trouble::LoggedOut => "LOGGEDOUT",
            Trouble::InFile => "INFILE",
            Trouble::AorTaken => "AORTAKEN",
            Trouble::Full => "AGENTSFULL",
            Trouble::QueuesFull => "QUEUESFULL",
            Trouble::NodeAway => "NODEAWAY",
            Trouble::Unheard => "UNHEARD",
            Trouble::InboxFull => "INBOXFULL",
            Trouble::Streams => "STREAMS",
        }
    }

    /// The HTTP status.
    pub fn http_status(self) -> u16 {
        match self {
            Trouble::NoToken => 401,
            Trouble::Origin | Trouble::NotOpen => 403,
            Trouble::NoPath
            | Trouble::NotThere
            | Trouble::NoCell
            | Trouble::NoQueue
            | Trouble::NoAgent
            | Trouble::NoCall
            | Trouble::NoOffer
            | Trouble::NoTreatment => 404,
            Trouble::Method => 405,
            Trouble::Slow => 408,
            Trouble::SameId
            | Trouble::SameUri
            | Trouble::Loaded
            | Trouble::TooMany
            | Trouble::Owned
            | Trouble::NoFile
            | Trouble::TooLate
            | Trouble::LoggedOut
            | Trouble::InFile
            | Trouble::AorTaken
            | Trouble::Full
            | Trouble::QueuesFull => 409,
            Trouble::TooLarge => 413,
            Trouble::MediaType => 415,
            Trouble::BadFile => 422,
            Trouble::Store
            | Trouble::NotReady
            | Trouble::Busy
            | Trouble::NodeAway
            | Trouble::Unheard
            | Trouble::InboxFull
            | Trouble::Streams => 503,
        }
    }

    fn retry_after_s(self) -> Option<u32> {
        (self.http_status() == 503).then_some(1)
    }

    fn title(self) -> &'static str {
        match self {
            Trouble::NoPath => "there is nothing at this path",
            Trouble::Method => "this path does not take this method",
            Trouble::MediaType => "the body must be JSON",
            Trouble::TooLarge => "the body is too large",
            Trouble::Slow => "the body did not arrive in time",
            Trouble::NoToken => "a bearer token is needed",
            Trouble::Origin => "web pages are not served",
            Trouble::Store => "the store did not answer",
            Trouble::NotReady => "this instance is not ready",
            Trouble::NotThere => "there is no such node",
            Trouble::SameId => "a node of this name is there already",
            Trouble::SameUri => "another node has this address",
            Trouble::Loaded => "the node still carries calls",
            Trouble::TooMany => "the pool has no room for another node",
            Trouble::NotOpen => "the pool takes no nodes that register themselves",
            Trouble::Owned => "the node belongs to somebody else",
            Trouble::Busy => "others keep changing the pool",
            Trouble::BadFile => "the configuration file is wrong",
            Trouble::NoFile => "there is no configuration file to read again",
            Trouble::NoCell => "this instance serves no queues",
            Trouble::NoQueue => "there is no such queue",
            Trouble::NoAgent => "there is no such agent",
            Trouble::NoCall => "there is no such call",
            Trouble::NoOffer => "there is no such offer",
            Trouble::NoTreatment => "there is no such treatment",
            Trouble::TooLate => "the call is with an agent, or on its way out",
            Trouble::LoggedOut => "the agent is not logged in",
            Trouble::InFile => "the configuration lays this down",
            Trouble::AorTaken => "another agent has this address-of-record",
            Trouble::Full => "there are as many agents as can be",
            Trouble::QueuesFull => "there are as many queues as can be",
            Trouble::NodeAway => "the call's node is not heard at present",
            Trouble::Unheard => "no leader has answered in time",
            Trouble::InboxFull => "no leader has read the commands for long",
            Trouble::Streams => "too many listen to this instance",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::refusal::BadRequest;

    #[test]
    fn a_problem_over_resp_is_a_refusal() {
        let problem = Problem::new(Trouble::SameUri, "a b\r\n".to_owned()).about("uri");
        assert_eq!(problem.refusal(), "!SAMEURI code=409;field=uri;reason=a%20b%0D%0A");
        let refusal = Refusal::no_pool("x");
        assert_eq!(Problem::from(refusal.clone()).refusal(), refusal.to_string());
    }

    #[test]
    fn a_problem_is_one_line_whatever_it_quotes() {
        let refusal = Refusal::bad_request(BadRequest::new("ft", "a\r\n\0 \"é\"".to_owned()));
        assert_eq!(
            Problem::from(refusal).encode(),
            r#"{"type":"urn:mqs:refusal:badreq","title":"the request is malformed","status":400,"code":"BADREQ","sip_code":400,"retry_after_s":null,"detail":"a\r\n\u0000 \"é\"","field":"ft"}"#
        );
        let problem = Problem::new(Trouble::Store, String::new()).about("x");
        assert_eq!(
            (problem.status, problem.retry_after_s, problem.field.as_deref()),
            (503, Some(1), Some("x"))
        );
    }
}
