//! How many operations each function emits: the price of an activation is a feature.

use super::super::*;
use super::scalar::Scalar;

macro_rules! costs {
    ($tables:literal: $($name:ident($($argument:literal),*) <= $most:literal;)*) => {
        [$({
            let l = Scalar::<false, $tables>::default();
            $name(&l, $(l.constant($argument)),*);
            (stringify!($name), l.operations(), $most)
        }),*]
    };
}

#[test]
fn operations_stay_few() {
    let by_tables = costs! { true: gelu(1.0) <= 30; };
    let computed = costs! { false:
        exp(1.0) <= 14; exp2(1.0) <= 13; expm1(1.0) <= 17;
        log(1.0) <= 31; log2(1.0) <= 30; log1p(1.0) <= 30;
        sigmoid(1.0) <= 14; softplus(1.0) <= 23;
        tanh(1.0) <= 16; sinh(1.0) <= 24; cosh(1.0) <= 16;
        asinh(1.0) <= 37; acosh(1.0) <= 37; atanh(1.0) <= 36;
        erf(1.0) <= 27; erfc(1.0) <= 31; normal_cdf(1.0) <= 31; gelu(1.0) <= 31;
        sin(1.0) <= 13; cos(1.0) <= 15; tan(1.0) <= 17;
        sin_large(1.0) <= 91; cos_large(1.0) <= 92; tan_large(1.0) <= 94;
        asin(1.0) <= 17; acos(1.0) <= 22; atan(1.0) <= 19; atan2(1.0, 1.0) <= 30;
        pow(1.0, 1.0) <= 94;
    };
    let costs = || by_tables.iter().chain(&computed);
    for (name, operations, _) in costs() {
        println!("{name:12} {operations:3} operations");
    }
    for (name, operations, most) in costs() {
        assert!(operations <= most, "{name} takes {operations} operations, more than {most}");
    }
}
