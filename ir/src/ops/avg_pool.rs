//! Average pooling over one, two or three spatial axes.

use super::common::expect_float;
use super::conv::{is_default, is_yes, ones, yes};
use super::window::{Count, Padding, PerAxis, Slide, divide, image, pixels, slides, verified};
use super::*;
use crate::Dim;
use crate::kernel::{Axis, FoldKind, KernelBuilder, Literal};
use crate::tensor::points;

/// Image `[batch, channels, spatial...]` (or without the batch); the mean of each window. What a mean is divided by:
/// `divisor_override`, or the elements of the window inside the padded image, or with `count_include_pad: false` those
/// inside the image.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AvgPool {
    /// The number of spatial axes: 1, 2 or 3.
    #[serde(skip)]
    pub spatial: usize,
    /// The window.
    pub kernel_size: PerAxis,
    /// Steps between windows; the window's size where it is not given.
    #[serde(default, skip_serializing_if = "is_default")]
    pub stride: Option<PerAxis>,
    /// Zeros around the image, at most half a window.
    #[serde(default, skip_serializing_if = "is_default")]
    pub padding: Padding,
    /// Whether a last window may end beyond the padding.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ceil_mode: bool,
    /// Whether the zeros of the padding count as elements.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub count_include_pad: bool,
    /// What sums are divided by, instead of the number of elements.
    #[serde(default, skip_serializing_if = "is_default")]
    pub divisor_override: Option<u32>,
}

/// The layers of this file.
pub const LAYERS: &[LayerKind] = &[
    LayerKind { name: "AvgPool1d", about: "average pooling over a signal", read: |fields| read(fields, 1) },
    LayerKind { name: "AvgPool2d", about: "average pooling over an image", read: |fields| read(fields, 2) },
    LayerKind { name: "AvgPool3d", about: "average pooling over a volume", read: |fields| read(fields, 3) },
];

fn read(fields: &Value, spatial: usize) -> Result<Op, FieldError> {
    Ok(Op::AvgPool(AvgPool { spatial, ..crate::text::read(fields)? }))
}

impl AvgPool {
    pub(super) fn slides(&self, lengths: &[Dim]) -> Result<SmallVec<[Slide; 3]>, Mismatch> {
        let (kernel, stride) = (&self.kernel_size, self.stride.as_ref());
        let slides = slides(lengths, kernel, stride, &self.padding, &ones(), self.ceil_mode)?;
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

    /// The elements that count in a window along an axis of `length`.
    fn counted(&self, slide: &Slide, window: usize, length: usize) -> usize {
        let begin = window * slide.stride;
        let (first, end) = match self.count_include_pad {
            true => (0, slide.before + length + slide.after),
            false => (slide.before, slide.before + length),
        };
        (begin + slide.kernel).min(end) - begin.max(first)
    }

    /// The elements that count in the window `window` of `windows` along an axis of `length`.
    fn count(&self, k: &mut KernelBuilder, slide: &Slide, window: Axis, windows: usize, length: usize) -> Count {
        let (first, end) = match self.count_include_pad {
            true => (-(slide.before as i64), length + slide.after),
            false => (0, length),
        };
        let begin = window * slide.stride as i64 - slide.before as i64;
        let last = windows.saturating_sub(1);
        let cut_in_front = -(slide.before as i64) < first;
        let cut_behind = (last * slide.stride + slide.kernel) as i64 - slide.before as i64 > end as i64;
        if !cut_in_front && !cut_behind {
            return Count::Same(slide.kernel);
        }
        let mut from = k.position(begin.clone());
        if cut_in_front {
            let first = k.literal(Literal::I64(first));
            from = k.max(from, first);
        }
        let mut to = k.position(begin + slide.kernel as i64);
        if cut_behind {
            let end = k.literal(Literal::I64(end as i64));
            to = k.min(to, end);
        }
        Count::Varying(k.sub(to, from))
    }
}

impl OpSpec for AvgPool {
    fn name(&self) -> &'static str {
        ["AvgPool1d", "AvgPool2d", "AvgPool3d"][self.spatial - 1]
    }

