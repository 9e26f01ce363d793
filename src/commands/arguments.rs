//! Arguments that commands share.

use super::output::{Failure, usage};
use clap::Args;
use fusewright::data::files;
use fusewright::ir::ops::Op;
use fusewright::ir::recipe::Recipe;
use fusewright::ir::{Bindings, DType, Data, Diagnostics, TensorType};
use fusewright::{Error, Isa, Model, Options, Tensor, Weights};
use std::path::PathBuf;

/// The model and the values of its symbols.
#[derive(Args)]
pub struct ModelArguments {
    /// The model file
    pub model: PathBuf,
    /// The value of a symbol in the model's shapes, such as H=3024
    #[arg(long = "bind", value_name = "SYMBOL=VALUE", value_parser = binding)]
    pub bind: Vec<(String, usize)>,
}

impl ModelArguments {
    /// Whether the file is that of a training.
    pub fn is_training(&self) -> Result<bool, Failure> {
        Ok(Recipe::is_recipe(&files::read_text(&self.model)?))
    }

    pub fn load(&self) -> Result<Model, Failure> {
        Ok(Model::load(&self.model)?)
    }

    /// The values of `--bind`, and of `--batch`, which is the symbol `N`.
    pub fn bindings(&self, batch: Option<usize>) -> Result<Bindings, Failure> {
        let mut bindings = Bindings::new();
        let batch = batch.map(|n| ("N".to_string(), n));
        for (name, n) in self.bind.iter().cloned().chain(batch) {
            if let Some(other) = bindings.insert(name.clone(), n)
                && other != n
            {
                let fault = usage(format!("the symbol `{name}` is given twice")).found(format!("{other} and {n}"));
                return Err(fault.into());
            }
        }
        Ok(bindings)
    }
}

/// How the network is run.
#[derive(Args)]
pub struct RunArguments {
    /// The most threads that a run uses; the results are the same for any number
    #[arg(long, value_name = "T", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: u16,
    /// Microseconds that threads wait for the next run before they sleep
    #[arg(long, value_name = "US", default_value_t = 50)]
    pub spin: u64,
    /// The vectors of inner bodies: avx512, avx2 or portable; the widest that this machine has by default
    #[arg(long, value_name = "ISA", value_parser = isa)]
    pub isa: Option<Isa>,
}

/// A set of vector instructions that this machine has.
pub fn isa(name: &str) -> Result<Isa, String> {
    let isa: Isa = name.parse()?;
    if isa.is_available() { Ok(isa) } else { Err(format!("this machine does not have {isa}")) }
}

impl RunArguments {
    /// How to compile with these parameters.
    pub fn options(&self, weights: Option<Weights>) -> Options {
        let isa = self.isa.unwrap_or_else(Isa::detect);
        Options { weights, threads: self.threads.into(), spin: self.spin, isa, ..Options::default() }
    }
}

/// `H=3024`.
fn binding(text: &str) -> Result<(String, usize), String> {
    let wanted = "expected SYMBOL=VALUE, such as N=8";
    let (name, value) = text.split_once('=').ok_or(wanted)?;
    let value: usize = value.parse().map_err(|_| format!("{wanted}, with a whole number"))?;
    if value == 0 {
        return Err("expected a value of 1 or more".to_string());
    }
    Ok((name.to_string(), value))
}

/// A batch: 1 or more.
pub fn batch(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n @ 1..=0x7fff_ffff) => Ok(n),
        _ => Err("expected a whole number from 1 to 2147483647".to_string()),
    }
}

/// How the planner may compute.
#[derive(Args, Clone, Default)]
pub struct PlanArguments {
    /// Compute all sums as they are written: no convolutions by transforms
    #[arg(long)]
    pub exact: bool,
    /// Bytes that weights may take in faster but larger forms, such as 64MiB
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub constant_limit: Option<u64>,
    /// Bytes that the arena of activations may take, such as 64MiB: what does not fit is computed again
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub memory: Option<u64>,
    /// Measure each way to compute a convolution that this file does not know yet, take the fastest, and keep it there
    #[arg(long, value_name = "FILE", conflicts_with = "exact")]
    pub tune: Option<PathBuf>,
}

