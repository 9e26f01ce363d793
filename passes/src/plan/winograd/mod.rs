//! Convolutions with fewer multiplications (Winograd 1980; Lavin and Gray 2016), as a rewrite of one kernel into several
//! ordinary ones: taps at the points of a transform, once, or in each step of a training; inputs at the points; their products summed over channels, a
//! batched matrix product; outputs, with the epilogue. A window that moves by more than 1 is one that moves by 1 over as many
//! phases of the image (every other row and column, say), which a kernel puts side by side as channels. What follows in the planner, the evaluators and the code generator
//! know nothing of it.
//!
//! Numbers that are not finite spread over the tile they are in; without [`Winograd::Never`] a network whose
//! intermediate values are infinite gives NaN beside them.

mod cost;
mod kernels;
mod recognise;
mod segments;
mod toom;
mod ways;

pub use ways::{Question, Ways, questions};

use super::draft::{Uses, known};
use super::{PlanOptions, Winograd};
use cost::Way;
use fusewright_ir::kernel::{BufferId, Kernel, Program, Role};
use kernels::Tooms;
use recognise::Convolution;
use std::borrow::Cow;
use std::ops::Range;
use toom::Toom;

/// A program with convolutions rewritten.
pub struct Rewritten {
    /// The program.
    pub program: Program,
    /// Which stretches of its kernels are to run together: rows of tiles that stay in cache on their way.
    pub bands: Vec<Range<usize>>,
    /// Buffers that are to have this dimension innermost.
    pub rows: Vec<(BufferId, usize)>,
}

/// The program with those convolutions rewritten that the options ask for or the cost model finds faster.
pub fn rewritten(mut program: Program, options: &PlanOptions) -> Rewritten {
    let (mut bands, mut rows) = (Vec::new(), Vec::new());
    if options.winograd == Winograd::Never {
        return Rewritten { program, bands, rows };
    }
    let [constant, weights] = kept(&program);
    let kernels = std::mem::take(&mut program.kernels);
    let forward: Vec<Cow<Kernel>> = kernels
        .iter()
        .map(|named| recognise::ascending(&named.kernel).map_or(Cow::Borrowed(&named.kernel), Cow::Owned))
        .collect();
    let convolutions: Vec<Option<Convolution>> =
        forward.iter().map(|kernel| Convolution::of(&program, kernel, &weights)).collect();
    let chosen: Vec<Option<Tooms>> = match options.winograd {
        Winograd::Always { points, .. } => {
            let forced = |convolution: &Option<Convolution>| {
                let windows = convolution.as_ref()?.windows.iter().zip(points);
                windows.map(|(window, n)| Toom::with_points(n, window.taps())).collect()
            };
            convolutions.iter().map(forced).collect()
        }
        _ => choose(&program, options, &constant, &convolutions),
    };
    for ((named, convolution), tooms) in kernels.iter().zip(convolutions).zip(chosen) {
        let (Some(tooms), Some(convolution)) = (tooms, convolution) else {
            program.kernels.push(named.clone());
            continue;
        };
        let segments = match options.winograd {
            Winograd::Always { rows, .. } => segments::of_rows(&convolution, &tooms, rows),
            _ => segments::in_cache(&convolution, &tooms, &options.machine),
        };
        let parts = kernels::rewritten(&mut program, named, &convolution, &tooms, &segments);
        program.kernels.extend(parts.before);
        rows.extend(parts.rows);
        for (segment, kernels) in segments.iter().zip(parts.segments) {
            let first = program.kernels.len();
            program.kernels.extend(kernels);
            if segment.positions > 1 {
                bands.push(first..program.kernels.len());
            }
        }
    }
    Rewritten { program, bands, rows }
}

/// By [`BufferId`]: what is constant, and what belongs to the network, state included.
fn kept(program: &Program) -> [Vec<bool>; 2] {
    let uses = Uses::of(program.buffers.len(), program.kernels.iter().map(|named| &named.kernel));
    [false, true].map(|states| known(program, &uses, states).buffers)
}

