//! The live view, drawn; [`queues`]: the other one, of a cell.

mod queues;

use super::history::{CELLS, History, Of};
use super::keys::{Choice, Reach, Sort};
use super::reading::{Reading, Sums, Totals, ago, told};
use super::words;
use crate::command::output::{Look, percent};
use crate::dispatch::listing::NodeInfo;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Block, Cell, Clear, Paragraph, Row, Table};
use std::cmp::Reverse;
use std::time::Duration;

/// Cells of a bar.
const BAR: usize = 10;

/// The same as a width, and that of a sparkline.
const WIDE: u16 = BAR as u16;
const SPARK: u16 = CELLS as u16;

/// Pools and zones that are shown with their totals; more are only counted, so that the nodes have room.
const TOTALS_MAX: usize = 7;

/// Nodes of which it is told why they are left out.
const WHY_MAX: usize = 4;

/// What is drawn.
pub struct State {
    /// Where the instance is.
    pub place: String,
    /// How often it is asked.
    pub interval: Duration,
    /// What it said last.
    pub last: Option<Reading>,
    /// It does not answer.
    pub gone: Option<Gone>,
    /// What it said in the last minutes.
    pub history: History,
}

/// An instance that does not answer.
pub struct Gone {
    /// Why not.
    pub why: String,
    /// Since when, by the clock of this process.
    pub since: Duration,
}

/// Draws it, and says how far the list of nodes, or of agents, can be scrolled.
pub fn draw(frame: &mut Frame, state: &State, choice: &Choice, now: Duration) -> Reach {
    let cell = state.last.as_ref().and_then(|last| last.cell.as_ref());
    let reach = match cell.filter(|_| choice.queues) {
        Some(cell) => queues::draw(frame, state, cell, choice, now),
        None => draw_pools(frame, state, choice, now),
    };
    if choice.help {
        draw_help(frame);
    }
    reach
}

fn draw_pools(frame: &mut Frame, state: &State, choice: &Choice, now: Duration) -> Reach {
    let totals_of = state.last.as_ref().map_or_else(Vec::new, |last| lines_of(&last.pools));
    let total_lines = totals_of.len().min(TOTALS_MAX) + 1 + usize::from(totals_of.len() > TOTALS_MAX);
    let reasons = state.last.as_ref().map_or_else(Vec::new, reasons);
    // A handful each.
    let [total_lines, reason_lines] =
        [total_lines, reasons.len()].map(|n| u16::try_from(n).unwrap_or(u16::MAX));
    let [title, note, summary, _, totals, _, nodes, why, footer] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(5),
        Constraint::Length(1),
        Constraint::Length(total_lines),
        Constraint::Length(1),
        Constraint::Min(0),
        Constraint::Length(reason_lines),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(title_line(state, choice), title);
    frame.render_widget(note_line(state, now), note);
    let mut reach = Reach::default();
    if let Some(reading) = &state.last {
        frame.render_widget(Paragraph::new(summary_lines(reading)), summary);
        draw_totals(frame, totals, &totals_of, state, now);
        reach = draw_nodes(frame, nodes, reading, state, choice, now);
        frame.render_widget(Paragraph::new(reasons), why);
    }
    frame.render_widget(footer_line(state, choice, reach), footer);
    reach
}

fn title_line(state: &State, choice: &Choice) -> Paragraph<'static> {
    let who = state.last.as_ref().map(words::who).unwrap_or_default();
    let mut spans = vec![bold("mqs top"), Span::raw(format!("  {}  ", state.place)), dim(who)];
    if choice.paused {
        spans.push(Span::styled("  PAUSED", Style::new().fg(Color::Yellow).add_modifier(Modifier::BOLD)));
    }
    Paragraph::new(Line::from(spans))
}

