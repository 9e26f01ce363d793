//! Running an executable: one arena, any number of runs, no allocation in any of them.

use crate::cut::{Cut, Shares};
use crate::executable::{CompiledStep, Executable};
use crate::float_mode::Flushing;
use crate::memory::{ALIGNMENT, AlignedBytes};
use crate::pool::{self, Team};
use crate::state::{State, StateError};
use crate::view::{View, ViewMut};
use fusewright_ir::plan::{Outline, Place, Port};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How a session uses threads. The results do not depend on it, to the last bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threads {
    /// The most threads that a run uses, its caller's included; 0 is as good as 1. The process keeps as many helpers as
    /// the greatest number asked for, less one, and at most [`Threads::MOST`]. They take part in one run at a time: a
    /// session that finds them with another runs on its caller's thread alone.
    pub most: usize,
    /// How long helpers wait for the next run, keeping their cores busy, before they sleep. To wake them takes several
    /// microseconds of the caller's time, and tens until they are there.
    pub spin: Duration,
    /// Steps that are estimated to take less time than this on one thread are not shared.
    pub worthwhile: Duration,
}

impl Threads {
    /// The most threads that a run ever uses.
    pub const MOST: usize = pool::MOST_HELPERS + 1;

    /// So many threads, and what is good for the rest.
    pub fn new(most: usize) -> Threads {
        Threads { most, ..Threads::default() }
    }
}

impl Default for Threads {
    /// One thread. Were it more, helpers would wait 50 microseconds, and steps of 2 microseconds would be shared: to hand
    /// over a step and see its end takes 0.8.
    fn default() -> Threads {
        Threads { most: 1, spin: Duration::from_micros(50), worthwhile: Duration::from_micros(2) }
    }
}

/// A run whose shared steps take this long wakes helpers that sleep. A shorter one does so only where the last run ended
/// less than [`Threads::spin`] before: helpers that are awake then stay so, and the next runs have them for nothing.
const WORTH_WAKING: Duration = Duration::from_micros(100);

/// The state of one user of an executable.
pub struct Session {
    executable: Arc<Executable>,
    // Pointers point into them.
    _arena: AlignedBytes,
    scratch: AlignedBytes,
    /// What each thread has of it.
    scratch_bytes: usize,
    steps: Vec<Prepared>,
    /// The buffers of all steps, one step behind the other.
    pointers: Vec<*mut u8>,
    /// Which of them the user gives for each run.
    given: Vec<(usize, Given)>,
    /// Which of them are state, with the number of it among the plan's.
    kept: Vec<(usize, usize)>,
    /// The state that they point to.
    pointed_to: Option<u64>,
    threads: Threads,
    shares: Shares,
    /// The estimated time of all steps that are shared.
    shared_cost: Duration,
    finished: Option<Instant>,
    cancelled: Arc<AtomicBool>,
}

/// A step, or the steps of a band, as a session runs them.
struct Prepared {
    /// Which of the plan's steps.
    steps: Range<usize>,
    /// Where its buffers are among the session's pointers: those of all steps one behind the other, and so for each thread where
    /// there are several steps: threads differ in their scratch.
    first: usize,
    cut: Cut,
    /// Whether all steps run at one position before any runs at the next.
    is_band: bool,
    /// Into how many units it is cut, where it is shared, and how many of them are taken at least.
    units: Option<(u32, u32)>,
}

#[derive(Clone, Copy)]
enum Given {
    Input(usize),
    Output(usize),
}

// SAFETY: the pointers are into the session's own arena and its executable's constants, or are set anew by each run,
// which has `&mut self`.
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
    /// The state is missing, or is not that of the plan.
    State(StateError),
    /// The cancel flag was set.
    Cancelled,
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Port { name, problem } => write!(f, "`{name}`: {problem}"),
            RunError::Index { nodes } => write!(f, "`{}`: an index is out of range", nodes.join(" ")),
            RunError::State(fault) => write!(f, "{fault}"),
            RunError::Cancelled => write!(f, "cancelled"),
        }
    }
}

impl std::error::Error for RunError {}

