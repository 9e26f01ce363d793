//! Folds with bounds that hold whatever the order in which an execution combines the values.

use super::FoldKind;
use super::bounded::{Bounded, HALF_ULP, Number, TINY, wrap};
use crate::tensor::DType;

/// The state of one fold at one outer point.
#[derive(Debug)]
pub(super) struct Accumulator {
    kind: FoldKind,
    dtype: DType,
    count: usize,
    /// The sum or product, or the mean of moments.
    value: f64,
    /// The same of integers.
    integer: i64,
    /// Of sums and moments the sum of the operands' errors.
    errors: f64,
    /// Of sums the sum of |value|, of products the product of |value| + error, of moments the greatest |value| + error.
    magnitude: f64,
    /// Of sums the least bit set in any value; of products the number of bits that the result may need.
    precision: f64,
    /// Of products the greatest and least partial product of any order; of moments the sums of squares of the
    /// differences from the mean and of the errors.
    extremes: [f64; 2],
    /// Of max and min: the winner and its place.
    best: Option<(Number, usize)>,
    /// The most that any loser may be (of min, negated), and the most that an inexact one may be; NaN where there is none.
    rivals: [f64; 2],
    /// The greatest low end of max (of min, negated).
    floor: f64,
}

impl Accumulator {
    pub fn new(kind: FoldKind, dtype: DType) -> Accumulator {
        let start = if kind == FoldKind::Product { 1.0 } else { 0.0 };
        Accumulator {
            kind,
            dtype,
            count: 0,
            value: start,
            integer: start as i64,
            errors: 0.0,
            magnitude: start,
            precision: if kind == FoldKind::Product { 0.0 } else { f64::INFINITY },
            extremes: [start, start],
            best: None,
            rivals: [f64::NAN; 2],
            floor: f64::NEG_INFINITY,
        }
    }

    pub fn push(&mut self, x: Number) {
        let Bounded { value, error } = x.real;
        match self.kind {
            FoldKind::Sum => {
                self.value += value;
                self.integer = wrap(self.integer.wrapping_add(x.integer), self.dtype);
                self.errors += error;
                self.magnitude += value.abs();
                self.precision = self.precision.min(least_bit(value));
            }
            FoldKind::Product => {
                self.value *= value;
                self.integer = wrap(self.integer.wrapping_mul(x.integer), self.dtype);
                self.errors += error;
                let most = value.abs() + error;
                self.magnitude *= most;
                self.precision += significant_bits(value);
                self.extremes[0] *= most.max(1.0);
                self.extremes[1] *= (value.abs() - error).clamp(0.0, 1.0);
            }
            FoldKind::Max | FoldKind::Min | FoldKind::ArgMax | FoldKind::ArgMin => self.compete(x),
            FoldKind::Moments => {
                let difference = value - self.value;
                self.value += difference / (self.count + 1) as f64;
                self.errors += error;
                self.magnitude = self.magnitude.max(value.abs() + error);
                self.extremes[0] += difference * (value - self.value);
                self.extremes[1] += error * error;
                self.precision = 0.0;
            }
        }
        self.count += 1;
    }

    fn least(&self) -> bool {
        matches!(self.kind, FoldKind::Min | FoldKind::ArgMin)
    }

    fn compete(&mut self, x: Number) {
        let least = self.least();
        let reach = |x: Number| if least { -x.real.low() } else { x.real.high() };
        self.floor = self.floor.max(if least { -x.real.high() } else { x.real.low() });
        let beats = |best: Number| match self.dtype.is_float() {
            true if best.real.value.is_nan() => false,
            true if x.real.value.is_nan() => true,
            true if least => x.real.value < best.real.value,
            true => x.real.value > best.real.value,
            false if least => x.integer < best.integer,
            false => x.integer > best.integer,
        };
        let loser = match self.best {
            Some((best, _)) if !beats(best) => Some(x),
            old => {
                self.best = Some((x, self.count));
                old.map(|(best, _)| best)
            }
        };
        if let Some(loser) = loser {
            self.rivals[0] = self.rivals[0].max(reach(loser));
            if loser.real.error > 0.0 {
                self.rivals[1] = self.rivals[1].max(reach(loser));
            }
        }
    }

