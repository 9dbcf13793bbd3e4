//! Commands for a cell's leader, as its inbox holds them: one JSON object with `do` and what it is done to.

use super::{json, name_of, parse};
use crate::domain::controller::Command;
use crate::domain::matching::Priority;
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
        Written::Pause { agent, reason } => {
            if reason.len() > REASON_MAX || reason.chars().any(char::is_control) {
                return Err(format!("reason: at most {REASON_MAX} bytes, without control characters"));
            }
            Command::Pause(name_of(&agent)?, Arc::from(reason))
        }
        Written::Resume { agent } => Command::Resume(name_of(&agent)?),
        Written::Move { call, queue } => Command::Move(name_of(&call)?, name_of(&queue)?),
        Written::Prioritize { call, priority } => {
            let priority = Priority::try_from(priority).map_err(|cause| cause.to_string())?;
            Command::Prioritize(name_of(&call)?, priority)
        }
        Written::Withdraw { call, treatment } => Command::Withdraw(name_of(&call)?, name_of(&treatment)?),
    })
}
