//! Training: the plans of steps and evaluations, and the state that all of them share.

mod blame;
mod checkpoint;

use crate::compile::{self, Compilation, Options};
use crate::data::{Dataset, Order};
use crate::error::Error;
use crate::executable::{check_inputs, check_memory};
use crate::initialize::initialize;
use crate::ir::plan::Outline;
use crate::ir::{Bindings, Diagnostic, Dim, Graph, Tensor, TensorType};
use crate::passes::train::StepOptions;
use crate::recipe::Recipe;
use crate::runtime::{self, AlignedBytes, RunError, State, Threads, View, ViewMut};
use crate::weights::Weights;
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A network in training. A step is one plan: forward, loss, backward, and the updates of parameters in their places; it
/// allocates nothing.
///
/// ```
/// use fusewright::{Options, Recipe, Tensor, Trainer};
///
/// let recipe = Recipe::parse(
///     r#"(
///         fusewright: 1,
///         model: (inputs: [(name: "x", shape: [N, 1])], layers: [Dense(name: "line", out: 1)]),
///         loss: MSELoss,
///         optimizer: Sgd(lr: 0.1),
///         batch: 4,
///         epochs: 100,
///     )"#,
/// )?;
/// let mut trainer = Trainer::new(recipe, None, Options::default())?;
/// let x = Tensor::from_vec(&[4, 1], vec![-1f32, 0.0, 1.0, 2.0]);
/// let y = Tensor::from_vec(&[4, 1], vec![-2f32, 1.0, 4.0, 7.0]);
/// for _ in 0..200 {
///     trainer.step(&[("x", &x), ("targets", &y)])?;
/// }
/// assert!(trainer.step(&[("x", &x), ("targets", &y)])?.loss < 1e-6);
/// let slope = trainer.tensor("line.weight").expect("the layer has a weight");
/// assert!((slope.as_slice::<f32>().unwrap()[0] - 3.0).abs() < 1e-2);
/// # Ok::<(), fusewright::Error>(())
/// ```
pub struct Trainer {
    recipe: Recipe,
    options: Options,
    length: StepOptions,
    /// The symbols of the network's inputs, for the recipe's batch.
    sizes: Bindings,
    state: State,
    /// The parameters that the loss does not reach.
    rest: BTreeMap<String, Tensor>,
    running: Vec<Running>,
    order: Option<Order>,
    /// The epochs that are over.
    history: Vec<Epoch>,
    /// The epoch that is going on.
    current: Current,
    /// Where examples are put, for steps and for evaluations of each number of them.
    batches: Vec<Batch>,
    /// The names of the network's input and of the target.
    names: [Arc<str>; 2],
}

/// What a run says beside what it changes: means over its examples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Scores {
    /// The loss.
    pub loss: f32,
    /// The metrics of the recipe, in their order; 0 where it has fewer.
    pub metrics: [f32; Scores::MOST],
}

impl Scores {
    /// More metrics than there are kinds of them.
    pub const MOST: usize = 3;

    /// The sum of `self` and of so many times `other`.
    fn plus(mut self, other: Scores, times: f32) -> Scores {
        self.loss += other.loss * times;
        self.metrics.iter_mut().zip(other.metrics).for_each(|(sum, own)| *sum += own * times);
        self
    }
}

/// What is going on in [`Trainer::fit`].
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// A step is done.
    Step {
        /// Steps done since the training began.
        step: u64,
        /// Its scores, before its update.
        scores: Scores,
        /// Its examples.
        examples: usize,
    },
    /// All examples were seen once more, and so many of those to evaluate with are. Where `observe` ends the training here, it
    /// goes on with a new evaluation.
    Evaluation {
        /// The examples evaluated.
        examples: usize,
    },
    /// All examples were seen once more, and all of those to evaluate with.
    Epoch(Epoch),
}

/// An epoch that is over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Epoch {
    /// How often all examples were seen.
    pub number: u64,
    /// The mean over its steps.
    pub train: Scores,
    /// Of the examples to evaluate with.
    pub test: Option<Scores>,
    /// Of its steps.
    pub time: Duration,
}

/// What is known of the epoch that is going on. It is part of a checkpoint, so that an epoch with a pause is told like one
/// without.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Current {
    /// The sum over the examples that were seen.
    sum: Scores,
    seen: u64,
    time: Duration,
}

