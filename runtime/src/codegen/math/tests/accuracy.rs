//! Every function against f64: at most 4 units in the last place, and in its range.

use super::super::*;
use super::scalar::Scalar;

/// The bound of the module's documentation.
const BOUND: f64 = 4.0;
/// A prime: the sampled tests take every so-many-th of all 2^32 floats.
const STRIDE: u64 = 1511;
const STRIDE_FLUSHED: u64 = 4099;

/// Distance in units in the last place of `want`. Where that is subnormal: 0 for +0 and for
/// subnormal numbers of the same sign. Infinite if only one is NaN.
fn ulps(got: f32, want: f64) -> f64 {
    const SMALLEST: f64 = f32::MIN_POSITIVE as f64;
    const BEYOND: f64 = 2.0 * 170_141_183_460_469_231_731_687_303_715_884_105_728.0;
    if want.is_nan() || got.is_nan() {
        return if want.is_nan() && got.is_nan() { 0.0 } else { f64::INFINITY };
    }
    let just_above = SMALLEST * (1.0 + BOUND * f64::from(f32::EPSILON));
    if want.abs() < just_above && f64::from(got.abs()) <= just_above {
        return if got.to_bits() == 0 || want.is_sign_negative() == got.is_sign_negative() {
            0.0
        } else {
            f64::INFINITY
        };
    }
    // Infinity counts as the next float after the largest.
    let want = want.clamp(-BEYOND, BEYOND);
    let got = f64::from(got).clamp(-BEYOND, BEYOND);
    let exponent = (want.abs().to_bits() >> 52) as i64 - 1023;
    let unit = 2f64.powi((exponent.clamp(-126, 127) - 23) as i32);
    (got - want).abs() / unit
}

struct Worst {
    ulps: f64,
    at: Vec<f32>,
    got: f32,
    want: f64,
}

impl Worst {
    fn new() -> Self {
        Worst { ulps: -1.0, at: Vec::new(), got: 0.0, want: 0.0 }
    }

    /// Takes the kindest of `wants`. With `FLUSH`, a subnormal term may have been lost.
    fn see<const FLUSH: bool>(&mut self, at: &[f32], got: f32, wants: &[f64], range: (f32, f32)) {
        let inside = got.is_nan() || (range.0 <= got && got <= range.1);
        let (error, want) = wants
            .iter()
            .map(|&want| {
                let lost = FLUSH && (f64::from(got) - want).abs() <= f64::from(f32::MIN_POSITIVE);
                let error = if lost { 0.0 } else { ulps(got, want) };
                (if inside { error } else { f64::INFINITY }, want)
            })
            .fold((f64::NAN, 0.0), |a, b| if b.0 >= a.0 { a } else { b });
        if error > self.ulps {
            *self = Worst { ulps: error, at: at.to_vec(), got, want };
        }
    }

    fn check(&self, name: &str) {
        let bits: Vec<String> = self.at.iter().map(|x| format!("{:#010x}", x.to_bits())).collect();
        let line = format!(
            "{name:24} {:6.3} ULP at {:?} ({}): got {:e}, want {:e}",
            self.ulps,
            self.at,
            bits.join(", "),
            self.got,
            self.want
        );
        println!("{line}");
        assert!(self.ulps <= BOUND, "{line}");
    }
}

/// What a result may be when `x` may have been taken for a zero.
fn wants<const FLUSH: bool>(x: f32, reference: impl Fn(f64) -> f64) -> [f64; 2] {
    let want = reference(f64::from(x));
    if FLUSH && x.is_subnormal() { [want, reference(0f64.copysign(f64::from(x)))] } else { [want, want] }
}

fn unary<const FLUSH: bool, const TABLES: bool>(
    name: &str,
    stride: u64,
    range: (f32, f32),
    largest: f32,
    function: impl Fn(&Scalar<FLUSH, TABLES>, u32) -> u32,
    reference: impl Fn(f64) -> f64,
) {
    let l = Scalar::default();
    let mut worst = Worst::new();
    for bits in (0..1u64 << 32).step_by(stride as usize) {
        let x = f32::from_bits(bits as u32);
        if x.abs() > largest && x.is_finite() {
            continue;
        }
        let got = f32::from_bits(function(&l, x.to_bits()));
        worst.see::<FLUSH>(&[x], got, &wants::<FLUSH>(x, &reference), range);
    }
    worst.check(name);
}

