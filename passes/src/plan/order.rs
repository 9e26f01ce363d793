//! A sequence of kernels in which little memory is live at once.
//!
//! A beam search over the kernels that could run next keeps the sequences with the lowest peak so far. It takes the
//! order as given where that is as good.

use super::draft::Draft;
use fusewright_ir::kernel::{BufferId, Combine};
use rustc_hash::FxHashSet;
use smallvec::SmallVec;
use std::collections::BTreeSet;

/// Sequences kept at each step.
const BEAM: usize = 8;

/// Orders the kernels of every call; those that run once stay in front as they are.
pub fn order(draft: &mut Draft) {
    let order = sequence(draft);
    let mut kernels: Vec<_> = std::mem::take(&mut draft.kernels).into_iter().map(Some).collect();
    draft.kernels = order.iter().filter_map(|&k| kernels[k].take()).collect();
}

/// The positions of all kernels in a better order.
pub fn sequence(draft: &Draft) -> Vec<usize> {
    let problem = Problem::new(draft);
    let given = problem.given();
    let found = problem.search();
    let best = if problem.peak(&found) < problem.peak(&given) { found } else { given };
    let once = (0..draft.kernels.len()).filter(|&k| draft.kernels[k].once);
    once.chain(best.iter().flat_map(|&job| problem.jobs[job].kernels.iter().copied())).collect()
}

/// Kernels as memory sees them.
struct Problem {
    jobs: Vec<Job>,
    /// The bytes of each buffer that takes arena memory, and how many accesses end its life.
    buffers: Vec<Buffer>,
}

struct Job {
    /// The positions in the draft: several of a band.
    kernels: SmallVec<[usize; 1]>,
    /// Jobs that must be done before, and those that wait for this one.
    before: u32,
    after: SmallVec<[usize; 4]>,
    /// The buffers it reads or writes.
    touches: SmallVec<[usize; 4]>,
}

struct Buffer {
    bytes: u64,
    n_jobs: u32,
}

impl Problem {
    fn new(draft: &Draft) -> Problem {
        let mut jobs: Vec<Job> = Vec::new();
        let mut place = vec![usize::MAX; draft.buffers.len()];
        let mut buffers: Vec<Buffer> = Vec::new();
        // For each buffer of the draft: the jobs so far that write and read it, and whether any of them adds.
        let mut written: Vec<(SmallVec<[usize; 2]>, bool)> = vec![Default::default(); draft.buffers.len()];
        let mut read: Vec<SmallVec<[usize; 4]>> = vec![SmallVec::new(); draft.buffers.len()];
        for (k, kernel) in draft.kernels.iter().enumerate().filter(|(_, kernel)| !kernel.once) {
            let again = k > 0 && kernel.band.is_some() && kernel.band == draft.kernels[k - 1].band;
            let job = if again { jobs.len() - 1 } else { jobs.len() };
            let kernel = kernel.kernel();
            let (reads, writes) = (kernel.reads(), kernel.writes());
            let mut before: SmallVec<[usize; 8]> = SmallVec::new();
            for id in &reads {
                before.extend(written[id.0 as usize].0.iter().copied());
            }
            for id in &writes {
                let adds = kernel.stores.iter().any(|store| store.buffer == *id && store.combine == Combine::Add);
                before.extend(read[id.0 as usize].iter().copied());
                let (writers, added) = &mut written[id.0 as usize];
                if adds || *added || reads.contains(id) {
                    before.extend(writers.iter().copied());
                }
                *added |= adds;
                writers.push(job);
            }
            reads.iter().for_each(|id| read[id.0 as usize].push(job));
            before.sort_unstable();
            before.dedup();
            before.retain(|other| *other != job && !jobs[*other].after.contains(&job));
            before.iter().for_each(|&other| jobs[other].after.push(job));
            if !again {
                let (after, touches) = (SmallVec::new(), SmallVec::new());
                jobs.push(Job { kernels: SmallVec::new(), before: 0, after, touches });
            }
            let own = &mut jobs[job];
            own.kernels.push(k);
            own.before += before.len() as u32;
            let touches = &mut own.touches;
            let in_arena = |id: &&BufferId| draft.buffer(**id).is_free() && !draft.buffer(**id).is_scratch;
            for id in reads.iter().chain(&writes).filter(in_arena) {
                let buffer = &mut place[id.0 as usize];
                if *buffer == usize::MAX {
                    *buffer = buffers.len();
                    buffers.push(Buffer { bytes: draft.buffer(*id).bytes().next_multiple_of(64), n_jobs: 0 });
                }
                if !touches.contains(buffer) {
                    touches.push(*buffer);
                    buffers[*buffer].n_jobs += 1;
                }
            }
        }
        // State is replaced when all that read it have done so.
        for (state, next) in draft.states.iter().filter_map(|&(state, next)| Some((state, next?))) {
            for &writer in &written[next.0 as usize].0 {
                for &reader in read[state.0 as usize].iter().filter(|&&reader| reader != writer) {
                    if !jobs[reader].after.contains(&writer) {
                        jobs[reader].after.push(writer);
                        jobs[writer].before += 1;
                    }
                }
            }
        }
        Problem { jobs, buffers }
    }

