//! The parameters of a network by name: of a file, of a seed, or in memory; checked against a model, and written.

use crate::cache::Subject;
use crate::data::files;
use crate::data::safetensors::{self, Entry, File};
use crate::initialize::initialize;
use crate::ir::diagnostic::closest;
use crate::ir::ops::{Op, Parameter};
use crate::ir::{DType, Data, Diagnostic, Diagnostics, Graph, Tensor, TensorType};
use crate::runtime::AlignedBytes;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use twox_hash::XxHash3_128;

/// Named tensors. Those of a file are read each time they are wanted, those of a seed are drawn: an executable keeps them
/// only in the form that its code reads. Clones share tensors in memory.
#[derive(Clone, Debug, Default)]
pub struct Weights {
    /// The file, for messages.
    origin: Option<String>,
    sources: BTreeMap<String, Source>,
}

/// Where a tensor comes from.
#[derive(Clone, Debug)]
enum Source {
    Memory(Arc<Tensor>),
    File {
        file: Arc<File>,
        entry: Entry,
        /// Whether f64 becomes f32.
        is_rounded: bool,
    },
    Seed {
        parameter: Parameter,
        dims: Vec<usize>,
        seed: u64,
    },
}

impl Source {
    /// The type that networks see; `None` where no network has it.
    fn tensor_type(&self) -> Option<TensorType> {
        match self {
            Source::Memory(tensor) => Some(tensor.tensor_type()),
            Source::File { entry, is_rounded, .. } => {
                let ty = entry.tensor_type()?;
                Some(if *is_rounded { TensorType { dtype: DType::F32, ..ty } } else { ty })
            }
            Source::Seed { parameter, dims, .. } => Some(TensorType::new(parameter.ty.dtype, dims.iter().copied())),
        }
    }

    /// Makes f32 of f64.
    fn round(&mut self) {
        match self {
            Source::Memory(tensor) => *tensor = Arc::new(rounded(tensor)),
            Source::File { is_rounded, .. } => *is_rounded = true,
            Source::Seed { parameter, .. } => parameter.ty.dtype = DType::F32,
        }
    }

    fn tensor(&self, name: &str) -> Result<Cow<'_, Tensor>, Diagnostic> {
        Ok(match self {
            Source::Memory(tensor) => Cow::Borrowed(tensor),
            Source::File { file, entry, is_rounded } => {
                let tensor = file.read(entry)?;
                Cow::Owned(if *is_rounded { rounded(&tensor) } else { tensor })
            }
            Source::Seed { parameter, dims, seed } => Cow::Owned(initialize(parameter, dims, name, *seed)),
        })
    }
}

/// f64 as f32, and other types as they are.
fn rounded(tensor: &Tensor) -> Tensor {
    match tensor.data() {
        Data::F64(numbers) => Tensor::new(tensor.dims(), Data::F32(numbers.iter().map(|&x| x as f32).collect())),
        _ => tensor.clone(),
    }
}

/// Batch normalisation's counter in PyTorch's files; nothing at inference depends on it.
const IGNORED_SUFFIX: &str = "num_batches_tracked";

impl Weights {
    /// Opens a safetensors file, and keeps it open; f16 and bf16 become f32. Its tensors are read when they are wanted: it
    /// must not be written until then, but may be replaced by another file of its name.
    ///
    /// # Errors
    /// Where the file cannot be read or is damaged.
    pub fn load(path: impl AsRef<Path>) -> Result<Weights, Diagnostics> {
        let path = path.as_ref();
        let file = Arc::new(File::open(path)?);
        let source = |entry: &Entry| Source::File { file: file.clone(), entry: entry.clone(), is_rounded: false };
        let sources = file.entries().iter().map(|(name, entry)| (name.clone(), source(entry))).collect();
        Ok(Weights { origin: Some(path.display().to_string()), sources })
    }

