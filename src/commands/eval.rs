//! `fusewright eval`: how many labelled images are classified rightly.

use super::arguments::{
    CacheArgument, ModelArguments, PlanArguments, RunArguments, batch, bind_shape, inputs, weights,
};
use super::digits;
use super::output::{Failure, Output, progress};
use super::table::grouped;
use clap::Args;
use fusewright::data::{files, idx, npy};
use fusewright::ir::model::Image;
use fusewright::ir::{Bindings, DType, Data, Diagnostic, Tensor, TensorType};
use fusewright::{Executable, Model, Options, Session};
use serde::Serialize;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Classifies labelled images and counts the right answers; without files: the 2,000 digits that ship with the project
#[derive(Args)]
pub struct Eval {
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
    /// Images as IDX, plain or gzipped
    #[arg(long, value_name = "IDX", requires = "labels")]
    images: Option<PathBuf>,
    /// Their labels as IDX, plain or gzipped
    #[arg(long, value_name = "IDX", requires = "images")]
    labels: Option<PathBuf>,
    /// Images a run
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = batch)]
    batch: usize,
    /// Write the network's outputs as npy
    #[arg(long, value_name = "FILE.npy")]
    output: Option<PathBuf>,
    /// Also show the fused kernels, and the time that the same network takes without fusion
    #[arg(long, conflicts_with = "json")]
    compare: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Json {
    correct: usize,
    total: usize,
    accuracy: f64,
    images_per_s: f64,
}

impl Eval {
    pub fn run(self, out: &mut Output) -> Result<(), Failure> {
        let read = self.images.iter().chain(&self.labels).chain(&self.weights).chain([&self.model.model]);
        files::check_apart(&self.output, read)?;
        let model = self.model.load()?;
        let (images, labels) = match (&self.images, &self.labels) {
            (Some(images), Some(labels)) => (idx::read(images)?, idx::read(labels)?),
            _ => digits::test_split(),
        };
        if images.data().is_empty() {
            let fault = Diagnostic::new("there are no images").found(images.tensor_type().to_string());
            return Err(fault.expected("an array whose first axis is the images").into());
        }
        let labels = whole_numbers(&labels, images.dims().first().copied().unwrap_or(0))?;
        let bindings = self.model.bindings(None)?;
        let options = self.cache.put(self.planning.put(self.how.options(weights(self.weights.as_ref())?)));
        let unfused = Options { fuse: false, ..options.clone() };
        let feed = Feed::new(&model, &images, bindings, self.batch)?;
        let executable = model.compile(options)?;
        let answers = feed.run(&executable)?;

        let classes = answers.outputs.len() / labels.len().max(1);
        if let Some((place, label)) = labels.iter().enumerate().find(|(_, label)| !(0..classes as i64).contains(*label))
        {
            let fault = Diagnostic::new(format!("image {place}: the label is out of range")).found(label.to_string());
            let expected = format!("0 to {}: the network tells {classes} classes apart", classes.saturating_sub(1));
            return Err(fault.expected(expected).help("labels and images are counted from 0").into());
        }
        let rows = answers.outputs.chunks(classes.max(1));
        let correct = rows.zip(&labels).filter(|(row, label)| greatest(row) == usize::try_from(**label).ok()).count();
        if let Some(path) = &self.output {
            npy::write(path, &Tensor::from_vec(&[labels.len(), classes], answers.outputs.clone()))?;
        }
        let total = labels.len();
        let images_per_s = total as f64 / answers.time.as_secs_f64().max(1e-9);
        let accuracy = correct as f64 / total.max(1) as f64;
        if self.json {
            return out.json(&Json { correct, total, accuracy, images_per_s });
        }
        writeln!(out, "{} of {} right ({:.2} %)", grouped(correct as u64), grouped(total as u64), accuracy * 100.0)?;
        writeln!(out, "{} images a second", grouped(images_per_s as u64))?;
        if self.compare {
            let plain = feed.run(&model.compile(unfused)?)?;
            compare(&feed, &executable, &answers, &plain, out)?;
        }
        Ok(())
    }
}

