//! `fusewright compile`: what becomes of a model, or of the step of a training.

use super::arguments::{CacheArgument, ModelArguments, PlanArguments, batch, default_batch, isa, weights};
use super::output::{Failure, Output, usage};
use super::summary::layers;
use super::table::{Table, bytes, grouped};
use super::training::Training;
use super::{dot, html};
use clap::{Args, ValueEnum};
use fusewright::data::files;
use fusewright::ir::kernel::BufferId;
use fusewright::ir::plan::{Layout, Outline, Place, Plan, Step, Vector};
use fusewright::runtime::Executable;
use fusewright::{Compilation, Details, Isa, Options, Recipe, pass_names};
use serde::Serialize;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Compiles a network, or the step of a training, and shows fused kernels, memory and code
#[derive(Args)]
pub struct Compile {
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    planning: PlanArguments,
    #[command(flatten)]
    cache: CacheArgument,
    /// The batch: the value of the symbol N, 1 where nothing is said; of a training its own where nothing is said
    #[arg(long, value_name = "N", value_parser = batch)]
    batch: Option<usize>,
    /// Take the parameters from this safetensors file
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Leave every operation a kernel of its own
    #[arg(long)]
    unfused: bool,
    /// The vectors of inner bodies: avx512, avx2 or portable; the widest that this machine has by default
    #[arg(long, value_name = "ISA", value_parser = isa)]
    isa: Option<Isa>,
    /// Print one form of the network
    #[arg(long, value_enum)]
    emit: Option<Emit>,
    /// Print the network as it is after a pass
    #[arg(long, value_name = "PASS", conflicts_with = "emit")]
    after: Option<String>,
    /// Say for every edge why it was fused or not
    #[arg(long)]
    explain: bool,
    /// Write the fused groups as a Graphviz graph
    #[arg(long, value_name = "FILE")]
    dot: Option<PathBuf>,
    /// Write a page with the graph, the memory plan and the costs
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print JSON
    #[arg(long, conflicts_with_all = ["emit", "after", "explain"])]
    json: bool,
}

/// The forms that a network takes on its way to machine code.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Emit {
    /// Operations and the tensors between them, after the passes over graphs
    Graph,
    /// Which operations share a kernel
    Groups,
    /// Loop nests
    Kernels,
    /// Kernels in order, each with its schedule, and the place of every buffer
    Plan,
    /// Cranelift's intermediate form
    Clif,
    /// Machine code
    Asm,
}

#[derive(Serialize)]
struct Json {
    model: String,
    kernels: usize,
    operations: usize,
    arena_bytes: u64,
    lower_bound_bytes: u64,
    unplanned_bytes: u64,
    /// What computing again saves of the arena, and what it costs.
    saved_bytes: u64,
    repeated_operations: u64,
    constant_bytes: u64,
    /// Of a training.
    #[serde(skip_serializing_if = "Option::is_none")]
    state_bytes: Option<usize>,
    code_bytes: usize,
    compile_ms: f64,
    stages_ms: serde_json::Map<String, serde_json::Value>,
    steps: Vec<JsonStep>,
}

#[derive(Serialize)]
struct JsonStep {
    operations: String,
    nodes: Vec<String>,
    scalar_operations: u64,
}

impl Compile {
    pub fn run(self, out: &mut Output) -> Result<(), Failure> {
        if let Some(pass) = &self.after
            && !pass_names().contains(&pass.as_str())
        {
            let fault = usage(format!("there is no pass `{pass}`"));
            return Err(fault.expected(format!("`{}`", pass_names().join("`, `"))).into());
        }
        files::check_apart(self.dot.iter().chain(&self.html), self.weights.iter().chain([&self.model.model]))?;
        match self.model.is_training()? {
            true => self.step(out),
            false => self.network(out),
        }
    }

    fn network(&self, out: &mut Output) -> Result<(), Failure> {
        let start = Instant::now();
        let model = self.model.load()?;
        let parse = start.elapsed();
        let mut bindings = self.model.bindings(self.batch)?;
        default_batch(&model, &mut bindings);
        let executable = model.compile(self.options()?)?;
        let planned = executable.planned(&bindings)?;
        self.show(
            out,
            &Compiled {
                title: title(&model.definition().name, &self.model.model),
                operations: layers(&executable.graph(&bindings)?).len(),
                executable: &planned.executable,
                compilation: &planned.compilation,
                state_bytes: None,
                stages: stages(parse, &planned.compilation),
            },
        )
    }

