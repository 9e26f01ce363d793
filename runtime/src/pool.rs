//! The helpers of the process: threads that take part in runs. There is one pool, so that sessions cannot fight for
//! cores: a session takes it as a [`Team`] for the length of a run, and one that finds it taken runs on its own thread.
//!
//! Each helper has one word, alone on its cache lines, in which the caller and the helper meet. It is empty, or says that
//! the helper is parked, or has the address of a job on offer, or says that the job is taken. The caller offers a job,
//! works on it too, and takes back what nobody took: a helper that is late (it was parked, the system has no core for
//! it) is never waited for, only one that has begun. When [`Team::run`] returns, in whichever way, no helper knows the
//! job's address any more.

use crate::float_mode;
use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// The most helpers that the process ever has.
pub const MOST_HELPERS: usize = 255;

/// How long a helper waits for the next step of a run before it parks: steps that one thread does alone are short.
const PATIENCE: Duration = Duration::from_millis(2);

/// How long helpers and callers wait without letting others have the core.
const UNSHARED: Duration = Duration::from_micros(50);

/// Polls between two looks at the clock.
const POLLS: u32 = 64;

/// Helpers hired so far. The lock is held while there are more to hire.
static HIRING: Mutex<()> = Mutex::new(());
static HIRED: AtomicUsize = AtomicUsize::new(0);
/// Whether some team has the helpers.
static TAKEN: AtomicBool = AtomicBool::new(false);
/// How long helpers wait for a run, in nanoseconds: what the last team wanted.
static SPIN_NS: AtomicU64 = AtomicU64::new(0);
static HELPERS: [Helper; MOST_HELPERS] = [const { Helper::new() }; MOST_HELPERS];

/// What the caller has everybody do: called with 0 by the caller, with other numbers by helpers.
type Work<'a> = dyn Fn(usize) + Sync + 'a;

struct Job<'a> {
    work: &'a Work<'a>,
    panicked: AtomicBool,
}

/// Two cache lines, because neighbours are fetched in pairs.
#[repr(align(128))]
struct Helper {
    word: AtomicPtr<Job<'static>>,
    thread: OnceLock<Thread>,
}

const EMPTY: *mut Job<'static> = ptr::null_mut();
// No job has these addresses: jobs are aligned.
const PARKED: *mut Job<'static> = ptr::without_provenance_mut(1);
const AT_WORK: *mut Job<'static> = ptr::without_provenance_mut(2);

/// Sees to it that the process has `n` helpers, as far as the system gives them. They sleep until they are needed.
pub fn hire(n: usize) {
    let n = n.min(MOST_HELPERS);
    if HIRED.load(Ordering::Acquire) >= n {
        return;
    }
    let _lock = HIRING.lock().unwrap_or_else(PoisonError::into_inner);
    for (number, helper) in HELPERS.iter().enumerate().take(n).skip(HIRED.load(Ordering::Acquire)) {
        let builder = thread::Builder::new().name(format!("fusewright-{}", number + 1)).stack_size(256 << 10);
        // Without the thread, runs use fewer.
        let Ok(handle) = builder.spawn(move || helper.serve(number + 1)) else { return };
        let _ = helper.thread.set(handle.thread().clone());
        HIRED.store(number + 1, Ordering::Release);
    }
}

/// The helpers, taken until dropped.
pub struct Team {
    n_helpers: usize,
}

