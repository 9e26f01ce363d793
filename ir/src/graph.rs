//! The dataflow graph. Operand order lives in [`Node::inputs`]; petgraph's edges are the use lists, and only the
//! mutators below touch them.

use crate::diagnostic::Span;
use crate::ops::Op;
use crate::tensor::TensorType;
use petgraph::Direction;
use petgraph::algo;
use petgraph::stable_graph::{NodeIndex, StableDiGraph};
use petgraph::visit::{EdgeRef, Reversed};
use smallvec::SmallVec;
use std::fmt;

/// Names a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(NodeIndex);

impl NodeId {
    /// A small number, unique in the graph, for side tables.
    pub fn index(self) -> usize {
        self.0.index()
    }
}

/// Names one output of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId {
    /// The node that computes the value.
    pub node: NodeId,
    /// Which of its outputs.
    pub port: u32,
}

impl From<NodeId> for ValueId {
    /// The first output.
    fn from(node: NodeId) -> ValueId {
        ValueId { node, port: 0 }
    }
}

/// One operation on tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Unique in the graph; parameters have their `state_dict` names.
    pub name: String,
    /// What is computed.
    pub op: Op,
    /// The operands in order.
    pub inputs: SmallVec<[ValueId; 4]>,
    /// The types of the outputs, as `infer` gives them.
    pub types: SmallVec<[TensorType; 1]>,
    /// Where the layer stands in the model's text.
    pub span: Option<Span>,
}

/// A named result of the graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The name users fetch it by; of an update, that of the parameter.
    pub name: String,
    /// The value.
    pub value: ValueId,
    /// Whether it takes the place of the parameter of its name when the run is over, instead of being given to the user.
    /// Everything in the graph reads the parameter's old value.
    pub is_update: bool,
}

/// Operations and the values that pass between them: a directed acyclic graph.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    dag: StableDiGraph<Node, ()>,
    /// The results, in the order users see.
    pub outputs: Vec<Output>,
}

impl Graph {
    /// Adds a node whose operands are in the graph already.
    pub fn add(&mut self, node: Node) -> NodeId {
        let operands = node.inputs.clone();
        let id = NodeId(self.dag.add_node(node));
        for operand in operands {
            self.dag.add_edge(operand.node.0, id.0, ());
        }
        id
    }

    /// Makes every user of `old`, outputs included, use `new`.
    pub fn replace_uses(&mut self, old: ValueId, new: ValueId) {
        for user in self.users(old.node) {
            let mut inputs = self.node(user).inputs.clone();
            for operand in inputs.iter_mut().filter(|operand| **operand == old) {
                *operand = new;
            }
            self.set_inputs(user, inputs);
        }
        for output in self.outputs.iter_mut().filter(|output| output.value == old) {
            output.value = new;
        }
    }

    /// Replaces the operands of a node.
    pub fn set_inputs(&mut self, id: NodeId, inputs: SmallVec<[ValueId; 4]>) {
        let old: Vec<_> = self.dag.edges_directed(id.0, Direction::Incoming).map(|edge| edge.id()).collect();
        for edge in old {
            self.dag.remove_edge(edge);
        }
        for operand in &inputs {
            self.dag.add_edge(operand.node.0, id.0, ());
        }
        self.dag[id.0].inputs = inputs;
    }

    /// Changes everything of a node but its operands.
    pub fn update(&mut self, id: NodeId, change: impl FnOnce(&mut Node)) {
        let inputs = self.node(id).inputs.clone();
        change(&mut self.dag[id.0]);
        debug_assert_eq!(inputs, self.node(id).inputs, "operands are changed by set_inputs");
    }

    /// Removes a node that nothing uses.
    pub fn remove(&mut self, id: NodeId) -> Node {
        debug_assert!(self.users(id).is_empty(), "only unused nodes are removed");
        self.dag.remove_node(id.0).expect("a node is removed once")
    }

