//! Resizing of images: the nearest pixel, or linear interpolation.

use super::common::{combinations, expect_float};
use super::conv::is_default;
use super::window::{PerAxis, positive};
use super::*;
use crate::Dim;
use crate::kernel::{Affine, Axis, BinaryOp, Index, KernelBuilder, Literal, ScalarId};
use crate::tensor::{DType, points};

/// `[batch, channels, spatial...]` with 1 to 3 spatial axes to `[batch, channels, sizes...]`; either `size` or
/// `scale_factor` is given, then a size is `floor(length * factor)`.
///
/// Pixel `d` of the output lies at `d * scale` (`"nearest"`), `(d + 0.5) * scale - 0.5` (`"linear"`) or, with
/// `align_corners`, `d * (length - 1) / (size - 1)` of the input, where the scale is `1 / factor` or `length / size`,
/// rounded to f32 as PyTorch does. (For the nearest pixel of two spatial axes, PyTorch takes 1 / 2 for any factor that
/// happens to double an axis, such as 2.3 of 2 pixels; here it is the factor that is given.)
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upsample {
    /// The lengths of the spatial axes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub size: Option<PerAxis>,
    /// What the lengths are multiplied with.
    #[serde(default, skip_serializing_if = "is_default")]
    pub scale_factor: Option<Factors>,
    /// How pixels between pixels are found.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mode: ResizeMode,
    /// Whether the first and last pixels keep their places (linear mode only).
    #[serde(default, skip_serializing_if = "is_default")]
    pub align_corners: bool,
}

/// A factor an axis: `2` stands for all axes, `[2, 1.5]` for each.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged, expecting = "a number, or a list of one for each spatial axis")]
pub enum Factors {
    /// The same for all.
    All(Real),
    /// One each.
    Each(SmallVec<[Real; 3]>),
}

/// How pixels between pixels are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ResizeMode {
    /// The pixel at the place rounded down.
    #[default]
    #[serde(rename = "nearest")]
    Nearest,
    /// The pixel whose middle is nearest to the middle of the output's; PyTorch's `"nearest-exact"` is read too.
    #[serde(rename = "nearest_exact", alias = "nearest-exact")]
    NearestExact,
    /// Linear interpolation along each spatial axis; `"bilinear"` and `"trilinear"` are read too.
    #[serde(rename = "linear", alias = "bilinear", alias = "trilinear")]
    Linear,
}

/// The layers of this file.
pub const LAYERS: &[LayerKind] = &[LayerKind {
    name: "Upsample",
    about: "resizes images",
    read: |fields| crate::text::read(fields).map(Op::Upsample),
}];

/// `length * factor` rounded down; `None` for a symbol where no small whole numbers have that ratio.
fn scaled(length: &Dim, factor: f64) -> Option<Dim> {
    match length {
        Dim::Known(n) => Some(Dim::Known((*n as f64 * factor).floor() as i64)),
        Dim::Symbolic(_) => (0..=20).map(|k| 1i64 << k).find_map(|denominator| {
            let numerator = factor * denominator as f64;
            let small = numerator.fract() == 0.0 && numerator < Dim::LIMIT as f64;
            small.then(|| (length.clone() * numerator as i64).floor_div(&denominator.into()))
        }),
    }
}

impl Upsample {
    /// The factor along each axis, where factors are given.
    fn factors(&self, axes: usize) -> Result<Option<SmallVec<[f64; 3]>>, Mismatch> {
        let factors: SmallVec<[f64; 3]> = match &self.scale_factor {
            None => return Ok(None),
            Some(Factors::All(factor)) => SmallVec::from_elem(factor.0, axes),
            Some(Factors::Each(list)) => list.iter().map(|factor| factor.0).collect(),
        };
        if factors.len() != axes {
            return Err(Mismatch::new(
                format!("one factor, or {axes} of them (one for each spatial axis)"),
                format!("{} factors", factors.len()),
                format!("write one factor for all axes, or a list of {axes}"),
            )
            .in_field("scale_factor"));
        }
        // Beyond these the scale would leave the numbers that indices are computed with.
        if let Some(factor) = factors.iter().find(|&&factor| !(1e-6..=1e6).contains(&factor)) {
            let expected = "factors between 1e-6 and 1e6";
            return Err(Mismatch::new(expected, factor.to_string(), "use `size`").in_field("scale_factor"));
        }
        Ok(Some(factors))
    }

