//! The pick: its questions as the scripts take them, and their answers.

use super::conn::{Call, Reply};
use super::layout::{Layout, WrittenPlan};
use super::{RedisStore, Said, all, record};
use crate::domain::admission::{Admit, Reached};
use crate::domain::id::PoolId;
use crate::domain::lease;
use crate::domain::pool::NoPick;
use crate::store::{Answer, Pick, PoolRules, StoreError, View};
use std::sync::Arc;

const OP: &str = "pick";

impl RedisStore {
    pub(super) async fn pick_some(
        &self,
        pool: &PoolId,
        rules: &PoolRules,
        view: &View,
        batch: &[Pick],
    ) -> Result<Said<Vec<Answer>>, StoreError> {
        let layout = self.layouts.of(pool, view);
        if let [one] = batch
            && let Some(said) = self.pick_alone(&layout, rules, view, one).await?
        {
            return Ok(said);
        }
        let mut plans: Vec<Arc<WrittenPlan>> = Vec::new();
        let mut plan_of: Vec<usize> = Vec::with_capacity(batch.len());
        for one in batch {
            let plan = layout.plan(view, &one.lookup, &rules.choose);
            let known = plans.iter().position(|known| known.text == plan.text);
            plan_of.push(known.unwrap_or(plans.len()) + 1);
            if known.is_none() {
                plans.push(plan);
            }
        }
        let mut limits: Vec<&Admit> = Vec::new();
        let wishes: Vec<String> = batch.iter().map(|one| extras(one, &mut limits)).collect();
        let mut call = Call::new(&self.scripts.pick, layout.keys.pick());
        call.number(view.version)
            .number(rules.life.held_ms)
            .number(lease::TOMB_MS)
            .number(rules.choose.zone_spill_pm)
            .number(plans.len())
            .number(limits.len());
        for plan in &plans {
            call.text(&plan.text);
        }
        for limit in limits {
            call.text(&record::limit(limit));
        }
        for ((one, plan), wish) in batch.iter().zip(plan_of).zip(&wishes) {
            call.text(&one.lease.to_string())
                .number(plan)
                .number(targets_max(one, rules))
                .text(&record::slots(&one.fallbacks))
                .text(wish);
        }
        match self.conn.run(OP, call).await? {
            Reply::Int(0) if view.version > 0 => Err(layout.lost(OP)),
            Reply::Int(_) => Ok(Said::OtherVersion),
            reply @ (Reply::Text(_) | Reply::List(_) | Reply::Other) => {
                all(&reply, batch.len(), answer).map(Said::Here).ok_or_else(|| layout.unexpected(OP, &reply))
            }
        }
    }

    /// As [`RedisStore::pick_some`], for one lookup without wishes; `None`: it has some.
    async fn pick_alone(
        &self,
        layout: &Layout,
        rules: &PoolRules,
        view: &View,
        one: &Pick,
    ) -> Result<Option<Said<Vec<Answer>>>, StoreError> {
        let plan = layout.plan(view, &one.lookup, &rules.choose);
        let plain = one.admit.is_empty() && one.sticky.is_none() && !one.overflows;
        let Some(alone) = plan.alone.as_ref().filter(|_| plain) else { return Ok(None) };
        let mut call = Call::new(&self.scripts.pick_alone, layout.keys.pick_alone(alone));
        call.number(view.version)
            .number(rules.life.held_ms)
            .number(rules.choose.zone_spill_pm)
            .number(alone.near)
            .text(&alone.room)
            .text(&one.lease.to_string())
            .number(targets_max(one, rules))
            .text(&record::slots(&one.fallbacks));
        match self.conn.run(OP, call).await? {
            Reply::Int(0) if view.version > 0 => Err(layout.lost(OP)),
            Reply::Int(_) => Ok(Some(Said::OtherVersion)),
            Reply::Text(text) if text == b"B" => Ok(None),
            reply @ (Reply::Text(_) | Reply::List(_) | Reply::Other) => {
                let said = answer(&reply).ok_or_else(|| layout.unexpected(OP, &reply))?;
                Ok(Some(Said::Here(vec![said])))
            }
        }
    }
}

fn answer(said: &Reply) -> Option<Answer> {
    let said = said.text()?;
    if let Some(targets) = said.strip_prefix('L') {
        return record::read_slots(targets).map(Answer::Leased);
    }
    if let Some(targets) = said.strip_prefix('R') {
        return record::read_slots(targets).map(Answer::Repeat);
    }
    match said {
        "F" => Some(Answer::Refused(NoPick::Full)),
        "N" => Some(Answer::Refused(NoPick::NoNode)),
        "O" => Some(Answer::Overflow),
        limited => {
            let limited = limited.strip_prefix('A')?;
            let tenant = limited.starts_with('t');
            let reached = match limited.get(1..)? {
                "c" => Reached::Calls,
                wait_ms => Reached::Rate { wait_ms: wait_ms.parse().ok()? },
            };
            Some(Answer::Refused(NoPick::Limit { tenant, reached }))
        }
    }
}

fn targets_max(one: &Pick, rules: &PoolRules) -> u8 {
    one.lookup.targets_max.min(rules.choose.targets_max).max(1)
}

/// What a lookup wants beyond a plan, with its limits by their places in `limits`; nearly always nothing.
fn extras<'a>(one: &'a Pick, limits: &mut Vec<&'a Admit>) -> String {
    if one.admit.is_empty() && one.sticky.is_none() && !one.overflows {
        return String::new();
    }
    let mut place = |admit: &'a Admit| {
        let known = limits.iter().position(|known| *known == admit);
        let place = known.unwrap_or(limits.len());
        if known.is_none() {
            limits.push(admit);
        }
        (place + 1).to_string()
    };
    let places = one.admit.iter().map(&mut place).collect::<Vec<_>>().join(",");
    let (key, keep_ms) =
        one.sticky.map_or_else(Default::default, |tie| (tie.id.to_string(), tie.keep_ms.max(1).to_string()));
    format!("{places}|{key}|{keep_ms}|{}", if one.overflows { "o" } else { "" })
}
