//! Running an executable: one arena, any number of runs, no allocation in any of them.

use crate::executable::Executable;
use crate::memory::AlignedBytes;
use crate::view::{View, ViewMut};
use fusewright_ir::plan::{Place, Port};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The state of one user of an executable.
pub struct Session {
    executable: Arc<Executable>,
    arena: AlignedBytes,
    inputs: Vec<*mut u8>,
    outputs: Vec<*mut u8>,
    pointers: Vec<*mut u8>,
    cancelled: Arc<AtomicBool>,
}

// SAFETY: the raw pointers are only meaningful during `run`, which has `&mut self`.
unsafe impl Send for Session {}

/// Why a run did not finish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunError {
    /// An input or output is missing, unknown, or has another type than the plan's.
    Port {
        /// Its name.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// An index that a kernel computed is out of range.
    Index {
        /// The graph nodes of the kernel.
        nodes: Vec<String>,
    },
    /// The cancel flag was set.
    Cancelled,
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Port { name, problem } => write!(f, "`{name}`: {problem}"),
            RunError::Index { nodes } => write!(f, "`{}`: an index is out of range", nodes.join(" ")),
            RunError::Cancelled => write!(f, "cancelled"),
        }
    }
}

impl std::error::Error for RunError {}

impl Session {
    /// A session with an arena of its own.
    pub fn new(executable: Arc<Executable>) -> Session {
        let plan = executable.plan();
        let arena = AlignedBytes::zeroed(plan.arena_bytes as usize);
        let widest = executable.steps.iter().map(|step| step.buffers.len()).max().unwrap_or(0);
        let (inputs, outputs) = (plan.inputs.len(), plan.outputs.len());
        Session {
            arena,
            inputs: vec![std::ptr::null_mut(); inputs],
            outputs: vec![std::ptr::null_mut(); outputs],
            pointers: Vec::with_capacity(widest),
            cancelled: Arc::new(AtomicBool::new(false)),
            executable,
        }
    }

    /// The executable it runs.
    pub fn executable(&self) -> &Arc<Executable> {
        &self.executable
    }

    /// A flag that stops a run between kernels when it is set; it stays set until cleared.
    pub fn cancel_flag(&self) -> Arc<AtomicBool> {
        self.cancelled.clone()
    }

    /// Runs the network: reads all inputs, writes all outputs. Allocates nothing but in errors.
    ///
    /// # Errors
    /// Where inputs or outputs are not those of the plan, an index is out of range, or the run is cancelled. Outputs
    /// are then unspecified.
    pub fn run(&mut self, inputs: &[(&str, View)], outputs: &mut [(&str, ViewMut)]) -> Result<(), RunError> {
        self.run_profiled(inputs, outputs, &mut [])
    }

    /// As [`Session::run`]; `times` gets the time of each step, as far as it is long.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn run_profiled(
        &mut self,
        inputs: &[(&str, View)],
        outputs: &mut [(&str, ViewMut)],
        times: &mut [Duration],
    ) -> Result<(), RunError> {
        let plan = self.executable.plan();
        for (i, port) in plan.inputs.iter().enumerate() {
            let Some((_, view)) = inputs.iter().find(|(name, _)| *name == port.name) else {
                return Err(wrong(port, "the input is missing"));
            };
            check(plan, port, view.dtype(), view.len())?;
            self.inputs[i] = view.as_ptr().cast_mut();
        }
        for (i, port) in plan.outputs.iter().enumerate() {
            let Some((_, view)) = outputs.iter_mut().find(|(name, _)| *name == port.name) else {
                return Err(wrong(port, "the output is missing"));
            };
            check(plan, port, view.dtype(), view.len())?;
            self.outputs[i] = view.as_mut_ptr();
        }
        for (i, (step, compiled)) in plan.steps.iter().zip(&self.executable.steps).enumerate() {
            if self.cancelled.load(Ordering::Relaxed) {
                return Err(RunError::Cancelled);
            }
            self.pointers.clear();
            for &id in &compiled.buffers {
                self.pointers.push(match plan.buffer(id).place {
                    Place::Input(i) => self.inputs[i],
                    Place::Output(i) => self.outputs[i],
                    Place::Arena(offset) => self.arena.as_mut_ptr().wrapping_add(offset as usize),
                    Place::Constant(offset) | Place::Literal(offset, _) => {
                        self.executable.constants.as_mut_ptr().wrapping_add(offset as usize)
                    }
                    Place::Parameter(_) | Place::Unused => {
                        unreachable!("verified: steps use placed buffers only")
                    }
                });
            }
            let start = times.get(i).map(|_| Instant::now());
            // SAFETY: the pointers are those of the step's buffers in slot order. Inputs and outputs were just checked
            // to have the planned type and length and are borrowed for the whole call; arena and constants hold the
            // bytes of the plan, which was verified to keep live buffers apart; constants and inputs are never written
            // by steps. The executable, and so the code, is alive.
            let status = unsafe { compiled.entry.call(&self.pointers, std::ptr::null_mut(), 0..compiled.extent) };
            if status != 0 {
                return Err(RunError::Index { nodes: step.nodes.clone() });
            }
            if let (Some(time), Some(start)) = (times.get_mut(i), start) {
                *time = start.elapsed();
            }
        }
        Ok(())
    }
}

fn check(
    plan: &fusewright_ir::plan::Plan,
    port: &Port,
    dtype: fusewright_ir::DType,
    len: usize,
) -> Result<(), RunError> {
    let buffer = plan.buffer(port.buffer);
    let elements: usize = buffer.dims.iter().product();
    if dtype == buffer.dtype && len == elements {
        return Ok(());
    }
    let expected = format!("{} {} elements {:?}", elements, buffer.dtype, buffer.dims);
    Err(wrong(port, &format!("expected {expected}, found {len} {dtype} elements")))
}

fn wrong(port: &Port, problem: &str) -> RunError {
    RunError::Port { name: port.name.clone(), problem: problem.to_string() }
}
