//! What normalisations share: `(x - mean) / sqrt(variance + eps) * weight + bias`, with the mean and variance of a group
//! of elements, or with statistics that are kept.

use super::common::Dims;
use super::*;
use crate::Dim;
use crate::graph::ValueId;
use crate::kernel::build::Operand;
use crate::kernel::{Affine, FoldKind, Index, KernelBuilder, ScalarId, UnaryOp};

/// The usual eps.
pub fn small() -> Real {
    Real(1e-5)
}

/// Whether eps is the usual one.
pub fn is_small(eps: &Real) -> bool {
    *eps == small()
}

/// Refuses an eps below zero, with which square roots may be of negative numbers.
///
/// # Errors
/// The field `eps`.
pub fn check_eps(eps: Real) -> Result<(), Mismatch> {
    match eps.0 >= 0.0 && eps.0.is_finite() {
        true => Ok(()),
        false => {
            let help = "PyTorch's default is 1e-5";
            Err(Mismatch::new("a small number, not negative", eps.0.to_string(), help).in_field("eps"))
        }
    }
}

/// The parameters `weight` (ones) and `bias` (zeros) of `shape`, those of them that there are.
pub fn affine(shape: &[Dim], weight: bool, bias: bool) -> Vec<ParameterSpec> {
    let weight = weight.then(|| ParameterSpec::trainable("weight", shape.iter().cloned(), Initializer::Ones));
    let bias = bias.then(|| ParameterSpec::trainable("bias", shape.iter().cloned(), Initializer::Zeros));
    weight.into_iter().chain(bias).collect()
}

/// The statistics `running_mean` (zeros) and `running_var` (ones) of `channels`.
pub fn statistics(channels: &Dim) -> [ParameterSpec; 2] {
    [
        ParameterSpec::statistic("running_mean", [channels.clone()], Initializer::Zeros),
        ParameterSpec::statistic("running_var", [channels.clone()], Initializer::Ones),
    ]
}

/// One kernel: for every point of `outer` the moments of `input` over `inner`, then a store over `inner` of what was
/// normalised. `at` reads and writes, `affine_at` reads `weight` and `bias`; both may use outer and inner axes.
pub struct Grouped<'a> {
    /// The space of groups.
    pub outer: &'a [usize],
    /// The space of the elements of a group.
    pub inner: &'a [usize],
    /// Where an element is.
    pub at: Vec<Affine>,
    /// Where its weight and bias are.
    pub affine_at: Vec<Affine>,
    /// Added to the variance.
    pub eps: f64,
    /// What the normalised value is multiplied with.
    pub weight: Option<&'a Operand>,
    /// What is added then.
    pub bias: Option<&'a Operand>,
}

impl Grouped<'_> {
    /// The kernel from `input` to `out`.
    pub fn lower(self, input: &Operand, out: &Operand) -> Kernel {
        let mut k = KernelBuilder::new(self.outer);
        let x = k.load(input, self.at.clone());
        let mean = k.fold(FoldKind::Moments, self.inner, x);
        let squares = k.folded(1);
        let share = k.number(1.0 / self.inner.iter().product::<usize>().max(1) as f64);
        let variance = k.mul(squares, share);
        let weight = self.weight.map(|weight| k.load(weight, self.affine_at.clone()));
        let bias = self.bias.map(|bias| k.load(bias, self.affine_at.clone()));
        let value = normalize(&mut k, x, mean, variance, self.eps, weight, bias);
        k.store_over(self.inner, out, self.at, value);
        k.finish()
    }
}

/// `(x - mean) / sqrt(variance + eps) * weight + bias`; the factor of `x - mean` is computed apart, since it is the same
/// for many `x`.
pub fn normalize(
    k: &mut KernelBuilder,
    x: ScalarId,
    mean: ScalarId,
    variance: ScalarId,
    eps: f64,
    weight: Option<ScalarId>,
    bias: Option<ScalarId>,
) -> ScalarId {
    let eps = k.number(eps);
    let variance = k.add(variance, eps);
    let deviation = k.unary(UnaryOp::Sqrt, variance);
    let weight = weight.unwrap_or_else(|| k.number(1.0));
    let factor = k.div(weight, deviation);
    let centred = k.sub(x, mean);
    let value = k.mul(centred, factor);
    bias.map_or(value, |bias| k.add(value, bias))
}