/// The transforms of each kernel by the cost model, within the limit on constants.
fn choose(
    program: &Program,
    options: &PlanOptions,
    constant: &[bool],
    convolutions: &[Option<Convolution>],
) -> Vec<Option<Tooms>> {
    let given = program
        .buffer_ids()
        .filter(|(id, info)| constant[id.0 as usize] && matches!(info.role, Role::Parameter | Role::Constant(_)));
    let all_bytes: u64 = given.map(|(_, info)| (info.dims.iter().product::<usize>() * info.dtype.bytes()) as u64).sum();
    let ways: Vec<Vec<Way>> = convolutions
        .iter()
        .map(|convolution| match convolution {
            Some(convolution) => {
                let weight = convolution.weight.buffer;
                let own = program.buffer(weight).bytes();
                let is_fixed = constant[weight.0 as usize];
                let others = all_bytes - own.min(all_bytes);
                let measured = options.ways.get(&ways::key(convolution, is_fixed));
                cost::ways(convolution, &options.machine, others, is_fixed, measured.map(Vec::as_slice))
            }
            None => Vec::new(),
        })
        .collect();
    let mut taken: Vec<usize> = vec![0; ways.len()];
    match options.constant_limit {
        None => {
            for (taken, ways) in taken.iter_mut().zip(&ways) {
                let fastest = (0..ways.len()).min_by(|&a, &b| ways[a].cycles.total_cmp(&ways[b].cycles));
                *taken = fastest.unwrap_or(0);
            }
        }
        Some(limit) => spend(&ways, &mut taken, limit.saturating_sub(all_bytes)),
    }
    ways.iter().zip(taken).map(|(ways, taken)| ways.get(taken).and_then(|way| way.tooms.clone())).collect()
}

