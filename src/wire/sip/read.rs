//! Bytes in, messages out. Nothing that a peer sends makes this panic, and what it does not understand it refuses.

use super::{HEAD_MAX, HEADERS_MAX, Head, MESSAGE_MAX, Message, Request, Response};
use rsip::headers::header::Tokenizer;
use std::borrow::Cow;

/// RFC 3261 §8.1.1.5: less than 2³¹.
const CSEQ_MAX: u32 = (1 << 31) - 1;

/// Why bytes are not a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SipError {
    /// Nothing, or only line ends: a keep-alive (RFC 5626 §4.4.1).
    #[error("an empty message")]
    Empty,
    /// More than a limit allows.
    #[error("{what}: more than {limit}")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// No empty line after the headers.
    #[error("the headers do not end")]
    NoEnd,
    /// A control character, or bytes that are no text, in the head.
    #[error("the head is not text")]
    NotText,
    /// Neither a request line nor a status line.
    #[error("not a SIP start line")]
    StartLine,
    /// A header line that is none.
    #[error("header line {0} is malformed")]
    HeaderLine(usize),
    /// A header that must be there exactly once is not.
    #[error("{0} is missing, or there twice")]
    Count(&'static str),
    /// A header has a value that it cannot have.
    #[error("{0} is malformed")]
    Value(&'static str),
    /// The body is shorter than its Content-Length.
    #[error("the body has {have} bytes of {want}")]
    Short {
        /// Bytes that are there.
        have: usize,
        /// Content-Length.
        want: usize,
    },
    /// `rsip` does not take it.
    #[error("{0}")]
    Library(String),
}

/// Reads a datagram. What stands behind Content-Length is dropped (RFC 3261 §18.3).
pub fn parse(datagram: &[u8]) -> Result<Message, SipError> {
    let plain = plain(datagram)?.ok_or(SipError::NoEnd)?;
    let have = plain.rest.len();
    let want = plain.content_length.unwrap_or(have);
    let body = plain.rest.get(..want).ok_or(SipError::Short { have, want })?;
    message(&plain.lines, body)
}

/// Reads the first message of a stream: the message and how many bytes it took; `None` when it is not whole yet.
pub fn parse_stream(bytes: &[u8]) -> Result<Option<(Message, usize)>, SipError> {
    let plain = match plain(bytes) {
        Ok(Some(plain)) => plain,
        Ok(None) | Err(SipError::Empty) => return Ok(None),
        Err(error) => return Err(error),
    };
    // RFC 3261 §18.3: on a stream Content-Length says where the message ends.
    let want = plain.content_length.ok_or(SipError::Count("Content-Length"))?;
    if want > MESSAGE_MAX {
        return Err(SipError::TooLarge { what: "body", limit: MESSAGE_MAX });
    }
    let Some(body) = plain.rest.get(..want) else { return Ok(None) };
    let taken = bytes.len() - plain.rest.len() + want;
    Ok(Some((message(&plain.lines, body)?, taken)))
}

/// A head with whole lines, long names and no lists.
struct Plain<'a> {
    lines: Lines,
    content_length: Option<usize>,
    rest: &'a [u8],
}

/// The lines of a head: whole, with long names and without lists.
pub(super) struct Lines {
    pub(super) start: String,
    pub(super) headers: Vec<(String, String)>,
}

fn plain(bytes: &[u8]) -> Result<Option<Plain<'_>>, SipError> {
    let Some((lines, rest)) = lines(bytes)? else { return Ok(None) };
    let content_length = content_length(&lines.headers)?;
    Ok(Some(Plain { lines, content_length, rest }))
}

/// The head, and what stands behind it; `None` when it does not end.
pub(super) fn lines(bytes: &[u8]) -> Result<Option<(Lines, &[u8])>, SipError> {
    if bytes.len() > MESSAGE_MAX {
        return Err(SipError::TooLarge { what: "message", limit: MESSAGE_MAX });
    }
    // RFC 3261 §7.5: line ends before the start line are ignored.
    let mut bytes = bytes;
    while let Some(rest) = bytes.strip_prefix(b"\r\n") {
        bytes = rest;
    }
    if bytes.is_empty() {
        return Err(SipError::Empty);
    }
    let window = bytes.get(..bytes.len().min(HEAD_MAX + 4)).unwrap_or(bytes);
    let Some(end) = window.windows(4).position(|w| w == b"\r\n\r\n") else {
        let too_large = bytes.len() > HEAD_MAX;
        return if too_large { Err(SipError::TooLarge { what: "head", limit: HEAD_MAX }) } else { Ok(None) };
    };
    let (head, rest) = bytes.split_at(end);
    let head = std::str::from_utf8(head).map_err(|_| SipError::NotText)?;
    Ok(Some((unfold(head)?, rest.get(4..).unwrap_or_default())))
}

