//! Exact values that people rely on, and signs of zeros.

use super::super::*;
use super::scalar::Scalar;

const INF: f32 = f32::INFINITY;
const NAN: f32 = f32::NAN;
type Unary = fn(&Scalar<false>, u32) -> u32;

fn check(name: &str, function: Unary, cases: &[(f32, f32)]) {
    for &(x, want) in cases {
        let got = f32::from_bits(function(&Scalar::default(), x.to_bits()));
        assert!(
            got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan(),
            "{name}({x:e}) is {got:e}, not {want:e}"
        );
    }
}

#[test]
fn exact_values() {
    const MAX: f32 = f32::MAX;
    check("exp", exp, &[(0.0, 1.0), (-0.0, 1.0), (INF, INF), (-INF, 0.0), (MAX, INF), (-MAX, 0.0), (NAN, NAN)]);
    check(
        "exp2",
        exp2,
        &[(0.0, 1.0), (10.0, 1024.0), (-126.0, f32::MIN_POSITIVE), (128.0, INF), (-INF, 0.0), (INF, INF), (NAN, NAN)],
    );
    check("expm1", expm1, &[(0.0, 0.0), (-0.0, -0.0), (INF, INF), (-INF, -1.0), (-MAX, -1.0), (NAN, NAN)]);
    check(
        "log",
        log,
        &[(1.0, 0.0), (0.0, -INF), (-0.0, -INF), (-1.0, NAN), (-1e-45, NAN), (-INF, NAN), (INF, INF), (NAN, NAN)],
    );
    check("log2", log2, &[(1.0, 0.0), (1e-45, -149.0), (0.5, -1.0), (0.0, -INF), (-MAX, NAN), (INF, INF), (NAN, NAN)]);
    check("log1p", log1p, &[(0.0, 0.0), (-0.0, -0.0), (-1.0, -INF), (-1.5, NAN), (-INF, NAN), (INF, INF), (NAN, NAN)]);
    check("sigmoid", sigmoid, &[(0.0, 0.5), (INF, 1.0), (-INF, 0.0), (MAX, 1.0), (-MAX, 0.0), (NAN, NAN)]);
    check("softplus", softplus, &[(INF, INF), (-INF, 0.0), (MAX, MAX), (100.0, 100.0), (NAN, NAN)]);
    check("tanh", tanh, &[(0.0, 0.0), (-0.0, -0.0), (1e-45, 1e-45), (INF, 1.0), (-INF, -1.0), (10.0, 1.0), (NAN, NAN)]);
    check("sinh", sinh, &[(0.0, 0.0), (-0.0, -0.0), (INF, INF), (-INF, -INF), (NAN, NAN)]);
    check("cosh", cosh, &[(0.0, 1.0), (-0.0, 1.0), (INF, INF), (-INF, INF), (NAN, NAN)]);
    check("asinh", asinh, &[(0.0, 0.0), (-0.0, -0.0), (INF, INF), (-INF, -INF), (NAN, NAN)]);
    check("acosh", acosh, &[(1.0, 0.0), (0.999, NAN), (-5.0, NAN), (-INF, NAN), (INF, INF), (NAN, NAN)]);
    check(
        "atanh",
        atanh,
        &[(0.0, 0.0), (-0.0, -0.0), (1.0, INF), (-1.0, -INF), (1.001, NAN), (INF, NAN), (-INF, NAN), (NAN, NAN)],
    );
    check("erf", erf, &[(0.0, 0.0), (-0.0, -0.0), (INF, 1.0), (-INF, -1.0), (5.0, 1.0), (NAN, NAN)]);
    check("erfc", erfc, &[(0.0, 1.0), (INF, 0.0), (-INF, 2.0), (MAX, 0.0), (NAN, NAN)]);
    check("normal_cdf", normal_cdf, &[(0.0, 0.5), (INF, 1.0), (-INF, 0.0), (NAN, NAN)]);
    check("gelu", gelu, &[(0.0, 0.0), (-0.0, -0.0), (INF, INF), (MAX, MAX), (NAN, NAN)]);
    check("sin", sin, &[(0.0, 0.0), (-0.0, -0.0), (INF, NAN), (-INF, NAN), (NAN, NAN)]);
    check("cos", cos, &[(0.0, 1.0), (-0.0, 1.0), (INF, NAN), (-INF, NAN), (NAN, NAN)]);
    check("tan", tan, &[(0.0, 0.0), (-0.0, -0.0), (INF, NAN), (-INF, NAN), (NAN, NAN)]);
    check("sin_large", sin_large, &[(0.0, 0.0), (-0.0, -0.0), (INF, NAN), (-INF, NAN), (NAN, NAN)]);
    check("cos_large", cos_large, &[(0.0, 1.0), (-0.0, 1.0), (INF, NAN), (-INF, NAN), (NAN, NAN)]);
    check("tan_large", tan_large, &[(0.0, 0.0), (-0.0, -0.0), (INF, NAN), (-INF, NAN), (NAN, NAN)]);
    const HALF_PI: f32 = std::f32::consts::FRAC_PI_2;
    check(
        "asin",
        asin,
        &[(0.0, 0.0), (-0.0, -0.0), (1.0, HALF_PI), (-1.0, -HALF_PI), (1.000_000_1, NAN), (INF, NAN), (NAN, NAN)],
    );
    check(
        "acos",
        acos,
        &[(1.0, 0.0), (0.0, HALF_PI), (-1.0, 2.0 * HALF_PI), (-1.000_000_1, NAN), (-INF, NAN), (NAN, NAN)],
    );
    check("atan", atan, &[(0.0, 0.0), (-0.0, -0.0), (INF, HALF_PI), (-INF, -HALF_PI), (NAN, NAN)]);
}