    fn sizes(&self, lengths: &[Dim]) -> Result<Vec<Dim>, Mismatch> {
        let factors = self.factors(lengths.len())?;
        match (&self.size, factors) {
            (Some(size), None) => {
                let sizes = size.expand(lengths.len(), "size")?;
                positive(&[("size", &sizes)])?;
                Ok(sizes.into_iter().map(Dim::from).collect())
            }
            (None, Some(factors)) => {
                let sizes = lengths.iter().zip(factors).map(|(length, factor)| match scaled(length, factor) {
                    Some(size) if !size.surely_below(1) => Ok(size),
                    Some(size) => Err(Mismatch::new(
                        "an output of at least one pixel along each axis",
                        format!("{size} ({length} * {factor})"),
                        "use a greater factor",
                    )
                    .in_field("scale_factor")),
                    None => Err(Mismatch::new(
                        format!("a factor that is a whole number or a simple fraction of 2 (the length is {length})"),
                        factor.to_string(),
                        "use such a factor, or bind the symbol",
                    )
                    .in_field("scale_factor")),
                });
                sizes.collect()
            }
            (size, _) => {
                let found = if size.is_some() { "both" } else { "neither" };
                Err(Mismatch::new("either `size` or `scale_factor`", found, "give one of them").in_field("size"))
            }
        }
    }

    /// What happens along each spatial axis, from their lengths before and after.
    fn steps(&self, lengths: &[usize], sizes: &[usize]) -> Vec<Step> {
        let factors = self.factors(lengths.len()).expect("verified: factors fit");
        let axes = lengths.iter().zip(sizes).enumerate();
        axes.map(|(i, (&length, &size))| {
            let scale = factors.as_ref().map(|factors| (1.0 / factors[i]) as f32);
            Step { length, size, scale }
        })
        .collect()
    }
}

/// The resizing of one axis.
#[derive(Clone, Copy, Debug)]
struct Step {
    length: usize,
    size: usize,
    /// Pixels of the input for one of the output, where a factor was given.
    scale: Option<f32>,
}

impl Step {
    /// The pixel nearest to each of the output's.
    fn nearest(&self, exact: bool) -> impl Iterator<Item = i64> + use<> {
        let scale = self.scale.unwrap_or(self.length as f32 / self.size as f32);
        let middle = if exact { 0.5 } else { 0.0 };
        let last = self.length as i64 - 1;
        (0..self.size).map(move |d| (((d as f32 + middle) * scale).floor() as i64).min(last))
    }

    /// Whole numbers (a, b, divisor) with which pixel `d` lies at `(a * d + b) / divisor` of the input, exactly.
    fn place(&self, align_corners: bool) -> (i64, i64, i64) {
        let (length, size) = (self.length as i64, self.size as i64);
        let (over, under) = match self.scale {
            _ if align_corners => return (length - 1, 0, (size - 1).max(1)),
            None => (length, size),
            Some(scale) => ratio(scale),
        };
        (2 * over, over - under, 2 * under)
    }
}

impl Step {
    /// The pixels that each of the output's is made of, with their weights.
    fn terms(&self, mode: ResizeMode, align_corners: bool) -> Vec<Terms> {
        if mode != ResizeMode::Linear {
            let places = self.nearest(mode == ResizeMode::NearestExact);
            return places.map(|place| vec![(place as usize, 1.0)]).collect();
        }
        let (a, b, divisor) = self.place(align_corners);
        let last = self.length as i64 - 1;
        let terms = (0..self.size as i64).map(|d| {
            let place = (a * d + b).max(0);
            let (low, share) = ((place / divisor).min(last), (place % divisor) as f64 / divisor as f64);
            let high = (low + 1).min(last);
            match high == low {
                true => vec![(low as usize, 1.0)],
                false => vec![(low as usize, 1.0 - share), (high as usize, share)],
            }
        });
        terms.collect()
    }
}