    /// The order of the draft, as far as it is one in which they can run: of jobs that could be next always the first.
    fn given(&self) -> Vec<usize> {
        let mut waits: Vec<u32> = self.jobs.iter().map(|job| job.before).collect();
        let mut ready: BTreeSet<usize> = (0..waits.len()).filter(|&job| waits[job] == 0).collect();
        let mut order = Vec::with_capacity(waits.len());
        while let Some(job) = ready.pop_first() {
            order.push(job);
            for &next in &self.jobs[job].after {
                waits[next] -= 1;
                if waits[next] == 0 {
                    ready.insert(next);
                }
            }
        }
        order
    }

    /// The largest sum of bytes live at one job.
    fn peak(&self, order: &[usize]) -> u64 {
        let mut state = State::new(self);
        order.iter().for_each(|&job| state.run(self, job));
        state.peak
    }

    fn search(&self) -> Vec<usize> {
        // Steps of all sequences: (the step before, the job).
        let mut trail: Vec<(usize, usize)> = Vec::new();
        let mut beam = vec![State::new(self)];
        for _ in 0..self.jobs.len() {
            let mut next: Vec<State> = Vec::new();
            for (rank, state) in beam.into_iter().enumerate() {
                // What leaves no more memory live than before, and takes it no higher, goes first: no order is better.
                let (last, others): (usize, SmallVec<[usize; 8]>) = match state.relief(self) {
                    Some(job) => (job, SmallVec::new()),
                    None => {
                        let (last, others) = state.ready.split_last().expect("dependences have no cycle");
                        (*last, others.into())
                    }
                };
                for job in others {
                    let mut other = state.clone();
                    other.rank = rank;
                    other.run(self, job);
                    next.push(other);
                }
                let mut state = state;
                state.rank = rank;
                state.run(self, last);
                next.push(state);
            }
            // Sequences of the same jobs leave the same memory live: the lower peak wins, and of equals the one that
            // keeps to the order given.
            next.sort_by_key(|state| (state.peak, state.live, state.rank, state.newest));
            let mut seen = FxHashSet::default();
            next.retain(|state| seen.insert(state.done.clone()));
            next.truncate(BEAM);
            for state in &mut next {
                trail.push((state.trail, state.newest));
                state.trail = trail.len() - 1;
            }
            beam = next;
        }
        let mut order = Vec::with_capacity(self.jobs.len());
        let mut at = beam.first().map_or(usize::MAX, |state| state.trail);
        while let Some(&(before, job)) = trail.get(at) {
            order.push(job);
            at = before;
        }
        order.reverse();
        order
    }
}

/// Some jobs done.
#[derive(Clone)]
struct State {
    done: Vec<u64>,
    ready: SmallVec<[usize; 8]>,
    waits: Vec<u32>,
    /// For each buffer, how many jobs are still to touch it.
    left: Vec<u32>,
    live: u64,
    peak: u64,
    newest: usize,
    /// The place of the sequence without its newest job among those kept.
    rank: usize,
    trail: usize,
}

impl State {
    fn new(problem: &Problem) -> State {
        let waits: Vec<u32> = problem.jobs.iter().map(|job| job.before).collect();
        State {
            done: vec![0; problem.jobs.len().div_ceil(64)],
            ready: (0..waits.len()).filter(|&job| waits[job] == 0).collect(),
            waits,
            left: problem.buffers.iter().map(|buffer| buffer.n_jobs).collect(),
            live: 0,
            peak: 0,
            newest: 0,
            rank: 0,
            trail: usize::MAX,
        }
    }

