//! Exact values that people rely on, and signs of zeros.

use super::super::trigonometric::sin_polynomial;
use super::super::*;
use super::scalar::Scalar;

const INF: f32 = f32::INFINITY;
const NAN: f32 = f32::NAN;
const MAX: f32 = f32::MAX;
const HALF_PI: f32 = std::f32::consts::FRAC_PI_2;

/// The same bits, or both NaN.
fn same(got: u32, want: f32) -> bool {
    got == want.to_bits() || f32::from_bits(got).is_nan() && want.is_nan()
}

macro_rules! exact {
    ($($name:ident: $($x:expr => $want:expr),*;)*) => { $($({
        let x: f32 = $x;
        let computed = $name(&Scalar::<false>::default(), x.to_bits());
        let looked_up = $name(&Scalar::<false, true>::default(), x.to_bits());
        for got in [computed, looked_up] {
            let value = f32::from_bits(got);
            assert!(same(got, $want), "{}({x:e}) is {value:e}, not {:e}", stringify!($name), $want);
        }
    })*)* };
}

#[test]
fn exact_values() {
    exact! {
        exp: 0.0 => 1.0, -0.0 => 1.0, INF => INF, -INF => 0.0, MAX => INF, -MAX => 0.0, NAN => NAN;
        exp2: 0.0 => 1.0, 10.0 => 1024.0, 128.0 => INF, INF => INF, -INF => 0.0, NAN => NAN;
        expm1: 0.0 => 0.0, -0.0 => -0.0, INF => INF, -INF => -1.0, -MAX => -1.0, NAN => NAN;
        log: 1.0 => 0.0, 0.0 => -INF, -0.0 => -INF, -1.0 => NAN, -1e-45 => NAN, -INF => NAN;
        log: INF => INF, NAN => NAN;
        log2: 1.0 => 0.0, 1e-45 => -149.0, 0.5 => -1.0, 0.0 => -INF, -MAX => NAN, INF => INF;
        log1p: 0.0 => 0.0, -0.0 => -0.0, -1.0 => -INF, -1.5 => NAN, -INF => NAN, INF => INF;
        sigmoid: 0.0 => 0.5, INF => 1.0, -INF => 0.0, MAX => 1.0, -MAX => 0.0, NAN => NAN;
        softplus: INF => INF, -INF => 0.0, MAX => MAX, 100.0 => 100.0, NAN => NAN;
        tanh: 0.0 => 0.0, 1e-45 => 1e-45, INF => 1.0, -INF => -1.0, 10.0 => 1.0, NAN => NAN;
        sinh: 0.0 => 0.0, -0.0 => -0.0, INF => INF, -INF => -INF, NAN => NAN;
        cosh: 0.0 => 1.0, -0.0 => 1.0, INF => INF, -INF => INF, NAN => NAN;
        asinh: 0.0 => 0.0, -0.0 => -0.0, INF => INF, -INF => -INF, NAN => NAN;
        acosh: 1.0 => 0.0, 0.999 => NAN, -5.0 => NAN, -INF => NAN, INF => INF, NAN => NAN;
        atanh: 0.0 => 0.0, -0.0 => -0.0, 1.0 => INF, -1.0 => -INF, 1.001 => NAN, INF => NAN;
        erf: 0.0 => 0.0, -0.0 => -0.0, INF => 1.0, -INF => -1.0, 5.0 => 1.0, NAN => NAN;
        erfc: 0.0 => 1.0, INF => 0.0, -INF => 2.0, MAX => 0.0, NAN => NAN;
        normal_cdf: 0.0 => 0.5, INF => 1.0, -INF => 0.0, NAN => NAN;
        gelu: 0.0 => 0.0, -0.0 => -0.0, INF => INF, MAX => MAX, NAN => NAN;
        sin: 0.0 => 0.0, -0.0 => -0.0, HALF_PI => 1.0, INF => NAN, -INF => NAN, NAN => NAN;
        cos: 0.0 => 1.0, -0.0 => 1.0, INF => NAN, -INF => NAN, NAN => NAN;
        tan: 0.0 => 0.0, -0.0 => -0.0, INF => NAN, -INF => NAN, NAN => NAN;
        sin_large: 0.0 => 0.0, -0.0 => -0.0, INF => NAN, -INF => NAN, NAN => NAN;
        cos_large: 0.0 => 1.0, -0.0 => 1.0, INF => NAN, -INF => NAN, NAN => NAN;
        tan_large: 0.0 => 0.0, -0.0 => -0.0, INF => NAN, -INF => NAN, NAN => NAN;
        asin: 0.0 => 0.0, -0.0 => -0.0, 1.0 => HALF_PI, -1.0 => -HALF_PI, 1.000_000_1 => NAN;
        acos: 1.0 => 0.0, 0.0 => HALF_PI, -1.0 => 2.0 * HALF_PI, -1.000_000_1 => NAN, INF => NAN;
        atan: 0.0 => 0.0, -0.0 => -0.0, INF => HALF_PI, -INF => -HALF_PI, NAN => NAN;
    }
}

