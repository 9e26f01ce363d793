//! Networks that once broke the law, as small as they could be made.

use super::network::{Built, Values};
use fusewright::ir::Model;
use fusewright::ir::ops::Op;
use std::collections::BTreeMap;

/// The network of a model file with values for its inputs and parameters.
pub fn built(ron: &str, seed: u64) -> Built {
    let model = Model::parse("found.ron", ron).unwrap_or_else(|faults| panic!("{faults:?}\n{ron}"));
    let mut given = BTreeMap::new();
    for (_, node) in model.graph.nodes() {
        let values = match &node.op {
            Op::Input(_) => Values::of(node.types[0].dtype, true),
            Op::Parameter(_) => Values::of_parameter(node.name.rsplit('.').next().unwrap_or_default(), true),
            _ => continue,
        };
        given.insert(node.name.clone(), values.tensor(&node.types[0], seed, &node.name));
    }
    Built { graph: model.graph, given }
}
