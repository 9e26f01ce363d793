//! What a node becomes while its network is trained.

use super::*;
use crate::GraphBuilder;
use crate::graph::{Graph, NodeId, ValueId};

/// A node of a network that is trained, while what it is then is built. All types are concrete.
#[derive(Debug)]
pub struct Training<'a> {
    build: &'a mut GraphBuilder,
    name: String,
    inputs: SmallVec<[ValueId; 4]>,
    chance: &'a mut Chance,
    kept: Vec<(ValueId, ValueId)>,
}

/// Where random numbers of a step come from.
#[derive(Clone, Debug)]
pub struct Chance {
    /// The seed of the training.
    pub seed: u64,
    /// The count of finished steps, an i32.
    pub step: ValueId,
    /// How many nodes draw already.
    pub drawn: u32,
}

impl<'a> Training<'a> {
    /// What `node` becomes. New nodes have its name and its place in the text.
    pub fn new(build: &'a mut GraphBuilder, node: NodeId, chance: &'a mut Chance) -> Training<'a> {
        let forward = build.graph().node(node);
        let (name, inputs, span) = (forward.name.clone(), forward.inputs.clone(), forward.span.clone());
        build.set_span(span);
        Training { build, name: format!("{name}.train"), inputs, chance, kept: Vec::new() }
    }

    /// The operands of the node.
    pub fn inputs(&self) -> &[ValueId] {
        &self.inputs
    }

    /// Where the random numbers of this node come from: no other node has the same.
    pub fn draw(&mut self) -> Chance {
        let own = self.chance.clone();
        self.chance.drawn += 1;
        own
    }

    /// Makes a value that of an operand, a statistic, after the step.
    pub fn keep(&mut self, i: usize, value: ValueId) {
        self.kept.push((self.inputs[i], value));
    }

    /// The statistics that the step changes, each with its new value.
    pub fn finish(self) -> Vec<(ValueId, ValueId)> {
        self.kept
    }
}

impl Compose for Training<'_> {
    fn graph(&self) -> &Graph {
        self.build.graph()
    }

    fn node(&mut self, op: impl Into<Op>, inputs: &[ValueId]) -> ValueId {
        self.build.node(&self.name, op.into(), inputs)
    }
}
