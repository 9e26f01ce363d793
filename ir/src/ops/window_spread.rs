//! Windows spread over an image: the gradient of sums of windows.

use super::common::expect_float;
use super::window::{Slide, image, verified};
use super::*;
use crate::kernel::{Affine, FoldKind, Index, KernelBuilder, Literal};
use crate::tensor::points;

/// Windows `[batch, channels, windows...]` (or without the batch). Output is `[batch, channels, lengths...]`: each pixel
/// is the sum of the windows of the pool that it lies in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WindowSpread {
    /// The pool whose windows they are; what its sums are divided by has no part in this.
    pub pool: AvgPool,
    /// The lengths of the image's spatial axes.
    pub lengths: SmallVec<[usize; 3]>,
}

impl WindowSpread {
    fn slides(&self) -> SmallVec<[Slide; 3]> {
        verified(|lengths| self.pool.slides(lengths), &self.lengths)
    }
}

impl OpSpec for WindowSpread {
    fn name(&self) -> &'static str {
        "WindowSpread"
    }

    fn fields(&self) -> String {
        format!("(pool:{},lengths:{:?})", Op::AvgPool(self.pool.clone()), self.lengths.as_slice())
    }

    fn arity(&self) -> Arity {
        Arity::exactly(1)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Types, Mismatch> {
        expect_float(inputs[0])?;
        let (batch, channels, _) = image(inputs[0], self.pool.spatial)?;
        let shape = batch.iter().chain([channels]).cloned().chain(self.lengths.iter().map(|&n| n.into()));
        Ok([TensorType::f32(shape)].into_iter().collect())
    }

    fn lower(&self, site: &mut Site) -> Vec<Kernel> {
        let (windows, out) = (&site.inputs[0], &site.outputs[0]);
        let slides = self.slides();
        let plain = out.dims.len() - slides.len();
        let mut k = KernelBuilder::new(&out.dims);
        let axes = k.outer_axes();
        let mut at: Vec<Index> = axes[..plain].iter().map(|&axis| axis.into()).collect();
        let mut taps = Vec::new();
        for (i, slide) in slides.iter().enumerate() {
            if slide.kernel == slide.stride && slide.before == 0 && self.lengths[i].is_multiple_of(slide.kernel) {
                // Windows side by side: the only one is that of the pixel's block.
                let table: Vec<i64> = (0..self.lengths[i]).map(|place| (place / slide.kernel) as i64).collect();
                at.push(Index::Table { table: table.into(), at: axes[plain + i].into() });
                continue;
            }
            let tap: Affine = k.inner(taps.len()) * -1;
            let along = tap + axes[plain + i] + slide.before as i64;
            at.push(along.exact_div(slide.stride as i64).into());
            taps.push(slide.kernel);
        }
        let mut value = k.load_or(windows, at, Literal::f32(0.0));
        if !taps.is_empty() {
            value = k.fold(FoldKind::Sum, &taps, value);
        }
        k.store(out, axes, value);
        vec![k.finish()]
    }

    fn gradient(&self, back: &mut Backward) -> Gradients {
        let sums = AvgPool { divisor_override: Some(1), ..self.pool.clone() };
        let upstream = back.upstream();
        let gradient = back.node(sums, &[upstream]);
        back.only(gradient)
    }

    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let windows = inputs[0];
        let slides = self.slides();
        let dims = outputs[0].dims().expect("verified: bound");
        let plain = dims.len() - slides.len();
        let kernel: Vec<usize> = slides.iter().map(|slide| slide.kernel).collect();
        let mut output = Array { data: vec![0.0; dims.iter().product()], dims };
        for (from, &window) in points(&windows.dims).zip(&windows.data) {
            for tap in points(&kernel) {
                let mut to = from.clone();
                for (i, slide) in slides.iter().enumerate() {
                    to[plain + i] = (from[plain + i] * slide.stride + tap[i]).wrapping_sub(slide.before);
                }
                if to.iter().zip(&output.dims).all(|(i, n)| i < n) {
                    let flat = output.flat(&to);
                    output.data[flat] += window;
                }
            }
        }
        vec![output]
    }
}
