//! The accuracy contract of the elementary functions, held by the code that is emitted for every instruction set of this
//! machine: within 4 units in the last place of the true value where that is a normal number, in range, NaN of NaN.
//!
//! `cargo test --release --test accuracy -- --ignored` takes every f32 there is, on all cores, which takes minutes;
//! `-- --ignored --nocapture all_floats::exp` takes them for `exp` and `expm1`, and shows the largest errors.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use fusewright::{Isa, Model, Options, Session, Tensor, bindings};
use std::thread;

const BOUND: f64 = 4.0;
/// What the f32 nearest to pi / 2 is.
const HALF_PI: f64 = std::f32::consts::FRAC_PI_2 as f64;
/// Numbers a run.
const BATCH: u64 = 1 << 16;
/// A prime: the tests that are not ignored take every so-many-th of all 2^32 floats.
const STRIDE: u64 = 1021;

struct Function {
    layer: &'static str,
    range: (f64, f64),
    reference: fn(f64) -> f64,
}

/// Two tests for every function of a table: one of samples, on one core, and one of all floats.
macro_rules! functions {
    ($($name:ident: $layer:literal in [$low:expr, $high:expr] => $reference:expr;)*) => {
        mod samples {
            use super::*;
            $(#[test]
            fn $name() {
                Function { layer: $layer, range: ($low, $high), reference: $reference }.check(STRIDE, 1);
            })*
        }

        mod all_floats {
            use super::*;
            $(#[test]
            #[ignore = "takes minutes"]
            fn $name() {
                let cores = thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
                Function { layer: $layer, range: ($low, $high), reference: $reference }.check(1, cores);
            })*
        }
    };
}

functions! {
    exp: "Exp" in [0.0, f64::INFINITY] => f64::exp;
    expm1: "Expm1" in [-1.0, f64::INFINITY] => f64::exp_m1;
    log: "Log" in [f64::NEG_INFINITY, f64::INFINITY] => f64::ln;
    log1p: "Log1p" in [f64::NEG_INFINITY, f64::INFINITY] => f64::ln_1p;
    tanh: "Tanh" in [-1.0, 1.0] => f64::tanh;
    sigmoid: "Sigmoid" in [0.0, 1.0] => |x| 1.0 / (1.0 + (-x).exp());
    erf: "Erf" in [-1.0, 1.0] => libm::erf;
    gelu: "Gelu" in [-0.17, f64::INFINITY] => gelu_reference;
    sin: "Sin" in [-1.0, 1.0] => f64::sin;
    cos: "Cos" in [-1.0, 1.0] => f64::cos;
    atan: "Atan" in [-HALF_PI, HALF_PI] => f64::atan;
}

/// x Phi(x) and its limit.
fn gelu_reference(x: f64) -> f64 {
    if x == f64::NEG_INFINITY { -0.0 } else { x * 0.5 * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2) }
}

/// How far a result is from `want`, in units in the last place of `want`; what is not normal may be zero.
fn ulps(got: f32, want: f64) -> f64 {
    if got.is_nan() || want.is_nan() {
        return if got.is_nan() && want.is_nan() { 0.0 } else { f64::INFINITY };
    }
    let smallest = f64::from(f32::MIN_POSITIVE) * (1.0 + BOUND * f64::from(f32::EPSILON));
    if want.abs() < smallest && f64::from(got.abs()) <= smallest {
        return if got == 0.0 || (got < 0.0) == (want < 0.0) { 0.0 } else { f64::INFINITY };
    }
    // Infinity counts as the next float after the largest.
    let beyond = 2f64.powi(128);
    let (got, want) = (f64::from(got).clamp(-beyond, beyond), want.clamp(-beyond, beyond));
    let exponent = (want.abs().to_bits() >> 52) as i64 - 1023;
    let unit = f64::from_bits(((exponent.clamp(-126, 127) - 23 + 1023) as u64) << 52);
    (got - want).abs() / unit
}

/// The largest error that was seen, and where.
#[derive(Clone, Copy, Default)]
struct Worst {
    ulps: f64,
    at: f32,
    got: f32,
}