fn note_line(state: &State, now: Duration) -> Paragraph<'static> {
    let red = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
    let line = match (&state.gone, &state.last) {
        (Some(gone), last) => {
            let since = ago(now.saturating_sub(gone.since).as_secs());
            let old = if last.is_some() { " What is below is old." } else { "" };
            let said = format!("NO ANSWER for {since}; asking again.{old} ({})", gone.why);
            Line::styled(said, red)
        }
        (None, Some(last)) if last.stale() => {
            Line::styled("The store is away: loads and states are old.", Style::new().fg(Color::Yellow))
        }
        (None, Some(_)) => Line::default(),
        (None, None) => Line::raw("asking …"),
    };
    Paragraph::new(line)
}

fn summary_lines(reading: &Reading) -> Vec<Line<'static>> {
    let worry = |bad: bool| if bad { Style::new().fg(Color::Red) } else { Style::new() };
    let line = |title: &str, text: String, style: Style| {
        Line::from(vec![dim(format!("{title:<14}")), Span::styled(text, style)])
    };
    let rates = &reading.rates;
    let lookups = format!("{} ({})", words::lookups(reading), words::span(reading));
    let degraded =
        worry(rates.degraded_share.is_some_and(|share| share > 0.0) || !reading.breakers_open.is_empty());
    vec![
        line("lookups", lookups, Style::new()),
        line("latency", words::latency(reading), Style::new()),
        line("degraded", words::degraded(reading), degraded),
        line("store errors", words::store_errors(reading), worry(rates.store_errors_per_s > 0.0)),
        line("connections", words::connections(reading), Style::new()),
    ]
}

/// A line of totals: a pool, or one of its zones.
struct Total<'a> {
    name: Span<'static>,
    of: Of,
    sums: &'a Sums,
}

/// Each pool, and its zones below it where there is more than one.
fn lines_of(pools: &[Totals]) -> Vec<Total<'_>> {
    let mut lines = Vec::new();
    for pool in pools {
        lines.push(Total {
            name: bold(pool.pool.clone()),
            of: Of::Pool(pool.pool.clone()),
            sums: &pool.sums,
        });
        let several = pool.zones.len() > 1;
        lines.extend(pool.zones.iter().filter(|_| several).map(|zone| Total {
            name: Span::raw(format!("  {}", zone.zone.as_deref().unwrap_or("-"))),
            of: Of::Zone(pool.pool.clone(), zone.zone.clone()),
            sums: &zone.sums,
        }));
    }
    lines
}

/// Why nodes are left out: those that it happened to last, first.
fn reasons(reading: &Reading) -> Vec<Line<'static>> {
    let mut nodes: Vec<&NodeInfo> = reading.nodes.iter().filter(|node| told(node).is_special()).collect();
    nodes.sort_by_key(|node| Reverse(node.health_since_ms));
    let name = |node: &NodeInfo| match reading.pools.len() {
        0 | 1 => node.id.clone(),
        _ => format!("{}/{}", node.pool, node.id),
    };
    let line = |node: &&NodeInfo| Some(Line::from(dim(reading.why(node, &name(node))?)));
    let mut lines: Vec<Line> = nodes.iter().take(WHY_MAX).filter_map(line).collect();
    if nodes.len() > WHY_MAX {
        lines.push(Line::from(dim(format!("and {} more", nodes.len() - WHY_MAX))));
    }
    lines
}

