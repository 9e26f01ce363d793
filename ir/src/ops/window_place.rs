//! Elements of windows by their number within the window: the gradient of max pooling, and that of this.

use super::common::{expect_float, expect_indices};
use super::window::{Slide, image, pixels};
use super::*;
use crate::kernel::{Affine, CompareOp, FoldKind, Index, KernelBuilder, Literal, ScalarId};
use crate::tensor::points;

/// Windows and, of the same shape, the number of a tap in each: the window is put on the pixel that this tap is. Output
/// is `[batch, channels, lengths...]`; where several windows meet they are added, and the rest is 0.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WindowPlace {
    /// The pool whose windows they are.
    pub pool: MaxPool,
    /// The lengths of the image's spatial axes.
    pub lengths: SmallVec<[usize; 3]>,
}

/// An image `[batch, channels, spatial...]` and the number of a tap in each window of the pool: the pixels at these taps.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WindowPick {
    /// The pool whose windows they are.
    pub pool: MaxPool,
}

/// The sum of `value` over the taps of a window, of which only the one that `index` names counts.
fn at_named(k: &mut KernelBuilder, index: ScalarId, value: ScalarId, slides: &[Slide]) -> ScalarId {
    let number = slides
        .iter()
        .enumerate()
        .fold(Affine::constant(0), |number, (i, slide)| number * slide.kernel as i64 + k.inner(i));
    let number = k.position(number);
    let index = k.cast(DType::I64, index);
    let named = k.compare(CompareOp::Eq, index, number);
    let zero = k.number(0.0);
    let value = k.select(named, value, zero);
    let taps: Vec<usize> = slides.iter().map(|slide| slide.kernel).collect();
    k.fold(FoldKind::Sum, &taps, value)
}

impl OpSpec for WindowPlace {
    fn name(&self) -> &'static str {
        "WindowPlace"
    }

    fn fields(&self) -> String {
        format!("(pool:{},lengths:{:?})", Op::MaxPool(self.pool.clone()), self.lengths.as_slice())
    }

    fn arity(&self) -> Arity {
        Arity::exactly(2)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Types, Mismatch> {
        expect_float(inputs[0])?;
        expect_indices(inputs[1], "numbers of taps")?;
        let (batch, channels, _) = image(inputs[0], self.pool.spatial)?;
        let shape = batch.iter().chain([channels]).cloned().chain(self.lengths.iter().map(|&n| n.into()));
        Ok([TensorType::f32(shape)].into_iter().collect())
    }

    fn lower(&self, site: &mut Site) -> Vec<Kernel> {
        let (windows, index, out) = (&site.inputs[0], &site.inputs[1], &site.outputs[0]);
        let slides = self.pool.verified_slides(&self.lengths);
        let plain = out.dims.len() - slides.len();
        let mut k = KernelBuilder::new(&out.dims);
        let axes = k.outer_axes();
        // A gather: the window that has pixel y as its tap t is (y + before - t * dilation) / stride, where that is whole.
        let mut at: Vec<Index> = axes[..plain].iter().map(|&axis| axis.into()).collect();
        for (i, slide) in slides.iter().enumerate() {
            let along: Affine = k.inner(i) * -(slide.dilation as i64) + axes[plain + i] + slide.before as i64;
            at.push(along.exact_div(slide.stride as i64).into());
        }
        let window = k.load_or(windows, at.clone(), Literal::f32(0.0));
        let index = k.load_or(index, at, Literal::of(index.dtype, 0.0));
        let sum = at_named(&mut k, index, window, &slides);
        k.store(out, axes, sum);
        vec![k.finish()]
    }

    fn gradient(&self, back: &mut Backward) -> Gradients {
        let (index, upstream) = (back.input(1), back.upstream());
        let gradient = back.node(WindowPick { pool: self.pool.clone() }, &[upstream, index]);
        [Some(gradient), None].into_iter().collect()
    }

    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let dims = outputs[0].dims().expect("verified: bound");
        let slides = self.pool.verified_slides(&self.lengths);
        let mut output = Array { data: vec![0.0; dims.iter().product()], dims };
        for ((at, &window), &tap) in points(&inputs[0].dims).zip(&inputs[0].data).zip(&inputs[1].data) {
            if let Some(pixel) = pixel_of(&slides, &output.dims, &at, tap) {
                let flat = output.flat(&pixel);
                output.data[flat] += window;
            }
        }
        vec![output]
    }
}

/// The place in the image of a tap of the window at `at`; none in the padding.
fn pixel_of(slides: &[Slide], dims: &[usize], at: &[usize], tap: f64) -> Option<Vec<usize>> {
    let plain = at.len() - slides.len();
    let (mut rest, mut pixel) = (tap as usize, at.to_vec());
    for (i, slide) in slides.iter().enumerate().rev() {
        let along = at[plain + i] * slide.stride + rest % slide.kernel * slide.dilation;
        pixel[plain + i] = along.wrapping_sub(slide.before);
        rest /= slide.kernel;
    }
    pixel.iter().zip(dims).all(|(i, n)| i < n).then_some(pixel)
}

impl OpSpec for WindowPick {
    fn name(&self) -> &'static str {
        "WindowPick"
    }

    fn fields(&self) -> String {
        format!("(pool:{})", Op::MaxPool(self.pool.clone()))
    }

    fn arity(&self) -> Arity {
        Arity::exactly(2)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Types, Mismatch> {
        expect_float(inputs[0])?;
        expect_indices(inputs[1], "numbers of taps")?;
        image(inputs[0], self.pool.spatial)?;
        Ok([TensorType::new(DType::F32, inputs[1].shape.iter().cloned())].into_iter().collect())
    }

    fn lower(&self, site: &mut Site) -> Vec<Kernel> {
        let (image, index, out) = (&site.inputs[0], &site.inputs[1], &site.outputs[0]);
        let plain = out.dims.len() - self.pool.spatial;
        let slides = self.pool.verified_slides(&image.dims[plain..]);
        let mut k = KernelBuilder::new(&out.dims);
        let axes = k.outer_axes();
        let at = pixels(&k, &axes, &slides);
        let pixel = k.load_or(image, at, Literal::f32(0.0));
        let index = k.load(index, axes.clone());
        let sum = at_named(&mut k, index, pixel, &slides);
        k.store(out, axes, sum);
        vec![k.finish()]
    }

    fn gradient(&self, back: &mut Backward) -> Gradients {
        let (image, index, upstream) = (back.input(0), back.input(1), back.upstream());
        let dims = back.dims(image);
        let lengths = dims[dims.len() - self.pool.spatial..].iter().copied().collect();
        let gradient = back.node(WindowPlace { pool: self.pool.clone(), lengths }, &[upstream, index]);
        [Some(gradient), None].into_iter().collect()
    }

    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let (image, index) = (inputs[0], inputs[1]);
        let dims = outputs[0].dims().expect("verified: bound");
        let slides = self.pool.verified_slides(&image.dims[dims.len() - self.pool.spatial..]);
        let output = Array::from_fn(&dims, |at| {
            pixel_of(&slides, &image.dims, at, index.at(at)).map_or(0.0, |pixel| image.at(&pixel))
        });
        vec![output]
    }
}
