//! What the page of a training shows, gathered.

use crate::commands::bench::runner::median;
use crate::commands::html::curves::{Chart, Line};
use crate::commands::html::training::{self, Story, over_epochs};
use crate::commands::output::Failure;
use crate::commands::table::grouped;
use crate::commands::train::lines::number;
use fusewright::data::{Dataset, Scale};
use fusewright::ir::Tensor;
use fusewright::{Epoch, Error, Options, Scores, Trainer, Units};
use std::time::{Duration, Instant};

/// So many steps are timed.
const TIMED_STEPS: usize = 25;
/// So many points of a learned curve are drawn, and at most so many examples.
const POINTS: usize = 300;
const MOST_DOTS: usize = 1000;

/// The page of a training that is over. To time kernels the trainer goes on: nothing may be saved afterwards.
pub fn page(
    title: &str,
    trainer: &mut Trainer,
    units: Units,
    train: &Dataset,
    threads: u16,
) -> Result<String, Failure> {
    let mut tiles = vec![("examples", grouped(train.len() as u64)), ("epochs", trainer.history().len().to_string())];
    tiles.extend(trainer.recipe().model().parameter_count().map(|n| ("learned parameters", grouped(n))));
    if let Some(last) = trainer.history().last() {
        let (set, scores) = last.test.map_or(("train", last.train), |test| ("test", test));
        let loss = ("last loss", format!("{} ({set})", number(units.loss(scores))));
        tiles.push(loss);
        let seconds: f64 = trainer.history().iter().map(|epoch| epoch.time.as_secs_f64()).sum();
        let seen = (train.len() * trainer.history().len()) as f64;
        tiles.push(("samples/s", grouped((seen / seconds.max(1e-9)) as u64)));
    }
    tiles.push(("threads", threads.to_string()));
    let curves = curves(trainer, units);
    let fit = fit(trainer, train)?;
    tiles.push(("steps", grouped(trainer.steps())));
    let story = Story { title: title.to_string(), tiles, curves, fit, step: times(trainer, train) };
    Ok(training::page(&story, trainer))
}

/// Loss and metrics over the epochs.
fn curves(trainer: &Trainer, units: Units) -> Vec<Chart> {
    let curve = |name: &str, score: &dyn Fn(Scores) -> f64| {
        let line = |set: &str, of: &dyn Fn(&Epoch) -> Option<Scores>| {
            let point = |epoch: &Epoch| Some((epoch.number as f64, score(of(epoch)?)));
            over_epochs(set, trainer.history().iter().filter_map(point).collect())
        };
        let lines = [line("train", &|epoch| Some(epoch.train)), line("test", &|epoch| epoch.test)];
        let lines = lines.into_iter().filter(|line| !line.points.is_empty()).collect();
        Chart { title: name.replace('_', " "), x: "epoch".to_string(), lines }
    };
    let mut charts = vec![curve("loss", &|scores| units.loss(scores))];
    for (i, name) in trainer.metrics().iter().enumerate() {
        charts.push(curve(name, &|scores| units.metric(scores, i)));
    }
    charts
}

/// The learned curve and the examples, where the network has one number in and one out, in the units of the table.
fn fit(trainer: &Trainer, data: &Dataset) -> Result<Option<Chart>, Error> {
    let one = |dims: Option<Vec<usize>>| dims.is_some_and(|dims| dims.iter().product::<usize>() == 1);
    let is_number = one(data.input_type(1).dims()) && data.input_type(1).dtype.is_float();
    let target = data.target_type(1);
    if !is_number || !target.is_some_and(|ty| ty.dtype.is_float() && one(ty.dims())) {
        return Ok(None);
    }
    let examples: Vec<usize> = (0..data.len()).step_by(data.len().div_ceil(MOST_DOTS)).collect();
    let columns: Vec<Vec<f64>> =
        trainer.examples(data, &examples).iter().map(|(_, tensor)| tensor.data().to_f64()).collect();
    let [xs, ys] = columns.as_slice() else { return Ok(None) };
    let (low, high) = xs.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &x| (low.min(x), high.max(x)));
    let at = |i: usize| low + (high - low) * i as f64 / (POINTS - 1) as f64;
    let grid: Vec<f64> = (0..POINTS).map(at).collect();

    let model = trainer.recipe().model();
    let name = trainer.input().to_string();
    let bindings = trainer.recipe().sizes(POINTS, Some(data))?;
    let options = Options { weights: Some(trainer.weights()), ..Options::default() };
    let mut session = model.compile(options)?.session(&bindings)?;
    let dims = data.input_type(POINTS).dims().expect("examples have sizes");
    let x = Tensor::from_vec(&dims, grid.iter().map(|&x| x as f32).collect());
    let results = session.run_tensors(&[(name.as_str(), &x)])?;
    let wanted = trainer.recipe().definition().objective.output.as_ref();
    let result = results.iter().find(|(name, _)| wanted.is_none_or(|wanted| wanted == name));
    let Some((_, learned)) = result else { return Ok(None) };

    let scaling = data.scaling();
    let scale = |scales: Option<&Vec<Scale>>| scales.and_then(|scales| scales.first()).copied();
    let raw = |value: f64, scale: Option<Scale>| scale.map_or(value, |scale| value * scale.std + scale.mean);
    let (of_x, of_y) = (scale(scaling.map(|all| &all.inputs)), scale(scaling.map(|all| &all.targets)));
    let points = |xs: &[f64], ys: &[f64]| -> Vec<(f64, f64)> {
        xs.iter().zip(ys).map(|(&x, &y)| (raw(x, of_x), raw(y, of_y))).collect()
    };
    let dots = Line { name: "examples".to_string(), points: points(xs, ys), dots: true };
    let line = Line { name: "learned".to_string(), points: points(&grid, &learned.data().to_f64()), dots: false };
    Ok(Some(Chart { title: "target over input".to_string(), x: name, lines: vec![dots, line] }))
}

/// The median times of a step and of its kernels, on the first examples; `None` where a step fails.
fn times(trainer: &mut Trainer, data: &Dataset) -> Option<(Duration, Vec<Duration>)> {
    let examples: Vec<usize> = (0..data.len().min(trainer.recipe().definition().batch)).collect();
    let inputs = trainer.examples(data, &examples);
    let inputs: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let mut each = vec![Duration::ZERO; trainer.plan().steps.len()];
    let (mut whole, mut kernels) = (Vec::new(), vec![Vec::new(); each.len()]);
    for _ in 0..TIMED_STEPS {
        let begun = Instant::now();
        trainer.step(&inputs).ok()?;
        whole.push(begun.elapsed());
        trainer.step_profiled(&inputs, &mut each).ok()?;
        kernels.iter_mut().zip(&each).for_each(|(all, &time)| all.push(time));
    }
    Some((median(&whole), kernels.iter().map(|times| median(times)).collect()))
}
