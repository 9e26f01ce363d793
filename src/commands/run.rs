//! `fusewright run`: a network on arrays, or on a picture.

use super::arguments::{
    CacheArgument, ModelArguments, NamedFile, PlanArguments, RunArguments, bind_shape, default_batch, inputs, named,
    named_file, narrowed, weights,
};
use super::output::{Failure, Output, usage};
use clap::Args;
use fusewright::data::picture::Picture;
use fusewright::data::{files, npy};
use fusewright::ir::{Array, Bindings, DType, Diagnostic, Diagnostics, Dim, Tensor, TensorType};
use fusewright::{Error, Model, reference};
use std::io::Write;
use std::path::PathBuf;

/// Runs the network once: reads inputs from npy files or a picture, prints outputs or writes them as npy
#[derive(Args)]
pub struct Run {
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    how: RunArguments,
    #[command(flatten)]
    planning: PlanArguments,
    #[command(flatten)]
    cache: CacheArgument,
    /// Take the parameters from this safetensors file
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// An input as npy; the name may be left out where there is only one
    #[arg(long, value_name = "NAME=FILE.npy", value_parser = named_file)]
    input: Vec<NamedFile>,
    /// A PNG, JPEG or PNM picture as input: resized and normalised as the model says
    #[arg(long, value_name = "[NAME=]FILE", value_parser = named_file)]
    image: Option<NamedFile>,
    /// Write an output as npy; the name may be left out where there is only one
    #[arg(long, value_name = "NAME=FILE.npy", value_parser = named_file)]
    output: Vec<NamedFile>,
    /// Print so many of the best classes; 5 for a picture
    #[arg(long, value_name = "K")]
    top: Option<usize>,
    /// Compare the outputs with the reference evaluator, which is slow
    #[arg(long)]
    verify: bool,
}

/// Outputs of native code may differ so much from f64, beside the largest of them. Sums in another order do; faults of
/// the compiler differ by far more.
const TOLERANCE: f64 = 1e-4;

impl Run {
    pub fn run(self, out: &mut Output) -> Result<(), Failure> {
        let model = self.model.load()?;
        let mut bindings = self.model.bindings(None)?;
        let given = self.read_inputs(&model, &mut bindings)?;
        let outputs = named(&self.output, &output_names(&model), "output")?;
        let read = self.input.iter().chain(&self.image).map(|file| &file.path);
        let read = read.chain(&self.weights).chain([&self.model.model]);
        files::check_apart(outputs.iter().map(|(_, path)| path), read)?;
        let options = self.cache.put(self.planning.put(self.how.options(weights(self.weights.as_ref())?)));
        let executable = model.compile(options)?;
        let mut session = executable.session(&bindings)?;
        let views: Vec<(&str, &Tensor)> = given.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let results = session.run_tensors(&views)?;

        if self.verify {
            let wanted = reference(&executable, &bindings, &views)?;
            for ((name, found), (_, wanted)) in results.iter().zip(&wanted) {
                writeln!(out, "{}", compare(name, found, wanted)?)?;
            }
        }
        for (name, path) in &outputs {
            let (_, tensor) = results.iter().find(|(known, _)| known == name).expect("named outputs were checked");
            npy::write(path, tensor)?;
        }
        let top = self.top.or(self.image.as_ref().map(|_| 5));
        for (name, tensor) in results.iter().filter(|(name, _)| outputs.iter().all(|(written, _)| written != name)) {
            match (top, tensor.as_slice::<f32>()) {
                (Some(k), Some(scores)) => best(out, &model, tensor, scores, k)?,
                _ => show(out, name, tensor)?,
            }
        }
        Ok(())
    }

    /// All inputs that the command line names, and the symbols that their sizes give values to.
    fn read_inputs(&self, model: &Model, bindings: &mut Bindings) -> Result<Vec<(String, Tensor)>, Failure> {
        let known = inputs(model);
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        let ty = |name: &str| known.iter().find(|(known, _)| *known == name).expect("named inputs were checked").1;
        let mut given = Vec::new();
        for (name, path) in named(&self.input, &names, "input")? {
            let tensor = narrowed(npy::read(&path)?, ty(&name));
            bind_shape(ty(&name), tensor.dims(), bindings);
            given.push((name, tensor));
        }
        if let Some(file) = &self.image {
            let (name, path) = named(std::slice::from_ref(file), &names, "input")?.swap_remove(0);
            let picture = Picture::read(&path)?;
            let tensor = pictured(model, &name, ty(&name), &picture, bindings)?;
            bind_shape(ty(&name), tensor.dims(), bindings);
            given.push((name, tensor));
        }
        let mut faults = Diagnostics::default();
        for (name, ty) in known.iter().filter(|(name, _)| given.iter().all(|(known, _)| known != name)) {
            let fault = usage(format!("the input `{name}` is missing")).expected(ty.to_string());
            faults.push(fault.help(format!("give it with `--input {name}=FILE.npy`")));
        }
        faults.into_result()?;
        default_batch(model, bindings);
        Ok(given)
    }
}

