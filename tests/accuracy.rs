//! The accuracy contract of the elementary functions, held by emitted code: within 4 units in the last place of the true
//! value where that is a normal number, in range, NaN of NaN alone.
//!
//! `cargo test --release --test accuracy -- --ignored` takes every f32 there is.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use fusewright::{Model, Options, Session, Tensor, bindings};

const BOUND: f64 = 4.0;
/// What the f32 nearest to pi / 2 is.
const HALF_PI: f64 = std::f32::consts::FRAC_PI_2 as f64;
/// Numbers a run.
const BATCH: usize = 1 << 16;
/// A prime: the tests that are not ignored take every so-many-th of all 2^32 floats.
const STRIDE: usize = 1021;

struct Function {
    layer: &'static str,
    range: (f64, f64),
    reference: fn(f64) -> f64,
}

const FUNCTIONS: &[Function] = &[
    Function { layer: "Exp", range: (0.0, f64::INFINITY), reference: f64::exp },
    Function { layer: "Tanh", range: (-1.0, 1.0), reference: f64::tanh },
    Function { layer: "Sigmoid", range: (0.0, 1.0), reference: |x| 1.0 / (1.0 + (-x).exp()) },
    Function { layer: "Erf", range: (-1.0, 1.0), reference: libm::erf },
    Function { layer: "Gelu", range: (-0.17, f64::INFINITY), reference: gelu },
    Function { layer: "Log", range: (f64::NEG_INFINITY, f64::INFINITY), reference: f64::ln },
    Function { layer: "Expm1", range: (-1.0, f64::INFINITY), reference: f64::exp_m1 },
    Function { layer: "Log1p", range: (f64::NEG_INFINITY, f64::INFINITY), reference: f64::ln_1p },
    Function { layer: "Sin", range: (-1.0, 1.0), reference: f64::sin },
    Function { layer: "Cos", range: (-1.0, 1.0), reference: f64::cos },
    Function { layer: "Atan", range: (-HALF_PI, HALF_PI), reference: f64::atan },
];

/// x Phi(x) and its limit.
fn gelu(x: f64) -> f64 {
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
    let exponent = (want.abs().to_bits() >> 52) as i32 - 1023;
    (got - want).abs() / 2f64.powi(exponent.clamp(-126, 127) - 23)
}

impl Function {
    fn session(&self) -> Session {
        let text = format!(
            "(fusewright: 1, inputs: [(name: \"x\", shape: [{BATCH}])], layers: [{}(name: \"y\")])",
            self.layer
        );
        let executable = Model::parse(&text).unwrap().compile(Options::default()).unwrap();
        executable.session(&bindings([])).unwrap()
    }

    /// Takes every `stride`-th float.
    fn check(&self, stride: usize) {
        let mut session = self.session();
        let mut worst = (0.0, 0.0f32, 0.0f32);
        let mut bits = (0..1u64 << 32).step_by(stride).map(|bits| f32::from_bits(bits as u32));
        loop {
            let mut x: Vec<f32> = bits.by_ref().take(BATCH).collect();
            let n = x.len();
            if n == 0 {
                break;
            }
            x.resize(BATCH, 0.0);
            let x = Tensor::from_vec(&[BATCH], x);
            let results = session.run_tensors(&[("x", &x)]).unwrap();
            let pairs = x.as_slice::<f32>().unwrap().iter().zip(results[0].1.as_slice::<f32>().unwrap());
            for (&x, &got) in pairs.take(n) {
                let mut error = ulps(got, (self.reference)(x.into()));
                if x.is_subnormal() {
                    // It may count as a zero.
                    error = error.min(ulps(got, (self.reference)(0f64.copysign(x.into()))));
                }
                if !(got.is_nan() || (self.range.0..=self.range.1).contains(&f64::from(got))) {
                    error = f64::INFINITY;
                }
                if error > worst.0 {
                    worst = (error, x, got);
                }
            }
        }
        let (error, x, got) = worst;
        let want = (self.reference)(x.into());
        let line =
            format!("{:8} {error:.3} ULP at {x:e} ({:#010x}): {got:e}, {want:e} is right", self.layer, x.to_bits());
        println!("{line}");
        assert!(error <= BOUND, "{line}");
    }
}

#[test]
fn samples_are_within_the_bound() {
    for function in FUNCTIONS {
        function.check(STRIDE);
    }
}

#[test]
#[ignore = "takes a quarter of an hour"]
fn all_floats_are_within_the_bound() {
    for function in FUNCTIONS {
        function.check(1);
    }
}
