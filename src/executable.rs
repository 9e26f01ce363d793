//! Compiled networks and their users.

use crate::cache;
use crate::compile::{self, Compilation, Options};
use crate::data::files;
use crate::error::Error;
use crate::initialize::initialize;
use crate::ir::ops::Parameter;
use crate::ir::{Array, Bindings, Data, Diagnostic, Diagnostics, Graph, Tensor, TensorType};
use crate::model::Model;
use crate::passes::differentiate;
use crate::runtime::{self, AlignedBytes, RunError, Threads, View, ViewMut};
use crate::weights::{Weights, parameters};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A network with its parameters, ready to run. Clones share everything; plans for other batch and image sizes are made
/// when a session asks for them, and kept.
#[derive(Clone)]
pub struct Executable(Arc<Shared>);

struct Shared {
    model: Model,
    options: Options,
    weights: Weights,
    plans: Mutex<BTreeMap<Bindings, Arc<Planned>>>,
}

/// The machine code for one choice of sizes, and how it came to be.
pub struct Planned {
    /// Machine code and constants.
    pub executable: Arc<runtime::Executable>,
    /// What compiling found out.
    pub compilation: Compilation,
}

impl std::fmt::Debug for Executable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Executable").field("model", &self.0.model.definition().name).finish_non_exhaustive()
    }
}

impl Executable {
    pub(crate) fn new(model: Model, mut options: Options) -> Result<Executable, Error> {
        let weights = match options.weights.take() {
            Some(weights) => weights.fit(model.graph())?,
            None => model.weights()?,
        };
        let complete = model.definition().symbols().iter().all(|name| options.bindings.contains_key(name));
        let executable = Executable(Arc::new(Shared { model, options, weights, plans: Mutex::default() }));
        if complete {
            executable.planned(&Bindings::new())?;
        }
        Ok(executable)
    }

    /// The model it was made from.
    pub fn model(&self) -> &Model {
        &self.0.model
    }

    /// The parameters: those of a file or a seed are not in memory.
    pub fn weights(&self) -> &Weights {
        &self.0.weights
    }

    /// A session for the sizes that `bindings` gives to the symbols of the model; those given in [`Options`] need not be
    /// repeated. The first session of its sizes compiles, later ones only allocate.
    ///
    /// # Errors
    /// Symbols without a value, values for symbols that the model does not have, and layers that do not fit the sizes.
    pub fn session(&self, bindings: &Bindings) -> Result<Session, Error> {
        let planned = self.planned(bindings)?;
        let Options { threads, spin, .. } = self.0.options;
        check_memory(&planned.executable, threads)?;
        let threads = Threads { spin: Duration::from_micros(spin), ..Threads::new(threads) };
        Ok(Session { session: runtime::Session::with_threads(planned.executable.clone(), threads), planned })
    }

    /// The code for these sizes, made where it is new.
    ///
    /// # Errors
    /// As [`Executable::session`].
    pub fn planned(&self, bindings: &Bindings) -> Result<Arc<Planned>, Error> {
        let all = self.all(bindings);
        // A thread that panicked here had changed nothing.
        let plans = || self.0.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(planned) = plans().get(&all) {
            return Ok(planned.clone());
        }
        // Not under the lock: other sizes can be opened meanwhile. Where two threads make the same plan, the first stays.
        let planned = Arc::new(self.plan(&all)?);
        Ok(plans().entry(all).or_insert(planned).clone())
    }

    /// The network that is computed for these sizes, its gradients included. It is made anew: what runs does not need it.
    ///
    /// # Errors
    /// As [`Executable::session`].
    pub fn graph(&self, bindings: &Bindings) -> Result<Graph, Error> {
        let bound = self.0.model.bind(&self.all(bindings))?;
        requested(&bound)
    }

    /// Values of symbols, those of the options included.
    fn all(&self, bindings: &Bindings) -> Bindings {
        let mut all = self.0.options.bindings.clone();
        all.extend(bindings.iter().map(|(name, &n)| (name.clone(), n)));
        all
    }