/// The kernel that normalises each element with the statistics of its channel, which is axis `channel`.
/// `parameters` are weight and bias where the layer has them, mean and variance.
pub fn with_statistics(site: &Site, channel: usize, affine: bool, eps: f64) -> Kernel {
    let (input, out) = (&site.inputs[0], &site.outputs[0]);
    let mut k = KernelBuilder::new(&out.dims);
    let axes = k.outer_axes();
    let x = k.load(input, axes.clone());
    let parameters: Vec<ScalarId> =
        site.inputs[1..].iter().map(|parameter| k.load(parameter, [Index::from(axes[channel])])).collect();
    let (scale, kept) = parameters.split_at(if affine { 2 } else { 0 });
    let (weight, bias) = (scale.first().copied(), scale.get(1).copied());
    let value = normalize(&mut k, x, kept[0], kept[1], eps, weight, bias);
    k.store(out, axes, value);
    k.finish()
}

/// The shape in which parameters of channels, axis `channel`, broadcast against `dims`.
pub fn along_channels(dims: &[usize], channel: usize) -> Vec<usize> {
    dims[channel..].iter().enumerate().map(|(i, &n)| if i == 0 { n } else { 1 }).collect()
}

/// The gradients of a normalisation with the moments over `axes` of the input as `view`; weight and bias, where there
/// are any, broadcast as `along`.
pub fn gradient(back: &mut Backward, view: &[usize], axes: &[usize], along: &[usize], eps: f64) -> Gradients {
    let (input, upstream) = (back.input(0), back.upstream());
    let dims = back.dims(input);
    let x = back.reshaped(input, view);
    let mean = back.reduced(Reduction::Mean, x, axes);
    let variance = back.node(moments_variance(axes), &[x]);
    let eps = back.number(eps);
    let variance = back.add(variance, eps);
    let factor = back.map("Rsqrt", &[variance]);
    let centred = back.sub(x, mean);
    let normal = back.mul(centred, factor);
    let mut gradients = back.nothing();
    if back.wants(0) {
        let mut inner = upstream;
        if let Some(weight) = back.inputs().get(1).copied() {
            let weight = back.reshaped(weight, along);
            inner = back.mul(upstream, weight);
        }
        // What comes from behind, less its mean and its part along the normalised values: both were taken out in front.
        let inner = back.reshaped(inner, view);
        let level = back.reduced(Reduction::Mean, inner, axes);
        let product = back.mul(inner, normal);
        let part = back.reduced(Reduction::Mean, product, axes);
        let part = back.mul(normal, part);
        let rest = back.sub(inner, level);
        let rest = back.sub(rest, part);
        let gradient = back.mul(rest, factor);
        gradients[0] = Some(back.reshaped(gradient, &dims));
    }
    affine_gradients(back, &mut gradients, normal, along, 2);
    gradients
}

/// The gradients by weight and bias: operands 1 and 2, as far as they are before `end`.
fn affine_gradients(back: &mut Backward, gradients: &mut Gradients, normal: ValueId, along: &[usize], end: usize) {
    let upstream = back.upstream();
    for i in (1..=end).filter(|&i| back.wants(i)).collect::<Vec<_>>() {
        let value = match i {
            1 => {
                let dims = back.dims(upstream);
                let normal = back.reshaped(normal, &dims);
                back.mul(upstream, normal)
            }
            _ => upstream,
        };
        let sum = back.sum_to(value, along);
        let own = back.dims(back.input(i));
        gradients[i] = Some(back.reshaped(sum, &own));
    }
}

/// Mixes the moments of the first input over `axes` into the statistics that it keeps, which are operands `first` and
/// `first + 1`: the mean of those of all images, `momentum` of it; of the variance the unbiased estimate. The moments are
/// computed as [`gradient`] does, so that they are computed once.
///
/// # Errors
/// Where a channel has one element only.
pub fn keep_statistics(site: &mut Training, first: usize, axes: &[usize], momentum: f64) -> Result<(), Mismatch> {
    let input = site.inputs()[0];
    let dims = site.dims(input);
    let count: usize = axes.iter().map(|&axis| dims[axis]).product();
    if count < 2 {
        let expected = "more than one element a channel, of which there can be a variance";
        let help = "train with larger batches or images";
        return Err(Mismatch::new(expected, site.ty(input).to_string(), help));
    }
    let mean = site.reduced(Reduction::Mean, input, axes);
    let variance = site.node(moments_variance(axes), &[input]);
    let variance = site.scaled(variance, count as f64 / (count - 1) as f64);
    for (i, mut value) in [(first, mean), (first + 1, variance)] {
        let kept = site.inputs()[i];
        let own = site.dims(kept);
        if site.dims(value).iter().product::<usize>() != own[0] {
            value = site.reduced(Reduction::Mean, value, &[0]);
        }
        let value = site.reshaped(value, &own);
        let new = site.mixed(kept, value, 1.0 - momentum);
        site.keep(i, new);
    }
    Ok(())
}