impl Session {
    /// A session with an arena of its own, which runs on its caller's thread.
    pub fn new(executable: Arc<Executable>) -> Session {
        Session::with_threads(executable, Threads::default())
    }

    /// A session with an arena of its own, which runs on several threads.
    pub fn with_threads(executable: Arc<Executable>, threads: Threads) -> Session {
        let plan = executable.plan();
        let most = threads.most.clamp(1, Threads::MOST);
        let arena = AlignedBytes::zeroed(plan.arena_bytes as usize);
        let units = plan.units();
        let n_buffers = executable.steps.iter().map(|step| step.buffers.len()).sum();
        let (mut pointers, mut given, mut kept) = (Vec::with_capacity(n_buffers), Vec::new(), Vec::new());
        let mut steps = Vec::with_capacity(units.len());
        let mut shared_cost = Duration::ZERO;
        let scratch_bytes = (plan.scratch_bytes as usize).next_multiple_of(ALIGNMENT);
        let scratch = AlignedBytes::zeroed(scratch_bytes * most);
        for (range, positions) in units {
            let compiled = &executable.steps[range.clone()];
            let cut = match positions {
                Some(positions) => Cut::of_band(positions, compiled.iter().map(|step| step.cut.cost()).sum()),
                None => compiled[0].cut,
            };
            let units = cut.units(threads.worthwhile).filter(|_| most > 1);
            if units.is_some() {
                shared_cost += cut.cost();
            }
            let units = units.map(|units| (units, cut.grain(units)));
            let is_band = positions.is_some();
            let users = if is_band { most } else { 1 };
            let first = pointers.len();
            for thread in 0..users {
                for &id in compiled.iter().flat_map(|step| &step.buffers) {
                    let at = pointers.len();
                    pointers.push(match plan.buffer(id).place {
                        Place::Arena(offset) => arena.as_mut_ptr().wrapping_add(offset as usize),
                        Place::Scratch(offset) => {
                            scratch.as_mut_ptr().wrapping_add(thread * scratch_bytes + offset as usize)
                        }
                        Place::Constant(offset) | Place::Literal(offset, _) => {
                            executable.constants.as_mut_ptr().wrapping_add(offset as usize)
                        }
                        // Set by each run.
                        Place::State(i) => {
                            kept.push((at, i));
                            std::ptr::null_mut()
                        }
                        Place::Input(i) => {
                            given.push((at, Given::Input(i)));
                            std::ptr::null_mut()
                        }
                        Place::Output(i) => {
                            given.push((at, Given::Output(i)));
                            std::ptr::null_mut()
                        }
                        Place::Parameter(_) | Place::Unused => unreachable!("verified: steps use placed buffers only"),
                    });
                }
            }
            steps.push(Prepared { steps: range, first, cut, is_band, units });
        }
        if steps.iter().any(|step| step.units.is_some()) {
            pool::hire(most - 1);
        }
        Session {
            _arena: arena,
            scratch,
            scratch_bytes,
            steps,
            pointers,
            given,
            kept,
            pointed_to: None,
            threads,
            shares: Shares::new(most),
            shared_cost,
            finished: None,
            cancelled: Arc::new(AtomicBool::new(false)),
            executable,
        }
    }

    fn scratch_of(&self, thread: usize) -> *mut u8 {
        self.scratch.as_mut_ptr().wrapping_add(thread * self.scratch_bytes)
    }

    /// The executable it runs.
    pub fn executable(&self) -> &Arc<Executable> {
        &self.executable
    }

    /// A flag that stops a run between kernels when it is set; it stays set until cleared.
    pub fn cancel_flag(&self) -> Arc<AtomicBool> {
        self.cancelled.clone()
    }

    /// Runs the network: reads all inputs, writes all outputs. Allocates nothing but in errors. Numbers below the normal
    /// form count as zero; the caller's mode is as before afterwards.
    ///
    /// # Errors
    /// Where inputs or outputs are not those of the plan, an index is out of range, or the run is cancelled. Outputs
    /// are then unspecified.
    pub fn run(&mut self, inputs: &[(&str, View)], outputs: &mut [(&str, ViewMut)]) -> Result<(), RunError> {
        self.run_profiled(inputs, outputs, &mut [])
    }

