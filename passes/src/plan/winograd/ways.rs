//! The ways to compute each convolution, for those who measure them: the cost model is an estimate.

use super::cost::choices;
use super::kept;
use super::recognise::{Convolution, Window, ascending};
use fusewright_ir::kernel::{BufferId, BufferInfo, NamedKernel, Program, Role};
use fusewright_ir::plan::access::with_buffers;
use std::collections::BTreeMap;

/// For a convolution, by [`Question::key`]: the points of the transform along each of its windows, none for the sum as it
/// stands.
pub type Ways = BTreeMap<String, Vec<usize>>;

/// A convolution that can be computed in several ways.
#[derive(Clone, Debug)]
pub struct Question {
    /// What tells it from others: its sizes, and whether its weights stay.
    pub key: String,
    /// Nothing but this convolution, with its epilogue; what other kernels compute is an input.
    pub program: Program,
    /// The ways, as it stands first.
    pub ways: Vec<Vec<usize>>,
}

/// The convolutions of a program that transforms can serve, those of equal key once.
pub fn questions(program: &Program) -> Vec<Question> {
    let [constant, weights] = kept(program);
    let mut found: BTreeMap<String, Question> = BTreeMap::new();
    for named in &program.kernels {
        let forward = ascending(&named.kernel);
        let kernel = forward.as_ref().unwrap_or(&named.kernel);
        let Some(convolution) = Convolution::of(program, kernel, &weights) else { continue };
        let transforms = choices(&convolution);
        let ways: Vec<Vec<usize>> = std::iter::once(Vec::new())
            .chain(transforms.iter().map(|tooms| tooms.iter().map(|toom| toom.points()).collect()))
            .collect();
        let key = key(&convolution, constant[convolution.weight.buffer.0 as usize]);
        if ways.len() > 1 && !found.contains_key(&key) {
            let program = alone(program, named, &constant, &weights);
            found.insert(key.clone(), Question { key, program, ways });
        }
    }
    found.into_values().collect()
}

/// `8 x 64 to 128 channels, 3x3 over 56x56, weights that stay`.
pub fn key(convolution: &Convolution, is_fixed: bool) -> String {
    let batch: usize = convolution.batch.iter().map(|(_, extent)| extent).product();
    let sizes = |of: fn(&Window) -> usize| {
        convolution.windows.iter().map(|window| of(window).to_string()).collect::<Vec<_>>().join("x")
    };
    let (taps, places) = (sizes(|window| window.tap.1), sizes(|window| window.place.1));
    let steps = match convolution.windows.iter().all(|window| window.step == 1) {
        true => String::new(),
        false => format!(" by steps of {}", sizes(|window| window.step)),
    };
    let weights = if is_fixed { "stay" } else { "change" };
    format!(
        "{batch} x {} to {} channels, {taps} over {places}{steps}, weights that {weights}",
        convolution.channels.1, convolution.out.1
    )
}

/// A program of one kernel.
fn alone(program: &Program, named: &NamedKernel, constant: &[bool], weights: &[bool]) -> Program {
    let (reads, writes) = (named.kernel.reads(), named.kernel.writes());
    let mut ids: Vec<BufferId> = reads.clone();
    ids.extend(writes.iter().filter(|id| !reads.contains(id)));
    let number = |id: BufferId| BufferId(ids.iter().position(|&other| other == id).expect("listed above") as u32);
    let role = |id: BufferId| match &program.buffer(id).role {
        _ if writes.contains(&id) => Role::Computed,
        Role::Constant(tensor) => Role::Constant(tensor.clone()),
        _ if constant[id.0 as usize] => Role::Parameter,
        _ if weights[id.0 as usize] => Role::State,
        _ => Role::Input,
    };
    let buffers = ids.iter().map(|&id| {
        // Names of values need not differ; those of what is given must.
        let name = format!("{}.{}", program.buffer(id).name, number(id).0);
        BufferInfo { name, role: role(id), ..program.buffer(id).clone() }
    });
    let buffers: Vec<BufferInfo> = buffers.collect();
    let kernel = with_buffers(&named.kernel, number);
    let outputs = writes.iter().map(|&id| (buffers[number(id).0 as usize].name.clone(), number(id))).collect();
    Program { buffers, kernels: vec![NamedKernel { kernel, ..named.clone() }], outputs, updates: Vec::new() }
}
