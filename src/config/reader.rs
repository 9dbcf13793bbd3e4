//! Takes a TOML document apart, key by key, and remembers what is wrong, where, and what would have been right.
//!
//! A table's keys are known because they were asked for: [`Reader::done`] refuses the others, so the list of allowed
//! keys in its message cannot differ from the keys that are read.

use super::error::Problem;
use std::cell::RefCell;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// How much of a wrong text a message repeats, in characters.
const SHOWN_MAX: usize = 60;

/// How many problems are looked for: a bound on the work that a hopeless file makes.
const PROBLEMS_MAX: usize = 100;

/// The text that is read, and what was found wrong in it.
pub(super) struct Source<'a> {
    text: &'a str,
    file: &'a str,
    problems: RefCell<Vec<(usize, String, String)>>,
}

/// A value's place: where in the text, and the way to it.
#[derive(Clone, Debug)]
pub(super) struct Spot {
    at: usize,
    key: String,
}

impl Spot {
    /// The same place, said of another key.
    pub(super) fn said_of(&self, key: &str) -> Spot {
        Spot { at: self.at, key: key.to_owned() }
    }
}

impl<'a> Source<'a> {
    pub(super) fn new(text: &'a str, file: &'a str) -> Source<'a> {
        Source { text, file, problems: RefCell::new(Vec::new()) }
    }

    /// Remembers that the value at `spot` is wrong.
    pub(super) fn wrong(&self, spot: &Spot, message: impl Display) {
        let mut problems = self.problems.borrow_mut();
        if problems.len() < PROBLEMS_MAX {
            problems.push((spot.at, spot.key.clone(), message.to_string()));
        }
    }

    /// Remembers that the text is not TOML. Of the library's error only the message and the place are used: its `Display`
    /// repeats the whole line, and with it whatever secret stands there.
    pub(super) fn not_toml(&self, error: &toml::de::Error) {
        let at = error.span().map_or(0, |span| span.start);
        self.wrong(&Spot { at, key: String::new() }, format!("not TOML: {}", error.message()));
    }

    /// Everything that is wrong, in the order of the file; lines and columns count from 1, columns in characters.
    pub(super) fn problems(self) -> Vec<Problem> {
        let mut found = self.problems.into_inner();
        found.sort_by_key(|(at, _, _)| *at);
        let (mut reached, mut line, mut column) = (0, 1, 1);
        let mut problems = Vec::new();
        for (at, key, message) in found {
            for c in self.text.get(reached..at).unwrap_or_default().chars() {
                (line, column) = if c == '\n' { (line + 1, 1) } else { (line, column + 1) };
            }
            reached = at;
            problems.push(Problem { file: self.file.to_owned(), line, column, key, message });
        }
        problems
    }
}

/// One table, while it is read.
pub(super) struct Reader<'s, 'a> {
    source: &'s Source<'a>,
    /// `None`: the table is not written, every key has its default.
    table: Option<&'s DeTable<'a>>,
    spot: Spot,
    known: Vec<&'static str>,
}

/// One of a list in which texts and tables may stand.
pub(super) enum Entry<'s, 'a> {
    /// A text.
    Text(&'s str, Spot),
    /// A table.
    Table(Reader<'s, 'a>),
}

impl<'s, 'a> Reader<'s, 'a> {
    /// The document itself.
    pub(super) fn root(source: &'s Source<'a>, table: &'s DeTable<'a>) -> Reader<'s, 'a> {
        Reader { source, table: Some(table), spot: Spot { at: 0, key: String::new() }, known: Vec::new() }
    }

    /// The place of the table.
    pub(super) fn spot(&self) -> &Spot {
        &self.spot
    }

    /// The place of a key: of its value, or of the table when it is not written.
    pub(super) fn spot_of(&self, key: &str) -> Spot {
        let at = self.find(key).map_or(self.spot.at, |value| value.span().start);
        Spot { at, key: self.way_to(key) }
    }

    /// Whether the table itself is written.
    pub(super) fn is_written(&self) -> bool {
        self.table.is_some()
    }