fn unfold(head: &str) -> Result<Lines, SipError> {
    let mut whole: Vec<Cow<'_, str>> = Vec::new();
    for line in head.split("\r\n") {
        if has_control(line) {
            return Err(SipError::NotText);
        }
        // RFC 3261 §7.3.1: a line that begins with a blank goes on with the one before.
        match (line.starts_with([' ', '\t']), whole.last_mut()) {
            (true, Some(last)) => {
                let last = last.to_mut();
                last.push(' ');
                last.push_str(line.trim());
            }
            (true, None) => return Err(SipError::StartLine),
            (false, _) => whole.push(Cow::Borrowed(line)),
        }
        if whole.len() > HEADERS_MAX + 1 {
            return Err(SipError::TooLarge { what: "headers", limit: HEADERS_MAX });
        }
    }
    let mut whole = whole.into_iter();
    let start = whole.next().ok_or(SipError::StartLine)?.into_owned();
    let mut headers = Vec::new();
    for (at, line) in whole.enumerate() {
        let (name, value) = line.split_once(':').ok_or(SipError::HeaderLine(at + 1))?;
        let name = long_name(name.trim_end_matches([' ', '\t']));
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(SipError::HeaderLine(at + 1));
        }
        let value = value.trim();
        if ["Via", "Route", "Record-Route", "Contact"].iter().any(|list| name.eq_ignore_ascii_case(list)) {
            headers.extend(split_list(value).map(|one| (name.to_owned(), one.to_owned())));
        } else {
            headers.push((name.to_owned(), value.to_owned()));
        }
        if headers.len() > HEADERS_MAX {
            return Err(SipError::TooLarge { what: "headers", limit: HEADERS_MAX });
        }
    }
    Ok(Lines { start, headers })
}

pub(super) fn content_length(headers: &[(String, String)]) -> Result<Option<usize>, SipError> {
    let mut found = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("Content-Length"));
    let (first, second) = (found.next(), found.next());
    if second.is_some() {
        return Err(SipError::Count("Content-Length"));
    }
    let Some((_, value)) = first else { return Ok(None) };
    number(value).and_then(|n| usize::try_from(n).ok()).map(Some).ok_or(SipError::Value("Content-Length"))
}

fn message(lines: &Lines, body: &[u8]) -> Result<Message, SipError> {
    for name in ["From", "To", "Call-ID", "CSeq"] {
        if all(lines, name).count() != 1 {
            return Err(SipError::Count(name));
        }
    }
    for name in ["From", "To"] {
        // An empty one names nobody, and `typed` would leave it out.
        if all(lines, name).any(str::is_empty) {
            return Err(SipError::Value(name));
        }
    }
    if all(lines, "Via").next().is_none() {
        return Err(SipError::Count("Via"));
    }
    if all(lines, "Call-ID").any(|id| id.is_empty() || id.contains([' ', '\t'])) {
        return Err(SipError::Value("Call-ID"));
    }
    let (cseq, cseq_method) =
        all(lines, "CSeq").next().and_then(numbered_method).ok_or(SipError::Value("CSeq"))?;
    let head = Head { headers: typed(&lines.headers)?, cseq, cseq_method: cseq_method.to_owned() };
    let body = body.to_vec();
    match start_line(&lines.start)? {
        Start::Status(code, reason) => {
            Ok(Message::Response(Response { code, reason: reason.to_owned(), head, body }))
        }
        Start::Request(method, uri) => {
            if method != cseq_method {
                return Err(SipError::Value("CSeq"));
            }
            Ok(Message::Request(Request { method: method.to_owned(), uri: uri.to_owned(), head, body }))
        }
    }
}

/// Lets `rsip` type the headers, one by one: their lines were cut already.
pub(super) fn typed(headers: &[(String, String)]) -> Result<rsip::Headers, SipError> {
    let mut typed: Vec<rsip::Header> = Vec::with_capacity(headers.len());
    // An empty value says nothing that we need, and is not taken by `rsip`.
    for (name, value) in headers.iter().filter(|(_, value)| !value.is_empty()) {
        let header: Result<rsip::Header, rsip::Error> =
            Tokenizer { name: name.as_bytes(), value: value.as_bytes() }.try_into();
        typed.push(header.map_err(|error| SipError::Library(error.to_string().chars().take(200).collect()))?);
    }
    Ok(typed.into())
}

