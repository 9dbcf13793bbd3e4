//! What happened, as a call ladder: recorded as it happens, written out only when something was wrong.

use super::faults::Went;
use super::plan::Ms;
use super::world::World;
use std::fmt::Write;

/// Who is in the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Col {
    Caller,
    K1,
    K2,
    Node,
    Instance,
    Store,
    Phone,
}

/// Whom a line is about. What is `None` is not said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Who {
    pub caller: Option<u32>,
    pub leg: Option<u32>,
    pub agent: Option<u32>,
    pub node: Option<u32>,
    pub inst: Option<u32>,
    pub number: Option<u64>,
}

impl Who {
    pub fn caller(caller: usize) -> Who {
        Who { caller: Some(caller as u32), ..Who::default() }
    }

    pub fn agent(agent: usize) -> Who {
        Who { agent: Some(agent as u32), ..Who::default() }
    }

    pub fn inst(inst: usize) -> Who {
        Who { inst: Some(inst as u32), ..Who::default() }
    }

    pub fn node(node: usize) -> Who {
        Who { node: Some(node as u32), ..Who::default() }
    }

    pub fn with_node(self, node: usize) -> Who {
        Who { node: Some(node as u32), ..self }
    }

    pub fn with_inst(self, inst: usize) -> Who {
        Who { inst: Some(inst as u32), ..self }
    }

    pub fn with_number(self, number: u64) -> Who {
        Who { number: Some(number), ..self }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Line {
    pub at: Ms,
    pub from: Col,
    pub to: Col,
    pub word: &'static str,
    pub who: Who,
}

impl Line {
    /// The same, but for the time.
    fn is_as(&self, other: &Line) -> bool {
        (self.from, self.to, self.word, self.who) == (other.from, other.to, other.word, other.who)
    }
}

const COLUMNS: [&str; 7] = ["caller", "k1", "k2", "node", "instance", "store", "phone"];
const WIDTH: usize = 9;
const LINES_MAX: usize = 250;

impl World {
    pub fn leg_who(&self, leg: usize) -> Who {
        let of = &self.legs[leg];
        Who {
            caller: of.caller.map(|c| c as u32),
            leg: Some(leg as u32),
            agent: Some(of.agent as u32),
            node: Some(of.node as u32),
            ..Who::default()
        }
    }
}

/// The history of those whom a failure names, and all faults.
pub fn told(world: &World, about: Who, at: Ms) -> String {
    let mut text = String::new();
    for (column, name) in COLUMNS.iter().enumerate() {
        let _ = write!(text, "{}{name:<WIDTH$}", if column == 0 { "            " } else { "" });
    }
    text.push('\n');
    let mut concerned: Vec<&Line> = world.lines.iter().filter(|line| concerns(line, about, at)).collect();
    concerned.dedup_by(|line, before| line.is_as(before));
    let skipped = concerned.len().saturating_sub(LINES_MAX);
    if skipped > 0 {
        let _ = writeln!(text, "  ({skipped} earlier lines left out)");
    }
    for line in &concerned[skipped..] {
        write_line(&mut text, world, line);
    }
    text.push_str("faults:\n");
    for went in &world.faults.went {
        write_fault(&mut text, went);
    }
    let armed = world.faults.armed.keys().map(ToString::to_string).collect::<Vec<_>>();
    let _ = writeln!(text, "  still waiting for their moment: [{}]", armed.join(", "));
    text
}

fn concerns(line: &Line, about: Who, at: Ms) -> bool {
    let same = |a: Option<u32>, b: Option<u32>| a.is_some() && a == b;
    let who = &line.who;
    if line.at > at + 5_000 {
        return false;
    }
    if same(who.caller, about.caller) || same(who.leg, about.leg) {
        return true;
    }
    if same(who.agent, about.agent) && line.at + 180_000 > at {
        return true;
    }
    let commands = ["command", "command done"];
    if commands.contains(&line.word) {
        return who.number == about.number;
    }
    // What instances and nodes as a whole do belongs to every story.
    who.caller.is_none() && who.leg.is_none() && who.agent.is_none() && line.at + 120_000 > at
}

fn write_line(text: &mut String, world: &World, line: &Line) {
    let _ = write!(text, "{:>9}   ", line.at);
    let (low, high) = (line.from.min(line.to) as usize, line.from.max(line.to) as usize);
    for column in 0..COLUMNS.len() {
        let part = match column {
            _ if low == high && column == low => "*".to_owned(),
            c if c == low && line.from < line.to => "-".repeat(WIDTH),
            c if c == low => format!("<{}", "-".repeat(WIDTH - 1)),
            c if c == high && line.from < line.to => ">".to_owned(),
            c if c == high => "-".to_owned(),
            c if c > low && c < high => "-".repeat(WIDTH),
            _ => String::new(),
        };
        let _ = write!(text, "{part:<WIDTH$}");
    }
    let _ = write!(text, " {}", line.word);
    let who = &line.who;
    if let Some(caller) = who.caller {
        let _ = write!(text, " call={}", world.callers[caller as usize].channel.as_str());
    }
    if let Some(leg) = who.leg {
        let of = &world.legs[leg as usize];
        let _ = write!(text, " leg={leg} offer={}", of.offer);
    }
    if let Some(agent) = who.agent {
        let _ = write!(text, " agent={}", world.agents[agent as usize].id);
    }
    if let Some(node) = who.node {
        let _ = write!(text, " node={}", world.nodes[node as usize].id);
    }
    if let Some(inst) = who.inst {
        let _ = write!(text, " m{inst}");
    }
    if let Some(number) = who.number {
        let _ = write!(text, " {number}");
    }
    text.push('\n');
}

fn write_fault(text: &mut String, went: &Went) {
    let bit = went.bit.map_or("did nothing".to_owned(), |at| format!("bit at {at}"));
    let _ = writeln!(text, "  {:>9}  {:?}  {bit}", went.at, went.what);
}
