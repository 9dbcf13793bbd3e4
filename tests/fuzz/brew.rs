//! Inputs for the parsers: the fuzzer's bytes as they are, or read as a list of changes to a text that is right.
//!
//! Chance alone seldom gets past the first byte of a format. So most inputs begin as a seed; what the fuzzer finds is which
//! seed, and what to do to it. With libFuzzer as with plain chance the bytes are all there is, so every failure replays.

/// The most changes to one seed.
const CHANGES_MAX: usize = 12;

/// The longest text that changes make of a seed, in bytes.
const LENGTH_MAX: usize = 160 * 1024;

/// What the inputs of one parser are made of.
pub struct Corpus {
    /// Texts that are right, or nearly.
    pub seeds: Vec<Vec<u8>>,
    /// What matters to the parser: separators, keys, numbers at their limits.
    pub words: Vec<Vec<u8>>,
}

impl Corpus {
    pub fn new<S: AsRef<[u8]>, W: AsRef<[u8]>>(seeds: &[S], words: &[W]) -> Corpus {
        Corpus {
            seeds: seeds.iter().map(|s| s.as_ref().to_vec()).collect(),
            words: words.iter().map(|w| w.as_ref().to_vec()).collect(),
        }
    }

    /// Makes an input of what the fuzzer drew. One in eight is what was drawn.
    pub fn brew(&self, drawn: &[u8]) -> Vec<u8> {
        let mut drawn = Drawn(drawn);
        let sort = drawn.byte();
        if sort < 32 {
            return drawn.0.to_vec();
        }
        let mut text = self.seeds[usize::from(sort) % self.seeds.len()].clone();
        for _ in 0..usize::from(drawn.byte()) % (CHANGES_MAX + 1) {
            self.change(&mut text, &mut drawn);
            text.truncate(LENGTH_MAX);
        }
        text
    }

    /// The same as text; bytes that are none are replaced.
    pub fn brew_text(&self, drawn: &[u8]) -> String {
        String::from_utf8_lossy(&self.brew(drawn)).into_owned()
    }

    fn change(&self, text: &mut Vec<u8>, drawn: &mut Drawn<'_>) {
        let (sort, at) = (drawn.byte(), drawn.below(text.len() + 1));
        let end = (at + 1 + usize::from(drawn.byte()) % 32).min(text.len());
        let part = at.min(end)..end;
        let word = &self.words[usize::from(drawn.byte()) % self.words.len()];
        match sort % 10 {
            0 => drop(text.splice(part, [])),
            1 | 2 => drop(text.splice(at..at, word.iter().copied())),
            3 => drop(text.splice(part, word.iter().copied())),
            4 => drop(text.splice(at..at, [drawn.byte()])),
            5 => drop(text.splice(at..end.min(at + 1), [drawn.byte()])),
            6 => {
                let again = text[part].to_vec();
                text.splice(at..at, again);
            }
            7 => {
                // Long runs, up to 64 KiB: the limits are there.
                let run = vec![*word.last().unwrap_or(&b'x'); 1 << (drawn.byte() % 17)];
                text.splice(at..at, run);
            }
            8 => {
                let other = &self.seeds[usize::from(drawn.byte()) % self.seeds.len()];
                text.splice(at..at, other.iter().copied());
            }
            _ => text.truncate(at),
        }
    }
}

/// What the fuzzer drew, from front to back; zeros behind the end.
struct Drawn<'a>(&'a [u8]);

impl Drawn<'_> {
    fn byte(&mut self) -> u8 {
        match self.0 {
            [first, rest @ ..] => {
                self.0 = rest;
                *first
            }
            [] => 0,
        }
    }

    fn below(&mut self, end: usize) -> usize {
        usize::from(u16::from_be_bytes([self.byte(), self.byte()])) % end
    }
}
