//! Adaptive and global pooling: the output's size is given, the windows follow.

use super::common::expect_float;
use super::window::{Count, divide, image};
use super::*;
use crate::Dim;
use crate::kernel::{Axis, FoldKind, Index, KernelBuilder, Literal, ScalarId};
use crate::tensor::points;
use serde::Serializer;

/// Image `[batch, channels, spatial...]` (or without the batch). Output is `[batch, channels, sizes...]`: window `i` of
/// `n` along an axis of length `L` begins at `floor(i * L / n)` and ends before `ceil((i + 1) * L / n)`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdaptivePool {
    /// The number of spatial axes: 1, 2 or 3; 0 for all axes behind `[batch, channels]`.
    #[serde(skip)]
    pub spatial: usize,
    /// What is taken of each window.
    #[serde(skip)]
    pub kind: PoolKind,
    /// The size of the output.
    pub output_size: OutputSize,
    /// Whether a second output has the place of the greatest element, flattened, in each image: what the gradient needs.
    #[serde(skip)]
    pub indices: bool,
}

/// What a pool takes of each window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PoolKind {
    /// The mean.
    #[default]
    Average,
    /// The greatest; NaN wins.
    Max,
}

/// The size of an adaptive pool's output: `1` stands for all axes, `[7, None]` for each.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged, expecting = "a whole number, or a list of one (or None) for each spatial axis")]
pub enum OutputSize {
    /// The same for all.
    All(Extent),
    /// One each.
    Each(SmallVec<[Extent; 3]>),
}

/// The size along one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(from = "Option<u32>")]
pub enum Extent {
    /// That of the input.
    Same,
    /// A number.
    Number(u32),
}

impl From<Option<u32>> for Extent {
    fn from(number: Option<u32>) -> Extent {
        number.map_or(Extent::Same, Extent::Number)
    }
}

impl Serialize for Extent {
    /// A number is written bare, not as `Some`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Extent::Same => serializer.serialize_none(),
            Extent::Number(n) => serializer.serialize_u32(*n),
        }
    }
}

/// The layers of this file.
pub const LAYERS: &[LayerKind] = &[
    LayerKind {
        name: "AdaptiveAvgPool1d",
        about: "average pooling of a signal to a given length",
        read: |fields| read(fields, 1, PoolKind::Average),
    },
    LayerKind {
        name: "AdaptiveAvgPool2d",
        about: "average pooling of an image to a given size",
        read: |fields| read(fields, 2, PoolKind::Average),
    },
    LayerKind {
        name: "AdaptiveAvgPool3d",
        about: "average pooling of a volume to a given size",
        read: |fields| read(fields, 3, PoolKind::Average),
    },
    LayerKind {
        name: "AdaptiveMaxPool1d",
        about: "max pooling of a signal to a given length",
        read: |fields| read(fields, 1, PoolKind::Max),
    },
    LayerKind {
        name: "AdaptiveMaxPool2d",
        about: "max pooling of an image to a given size",
        read: |fields| read(fields, 2, PoolKind::Max),
    },
    LayerKind {
        name: "AdaptiveMaxPool3d",
        about: "max pooling of a volume to a given size",
        read: |fields| read(fields, 3, PoolKind::Max),
    },
    LayerKind {
        name: "GlobalAvgPool",
        about: "the mean of each channel; spatial axes become 1",
        read: |fields| global(fields, PoolKind::Average),
    },
    LayerKind {
        name: "GlobalMaxPool",
        about: "the greatest element of each channel; spatial axes become 1",
        read: |fields| global(fields, PoolKind::Max),
    },
];

fn read(fields: &Value, spatial: usize, kind: PoolKind) -> Result<Op, FieldError> {
    Ok(Op::AdaptivePool(AdaptivePool { spatial, kind, ..crate::text::read(fields)? }))
}

fn global(fields: &Value, kind: PoolKind) -> Result<Op, FieldError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct NoFields {}
    let NoFields {} = crate::text::read(fields)?;
    Ok(Op::AdaptivePool(AdaptivePool::global(kind)))
}

impl AdaptivePool {
    /// The pool of all spatial axes of `[batch, channels, spatial...]`, which become 1.
    pub fn global(kind: PoolKind) -> AdaptivePool {
        AdaptivePool { spatial: 0, kind, output_size: OutputSize::All(Extent::Number(1)), indices: false }
    }