/// Which graph a plan is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Step,
    Evaluation,
}

/// A plan in use.
struct Running {
    kind: Kind,
    session: runtime::Session,
    compilation: Compilation,
    /// The types of its inputs, by name.
    inputs: Vec<(String, TensorType)>,
    /// The names of its results, the loss first.
    results: Vec<String>,
}

/// A batch of examples.
struct Batch {
    input: Tensor,
    target: Option<Tensor>,
}

impl Trainer {
    /// The training of a recipe on so many examples as `data` has, from initial parameters by the recipe's seed, or from
    /// `options.weights`. The step's plan is compiled. Without data an epoch is one step, and symbols of the network other
    /// than the batch have their values in `options.bindings`.
    ///
    /// # Errors
    /// Where the loss does not fit the network, a layer cannot be trained with, sizes or weights do not fit, or there are more
    /// steps than an i32 counts.
    pub fn new(recipe: Recipe, data: Option<&Dataset>, mut options: Options) -> Result<Trainer, Error> {
        let definition = recipe.definition();
        let batch = definition.batch;
        let order = data.map(|data| Order::new(data.len(), batch, definition.seed));
        let steps_per_epoch = order.as_ref().map_or(1, |order| order.batches().max(1)) as u64;
        let total_steps = steps_per_epoch.saturating_mul(definition.epochs.max(1) as u64);
        if total_steps > MOST_STEPS {
            let fault = Diagnostic::new("the training has more steps than are counted");
            let fault = fault.at(definition.place(&["epochs"])).expected(format!("at most {MOST_STEPS}"));
            return Err(recipe.fault(fault.found(format!("{} epochs of {steps_per_epoch}", definition.epochs))));
        }
        let mut sizes = recipe.largest_sizes(data)?;
        if let Some(data) = data.filter(|data| data.len() > batch) {
            recipe.check_last_step(data, &options.bindings)?;
        }
        for (name, &n) in &options.bindings {
            if let Some(own) = sizes.insert(name.clone(), n).filter(|own| *own != n) {
                let fault = Diagnostic::new(format!("`{name}` has a value already")).expected(own.to_string());
                let help = "the batch and the examples give it";
                return Err(fault.found(n.to_string()).help(help).into());
            }
        }
        let given = options.weights.take().map(|weights| weights.fit(recipe.model().graph())).transpose()?;
        let length = StepOptions { steps_per_epoch, total_steps };
        let mut state = None;
        let initial = |executable: &runtime::Executable, graph: &Graph| {
            state = Some(initial(&recipe, executable, graph, given)?);
            Ok(())
        };
        let first = Running::new(&recipe, Kind::Step, &sizes, &length, &options, None, initial)?;
        let (memory, rest) = state.expect("it was made with the plan");
        let state = State::with_memory(first.session.executable().plan(), memory);
        let target = definition.objective.target.as_str();
        let input = first.inputs.iter().map(|(name, _)| name.as_str()).find(|name| *name != target).unwrap_or(target);
        let names = [input.into(), target.into()];
        let (running, batches, current) = (vec![first], Vec::new(), Current::default());
        let history = Vec::new();
        let mut trainer =
            Trainer { recipe, options, length, sizes, state, rest, running, order, history, current, batches, names };
        trainer.make_room();
        Ok(trainer)
    }

    /// Room for all epochs to come, so that none needs an allocation, unless they are too many to be more than a wish for a
    /// training without an end.
    fn make_room(&mut self) {
        let _ = self.history.try_reserve(self.recipe.definition().epochs);
    }

    /// What is trained, and how.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// How long the training is.
    pub fn length(&self) -> StepOptions {
        self.length
    }

    /// The names of the metrics, in their order.
    pub fn metrics(&self) -> &[String] {
        &self.running[0].results[1..]
    }

    /// The steps that were done since the training began: those before a checkpoint included.
    pub fn steps(&self) -> u64 {
        match self.state.get(COUNTER).as_ref().and_then(|step| step.as_slice::<i32>()?.first().copied()) {
            Some(step) => step.max(0) as u64,
            None => 0,
        }
    }