    /// The parts of the result.
    pub fn finish(&self) -> [Number; 2] {
        let none = Number::integer(0, 0.0);
        match self.kind {
            FoldKind::Sum if self.dtype.is_float() => [Number::float(self.sum()), none],
            FoldKind::Product if self.dtype.is_float() => [Number::float(self.product()), none],
            FoldKind::Sum => [Number::integer(self.integer, self.errors), none],
            FoldKind::Product => {
                let error = if self.errors == 0.0 { 0.0 } else { f64::INFINITY };
                [Number::integer(self.integer, error), none]
            }
            FoldKind::Max | FoldKind::Min | FoldKind::ArgMax | FoldKind::ArgMin => self.winner(),
            FoldKind::Moments => self.moments(),
        }
    }

    fn sum(&self) -> Bounded {
        // Where all values are multiples of a bit, and no partial sum needs more than 24 of them, every order is exact,
        // unless differences may be flushed.
        let exact = self.errors == 0.0 && self.magnitude <= self.precision / HALF_ULP && self.precision >= TINY;
        if exact || !self.value.is_finite() {
            let certain = self.errors == 0.0 && (exact || self.magnitude.is_infinite() || self.magnitude.is_nan());
            return Bounded { value: self.value, error: if certain { 0.0 } else { f64::INFINITY } };
        }
        if self.magnitude + self.errors > f64::from(f32::MAX) {
            return Bounded::anything(self.value);
        }
        let rounding = (self.count as f64) * HALF_ULP * (self.magnitude + self.errors);
        let flushed = self.count as f64 * TINY;
        let tiny = self.magnitude < self.count as f64 * 1e-30;
        Bounded { value: self.value, error: self.errors + rounding + if tiny { flushed } else { 0.0 } }
    }

    fn product(&self) -> Bounded {
        let [most, least] = self.extremes;
        let n = self.count as f64;
        let quiet = most <= f64::from(f32::MAX) && (least >= TINY || self.value == 0.0);
        if self.errors == 0.0 && quiet && self.precision <= 24.0 {
            return Bounded::exact(self.value);
        }
        if most.is_nan() || most > f64::from(f32::MAX) {
            return Bounded::anything(self.value);
        }
        let rounding = self.magnitude * (n * HALF_ULP).exp_m1();
        let flushed = if quiet { 0.0 } else { n * TINY * most };
        // 1e-15 covers the rounding of the two products in f64.
        let error = (self.magnitude - self.value.abs()).max(0.0) + rounding + flushed + 1e-15 * n * self.magnitude;
        Bounded { value: self.value, error }
    }

    fn winner(&self) -> [Number; 2] {
        let Some((best, place)) = self.best else {
            return [start(self.dtype, self.least()), Number::integer(0, 0.0)];
        };
        let sign = if self.least() { -1.0 } else { 1.0 };
        let value = sign * best.real.value;
        let (most, uncertain) = match best.real.error {
            _ if value.is_nan() => (value, self.rivals[1].is_infinite() && self.rivals[1] > 0.0),
            0.0 => (value.max(self.rivals[1]), self.rivals[1] >= value),
            error => (self.rivals[0].max(value + error), self.rivals[0] >= value - error),
        };
        let mut winner = best;
        if !value.is_nan() {
            winner.real.error = apart(most, value).max(apart(self.floor, value));
        }
        let error = if uncertain { self.count as f64 } else { 0.0 };
        [winner, Number::integer(place as i64, error)]
    }

    /// Bounds of the mean and of the sum of squared differences S for Welford's and for pairwise updates: the error of
    /// S is of the order n * u * |x| * sqrt S (Chan, Golub and LeVeque 1983), and sqrt S is a norm of the values, so
    /// that their errors move it by at most their own norm.
    fn moments(&self) -> [Number; 2] {
        let n = self.count as f64;
        if self.count == 0 {
            return [Number::float(Bounded::exact(0.0)); 2];
        }
        let [squares, error_squares] = self.extremes;
        let mean_rounding = 2.0 * (n + 1.0) * HALF_ULP * self.magnitude;
        // Partial sums, differences and their squares may be flushed.
        let mean = Bounded::rounded(self.value, self.errors / n + mean_rounding + TINY, 1.0);
        let (root, moved) = (squares.sqrt(), error_squares.sqrt());
        let norm = n.sqrt() * self.magnitude;
        let propagated = 2.0 * root * moved + moved * moved;
        let rounding =
            4.0 * (n + 1.0) * HALF_ULP * norm * (root + moved) + 4.0 * n * mean.error * mean.error + 2.0 * n * TINY;
        [Number::float(mean), Number::float(Bounded::rounded(squares, propagated + rounding, 1.0))]
    }
}

