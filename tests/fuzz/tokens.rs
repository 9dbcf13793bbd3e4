//! Tokens: none is accepted that was not signed, and what is signed says the same when it is read again.

use crate::brew::Corpus;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac as _};
use mqs::domain::id::LeaseId;
use mqs::domain::pool::TARGETS_MAX;
use mqs::domain::time::EpochMs;
use mqs::wire::offer_token::{OFFER_TOKEN_MAX, OfferToken};
use mqs::wire::token::{Secret, TOKEN_MAX, Token};
use sha2::Sha256;

const KEY: [u8; 32] = [b'k'; 32];

/// The MAC that the right secret makes, over any text: only so do odd texts come as far as the reader of the parts.
fn with_mac(text: &str) -> String {
    let mac =
        Hmac::<Sha256>::new_from_slice(&KEY).unwrap().chain_update(text.as_bytes()).finalize().into_bytes();
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(&mac[..16]))
}

fn check(corpus: &Corpus, secret: &Secret, drawn: &[u8]) -> bool {
    let text = corpus.brew_text(drawn);
    if Token::verify(&text, secret).is_ok() {
        assert!(corpus.seeds.iter().any(|seed| seed == text.as_bytes()), "forged: {text:?}");
    }
    // The same with its MAC made right.
    let signed = with_mac(text.rsplit_once('.').map_or("", |(signed, _)| signed));
    let Ok(token) = Token::verify(&signed, secret) else { return false };
    assert!(signed.len() <= TOKEN_MAX && token.attempt < TARGETS_MAX, "{signed}");
    assert!(signed.bytes().all(|b| b.is_ascii_graphic()), "{signed:?}");
    assert_eq!(Token::verify(&token.sign(secret), secret).as_ref(), Ok(&token), "{signed}");
    true
}

/// The same of an offer's token.
fn check_offer(corpus: &Corpus, secret: &Secret, drawn: &[u8]) -> bool {
    let text = corpus.brew_text(drawn);
    if OfferToken::verify(&text, secret).is_ok() {
        assert!(corpus.seeds.iter().any(|seed| seed == text.as_bytes()), "forged: {text:?}");
    }
    let signed = with_mac(text.rsplit_once('.').map_or("", |(signed, _)| signed));
    assert!(
        Token::verify(&signed, secret).is_err() || OfferToken::verify(&signed, secret).is_err(),
        "{signed}"
    );
    let Ok(token) = OfferToken::verify(&signed, secret) else { return false };
    assert!(signed.len() <= OFFER_TOKEN_MAX, "{signed}");
    let again = token.sign(secret);
    assert!(again.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)), "{again:?}");
    assert_eq!(OfferToken::verify(&again, secret).as_ref(), Ok(&token), "{signed}");
    true
}

#[test]
fn offer_tokens() {
    let secret = Secret::new(&KEY).unwrap();
    let token = |cell: &str, offer: &str, leg: &str| {
        OfferToken {
            cell: cell.parse().unwrap(),
            pool: "default".parse().unwrap(),
            node: "ast1".parse().unwrap(),
            offer: offer.parse().unwrap(),
            leg: leg.parse().unwrap(),
        }
        .sign(&secret)
    };
    let seeds = [
        token("main", "18bcfe568a0-1", "mqs-18bcfe568a0-1"),
        token(&"c".repeat(64), &"~".repeat(128), &"!".repeat(127)),
        token("a", "b", "PJSIP/x;1"),
    ];
    let words = [".", "o1.", "m1.", "..", "-", "_", "AA", "__8", "f-A", "main", "é", "\0", "="];
    let corpus = Corpus::new(&seeds, &words);
    crate::fuzz!(|drawn: &[u8]| check_offer(&corpus, &secret, drawn));
}

#[test]
fn tokens() {
    let secret = Secret::new(&KEY).unwrap();
    let token = |pool: &str, node: &str, fill: u8, attempt, ms| {
        let (pool, node, lease) = (pool.parse().unwrap(), node.parse().unwrap(), LeaseId([fill; 16]));
        Token { pool, node, lease, attempt, issued: EpochMs(ms) }.sign(&secret)
    };
    let seeds = [
        token("default", "ast1", 0xab, 0, 1_795_000_000_000),
        token(&"p".repeat(64), &"n".repeat(64), 0, 11, 0),
        token("a", "b", 0xff, 3, u64::MAX / 1000 * 1000),
    ];
    let words = [
        ".",
        "m1.",
        "m2",
        "..",
        "-",
        "_",
        "+1",
        "00",
        "11",
        "12",
        "255",
        "ffffffffffffffff",
        "g",
        "é",
        "\0",
        "=",
        "A",
    ];
    let corpus = Corpus::new(&seeds, &words);
    crate::fuzz!(|drawn: &[u8]| check(&corpus, &secret, drawn));
}