/// Pixels of the output along one axis that are made alike of neighbours: with a step of the place each moves by `step`.
#[derive(Clone, Debug)]
struct Piece {
    /// Places.
    count: usize,
    /// The first pixel of the input and of the output, and pixels of the output from one place to the next.
    from: usize,
    to: usize,
    step: usize,
    /// For each pixel of the output at a place the share of the next pixel of the input.
    shares: Vec<f64>,
}

/// More pixels of the output at a place than this are not made by one kernel.
const MOST_PIXELS: usize = 16;

impl Step {
    /// The pieces of the axis, where it grows by a whole factor; first of all the one with most places.
    fn pieces(&self, mode: ResizeMode, align_corners: bool) -> Option<Vec<Piece>> {
        let (length, factor) = (self.length, self.size / self.length);
        let plain = |shares: Vec<f64>| Piece { count: length, from: 0, to: 0, step: shares.len(), shares };
        if self.size != factor * length || factor == 0 {
            return None;
        }
        if factor == 1 {
            return Some(vec![plain(vec![0.0])]);
        }
        if mode != ResizeMode::Linear {
            let is_whole =
                self.nearest(mode == ResizeMode::NearestExact).enumerate().all(|(d, at)| d / factor == at as usize);
            return is_whole.then(|| vec![plain(vec![0.0; factor])]);
        }
        // Pixel d lies at (2 d + 1 - factor) / (2 factor): half a factor in front of the first pixel and behind the last.
        let ((a, b, divisor), s) = (self.place(align_corners), factor as i64);
        if align_corners || a * s != divisor || 2 * s * b != divisor * (1 - s) {
            return None;
        }
        let (head, odd) = (factor / 2, factor % 2);
        let share = |j: usize| (2 * j + 1 - odd) as f64 / (2 * factor) as f64;
        let ends = [(0, 0, head), (length - 1, head + (length - 1) * factor, factor - head)];
        let ends = ends.into_iter().map(|(from, to, n)| Piece { count: 1, from, to, step: n, shares: vec![0.0; n] });
        let between =
            Piece { count: length - 1, from: 0, to: head, step: factor, shares: (0..factor).map(share).collect() };
        Some([between].into_iter().chain(ends).filter(|piece| piece.count > 0).collect())
    }
}

/// What a pixel is made of along the axes to go: `at` is where it lies along those so far.
fn blend(k: &mut KernelBuilder, from: &Operand, at: &[Index], rest: &[(Affine, f64)]) -> ScalarId {
    let Some(((low, share), rest)) = rest.split_first() else {
        return k.load(from, at.to_vec());
    };
    let along = |place: Affine| [at, &[place.into()]].concat();
    let first = blend(k, from, &along(low.clone()), rest);
    if *share == 0.0 {
        return first;
    }
    let second = blend(k, from, &along(low.clone() + 1), rest);
    let (one, other) = (k.number(1.0 - share), k.number(*share));
    let (first, second) = (k.mul(first, one), k.mul(second, other));
    k.add(first, second)
}