    fn step(&self, out: &mut Output) -> Result<(), Failure> {
        let start = Instant::now();
        let recipe = Recipe::load(&self.model.model)?;
        let parse = start.elapsed();
        let training = Training::new(recipe, &self.model, self.batch, true)?;
        let trainer = training.trainer(Options { details: true, ..self.options()? })?;
        let compilation = trainer.compilation();
        self.show(
            out,
            &Compiled {
                title: title(&training.recipe.model().definition().name, &self.model.model),
                operations: layers(&details(compilation).optimised).len(),
                executable: trainer.executable(),
                compilation,
                state_bytes: Some(trainer.state().bytes()),
                stages: stages(parse, compilation),
            },
        )
    }

    fn options(&self) -> Result<Options, Failure> {
        let shown = [self.emit.is_some(), self.explain, self.dot.is_some(), self.html.is_some()];
        Ok(self.planning.put(Options {
            fuse: !self.unfused,
            weights: weights(self.weights.as_ref())?,
            isa: self.isa.unwrap_or_else(Isa::detect),
            listings: matches!(self.emit, Some(Emit::Clif | Emit::Asm)),
            details: shown.contains(&true),
            dumps: self.after.is_some(),
            ..self.cache.put(Options::default())
        }))
    }

    fn show(&self, out: &mut Output, compiled: &Compiled) -> Result<(), Failure> {
        let compilation = compiled.compilation;
        if let Some(path) = &self.dot {
            let text = dot::graph(&details(compilation).plan);
            files::write(path, |file| file.write_all(text.as_bytes()))?;
        }
        if let Some(path) = &self.html {
            let text = html::network::page(compiled);
            files::write(path, |file| file.write_all(text.as_bytes()))?;
        }
        if self.json {
            return json(out, compiled);
        }
        if let Some(pass) = &self.after {
            let dump = compilation.dumps.iter().find(|(name, _)| name == pass);
            let (_, text) = dump.expect("every pass leaves a dump");
            return Ok(write!(out, "{text}")?);
        }
        match self.emit {
            Some(Emit::Graph) => write!(out, "{}", details(compilation).optimised)?,
            Some(Emit::Groups) => groups(out, compilation)?,
            Some(Emit::Kernels) => write!(out, "{}", details(compilation).program)?,
            Some(Emit::Plan) => plan(out, &details(compilation).plan)?,
            Some(Emit::Clif) => listings(out, compiled.executable, |listing| &listing.clif)?,
            Some(Emit::Asm) => listings(out, compiled.executable, |listing| &listing.assembly)?,
            None if !self.explain => report(out, compiled)?,
            None => {}
        }
        if self.explain {
            explain(out, compilation)?;
        }
        Ok(())
    }
}

/// What was compiled: a network, or the step of a training.
pub struct Compiled<'a> {
    pub title: String,
    /// How many its graph has.
    pub operations: usize,
    pub executable: &'a Executable,
    pub compilation: &'a Compilation,
    /// What a training keeps from step to step: parameters and the optimiser's state.
    pub state_bytes: Option<usize>,
    /// Those of compiling, reading the file included.
    pub stages: Vec<(&'static str, Duration)>,
}

fn stages(parse: Duration, compilation: &Compilation) -> Vec<(&'static str, Duration)> {
    std::iter::once(("parse", parse)).chain(compilation.stages.iter().copied()).collect()
}

fn title(name: &str, path: &std::path::Path) -> String {
    match name {
        "" => path.display().to_string(),
        name => name.to_string(),
    }
}

fn json(out: &mut Output, compiled: &Compiled) -> Result<(), Failure> {
    let (plan, stages) = (compiled.executable.plan(), &compiled.stages);
    let ms = |duration: &Duration| duration.as_secs_f64() * 1e3;
    out.json(&Json {
        model: compiled.title.clone(),
        kernels: plan.steps.len(),
        operations: compiled.operations,
        arena_bytes: plan.arena_bytes,
        lower_bound_bytes: plan.lower_bound_bytes,
        unplanned_bytes: plan.unplanned_bytes,
        saved_bytes: plan.saved_bytes,
        repeated_operations: plan.repeated_operations,
        constant_bytes: plan.constant_bytes,
        state_bytes: compiled.state_bytes,
        code_bytes: compiled.executable.code_bytes(),
        compile_ms: stages.iter().map(|(_, time)| ms(time)).sum(),
        stages_ms: stages.iter().map(|(name, time)| (name.to_string(), ms(time).into())).collect(),
        steps: plan
            .steps
            .iter()
            .map(|step| JsonStep {
                operations: step.about.to_string(),
                nodes: step.nodes.iter().map(ToString::to_string).collect(),
                scalar_operations: step.operations,
            })
            .collect(),
    })
}

