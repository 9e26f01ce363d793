//! Which kernels are joined, and why others are not.
//!
//! Groups follow the classes elementwise < injective < reduction < contraction (Chen et al. 2018, TVM): a consumer that
//! works point by point joins the stores of its producer; a producer that costs little, or nothing as a view, joins the
//! loads of its consumers. A group has one kernel with folds at most, so joining never repeats a reduction.

use crate::merge;
use fusewright_ir::kernel::{BufferId, Kernel, NamedKernel, Program, Role, Scalar};
use fusewright_ir::plan::access::plain;
use smallvec::SmallVec;
use std::cmp::Reverse;

/// Why two kernels were joined or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The nodes of the producer.
    pub producer: String,
    /// The nodes of the consumer.
    pub consumer: String,
    /// Whether they became one kernel.
    pub fused: bool,
    /// The reason.
    pub reason: String,
}

/// The most scalar operations that a producer may have to be computed again in its consumers.
const CHEAP_OPERATIONS: usize = 8;

/// Joins kernels until no rule applies; the decisions name every edge between the kernels of `program`.
pub fn fuse(program: Program) -> (Program, Vec<Decision>) {
    let mut fusion = Fusion::new(program);
    let mut decisions = Vec::new();
    // Consumers in order: the first with an edge that some rule joins. A consumer whose edges were all refused is asked
    // again only where a kernel beside it has changed.
    while let Some(consumer) = fusion.order.iter().copied().find(|&k| fusion.refusals[k].is_none()) {
        match fusion.join_into(consumer) {
            Ok(decision) => decisions.push(decision),
            Err(refusals) => fusion.refusals[consumer] = Some(refusals),
        }
    }
    for &consumer in &fusion.order {
        let refusals = fusion.refusals[consumer].as_deref().expect("the loop ends when all have been asked");
        for &buffer in &fusion.reads[consumer] {
            for &producer in &fusion.writers_in_order(buffer) {
                let (_, _, reason) = refusals
                    .iter()
                    .find(|(other, through, _)| (*other, *through) == (producer, buffer))
                    .expect("every edge was asked");
                decisions.push(fusion.decision(producer, consumer, false, reason));
            }
        }
    }
    (fusion.finish(), decisions)
}