/// The kernels of the fused network, and both times; the outputs of both must agree.
fn compare(
    feed: &Feed,
    executable: &Executable,
    fused: &Answers,
    plain: &Answers,
    out: &mut Output,
) -> Result<(), Failure> {
    let mut bindings = feed.bindings.clone();
    bindings.extend(feed.symbol.iter().map(|name| (name.clone(), feed.batch)));
    let planned = executable.planned(&bindings)?;
    writeln!(out, "\nkernels")?;
    for step in &planned.executable.plan().steps {
        writeln!(out, "  {:<24} {}", step.about, step.nodes.join(" "))?;
    }
    let scale = plain.outputs.iter().fold(1f32, |most, x| most.max(x.abs()));
    let worst = fused.outputs.iter().zip(&plain.outputs).fold(0f32, |worst, (a, b)| worst.max((a - b).abs()));
    if worst.is_nan() || worst > 1e-3 * scale {
        return Err(Failure::Error(fusewright::Error::Internal(format!(
            "fused and unfused outputs differ by {worst}"
        ))));
    }
    let micros = |time: Duration| time.as_secs_f64() * 1e6 / (fused.outputs.len() as f64).max(1.0);
    let per_image = fused.outputs.len() as f64 / feed.images.dims()[0].max(1) as f64;
    let (with, without) = (micros(fused.time) * per_image, micros(plain.time) * per_image);
    writeln!(out, "\nfused    {with:>8.2} us an image")?;
    Ok(writeln!(out, "unfused  {without:>8.2} us an image ({:.2} times as long)", without / with)?)
}

/// Images on their way into a network.
struct Feed<'a> {
    input: &'a str,
    ty: &'a TensorType,
    rule: Option<&'a Image>,
    images: &'a Tensor,
    bindings: Bindings,
    /// The symbol of the batch axis, if it is one.
    symbol: Option<String>,
    batch: usize,
}

struct Answers {
    outputs: Vec<f32>,
    time: Duration,
}