/// The polynomial of the sine stays in its range for every reduced argument near pi / 2.
#[test]
fn sine_is_at_most_one() {
    let l = Scalar::<false>::default();
    for bits in 1.5f32.to_bits()..1.59f32.to_bits() {
        let sine = f32::from_bits(sin_polynomial(&l, bits));
        assert!(sine <= 1.0, "sin {} is {sine}", f32::from_bits(bits));
    }
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

macro_rules! exact_pairs {
    ($name:ident: $($a:expr, $b:expr => $want:expr;)*) => { $({
        let (a, b): (f32, f32) = ($a, $b);
        let got = $name(&Scalar::<false>::default(), a.to_bits(), b.to_bits());
        let value = f32::from_bits(got);
        assert!(same(got, $want), "{}({a}, {b}) is {value}, not {}", stringify!($name), $want);
    })* };
}

/// The special values of pow in C17, F.10.4.4.
#[test]
fn pow_of_special_values() {
    exact_pairs! { pow:
        0.0, -3.0 => INF; -0.0, -3.0 => -INF; 0.0, -2.0 => INF; -0.0, -2.0 => INF;
        -0.0, -2.5 => INF; 0.0, -INF => INF; -0.0, -INF => INF;
        0.0, 3.0 => 0.0; -0.0, 3.0 => -0.0; 0.0, 2.0 => 0.0; -0.0, 2.0 => 0.0; -0.0, 0.5 => 0.0;
        -1.0, INF => 1.0; -1.0, -INF => 1.0; 1.0, NAN => 1.0; 1.0, -INF => 1.0;
        NAN, 0.0 => 1.0; NAN, -0.0 => 1.0; INF, 0.0 => 1.0; -2.0, 0.0 => 1.0;
        NAN, 1.0 => NAN; -1.0, NAN => NAN; 0.0, NAN => NAN; INF, NAN => NAN; NAN, INF => NAN;
        -2.0, 0.5 => NAN; -2.0, 3.0 => -8.0; -2.0, 2.0 => 4.0; -2.0, -3.0 => -0.125;
        0.5, -INF => INF; 2.0, -INF => 0.0; 0.5, INF => 0.0; -2.0, INF => INF; -0.5, INF => 0.0;
        -INF, -3.0 => -0.0; -INF, -2.0 => 0.0; -INF, 3.0 => -INF; -INF, 2.0 => INF;
        -INF, 0.5 => INF; INF, -1.0 => 0.0; INF, 1.0 => INF; -3.0, 16_777_216.0 => INF;
        3.0, 1.0 => 3.0; 10.0, 2.0 => 100.0; 1e-45, 1.0 => 0.0; 1e-45, -0.5 => 2f32.powf(74.5);
    }
}

/// The special values of atan2 in C17, F.10.1.4.
#[test]
fn atan2_of_special_values() {
    use std::f32::consts::{FRAC_PI_4, PI};
    exact_pairs! { atan2:
        0.0, 0.0 => 0.0; -0.0, 0.0 => -0.0; 0.0, -0.0 => PI; -0.0, -0.0 => -PI;
        0.0, -1.0 => PI; -0.0, -1.0 => -PI; 0.0, 1.0 => 0.0; -0.0, 1.0 => -0.0;
        -1.0, 0.0 => -HALF_PI; 1.0, 0.0 => HALF_PI; 1.0, -0.0 => HALF_PI;
        1.0, -INF => PI; -1.0, -INF => -PI; 1.0, INF => 0.0; -1.0, INF => -0.0;
        INF, 1.0 => HALF_PI; -INF, -1.0 => -HALF_PI;
        INF, INF => FRAC_PI_4; -INF, INF => -FRAC_PI_4; INF, -INF => 3.0 * FRAC_PI_4;
        NAN, 1.0 => NAN; 1.0, NAN => NAN; NAN, 0.0 => NAN; 0.0, NAN => NAN; INF, NAN => NAN;
        NAN, -INF => NAN;
    }
}