    /// One step on these inputs, of the network and of the loss. The first of a batch of another size compiles; all others
    /// allocate nothing.
    ///
    /// # Errors
    /// Inputs that are missing or do not fit, indices out of range, and a loss that is not finite: parameters and optimiser
    /// are then as they were before.
    pub fn step(&mut self, inputs: &[(&str, &Tensor)]) -> Result<Scores, Error> {
        self.step_profiled(inputs, &mut [])
    }

    /// As [`Trainer::step`]; `times` gets the time of each kernel of the plan.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn step_profiled(&mut self, inputs: &[(&str, &Tensor)], times: &mut [Duration]) -> Result<Scores, Error> {
        let scores = self.run(Kind::Step, inputs, times)?;
        if !scores.loss.is_finite() {
            return Err(self.blame(inputs, scores.loss));
        }
        Ok(scores)
    }

    /// The loss and the metrics on these inputs as inference computes them. Nothing is changed.
    ///
    /// # Errors
    /// Inputs that are missing or do not fit, and indices out of range.
    pub fn score(&mut self, inputs: &[(&str, &Tensor)]) -> Result<Scores, Error> {
        self.run(Kind::Evaluation, inputs, &mut [])
    }

    /// The mean scores over all examples of a set, as [`Trainer::score`] gives them.
    ///
    /// # Errors
    /// As [`Trainer::score`].
    pub fn evaluate(&mut self, data: &Dataset) -> Result<Scores, Error> {
        let (scores, _) = self.evaluate_by_batch(data, |_, _| ControlFlow::Continue(()))?;
        Ok(scores)
    }

    /// The mean scores of the first examples of a set, as far as `observe` wants to wait, which is told after each batch how many
    /// they are.
    fn evaluate_by_batch(
        &mut self,
        data: &Dataset,
        mut observe: impl FnMut(&mut Trainer, usize) -> ControlFlow<()>,
    ) -> Result<(Scores, ControlFlow<()>), Error> {
        let (mut sum, mut seen, mut flow) = (Scores::default(), 0, ControlFlow::Continue(()));
        let numbers: Vec<usize> = (0..data.len()).collect();
        for examples in numbers.chunks(self.recipe.definition().batch) {
            let scores = self.on(data, examples, |trainer, inputs| trainer.score(inputs))?;
            sum = sum.plus(scores, examples.len() as f32);
            seen += examples.len();
            flow = observe(self, seen);
            if flow.is_break() {
                break;
            }
        }
        Ok((Scores::default().plus(sum, 1.0 / seen.max(1) as f32), flow))
    }

    /// Trains on a set until the recipe's epochs are over, and evaluates on another after each, if there is one. Goes on
    /// where the last call, or the checkpoint, left off; `observe` may end it after any event.
    ///
    /// ```
    /// use fusewright::{Event, Options, Recipe, Trainer};
    /// use std::ops::ControlFlow;
    ///
    /// let recipe = Recipe::load("models/train_sine_1x100.ron")?.with_epochs(100);
    /// let (train, test) = recipe.data()?.expect("it names its data");
    /// let mut trainer = Trainer::new(recipe, Some(&train), Options::default())?;
    /// trainer.fit(&train, test.as_ref(), |trainer, event| {
    ///     if let Event::Epoch(epoch) = event {
    ///         println!("{}: {:?} after {} steps", epoch.number, epoch.test, trainer.steps());
    ///     }
    ///     ControlFlow::Continue(()) // or `Break`, to go on later
    /// })?;
    /// assert!(trainer.evaluate(&train)?.loss < 1e-3);
    /// assert_eq!(trainer.weights().types().count(), 4);
    /// # Ok::<(), fusewright::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Trainer::step`], and if the trainer was not made for a set of so many examples.
    pub fn fit(
        &mut self,
        train: &Dataset,
        test: Option<&Dataset>,
        mut observe: impl FnMut(&mut Trainer, Event) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let examples = self.order.as_ref().map_or(0, Order::examples);
        match self.order.take_if(|_| examples == train.len()) {
            Some(mut order) => {
                let result = self.fit_in(&mut order, train, test, &mut observe);
                self.order = Some(order);
                result
            }
            None => {
                let fault =
                    Diagnostic::new("the trainer was made for other examples").help("give them to `Trainer::new`");
                Err(fault.expected(format!("{examples} of them")).found(train.len().to_string()).into())
            }
        }
    }

    fn fit_in(
        &mut self,
        order: &mut Order,
        train: &Dataset,
        test: Option<&Dataset>,
        observe: &mut impl FnMut(&mut Trainer, Event) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let StepOptions { steps_per_epoch: per_epoch, total_steps } = self.length;
        let mut step = self.steps();
        loop {
            // Where a checkpoint was made behind the last step of an epoch, too.
            if step.is_multiple_of(per_epoch) && self.current.seen > 0 {
                let Some(epoch) = self.close(step / per_epoch, test, observe)? else { return Ok(()) };
                if observe(self, Event::Epoch(epoch)).is_break() {
                    return Ok(());
                }
            }
            if step >= total_steps {
                return Ok(());
            }
            let examples = order.batch(step / per_epoch, (step % per_epoch) as usize);
            let begun = Instant::now();
            let scores = self.on(train, examples, |trainer, inputs| trainer.step(inputs))?;
            step += 1;
            let current = &mut self.current;
            current.time += begun.elapsed();
            current.seen += examples.len() as u64;
            current.sum = current.sum.plus(scores, examples.len() as f32);
            if observe(self, Event::Step { step, scores, examples: examples.len() }).is_break() {
                return Ok(());
            }
        }
    }

    /// Ends the epoch that is going on, the `number`th; it goes on where `observe` does not want to wait for the evaluation.
    fn close(
        &mut self,
        number: u64,
        test: Option<&Dataset>,
        observe: &mut impl FnMut(&mut Trainer, Event) -> ControlFlow<()>,
    ) -> Result<Option<Epoch>, Error> {
        let test = match test {
            None => None,
            Some(test) => {
                let evaluated =
                    self.evaluate_by_batch(test, |trainer, examples| observe(trainer, Event::Evaluation { examples }))?;
                match evaluated {
                    (scores, ControlFlow::Continue(())) => Some(scores),
                    (_, ControlFlow::Break(())) => return Ok(None),
                }
            }
        };
        let Current { sum, seen, time } = std::mem::take(&mut self.current);
        let train = Scores::default().plus(sum, 1.0 / seen as f32);
        let epoch = Epoch { number, train, test, time };
        self.history.push(epoch);
        Ok(Some(epoch))
    }

    /// The epochs that are over, those before a checkpoint included.
    pub fn history(&self) -> &[Epoch] {
        &self.history
    }

    /// Does something with a batch of examples.
    fn on(
        &mut self,
        data: &Dataset,
        examples: &[usize],
        action: impl FnOnce(&mut Trainer, &[(&str, &Tensor)]) -> Result<Scores, Error>,
    ) -> Result<Scores, Error> {
        let fits = |batch: &Batch| batch.input.dims().split_first() == Some((&examples.len(), data.input_dims()));
        let place = match self.batches.iter().position(fits) {
            Some(place) => place,
            None => {
                self.batches.push(Batch::new(data, examples.len()));
                self.batches.len() - 1
            }
        };
        let mut batch = self.batches.swap_remove(place);
        batch.fill(data, examples);
        let [input, target] = self.names.clone();
        let result = match &batch.target {
            Some(values) => action(self, &[(&input, &batch.input), (&target, values)]),
            None => action(self, &[(&input, &batch.input)]),
        };
        self.batches.push(batch);
        result
    }

    /// The inputs of a step on these examples of a set.
    ///
    /// # Panics
    /// If there is no such example.
    pub fn examples(&self, data: &Dataset, examples: &[usize]) -> Vec<(String, Tensor)> {
        let mut batch = Batch::new(data, examples.len());
        batch.fill(data, examples);
        let tensors = [Some(batch.input), batch.target];
        let named = self.names.iter().zip(tensors);
        named.filter_map(|(name, tensor)| Some((name.to_string(), tensor?))).collect()
    }

    /// Runs a plan that fits the inputs.
    fn run(&mut self, kind: Kind, inputs: &[(&str, &Tensor)], times: &mut [Duration]) -> Result<Scores, Error> {
        let known = self.running.iter().position(|running| running.kind == kind && running.takes(inputs));
        let place = match known {
            Some(place) => place,
            None => {
                let sizes = self.sizes_of(inputs);
                let Trainer { recipe, length, options, .. } = &*self;
                let beside = Some(self.plan());
                let running = Running::new(recipe, kind, &sizes, length, options, beside, |_, _| Ok(()))?;
                check_inputs("training", &running.inputs, inputs)?;
                self.running.push(running);
                self.running.len() - 1
            }
        };
        Ok(self.running[place].run(&mut self.state, inputs, times)?)
    }

    /// The sizes of these inputs: a batch of their number of examples.
    fn sizes_of(&self, inputs: &[(&str, &Tensor)]) -> Bindings {
        let mut sizes = self.sizes.clone();
        for (name, tensor) in inputs {
            let node = self.recipe.model().graph().find(name);
            let Some(ty) = node.map(|id| &self.recipe.model().graph().node(id).types[0]) else { continue };
            for (dim, &length) in ty.shape.iter().zip(tensor.dims()) {
                if let Some(symbol) = dim.as_symbol() {
                    sizes.insert(symbol, length);
                }
            }
        }
        sizes
    }

    /// The plan of a step of the recipe's batch, without its loops.
    pub fn plan(&self) -> &Outline {
        self.running[0].session.executable().plan()
    }

    /// How the step's plan came to be.
    pub fn compilation(&self) -> &Compilation {
        &self.running[0].compilation
    }

    /// The machine code of the step's plan.
    pub fn executable(&self) -> &runtime::Executable {
        self.running[0].session.executable()
    }

    /// The types of the step's inputs, by name.
    pub fn inputs(&self) -> &[(String, TensorType)] {
        &self.running[0].inputs
    }

    /// The name of the network's input.
    pub fn input(&self) -> &str {
        &self.names[0]
    }

    /// A copy of a parameter, or of a part of the optimiser's state.
    pub fn tensor(&self, name: &str) -> Option<Tensor> {
        self.state.get(name)
    }

    /// Parameters and optimiser, in their memory.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The parameters of the network as they are now.
    pub fn weights(&self) -> Weights {
        let mut weights = Weights::default();
        for (name, _) in crate::weights::parameters(self.recipe.model().graph()) {
            if let Some(tensor) = self.state.get(name).or_else(|| self.rest.get(name).cloned()) {
                weights.insert(name, tensor);
            }
        }
        weights
    }

    /// Writes parameters, optimiser, counter and history as safetensors, in a file that appears whole or not at all.
    ///
    /// # Errors
    /// Where it cannot be written, or a number of the state is not finite: a file of this name stays as it was.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        checkpoint::save(self, path.as_ref())
    }

    /// Whether all parameters and the optimiser's state are finite: what [`Trainer::save`] asks first. A gradient may be too
    /// large where the loss is not.
    ///
    /// # Errors
    /// The tensor that is not.
    pub fn check_finite(&self) -> Result<(), Error> {
        checkpoint::check_finite(self)
    }

    /// Goes on from a checkpoint that [`Trainer::save`] wrote: the same bits as without the pause.
    ///
    /// # Errors
    /// Where it cannot be read, is damaged, or is of another training: nothing is changed then.
    pub fn resume(&mut self, path: impl AsRef<Path>) -> Result<(), Error> {
        checkpoint::load(self, path.as_ref())
    }
}