/// What an empty max or min leaves.
fn start(dtype: DType, least: bool) -> Number {
    let (low, high) = match dtype {
        DType::F32 | DType::F64 => {
            let infinity = if least { f64::INFINITY } else { f64::NEG_INFINITY };
            return Number::float(Bounded::exact(infinity));
        }
        DType::I64 => (i64::MIN, i64::MAX),
        DType::I32 => (i32::MIN.into(), i32::MAX.into()),
        DType::U32 => (0, u32::MAX.into()),
        DType::U8 => (0, u8::MAX.into()),
        DType::Bool => (0, 1),
    };
    Number::integer(if least { high } else { low }, 0.0)
}

fn apart(a: f64, b: f64) -> f64 {
    if a == b { 0.0 } else { (a - b).abs() }
}

/// The value of the lowest bit that is set; infinite for zero, zero for what is not finite.
fn least_bit(x: f64) -> f64 {
    if x == 0.0 {
        return f64::INFINITY;
    }
    if !x.is_normal() {
        return 0.0;
    }
    // Without its lowest bit of mantissa the number is less by just that bit; without any, it is that bit.
    let bits = x.to_bits();
    match bits << 12 {
        0 => x.abs(),
        _ => (x - f64::from_bits(bits & (bits - 1))).abs(),
    }
}

