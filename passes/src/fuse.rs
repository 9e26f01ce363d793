//! Which kernels are joined, and why others are not.
//!
//! Groups follow the classes elementwise < injective < reduction < contraction (Chen et al. 2018, TVM): a consumer that
//! works point by point joins the stores of its producer; a producer that costs little, or nothing as a view, joins the
//! loads of its consumers. A group has one kernel with folds at most, so joining never repeats a reduction.

use crate::merge;
use fusewright_ir::kernel::{BufferId, Kernel, Program, Role, Scalar};

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
pub fn fuse(mut program: Program) -> (Program, Vec<Decision>) {
    let mut decisions = Vec::new();
    while let Some(decision) = join_one(&mut program) {
        decisions.push(decision);
    }
    for (producer, consumer, buffer) in edges(&program) {
        decisions.push(Decision {
            producer: program.kernels[producer].nodes.join(" "),
            consumer: program.kernels[consumer].nodes.join(" "),
            fused: false,
            reason: refuse(&program, producer, consumer, buffer).unwrap_or("joined elsewhere").to_string(),
        });
    }
    (program, decisions)
}

/// All (writer, reader, buffer), writers before readers.
fn edges(program: &Program) -> Vec<(usize, usize, BufferId)> {
    let mut edges = Vec::new();
    for (consumer, named) in program.kernels.iter().enumerate() {
        for buffer in named.kernel.reads() {
            for producer in writers(program, buffer) {
                edges.push((producer, consumer, buffer));
            }
        }
    }
    edges
}

fn writers(program: &Program, buffer: BufferId) -> Vec<usize> {
    (0..program.kernels.len()).filter(|&k| program.kernels[k].kernel.writes().contains(&buffer)).collect()
}

fn readers(program: &Program, buffer: BufferId) -> Vec<usize> {
    (0..program.kernels.len()).filter(|&k| program.kernels[k].kernel.reads().contains(&buffer)).collect()
}

fn is_output(program: &Program, buffer: BufferId) -> bool {
    program.outputs.iter().any(|(_, output)| *output == buffer)
}

/// Applies the first rule that fits, consumers in order and for each the latest producer first: the others are then
/// computed before it.
fn join_one(program: &mut Program) -> Option<Decision> {
    let mut candidates = edges(program);
    candidates.sort_by_key(|&(producer, consumer, _)| (consumer, std::cmp::Reverse(producer)));
    for (producer, consumer, buffer) in candidates {
        if refuse(program, producer, consumer, buffer).is_none() {
            return Some(join(program, producer, consumer, buffer));
        }
    }
    None
}

/// How two kernels could be joined.
enum Way {
    Stores(Kernel),
    Loads(Kernel),
}

fn refuse(program: &Program, producer: usize, consumer: usize, buffer: BufferId) -> Option<&'static str> {
    way(program, producer, consumer, buffer).err()
}

fn way(program: &Program, producer: usize, consumer: usize, buffer: BufferId) -> Result<Way, &'static str> {
    if writers(program, buffer).len() > 1 {
        return Err("several kernels write parts of the value");
    }
    let (first, second) = (&program.kernels[producer].kernel, &program.kernels[consumer].kernel);
    if on_another_path(program, producer, consumer) {
        return Err("another kernel lies between them");
    }
    if setup_only(program, producer) != setup_only(program, consumer) {
        return Err("the producer runs once, when parameters are given");
    }
    if is_absorbed(program, second) {
        return Err("the view costs nothing where its result is read");
    }
    let keep = is_output(program, buffer) || readers(program, buffer).len() > 1;
    let stores = merge::into_stores(first, second, buffer, keep);
    if let Ok(joined) = stores {
        return Ok(Way::Stores(joined));
    }
    let reason = stores.err().unwrap_or("");
    if is_output(program, buffer) {
        return Err("the value is a result and is read at other points");
    }
    let n_operations = operations(first);
    if n_operations > 0 && (readers(program, buffer).len() > 1 || n_operations > CHEAP_OPERATIONS) {
        return Err(if n_operations > CHEAP_OPERATIONS { reason } else { "several consumers read the value" });
    }
    if n_operations > 0 && reads_again(program, second, buffer) {
        return Err("the consumer reads each element many times");
    }
    merge::into_loads(first, second, buffer).map(Way::Loads)
}

