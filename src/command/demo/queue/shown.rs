//! The table of the queue.

use super::super::screen::Screen;
use super::Stage;
use crate::command::node::NodeInfo;
use crate::command::output::{Cell, Look, Side, Table, count};
use crate::wire::queue_api::{AgentInfo, Listed};
use anyhow::Context as _;
use std::collections::BTreeMap;

impl Stage {
    /// The nodes, the line and the agents, as they are now.
    pub(super) async fn table(&self, screen: &Screen) -> anyhow::Result<String> {
        let instance = &self.alive().context("no instance is alive")?.http;
        let loads: Vec<NodeInfo> = instance.get("/v1/nodes").await?;
        let mut table = Table::new(&[
            ("NODE", Side::Left),
            ("STATE", Side::Left),
            ("LEASES", Side::Right),
            ("CALLERS", Side::Right),
            ("TALKS", Side::Right),
            ("RINGING", Side::Right),
            ("", Side::Left),
        ]);
        for node in &self.people.nodes {
            let Some(load) = loads.iter().find(|load| load.id == node.name) else { continue };
            let (callers, talks, ringing, attached) = node.with(|exchange| {
                let talks = exchange.talks().filter(|(_, callers, legs)| (*callers, *legs) == (1, 1)).count();
                (exchange.callers().count(), talks, exchange.ringing(), exchange.is_attached())
            });
            let (note, look) = match (node.life().is_some(), attached) {
                (false, _) => ("dead", Look::Red),
                (true, false) => ("nobody drives it", Look::Yellow),
                (true, true) => ("", Look::Plain),
            };
            table.row(vec![
                Cell::new(&node.name, Look::Bold),
                Cell::new(load.told().word(), load.told().look()),
                load.load.into(),
                callers.into(),
                talks.into(),
                ringing.into(),
                Cell::new(note, look),
            ]);
        }
        let agents: Listed<AgentInfo> = instance.get("/v1/agents").await?;
        let mut states: BTreeMap<&str, usize> = BTreeMap::new();
        agents.items.iter().for_each(|agent| *states.entry(&agent.doing.state).or_default() += 1);
        let states: Vec<String> = states.iter().map(|(state, agents)| format!("{agents} {state}")).collect();
        let counts = self.people.ledger.counts(self.people.watch.millis());
        let alive = |name: &&str| self.instances.iter().any(|one| one.name == *name && one.is_alive());
        let leader = match self.leader().await?.filter(alive) {
            Some(name) => format!("{name} leads"),
            None => "nobody leads".to_owned(),
        };
        Ok(format!(
            "{}{leader}; {}, {} wait, {} talk, {} came to an agent\nagents: {}\n",
            table.render(screen.colours()),
            count(counts.callers, "caller"),
            counts.waiting,
            counts.talking,
            counts.answered,
            states.join(", "),
        ))
    }
}
