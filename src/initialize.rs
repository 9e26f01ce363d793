//! What parameters are before they are learned: the initialisers of a model, from a seed.
//!
//! Every parameter draws from a stream of its own, named by the seed and the parameter's name, so that a layer that is
//! added or taken away changes no other. The numbers are the same on every machine.

use crate::ir::ops::{Initializer, Parameter};
use crate::ir::tensor::Data;
use crate::ir::{DType, Tensor};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// The tensor that `parameter` starts as, of `dims`. Fans are PyTorch's: `torch.nn.init`.
pub fn initialize(parameter: &Parameter, dims: &[usize], name: &str, seed: u64) -> Tensor {
    let mut stream = Stream::new(name, seed);
    let law = Law::of(parameter.init, dims);
    let elements = 0..dims.iter().product::<usize>();
    let data = match parameter.ty.dtype {
        DType::F32 if let Law::Constant(value) = law => Data::F32(vec![value as f32; elements.len()]),
        // There may be many: they are not held as f64 first.
        DType::F32 => Data::F32(elements.map(|_| stream.draw(law) as f32).collect()),
        other => Data::from_f64(other, &elements.map(|_| stream.draw(law)).collect::<Vec<f64>>()),
    };
    Tensor::new(dims, data)
}

/// How numbers are drawn.
#[derive(Clone, Copy)]
enum Law {
    Constant(f64),
    Uniform { low: f64, high: f64 },
    Normal { mean: f64, std: f64 },
}

impl Law {
    fn of(init: Initializer, dims: &[usize]) -> Law {
        let (fan_in, fan_out) = fans(dims);
        let within = |bound: f64| Law::Uniform { low: -bound, high: bound };
        match init {
            Initializer::Zeros => Law::Constant(0.0),
            Initializer::Ones => Law::Constant(1.0),
            Initializer::Constant(value) => Law::Constant(value.0),
            Initializer::Uniform { low, high } => Law::Uniform { low: low.0, high: high.0 },
            Initializer::Normal { mean, std } => Law::Normal { mean: mean.0, std: std.0 },
            Initializer::XavierUniform { gain } => within(gain.0 * (6.0 / (fan_in + fan_out)).sqrt()),
            Initializer::XavierNormal { gain } => {
                Law::Normal { mean: 0.0, std: gain.0 * (2.0 / (fan_in + fan_out)).sqrt() }
            }
            Initializer::KaimingUniform { a } => within((6.0 / ((1.0 + a.0 * a.0) * fan_in)).sqrt()),
            Initializer::KaimingNormal { a, fan_out: out } => {
                let fan = if out { fan_out } else { fan_in };
                Law::Normal { mean: 0.0, std: (2.0 / ((1.0 + a.0 * a.0) * fan)).sqrt() }
            }
            Initializer::FanInUniform { fan_in } => within(1.0 / (fan_in.max(1) as f64).sqrt()),
        }
    }
}

/// The elements that one output reads and that read one input, at least 1 each.
fn fans(dims: &[usize]) -> (f64, f64) {
    let kernel: usize = dims.iter().skip(2).product();
    let fan = |axis: usize| (dims.get(axis).or(dims.first()).copied().unwrap_or(1) * kernel).max(1) as f64;
    (fan(1), fan(0))
}

/// Numbers for one parameter.
struct Stream(ChaCha8Rng);

impl Stream {
    fn new(name: &str, seed: u64) -> Stream {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        // FNV-1a: any fixed hash does, for as long as it stays the same.
        let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        generator.set_stream(name.bytes().fold(0xcbf2_9ce4_8422_2325, hash));
        Stream(generator)
    }

    /// Uniform in `0..1`, a multiple of 2^-53.
    fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn draw(&mut self, law: Law) -> f64 {
        match law {
            Law::Constant(value) => value,
            Law::Uniform { low, high } => low + (high - low) * self.unit(),
            // Box and Muller 1958.
            Law::Normal { mean, std } => {
                let radius = (-2.0 * libm::log(1.0 - self.unit())).sqrt();
                mean + std * (radius * libm::cos(2.0 * std::f64::consts::PI * self.unit()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::TensorType;
    use crate::ir::ops::Real;

    fn draw(init: Initializer, dims: &[usize], seed: u64) -> Vec<f32> {
        let ty = TensorType::f32(dims.iter().copied());
        let tensor = initialize(&Parameter { ty, init, trainable: true, is_state: false }, dims, "c1.weight", seed);
        tensor.as_slice::<f32>().unwrap().to_vec()
    }

    fn moments(numbers: &[f32]) -> (f64, f64) {
        let n = numbers.len() as f64;
        let mean = numbers.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
        let variance = numbers.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
        (mean, variance.sqrt())
    }

    #[test]
    fn deviations_are_those_of_pytorch() {
        let dims = [64, 32, 3, 3];
        let (fan_in, fan_out) = (288.0f64, 576.0f64);
        let one = Real(1.0);
        let cases = [
            (Initializer::Uniform { low: Real(-2.0), high: Real(4.0) }, 1.0, 6.0 / 12f64.sqrt()),
            (Initializer::Normal { mean: Real(3.0), std: Real(0.5) }, 3.0, 0.5),
            (Initializer::XavierUniform { gain: one }, 0.0, (2.0 / (fan_in + fan_out)).sqrt()),
            (Initializer::XavierNormal { gain: Real(2.0) }, 0.0, 2.0 * (2.0 / (fan_in + fan_out)).sqrt()),
            (Initializer::KaimingUniform { a: Real(0.0) }, 0.0, (2.0 / fan_in).sqrt()),
            (Initializer::layer_weight(), 0.0, (2.0 / (6.0 * fan_in)).sqrt()),
            (Initializer::KaimingNormal { a: Real(0.0), fan_out: true }, 0.0, (2.0 / fan_out).sqrt()),
            (Initializer::FanInUniform { fan_in: 288 }, 0.0, (1.0 / fan_in).sqrt() / 3f64.sqrt()),
        ];
        for (init, mean, std) in cases {
            let (found_mean, found_std) = moments(&draw(init, &dims, 0));
            // 18,432 draws: four standard errors of the mean, and as much of the deviation.
            assert!((found_mean - mean).abs() < 4.0 * std / 135.0, "{init:?}: mean {found_mean}");
            assert!((found_std / std - 1.0).abs() < 0.03, "{init:?}: deviation {found_std}, expected {std}");
        }
    }

    #[test]
    fn a_seed_gives_the_same_numbers_everywhere() {
        let init = Initializer::Normal { mean: Real(0.0), std: Real(1.0) };
        assert_eq!(draw(init, &[3], 7), draw(init, &[3], 7));
        assert_ne!(draw(init, &[3], 7), draw(init, &[3], 8));
        // More elements begin with the same ones.
        assert_eq!(draw(init, &[3], 7), draw(init, &[5], 7)[..3]);
    }
}
