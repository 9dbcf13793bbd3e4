//! RESP2, the server's side: commands in, replies out. Bytes and types only; sockets are `inbound::resp`'s.
//!
//! A command is an array of bulk strings, or a line of words as `telnet` sends it ("inline"). Nothing else is read: no nesting, no
//! RESP3. Every length is checked before it is believed, and nothing is allocated for a length that was only claimed.
//! <https://redis.io/docs/latest/develop/reference/protocol-spec/>

use bytes::{BufMut, Bytes, BytesMut};
use std::borrow::Cow;

/// The most parts of a command.
pub const PARTS_MAX: usize = 64;

/// The longest part of a command, in bytes.
pub const PART_MAX_BYTES: usize = 64 * 1024;

/// The longest command with all its framing, in bytes: no more is ever buffered of a command that is not whole.
pub const COMMAND_MAX_BYTES: usize = 128 * 1024;

/// The longest inline command, in bytes.
pub const INLINE_MAX_BYTES: usize = 4 * 1024;

/// A command as it came: a name and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The name, in the case in which it was written.
    pub name: Bytes,
    /// What follows it.
    pub args: Vec<Bytes>,
    /// It came as a line of words. Browsers that were tricked into posting to a local port speak so, too.
    pub inline: bool,
}

/// Not RESP2, or larger than a command may be. After it nothing on the connection makes sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A command starts with `*`, or with a letter.
    #[error("Protocol error: expected '*' or the name of a command, got '{}'", .0.escape_ascii())]
    Start(u8),
    /// A command's parts are bulk strings.
    #[error("Protocol error: expected '$', got '{}'", .0.escape_ascii())]
    Part(u8),
    /// The number of parts is no number, or too large.
    #[error("Protocol error: invalid multibulk length; at most {PARTS_MAX} are allowed")]
    Parts,
    /// The length of a part is no number, or too large.
    #[error("Protocol error: invalid bulk length; at most {PART_MAX_BYTES} bytes are allowed")]
    PartLength,
    /// A part is longer or shorter than it claims.
    #[error("Protocol error: expected CRLF behind a bulk string")]
    PartEnd,
    /// The parts together are too large.
    #[error("Protocol error: too big command; at most {COMMAND_MAX_BYTES} bytes are allowed")]
    TooLong,
    /// An inline command is too large.
    #[error("Protocol error: too big inline request; at most {INLINE_MAX_BYTES} bytes are allowed")]
    InlineTooLong,
    /// An inline command with a control character.
    #[error("Protocol error: control character in an inline request")]
    InlineControl,
    /// An inline command with a quote that does not end.
    #[error("Protocol error: unbalanced quotes in request")]
    InlineQuotes,
}