    fn plan(&self, bindings: &Bindings) -> Result<Planned, Error> {
        let Shared { model, options, .. } = &*self.0;
        let start = Instant::now();
        let bound = model.bind(bindings)?;
        let bind = start.elapsed();
        self.check_sizes(&bound)?;
        let start = Instant::now();
        let graph = requested(&bound)?;
        let differentiate = start.elapsed();
        let known: BTreeMap<&str, &Parameter> = parameters(bound.graph()).collect();
        let source = |name: &str| known.get(name).map(|parameter| self.parameter(name, parameter)).transpose();
        let origins =
            |subject: &mut cache::Subject| self.0.weights.identify(bound.graph(), model.definition().seed, subject);
        let (executable, mut compilation) = compile::executable(&graph, options, None, source, origins)?;
        compilation.stages.insert(0, ("bind", bind));
        if !bound.definition().gradients.is_empty() {
            compilation.stages.insert(1, ("differentiate", differentiate));
        }
        Ok(Planned { executable: Arc::new(executable), compilation })
    }

    /// The weights given must have the shapes that are known only now.
    fn check_sizes(&self, bound: &Model) -> Result<(), Error> {
        let sized: BTreeMap<&str, &Parameter> = parameters(bound.graph()).collect();
        for (name, ty) in self.0.weights.types() {
            if let Some(parameter) = sized.get(name).filter(|parameter| parameter.ty != ty) {
                let fault = Diagnostic::new(format!("the parameter `{name}` does not fit these sizes"));
                let fault = fault.expected(parameter.ty.to_string()).found(ty.to_string());
                return Err(fault.help("give the sizes that the weights were trained for").into());
            }
        }
        Ok(())
    }

    /// A parameter of a bound graph. Where it is sized by symbols and none is given, it is initialised now.
    fn parameter(&self, name: &str, parameter: &Parameter) -> Result<Cow<'_, Tensor>, Diagnostic> {
        let Shared { model, weights, .. } = &*self.0;
        Ok(weights.get(name)?.unwrap_or_else(|| {
            let dims = parameter.ty.dims().expect("verified: all symbols are bound");
            Cow::Owned(initialize(parameter, &dims, name, model.definition().seed))
        }))
    }
}

/// The graph of a bound model with the gradients that it asks for.
fn requested(bound: &Model) -> Result<Graph, Error> {
    let gradients = &bound.definition().gradients;
    differentiate::requested(bound.graph().clone(), gradients).map_err(|faults| bound.fault(faults))
}

/// One user of an executable, with an arena of its own.
pub struct Session {
    session: runtime::Session,
    planned: Arc<Planned>,
}

impl Session {
    /// Runs the network: reads all inputs, writes all outputs, each in row-major order. Allocates nothing but in errors.
    ///
    /// # Errors
    /// Where inputs or outputs are not those of the plan, an index is out of range, or the run is cancelled. Outputs
    /// are then unspecified.
    pub fn run(&mut self, inputs: &[(&str, View)], outputs: &mut [(&str, ViewMut)]) -> Result<(), RunError> {
        self.session.run(inputs, outputs)
    }

    /// As [`Session::run`]; `times` gets the time of each step of the plan, as far as it is long.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn run_profiled(
        &mut self,
        inputs: &[(&str, View)],
        outputs: &mut [(&str, ViewMut)],
        times: &mut [Duration],
    ) -> Result<(), RunError> {
        self.session.run_profiled(inputs, outputs, times)
    }

    /// Runs the network on tensors and gives its outputs by name. Allocates them.
    ///
    /// # Errors
    /// Where an input is missing, unknown, or of another type or shape than the network's, and as [`Session::run`].
    pub fn run_tensors(&mut self, inputs: &[(&str, &Tensor)]) -> Result<Vec<(String, Tensor)>, Error> {
        let mut results = self
            .outputs()
            .into_iter()
            .map(|(name, ty)| {
                let dims = ty.dims().expect("plans have no symbols");
                (name, Tensor::new(&dims, Data::zeros(ty.dtype, dims.iter().product())))
            })
            .collect::<Vec<_>>();
        self.run_into(inputs, &mut results)?;
        Ok(results)
    }

    /// As [`Session::run_tensors`], into tensors that an earlier run gave.
    ///
    /// # Errors
    /// As [`Session::run_tensors`].
    pub fn run_into(&mut self, inputs: &[(&str, &Tensor)], results: &mut [(String, Tensor)]) -> Result<(), Error> {
        check_inputs("network", &self.inputs(), inputs)?;
        let views: Vec<(&str, View)> = inputs
            .iter()
            .map(|(name, tensor)| (*name, runtime::view(tensor).expect("checked: the plan has no f64")))
            .collect();
        let mut outputs: Vec<(&str, ViewMut)> =
            results.iter_mut().filter_map(|(name, tensor)| Some((name.as_str(), runtime::view_mut(tensor)?))).collect();
        Ok(self.session.run(&views, &mut outputs)?)
    }

    /// A flag that stops a run between kernels when it is set; it stays set until cleared.
    pub fn cancel_flag(&self) -> Arc<AtomicBool> {
        self.session.cancel_flag()
    }

    /// The code that it runs, and how it came to be.
    pub fn planned(&self) -> &Planned {
        &self.planned
    }

    /// The inputs by name, in order.
    pub fn inputs(&self) -> Vec<(String, TensorType)> {
        self.ports(&self.planned.executable.plan().inputs)
    }

    /// The outputs by name, in order.
    pub fn outputs(&self) -> Vec<(String, TensorType)> {
        self.ports(&self.planned.executable.plan().outputs)
    }

    fn ports(&self, ports: &[crate::ir::plan::Port]) -> Vec<(String, TensorType)> {
        let plan = self.planned.executable.plan();
        ports.iter().map(|port| (port.name.to_string(), plan.port_type(port))).collect()
    }
}

