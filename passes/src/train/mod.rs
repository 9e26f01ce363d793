//! Training as graphs: a network and what a recipe says become the graph of one whole step, forward, loss, backward and
//! updates, of operations that there are. All passes then run over them together.
//!
//! Every parameter of the network is state, in the graph of a step and in that of an evaluation. An update is a result
//! that takes the place of a state when the run is over; everything in the graph reads the old values. A step whose loss
//! is not finite changes nothing: every update is of `Step::replace`.
//!
//! | file | its story |
//! |---|---|
//! | `objective` | the loss of an output against a target |
//! | `metric` | what is counted beside the loss |
//! | `mode` | layers as they are in training |
//! | `rate` | the learning rate of each step |
//! | `clip` | large gradients made smaller |
//! | `optimizer` | parameters from their gradients |

mod clip;
mod metric;
pub mod mode;
mod objective;
mod optimizer;
mod rate;

use crate::differentiate::differentiate;
use fusewright_ir::ops::{Cast, Compose, Initializer, Mismatch, Op};
use fusewright_ir::recipe::{Clip, Metric, Objective, Optimizer, Rate, Recipe};
use fusewright_ir::tensor::TensorType;
use fusewright_ir::{DType, Diagnostic, Diagnostics, Graph, GraphBuilder, NodeMap, ValueId};

/// How a network is trained: what a [`Recipe`] says of it.
#[derive(Clone, Copy, Debug)]
pub struct Training<'a> {
    /// What is made small.
    pub objective: &'a Objective,
    /// How parameters follow their gradients.
    pub optimizer: &'a Optimizer,
    /// How the learning rate changes.
    pub rate: &'a Rate,
    /// How large gradients are made smaller.
    pub clip: Option<&'a Clip>,
    /// What is counted beside the loss.
    pub metrics: &'a [Metric],
    /// Of dropout.
    pub seed: u64,
}

impl<'a> From<&'a Recipe> for Training<'a> {
    fn from(recipe: &'a Recipe) -> Training<'a> {
        Training {
            objective: &recipe.objective,
            optimizer: &recipe.optimizer,
            rate: &recipe.rate,
            clip: recipe.clip.as_ref(),
            metrics: &recipe.metrics,
            seed: recipe.seed,
        }
    }
}

/// How long training is, as schedules count it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepOptions {
    /// Steps in one pass over all examples, 1 or more.
    pub steps_per_epoch: u64,
    /// Steps of the whole training, 1 or more.
    pub total_steps: u64,
}

/// The graph of one training step of `forward`, whose shapes are numbers.
///
/// Its results are `loss`, what the loss layer gives (of reduction `"mean"` a mean over the batch); then each metric under
/// its name (`accuracy`, `mean_squared_error`, `mean_absolute_error`), a mean over the batch, without labels that the loss
/// ignores: of batches of different sizes the mean weighted by their sizes is that of all examples, where none is ignored;
/// then the updates. Its inputs are those of `forward` and the target, where that is none of them.
///
/// Beside the parameters there is state named as in PyTorch's optimisers (`c1.weight.momentum_buffer`, `.exp_avg`,
/// `.exp_avg_sq`, `.square_avg`, `.grad_avg`, `.sum`) and `step`, an i32 that counts finished steps. Where the loss is not
/// finite, all state stays as it is.
///
/// # Errors
/// Where the objective does not fit the network, a number of the recipe makes no sense, a layer cannot be trained with, or a
/// parameter reaches the loss by way of layers that have no gradient.
pub fn step(forward: Graph, training: &Training, options: &StepOptions) -> Result<Graph, Diagnostics> {
    let mut faults = Diagnostics::default();
    faults.include(sensible("optimizer", training.optimizer.check()));
    faults.include(sensible("learning rate", training.rate.check()));
    faults.include(sensible("clipping", training.clip.map_or(Ok(()), Clip::check)));
    faults.into_result()?;

    let mut build = GraphBuilder::on(with_state(forward));
    let counter = build.state("step", TensorType::new(DType::I32, [0usize; 0]), Initializer::Zeros);
    objective::keep_output(&mut build, training.objective)?;
    let statistics = mode::train(&mut build, counter, training.seed)?;
    score(&mut build, training.objective, training.metrics)?;
    let loss = build.graph().outputs[0].value;
    let parameters = learned(build.graph(), loss, training.objective)?;
    let (graph, gradients) = differentiate(build.finish(), loss, None, &parameters)?;

    let loss = graph.outputs[0].value;
    let mut step = Step { build: GraphBuilder::on(graph), name: "step".to_string(), loss, counter };
    let mut gradients: Vec<(ValueId, ValueId)> = parameters.into_iter().zip(gradients).collect();
    if let Some(clip) = training.clip {
        clip::apply(&mut step, clip, &mut gradients);
    }
    let factor = rate::factor(&mut step, training.rate, options);
    optimizer::apply(&mut step, training.optimizer, factor, &gradients);
    for (state, value) in statistics {
        step.at(state);
        step.replace(state, value);
    }
    step.advance();
    Ok(step.build.finish())
}

