//! GELU by tables, for machines that look up 32 entries by one instruction.
//!
//! For `a = |x|` it is `max(x, 0) - a Q(a)` with Q the upper tail of the normal distribution, and `a Q(a)` is the product of
//! three: a power of two, `e^(-y/2)` with a small y, and what is left, `M(a) = a Q(a) e^(a^2/2)`, which tends to `1 / sqrt(2 pi)`
//! and is a polynomial of degree 4 on each of 31 intervals.
//!
//! * `a^2 = n G + y` with n in 32nds and `|y| <= G / 64`. G is 2 ln 2 cut after 12 bits, so that `n G` is exact and y is rounded
//!   once. What the cut takes away, a factor `e^(d a^2)` with a small d, is in M.
//! * Intervals grow with a: `a + 15/16` lies between neighbouring floats of three fraction bits, whose last five bits number
//!   them. The first starts at 0, where M has a simple zero: its constant is 0, and what is small stays accurate.
//! * A polynomial's highest coefficients need few bits: both are in one entry, which is the last but one as it stands, and the
//!   last when it is shifted.
//! * Of all common factors of powers and M one was chosen by which neither is subnormal where the result is normal, and the
//!   powers are close to floats; and of the coefficients those with the least error, all roundings counted.

use super::{Lanes, Lookup};

/// Beyond, the result is subnormal for negative x.
const LARGEST: f32 = 13.15;
/// 2 ln 2 after 12 bits, and the bits of n of a power.
const G: f32 = 1.3862305;
const POWER_BITS: u32 = 5;
/// 1.5 * 2^18: adding it rounds to a multiple of 1/32, and leaves the number of 32nds in the low bits.
const THIRTY_SECONDS: f32 = 393_216.0;
/// (e^(-y/2) - 1) / y, relative error 5.3e-8 in e^(-y/2) up to a factor that is in M.
const EXP: [f32; 2] = [-0.5000304, 0.12501244];
/// Added to a before its interval is read off, and the fraction bits of a float behind the number of the interval.
const SHIFT: f32 = 0.9375;
const INTERVAL_BITS: u32 = 20;
/// By how much the entry of the two highest coefficients is shifted for the last.
const LAST: u32 = 19;

/// -2^(j/32 - 1.00331), less what j adds to the exponent when all of n is added there.
const POWERS: [u32; 32] = {
    const POWERS: [f32; 32] = [
        0.4988558, 0.50977933, 0.52094203, 0.53234917, 0.5440061, 0.5559183, 0.56809133, 0.5805309, 0.5932429,
        0.6062332, 0.61950797, 0.63307345, 0.64693594, 0.661102, 0.67557824, 0.69037145, 0.7054886, 0.72093683,
        0.7367233, 0.7528554, 0.7693408, 0.7861872, 0.8034024, 0.8209947, 0.8389721, 0.8573432, 0.8761166, 0.89530104,
        0.91490555, 0.9349394, 0.9554119, 0.9763327,
    ];
    let mut bits = [0; 32];
    let mut j = 0;
    while j < 32 {
        bits[j] = (-POWERS[j]).to_bits() - ((j as u32) << (23 - POWER_BITS));
        j += 1;
    }
    bits
};