fn draw_totals(frame: &mut Frame, area: Rect, totals: &[Total<'_>], state: &State, now: Duration) {
    let row = |total: &Total<'_>| {
        let share = total.sums.occupancy.unwrap_or(0.0);
        Row::new(vec![
            Cell::from(total.name.clone()),
            right(total.sums.nodes.to_string()),
            right(total.sums.active.to_string()),
            right(total.sums.load.to_string()),
            right(total.sums.capacity.to_string()),
            bar(share),
            right(total.sums.occupancy.map_or_else(|| "-".to_owned(), percent)),
            left(&state.history.line(&total.of, now)),
        ])
    };
    let mut rows: Vec<Row> = totals.iter().take(TOTALS_MAX).map(row).collect();
    let hidden = totals.len().saturating_sub(TOTALS_MAX);
    let more = if hidden > 0 { format!("and {hidden} more") } else { String::new() };
    if hidden > 0 {
        rows.push(Row::new([more.clone()]));
    }
    let titles = [
        left("POOL"),
        right("NODES"),
        right("ACTIVE"),
        right("LOAD"),
        right("CAPACITY"),
        left("OCCUPANCY"),
        left(""),
        left(&last(state)),
    ];
    let widths = [
        width(totals.iter().map(|t| t.name.content.as_ref()).chain([more.as_str()]), 24),
        5,
        6,
        7,
        8,
        WIDE,
        8,
        SPARK,
    ];
    frame.render_widget(table(rows, titles, &widths), area);
}

fn draw_nodes(
    frame: &mut Frame,
    area: Rect,
    reading: &Reading,
    state: &State,
    choice: &Choice,
    now: Duration,
) -> Reach {
    // One line is the titles'.
    let page = usize::from(area.height.saturating_sub(1));
    let scroll_max = reading.nodes.len().saturating_sub(page);
    let rows = sorted(&reading.nodes, choice.sort);
    let rows = rows.into_iter().skip(choice.scroll.min(scroll_max)).take(page);
    let rows: Vec<Row> = rows
        .map(|node| {
            Row::new(vec![
                left(&node.pool),
                Cell::from(bold(node.id.clone())),
                left(node.zone.as_deref().unwrap_or("-")),
                Cell::from(Span::styled(told(node).word(), state_style(told(node).look()))),
                right(reading.state_age_s(node).map_or_else(|| "-".to_owned(), ago)),
                right(node.load.to_string()),
                right(node.capacity.to_string()),
                bar(node.occupancy),
                right(percent(node.occupancy)),
                left(&state.history.line(&Of::node(node), now)),
            ])
        })
        .collect();
    let titles = [
        left("POOL"),
        left("NODE"),
        left("ZONE"),
        left("STATE"),
        right("SINCE"),
        right("LOAD"),
        right("CAPACITY"),
        left("OCCUPANCY"),
        left(""),
        left(&last(state)),
    ];
    let all = || reading.nodes.iter();
    let widths = [
        width(all().map(|n| n.pool.as_str()), 16),
        width(all().map(|n| n.id.as_str()), 20),
        width(all().filter_map(|n| n.zone.as_deref()), 10),
        11,
        9,
        5,
        8,
        WIDE,
        8,
        SPARK,
    ];
    frame.render_widget(table(rows, titles, &widths), area);
    Reach { scroll_max, page }
}

/// `LAST 2 MIN`: what the sparklines span.
fn last(state: &State) -> String {
    format!("LAST {} MIN", state.history.span().as_secs() / 60)
}

fn sorted(nodes: &[NodeInfo], sort: Sort) -> Vec<&NodeInfo> {
    let mut nodes: Vec<&NodeInfo> = nodes.iter().collect();
    match sort {
        Sort::Listed => {}
        Sort::Occupancy => nodes.sort_by(|a, b| b.occupancy.total_cmp(&a.occupancy)),
        Sort::Load => nodes.sort_by_key(|node| Reverse(node.load)),
        Sort::Zone => nodes.sort_by(|a, b| {
            let zone = |node: &NodeInfo| (node.zone.is_none(), node.zone.clone());
            (&a.pool, zone(a)).cmp(&(&b.pool, zone(b)))
        }),
        Sort::State => nodes.sort_by_key(|node| {
            let bad = ["failing", "ejected", "overloaded", "down", "removed", "draining", "warming"];
            let rank = bad.iter().position(|bad| told(node).word().trim_end_matches('!') == *bad);
            (rank.unwrap_or(usize::MAX), Reverse(node.since_ms))
        }),
    }
    nodes
}