/// How many bits there are from the highest to the lowest that is set.
fn significant_bits(x: f64) -> f64 {
    if x == 0.0 { 0.0 } else { f64::from(53 - (x.to_bits() | 1 << 52).trailing_zeros().min(52)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn folded(kind: FoldKind, values: &[(f32, f64)]) -> [Number; 2] {
        let mut accumulator = Accumulator::new(kind, DType::F32);
        for &(native, error) in values {
            // The machine's value lies at the end of the interval.
            let real = Bounded { value: f64::from(native) + error, error: error * 1.000001 };
            accumulator.push(Number::float(real));
        }
        accumulator.finish()
    }

    fn holds(bound: Bounded, native: f32) -> bool {
        bound.error == f64::INFINITY || (f64::from(native) - bound.value).abs() <= bound.error
    }

    /// Values and errors; many are short, so that there are ties.
    fn values() -> impl Strategy<Value = Vec<(f32, f64)>> {
        let value = prop_oneof![
            (-128i32..128).prop_map(|n| n as f32 / 64.0),
            (-20.0f32..20.0, -20i32..12).prop_map(|(x, k)| x * (k as f32).exp2()),
        ];
        let error = prop_oneof![3 => Just(0.0), 1 => 0.0..1e-5f64, 1 => 0.0..0.01];
        prop::collection::vec((value, error), 1..40)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

        #[test]
        fn sums_and_products_hold_in_any_order(values in values(), cut in 0usize..40) {
            let [sum, _] = folded(FoldKind::Sum, &values);
            let [product, _] = folded(FoldKind::Product, &values);
            let natives: Vec<f32> = values.iter().map(|(native, _)| *native).collect();
            let (left, right) = natives.split_at(cut.min(natives.len()));
            for order in [[left, right], [right, left]] {
                let all = || order.iter().copied().flatten();
                let (in_line, in_halves) = (all().sum::<f32>(), left.iter().sum::<f32>() + right.iter().sum::<f32>());
                let (line, halves) = (all().product(), left.iter().product::<f32>() * right.iter().product::<f32>());
                prop_assert!(holds(sum.real, in_line) && holds(sum.real, in_halves), "{:?}: {}", sum, in_line);
                prop_assert!(holds(product.real, line) && holds(product.real, halves), "{:?}: {}", product, line);
            }
        }

        #[test]
        fn winners_are_certain_or_doubted(values in values(), least in any::<bool>()) {
            let kind = if least { FoldKind::ArgMin } else { FoldKind::ArgMax };
            let [winner, place] = folded(kind, &values);
            let mut best = 0;
            for (i, &(native, _)) in values.iter().enumerate() {
                if if least { native < values[best].0 } else { native > values[best].0 } {
                    best = i;
                }
            }
            prop_assert!(holds(winner.real, values[best].0), "{:?}: {:?}", winner, values[best]);
            let strays = (best as f64 - place.real.value).abs();
            prop_assert!(strays <= place.real.error, "{:?}: place {}", place, best);
        }

        #[test]
        fn moments_hold(values in values(), shift in prop::sample::select(vec![0.0f32, 1.0, 100.0])) {
            let values: Vec<(f32, f64)> = values.iter().map(|(x, error)| (x + shift, *error)).collect();
            let [mean, squares] = folded(FoldKind::Moments, &values);
            let (mut native_mean, mut native_squares) = (0f32, 0f32);
            for (i, &(x, _)) in values.iter().enumerate() {
                let difference = x - native_mean;
                native_mean += difference / (i + 1) as f32;
                native_squares += difference * (x - native_mean);
            }
            prop_assert!(holds(mean.real, native_mean), "{:?}: mean {}", mean, native_mean);
            prop_assert!(holds(squares.real, native_squares), "{:?}: squares {}", squares, native_squares);
            let two_pass: f32 = values.iter().map(|(x, _)| (x - native_mean) * (x - native_mean)).sum();
            prop_assert!(holds(squares.real, two_pass), "{:?}: squares {}", squares, two_pass);
        }
    }

    #[test]
    fn exact_values_give_certain_results() {
        let exact = |list: &[f32]| list.iter().map(|&x| (x, 0.0)).collect::<Vec<_>>();
        let ties = exact(&[1.0, 3.5, 3.5, -2.0]);
        for (kind, value) in [(FoldKind::Sum, 6.0), (FoldKind::Product, -24.5), (FoldKind::ArgMax, 3.5)] {
            let [result, place] = folded(kind, &ties);
            assert_eq!(result.real, Bounded::exact(value), "{kind:?}");
            if kind == FoldKind::ArgMax {
                assert_eq!((place.integer, place.real.error), (1, 0.0));
            }
        }
        let outside = folded(FoldKind::ArgMax, &exact(&[f32::NEG_INFINITY, f32::NEG_INFINITY]));
        assert_eq!((outside[0].real.error, outside[1].integer, outside[1].real.error), (0.0, 0, 0.0));
        let nan = folded(FoldKind::ArgMin, &exact(&[1.0, f32::NAN, -5.0, f32::NAN]));
        assert!(nan[0].real.value.is_nan() && nan[1].integer == 1);
    }

    #[test]
    fn flushed_values_are_within_the_bounds() {
        // The difference of two normal numbers may be denormal, and so may the squares of small ones.
        let tiny = f32::MIN_POSITIVE;
        assert!(holds(folded(FoldKind::Sum, &[(1.5 * tiny, 0.0), (-tiny, 0.0)])[0].real, 0.0));
        let [mean, squares] = folded(FoldKind::Moments, &[(1e-19, 0.0), (-1e-19, 0.0), (1e-19, 0.0), (-1e-19, 0.0)]);
        assert!(holds(mean.real, 0.0) && holds(squares.real, 0.0), "{mean:?} {squares:?}");
    }

    #[test]
    fn empty_folds_leave_the_start() {
        assert_eq!(folded(FoldKind::Sum, &[])[0].real, Bounded::exact(0.0));
        assert_eq!(folded(FoldKind::Product, &[])[0].real, Bounded::exact(1.0));
        assert_eq!(folded(FoldKind::Max, &[])[0].real, Bounded::exact(f64::NEG_INFINITY));
        let least = Accumulator::new(FoldKind::Min, DType::U8).finish()[0];
        assert_eq!(least.integer, 255);
    }
}