impl Worst {
    fn or(self, other: Worst) -> Worst {
        if other.ulps > self.ulps { other } else { self }
    }
}

impl Function {
    fn session(&self, isa: Isa) -> Session {
        let text = format!(
            "(fusewright: 1, inputs: [(name: \"x\", shape: [{BATCH}])], layers: [{}(name: \"y\")])",
            self.layer
        );
        let executable = Model::parse(&text).unwrap().compile(Options { isa, ..Options::default() }).unwrap();
        executable.session(&bindings([])).unwrap()
    }

    /// Takes every `stride`-th float, on so many threads.
    fn check(&self, stride: u64, threads: u64) {
        let isas: Vec<Isa> = Isa::ALL.into_iter().filter(|isa| isa.is_available()).collect();
        let mut worst = vec![Worst::default(); isas.len()];
        thread::scope(|scope| {
            let isas = &isas;
            let parts: Vec<_> =
                (0..threads).map(|part| scope.spawn(move || self.part(isas, stride, part, threads))).collect();
            for part in parts {
                let found = part.join().unwrap();
                worst.iter_mut().zip(found).for_each(|(worst, found)| *worst = worst.or(found));
            }
        });
        let lines: Vec<String> = isas.iter().zip(&worst).map(|(isa, worst)| self.line(*isa, worst)).collect();
        println!("{}", lines.join("\n"));
        for (line, worst) in lines.iter().zip(&worst) {
            assert!(worst.ulps <= BOUND, "{line}");
        }
    }

    /// The largest error of each instruction set in one of `parts` equal parts, batches in turn: some are slower than others.
    fn part(&self, isas: &[Isa], stride: u64, part: u64, parts: u64) -> Vec<Worst> {
        let mut sessions: Vec<Session> = isas.iter().map(|&isa| self.session(isa)).collect();
        let mut worst = vec![Worst::default(); isas.len()];
        let batches = (1u64 << 32).div_ceil(stride).div_ceil(BATCH);
        for batch in (part..batches).step_by(parts as usize) {
            // The last batch begins anew with small numbers where the floats end.
            let bits = (batch * BATCH..(batch + 1) * BATCH).map(|i| (i * stride) as u32);
            let x: Vec<f32> = bits.map(f32::from_bits).collect();
            let wants: Vec<f64> = x.iter().map(|&x| (self.reference)(x.into())).collect();
            let x = Tensor::from_vec(&[BATCH as usize], x);
            let mut before: Option<(Tensor, Worst)> = None;
            for (session, worst) in sessions.iter_mut().zip(&mut worst) {
                let results = session.run_tensors(&[("x", &x)]).unwrap().swap_remove(0).1;
                // Mostly the bits are those of the instruction set before.
                let found = match before {
                    Some((same, found)) if same.data().bytes() == results.data().bytes() => found,
                    _ => self.worst(x.as_slice().unwrap(), results.as_slice().unwrap(), &wants),
                };
                *worst = worst.or(found);
                before = Some((results, found));
            }
        }
        worst
    }

    fn worst(&self, x: &[f32], results: &[f32], wants: &[f64]) -> Worst {
        let results = x.iter().zip(results).zip(wants);
        results.fold(Worst::default(), |worst, ((&at, &got), &want)| {
            worst.or(Worst { ulps: self.error(at, got, want), at, got })
        })
    }

    fn error(&self, x: f32, got: f32, want: f64) -> f64 {
        if !(got.is_nan() || (self.range.0..=self.range.1).contains(&f64::from(got))) {
            return f64::INFINITY;
        }
        let error = ulps(got, want);
        // What is subnormal may count as a zero.
        if x.is_subnormal() { error.min(ulps(got, (self.reference)(0f64.copysign(x.into())))) } else { error }
    }

    fn line(&self, isa: Isa, &Worst { ulps, at, got }: &Worst) -> String {
        let want = (self.reference)(at.into());
        let (layer, bits) = (self.layer, at.to_bits());
        format!("{isa:8} {layer:8} {ulps:.3} ULP at {at:e} ({bits:#010x}): {got:e}, {want:e} is right")
    }
}
