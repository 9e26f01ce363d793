//! The parameters of a network by name: read, checked against a model, made from a seed, written.

use crate::data::safetensors::{self, Stored};
use crate::initialize::initialize;
use crate::ir::diagnostic::closest;
use crate::ir::ops::Op;
use crate::ir::{DType, Data, Diagnostic, Diagnostics, Graph, Tensor, TensorType};
use std::collections::BTreeMap;
use std::path::Path;

/// Named tensors.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Weights {
    /// The file, for messages.
    origin: Option<String>,
    tensors: BTreeMap<String, Stored>,
}

/// Batch normalisation's counter in PyTorch's files; nothing at inference depends on it.
const IGNORED_SUFFIX: &str = "num_batches_tracked";

impl Weights {
    /// Reads a safetensors file; f16 and bf16 become f32.
    ///
    /// # Errors
    /// Where the file cannot be read or is damaged.
    pub fn load(path: impl AsRef<Path>) -> Result<Weights, Diagnostics> {
        let path = path.as_ref();
        let tensors = safetensors::read(path)?;
        Ok(Weights { origin: Some(path.display().to_string()), tensors })
    }

    /// What the initialisers of `graph` give for `seed`, for every parameter whose shape holds no symbol.
    pub fn initialized(graph: &Graph, seed: u64) -> Weights {
        let mut weights = Weights::default();
        for (name, parameter) in parameters(graph) {
            if let Some(dims) = parameter.ty.dims() {
                weights.insert(name, initialize(parameter, &dims, name, seed));
            }
        }
        weights
    }

    /// Writes a safetensors file.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), Diagnostics> {
        Ok(safetensors::write(path.as_ref(), self.iter())?)
    }

    /// Adds or replaces a tensor.
    pub fn insert(&mut self, name: &str, tensor: Tensor) {
        self.tensors.insert(name.to_string(), Stored::Tensor(tensor));
    }

    /// The tensor of this name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        match self.tensors.get(name)? {
            Stored::Tensor(tensor) => Some(tensor),
            Stored::Unsupported { .. } => None,
        }
    }

    /// All tensors that networks can hold, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.tensors.iter().filter_map(|(name, stored)| match stored {
            Stored::Tensor(tensor) => Some((name.as_str(), tensor)),
            Stored::Unsupported { .. } => None,
        })
    }

    /// The parameters of `graph`, f64 rounded to f32 where the graph wants that. `num_batches_tracked` is ignored.
    ///
    /// # Errors
    /// All tensors that are missing, are not in the graph, or have another shape or type.
    pub fn fit(mut self, graph: &Graph) -> Result<Weights, Diagnostics> {
        self.tensors.retain(|name, _| name.rsplit('.').next() != Some(IGNORED_SUFFIX));
        let of = self.origin.as_ref().map_or("the weights".to_string(), |origin| format!("`{origin}`"));
        let mut faults = Diagnostics::default();
        let mut missing = Vec::new();
        for (name, parameter) in parameters(graph) {
            let wanted = &parameter.ty;
            let Some(stored) = self.tensors.get_mut(name) else {
                missing.push((name, wanted));
                continue;
            };
            if let Stored::Tensor(tensor) = stored
                && let (DType::F32, Data::F64(numbers)) = (wanted.dtype, tensor.data())
            {
                let rounded = numbers.iter().map(|&x| x as f32).collect();
                *tensor = Tensor::new(tensor.dims(), Data::F32(rounded));
            }
            let found = match stored {
                Stored::Tensor(tensor) if fits(wanted, tensor) => continue,
                Stored::Tensor(tensor) => tensor.tensor_type().to_string(),
                Stored::Unsupported { dtype, dims } => format!("{}{dims:?}", dtype.to_lowercase()),
            };
            let fault = Diagnostic::new(format!("{of}: `{name}` does not fit the model"));
            faults.push(fault.expected(wanted.to_string()).found(found));
        }
        let known: Vec<&str> = parameters(graph).map(|(name, _)| name).collect();
        let extra: Vec<&str> =
            self.tensors.keys().map(String::as_str).filter(|name| known.binary_search(name).is_err()).collect();
        if !missing.is_empty() {
            let all: Vec<String> = missing.iter().map(|(name, ty)| format!("`{name}` {ty}")).collect();
            let fault = Diagnostic::new(format!("{of}: {} missing", tensors(all.len())));
            let mut fault = fault.expected(all.join(", "));
            fault.help = renamed(missing.iter().map(|(name, _)| *name), &extra);
            faults.push(fault);
        }
        if !extra.is_empty() {
            let fault = Diagnostic::new(format!("{of}: {} not in the model", tensors(extra.len())));
            faults.push(fault.found(format!("`{}`", extra.join("`, `"))));
        }
        faults.into_result()?;
        Ok(self)
    }
}

