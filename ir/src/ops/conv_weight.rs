//! The gradient of a convolution by its weights: a contraction of the image with the gradient of the windows.

use super::common::expect_float;
use super::window::{Slide, image, verified};
use super::*;
use crate::Dim;
use crate::kernel::{Affine, FoldKind, Index, KernelBuilder, Literal};
use crate::tensor::points;

/// Image `[batch, in, spatial...]` and windows `[batch, out, windows...]` (or both without the batch). Output is
/// `[out, in / groups, kernel...]`: for each weight the sum, over the batch and the windows, of window times the pixel
/// that the weight met there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ConvWeight {
    /// The convolution; `out` is the number of window channels, its bias has no part in this.
    pub conv: Conv,
}

impl ConvWeight {
    fn batch(&self, rank: usize) -> usize {
        rank - self.conv.spatial - 1
    }

    fn slides(&self, lengths: &[usize]) -> SmallVec<[Slide; 3]> {
        verified(|lengths| self.conv.slides(lengths), lengths)
    }
}

impl OpSpec for ConvWeight {
    fn name(&self) -> &'static str {
        ["Conv1dWeight", "Conv2dWeight", "Conv3dWeight"][self.conv.spatial - 1]
    }

    fn fields(&self) -> String {
        crate::text::fields(&self.conv)
    }

    fn arity(&self) -> Arity {
        Arity::exactly(2)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Types, Mismatch> {
        expect_float(inputs[0])?;
        expect_float(inputs[1])?;
        let (batch, channels, lengths) = image(inputs[0], self.conv.spatial)?;
        let (other, out, windows) = image(inputs[1], self.conv.spatial)?;
        let slides = self.conv.slides(lengths)?;
        let fit = slides.iter().zip(lengths).zip(windows).all(|((slide, length), windows)| {
            slide.windows(length).known().zip(windows.known()).is_none_or(|(most, n)| n <= most)
        });
        if batch != other || *out != Dim::from(self.conv.out) || !fit {
            let expected = format!("the windows of {}", inputs[0]);
            return Err(Mismatch::new(expected, inputs[1].to_string(), "give the gradient of the convolution"));
        }
        let in_group = channels.floor_div(&Dim::from(self.conv.groups));
        let kernel = slides.iter().map(|slide| Dim::from(slide.kernel));
        Ok([TensorType::f32([out.clone(), in_group].into_iter().chain(kernel))].into_iter().collect())
    }

    fn lower(&self, site: &mut Site) -> Vec<Kernel> {
        let (image, windows, out) = (&site.inputs[0], &site.inputs[1], &site.outputs[0]);
        let batch = self.batch(image.dims.len());
        let slides = self.slides(&image.dims[batch + 1..]);
        let (groups, in_group) = (self.conv.groups as usize, out.dims[1]);
        let out_group = out.dims[0] / groups;
        let mut outer = if groups > 1 { vec![groups, out_group] } else { vec![out_group] };
        outer.extend(&out.dims[1..]);
        let mut k = KernelBuilder::new(&outer);
        let axes = k.outer_axes();
        let (out_channel, first_in, rest): (Affine, Affine, &[_]) = match groups > 1 {
            true => (axes[0] * out_group as i64 + axes[1], axes[0] * in_group as i64, &axes[2..]),
            false => (axes[0].into(), Affine::constant(0), &axes[1..]),
        };
        let inner: Vec<usize> = windows.dims[..batch].iter().chain(&windows.dims[batch + 1..]).copied().collect();
        let in_batch: Vec<Index> = (0..batch).map(|i| k.inner(i).into()).collect();
        let (mut image_at, mut windows_at) = (in_batch.clone(), in_batch);
        image_at.push((first_in + rest[0]).into());
        windows_at.push(out_channel.clone().into());
        let mut to: Vec<Index> = vec![out_channel.into(), rest[0].into()];
        for (i, slide) in slides.iter().enumerate() {
            let (window, tap) = (k.inner(batch + i), rest[1 + i]);
            image_at.push(slide.place(window, tap).into());
            windows_at.push(window.into());
            to.push(match self.conv.flip_kernel {
                true => (tap * -1 + (slide.kernel as i64 - 1)).into(),
                false => tap.into(),
            });
        }
        let pixel = k.load_or(image, image_at, Literal::f32(0.0));
        let window = k.load(windows, windows_at);
        let product = k.mul(pixel, window);
        let sum = k.fold(FoldKind::Sum, &inner, product);
        k.store(out, to, sum);
        vec![k.finish()]
    }

    fn gradient(&self, back: &mut Backward) -> Gradients {
        let (image, windows, upstream) = (back.input(0), back.input(1), back.upstream());
        let image_dims = back.dims(image);
        let batch = self.batch(image_dims.len());
        let by_image = back.wants(0).then(|| self.conv.image_gradient(back, windows, upstream, &image_dims));
        let by_windows = back.wants(1).then(|| {
            let mut value = back.node(Conv { bias: false, ..self.conv.clone() }, &[image, upstream]);
            for (axis, n) in back.dims(windows).into_iter().enumerate().skip(batch + 1) {
                value = back.first(value, axis, n);
            }
            value
        });
        [by_image, by_windows].into_iter().collect()
    }

    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let (image, windows) = (inputs[0], inputs[1]);
        let dims = outputs[0].dims().expect("verified: bound");
        let batch = self.batch(image.dims.len());
        let slides = self.slides(&image.dims[batch + 1..]);
        let out_group = dims[0] / self.conv.groups as usize;
        let space: Vec<usize> = windows.dims[..batch].iter().chain(&windows.dims[batch + 1..]).copied().collect();
        let output = Array::from_fn(&dims, |at| {
            let (o, i) = (at[0], at[1]);
            let mut sum = 0.0;
            for point in points(&space) {
                let (n, window) = point.split_at(batch);
                let mut pixel: SmallVec<[usize; 8]> = n.into();
                pixel.push(o / out_group * dims[1] + i);
                for (axis, slide) in slides.iter().enumerate() {
                    let tap = if self.conv.flip_kernel { slide.kernel - 1 - at[2 + axis] } else { at[2 + axis] };
                    pixel.push((window[axis] * slide.stride + tap * slide.dilation).wrapping_sub(slide.before));
                }
                if pixel.iter().zip(&image.dims).all(|(i, n)| i < n) {
                    let place: SmallVec<[usize; 8]> =
                        n.iter().copied().chain([o]).chain(window.iter().copied()).collect();
                    sum += image.at(&pixel) * windows.at(&place);
                }
            }
            sum
        });
        vec![output]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes() {
        let Ok(Op::Conv(conv)) = (layer_kind("Conv2d").unwrap().read)(
            &crate::text::parse("(out: 6, kernel_size: [3, 2], stride: 2, padding: [(1, 0), (0, 2)], groups: 2)")
                .unwrap(),
        ) else {
            panic!("a convolution")
        };
        let op = ConvWeight { conv };
        let image = TensorType::f32([5usize, 4, 8, 9]);
        let infer =
            |windows: [usize; 4]| op.infer(&[&image, &TensorType::f32(windows)]).map(|types| types[0].to_string());
        assert_eq!(infer([5, 6, 4, 5]).as_deref(), Ok("f32[6, 2, 3, 2]"));
        assert!(infer([5, 6, 9, 5]).is_err(), "more windows than there are");
        assert!(infer([4, 6, 4, 5]).is_err(), "another batch");
    }
}
