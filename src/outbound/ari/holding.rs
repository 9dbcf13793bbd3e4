//! Where callers hear music together: holding bridges of few members each. Asterisk looks at every member whenever one joins, so
//! that one bridge for all would cost the square of their number.

use crate::domain::id::ChannelId;
use crate::wire::ari::listing::HOLD_PREFIX;
use std::collections::{BTreeMap, BTreeSet};

/// Members of one bridge, at most.
pub const MEMBERS_MAX: usize = 20;

/// Bridges without members that are kept for the next callers, of each music class.
const SPARE: usize = 2;

/// The holding bridges of a node. Counts that are off do no harm: a bridge has a member more or less, then.
#[derive(Debug, Default)]
pub struct Holding {
    bridges: BTreeMap<String, Bridge>,
    of: BTreeMap<ChannelId, Sits>,
    numbered: u64,
    /// Lists that were begun.
    lists: u64,
}

/// Where a channel is.
#[derive(Debug)]
struct Sits {
    bridge: String,
    /// So many lists had been begun when it was last given its place.
    since: u64,
}

/// A list of what a node has, that was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun(u64);

/// What a node has, by its own word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Bridges, and who is in them.
    pub bridges: Vec<(String, Vec<ChannelId>)>,
    /// Those without members are among them.
    pub whole: bool,
}

#[derive(Debug, Default)]
struct Bridge {
    made: bool,
    members: BTreeSet<ChannelId>,
}

/// A place in a bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    /// The bridge.
    pub bridge: String,
    /// Nobody has said yet that it is there.
    pub to_be_made: bool,
}

impl Holding {
    /// A place for a channel: the one that it has, or another.
    pub fn seat(&mut self, channel: &ChannelId, class: &str) -> Seat {
        let begin = format!("{HOLD_PREFIX}{class}-");
        if let Some(sits) = self.of.get_mut(channel)
            && class_of(&sits.bridge) == Some(class)
            && let Some(found) = self.bridges.get(&sits.bridge)
        {
            sits.since = self.lists;
            return Seat { bridge: sits.bridge.clone(), to_be_made: !found.made };
        }
        self.leave(channel);
        let room = self.bridges.range(begin.clone()..).take_while(|(id, _)| id.starts_with(&begin));
        let room =
            room.filter(|(id, bridge)| class_of(id) == Some(class) && bridge.members.len() < MEMBERS_MAX);
        // The fullest one, so that the others empty.
        let found = room.max_by_key(|(_, bridge)| bridge.members.len()).map(|(id, _)| id.clone());
        let id = found.unwrap_or_else(|| {
            self.numbered += 1;
            format!("{begin}{}", self.numbered)
        });
        let bridge = self.bridges.entry(id.clone()).or_default();
        bridge.members.insert(channel.clone());
        self.of.insert(channel.clone(), Sits { bridge: id.clone(), since: self.lists });
        Seat { to_be_made: !bridge.made, bridge: id }
    }

    /// The bridge is there.
    pub fn made(&mut self, bridge: &str) {
        if let Some(bridge) = self.bridges.get_mut(bridge) {
            bridge.made = true;
        }
    }

    /// The node says that there is no such bridge: it is made anew for the next one.
    pub fn lost(&mut self, bridge: &str) {
        if let Some(bridge) = self.bridges.remove(bridge) {
            bridge.members.iter().for_each(|channel| drop(self.of.remove(channel)));
        }
    }

    /// Whether a channel is in one.
    pub fn has(&self, channel: &ChannelId) -> bool {
        self.of.contains_key(channel)
    }

    /// A channel is in no holding bridge any more.
    pub fn leave(&mut self, channel: &ChannelId) {
        if let Some(bridge) = self.of.remove(channel).and_then(|sits| self.bridges.get_mut(&sits.bridge)) {
            bridge.members.remove(channel);
        }
    }

    /// The node is asked what it has.
    pub fn list(&mut self) -> Begun {
        self.lists += 1;
        Begun(self.lists)
    }