impl Batch {
    fn new(data: &Dataset, examples: usize) -> Batch {
        let zeros = |ty: TensorType| Tensor::zeros(ty.dtype, &ty.dims().expect("examples have sizes"));
        Batch { input: zeros(data.input_type(examples)), target: data.target_type(examples).map(zeros) }
    }

    fn fill(&mut self, data: &Dataset, examples: &[usize]) {
        match &mut self.target {
            Some(target) => data.fill(examples, &mut self.input, target),
            None => data.fill_input(examples, &mut self.input),
        }
    }
}

/// The state that counts steps, and the most that it counts.
const COUNTER: &str = "step";
const MOST_STEPS: u64 = i32::MAX as u64;

/// The memory of the state as a training begins, and the network's parameters that are not in it: those that are given, the rest as
/// the step's graph says.
fn initial(
    recipe: &Recipe,
    executable: &runtime::Executable,
    graph: &Graph,
    given: Option<Weights>,
) -> Result<(AlignedBytes, BTreeMap<String, Tensor>), Error> {
    let seed = recipe.definition().seed;
    let weights = given.unwrap_or_else(|| Weights::initialized(recipe.model().graph(), seed));
    let (mut state, mut rest) = (State::new(executable.plan()), BTreeMap::new());
    for (name, parameter) in crate::weights::parameters(graph) {
        let dims = parameter.ty.dims().expect("steps have sizes");
        let given = weights.get(name)?;
        let tensor = given.map_or_else(|| initialize(parameter, &dims, name, seed), |given| given.into_owned());
        // What no kernel of the step touches is not in its plan.
        if state.names().any(|(known, ..)| known == name) {
            state.set(name, &tensor).map_err(|error| Error::from(Diagnostic::new(error.to_string())))?;
        } else if recipe.model().graph().find(name).is_some() {
            rest.insert(name.to_string(), tensor);
        }
    }
    Ok((state.into_memory(), rest))
}

