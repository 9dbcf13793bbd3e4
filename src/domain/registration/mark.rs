//! What is noted of a registered node beside its definition, so that any instance can go on from there.

use super::Heard;
use crate::domain::time::EpochMs;
use std::fmt;
use std::str::FromStr;

/// How a node's own word stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It asked to be active. In another state it is by an operator's word.
    Live,
    /// Its heartbeat ran out, and it was drained then.
    Drained(EpochMs),
    /// It said itself that it drains, since then.
    Leaving(EpochMs),
}

/// A note: how the node stands, and what its last heartbeat said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// How it stands.
    pub standing: Standing,
    /// For how long its heartbeats hold, in s.
    pub ttl_s: u32,
    /// Digest of the definition that it gave.
    pub digest: u64,
}

impl Mark {
    /// For a heartbeat of a node that takes calls.
    pub fn live(heard: &Heard) -> Mark {
        Mark { standing: Standing::Live, ttl_s: heard.ttl_s, digest: heard.node.digest() }
    }

    /// The word for how it stands: `live`, `silent` (its heartbeat ran out, and it drains), `leaving`.
    pub fn as_str(&self) -> &'static str {
        match self.standing {
            Standing::Live => "live",
            Standing::Drained(_) => "silent",
            Standing::Leaving(_) => "leaving",
        }
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mark { standing, ttl_s, digest } = self;
        let (word, at) = match standing {
            Standing::Live => ("live", EpochMs(0)),
            Standing::Drained(at) => ("drained", *at),
            Standing::Leaving(at) => ("leaving", *at),
        };
        write!(f, "beat:{word}:{at}:{ttl_s}:{digest:016x}")
    }
}

/// A text that is no mark: the node did not register itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAMark;

impl FromStr for Mark {
    type Err = NotAMark;
    fn from_str(s: &str) -> Result<Self, NotAMark> {
        let rest = s.strip_prefix("beat:").ok_or(NotAMark)?;
        let mut parts = rest.split(':');
        let (word, at, ttl_s, digest) = (parts.next(), parts.next(), parts.next(), parts.next());
        let at = EpochMs(at.and_then(|at| at.parse().ok()).ok_or(NotAMark)?);
        let standing = match word {
            Some("live") => Standing::Live,
            Some("drained") => Standing::Drained(at),
            Some("leaving") => Standing::Leaving(at),
            Some(_) | None => return Err(NotAMark),
        };
        let ttl_s = ttl_s.and_then(|ttl| ttl.parse().ok()).ok_or(NotAMark)?;
        let digest = digest.and_then(|d| u64::from_str_radix(d, 16).ok()).ok_or(NotAMark)?;
        if parts.next().is_some() {
            return Err(NotAMark);
        }
        Ok(Mark { standing, ttl_s, digest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        for standing in [Standing::Live, Standing::Drained(EpochMs(17)), Standing::Leaving(EpochMs(u64::MAX))]
        {
            let mark = Mark { standing, ttl_s: 30, digest: 0xabc };
            assert_eq!(mark.to_string().parse(), Ok(mark), "{mark}");
        }
        for other in [
            "",
            "beat:",
            "dns:named:0:1",
            "0123456789abcdef",
            "beat:live:0:30",
            "beat:live:0:x:1",
            "beat:alive:0:30:1",
            "beat:live:0:30:1:2",
        ] {
            assert_eq!(other.parse::<Mark>(), Err(NotAMark), "{other:?}");
        }
    }
}
