//! The sections of a training file.

use super::de::FieldError;
use super::faults::Faults;
use super::sections::{Form, check_path, read_inline};
use super::value::{Field, Kind, Value};
use crate::diagnostic::{Diagnostic, Diagnostics, closest};
use crate::ops::{LAYERS, Mismatch, Op, layer_kind};
use crate::recipe::{Clip, Data, Metric, Network, Objective, Optimizer, Rate, Recipe, Schedule, Source};
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::Arc;

/// A file that says how a network is trained.
const RECIPE: Form = Form {
    what: "training file",
    file: "training file",
    expected: "a training file: `(fusewright: 1, model: \"...\", loss: ..., optimizer: ..., batch: ...)`",
    sections: &[
        "fusewright",
        "model",
        "loss",
        "output",
        "target",
        "optimizer",
        "rate",
        "clip",
        "metrics",
        "batch",
        "epochs",
        "seed",
        "data",
    ],
    has_version: true,
};

/// The greatest batch and the most epochs.
const COUNT_LIMIT: u64 = i32::MAX as u64;

/// Whether a text is a training file rather than a model.
pub(crate) fn is_recipe(text: &str) -> bool {
    super::parse(text).is_ok_and(|value| has_sections(&value))
}

pub(super) fn has_sections(value: &Value) -> bool {
    (value.field("loss").is_some() || value.field("optimizer").is_some()) && value.field("layers").is_none()
}

/// What to say where a model is wanted.
pub(super) fn not_a_model(value: &Value, expected: &str) -> Diagnostic {
    let place = value.span.start..value.span.start + 1;
    let fault = Diagnostic::new("this is a training file, not a model").at(place).expected(expected);
    match value.field("model").and_then(Value::as_str) {
        Some(file) => fault.help(format!("its model is {file:?}")),
        None => fault.help("`fusewright train` takes it"),
    }
}

/// Reads a training file; `path` is the name that messages show.
pub(crate) fn read_recipe(path: &str, text: &str) -> Result<Recipe, Diagnostics> {
    let value = super::parse(text)?;
    if value.field("layers").is_some() && value.field("model").is_none() {
        let fault = Diagnostic::new("this is a model, not a training file");
        let fault = fault.at(value.span.start..value.span.start + 1).expected(RECIPE.expected);
        return Err(fault.help("write a training file that names it: `model: \"...\"`").into());
    }
    let mut faults = Faults::default();
    let Some(sections) = RECIPE.split(&value, &mut faults) else {
        return Err(faults.into_result().err().unwrap_or_default());
    };
    let mut reader = Reader { file: &value, sections, faults, inner: Diagnostics::default() };
    let recipe = reader.read(path, text);
    let Reader { faults, mut inner, .. } = reader;
    inner.include(faults.into_result());
    inner.into_result()?;
    Ok(recipe.expect("what is missing is a fault"))
}

struct Reader<'v> {
    file: &'v Value,
    sections: HashMap<&'v str, &'v Field>,
    faults: Faults,
    /// Those of the model within.
    inner: Diagnostics,
}

impl<'v> Reader<'v> {
    /// `None` only where there is a fault.
    fn read(&mut self, path: &str, text: &str) -> Option<Recipe> {
        let model = self.model(path, text);
        let objective = self.objective();
        let optimizer = self.optimizer();
        let rate = self.rate();
        let clip = self.clip();
        let metrics = self.metrics(objective.as_ref());
        let batch = self.required("batch", "64").and_then(|field| self.count(field));
        let data = self.data();
        let epochs = match self.sections.contains_key("data") {
            true => self.required("epochs", "10").and_then(|field| self.count(field)),
            false => self.sections.get("epochs").copied().map_or(Some(1), |field| self.count(field)),
        };
        let seed = self.sections.get("seed").copied().and_then(|field| self.plain(field)).unwrap_or_default();
        Some(Recipe {
            model: model?,
            objective: objective?,
            optimizer: optimizer?,
            rate,
            clip,
            metrics,
            batch: batch?,
            epochs: epochs?,
            seed,
            data,
            path: path.to_string(),
            text: text.to_string(),
        })
    }

