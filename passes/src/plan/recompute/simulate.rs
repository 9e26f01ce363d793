//! A run within a budget: where there is no room, a value is given up that is needed late and cheap to make again, and it
//! is made again right before it is needed. ("Dynamic tensor rematerialization", Kirisame and others 2021, decides so in
//! the middle of a run; here what is needed when is known.)

use super::problem::Problem;
use super::trace::{Item, Trace};
use smallvec::SmallVec;

/// What makes a value one to give up.
#[derive(Clone, Copy, Debug)]
pub struct Taste {
    /// Whether it counts for how long it is not needed.
    pub by_time: bool,
    /// Whether what nobody needs any more is worth something as long as other values are made from it.
    pub by_descent: bool,
}

/// All tastes. None is always the best.
pub const TASTES: [Taste; 4] = [
    Taste { by_time: true, by_descent: false },
    Taste { by_time: true, by_descent: true },
    Taste { by_time: false, by_descent: false },
    Taste { by_time: false, by_descent: true },
];

/// A run may have so many times the units that the plan has.
const MOST_ITEMS: usize = 20;

/// Runs all units with no more than `budget` bytes at a time; `None` where that is not possible this way.
pub fn run(problem: &Problem, budget: u64, taste: Taste) -> Option<Trace> {
    let n = problem.values.len();
    let trace = Trace { items: Vec::new(), versions: (0..n).collect() };
    let mut run = Run {
        problem,
        budget,
        taste,
        live: 0,
        version: (0..n).collect(),
        is_live: vec![false; n],
        pins: vec![0; n],
        position: 0,
        n_groups: 0,
        trace,
    };
    for position in 0..problem.units.len() {
        run.position = position;
        let unit = &problem.units[position];
        let touched = || unit.reads.iter().chain(&unit.writes).copied();
        touched().for_each(|value| run.pins[value] += 1);
        for &value in &unit.reads {
            run.ensure(value)?;
        }
        run.perform(position, None)?;
        touched().for_each(|value| run.pins[value] -= 1);
    }
    Some(run.trace)
}

struct Run<'p> {
    problem: &'p Problem,
    budget: u64,
    taste: Taste,
    /// Bytes.
    live: u64,
    /// The newest version of each value, and whether it is in memory.
    version: Vec<usize>,
    is_live: Vec<bool>,
    /// How many units that are about to run need it.
    pins: Vec<u32>,
    /// The next unit of the plan.
    position: usize,
    n_groups: usize,
    trace: Trace,
}

/// Units that run again together.
#[derive(Clone, Copy)]
struct Group<'g> {
    number: usize,
    /// The values that they make again: one that is needed, and others that the same units write and that were given up.
    values: &'g [usize],
}

