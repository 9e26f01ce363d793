//! Pixel shuffle: channels become pixels, and back.

use super::*;
use crate::Dim;
use crate::kernel::{Affine, KernelBuilder};

/// `[..., channels * r * r, height, width]` to `[..., channels, height * r, width * r]`: the pixel `(y, x)` of channel
/// `(c * r + i) * r + j` goes to `(y * r + i, x * r + j)` of channel `c` (Shi et al. 2016).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PixelShuffle {
    /// r.
    pub upscale_factor: u32,
}

/// `[..., channels, height * r, width * r]` to `[..., channels * r * r, height, width]`: the inverse of
/// [`PixelShuffle`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PixelUnshuffle {
    /// r.
    pub downscale_factor: u32,
}

/// The layers of this file.
pub const LAYERS: &[LayerKind] = &[
    LayerKind {
        name: "PixelShuffle",
        about: "channels become pixels",
        read: |fields| crate::text::read(fields).map(Op::PixelShuffle),
    },
    LayerKind {
        name: "PixelUnshuffle",
        about: "pixels become channels",
        read: |fields| crate::text::read(fields).map(Op::PixelUnshuffle),
    },
];

/// The axes in front, the channels, height and width.
fn parts<'a>(input: &'a TensorType, factor: u32, field: &'static str) -> Result<(&'a [Dim], [&'a Dim; 3]), Mismatch> {
    if factor == 0 {
        return Err(Mismatch::new("a factor of 1 or more", "0", "1 changes nothing").in_field(field));
    }
    match &input.shape[..] {
        [front @ .., c, h, w] => Ok((front, [c, h, w])),
        _ => {
            let expected = "an image of shape [..., channels, height, width]";
            Err(Mismatch::new(expected, input.to_string(), "reshape the input"))
        }
    }
}

fn indivisible(expected: String, input: &TensorType, field: &'static str) -> Mismatch {
    Mismatch::new(expected, input.to_string(), format!("change `{field}`, or the layer before")).in_field(field)
}

/// The copy between the many-channelled `deep` image and the `wide` one; `widen` says in which direction.
fn shuffle(site: &Site, factor: usize, widen: bool) -> Kernel {
    let (input, out) = (&site.inputs[0], &site.outputs[0]);
    let (deep, wide) = if widen { (input, out) } else { (out, input) };
    let front = deep.dims.len() - 3;
    let mut space = deep.dims[..front].to_vec();
    space.extend([wide.dims[front], deep.dims[front + 1], factor, deep.dims[front + 2], factor]);
    let mut k = KernelBuilder::new(&space);
    let axes = k.outer_axes();
    let [c, y, i, x, j] = [0, 1, 2, 3, 4].map(|axis| axes[front + axis]);
    let r = factor as i64;
    let in_front: Vec<Affine> = axes[..front].iter().map(|&axis| axis.into()).collect();
    let deep_at = [in_front.as_slice(), &[c * (r * r) + i * r + j, y.into(), x.into()]].concat();
    let wide_at = [in_front.as_slice(), &[c.into(), y * r + i, x * r + j]].concat();
    let (from, to) = if widen { (deep_at, wide_at) } else { (wide_at, deep_at) };
    let pixel = k.load(input, from);
    k.store(out, to, pixel);
    k.finish()
}

/// The place in the deep image of the place `at` in the wide one.
fn deep_place(at: &[usize], r: usize) -> Vec<usize> {
    let front = at.len() - 3;
    let (c, y, x) = (at[front], at[front + 1], at[front + 2]);
    let mut place = at[..front].to_vec();
    place.extend([c * r * r + y % r * r + x % r, y / r, x / r]);
    place
}