    /// Whether the key is written.
    pub(super) fn has(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    /// A whole number within limits; `unit` says of what.
    pub(super) fn number<T: TryFrom<i64>>(
        &mut self,
        key: &'static str,
        limits: RangeInclusive<i64>,
        unit: &str,
    ) -> Option<T> {
        let allowed = format!("write a whole number from {} to {}{unit}", limits.start(), limits.end());
        self.value(key, |value| {
            let Some(digits) = value.as_integer() else {
                return Err(format!("found {}; {allowed}", shown(value)));
            };
            let number = i64::from_str_radix(digits.as_str(), digits.radix()).ok();
            let fits = number.filter(|n| limits.contains(n)).and_then(|n| T::try_from(n).ok());
            fits.ok_or_else(|| format!("found {}, out of limits; {allowed}", shown(value)))
        })
    }

    /// A share or another number that may have three decimals, in thousandths; `limits` too are in thousandths.
    pub(super) fn thousandths(&mut self, key: &'static str, limits: RangeInclusive<u32>) -> Option<u32> {
        let share = |pm: &u32| format!("{:?}", f64::from(*pm) / 1000.0);
        let allowed = format!("write a number from {} to {}", share(limits.start()), share(limits.end()));
        self.value(key, |value| {
            let whole = value.as_integer().filter(|n| n.radix() == 10).map(|n| n.as_str());
            let digits = value.as_float().map(|n| n.as_str()).or(whole);
            let Some(digits) = digits else {
                return Err(format!("found {}; {allowed}", shown(value)));
            };
            let number: Option<f64> = digits.parse().ok();
            // By way of its text: no cast, and NaN is no number there.
            let nearest: Option<u32> = number.and_then(|n| format!("{:.0}", n * 1000.0).parse().ok());
            let near = |pm: &u32| number.is_some_and(|n| (n * 1000.0 - f64::from(*pm)).abs() < 1e-6);
            let within = number.is_some_and(|n| {
                n * 1000.0 >= f64::from(*limits.start()) && n * 1000.0 <= f64::from(*limits.end())
            });
            match nearest.filter(|pm| limits.contains(pm)).filter(near) {
                Some(pm) => Ok(pm),
                None if within => Err(format!(
                    "found {}, finer than a thousandth; {allowed} in steps of 0.001",
                    shown(value)
                )),
                None => Err(format!("found {}, out of limits; {allowed}", shown(value))),
            }
        })
    }

    /// A text, as `parse` takes it. `parse` says what is allowed; what was there is put before it.
    pub(super) fn text<T, E: Display>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        self.value(key, |value| parse_text(value, parse))
    }

    /// A text that may hold a secret: a message never repeats it.
    pub(super) fn secret<T, E: Display>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        self.value(key, |value| match value.as_str() {
            Some(text) => parse(text).map_err(|e| e.to_string()),
            None => Err(format!("found {}; write a text in quotes", kind(value))),
        })
    }

    /// True or false.
    pub(super) fn flag(&mut self, key: &'static str) -> Option<bool> {
        self.value(key, |value| {
            value.as_bool().ok_or_else(|| format!("found {}; write true or false", shown(value)))
        })
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        let allowed: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
        self.text(key, |text| {
            let found = words.iter().find(|(word, _)| *word == text);
            found.map(|(_, value)| *value).ok_or_else(|| format!("write {}", allowed.join(" or ")))
        })
    }

