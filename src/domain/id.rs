//! Names. Each is parsed once, at the edge; from then on its type says what it is.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The longest name of a pool, node, zone or tag, in bytes.
pub const NAME_MAX: usize = 64;

/// Why a text is not a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameError {
    /// Nothing between the quotes.
    Empty,
    /// More than [`NAME_MAX`] bytes.
    TooLong(usize),
    /// A byte that names do not have; where, and which.
    Char(usize, char),
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NameError::Empty => write!(f, "a name must not be empty"),
            NameError::TooLong(n) => write!(f, "a name of {n} bytes; at most {NAME_MAX} are allowed"),
            NameError::Char(at, c) => {
                write!(
                    f,
                    "{c:?} at position {at}; a name has letters, digits, '_' and '-' (a tenant's also '.'), and begins with a letter or digit"
                )
            }
        }
    }
}

impl std::error::Error for NameError {}

fn check_name(s: &str) -> Result<(), NameError> {
    check(s, "_-")
}

/// Tenants are named by domains, too.
fn check_tenant(s: &str) -> Result<(), NameError> {
    check(s, "_-.")
}

fn check(s: &str, inner: &str) -> Result<(), NameError> {
    if s.is_empty() {
        return Err(NameError::Empty);
    }
    if s.len() > NAME_MAX {
        return Err(NameError::TooLong(s.len()));
    }
    for (at, c) in s.chars().enumerate() {
        let fits = c.is_ascii_alphanumeric() || (at > 0 && inner.contains(c));
        if !fits {
            return Err(NameError::Char(at, c));
        }
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $check:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as it was written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(s: &str) -> Result<Self, NameError> {
                $check(s)?;
                Ok($name(Arc::from(s)))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

name! {
    /// The name of a pool.
    PoolId, check_name
}
name! {
    /// The name of a node, unique in its pool.
    NodeId, check_name
}
name! {
    /// Where a node or a caller is: a data centre, an availability zone.
    Zone, check_name
}
name! {
    /// Something that a node can do and a lookup can ask for.
    Tag, check_name
}

name! {
    /// On whose behalf a call is: a customer of the call centre, a line of business. Dots are allowed: `acme.example.com`.
    Tenant, check_tenant
}

name! {
    /// The name of a cell: pools, queues and agents that belong together.
    CellId, check_name
}
name! {
    /// The name of a queue, unique in its cell.
    QueueId, check_name
}
name! {
    /// The name of an agent, unique in the cell.
    AgentId, check_tenant
}
name! {
    /// Something that an agent can do and a call can ask for: a language, a product.
    Skill, check_name
}
name! {
    /// The name of a Kamailio.
    ProxyId, check_tenant
}
name! {
    /// The name of a treatment: where a call goes that no agent takes.
    TreatmentId, check_name
}

/// Names a lease: 128 bits derived from the lookup, so that a repeated lookup names the same lease.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub [u8; 16]);

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One number in hex is written at once; byte by byte it takes sixteen times as long, and each lookup does it.
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for LeaseId {
    type Err = NameError;
    fn from_str(s: &str) -> Result<Self, NameError> {
        let mut id = [0u8; 16];
        if s.len() != 32 {
            return Err(if s.is_empty() { NameError::Empty } else { NameError::TooLong(s.len()) });
        }
        for (at, (byte, pair)) in id.iter_mut().zip(s.as_bytes().chunks(2)).enumerate() {
            let text = std::str::from_utf8(pair).unwrap_or("?");
            let lower_hex = pair.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            *byte = u8::from_str_radix(text, 16)
                .ok()
                .filter(|_| lower_hex)
                .ok_or(NameError::Char(at * 2, text.chars().next().unwrap_or('?')))?;
        }
        Ok(LeaseId(id))
    }
}

/// Names what calls stick to a node by: 128 bits derived from the key that the proxy gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StickyId(pub [u8; 16]);

impl fmt::Display for StickyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// A node's place in the load table of its pool: 0 … 2047. It stays with the node for as long as the node has leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u16);

impl Slot {
    /// How many slots a pool has, and so how many nodes.
    pub const COUNT: u16 = 2048;
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_letters_digits_and_inner_marks() {
        for good in ["a", "ast1", "Zone_b-2", "0", &"x".repeat(64)] {
            assert_eq!(good.parse::<NodeId>().unwrap().as_str(), good);
        }
        assert_eq!("".parse::<NodeId>(), Err(NameError::Empty));
        assert_eq!("x".repeat(65).parse::<NodeId>(), Err(NameError::TooLong(65)));
        assert_eq!("-a".parse::<NodeId>(), Err(NameError::Char(0, '-')));
        assert_eq!("a.b".parse::<NodeId>(), Err(NameError::Char(1, '.')));
        assert_eq!("a\r\n".parse::<NodeId>(), Err(NameError::Char(1, '\r')));
        assert_eq!("é".parse::<NodeId>(), Err(NameError::Char(0, 'é')));
        assert_eq!("acme.example.com".parse::<Tenant>().unwrap().as_str(), "acme.example.com");
        assert_eq!(".acme".parse::<Tenant>(), Err(NameError::Char(0, '.')));
    }

    #[test]
    fn lease_ids_round_trip_and_refuse_other_spellings() {
        let id = LeaseId([7, 0, 255, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
        assert_eq!(id.to_string().parse::<LeaseId>().unwrap(), id);
        assert!(id.to_string().to_uppercase().parse::<LeaseId>().is_err());
        assert!("+1".repeat(16).parse::<LeaseId>().is_err());
        assert!("é".repeat(16).parse::<LeaseId>().is_err());
        assert!("00".parse::<LeaseId>().is_err());
    }
}
