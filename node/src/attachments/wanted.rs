//! What is missing: which of it is asked for next, and when again after nobody had it. Without clock or sockets.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use customhouse_ledger::{agency::AgencyCode, hash::Hash};

/// Attachments of one agency's records that are remembered as missing. There is no limit for all: some agencies
/// whose attachments nobody has would leave the others no room.
const WANTED_OF_AGENCY_MAX: usize = 1024;
/// Attachments of one agency's records that are fetched at a time.
const UNDER_WAY_OF_AGENCY_MAX: usize = 2;
/// Further agencies whose records refer to the same that are remembered.
const OTHERS_MAX: usize = 16;
/// The first pause after nobody had an attachment; it doubles each time.
const PAUSE_FIRST: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(3600);
/// The pause between what is asked for again, of all agencies together: each time it may be asked of all peers.
const AGAIN_EVERY: Duration = Duration::from_millis(250);

/// An attachment of a committed record that is not held here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Missing {
    pub(super) root: Hash,
    pub(super) size: u64,
    /// Whose record refers to it.
    pub(super) agency: AgencyCode,
    /// Where the record was committed.
    pub(super) height: u64,
}

#[derive(Debug)]
struct Entry {
    missing: Missing,
    /// Whose records refer to it too.
    others: Vec<AgencyCode>,
    tries: u32,
    due: Instant,
    is_under_way: bool,
}

impl Entry {
    /// When it is due, where nothing is asked for again before this.
    fn due(&self, again_from: Option<Instant>) -> Instant {
        again_from.filter(|_| self.tries > 0).map_or(self.due, |from| from.max(self.due))
    }
}

/// What is missing.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    entries: BTreeMap<(Hash, u64), Entry>,
    agencies: BTreeMap<AgencyCode, OfAgency>,
    /// When something may be asked for again that nobody had.
    again_from: Option<Instant>,
    turns: u64,
}

/// What is missing of one agency's records.
#[derive(Debug, Default)]
struct OfAgency {
    entries: usize,
    /// The lowest height of something that there was no room for.
    skipped_from: Option<u64>,
    /// When something of it was last begun, as a count of what was.
    turn: u64,
}

impl Wanted {
    /// Something is missing.
    pub(super) fn add(&mut self, missing: Missing, now: Instant) {
        let Missing { root, size, agency, height } = missing;
        if let Some(entry) = self.entries.get_mut(&(root, size)) {
            entry.missing.height = entry.missing.height.min(height);
            let is_known = entry.missing.agency == agency || entry.others.contains(&agency);
            if !is_known && entry.others.len() < OTHERS_MAX {
                entry.others.push(agency);
            }
            return;
        }
        let of_agency = self.agencies.entry(agency).or_default();
        if of_agency.entries >= WANTED_OF_AGENCY_MAX {
            let skipped = of_agency.skipped_from.map_or(height, |from| from.min(height));
            of_agency.skipped_from = Some(skipped);
            return;
        }
        of_agency.entries += 1;
        let others = Vec::new();
        let entry = Entry { missing, others, tries: 0, due: now, is_under_way: false };
        self.entries.insert((root, size), entry);
    }

    /// What is fetched next of what is due: of an agency of which few are under way, and of which something was begun
    /// longest ago; of that, what is due longest.
    pub(super) fn next(&mut self, now: Instant) -> Option<Missing> {
        let mut under_way = BTreeMap::<AgencyCode, usize>::new();
        for entry in self.entries.values().filter(|entry| entry.is_under_way) {
            *under_way.entry(entry.missing.agency).or_default() += 1;
        }
        let of = |agency: &AgencyCode| under_way.get(agency).copied().unwrap_or_default();
        let turn =
            |agency: &AgencyCode| self.agencies.get(agency).map_or(0, |of_agency| of_agency.turn);
        let again_from = self.again_from;
        let due = self.entries.values_mut().filter(|entry| {
            let agency = &entry.missing.agency;
            !entry.is_under_way
                && entry.due(again_from) <= now
                && of(agency) < UNDER_WAY_OF_AGENCY_MAX
        });
        let next = due.min_by_key(|entry| {
            let agency = &entry.missing.agency;
            (of(agency), turn(agency), entry.due)
        })?;
        next.is_under_way = true;
        if next.tries > 0 {
            self.again_from = Some(now + AGAIN_EVERY);
        }
        self.turns += 1;
        let of_agency = self.agencies.entry(next.missing.agency).or_default();
        of_agency.turn = self.turns;
        Some(next.missing)
    }

    /// The agencies whose records refer to it: the nodes of any of them may have it.
    pub(super) fn agencies_of(&self, missing: &Missing) -> Vec<AgencyCode> {
        let others = self.entries.get(&(missing.root, missing.size)).map(|entry| &entry.others);
        std::iter::once(missing.agency).chain(others.into_iter().flatten().copied()).collect()
    }

    /// Whether something waits for a place.
    pub(super) fn is_any_due(&self, now: Instant) -> bool {
        let again_from = self.again_from;
        self.entries.values().any(|entry| !entry.is_under_way && entry.due(again_from) <= now)
    }

