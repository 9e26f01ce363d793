//! From a graph to a plan: the passes in order, each timed. The only page that calls them.

use crate::cache;
use crate::error::Error;
use crate::ir::kernel::Program;
use crate::ir::plan::{Outline, Plan};
use crate::ir::{Bindings, Diagnostic, Graph, Tensor};
use crate::model::Model;
use crate::passes::fuse::{Decision, fuse};
use crate::passes::lower::lower;
use crate::passes::pipeline;
use crate::passes::plan::{Machine, MemoryFloor, PlanOptions, Ways, Winograd, plan_beside};
use crate::runtime::{self, Isa, Settings};
use crate::tune;
use crate::weights::Weights;
use std::borrow::Cow;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How a model is compiled.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether kernels are joined. Without, every operation is a kernel of its own, planned and emitted in the same way.
    pub fuse: bool,
    /// The parameters. `None` takes the file that the model names, or the model's initialisers and seed where it names
    /// none.
    pub weights: Option<Weights>,
    /// Values for symbols; sessions may give the others.
    pub bindings: Bindings,
    /// Whether sums are computed as they are written. Else convolutions whose transforms (Winograd's) are faster, and about
    /// as accurate, are computed so; values that are not finite then spread over a tile of the image.
    pub exact: bool,
    /// Bytes of parameters and constants that faster ways to compute may take in all: transformed weights are larger.
    pub constant_limit: Option<u64>,
    /// Bytes of the arena of each session. What does not fit is computed again where it is needed, with the same results bit
    /// by bit; where that does not help enough, compiling fails and says what the least is.
    pub memory_limit: Option<u64>,
    /// A file of measured convolutions: those that it lacks for this machine are measured when a model is compiled, and added
    /// to it. Without, and for [`Options::exact`], which way to compute one is estimated.
    pub tuning: Option<PathBuf>,
    /// A folder of executables, made where there is none: what was compiled before, by this build of this program for the same
    /// network, sizes, options and parameters, is loaded; what is new is compiled and put there. A weights file counts as the
    /// same while its path, length and time of modification are; of one that was written in the last two seconds nothing is put
    /// there yet, as its next change may have the same time. What is damaged, or was left by another version or processor,
    /// is made anew.
    ///
    /// The folder holds machine code that will be executed: it is trusted like the program itself, and nobody else should be
    /// able to write to it. Nothing is ever removed from it; any file of it may be, at any time. Where [`Options::verify`],
    /// [`Options::listings`], [`Options::details`] or [`Options::dumps`] ask for what a file does not hold, all is compiled,
    /// and put there.
    pub cache: Option<PathBuf>,
    /// The vectors of inner bodies; the widest that this machine has by default.
    pub isa: Isa,
    /// The most threads that a run uses, its caller's included. Results are the same bits for any number. The process has
    /// one pool of helpers, which take part in one run at a time: a session that finds them with another runs on its
    /// caller's thread alone, and so do steps too short to be worth sharing.
    pub threads: usize,
    /// How many microseconds helpers wait for the next run, keeping their cores busy, before they sleep; 0 for none.
    pub spin: u64,
    /// Whether every stage's result and Cranelift's input are checked: for tests.
    pub verify: bool,
    /// Whether the Cranelift IR and the assembly are kept for reading.
    pub listings: bool,
    /// Whether what compiling went through is kept for reading, [`Compilation::details`]: several times the memory that a
    /// small network takes.
    pub details: bool,
    /// Whether the stages in between are kept as text: [`Compilation::dumps`].
    pub dumps: bool,
}

impl Default for Options {
    /// Fused, on one thread.
    fn default() -> Options {
        Options {
            fuse: true,
            weights: None,
            bindings: Bindings::new(),
            exact: false,
            constant_limit: None,
            memory_limit: None,
            tuning: None,
            cache: None,
            isa: Isa::detect(),
            threads: 1,
            spin: 50,
            verify: false,
            listings: false,
            details: false,
            dumps: false,
        }
    }
}

