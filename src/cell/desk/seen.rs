//! A cell as it was read.

use crate::domain::agent::{Agent, AgentRules};
use crate::domain::call::Call;
use crate::domain::id::{AgentId, CallId, OfferId, QueueId};
use crate::domain::offer::Offer;
use crate::domain::queue::QueueRules;
use crate::store::cell::{Look, Registration};
use crate::wire::record;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// What was read, by name. What changed meanwhile may be there as before or as after: a call may name an offer that is not there.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The numbers, without records and registrations.
    pub head: Look,
    /// The calls.
    pub calls: BTreeMap<CallId, Call>,
    /// The agents that have a record.
    pub agents: BTreeMap<AgentId, Agent>,
    /// Agents that were laid down at run time.
    pub rules: BTreeMap<AgentId, AgentRules>,
    /// Queues that were laid down at run time.
    pub queues: BTreeMap<QueueId, QueueRules>,
    /// The offers.
    pub offers: BTreeMap<OfferId, Offer>,
    /// The calls of each queue that have a place in it, in their order.
    pub lines: BTreeMap<QueueId, Vec<CallId>>,
    /// By address-of-record, the last refreshed first: through that one the phone is called.
    pub phones: BTreeMap<String, Vec<Registration>>,
    /// Records that cannot be read, and are left out.
    pub damaged: usize,
}

impl Seen {
    pub(super) fn new(mut look: Look) -> Seen {
        let (saved, damaged) = record::read_all(&std::mem::take(&mut look.records));
        let mut phones: BTreeMap<String, Vec<Registration>> = BTreeMap::new();
        for one in std::mem::take(&mut look.registrations) {
            phones.entry(one.aor.clone()).or_default().push(one);
        }
        for of_one in phones.values_mut() {
            of_one.sort_by(|a, b| (Reverse(a.at), &a.proxy).cmp(&(Reverse(b.at), &b.proxy)));
        }
        let mut lines: BTreeMap<QueueId, Vec<&Call>> = BTreeMap::new();
        for call in saved.calls.iter().filter(|call| call.stage.is_in_line()) {
            lines.entry(call.queue.clone()).or_default().push(call);
        }
        for line in lines.values_mut() {
            line.sort_by_key(|call| (Reverse(call.priority), call.enqueued, &call.id));
        }
        let lines =
            lines.into_iter().map(|(queue, line)| (queue, line.iter().map(|c| c.id.clone()).collect()));
        Seen {
            head: look,
            lines: lines.collect(),
            calls: saved.calls.into_iter().map(|call| (call.id.clone(), call)).collect(),
            agents: saved.agents.into_iter().map(|agent| (agent.id.clone(), agent)).collect(),
            offers: saved.offers.into_iter().map(|offer| (offer.id.clone(), offer)).collect(),
            rules: saved.rules.into_iter().collect(),
            queues: saved.queues.into_iter().collect(),
            phones,
            damaged: damaged.len(),
        }
    }

    /// The calls of a queue in their order; none of a queue that is not known.
    pub fn line<'a>(&'a self, queue: &QueueId) -> impl Iterator<Item = &'a Call> {
        self.lines.get(queue).into_iter().flatten().filter_map(|id| self.calls.get(id))
    }
}
