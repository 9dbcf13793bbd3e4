//! What a leader reads: the commands of the inbox, and who is registered.

use super::super::io::{Ask, Letter, Mono, Output};
use super::super::{RETRY_MS, Seeded};
use super::{Entry, INBOX_MS, Leading, REGISTRATIONS_MS};
use crate::domain::controller::{self, Input};
use crate::store::cell::{KEY_KEPT_MS, Registration};
use std::collections::VecDeque;
use std::sync::Arc;

impl Leading {
    /// Commands of the inbox.
    pub(in crate::cell::pilot) fn inbox(&mut self, ask: Ask, letters: Option<Vec<Letter>>, now: Mono) {
        if self.inbox.asked.take_if(|asked| *asked == ask).is_none() {
            return;
        }
        let Some(letters) = letters else {
            self.inbox.next = now.after(RETRY_MS);
            return;
        };
        self.inbox.next = if letters.is_empty() { now.after(INBOX_MS) } else { now };
        while self.done_order.front().is_some_and(|(at, _)| now.since(*at) > KEY_KEPT_MS) {
            if let Some((_, key)) = self.done_order.pop_front() {
                self.done_keys.remove(&key);
            }
        }
        for letter in letters {
            self.read = letter.position;
            if !self.done_keys.contains_key(&letter.key) {
                self.done_keys.insert(letter.key.clone(), now);
                self.done_order.push_back((now, letter.key.clone()));
                let key = letter.key;
                let input = match letter.command {
                    Some(command) => Input::Command { key, command },
                    None => Input::Malformed { key },
                };
                self.tell(input, None);
            }
            if self.seeded == Some(Seeded::CursorOutsideCommit) {
                self.held_cursor = Some(letter.position);
            } else {
                self.pending.push_back(Entry::Cursor(letter.position));
            }
        }
    }

    /// Who is registered.
    pub(in crate::cell::pilot) fn registrations(
        &mut self,
        ask: Ask,
        all: Option<Vec<Registration>>,
        now: Mono,
    ) {
        if self.registrations.asked.take_if(|asked| *asked == ask).is_none() {
            return;
        }
        let Some(all) = all else {
            self.registrations.next = now.after(RETRY_MS);
            return;
        };
        self.registrations.next = now.after(REGISTRATIONS_MS);
        self.registrations_known = true;
        let registered = |one: Registration| controller::Registered {
            aor: Arc::from(one.aor),
            proxy: one.proxy,
            at: one.at,
        };
        self.tell(Input::Registered(all.into_iter().map(registered).collect()), None);
    }

    pub(super) fn read_store(
        &mut self,
        now: Mono,
        ask: &mut impl FnMut() -> Ask,
        out: &mut VecDeque<Output>,
    ) {
        // A leader that is not sure takes no commands: another one may be at them.
        if now >= self.sure_until {
            self.inbox.next = self.inbox.next.max(now);
        } else if self.inbox.asked.is_none() && self.inbox.next <= now {
            let ask = ask();
            self.inbox.asked = Some(ask);
            out.push_back(Output::ReadInbox(ask, self.read));
        }
        if self.registrations.asked.is_none() && self.registrations.next <= now {
            let ask = ask();
            self.registrations.asked = Some(ask);
            out.push_back(Output::ReadRegistrations(ask));
        }
    }
}
