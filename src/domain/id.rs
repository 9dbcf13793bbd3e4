//! Names. Each is parsed once, at the edge; from then on its type says what it is.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The longest name of a pool, node, zone or tag, in bytes.
pub const NAME_MAX: usize = 64;

/// The longest id of a call, an offer or a channel, in bytes.
pub const CHANNEL_MAX: usize = 128;

/// Why a text is not a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameError {
    /// Nothing between the quotes.
    Empty,
    /// More than [`NAME_MAX`] bytes.
    TooLong(usize),
    /// A byte that names do not have; where, and which.
    Char(usize, char),
    /// More than [`CHANNEL_MAX`] bytes for the id of a call, an offer or a channel.
    ChannelTooLong(usize),
    /// A byte that the id of a call, an offer or a channel does not have; where, and which.
    ChannelChar(usize, char),
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
            NameError::ChannelTooLong(n) => {
                write!(f, "an id of {n} bytes; at most {CHANNEL_MAX} are allowed")
            }
            NameError::ChannelChar(at, c) => {
                write!(
                    f,
                    "{c:?} at position {at}; an id has printable ASCII without blanks, '\"', '\\', '{{' and '}}'"
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

/// Asterisk makes up the ids of channels, and whoever originates one may choose another. What would have to be escaped in
/// JSON, or would be taken for a hash tag in a Redis key, is refused.
fn check_channel(s: &str) -> Result<(), NameError> {
    if s.is_empty() {
        return Err(NameError::Empty);
    }
    if s.len() > CHANNEL_MAX {
        return Err(NameError::ChannelTooLong(s.len()));
    }
    match s.chars().enumerate().find(|(_, c)| !c.is_ascii_graphic() || "\"\\{}".contains(*c)) {
        Some((at, c)) => Err(NameError::ChannelChar(at, c)),
        None => Ok(()),
    }
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
name! {
    /// A call that waits or is with an agent; derived from the channel that it came in by.
    CallId, check_channel
}
name! {
    /// One attempt to bring a call to an agent.
    OfferId, check_channel
}
name! {
    /// A channel, as Asterisk names it: `ast1-1700000000.42`.
    ChannelId, check_channel
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
    fn channels_are_named_as_asterisk_does() {
        for good in ["ast1-1700000000.42", "PJSIP/trunk-0000002a;1", "~", &"x".repeat(128)] {
            assert_eq!(good.parse::<CallId>().unwrap().as_str(), good);
            assert_eq!(good.parse::<OfferId>().unwrap().as_str(), good);
            assert_eq!(good.parse::<ChannelId>().unwrap().as_str(), good);
        }
        assert_eq!("".parse::<CallId>(), Err(NameError::Empty));
        assert_eq!("x".repeat(129).parse::<CallId>(), Err(NameError::ChannelTooLong(129)));
        for bad in [' ', '\t', '\n', '\0', '\u{7f}', '"', '\\', '{', '}', 'é'] {
            assert_eq!(format!("a{bad}").parse::<CallId>(), Err(NameError::ChannelChar(1, bad)));
        }
        let said = NameError::ChannelChar(1, '{').to_string();
        assert!(said.ends_with(r#"without blanks, '"', '\', '{' and '}'"#), "{said}");
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
