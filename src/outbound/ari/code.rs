//! Codes that agents dial on their phones: login and logout, pause and resume, and what they hear of it.

use super::side::Side;
use crate::cell::desk::{Desk, Reply};
use crate::domain::call::Channel;
use crate::domain::controller::{Command, Said};
use crate::store::cell::NAME_BYTES_MAX;
use crate::wire::ari::request;
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};

/// The leader says within that time what came of a command, or the agent hears that it did not work.
const PATIENCE: Duration = Duration::from_secs(3);

/// The context of the node's dialplan that plays a sound and hangs up; the extension is the sound.
const ANNOUNCE: &str = "mqs-announce";

/// Why an agent who pauses by phone is paused.
const REASON: &str = "phone";

const LOGGED_IN: &str = "agent-loginok";
const LOGGED_OUT: &str = "agent-loggedoff";
const PAUSED: &str = "de-activated";
const RESUMED: &str = "activated";
const SORRY: &str = "sorry";

/// What was dialled.
#[derive(Debug)]
pub struct Dialled {
    /// Whose channel; not answered yet.
    pub channel: Channel,
    /// `login` or `pause`.
    pub code: String,
    /// The user part of the address that Kamailio vouches for.
    pub user: String,
    /// The SIP Call-ID: a call that comes twice is one.
    pub sip_call_id: String,
}

impl Dialled {
    /// Carries it out, and sends the caller on to what there is to be heard.
    pub async fn answer(self, side: Arc<Side>, desk: Arc<Desk>) {
        let sound = self.sound(&desk).await;
        let Dialled { channel, code, user, .. } = &self;
        info!(%channel, code, user, sound, "dialled");
        match side.client.ask(&request::go_on(&channel.id, ANNOUNCE, sound)).await {
            Ok(_) => {}
            Err(error) => warn!(%channel, %error, "hears nothing of it"),
        }
    }

    async fn sound(&self, desk: &Desk) -> &'static str {
        let Ok(seen) = desk.look().await else { return SORRY };
        let setup = desk.laid_down(&seen);
        let Some(agent) = setup.agent_of_user(&self.user).cloned() else { return SORRY };
        let command = match self.code.as_str() {
            "login" => Command::Toggle(agent.clone()),
            "pause" => Command::TogglePause(agent.clone(), REASON.into()),
            _ => return SORRY,
        };
        match desk.send_and_wait(&self.key(), &command, PATIENCE).await {
            Ok(Reply::Said(Said::Done | Said::Already)) => {}
            Ok(Reply::Said(_) | Reply::Full | Reply::Unheard) => return SORRY,
            Err(error) => {
                warn!(%error, "a code was not carried out");
                return SORRY;
            }
        }
        let Ok(seen) = desk.look().await else { return SORRY };
        let state = seen.agents.get(&agent).map(|agent| &agent.state);
        let (is_in, is_unpaused) =
            state.map_or((false, false), |state| (state.is_logged_in(), state.is_unpaused()));
        match self.code.as_str() {
            "login" => {
                if is_in {
                    LOGGED_IN
                } else {
                    LOGGED_OUT
                }
            }
            _ => {
                if is_unpaused {
                    RESUMED
                } else {
                    PAUSED
                }
            }
        }
    }

    /// Of the same call always the same, so that it is carried out once.
    fn key(&self) -> String {
        let key = format!("{}:{}", self.code, self.sip_call_id);
        let fits = key.len() <= NAME_BYTES_MAX && key.bytes().all(|b| b.is_ascii_graphic());
        if fits && !self.sip_call_id.is_empty() { key } else { format!("{}:{}", self.code, self.channel) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_comes_twice_has_one_key() {
        let dialled = |sip_call_id: &str| Dialled {
            channel: Channel { node: "ast1".parse().unwrap(), id: "1.0".parse().unwrap() },
            code: "login".to_owned(),
            user: "ann".to_owned(),
            sip_call_id: sip_call_id.to_owned(),
        };
        assert_eq!(dialled("7@h").key(), "login:7@h");
        for odd in ["", "a b", "\u{e9}", &"x".repeat(200)] {
            assert_eq!(dialled(odd).key(), "login:ast1/1.0", "{odd}");
        }
    }
}