fn report(out: &mut Output, compiled: &Compiled) -> Result<(), Failure> {
    let (plan, stages) = (compiled.executable.plan(), &compiled.stages);
    let mut table = Table::new(&["kernel", "operations", "nodes", ">scalar operations"]);
    for (i, step) in plan.steps.iter().enumerate() {
        table.row([format!("k{i}"), step.about.to_string(), shortened(&step.nodes), grouped(step.operations)]);
    }
    writeln!(out, "{table}")?;
    writeln!(
        out,
        "arena      {} (lower bound {}, {} without sharing)",
        bytes(plan.arena_bytes),
        bytes(plan.lower_bound_bytes),
        bytes(plan.unplanned_bytes)
    )?;
    if let Some(text) = repeated(plan) {
        writeln!(out, "repeated   {text}")?;
    }
    writeln!(out, "constants  {}", bytes(plan.constant_bytes))?;
    if let Some(state) = compiled.state_bytes {
        writeln!(out, "state      {}", bytes(state as u64))?;
    }
    writeln!(out, "code       {}", bytes(compiled.executable.code_bytes() as u64))?;
    let total: Duration = stages.iter().map(|(_, time)| *time).sum();
    let each: Vec<String> =
        stages.iter().map(|(name, time)| format!("{name} {:.2}", time.as_secs_f64() * 1e3)).collect();
    Ok(writeln!(out, "compiled   in {:.2} ms ({})", total.as_secs_f64() * 1e3, each.join(", "))?)
}

/// What computing again costs and saves, where a plan does that.
pub fn repeated(plan: &Outline) -> Option<String> {
    let all: u64 = plan.steps.iter().map(|step| step.operations).sum();
    let share = plan.repeated_operations as f64 / all.saturating_sub(plan.repeated_operations).max(1) as f64;
    let (operations, saved) = (grouped(plan.repeated_operations), bytes(plan.saved_bytes));
    (plan.saved_bytes > 0).then(|| format!("{operations} operations ({:.1} %) to save {saved}", share * 100.0))
}

/// Names of nodes; only the first and the last where they do not fit on a line.
pub fn shortened(nodes: &[impl AsRef<str>]) -> String {
    let names: Vec<&str> = nodes.iter().map(AsRef::as_ref).collect();
    let text = names.join(" ");
    match names.as_slice() {
        [first, .., last] if text.chars().count() > 48 => format!("{first} ... {last}"),
        _ => text,
    }
}

/// What compiling went through.
pub fn details(compilation: &Compilation) -> &Details {
    compilation.details.as_deref().expect("the options ask for details")
}

fn groups(out: &mut Output, compilation: &Compilation) -> Result<(), Failure> {
    for (i, named) in details(compilation).program.kernels.iter().enumerate() {
        writeln!(out, "k{i}: {}  ; {}", named.nodes.join(" "), named.about)?;
    }
    Ok(())
}

fn explain(out: &mut Output, compilation: &Compilation) -> Result<(), Failure> {
    let mut table = Table::new(&["producer", "consumer", "", "reason"]);
    for decision in &details(compilation).decisions {
        let word = if decision.fused { "fused" } else { "apart" };
        table.row([decision.producer.clone(), decision.consumer.clone(), word.to_string(), decision.reason.clone()]);
    }
    Ok(write!(out, "{table}")?)
}

