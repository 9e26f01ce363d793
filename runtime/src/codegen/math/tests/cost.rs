//! How many operations each function emits: the price of an activation is a feature.

use super::super::*;
use super::scalar::Scalar;

macro_rules! costs {
    ($($name:ident($($argument:literal),*) <= $most:literal;)*) => {
        [$({
            let l = Scalar::<false>::default();
            $name(&l, $(l.constant($argument)),*);
            (stringify!($name), l.operations(), $most)
        }),*]
    };
}

#[test]
fn operations_stay_few() {
    let costs = costs! {
        exp(1.0) <= 14; exp2(1.0) <= 14; expm1(1.0) <= 17; log(1.0) <= 30; log2(1.0) <= 31; log1p(1.0) <= 31;
        sigmoid(1.0) <= 14; softplus(1.0) <= 23; tanh(1.0) <= 13; sinh(1.0) <= 24; cosh(1.0) <= 17;
        asinh(1.0) <= 40; acosh(1.0) <= 40; atanh(1.0) <= 40;
        erf(1.0) <= 15; erfc(1.0) <= 31; normal_cdf(1.0) <= 31; gelu(1.0) <= 30;
        sin(1.0) <= 13; cos(1.0) <= 15; tan(1.0) <= 18; sin_large(1.0) <= 90; cos_large(1.0) <= 90; tan_large(1.0) <= 95;
        asin(1.0) <= 18; acos(1.0) <= 22; atan(1.0) <= 21; atan2(1.0, 1.0) <= 29; pow(1.0, 1.0) <= 90;
    };
    for (name, operations, most) in costs {
        println!("{name:12} {operations:3} operations");
        assert!(operations <= most, "{name} takes {operations} operations, more than {most}");
    }
}
