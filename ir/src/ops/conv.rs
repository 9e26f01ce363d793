//! Convolution over one, two or three spatial axes: cross-correlation, as everywhere in the field.

use super::common::expect_float;
use super::window::{Padding, PerAxis, Slide, image, slides, verified};
use super::*;
use crate::Dim;
use crate::graph::ValueId;
use crate::kernel::{Affine, FoldKind, Index, KernelBuilder, Literal};
use crate::tensor::points;

/// Image `[batch, in, spatial...]` (or without the batch), weights `[out, in / groups, kernel...]`, bias `[out]`.
/// Output is `[batch, out, windows...]` with `windows = floor((length + padding - reach) / stride) + 1`,
/// `reach = dilation * (kernel - 1) + 1`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv {
    /// The number of spatial axes: 1, 2 or 3.
    #[serde(skip)]
    pub spatial: usize,
    /// The number of output channels.
    pub out: u32,
    /// The window.
    pub kernel_size: PerAxis,
    /// Steps between windows.
    #[serde(default = "ones", skip_serializing_if = "is_ones")]
    pub stride: PerAxis,
    /// Zeros around the image.
    #[serde(default, skip_serializing_if = "is_default")]
    pub padding: Padding,
    /// Steps between elements of a window.
    #[serde(default = "ones", skip_serializing_if = "is_ones")]
    pub dilation: PerAxis,
    /// Each group of input channels meets its own group of output channels.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub groups: u32,
    /// Whether a bias is added.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub bias: bool,
    /// The mathematical convolution: the kernel is read backwards, y(t) = sum over k of x(k) w(t - k).
    #[serde(default, skip_serializing_if = "is_default")]
    pub flip_kernel: bool,
}

pub(super) fn ones() -> PerAxis {
    PerAxis::All(1)
}

pub(super) fn is_ones(numbers: &PerAxis) -> bool {
    *numbers == PerAxis::All(1)
}

pub(super) fn one() -> u32 {
    1
}

pub(super) fn is_one(n: &u32) -> bool {
    *n == 1
}

pub(super) fn yes() -> bool {
    true
}

pub(super) fn is_yes(b: &bool) -> bool {
    *b
}

pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The layers of this file.
pub const LAYERS: &[LayerKind] = &[
    LayerKind { name: "Conv1d", about: "convolution over a signal", read: |fields| read(fields, 1) },
    LayerKind { name: "Conv2d", about: "convolution over an image", read: |fields| read(fields, 2) },
    LayerKind { name: "Conv3d", about: "convolution over a volume", read: |fields| read(fields, 3) },
];

fn read(fields: &Value, spatial: usize) -> Result<Op, FieldError> {
    Ok(Op::Conv(Conv { spatial, ..crate::text::read(fields)? }))
}

impl Conv {
    pub(super) fn slides(&self, image_lengths: &[Dim]) -> Result<SmallVec<[Slide; 3]>, Mismatch> {
        slides(image_lengths, &self.kernel_size, Some(&self.stride), &self.padding, &self.dilation, false)
    }
}

impl Conv {
    /// The gradient by an image of `dims`, from that of the windows: every window spreads its multiple of the kernel.
    pub(super) fn image_gradient(
        &self,
        back: &mut Backward,
        windows: ValueId,
        weight: ValueId,
        dims: &[usize],
    ) -> ValueId {
        let channel = dims.len() - self.spatial - 1;
        let counts = back.dims(windows);
        let slides = verified(|lengths| self.slides(lengths), &dims[channel + 1..]);
        // What the last window leaves of the padded image.
        let rest = slides.iter().enumerate().map(|(i, slide)| {
            let covered = (counts[channel + 1 + i] - 1) * slide.stride + slide.reach();
            (dims[channel + 1 + i] + slide.before + slide.after - covered) as u32
        });
        let spread = ConvTranspose {
            spatial: self.spatial,
            out: dims[channel] as u32,
            kernel_size: self.kernel_size.clone(),
            stride: self.stride.clone(),
            padding: Padding::Pairs(slides.iter().map(|slide| (slide.before as u32, slide.after as u32)).collect()),
            output_padding: PerAxis::Each(rest.collect()),
            dilation: self.dilation.clone(),
            groups: self.groups,
            bias: false,
            flip_kernel: self.flip_kernel,
        };
        back.node(spread, &[windows, weight])
    }
}

/// The gradient by the bias of an image's channels: the sum over everything else.
pub(super) fn channel_sum(back: &mut Backward, image: ValueId, spatial: usize) -> ValueId {
    let dims = back.dims(image);
    let channel = dims.len() - spatial - 1;
    let axes: Vec<usize> = (0..dims.len()).filter(|&axis| axis != channel).collect();
    let sum = back.summed(image, &axes);
    back.reshaped(sum, &[dims[channel]])
}