/// One sampled test, one under flushing and one over all arguments for every function of a table.
macro_rules! unary {
    ($($name:ident in [$low:expr, $high:expr] $(up to $largest:expr)? => $reference:expr;)*) => {
        mod sampled {
            use super::*;
            $(#[test]
            fn $name() {
                let largest = [f32::INFINITY $(, $largest)?];
                let largest = largest[largest.len() - 1];
                let name = stringify!($name);
                unary::<false, false>(name, STRIDE, ($low, $high), largest, function::$name, $reference);
            })*
        }
        mod flushed {
            use super::*;
            $(#[test]
            fn $name() {
                let largest = [f32::INFINITY $(, $largest)?];
                let largest = largest[largest.len() - 1];
                let (name, stride) = (concat!(stringify!($name), ", flushed"), STRIDE_FLUSHED);
                unary::<true, false>(name, stride, ($low, $high), largest, function::$name, $reference);
            })*
        }
        mod all {
            use super::*;
            $(#[test]
            #[ignore = "takes minutes"]
            fn $name() {
                let largest = [f32::INFINITY $(, $largest)?];
                let largest = largest[largest.len() - 1];
                let name = concat!(stringify!($name), ", all");
                unary::<false, false>(name, 1, ($low, $high), largest, function::$name, $reference);
            })*
        }
        /// The functions under test, which have the names of the tests.
        mod function {
            pub use super::super::super::{$($name),*};
        }
    };
}

const INF: f32 = f32::INFINITY;
const HALF_PI: f32 = std::f32::consts::FRAC_PI_2;

unary! {
    exp in [0.0, INF] => f64::exp;
    exp2 in [0.0, INF] => f64::exp2;
    expm1 in [-1.0, INF] => f64::exp_m1;
    log in [-INF, INF] => f64::ln;
    log2 in [-INF, INF] => f64::log2;
    log1p in [-INF, INF] => f64::ln_1p;
    sigmoid in [0.0, 1.0] => |x| 1.0 / (1.0 + (-x).exp());
    softplus in [0.0, INF] => |x| if x > 0.0 { x + (-x).exp().ln_1p() } else { x.exp().ln_1p() };
    tanh in [-1.0, 1.0] => f64::tanh;
    sinh in [-INF, INF] => f64::sinh;
    cosh in [1.0, INF] => f64::cosh;
    asinh in [-INF, INF] => f64::asinh;
    acosh in [0.0, INF] => f64::acosh;
    atanh in [-INF, INF] => f64::atanh;
    erf in [-1.0, 1.0] => libm::erf;
    erfc in [0.0, 2.0] => libm::erfc;
    normal_cdf in [0.0, 1.0] => cdf;
    gelu in [-0.17, INF] => |x| if x == f64::NEG_INFINITY { -0.0 } else { x * cdf(x) };
    sin in [-1.0, 1.0] up to LARGE => f64::sin;
    cos in [-1.0, 1.0] up to LARGE => f64::cos;
    tan in [-INF, INF] up to LARGE => f64::tan;
    sin_large in [-1.0, 1.0] => f64::sin;
    cos_large in [-1.0, 1.0] => f64::cos;
    tan_large in [-INF, INF] => f64::tan;
    asin in [-HALF_PI, HALF_PI] => f64::asin;
    acos in [0.0, std::f32::consts::PI] => f64::acos;
    atan in [-HALF_PI, HALF_PI] => f64::atan;
}

/// Functions that look up tables where the target has an instruction for it.
mod by_tables {
    use super::*;

    fn reference(x: f64) -> f64 {
        if x == f64::NEG_INFINITY { -0.0 } else { x * cdf(x) }
    }

    #[test]
    fn gelu_sampled() {
        unary::<false, true>("gelu by tables", STRIDE, (-0.17, INF), INF, gelu, reference);
    }

    #[test]
    fn gelu_flushed() {
        unary::<true, true>("gelu by tables, flushed", STRIDE_FLUSHED, (-0.17, INF), INF, gelu, reference);
    }

