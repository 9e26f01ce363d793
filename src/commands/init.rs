//! `fusewright init`: initial parameters in a file.

use super::arguments::ModelArguments;
use super::output::{Failure, Output};
use super::table::grouped;
use clap::Args;
use fusewright::Weights;
use fusewright::data::files;
use fusewright::ir::Diagnostic;
use fusewright::ir::ops::Op;
use std::io::Write;
use std::path::PathBuf;

/// Writes the parameters that the model's initialisers give, under their names, as safetensors
#[derive(Args)]
pub struct Init {
    #[command(flatten)]
    model: ModelArguments,
    /// Seeds the initialisers; the model's own seed where none is given
    #[arg(long)]
    seed: Option<u64>,
    /// The file to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

impl Init {
    pub fn run(self, out: &mut Output) -> Result<(), Failure> {
        files::check_apart([&self.output], [&self.model.model])?;
        let mut model = self.model.load()?;
        let bindings = self.model.bindings(None)?;
        if !bindings.is_empty() {
            model = model.bind(&bindings)?;
        }
        let symbolic = model.graph().nodes().find(|(_, node)| match &node.op {
            Op::Parameter(parameter) => parameter.ty.dims().is_none(),
            _ => false,
        });
        if let Some((_, node)) = symbolic {
            return Err(Diagnostic::new(format!("the size of `{}` is not known", node.name))
                .found(node.types[0].to_string())
                .help("give the symbols values with `--bind`")
                .into());
        }
        let weights = Weights::initialized(model.graph(), self.seed.unwrap_or(model.definition().seed));
        weights.save(&self.output)?;
        let elements: usize = weights.types().filter_map(|(_, ty)| Some(ty.dims()?.iter().product::<usize>())).sum();
        let (tensors, path) = (weights.types().count(), self.output.display());
        Ok(writeln!(out, "{path}: {tensors} tensors, {} parameters", grouped(elements as u64))?)
    }
}