impl PlanArguments {
    /// The options with these in them.
    pub fn put(&self, options: Options) -> Options {
        let PlanArguments { exact, constant_limit, memory, tune } = self.clone();
        Options { exact, constant_limit, memory_limit: memory, tuning: tune, ..options }
    }
}

/// Where compiled networks are kept.
#[derive(Args, Clone, Default)]
pub struct CacheArgument {
    /// Load what was compiled before from this folder, and put there what is new; it holds machine code, so that nobody else
    /// should be able to write to it
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
}

impl CacheArgument {
    /// The options with this in them.
    pub fn put(&self, options: Options) -> Options {
        Options { cache: self.cache.clone(), ..options }
    }
}

/// `4096`, `512KiB`, `64MiB`, `2GiB`.
fn size(text: &str) -> Result<u64, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err("expected bytes, such as 4096, 512KiB, 64MiB or 2GiB".to_string()),
    };
    let number: Option<u64> = number.parse().ok();
    number.and_then(|number| number.checked_mul(factor)).ok_or("expected bytes, such as 64MiB".to_string())
}

/// `NAME=FILE`, or `FILE` alone where there is only one to name.
#[derive(Clone)]
pub struct NamedFile {
    pub name: Option<String>,
    pub path: PathBuf,
}

pub fn named_file(text: &str) -> Result<NamedFile, String> {
    Ok(match text.split_once('=') {
        Some((name, path)) => NamedFile { name: Some(name.to_string()), path: path.into() },
        None => NamedFile { name: None, path: text.into() },
    })
}

/// Files with the names they stand for, each of which is `known` and given once.
pub fn named(files: &[NamedFile], known: &[&str], what: &str) -> Result<Vec<(String, PathBuf)>, Error> {
    let mut faults = Diagnostics::default();
    let mut all: Vec<(String, PathBuf)> = Vec::new();
    let choices = format!("`{}`", known.join("`, `"));
    for file in files {
        let name = match (&file.name, known) {
            (Some(name), _) => name.as_str(),
            (None, [only]) => only,
            (None, _) => {
                let fault = usage(format!("`{}` could be any {what}", file.path.display()));
                faults.push(fault.expected(format!("NAME=FILE with one of {choices}")));
                continue;
            }
        };
        if !known.contains(&name) {
            faults.push(usage(format!("the network has no {what} `{name}`")).expected(choices.clone()));
        } else if all.iter().any(|(other, _)| other == name) {
            faults.push(usage(format!("the {what} `{name}` is given twice")));
        } else {
            all.push((name.to_string(), file.path.clone()));
        }
    }
    faults.into_result()?;
    Ok(all)
}

/// f64, which is NumPy's usual type, as the f32 that the network reads.
pub fn narrowed(tensor: Tensor, ty: &TensorType) -> Tensor {
    match (ty.dtype, tensor.data()) {
        (DType::F32, Data::F64(numbers)) => {
            let rounded = numbers.iter().map(|&x| x as f32).collect();
            Tensor::new(tensor.dims(), Data::F32(rounded))
        }
        _ => tensor,
    }
}

/// The weights of a file, or `None` for those of the model.
pub fn weights(path: Option<&PathBuf>) -> Result<Option<Weights>, Error> {
    Ok(path.map(Weights::load).transpose()?)
}

/// The inputs of a model by name.
pub fn inputs(model: &Model) -> Vec<(&str, &TensorType)> {
    model
        .graph()
        .nodes()
        .filter_map(|(_, node)| match &node.op {
            Op::Input(input) => Some((node.name.as_str(), &input.ty)),
            _ => None,
        })
        .collect()
}

/// Adds the symbols that a shape of numbers gives a value to: those that are an axis of `ty` by themselves. What does
/// not fit is left for the session to refuse.
pub fn bind_shape(ty: &TensorType, dims: &[usize], bindings: &mut Bindings) {
    if ty.rank() != dims.len() {
        return;
    }
    for (dim, &n) in ty.shape.iter().zip(dims) {
        if let Some(name) = dim.as_symbol() {
            bindings.entry(name).or_insert(n);
        }
    }
}

/// Gives `N` the value 1 where the model has it and nothing else is said.
pub fn default_batch(model: &Model, bindings: &mut Bindings) {
    if model.definition().symbols().iter().any(|name| name == "N") {
        bindings.entry("N".to_string()).or_insert(1);
    }
}