impl Run<'_> {
    /// Makes a value again where it was given up.
    fn ensure(&mut self, value: usize) -> Option<()> {
        if self.is_live[value] {
            return Some(());
        }
        let problem = self.problem;
        let writers = &problem.values[value].writers;
        let beside = problem.units[writers[0]].writes.iter().copied();
        let values: SmallVec<[usize; 2]> =
            beside.filter(|&other| problem.values[other].writers == *writers && !self.is_live[other]).collect();
        let group = Group { number: self.n_groups, values: &values };
        self.n_groups += 1;
        values.iter().for_each(|&value| self.pins[value] += 1);
        for &writer in writers {
            let unit = &problem.units[writer];
            let known = problem.values[value].is_settled && unit.may_repeat && unit.until >= self.position;
            if !known || self.trace.items.len() > MOST_ITEMS * problem.units.len() {
                return None;
            }
            for &read in &unit.reads {
                self.ensure(read)?;
                self.pins[read] += 1;
            }
            self.perform(writer, Some(group))?;
            unit.reads.iter().for_each(|&read| self.pins[read] -= 1);
        }
        values.iter().for_each(|&value| self.pins[value] -= 1);
        Some(())
    }

    /// Runs a unit whose operands are in memory, for the first time or again.
    fn perform(&mut self, number: usize, group: Option<Group<'_>>) -> Option<()> {
        let unit = &self.problem.units[number];
        let size = |value: usize| self.problem.values[value].bytes;
        // New values, and copies that nobody wants.
        let is_wanted = |value: usize| group.is_none_or(|group| group.values.contains(&value));
        let (wanted, spare): (SmallVec<[usize; 2]>, SmallVec<[usize; 2]>) =
            unit.writes.iter().copied().partition(|&value| is_wanted(value));
        let is_new = |value: &usize| !self.is_live[*value];
        let new: SmallVec<[usize; 2]> = wanted.iter().copied().filter(is_new).collect();
        let mut needed: u64 = new.iter().chain(&spare).map(|&value| size(value)).sum();
        let mut given: SmallVec<[(usize, usize); 2]> = SmallVec::new();
        for forced in [false, true] {
            if forced && self.make_room(needed) {
                break;
            }
            for &(from, to) in &unit.in_place {
                let is_first = given.iter().all(|&(a, b)| a != from && b != to);
                if is_first && new.contains(&to) && self.gives_way(from, group.is_none(), forced) {
                    given.push((from, to));
                    needed -= size(to);
                }
            }
        }
        if !self.make_room(needed) {
            return None;
        }
        let reads = unit.reads.iter().map(|&value| self.version[value]).collect();
        for &(from, _) in &given {
            self.is_live[from] = false;
        }
        self.live += needed - spare.iter().map(|&value| size(value)).sum::<u64>();
        let mut writes = SmallVec::new();
        for &value in &unit.writes {
            let is_spare = spare.contains(&value);
            let mut version = self.version[value];
            if is_spare || (group.is_some() && new.contains(&value)) {
                version = self.trace.versions.len();
                self.trace.versions.push(value);
            }
            if !is_spare {
                self.version[value] = version;
                self.is_live[value] = true;
            }
            writes.push(version);
        }
        self.trace.items.push(Item { unit: number, group: group.map(|group| group.number), reads, writes });
        Some(())
    }

    /// Whether the unit that is about to run may take the memory of one of its operands: nobody needs that any more, or, by
    /// force, it can be made again.
    fn gives_way(&self, value: usize, is_first_time: bool, forced: bool) -> bool {
        let position = self.position + usize::from(is_first_time);
        let is_held = self.pins[value] > 1;
        let loss = if is_held { None } else { self.loss(value, position) };
        loss.is_some_and(|loss| loss.is_dead || forced)
    }

    /// Gives values up until so many bytes are free.
    fn make_room(&mut self, bytes: u64) -> bool {
        while self.live + bytes > self.budget {
            let candidates = (0..self.version.len()).filter(|&value| self.is_live[value] && self.pins[value] == 0);
            let losses = candidates.filter_map(|value| Some((value, self.loss(value, self.position)?)));
            let Some((value, _)) = losses.min_by(|(_, a), (_, b)| a.score.total_cmp(&b.score)) else { return false };
            self.is_live[value] = false;
            self.live -= self.problem.values[value].bytes;
        }
        true
    }

    /// What giving up a value costs, if it needs to be there from `position` on; `None` where it could not be made again in
    /// time.
    fn loss(&self, value: usize, position: usize) -> Option<Loss> {
        let own = &self.problem.values[value];
        if own.writers.last().is_none_or(|&last| last >= self.position && own.next_use(position).is_some()) {
            return None;
        }
        let bytes = own.bytes as f64;
        let Some((first, last)) = self.need(value, position) else {
            // The large ones first: what is small may yet be worth keeping.
            let soft = self.taste.by_descent.then(|| self.soft_need(value, position)).flatten();
            let worth = soft.and_then(|need| Some(self.score(value, self.way(value)?.0, need)));
            return Some(Loss { is_dead: true, score: worth.unwrap_or(-bytes) });
        };
        let (cost, until) = self.way(value)?;
        (until >= last).then(|| Loss { is_dead: false, score: self.score(value, cost, first) })
    }

    fn score(&self, value: usize, cost: u64, need: usize) -> f64 {
        let time = if self.taste.by_time { (need - self.position + 1) as f64 } else { 1.0 };
        cost as f64 / self.problem.values[value].bytes as f64 / time
    }

    /// The first and the last unit that need the value: itself, or to make again what was given up.
    fn need(&self, value: usize, position: usize) -> Option<(usize, usize)> {
        let mut seen: SmallVec<[usize; 16]> = SmallVec::from_slice(&[value]);
        let mut need: Option<(usize, usize)> = None;
        let mut next = 0;
        while let Some(&at) = seen.get(next) {
            next += 1;
            if let Some(use_) = self.problem.values[at].next_use(position) {
                need = Some(need.map_or((use_, use_), |(first, last)| (first.min(use_), last.max(use_))));
            }
            for child in self.children(at) {
                if !self.is_live[child] && !seen.contains(&child) {
                    seen.push(child);
                }
            }
        }
        need
    }

    /// When what is made of the value, and is in memory, is needed next.
    fn soft_need(&self, value: usize, position: usize) -> Option<usize> {
        let live = self.children(value).filter(|&child| self.is_live[child]);
        live.filter_map(|child| self.problem.values[child].next_use(position)).min()
    }

    /// What units that were run made of the value.
    fn children(&self, value: usize) -> impl Iterator<Item = usize> {
        let units = &self.problem.units;
        let touches = self.problem.values[value].touches.iter().filter(|&&unit| unit < self.position);
        let readers = touches.filter(move |&&unit| units[unit].reads.contains(&value));
        readers.flat_map(move |&unit| units[unit].writes.iter().copied())
    }

    /// The cost of all that has to be run to make a value again, and until when that is possible; `None` where it is not.
    fn way(&self, value: usize) -> Option<(u64, usize)> {
        let mut values: SmallVec<[usize; 16]> = SmallVec::from_slice(&[value]);
        let mut units: SmallVec<[usize; 16]> = SmallVec::new();
        let (mut cost, mut until, mut next) = (0, usize::MAX, 0);
        while let Some(&at) = values.get(next) {
            next += 1;
            if !self.problem.values[at].is_settled {
                return None;
            }
            for &writer in &self.problem.values[at].writers {
                if units.contains(&writer) {
                    continue;
                }
                units.push(writer);
                let unit = &self.problem.units[writer];
                if !unit.may_repeat {
                    return None;
                }
                cost += unit.cost;
                until = until.min(unit.until);
                for &read in unit.reads.iter().filter(|&&read| !self.is_live[read]) {
                    if !values.contains(&read) {
                        values.push(read);
                    }
                }
            }
        }
        Some((cost, until))
    }
}

/// What giving up a value means.
struct Loss {
    /// Nobody needs it any more.
    is_dead: bool,
    /// The lower, the better.
    score: f64,
}