    /// The path of a file. It must be absolute: the directory that a daemon starts in is nobody's business. Paths of
    /// secrets go by here, and people do write the secret itself by mistake: it is not repeated.
    pub(super) fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        self.secret(key, |text| {
            let path = Path::new(text);
            let fits =
                path.is_absolute() && !text.contains('\0') && !text.ends_with('/') && text.len() <= 4096;
            if fits { Ok(path.to_path_buf()) } else { Err("write the path of a file, beginning with '/'") }
        })
    }

    /// A list of texts, each as `parse` takes it, with their places. `None`: not written.
    pub(super) fn list<T, E: Display>(
        &mut self,
        key: &'static str,
        most: usize,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<Vec<(T, Spot)>> {
        self.items(key, most, |value| parse_text(value, &parse))
    }

    /// The same; a whole number may stand without quotes.
    pub(super) fn words<T, E: Display>(
        &mut self,
        key: &'static str,
        most: usize,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<Vec<(T, Spot)>> {
        self.items(key, most, |value| match value.as_integer().filter(|number| number.radix() == 10) {
            Some(number) => parse(number.as_str()).map_err(|e| format!("found {}: {e}", shown(value))),
            None => parse_text(value, &parse),
        })
    }

    fn items<T>(
        &mut self,
        key: &'static str,
        most: usize,
        read: impl Fn(&DeValue<'a>) -> Result<T, String>,
    ) -> Option<Vec<(T, Spot)>> {
        let way = self.way_to(key);
        let source = self.source;
        self.value(key, |value| {
            let Some(items) = value.as_array() else {
                return Err(format!("found {}; write a list of texts: [\"…\", \"…\"]", shown(value)));
            };
            if items.len() > most {
                return Err(format!("found {} entries; at most {most} are allowed", items.len()));
            }
            let mut list = Vec::new();
            for (at, item) in items.iter().enumerate() {
                let spot = Spot { at: item.span().start, key: format!("{way}[{at}]") };
                match read(item.get_ref()) {
                    Ok(value) => list.push((value, spot)),
                    Err(message) => source.wrong(&spot, message),
                }
            }
            Ok(list)
        })
    }

    /// A table whose keys the user chooses: each with its text and places of key and text, in the order of the file.
    pub(super) fn texts_by_name(
        &mut self,
        key: &'static str,
        most: usize,
    ) -> Vec<(String, Spot, String, Spot)> {
        let way = self.way_to(key);
        let source = self.source;
        let found = self.value(key, |value| {
            let Some(table) = value.as_table() else {
                return Err(format!("found {}; write {{ \"X-Name\" = \"value\" }}", shown(value)));
            };
            if table.len() > most {
                return Err(format!("found {} entries; at most {most} are allowed", table.len()));
            }
            let mut texts = Vec::new();
            for (name, value) in table {
                let spot = |at: usize| Spot { at, key: format!("{way}.{}", name_shown(name.get_ref())) };
                let (name_spot, spot) = (spot(name.span().start), spot(value.span().start));
                match parse_text(value.get_ref(), |text| Ok::<_, String>(text.to_owned())) {
                    Ok(text) => texts.push((name.get_ref().to_string(), name_spot, text, spot)),
                    Err(message) => source.wrong(&spot, message),
                }
            }
            texts.sort_by_key(|(_, name_spot, _, _)| name_spot.at);
            Ok(texts)
        });
        found.unwrap_or_default()
    }

    /// A table of its own; one that is not written has no keys.
    pub(super) fn table(&mut self, key: &'static str) -> Reader<'s, 'a> {
        let spot = self.spot_of(key);
        let wanted = || format!("write a table: [{}], with single brackets", spot.key);
        let table = self.value(key, |value| {
            value.as_table().ok_or_else(|| format!("found {}; {}", kind(value), wanted()))
        });
        Reader { source: self.source, table, spot, known: Vec::new() }
    }

    /// A list of tables, `[[key]]`.
    pub(super) fn tables(&mut self, key: &'static str, most: usize) -> Vec<Reader<'s, 'a>> {
        self.readers(key, most, &format!("[[{key}]] with double brackets"))
    }

    /// A list of tables that stand in one line; `form` shows one.
    pub(super) fn rows(&mut self, key: &'static str, most: usize, form: &str) -> Vec<Reader<'s, 'a>> {
        self.readers(key, most, &format!("a list of tables: {form}"))
    }

    fn readers(&mut self, key: &'static str, most: usize, wanted: &str) -> Vec<Reader<'s, 'a>> {
        let (source, mut readers) = (self.source, Vec::new());
        for (value, spot) in self.values(key, most, wanted) {
            match value.as_table() {
                Some(table) => {
                    readers.push(Reader { source, table: Some(table), spot, known: Vec::new() });
                }
                None => source.wrong(&spot, format!("found {}; write a table", kind(value))),
            }
        }
        readers
    }

    /// A list in which texts and tables may stand; `form` shows both.
    pub(super) fn entries(&mut self, key: &'static str, most: usize, form: &str) -> Vec<Entry<'s, 'a>> {
        let (source, mut entries) = (self.source, Vec::new());
        for (value, spot) in self.values(key, most, &format!("a list of {form}")) {
            match (value.as_str(), value.as_table()) {
                (Some(text), _) => entries.push(Entry::Text(text, spot)),
                (None, Some(table)) => {
                    let table = Reader { source, table: Some(table), spot, known: Vec::new() };
                    entries.push(Entry::Table(table));
                }
                (None, None) => source.wrong(&spot, format!("found {}; write {form}", shown(value))),
            }
        }
        entries
    }

    /// What stands in a list, with its places.
    fn values(&mut self, key: &'static str, most: usize, wanted: &str) -> Vec<(&'s DeValue<'a>, Spot)> {
        let way = self.way_to(key);
        let found = self.value(key, |value| {
            let Some(items) = value.as_array() else {
                return Err(format!("found {}; write {wanted}", kind(value)));
            };
            if items.len() > most {
                return Err(format!("found {} of them; at most {most} are allowed", items.len()));
            }
            let spot =
                |at: usize, item: &Spanned<_>| Spot { at: item.span().start, key: format!("{way}[{at}]") };
            Ok(items.iter().enumerate().map(|(at, item)| (item.get_ref(), spot(at, item))).collect())
        });
        found.unwrap_or_default()
    }

    /// Remembers that a key which must be there is not.
    pub(super) fn require(&self, key: &str) {
        if !self.has(key) {
            let spot = Spot { at: self.spot.at, key: self.way_to(key) };
            self.source.wrong(&spot, "missing, and it has no default");
        }
    }

    /// Remembers that the value at `spot` is wrong.
    pub(super) fn wrong(&self, spot: &Spot, message: impl Display) {
        self.source.wrong(spot, message);
    }

    /// Whether anything was wrong so far: then what is missing may be missing for that.
    pub(super) fn any_wrong(&self) -> bool {
        !self.source.problems.borrow().is_empty()
    }

    /// The table is read: refuses the keys that nobody asked for.
    pub(super) fn done(mut self) {
        self.known.sort_unstable();
        for name in self.table.iter().flat_map(|table| table.keys()) {
            if self.source.problems.borrow().len() >= PROBLEMS_MAX {
                break;
            }
            if !self.known.iter().any(|known| *known == name.get_ref().as_ref()) {
                let spot = Spot { at: name.span().start, key: self.way_to(&name_shown(name.get_ref())) };
                self.source.wrong(&spot, format!("unknown key; allowed here: {}", self.known.join(", ")));
            }
        }
    }

    fn find(&self, key: &str) -> Option<&'s Spanned<DeValue<'a>>> {
        let table: &'s DeTable<'a> = self.table?;
        table.get(key)
    }

    fn way_to(&self, key: &str) -> String {
        if self.spot.key.is_empty() { key.to_owned() } else { format!("{}.{key}", self.spot.key) }
    }

    fn value<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&'s DeValue<'a>) -> Result<T, String>,
    ) -> Option<T> {
        self.known.push(key);
        let value = self.find(key)?;
        match read(value.get_ref()) {
            Ok(value) => Some(value),
            Err(message) => {
                self.source.wrong(&Spot { at: value.span().start, key: self.way_to(key) }, message);
                None
            }
        }
    }
}

fn parse_text<T, E: Display>(
    value: &DeValue<'_>,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, String> {
    match value.as_str() {
        Some(text) => parse(text).map_err(|e| format!("found {}: {e}", quoted(text))),
        None => Err(format!("found {}; write a text in quotes", shown(value))),
    }
}

/// A value as a message repeats it.
fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the text {}", quoted(text)),
        DeValue::Integer(number) => cut(&number.to_string()),
        DeValue::Float(number) => cut(&number.to_string()),
        DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
            kind(value).to_owned()
        }
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// A text as a message repeats it: escaped, cut, and without anything that stands where passwords stand in addresses.
pub(super) fn quoted(text: &str) -> String {
    let text = match text.rsplit_once('@') {
        Some((_, place)) => format!("***@{place}"),
        None => text.to_owned(),
    };
    format!("{:?}", cut(&text))
}

fn name_shown(name: &str) -> String {
    let bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if bare { cut(name) } else { quoted(name) }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