/// Takes faster ways while bytes are left, those first that save most for each byte.
fn spend(ways: &[Vec<Way>], taken: &mut [usize], mut bytes: u64) {
    loop {
        let mut best: Option<(f64, usize, usize, u64)> = None;
        for (k, ways) in ways.iter().enumerate() {
            let Some(now) = ways.get(taken[k]) else { continue };
            for (i, way) in ways.iter().enumerate() {
                let more = way.constant_bytes.saturating_sub(now.constant_bytes);
                let saved = (now.cycles - way.cycles) / more.max(1) as f64;
                if saved > 0.0 && more <= bytes && best.is_none_or(|(most, ..)| saved > most) {
                    best = Some((saved, k, i, more));
                }
            }
        }
        let Some((_, k, i, more)) = best else { return };
        taken[k] = i;
        bytes -= more;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Machine;
    use crate::plan::samples::program;
    use fusewright_ir::Array;
    use fusewright_ir::kernel::BufferId;
    use fusewright_ir::kernel::{Evaluation, evaluate, verify};
    use std::collections::BTreeMap;

    fn options(winograd: Winograd) -> PlanOptions {
        PlanOptions { machine: Machine::AVX512, winograd, ..PlanOptions::default() }
    }

    fn abouts(shape: &str, layers: &str, options: &PlanOptions) -> Vec<String> {
        rewritten(program(shape, layers, true), options).program.kernels.into_iter().map(|named| named.about).collect()
    }

    /// Evaluated in f64 on numbers that are no round ones.
    fn evaluated(program: &Program) -> Evaluation {
        assert_eq!(verify(program), Ok(()), "{program}");
        let mut seed = 7u64;
        let mut number = || {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            f64::from(((seed >> 40) as f32) / 8388608.0 - 1.0)
        };
        let given: BTreeMap<BufferId, Array> = program
            .buffer_ids()
            .filter(|(_, info)| matches!(info.role, Role::Input | Role::Parameter))
            .map(|(id, info)| (id, Array::from_fn(&info.dims, |_| number())))
            .collect();
        evaluate(program, &given).unwrap_or_else(|fault| panic!("{fault}\n{program}"))
    }

    #[test]
    fn rewritten_convolutions_are_what_they_were() {
        let layers = r#"Conv2d(name: "a", out: 5, kernel_size: 3, padding: 1), Relu,
            Conv2d(name: "b", out: 4, kernel_size: [5, 3], padding: [1, 2], flip_kernel: true, bias: false),
            Conv2d(name: "c", out: 2, kernel_size: [3, 1]), Add(from: ["c", "c"]), Gelu"#;
        check(layers, 3);
    }

    #[test]
    fn windows_that_leave_out_places_are_what_they_were() {
        let layers = r#"Conv2d(name: "a", out: 9, kernel_size: [5, 7], stride: 2, padding: [2, 3]), Relu,
            Conv2d(name: "b", out: 4, kernel_size: 3, stride: [1, 2], padding: 1, flip_kernel: true, bias: false)"#;
        check(layers, 3);
    }

    /// Layers over an image, rewritten in several ways; at least so many kernels come to them.
    fn check(layers: &str, more: usize) {
        let plain = program("[2, 3, 11, 9]", layers, true);
        let output = plain.outputs[0].1;
        let expected = evaluated(&plain).array(output);
        for (points, rows) in [([4, 4], None), ([6, 6], Some(1)), ([4, 6], Some(2)), ([6, 4], Some(1)), ([6, 6], None)]
        {
            let rewritten = rewritten(plain.clone(), &options(Winograd::Always { points, rows })).program;
            assert!(rewritten.kernels.len() > plain.kernels.len() + more, "{rewritten}");
            let found = evaluated(&rewritten).array(output);
            for (a, b) in expected.data.iter().zip(&found.data) {
                assert!((a - b).abs() < 1e-11, "{points:?}: {a} is not {b}");
            }
        }
    }

    #[test]
    fn only_windows_over_all_channels_are_rewritten() {
        let all = options(Winograd::Always { points: [6, 6], rows: None });
        let is_rewritten =
            |shape: &str, layer: &str| abouts(shape, layer, &all).iter().any(|about| about.contains("F("));
        let (image, signal) = ("[1, 8, 12, 12]", "[1, 8, 12]");
        assert!(is_rewritten(image, "Conv2d(out: 4, kernel_size: 3)"));
        assert!(is_rewritten(image, "Conv2d(out: 4, kernel_size: [1, 3])"));
        assert!(is_rewritten(signal, "Conv1d(out: 4, kernel_size: 5)"));
        assert!(is_rewritten("[1, 8, 4, 12, 12]", "Conv3d(out: 4, kernel_size: [1, 3, 3])"));
        assert!(!is_rewritten(image, "Conv2d(out: 4, kernel_size: 1)"));
        assert!(!is_rewritten(image, "Conv2d(out: 4, kernel_size: 7)"));
        assert!(is_rewritten(image, "Conv2d(out: 4, kernel_size: 3, stride: 2)"));
        assert!(is_rewritten(image, "Conv2d(out: 4, kernel_size: [7, 3], stride: [3, 1])"));
        assert!(!is_rewritten(image, "Conv2d(out: 4, kernel_size: 2, stride: 2)"));
        assert!(!is_rewritten(image, "Conv2d(out: 4, kernel_size: 3, dilation: 2)"));
        assert!(!is_rewritten(image, "Conv2d(out: 8, kernel_size: 3, groups: 2)"));
        assert!(!is_rewritten(image, "Conv2d(out: 8, kernel_size: 3, groups: 8)"));
        assert!(!is_rewritten(image, "MaxPool2d(kernel_size: 3, stride: 1)"));
        assert!(!is_rewritten(image, "AvgPool2d(kernel_size: 3, stride: 1)"));
        assert!(!is_rewritten("[4, 12]", "Dense(out: 3)"));
    }

    #[test]
    fn transforms_are_taken_where_they_pay() {
        let auto = options(Winograd::Auto);
        let first = |shape: &str, layers: &str| abouts(shape, layers, &auto)[0].clone();
        let same = "Conv2d(out: 64, kernel_size: 3, padding: 1)";
        assert_eq!(first("[1, 64, 56, 56]", same), "F(4x4,3x3) taps");
        assert_eq!(first("[1, 128, 28, 28]", "Conv2d(out: 128, kernel_size: 3, padding: 1)"), "F(4x4,3x3) taps");
        assert_eq!(first("[1, 32, 56, 56]", "Conv2d(out: 32, kernel_size: 5, padding: 2)"), "F(2x2,5x5) taps");
        assert_eq!(first("[1, 3, 224, 224]", "Conv2d(out: 64, kernel_size: 7, stride: 2)"), "F(3x3,4x4) phases");
        assert_eq!(first("[1, 3, 224, 224]", same), "Conv2d");
        assert_eq!(first("[1, 64, 2, 2]", same), "Conv2d");
        let never = options(Winograd::Never);
        assert_eq!(abouts("[1, 64, 56, 56]", same, &never), ["Conv2d"]);
    }

    #[test]
    fn weights_stay_within_the_limit() {
        let layers = r#"Conv2d(name: "a", out: 128, kernel_size: 3, padding: 1),
            Conv2d(name: "b", out: 128, kernel_size: 3, padding: 1)"#;
        let plain = program("[1, 128, 28, 28]", layers, true);
        let kept = |limit: Option<u64>| -> u64 {
            let options = PlanOptions { constant_limit: limit, ..options(Winograd::Auto) };
            let rewritten = rewritten(plain.clone(), &options).program;
            let transformed: Vec<&str> = rewritten
                .kernels
                .iter()
                .filter(|named| named.about.ends_with("taps"))
                .map(|named| named.nodes[0].as_str())
                .collect();
            let bytes = |info: &fusewright_ir::kernel::BufferInfo| 4 * info.dims.iter().product::<usize>() as u64;
            let own = rewritten.buffers.iter().filter(|info| {
                info.name.ends_with(".taps")
                    || (info.role == Role::Parameter && {
                        let node = info.name.split('.').next().unwrap_or_default();
                        info.name.ends_with("bias") || !transformed.contains(&node)
                    })
            });
            own.map(bytes).sum()
        };
        let direct = 2 * (4 * 128 * 128 * 9 + 4 * 128);
        let whole = 2 * (4 * 128 * 128 * 36 + 4 * 128);
        assert_eq!(kept(None), whole);
        assert_eq!(kept(Some(0)), direct);
        let middle = kept(Some(3 << 20));
        assert!(direct < middle && middle <= 3 << 20, "{middle}");
    }
}