impl OpSpec for Conv {
    fn name(&self) -> &'static str {
        ["Conv1d", "Conv2d", "Conv3d"][self.spatial - 1]
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
        if groups == 0 || i64::from(self.out) % groups != 0 {
            return Err(Mismatch::new(
                format!("a number of groups that divides the {} output channels", self.out),
                format!("{groups}"),
                "change `out` or `groups`",
            )
            .in_field("groups"));
        }
        if matches!(channels, Dim::Known(n) if n % groups != 0) {
            return Err(Mismatch::new(
                format!("a number of groups that divides the {channels} input channels"),
                format!("{groups}"),
                "change `groups`, or the channels of the layer before",
            )
            .in_field("groups"));
        }
        let in_group = channels.floor_div(&Dim::Known(groups));
        let kernel = self.kernel_size.expand(self.spatial, "kernel_size")?;
        let mut shape = vec![Dim::from(self.out), in_group];
        shape.extend(kernel.into_iter().map(Dim::from));
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
        let windows = self.slides(lengths)?;
        let spatial = windows.iter().zip(lengths).map(|(slide, length)| slide.windows(length));
        let shape = batch.iter().cloned().chain([Dim::from(self.out)]).chain(spatial);
        Ok([TensorType::f32(shape)].into_iter().collect())
    }

    fn lower(&self, site: &mut Site) -> Vec<Kernel> {
        let (image, weight, out) = (&site.inputs[0], &site.inputs[1], &site.outputs[0]);
        let batch = out.dims.len() - self.spatial - 1;
        let slides = verified(|lengths| self.slides(lengths), &image.dims[batch + 1..]);
        let (groups, in_group) = (self.groups as usize, weight.dims[1]);
        let out_group = self.out as usize / groups;

        // With several groups the output channel is two axes, so that the input channel is an affine form of them.
        let mut outer = out.dims.clone();
        outer.splice(batch..=batch, if groups > 1 { vec![groups, out_group] } else { vec![out_group] });
        let mut k = KernelBuilder::new(&outer);
        let axes = k.outer_axes();
        let (out_channel, first_in, first_window) = match groups > 1 {
            true => {
                let (group, o) = (axes[batch], axes[batch + 1]);
                (group * out_group as i64 + o, group * in_group as i64, batch + 2)
            }
            false => (axes[batch].into(), Affine::constant(0), batch + 1),
        };

        let mut image_at: Vec<Index> = axes[..batch].iter().map(|&axis| axis.into()).collect();
        image_at.push((first_in + k.inner(0)).into());
        let mut weight_at: Vec<Index> = vec![out_channel.clone().into(), k.inner(0).into()];
        let mut inner = vec![in_group];
        for (i, slide) in slides.iter().enumerate() {
            let (window, tap) = (axes[first_window + i], k.inner(1 + i));
            image_at.push(slide.place(window, tap).into());
            weight_at.push(match self.flip_kernel {
                true => (tap * -1 + (slide.kernel as i64 - 1)).into(),
                false => tap.into(),
            });
            inner.push(slide.kernel);
        }
        let pixel = k.load_or(image, image_at, Literal::f32(0.0));
        let factor = k.load(weight, weight_at);
        let product = k.mul(pixel, factor);
        let mut value = k.fold(FoldKind::Sum, &inner, product);
        if let Some(bias) = site.inputs.get(2) {
            let bias = k.load(bias, [out_channel.clone()]);
            value = k.add(value, bias);
        }
        let mut at: Vec<Index> = axes[..batch].iter().map(|&axis| axis.into()).collect();
        at.push(out_channel.into());
        at.extend(axes[first_window..].iter().map(|&axis| Index::from(axis)));
        k.store(out, at, value);
        vec![k.finish()]
    }

    fn gradient(&self, back: &mut Backward) -> Gradients {
        let (image, weight, upstream) = (back.input(0), back.input(1), back.upstream());
        let image_dims = back.dims(image);
        let mut gradients = back.nothing();
        if back.wants(0) {
            gradients[0] = Some(self.image_gradient(back, upstream, weight, &image_dims));
        }
        if back.wants(1) {
            let conv = Conv { bias: false, ..self.clone() };
            gradients[1] = Some(back.node(ConvWeight { conv }, &[image, upstream]));
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
        let slides = verified(|lengths| self.slides(lengths), &image.dims[batch + 1..]);
        let (in_group, out_group) = (weight.dims[1], weight.dims[0] / self.groups as usize);
        let taps: Vec<_> = points(&weight.dims[2..]).collect();
        let size: usize = image.dims[batch + 1..].iter().product();
        let output = Array::from_fn(&dims, |at| {
            let o = at[batch];
            let first = (at[..batch].iter().sum::<usize>() * image.dims[batch] + o / out_group * in_group) * size;
            let mut sum = 0.0;
            for (t, tap) in taps.iter().enumerate() {
                let mut place = 0;
                let inside = slides.iter().enumerate().all(|(i, slide)| {
                    let offset = if self.flip_kernel { slide.kernel - 1 - tap[i] } else { tap[i] };
                    let along = (at[batch + 1 + i] * slide.stride + offset * slide.dilation).wrapping_sub(slide.before);
                    let length = image.dims[batch + 1 + i];
                    place = place * length + along.min(length);
                    along < length
                });
                if inside {
                    for c in 0..in_group {
                        sum += image.data[first + c * size + place] * weight.data[(o * in_group + c) * taps.len() + t];
                    }
                }
            }
            sum + bias.map_or(0.0, |bias| bias.data[o])
        });
        vec![output]
    }
}
