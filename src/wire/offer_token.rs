//! Offer tokens: the right of one leg of one offer to ring its agent, so that any instance can tell whose offer it is.
//!
//! `o1.CELL.POOL.NODE.OFFER.LEG.MAC`: cell, pool and node by name, the offer and its leg packed, and a MAC as that of a
//! [lease's token](super::token). The first word is part of what is signed: neither is ever taken for the other. Only letters,
//! digits, `-`, `_` and `.`: fit for headers, URIs and attributes.

use super::token::{Secret, TokenError};
use crate::domain::id::{CellId, ChannelId, NodeId, OfferId, PoolId};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The longest offer token, in bytes: with the longest names it has 500.
pub const OFFER_TOKEN_MAX: usize = 512;

const VERSION: &str = "o1";

/// What the id of an offer or a channel is made of.
const LETTERS: &[u8; 90] =
    b"!#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]^_`abcdefghijklmnopqrstuvwxyz|~";

/// Two letters are one number below 90 · 90 = 8100, which 13 bits hold; a last letter without a neighbour is 8100 and more.
const PAIR_BITS: u32 = 13;
const PAIRS: u32 = 8100;

/// What an offer token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferToken {
    /// The cell whose offer it is.
    pub cell: CellId,
    /// The pool of the caller's node, on which the leg is counted.
    pub pool: PoolId,
    /// The caller's node.
    pub node: NodeId,
    /// The offer.
    pub offer: OfferId,
    /// The channel that it was made for.
    pub leg: ChannelId,
}

impl OfferToken {
    /// Writes the token and signs it.
    pub fn sign(&self, secret: &Secret) -> String {
        let OfferToken { cell, pool, node, offer, leg } = self;
        let (offer, leg) = (pack(offer.as_str()), pack(leg.as_str()));
        secret.signed(format!("{VERSION}.{cell}.{pool}.{node}.{offer}.{leg}"))
    }

    /// Reads a token and checks its MAC, in constant time.
    pub fn verify(text: &str, secret: &Secret) -> Result<OfferToken, TokenError> {
        if text.len() > OFFER_TOKEN_MAX {
            return Err(TokenError::Shape);
        }
        secret.verified(text, OfferToken::read)
    }

    fn read(signed: &str) -> Option<OfferToken> {
        let mut parts = signed.split('.');
        let mut next = || parts.next();
        if next()? != VERSION {
            return None;
        }
        let token = OfferToken {
            cell: next()?.parse().ok()?,
            pool: next()?.parse().ok()?,
            node: next()?.parse().ok()?,
            offer: unpack(next()?)?.parse().ok()?,
            leg: unpack(next()?)?.parse().ok()?,
        };
        next().is_none().then_some(token)
    }
}

/// In base64url (RFC 4648 §5), 13 bits for two letters: plain base64 of the longest ids would not fit into a token.
fn pack(id: &str) -> String {
    // An id was checked when it was parsed: it has these letters only.
    let value = |letter: &u8| (0..).zip(LETTERS).find(|(_, l)| *l == letter).map_or(0u32, |(at, _)| at);
    let (mut bytes, mut held, mut bits) = (Vec::new(), 0u32, 0);
    for pair in id.as_bytes().chunks(2) {
        let code = match pair {
            [one, two] => value(one) * 90 + value(two),
            lone => PAIRS + lone.first().map_or(0, value),
        };
        held = (held << PAIR_BITS) | code;
        bits += PAIR_BITS;
        while bits >= 8 {
            bits -= 8;
            bytes.push(low_byte(held >> bits));
            held &= (1 << bits) - 1;
        }
    }
    if bits > 0 {
        bytes.push(low_byte(held << (8 - bits)));
    }
    URL_SAFE_NO_PAD.encode(bytes)
}

fn unpack(text: &str) -> Option<String> {
    let letter = |value: u32| LETTERS.get(usize::try_from(value).ok()?).map(|b| char::from(*b));
    let (mut id, mut held, mut bits) = (String::new(), 0u32, 0);
    let mut ended = false;
    for byte in URL_SAFE_NO_PAD.decode(text).ok()? {
        held = (held << 8) | u32::from(byte);
        bits += 8;
        if bits < PAIR_BITS {
            continue;
        }
        bits -= PAIR_BITS;
        let code = held >> bits;
        held &= (1 << bits) - 1;
        if ended {
            return None;
        }
        match code.checked_sub(PAIRS) {
            None => id.extend([letter(code / 90)?, letter(code % 90)?]),
            Some(lone) => {
                id.push(letter(lone)?);
                ended = true;
            }
        }
    }
    (held == 0).then_some(id)
}

