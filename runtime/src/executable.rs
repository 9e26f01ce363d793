//! A plan as machine code with its constants.

use crate::code::{Code, Entry};
use crate::codegen::{Generator, Listing, recipe};
use crate::cut::Cut;
use crate::float_mode::Flushing;
use crate::isa::Isa;
use crate::memory::{ALIGNMENT, AlignedBytes};
use fusewright_ir::kernel::BufferId;
use fusewright_ir::plan::{Place, Plan, Port, Step};
use fusewright_ir::tensor::Tensor;
use std::fmt;

/// Machine code and constants: shared by any number of sessions on any number of threads.
pub struct Executable {
    pub(crate) plan: Plan,
    pub(crate) steps: Vec<CompiledStep>,
    pub(crate) constants: AlignedBytes,
    code_bytes: usize,
    listings: Vec<Listing>,
    // Dropped last: entries point into it.
    _code: Code,
}

/// One step as the runtime runs it.
#[derive(Debug)]
pub(crate) struct CompiledStep {
    pub entry: Entry,
    /// The buffers in the order of the nest's slots.
    pub buffers: Vec<BufferId>,
    /// How it is shared between threads.
    pub cut: Cut,
}

/// How code is made.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The vectors of inner bodies. The plan should be made for a machine that has them.
    pub isa: Isa,
    /// Whether Cranelift checks its input: for tests.
    pub verify: bool,
    /// Whether the Cranelift IR and the assembly of each nest are kept.
    pub listings: bool,
}

impl Default for Settings {
    /// The widest vectors of this machine, and no checks.
    fn default() -> Settings {
        Settings { isa: Isa::detect(), verify: false, listings: false }
    }
}

/// Why no executable could be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompileError {
    /// The machine is not supported, or code memory ran out: what Cranelift says.
    Code(String),
    /// A parameter is missing or has the wrong type.
    Parameter {
        /// Its name.
        name: String,
        /// What is wrong.
        problem: String,
    },
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CompileError::Code(problem) => write!(f, "code generation: {problem}"),
            CompileError::Parameter { name, problem } => write!(f, "parameter `{name}`: {problem}"),
        }
    }
}

impl std::error::Error for CompileError {}

impl Executable {
    /// Emits the code of `plan`, and runs its setup over the parameters, which `parameter` finds by name.
    ///
    /// # Errors
    /// Where the machine is not supported, or a parameter is missing or of another type than the plan's.
    pub fn new<'a>(
        plan: Plan,
        settings: Settings,
        parameter: impl Fn(&str) -> Option<&'a Tensor>,
    ) -> Result<Executable, CompileError> {
        let mut generator =
            Generator::new(settings.isa, settings.verify, settings.listings).map_err(CompileError::Code)?;
        let mut generate = |steps: &[Step]| -> Result<Vec<_>, String> {
            steps
                .iter()
                .map(|step| {
                    let (recipe, buffers) = recipe(&plan, step);
                    Ok((generator.nest(recipe)?, buffers, Cut::new(&plan, step)))
                })
                .collect()
        };
        let setup = generate(&plan.setup).map_err(CompileError::Code)?;
        let steps = generate(&plan.steps).map_err(CompileError::Code)?;
        let (code_bytes, listings) = (generator.code_bytes(), std::mem::take(&mut generator.listings));
        let code = Code::new(generator.finish().map_err(CompileError::Code)?);
        let compiled = |all: Vec<(_, Vec<BufferId>, Cut)>| -> Vec<CompiledStep> {
            all.into_iter().map(|(id, buffers, cut)| CompiledStep { entry: code.entry(id), buffers, cut }).collect()
        };
        let (setup, steps) = (compiled(setup), compiled(steps));

        let mut constants = AlignedBytes::zeroed(plan.constant_bytes as usize);
        let mut sources = vec![std::ptr::null_mut(); plan.parameters.len()];
        for (i, port) in plan.parameters.iter().enumerate() {
            let tensor = checked(&plan, port, parameter(&port.name))?;
            match plan.buffer(port.buffer).place {
                Place::Constant(offset) => constants.write(offset as usize, &tensor.data().to_bytes()),
                _ => sources[i] = tensor.data().as_ptr().cast_mut(),
            }
        }
        for buffer in &plan.buffers {
            if let Place::Literal(offset, tensor) = &buffer.place {
                constants.write(*offset as usize, &tensor.data().to_bytes());
            }
        }
        let executable = Executable { plan, steps, constants, code_bytes, listings, _code: code };
        executable.run_setup(&setup, &sources);
        Ok(executable)
    }

    fn run_setup(&self, setup: &[CompiledStep], sources: &[*mut u8]) {
        let _flushing = Flushing::begin();
        for step in setup {
            let pointers: Vec<*mut u8> = step
                .buffers
                .iter()
                .map(|&id| match self.plan.buffer(id).place {
                    Place::Parameter(i) => sources[i],
                    Place::Constant(offset) | Place::Literal(offset, _) => {
                        self.constants.as_mut_ptr().wrapping_add(offset as usize)
                    }
                    _ => unreachable!("verified: setup uses parameters and constants only"),
                })
                .collect();
            // SAFETY: the pointers are those of the step's buffers: sources were checked to have the planned type and
            // are only read, constants hold `constant_bytes`, in which the planner placed every constant. Nobody else
            // knows `self` yet.
            let status = unsafe { step.entry.call(&pointers, std::ptr::null_mut(), step.cut.whole()) };
            assert_eq!(status, 0, "setup computes no indices");
        }
    }

    /// The plan it was made from.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Bytes of machine code.
    pub fn code_bytes(&self) -> usize {
        self.code_bytes
    }

    /// What was emitted, nest by nest, where the settings asked for it.
    pub fn listings(&self) -> &[Listing] {
        &self.listings
    }
}

fn checked<'a>(plan: &Plan, port: &Port, tensor: Option<&'a Tensor>) -> Result<&'a Tensor, CompileError> {
    let buffer = plan.buffer(port.buffer);
    let problem = match tensor {
        None => "is missing".to_string(),
        Some(tensor) if tensor.dtype() != buffer.dtype || tensor.dims() != buffer.dims => {
            format!("expected {}{:?}, found {}{:?}", buffer.dtype, buffer.dims, tensor.dtype(), tensor.dims())
        }
        Some(tensor) => return Ok(tensor),
    };
    Err(CompileError::Parameter { name: port.name.clone(), problem })
}

const _: () = assert!(ALIGNMENT.is_power_of_two());

const fn shared_between_threads<T: Send + Sync>() {}
const _: () = shared_between_threads::<Executable>();
