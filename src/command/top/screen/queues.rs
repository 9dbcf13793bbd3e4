//! The view of a cell: queues, nodes, agents.

use super::{State, bold, dim, footer_line, left, note_line, right, state_style, table, title_line, width};
use crate::command::queue::{state_look, wait_or_dash};
use crate::command::top::cell::CellReading;
use crate::command::top::keys::{Choice, Reach};
use crate::command::top::reading::ago;
use crate::command::top::words;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row};
use std::time::Duration;

/// Queues and nodes that are shown; more are only counted, so that the agents have room.
const SHOWN_MAX: usize = 8;

/// Draws it, and says how far the agents can be scrolled.
pub(super) fn draw(
    frame: &mut Frame,
    state: &State,
    cell: &CellReading,
    choice: &Choice,
    now: Duration,
) -> Reach {
    // The titles, and the line that counts the rest.
    let lines =
        |n: usize| u16::try_from(n.min(SHOWN_MAX) + 1 + usize::from(n > SHOWN_MAX)).unwrap_or(u16::MAX);
    let [title, note, who, _, queues, _, nodes, _, agents, footer] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(lines(cell.queues.len())),
        Constraint::Length(1),
        Constraint::Length(lines(cell.nodes.len())),
        Constraint::Length(1),
        Constraint::Min(0),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(title_line(state, choice), title);
    frame.render_widget(note_line(state, now), note);
    let bad = cell.problem.is_some() || cell.leader.is_none();
    let style = if bad { Style::new().fg(Color::Red) } else { Style::new() };
    frame.render_widget(Paragraph::new(Line::styled(words::cell(cell), style)), who);
    draw_queues(frame, queues, cell);
    draw_nodes(frame, nodes, cell);
    let at_ms = state.last.as_ref().map_or(0, |last| last.at_ms);
    let reach = draw_agents(frame, agents, cell, choice, at_ms);
    frame.render_widget(footer_line(state, choice, reach), footer);
    reach
}

fn and_more<'a>(rows: &mut Vec<Row<'a>>, all: usize) {
    if all > SHOWN_MAX {
        rows.push(Row::new([Cell::from(dim(format!("and {} more", all - SHOWN_MAX)))]));
    }
}

fn draw_queues(frame: &mut Frame, area: Rect, cell: &CellReading) {
    let mut rows: Vec<Row> = (cell.queues.iter().take(SHOWN_MAX))
        .map(|queue| {
            let waits = if queue.waiting > 0 { Style::new().fg(Color::Yellow) } else { Style::new() };
            Row::new(vec![
                Cell::from(bold(queue.id.clone())),
                right(queue.waiting.to_string()).style(waits),
                right(wait_or_dash(queue.longest_wait_ms)),
                right(queue.of("ready").to_string()),
                right(queue.of("offered").to_string()),
                right(queue.of("talking").to_string()),
                right(queue.of("wrap-up").to_string()),
                right(queue.of("paused").to_string()),
                right(words::a_minute(queue.answered_per_min)),
                right(words::a_minute(queue.abandoned_per_min)),
                right(queue.taken.to_string()),
            ])
        })
        .collect();
    and_more(&mut rows, cell.queues.len());
    let titles = [
        left("QUEUE"),
        right("WAITING"),
        right("LONGEST"),
        right("READY"),
        right("OFFERED"),
        right("TALKING"),
        right("WRAP-UP"),
        right("PAUSED"),
        right("ANSWERED/MIN"),
        right("ABANDONED/MIN"),
        right("TAKEN"),
    ];
    let widths =
        [width(cell.queues.iter().map(|q| q.id.as_str()), 20).max(10), 7, 8, 5, 7, 7, 7, 6, 12, 13, 6];
    frame.render_widget(table(rows, titles, &widths), area);
}

fn draw_nodes(frame: &mut Frame, area: Rect, cell: &CellReading) {
    let mut rows: Vec<Row> = (cell.nodes.iter().take(SHOWN_MAX))
        .map(|node| {
            let (word, look) = words::ari(node.attached);
            Row::new(vec![
                Cell::from(bold(node.id.clone())),
                Cell::from(Span::styled(word, state_style(look))),
                right(node.calls.to_string()),
                right(node.legs.to_string()),
            ])
        })
        .collect();
    and_more(&mut rows, cell.nodes.len());
    let titles = [left("NODE"), left("ARI"), right("CALLS"), right("LEGS")];
    let widths = [width(cell.nodes.iter().map(|n| n.id.as_str()), 20).max(10), 8, 6, 6];
    frame.render_widget(table(rows, titles, &widths), area);
}

fn draw_agents(frame: &mut Frame, area: Rect, cell: &CellReading, choice: &Choice, now_ms: u64) -> Reach {
    let page = usize::from(area.height.saturating_sub(1));
    let scroll_max = cell.agents.len().saturating_sub(page);
    let rows = cell.agents.iter().skip(choice.scroll.min(scroll_max)).take(page);
    let rows: Vec<Row> = rows
        .map(|agent| {
            Row::new(vec![
                Cell::from(bold(agent.id.clone())),
                Cell::from(Span::styled(agent.state.clone(), state_style(state_look(&agent.state)))),
                right(agent.age_s(now_ms).map_or_else(|| "-".to_owned(), ago)),
                right(agent.taken.to_string()),
                left(agent.call.as_deref().unwrap_or("-")),
            ])
        })
        .collect();
    let of = match cell.agents_total.saturating_sub(cell.agents.len()) {
        0 => "CALL".to_owned(),
        more => format!("CALL    ({more} agents more)"),
    };
    let titles = [left("AGENT"), left("STATE"), right("SINCE"), right("TAKEN"), left(&of)];
    let widths = [width(cell.agents.iter().map(|a| a.id.as_str()), 20).max(10), 8, 9, 6, 40];
    frame.render_widget(table(rows, titles, &widths), area);
    Reach { scroll_max, page }
}
