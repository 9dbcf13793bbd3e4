//! Cuts a stream into messages by Content-Length (RFC 3261 §18.3), with keep-alives between them (RFC 5626 §4.4.1).
//!
//! What was looked at is not looked at again, so a peer that sends byte by byte costs no more than one that sends all at once.

use super::read::{content_length, lines};
use super::{HEAD_MAX, MESSAGE_MAX, SipError};

/// What stands at the start of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Nothing whole yet.
    Wait,
    /// So many bytes of line ends before a message: drop them, and answer `pings` times with a line end.
    Blank {
        /// Bytes to drop.
        bytes: usize,
        /// Double line ends among them.
        pings: usize,
    },
    /// A message of so many bytes.
    Message(usize),
    /// The stream cannot be cut any further; the head of the message that stands there has so many bytes, 0 where it does not end.
    Lost {
        /// Bytes of the head, its empty line included.
        head: usize,
        /// Why.
        error: SipError,
    },
}

/// Remembers how far a stream was looked at.
#[derive(Clone, Debug, Default)]
pub struct Framer {
    /// Bytes in which the end of a head is not.
    looked: usize,
    /// Length of the message, once its head was read.
    whole: Option<usize>,
    /// One line end of a keep-alive came; the other may still be on its way.
    half_ping: bool,
}

impl Framer {
    /// Looks at all that came and was not taken yet. After [`Frame::Blank`] and [`Frame::Message`] drop those bytes before the next look.
    pub fn next(&mut self, bytes: &[u8]) -> Frame {
        let whole = match self.whole {
            Some(whole) => whole,
            None => match self.look(bytes) {
                Ok(whole) => whole,
                Err(frame) => return frame,
            },
        };
        if bytes.len() < whole {
            self.whole = Some(whole);
            return Frame::Wait;
        }
        *self = Framer::default();
        Frame::Message(whole)
    }

    fn look(&mut self, bytes: &[u8]) -> Result<usize, Frame> {
        let blank = bytes.chunks(2).take_while(|pair| *pair == b"\r\n").count();
        if blank > 0 {
            let ends = blank + usize::from(self.half_ping);
            *self = Framer { half_ping: ends % 2 == 1, ..Framer::default() };
            return Err(Frame::Blank { bytes: blank * 2, pings: ends / 2 });
        }
        let lost = |head, error| Err(Frame::Lost { head, error });
        let from = self.looked.saturating_sub(3);
        let unseen = bytes.get(from..bytes.len().min(HEAD_MAX + 4)).unwrap_or_default();
        let Some(end) = unseen.windows(4).position(|w| w == b"\r\n\r\n").map(|at| from + at + 4) else {
            self.looked = bytes.len();
            if bytes.len() > HEAD_MAX {
                return lost(0, SipError::TooLarge { what: "head", limit: HEAD_MAX });
            }
            return Err(Frame::Wait);
        };
        let read = bytes.get(..end).map(lines).transpose();
        let headers = match read.map(|found| found.flatten().map(|(lines, _)| lines.headers)) {
            Ok(Some(headers)) => headers,
            Ok(None) => return lost(end, SipError::NoEnd),
            Err(error) => return lost(end, error),
        };
        match content_length(&headers) {
            Ok(Some(body)) if body <= MESSAGE_MAX - end.min(MESSAGE_MAX) => Ok(end + body),
            Ok(Some(_)) => lost(end, SipError::TooLarge { what: "message", limit: MESSAGE_MAX }),
            // RFC 3261 §20.14: on a stream it must be there.
            Ok(None) => lost(end, SipError::Count("Content-Length")),
            Err(error) => lost(end, error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEAD: &str = "OPTIONS sip:a SIP/2.0\r\nl: 5\r\n\r\n";

    #[test]
    fn a_stream_is_cut_where_it_says_however_it_comes() {
        let stream = format!("\r\n\r\n{HEAD}hello{HEAD}12345\r\n\r\n");
        for step in 1..stream.len() {
            let (mut framer, mut buffer, mut found, mut pings) =
                (Framer::default(), Vec::new(), Vec::new(), 0);
            for piece in stream.as_bytes().chunks(step) {
                buffer.extend_from_slice(piece);
                loop {
                    match framer.next(&buffer) {
                        Frame::Wait => break,
                        Frame::Blank { bytes, pings: more } => {
                            pings += more;
                            buffer.drain(..bytes);
                        }
                        Frame::Message(bytes) => found.push(buffer.drain(..bytes).collect::<Vec<u8>>()),
                        Frame::Lost { error, .. } => panic!("{error}"),
                    }
                }
            }
            let second = format!("{HEAD}12345");
            assert_eq!(found, [format!("{HEAD}hello").into_bytes(), second.into_bytes()], "{step}");
            // One before the messages, and one behind them.
            assert_eq!((pings, buffer.as_slice()), (2, &b""[..]), "{step}");
        }
    }

    #[test]
    fn what_cannot_be_cut_ends_the_stream() {
        let lost = |text: &str| match Framer::default().next(text.as_bytes()) {
            Frame::Lost { head, error } => (head, error),
            other @ (Frame::Wait | Frame::Blank { .. } | Frame::Message(_)) => panic!("{other:?}"),
        };
        let without = "OPTIONS sip:a SIP/2.0\r\nTo: b\r\n\r\n";
        assert_eq!(lost(without), (without.len(), SipError::Count("Content-Length")));
        assert_eq!(lost(&HEAD.replace('5', "-5")).1, SipError::Value("Content-Length"));
        assert_eq!(lost(&HEAD.replace('5', "5\r\nContent-Length: 5")).1, SipError::Count("Content-Length"));
        assert_eq!(
            lost(&HEAD.replace('5', "65535")).1,
            SipError::TooLarge { what: "message", limit: MESSAGE_MAX }
        );
        assert_eq!(lost("GET / HTTP/1.1\r\nno header\r\n\r\n").1, SipError::HeaderLine(1));
        let long = "x".repeat(HEAD_MAX + 1);
        assert_eq!(lost(&long), (0, SipError::TooLarge { what: "head", limit: HEAD_MAX }));
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            match Framer::default().next(&bytes) {
                Frame::Blank { bytes: n, pings } => prop_assert!(n <= bytes.len() && pings * 4 <= n),
                Frame::Message(n) => prop_assert!(n <= bytes.len()),
                Frame::Lost { head, .. } => prop_assert!(head <= bytes.len()),
                Frame::Wait => {}
            }
        }
    }
}