    /// What the initialisers of `graph` give for `seed`, for every parameter whose shape holds no symbol. Drawn each time
    /// it is wanted.
    pub fn initialized(graph: &Graph, seed: u64) -> Weights {
        let source = |(name, parameter): (&str, &Parameter)| {
            let dims = parameter.ty.dims()?;
            Some((name.to_string(), Source::Seed { parameter: parameter.clone(), dims, seed }))
        };
        Weights { origin: None, sources: parameters(graph).filter_map(source).collect() }
    }

    /// The same tensors, all in memory.
    ///
    /// # Errors
    /// Where the file cannot be read, or was changed after it was opened.
    pub fn in_memory(&self) -> Result<Weights, Diagnostics> {
        let mut weights = Weights { origin: self.origin.clone(), ..Weights::default() };
        for (name, _) in self.types() {
            if let Some(tensor) = self.get(name)? {
                weights.insert(name, tensor.into_owned());
            }
        }
        Ok(weights)
    }

    /// Writes a safetensors file.
    ///
    /// # Errors
    /// Where the file cannot be written, tensors cannot be read, or all of them do not fit in memory.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), Diagnostics> {
        let bytes = |ty: TensorType| files::size(&ty.dims()?, ty.dtype.bytes()).map(|(_, bytes)| bytes);
        let bytes = self.types().filter_map(|(_, ty)| bytes(ty)).fold(0, usize::saturating_add);
        if !AlignedBytes::are_available(bytes) {
            return Err(Diagnostic::new("the parameters do not fit in memory").found(format!("{bytes} bytes")).into());
        }
        let mut tensors = Vec::new();
        for (name, _) in self.types() {
            tensors.extend(self.get(name)?.map(|tensor| (name, tensor)));
        }
        Ok(safetensors::write(path.as_ref(), tensors.iter().map(|(name, tensor)| (*name, &**tensor)))?)
    }

    /// Adds or replaces a tensor.
    pub fn insert(&mut self, name: &str, tensor: Tensor) {
        self.sources.insert(name.to_string(), Source::Memory(Arc::new(tensor)));
    }

    /// The tensor of this name, of a type that networks have: read or drawn where it is not in memory.
    ///
    /// # Errors
    /// Where the file cannot be read, or was changed after it was opened.
    pub fn get(&self, name: &str) -> Result<Option<Cow<'_, Tensor>>, Diagnostic> {
        let source = self.sources.get(name).filter(|source| source.tensor_type().is_some());
        source.map(|source| source.tensor(name)).transpose()
    }

    /// The names and types of all tensors that networks can hold.
    pub fn types(&self) -> impl Iterator<Item = (&str, TensorType)> {
        self.sources.iter().filter_map(|(name, source)| Some((name.as_str(), source.tensor_type()?)))
    }

    /// Bytes of tensors in memory.
    pub fn resident_bytes(&self) -> usize {
        let held = self.sources.values().filter_map(|source| match source {
            Source::Memory(tensor) => Some(tensor.data().len() * tensor.dtype().bytes()),
            _ => None,
        });
        held.sum()
    }

    /// Tells a cache where the parameters of `graph` come from; those that are not here are drawn with `seed`.
    pub(crate) fn identify(&self, graph: &Graph, seed: u64, subject: &mut Subject) -> io::Result<()> {
        let mut files: Vec<&Arc<File>> = Vec::new();
        for (name, parameter) in parameters(graph) {
            let out = &mut subject.network;
            write!(out, "{name:?} ")?;
            match self.sources.get(name) {
                Some(Source::Memory(tensor)) => {
                    let content = XxHash3_128::oneshot(tensor.data().bytes());
                    writeln!(out, "{:?}{:?} {content:x}", tensor.dtype(), tensor.dims())?;
                }
                Some(Source::File { file, entry, is_rounded }) => {
                    let known = files.iter().position(|known| Arc::ptr_eq(known, file));
                    let number = known.unwrap_or(files.len());
                    if known.is_none() {
                        let (path, state) = file.identity();
                        write!(out, "{path:?} ")?;
                        writeln!(subject.state, "{path:?} {state}")?;
                        subject.is_passing |= !file.is_settled();
                        files.push(file);
                    }
                    writeln!(out, "file {number} {entry:?} {is_rounded}")?;
                }
                Some(Source::Seed { parameter, dims, seed }) => writeln!(out, "{parameter:?} {dims:?} {seed}")?,
                None => writeln!(out, "{parameter:?} {seed}")?,
            }
        }
        Ok(())
    }

    /// The parameters of `graph`, f64 rounded to f32 where the graph wants that. `num_batches_tracked` is ignored.
    ///
    /// # Errors
    /// All tensors that are missing, are not in the graph, or have another shape or type.
    pub fn fit(mut self, graph: &Graph) -> Result<Weights, Diagnostics> {
        self.sources.retain(|name, _| name.rsplit('.').next() != Some(IGNORED_SUFFIX));
        let of = self.origin.as_ref().map_or("the weights".to_string(), |origin| format!("`{origin}`"));
        let mut faults = Diagnostics::default();
        let mut missing = Vec::new();
        for (name, parameter) in parameters(graph) {
            let wanted = &parameter.ty;
            let Some(source) = self.sources.get_mut(name) else {
                missing.push((name, wanted));
                continue;
            };
            if wanted.dtype == DType::F32 && source.tensor_type().is_some_and(|ty| ty.dtype == DType::F64) {
                source.round();
            }
            let found = match (source.tensor_type(), &*source) {
                (Some(ty), _) if fits(wanted, &ty) => continue,
                (None, Source::File { entry, .. }) => entry.stored_type(),
                (ty, _) => ty.map_or(String::new(), |ty| ty.to_string()),
            };
            let fault = Diagnostic::new(format!("{of}: `{name}` does not fit the model"));
            faults.push(fault.expected(wanted.to_string()).found(found));
        }
        let known: Vec<&str> = parameters(graph).map(|(name, _)| name).collect();
        let extra: Vec<&str> =
            self.sources.keys().map(String::as_str).filter(|name| known.binary_search(name).is_err()).collect();
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
pub(crate) fn parameters(graph: &Graph) -> impl Iterator<Item = (&str, &Parameter)> {
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

fn fits(wanted: &TensorType, found: &TensorType) -> bool {
    wanted.dtype == found.dtype
        && wanted.rank() == found.rank()
        && wanted.shape.iter().zip(&found.shape).all(|(wanted, found)| wanted.may_equal(found))
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

    fn all(weights: &Weights) -> Vec<(String, Tensor)> {
        let tensor = |name| weights.get(name).unwrap().unwrap().into_owned();
        weights.types().map(|(name, _)| (name.to_string(), tensor(name))).collect()
    }

    #[test]
    fn initialised_weights_fit() {
        let weights = Weights::initialized(&graph(), 3);
        assert_eq!(weights.types().map(|(name, _)| name).collect::<Vec<_>>(), ["f1.bias", "f1.weight", "f2.weight"]);
        assert_eq!(all(&weights.clone().fit(&graph()).unwrap()), all(&weights));
        assert_ne!(all(&weights), all(&Weights::initialized(&graph(), 4)));
    }

    #[test]
    fn files_and_seeds_hold_no_tensors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let drawn = Weights::initialized(&graph(), 3);
        drawn.save(&path).unwrap();
        let read = Weights::load(&path).unwrap().fit(&graph()).unwrap();
        assert_eq!((drawn.resident_bytes(), read.resident_bytes()), (0, 0));
        assert_eq!(all(&read), all(&drawn));
        let held = read.in_memory().unwrap();
        assert_eq!(held.resident_bytes(), 4 * (3 + 6 + 3));
        assert_eq!(all(&held), all(&drawn));
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
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let mut weights = Weights::initialized(&graph(), 0);
        weights.insert("f2.weight", Tensor::from_vec(&[1, 3], vec![0.1f64, 0.2, 0.3]));
        weights.save(&path).unwrap();
        for weights in [weights, Weights::load(&path).unwrap()] {
            let fitted = weights.fit(&graph()).unwrap();
            let tensor = fitted.get("f2.weight").unwrap().unwrap();
            assert_eq!(tensor.as_slice::<f32>().unwrap(), [0.1f32, 0.2, 0.3]);
        }
    }
}
