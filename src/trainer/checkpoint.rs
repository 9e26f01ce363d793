//! Checkpoints: all state of a training in a safetensors file, and beside the tensors, as JSON, what the training was and how
//! it went so far.

use super::{Current, Epoch, Scores, Trainer};
use crate::data::safetensors;
use crate::error::Error;
use crate::ir::{Data, Diagnostic, Diagnostics, Tensor, TensorType};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use twox_hash::XxHash3_128;

/// The names of the texts beside the tensors: what the training was, and a checksum of all.
const RECORD: &str = "fusewright.training";
const CHECKSUM: &str = "fusewright.checksum";

/// What a training was, and how it went.
#[derive(Serialize, Deserialize)]
struct Record {
    /// What the order of examples and the bits of all steps depend on.
    seed: u64,
    batch: usize,
    steps_per_epoch: u64,
    metrics: Vec<String>,
    epoch: Part,
    history: Vec<Part>,
}

/// An epoch, or what is over of one.
#[derive(Serialize, Deserialize)]
struct Part {
    /// Its number; 0 for one that is going on.
    number: u64,
    /// The examples of one that is going on.
    seen: u64,
    seconds: f64,
    /// Means; sums for one that is going on.
    train: Vec<Option<f64>>,
    test: Option<Vec<Option<f64>>>,
}

/// Whether all numbers of the state are finite.
pub fn check_finite(trainer: &Trainer) -> Result<(), Error> {
    for (name, tensor) in tensors(trainer) {
        let Data::F32(numbers) = tensor.data() else { continue };
        if let Some(number) = numbers.iter().find(|number| !number.is_finite()) {
            let title = format!("step {}: `{name}` holds a number that is not finite", trainer.steps());
            let fault = Diagnostic::new(title).expected("finite parameters").found(number.to_string());
            return Err(fault.help("try a lower learning rate, or `clip: Norm(1.0)`").into());
        }
    }
    Ok(())
}

/// All state by name, one copy after the other.
fn tensors(trainer: &Trainer) -> impl Iterator<Item = (&str, Cow<'_, Tensor>)> {
    let state = trainer.state.names().filter_map(|(name, ..)| Some((name, Cow::Owned(trainer.state.get(name)?))));
    state.chain(trainer.rest.iter().map(|(name, tensor)| (name.as_str(), Cow::Borrowed(tensor))))
}

/// Writes all state.
pub fn save(trainer: &Trainer, path: &Path) -> Result<(), Error> {
    check_finite(trainer)?;
    let record = serde_json::to_string(&Record::of(trainer)).map_err(|error| Error::Internal(error.to_string()))?;
    let tensors: BTreeMap<&str, Cow<Tensor>> = tensors(trainer).collect();
    let tensors = || tensors.iter().map(|(name, tensor)| (*name, &**tensor));
    let checksum = checksum(&record, tensors());
    let texts = vec![(RECORD.to_string(), record), (CHECKSUM.to_string(), checksum)];
    Ok(safetensors::write_with(path, tensors(), texts)?)
}

/// Of a record and of tensors in the order of their names: the format has none, and a changed bit would be a number like any
/// other.
fn checksum<'a>(record: &str, tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>) -> String {
    let mut all = XxHash3_128::new();
    all.write(record.as_bytes());
    for (name, tensor) in tensors {
        all.write(name.as_bytes());
        all.write(tensor.data().bytes());
    }
    format!("{:032x}", all.finish_128())
}

