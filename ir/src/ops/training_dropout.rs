//! Dropout as training has it, from a counter-based generator.

use super::*;
use crate::kernel::{Affine, Axis, BinaryOp, CompareOp, KernelBuilder, Literal, ScalarId};

/// Input x and the count of finished steps, an i32 without axes. An element is 0 with probability `p` and else
/// `x / (1 - p)`. Whether it is depends on the seed, the step, the number of the layer and the element's place in row-major
/// order alone, by Philox4x32-10 (Salmon et al. 2011): layout, threads and fusion change nothing, and the gradient is the same
/// operation, so that no mask is kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TrainingDropout {
    /// The probability, in 0..=1.
    pub p: Real,
    /// The seed of the training: the generator's key.
    pub seed: u64,
    /// Tells apart the layers of a network.
    pub number: u32,
}

/// The generator's multipliers, and what is added to its key after each round.
const MULTIPLIERS: [u32; 2] = [0xd251_1f53, 0xcd9e_8d57];
const WEYL: [u32; 2] = [0x9e37_79b9, 0xbb67_ae85];
const ROUNDS: usize = 10;

impl TrainingDropout {
    fn key(&self) -> [u32; 2] {
        [self.seed as u32, (self.seed >> 32) as u32]
    }

    /// Elements are zeroed whose random word is below it; 2^32 for all.
    fn threshold(&self) -> u64 {
        (self.p.0 * 2f64.powi(32)).round() as u64
    }
}

impl OpSpec for TrainingDropout {
    fn name(&self) -> &'static str {
        "TrainingDropout"
    }

    fn fields(&self) -> String {
        let TrainingDropout { p: Real(p), seed, number } = self;
        format!("(p:{p},seed:{seed},number:{number})")
    }

    fn arity(&self) -> Arity {
        Arity::exactly(2)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Types, Mismatch> {
        common::expect_float(inputs[0])?;
        dropout::check_p(self.p)?;
        let step = TensorType::new(DType::I32, [0usize; 0]);
        match *inputs[1] == step {
            true => Ok([inputs[0].clone()].into_iter().collect()),
            false => Err(Mismatch::new(format!("the step as {step}"), inputs[1].to_string(), "count steps in i32")),
        }
    }

    fn lower(&self, site: &mut Site) -> Vec<Kernel> {
        let (input, step, out) = (&site.inputs[0], &site.inputs[1], &site.outputs[0]);
        let mut k = KernelBuilder::new(&out.dims);
        let axes = k.outer_axes();
        let x = k.load(input, axes.clone());
        let zero = k.number(0.0);
        let value = match self.threshold() {
            0 => x,
            threshold => match u32::try_from(threshold) {
                Err(_) => zero,
                Ok(threshold) => {
                    let step = k.load(step, [] as [Axis; 0]);
                    let word = self.word(&mut k, &out.dims, step);
                    let threshold = k.literal(Literal::U32(threshold));
                    let is_dropped = k.compare(CompareOp::Lt, word, threshold);
                    let scale = k.number(1.0 / (1.0 - self.p.0));
                    let scaled = k.mul(x, scale);
                    k.select(is_dropped, zero, scaled)
                }
            },
        };
        k.store(out, axes, value);
        vec![k.finish()]
    }

    fn gradient(&self, back: &mut Backward) -> Gradients {
        let (upstream, step) = (back.upstream(), back.input(1));
        let mut gradients = back.nothing();
        gradients[0] = Some(back.node(self.clone(), &[upstream, step]));
        gradients
    }

    fn reference(&self, inputs: &[&Array], _: &[TensorType]) -> Vec<Array> {
        let step = inputs[1].data[0] as i64 as u32;
        let dropped = |place: u64| {
            let counter = [step, self.number, place as u32, (place >> 32) as u32];
            u64::from(philox(self.key(), counter)[0]) < self.threshold()
        };
        let value = |(place, x): (usize, &f64)| if dropped(place as u64) { 0.0 } else { x / (1.0 - self.p.0) };
        vec![Array { dims: inputs[0].dims.clone(), data: inputs[0].data.iter().enumerate().map(value).collect() }]
    }
}

