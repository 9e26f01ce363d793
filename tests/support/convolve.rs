//! Networks of convolutions whose windows transforms serve, at sizes that leave every remainder.

use super::random::Random;

/// The model file of a seed: one or two convolutions with an epilogue.
pub fn model(seed: u64) -> String {
    let mut random = Random::named(seed, "convolve");
    let signal = random.chance(20);
    // Evaluators are slow: large images have few channels, and the other way round.
    let (lengths, channels): (&[i64], &[i64]) = match random.chance(40) {
        true => (&[1, 2, 3, 4, 5, 6], &[16, 17, 24, 31, 32, 33]),
        false => (&[4, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18], &[1, 2, 3, 4, 5, 8]),
    };
    let n_axes = if signal { 1 } else { 2 };
    let taps = random.pick(&[3, 3, 3, 3, 2, 4, 5]);
    let kernel: Vec<i64> =
        (0..n_axes).map(|_| if random.chance(80) { taps } else { random.pick(&[1, 3, 5]) }).collect();
    let padding: Vec<i64> = kernel.iter().map(|&taps| random.pick(&[0, taps / 2, taps / 2, taps - 1])).collect();
    // At least one place for the window.
    let image: Vec<i64> = (0..n_axes).map(|i| random.pick(lengths).max(kernel[i] - 2 * padding[i]).max(1)).collect();
    let (batch, inputs, outputs) = (random.pick(&[1, 1, 2, 3]), random.pick(channels), random.pick(channels));
    let join = |numbers: &[i64]| numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let mut layers = Vec::new();
    let name = if signal { "Conv1d" } else { "Conv2d" };
    if random.chance(40) {
        layers.push(format!("{name}(out: {inputs}, kernel_size: 1)"));
    }
    if random.chance(30) {
        layers.push("Relu".to_string());
    }
    let flipped = if random.chance(15) { ", flip_kernel: true" } else { "" };
    let bias = if random.chance(30) { ", bias: false" } else { "" };
    layers.push(format!(
        "{name}(name: \"c\", out: {outputs}, kernel_size: [{}], padding: [{}]{flipped}{bias})",
        join(&kernel),
        join(&padding)
    ));
    match random.below(6) {
        0 => layers.push("Relu".to_string()),
        1 => layers.push("Gelu".to_string()),
        2 => layers.push("Clip(min: -0.5, max: 0.75)".to_string()),
        3 => {
            let shape = format!(
                "{name}(name: \"r\", out: {outputs}, kernel_size: [{}], padding: [{}], from: \"x\")",
                join(&kernel),
                join(&padding)
            );
            layers.push(shape);
            layers.push("Add(from: [\"c\", \"r\"])".to_string());
            layers.push("Silu".to_string());
        }
        4 => layers.push("Sigmoid(name: \"s\"), Mul(from: [\"c\", \"s\"])".to_string()),
        _ => {}
    }
    if random.chance(30) {
        layers.push(format!("{name}(out: 3, kernel_size: 3, padding: 1)"));
    }
    let shape: Vec<i64> = [batch, inputs].into_iter().chain(image).collect();
    format!("(fusewright: 1, inputs: [(name: \"x\", shape: [{}])], layers: [{}])", join(&shape), layers.join(", "))
}