/// The graph of the loss and the metrics of `forward`, whose shapes are numbers, as inference computes them: running
/// statistics, no dropout, no updates. Results and inputs are those of [`step`].
///
/// # Errors
/// Where the objective does not fit the network.
pub fn evaluation(forward: Graph, objective: &Objective, metrics: &[Metric]) -> Result<Graph, Diagnostics> {
    let mut build = GraphBuilder::on(with_state(forward));
    score(&mut build, objective, metrics)?;
    Ok(build.finish())
}

/// What is wrong with the numbers of a recipe, as a diagnostic.
fn sensible(of: &str, checked: Result<(), Mismatch>) -> Result<(), Diagnostics> {
    checked.map_err(|mismatch| {
        let field = mismatch.field.map_or(String::new(), |field| format!(": `{field}`"));
        let fault = Diagnostic::new(format!("the {of} makes no sense{field}"));
        fault.expected(mismatch.expected).found(mismatch.found).help(mismatch.help).into()
    })
}

/// The same graph with all parameters as state.
fn with_state(mut graph: Graph) -> Graph {
    let parameters: Vec<_> =
        graph.nodes().filter(|(_, node)| matches!(node.op, Op::Parameter(_))).map(|(id, _)| id).collect();
    for id in parameters {
        graph.update(id, |node| {
            if let Op::Parameter(parameter) = &mut node.op {
                parameter.is_state = true;
            }
        });
    }
    graph
}

/// Makes loss and metrics the only results.
fn score(build: &mut GraphBuilder, objective: &Objective, metrics: &[Metric]) -> Result<(), Diagnostics> {
    let scored = objective::score(build, objective)?;
    let metrics = metric::all(build, &scored, objective, metrics)?;
    build.clear_outputs();
    build.output("loss", scored.loss);
    for (name, value) in metrics {
        build.output(name, value);
    }
    Ok(())
}

/// The parameters that are learned, as far as some way leads from them to the loss.
fn learned(graph: &Graph, loss: ValueId, objective: &Objective) -> Result<Vec<ValueId>, Diagnostics> {
    let needed = needed(graph, &[loss]);
    let is_learned = |op: &Op| matches!(op, Op::Parameter(parameter) if parameter.trainable);
    let parameters: Vec<ValueId> =
        graph.nodes().filter(|(id, node)| needed[*id] && is_learned(&node.op)).map(|(id, _)| id.into()).collect();
    if parameters.is_empty() {
        let fault = Diagnostic::new("there is nothing to train").at(objective.span.clone());
        let fault = fault.expected("a network with parameters that are learned").found("none on the way to the loss");
        return Err(fault.into());
    }
    Ok(parameters)
}

/// The nodes that values are computed from, their own included.
fn needed(graph: &Graph, values: &[ValueId]) -> NodeMap<bool> {
    let mut needed = NodeMap::filled(graph, false);
    values.iter().for_each(|value| needed[value.node] = true);
    for id in graph.topological().into_iter().rev() {
        if needed[id] {
            graph.node(id).inputs.iter().for_each(|operand| needed[operand.node] = true);
        }
    }
    needed
}

/// A step while its updates are written.
struct Step {
    build: GraphBuilder,
    /// The name of the nodes that are added.
    name: String,
    loss: ValueId,
    /// The number of finished steps, an i32.
    counter: ValueId,
}

impl Compose for Step {
    fn graph(&self) -> &Graph {
        self.build.graph()
    }

    fn node(&mut self, op: impl Into<Op>, inputs: &[ValueId]) -> ValueId {
        self.build.node(&self.name, op.into(), inputs)
    }
}

impl Step {
    /// What is added next belongs to this parameter.
    fn at(&mut self, parameter: ValueId) {
        let node = self.build.graph().node(parameter.node);
        let (name, span) = (format!("{}.update", node.name), node.span.clone());
        self.name = name;
        self.build.set_span(span);
    }

    /// What is added next belongs to no parameter.
    fn of_all(&mut self, name: &str) {
        self.name = name.to_string();
        self.build.set_span(None);
    }

    /// State beside a parameter, of its type.
    fn state(&mut self, parameter: ValueId, what: &str, init: Initializer) -> ValueId {
        let node = self.build.graph().node(parameter.node);
        let (name, ty) = (format!("{}.{what}", node.name), node.types[0].clone());
        self.build.state(&name, ty, init)
    }

    /// Updates f32 state, where the loss is finite. The choice is one of elements by the loss itself: no truth value has to
    /// lie in memory, and what computes the new value, a contraction perhaps, stores it at once.
    fn replace(&mut self, state: ValueId, new: ValueId) {
        let loss = self.loss;
        let value = self.map("WhereFinite", &[loss, new, state]);
        self.build.update(state, value);
    }

    /// Counts the step, where the loss is finite.
    fn advance(&mut self) {
        self.of_all("step.update");
        let (loss, counter) = (self.loss, self.counter);
        let (one, zero) = (self.number(1.0), self.number(0.0));
        let more = self.map("WhereFinite", &[loss, one, zero]);
        let more = self.node(Cast { to: DType::I32 }, &[more]);
        let next = self.add(counter, more);
        self.build.update(counter, next);
    }

    /// The number of finished steps as f32, exact up to 2^24.
    fn finished(&mut self) -> ValueId {
        let counter = self.counter;
        self.node(Cast { to: DType::F32 }, &[counter])
    }
}
