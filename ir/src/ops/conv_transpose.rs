//! Transposed convolution over one, two or three spatial axes: the map that convolution's gradient applies to an image.

use super::common::{combinations, expect_float};
use super::conv::{channel_sum, is_default, is_one, is_ones, is_yes, one, ones, yes};
use super::window::{Padding, PaddingName, PerAxis, check_window, image, positive};
use super::*;
use crate::Dim;
use crate::kernel::{Affine, Axis, FoldKind, Index, KernelBuilder, Literal};
use crate::tensor::points;

/// Image `[batch, in, spatial...]` (or without the batch), weights `[in, out / groups, kernel...]`, bias `[out]`.
/// Every pixel adds its multiple of the kernel to the output, `stride` steps from that of its neighbour. Output is
/// `[batch, out, lengths...]` with
/// `(length - 1) * stride + dilation * (kernel - 1) + 1 + output_padding - padding before and after`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvTranspose {
    /// The number of spatial axes: 1, 2 or 3.
    #[serde(skip)]
    pub spatial: usize,
    /// The number of output channels.
    pub out: u32,
    /// The window.
    pub kernel_size: PerAxis,
    /// Steps in the output between neighbours in the image.
    #[serde(default = "ones", skip_serializing_if = "is_ones")]
    pub stride: PerAxis,
    /// Elements cut off around the output: the padding of the convolution that this one turns round.
    #[serde(default, skip_serializing_if = "is_default")]
    pub padding: Padding,
    /// Elements added behind the output; less than the stride or the dilation.
    #[serde(default = "none", skip_serializing_if = "is_none")]
    pub output_padding: PerAxis,
    /// Steps between elements of a window.
    #[serde(default = "ones", skip_serializing_if = "is_ones")]
    pub dilation: PerAxis,
    /// Each group of input channels meets its own group of output channels.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub groups: u32,
    /// Whether a bias is added.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub bias: bool,
    /// The kernel is read backwards, as that of the convolution that this one turns round.
    #[serde(default, skip_serializing_if = "is_default")]
    pub flip_kernel: bool,
}

fn none() -> PerAxis {
    PerAxis::All(0)
}

fn is_none(numbers: &PerAxis) -> bool {
    *numbers == PerAxis::All(0)
}

/// The layers of this file.
pub const LAYERS: &[LayerKind] = &[
    LayerKind {
        name: "ConvTranspose1d",
        about: "transposed convolution over a signal",
        read: |fields| read(fields, 1),
    },
    LayerKind {
        name: "ConvTranspose2d",
        about: "transposed convolution over an image",
        read: |fields| read(fields, 2),
    },
    LayerKind {
        name: "ConvTranspose3d",
        about: "transposed convolution over a volume",
        read: |fields| read(fields, 3),
    },
];

fn read(fields: &Value, spatial: usize) -> Result<Op, FieldError> {
    Ok(Op::ConvTranspose(ConvTranspose { spatial, ..crate::text::read(fields)? }))
}

/// What happens along one spatial axis.
#[derive(Clone, Copy, Debug)]
struct Spread {
    kernel: usize,
    stride: usize,
    dilation: usize,
    /// Elements cut off in front and behind.
    before: usize,
    after: usize,
    /// Elements added behind.
    extra: usize,
}

impl Spread {
    fn length(&self, length: &Dim) -> Dim {
        let reach = Dim::from(self.kernel - 1) * self.dilation + 1;
        (length.clone() - 1) * self.stride + reach + self.extra - self.before - self.after
    }
}