impl Running {
    /// The plan of a recipe's step or evaluation; `then` does something with its executable and graph before the latter is dropped.
    fn new(
        recipe: &Recipe,
        kind: Kind,
        sizes: &Bindings,
        length: &StepOptions,
        options: &Options,
        beside: Option<&Outline>,
        then: impl FnOnce(&runtime::Executable, &Graph) -> Result<(), Error> + Send,
    ) -> Result<Running, Error> {
        let mut differentiate = Duration::ZERO;
        let graph = || {
            let begun = Instant::now();
            let graph = match kind {
                Kind::Step => recipe.step(sizes, length),
                Kind::Evaluation => recipe.evaluation(sizes),
            };
            differentiate = begun.elapsed();
            graph
        };
        let (executable, mut compilation) = compile::apart(graph, options, beside, then)?;
        check_memory(&executable, options.threads)?;
        let executable = Arc::new(executable);
        compilation.stages.insert(0, ("differentiate", differentiate));
        let plan = executable.plan();
        let inputs = plan.inputs.iter().map(|port| (port.name.to_string(), plan.port_type(port))).collect();
        let results = plan.outputs.iter().map(|port| port.name.to_string()).collect();
        let threads = Threads { spin: Duration::from_micros(options.spin), ..Threads::new(options.threads) };
        let session = runtime::Session::with_threads(executable.clone(), threads);
        Ok(Running { kind, session, compilation, inputs, results })
    }

