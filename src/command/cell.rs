//! `mqs cell`: who leads the cell of a running instance, and how much there is.

use super::output::{Cell, Look, Side, Table, colours, count, plain};
use super::queue::Common;
use crate::wire::queue_api::CellInfo;
use anyhow::Context as _;
use std::process::ExitCode;

/// Show the cell: who leads, and how much there is
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  mqs cell\n  mqs cell --json")]
pub struct Args {
    #[command(flatten)]
    common: Common,
}

/// Does what the verb says.
pub async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    args.common.show_at("/v1/cell", |cell| text(&cell, colours())).await.context("cannot show the cell")?;
    Ok(ExitCode::SUCCESS)
}

fn text(cell: &CellInfo, colours: bool) -> String {
    let leader = match &cell.leader {
        None => Look::Red.paint("nobody leads", colours),
        Some(leader) if leader.left_ms == 0 => {
            let late = format!("{} led, and is late", plain(&leader.holder));
            Look::Yellow.paint(&late, colours)
        }
        Some(leader) => {
            let led = format!("{} leads", plain(&leader.holder));
            format!(
                "{} for at least {:.1} s",
                Look::Green.paint(&led, colours),
                leader.left_ms as f64 / 1000.0
            )
        }
    };
    let mut text = format!("cell {}: {leader}\n", Look::Bold.paint(&plain(&cell.id), colours));
    let mut line = |what: &str, value: String| text.push_str(&format!("   {what:<10} {value}\n"));
    line("epoch", format!("{}, batch {}", cell.epoch, cell.seq));
    let of = |what: &str| cell.counts.get(what).copied().unwrap_or(0);
    line("calls", format!("{}, {} of them in line", of("calls"), of("waiting")));
    line("queues", format!("{}; {}", of("queues"), count(of("agents"), "agent")));
    line("offers", of("offers").to_string());
    line("inbox", format!("sent {}, done {}", cell.inbox.sent, cell.inbox.done));
    line("outbox", cell.outbox.to_string());
    if !cell.whole {
        line("state", "being written anew".to_owned());
    }
    if cell.damaged > 0 {
        line("damaged", count(cell.damaged, "record"));
    }
    if cell.nodes.is_empty() {
        return text;
    }
    let mut table = Table::new(&[("NODE", Side::Left), ("CALLS", Side::Right), ("LEGS", Side::Right)]);
    for node in &cell.nodes {
        table.row(vec![Cell::new(&node.id, Look::Bold), node.calls.into(), node.legs.into()]);
    }
    text + &table.render(colours)
}
