//! A plan as machine code with its constants.

use crate::code::{Code, Entry};
use crate::codegen::{Generator, Listing, recipe};
use crate::cut::Cut;
use crate::float_mode::Flushing;
use crate::image::Image;
use crate::isa::Isa;
use crate::memory::{ALIGNMENT, AlignedBytes, STACK, give_back_all};
use fusewright_ir::diagnostic::Diagnostic;
use fusewright_ir::kernel::BufferId;
use fusewright_ir::plan::{Outline, Place, Plan, Port, Step};
use fusewright_ir::tensor::Tensor;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::fmt;
use std::panic::resume_unwind;
use std::thread;

/// Machine code and constants: shared by any number of sessions on any number of threads.
pub struct Executable {
    pub(crate) plan: Box<Outline>,
    pub(crate) steps: Vec<CompiledStep>,
    pub(crate) constants: AlignedBytes,
    pub(crate) code_bytes: usize,
    pub(crate) listings: Vec<Listing>,
    // Dropped last: entries point into it.
    pub(crate) code: Code,
}

/// One step as the runtime runs it.
#[derive(Clone, Debug)]
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
    /// A parameter could not be read.
    Source(Box<Diagnostic>),
    /// The system does not have so many bytes for parameters and constants.
    Memory(u64),
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CompileError::Code(problem) => write!(f, "code generation: {problem}"),
            CompileError::Parameter { name, problem } => write!(f, "parameter `{name}`: {problem}"),
            CompileError::Source(fault) => write!(f, "{}", fault.title),
            CompileError::Memory(bytes) => write!(f, "parameters and constants of {bytes} bytes do not fit in memory"),
        }
    }
}

impl From<Diagnostic> for CompileError {
    fn from(fault: Diagnostic) -> CompileError {
        CompileError::Source(Box::new(fault))
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
        parameter: impl Fn(&str) -> Option<&'a Tensor> + Sync,
    ) -> Result<Executable, CompileError> {
        Executable::with_source(plan, settings, |name| Ok(parameter(name).map(Cow::Borrowed)))
    }

    /// As [`Executable::new`], for parameters that may have to be read first: each that the setup needs is asked for once,
    /// just before its first use, and dropped after its last.
    ///
    /// # Errors
    /// As [`Executable::new`], and what `parameter` says.
    pub fn with_source<'a>(
        plan: Plan,
        settings: Settings,
        parameter: impl Fn(&str) -> Result<Option<Cow<'a, Tensor>>, Diagnostic> + Sync,
    ) -> Result<Executable, CompileError> {
        Ok(make(plan, settings, parameter, false)?.0)
    }

    /// As [`Executable::with_source`], with what [`Image::write`] needs.
    ///
    /// # Errors
    /// As [`Executable::with_source`].
    pub fn with_image<'a>(
        plan: Plan,
        settings: Settings,
        parameter: impl Fn(&str) -> Result<Option<Cow<'a, Tensor>>, Diagnostic> + Sync,
    ) -> Result<(Executable, Image), CompileError> {
        let (executable, image) = make(plan, settings, parameter, true)?;
        Ok((executable, image.expect("it was asked for")))
    }

    /// The same with its tables in memory of the calling thread, and those that it had, to be dropped by another.
    pub fn settled(self) -> (Executable, impl Send) {
        let Executable { plan, steps, constants, code_bytes, listings, code } = self;
        let (own_plan, own_steps, own_listings) = (plan.clone(), steps.clone(), listings.clone());
        let own = Executable { plan: own_plan, steps: own_steps, constants, code_bytes, listings: own_listings, code };
        (own, (plan, steps, listings))
    }

    /// The plan it was made from, without the loops.
    pub fn plan(&self) -> &Outline {
        &self.plan
    }

    /// Bytes of machine code.
    pub fn code_bytes(&self) -> usize {
        self.code_bytes
    }

    /// What was emitted for each step of the setup, and then of a run, where the settings asked for it.
    pub fn listings(&self) -> &[Listing] {
        &self.listings
    }
}

/// Emits the code of the steps, and of the setup, which is run. A setup of some size is made by a thread of its own beside the steps: it
/// moves memory for as long as the other computes.
fn make<'a>(
    plan: Plan,
    settings: Settings,
    parameter: impl Fn(&str) -> Result<Option<Cow<'a, Tensor>>, Diagnostic> + Sync,
    keep_image: bool,
) -> Result<(Executable, Option<Image>), CompileError> {
    if !AlignedBytes::are_available(plan.constant_bytes as usize) {
        return Err(CompileError::Memory(plan.constant_bytes));
    }
    let find = |port: &Port| checked(&plan, port, parameter(&port.name)?);
    let set_up = || constants(&plan, settings, find);
    let emit = || Emitted::of(&plan, &plan.steps, settings, keep_image).map_err(CompileError::Code);
    let is_worth = plan.constant_bytes >= WORTH_A_THREAD && thread::available_parallelism().is_ok_and(|n| n.get() > 1);
    let (emitted, made) = match is_worth {
        false => (emit()?, set_up()),
        true => thread::scope(|scope| {
            let beside = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, set_up);
            let emitted = emit()?;
            let made =
                beside.map_or_else(|_| set_up(), |thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
            // Weights that were read are free, but it was that thread's memory.
            give_back_all();
            Ok::<_, CompileError>((emitted, made))
        })?,
    };
    let (constants, mut listings) = made?;
    let Emitted { mut steps, code, code_bytes, listings: own, image } = emitted;
    listings.extend(own);
    let (outline, numbers) = plan.outline();
    steps.iter_mut().flat_map(|step| &mut step.buffers).for_each(|buffer| *buffer = numbers[buffer]);
    Ok((Executable { plan: outline.into(), steps, constants, code_bytes, listings, code }, image))
}

