//! Max pooling over one, two or three spatial axes.

use super::conv::{is_default, is_ones, ones};
use super::window::{Padding, PerAxis, Slide, image, pixels, slides, verified};
use super::*;
use crate::Dim;
use crate::kernel::{FoldKind, Index, KernelBuilder, Literal};
use crate::tensor::points;

/// Image `[batch, channels, spatial...]` (or without the batch); the greatest element of each window. Elements of the
/// padding are never the greatest; NaN wins.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaxPool {
    /// The number of spatial axes: 1, 2 or 3.
    #[serde(skip)]
    pub spatial: usize,
    /// The window.
    pub kernel_size: PerAxis,
    /// Steps between windows; the window's size where it is not given.
    #[serde(default, skip_serializing_if = "is_default")]
    pub stride: Option<PerAxis>,
    /// Elements around the image, at most half a window.
    #[serde(default, skip_serializing_if = "is_default")]
    pub padding: Padding,
    /// Steps between elements of a window.
    #[serde(default = "ones", skip_serializing_if = "is_ones")]
    pub dilation: PerAxis,
    /// Whether a last window may end beyond the padding.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ceil_mode: bool,
    /// Whether a second output has the number of the greatest element within each window, the first of equals: what the
    /// gradient needs.
    #[serde(skip)]
    pub indices: bool,
}

/// The layers of this file.
pub const LAYERS: &[LayerKind] = &[
    LayerKind { name: "MaxPool1d", about: "max pooling over a signal", read: |fields| read(fields, 1) },
    LayerKind { name: "MaxPool2d", about: "max pooling over an image", read: |fields| read(fields, 2) },
    LayerKind { name: "MaxPool3d", about: "max pooling over a volume", read: |fields| read(fields, 3) },
];

fn read(fields: &Value, spatial: usize) -> Result<Op, FieldError> {
    Ok(Op::MaxPool(MaxPool { spatial, ..crate::text::read(fields)? }))
}

impl MaxPool {
    pub(super) fn slides(&self, lengths: &[Dim]) -> Result<SmallVec<[Slide; 3]>, Mismatch> {
        let (kernel, stride) = (&self.kernel_size, self.stride.as_ref());
        let slides = slides(lengths, kernel, stride, &self.padding, &self.dilation, self.ceil_mode)?;
        match slides.iter().find(|slide| slide.before.max(slide.after) > slide.kernel / 2) {
            None => Ok(slides),
            Some(slide) => Err(Mismatch::new(
                format!("padding of at most half the window ({})", slide.kernel / 2),
                format!("{}", slide.before.max(slide.after)),
                "use less padding, or a Pad layer in front",
            )
            .in_field("padding")),
        }
    }

    /// The slides over an image of these spatial lengths.
    pub(super) fn verified_slides(&self, lengths: &[usize]) -> SmallVec<[Slide; 3]> {
        verified(|lengths| self.slides(lengths), lengths)
    }
}

/// Whether the greatest along one axis after the other takes less than half of what whole windows take, with what is written
/// and read between.
fn pays_axis_by_axis(from: &[usize], to: &[usize], slides: &[Slide]) -> bool {
    let windows: usize = to.iter().zip(slides).map(|(n, slide)| n * slide.kernel).product();
    // The last axis first.
    let pass = |axis: usize| {
        let results: usize = from[..axis].iter().chain(&to[axis..]).product();
        results * (slides[axis].kernel + if axis == 0 { 0 } else { 2 })
    };
    2 * (0..slides.len()).map(pass).sum::<usize>() <= windows
}

/// One kernel an axis, the last axis first.
fn axis_by_axis(site: &mut Site, plain: usize, slides: &[Slide]) -> Vec<Kernel> {
    let mut from = site.inputs[0].clone();
    let mut kernels = Vec::new();
    for (axis, slide) in slides.iter().enumerate().rev() {
        let mut dims = from.dims.clone();
        dims[plain + axis] = site.outputs[0].dims[plain + axis];
        let to = match axis {
            0 => site.outputs[0].clone(),
            _ => site.temporary(from.dtype, &dims),
        };
        let mut k = KernelBuilder::new(&dims);
        let axes = k.outer_axes();
        let mut at: Vec<Index> = axes.iter().map(|&axis| axis.into()).collect();
        at[plain + axis] = slide.place(axes[plain + axis], k.inner(0)).into();
        let pixel = k.load_or(&from, at, Literal::of(from.dtype, f64::NEG_INFINITY));
        let greatest = k.fold(FoldKind::Max, &[slide.kernel], pixel);
        k.store(&to, axes, greatest);
        kernels.push(k.finish());
        from = to;
    }
    kernels
}