/// An edge that was refused: the producer, the value, the reason.
type Refusal = (usize, BufferId, &'static str);

/// Kernels under fusion. They keep their numbers while their order changes; those that are gone have `None`.
struct Fusion {
    program: Program,
    kernels: Vec<Option<NamedKernel>>,
    /// The numbers of the kernels that are left, in an order in which they can run.
    order: Vec<usize>,
    /// By kernel: its place in the order.
    position: Vec<usize>,
    /// By kernel.
    reads: Vec<Vec<BufferId>>,
    /// By kernel.
    writes: Vec<Vec<BufferId>>,
    /// By kernel: scalar operations, loads not counted.
    operations: Vec<usize>,
    /// By kernel: whether it depends on nothing but parameters and constants.
    once: Vec<bool>,
    /// By kernel: why none of the edges to it could be joined; `None` where that is to be found out.
    refusals: Vec<Option<Vec<Refusal>>>,
    /// By buffer: the kernels that write and read it.
    writers: Vec<SmallVec<[usize; 2]>>,
    readers: Vec<SmallVec<[usize; 4]>>,
    is_output: Vec<bool>,
}

/// How two kernels could be joined.
enum Way {
    Stores(Kernel),
    Loads(Kernel),
}

impl Fusion {
    fn new(mut program: Program) -> Fusion {
        let kernels: Vec<Option<NamedKernel>> = std::mem::take(&mut program.kernels).into_iter().map(Some).collect();
        let (n_kernels, n_buffers) = (kernels.len(), program.buffers.len());
        let mut is_output = vec![false; n_buffers];
        for (_, output) in &program.outputs {
            is_output[output.0 as usize] = true;
        }
        for update in &program.updates {
            is_output[update.value.0 as usize] = true;
        }
        let mut fusion = Fusion {
            program,
            kernels,
            order: (0..n_kernels).collect(),
            position: (0..n_kernels).collect(),
            reads: vec![Vec::new(); n_kernels],
            writes: vec![Vec::new(); n_kernels],
            operations: vec![0; n_kernels],
            once: vec![false; n_kernels],
            refusals: vec![None; n_kernels],
            writers: vec![SmallVec::new(); n_buffers],
            readers: vec![SmallVec::new(); n_buffers],
            is_output,
        };
        for k in 0..n_kernels {
            fusion.enter(k);
            // Joining keeps apart what runs once and what does not.
            fusion.once[k] = fusion.reads[k].iter().all(|buffer| match fusion.program.buffer(*buffer).role {
                Role::Input | Role::State => false,
                Role::Parameter | Role::Constant(_) => true,
                Role::Computed => fusion.writers(*buffer).iter().all(|&writer| fusion.once[writer]),
            });
        }
        fusion
    }

    fn finish(mut self) -> Program {
        let kernels = self.order.iter().map(|&k| self.kernels[k].take().expect("kernels in order are there"));
        self.program.kernels = kernels.collect();
        self.program
    }

    fn named(&self, k: usize) -> &NamedKernel {
        self.kernels[k].as_ref().expect("only kernels that are left are named")
    }

    fn kernel(&self, k: usize) -> &Kernel {
        &self.named(k).kernel
    }

    fn writers(&self, buffer: BufferId) -> &[usize] {
        &self.writers[buffer.0 as usize]
    }

    fn readers(&self, buffer: BufferId) -> &[usize] {
        &self.readers[buffer.0 as usize]
    }

    fn writers_in_order(&self, buffer: BufferId) -> SmallVec<[usize; 2]> {
        let mut writers = self.writers[buffer.0 as usize].clone();
        writers.sort_by_key(|&k| self.position[k]);
        writers
    }

    fn is_output(&self, buffer: BufferId) -> bool {
        self.is_output[buffer.0 as usize]
    }

    /// Notes what a kernel reads and writes.
    fn enter(&mut self, k: usize) {
        let kernel = self.kernel(k);
        let (reads, writes, n_operations) = (kernel.reads(), kernel.writes(), operations(kernel));
        for buffer in &reads {
            self.readers[buffer.0 as usize].push(k);
        }
        for buffer in &writes {
            self.writers[buffer.0 as usize].push(k);
        }
        (self.reads[k], self.writes[k], self.operations[k]) = (reads, writes, n_operations);
    }

    /// Forgets what a kernel reads and writes.
    fn leave(&mut self, k: usize) {
        for buffer in std::mem::take(&mut self.reads[k]) {
            self.readers[buffer.0 as usize].retain(|other| *other != k);
        }
        for buffer in std::mem::take(&mut self.writes[k]) {
            self.writers[buffer.0 as usize].retain(|other| *other != k);
        }
    }

    /// Everything that has an edge from or to a kernel is asked again, and what is left as the only reader of a value.
    fn unsettle_around(&mut self, k: usize) {
        self.refusals[k] = None;
        for buffer in &self.writes[k] {
            let i = buffer.0 as usize;
            for &other in self.writers[i].iter().chain(&self.readers[i]) {
                self.refusals[other] = None;
            }
        }
        for buffer in &self.reads[k] {
            let i = buffer.0 as usize;
            let only = self.readers[i].iter().filter(|_| self.readers[i].len() <= 2);
            for &other in self.writers[i].iter().chain(only) {
                self.refusals[other] = None;
            }
        }
    }

    /// Joins the latest producer that a rule allows into the consumer: the others are then computed before it.
    ///
    /// # Errors
    /// Why none is.
    fn join_into(&mut self, consumer: usize) -> Result<Decision, Vec<Refusal>> {
        let mut edges: Vec<(usize, BufferId)> = Vec::new();
        for &buffer in &self.reads[consumer] {
            edges.extend(self.writers(buffer).iter().map(|&producer| (producer, buffer)));
        }
        edges.sort_by_key(|&(producer, _)| Reverse(self.position[producer]));
        let mut refusals = Vec::new();
        for (producer, buffer) in edges {
            match self.way(producer, consumer, buffer) {
                Ok(way) => return Ok(self.join(producer, consumer, buffer, way)),
                Err(reason) => refusals.push((producer, buffer, reason)),
            }
        }
        Err(refusals)
    }

    fn way(&self, producer: usize, consumer: usize, buffer: BufferId) -> Result<Way, &'static str> {
        if self.writers(buffer).len() > 1 {
            return Err("several kernels write parts of the value");
        }
        let (first, second) = (self.kernel(producer), self.kernel(consumer));
        if self.on_another_path(producer, consumer) {
            return Err("another kernel lies between them");
        }
        if self.once[producer] != self.once[consumer] {
            return Err("the producer runs once, when parameters are given");
        }
        if self.is_absorbed(consumer) {
            return Err("the view costs nothing where its result is read");
        }
        let keep = |buffer: BufferId| self.is_output(buffer) || self.readers(buffer).len() > 1;
        // What is written piece by piece is far apart in memory, and a contraction has registers for one result only.
        let spreads = !first.folds.is_empty() && pieces(second) > 1;
        let holds =
            |kernel: &Kernel| kernel.stores.iter().all(|store| self.program.buffer(store.buffer).dtype.is_lane());
        let reason = match merge::into_stores(first, second, buffer, keep) {
            // A fold would be done element by element for it.
            Ok(_) if !first.folds.is_empty() && holds(first) && !holds(second) => {
                "the consumer stores what vectors do not hold"
            }
            Ok(_) if spreads => "the consumer writes several pieces of one value",
            Ok(joined) => return Ok(Way::Stores(joined)),
            Err(reason) => reason,
        };
        if self.is_output(buffer) {
            return Err("the value is a result and is read at other points");
        }
        let n_operations = self.operations[producer];
        if n_operations > CHEAP_OPERATIONS {
            return Err(reason);
        }
        if n_operations > 0 && self.readers(buffer).len() > 1 {
            return Err("several consumers read the value");
        }
        if n_operations > 0 && reads_again(&self.program, second, buffer) {
            return Err("the consumer reads each element many times");
        }
        if self.looks_up_again(producer, consumer, buffer) {
            return Err("the consumer reads each element many times, and finds it in a table");
        }
        merge::into_loads(first, second, buffer).map(Way::Loads)
    }

    /// Whether a fold of the consumer would look up each element that it reads, many times: tables have no place in vectors.
    fn looks_up_again(&self, producer: usize, consumer: usize, buffer: BufferId) -> bool {
        let (first, second) = (self.kernel(producer), self.kernel(consumer));
        let is_plain = |scalar: &Scalar| match scalar {
            Scalar::Load { at, .. } => at.iter().all(|index| plain(index).is_some()),
            _ => true,
        };
        let looks_up = first.live().into_iter().any(|id| !is_plain(first.body.get(id)));
        looks_up && !second.folds.is_empty() && reads_again(&self.program, second, buffer)
    }

    /// Whether a kernel only moves elements, and all that read its result can read where it reads: a flatten before a
    /// dense layer becomes part of the dense layer, and the image before it keeps its axes.
    fn is_absorbed(&self, view: usize) -> bool {
        let ([store], 0) = (self.kernel(view).stores.as_slice(), self.operations[view]) else { return false };
        let readers = self.readers(store.buffer);
        let reduces = |reader: usize| !self.kernel(reader).folds.is_empty();
        let absorbs = |reader: usize| {
            !self.looks_up_again(view, reader, store.buffer)
                && merge::into_loads(self.kernel(view), self.kernel(reader), store.buffer).is_ok()
        };
        !self.is_output(store.buffer)
            && !readers.is_empty()
            && self.writers(store.buffer).len() == 1
            && readers.iter().all(|&reader| reduces(reader))
            && readers.iter().all(|&reader| absorbs(reader))
    }

    /// Whether a path leads from one kernel to the other through a third: found from the end, as far back as the first.
    fn on_another_path(&self, producer: usize, consumer: usize) -> bool {
        let mut readers = self.writes[producer].iter().flat_map(|&buffer| self.readers(buffer));
        if readers.all(|&reader| reader == consumer) {
            return false;
        }
        let first = self.position[producer];
        let mut seen = vec![false; self.position[consumer] - first];
        let mut open = vec![consumer];
        while let Some(k) = open.pop() {
            for &writer in self.reads[k].iter().flat_map(|&buffer| self.writers(buffer)) {
                if writer == producer && k != consumer {
                    return true;
                }
                // What runs before the producer does not depend on it.
                let place = self.position[writer];
                if place > first && !std::mem::replace(&mut seen[place - first], true) {
                    open.push(writer);
                }
            }
        }
        false
    }

    fn decision(&self, producer: usize, consumer: usize, fused: bool, reason: &str) -> Decision {
        Decision {
            producer: self.named(producer).nodes.join(" "),
            consumer: self.named(consumer).nodes.join(" "),
            fused,
            reason: reason.to_string(),
        }
    }

    fn join(&mut self, producer: usize, consumer: usize, buffer: BufferId, way: Way) -> Decision {
        let (kernel, reason, gone) = match way {
            Way::Stores(kernel) => (kernel, "the consumer works point by point", true),
            Way::Loads(kernel) => {
                let gone = self.readers(buffer) == [consumer];
                (kernel, "the producer costs little to compute where it is read", gone)
            }
        };
        let decision = self.decision(producer, consumer, true, reason);
        let (first, second) = (self.named(producer), self.named(consumer));
        let nodes = first.nodes.iter().chain(&second.nodes).cloned().collect();
        let joined = NamedKernel { nodes, about: format!("{} {}", first.about, second.about), kernel };
        self.unsettle_around(producer);
        self.unsettle_around(consumer);
        if gone {
            self.leave(producer);
            self.kernels[producer] = None;
            self.order.remove(self.position[producer]);
        }
        self.leave(consumer);
        self.kernels[consumer] = Some(joined);
        self.enter(consumer);
        self.restore_order();
        self.unsettle_around(consumer);
        decision
    }

    /// Puts kernels back into an order in which every value is written before it is read, moving as few as possible.
    fn restore_order(&mut self) {
        let mut unwritten: Vec<usize> = self.writers.iter().map(SmallVec::len).collect();
        let mut done = Vec::with_capacity(self.order.len());
        // Kernels that have to wait, in their old order.
        let mut waiting: Vec<usize> = Vec::new();
        let old = std::mem::take(&mut self.order);
        let mut left = old.iter().copied();
        loop {
            let is_ready = |&k: &usize| self.reads[k].iter().all(|buffer| unwritten[buffer.0 as usize] == 0);
            let next = match waiting.iter().position(is_ready) {
                Some(place) => waiting.remove(place),
                None => match left.next() {
                    Some(k) if is_ready(&k) => k,
                    Some(k) => {
                        waiting.push(k);
                        continue;
                    }
                    None => break,
                },
            };
            for buffer in &self.writes[next] {
                unwritten[buffer.0 as usize] -= 1;
            }
            self.position[next] = done.len();
            done.push(next);
        }
        assert!(waiting.is_empty(), "joining kernels makes no cycle");
        self.order = done;
    }
}