    /// A section that every training file has.
    fn required(&mut self, name: &str, example: &str) -> Option<&'v Field> {
        let field = self.sections.get(name).copied();
        if field.is_none() {
            let place = self.file.span.start..self.file.span.start + 1;
            let fault = Diagnostic::new(format!("`{name}` is missing")).at(place);
            self.faults.push(fault.expected(format!("`{name}: {example}`")));
        }
        field
    }

    /// A section that serde reads as it stands.
    fn plain<T: Deserialize<'v>>(&mut self, field: &'v Field) -> Option<T> {
        self.plain_of(&field.name.text, field)
    }

    /// A whole number of 1 or more.
    fn count(&mut self, field: &'v Field) -> Option<usize> {
        match field.value.kind {
            Kind::Integer(n) if (1..=i128::from(COUNT_LIMIT)).contains(&n) => usize::try_from(n).ok(),
            _ => {
                let expected = format!("a whole number from 1 to {COUNT_LIMIT}");
                self.unfit("training file", &field.name.text, &field.value, &expected);
                None
            }
        }
    }

    fn unfit(&mut self, what: &str, name: &str, value: &Value, expected: &str) {
        let fault = FieldError::at(value, format!("`{name}` does not fit")).found_at(value);
        self.faults.field(what, fault.with_expected(expected));
    }

    fn model(&mut self, path: &str, text: &str) -> Option<Network> {
        let field = self.required("model", "\"net.ron\"")?;
        match &field.value.kind {
            Kind::Str(file) => {
                check_path(&RECIPE, "model", file, &field.value, &mut self.faults).then(|| Network::File(file.clone()))
            }
            Kind::Struct(..) => match read_inline(path, text, &field.value) {
                Ok(model) => Some(Network::Inline(Arc::new(model))),
                Err(faults) => {
                    self.inner.include(Err(faults));
                    None
                }
            },
            _ => {
                let expected = "a model file in quotes, or a model: `(inputs: [...], layers: [...])`";
                self.unfit("training file", "model", &field.value, expected);
                None
            }
        }
    }

    fn objective(&mut self) -> Option<Objective> {
        let output = self.name("output", "the name of an output of the network in quotes");
        let target = self.name("target", "the name of an input of the network, or a new one, in quotes");
        let field = self.required("loss", "CrossEntropyLoss")?;
        let loss = self.loss(&field.value)?;
        let default = if is_of_classes(&loss) { "labels" } else { "targets" };
        let target = target.unwrap_or_else(|| default.to_string());
        Some(Objective { loss, output, target, span: Some(field.value.span.clone()) })
    }

    fn loss(&mut self, value: &'v Value) -> Option<Op> {
        let losses = || LAYERS.iter().flat_map(|kinds| kinds.iter()).filter(|kind| kind.name.ends_with("Loss"));
        let name = value.name();
        let text = name.as_ref().map_or("", |name| &name.text);
        let Some(kind) = losses().find(|kind| kind.name == text) else {
            let names: Vec<&str> = losses().map(|kind| kind.name).collect();
            let place = name.as_ref().map_or(&value.span, |name| &name.span);
            let mut fault = Diagnostic::new("`loss` does not fit").at(place.clone()).found(value.describe());
            fault.expected = Some(format!("one of `{}`", names.join("`, `")));
            fault.help = match layer_kind(text) {
                Some(_) => Some("put layers into the model; the loss is of its output and the target".to_string()),
                None => closest(text, names.iter().copied()).map(|meant| format!("did you mean `{meant}`?")),
            };
            self.faults.push(fault);
            return None;
        };
        let fields = match &value.kind {
            Kind::Ident(_) => Vec::new(),
            Kind::Struct(_, fields) => fields.clone(),
            _ => {
                self.unfit("training file", "loss", value, &format!("`{text}` or `{text}(name: value, ...)`"));
                return None;
            }
        };
        let fields = Value { span: value.span.clone(), kind: Kind::Struct(None, fields) };
        let op = (kind.read)(&fields).map_err(|error| self.faults.field(&format!("loss `{text}`"), error)).ok()?;
        match fields.field("reduction") {
            Some(reduction) if reduction.as_str() == Some("none") => {
                let expected = "\"mean\" or \"sum\": training makes one number small";
                self.unfit(&format!("loss `{text}`"), "reduction", reduction, expected);
                None
            }
            _ => Some(op),
        }
    }

    fn name(&mut self, section: &str, expected: &str) -> Option<String> {
        let field = self.sections.get(section).copied()?;
        match &field.value.kind {
            Kind::Str(name) if super::sections::is_name(name) => Some(name.clone()),
            _ => {
                self.unfit("training file", section, &field.value, expected);
                None
            }
        }
    }

    fn optimizer(&mut self) -> Option<Optimizer> {
        let field = self.required("optimizer", "Sgd(lr: 0.1)")?;
        let optimizer: Optimizer = self.plain(field)?;
        self.sensible("optimizer", &field.value, optimizer.check());
        Some(optimizer)
    }

    /// A schedule, or `(warmup: ..., schedule: ...)`.
    fn rate(&mut self) -> Rate {
        let Some(field) = self.sections.get("rate").copied() else { return Rate::default() };
        let [warmup, schedule] = match &field.value.kind {
            Kind::Struct(None, fields) => self.parts("rate", fields, ["warmup", "schedule"]),
            _ => [None, Some(field)],
        };
        let warmup = warmup.and_then(|field| self.plain_of("rate", field).map(|warmup| (field, warmup)));
        if let Some((field, warmup)) = warmup {
            let alone = Rate { warmup: Some(warmup), schedule: Schedule::default() };
            self.sensible("rate", &field.value, alone.check());
        }
        let read = schedule.and_then(|field| self.plain_of("rate", field).map(|schedule| (field, schedule)));
        if let Some((field, schedule)) = read {
            self.sensible("rate", &field.value, Rate { warmup: None, schedule }.check());
        }
        Rate {
            warmup: warmup.map(|(_, warmup)| warmup),
            schedule: read.map_or(Schedule::default(), |(_, schedule)| schedule),
        }
    }

    fn clip(&mut self) -> Option<Clip> {
        let field = self.sections.get("clip").copied()?;
        let clip: Clip = self.plain(field)?;
        self.sensible("training file", &field.value, clip.check());
        Some(clip)
    }

    /// A number that makes no sense is a fault at its field; where it has none of its own, at `value`.
    fn sensible(&mut self, what: &str, value: &Value, checked: Result<(), Mismatch>) {
        if let Err(mismatch) = checked {
            let name = mismatch.field.unwrap_or_default();
            let place = value.field(name).unwrap_or(value).span.clone();
            self.faults.mismatch(format!("{what}: `{name}` does not fit"), place, mismatch);
        }
    }

    fn metrics(&mut self, objective: Option<&Objective>) -> Vec<Metric> {
        let Some(field) = self.sections.get("metrics").copied() else { return Vec::new() };
        let Kind::List(items) = &field.value.kind else {
            self.unfit("training file", "metrics", &field.value, "a list of metrics: `[Accuracy]`");
            return Vec::new();
        };
        let mut metrics = Vec::new();
        for item in items {
            let metric = match Metric::deserialize(item) {
                Ok(metric) => metric,
                Err(error) => {
                    self.faults.field("metrics", error.or_at(item));
                    continue;
                }
            };
            let expected = match objective.map(|objective| is_of_classes(&objective.loss)) {
                _ if metrics.contains(&metric) => Some("each metric once"),
                Some(true) if metric != Metric::Accuracy => Some("`Accuracy`: the loss is of class labels"),
                Some(false) if metric == Metric::Accuracy => {
                    Some("`MeanSquaredError` or `MeanAbsoluteError`: the loss is not of class labels")
                }
                _ => None,
            };
            if let Some(expected) = expected {
                let fault = FieldError::at(item, "a metric does not fit").found_at(item);
                self.faults.field("metrics", fault.with_expected(expected));
            }
            metrics.push(metric);
        }
        metrics
    }

    fn data(&mut self) -> Option<Data> {
        let field = self.sections.get("data").copied()?;
        let Kind::Struct(None, fields) = &field.value.kind else {
            let expected = "`(train: Idx(images: \"...\", labels: \"...\"), test: Idx(...))`";
            self.unfit("training file", "data", &field.value, expected);
            return None;
        };
        let [train, test] = self.parts("data", fields, ["train", "test"]);
        if train.is_none() {
            let fault = Diagnostic::new("data: `train` is missing").at(field.name.span.clone());
            self.faults.push(fault.help("add `train: Idx(images: \"...\", labels: \"...\")`"));
        }
        let of_test = test.and_then(|field| self.examples(field));
        let of_train = train.and_then(|field| self.examples(field));
        if let (Some(Source::Csv { standardize: train, .. }), Some(Source::Csv { standardize, .. })) =
            (&of_train, &of_test)
            && let Some(field) = test.filter(|_| train != standardize)
        {
            let place = field.value.field("standardize").unwrap_or(&field.value);
            let fault = Diagnostic::new("data: `train` and `test` are scaled differently").at(place.span.clone());
            self.faults.push(fault.expected(format!("`standardize: {train}` as in `train`")));
        }
        if let (
            Some(Source::Csv { inputs, targets, .. }),
            Some(Source::Csv { inputs: of_inputs, targets: of_targets, .. }),
        ) = (&of_train, &of_test)
        {
            for (name, train, other) in [("inputs", inputs, of_inputs), ("targets", targets, of_targets)] {
                let is_permuted =
                    train != other && train.len() == other.len() && other.iter().all(|one| train.contains(one));
                if let Some(field) = test.filter(|_| is_permuted) {
                    let place = field.value.field(name).unwrap_or(&field.value);
                    let title = format!("data: the `{name}` of `test` are those of `train` in another order");
                    let fault = Diagnostic::new(title).at(place.span.clone());
                    self.faults.push(fault.expected(format!("`{name}: {train:?}`")).found(format!("{other:?}")));
                }
            }
        }
        Some(Data { train: of_train?, test: of_test })
    }

    fn examples(&mut self, field: &'v Field) -> Option<Source> {
        let source: Source = self.plain_of("data", field)?;
        for (name, path) in source.paths() {
            let place = field.value.field(name).unwrap_or(&field.value);
            check_path(&RECIPE, name, path, place, &mut self.faults);
        }
        if let Source::Csv { inputs, targets, .. } = &source {
            if targets.is_empty() {
                let place = field.value.field("targets").unwrap_or(&field.value);
                self.unfit("data", "targets", place, "the names of one or more columns: `[\"price\"]`");
            }
            let mut seen = Vec::new();
            for (section, column) in
                inputs.iter().map(|name| ("inputs", name)).chain(targets.iter().map(|name| ("targets", name)))
            {
                if seen.contains(&column) {
                    let place = field.value.field(section).unwrap_or(&field.value);
                    let title = format!("data: the column `{column}` is named twice");
                    self.faults.push(Diagnostic::new(title).at(place.span.clone()).expected("each column once"));
                }
                seen.push(column);
            }
        }
        Some(source)
    }

    /// What serde reads, as a part of a section.
    fn plain_of<T: Deserialize<'v>>(&mut self, section: &str, field: &'v Field) -> Option<T> {
        let told = |error: FieldError| {
            // A fault without a message is of the field itself.
            let whole = error.message.is_empty() && field.name.text == section;
            self.faults.field(if whole { "training file" } else { section }, error.or_in(field));
        };
        T::deserialize(&field.value).map_err(told).ok()
    }

    /// The fields of a struct in the order of `known`; others are faults.
    fn parts<const N: usize>(
        &mut self,
        what: &str,
        fields: &'v [Field],
        known: [&'static str; N],
    ) -> [Option<&'v Field>; N] {
        let mut parts = [None; N];
        for field in fields {
            match known.iter().position(|name| *name == field.name.text) {
                Some(place) if parts[place].is_none() => parts[place] = Some(field),
                Some(_) => {
                    let title = format!("{what}: `{}` is given twice", field.name.text);
                    self.faults.push(Diagnostic::new(title).at(field.name.span.clone()));
                }
                None => {
                    let known = known.iter().map(ToString::to_string).collect();
                    let error = FieldError::unknown_field(field.name.span.clone(), &field.name.text, known);
                    self.faults.field(what, error);
                }
            }
        }
        parts
    }
}

/// Whether the target of a loss is class labels.
fn is_of_classes(loss: &Op) -> bool {
    matches!(loss, Op::CrossEntropyLoss(_) | Op::NllLoss(_))
}