/// The biased variance over `axes`, which keep the length 1.
fn moments_variance(axes: &[usize]) -> Var {
    Var { dim: Dims::Many(axes.iter().map(|&axis| axis as i32).collect()), correction: Real(0.0), keepdim: true }
}

/// The gradients of [`with_statistics`]; the parameters broadcast as `along`.
pub fn gradient_with_statistics(back: &mut Backward, along: &[usize], affine: bool, eps: f64) -> Gradients {
    let (input, upstream) = (back.input(0), back.upstream());
    let n_affine = if affine { 2 } else { 0 };
    let (mean, variance) = (back.input(n_affine + 1), back.input(n_affine + 2));
    let (mean, variance) = (back.reshaped(mean, along), back.reshaped(variance, along));
    let eps = back.number(eps);
    let variance = back.add(variance, eps);
    let factor = back.map("Rsqrt", &[variance]);
    let centred = back.sub(input, mean);
    let mut scale = factor;
    if affine {
        let weight = back.input(1);
        let weight = back.reshaped(weight, along);
        scale = back.mul(factor, weight);
    }
    let mut gradients = back.nothing();
    let direct = back.mul(upstream, scale);
    if back.wants(0) {
        gradients[0] = Some(direct);
    }
    if affine {
        let normal = back.mul(centred, factor);
        affine_gradients(back, &mut gradients, normal, along, 2);
    }
    if back.wants(n_affine + 1) {
        let own = back.dims(back.input(n_affine + 1));
        let sum = back.sum_to(direct, along);
        let sum = back.reshaped(sum, &own);
        gradients[n_affine + 1] = Some(back.map("Neg", &[sum]));
    }
    if back.wants(n_affine + 2) {
        let own = back.dims(back.input(n_affine + 2));
        let product = back.mul(direct, centred);
        let sum = back.sum_to(product, along);
        let share = back.map("Div", &[sum, variance]);
        let share = back.scaled(share, -0.5);
        gradients[n_affine + 2] = Some(back.reshaped(share, &own));
    }
    gradients
}

/// The reference of [`with_statistics`].
pub fn reference_with_statistics(inputs: &[&Array], channel: usize, affine: bool, eps: f64) -> Array {
    let (scale, kept) = inputs[1..].split_at(if affine { 2 } else { 0 });
    Array::from_fn(&inputs[0].dims, |at| {
        let c = at[channel];
        let value = (inputs[0].at(at) - kept[0].data[c]) / (kept[1].data[c] + eps).sqrt();
        value * scale.first().map_or(1.0, |weight| weight.data[c]) + scale.get(1).map_or(0.0, |bias| bias.data[c])
    })
}

/// The reference of [`Grouped`]: the elements of each group, wherever they are, are those with the same number;
/// `affine_at` is the place of an element's weight and bias.
pub fn reference_grouped(
    input: &Array,
    eps: f64,
    weight: Option<&&Array>,
    bias: Option<&&Array>,
    n_groups: usize,
    group: impl Fn(&[usize]) -> usize,
    affine_at: impl Fn(&[usize]) -> usize,
) -> Array {
    let groups: Vec<usize> = crate::tensor::points(&input.dims).map(|at| group(&at)).collect();
    let mut totals = vec![(0.0, 0.0); n_groups];
    for (&group, value) in groups.iter().zip(&input.data) {
        totals[group].0 += value;
        totals[group].1 += 1.0;
    }
    let means: Vec<f64> = totals.iter().map(|(sum, count)| sum / count).collect();
    let mut variances = vec![0.0; n_groups];
    for (&group, value) in groups.iter().zip(&input.data) {
        variances[group] += (value - means[group]).powi(2) / totals[group].1;
    }
    let mut groups = groups.iter();
    Array::from_fn(&input.dims, |at| {
        let group = *groups.next().expect("a group for each element");
        let value = (input.at(at) - means[group]) / (variances[group] + eps).sqrt();
        let place = affine_at(at);
        value * weight.map_or(1.0, |weight| weight.data[place]) + bias.map_or(0.0, |bias| bias.data[place])
    })
}