    /// The job that can be run without any harm, of several the one that takes the least while it runs.
    fn relief(&self, problem: &Problem) -> Option<usize> {
        let costs = self.ready.iter().map(|&job| (self.added(problem, job), job));
        let harmless = costs.filter(|&(added, job)| {
            let last = |buffer: &&usize| self.left[**buffer] == 1;
            let freed = problem.jobs[job].touches.iter().filter(last).map(|&buffer| problem.buffers[buffer].bytes);
            self.live + added <= self.peak && added <= freed.sum()
        });
        harmless.min().map(|(_, job)| job)
    }

    /// The bytes of what a job touches first.
    fn added(&self, problem: &Problem, job: usize) -> u64 {
        let new = |buffer: &&usize| self.left[**buffer] == problem.buffers[**buffer].n_jobs;
        problem.jobs[job].touches.iter().filter(new).map(|&buffer| problem.buffers[buffer].bytes).sum()
    }

    fn run(&mut self, problem: &Problem, job: usize) {
        self.ready.retain(|other| *other != job);
        self.done[job / 64] |= 1 << (job % 64);
        self.newest = job;
        self.live += self.added(problem, job);
        let Job { after, touches, .. } = &problem.jobs[job];
        self.peak = self.peak.max(self.live);
        for &buffer in touches {
            self.left[buffer] -= 1;
            if self.left[buffer] == 0 {
                self.live -= problem.buffers[buffer].bytes;
            }
        }
        for &next in after {
            self.waits[next] -= 1;
            if self.waits[next] == 0 {
                self.ready.push(next);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fusewright_ir::kernel::build::Operand;
    use fusewright_ir::kernel::{BufferId, BufferInfo, KernelBuilder, NamedKernel, Program, Role};
    use fusewright_ir::tensor::DType;

    /// A program of kernels that each sum up some buffers into a new one of the given length.
    fn program(n_inputs: usize, kernels: &[(&str, usize, &[u32])], outputs: &[u32]) -> Program {
        let mut program = Program::default();
        let info =
            |name: &str, n: usize, role| BufferInfo { name: name.into(), dtype: DType::F32, dims: vec![n], role };
        for i in 0..n_inputs {
            program.add_buffer(info(&format!("x{i}"), 1, Role::Input));
        }
        for (name, length, operands) in kernels {
            let to = program.add_buffer(info(name, *length, Role::Computed));
            let mut k = KernelBuilder::new(&[*length]);
            let axis = k.outer(0);
            let mut sum = k.number(0.0);
            for operand in *operands {
                let from = Operand { buffer: BufferId(*operand), dtype: DType::F32, dims: vec![1] };
                let value = k.load(&from, [0]);
                sum = k.add(sum, value);
            }
            k.store(&Operand { buffer: to, dtype: DType::F32, dims: vec![*length] }, [axis], sum);
            let kernel = k.finish();
            program.kernels.push(NamedKernel { nodes: vec![name.to_string()], about: String::new(), kernel });
        }
        program.outputs = outputs.iter().map(|&id| (format!("y{id}"), BufferId(id))).collect();
        program
    }

    fn ordered(program: Program) -> Vec<String> {
        let mut draft = Draft::new(program);
        order(&mut draft);
        draft.kernels.iter().map(|kernel| kernel.named.nodes[0].clone()).collect()
    }

    #[test]
    fn a_branch_is_finished_before_the_next_begins() {
        // Both branches make something large and then something small of it.
        let kernels: &[(&str, usize, &[u32])] =
            &[("a", 1000, &[0]), ("b", 1000, &[0]), ("a1", 10, &[1]), ("b1", 10, &[2]), ("sum", 10, &[3, 4])];
        assert_eq!(ordered(program(1, kernels, &[5])), ["a", "a1", "b", "b1", "sum"]);
    }

    #[test]
    fn the_given_order_stays_where_no_other_is_better() {
        let kernels: &[(&str, usize, &[u32])] = &[("a", 16, &[0]), ("b", 16, &[0]), ("sum", 16, &[1, 2])];
        assert_eq!(ordered(program(1, kernels, &[3])), ["a", "b", "sum"]);
    }

    #[test]
    fn what_shrinks_most_goes_first() {
        let kernels: &[(&str, usize, &[u32])] = &[
            ("small", 16, &[0]),
            ("large", 4000, &[0]),
            ("of small", 800, &[1]),
            ("of large", 16, &[2]),
            ("sum", 16, &[3, 4]),
        ];
        let order = ordered(program(1, kernels, &[5]));
        assert_eq!(order, ["large", "of large", "small", "of small", "sum"]);
    }
}
