//! The gradient of max pooling where windows lie side by side: the greatest elements are found again, so that nothing is
//! kept for it.

use super::common::expect_float;
use super::window::{Slide, image};
use super::*;
use crate::Dim;
use crate::graph::ValueId;
use crate::kernel::{CompareOp, Index, KernelBuilder, ScalarId, UnaryOp};
use crate::tensor::points;

/// An image `[batch, channels, spatial...]` (or without the batch) and the windows of a pool that cover it side by side.
/// Output has the shape of the image: each window on the pixel that is its greatest, the first of equals, 0 elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MaxPlace {
    /// The pool.
    pub pool: MaxPool,
}

impl MaxPlace {
    /// Every element of a window is written out in the code.
    const MOST_TAPS: usize = 16;

    /// Whether the windows of a pool cover an image of these spatial lengths side by side, each small.
    pub fn fits(pool: &MaxPool, lengths: &[usize]) -> bool {
        let apart = |(slide, &length): (&Slide, &usize)| {
            slide.stride == slide.kernel
                && (slide.dilation == 1 || slide.kernel == 1)
                && (slide.before, slide.after) == (0, 0)
                && length.is_multiple_of(slide.kernel)
        };
        let slides = pool.verified_slides(lengths);
        let taps: usize = slides.iter().map(|slide| slide.kernel).product();
        taps <= MaxPlace::MOST_TAPS && slides.iter().zip(lengths).all(apart)
    }
}

impl OpSpec for MaxPlace {
    fn name(&self) -> &'static str {
        "MaxPlace"
    }

    fn fields(&self) -> String {
        format!("(pool:{})", Op::MaxPool(self.pool.clone()))
    }

    fn arity(&self) -> Arity {
        Arity::exactly(2)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Types, Mismatch> {
        expect_float(inputs[0])?;
        expect_float(inputs[1])?;
        let (_, _, lengths) = image(inputs[0], self.pool.spatial)?;
        let lengths: Option<Vec<usize>> = lengths.iter().map(Dim::known).collect();
        if lengths.is_some_and(|lengths| !MaxPlace::fits(&self.pool, &lengths)) {
            let help = "WindowPlace is for other windows";
            return Err(Mismatch::new("an image that windows cover side by side", inputs[0].to_string(), help));
        }
        Ok([inputs[0].clone()].into_iter().collect())
    }

    fn lower(&self, site: &mut Site) -> Vec<Kernel> {
        let (image, windows, out) = (&site.inputs[0], &site.inputs[1], &site.outputs[0]);
        let plain = out.dims.len() - self.pool.spatial;
        let slides = self.pool.verified_slides(&image.dims[plain..]);
        let mut k = KernelBuilder::new(&windows.dims);
        let axes = k.outer_axes();
        let kernel: Vec<usize> = slides.iter().map(|slide| slide.kernel).collect();
        let places: Vec<Vec<Index>> = points(&kernel)
            .map(|tap| {
                let along = (0..slides.len()).map(|i| axes[plain + i] * kernel[i] as i64 + tap[i] as i64);
                axes[..plain].iter().map(|&axis| axis.into()).chain(along.map(Index::from)).collect()
            })
            .collect();
        let pixels: Vec<ScalarId> = places.iter().map(|at| k.load(image, at.clone())).collect();
        let greatest = pixels[1..].iter().fold(pixels[0], |greatest, &pixel| k.max(greatest, pixel));
        let (window, zero) = (k.load(windows, axes), k.number(0.0));
        // Whether no tap so far was the greatest.
        let mut open: Option<ScalarId> = None;
        for (pixel, at) in pixels.into_iter().zip(places) {
            let equal = k.compare(CompareOp::Eq, pixel, greatest);
            let first = open.map_or(equal, |open| k.binary(crate::kernel::BinaryOp::And, open, equal));
            let value = k.select(first, window, zero);
            k.store(out, at, value);
            let other = k.unary(UnaryOp::Not, equal);
            open = Some(open.map_or(other, |open| k.binary(crate::kernel::BinaryOp::And, open, other)));
        }
        vec![k.finish()]
    }

    fn gradient(&self, back: &mut Backward) -> Gradients {
        let (image, upstream) = (back.input(0), back.upstream());
        let greatest = back.node(MaxPool { indices: true, ..self.pool.clone() }, &[image]);
        let index = ValueId { port: 1, ..greatest };
        let picked = back.node(WindowPick { pool: self.pool.clone() }, &[upstream, index]);
        // Which pixel is the greatest moves in jumps.
        [None, Some(picked)].into_iter().collect()
    }

    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let (image, windows) = (inputs[0], inputs[1]);
        let dims = outputs[0].dims().expect("verified: bound");
        let plain = dims.len() - self.pool.spatial;
        let slides = self.pool.verified_slides(&dims[plain..]);
        let taps: Vec<usize> = slides.iter().map(|slide| slide.kernel).collect();
        let mut output = Array { data: vec![0.0; dims.iter().product()], dims };
        for (at, &window) in points(&windows.dims).zip(&windows.data) {
            let mut greatest: Option<(usize, f64)> = None;
            for tap in points(&taps) {
                let mut pixel = at.clone();
                (0..taps.len()).for_each(|i| pixel[plain + i] = at[plain + i] * taps[i] + tap[i]);
                let (place, value) = (image.flat(&pixel), image.at(&pixel));
                greatest = match greatest {
                    Some((_, most)) if value <= most => greatest,
                    _ => Some((place, value)),
                };
                if value.is_nan() {
                    // Nothing equals NaN.
                    greatest = Some((usize::MAX, f64::INFINITY));
                    break;
                }
            }
            if let Some((place, _)) = greatest.filter(|(place, _)| *place != usize::MAX) {
                output.data[place] = window;
            }
        }
        vec![output]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_must_lie_side_by_side() {
        let fits = |text: &str, lengths: &[usize]| {
            let fields = crate::text::parse(text).unwrap();
            let Op::MaxPool(pool) = (layer_kind("MaxPool2d").unwrap().read)(&fields).unwrap() else { panic!("a pool") };
            MaxPlace::fits(&pool, lengths)
        };
        assert!(fits("(kernel_size: 2)", &[4, 6]));
        assert!(fits("(kernel_size: [2, 3], ceil_mode: true)", &[4, 6]));
        assert!(!fits("(kernel_size: 2)", &[4, 7]), "a column is in no window");
        assert!(!fits("(kernel_size: 2, stride: 1)", &[4, 6]), "windows overlap");
        assert!(!fits("(kernel_size: 5)", &[5, 5]), "too many elements to write out");
    }
}