fn output_names(model: &Model) -> Vec<&str> {
    model.graph().outputs.iter().map(|output| output.name.as_str()).collect()
}

fn pictured(
    model: &Model,
    name: &str,
    ty: &TensorType,
    picture: &Picture,
    bindings: &Bindings,
) -> Result<Tensor, Diagnostic> {
    let rule = model.definition().images.iter().find(|(input, _)| input == name).map(|(_, rule)| rule);
    let (Some(rule), [_, channels, height, width], DType::F32) = (rule, ty.shape.as_slice(), ty.dtype) else {
        return Err(Diagnostic::new(format!("the input `{name}` takes no picture"))
            .expected("an f32 input [N, channels, height, width] with `normalize`")
            .found(ty.to_string())
            .help("say in the model how pixels become numbers: `normalize: (std: [255])`"));
    };
    let (w, h) = picture.size();
    // A size that the model leaves open is the picture's own.
    let length = |dim: &Dim, own: u32| dim.bind(bindings).ok().and_then(|dim| dim.known()).unwrap_or(own as usize);
    picture.to_tensor(rule, length(channels, 3), length(height, h), length(width, w))
}

/// Says how far an output is from the reference.
///
/// # Errors
/// Where it is too far: that is our fault.
fn compare(name: &str, found: &Tensor, wanted: &Array) -> Result<String, Error> {
    let scale = wanted.data.iter().filter(|x| x.is_finite()).fold(1.0f64, |scale, x| scale.max(x.abs()));
    let mut worst = (0.0f64, 0);
    for (i, (found, &wanted)) in found.data().to_f64().into_iter().zip(&wanted.data).enumerate() {
        let same = found == wanted || (found.is_nan() && wanted.is_nan());
        let distance = if same { 0.0 } else { (found - wanted).abs() };
        if distance.is_nan() || distance > worst.0 {
            worst = (distance, i);
        }
        if distance.is_nan() || distance > TOLERANCE * scale {
            let text = format!("`{name}` differs from the reference at element {i}: {found} instead of {wanted}");
            return Err(Error::Internal(text));
        }
    }
    Ok(format!("{name}: agrees with the reference (at most {:.3e} apart, at element {})", worst.0, worst.1))
}

/// The best classes with their probabilities: the outputs themselves where they are such, their softmax where not.
fn best(out: &mut Output, model: &Model, tensor: &Tensor, scores: &[f32], k: usize) -> Result<(), Failure> {
    let classes = model.classes()?;
    let row = tensor.dims().last().copied().unwrap_or(1).max(1);
    for (i, scores) in scores.chunks(row).enumerate() {
        if i > 0 {
            writeln!(out)?;
        }
        let sum: f64 = scores.iter().map(|&x| f64::from(x)).sum();
        let are_shares = scores.iter().all(|&x| (0.0..=1.0).contains(&x)) && (sum - 1.0).abs() < 1e-3;
        let greatest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let share = |x: f32| if are_shares { f64::from(x) } else { f64::from(x - greatest).exp() };
        let total: f64 = scores.iter().map(|&x| share(x)).sum();
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        for &class in order.iter().take(k) {
            let unnamed = || format!("class {class}");
            let name = classes.as_ref().and_then(|names| names.get(class)).cloned().unwrap_or_else(unnamed);
            writeln!(out, "{:6.2} %  {name}", share(scores[class]) / total * 100.0)?;
        }
    }
    Ok(())
}

/// The type of an output, its range and its first elements.
fn show(out: &mut Output, name: &str, tensor: &Tensor) -> Result<(), Failure> {
    const SHOWN: usize = 16;
    let numbers = tensor.data().to_f64();
    let (low, high) =
        numbers.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &x| (low.min(x), high.max(x)));
    writeln!(out, "{name}: {}", tensor.tensor_type())?;
    let first: Vec<String> = numbers.iter().take(SHOWN).map(|x| format!("{x:.6}")).collect();
    let more = if numbers.len() > SHOWN { " ..." } else { "" };
    writeln!(out, "  {}{more}", first.join(" "))?;
    if numbers.len() > SHOWN {
        writeln!(out, "  from {low:.6} to {high:.6}")?;
    }
    Ok(())
}