    fn sizes(&self, lengths: &[Dim]) -> Result<Vec<Dim>, Mismatch> {
        let extents: SmallVec<[Extent; 3]> = match &self.output_size {
            OutputSize::All(extent) => SmallVec::from_elem(*extent, lengths.len()),
            OutputSize::Each(list) => list.clone(),
        };
        if extents.len() != lengths.len() {
            return Err(Mismatch::new(
                format!("one size, or {} of them (one for each spatial axis)", lengths.len()),
                format!("{} sizes", extents.len()),
                "write None for an axis that keeps its size",
            )
            .in_field("output_size"));
        }
        if extents.contains(&Extent::Number(0)) {
            let help = "write None for an axis that keeps its size";
            return Err(Mismatch::new("sizes of 1 or more", "0", help).in_field("output_size"));
        }
        let sizes = extents.iter().zip(lengths).map(|(extent, length)| match extent {
            Extent::Same => length.clone(),
            Extent::Number(n) => Dim::from(*n),
        });
        Ok(sizes.collect())
    }

    /// The number of axes that are not pooled, of an image of `rank`.
    fn plain(&self, rank: usize) -> usize {
        if self.spatial == 0 { 2 } else { rank - self.spatial }
    }
}

/// The window along one axis of an image.
struct Window {
    /// Taps of the fold.
    taps: usize,
    /// Where a tap reads.
    at: Index,
    /// How many taps are inside.
    count: Count,
}

impl Window {
    /// The first place of the window `axis` of `n` along an axis of `length`.
    fn begin(&self, k: &mut KernelBuilder, axis: Axis, length: usize, n: usize) -> ScalarId {
        match self.count {
            Count::Same(taps) if n > 1 => k.position(axis * taps as i64),
            Count::Same(_) => k.literal(Literal::I64(0)),
            Count::Varying(_) => {
                let (from, windows) = (k.position(axis * length as i64), k.literal(Literal::I64(n as i64)));
                k.div(from, windows)
            }
        }
    }
}

/// The window `axis` of `n` along an axis of `length`.
fn window(k: &mut KernelBuilder, axis: Axis, tap: Axis, length: usize, n: usize) -> Window {
    let (whole, windows) = (length as i64, n as i64);
    if n == 1 {
        return Window { taps: length, at: tap.into(), count: Count::Same(length) };
    }
    if length.is_multiple_of(n) {
        let taps = length / n;
        return Window { taps, at: (axis * taps as i64 + tap).into(), count: Count::Same(taps) };
    }
    let begin = |i: i64| i * whole / windows;
    let end = |i: i64| ((i + 1) * whole + windows - 1) / windows;
    let taps = (0..windows).map(|i| end(i) - begin(i)).max().unwrap_or(0);
    let entries = (0..windows).flat_map(|i| {
        let (begin, end) = (begin(i), end(i));
        (begin..begin + taps).map(move |place| if place < end { place } else { -1 })
    });
    let at = Index::Table { table: entries.collect(), at: axis * taps + tap };
    let divisor = k.literal(Literal::I64(windows));
    let from = k.position(axis * whole);
    let from = k.div(from, divisor);
    let to = k.position(axis * whole + (whole + windows - 1));
    let to = k.div(to, divisor);
    Window { taps: taps as usize, at, count: Count::Varying(k.sub(to, from)) }
}