/// Whether a kernel only moves elements, and all that read its result can read where it reads: a flatten before a dense
/// layer becomes part of the dense layer, and the image before it keeps its axes.
fn is_absorbed(program: &Program, view: &Kernel) -> bool {
    let ([store], 0) = (view.stores.as_slice(), operations(view)) else { return false };
    let readers = readers(program, store.buffer);
    let absorbs = |&reader: &usize| merge::into_loads(view, &program.kernels[reader].kernel, store.buffer).is_ok();
    let reduces = |&reader: &usize| !program.kernels[reader].kernel.folds.is_empty();
    !is_output(program, store.buffer)
        && !readers.is_empty()
        && writers(program, store.buffer).len() == 1
        && readers.iter().all(|reader| reduces(reader) && absorbs(reader))
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

/// Whether a path leads from one kernel to the other through a third.
fn on_another_path(program: &Program, producer: usize, consumer: usize) -> bool {
    let mut reached = vec![false; program.kernels.len()];
    reached[producer] = true;
    for k in producer + 1..consumer {
        let from_producer = program.kernels[k]
            .kernel
            .reads()
            .iter()
            .any(|&buffer| writers(program, buffer).iter().any(|&writer| reached[writer]));
        reached[k] = from_producer;
    }
    let reads = program.kernels[consumer].kernel.reads();
    reads.iter().any(|&buffer| writers(program, buffer).iter().any(|&w| w != producer && reached[w]))
}

/// Whether a kernel depends on nothing but parameters and constants.
pub fn setup_only(program: &Program, kernel: usize) -> bool {
    program.kernels[kernel].kernel.reads().iter().all(|&buffer| match program.buffer(buffer).role {
        Role::Input => false,
        Role::Parameter | Role::Constant(_) => true,
        Role::Computed => writers(program, buffer).iter().all(|&writer| setup_only(program, writer)),
    })
}

fn join(program: &mut Program, producer: usize, consumer: usize, buffer: BufferId) -> Decision {
    let way = way(program, producer, consumer, buffer).expect("the caller has checked the edge");
    let (first, second) = (program.kernels[producer].clone(), program.kernels[consumer].clone());
    let mut joined = second.clone();
    joined.nodes = first.nodes.iter().chain(&second.nodes).cloned().collect();
    joined.about = format!("{} {}", first.about, second.about);
    let (kernel, reason) = match way {
        Way::Stores(kernel) => (kernel, "the consumer works point by point"),
        Way::Loads(kernel) => (kernel, "the producer costs little to compute where it is read"),
    };
    let gone = !kernel.writes().contains(&buffer)
        && (matches!(reason, "the consumer works point by point") || readers(program, buffer) == [consumer]);
    joined.kernel = kernel;
    program.kernels[consumer] = joined;
    if gone || program.kernels[consumer].kernel.writes().contains(&buffer) {
        program.kernels.remove(producer);
    }
    restore_order(program);
    let decision = (first.nodes.join(" "), second.nodes.join(" "), reason.to_string());
    Decision { producer: decision.0, consumer: decision.1, fused: true, reason: decision.2 }
}

/// Puts kernels back into an order in which every value is written before it is read, moving as few as possible.
fn restore_order(program: &mut Program) {
    let mut waiting: Vec<_> = std::mem::take(&mut program.kernels);
    let mut unwritten: Vec<usize> = vec![0; program.buffers.len()];
    for named in &waiting {
        for buffer in named.kernel.writes() {
            unwritten[buffer.0 as usize] += 1;
        }
    }
    while !waiting.is_empty() {
        let ready = waiting.iter().position(|named| {
            named
                .kernel
                .reads()
                .iter()
                .all(|buffer| unwritten[buffer.0 as usize] == usize::from(named.kernel.writes().contains(buffer)))
        });
        let next = waiting.remove(ready.expect("joining kernels makes no cycle"));
        for buffer in next.kernel.writes() {
            unwritten[buffer.0 as usize] -= 1;
        }
        program.kernels.push(next);
    }
}
