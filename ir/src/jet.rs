//! Numbers that carry their derivatives: references are written with them, so that the oracle of an elementwise
//! function is the oracle of its derivatives too (forward mode, one nilpotent a direction; Clifford 1873).

use std::cmp::Ordering;
use std::f64::consts::FRAC_2_SQRT_PI;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// A number in `order` nilpotent directions: part `s` belongs to the product of the directions whose bits are set in
/// `s`, so that part 0 is the value. Comparisons are of values.
///
/// Where a function has a corner, the derivative is PyTorch's: 0 of |x| at 0, half for each of two equal numbers.
///
/// ```
/// use fusewright_ir::jet::Jet;
/// let x = Jet::from(3.0).lifted(true);
/// let (value, slope) = (x * x * 2.0).lowered();
/// assert_eq!((value.value(), slope.value()), (18.0, 12.0));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Jet {
    order: u8,
    parts: [f64; 1 << Jet::MOST],
}

impl From<f64> for Jet {
    fn from(value: f64) -> Jet {
        let mut parts = [0.0; 1 << Jet::MOST];
        parts[0] = value;
        Jet { order: 0, parts }
    }
}

impl Jet {
    /// The most directions: derivatives up to this order.
    pub const MOST: usize = 3;

    /// The number itself.
    pub fn value(self) -> f64 {
        self.parts[0]
    }

    /// The same in one more direction, along which it moves by 1 where `moves`.
    pub fn lifted(self, moves: bool) -> Jet {
        let mut lifted = Jet { order: self.order + 1, ..self };
        lifted.parts[1 << self.order] = f64::from(u8::from(moves));
        lifted
    }

    /// The number without its last direction, and what it moves by along that.
    pub fn lowered(self) -> (Jet, Jet) {
        let order = self.order.saturating_sub(1);
        let half = 1 << order;
        let (mut low, mut high) = (Jet { order, ..Jet::from(0.0) }, Jet { order, ..Jet::from(0.0) });
        low.parts[..half].copy_from_slice(&self.parts[..half]);
        if self.order > 0 {
            high.parts[..half].copy_from_slice(&self.parts[half..2 * half]);
        }
        (low, high)
    }

    fn joined(low: Jet, high: Jet) -> Jet {
        let order = low.order.max(high.order);
        let mut joined = Jet { order: order + 1, ..low };
        joined.parts[1 << order..2 << order].copy_from_slice(&high.parts[..1 << order]);
        joined
    }

    /// The same with as many directions as `other`.
    fn beside(self, other: Jet) -> Jet {
        Jet { order: self.order.max(other.order), ..self }
    }

    fn is_zero(self) -> bool {
        self.parts.iter().all(|&part| part == 0.0)
    }

    /// `self * slope()`; a number that does not move stays where it is, however steep the slope.
    fn along(self, slope: impl FnOnce() -> Jet) -> Jet {
        if self.is_zero() { self } else { self * slope() }
    }

    /// A function by its values and its derivative.
    fn chain(self, function: fn(f64) -> f64, slope: fn(Jet) -> Jet) -> Jet {
        if self.order == 0 {
            return Jet::from(function(self.value()));
        }
        let (low, high) = self.lowered();
        Jet::joined(low.chain(function, slope), high.along(|| slope(low)))
    }

    /// A function whose derivative is 0.
    fn step(self, function: fn(f64) -> f64) -> Jet {
        Jet { order: self.order, ..Jet::from(function(self.value())) }
    }

    /// Whether it is not a number.
    pub fn is_nan(self) -> bool {
        self.value().is_nan()
    }

    /// |x|.
    pub fn abs(self) -> Jet {
        match self.value() {
            value if value > 0.0 || value.is_nan() => self,
            value if value < 0.0 => -self,
            _ => self.step(f64::abs),
        }
    }

    /// The greater, NaN if either is; of equals the middle.
    pub fn maximum(self, other: Jet) -> Jet {
        if self.is_nan() || self > other {
            self.beside(other)
        } else if other.is_nan() || other > self {
            other.beside(self)
        } else {
            let middle = self * 0.5 + other * 0.5;
            let mut maximum = middle;
            maximum.parts[0] = self.value();
            maximum
        }
    }

    /// 1 / x.
    pub fn recip(self) -> Jet {
        Jet::from(1.0) / self
    }

    /// x to a whole power.
    pub fn powi(self, n: i32) -> Jet {
        if self.order == 0 {
            return Jet::from(self.value().powi(n));
        }
        let (low, high) = self.lowered();
        Jet::joined(low.powi(n), high.along(|| low.powi(n - 1) * f64::from(n)))
    }

