//! The attribute grammar of the control protocol: `key=value;key=value`, values percent-encoded (RFC 3986 §2.1).

use super::refusal::BadRequest;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

/// The longest attribute text, in bytes.
pub const ATTRS_MAX: usize = 8192;

const KEY_MAX: usize = 32;

const ESCAPED: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b';').add(b'=').add(b'"').add(b'\\').add(b'+');

/// Splits and decodes an attribute text. Keys come in the order in which they were written; values are decoded; attributes with
/// an empty value are left out.
pub fn parse(text: &str) -> Result<Vec<(&str, String)>, BadRequest> {
    if text.len() > ATTRS_MAX {
        return Err(BadRequest::new(
            "attributes",
            format!("{} bytes; at most {ATTRS_MAX} are allowed", text.len()),
        ));
    }
    let mut found: Vec<(&str, String)> = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for part in text.split(';').filter(|p| !p.is_empty()) {
        let (key, raw) = part
            .split_once('=')
            .ok_or_else(|| BadRequest::new("attributes", format!("{:?} is not key=value", shorten(part))))?;
        let key_fits = !key.is_empty()
            && key.len() <= KEY_MAX
            && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        if !key_fits {
            return Err(BadRequest::new("attributes", format!("{:?} is not a key", shorten(key))));
        }
        if seen.contains(&key) {
            return Err(BadRequest::new(key, "given twice".to_owned()));
        }
        seen.push(key);
        let value = decode(key, raw)?;
        if !value.is_empty() {
            found.push((key, value));
        }
    }
    Ok(found)
}

/// Encodes a value so that [`parse`] reads it back.
pub fn encode(value: &str) -> String {
    utf8_percent_encode(value, ESCAPED).to_string()
}

/// A text cut to a length that fits in an error.
pub fn shorten(text: &str) -> String {
    const KEPT: usize = 60;
    if text.chars().count() <= KEPT {
        text.to_owned()
    } else {
        text.chars().take(KEPT).chain(['…']).collect()
    }
}

fn decode(key: &str, raw: &str) -> Result<String, BadRequest> {
    let mut rest = raw.bytes();
    while let Some(b) = rest.next() {
        if b == b'%'
            && !matches!((rest.next(), rest.next()), (Some(h), Some(l)) if h.is_ascii_hexdigit() && l.is_ascii_hexdigit())
        {
            return Err(BadRequest::new(
                key,
                format!("{:?} has a '%' without two hexadecimal digits", shorten(raw)),
            ));
        }
    }
    let value = percent_decode_str(raw)
        .decode_utf8()
        .map_err(|_| BadRequest::new(key, format!("{:?} is not UTF-8", shorten(raw))))?;
    if let Some(c) = value.chars().find(|c| c.is_control()) {
        return Err(BadRequest::new(key, format!("control character {c:?}")));
    }
    Ok(value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_are_decoded_and_empty_ones_left_out() {
        let got = parse("ft=a%3Bb%3Dc;zone=;;cs=12").unwrap();
        assert_eq!(got, [("ft", "a;b=c".to_owned()), ("cs", "12".to_owned())]);
        assert_eq!(parse("").unwrap(), []);
    }

    #[test]
    fn errors_name_the_culprit() {
        let field = |text: &str| parse(text).unwrap_err().field;
        assert_eq!(field("ft=a;ft=b"), "ft");
        assert_eq!(field("ft=a;cs=;cs=1"), "cs");
        assert_eq!(field("ft=%4"), "ft");
        assert_eq!(field("ft=%zz"), "ft");
        assert_eq!(field("ft=%0d%0aX: y"), "ft");
        assert_eq!(field("ft=%00"), "ft");
        assert_eq!(field("ft=%ff"), "ft");
        assert_eq!(field("nonsense"), "attributes");
        assert_eq!(field("FT=a"), "attributes");
        assert_eq!(field(&format!("ft={}", "x".repeat(ATTRS_MAX))), "attributes");
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_read_back(value in "\\PC{1,40}") {
            let text = format!("k={};l=1", encode(&value));
            prop_assert_eq!(parse(&text).unwrap(), vec![("k", value), ("l", "1".to_owned())]);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC*|[a-c%;=0-9]*") {
            if let Ok(found) = parse(&text) {
                prop_assert!(found.iter().all(|(_, v)| !v.chars().any(char::is_control)));
            }
        }
    }
}
