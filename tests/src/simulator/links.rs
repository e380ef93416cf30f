//! The links between the endpoints: which are cut, which are slow.

use std::collections::{BTreeMap, BTreeSet};

/// Directed: from, to.
pub(super) type Link = (usize, usize);

#[derive(Default)]
pub(super) struct Links {
    /// How many partitions cut each link at present.
    cut: BTreeMap<Link, u32>,
    /// Milliseconds that each clogged link adds.
    clogged: BTreeMap<Link, u64>,
    /// Links whose connection is open at both ends, and swallows what is sent on it.
    swallowing: BTreeSet<Link>,
}

impl Links {
    pub(super) fn is_cut(&self, link: Link) -> bool {
        self.cut.contains_key(&link)
    }

    pub(super) fn are_connected(&self, a: usize, b: usize) -> bool {
        !self.is_cut((a, b)) && !self.is_cut((b, a))
    }

    /// Whether what is sent arrives.
    pub(super) fn carries(&self, link: Link) -> bool {
        !self.is_cut(link) && !self.swallowing.contains(&link)
    }

    /// The connections that are open now lead nowhere; nobody is told.
    pub(super) fn swallow(&mut self, links: &[Link]) {
        self.swallowing.extend(links);
    }

    /// New connections have taken the place of those that led nowhere.
    pub(super) fn renew(&mut self, links: &[Link]) {
        links.iter().for_each(|link| _ = self.swallowing.remove(link));
    }

    pub(super) fn cut(&mut self, links: &[Link]) {
        for link in links {
            *self.cut.entry(*link).or_default() += 1;
        }
    }

    pub(super) fn mend(&mut self, links: &[Link]) {
        for link in links {
            if let Some(count) = self.cut.get_mut(link) {
                *count -= 1;
                if *count == 0 {
                    self.cut.remove(link);
                }
            }
        }
    }

    pub(super) fn clog(&mut self, link: Link, extra_ms: u64) {
        self.clogged.insert(link, extra_ms);
    }

    pub(super) fn unclog(&mut self, link: Link) {
        self.clogged.remove(&link);
    }

    pub(super) fn extra_ms(&self, link: Link) -> u64 {
        self.clogged.get(&link).copied().unwrap_or(0)
    }

    pub(super) fn heal(&mut self) {
        *self = Self::default();
    }
}

/// All links across a boundary, both ways.
pub(super) fn between(side: &BTreeSet<usize>, count: usize) -> Vec<Link> {
    let all = (0..count).flat_map(|a| (0..count).map(move |b| (a, b)));
    all.filter(|(a, b)| side.contains(a) != side.contains(b)).collect()
}