impl Team {
    /// All helpers, at most `most` of which are used; `None` where another team has them, or there are none. Once it is
    /// dropped they wait for `spin` before they park.
    pub fn take(most: usize, spin: Duration) -> Option<Team> {
        let n_helpers = most.min(HIRED.load(Ordering::Acquire));
        if n_helpers == 0 || TAKEN.compare_exchange(false, true, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return None;
        }
        SPIN_NS.store(u64::try_from(spin.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        Some(Team { n_helpers })
    }

    /// Calls `work(0)` here, and `work(1)`, `work(2)` and so on, fewer than `threads` in all, on helpers as far as they come
    /// before it is done here; with `wake`, those that are parked are told too, which costs microseconds. Returns when
    /// nobody is at it any more. So `work` must do what is left until nothing is.
    ///
    /// # Panics
    /// If `work` panics, here or on a helper.
    pub fn run(&mut self, threads: usize, wake: bool, work: &Work) {
        let job = Job { work, panicked: AtomicBool::new(false) };
        let n_helpers = self.n_helpers.min(threads.saturating_sub(1));
        let offered = Offered { helpers: &HELPERS[..n_helpers], job: ptr::from_ref(&job).cast_mut().cast() };
        for helper in offered.helpers {
            helper.offer(offered.job, wake);
        }
        work(0);
        drop(offered);
        assert!(!job.panicked.load(Ordering::Relaxed), "a helper panicked");
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        TAKEN.store(false, Ordering::Release);
    }
}

/// A job that helpers may know of. Dropping it waits for those that have begun, and leaves none that could begin.
struct Offered {
    helpers: &'static [Helper],
    job: *mut Job<'static>,
}

impl Drop for Offered {
    fn drop(&mut self) {
        for helper in self.helpers {
            helper.take_back(self.job);
        }
    }
}

impl Helper {
    const fn new() -> Helper {
        Helper { word: AtomicPtr::new(EMPTY), thread: OnceLock::new() }
    }

    /// For the caller: offers a job, to a parked helper only with `wake`.
    fn offer(&self, job: *mut Job<'static>, wake: bool) {
        let found = self.word.compare_exchange(EMPTY, job, Ordering::AcqRel, Ordering::Relaxed);
        if found == Err(PARKED)
            && wake
            && let Some(thread) = self.thread.get()
        {
            // A parked helper leaves the word alone.
            self.word.store(job, Ordering::Release);
            thread.unpark();
        }
    }

    /// For the caller: whether or not the job was taken, nobody is at it afterwards.
    fn take_back(&self, job: *mut Job<'static>) {
        let mut wait = Wait::default();
        loop {
            match self.word.load(Ordering::Acquire) {
                AT_WORK => {
                    if wait.poll().is_some_and(|waited| waited > UNSHARED) {
                        thread::yield_now();
                    }
                }
                word if word == job => {
                    let _ = self.word.compare_exchange(job, EMPTY, Ordering::AcqRel, Ordering::Relaxed);
                }
                _ => return,
            }
        }
    }

    /// The helper's life.
    fn serve(&self, number: usize) {
        float_mode::flush_for_good();
        loop {
            let job = self.next();
            // SAFETY: the word had this address, and now says that the job is taken. Whoever put the address there is in
            // `Team::run`, whose `Offered` lets neither `job` nor what it borrows go before the word is empty again.
            let job: &Job = unsafe { &*job };
            if catch_unwind(AssertUnwindSafe(|| (job.work)(number))).is_err() {
                job.panicked.store(true, Ordering::Relaxed);
            }
            self.word.store(EMPTY, Ordering::Release);
        }
    }

    /// Waits for a job and takes it.
    fn next(&self) -> *const Job<'static> {
        let mut wait = Wait::default();
        loop {
            let word = self.word.load(Ordering::Acquire);
            if word != EMPTY {
                match self.word.compare_exchange(word, AT_WORK, Ordering::AcqRel, Ordering::Relaxed) {
                    Ok(job) => return job,
                    Err(_) => continue,
                }
            }
            let Some(waited) = wait.poll() else { continue };
            let in_run = TAKEN.load(Ordering::Relaxed);
            let limit = if in_run { PATIENCE } else { Duration::from_nanos(SPIN_NS.load(Ordering::Relaxed)) };
            if waited >= limit {
                self.park();
                wait = Wait::default();
            } else if waited > UNSHARED {
                thread::yield_now();
            }
        }
    }

    fn park(&self) {
        if self.word.compare_exchange(EMPTY, PARKED, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            while self.word.load(Ordering::Acquire) == PARKED {
                thread::park();
            }
        }
    }
}

/// Polling, with a look at the clock now and then.
#[derive(Default)]
struct Wait {
    polls: u32,
    since: Option<Instant>,
}

impl Wait {
    /// A short pause, and how long there have been pauses, where it is time to look.
    fn poll(&mut self) -> Option<Duration> {
        spin_loop();
        self.polls += 1;
        if self.polls < POLLS {
            return None;
        }
        let now = Instant::now();
        let waited = now - *self.since.get_or_insert(now);
        // Those that have waited long let others have the core, and look at the clock each time.
        self.polls = if waited > UNSHARED { POLLS } else { 0 };
        Some(waited)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::sync::Barrier;

    /// The helpers: other tests of the process may have them for a moment.
    fn team(most: usize) -> Team {
        hire(most);
        loop {
            match Team::take(most, Duration::from_micros(50)) {
                Some(team) => return team,
                None => thread::yield_now(),
            }
        }
    }

    #[test]
    fn everybody_takes_part() {
        let mut team = team(3);
        for _ in 0..100 {
            let barrier = Barrier::new(4);
            let ids = Mutex::new(BTreeSet::new());
            team.run(4, true, &|number| {
                ids.lock().unwrap().insert((number, format!("{:?}", thread::current().id())));
                barrier.wait();
            });
            let ids = ids.into_inner().unwrap();
            assert_eq!(ids.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [0, 1, 2, 3]);
        }
    }

    #[test]
    fn nobody_keeps_a_job() {
        let mut team = team(3);
        // Helpers are parked or awake, come or come too late; each job lives on the stack of this loop only.
        for round in 0..20_000u64 {
            if round % 1000 == 0 {
                thread::sleep(Duration::from_millis(3));
            }
            let counts = [const { AtomicU64::new(0) }; 4];
            team.run(1 + round as usize % 4, round % 2 == 0, &|number| {
                counts[number].fetch_add(round, Ordering::Relaxed);
            });
            let counts = counts.map(|count| count.into_inner());
            assert_eq!(counts[0], round);
            assert!(counts[1..].iter().all(|&count| count == 0 || count == round), "{counts:?}");
        }
    }

    #[test]
    fn there_is_one_team() {
        let first = team(1);
        assert!(Team::take(1, Duration::ZERO).is_none());
        drop(first);
        drop(team(1));
    }

    #[test]
    fn a_panic_reaches_the_caller() {
        for guilty in [0, 1] {
            let mut team = team(1);
            let barrier = Barrier::new(2);
            let result = catch_unwind(AssertUnwindSafe(|| {
                team.run(2, true, &|number| {
                    barrier.wait();
                    // Told quietly: a hook would print it.
                    if number == guilty {
                        std::panic::resume_unwind(Box::new("guilty"));
                    }
                });
            }));
            assert!(result.is_err());
            let done = AtomicU64::new(0);
            team.run(2, true, &|_| {
                done.fetch_add(1, Ordering::Relaxed);
            });
            assert!(done.into_inner() >= 1);
        }
    }

    /// What it costs to hand over a step and to wait for its end: `cargo test -p fusewright-runtime hand_over -- --ignored
    /// --nocapture`.
    #[test]
    #[ignore = "measures, and prints what it finds"]
    fn hand_over_cost() {
        let mut team = team(1);
        let mut times = Vec::new();
        for _ in 0..2000 {
            let (start, helped) = (Instant::now(), AtomicU64::new(0));
            const STEPS: u64 = 50;
            for _ in 0..STEPS {
                let arrived = AtomicBool::new(false);
                team.run(2, true, &|number| match number {
                    0 => {
                        let mut wait = Wait::default();
                        while !arrived.load(Ordering::Relaxed) {
                            wait.poll();
                        }
                    }
                    _ => {
                        helped.fetch_add(1, Ordering::Relaxed);
                        arrived.store(true, Ordering::Relaxed);
                    }
                });
            }
            assert_eq!(helped.into_inner(), STEPS);
            times.push(start.elapsed().as_nanos() as u64 / STEPS);
        }
        times.sort_unstable();
        println!("a step that a helper takes part in: median {} ns, least {} ns", times[1000], times[0]);
    }
}