    /// When something will be due; nothing where nothing waits.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let waiting = self.entries.values().filter(|entry| !entry.is_under_way);
        waiting.map(|entry| entry.due(self.again_from)).min()
    }

    /// It is held now: no file has the other sizes that records state of its root.
    pub(super) fn came(&mut self, missing: &Missing) {
        // The peers have again what they had not: the next need not wait.
        self.again_from = None;
        let sizes = self.entries.range((missing.root, 0)..=(missing.root, u64::MAX));
        let all: Vec<_> = sizes.map(|(_, entry)| entry.missing).collect();
        all.iter().for_each(|missing| self.never_comes(missing));
    }

    /// No file is it.
    pub(super) fn never_comes(&mut self, missing: &Missing) {
        let Some(entry) = self.entries.remove(&(missing.root, missing.size)) else { return };
        let agency = entry.missing.agency;
        if let Some(of_agency) = self.agencies.get_mut(&agency) {
            of_agency.entries -= 1;
            if of_agency.entries == 0 && of_agency.skipped_from.is_none() {
                self.agencies.remove(&agency);
            }
        }
    }

    /// Some of it came: it is had, and waits behind the others.
    pub(super) fn came_in_part(&mut self, missing: &Missing, now: Instant) {
        if let Some(entry) = self.entries.get_mut(&(missing.root, missing.size)) {
            (entry.tries, entry.due, entry.is_under_way) = (0, now, false);
        }
    }

    /// It could not be had.
    pub(super) fn failed(&mut self, missing: &Missing, now: Instant) {
        if let Some(entry) = self.entries.get_mut(&(missing.root, missing.size)) {
            let pause = PAUSE_FIRST.saturating_mul(1 << entry.tries.min(16)).min(PAUSE_MAX);
            entry.tries += 1;
            entry.due = now + pause;
            entry.is_under_way = false;
        }
    }

    /// Another peer may have what nobody had: all of it is due now, one after the other.
    pub(super) fn hurry(&mut self, now: Instant) {
        for entry in self.entries.values_mut() {
            entry.due = entry.due.min(now);
        }
    }

    /// The lowest height of a record of which something is missing.
    pub(super) fn lowest(&self) -> Option<u64> {
        let heights = self.entries.values().map(|entry| entry.missing.height);
        let skipped = self.agencies.values().filter_map(|of_agency| of_agency.skipped_from);
        heights.chain(skipped).min()
    }

    /// From which height the records are to be looked at again, because there is room now for what was skipped of
    /// some agency's. What is skipped of the others' again is noted again.
    pub(super) fn take_skipped(&mut self) -> Option<u64> {
        let agencies = self.agencies.values_mut();
        let roomy = agencies.filter(|of_agency| of_agency.entries <= WANTED_OF_AGENCY_MAX / 2);
        roomy.filter_map(|of_agency| of_agency.skipped_from.take()).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agency(code: &str) -> AgencyCode {
        code.parse().expect("a code")
    }

    fn missing(number: u64, agency: &str) -> Missing {
        let mut root = [0; 32];
        root[..8].copy_from_slice(&number.to_be_bytes());
        let agency = self::agency(agency);
        Missing { root: Hash(root), size: 7, agency, height: 10 + number }
    }

    #[test]
    fn one_agency_s_attachments_do_not_wait_for_all_of_another_s() {
        let (mut wanted, now) = (Wanted::default(), Instant::now());
        (0..10).for_each(|number| wanted.add(missing(number, "AA"), now));
        wanted.add(missing(11, "BB"), now);
        let mut next = || wanted.next(now).map(|missing| missing.agency.to_string());
        assert_eq!(next().as_deref(), Some("AA"));
        assert_eq!(next().as_deref(), Some("BB"));
        assert_eq!(next().as_deref(), Some("AA"));
        assert_eq!(next(), None, "no more of one at a time");
    }

    #[test]
    fn what_nobody_had_is_asked_for_again_later_and_later() {
        let (mut wanted, mut now) = (Wanted::default(), Instant::now());
        wanted.add(missing(1, "AA"), now);
        let mut pauses = Vec::new();
        for _ in 0..20 {
            let next = wanted.next(now).expect("due");
            assert_eq!(wanted.next(now), None, "under way");
            wanted.failed(&next, now);
            let due = wanted.next_due().expect("again");
            pauses.push(due - now);
            assert_eq!(wanted.next(now), None, "not yet");
            now = due;
        }
        assert!(pauses.is_sorted() && pauses[1] == 2 * pauses[0], "{pauses:?}");
        assert_eq!(pauses[19], PAUSE_MAX);
        wanted.hurry(now);
        let next = wanted.next(now).expect("due");
        wanted.came(&next);
        assert_eq!((wanted.lowest(), wanted.agencies.len()), (None, 0));
    }

    #[test]
    fn one_agency_s_missing_attachments_leave_room_for_the_others_and_none_is_forgotten() {
        let (mut wanted, now) = (Wanted::default(), Instant::now());
        let of_agency = WANTED_OF_AGENCY_MAX as u64;
        // Those of AA nobody has.
        (0..of_agency + 5).for_each(|number| wanted.add(missing(number, "AA"), now));
        assert_eq!(wanted.entries.len(), WANTED_OF_AGENCY_MAX);
        assert_eq!(wanted.agencies[&agency("AA")].skipped_from, Some(10 + of_agency));
        let other = |number| missing((1 << 40) + number, "BB");
        (0..of_agency + 7).for_each(|number| wanted.add(other(number), now));
        assert_eq!(wanted.entries.len(), 2 * WANTED_OF_AGENCY_MAX);
        assert_eq!((wanted.take_skipped(), wanted.lowest()), (None, Some(10)));
        (0..of_agency / 2).for_each(|number| wanted.came(&other(number)));
        assert_eq!(wanted.take_skipped(), Some(other(of_agency).height), "of BB alone");
        assert_eq!(wanted.agencies[&agency("AA")].skipped_from, Some(10 + of_agency));
        (of_agency / 2..of_agency).for_each(|number| wanted.came(&other(number)));
        assert!(!wanted.agencies.contains_key(&agency("BB")), "nothing is kept of it");
    }

    #[test]
    fn what_nobody_had_is_asked_for_again_a_few_a_second_each_agency_s_in_turn() {
        let (mut wanted, mut now) = (Wanted::default(), Instant::now());
        (0..500).for_each(|number| wanted.add(missing(number, "AA"), now));
        (500..503).for_each(|number| wanted.add(missing(number, "BB"), now));
        while let Some(next) = wanted.next(now) {
            wanted.failed(&next, now);
        }
        // However often peers come.
        let (mut begun, end) = (Vec::new(), now + Duration::from_secs(60));
        while now < end {
            wanted.hurry(now);
            while let Some(next) = wanted.next(now) {
                begun.push(next.agency.to_string());
                wanted.failed(&next, now);
            }
            now += Duration::from_millis(10);
        }
        assert!((200..=241).contains(&begun.len()), "{}", begun.len());
        assert_eq!(begun[..4].iter().filter(|agency| *agency == "BB").count(), 2);
        // What was not asked for yet does not wait for that, and what came shows that more may.
        let (one, other) = (wanted.next(now + AGAIN_EVERY).expect("due"), missing(1000, "CC"));
        assert_eq!((wanted.next(now), wanted.next_due()), (None, Some(now + 2 * AGAIN_EVERY)));
        wanted.add(other, now);
        assert_eq!(wanted.next(now), Some(other));
        wanted.came(&one);
        assert!(wanted.next(now).is_some());
    }

    #[test]
    fn what_came_in_part_waits_behind_the_others_without_a_pause() {
        let (mut wanted, now) = (Wanted::default(), Instant::now());
        (0..3).for_each(|number| wanted.add(missing(number, "AA"), now));
        let (first, second) = (wanted.next(now).expect("due"), wanted.next(now).expect("due"));
        assert!(wanted.is_any_due(now), "the third");
        let later = now + Duration::from_secs(10);
        wanted.came_in_part(&first, later);
        assert_eq!(wanted.next(later), Some(missing(2, "AA")));
        wanted.came_in_part(&second, later + Duration::from_secs(1));
        assert_eq!(wanted.next(later + Duration::from_secs(1)), Some(first));
        assert!(wanted.is_any_due(later + Duration::from_secs(1)), "the second");
    }

    #[test]
    fn once_a_file_is_held_the_other_sizes_of_its_root_are_not_wanted_any_more() {
        let (mut wanted, now) = (Wanted::default(), Instant::now());
        let right = missing(5, "AA");
        let lies =
            [0, 6, 8, u64::MAX].map(|size| Missing { size, agency: agency("LIAR"), ..right });
        lies.into_iter().chain([right]).for_each(|missing| wanted.add(missing, now));
        wanted.add(missing(4, "BB"), now);
        wanted.add(missing(6, "BB"), now);
        wanted.never_comes(&lies[0]);
        assert_eq!(wanted.entries.len(), 6);
        wanted.came(&right);
        let left: Vec<_> = wanted.entries.values().map(|entry| entry.missing).collect();
        assert_eq!(left, [missing(4, "BB"), missing(6, "BB")]);
        assert_eq!(wanted.agencies.keys().collect::<Vec<_>>(), [&agency("BB")]);
    }

    #[test]
    fn the_same_attachment_of_two_records_is_wanted_once_from_the_lower() {
        let (mut wanted, now) = (Wanted::default(), Instant::now());
        let one = missing(5, "AA");
        wanted.add(one, now);
        wanted.add(Missing { height: 3, ..one }, now);
        wanted.add(Missing { height: 30, ..one }, now);
        wanted.add(Missing { agency: agency("BB"), ..one }, now);
        assert_eq!((wanted.entries.len(), wanted.lowest()), (1, Some(3)));
        assert_eq!(
            wanted.agencies_of(&one),
            ["AA", "BB"].map(agency),
            "either's nodes may have it"
        );
    }
}