    /// The node.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.dag[id.0]
    }

    /// The type of a value.
    pub fn value_type(&self, value: ValueId) -> &TensorType {
        &self.node(value.node).types[value.port as usize]
    }

    /// `name`, or `name:port` for the later outputs of a node.
    pub fn value_name(&self, value: ValueId) -> String {
        let name = &self.node(value.node).name;
        if value.port == 0 { name.clone() } else { format!("{name}:{}", value.port) }
    }

    /// All nodes in the order they were added.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.dag.node_indices().map(|index| (NodeId(index), &self.dag[index]))
    }

    /// The number of nodes.
    pub fn len(&self) -> usize {
        self.dag.node_count()
    }

    /// Whether there are no nodes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The nodes that use any output of `id`, each once, in the order they were added.
    pub fn users(&self, id: NodeId) -> Vec<NodeId> {
        let mut users: Vec<NodeId> = self.dag.neighbors_directed(id.0, Direction::Outgoing).map(NodeId).collect();
        users.sort();
        users.dedup();
        users
    }

    /// Whether a result of the graph is an output of this node.
    pub fn is_output(&self, id: NodeId) -> bool {
        self.outputs.iter().any(|output| output.value.node == id)
    }

    /// Operands before users; among nodes that could be next, the one added first. Nodes on a cycle are missing.
    pub fn topological(&self) -> Vec<NodeId> {
        let mut waiting = NodeMap::filled(self, 0usize);
        let mut ready = std::collections::BTreeSet::new();
        for (id, _) in self.nodes() {
            let operands = self.dag.edges_directed(id.0, Direction::Incoming).count();
            waiting[id] = operands;
            if operands == 0 {
                ready.insert(id);
            }
        }
        let mut order = Vec::with_capacity(self.len());
        while let Some(id) = ready.pop_first() {
            order.push(id);
            for edge in self.dag.edges_directed(id.0, Direction::Outgoing) {
                let user = NodeId(edge.target());
                waiting[user] -= 1;
                if waiting[user] == 0 {
                    ready.insert(user);
                }
            }
        }
        order
    }

    /// For each node, the nearest node through which all its paths to the results lead, if there is one.
    pub fn post_dominators(&self) -> NodeMap<Option<NodeId>> {
        let mut dag = self.dag.map(|_, _| (), |_, ()| ());
        let exit = dag.add_node(());
        for output in &self.outputs {
            dag.add_edge(output.value.node.0, exit, ());
        }
        let dominators = algo::dominators::simple_fast(Reversed(&dag), exit);
        let mut result = NodeMap::filled(self, None);
        for (id, _) in self.nodes() {
            result[id] = dominators.immediate_dominator(id.0).filter(|&node| node != exit).map(NodeId);
        }
        result
    }

    /// The value that a text means: a result by its name, else the first output of a node, or `name:port`.
    pub fn find_value(&self, text: &str) -> Option<ValueId> {
        if let Some(output) = self.outputs.iter().find(|output| output.name == text && !output.is_update) {
            return Some(output.value);
        }
        if let Some(node) = self.find(text) {
            return Some(node.into());
        }
        let (name, port) = text.rsplit_once(':')?;
        let (node, port) = (self.find(name)?, port.parse::<u32>().ok()?);
        ((port as usize) < self.node(node).types.len()).then_some(ValueId { node, port })
    }

    /// The node of this name.
    pub fn find(&self, name: &str) -> Option<NodeId> {
        self.nodes().find(|(_, node)| node.name == name).map(|(id, _)| id)
    }
}

/// A fact for every node.
#[derive(Clone, Debug)]
pub struct NodeMap<T>(Vec<T>);

impl<T: Clone> NodeMap<T> {
    /// The same fact for every node that `graph` has now.
    pub fn filled(graph: &Graph, fact: T) -> NodeMap<T> {
        NodeMap(vec![fact; graph.dag.node_indices().map(|index| index.index() + 1).max().unwrap_or(0)])
    }
}

impl<T> std::ops::Index<NodeId> for NodeMap<T> {
    type Output = T;
    fn index(&self, id: NodeId) -> &T {
        &self.0[id.index()]
    }
}

impl<T> std::ops::IndexMut<NodeId> for NodeMap<T> {
    fn index_mut(&mut self, id: NodeId) -> &mut T {
        &mut self.0[id.index()]
    }
}

impl fmt::Display for Graph {
    /// One line a node, in topological order: `name: f32[1, 6, 28, 28] = Conv2d(out: 6, ...) x c1.weight c1.bias`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for id in self.topological() {
            let node = self.node(id);
            let types: Vec<String> = node.types.iter().map(ToString::to_string).collect();
            write!(f, "{}: {} = {}", node.name, types.join(", "), node.op)?;
            for &operand in &node.inputs {
                write!(f, " {}", self.value_name(operand))?;
            }
            writeln!(f)?;
        }
        for output in &self.outputs {
            let arrow = if output.is_update { "=>" } else { "->" };
            writeln!(f, "{arrow} {} = {}", output.name, self.value_name(output.value))?;
        }
        Ok(())
    }
}