/// Takes the next command out of `input`; `None`: it is not whole yet.
///
/// Empty commands (`*0`, `*-1`, empty lines) are skipped, as Redis does.
pub fn decode(input: &mut BytesMut) -> Result<Option<Command>, ProtocolError> {
    loop {
        let found = match input.first() {
            None => return Ok(None),
            Some(b'*') => take_array(input)?,
            Some(b) if b.is_ascii_alphabetic() || b" \t\r\n\"'".contains(b) => take_inline(input)?,
            Some(other) => return Err(ProtocolError::Start(*other)),
        };
        match found {
            Taken::Unfinished => return Ok(None),
            Taken::Empty => {}
            Taken::Command(command) => return Ok(Some(command)),
        }
    }
}

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// `+OK`.
    Simple(Cow<'static, str>),
    /// `-ERR …`: a word in capitals, then what is wrong.
    Error(Cow<'static, str>),
    /// `:7`.
    Integer(i64),
    /// Any bytes.
    Bulk(Bytes),
    /// Several.
    Array(Vec<Reply>),
    /// Nothing, as RESP2 says it: a bulk string that is not there.
    Null,
}

impl Reply {
    /// `+OK`.
    pub const OK: Reply = Reply::Simple(Cow::Borrowed("OK"));

    /// An error; begins with its word (`ERR`, `NOAUTH`, …).
    pub fn error(text: impl Into<Cow<'static, str>>) -> Reply {
        Reply::Error(text.into())
    }

    /// A text as a bulk string.
    pub fn bulk(text: impl Into<String>) -> Reply {
        Reply::Bulk(Bytes::from(text.into()))
    }

    /// Appends the reply as it goes over the wire.
    pub fn encode(&self, output: &mut BytesMut) {
        match self {
            Reply::Simple(text) => put_line(output, b'+', text),
            Reply::Error(text) => put_line(output, b'-', text),
            Reply::Integer(n) => put_number(output, b':', *n),
            Reply::Bulk(bytes) => {
                put_length(output, b'$', bytes.len());
                output.reserve(bytes.len() + 2);
                output.put_slice(bytes);
                output.put_slice(b"\r\n");
            }
            Reply::Array(items) => {
                put_length(output, b'*', items.len());
                items.iter().for_each(|item| item.encode(output));
            }
            Reply::Null => output.put_slice(b"$-1\r\n"),
        }
    }
}

/// A line of printable text: a control character in it would end the reply, or look like one.
fn put_line(output: &mut BytesMut, sort: u8, text: &str) {
    output.reserve(text.len() + 3);
    output.put_u8(sort);
    for b in text.bytes() {
        output.put_u8(if b.is_ascii_control() { b' ' } else { b });
    }
    output.put_slice(b"\r\n");
}

fn put_number(output: &mut BytesMut, sort: u8, n: i64) {
    output.put_u8(sort);
    output.put_slice(itoa::Buffer::new().format(n).as_bytes());
    output.put_slice(b"\r\n");
}

fn put_length(output: &mut BytesMut, sort: u8, length: usize) {
    put_number(output, sort, i64::try_from(length).unwrap_or(i64::MAX));
}

enum Taken {
    /// The rest is still on its way.
    Unfinished,
    /// Nothing was asked.
    Empty,
    /// A command.
    Command(Command),
}

fn take_array(input: &mut BytesMut) -> Result<Taken, ProtocolError> {
    let Some((count, mut at)) = header(input, 1, ProtocolError::Parts)? else { return Ok(Taken::Unfinished) };
    let count = count.unwrap_or(0);
    if count > PARTS_MAX {
        return Err(ProtocolError::Parts);
    }
    // First where everything lies, then the cut: a command that is not whole yet stays in `input` as it is.
    let mut ends = [(0, 0); PARTS_MAX];
    for place in ends.iter_mut().take(count) {
        match input.get(at) {
            None => return Ok(Taken::Unfinished),
            Some(b'$') => {}
            Some(other) => return Err(ProtocolError::Part(*other)),
        }
        let Some((length, start)) = header(input, at + 1, ProtocolError::PartLength)? else {
            return Ok(Taken::Unfinished);
        };
        let length = length.filter(|n| *n <= PART_MAX_BYTES).ok_or(ProtocolError::PartLength)?;
        let end = start + length;
        if end + 2 > COMMAND_MAX_BYTES {
            return Err(ProtocolError::TooLong);
        }
        match (input.get(end), input.get(end + 1)) {
            (Some(b'\r'), Some(b'\n')) => {}
            (None, _) | (Some(b'\r'), None) => return Ok(Taken::Unfinished),
            (Some(_), _) => return Err(ProtocolError::PartEnd),
        }
        *place = (start, end);
        at = end + 2;
    }
    let whole = input.split_to(at).freeze();
    let mut parts = ends.iter().take(count).map(|(start, end)| whole.slice(*start..*end));
    match parts.next() {
        Some(name) => Ok(Taken::Command(Command { name, args: parts.collect(), inline: false })),
        None => Ok(Taken::Empty),
    }
}

/// Reads a length that begins at `at`. `Some((None, …))` is -1, "not there"; the second number is where the line ends.
#[allow(clippy::type_complexity)]
fn header(
    input: &[u8],
    at: usize,
    wrong: ProtocolError,
) -> Result<Option<(Option<usize>, usize)>, ProtocolError> {
    const DIGITS_MAX: usize = 9;
    let line = input.get(at..).unwrap_or_default();
    let (not_there, digits) = match line {
        [b'-', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let count = digits.iter().take(DIGITS_MAX + 1).take_while(|b| b.is_ascii_digit()).count();
    if count > DIGITS_MAX {
        return Err(wrong);
    }
    let number = digits.iter().take(count).fold(0usize, |n, b| n * 10 + usize::from(b - b'0'));
    let end = at + usize::from(not_there) + count + 2;
    match (digits.get(count), digits.get(count + 1)) {
        (None, _) => Ok(None),
        (Some(b'\r'), _) if count == 0 || (not_there && number != 1) => Err(wrong),
        (Some(b'\r'), Some(b'\n')) => Ok(Some(((!not_there).then_some(number), end))),
        (Some(b'\r'), None) => Ok(None),
        (Some(_), _) => Err(wrong),
    }
}

fn take_inline(input: &mut BytesMut) -> Result<Taken, ProtocolError> {
    let Some(end) = input.iter().take(INLINE_MAX_BYTES).position(|b| *b == b'\n') else {
        return if input.len() < INLINE_MAX_BYTES {
            Ok(Taken::Unfinished)
        } else {
            Err(ProtocolError::InlineTooLong)
        };
    };
    let line = input.split_to(end + 1);
    let line = line.strip_suffix(b"\n").unwrap_or(&line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut parts = words(line)?.into_iter();
    match parts.next() {
        Some(name) => Ok(Taken::Command(Command { name, args: parts.collect(), inline: true })),
        None => Ok(Taken::Empty),
    }
}

/// Splits a line at blanks. `"…"` and `'…'` hold blanks together; within them `\` makes the next character an ordinary one.
fn words(line: &[u8]) -> Result<Vec<Bytes>, ProtocolError> {
    if line.iter().any(|b| b.is_ascii_control() && *b != b'\t') {
        return Err(ProtocolError::InlineControl);
    }
    let mut found = Vec::new();
    let mut rest = line.iter().copied().peekable();
    loop {
        while rest.next_if(|b| is_blank(*b)).is_some() {}
        let Some(first) = rest.next() else { return Ok(found) };
        let mut word = Vec::new();
        if first == b'"' || first == b'\'' {
            loop {
                match rest.next() {
                    None => return Err(ProtocolError::InlineQuotes),
                    Some(b'\\') => word.push(rest.next().ok_or(ProtocolError::InlineQuotes)?),
                    Some(b) if b == first => break,
                    Some(b) => word.push(b),
                }
            }
            if rest.peek().is_some_and(|b| !is_blank(*b)) {
                return Err(ProtocolError::InlineQuotes);
            }
        } else {
            word.push(first);
            while let Some(b) = rest.next_if(|b| !is_blank(*b)) {
                word.push(b);
            }
        }
        if found.len() >= PARTS_MAX {
            return Err(ProtocolError::Parts);
        }
        found.push(Bytes::from(word));
    }
}

fn is_blank(b: u8) -> bool {
    b == b' ' || b == b'\t'
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn array(parts: &[&[u8]]) -> Vec<u8> {
        let mut bytes = format!("*{}\r\n", parts.len()).into_bytes();
        for part in parts {
            bytes.extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
            bytes.extend_from_slice(part);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes
    }

    fn parts(command: Command) -> Vec<Vec<u8>> {
        std::iter::once(command.name).chain(command.args).map(|part| part.to_vec()).collect()
    }

    /// All commands of a stream that arrives in pieces of these sizes (the last one again and again), and how it ended.
    fn all(stream: &[u8], pieces: &[usize]) -> (Vec<Vec<Vec<u8>>>, Option<ProtocolError>, usize) {
        let (mut input, mut found, mut rest) = (BytesMut::new(), Vec::new(), stream);
        let mut sizes = pieces.iter().copied().chain(std::iter::repeat(*pieces.last().unwrap()));
        loop {
            match decode(&mut input) {
                Ok(Some(command)) => found.push(parts(command)),
                Ok(None) if rest.is_empty() => return (found, None, input.len()),
                Ok(None) => {
                    assert!(input.len() < COMMAND_MAX_BYTES, "more is kept than a command may have");
                    let (piece, later) = rest.split_at(sizes.next().unwrap().clamp(1, rest.len()));
                    input.extend_from_slice(piece);
                    rest = later;
                }
                Err(error) => return (found, Some(error), input.len()),
            }
        }
    }

    fn one(stream: &[u8]) -> Result<Vec<Vec<Vec<u8>>>, ProtocolError> {
        match all(stream, &[usize::MAX]) {
            (found, None, 0) => Ok(found),
            (_, None, left) => panic!("{left} bytes of {:?} are left", stream.escape_ascii().to_string()),
            (_, Some(error), _) => Err(error),
        }
    }

    fn unfinished(stream: &[u8]) -> bool {
        all(stream, &[usize::MAX]) == (vec![], None, stream.len())
    }

    #[test]
    fn commands_are_read_whatever_their_parts_hold() {
        let route: &[&[u8]] = &[b"ROUTE", b"a@b", b"sip:x@y", b"", b"\r\n*1\r\n\0\xff"];
        assert_eq!(one(&array(route)).unwrap(), [route]);
        let two = [array(&[b"PING"]), array(&[b"QUIT"])].concat();
        assert_eq!(one(&two).unwrap(), [[b"PING"], [b"QUIT"]]);
        assert_eq!(one(b"*0\r\n*-1\r\n\r\n  \r\n\nPING\n").unwrap(), [[b"PING"]], "empty ones are skipped");
        let most = vec![&b"x"[..]; PARTS_MAX];
        assert_eq!(one(&array(&most)).unwrap(), [most]);
        let long = vec![b'x'; PART_MAX_BYTES];
        assert_eq!(one(&array(&[b"ECHO", &long])).unwrap()[0][1].len(), PART_MAX_BYTES);
    }

    #[test]
    fn lines_of_words_are_read() {
        for (line, words) in [
            (&b"PING\r\n"[..], &[&b"PING"[..]][..]),
            (b"  ping \t hello\n", &[b"ping", b"hello"]),
            (b"ECHO \"a b\" 'c d' \"\" ''\r\n", &[b"ECHO", b"a b", b"c d", b"", b""]),
            (b"ECHO \"a\\\"b\\\\\" 'it\\'s'\r\n", &[b"ECHO", b"a\"b\\", b"it's"]),
            (b"ROUTE c@h sip:a@b ft=x;cs=1\r\n", &[b"ROUTE", b"c@h", b"sip:a@b", b"ft=x;cs=1"]),
            (b"ECHO it's\r\n", &[b"ECHO", b"it's"]),
        ] {
            assert_eq!(one(line).unwrap(), [words], "{}", line.escape_ascii());
        }
    }

    #[test]
    fn what_is_not_resp_or_too_large_is_refused_as_soon_as_it_shows() {
        let million = [b"*1\r\n$4\r\nPING\r\n*1\r\n$4\r\n".as_slice(), &[b'x'; 6]].concat();
        let many_quoted = [b"ECHO".as_slice(), &b" x".repeat(PARTS_MAX), b"\r\n"].concat();
        let part = vec![b'x'; PART_MAX_BYTES];
        let three = array(&[&part, &part, &part]);
        for (stream, error) in [
            (&b"*1000000\r\n"[..], ProtocolError::Parts),
            (b"*65\r\n", ProtocolError::Parts),
            (b"*99999999999999999999", ProtocolError::Parts),
            (b"*-2\r\n", ProtocolError::Parts),
            (b"*-\r\n", ProtocolError::Parts),
            (b"*+1\r\n", ProtocolError::Parts),
            (b"*\r\n", ProtocolError::Parts),
            (b"*1\n", ProtocolError::Parts),
            (b"*1\rx", ProtocolError::Parts),
            (b"*1\r\n*1\r\n$4\r\nPING\r\n", ProtocolError::Part(b'*')),
            (b"*1\r\n:1\r\n", ProtocolError::Part(b':')),
            (b"*1\r\n+PING\r\n", ProtocolError::Part(b'+')),
            (b"*1\r\n$-1\r\n", ProtocolError::PartLength),
            (b"*1\r\n$65537\r\n", ProtocolError::PartLength),
            (b"*1\r\n$4294967300\r\n", ProtocolError::PartLength),
            (b"*1\r\n$x\r\n", ProtocolError::PartLength),
            (b"*1\r\n$3\r\nPING\r\n", ProtocolError::PartEnd),
            (&million, ProtocolError::PartEnd),
            (&three, ProtocolError::TooLong),
            (b"$4\r\nPING\r\n", ProtocolError::Start(b'$')),
            (b"\x16\x03\x01", ProtocolError::Start(0x16)),
            (b"\0", ProtocolError::Start(0)),
            (b"PING \0\r\n", ProtocolError::InlineControl),
            (b"PING a\rb\r\n", ProtocolError::InlineControl),
            (b"PING \"a\r\n", ProtocolError::InlineQuotes),
            (b"PING \"a\"b\r\n", ProtocolError::InlineQuotes),
            (b"PING \"a\\\r\n", ProtocolError::InlineQuotes),
            (&[b'x'; INLINE_MAX_BYTES], ProtocolError::InlineTooLong),
            (&many_quoted, ProtocolError::Parts),
        ] {
            let shown = stream.escape_ascii().to_string();
            let shown = shown.get(..60).unwrap_or(&shown);
            assert_eq!(one(stream).unwrap_err(), error, "{shown}");
            assert_eq!(all(stream, &[1]).1, Some(error), "{shown}, byte by byte");
        }
        assert!(unfinished(&vec![b'x'; INLINE_MAX_BYTES - 1]));
        assert!(unfinished(b"*64\r\n$65536\r\n"));
    }

    #[test]
    fn a_claimed_length_allocates_nothing() {
        let mut input = BytesMut::from(&b"*64\r\n$65536\r\nx"[..]);
        let before = input.capacity();
        assert_eq!(decode(&mut input), Ok(None));
        assert_eq!(input.capacity(), before);
    }

    #[test]
    fn replies_are_written_as_redis_writes_them() {
        let text = |reply: Reply| {
            let mut out = BytesMut::new();
            reply.encode(&mut out);
            String::from_utf8(out.to_vec()).unwrap()
        };
        assert_eq!(text(Reply::OK), "+OK\r\n");
        assert_eq!(text(Reply::error("ERR a\r\n+OK\0")), "-ERR a  +OK \r\n");
        assert_eq!(text(Reply::Integer(-7)), ":-7\r\n");
        assert_eq!(text(Reply::bulk("é\r\n")), "$4\r\né\r\n\r\n");
        assert_eq!(text(Reply::Null), "$-1\r\n");
        assert_eq!(text(Reply::Array(vec![Reply::bulk(""), Reply::Array(vec![])])), "*2\r\n$0\r\n\r\n*0\r\n");
    }

    fn reply() -> impl Strategy<Value = Reply> {
        let leaf = prop_oneof![
            any::<String>().prop_map(|text| Reply::Simple(text.into())),
            any::<String>().prop_map(|text| Reply::Error(format!("ERR {text}").into())),
            any::<i64>().prop_map(Reply::Integer),
            vec(any::<u8>(), 0..40).prop_map(|bytes| Reply::Bulk(bytes.into())),
            Just(Reply::Null),
        ];
        leaf.prop_recursive(3, 20, 5, |inner| vec(inner, 0..5).prop_map(Reply::Array))
    }

    /// Whether another implementation read what was meant.
    fn same(reply: &Reply, read: &redis::Value) -> bool {
        let cleaned = |text: &str| text.replace(|c: char| c.is_ascii_control(), " ");
        match (reply, read) {
            (Reply::Simple(text), redis::Value::Okay) => text == "OK",
            (Reply::Simple(text), redis::Value::SimpleString(read)) => cleaned(text) == *read,
            (Reply::Error(_), redis::Value::ServerError(_)) | (Reply::Null, redis::Value::Nil) => true,
            (Reply::Integer(n), redis::Value::Int(read)) => n == read,
            (Reply::Bulk(bytes), redis::Value::BulkString(read)) => bytes == read,
            (Reply::Array(all), redis::Value::Array(read)) => {
                all.len() == read.len() && all.iter().zip(read).all(|(reply, read)| same(reply, read))
            }
            _ => false,
        }
    }

    /// Bytes that are often nearly RESP.
    fn nearly() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            4 => prop::sample::select(vec!["*1\r\n", "*2\r\n", "$4\r\n", "PING\r\n", "*0\r\n", "\r\n", "$-1\r\n", "PING ", "\"", "*65"])
                .prop_map(|text| text.as_bytes().to_vec()),
            1 => vec(any::<u8>(), 0..6),
        ];
        vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn split_anywhere_the_commands_are_the_same(
            commands in vec(vec(vec(any::<u8>(), 0..30), 1..6), 0..6),
            pieces in vec(1usize..40, 1..20),
        ) {
            let stream: Vec<u8> = commands
                .iter()
                .flat_map(|parts| array(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>()))
                .collect();
            prop_assert_eq!(all(&stream, &pieces), (commands, None, 0));
        }

        #[test]
        fn any_bytes_are_read_or_refused_and_the_same_in_any_pieces(
            stream in prop_oneof![nearly(), vec(any::<u8>(), 0..200)],
            pieces in vec(1usize..10, 1..10),
        ) {
            let whole = all(&stream, &[usize::MAX]);
            let split = all(&stream, &pieces);
            prop_assert_eq!((whole.0, whole.1), (split.0, split.1));
        }

        #[test]
        fn a_client_reads_what_was_meant(replies in vec(reply(), 0..4)) {
            let all = Reply::Array(replies);
            let mut out = BytesMut::new();
            all.encode(&mut out);
            let read = redis::parse_redis_value(&out).unwrap();
            prop_assert!(same(&all, &read), "{all:?} was read as {read:?}");
        }
    }
}