    /// x^y. Where it is not smooth the derivatives are PyTorch's: 0 by x where y is 0, 0 by y where x is 0 and y is not
    /// negative.
    pub fn powf(self, exponent: Jet) -> Jet {
        if self.order.max(exponent.order) == 0 {
            return Jet::from(self.value().powf(exponent.value()));
        }
        let ((x, dx), (y, dy)) = (self.beside(exponent).lowered(), exponent.beside(self).lowered());
        let by_base = match y.value() == 0.0 {
            true => Jet::from(0.0),
            false => dx.along(|| y * x.powf(y - 1.0)),
        };
        let by_exponent = match x.value() == 0.0 && y.value() >= 0.0 {
            true => Jet::from(0.0),
            false => dy.along(|| x.powf(y) * x.ln()),
        };
        Jet::joined(x.powf(y), by_base + by_exponent)
    }

    /// The angle of the point (`x`, self).
    pub fn atan2(self, x: Jet) -> Jet {
        if self.order.max(x.order) == 0 {
            return Jet::from(self.value().atan2(x.value()));
        }
        let ((y, dy), (x, dx)) = (self.beside(x).lowered(), x.beside(self).lowered());
        let square = x * x + y * y;
        Jet::joined(y.atan2(x), dy.along(|| x / square) - dx.along(|| y / square))
    }
}

macro_rules! functions {
    ($($name:ident $about:literal $function:expr, |$x:ident| $slope:expr;)*) => { impl Jet { $(
        #[doc = $about]
        pub fn $name(self) -> Jet {
            self.chain($function, |$x| $slope)
        }
    )* } };
}
functions! {
    sqrt "Square root." f64::sqrt, |x| 0.5 / x.sqrt();
    exp "e^x." f64::exp, |x| x.exp();
    exp_m1 "e^x - 1." f64::exp_m1, |x| x.exp();
    ln "Natural logarithm." f64::ln, |x| x.recip();
    ln_1p "ln(1 + x)." f64::ln_1p, |x| 1.0 / (x + 1.0);
    log2 "Logarithm to base 2." f64::log2, |x| 1.0 / (x * std::f64::consts::LN_2);
    log10 "Logarithm to base 10." f64::log10, |x| 1.0 / (x * std::f64::consts::LN_10);
    sin "Sine." f64::sin, |x| x.cos();
    cos "Cosine." f64::cos, |x| -x.sin();
    tan "Tangent." f64::tan, |x| x.cos().powi(-2);
    asin "Inverse sine." f64::asin, |x| 1.0 / (1.0 - x * x).sqrt();
    acos "Inverse cosine." f64::acos, |x| -1.0 / (1.0 - x * x).sqrt();
    atan "Inverse tangent." f64::atan, |x| 1.0 / (x * x + 1.0);
    sinh "Hyperbolic sine." f64::sinh, |x| x.cosh();
    cosh "Hyperbolic cosine." f64::cosh, |x| x.sinh();
    tanh "Hyperbolic tangent." f64::tanh, |x| x.cosh().powi(-2);
    asinh "Inverse hyperbolic sine." f64::asinh, |x| 1.0 / (x * x + 1.0).sqrt();
    acosh "Inverse hyperbolic cosine." f64::acosh, |x| 1.0 / (x * x - 1.0).sqrt();
    atanh "Inverse hyperbolic tangent." f64::atanh, |x| 1.0 / (1.0 - x * x);
    erf "The error function." crate::ops::map::erf, |x| (-(x * x)).exp() * FRAC_2_SQRT_PI;
    erfc "1 - erf(x), accurate in its tail." crate::ops::map::erfc, |x| -((-(x * x)).exp() * FRAC_2_SQRT_PI);
}

macro_rules! steps {
    ($($name:ident $about:literal)*) => { impl Jet { $(
        #[doc = $about]
        pub fn $name(self) -> Jet {
            self.step(f64::$name)
        }
    )* } };
}
steps! {
    floor "Rounded down."
    ceil "Rounded up."
    trunc "Rounded towards 0."
    round_ties_even "Rounded to the nearest integer, ties to even."
    signum "The sign, 1 of 0."
}

impl Neg for Jet {
    type Output = Jet;
    fn neg(mut self) -> Jet {
        self.parts.iter_mut().for_each(|part| *part = -*part);
        self
    }
}

impl Add for Jet {
    type Output = Jet;
    fn add(self, other: Jet) -> Jet {
        let mut sum = self.beside(other);
        sum.parts.iter_mut().zip(other.parts).for_each(|(part, other)| *part += other);
        sum
    }
}

impl Sub for Jet {
    type Output = Jet;
    fn sub(self, other: Jet) -> Jet {
        self + -other
    }
}

impl Mul for Jet {
    type Output = Jet;
    fn mul(self, other: Jet) -> Jet {
        if self.order.max(other.order) == 0 {
            return Jet::from(self.value() * other.value());
        }
        let ((a, da), (b, db)) = (self.beside(other).lowered(), other.beside(self).lowered());
        Jet::joined(a * b, da.along(|| b) + db.along(|| a))
    }
}