impl OpSpec for PixelShuffle {
    fn name(&self) -> &'static str {
        "PixelShuffle"
    }

    fn fields(&self) -> String {
        crate::text::fields(self)
    }

    fn arity(&self) -> Arity {
        Arity::exactly(1)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Types, Mismatch> {
        let (front, [c, h, w]) = parts(inputs[0], self.upscale_factor, "upscale_factor")?;
        let r = Dim::from(self.upscale_factor);
        let square = r.clone() * r.clone();
        let channels = c.floor_div(&square);
        if c.known().is_some() && channels.clone() * square.clone() != *c {
            return Err(indivisible(format!("a multiple of {square} channels"), inputs[0], "upscale_factor"));
        }
        let pixels = [channels, h.clone() * r.clone(), w.clone() * r];
        Ok([TensorType::new(inputs[0].dtype, front.iter().cloned().chain(pixels))].into_iter().collect())
    }

    fn lower(&self, site: &mut Site) -> Vec<Kernel> {
        vec![shuffle(site, self.upscale_factor as usize, true)]
    }

    fn gradient(&self, back: &mut Backward) -> Gradients {
        let upstream = back.upstream();
        let gradient = back.node(PixelUnshuffle { downscale_factor: self.upscale_factor }, &[upstream]);
        back.only(gradient)
    }

    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let dims = outputs[0].dims().expect("verified: bound");
        let r = self.upscale_factor as usize;
        vec![Array::from_fn(&dims, |at| inputs[0].at(&deep_place(at, r)))]
    }
}

impl OpSpec for PixelUnshuffle {
    fn name(&self) -> &'static str {
        "PixelUnshuffle"
    }

    fn fields(&self) -> String {
        crate::text::fields(self)
    }

    fn arity(&self) -> Arity {
        Arity::exactly(1)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Types, Mismatch> {
        let (front, [c, h, w]) = parts(inputs[0], self.downscale_factor, "downscale_factor")?;
        let r = Dim::from(self.downscale_factor);
        let (height, width) = (h.floor_div(&r), w.floor_div(&r));
        for (length, short) in [(h, &height), (w, &width)] {
            if length.known().is_some() && short.clone() * r.clone() != *length {
                let expected = format!("a height and width that are multiples of {r}");
                return Err(indivisible(expected, inputs[0], "downscale_factor"));
            }
        }
        let pixels = [c.clone() * r.clone() * r, height, width];
        Ok([TensorType::new(inputs[0].dtype, front.iter().cloned().chain(pixels))].into_iter().collect())
    }

    fn lower(&self, site: &mut Site) -> Vec<Kernel> {
        vec![shuffle(site, self.downscale_factor as usize, false)]
    }

    fn gradient(&self, back: &mut Backward) -> Gradients {
        let upstream = back.upstream();
        let gradient = back.node(PixelShuffle { upscale_factor: self.downscale_factor }, &[upstream]);
        back.only(gradient)
    }

    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let dims = outputs[0].dims().expect("verified: bound");
        let mut output = Array { data: vec![0.0; dims.iter().product()], dims };
        for (at, &pixel) in crate::tensor::points(&inputs[0].dims).zip(&inputs[0].data) {
            let place = output.flat(&deep_place(&at, self.downscale_factor as usize));
            output.data[place] = pixel;
        }
        vec![output]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn up(upscale_factor: u32, input: &TensorType) -> Result<String, Mismatch> {
        Ok(PixelShuffle { upscale_factor }.infer(&[input])?[0].to_string())
    }

    fn down(downscale_factor: u32, input: &TensorType) -> Result<String, Mismatch> {
        Ok(PixelUnshuffle { downscale_factor }.infer(&[input])?[0].to_string())
    }

    #[test]
    fn shapes() {
        let (n, h) = (Dim::symbol("N"), Dim::symbol("H"));
        let image = TensorType::f32([n.clone(), 8.into(), h.clone(), 6.into()]);
        assert_eq!(up(2, &image).unwrap(), "f32[N, 2, 2*H, 12]");
        assert_eq!(down(2, &image).unwrap(), "f32[N, 32, floor((H)/(2)), 3]");
        assert_eq!(up(2, &TensorType::f32([n, h.clone() * 4, 3.into(), 3.into()])).unwrap(), "f32[N, H, 6, 6]");
        assert_eq!(up(1, &TensorType::f32([3, 2, 2])).unwrap(), "f32[3, 2, 2]");
    }

    #[test]
    fn refusals() {
        let image = TensorType::f32([1, 8, 5, 6]);
        let error = up(3, &image).unwrap_err();
        assert_eq!((error.expected.as_str(), error.field), ("a multiple of 9 channels", Some("upscale_factor")));
        assert_eq!(down(2, &image).unwrap_err().expected, "a height and width that are multiples of 2");
        assert_eq!(up(0, &image).unwrap_err().expected, "a factor of 1 or more");
        assert!(up(u32::MAX, &image).is_err());
        assert!(down(u32::MAX, &image).is_err());
        assert_eq!(up(2, &TensorType::f32([4, 4])).unwrap_err().found, "f32[4, 4]");
    }
}