pub(super) fn all<'a>(lines: &'a Lines, name: &'a str) -> impl Iterator<Item = &'a str> {
    lines.headers.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

enum Start<'a> {
    Request(&'a str, &'a str),
    Status(u16, &'a str),
}

fn start_line(line: &str) -> Result<Start<'_>, SipError> {
    let (first, rest) = line.split_once(' ').ok_or(SipError::StartLine)?;
    if is_version(first) {
        let (code, reason) = rest.split_once(' ').unwrap_or((rest, ""));
        let code = number(code).and_then(|n| u16::try_from(n).ok()).filter(|n| (100..700).contains(n));
        return Ok(Start::Status(code.ok_or(SipError::StartLine)?, reason));
    }
    let (uri, version) = rest.split_once(' ').ok_or(SipError::StartLine)?;
    let fits = !first.is_empty()
        && first.bytes().all(is_token)
        && is_version(version)
        && !uri.is_empty()
        && uri.bytes().all(|b| b.is_ascii_graphic());
    if fits { Ok(Start::Request(first, uri)) } else { Err(SipError::StartLine) }
}

/// RFC 3261 §7.1: the version is case-insensitive.
pub(super) fn is_version(text: &str) -> bool {
    text.eq_ignore_ascii_case("SIP/2.0")
}

fn numbered_method(text: &str) -> Option<(u32, &str)> {
    let (number_text, method) = text.split_once([' ', '\t'])?;
    let method = method.trim();
    let fits = !method.is_empty() && method.bytes().all(is_token);
    Some((number(number_text)?, method)).filter(|(cseq, _)| fits && *cseq <= CSEQ_MAX)
}

pub(super) fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

/// A control character that no line may hold: any but the tab.
pub(super) fn has_control(text: &str) -> bool {
    // Most lines are ASCII, and need no decoding.
    if text.is_ascii() {
        return text.bytes().any(|b| b.is_ascii_control() && b != b'\t');
    }
    text.chars().any(|c| c.is_control() && c != '\t')
}

/// `token` of RFC 3261 §25.1.
pub(super) fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&b)
}

/// RFC 3261 §7.3.3 and its successors.
fn long_name(name: &str) -> &str {
    let [letter] = name.as_bytes() else { return name };
    match letter.to_ascii_lowercase() {
        b'v' => "Via",
        b'f' => "From",
        b't' => "To",
        b'i' => "Call-ID",
        b'm' => "Contact",
        b'l' => "Content-Length",
        b'c' => "Content-Type",
        b'e' => "Content-Encoding",
        b'k' => "Supported",
        b's' => "Subject",
        b'o' => "Event",
        b'u' => "Allow-Events",
        b'r' => "Refer-To",
        b'b' => "Referred-By",
        b'x' => "Session-Expires",
        b'a' => "Accept-Contact",
        b'j' => "Reject-Contact",
        b'd' => "Request-Disposition",
        b'y' => "Identity",
        _ => name,
    }
}

/// Where a text may be split: outside quotes and angle brackets.
fn bare(text: &str, wanted: char) -> impl Iterator<Item = usize> {
    let (mut quoted, mut escaped, mut angle) = (false, false, false);
    text.char_indices().filter_map(move |(at, c)| {
        if quoted {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => quoted = false,
                _ => {}
            }
            return None;
        }
        match c {
            '"' => quoted = true,
            '<' => angle = true,
            '>' => angle = false,
            _ => {}
        }
        (c == wanted && !angle).then_some(at)
    })
}

/// Whether every quote and angle bracket that was opened is closed.
pub(super) fn is_closed(text: &str) -> bool {
    let (mut quoted, mut escaped, mut angle) = (false, false, false);
    for c in text.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' if !angle => quoted = !quoted,
            '<' if !quoted => angle = true,
            '>' if !quoted => angle = false,
            _ => {}
        }
    }
    !quoted && !angle
}

fn split_list(value: &str) -> impl Iterator<Item = &str> {
    let mut cuts: Vec<usize> = bare(value, ',').collect();
    cuts.push(value.len());
    let mut from = 0;
    let parts = cuts.into_iter().map(move |at| {
        let part = value.get(from..at).unwrap_or_default();
        from = at + 1;
        part.trim()
    });
    parts.filter(|part| !part.is_empty())
}

/// A parameter of a header (RFC 3261 §7.3.1), not of an address in angle brackets.
pub(super) fn param<'a>(value: &'a str, wanted: &str) -> Option<&'a str> {
    let mut cuts: Vec<usize> = bare(value, ';').collect();
    cuts.push(value.len());
    cuts.windows(2).find_map(|pair| {
        let (from, to) = (pair.first()?, pair.last()?);
        let (name, text) = value.get(from + 1..*to)?.split_once('=')?;
        name.trim().eq_ignore_ascii_case(wanted).then_some(text.trim())
    })
}
