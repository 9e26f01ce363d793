//! The independent check of a placement: slow, obvious, and sharing nothing with the code that placed.

use super::{Lifetime, Placement};

/// Checks that every offset is aligned and inside the arena, and that no two buffers overlap in both time and memory.
///
/// Takes time in proportion to the square of the number of buffers.
///
/// # Errors
/// One line that names the first buffer or pair of buffers at fault, by position in `lifetimes`.
pub fn verify(lifetimes: &[Lifetime], placement: &Placement) -> Result<(), String> {
    let n_offsets = placement.offsets.len();
    if n_offsets != lifetimes.len() {
        return Err(format!("expected {} offsets, found {n_offsets}", lifetimes.len()));
    }
    let arena = placement.bytes;
    for (index, (lifetime, offset)) in lifetimes.iter().zip(&placement.offsets).enumerate() {
        if lifetime.align == 0 || offset % lifetime.align != 0 {
            return Err(format!("buffer {index}: offset {offset} is not a multiple of {}", lifetime.align));
        }
        let live = lifetime.lower < lifetime.upper;
        if live && u128::from(*offset) + u128::from(lifetime.bytes) > u128::from(arena) {
            let bytes = lifetime.bytes;
            return Err(format!("buffer {index}: {bytes} bytes at {offset} leave the arena of {arena} bytes"));
        }
    }
    for second in 0..lifetimes.len() {
        for first in 0..second {
            let (a, b) = (lifetimes[first], lifetimes[second]);
            let (at_a, at_b) = (placement.offsets[first], placement.offsets[second]);
            let both_live = a.lower.max(b.lower) < a.upper.min(b.upper);
            // Both have passed the check above, so the ends do not overflow.
            if both_live && at_a.max(at_b) < (at_a + a.bytes).min(at_b + b.bytes) {
                return Err(format!("buffers {first} and {second} overlap: {a:?} at {at_a}, {b:?} at {at_b}"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(offsets: &[u64], bytes: u64) -> String {
        let lifetimes = [
            Lifetime { lower: 0, upper: 2, bytes: 10, align: 4 },
            Lifetime { lower: 1, upper: 3, bytes: 8, align: 8 },
            Lifetime { lower: 2, upper: 2, bytes: 99, align: 1 },
        ];
        let placement = Placement { offsets: offsets.to_vec(), bytes, lower_bound_bytes: 0, proven_optimal: false };
        verify(&lifetimes, &placement).err().unwrap_or_default()
    }

    #[test]
    fn names_the_first_fault() {
        assert_eq!(fault(&[0, 16, 0], 24), "");
        assert_eq!(fault(&[8, 0, 0], 18), "");
        assert_eq!(fault(&[0, 16], 24), "expected 3 offsets, found 2");
        assert_eq!(fault(&[2, 16, 0], 24), "buffer 0: offset 2 is not a multiple of 4");
        assert_eq!(fault(&[0, 16, 0], 23), "buffer 1: 8 bytes at 16 leave the arena of 23 bytes");
        assert!(fault(&[0, u64::MAX - 7, 0], 24).starts_with("buffer 1: 8 bytes at"));
        assert!(fault(&[0, 8, 0], 16).starts_with("buffers 0 and 1 overlap"));
        assert!(fault(&[4, 8, 0], 16).starts_with("buffers 0 and 1 overlap"));
    }
}