fn footer_line(state: &State, choice: &Choice, reach: Reach) -> Paragraph<'static> {
    let hidden = match reach.scroll_max {
        0 => String::new(),
        more => format!("; {} above, {} below", choice.scroll.min(more), more - choice.scroll.min(more)),
    };
    let every = state.interval.as_secs_f64();
    let cell = state.last.as_ref().is_some_and(|last| last.cell.is_some());
    let keys = match (cell, choice.queues) {
        (true, true) => "Tab pools".to_owned(),
        (true, false) => format!("s sort: {}  Tab queues", choice.sort.as_str()),
        (false, _) => format!("s sort: {}", choice.sort.as_str()),
    };
    let said = format!("q quit  p pause  {keys}  ↑↓ scroll  ? help    every {every} s{hidden}");
    Paragraph::new(Line::from(dim(said)))
}

const HELP: &str = "\
q, Esc, Ctrl-C   quit
p, Space         pause, go on
Tab, v           queues and agents, or pools and nodes
s                sort: listed, occupancy, load, zone, state
↑ ↓, k j         scroll a line
PgUp PgDn        scroll a page
Home End, g G    to the first, to the last
?                this help

LOAD       live leases, of the whole fleet
CAPACITY   channels; of a pool: of its active nodes
SINCE      how long a node has been in its state
LAST       the occupancy then; █: full, a gap: not read
degraded   answered without the store";

fn draw_help(frame: &mut Frame) {
    let lines = u16::try_from(HELP.lines().count()).unwrap_or(u16::MAX);
    let area = frame.area().centered(Constraint::Length(58), Constraint::Length(lines.saturating_add(2)));
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(HELP).block(Block::bordered().title(" mqs top ")), area);
}

fn table<'a>(rows: Vec<Row<'a>>, titles: impl IntoIterator<Item = Cell<'a>>, widths: &[u16]) -> Table<'a> {
    let titles = Row::new(titles).style(Style::new().add_modifier(Modifier::DIM));
    Table::new(rows, widths.iter().map(|width| Constraint::Length(*width))).header(titles).column_spacing(2)
}

/// As wide as the widest text and the title need, and no wider than `max`.
fn width<'a>(texts: impl Iterator<Item = &'a str>, max: u16) -> u16 {
    let widest = texts.map(|text| text.chars().count()).max().unwrap_or(0);
    u16::try_from(widest).unwrap_or(max).clamp(4, max)
}

fn left(text: &str) -> Cell<'static> {
    Cell::from(text.to_owned())
}

fn right(text: impl Into<String>) -> Cell<'static> {
    Cell::from(Text::from(text.into()).right_aligned())
}

fn bold(text: impl Into<String>) -> Span<'static> {
    Span::styled(text.into(), Style::new().add_modifier(Modifier::BOLD))
}

fn dim(text: impl Into<String>) -> Span<'static> {
    Span::styled(text.into(), Style::new().add_modifier(Modifier::DIM))
}

fn bar(share: f64) -> Cell<'static> {
    // 0 … 10: exact.
    let full = ((share * BAR as f64).round().max(0.0) as usize).min(BAR);
    let colour = if share >= 1.0 {
        Color::Red
    } else if share >= 0.9 {
        Color::Yellow
    } else {
        Color::Green
    };
    Cell::from(Line::from(vec![
        Span::styled("█".repeat(full), Style::new().fg(colour)),
        dim("░".repeat(BAR - full)),
    ]))
}

fn state_style(look: Look) -> Style {
    match look {
        Look::Green => Style::new().fg(Color::Green),
        Look::Yellow => Style::new().fg(Color::Yellow),
        Look::Red => Style::new().fg(Color::Red),
        Look::Plain | Look::Bold | Look::Dim => Style::new().add_modifier(Modifier::DIM),
    }
}

#[cfg(test)]
mod tests;