/// One kernel for each choice of pieces, which stores all pixels of a place.
fn lower_pieces(input: &Operand, out: &Operand, pieces: &[Vec<Piece>]) -> Vec<Kernel> {
    let kernel = |choice: Vec<Piece>| {
        let outer: Vec<usize> = input.dims[..2].iter().copied().chain(choice.iter().map(|piece| piece.count)).collect();
        let mut k = KernelBuilder::new(&outer);
        let axes = k.outer_axes();
        let plain = [Index::from(axes[0]), axes[1].into()];
        let pixels: Vec<Vec<usize>> = choice.iter().map(|piece| (0..piece.shares.len()).collect()).collect();
        for pixel in combinations(&pixels) {
            let along = || choice.iter().zip(&axes[2..]).zip(&pixel);
            let from: Vec<(Affine, f64)> =
                along().map(|((piece, &axis), &j)| (Affine::from(axis) + piece.from as i64, piece.shares[j])).collect();
            let to = along().map(|((piece, &axis), &j)| (axis * piece.step as i64 + (piece.to + j) as i64).into());
            let value = blend(&mut k, input, &plain, &from);
            k.store(out, plain.iter().cloned().chain(to).collect::<Vec<Index>>(), value);
        }
        k.finish()
    };
    combinations(pieces).into_iter().map(kernel).collect()
}

/// Whole numbers whose quotient is `value`, for positive numbers of moderate size.
fn ratio(value: f32) -> (i64, i64) {
    let (mut over, mut under) = (f64::from(value), 1);
    while over.fract() != 0.0 {
        (over, under) = (over * 2.0, under * 2);
    }
    (over as i64, under)
}

/// One corner of the interpolation along an axis: where it reads; and the weight of the other corner, where there is one.
struct Corners {
    low: Index,
    high: Option<(Index, ScalarId)>,
}

fn corners(k: &mut KernelBuilder, axis: Axis, step: &Step, align_corners: bool) -> Corners {
    if step.size == step.length {
        return Corners { low: axis.into(), high: None };
    }
    let (a, b, divisor) = step.place(align_corners);
    let last = step.length as i64 - 1;
    let low = |d: i64| (a * d + b).max(0) / divisor;
    let table = |offset: i64| Index::Table {
        table: (0..step.size as i64).map(|d| (low(d) + offset).min(last)).collect(),
        at: axis.into(),
    };
    if last == 0 {
        return Corners { low: table(0), high: None };
    }
    // Whole numbers up to the last step: which two pixels and how far between them must not disagree by rounding.
    let mut place = k.position(axis * a + b);
    if b < 0 {
        let zero = k.literal(Literal::I64(0));
        place = k.max(place, zero);
    }
    let whole = k.literal(Literal::I64(divisor));
    let quotient = k.div(place, whole);
    let below = k.binary(BinaryOp::Mul, quotient, whole);
    let rest = k.sub(place, below);
    let rest = k.cast(DType::F32, rest);
    // One over the last step is no f32, and what it loses would be much of a share of nearly 1 less than 1.
    let whole = k.number(divisor as f64);
    Corners { low: table(0), high: Some((table(1), k.div(rest, whole))) }
}

/// The interpolated value: `at` is the choice of corners along the axes so far, `rest` the axes to go.
fn interpolate(k: &mut KernelBuilder, from: &Operand, at: &[Index], rest: &[Corners]) -> ScalarId {
    let Some((corners, rest)) = rest.split_first() else {
        return k.load(from, at.to_vec());
    };
    let along = |index: &Index| [at, std::slice::from_ref(index)].concat();
    let low = interpolate(k, from, &along(&corners.low), rest);
    let Some((high, weight)) = &corners.high else {
        return low;
    };
    let high = interpolate(k, from, &along(high), rest);
    let one = k.number(1.0);
    let other = k.sub(one, *weight);
    let (low, high) = (k.mul(low, other), k.mul(high, *weight));
    k.add(low, high)
}

