//! What discovery notes of a node beside its definition, so that any instance can go on from there.

use super::Named;
use crate::domain::time::EpochMs;
use std::fmt;
use std::str::FromStr;

/// Whether the DNS names a node, and what was done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is named; discovery asked it to be active. In another state it is by an operator's word.
    Named,
    /// It is named no more since then, and discovery drained it.
    Drained(EpochMs),
    /// It is named no more since then, and was drained, down or removed by an operator before.
    Left(EpochMs),
}

/// A note: how the node stands, and which definition discovery gave it last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// How it stands.
    pub standing: Standing,
    /// Digest of the definition.
    pub digest: u64,
}

impl Mark {
    /// For a definition that is applied now.
    pub fn named(node: &Named) -> Mark {
        Mark { standing: Standing::Named, digest: node.digest() }
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digest = self.digest;
        match self.standing {
            Standing::Named => write!(f, "dns:named:0:{digest:016x}"),
            Standing::Drained(at) => write!(f, "dns:drained:{at}:{digest:016x}"),
            Standing::Left(at) => write!(f, "dns:left:{at}:{digest:016x}"),
        }
    }
}

/// A text that is no mark: the node is not discovery's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAMark;

impl FromStr for Mark {
    type Err = NotAMark;
    fn from_str(s: &str) -> Result<Self, NotAMark> {
        let rest = s.strip_prefix("dns:").ok_or(NotAMark)?;
        let mut parts = rest.split(':');
        let (word, at, digest) = (parts.next(), parts.next(), parts.next());
        let at = EpochMs(at.and_then(|at| at.parse().ok()).ok_or(NotAMark)?);
        let standing = match word {
            Some("named") => Standing::Named,
            Some("drained") => Standing::Drained(at),
            Some("left") => Standing::Left(at),
            Some(_) | None => return Err(NotAMark),
        };
        let digest = digest.and_then(|d| u64::from_str_radix(d, 16).ok()).ok_or(NotAMark)?;
        if parts.next().is_some() {
            return Err(NotAMark);
        }
        Ok(Mark { standing, digest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        for standing in [Standing::Named, Standing::Drained(EpochMs(17)), Standing::Left(EpochMs(u64::MAX))] {
            let mark = Mark { standing, digest: 0xabc };
            assert_eq!(mark.to_string().parse(), Ok(mark), "{mark}");
        }
        for other in [
            "",
            "dns:",
            "0123456789abcdef",
            "dns:named:0:",
            "dns:named:x:1",
            "dns:gone:0:1",
            "dns:named:0:1:2",
        ] {
            assert_eq!(other.parse::<Mark>(), Err(NotAMark), "{other:?}");
        }
    }
}