/// Whether there is memory for a session of this code, and for what it reads and writes: to find none later ends the process.
///
/// # Errors
/// Where the system does not give so much.
pub(crate) fn check_memory(executable: &runtime::Executable, threads: usize) -> Result<(), Error> {
    let plan = executable.plan();
    let scratch = plan.scratch_bytes.saturating_mul(Threads::new(threads).most.clamp(1, Threads::MOST) as u64);
    let ports = plan.inputs.iter().chain(&plan.outputs).map(|port| plan.port_type(port));
    let ports = ports.filter_map(|ty| files::size(&ty.dims()?, ty.dtype.bytes())).map(|(_, bytes)| bytes as u64);
    let bytes = ports.fold(plan.arena_bytes.saturating_add(scratch), u64::saturating_add);
    match usize::try_from(bytes).is_ok_and(AlignedBytes::are_available) {
        true => Ok(()),
        false => Err(Diagnostic::new("the network needs more memory than there is")
            .found(format!("{bytes} bytes for its inputs, outputs and what lies between"))
            .help("take a smaller batch")
            .into()),
    }
}

/// Holds inputs to those that are wanted; `what` takes them.
pub(crate) fn check_inputs(
    what: &str,
    wanted: &[(String, TensorType)],
    inputs: &[(&str, &Tensor)],
) -> Result<(), Error> {
    let mut faults = Diagnostics::default();
    for (name, ty) in wanted {
        match inputs.iter().find(|(given, _)| given == name) {
            None => faults.push(Diagnostic::new(format!("the input `{name}` is missing")).expected(ty.to_string())),
            Some((_, tensor)) if tensor.tensor_type() != *ty => faults.push(
                Diagnostic::new(format!("the input `{name}` does not fit"))
                    .expected(ty.to_string())
                    .found(tensor.tensor_type().to_string()),
            ),
            Some(_) => {}
        }
    }
    for (name, _) in inputs.iter().filter(|(name, _)| wanted.iter().all(|(known, _)| known != name)) {
        let known: Vec<&str> = wanted.iter().map(|(name, _)| name.as_str()).collect();
        let fault = Diagnostic::new(format!("the {what} has no input `{name}`"));
        faults.push(fault.expected(format!("`{}`", known.join("`, `"))));
    }
    for (i, (name, _)) in inputs.iter().enumerate() {
        if inputs[..i].iter().any(|(other, _)| other == name) {
            faults.push(Diagnostic::new(format!("the input `{name}` is given twice")));
        }
    }
    Ok(faults.into_result()?)
}

/// The results of the reference evaluator, in f64, for the same inputs and parameters: slow, and right.
///
/// # Errors
/// Where the symbols of the model cannot be bound.
pub fn reference(
    executable: &Executable,
    bindings: &Bindings,
    inputs: &[(&str, &Tensor)],
) -> Result<Vec<(String, Array)>, Error> {
    let graph = executable.graph(bindings)?;
    let mut given: BTreeMap<String, Array> = BTreeMap::new();
    for (name, parameter) in parameters(&graph) {
        given.insert(name.to_string(), executable.parameter(name, parameter)?.to_array());
    }
    given.extend(inputs.iter().map(|(name, tensor)| (name.to_string(), tensor.to_array())));
    Ok(crate::ir::evaluate::evaluate(&graph, &given))
}

const fn shared_between_threads<T: Send + Sync>() {}
const _: () = shared_between_threads::<Executable>();