impl ConvTranspose {
    fn spreads(&self) -> Result<SmallVec<[Spread; 3]>, Mismatch> {
        let axes = self.spatial;
        let kernel = self.kernel_size.expand(axes, "kernel_size")?;
        let stride = self.stride.expand(axes, "stride")?;
        let dilation = self.dilation.expand(axes, "dilation")?;
        let extra = self.output_padding.expand(axes, "output_padding")?;
        positive(&[("kernel_size", &kernel), ("stride", &stride), ("dilation", &dilation)])?;
        check_window(&kernel)?;
        if self.padding == Padding::Named(PaddingName::Same) {
            let help = "write the padding in numbers";
            return Err(Mismatch::new("padding in numbers or \"valid\"", "\"same\"", help).in_field("padding"));
        }
        let mut spreads = SmallVec::new();
        for axis in 0..axes {
            let (before, after) = self.padding.pair(axis, axes)?;
            if extra[axis] >= stride[axis].max(dilation[axis]) {
                return Err(Mismatch::new(
                    format!("less than the stride ({}) or the dilation ({})", stride[axis], dilation[axis]),
                    format!("{} along spatial axis {axis}", extra[axis]),
                    "use a smaller `output_padding`, or a Pad layer behind",
                )
                .in_field("output_padding"));
            }
            let (kernel, stride, dilation) = (kernel[axis], stride[axis], dilation[axis]);
            spreads.push(Spread { kernel, stride, dilation, before, after, extra: extra[axis] });
        }
        Ok(spreads)
    }
}

/// Elements of the output along one axis that the same taps reach: every so many-th.
#[derive(Clone, Copy, Debug)]
struct Phase {
    /// The first element, the distance to the next, and how many there are.
    first: usize,
    step: usize,
    length: usize,
    /// The first tap, the distance to the next, and how many there are.
    first_tap: usize,
    tap_step: usize,
    taps: usize,
}

impl Phase {
    /// More kernels than this are not made of a layer.
    const MOST: usize = 64;

    /// All elements of an axis of this length, in `most` phases at most: else in one, whose indices have divisors.
    fn all(spread: &Spread, length: usize, most: usize) -> Vec<Phase> {
        let whole = Phase { first: 0, step: 1, length, first_tap: 0, tap_step: 1, taps: spread.kernel };
        if spread.stride.min(length) > most {
            return vec![whole];
        }
        // Taps so far apart reach the same elements.
        let tap_step = (1..=spread.stride).find(|n| (n * spread.dilation).is_multiple_of(spread.stride));
        let tap_step = tap_step.unwrap_or(spread.stride);
        let phase = |first: usize| {
            let reaches = |tap: &usize| {
                (first as i64 + spread.before as i64 - (tap * spread.dilation) as i64) % spread.stride as i64 == 0
            };
            let first_tap = (0..tap_step.min(spread.kernel)).find(reaches);
            let taps = first_tap.map_or(0, |tap| (spread.kernel - tap).div_ceil(tap_step));
            let length = (length - first).div_ceil(spread.stride);
            Phase { first, step: spread.stride, length, first_tap: first_tap.unwrap_or(0), tap_step, taps }
        };
        (0..spread.stride.min(length)).map(phase).collect()
    }

    /// The pixel that reaches an element y through tap t: (y + before - t * dilation) / stride, where that is a whole number.
    fn pixel(&self, spread: &Spread, place: Axis, number: Axis) -> Affine {
        let dilation = spread.dilation as i64;
        let along: Affine = number * -(self.tap_step as i64 * dilation) + place * self.step as i64;
        let along = along + (self.first as i64 + spread.before as i64 - self.first_tap as i64 * dilation);
        if self.step == 1 {
            return along.exact_div(spread.stride as i64);
        }
        // Every coefficient is a multiple of the stride.
        let stride = spread.stride as i64;
        let terms = number * -(self.tap_step as i64 * dilation / stride) + Affine::from(place);
        terms + along.offset / stride
    }
}