/// Powers of two have exact logarithms and are exact powers.
#[test]
fn powers_of_two() {
    let l = Scalar::<false>::default();
    for n in -126..=127 {
        let power = 2f32.powi(n);
        assert_eq!(f32::from_bits(log2(&l, power.to_bits())), n as f32);
        assert_eq!(f32::from_bits(exp2(&l, (n as f32).to_bits())), power);
        assert_eq!(f32::from_bits(pow(&l, 2f32.to_bits(), (n as f32).to_bits())), power);
    }
}

/// The special values of pow in C17, F.10.4.4.
#[test]
fn pow_of_special_values() {
    let cases: [(f32, f32, f32); 39] = [
        (0.0, -3.0, INF),
        (-0.0, -3.0, -INF),
        (0.0, -2.0, INF),
        (-0.0, -2.0, INF),
        (-0.0, -2.5, INF),
        (0.0, -INF, INF),
        (-0.0, -INF, INF),
        (0.0, 3.0, 0.0),
        (-0.0, 3.0, -0.0),
        (0.0, 2.0, 0.0),
        (-0.0, 2.0, 0.0),
        (-0.0, 0.5, 0.0),
        (-1.0, INF, 1.0),
        (-1.0, -INF, 1.0),
        (1.0, NAN, 1.0),
        (1.0, -INF, 1.0),
        (NAN, 0.0, 1.0),
        (NAN, -0.0, 1.0),
        (INF, 0.0, 1.0),
        (NAN, 1.0, NAN),
        (-1.0, NAN, NAN),
        (0.0, NAN, NAN),
        (INF, NAN, NAN),
        (-2.0, 0.5, NAN),
        (-2.0, 3.0, -8.0),
        (-2.0, 2.0, 4.0),
        (-2.0, -3.0, -0.125),
        (0.5, -INF, INF),
        (2.0, -INF, 0.0),
        (0.5, INF, 0.0),
        (-2.0, INF, INF),
        (-INF, -3.0, -0.0),
        (-INF, -2.0, 0.0),
        (-INF, 3.0, -INF),
        (-INF, 2.0, INF),
        (-INF, 0.5, INF),
        (INF, -1.0, 0.0),
        (INF, 1.0, INF),
        (-3.0, 16_777_216.0, INF),
    ];
    for (x, y, want) in cases {
        let got = f32::from_bits(pow(&Scalar::<false>::default(), x.to_bits(), y.to_bits()));
        assert!(got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan(), "pow({x}, {y}) is {got}, not {want}");
    }
}

/// The special values of atan2 in C17, F.10.1.4.
#[test]
fn atan2_of_special_values() {
    use std::f32::consts::{FRAC_PI_2, FRAC_PI_4, PI};
    let cases: [(f32, f32, f32); 14] = [
        (0.0, 0.0, 0.0),
        (-0.0, 0.0, -0.0),
        (0.0, -0.0, PI),
        (-0.0, -0.0, -PI),
        (0.0, -1.0, PI),
        (0.0, 1.0, 0.0),
        (-1.0, 0.0, -FRAC_PI_2),
        (1.0, -0.0, FRAC_PI_2),
        (1.0, -INF, PI),
        (-1.0, INF, -0.0),
        (INF, 1.0, FRAC_PI_2),
        (-INF, INF, -FRAC_PI_4),
        (INF, -INF, 3.0 * FRAC_PI_4),
        (NAN, 1.0, NAN),
    ];
    for (y, x, want) in cases {
        let got = f32::from_bits(atan2(&Scalar::<false>::default(), y.to_bits(), x.to_bits()));
        assert!(
            got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan(),
            "atan2({y}, {x}) is {got}, not {want}"
        );
    }
}

/// Half of a NaN pair is enough, on either side.
#[test]
fn nan_arguments_of_atan2() {
    let l = Scalar::<false>::default();
    for x in [0.0, -0.0, 1.0, -2.0, INF, -INF] {
        assert!(f32::from_bits(atan2(&l, NAN.to_bits(), f32::to_bits(x))).is_nan());
        assert!(f32::from_bits(atan2(&l, f32::to_bits(x), NAN.to_bits())).is_nan());
    }
}