    /// What the node has. Returns the bridges that nobody needs: they are not used any more.
    ///
    /// Whoever was given a place since the list before this one was begun keeps it, and the bridge with it: the request for it may be
    /// younger than the answer.
    pub fn seen(&mut self, shown: Shown, begun: Begun) -> Vec<String> {
        let mut before = std::mem::take(&mut self.bridges);
        let mut all: BTreeMap<String, Bridge> = BTreeMap::new();
        if !shown.whole {
            let made = before.iter().filter(|(_, bridge)| bridge.made);
            all.extend(made.map(|(id, _)| (id.clone(), Bridge { made: true, members: BTreeSet::new() })));
        }
        self.of.retain(|_, sits| sits.since + 1 >= begun.0);
        for (id, members) in shown.bridges {
            let others: BTreeSet<ChannelId> =
                members.into_iter().filter(|channel| !self.of.contains_key(channel)).collect();
            all.insert(id, Bridge { made: true, members: others });
        }
        for (channel, sits) in &self.of {
            let made = before.remove(&sits.bridge).is_some_and(|bridge| bridge.made);
            let bridge = all.entry(sits.bridge.clone());
            let bridge = bridge.or_insert_with(|| Bridge { made, members: BTreeSet::new() });
            bridge.members.insert(channel.clone());
        }
        let mut spare: BTreeMap<String, usize> = BTreeMap::new();
        let mut needless = Vec::new();
        for (id, bridge) in all {
            let number = id.rsplit('-').next().and_then(|n| n.parse().ok()).unwrap_or(0);
            self.numbered = self.numbered.max(number);
            if bridge.members.is_empty() {
                let kept = spare.entry(class_of(&id).unwrap_or_default().to_owned()).or_default();
                *kept += 1;
                if *kept > SPARE {
                    needless.push(id);
                    continue;
                }
            }
            for channel in &bridge.members {
                let sits = self.of.entry(channel.clone());
                sits.or_insert_with(|| Sits { bridge: id.clone(), since: 0 });
            }
            self.bridges.insert(id, bridge);
        }
        needless
    }
}