/// What compiling found out, for people and tools.
#[derive(Clone, Debug)]
pub struct Compilation {
    /// What it went through, where [`Options::details`] asked for it.
    pub details: Option<Box<Details>>,
    /// How long each stage took; those of the passes and of code generation are one, `load`, for what [`Options::cache`] held.
    pub stages: Vec<(&'static str, Duration)>,
    /// The state after each pass: its name and a text.
    pub dumps: Vec<(&'static str, String)>,
}

/// What a graph becomes on its way to a plan.
#[derive(Clone, Debug)]
pub struct Details {
    /// The graph after all passes over graphs.
    pub optimised: Graph,
    /// What was fused, what was not, and why.
    pub decisions: Vec<Decision>,
    /// The kernels.
    pub program: Program,
    /// The plan.
    pub plan: Plan,
}

/// The names of all passes whose results [`Compilation::dumps`] holds, in order.
pub fn pass_names() -> Vec<&'static str> {
    pipeline::PIPELINE.iter().map(|pass| pass.name).chain(["lower", "fuse"]).collect()
}

/// The executable of a graph without symbols, from the cache or compiled; its state, if any, lies as in the plan `beside` it.
/// `parameter` gives parameters, and `origins` says where they come from.
///
/// # Errors
/// Where the memory limit is below what is needed, a file cannot be read or written, or the machine is not supported.
pub(crate) fn executable<'a>(
    graph: &Graph,
    options: &Options,
    beside: Option<&Outline>,
    parameter: impl Fn(&str) -> Result<Option<Cow<'a, Tensor>>, Diagnostic> + Sync,
    origins: impl Fn(&mut cache::Subject) -> io::Result<()>,
) -> Result<(runtime::Executable, Compilation), Error> {
    let made = made(graph, options, beside, parameter, origins)?;
    runtime::give_back();
    Ok(made)
}

/// As [`executable`], of a graph whose parameters are all state, made and compiled [`runtime::apart`]: nothing is left behind but
/// the result. `then` does something with executable and graph on that thread, too.
///
/// # Errors
/// As [`executable`], and what `graph` and `then` say.
pub(crate) fn apart(
    graph: impl FnOnce() -> Result<Graph, Error> + Send,
    options: &Options,
    beside: Option<&Outline>,
    then: impl FnOnce(&runtime::Executable, &Graph) -> Result<(), Error> + Send,
) -> Result<(runtime::Executable, Compilation), Error> {
    let make = || -> Result<_, Error> {
        let graph = graph()?;
        let (executable, compilation) = made(&graph, options, beside, |_| Ok(None), |_| Ok(()))?;
        then(&executable, &graph)?;
        Ok((executable, compilation))
    };
    let settle = |(executable, compilation): (runtime::Executable, Compilation)| {
        let (executable, left) = executable.settled();
        ((executable, compilation.clone()), (left, compilation))
    };
    let made = runtime::apart(make, settle);
    made.map_err(|error| Error::Internal(format!("no thread to compile on: {error}")))?
}

/// The executable, and an image of it where one is asked for, but where it was in the cache.
fn made<'a>(
    graph: &Graph,
    options: &Options,
    beside: Option<&Outline>,
    parameter: impl Fn(&str) -> Result<Option<Cow<'a, Tensor>>, Diagnostic> + Sync,
    origins: impl Fn(&mut cache::Subject) -> io::Result<()>,
) -> Result<(runtime::Executable, Compilation), Error> {
    let begun = Instant::now();
    let entry = || {
        let folder = options.cache.as_ref();
        folder.map(|folder| cache::Entry::new(folder, graph, options, beside, &origins)).transpose()
    };
    let mut place = entry()?;
    if let Some(place) = &place {
        let is_enough = !(options.verify || options.listings || options.details || options.dumps);
        if let Some(executable) = is_enough.then(|| place.load()).flatten() {
            let stages = vec![("load", begun.elapsed())];
            return Ok((executable, Compilation { details: None, stages, dumps: Vec::new() }));
        }
        place.check_writable()?;
    }
    let (mut compilation, plan) = compile_graph(graph, options, beside)?;
    let settings = Settings { isa: options.isa, verify: options.verify, listings: options.listings };
    if options.tuning.is_some() {
        // More is known than before.
        place = entry()?;
    }
    let (executable, image) = timed(&mut compilation.stages, "generate", || match place.is_some() {
        false => Ok((runtime::Executable::with_source(plan, settings, parameter)?, None)),
        true => runtime::Executable::with_image(plan, settings, parameter).map(|(made, image)| (made, Some(image))),
    })?;
    if let (Some(place), Some(image)) = (&place, &image) {
        timed(&mut compilation.stages, "keep", || place.keep(&executable, image))?;
    }
    Ok((executable, compilation))
}

