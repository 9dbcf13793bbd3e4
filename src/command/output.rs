//! What people see: standard output, standard error, tables, colours.

use std::io::{self, IsTerminal as _, Write as _};

/// Says on standard error what could not be done, and why.
pub fn error(error: &anyhow::Error) {
    let _ = writeln!(io::stderr(), "mqs: {}", told(error));
}

/// The error with its causes. Some errors repeat their cause in their own text; it is said once.
pub fn told(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let said = cause.to_string();
        if text.is_empty() {
            text = said;
        } else if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
    }
    text
}

/// Writes to standard output. That nobody reads on (`mqs node list | head -1`) is no error.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}

/// A text without control characters: what came from elsewhere must not steer the terminal.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// A number of things: `1 error`, `2 errors`.
pub fn count(number: usize, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

/// A share in percent, such as `12.5 %`.
pub fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// Whether standard output takes colours: a terminal, and `NO_COLOR` is not set (<https://no-color.org>).
pub fn colours() -> bool {
    let wanted = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    wanted && io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|t| t != "dumb")
}

/// How a cell looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// As it is.
    Plain,
    /// Of less weight.
    Dim,
    /// Good.
    Green,
    /// Worth a look.
    Yellow,
    /// Bad.
    Red,
    /// What it is about.
    Bold,
}

impl Look {
    /// The text, with the terminal's codes (ECMA-48 SGR) where they are wanted.
    pub fn paint(self, text: &str, colours: bool) -> String {
        let code = match self {
            Look::Dim => "2",
            Look::Green => "32",
            Look::Yellow => "33",
            Look::Red => "31",
            Look::Bold => "1",
            Look::Plain => return text.to_owned(),
        };
        if colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// One cell of a table.
#[derive(Clone, Debug)]
pub struct Cell {
    text: String,
    look: Look,
}

impl Cell {
    /// A cell with a look.
    pub fn new(text: impl AsRef<str>, look: Look) -> Cell {
        Cell { text: plain(text.as_ref()), look }
    }
}

impl<T: ToString> From<T> for Cell {
    fn from(text: T) -> Cell {
        Cell::new(text.to_string(), Look::Plain)
    }
}

/// Which side a column leans to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Texts.
    Left,
    /// Numbers.
    Right,
}

/// A table with aligned columns.
pub struct Table {
    columns: Vec<(&'static str, Side)>,
    rows: Vec<Vec<Cell>>,
    column_max: usize,
}

/// The widest that a column gets before its texts are cut, in characters; the last one is never cut.
const COLUMN_MAX: usize = 32;

impl Table {
    /// A table with these columns.
    pub fn new(columns: &[(&'static str, Side)]) -> Table {
        Table { columns: columns.to_vec(), rows: Vec::new(), column_max: COLUMN_MAX }
    }

    /// Cuts no text, however long.
    pub fn uncut(mut self) -> Table {
        self.column_max = usize::MAX;
        self
    }

    /// Adds a row; a cell a column.
    pub fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// The table as lines.
    pub fn render(&self, colours: bool) -> String {
        let last = self.columns.len().saturating_sub(1);
        let width = |at: usize, title: &str| {
            let cells = self.rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.text.chars().count());
            let most = cells.chain([title.chars().count()]).max().unwrap_or(0);
            if at == last { most } else { most.min(self.column_max) }
        };
        let widths: Vec<usize> =
            self.columns.iter().enumerate().map(|(at, (title, _))| width(at, title)).collect();
        let titles: Vec<Cell> = self.columns.iter().map(|(title, _)| Cell::new(title, Look::Dim)).collect();
        let mut text = String::new();
        for row in [&titles].into_iter().chain(&self.rows) {
            let mut line = String::new();
            for (at, ((cell, width), (_, side))) in row.iter().zip(&widths).zip(&self.columns).enumerate() {
                let short = cut(&cell.text, *width);
                let gap = " ".repeat(width.saturating_sub(short.chars().count()));
                let painted = cell.look.paint(&short, colours);
                match side {
                    Side::Right => line.push_str(&format!("{gap}{painted}")),
                    Side::Left if at == last => line.push_str(&painted),
                    Side::Left => line.push_str(&format!("{painted}{gap}")),
                }
                if at < last {
                    line.push_str("  ");
                }
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lean_right_and_nothing_trails() {
        let mut table = Table::new(&[("NODE", Side::Left), ("LOAD", Side::Right), ("ADDRESS", Side::Left)]);
        table.row(vec![Cell::new("a", Look::Red), 7.into(), "sip:a".into()]);
        table.row(vec!["long\x1b[2J".into(), 1234.into(), "".into()]);
        assert_eq!(
            table.render(false),
            "NODE      LOAD  ADDRESS\na            7  sip:a\nlong\u{fffd}[2J  1234\n"
        );
        assert!(table.render(true).contains("\x1b[31ma\x1b[0m            7"));
    }

    #[test]
    fn a_cause_is_said_once() {
        let cause = std::io::Error::other("no such thing");
        let error = anyhow::Error::new(cause).context("f: no such thing").context("cannot do");
        assert_eq!(told(&error), "cannot do: f: no such thing");
    }
}