/// The music class that a bridge's id names.
fn class_of(bridge: &str) -> Option<&str> {
    bridge.strip_prefix(HOLD_PREFIX)?.rsplit_once('-').map(|(class, _)| class)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(n: usize) -> ChannelId {
        format!("ast1-{n}").parse().unwrap()
    }

    #[test]
    fn bridges_fill_up_one_after_the_other() {
        let mut holding = Holding::default();
        let mut seats = BTreeSet::new();
        for n in 0..=MEMBERS_MAX {
            let seat = holding.seat(&channel(n), "jazz-2");
            assert_eq!(seat.to_be_made, n == 0 || n == MEMBERS_MAX, "{n}");
            holding.made(&seat.bridge);
            seats.insert(seat.bridge);
        }
        assert_eq!(Vec::from_iter(&seats), ["mqs-hold-jazz-2-1", "mqs-hold-jazz-2-2"]);
        // Who comes again sits where they sat; another class is another bridge, also one whose name begins the same.
        assert_eq!(holding.seat(&channel(3), "jazz-2").bridge, "mqs-hold-jazz-2-1");
        assert_eq!(holding.seat(&channel(3), "jazz").bridge, "mqs-hold-jazz-3");
        // The place that is free now goes to the next one.
        assert_eq!(holding.seat(&channel(99), "jazz-2").bridge, "mqs-hold-jazz-2-1");
        assert_eq!(holding.seat(&channel(100), "").bridge, "mqs-hold--4");
        assert_eq!(holding.seat(&channel(101), "").bridge, "mqs-hold--4");
    }

    type Members = (&'static str, &'static [usize]);

    fn shown(bridges: &[Members], whole: bool) -> Shown {
        let members = |all: &[usize]| all.iter().map(|n| channel(*n)).collect();
        let bridges = bridges.iter().map(|(id, all)| ((*id).to_owned(), members(all)));
        Shown { bridges: bridges.collect(), whole }
    }

    fn list(holding: &mut Holding, bridges: &[Members]) -> Vec<String> {
        let begun = holding.list();
        holding.seen(shown(bridges, true), begun)
    }

    #[test]
    fn a_listing_tells_what_there_is() {
        let mut holding = Holding::default();
        let some: [Members; 3] = [("mqs-hold--7", &[5]), ("mqs-hold--8", &[]), ("mqs-hold--9", &[])];
        assert_eq!(list(&mut holding, &some), [""; 0]);
        let more = [some.as_slice(), &[("mqs-hold--91", &[]), ("mqs-hold-x-1", &[])]].concat();
        assert_eq!(list(&mut holding, &more), ["mqs-hold--91"]);
        let seat = holding.seat(&channel(6), "");
        assert_eq!(seat, Seat { bridge: "mqs-hold--7".to_owned(), to_be_made: false });
        holding.lost("mqs-hold--7");
        holding.lost("mqs-hold--8");
        holding.lost("mqs-hold--9");
        let seat = holding.seat(&channel(6), "");
        assert_eq!(seat, Seat { bridge: "mqs-hold--92".to_owned(), to_be_made: true });
    }

    #[test]
    fn who_was_given_a_place_meanwhile_keeps_it() {
        const EMPTY: [Members; 3] = [("mqs-hold--1", &[]), ("mqs-hold--2", &[]), ("mqs-hold--3", &[])];
        let mut holding = Holding::default();
        list(&mut holding, &[("mqs-hold--3", &[1])]);
        let seat = holding.seat(&channel(2), "");
        assert_eq!(seat.bridge, "mqs-hold--3");
        // Two requests may be on their way: one when the list is begun, one when it is there.
        assert_eq!(list(&mut holding, &EMPTY), [""; 0]);
        assert_eq!(holding.seat(&channel(3), "").bridge, "mqs-hold--3", "it has a member by now");
        // Where the node shows them nowhere twice, they are not there.
        assert_eq!(list(&mut holding, &EMPTY), [""; 0]);
        let begun = holding.list();
        holding.leave(&channel(3));
        assert_eq!(holding.seat(&channel(4), "").bridge, "mqs-hold--3");
        assert_eq!(holding.seen(shown(&EMPTY, true), begun), [""; 0], "two are spare");
        assert!(holding.has(&channel(4)) && !holding.has(&channel(2)));
        list(&mut holding, &EMPTY);
        assert_eq!(list(&mut holding, &EMPTY), ["mqs-hold--3"]);
    }

    #[test]
    fn a_bridge_that_is_being_made_is_made_once() {
        let mut holding = Holding::default();
        let begun = holding.list();
        let seat = holding.seat(&channel(1), "");
        holding.made(&seat.bridge);
        holding.seen(shown(&[], true), begun);
        assert_eq!(holding.seat(&channel(2), ""), Seat { bridge: seat.bridge, to_be_made: false });
    }

    #[test]
    fn a_node_that_shows_no_empty_bridges_has_them_all_the_same() {
        let mut holding = Holding::default();
        for day in 0..100 {
            let seat = holding.seat(&channel(day), "");
            assert_eq!(seat, Seat { bridge: "mqs-hold--1".to_owned(), to_be_made: day == 0 });
            holding.made(&seat.bridge);
            holding.leave(&channel(day));
            let begun = holding.list();
            assert_eq!(holding.seen(shown(&[], false), begun), [""; 0]);
        }
        // Of many that were needed at once most are deleted.
        for n in 0..100 {
            let seat = holding.seat(&channel(n), "");
            holding.made(&seat.bridge);
        }
        (0..100).for_each(|n| holding.leave(&channel(n)));
        let begun = holding.list();
        assert_eq!(holding.seen(shown(&[], false), begun), ["mqs-hold--3", "mqs-hold--4", "mqs-hold--5"]);
    }
}