impl Div for Jet {
    type Output = Jet;
    fn div(self, other: Jet) -> Jet {
        if self.order.max(other.order) == 0 {
            return Jet::from(self.value() / other.value());
        }
        let ((a, da), (b, db)) = (self.beside(other).lowered(), other.beside(self).lowered());
        let quotient = a / b;
        let moved = da - db.along(|| quotient);
        Jet::joined(quotient, if moved.is_zero() { moved } else { moved / b })
    }
}

macro_rules! with_numbers {
    ($($operator:ident $method:ident)*) => { $(
        impl $operator<f64> for Jet {
            type Output = Jet;
            fn $method(self, other: f64) -> Jet { self.$method(Jet::from(other)) }
        }
        impl $operator<Jet> for f64 {
            type Output = Jet;
            fn $method(self, other: Jet) -> Jet { Jet::from(self).$method(other) }
        }
    )* };
}
with_numbers! { Add add Sub sub Mul mul Div div }

impl PartialEq for Jet {
    fn eq(&self, other: &Jet) -> bool {
        self.value() == other.value()
    }
}

impl PartialOrd for Jet {
    fn partial_cmp(&self, other: &Jet) -> Option<Ordering> {
        self.value().partial_cmp(&other.value())
    }
}

impl PartialEq<f64> for Jet {
    fn eq(&self, other: &f64) -> bool {
        self.value() == *other
    }
}

impl PartialOrd<f64> for Jet {
    fn partial_cmp(&self, other: &f64) -> Option<Ordering> {
        self.value().partial_cmp(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Function = fn(Jet) -> Jet;

    /// Functions at a place where all of them are smooth.
    const SMOOTH: &[(&str, Function)] = &[
        ("sqrt", |x| x.sqrt()),
        ("exp", |x| x.exp()),
        ("exp_m1", |x| x.exp_m1()),
        ("ln", |x| x.ln()),
        ("ln_1p", |x| x.ln_1p()),
        ("log2", |x| x.log2()),
        ("log10", |x| x.log10()),
        ("sin", |x| x.sin()),
        ("cos", |x| x.cos()),
        ("tan", |x| x.tan()),
        ("asin", |x| x.asin()),
        ("acos", |x| x.acos()),
        ("atan", |x| x.atan()),
        ("sinh", |x| x.sinh()),
        ("cosh", |x| x.cosh()),
        ("tanh", |x| x.tanh()),
        ("asinh", |x| x.asinh()),
        ("acosh", |x| (x + 1.0).acosh()),
        ("atanh", |x| x.atanh()),
        ("erf", |x| x.erf()),
        ("erfc", |x| x.erfc()),
        ("recip", |x| x.recip()),
        ("powi", |x| x.powi(-3)),
        ("powf", |x| x.powf(x * 2.0)),
        ("atan2", |x| x.atan2(1.0 - x)),
        ("quotient", |x| (x * x + 1.0) / (x - 3.0)),
    ];

    #[test]
    fn derivatives_are_limits_of_differences() {
        for (name, function) in SMOOTH {
            for order in 0..Jet::MOST {
                // The derivative of the order before at a number.
                let derivative = |at: f64| {
                    let jet = (0..order).fold(Jet::from(at), |jet, _| jet.lifted(true));
                    function(jet).parts[(1 << order) - 1]
                };
                let (at, step) = (0.37, 1e-5);
                let difference = (derivative(at + step) - derivative(at - step)) / (2.0 * step);
                let jet = (0..=order).fold(Jet::from(at), |jet, _| jet.lifted(true));
                let found = function(jet).parts[(2 << order) - 1];
                let error = (found - difference).abs() / (1.0 + found.abs());
                assert!(error < 1e-7, "{name}, order {}: {found} against {difference}", order + 1);
            }
        }
    }

    #[test]
    fn corners_are_those_of_pytorch() {
        let slope = |function: Function, at: f64| function(Jet::from(at).lifted(true)).lowered().1.value();
        assert_eq!(slope(|x| x.abs(), 0.0), 0.0);
        assert_eq!(slope(|x| x.maximum(Jet::from(2.0)), 2.0), 0.5);
        assert_eq!(slope(|x| x.powf(Jet::from(0.0)), 0.0), 0.0);
        assert_eq!(slope(|x| Jet::from(0.0).powf(x), 1.0), 0.0);
        assert_eq!(slope(|x| x.floor(), 1.5), 0.0);
    }

    #[test]
    fn what_does_not_move_has_no_slope() {
        // The slope of the square root is infinite at 0.
        let (value, slope) = (Jet::from(0.0).lifted(false).sqrt() + Jet::from(1.0).lifted(true)).lowered();
        assert_eq!((value.value(), slope.value()), (1.0, 1.0));
    }
}