fn low_byte(bits: u32) -> u8 {
    let [low, ..] = bits.to_le_bytes();
    low
}

#[cfg(test)]
mod tests {
    use super::super::token::{Token, lease_id};
    use super::*;
    use crate::domain::pool::Kind;
    use crate::domain::time::EpochMs;
    use proptest::prelude::*;

    fn secret(fill: u8) -> Secret {
        Secret::new(&[fill; 32]).unwrap()
    }

    fn token(offer: &str, leg: &str) -> OfferToken {
        OfferToken {
            cell: "main".parse().unwrap(),
            pool: "default".parse().unwrap(),
            node: "ast-1".parse().unwrap(),
            offer: offer.parse().unwrap(),
            leg: leg.parse().unwrap(),
        }
    }

    #[test]
    fn what_is_signed_is_verified() {
        let token = token("18bcfe568a0-1", "mqs-18bcfe568a0-1;~|^");
        let text = token.sign(&secret(b'a'));
        assert_eq!(OfferToken::verify(&text, &secret(b'a')), Ok(token));
        assert_eq!(OfferToken::verify(&text, &secret(b'b')), Err(TokenError::Mac));
        assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)), "{text}");
    }

    #[test]
    fn no_byte_can_be_altered_and_none_be_missing() {
        let text = token("18bcfe568a0-1", "leg-1").sign(&secret(b'a'));
        for at in 0..text.len() {
            assert!(OfferToken::verify(&text[..at], &secret(b'a')).is_err(), "{at}");
            for with in *b"0Az_." {
                let mut bytes = text.clone().into_bytes();
                if bytes[at] != with {
                    bytes[at] = with;
                    let altered = String::from_utf8(bytes).unwrap();
                    assert!(OfferToken::verify(&altered, &secret(b'a')).is_err(), "{altered}");
                }
            }
        }
    }

    #[test]
    fn neither_kind_of_token_is_taken_for_the_other() {
        let offer = token("o1", "l1").sign(&secret(b'a'));
        assert_eq!(Token::verify(&offer, &secret(b'a')), Err(TokenError::Shape));
        let pool: PoolId = "default".parse().unwrap();
        let lease = lease_id(&pool, "c@h", "t", 1, Kind::Agent);
        let node = "ast1".parse().unwrap();
        let lease = Token { pool, node, lease, attempt: 0, issued: EpochMs(0) }.sign(&secret(b'a'));
        assert_eq!(OfferToken::verify(&lease, &secret(b'a')), Err(TokenError::Shape));
    }

    #[test]
    fn the_longest_names_fit() {
        let longest = OfferToken {
            cell: "c".repeat(64).parse().unwrap(),
            pool: "p".repeat(64).parse().unwrap(),
            node: "n".repeat(64).parse().unwrap(),
            offer: "~".repeat(128).parse().unwrap(),
            leg: "|".repeat(127).parse().unwrap(),
        };
        let text = longest.sign(&secret(b'a'));
        assert_eq!(text.len(), 500);
        assert_eq!(OfferToken::verify(&text, &secret(b'a')), Ok(longest));
    }

    proptest! {
        #[test]
        fn any_ids_come_back(offer in "[!#-\\[\\]-z|~]{1,128}", leg in "[!#-\\[\\]-z|~]{1,128}") {
            let token = token(&offer, &leg);
            let text = token.sign(&secret(b'a'));
            prop_assert!(text.len() <= OFFER_TOKEN_MAX);
            prop_assert_eq!(OfferToken::verify(&text, &secret(b'a')), Ok(token));
        }

        #[test]
        fn any_text_is_refused(text in "\\PC{0,300}|o1(\\.[a-z0-9]{1,8}){6}") {
            prop_assert!(OfferToken::verify(&text, &secret(b'a')).is_err());
        }
    }
}
