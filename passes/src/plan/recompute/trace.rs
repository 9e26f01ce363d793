//! A sequence of units in which some run several times, each time into memory of its own.

use super::problem::Problem;
use smallvec::SmallVec;

/// Which unit runs when, and on which versions of the values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// In order.
    pub items: Vec<Item>,
    /// The value that each version is of: the first ones are those of the plan, in order; the others are made again, later
    /// ones later.
    pub versions: Vec<usize>,
}

/// A unit that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Which.
    pub unit: usize,
    /// Where it runs again: the number of what is made again together.
    pub group: Option<usize>,
    /// The versions that it reads, in the order of [`super::problem::Unit::reads`].
    pub reads: SmallVec<[usize; 4]>,
    /// The versions that it writes.
    pub writes: SmallVec<[usize; 2]>,
}

impl Trace {
    /// The largest sum of bytes live at one item, where results take the place of operands that end as placement lets them.
    pub fn peak(&self, problem: &Problem) -> u64 {
        let mut lives: Vec<Option<(usize, usize)>> = vec![None; self.versions.len()];
        for (time, item) in self.items.iter().enumerate() {
            for &version in item.writes.iter().chain(&item.reads) {
                lives[version] = Some(lives[version].map_or((time, time), |(first, _)| (first, time)));
            }
        }
        let mut roots: Vec<usize> = (0..self.versions.len()).collect();
        for (time, item) in self.items.iter().enumerate() {
            let unit = &problem.units[item.unit];
            let place = |list: &[usize], value: usize| list.iter().position(|&other| other == value);
            for &(from, to) in &unit.in_place {
                let (Some(from), Some(to)) = (place(&unit.reads, from), place(&unit.writes, to)) else { continue };
                let (root, to) = (roots[item.reads[from]], item.writes[to]);
                if roots[to] == to && lives[root].is_some_and(|(_, end)| end == time) {
                    roots[to] = root;
                    let end = lives[to].take().map_or(time, |(_, end)| end);
                    lives[root] = lives[root].map(|(first, _)| (first, end));
                }
            }
        }
        let mut changes = vec![0i64; self.items.len() + 1];
        for (&value, life) in self.versions.iter().zip(&lives) {
            let Some((first, last)) = *life else { continue };
            changes[first] += problem.values[value].bytes as i64;
            changes[last + 1] -= problem.values[value].bytes as i64;
        }
        let sums = changes.iter().scan(0, |live, change| {
            *live += change;
            Some(*live)
        });
        sums.max().unwrap_or(0) as u64
    }

    /// The cost of all that runs again.
    pub fn cost(&self, problem: &Problem) -> u64 {
        self.again().map(|item| problem.units[item.unit].cost).sum()
    }

    /// The scalar operations of all that runs again.
    pub fn operations(&self, problem: &Problem) -> u64 {
        self.again().map(|item| problem.units[item.unit].operations).sum()
    }

    fn again(&self) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(|item| item.group.is_some())
    }

    /// Leaves out what is made again without need: that nobody reads, and, dearest first, all that can as well be kept
    /// within `budget`.
    pub fn prune(&mut self, problem: &Problem, budget: u64) {
        self.drop_unread();
        let mut groups: Vec<(u64, usize)> = Vec::new();
        for item in self.again() {
            let Some(group) = item.group else { continue };
            let cost = problem.units[item.unit].cost;
            match groups.iter_mut().find(|(_, other)| *other == group) {
                Some((sum, _)) => *sum += cost,
                None => groups.push((cost, group)),
            }
        }
        groups.sort_by_key(|&(cost, group)| (std::cmp::Reverse(cost), group));
        for (_, group) in groups {
            let kept = self.without(problem, group);
            if kept.items.len() < self.items.len() && kept.peak(problem) <= budget {
                *self = kept;
            }
        }
    }

    /// The trace with the values of a group kept instead: those who read them read the version before.
    fn without(&self, problem: &Problem, group: usize) -> Trace {
        let mut kept = self.clone();
        let of_group = |item: &Item| item.group == Some(group);
        let gone: Vec<usize> =
            self.items.iter().filter(|item| of_group(item)).flat_map(|item| item.writes.iter().copied()).collect();
        // Of a value that several units write there may be pieces that nobody wanted.
        let mut n_writers = vec![0; self.versions.len()];
        self.items.iter().flat_map(|item| &item.writes).for_each(|&version| n_writers[version] += 1);
        let is_whole = |version: usize| n_writers[version] == problem.values[self.versions[version]].writers.len();
        let mut newest: Vec<Option<usize>> = vec![None; self.versions.len()];
        kept.items.retain(|item| !of_group(item));
        for item in &mut kept.items {
            for read in item.reads.iter_mut().filter(|read| gone.contains(read)) {
                *read = newest[self.versions[*read]].unwrap_or(*read);
            }
            let whole = item.writes.iter().copied().filter(|&version| is_whole(version));
            whole.for_each(|version| newest[self.versions[version]] = Some(version));
        }
        kept.drop_unread();
        kept
    }

    /// Leaves out groups of which nobody reads what they write.
    fn drop_unread(&mut self) {
        let mut is_read = vec![false; self.versions.len()];
        // Readers come behind: a group is wanted where any of its items writes what is read later.
        let mut wanted: Vec<usize> = Vec::new();
        for item in self.items.iter().rev() {
            let is_wanted = item
                .group
                .is_none_or(|group| wanted.contains(&group) || item.writes.iter().any(|&version| is_read[version]));
            if is_wanted {
                wanted.extend(item.group.filter(|group| !wanted.contains(group)));
                item.reads.iter().for_each(|&version| is_read[version] = true);
            }
        }
        self.items.retain(|item| item.group.is_none_or(|group| wanted.contains(&group)));
    }
}