/// The most stores that a kernel has to one buffer.
fn pieces(kernel: &Kernel) -> usize {
    let to = |buffer: BufferId| kernel.stores.iter().filter(|store| store.buffer == buffer).count();
    kernel.writes().into_iter().map(to).max().unwrap_or(0)
}

/// Scalar operations of a kernel, loads not counted.
fn operations(kernel: &Kernel) -> usize {
    kernel.live().iter().filter(|&&id| !matches!(kernel.body.get(id), Scalar::Load { .. } | Scalar::Const(_))).count()
}

/// Whether some element of `buffer` is read more than once by `kernel`.
fn reads_again(program: &Program, kernel: &Kernel, buffer: BufferId) -> bool {
    let elements: usize = program.buffer(buffer).dims.iter().product();
    let roots = kernel.folds.iter().map(|fold| (&fold.inner, fold.value));
    let roots = roots.chain(kernel.stores.iter().map(|store| (&store.inner, store.value)));
    let mut points = 0;
    for (inner, root) in roots {
        let loads = kernel
            .body
            .reachable([root])
            .into_iter()
            .filter(|&id| matches!(kernel.body.get(id), Scalar::Load { buffer: other, .. } if *other == buffer));
        points += loads.count() * kernel.space(inner).iter().product::<usize>();
    }
    points > elements
}
