//! Tokens: a lease that names itself, so that any instance, also a restarted one, can settle it.
//!
//! `m1.POOL.NODE.LEASE.ATTEMPT.ISSUED.MAC`: pool and node by name, the lease id in hexadecimal, the index of the target, the
//! time of issue in seconds since 1970 in hexadecimal, and the first 128 bits of HMAC-SHA-256 (RFC 2104) over all that stands
//! before it, in base64url (RFC 4648 §5). Only letters, digits, `-`, `_` and `.`: fit for headers, URIs and attributes.

use crate::domain::id::{ChannelId, LeaseId, NodeId, PoolId, StickyId};
use crate::domain::pool::{Kind, TARGETS_MAX};
use crate::domain::time::EpochMs;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::sync::Arc;
use subtle::ConstantTimeEq as _;

/// The longest token, in bytes.
pub const TOKEN_MAX: usize = 256;

/// The shortest secret, in bytes.
pub const SECRET_MIN: usize = 16;

const VERSION: &str = "m1";
const MAC_BYTES: usize = 16;

/// The key of the MAC. All instances that share a store share it.
#[derive(Clone)]
pub struct Secret(Hmac<Sha256>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// A key of at least [`SECRET_MIN`] bytes; white space around it does not count.
    pub fn new(bytes: &[u8]) -> Result<Secret, TokenError> {
        let bytes = bytes.trim_ascii();
        if bytes.len() < SECRET_MIN {
            return Err(TokenError::Secret(bytes.len()));
        }
        Hmac::new_from_slice(bytes).map(Secret).map_err(|_| TokenError::Secret(bytes.len()))
    }

    /// The text with its MAC behind it.
    pub(super) fn signed(&self, mut text: String) -> String {
        let mac = self.mac(&text);
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(mac, &mut text);
        text
    }

    /// What `read` makes of the text before the MAC, if that is right.
    pub(super) fn verified<T>(&self, text: &str, read: fn(&str) -> Option<T>) -> Result<T, TokenError> {
        let (signed, mac) = text.rsplit_once('.').ok_or(TokenError::Shape)?;
        let token = read(signed).ok_or(TokenError::Shape)?;
        let mac = URL_SAFE_NO_PAD.decode(mac).map_err(|_| TokenError::Shape)?;
        if mac.len() != MAC_BYTES {
            return Err(TokenError::Shape);
        }
        if bool::from(self.mac(signed).ct_eq(&mac)) { Ok(token) } else { Err(TokenError::Mac) }
    }

    pub(super) fn mac(&self, text: &str) -> [u8; MAC_BYTES] {
        let whole = self.0.clone().chain_update(text.as_bytes()).finalize().into_bytes();
        let mut mac = [0; MAC_BYTES];
        mac.iter_mut().zip(whole).for_each(|(to, from)| *to = from);
        mac
    }
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The pool in which the lease lives.
    pub pool: PoolId,
    /// The node of this target.
    pub node: NodeId,
    /// The lease.
    pub lease: LeaseId,
    /// Index of this target in the answer.
    pub attempt: u8,
    /// When the answer was given, by the store's clock, in whole seconds.
    pub issued: EpochMs,
}

/// Why a text is not a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The secret is too short.
    #[error("a secret of {0} bytes; at least {SECRET_MIN} are needed")]
    Secret(usize),
    /// Not the shape of a token.
    #[error("not a token")]
    Shape,
    /// The shape is right; the MAC is not.
    #[error("altered, or made with another secret")]
    Mac,
}

impl Token {
    /// Writes the token and signs it.
    pub fn sign(&self, secret: &Secret) -> String {
        let Token { pool, node, lease, attempt, issued } = self;
        secret.signed(format!("{VERSION}.{pool}.{node}.{lease}.{attempt}.{:x}", issued.0 / 1000))
    }

    /// Reads a token and checks its MAC, in constant time.
    pub fn verify(text: &str, secret: &Secret) -> Result<Token, TokenError> {
        if text.len() > TOKEN_MAX {
            return Err(TokenError::Shape);
        }
        secret.verified(text, Token::read)
    }

