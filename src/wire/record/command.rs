//! Commands for a cell's leader, as its inbox holds them: one JSON object with `do` and what it is done to.

use super::queue::WrittenQueue;
use super::rules::WrittenRules;
use super::{Kind, json, name_of, parse};
use crate::domain::agent::OwnCallId;
use crate::domain::controller::Command;
use crate::domain::matching::Priority;
use crate::wire::refusal::BadRequest;
use crate::wire::register::Aor;
use crate::wire::token::OWN_CALL_LEN;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The longest reason for a pause, in bytes.
pub const REASON_MAX: usize = 64;

/// Why a text is not a command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a command: {0}")]
pub struct CommandError(pub String);

#[derive(Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
enum Written {
    Login { agent: String },
    Logout { agent: String },
    Toggle { agent: String },
    Pause { agent: String, reason: String },
    Resume { agent: String },
    TogglePause { agent: String, reason: String },
    SetAgent { agent: String, rules: WrittenRules },
    RemoveAgent { agent: String },
    SetQueue { queue: String, rules: WrittenQueue },
    RemoveQueue { queue: String },
    OwnCallBegan { aor: String, call: String, proxy: String },
    OwnCallEnded { aor: String, call: String },
    OwnCallsLost { proxy: String },
    Move { call: String, queue: String },
    Prioritize { call: String, priority: u64 },
    Withdraw { call: String, treatment: String },
}

/// A command as text.
pub fn write_command(command: &Command) -> String {
    let text = |id: &dyn std::fmt::Display| id.to_string();
    json(&match command {
        Command::Login(agent) => Written::Login { agent: text(agent) },
        Command::Logout(agent) => Written::Logout { agent: text(agent) },
        Command::Toggle(agent) => Written::Toggle { agent: text(agent) },
        Command::Pause(agent, reason) => Written::Pause { agent: text(agent), reason: text(reason) },
        Command::Resume(agent) => Written::Resume { agent: text(agent) },
        Command::TogglePause(agent, reason) => {
            Written::TogglePause { agent: text(agent), reason: text(reason) }
        }
        Command::SetAgent(agent, rules) => {
            Written::SetAgent { agent: text(agent), rules: WrittenRules::of(rules) }
        }
        Command::RemoveAgent(agent) => Written::RemoveAgent { agent: text(agent) },
        Command::SetQueue(queue, rules) => {
            Written::SetQueue { queue: text(queue), rules: WrittenQueue::of(rules) }
        }
        Command::RemoveQueue(queue) => Written::RemoveQueue { queue: text(queue) },
        Command::OwnCallBegan { aor, call, proxy } => {
            Written::OwnCallBegan { aor: text(aor), call: text(call), proxy: text(proxy) }
        }
        Command::OwnCallEnded { aor, call } => Written::OwnCallEnded { aor: text(aor), call: text(call) },
        Command::OwnCallsLost(proxy) => Written::OwnCallsLost { proxy: text(proxy) },
        Command::Move(call, queue) => Written::Move { call: text(call), queue: text(queue) },
        Command::Prioritize(call, priority) => {
            Written::Prioritize { call: text(call), priority: u64::from(priority.get()) }
        }
        Command::Withdraw(call, treatment) => {
            Written::Withdraw { call: text(call), treatment: text(treatment) }
        }
    })
}

/// The command that a text says.
pub fn read_command(text: &str) -> Result<Command, CommandError> {
    read(text).map_err(CommandError)
}

fn read(text: &str) -> Result<Command, String> {
    Ok(match parse::<Written>(text)? {
        Written::Login { agent } => Command::Login(name_of(&agent)?),
        Written::Logout { agent } => Command::Logout(name_of(&agent)?),
        Written::Toggle { agent } => Command::Toggle(name_of(&agent)?),
        Written::Pause { agent, reason } => Command::Pause(name_of(&agent)?, reason_of(reason)?),
        Written::TogglePause { agent, reason } => Command::TogglePause(name_of(&agent)?, reason_of(reason)?),
        Written::Resume { agent } => Command::Resume(name_of(&agent)?),
        Written::SetAgent { agent, rules } => {
            Command::SetAgent(name_of(&agent)?, Box::new(rules.checked(Kind::Wish)?))
        }
        Written::RemoveAgent { agent } => Command::RemoveAgent(name_of(&agent)?),
        Written::SetQueue { queue, rules } => {
            Command::SetQueue(name_of(&queue)?, Box::new(rules.checked(Kind::Wish)?))
        }
        Written::RemoveQueue { queue } => Command::RemoveQueue(name_of(&queue)?),
        Written::OwnCallBegan { aor, call, proxy } => {
            Command::OwnCallBegan { aor: aor_of(&aor)?, call: own_call_of(&call)?, proxy: name_of(&proxy)? }
        }
        Written::OwnCallEnded { aor, call } => {
            Command::OwnCallEnded { aor: aor_of(&aor)?, call: own_call_of(&call)? }
        }
        Written::OwnCallsLost { proxy } => Command::OwnCallsLost(name_of(&proxy)?),
        Written::Move { call, queue } => Command::Move(name_of(&call)?, name_of(&queue)?),
        Written::Prioritize { call, priority } => {
            let priority = Priority::try_from(priority).map_err(|cause| cause.to_string())?;
            Command::Prioritize(name_of(&call)?, priority)
        }
        Written::Withdraw { call, treatment } => Command::Withdraw(name_of(&call)?, name_of(&treatment)?),
    })
}

fn aor_of(text: &str) -> Result<Arc<str>, String> {
    let aor: Aor = text.parse().map_err(|error: BadRequest| error.to_string())?;
    Ok(Arc::from(aor.as_str()))
}

fn own_call_of(text: &str) -> Result<OwnCallId, String> {
    let fits = text.len() == OWN_CALL_LEN && text.bytes().all(|b| b.is_ascii_hexdigit());
    if fits { Ok(Arc::from(text)) } else { Err(format!("call: {OWN_CALL_LEN} hexadecimal digits")) }
}

fn reason_of(reason: String) -> Result<Arc<str>, String> {
    if reason.len() > REASON_MAX || reason.chars().any(char::is_control) {
        return Err(format!("reason: at most {REASON_MAX} bytes, without control characters"));
    }
    Ok(Arc::from(reason))
}