/// Constants of so many bytes take longer to make than a thread.
const WORTH_A_THREAD: u64 = 1 << 20;

/// Steps as machine code.
struct Emitted {
    steps: Vec<CompiledStep>,
    code: Code,
    code_bytes: usize,
    listings: Vec<Listing>,
    image: Option<Image>,
}

impl Emitted {
    fn of(plan: &Plan, steps: &[Step], settings: Settings, keep_image: bool) -> Result<Emitted, String> {
        let Settings { isa, verify, listings } = settings;
        let mut generator = Generator::new(isa, verify, listings, keep_image)?;
        let mut emitted = Vec::with_capacity(steps.len());
        for step in steps {
            let (recipe, buffers) = recipe(plan, step);
            emitted.push((generator.nest(recipe)?, buffers, Cut::new(plan, step)));
        }
        let (code_bytes, listings) = (generator.code_bytes(), std::mem::take(&mut generator.listings));
        let nests = || emitted.iter().map(|(id, ..)| id.as_u32()).collect();
        let image = generator.take_image().map(|code| Image { code, nests: nests() });
        let (code, entries) = generator.finish(emitted.iter().map(|(id, ..)| *id))?;
        let all = emitted.into_iter().zip(entries);
        let steps = all.map(|((_, buffers, cut), entry)| CompiledStep { entry, buffers, cut }).collect();
        Ok(Emitted { steps, code, code_bytes, listings, image })
    }
}

/// The constants of a plan, and what was emitted to make them. The code is dropped with its last use.
fn constants<'a>(
    plan: &Plan,
    settings: Settings,
    find: impl Fn(&Port) -> Result<Cow<'a, Tensor>, CompileError>,
) -> Result<(AlignedBytes, Vec<Listing>), CompileError> {
    let mut constants = AlignedBytes::zeroed(plan.constant_bytes as usize);
    for port in &plan.parameters {
        if let Place::Constant(offset) = plan.buffer(port.buffer).place {
            constants.write(offset as usize, find(port)?.data());
        }
    }
    for buffer in &plan.buffers {
        if let Place::Literal(offset, tensor) = &buffer.place {
            constants.write(*offset as usize, tensor.data());
        }
    }
    if plan.setup.is_empty() {
        return Ok((constants, Vec::new()));
    }
    let setup = Emitted::of(plan, &plan.setup, settings, false).map_err(CompileError::Code)?;
    run_setup(plan, &setup.steps, &constants, find)?;
    Ok((constants, setup.listings))
}

/// Runs the steps of the setup, each as soon as `find` has given the parameters that it reads.
fn run_setup<'a>(
    plan: &Plan,
    setup: &[CompiledStep],
    constants: &AlignedBytes,
    find: impl Fn(&Port) -> Result<Cow<'a, Tensor>, CompileError>,
) -> Result<(), CompileError> {
    let sources = |step: &CompiledStep| -> Vec<usize> {
        let source = |id: &BufferId| match plan.buffer(*id).place {
            Place::Parameter(i) => Some(i),
            _ => None,
        };
        step.buffers.iter().filter_map(source).collect()
    };
    let mut last_uses = vec![0; plan.parameters.len()];
    for (i, step) in setup.iter().enumerate() {
        for source in sources(step) {
            last_uses[source] = i;
        }
    }
    let mut held: BTreeMap<usize, Cow<Tensor>> = BTreeMap::new();
    for (i, step) in setup.iter().enumerate() {
        for source in sources(step) {
            if let Slot::Vacant(place) = held.entry(source) {
                place.insert(find(&plan.parameters[source])?);
            }
        }
        let pointers: Vec<*mut u8> = step
            .buffers
            .iter()
            .map(|&id| match plan.buffer(id).place {
                Place::Parameter(source) => held[&source].data().as_ptr().cast_mut(),
                Place::Constant(offset) | Place::Literal(offset, _) => {
                    constants.as_mut_ptr().wrapping_add(offset as usize)
                }
                _ => unreachable!("verified: setup uses parameters and constants only"),
            })
            .collect();
        let flushing = Flushing::begin();
        // SAFETY: the pointers are those of the step's buffers: sources are held, were checked to have the planned type
        // and are only read, constants hold `constant_bytes`, in which the planner placed every constant. Nobody else
        // knows them yet.
        let status = unsafe { step.entry.call(&pointers, std::ptr::null_mut(), step.cut.whole()) };
        // Sources are made with the caller's floats.
        drop(flushing);
        assert_eq!(status, 0, "setup computes no indices");
        held.retain(|&source, _| last_uses[source] > i);
    }
    Ok(())
}

fn checked<'a>(plan: &Plan, port: &Port, tensor: Option<Cow<'a, Tensor>>) -> Result<Cow<'a, Tensor>, CompileError> {
    let buffer = plan.buffer(port.buffer);
    let problem = match tensor {
        None => "is missing".to_string(),
        Some(tensor) if tensor.dtype() != buffer.dtype || tensor.dims() != buffer.dims => {
            format!("expected {}{:?}, found {}{:?}", buffer.dtype, buffer.dims, tensor.dtype(), tensor.dims())
        }
        Some(tensor) => return Ok(tensor),
    };
    Err(CompileError::Parameter { name: port.name.to_string(), problem })
}

const _: () = assert!(ALIGNMENT.is_power_of_two());

const fn shared_between_threads<T: Send + Sync>() {}
const _: () = shared_between_threads::<Executable>();