/// The parameters of a graph by name, in the order of their names.
pub(crate) fn parameters(graph: &Graph) -> impl Iterator<Item = (&str, &crate::ir::ops::Parameter)> {
    let mut all: Vec<_> = graph
        .nodes()
        .filter_map(|(_, node)| match &node.op {
            Op::Parameter(parameter) => Some((node.name.as_str(), parameter)),
            _ => None,
        })
        .collect();
    all.sort_by_key(|(name, _)| *name);
    all.into_iter()
}

fn fits(wanted: &TensorType, tensor: &Tensor) -> bool {
    wanted.dtype == tensor.dtype()
        && wanted.rank() == tensor.dims().len()
        && wanted.shape.iter().zip(tensor.dims()).all(|(dim, &n)| dim.may_equal(&n.into()))
}

fn tensors(n: usize) -> String {
    if n == 1 { "1 tensor is".to_string() } else { format!("{n} tensors are") }
}

/// A hint where the first missing name is close to one that is too many.
fn renamed<'a>(mut missing: impl Iterator<Item = &'a str>, extra: &[&str]) -> Option<String> {
    missing.find_map(|name| {
        let other = closest(name, extra.iter().copied())?;
        Some(format!("is `{other}` in the file meant for `{name}`?"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::GraphBuilder;
    use crate::ir::ops::Dense;

    fn graph() -> Graph {
        let mut build = GraphBuilder::new();
        let x = build.input("x", TensorType::f32([1usize, 2]));
        let y = build.layer("f1", Op::Dense(Dense { out: 3, bias: true }), &[x]);
        let y = build.layer("f2", Op::Dense(Dense { out: 1, bias: false }), &[y]);
        build.output("y", y);
        build.finish()
    }

    #[test]
    fn initialised_weights_fit() {
        let weights = Weights::initialized(&graph(), 3);
        assert_eq!(weights.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["f1.bias", "f1.weight", "f2.weight"]);
        assert_eq!(weights.clone().fit(&graph()).unwrap(), weights);
        assert_ne!(weights, Weights::initialized(&graph(), 4));
    }

    #[test]
    fn all_faults_are_listed() {
        let mut weights = Weights::default();
        weights.insert("f1.weight", Tensor::from_vec(&[2, 3], vec![0f32; 6]));
        weights.insert("f1.bias", Tensor::from_vec(&[3], vec![0i64; 3]));
        weights.insert("f2.weigth", Tensor::from_vec(&[1, 3], vec![0f32; 3]));
        weights.insert("other", Tensor::from_vec(&[1], vec![0f32]));
        weights.insert("bn.num_batches_tracked", Tensor::from_vec(&[], vec![0i64]));
        let text = weights.fit(&graph()).unwrap_err().to_string();
        for line in [
            "`f1.bias` does not fit the model",
            "f32[3]",
            "i64[3]",
            "`f1.weight` does not fit the model",
            "f32[3, 2]",
            "f32[2, 3]",
            "1 tensor is missing",
            "`f2.weight` f32[1, 3]",
            "is `f2.weigth` in the file meant for `f2.weight`?",
            "2 tensors are not in the model",
            "`f2.weigth`, `other`",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("num_batches"));
    }

    #[test]
    fn doubles_are_rounded() {
        let mut weights = Weights::initialized(&graph(), 0);
        weights.insert("f2.weight", Tensor::from_vec(&[1, 3], vec![0.1f64, 0.2, 0.3]));
        let fitted = weights.fit(&graph()).unwrap();
        assert_eq!(fitted.get("f2.weight").unwrap().as_slice::<f32>().unwrap(), [0.1f32, 0.2, 0.3]);
    }
}