    /// As [`Session::run_profiled`], for plans that have state: what they update is replaced in it.
    ///
    /// # Errors
    /// As [`Session::run`], and where the state is not that of the plan. Where an index is out of range or the run is
    /// cancelled, the plan's state is unspecified as far as it updates that.
    pub fn run_on(
        &mut self,
        state: &mut State,
        inputs: &[(&str, View)],
        outputs: &mut [(&str, ViewMut)],
        times: &mut [Duration],
    ) -> Result<(), RunError> {
        if self.pointed_to != Some(state.number()) {
            let pointers = state.pointers(self.executable.plan()).map_err(RunError::State)?;
            self.kept.iter().for_each(|&(at, i)| self.pointers[at] = pointers[i]);
            self.pointed_to = Some(state.number());
        }
        self.run_here(inputs, outputs, times)
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
        if let Some(state) = self.executable.plan().states.first() {
            let problem = "is missing: the run needs the state that it works on".to_string();
            return Err(RunError::State(StateError { name: state.name.to_string(), problem }));
        }
        self.run_here(inputs, outputs, times)
    }

    /// Runs all steps, with state in place.
    fn run_here(
        &mut self,
        inputs: &[(&str, View)],
        outputs: &mut [(&str, ViewMut)],
        times: &mut [Duration],
    ) -> Result<(), RunError> {
        self.point_to(inputs, outputs)?;
        let flushing = Flushing::begin();
        let (mut team, wake) = self.team();
        let result = self.run_steps(team.as_mut(), wake, times);
        drop(flushing);
        if team.is_some() {
            self.finished = Some(Instant::now());
        }
        result
    }

    /// Puts the addresses of the user's memory where the steps need them.
    fn point_to(&mut self, inputs: &[(&str, View)], outputs: &mut [(&str, ViewMut)]) -> Result<(), RunError> {
        let plan = self.executable.plan();
        for (i, port) in plan.inputs.iter().enumerate() {
            let Some((_, view)) = inputs.iter().find(|(name, _)| *name == port.name) else {
                return Err(wrong(port, "the input is missing"));
            };
            check(plan, port, view.dtype(), view.len())?;
            let own = self.given.iter().filter(|(_, given)| matches!(given, Given::Input(other) if *other == i));
            own.for_each(|&(at, _)| self.pointers[at] = view.as_ptr().cast_mut());
        }
        for (i, port) in plan.outputs.iter().enumerate() {
            let Some((_, view)) = outputs.iter_mut().find(|(name, _)| *name == port.name) else {
                return Err(wrong(port, "the output is missing"));
            };
            check(plan, port, view.dtype(), view.len())?;
            let own = self.given.iter().filter(|(_, given)| matches!(given, Given::Output(other) if *other == i));
            own.for_each(|&(at, _)| self.pointers[at] = view.as_mut_ptr());
        }
        Ok(())
    }

    /// The helpers, where there is work for them and they are free, and whether those that sleep are to be woken.
    fn team(&self) -> (Option<Team>, bool) {
        if self.shared_cost.is_zero() {
            return (None, false);
        }
        let team = Team::take(self.shares.threads() - 1, self.threads.spin);
        let again = || self.finished.is_some_and(|finished| finished.elapsed() < self.threads.spin);
        let wake = self.shared_cost >= WORTH_WAKING || again();
        (team, wake)
    }

    /// All steps in order, with the processor's mode set and the pointers in place.
    fn run_steps(&self, mut team: Option<&mut Team>, wake: bool, times: &mut [Duration]) -> Result<(), RunError> {
        for prepared in &self.steps {
            if self.cancelled.load(Ordering::Relaxed) {
                return Err(RunError::Cancelled);
            }
            let call = Call { session: self, prepared };
            let start = times.get(prepared.steps.start).map(|_| Instant::now());
            let status = match (&mut team, prepared.units) {
                (Some(team), Some(units)) => self.share(team, wake, &call, &prepared.cut, units),
                _ => call.part(0, prepared.cut.whole()),
            };
            if status != 0 {
                let nodes = &self.executable.plan().steps[prepared.steps.start].nodes;
                return Err(RunError::Index { nodes: nodes.iter().map(ToString::to_string).collect() });
            }
            if let Some(start) = start {
                self.note(prepared, start.elapsed(), times);
            }
        }
        Ok(())
    }

