//! How a node's state and health are shown together.

use super::output::{Look, plain};
use crate::domain::health::Condition;
use crate::domain::node::NodeState;

/// What there is to say of a node.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// What it is asked to do.
    pub state: &'a str,
    /// What calls and probes tell of it.
    pub health: &'a str,
    /// What led to that.
    pub why: &'a str,
    /// It is used all the same.
    pub overruled: bool,
}

impl Told<'_> {
    /// The health of a node that is asked to take calls and is not simply up, else the state. `!`: used all the same.
    pub fn word(&self) -> String {
        match (self.is_special(), self.overruled) {
            (true, true) => plain(&format!("{}!", self.health)),
            (true, false) => plain(self.health),
            (false, _) => plain(self.state),
        }
    }

    /// Whether the health is what is shown.
    pub fn is_special(&self) -> bool {
        self.state == NodeState::Active.as_str() && self.health != Condition::Up.as_str()
    }

    /// A line on why the node is as it is; nothing where nothing is the matter.
    pub fn line(&self, node: &str) -> Option<String> {
        if !self.is_special() {
            return None;
        }
        let all_the_same =
            if self.overruled { "; used all the same, for too many of the pool are out" } else { "" };
        Some(plain(&format!("{node} is {}: {}{all_the_same}", self.health, self.why)))
    }

    /// How the word looks.
    pub fn look(&self) -> Look {
        if self.is_special() {
            return if self.health == Condition::Warming.as_str() { Look::Yellow } else { Look::Red };
        }
        match self.state {
            "active" => Look::Green,
            "draining" => Look::Yellow,
            "down" => Look::Red,
            _ => Look::Dim,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_is_shown_where_it_differs_from_what_is_asked_for() {
        let told = |state, health, overruled| Told { state, health, why: "no answer", overruled };
        let shown = |told: Told<'_>| (told.word(), told.line("ast1"));
        assert_eq!(shown(told("active", "up", false)), ("active".to_owned(), None));
        assert_eq!(shown(told("down", "failing", false)), ("down".to_owned(), None));
        let out = shown(told("active", "ejected", false));
        assert_eq!(out, ("ejected".to_owned(), Some("ast1 is ejected: no answer".to_owned())));
        let (word, line) = shown(told("active", "failing", true));
        assert_eq!(word, "failing!");
        assert!(line.unwrap().ends_with("used all the same, for too many of the pool are out"));
    }
}