impl OpSpec for ConvTranspose {
    fn name(&self) -> &'static str {
        ["ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"][self.spatial - 1]
    }

    fn fields(&self) -> String {
        crate::text::fields(self)
    }

    fn arity(&self) -> Arity {
        Arity::exactly(1)
    }

    fn parameters(&self, inputs: &[&TensorType]) -> Result<Vec<ParameterSpec>, Mismatch> {
        let (_, channels, _) = image(inputs[0], self.spatial)?;
        let groups = i64::from(self.groups);
        for (what, n) in [("output", &Dim::from(self.out)), ("input", channels)] {
            if groups == 0 || matches!(n, Dim::Known(n) if n % groups != 0) {
                return Err(Mismatch::new(
                    format!("a number of groups that divides the {n} {what} channels"),
                    format!("{groups}"),
                    "change `groups`, or the number of channels",
                )
                .in_field("groups"));
            }
        }
        let mut shape = vec![channels.clone(), Dim::from(i64::from(self.out) / groups)];
        shape.extend(self.kernel_size.expand(self.spatial, "kernel_size")?.into_iter().map(Dim::from));
        let fan_in = shape[1..].iter().fold(Dim::Known(1), |product, dim| product * dim.clone());
        let mut all = vec![ParameterSpec::trainable("weight", shape, Initializer::layer_weight())];
        if self.bias {
            let init = Initializer::layer_bias(&fan_in);
            all.push(ParameterSpec::trainable("bias", [Dim::from(self.out)], init));
        }
        Ok(all)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Types, Mismatch> {
        expect_float(inputs[0])?;
        let (batch, _, lengths) = image(inputs[0], self.spatial)?;
        let mut shape: Vec<Dim> = batch.iter().cloned().chain([Dim::from(self.out)]).collect();
        for (axis, (spread, length)) in self.spreads()?.iter().zip(lengths).enumerate() {
            if length.surely_below(1) {
                let found = format!("{length} along spatial axis {axis}");
                return Err(Mismatch::new("an image of at least one element", found, "use a larger image"));
            }
            let out = spread.length(length);
            if out.surely_below(1) {
                let whole = out + spread.before + spread.after;
                return Err(Mismatch::new(
                    format!("padding of less than {whole} elements in all along spatial axis {axis}"),
                    format!("{} before and {} after", spread.before, spread.after),
                    "use less padding or a larger image",
                )
                .in_field("padding"));
            }
            shape.push(out);
        }
        Ok([TensorType::f32(shape)].into_iter().collect())
    }

    fn lower(&self, site: &mut Site) -> Vec<Kernel> {
        let (image, weight, out) = (&site.inputs[0], &site.inputs[1], &site.outputs[0]);
        let batch = out.dims.len() - self.spatial - 1;
        let spreads = self.spreads().expect("verified: attributes fit");
        let (groups, out_group) = (self.groups as usize, weight.dims[1]);
        let in_group = image.dims[batch] / groups;

        // Along each axis the elements that the same taps reach: one kernel for each choice of them.
        let mut along: Vec<Vec<Phase>> = Vec::new();
        for (spread, &length) in spreads.iter().zip(&out.dims[batch + 1..]) {
            let others: usize = along.iter().map(Vec::len).product();
            along.push(Phase::all(spread, length, Phase::MOST / others));
        }
        let kernel = |phases: &Vec<Phase>| {
            // With several groups the output channel is two axes, so that the input channel is an affine form of them.
            let mut outer = out.dims.clone();
            outer.splice(batch + 1.., phases.iter().map(|phase| phase.length));
            outer.splice(batch..=batch, if groups > 1 { vec![groups, out_group] } else { vec![out_group] });
            let mut k = KernelBuilder::new(&outer);
            let axes = k.outer_axes();
            let (in_channel, o, out_channel, first) = match groups > 1 {
                true => {
                    let (group, o) = (axes[batch], axes[batch + 1]);
                    (group * in_group as i64 + k.inner(0), o, group * out_group as i64 + o, batch + 2)
                }
                false => (k.inner(0).into(), axes[batch], axes[batch].into(), batch + 1),
            };
            let plain = |axes: &[Axis]| axes.iter().map(|&axis| axis.into()).collect::<Vec<Index>>();
            let mut image_at = plain(&axes[..batch]);
            image_at.push(in_channel.clone().into());
            let mut weight_at: Vec<Index> = vec![in_channel.into(), o.into()];
            let mut at = plain(&axes[..batch]);
            at.push(out_channel.clone().into());
            let mut inner = vec![in_group];
            for (i, (phase, spread)) in phases.iter().zip(&spreads).enumerate() {
                let (place, number) = (axes[first + i], k.inner(1 + i));
                let tap: Affine = number * phase.tap_step as i64 + phase.first_tap as i64;
                image_at.push(phase.pixel(spread, place, number).into());
                weight_at.push(match self.flip_kernel {
                    true => (tap * -1 + (spread.kernel as i64 - 1)).into(),
                    false => tap.into(),
                });
                at.push((place * phase.step as i64 + phase.first as i64).into());
                inner.push(phase.taps);
            }
            let mut value = if inner.contains(&0) {
                k.number(0.0)
            } else {
                let pixel = k.load_or(image, image_at, Literal::f32(0.0));
                let factor = k.load(weight, weight_at);
                let product = k.mul(pixel, factor);
                k.fold(FoldKind::Sum, &inner, product)
            };
            if let Some(bias) = site.inputs.get(2) {
                let bias = k.load(bias, [out_channel]);
                value = k.add(value, bias);
            }
            k.store(out, at, value);
            k.finish()
        };
        combinations(&along).iter().map(kernel).collect()
    }

    fn gradient(&self, back: &mut Backward) -> Gradients {
        let (image, weight, upstream) = (back.input(0), back.input(1), back.upstream());
        let dims = back.dims(image);
        let channel = dims.len() - self.spatial - 1;
        let spreads = self.spreads().expect("verified: attributes fit");
        let padding = spreads.iter().map(|spread| (spread.before as u32, spread.after as u32)).collect();
        let conv = Conv {
            spatial: self.spatial,
            out: dims[channel] as u32,
            kernel_size: self.kernel_size.clone(),
            stride: self.stride.clone(),
            padding: Padding::Pairs(padding),
            dilation: self.dilation.clone(),
            groups: self.groups,
            bias: false,
            flip_kernel: self.flip_kernel,
        };
        let mut gradients = back.nothing();
        if back.wants(0) {
            let mut gradient = back.node(conv.clone(), &[upstream, weight]);
            // Much output padding makes room for windows that are no pixel's.
            for (axis, &n) in dims.iter().enumerate().skip(channel + 1) {
                gradient = back.first(gradient, axis, n);
            }
            gradients[0] = Some(gradient);
        }
        if back.wants(1) {
            gradients[1] = Some(back.node(ConvWeight { conv }, &[upstream, image]));
        }
        if back.wants(2) {
            gradients[2] = Some(channel_sum(back, upstream, self.spatial));
        }
        gradients
    }

    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let (image, weight, bias) = (inputs[0], inputs[1], inputs.get(2));
        let dims = outputs[0].dims().expect("verified: bound");
        let batch = dims.len() - self.spatial - 1;
        let spreads = self.spreads().expect("verified: attributes fit");
        let out_group = weight.dims[1];
        let in_group = image.dims[batch] / self.groups as usize;
        let mut output = Array::from_fn(&dims, |at| bias.map_or(0.0, |bias| bias.data[at[batch]]));
        // The definition: every pixel scatters its multiple of the kernel.
        for (from, &pixel) in points(&image.dims).zip(&image.data) {
            let c = from[batch];
            for tap in points(&weight.dims[1..]) {
                let mut at = from.to_vec();
                at[batch] = c / in_group * out_group + tap[0];
                for (i, spread) in spreads.iter().enumerate() {
                    let tap = if self.flip_kernel { spread.kernel - 1 - tap[1 + i] } else { tap[1 + i] };
                    let along = from[batch + 1 + i] * spread.stride + tap * spread.dilation;
                    at[batch + 1 + i] = along.wrapping_sub(spread.before);
                }
                if at.iter().zip(&dims).all(|(i, n)| i < n) {
                    let place = output.flat(&at);
                    let place_in_weight = weight.flat(&[&[c], tap.as_slice()].concat());
                    output.data[place] += pixel * weight.data[place_in_weight];
                }
            }
        }
        vec![output]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(kernel_size: u32) -> ConvTranspose {
        ConvTranspose {
            spatial: 2,
            out: 6,
            kernel_size: PerAxis::All(kernel_size),
            stride: ones(),
            padding: Padding::All(0),
            output_padding: none(),
            dilation: ones(),
            groups: 1,
            bias: true,
            flip_kernel: false,
        }
    }

    fn infer(layer: &ConvTranspose, input: TensorType) -> Result<String, Mismatch> {
        layer.parameters(&[&input])?;
        Ok(layer.infer(&[&input])?[0].to_string())
    }

    #[test]
    fn shapes() {
        let double = ConvTranspose { stride: PerAxis::All(2), ..layer(2) };
        let (n, h, w) = (Dim::symbol("N"), Dim::symbol("H"), Dim::symbol("W"));
        assert_eq!(infer(&double, TensorType::f32([n, 4.into(), h, w])).unwrap(), "f32[N, 6, 2*H, 2*W]");
        let all = ConvTranspose {
            stride: PerAxis::Each([3, 2].into_iter().collect()),
            padding: Padding::Pairs([(1, 0), (2, 1)].into_iter().collect()),
            output_padding: PerAxis::Each([2, 0].into_iter().collect()),
            dilation: PerAxis::All(2),
            ..layer(3)
        };
        // 3 * 4 + 5 + 2 - 1 and 2 * 4 + 5 - 3
        assert_eq!(infer(&all, TensorType::f32([4, 5, 5])).unwrap(), "f32[6, 18, 10]");
        let grouped = ConvTranspose { groups: 2, ..layer(3) };
        let parameters = grouped.parameters(&[&TensorType::f32([1, 4, 5, 5])]).unwrap();
        assert_eq!(parameters[0].ty, TensorType::f32([4, 3, 3, 3]));
        assert_eq!(parameters[1].ty, TensorType::f32([6]));
    }

    #[test]
    fn refusals() {
        let small = TensorType::f32([1, 4, 5, 5]);
        let wrong = |layer: &ConvTranspose| infer(layer, small.clone()).unwrap_err();
        let error = wrong(&ConvTranspose { output_padding: PerAxis::All(2), stride: PerAxis::All(2), ..layer(3) });
        assert_eq!(
            (error.field, error.expected.as_str()),
            (Some("output_padding"), "less than the stride (2) or the dilation (1)")
        );
        let error = wrong(&ConvTranspose { padding: Padding::All(4), ..layer(3) });
        assert_eq!(error.expected, "padding of less than 7 elements in all along spatial axis 0");
        assert_eq!(error.found, "4 before and 4 after");
        let error = wrong(&ConvTranspose { groups: 4, ..layer(3) });
        assert_eq!(error.expected, "a number of groups that divides the 6 output channels");
        assert_eq!(wrong(&ConvTranspose { groups: 0, ..layer(3) }).field, Some("groups"));
        assert_eq!(wrong(&layer(0)).field, Some("kernel_size"));
        let same = Padding::Named(PaddingName::Same);
        assert_eq!(wrong(&ConvTranspose { padding: same, ..layer(3) }).field, Some("padding"));
        let bytes = TensorType::new(DType::U8, [1, 4, 5, 5]);
        assert_eq!(infer(&layer(3), bytes).unwrap_err().expected, "f32 elements");
    }

    #[test]
    fn extremes_do_not_overflow() {
        let all = PerAxis::All(u32::MAX);
        let huge = ConvTranspose { out: u32::MAX, stride: all.clone(), dilation: all, ..layer(1 << 15) };
        let input = TensorType::f32([Dim::Known(1), 1.into(), Dim::LIMIT.into(), Dim::symbol("W")]);
        assert!(infer(&huge, input).is_ok());
    }
}