impl OpSpec for Upsample {
    fn name(&self) -> &'static str {
        "Upsample"
    }

    fn fields(&self) -> String {
        crate::text::fields(self)
    }

    fn arity(&self) -> Arity {
        Arity::exactly(1)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Types, Mismatch> {
        let input = inputs[0];
        if !(3..=5).contains(&input.rank()) {
            let expected = "an image of shape [batch, channels, spatial...] with 1 to 3 spatial axes";
            return Err(Mismatch::new(expected, input.to_string(), "reshape the input"));
        }
        if self.mode == ResizeMode::Linear {
            expect_float(input)?;
        } else if self.align_corners {
            let help = "leave `align_corners` out, or set mode: \"linear\"";
            return Err(Mismatch::new("align_corners: false in this mode", "true", help).in_field("align_corners"));
        }
        let (plain, lengths) = input.shape.split_at(2);
        if lengths.iter().any(|length| length.surely_below(1)) {
            let expected = "at least one element along each spatial axis";
            return Err(Mismatch::new(expected, input.to_string(), "use a larger image"));
        }
        let sizes = self.sizes(lengths)?;
        Ok([TensorType::new(input.dtype, plain.iter().cloned().chain(sizes))].into_iter().collect())
    }

    fn lower(&self, site: &mut Site) -> Vec<Kernel> {
        let (input, out) = (&site.inputs[0], &site.outputs[0]);
        let steps = self.steps(&input.dims[2..], &out.dims[2..]);
        let pieces: Option<Vec<Vec<Piece>>> =
            steps.iter().map(|step| step.pieces(self.mode, self.align_corners)).collect();
        let pixels = |pieces: &[Vec<Piece>]| pieces.iter().map(|list| list[0].shares.len()).product::<usize>();
        if let Some(pieces) = pieces.filter(|pieces| (2..=MOST_PIXELS).contains(&pixels(pieces))) {
            return lower_pieces(input, out, &pieces);
        }
        let mut k = KernelBuilder::new(&out.dims);
        let axes = k.outer_axes();
        let plain = [Index::from(axes[0]), axes[1].into()];
        let all: Vec<Corners> = steps
            .iter()
            .zip(&axes[2..])
            .map(|(step, &axis)| match self.mode {
                ResizeMode::Linear => corners(&mut k, axis, step, self.align_corners),
                _ if step.size == step.length => Corners { low: axis.into(), high: None },
                mode => {
                    let table = step.nearest(mode == ResizeMode::NearestExact).collect();
                    Corners { low: Index::Table { table, at: axis.into() }, high: None }
                }
            })
            .collect();
        let value = interpolate(&mut k, input, &plain, &all);
        k.store(out, axes, value);
        vec![k.finish()]
    }

    fn gradient(&self, back: &mut Backward) -> Gradients {
        let dims = back.dims(back.input(0));
        let mut upstream = back.upstream();
        let sizes = back.dims(upstream);
        for (i, step) in self.steps(&dims[2..], &sizes[2..]).iter().enumerate() {
            if step.size != step.length {
                let rows = step.terms(self.mode, self.align_corners);
                upstream = Resample::transposed(back, upstream, 2 + i, &rows, step.length);
            }
        }
        back.only(upstream)
    }

    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let input = inputs[0];
        let dims = outputs[0].dims().expect("verified: bound");
        let steps = self.steps(&input.dims[2..], &dims[2..]);
        let output = Array::from_fn(&dims, |at| {
            // Along each axis the two pixels and the weight of the second.
            let between: Vec<(usize, usize, f64)> = steps
                .iter()
                .zip(&at[2..])
                .map(|(step, &d)| {
                    let last = step.length - 1;
                    let scale = step.scale.unwrap_or(step.length as f32 / step.size as f32);
                    // Rounded down to a pixel, a place has to be the f32 that PyTorch rounds.
                    let place = match self.mode {
                        _ if step.size == step.length => d as f64,
                        ResizeMode::Nearest => f64::from((d as f32 * scale).floor()),
                        ResizeMode::NearestExact => f64::from(((d as f32 + 0.5) * scale).floor()),
                        ResizeMode::Linear if self.align_corners => {
                            d as f64 * last as f64 / (step.size.max(2) - 1) as f64
                        }
                        ResizeMode::Linear => {
                            let exact = step.length as f64 / step.size as f64;
                            let scale = step.scale.map_or(exact, f64::from);
                            ((d as f64 + 0.5) * scale - 0.5).max(0.0)
                        }
                    };
                    let low = (place.floor() as usize).min(last);
                    (low, (low + 1).min(last), (place - low as f64).min(1.0))
                })
                .collect();
            let sides = vec![2; steps.len()];
            let corners = points(&sides).map(|corner| {
                let mut place = at[..2].to_vec();
                let mut weight = 1.0;
                for (&high, &(first, second, share)) in corner.iter().zip(&between) {
                    place.push(if high == 1 { second } else { first });
                    weight *= if high == 1 { share } else { 1.0 - share };
                }
                // A corner without weight does not count, whatever is there.
                if weight == 0.0 { 0.0 } else { weight * input.at(&place) }
            });
            corners.sum()
        });
        vec![output]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to_size(size: &[u32]) -> Upsample {
        let size = Some(PerAxis::Each(size.iter().copied().collect()));
        Upsample { size, scale_factor: None, mode: ResizeMode::Nearest, align_corners: false }
    }

    fn by_factor(factor: f64) -> Upsample {
        Upsample { size: None, scale_factor: Some(Factors::All(Real(factor))), ..to_size(&[]) }
    }

    fn infer(layer: &Upsample, input: &TensorType) -> Result<String, Mismatch> {
        Ok(layer.infer(&[input])?[0].to_string())
    }

    #[test]
    fn shapes() {
        let image = TensorType::f32([Dim::symbol("N"), 3.into(), Dim::symbol("H"), 5.into()]);
        assert_eq!(infer(&to_size(&[4, 6]), &image).unwrap(), "f32[N, 3, 4, 6]");
        assert_eq!(infer(&by_factor(2.0), &image).unwrap(), "f32[N, 3, 2*H, 10]");
        assert_eq!(infer(&by_factor(1.5), &image).unwrap(), "f32[N, 3, floor((3*H)/(2)), 7]");
        assert_eq!(infer(&by_factor(1.7), &TensorType::f32([1, 1, 10])).unwrap(), "f32[1, 1, 17]");
        let bytes = TensorType::new(DType::U8, [1, 1, 10]);
        assert_eq!(infer(&by_factor(0.25), &bytes).unwrap(), "u8[1, 1, 2]");
    }

    #[test]
    fn refusals() {
        let image = TensorType::f32([1, 3, 4, 5]);
        let wrong = |layer: &Upsample| infer(layer, &image).unwrap_err();
        let both = Upsample { scale_factor: by_factor(2.0).scale_factor, ..to_size(&[4, 4]) };
        assert_eq!(wrong(&both).found, "both");
        assert_eq!(wrong(&Upsample { size: None, ..to_size(&[]) }).found, "neither");
        assert_eq!(wrong(&to_size(&[4])).field, Some("size"));
        assert_eq!(wrong(&to_size(&[4, 0])).field, Some("size"));
        assert_eq!(wrong(&by_factor(0.2)).found, "0 (4 * 0.2)");
        for factor in [-1.0, 0.0, f64::INFINITY, 1e300] {
            assert_eq!(wrong(&by_factor(factor)).expected, "factors between 1e-6 and 1e6");
        }
        assert_eq!(wrong(&Upsample { align_corners: true, ..by_factor(2.0) }).field, Some("align_corners"));
        let symbolic = TensorType::f32([Dim::symbol("N"), 3.into(), Dim::symbol("H"), 5.into()]);
        let error = infer(&by_factor(1.7), &symbolic).unwrap_err();
        assert_eq!(error.expected, "a factor that is a whole number or a simple fraction of 2 (the length is H)");
        assert_eq!(infer(&by_factor(2.0), &TensorType::f32([4, 4])).unwrap_err().found, "f32[4, 4]");
    }

    #[test]
    fn ratios_are_exact() {
        for value in [0.5, 3.0, 1.0 / 1.7, 1e-6, 1e6] {
            let (over, under) = ratio(value);
            assert_eq!(over as f64 / under as f64, f64::from(value));
        }
    }
}