    fn read(signed: &str) -> Option<Token> {
        let mut parts = signed.split('.');
        let mut next = || parts.next();
        if next()? != VERSION {
            return None;
        }
        let token = Token {
            pool: next()?.parse().ok()?,
            node: next()?.parse().ok()?,
            lease: next()?.parse().ok()?,
            attempt: next()?.parse().ok().filter(|n| *n < TARGETS_MAX)?,
            issued: EpochMs(u64::from_str_radix(next()?, 16).ok()?.checked_mul(1000)?),
        };
        next().is_none().then_some(token)
    }
}

/// Derives the lease of a lookup: the same (pool, Call-ID, From tag, CSeq, kind) is the same lease.
pub fn lease_id(pool: &PoolId, call_id: &str, from_tag: &str, cseq: u32, kind: Kind) -> LeaseId {
    LeaseId(derived(&[pool.as_str(), call_id, from_tag, kind.as_str()], &cseq.to_be_bytes()))
}

/// Derives the lease of a leg to an agent: its channel names it, whatever the INVITE is called on its way.
pub fn leg_lease(pool: &PoolId, leg: &ChannelId) -> LeaseId {
    lease_id(pool, leg.as_str(), "", 0, Kind::Agent)
}

/// Digits of an own call's name.
pub const OWN_CALL_LEN: usize = 32;

/// Derives the name of a call that an agent's phone has without an offer: the same (Call-ID, CSeq) is the same call.
pub fn own_call(call_id: &str, cseq: u32) -> Arc<str> {
    Arc::from(LeaseId(derived(&["own", call_id], &cseq.to_be_bytes())).to_string())
}

/// Derives what lookups with the same key stick to a node by.
pub fn sticky_id(pool: &PoolId, key: &str) -> StickyId {
    StickyId(derived(&[pool.as_str(), "sticky", key], &[]))
}

fn derived(parts: &[&str], end: &[u8]) -> [u8; 16] {
    let mut hash = Sha256::new();
    for part in parts {
        // Lengths first: no two lookups may run together into one text.
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.update(end);
    let mut id = [0; 16];
    id.iter_mut().zip(hash.finalize()).for_each(|(to, from)| *to = from);
    id
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn secret(fill: u8) -> Secret {
        Secret::new(&[fill; 32]).unwrap()
    }

    fn token() -> Token {
        let pool: PoolId = "default".parse().unwrap();
        Token {
            lease: lease_id(&pool, "abc@host", "t1", 1, Kind::New),
            pool,
            node: "ast-1".parse().unwrap(),
            attempt: 2,
            issued: EpochMs(1_795_000_000_000),
        }
    }

    #[test]
    fn what_is_signed_is_verified() {
        let text = token().sign(&secret(b'a'));
        assert_eq!(Token::verify(&text, &secret(b'a')), Ok(token()));
        assert_eq!(Token::verify(&text, &secret(b'b')), Err(TokenError::Mac));
        assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)), "{text}");
    }

    #[test]
    fn no_byte_can_be_altered() {
        let text = token().sign(&secret(b'a'));
        for at in 0..text.len() {
            for with in *b"0Az_." {
                let mut bytes = text.clone().into_bytes();
                if bytes[at] != with {
                    bytes[at] = with;
                    let altered = String::from_utf8(bytes).unwrap();
                    assert!(Token::verify(&altered, &secret(b'a')).is_err(), "{altered}");
                }
            }
        }
    }

    #[test]
    fn the_parts_of_a_lookup_do_not_run_together() {
        let pool: PoolId = "p".parse().unwrap();
        assert_ne!(lease_id(&pool, "ab", "c", 1, Kind::New), lease_id(&pool, "a", "bc", 1, Kind::New));
        assert_ne!(lease_id(&pool, "a", "c", 1, Kind::New), lease_id(&pool, "a", "c", 2, Kind::New));
        assert_ne!(lease_id(&pool, "a", "c", 1, Kind::New), lease_id(&pool, "a", "c", 1, Kind::Agent));
    }

    #[test]
    fn a_short_secret_is_refused() {
        assert_eq!(Secret::new(b"  short \n").err(), Some(TokenError::Secret(5)));
    }

    proptest! {
        #[test]
        fn any_text_is_refused(text in "\\PC{0,300}|m1(\\.[a-z0-9]{1,8}){6}") {
            prop_assert!(Token::verify(&text, &secret(b'a')).is_err());
        }
    }
}