    /// Whether these are its inputs.
    fn takes(&self, inputs: &[(&str, &Tensor)]) -> bool {
        let fits = |(name, ty): &(String, TensorType)| {
            let given = inputs.iter().find(|(given, _)| given == name);
            given.is_some_and(|(_, tensor)| is_of(tensor, ty))
        };
        inputs.len() == self.inputs.len() && self.inputs.iter().all(fits)
    }

    fn run(
        &mut self,
        state: &mut State,
        inputs: &[(&str, &Tensor)],
        times: &mut [Duration],
    ) -> Result<Scores, RunError> {
        let views: SmallVec<[(&str, View); 4]> =
            inputs.iter().filter_map(|(name, tensor)| Some((*name, runtime::view(tensor)?))).collect();
        let mut scores = [[0f32]; Scores::MOST + 1];
        let mut outputs: SmallVec<[(&str, ViewMut); Scores::MOST + 1]> =
            self.results.iter().zip(&mut scores).map(|(name, score)| (name.as_str(), ViewMut::F32(score))).collect();
        self.session.run_on(state, &views, &mut outputs, times)?;
        drop(outputs);
        let mut numbers = scores.iter().map(|[score]| *score);
        let loss = numbers.next().unwrap_or_default();
        let mut metrics = [0.0; Scores::MOST];
        metrics.iter_mut().zip(numbers).for_each(|(metric, score)| *metric = score);
        Ok(Scores { loss, metrics })
    }
}

/// Whether a tensor is of a type without symbols.
fn is_of(tensor: &Tensor, ty: &TensorType) -> bool {
    let same = |(dim, n): (&Dim, &usize)| dim.known() == Some(*n);
    tensor.dtype() == ty.dtype && tensor.dims().len() == ty.rank() && ty.shape.iter().zip(tensor.dims()).all(same)
}