fn listings(
    out: &mut Output,
    executable: &Executable,
    text: fn(&fusewright::runtime::codegen::Listing) -> &String,
) -> Result<(), Failure> {
    let plan = executable.plan();
    let steps = plan.setup.iter().map(|step| ("setup", step)).chain(plan.steps.iter().map(|step| ("step", step)));
    for (listing, (when, step)) in executable.listings().iter().zip(steps) {
        let kernel = format!("{} ({})", step.about, step.nodes.join(" "));
        writeln!(out, "; {when}: {kernel}")?;
        for line in text(listing).trim_end().lines() {
            match line {
                "; loop" => writeln!(out, "; loop of {kernel}")?,
                line => writeln!(out, "{line}")?,
            }
        }
    }
    Ok(())
}

fn plan(out: &mut Output, plan: &Plan) -> Result<(), Failure> {
    for (when, steps) in [("setup", &plan.setup), ("steps", &plan.steps)].iter().filter(|(_, steps)| !steps.is_empty())
    {
        writeln!(out, "{when}:")?;
        for (i, step) in steps.iter().enumerate() {
            let names = |ids: Vec<BufferId>| -> Vec<String> { ids.iter().map(|id| format!("b{}", id.0)).collect() };
            let (writes, reads) = (names(step.kernel.writes()), names(step.kernel.reads()));
            writeln!(out, "  k{i} {}: {} <- {}  ; {}", step.about, writes.join(" "), reads.join(" "), schedule(step))?;
        }
    }
    let mut table = Table::new(&["buffer", "value", "type", "layout", "place", ">bytes"]);
    for (i, buffer) in plan.buffers.iter().enumerate().filter(|(_, buffer)| buffer.place != Place::Unused) {
        let place = match &buffer.place {
            Place::Input(i) => format!("input {i}"),
            Place::Output(i) => format!("output {i}"),
            Place::Parameter(i) => format!("parameter {i}"),
            Place::State(i) => format!("state {i}"),
            Place::Constant(offset) => format!("constants {offset}"),
            Place::Literal(offset, _) => format!("constants {offset} (literal)"),
            Place::Arena(offset) => format!("arena {offset}"),
            Place::Scratch(offset) => format!("scratch {offset}"),
            Place::Unused => unreachable!("filtered"),
        };
        let ty = fusewright::ir::TensorType::new(buffer.dtype, buffer.dims.iter().copied());
        table.row([
            format!("b{i}"),
            buffer.name.to_string(),
            ty.to_string(),
            layout(&buffer.layout),
            place,
            grouped(buffer.bytes()),
        ]);
    }
    write!(out, "\n{table}")?;
    Ok(writeln!(out, "\narena {} bytes, constants {} bytes", plan.arena_bytes, plan.constant_bytes)?)
}

/// Axes from the outermost inwards, blocks and halo: `0 2 3 1`, `0 1/8 2`, `halo 0+0 0+0 1+1 1+1`.
fn layout(layout: &Layout) -> String {
    if layout.is_row_major() {
        return "row-major".to_string();
    }
    let axis = |&axis: &u8| match layout.block {
        Some(block) if block.axis == axis => format!("{axis}/{}", block.lanes),
        _ => axis.to_string(),
    };
    let mut text = layout.order.iter().map(axis).collect::<Vec<_>>().join(" ");
    if !layout.halo.is_empty() {
        let halo: Vec<String> = layout.halo.iter().map(|(before, behind)| format!("{before}+{behind}")).collect();
        text += &format!(", halo {}", halo.join(" "));
    }
    text
}

fn schedule(step: &Step) -> String {
    let mut words = vec![format!(
        "loops {}",
        step.schedule.order.iter().map(|axis| axis.0.to_string()).collect::<Vec<_>>().join(" ")
    )];
    match step.schedule.vector {
        Some(Vector::Outer { axis, lanes }) => words.push(format!("{lanes} lanes along {}", axis.0)),
        Some(Vector::Inner) => words.push("vectors along the inner axis".to_string()),
        None => {}
    }
    words.extend(step.schedule.tile.iter().map(|(axis, n)| format!("{n} points of {}", axis.0)));
    for rest in &step.schedule.rests {
        let points: Vec<String> = rest.tile.iter().map(|(axis, n)| format!("{n} of {}", axis.0)).collect();
        words.push(format!("{} at the end of {}", points.join(" and "), rest.axis.0));
    }
    words.extend(step.schedule.gather.then(|| "gathering".to_string()));
    words.extend(step.schedule.ahead.then(|| "asking ahead".to_string()));
    words.extend(step.schedule.windows.then(|| "windows written out".to_string()));
    words.join(", ")
}