    /// Notes the time of a step; that of a band is told to its steps by what they are estimated to cost.
    fn note(&self, prepared: &Prepared, time: Duration, times: &mut [Duration]) {
        let cost = |step: usize| self.executable.steps[step].cut.cost().as_secs_f64();
        let all: f64 = prepared.steps.clone().map(cost).sum();
        for step in prepared.steps.clone() {
            if let Some(own) = times.get_mut(step) {
                *own = if prepared.is_band { time.mul_f64(cost(step) / all.max(1e-12)) } else { time };
            }
        }
    }

    /// Runs a step together with the helpers. The status is that of some part that failed.
    fn share(&self, team: &mut Team, wake: bool, call: &Call, cut: &Cut, (units, grain): (u32, u32)) -> u32 {
        let (status, shares) = (AtomicU32::new(0), &self.shares);
        shares.deal(units);
        team.run(shares.threads(), wake, &|thread| {
            while let Some(part) = shares.next(thread, grain) {
                let found = call.part(thread, cut.points(part));
                if found != 0 {
                    status.store(found, Ordering::Relaxed);
                }
            }
        });
        status.into_inner()
    }
}

/// A step, or a band, with its buffers in place.
struct Call<'a> {
    session: &'a Session,
    prepared: &'a Prepared,
}

// SAFETY: the threads that share a call read the pointers and run different parts of the step, which write apart (see
// `Cut`); those that share a band run different positions, each with scratch of its own.
unsafe impl Sync for Call<'_> {}

impl Call<'_> {
    /// Runs a part of the step. A thread has a number of its own in a run.
    fn part(&self, thread: usize, points: Range<usize>) -> u32 {
        let Prepared { steps, first, is_band, .. } = self.prepared;
        let compiled = &self.session.executable.steps[steps.clone()];
        let pointers = &self.session.pointers[*first..];
        if !is_band {
            return self.call(thread, &compiled[0], pointers, points);
        }
        let of_a_thread: usize = compiled.iter().map(|step| step.buffers.len()).sum();
        let mut status = 0;
        for position in points {
            let mut pointers = &pointers[thread * of_a_thread..];
            for step in compiled {
                status |= self.call(thread, step, pointers, position..position + 1);
                pointers = &pointers[step.buffers.len()..];
            }
        }
        status
    }

    /// Runs a part of a step, whose buffers are the first of `pointers`.
    fn call(&self, thread: usize, step: &CompiledStep, pointers: &[*mut u8], points: Range<usize>) -> u32 {
        let scratch = self.session.scratch_of(thread);
        let pointers = &pointers[..step.buffers.len()];
        // SAFETY: the pointers are those of the step's buffers in slot order. Inputs and outputs were checked to have the
        // planned type and length and are borrowed for the whole run; arena, scratch and constants hold the bytes of the
        // plan, which was verified to keep live buffers apart, now or before it was written to what it was read from; state
        // is that of the plan by name and layout, and borrowed for the whole run; constants and inputs are never written by
        // steps; scratch is the thread's own, and holds what the plan says. The session holds the executable, and so the code,
        // and waits for all that take part in the step.
        unsafe { step.entry.call(pointers, scratch, points) }
    }
}

fn check(plan: &Outline, port: &Port, dtype: fusewright_ir::DType, len: usize) -> Result<(), RunError> {
    let buffer = plan.buffer(port.buffer);
    let elements: usize = buffer.dims.iter().product();
    if dtype == buffer.dtype && len == elements {
        return Ok(());
    }
    let expected = format!("{} {} elements {:?}", elements, buffer.dtype, buffer.dims);
    Err(wrong(port, &format!("expected {expected}, found {len} {dtype} elements")))
}

fn wrong(port: &Port, problem: &str) -> RunError {
    RunError::Port { name: port.name.to_string(), problem: problem.to_string() }
}
