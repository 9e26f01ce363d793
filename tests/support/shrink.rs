//! The smallest network that still fails.

use super::network::{Network, SourceKind, Statement, Value, Values, What, read_layer};
use fusewright::ir::TensorType;

/// Takes away what it can while `fails` says that the network fails in the same way.
pub fn shrink(mut network: Network, fails: impl Fn(&Network) -> bool) -> Network {
    let mut left = 600;
    loop {
        let smaller = candidates(&network).into_iter().map(|candidate| candidate.pruned()).find(|candidate| {
            left -= 1;
            left > 0 && size(candidate) < size(&network) && fails(candidate)
        });
        match smaller {
            Some(smaller) => network = smaller,
            None => return network,
        }
    }
}

/// Fewer layers first, then fewer statements and outputs, then shorter text, then smaller sources.
fn size(network: &Network) -> (usize, usize, usize, usize) {
    let layers = network.statements.iter().filter_map(|statement| match &statement.what {
        What::Layer { op, from, .. } => Some(op.to_string().len() + from.len()),
        What::Source { .. } => None,
    });
    let sources = network.statements.iter().filter_map(|statement| match &statement.what {
        What::Source { ty, kind, .. } => {
            let dims = ty.dims()?;
            let elements: usize = dims.iter().product();
            Some(100 * elements + 10 * dims.iter().sum::<usize>() + usize::from(*kind != SourceKind::Input))
        }
        What::Layer { .. } => None,
    });
    let (count, text) = layers.fold((0, 0), |(count, text), length| (count + 1, text + length));
    (count, network.statements.len() + network.outputs.len(), text, sources.sum())
}

fn candidates(network: &Network) -> Vec<Network> {
    let mut all = Vec::new();
    let mut with = |change: &dyn Fn(&mut Network)| {
        let mut candidate = network.clone();
        change(&mut candidate);
        all.push(candidate);
    };
    // One result, one result less, an earlier result.
    for i in 0..network.outputs.len() {
        with(&|n| n.outputs = vec![n.outputs[i]]);
        with(&|n| {
            n.outputs.remove(i);
        });
    }
    for statement in (0..network.statements.len()).rev() {
        with(&|n| n.outputs = vec![Value { statement, port: 0 }]);
    }
    let types = network.build().map(|built| {
        let type_of = |name: &str| built.graph.find(name).map(|id| built.graph.node(id).types.to_vec());
        network.statements.iter().map(|statement| type_of(&statement.name).unwrap_or_default()).collect::<Vec<_>>()
    });
    for (i, statement) in network.statements.iter().enumerate() {
        let What::Layer { from, op, .. } = &statement.what else { continue };
        let own = types.as_ref().map_or(&[][..], |types| types[i].as_slice());
        // A source in the place of the layer.
        if let [ty] = own {
            for fine in [false, true] {
                with(&|n| n.statements[i] = source(statement, ty, Values::of(ty.dtype, fine)));
            }
            with(&|n| n.statements[i] = source(statement, ty, Values::new(0.25, 2.0, 1.0 / 64.0)));
        }
        // An operand in the place of the layer.
        for &operand in from {
            with(&|n| replace(n, i, operand));
        }
        // Fewer operands.
        for operand in 0..from.len() {
            with(&|n| {
                let What::Layer { from, .. } = &mut n.statements[i].what else { return };
                from.remove(operand);
            });
        }
        for text in simpler(&op.to_string()) {
            if let Some(op) = read_layer(&text) {
                with(&|n| {
                    let What::Layer { op: own, .. } = &mut n.statements[i].what else { return };
                    *own = op.clone();
                });
            }
        }
    }
    // Shorter axes: of one source, and of all that have the length.
    for (i, statement) in network.statements.iter().enumerate() {
        let What::Source { ty, kind, .. } = &statement.what else { continue };
        if *kind != SourceKind::Input {
            with(&|n| {
                let What::Source { kind, .. } = &mut n.statements[i].what else { return };
                *kind = SourceKind::Input;
            });
        }
        let dims = ty.dims().unwrap_or_default();
        for (axis, &length) in dims.iter().enumerate().filter(|(_, length)| **length > 1) {
            for shorter in [1, 2, length / 2, length - 1].into_iter().filter(|&n| n > 0 && n < length) {
                with(&|n| resize(n, i, |at, n| if at == axis { shorter } else { n }));
                with(&|n| {
                    (0..n.statements.len()).for_each(|i| resize(n, i, |_, n| if n == length { shorter } else { n }))
                });
            }
        }
    }
    all
}

fn source(statement: &Statement, ty: &TensorType, values: Values) -> Statement {
    Statement { name: statement.name.clone(), what: What::Source { kind: SourceKind::Input, ty: ty.clone(), values } }
}

fn replace(network: &mut Network, statement: usize, by: Value) {
    let first = Value { statement, port: 0 };
    for later in &mut network.statements[statement + 1..] {
        if let What::Layer { from, .. } = &mut later.what {
            from.iter_mut().filter(|value| **value == first).for_each(|value| *value = by);
        }
    }
    network.outputs.iter_mut().filter(|value| **value == first).for_each(|value| *value = by);
}

fn resize(network: &mut Network, statement: usize, length: impl Fn(usize, usize) -> usize) {
    let What::Source { ty, .. } = &mut network.statements[statement].what else { return };
    let dims = ty.dims().unwrap_or_default();
    *ty = TensorType::new(ty.dtype, dims.iter().enumerate().map(|(axis, &n)| length(axis, n)));
}

/// The text of a layer with one attribute left out, or one number of it made smaller.
fn simpler(text: &str) -> Vec<String> {
    let Some((name, fields)) = text.split_once('(') else { return Vec::new() };
    let mut parts = vec![String::new()];
    let mut depth = 0;
    for c in fields.strip_suffix(')').unwrap_or(fields).chars() {
        match c {
            '[' | '(' => depth += 1,
            ']' | ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().expect("never empty").push(c);
    }
    let mut all = Vec::new();
    for i in 0..parts.len() {
        let mut fewer = parts.clone();
        fewer.remove(i);
        all.push(format!("{name}({})", fewer.join(",")));
        if let Some((key, value)) = parts[i].split_once(':') {
            for number in ["1", "2", "0"].into_iter().filter(|number| *number != value) {
                let mut other = parts.clone();
                other[i] = format!("{key}:{number}");
                all.push(format!("{name}({})", other.join(",")));
            }
        }
    }
    all
}