impl OpSpec for AdaptivePool {
    fn name(&self) -> &'static str {
        match self.kind {
            PoolKind::Average => {
                ["GlobalAvgPool", "AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveAvgPool3d"][self.spatial]
            }
            PoolKind::Max => {
                ["GlobalMaxPool", "AdaptiveMaxPool1d", "AdaptiveMaxPool2d", "AdaptiveMaxPool3d"][self.spatial]
            }
        }
    }

    fn fields(&self) -> String {
        if self.spatial == 0 { "()".to_string() } else { crate::text::fields(self) }
    }

    fn arity(&self) -> Arity {
        Arity::exactly(1)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Types, Mismatch> {
        let input = inputs[0];
        if self.kind == PoolKind::Average {
            expect_float(input)?;
        }
        if self.spatial == 0 && input.rank() < 3 {
            let help = "reshape the input, or leave the layer out";
            return Err(Mismatch::new("an image of shape [batch, channels, spatial...]", input.to_string(), help));
        }
        if self.spatial > 0 {
            image(input, self.spatial)?;
        }
        let (plain, lengths) = input.shape.split_at(self.plain(input.rank()));
        let sizes = self.sizes(lengths)?;
        if lengths.iter().any(|length| length.surely_below(1)) {
            let expected = "at least one element along each spatial axis";
            return Err(Mismatch::new(expected, input.to_string(), "use a larger image"));
        }
        let pooled = TensorType::new(input.dtype, plain.iter().cloned().chain(sizes));
        let places = TensorType { dtype: DType::I64, ..pooled.clone() };
        Ok(std::iter::once(pooled).chain(self.indices.then_some(places)).collect())
    }

    fn lower(&self, site: &mut Site) -> Vec<Kernel> {
        let (image, out) = (&site.inputs[0], &site.outputs[0]);
        let plain = self.plain(out.dims.len());
        let mut k = KernelBuilder::new(&out.dims);
        let axes = k.outer_axes();
        let windows: Vec<Window> = (plain..axes.len())
            .map(|i| {
                let tap = k.inner(i - plain);
                window(&mut k, axes[i], tap, image.dims[i], out.dims[i])
            })
            .collect();
        let at = axes[..plain].iter().map(|&axis| axis.into()).chain(windows.iter().map(|window| window.at.clone()));
        let (kind, outside) = match self.kind {
            PoolKind::Average => (FoldKind::Sum, 0.0),
            PoolKind::Max if self.indices => (FoldKind::ArgMax, f64::NEG_INFINITY),
            PoolKind::Max => (FoldKind::Max, f64::NEG_INFINITY),
        };
        let even = windows.iter().all(|window| matches!(window.count, Count::Same(_)));
        let at: Vec<Index> = at.collect();
        let pixel = match even {
            true => k.load(image, at),
            false => k.load_or(image, at, Literal::of(image.dtype, outside)),
        };
        let taps: Vec<usize> = windows.iter().map(|window| window.taps).collect();
        let mut value = k.fold(kind, &taps, pixel);
        if let Some(places) = site.outputs.get(1) {
            let mut number = k.folded(1);
            // From the number of the tap to its places along the axes, the last one first, and from those to one place.
            let mut place = k.literal(Literal::I64(0));
            let mut step = 1;
            for (i, window) in windows.iter().enumerate().rev() {
                let (length, taps) = (image.dims[plain + i] as i64, k.literal(Literal::I64(window.taps as i64)));
                let rest = k.div(number, taps);
                let below = k.mul(rest, taps);
                let tap = k.sub(number, below);
                let begin = window.begin(&mut k, axes[plain + i], image.dims[plain + i], out.dims[plain + i]);
                let along = k.add(begin, tap);
                let factor = k.literal(Literal::I64(step));
                let along = k.mul(along, factor);
                place = k.add(place, along);
                (number, step) = (rest, step * length);
            }
            k.store(places, axes.clone(), place);
        }
        if self.kind == PoolKind::Average {
            let counts: SmallVec<[Count; 3]> = windows.iter().map(|window| window.count).collect();
            value = divide(&mut k, value, &counts);
        }
        k.store(out, axes, value);
        vec![k.finish()]
    }

    fn gradient(&self, back: &mut Backward) -> Gradients {
        let dims = back.dims(back.input(0));
        let mut upstream = back.upstream();
        let sizes = back.dims(upstream);
        let plain = self.plain(dims.len());
        if self.kind == PoolKind::Max {
            if !self.indices {
                back.extend(AdaptivePool { indices: true, ..self.clone() });
            }
            let (rows, pixels) = (dims[..plain].iter().product(), dims[plain..].iter().product());
            let windows = sizes[plain..].iter().product();
            let index = back.output(1);
            let (values, index) = (back.reshaped(upstream, &[rows, windows]), back.reshaped(index, &[rows, windows]));
            let scatter = ScatterAdd { dim: 1, dims: [rows, pixels].into_iter().collect() };
            let flat = back.node(scatter, &[values, index]);
            let gradient = back.reshaped(flat, &dims);
            return back.only(gradient);
        }
        for axis in (plain..dims.len()).filter(|&axis| sizes[axis] != dims[axis]) {
            let (length, n) = (dims[axis], sizes[axis]);
            if n == 1 {
                upstream = back.scaled(upstream, 1.0 / length as f64);
                continue;
            }
            let row = |i: usize| {
                let (begin, end) = (i * length / n, ((i + 1) * length).div_ceil(n));
                (begin..end).map(|place| (place, 1.0 / (end - begin) as f64)).collect()
            };
            let rows: Vec<Terms> = (0..n).map(row).collect();
            upstream = Resample::transposed(back, upstream, axis, &rows, length);
        }
        let gradient = back.expanded(upstream, &dims);
        back.only(gradient)
    }

    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let image = inputs[0];
        let dims = outputs[0].dims().expect("verified: bound");
        let plain = self.plain(dims.len());
        let mut greatest = Vec::new();
        let output = Array::from_fn(&dims, |at| {
            let starts: Vec<usize> = (plain..dims.len()).map(|i| at[i] * image.dims[i] / dims[i]).collect();
            let ends: Vec<usize> =
                (plain..dims.len()).map(|i| ((at[i] + 1) * image.dims[i]).div_ceil(dims[i])).collect();
            let window: Vec<usize> = starts.iter().zip(&ends).map(|(start, end)| end - start).collect();
            let places: Vec<Vec<usize>> = points(&window)
                .map(|tap| {
                    let inside = tap.iter().zip(&starts).map(|(tap, start)| tap + start);
                    at[..plain].iter().copied().chain(inside).collect()
                })
                .collect();
            let values: Vec<f64> = places.iter().map(|place| image.at(place)).collect();
            if self.indices {
                let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let first = values.iter().position(|value| value.is_nan());
                let first = first.or_else(|| values.iter().position(|&value| value == most)).unwrap_or(0);
                let pixels: usize = image.dims[plain..].iter().product();
                greatest.push((image.flat(&places[first]) % pixels) as f64);
            }
            match self.kind {
                PoolKind::Average => values.iter().sum::<f64>() / values.len() as f64,
                PoolKind::Max if values.iter().any(|value| value.is_nan()) => f64::NAN,
                PoolKind::Max => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            }
        });
        let greatest = Array { dims, data: greatest };
        std::iter::once(output).chain(self.indices.then_some(greatest)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::build::Operand;

    fn pool(output_size: OutputSize) -> AdaptivePool {
        AdaptivePool { spatial: 2, kind: PoolKind::Average, output_size, indices: false }
    }

    fn each(sizes: &[Option<u32>]) -> OutputSize {
        OutputSize::Each(sizes.iter().map(|&size| size.into()).collect())
    }

    fn infer(pool: &AdaptivePool, input: TensorType) -> Result<String, Mismatch> {
        Ok(pool.infer(&[&input])?[0].to_string())
    }

    #[test]
    fn shapes() {
        let (n, h) = (Dim::symbol("N"), Dim::symbol("H"));
        let symbolic = TensorType::f32([n, 8.into(), h, 9.into()]);
        assert_eq!(infer(&pool(OutputSize::All(Extent::Number(7))), symbolic.clone()).unwrap(), "f32[N, 8, 7, 7]");
        assert_eq!(infer(&pool(each(&[None, Some(3)])), symbolic.clone()).unwrap(), "f32[N, 8, H, 3]");
        assert_eq!(infer(&pool(each(&[None, Some(3)])), TensorType::f32([8, 5, 5])).unwrap(), "f32[8, 5, 3]");
        assert_eq!(infer(&AdaptivePool::global(PoolKind::Max), symbolic).unwrap(), "f32[N, 8, 1, 1]");
        let bytes = TensorType::new(DType::U8, [1, 8, 5]);
        assert_eq!(infer(&AdaptivePool::global(PoolKind::Max), bytes).unwrap(), "u8[1, 8, 1]");
    }

    #[test]
    fn refusals() {
        let image = TensorType::f32([1, 4, 5, 5]);
        let error = infer(&pool(each(&[Some(3)])), image.clone()).unwrap_err();
        assert_eq!(error.expected, "one size, or 2 of them (one for each spatial axis)");
        assert_eq!((error.found.as_str(), error.field), ("1 sizes", Some("output_size")));
        let error = infer(&pool(OutputSize::All(Extent::Number(0))), image).unwrap_err();
        assert_eq!(error.expected, "sizes of 1 or more");
        let error = infer(&AdaptivePool::global(PoolKind::Average), TensorType::f32([1, 4])).unwrap_err();
        assert_eq!(error.expected, "an image of shape [batch, channels, spatial...]");
        let error = infer(&pool(OutputSize::All(Extent::Same)), TensorType::f32([4, 0, 5])).unwrap_err();
        assert_eq!(error.expected, "at least one element along each spatial axis");
    }

    #[test]
    fn an_even_division_reads_affinely() {
        let site = |length: usize| {
            let operand = |buffer, dims: &[usize]| {
                let buffer = BufferId(buffer);
                Operand { buffer, dtype: DType::F32, dims: dims.to_vec() }
            };
            let (image, out) = (operand(0, &[2, length, length]), operand(1, &[2, 3, 3]));
            Site::new(vec![image], vec![out], BufferId(2))
        };
        let tables = |length| {
            let kernel = pool(OutputSize::All(Extent::Number(3))).lower(&mut site(length)).remove(0);
            let scalars: Vec<_> = kernel.body.iter().map(|(_, scalar)| format!("{scalar:?}")).collect();
            scalars.iter().any(|scalar| scalar.contains("Table"))
        };
        assert_eq!([9, 3, 8, 2].map(tables), [false, false, true, true]);
    }
}