impl OpSpec for MaxPool {
    fn name(&self) -> &'static str {
        ["MaxPool1d", "MaxPool2d", "MaxPool3d"][self.spatial - 1]
    }

    fn fields(&self) -> String {
        crate::text::fields(self)
    }

    fn arity(&self) -> Arity {
        Arity::exactly(1)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Types, Mismatch> {
        let (batch, channels, lengths) = image(inputs[0], self.spatial)?;
        let slides = self.slides(lengths)?;
        let spatial = slides.iter().zip(lengths).map(|(slide, length)| slide.windows(length));
        let shape = batch.iter().chain([channels]).cloned().chain(spatial);
        let greatest = TensorType::new(inputs[0].dtype, shape);
        let taps: usize = slides.iter().map(|slide| slide.kernel).product();
        let number = TensorType { dtype: if taps <= 256 { DType::U8 } else { DType::I32 }, ..greatest.clone() };
        Ok(std::iter::once(greatest).chain(self.indices.then_some(number)).collect())
    }

    fn lower(&self, site: &mut Site) -> Vec<Kernel> {
        let (image, out) = (&site.inputs[0], &site.outputs[0]);
        let plain = out.dims.len() - self.spatial;
        let slides = self.verified_slides(&image.dims[plain..]);
        if !self.indices && pays_axis_by_axis(&image.dims[plain..], &out.dims[plain..], &slides) {
            return axis_by_axis(site, plain, &slides);
        }
        let (image, out) = (&site.inputs[0], &site.outputs[0]);
        let mut k = KernelBuilder::new(&out.dims);
        let axes = k.outer_axes();
        let at = pixels(&k, &axes, &slides);
        let outside = Literal::of(image.dtype, f64::NEG_INFINITY);
        let pixel = k.load_or(image, at, outside);
        let taps: Vec<usize> = slides.iter().map(|slide| slide.kernel).collect();
        let kind = if self.indices { FoldKind::ArgMax } else { FoldKind::Max };
        let greatest = k.fold(kind, &taps, pixel);
        k.store(out, axes.clone(), greatest);
        if let Some(numbers) = site.outputs.get(1) {
            let number = k.folded(1);
            let number = k.cast(numbers.dtype, number);
            k.store(numbers, axes, number);
        }
        vec![k.finish()]
    }

    fn gradient(&self, back: &mut Backward) -> Gradients {
        let pool = MaxPool { indices: false, ..self.clone() };
        let dims = back.dims(back.input(0));
        let lengths: SmallVec<[usize; 3]> = dims[dims.len() - self.spatial..].iter().copied().collect();
        if MaxPlace::fits(&pool, &lengths) {
            let (image, upstream) = (back.input(0), back.upstream());
            let gradient = back.node(MaxPlace { pool }, &[image, upstream]);
            return back.only(gradient);
        }
        if !self.indices {
            back.extend(MaxPool { indices: true, ..self.clone() });
        }
        let (upstream, index) = (back.upstream(), back.output(1));
        let gradient = back.node(WindowPlace { pool, lengths }, &[upstream, index]);
        back.only(gradient)
    }

    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let image = inputs[0];
        let dims = outputs[0].dims().expect("verified: bound");
        let plain = dims.len() - self.spatial;
        let slides = self.verified_slides(&image.dims[plain..]);
        let taps: Vec<usize> = slides.iter().map(|slide| slide.kernel).collect();
        let mut numbers = Vec::new();
        let output = Array::from_fn(&dims, |at| {
            let (mut greatest, mut first) = (f64::NEG_INFINITY, 0);
            for (number, tap) in points(&taps).enumerate() {
                let mut place: Vec<usize> = at.to_vec();
                for (i, slide) in slides.iter().enumerate() {
                    let along = at[plain + i] * slide.stride + tap[i] * slide.dilation;
                    place[plain + i] = along.wrapping_sub(slide.before);
                }
                if place.iter().zip(&image.dims).all(|(i, n)| i < n) {
                    let value = image.at(&place);
                    if value > greatest || value.is_nan() && !greatest.is_nan() {
                        (greatest, first) = (value, number);
                    }
                }
            }
            numbers.push(first as f64);
            greatest
        });
        let numbers = Array { dims, data: numbers };
        std::iter::once(output).chain(self.indices.then_some(numbers)).collect()
    }
}