impl TrainingDropout {
    /// The first word of the generator at each element of `dims`, as scalars of u32.
    fn word(&self, k: &mut KernelBuilder, dims: &[usize], step: ScalarId) -> ScalarId {
        let mut length = 1;
        let mut terms: Vec<(Axis, i64)> = Vec::new();
        for (axis, &n) in k.outer_axes().into_iter().zip(dims).rev() {
            terms.push((axis, length));
            length *= n as i64;
        }
        let place = k.position(Affine::new(terms, 0));
        let low = k.cast(DType::U32, place);
        let high = match u32::try_from(length - 1) {
            Ok(_) => k.literal(Literal::U32(0)),
            Err(_) => {
                let words = k.literal(Literal::I64(1 << 32));
                let high = k.binary(BinaryOp::Div, place, words);
                k.cast(DType::U32, high)
            }
        };
        let step = k.cast(DType::U32, step);
        let number = k.literal(Literal::U32(self.number));
        let mut counter = [step, number, low, high];
        let mut key = self.key();
        for _ in 0..ROUNDS {
            let factors = MULTIPLIERS.map(|factor| k.literal(Literal::U32(factor)));
            let [a, b, c, d] = counter;
            let products = [(a, factors[0]), (c, factors[1])]
                .map(|(word, factor)| (k.binary(BinaryOp::MulHigh, word, factor), k.mul(word, factor)));
            let [(high_a, low_a), (high_c, low_c)] = products;
            let keys = key.map(|word| k.literal(Literal::U32(word)));
            let first = k.binary(BinaryOp::Xor, high_c, b);
            let first = k.binary(BinaryOp::Xor, first, keys[0]);
            let third = k.binary(BinaryOp::Xor, high_a, d);
            let third = k.binary(BinaryOp::Xor, third, keys[1]);
            counter = [first, low_c, third, low_a];
            key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
        }
        counter[0]
    }
}

/// Philox4x32-10: the words of a counter under a key.
fn philox(mut key: [u32; 2], mut counter: [u32; 4]) -> [u32; 4] {
    for round in 0..ROUNDS {
        if round > 0 {
            for (word, weyl) in key.iter_mut().zip(WEYL) {
                *word = word.wrapping_add(weyl);
            }
        }
        let first = u64::from(counter[0]) * u64::from(MULTIPLIERS[0]);
        let second = u64::from(counter[2]) * u64::from(MULTIPLIERS[1]);
        counter = [
            (second >> 32) as u32 ^ counter[1] ^ key[0],
            second as u32,
            (first >> 32) as u32 ^ counter[3] ^ key[1],
            first as u32,
        ];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_random123() {
        // From `kat_vectors` of its authors.
        let pi = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
        for (key, counter, words) in [
            ([0; 2], [0; 4], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([u32::MAX; 2], [u32::MAX; 4], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            ([0xa409_3822, 0x299f_31d0], pi, [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]),
        ] {
            assert_eq!(philox(key, counter), words);
        }
    }

    fn layer(p: f64, number: u32) -> TrainingDropout {
        TrainingDropout { p: Real(p), seed: 0x0123_4567_89ab_cdef, number }
    }

    fn run(op: &TrainingDropout, step: f64) -> Vec<f64> {
        let ones = Array::from_fn(&[100, 100], |_| 1.0);
        let step = Array { dims: Vec::new(), data: vec![step] };
        op.reference(&[&ones, &step], &[]).remove(0).data
    }

    #[test]
    fn as_many_are_dropped_as_p_says() {
        for p in [0.1, 0.5, 0.9] {
            let values = run(&layer(p, 0), 3.0);
            let dropped = values.iter().filter(|&&x| x == 0.0).count() as f64;
            // Five standard deviations.
            assert!((dropped - 1e4 * p).abs() < 5.0 * (1e4 * p * (1.0 - p)).sqrt(), "{dropped} of p {p}");
            assert!(values.iter().all(|&x| x == 0.0 || x == 1.0 / (1.0 - p)));
        }
        assert!(run(&layer(1.0, 0), 0.0).iter().all(|&x| x == 0.0));
        assert!(run(&layer(0.0, 0), 0.0).iter().all(|&x| x == 1.0));
    }

    #[test]
    fn steps_and_layers_draw_apart() {
        let first = run(&layer(0.5, 0), 0.0);
        assert_eq!(first, run(&layer(0.5, 0), 0.0));
        assert_ne!(first, run(&layer(0.5, 0), 1.0));
        assert_ne!(first, run(&layer(0.5, 1), 0.0));
        assert_ne!(first, run(&TrainingDropout { seed: 1, ..layer(0.5, 0) }, 0.0));
    }

    #[test]
    fn the_step_is_a_count() {
        let (x, step) = (TensorType::f32([3usize]), TensorType::new(DType::I32, [0usize; 0]));
        assert_eq!(layer(0.5, 0).infer(&[&x, &step]).unwrap()[0], x);
        assert_eq!(layer(0.5, 0).infer(&[&x, &x]).unwrap_err().expected, "the step as i32[]");
        assert_eq!(layer(1.5, 0).infer(&[&x, &step]).unwrap_err().field, Some("p"));
    }
}