    fn fields(&self) -> String {
        crate::text::fields(self)
    }

    fn arity(&self) -> Arity {
        Arity::exactly(1)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Types, Mismatch> {
        expect_float(inputs[0])?;
        let (batch, channels, lengths) = image(inputs[0], self.spatial)?;
        if self.divisor_override == Some(0) {
            let help = "leave it out for the number of elements";
            return Err(Mismatch::new("a divisor of 1 or more", "0", help).in_field("divisor_override"));
        }
        let slides = self.slides(lengths)?;
        let spatial = slides.iter().zip(lengths).map(|(slide, length)| slide.windows(length));
        Ok([TensorType::f32(batch.iter().chain([channels]).cloned().chain(spatial))].into_iter().collect())
    }

    fn lower(&self, site: &mut Site) -> Vec<Kernel> {
        let (image, out) = (&site.inputs[0], &site.outputs[0]);
        let plain = out.dims.len() - self.spatial;
        let slides = verified(|lengths| self.slides(lengths), &image.dims[plain..]);
        let mut k = KernelBuilder::new(&out.dims);
        let axes = k.outer_axes();
        let at = pixels(&k, &axes, &slides);
        let pixel = k.load_or(image, at, Literal::f32(0.0));
        let taps: Vec<usize> = slides.iter().map(|slide| slide.kernel).collect();
        let sum = k.fold(FoldKind::Sum, &taps, pixel);

        let mut counts: SmallVec<[Count; 3]> = SmallVec::new();
        match self.divisor_override {
            Some(divisor) => counts.push(Count::Same(divisor as usize)),
            None => counts.extend(slides.iter().enumerate().map(|(i, slide)| {
                let (axis, windows, length) = (axes[plain + i], out.dims[plain + i], image.dims[plain + i]);
                self.count(&mut k, slide, axis, windows, length)
            })),
        }
        let mean = divide(&mut k, sum, &counts);
        k.store(out, axes, mean);
        vec![k.finish()]
    }

    fn gradient(&self, back: &mut Backward) -> Gradients {
        let dims = back.dims(back.input(0));
        let mut upstream = back.upstream();
        let windows = back.dims(upstream);
        let plain = dims.len() - self.spatial;
        let lengths: SmallVec<[usize; 3]> = dims[plain..].iter().copied().collect();
        match self.divisor_override {
            Some(divisor) => upstream = back.scaled(upstream, 1.0 / f64::from(divisor)),
            None => {
                let slides = verified(|lengths| self.slides(lengths), &lengths);
                for (i, slide) in slides.iter().enumerate() {
                    let shares: Vec<f64> = (0..windows[plain + i])
                        .map(|window| 1.0 / self.counted(slide, window, lengths[i]) as f64)
                        .collect();
                    if shares.iter().all(|share| *share == shares[0]) {
                        upstream = back.scaled(upstream, shares[0]);
                        continue;
                    }
                    let mut along = vec![1; self.spatial];
                    along[i] = shares.len();
                    let shares = back.numbers(&along, &shares);
                    upstream = back.mul(upstream, shares);
                }
            }
        }
        let gradient = back.node(WindowSpread { pool: self.clone(), lengths }, &[upstream]);
        back.only(gradient)
    }

    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let image = inputs[0];
        let dims = outputs[0].dims().expect("verified: bound");
        let plain = dims.len() - self.spatial;
        let slides = verified(|lengths| self.slides(lengths), &image.dims[plain..]);
        let taps: Vec<usize> = slides.iter().map(|slide| slide.kernel).collect();
        let output = Array::from_fn(&dims, |at| {
            let (mut sum, mut inside, mut inside_padded) = (0.0, 0, 0);
            for tap in points(&taps) {
                // Places in the padded image.
                let places: Vec<usize> =
                    slides.iter().enumerate().map(|(i, slide)| at[plain + i] * slide.stride + tap[i]).collect();
                let within = |front: usize, behind: usize, i: usize| {
                    let slide = &slides[i];
                    let first = slide.before - front;
                    (first..slide.before + image.dims[plain + i] + behind).contains(&places[i])
                };
                inside_padded += usize::from((0..taps.len()).all(|i| within(slides[i].before, slides[i].after, i)));
                if (0..taps.len()).all(|i| within(0, 0, i)) {
                    inside += 1;
                    let pixel = places.iter().zip(&slides).map(|(place, slide)| place - slide.before);
                    let place: Vec<usize> = at[..plain].iter().copied().chain(pixel).collect();
                    sum += image.at(&place);
                }
            }
            let counted = if self.count_include_pad { inside_padded } else { inside };
            sum / self.divisor_override.map_or(counted as f64, f64::from)
        });
        vec![output]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(kernel_size: u32) -> AvgPool {
        AvgPool {
            spatial: 2,
            kernel_size: PerAxis::All(kernel_size),
            stride: None,
            padding: Padding::All(0),
            ceil_mode: false,
            count_include_pad: true,
            divisor_override: None,
        }
    }

    fn infer(pool: &AvgPool, input: TensorType) -> Result<String, Mismatch> {
        Ok(pool.infer(&[&input])?[0].to_string())
    }

    #[test]
    fn shapes() {
        let (n, h) = (Dim::symbol("N"), Dim::symbol("H"));
        let symbolic = TensorType::f32([n, 6.into(), h, 28.into()]);
        assert_eq!(infer(&pool(2), symbolic).unwrap(), "f32[N, 6, floor((H - 2)/(2)) + 1, 14]");
        let odd = AvgPool { padding: Padding::All(1), stride: Some(PerAxis::All(2)), ..pool(3) };
        assert_eq!(infer(&odd, TensorType::f32([6, 7, 8])).unwrap(), "f32[6, 4, 4]");
        let ceil = AvgPool { ceil_mode: true, ..odd };
        assert_eq!(infer(&ceil, TensorType::f32([6, 7, 8])).unwrap(), "f32[6, 4, 5]");
    }

    #[test]
    fn refusals() {
        let image = TensorType::f32([1, 4, 5, 5]);
        let error = infer(&AvgPool { padding: Padding::All(2), ..pool(3) }, image.clone()).unwrap_err();
        assert_eq!((error.expected.as_str(), error.found.as_str()), ("padding of at most half the window (1)", "2"));
        let error = infer(&AvgPool { divisor_override: Some(0), ..pool(3) }, image.clone()).unwrap_err();
        assert_eq!(error.field, Some("divisor_override"));
        let error = infer(&pool(6), image.clone()).unwrap_err();
        assert_eq!(error.field, Some("kernel_size"));
        let wide = AvgPool { padding: Padding::All((1 << 31) - 1), ..pool(u32::MAX) };
        assert_eq!(infer(&wide, image.clone()).unwrap_err().expected, "a window of at most 2147483647 elements");
        let error = infer(&pool(2), TensorType::f32([5, 5])).unwrap_err();
        assert_eq!(error.expected, "an image of shape [batch, channels, height, width] or [channels, height, width]");
        let error = infer(&pool(2), TensorType::new(DType::U8, [1, 4, 5, 5])).unwrap_err();
        assert_eq!(error.found, "u8[1, 4, 5, 5]");
    }

    #[test]
    fn extremes_do_not_overflow() {
        let pool = AvgPool { stride: Some(PerAxis::All(u32::MAX)), ceil_mode: true, ..pool(1) };
        for length in [Dim::Known(1), Dim::Known(Dim::LIMIT), Dim::Known(i64::MAX), Dim::symbol("H")] {
            assert!(infer(&pool, TensorType::f32([1.into(), length.clone(), length])).is_ok());
        }
    }
}
