//! What the keys do: a function of the state before, and of the key.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// The order of the nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// By pool, then as the instance lists them.
    #[default]
    Listed,
    /// The most occupied first.
    Occupancy,
    /// The most loaded first.
    Load,
    /// By zone, those that stand nowhere last.
    Zone,
    /// What takes no calls first, and of those what changed last.
    State,
}

impl Sort {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Sort::Listed => "listed",
            Sort::Occupancy => "occupancy",
            Sort::Load => "load",
            Sort::Zone => "zone",
            Sort::State => "state",
        }
    }

    fn next(self) -> Sort {
        match self {
            Sort::Listed => Sort::Occupancy,
            Sort::Occupancy => Sort::Load,
            Sort::Load => Sort::Zone,
            Sort::Zone => Sort::State,
            Sort::State => Sort::Listed,
        }
    }
}

/// What the person at the keyboard chose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// The screen stays as it is.
    pub paused: bool,
    /// The queues are shown, and not the pools.
    pub queues: bool,
    /// The help is shown.
    pub help: bool,
    /// The order of the nodes.
    pub sort: Sort,
    /// How many nodes are above the first one that is shown.
    pub scroll: usize,
    /// No more, please.
    pub quit: bool,
}

/// How far the list can be scrolled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// The most nodes above the first one that is shown.
    pub scroll_max: usize,
    /// Nodes that are shown at once.
    pub page: usize,
}

/// The choice after a key.
// Of some twenty sorts of keys most mean nothing here.
#[allow(clippy::wildcard_enum_match_arm)]
pub fn press(choice: Choice, key: KeyEvent, reach: Reach) -> Choice {
    // Some terminals also tell when a key is let go.
    if key.kind == KeyEventKind::Release {
        return choice;
    }
    let scroll = choice.scroll.min(reach.scroll_max);
    let to = |scroll: usize| Choice { scroll: scroll.min(reach.scroll_max), ..choice };
    match key.code {
        KeyCode::Char('c' | 'd') if key.modifiers.contains(KeyModifiers::CONTROL) => {
            Choice { quit: true, ..choice }
        }
        KeyCode::Esc if choice.help => Choice { help: false, ..choice },
        KeyCode::Char('q') | KeyCode::Esc => Choice { quit: true, ..choice },
        KeyCode::Char('?' | 'h') => Choice { help: !choice.help, ..choice },
        KeyCode::Char('p' | ' ') => Choice { paused: !choice.paused, ..choice },
        KeyCode::Tab | KeyCode::Char('v') => Choice { queues: !choice.queues, scroll: 0, ..choice },
        KeyCode::Char('s') => Choice { sort: choice.sort.next(), scroll: 0, ..choice },
        KeyCode::Down | KeyCode::Char('j') => to(scroll + 1),
        KeyCode::Up | KeyCode::Char('k') => to(scroll.saturating_sub(1)),
        KeyCode::PageDown => to(scroll + reach.page.max(1)),
        KeyCode::PageUp => to(scroll.saturating_sub(reach.page.max(1))),
        KeyCode::Home | KeyCode::Char('g') => to(0),
        KeyCode::End | KeyCode::Char('G') => to(reach.scroll_max),
        _ => choice,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REACH: Reach = Reach { scroll_max: 3, page: 2 };

    fn after(start: Choice, keys: &[KeyCode]) -> Choice {
        keys.iter().fold(start, |choice, code| press(choice, KeyEvent::from(*code), REACH))
    }

    fn chars(text: &str) -> Choice {
        after(Choice::default(), &text.chars().map(KeyCode::Char).collect::<Vec<_>>())
    }

    #[test]
    fn q_escape_and_control_c_quit() {
        assert!(chars("q").quit && after(Choice::default(), &[KeyCode::Esc]).quit);
        let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert!(press(Choice::default(), control_c, REACH).quit);
        assert!(press(chars("?"), control_c, REACH).quit);
        assert!(!chars("c").quit && !chars("xyz").quit);
    }

    #[test]
    fn escape_first_closes_the_help() {
        let open = chars("?");
        let closed = after(open, &[KeyCode::Esc]);
        assert!(open.help && !closed.help && !closed.quit && !chars("??").help);
    }

    #[test]
    fn p_pauses_and_goes_on_and_s_goes_round() {
        assert!(chars("p").paused && !chars("pp").paused);
        let sorts: Vec<_> =
            ["", "s", "ss", "sss", "ssss", "sssss"].iter().map(|keys| chars(keys).sort.as_str()).collect();
        assert_eq!(sorts, ["listed", "occupancy", "load", "zone", "state", "listed"]);
        assert_eq!(chars("jjs").scroll, 0, "another order is read from its top");
    }

    #[test]
    fn tab_changes_the_view_and_begins_at_its_top() {
        let there = after(chars("jj"), &[KeyCode::Tab]);
        assert!(there.queues && there.scroll == 0);
        assert!(!after(there, &[KeyCode::Char('v')]).queues);
    }

    #[test]
    fn scrolling_ends_where_the_list_does() {
        assert_eq!(chars("jj").scroll, 2);
        assert_eq!((chars("jjjjjjj").scroll, chars("jjjjjjjk").scroll), (3, 2));
        assert_eq!((chars("k").scroll, chars("G").scroll, chars("Gg").scroll), (0, 3, 0));
        assert_eq!(after(Choice::default(), &[KeyCode::PageDown, KeyCode::Down, KeyCode::Up]).scroll, 2);
        // The screen grew, and everything is seen now.
        let far = Choice { scroll: 9, ..Choice::default() };
        assert_eq!(press(far, KeyEvent::from(KeyCode::Up), Reach::default()).scroll, 0);
    }

    #[test]
    fn a_key_that_is_let_go_does_nothing() {
        let mut key = KeyEvent::from(KeyCode::Char('q'));
        key.kind = KeyEventKind::Release;
        assert_eq!(press(Choice::default(), key, REACH), Choice::default());
    }
}
