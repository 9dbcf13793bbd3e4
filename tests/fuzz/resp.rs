//! RESP2: the same commands however the stream is cut, and no more kept than a command may have.

use crate::brew::Corpus;
use bytes::BytesMut;
use mqs::wire::resp::{self, COMMAND_MAX_BYTES, Command, PART_MAX_BYTES, PARTS_MAX, ProtocolError, Reply};

/// All commands of a stream that arrives in pieces, how it ended, and what was left over.
fn read(stream: &[u8], mut piece: impl FnMut() -> usize) -> (Vec<Command>, Option<ProtocolError>, Vec<u8>) {
    let (mut input, mut found, mut rest) = (BytesMut::new(), Vec::new(), stream);
    loop {
        match resp::decode(&mut input) {
            Ok(Some(command)) => found.push(command),
            Ok(None) if rest.is_empty() => return (found, None, input.to_vec()),
            Ok(None) => {
                assert!(input.len() < COMMAND_MAX_BYTES, "{} bytes are kept", input.len());
                let (now, later) = rest.split_at(piece().clamp(1, rest.len()));
                input.extend_from_slice(now);
                rest = later;
            }
            Err(error) => return (found, Some(error), Vec::new()),
        }
    }
}

fn parts(command: &Command) -> Vec<bytes::Bytes> {
    std::iter::once(&command.name).chain(&command.args).cloned().collect()
}

fn check_command(command: &Command) {
    let parts = parts(command);
    assert!(parts.len() <= PARTS_MAX && parts.iter().all(|p| p.len() <= PART_MAX_BYTES));
    if command.inline {
        let control = |b: &u8| b.is_ascii_control() && *b != b'\t';
        assert!(!parts.iter().any(|part| part.iter().any(control)), "{parts:?}");
    }
    let mut again = BytesMut::new();
    Reply::Array(parts.iter().cloned().map(Reply::Bulk).collect()).encode(&mut again);
    // A line of words can become an array that is larger than one may be.
    if again.len() <= COMMAND_MAX_BYTES {
        let (found, error, left) = read(&again, || usize::MAX);
        assert_eq!((found.len(), error, left.len()), (1, None, 0));
        assert_eq!((&found[0].name, &found[0].args), (&command.name, &command.args));
    }
}

fn check(corpus: &Corpus, drawn: &[u8]) -> bool {
    let stream = corpus.brew(drawn);
    let whole = read(&stream, || usize::MAX);
    let mut sizes = drawn.iter().rev().cycle();
    // Long streams in larger pieces, or a run of 64 KiB is read 64 Ki times.
    let scale = 1 + stream.len() / 1024;
    let cut = read(&stream, || usize::from(*sizes.next().unwrap_or(&1) % 32) * scale);
    assert_eq!(whole, cut, "{:.300}", stream.escape_ascii().to_string());
    whole.0.iter().for_each(check_command);
    if let Some(error) = &whole.1 {
        let mut said = BytesMut::new();
        Reply::error(format!("ERR {error}")).encode(&mut said);
        let text = said.strip_suffix(b"\r\n").unwrap();
        assert!(text.starts_with(b"-ERR Protocol error: ") && !text.iter().any(u8::is_ascii_control));
    }
    !whole.0.is_empty()
}

#[test]
fn resp_commands() {
    let many = format!("*{PARTS_MAX}\r\n{}", "$1\r\nx\r\n".repeat(PARTS_MAX));
    let corpus = Corpus::new(
        &[
            "*4\r\n$5\r\nROUTE\r\n$6\r\nc@host\r\n$15\r\nsip:100@a.local\r\n$9\r\nft=a;cs=1\r\n",
            "*1\r\n$4\r\nPING\r\n*2\r\n$4\r\nDONE\r\n$6\r\nm1.a.b\r\n",
            "PING\r\nECHO \"a \\\"b\\\"\" 'c d' \"\"\r\nQUIT\n",
            "*0\r\n*-1\r\n\r\n  \r\n\nPING x\n",
            many.as_str(),
            "*2\r\n$0\r\n\r\n$2\r\n\r\n\r\n",
        ],
        &[
            "\r\n",
            "\r",
            "\n",
            "*",
            "$",
            "*1\r\n",
            "$4\r\n",
            "$-1\r\n",
            "-1",
            "64",
            "65",
            "65536",
            "65537",
            "999999999",
            "1000000000",
            "00",
            "+1",
            "\"",
            "'",
            "\\",
            " ",
            "\t",
            "\0",
            "x",
            "*1\r\n*1\r\n",
        ],
    );
    crate::fuzz!(|drawn: &[u8]| check(&corpus, drawn));
}
