//! What a node's own list of channels changes of the leases that are counted on it. The node is the truth about channels.

use super::id::LeaseId;
use std::collections::BTreeSet;

/// What is remembered of one node from one list to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Confirmed, and not in the last list.
    missed: BTreeSet<LeaseId>,
    /// In the last list, of channels that named no lease.
    nameless: BTreeSet<LeaseId>,
}

/// What has to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repair {
    /// Their calls are over, and nobody has said so.
    pub end: Vec<LeaseId>,
    /// Their calls are there, and are not counted, or only held.
    pub confirm: Vec<LeaseId>,
}

impl Census {
    /// Compares. `counted`: the live leases, and whether each is confirmed, read after the list was begun. A lease that is held may
    /// be on its way. One that is confirmed and not shown may be younger than the list: it ends when the next one, begun later,
    /// does not show it either. `nameless`: those of `shown` that were made of their channels, which named none. A channel that has
    /// just come has not been told yet which lease it has: it is counted when the next list shows it so, too.
    pub fn compare(
        &mut self,
        shown: &BTreeSet<LeaseId>,
        nameless: &BTreeSet<LeaseId>,
        counted: &[(LeaseId, bool)],
    ) -> Repair {
        let absent: BTreeSet<LeaseId> = counted
            .iter()
            .filter(|(lease, confirmed)| *confirmed && !shown.contains(lease))
            .map(|(lease, _)| *lease)
            .collect();
        let end: Vec<LeaseId> = absent.intersection(&self.missed).copied().collect();
        self.missed = absent;
        self.missed.retain(|lease| !end.contains(lease));
        let confirmed: BTreeSet<LeaseId> =
            counted.iter().filter(|(_, confirmed)| *confirmed).map(|(lease, _)| *lease).collect();
        let young: BTreeSet<LeaseId> = nameless.difference(&self.nameless).copied().collect();
        self.nameless = nameless.clone();
        let uncounted = shown.difference(&confirmed).filter(|lease| !young.contains(lease));
        Repair { end, confirm: uncounted.copied().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> LeaseId {
        LeaseId([n; 16])
    }

    fn compare(census: &mut Census, shown: &[u8], counted: &[(u8, bool)]) -> (Vec<u8>, Vec<u8>) {
        let counted: Vec<_> = counted.iter().map(|(n, confirmed)| (id(*n), *confirmed)).collect();
        let repair = census.compare(&shown.iter().map(|n| id(*n)).collect(), &BTreeSet::new(), &counted);
        let numbers = |ids: Vec<LeaseId>| ids.iter().map(|id| id.0[0]).collect();
        (numbers(repair.end), numbers(repair.confirm))
    }

    #[test]
    fn what_two_lists_do_not_show_is_over() {
        let mut census = Census::default();
        let counted = [(1, true), (2, true), (3, false)];
        assert_eq!(compare(&mut census, &[2], &counted), (vec![], vec![]));
        assert_eq!(compare(&mut census, &[2], &counted), (vec![1], vec![]), "a held one is left alone");
        assert_eq!(compare(&mut census, &[2], &counted[1..]), (vec![], vec![]), "it is ended once");
    }

    #[test]
    fn what_was_shown_in_between_is_there() {
        let mut census = Census::default();
        let counted = [(1, true)];
        for shown in [&[][..], &[1], &[], &[1], &[]] {
            assert_eq!(compare(&mut census, shown, &counted), (vec![], vec![]));
        }
        assert_eq!(compare(&mut census, &[], &counted), (vec![1], vec![]));
    }

    #[test]
    fn a_channel_that_names_no_lease_is_counted_when_two_lists_show_it_so() {
        let ids = |numbers: &[u8]| numbers.iter().map(|n| id(*n)).collect::<BTreeSet<LeaseId>>();
        let mut census = Census::default();
        // 8 is the channel of lease 1, which it has not been told yet; 9 is nobody's.
        let first = census.compare(&ids(&[8, 9]), &ids(&[8, 9]), &[(id(1), false)]);
        assert_eq!(first, Repair::default());
        let second = census.compare(&ids(&[1, 9]), &ids(&[9]), &[(id(1), false)]);
        assert_eq!((second.end, second.confirm), (vec![], vec![id(1), id(9)]));
    }

    #[test]
    fn what_is_there_is_counted() {
        let mut census = Census::default();
        let counted = [(1, false), (2, true)];
        assert_eq!(compare(&mut census, &[1, 2, 3], &counted), (vec![], vec![1, 3]));
    }
}