/// Reads all state, which is changed only when all of it is known to fit.
pub fn load(trainer: &mut Trainer, path: &Path) -> Result<(), Error> {
    let file = safetensors::File::open(path)?;
    let what =
        |text: String| Diagnostic::new(format!("`{}` is no checkpoint of this training: {text}", path.display()));
    let Some(text) = file.metadata().get(RECORD) else {
        let fault = what("there is no record of a training in it".to_string());
        return Err(fault.help("`--weights` takes the parameters of a network").into());
    };
    let record: Record = serde_json::from_str(text)
        .map_err(|error| what("its record is damaged".to_string()).found(error.to_string()))?;
    let mut faults = Diagnostics::default();
    let own = Record::of(trainer);
    for (name, own, found) in [
        ("seed", own.seed, record.seed),
        ("batch", own.batch as u64, record.batch as u64),
        ("number of steps of an epoch", own.steps_per_epoch, record.steps_per_epoch),
    ] {
        if own != found {
            faults
                .push(what(format!("the {name} is another one")).expected(format!("{own}")).found(format!("{found}")));
        }
    }
    let mut read: BTreeMap<String, Tensor> = BTreeMap::new();
    let kept = trainer.rest.iter().map(|(name, tensor)| (name.as_str(), tensor.tensor_type()));
    let typed = |(name, dtype, dims)| (name, TensorType::new(dtype, <[usize]>::iter(dims).copied()));
    let wanted: BTreeMap<&str, TensorType> = trainer.state.names().map(typed).chain(kept).collect();
    for (name, wanted) in &wanted {
        match file.entries().get(*name) {
            None => faults.push(what(format!("`{name}` is missing")).expected(wanted.to_string())),
            Some(entry) if entry.tensor_type().as_ref() != Some(wanted) => {
                let fault = what(format!("`{name}` does not fit")).expected(wanted.to_string());
                faults.push(fault.found(entry.stored_type()));
            }
            Some(entry) => {
                read.insert(name.to_string(), file.read(entry)?);
            }
        }
    }
    for name in file.entries().keys().filter(|name| !wanted.contains_key(name.as_str())) {
        let help = "the optimiser or the network is another one";
        faults.push(what(format!("the training has no `{name}`")).help(help));
    }
    faults.into_result()?;
    // Checkpoints of the first versions have none.
    let found = checksum(text, read.iter().map(|(name, tensor)| (name.as_str(), tensor)));
    if file.metadata().get(CHECKSUM).is_some_and(|checksum| *checksum != found) {
        let fault = what("it is damaged".to_string()).expected("what its checksum was made of").found("something else");
        return Err(fault.help("take an older checkpoint").into());
    }
    for (name, tensor) in read {
        match trainer.rest.get_mut(&name) {
            Some(rest) => *rest = tensor,
            None => trainer.state.set(&name, &tensor).map_err(|error| Error::Internal(error.to_string()))?,
        }
    }
    record.put(trainer);
    Ok(())
}

impl Record {
    fn of(trainer: &Trainer) -> Record {
        let metrics = trainer.metrics();
        let scores = |scores: &Scores| -> Vec<Option<f64>> {
            let all = [scores.loss].into_iter().chain(scores.metrics).take(metrics.len() + 1);
            all.map(|score| Some(f64::from(score)).filter(|score| score.is_finite())).collect()
        };
        let over = |epoch: &Epoch| Part {
            number: epoch.number,
            seen: 0,
            seconds: epoch.time.as_secs_f64(),
            train: scores(&epoch.train),
            test: epoch.test.as_ref().map(scores),
        };
        let Current { sum, seen, time } = &trainer.current;
        Record {
            seed: trainer.recipe.definition().seed,
            batch: trainer.recipe.definition().batch,
            steps_per_epoch: trainer.length.steps_per_epoch,
            metrics: metrics.to_vec(),
            epoch: Part { number: 0, seen: *seen, seconds: time.as_secs_f64(), train: scores(sum), test: None },
            history: trainer.history.iter().map(over).collect(),
        }
    }

    /// Takes the history over. Where metrics are others than they were, it is forgotten.
    fn put(self, trainer: &mut Trainer) {
        let scores = |numbers: &[Option<f64>]| {
            let mut numbers = numbers.iter().map(|number| number.map_or(f32::NAN, |number| number as f32));
            let loss = numbers.next().unwrap_or(f32::NAN);
            let mut metrics = [0.0; Scores::MOST];
            metrics.iter_mut().zip(numbers).for_each(|(metric, number)| *metric = number);
            Scores { loss, metrics }
        };
        let time = |seconds: f64| Duration::try_from_secs_f64(seconds).unwrap_or_default();
        trainer.history.clear();
        trainer.current = Current::default();
        if self.metrics != trainer.metrics() {
            return;
        }
        trainer.history.extend(self.history.iter().map(|part| Epoch {
            number: part.number,
            train: scores(&part.train),
            test: part.test.as_deref().map(scores),
            time: time(part.seconds),
        }));
        let Part { seen, seconds, train, .. } = &self.epoch;
        trainer.current = Current { sum: scores(train), seen: *seen, time: time(*seconds) };
        trainer.make_room();
    }
}
