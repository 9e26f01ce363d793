//! A network as it is timed: [`Session::run`] on slices that were there before; outputs are written where they were
//! written last.

use super::Bench;
use super::runner::Subject;
use crate::commands::arguments::{bind_shape, default_batch, inputs, named, narrowed};
use crate::commands::output::Failure;
use fusewright::data::npy;
use fusewright::ir::ops::{Initializer, Parameter, Real};
use fusewright::ir::plan::Outline;
use fusewright::ir::{Bindings, Tensor, TensorType};
use fusewright::runtime::{View, ViewMut, view, view_mut};
use fusewright::{Compilation, Error, Model, Options, Session, initialize};
use std::time::Duration;

/// What both forms have in common.
pub struct Prepared {
    model: Model,
    bindings: Bindings,
    given: Vec<(String, Tensor)>,
}

impl Prepared {
    pub fn new(bench: &Bench) -> Result<Prepared, Failure> {
        let model = Model::load(&bench.model.model)?;
        let mut bindings = bench.model.bindings(bench.batch)?;
        let mut given = Vec::new();
        let known = inputs(&model);
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        for (name, path) in named(&bench.input, &names, "input")? {
            let (_, ty) = known.iter().find(|(known, _)| *known == name).expect("named inputs were checked");
            let tensor = narrowed(npy::read(&path)?, ty);
            bind_shape(ty, tensor.dims(), &mut bindings);
            given.push((name, tensor));
        }
        default_batch(&model, &mut bindings);
        Ok(Prepared { model, bindings, given })
    }

    pub fn session(&self, options: Options) -> Result<Run, Error> {
        let mut session = self.model.compile(options)?.session(&self.bindings)?;
        let input = |(name, ty): (String, TensorType)| {
            let given = self.given.iter().find(|(known, _)| *known == name).map(|(_, tensor)| tensor.clone());
            let tensor = given.unwrap_or_else(|| random(&name, &ty));
            (name, tensor)
        };
        let inputs: Vec<(String, Tensor)> = session.inputs().into_iter().map(input).collect();
        let given: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let outputs = session.run_tensors(&given)?;
        Ok(Run { session, inputs, outputs })
    }
}

/// A session with inputs.
pub struct Run {
    session: Session,
    inputs: Vec<(String, Tensor)>,
    outputs: Vec<(String, Tensor)>,
}

impl Subject for Run {
    const RESULTS: &'static str = "outputs";

    fn run(&mut self, times: &mut [Duration]) -> Result<(), Error> {
        let Run { session, inputs, outputs } = self;
        let inputs: Vec<(&str, View)> =
            inputs.iter().filter_map(|(name, tensor)| Some((name.as_str(), view(tensor)?))).collect();
        let mut outputs: Vec<(&str, ViewMut)> =
            outputs.iter_mut().filter_map(|(name, tensor)| Some((name.as_str(), view_mut(tensor)?))).collect();
        Ok(session.run_profiled(&inputs, &mut outputs, times)?)
    }

    fn results(&self) -> &[(String, Tensor)] {
        &self.outputs
    }

    fn losses(&self) -> &[f32] {
        &[]
    }

    fn state_bytes(&self) -> Option<u64> {
        None
    }

    fn plan(&self) -> &Outline {
        self.session.planned().executable.plan()
    }

    fn code_bytes(&self) -> usize {
        self.session.planned().executable.code_bytes()
    }

    fn compilation(&self) -> &Compilation {
        &self.session.planned().compilation
    }
}

/// Numbers from 0 to 1, which are 0 for integers: an index that every table has.
pub fn random(name: &str, ty: &TensorType) -> Tensor {
    let init = Initializer::Uniform { low: Real(0.0), high: Real(1.0) };
    let dims = ty.dims().expect("plans have no symbols");
    initialize(&Parameter { ty: ty.clone(), init, trainable: false, is_state: false }, &dims, name, 0)
}