/// The bits of M's constants, by interval.
const M_0: [u32; 32] = [
    0x3f0a1396, 0x3f16e67e, 0x3f209856, 0x3f280d15, 0x3f2de049, 0x3f327e19, 0x3f363316, 0x3f393655, 0x3f3bb015,
    0x3f3f76f9, 0x3f4228fc, 0x3f4424fe, 0x3f45a542, 0x3f46ceeb, 0x3f47ba6a, 0x3f48784f, 0x3f49141c, 0x3f4a03df,
    0x3f4ab414, 0x3f4b3c61, 0x3f4baac4, 0x3f4c07ef, 0x3f4c597e, 0x00000000, 0x3d7446d9, 0x3e26b942, 0x3e7e2863,
    0x3ea37e6d, 0x3ec2044c, 0x3edbc13b, 0x3ef19533, 0x3f02192a,
];
/// Those of the distance from where the interval starts.
const M_1: [u32; 32] = [
    0x3e6c8e18, 0x3e314a21, 0x3e0745ac, 0x3dd1d51c, 0x3da53067, 0x3d83d688, 0x3d5516b4, 0x3d2e3162, 0x3d0fe776,
    0x3cca1b29, 0x3c92bad9, 0x3c5b4595, 0x3c2804df, 0x3c03a431, 0x3bd26e83, 0x3bab4027, 0x3b8dad0a, 0x3b4ae2f0,
    0x3b194ed2, 0x3af319c7, 0x3ac946cd, 0x3aad3836, 0x3a9a3d04, 0x3f804b28, 0x3f686f72, 0x3f3fba2a, 0x3f1f349c,
    0x3f050c0b, 0x3edfbd1e, 0x3ebd3a96, 0x3ea0f0f1, 0x3e899e4d,
];
/// Those of its square.
const M_2: [u32; 32] = [
    0xbe0cd951, 0xbdc5dc06, 0xbd8dbb35, 0xbd4ed87c, 0xbd1954a1, 0xbce711db, 0xbcb08ba1, 0xbc889739, 0xbc55b5cc,
    0xbc07a954, 0xbbb2f30e, 0xbb73dee5, 0xbb2b1e1b, 0xbaf61c88, 0xbab4d7bf, 0xba8748b0, 0xba4d3b50, 0xb9f7bafc,
    0xb99c5ad0, 0xb94b98c7, 0xb907b314, 0xb8b73035, 0xb8784cf4, 0xbf4cb90a, 0xbf362c69, 0xbf110a9e, 0xbee89200,
    0xbebbb263, 0xbe987c8d, 0xbe794498, 0xbe4cf391, 0xbe298596,
];
/// Those of its third and fourth power.
const M_3_4: [u32; 32] = [
    0x3d865797, 0x3d32378d, 0x3cf1d783, 0x3ca8177a, 0x3c6b1771, 0x3c291768, 0x3bf63761, 0x3bb43757, 0x3b83774c,
    0x3b19773f, 0x3abaf732, 0x3a6b1725, 0x3a19d71a, 0x39cf9711, 0x398fd707, 0x394916fd, 0x390b76f0, 0x389916e0,
    0x383456d2, 0x37dc36c4, 0x378d36b8, 0x373b16ae, 0x3701b6a7, 0x3f0017d0, 0x3edf97ca, 0x3eac37c3, 0x3e85f7bd,
    0x3e5197b6, 0x3e2577b1, 0x3e0377ab, 0x3dd1d7a5, 0x3da937a1,
];

/// GELU of x, with what looks up a table.
pub fn by_tables<L: Lanes>(l: &L, lookup: Lookup<L>, x: L::Value) -> L::Value {
    let a = l.min(l.constant(LARGEST), l.abs(x));

    let shifted = l.add(a, l.constant(SHIFT));
    let start = l.and(shifted, l.int_constant(-1 << INTERVAL_BITS));
    let distance = l.sub(a, l.sub(start, l.constant(SHIFT)));
    let interval = l.shr_logical(shifted, INTERVAL_BITS);
    let highest = lookup(l, &M_3_4, interval);
    let m = l.fma(l.shl(highest, LAST), distance, highest);
    let m = l.fma(m, distance, lookup(l, &M_2, interval));
    let m = l.fma(m, distance, lookup(l, &M_1, interval));
    let m = l.fma(m, distance, lookup(l, &M_0, interval));

    // -n, below a sum whose multiple of G is exact.
    let sum = l.fma(l.mul(a, l.constant(-1.0 / G)), a, l.constant(THIRTY_SECONDS));
    let y = l.fma(a, a, l.fma(sum, l.constant(G), l.constant(-G * THIRTY_SECONDS)));
    let tail = l.fma(m, l.mul(y, l.polynomial(y, &EXP)), m);
    let power = l.iadd(lookup(l, &POWERS, sum), l.shl(sum, 23 - POWER_BITS));
    // -0 below zero, for the sign of what is flushed.
    l.fma(power, tail, l.max(l.constant(-0.0), x))
}