    #[test]
    #[ignore = "takes minutes"]
    fn gelu_all() {
        unary::<false, true>("gelu by tables, all", 1, (-0.17, INF), INF, gelu, reference);
    }
}

fn cdf(x: f64) -> f64 {
    0.5 * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2)
}

/// Pairs of floats: every pair of interesting ones, pairs near 1 and pairs of random bits.
fn pairs(random: u64) -> impl Iterator<Item = (f32, f32)> {
    let interesting: Vec<f32> = [
        0.0,
        1e-45,
        1e-39,
        f32::MIN_POSITIVE,
        1e-30,
        1e-10,
        0.1,
        1.0 / 3.0,
        0.5,
        0.707,
        0.75,
        0.999_999_94,
        1.0,
        1.000_000_1,
        1.414_213_5,
        1.5,
        2.0,
        2.5,
        3.0,
        4.0,
        5.0,
        7.5,
        10.0,
        100.0,
        127.0,
        128.0,
        149.0,
        150.0,
        1e5,
        8_388_607.0,
        8_388_607.5,
        16_777_215.0,
        16_777_216.0,
        1e10,
        1e30,
        f32::MAX,
        INF,
        f32::NAN,
    ]
    .into_iter()
    .flat_map(|x: f32| [x, -x])
    .collect();
    let every = interesting.clone();
    let grid = every.into_iter().flat_map(move |a| interesting.clone().into_iter().map(move |b| (a, b)));
    // SplitMix64.
    let bits = (1..=random).map(|i| {
        let mut z = i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    });
    let random = bits.map(|z| {
        let (a, b) = ((z >> 32) as u32, z as u32);
        match z >> 62 {
            // Anything.
            0 => (f32::from_bits(a.rotate_left(2)), f32::from_bits(b)),
            // Sizes from 2^-8 to 2^8.
            1 | 2 => (moderate(a, 8), moderate(b, 8)),
            // Near 1, with powers that may still overflow.
            _ => (1.0 + (a as i32 >> 8) as f32 * 2f32.powi(-26), moderate(b, 16)),
        }
    });
    grid.chain(random)
}

/// The bits with an exponent cut to `-limit..limit`.
fn moderate(bits: u32, limit: u32) -> f32 {
    let exponent = 127 - limit + ((bits >> 23) & 0xff) % (2 * limit);
    f32::from_bits((bits & 0x807f_ffff) | (exponent << 23))
}

fn binary<const FLUSH: bool>(
    name: &str,
    n_random: u64,
    range: (f32, f32),
    function: impl Fn(&Scalar<FLUSH>, u32, u32) -> u32,
    reference: impl Fn(f64, f64) -> f64,
) {
    let l = Scalar::default();
    let mut worst = Worst::new();
    for (a, b) in pairs(n_random) {
        let got = f32::from_bits(function(&l, a.to_bits(), b.to_bits()));
        let [a0, a1] = wants::<FLUSH>(a, |a| a);
        let [b0, b1] = wants::<FLUSH>(b, |b| b);
        let all = [(a0, b0), (a0, b1), (a1, b0), (a1, b1)].map(|(a, b)| reference(a, b));
        worst.see::<FLUSH>(&[a, b], got, &all, range);
    }
    worst.check(name);
}

const PI: f32 = std::f32::consts::PI;
const N_PAIRS: u64 = 4_000_000;

#[test]
fn pow_sampled() {
    binary::<false>("pow", N_PAIRS, (-INF, INF), pow, f64::powf);
    binary::<true>("pow, flushed", N_PAIRS / 4, (-INF, INF), pow, f64::powf);
}

#[test]
fn atan2_sampled() {
    binary::<false>("atan2", N_PAIRS, (-PI, PI), atan2, f64::atan2);
    binary::<true>("atan2, flushed", N_PAIRS / 4, (-PI, PI), atan2, f64::atan2);
}

#[test]
#[ignore = "takes minutes"]
fn pow_many() {
    binary::<false>("pow, many", 1 << 30, (-INF, INF), pow, f64::powf);
}

#[test]
#[ignore = "takes minutes"]
fn atan2_many() {
    binary::<false>("atan2, many", 1 << 30, (-PI, PI), atan2, f64::atan2);
}
