//! A small blocking RESP2 client.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

const LIMIT: Duration = Duration::from_secs(5);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Status(String),
    Error(String),
    Integer(i64),
    Bulk(String),
    Nil,
    Array(Vec<Reply>),
}

impl Reply {
    /// The text of a status or a bulk string.
    pub fn text(&self) -> Result<&str> {
        match self {
            Reply::Status(text) | Reply::Bulk(text) => Ok(text),
            Reply::Error(_) | Reply::Integer(_) | Reply::Nil | Reply::Array(_) => {
                bail!("not a text: {self:?}")
            }
        }
    }

    pub fn integer(&self) -> Result<i64> {
        match self {
            Reply::Integer(number) => Ok(*number),
            Reply::Status(_) | Reply::Error(_) | Reply::Bulk(_) | Reply::Nil | Reply::Array(_) => {
                bail!("not an integer: {self:?}")
            }
        }
    }
}

pub struct Resp {
    reader: BufReader<Box<dyn Read + Send>>,
    writer: Box<dyn Write + Send>,
}

impl Resp {
    pub fn unix(path: &Path) -> Result<Resp> {
        let stream =
            UnixStream::connect(path).with_context(|| format!("connecting to {}", path.display()))?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        Ok(Resp { reader: BufReader::new(Box::new(stream.try_clone()?)), writer: Box::new(stream) })
    }

    pub fn tcp(address: SocketAddr) -> Result<Resp> {
        let stream = TcpStream::connect_timeout(&address, LIMIT)
            .with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        Ok(Resp { reader: BufReader::new(Box::new(stream.try_clone()?)), writer: Box::new(stream) })
    }

    /// Sends one command and reads its reply. An error reply is a reply.
    pub fn call(&mut self, words: &[&str]) -> Result<Reply> {
        self.send(words)?;
        self.receive().with_context(|| format!("reading the reply to {words:?}"))
    }

    /// Sends without waiting (pipelining).
    pub fn send(&mut self, words: &[&str]) -> Result<()> {
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.send_raw(request.as_bytes())
    }

    /// Sends bytes as they are, for what a well-behaved client would not say.
    pub fn send_raw(&mut self, bytes: &[u8]) -> Result<()> {
        self.writer.write_all(bytes).context("sending a command")?;
        self.writer.flush().context("sending a command")
    }

    pub fn receive(&mut self) -> Result<Reply> {
        let line = self.line()?;
        let (kind, rest) = line.split_at_checked(1).context("an empty reply line")?;
        Ok(match kind {
            "+" => Reply::Status(rest.to_owned()),
            "-" => Reply::Error(rest.to_owned()),
            ":" => Reply::Integer(rest.parse()?),
            "$" if rest == "-1" => Reply::Nil,
            "$" => {
                let mut bytes = vec![0; rest.parse::<usize>()? + 2];
                self.reader.read_exact(&mut bytes)?;
                if bytes.split_off(bytes.len() - 2) != b"\r\n" {
                    bail!("a bulk string without its end");
                }
                Reply::Bulk(String::from_utf8(bytes)?)
            }
            "*" if rest == "-1" => Reply::Nil,
            "*" => Reply::Array((0..rest.parse::<usize>()?).map(|_| self.receive()).collect::<Result<_>>()?),
            other => bail!("a reply cannot begin with {other:?}"),
        })
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            bail!("the connection was closed");
        }
        match line.strip_suffix("\r\n") {
            Some(line) => Ok(line.to_owned()),
            None => bail!("a line without its end: {line:?}"),
        }
    }
}
