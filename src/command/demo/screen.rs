//! What the demo shows: events as they happen, and a table that is drawn over itself on a terminal.

use super::asterisk::{Mood, StandIn};
use super::kamailio::Tally;
use crate::command::node::NodeInfo;
use crate::command::output::{Cell, Look, Side, Table, colours, print};
use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;

const BAR: usize = 20;

/// Where it is shown.
pub struct Screen {
    terminal: bool,
    colours: bool,
    silent: bool,
    events: Vec<String>,
    /// Lines of the table that is there now.
    drawn: usize,
}

impl Screen {
    /// Standard output; `silent`: nothing but what [`Screen::say`] says.
    pub fn new(silent: bool) -> Screen {
        let terminal = io::stdout().is_terminal() && !silent;
        Screen { terminal, colours: colours(), silent, events: Vec::new(), drawn: 0 }
    }

    /// Whether the table is drawn over itself.
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Whether it takes colours.
    pub fn colours(&self) -> bool {
        self.colours
    }

    /// Text that stays.
    pub fn say(&mut self, text: &str) -> io::Result<()> {
        self.drawn = 0;
        print(text)
    }

    /// Something happened.
    pub fn event(&mut self, at_s: f64, text: &str) -> io::Result<()> {
        let line = format!("{} {text}\n", Look::Dim.paint(&format!("[{at_s:5.1} s]"), self.colours));
        match (self.silent, self.terminal) {
            (true, _) => Ok(()),
            (false, true) => {
                self.events.push(line);
                Ok(())
            }
            (false, false) => print(&line),
        }
    }

    /// Shows the table as it is now.
    pub fn draw(&mut self, nodes: &[NodeInfo], stand_ins: &[Arc<StandIn>], tally: &Tally) -> io::Result<()> {
        if self.silent {
            return Ok(());
        }
        let table = self.table(nodes, stand_ins, tally);
        self.show(&table)
    }

    /// Shows a table in the place of the one before.
    pub fn show(&mut self, table: &str) -> io::Result<()> {
        if self.silent {
            return Ok(());
        }
        if !self.terminal {
            return print(&format!("\n{table}\n"));
        }
        let mut text = String::new();
        if self.drawn > 0 {
            // Up to where the table began, and clear from there (ECMA-48 CUU, ED).
            text.push_str(&format!("\x1b[{}A\x1b[J", self.drawn));
        }
        text.extend(self.events.drain(..));
        // No line of the table may wrap (DECAWM): then it would not be as many lines as were counted.
        text.push_str(&format!("\x1b[?7l\n{table}\x1b[?7h"));
        self.drawn = table.lines().count() + 1;
        print(&text)
    }

    fn table(&self, nodes: &[NodeInfo], stand_ins: &[Arc<StandIn>], tally: &Tally) -> String {
        let mut table = Table::new(&[
            ("NODE", Side::Left),
            ("ZONE", Side::Left),
            ("STATE", Side::Left),
            ("LOAD", Side::Right),
            ("CAPACITY", Side::Right),
            ("OCCUPANCY", Side::Left),
            ("", Side::Right),
            ("ANSWERED", Side::Right),
            ("REFUSED", Side::Right),
            ("", Side::Left),
        ]);
        for stand_in in stand_ins {
            let Some(node) = nodes.iter().find(|n| n.id == stand_in.name) else { continue };
            let share = f64::from(node.load) / f64::from(node.capacity.max(1));
            let (note, look) = match stand_in.mood() {
                Mood::Well => ("", Look::Plain),
                Mood::Silent => ("silent", Look::Red),
                Mood::Refusing => ("503", Look::Red),
            };
            table.row(vec![
                Cell::new(&node.id, Look::Bold),
                node.zone().into(),
                Cell::new(node.told().word(), node.told().look()),
                node.load.into(),
                node.capacity.into(),
                self.bar(share).into(),
                format!("{:.0} %", share * 100.0).into(),
                stand_in.answered.load(Ordering::Relaxed).into(),
                stand_in.refused.load(Ordering::Relaxed).into(),
                Cell::new(note, look),
            ]);
        }
        let load =
            |n: &Tally| [&n.calls, &n.answered, &n.moved, &n.lost].map(|count| count.load(Ordering::Relaxed));
        let [calls, answered, moved, lost] = load(tally);
        let spread =
            spread(nodes, stand_ins).map_or_else(|| "-".to_owned(), |s| format!("{:+.1} %", s * 100.0));
        let lost = Look::Red.paint(&format!("{lost} lost"), self.colours && lost > 0);
        format!(
            "{}{calls} calls, {answered} answered, {moved} moved on, {lost}; spread {spread}; lookups {:.2} ms, p99 {:.2} ms\n",
            table.render(self.colours),
            tally.lookup_ms(50),
            tally.lookup_ms(99)
        )
    }

    fn bar(&self, share: f64) -> String {
        // 0 … 20: exact.
        let full = ((share * BAR as f64).round() as usize).min(BAR);
        let (on, off) = if self.terminal { ("█", "░") } else { ("#", ".") };
        on.repeat(full) + &off.repeat(BAR - full)
    }
}

/// How far the fullest node is above what the emptiest would have after one more call; about 0 or below: nobody could be
/// better placed.
fn spread(nodes: &[NodeInfo], stand_ins: &[Arc<StandIn>]) -> Option<f64> {
    let well = |n: &&NodeInfo| {
        n.told().word() == "active" && stand_ins.iter().any(|s| s.name == n.id && s.mood() == Mood::Well)
    };
    let share = |load: u32, n: &NodeInfo| f64::from(load) / f64::from(n.capacity.max(1));
    let most = nodes.iter().filter(well).map(|n| share(n.load, n)).max_by(f64::total_cmp)?;
    let least = nodes.iter().filter(well).map(|n| share(n.load + 1, n)).min_by(f64::total_cmp)?;
    Some(most - least)
}