impl<'a> Feed<'a> {
    fn new(model: &'a Model, images: &'a Tensor, mut bindings: Bindings, batch: usize) -> Result<Feed<'a>, Diagnostic> {
        let all = inputs(model);
        let [(input, ty)] = all.as_slice() else {
            return Err(
                Diagnostic::new("only networks with one input can be evaluated").found(format!("{} inputs", all.len()))
            );
        };
        let mut names = Vec::new();
        if let Some(dim) = ty.shape.first() {
            dim.collect_symbols(&mut names);
        }
        let symbol = names.into_iter().next();
        let batch = match (&symbol, ty.shape.first().and_then(|dim| dim.known())) {
            (Some(name), _) => bindings.remove(name).unwrap_or(batch),
            (None, Some(n)) => n,
            (None, None) => return Err(unfit(input, ty, images)),
        };
        // Gray images have no axis for channels.
        let mut dims = images.dims().to_vec();
        if dims.len() == 3 && ty.rank() == 4 {
            dims.insert(1, 1);
        }
        let mut sizes = Bindings::new();
        bind_shape(ty, &dims, &mut sizes);
        if let Some(name) = &symbol {
            sizes.remove(name);
        }
        for (name, n) in sizes {
            bindings.entry(name).or_insert(n);
        }
        let mut all = bindings.clone();
        if let Some(name) = &symbol {
            all.insert(name.clone(), 1);
        }
        let sample: Option<usize> =
            ty.bind(&all).ok().and_then(|bound| bound.dims()).map(|dims| dims.iter().skip(1).product());
        if batch == 0 || sample != Some(images.dims().iter().skip(1).product()) {
            return Err(unfit(input, ty, images));
        }
        let rule = model.definition().images.iter().find(|(name, _)| name == input).map(|(_, rule)| rule);
        let channels = if dims.len() >= 3 { dims[1] } else { 1 };
        if let Some(rule) = rule {
            rule.check_channels(channels)?;
        }
        Ok(Feed { input, ty, rule, images, bindings, symbol, batch })
    }

    fn run(&self, executable: &Executable) -> Result<Answers, Failure> {
        let total = self.images.dims().first().copied().unwrap_or(0);
        let bar = progress(total as u64, "classifying");
        let mut answers = Answers { outputs: Vec::new(), time: Duration::ZERO };
        let mut session: Option<(usize, Session)> = None;
        for begin in (0..total).step_by(self.batch) {
            let n = self.batch.min(total - begin);
            // A network of fixed batch gets zeros behind the last images.
            let size = if self.symbol.is_some() { n } else { self.batch };
            if session.as_ref().is_none_or(|(batch, _)| *batch != size) {
                let mut bindings = self.bindings.clone();
                bindings.extend(self.symbol.iter().map(|name| (name.clone(), size)));
                session = Some((size, executable.session(&bindings)?));
            }
            let (_, session) = session.as_mut().expect("made above");
            let dims = session.inputs()[0].1.dims().expect("plans have no symbols");
            let input = self.samples(begin, n, &dims);
            let start = Instant::now();
            let results = session.run_tensors(&[(self.input, &input)])?;
            answers.time += start.elapsed();
            let (name, result) = &results[0];
            let Some(scores) = result.as_slice::<f32>().filter(|scores| scores.len() % size == 0) else {
                return Err(Diagnostic::new(format!("the output `{name}` has no score for each class"))
                    .expected("f32, one row an image")
                    .found(result.tensor_type().to_string())
                    .into());
            };
            answers.outputs.extend(&scores[..scores.len() / size * n]);
            bar.inc(n as u64);
        }
        bar.finish_and_clear();
        Ok(answers)
    }

    /// Images `begin..begin + n` as the network reads them, zeros behind them up to `dims`.
    fn samples(&self, begin: usize, n: usize, dims: &[usize]) -> Tensor {
        let each: usize = self.images.dims().iter().skip(1).product();
        let pixels = self.images.data().slice(begin * each..(begin + n) * each).to_f64();
        let channels = if dims.len() >= 3 { dims[1] } else { 1 };
        let plane = (each / channels.max(1)).max(1);
        let mut values: Vec<f64> = pixels
            .iter()
            .enumerate()
            .map(|(i, &pixel)| self.rule.map_or(pixel, |rule| rule.apply(pixel, i / plane % channels)))
            .collect();
        values.resize(dims.iter().product(), 0.0);
        let dtype = if self.ty.dtype == DType::F64 { DType::F32 } else { self.ty.dtype };
        Tensor::new(dims, Data::from_f64(dtype, &values))
    }
}

fn unfit(input: &str, ty: &TensorType, images: &Tensor) -> Diagnostic {
    Diagnostic::new(format!("the images do not fit the input `{input}`"))
        .expected(ty.to_string())
        .found(images.tensor_type().to_string())
        .help("give images of that size with --images and --labels")
}

/// Labels as whole numbers, one for each of `images` images.
fn whole_numbers(labels: &Tensor, images: usize) -> Result<Vec<i64>, Diagnostic> {
    let expected = format!("one whole number for each of {images} images");
    if labels.dims() != [images] || labels.dtype().is_float() {
        return Err(Diagnostic::new("the labels do not fit the images")
            .expected(expected)
            .found(labels.tensor_type().to_string()));
    }
    Ok(labels.data().to_f64().into_iter().map(|label| label as i64).collect())
}

/// The index of the greatest score; none where a score is NaN.
fn greatest(scores: &[f32]) -> Option<usize> {
    if scores.iter().any(|score| score.is_nan()) {
        return None;
    }
    // The first of equal scores.
    (0..scores.len()).rev().max_by(|&a, &b| scores[a].total_cmp(&scores[b]))
}