/// The kernels and the plan of a graph without symbols; its state, if any, lies as in the plan `beside` it.
///
/// # Errors
/// Where the memory limit is below what is needed.
pub(crate) fn compile_graph(
    graph: &Graph,
    options: &Options,
    beside: Option<&Outline>,
) -> Result<(Compilation, Plan), Error> {
    let mut stages = Vec::new();
    let mut dumps = Vec::new();
    let optimised = timed(&mut stages, "optimise", || {
        let mut optimised = graph.clone();
        pipeline::run(&mut optimised, &mut |pass, changed, graph| {
            if options.dumps {
                let note = if changed { "" } else { "(unchanged)\n" };
                dumps.push((pass.name, format!("{note}{graph}")));
            }
        });
        optimised
    });
    let mut program = timed(&mut stages, "lower", || lower(&optimised));
    if options.dumps {
        dumps.push(("lower", program.to_string()));
    }
    let mut decisions = Vec::new();
    if options.fuse {
        (program, decisions) = timed(&mut stages, "fuse", || fuse(program));
    }
    if options.dumps {
        dumps.push(("fuse", program.to_string()));
    }
    let ways = match tune::asked(options) {
        Some(file) => timed(&mut stages, "tune", || tune::ways(file, &program, options))?,
        None => Ways::new(),
    };
    let planning = plan_options(options, ways);
    let kept = options.details.then(|| program.clone());
    let plan = timed(&mut stages, "plan", || plan_beside(program, &planning, beside)).map_err(over_limit)?;
    let details = kept.map(|program| Box::new(Details { optimised, decisions, program, plan: plan.clone() }));
    Ok((Compilation { details, stages, dumps }, plan))
}

/// Says that a memory limit is too low.
fn over_limit(floor: MemoryFloor) -> Error {
    let fault = Diagnostic::new("the network needs more memory than the limit");
    let fault = fault.expected(format!("an arena of at most {} bytes", floor.limit));
    let fault = fault.found(format!("{} bytes or more, whatever is computed again", floor.floor));
    fault.help(format!("take a smaller batch, or a limit of {} bytes", floor.floor)).into()
}

/// The plan of a model, without its code. `None` where symbols have no values yet.
///
/// # Errors
/// Where the memory limit is below what is needed.
pub fn plan_of(model: &Model, options: &Options) -> Result<Option<Plan>, Error> {
    let graph = model.graph();
    let known = graph.nodes().all(|(_, node)| node.types.iter().all(|ty| ty.dims().is_some()));
    known.then(|| Ok(compile_graph(graph, options, None)?.1)).transpose()
}

/// What the planner is told.
pub(crate) fn plan_options(options: &Options, ways: Ways) -> PlanOptions {
    let winograd = if options.exact { Winograd::Never } else { Winograd::Auto };
    let machine = machine(options.isa);
    let Options { constant_limit, memory_limit, .. } = *options;
    PlanOptions { machine, winograd, ways, constant_limit, memory_limit, ..PlanOptions::default() }
}

/// The machine that has these vectors.
pub fn machine(isa: Isa) -> Machine {
    match isa {
        Isa::Portable => Machine::PORTABLE,
        Isa::Avx2 => Machine::AVX2,
        Isa::Avx512 => Machine::AVX512,
    }
}

fn timed<T>(stages: &mut Vec<(&'static str, Duration)>, name: &'static str, stage: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = stage();
    stages.push((name, start.elapsed()));
    result
}
