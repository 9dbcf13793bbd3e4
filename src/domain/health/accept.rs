//! Which answers to a probe show that a node is alive.

use std::fmt;
use std::ops::RangeInclusive;

/// The most entries of a list.
pub const ACCEPT_MAX: usize = 16;

/// Final codes of SIP (RFC 3261 §21) that count as alive.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Accept([(u16, u16); ACCEPT_MAX]);

/// A code is not final, or nothing at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write a code (404), a class (\"2xx\") or a range (\"200-499\") of final answers, 200 to 699")]
pub struct NotCodes;

impl Accept {
    /// Whoever answers is there, unless he says that he takes no calls: 503 (RFC 3261 §21.5.4).
    pub const USUAL: Accept = {
        let mut ranges = [(0, 0); ACCEPT_MAX];
        let [first, second, ..] = &mut ranges;
        (*first, *second) = ((200, 502), (504, 699));
        Accept(ranges)
    };

    /// These ranges; those beyond [`ACCEPT_MAX`] are left out.
    pub fn of(ranges: impl IntoIterator<Item = RangeInclusive<u16>>) -> Accept {
        let mut accept = Accept([(0, 0); ACCEPT_MAX]);
        for (place, range) in accept.0.iter_mut().zip(ranges) {
            *place = (*range.start(), *range.end());
        }
        accept
    }

    /// Whether a final code counts as alive.
    pub fn takes(&self, code: u16) -> bool {
        self.0.iter().any(|(from, to)| (*from..=*to).contains(&code))
    }
}

impl Default for Accept {
    fn default() -> Accept {
        Accept::USUAL
    }
}

impl fmt::Debug for Accept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().filter(|range| **range != (0, 0))).finish()
    }
}

/// Reads an entry: `404`, `2xx`, `200-499`.
pub fn codes(text: &str) -> Result<RangeInclusive<u16>, NotCodes> {
    let number = |text: &str| match text.len() == 3 && text.bytes().all(|b| b.is_ascii_digit()) {
        true => text.parse::<u16>().map_err(|_| NotCodes),
        false => Err(NotCodes),
    };
    let range = match (text.strip_suffix("xx"), text.split_once('-')) {
        (Some(class), _) => {
            let first = number(&format!("{class}00"))?;
            first..=first + 99
        }
        (None, Some((from, to))) => number(from)?..=number(to)?,
        (None, None) => number(text)?..=number(text)?,
    };
    let fits = !range.is_empty() && (200..=699).contains(range.start()) && (200..=699).contains(range.end());
    if fits { Ok(range) } else { Err(NotCodes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_codes_classes_and_ranges() {
        for (text, range) in
            [("404", 404..=404), ("2xx", 200..=299), ("6xx", 600..=699), ("200-499", 200..=499)]
        {
            assert_eq!(codes(text), Ok(range), "{text}");
        }
        for wrong in [
            "",
            "1xx",
            "7xx",
            "xx",
            "22xx",
            "2XX",
            "2xy",
            "199",
            "700",
            "0404",
            "+404",
            "4 4",
            "100-299",
            "200-700",
            "300-200",
            "200-",
            "-299",
            "200-299-300",
            "2xx-3xx",
            "é00",
        ] {
            assert_eq!(codes(wrong), Err(NotCodes), "{wrong}");
        }
    }

    #[test]
    fn what_was_named_counts_and_nothing_else() {
        let accept = Accept::of(["2xx", "404"].into_iter().map(|text| codes(text).unwrap()));
        let taken: Vec<u16> = (0..=999).filter(|code| accept.takes(*code) && *code != 0).collect();
        assert_eq!(taken, (200..300).chain([404]).collect::<Vec<u16>>());
        assert!(!accept.takes(503) && !Accept::USUAL.takes(503) && !Accept::USUAL.takes(180));
        assert!([200, 404, 500, 502, 504, 603].into_iter().all(|code| Accept::USUAL.takes(code)));
        assert_eq!(format!("{accept:?}"), "[(200, 299), (404, 404)]");
    }
}
