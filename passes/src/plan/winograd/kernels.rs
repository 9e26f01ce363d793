//! The kernels that take the place of a convolution: taps at the points (once), phases of the image side by side where the window
//! moves by more than 1, inputs at the points, the products of
//! the two summed over channels (a batched matrix product), and outputs with the epilogue. The last three for each segment of
//! the image; their first axis is the position in it.

use super::recognise::Convolution;
use super::segments::Segment;
use super::toom::Toom;
use crate::merge::compacted;
use crate::plan::draft::copied;
use crate::plan::layout::FEW_CHANNELS;
use fusewright_ir::DType;
use fusewright_ir::kernel::build::Operand;
use fusewright_ir::kernel::{
    Affine, Axis, BufferId, BufferInfo, FoldKind, Index, Kernel, KernelBuilder, Literal, NamedKernel, Program, Role,
    Scalar, ScalarId,
};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

/// Which transform each window of a convolution gets, in the order of its windows.
pub type Tooms = SmallVec<[Toom; 2]>;

/// The tiles along each window.
pub fn tiles(convolution: &Convolution, tooms: &Tooms) -> SmallVec<[usize; 2]> {
    convolution.windows.iter().zip(tooms).map(|(window, toom)| window.place.1.div_ceil(toom.outputs)).collect()
}

/// The elements along each window of an image whose phases lie side by side: all that whole tiles read.
pub fn image(convolution: &Convolution, tooms: &Tooms) -> SmallVec<[usize; 2]> {
    let tiles = tiles(convolution, tooms);
    tiles.iter().zip(tooms).map(|(tiles, toom)| tiles * toom.outputs + toom.taps - 1).collect()
}

/// What takes the place of a convolution.
pub struct Parts {
    /// The kernels before all segments.
    pub before: Vec<NamedKernel>,
    /// For each segment the others, in order.
    pub segments: Vec<Vec<NamedKernel>>,
    /// A buffer that is to have this dimension innermost.
    pub rows: Option<(BufferId, usize)>,
}

/// The parts of a convolution; their buffers are added to the program.
pub fn rewritten(
    program: &mut Program,
    named: &NamedKernel,
    convolution: &Convolution,
    tooms: &Tooms,
    segments: &[Segment],
) -> Parts {
    let all_tiles = tiles(convolution, tooms);
    let points: usize = tooms.iter().map(|toom| toom.points()).product();
    let n_batch: usize = convolution.batch.iter().map(|(_, extent)| extent).product();
    let (channels, out) = (convolution.depth(), convolution.out.1);
    let mut add = |part: &str, dims: &[usize]| {
        let (name, dims) = (format!("{}.{part}", named.nodes[0]), dims.to_vec());
        let info = BufferInfo { name, dtype: DType::F32, dims: dims.clone(), role: Role::Computed };
        Operand { buffer: program.add_buffer(info), dtype: DType::F32, dims }
    };
    let taps = add("taps", &[points, channels, out]);
    let phases = convolution.windows.iter().any(|window| window.step > 1).then(|| {
        let places: Vec<usize> =
            convolution.batch.iter().map(|(_, extent)| *extent).chain(image(convolution, tooms)).collect();
        let dims = [places.as_slice(), &[channels]].concat();
        // Few channels are no vector: rows are taken apart first, then turned.
        let rows = (convolution.channels.1 < FEW_CHANNELS).then(|| (add("rows", &dims), places.len() - 1));
        let n_taps: SmallVec<[usize; 2]> = tooms.iter().map(|toom| toom.taps).collect();
        let taps = add("tap phases", &[n_taps.as_slice(), &[channels, out]].concat());
        Phases { taps, rows, image: add("phases", &dims) }
    });
    let at_points: Vec<AtPoints> = segments
        .iter()
        .map(|segment| {
            let n_tiles = n_batch * segment.rows * all_tiles[1..].iter().product::<usize>();
            let inputs = add("inputs", &[segment.positions, points, n_tiles, channels]);
            let products = add("products", &[segment.positions, points, n_tiles, out]);
            AtPoints { taps: taps.clone(), phases: phases.clone(), inputs, products }
        })
        .collect();
    let sizes: Vec<String> = tooms.iter().map(|toom| toom.outputs.to_string()).collect();
    let n_taps: Vec<String> = tooms.iter().map(|toom| toom.taps.to_string()).collect();
    let title = format!("F({},{})", sizes.join("x"), n_taps.join("x"));
    let own = |part: &str, kernel: Kernel| NamedKernel {
        nodes: named.nodes[..1].to_vec(),
        about: format!("{title} {part}"),
        kernel,
    };
    let mut before = Vec::new();
    let mut parts = Vec::new();
    for (&segment, at_points) in segments.iter().zip(at_points) {
        let mut tiles = all_tiles.clone();
        tiles[0] = segment.rows;
        let build = Build { program, convolution, tooms, tiles, segment, at_points };
        if before.is_empty() {
            before.extend(build.at_points.phases.as_ref().map(|phases| own("phases", build.tap_phases(&phases.taps))));
            before.push(own("taps", build.taps()));
            if let Some(Phases { rows, image, .. }) = &build.at_points.phases {
                let target = rows.as_ref().map_or(image, |(rows, _)| rows);
                before.push(own("phases", build.phases(target)));
                before.extend(rows.as_ref().map(|(rows, _)| own("layout", copied(rows, image))));
            }
        }
        let mut kernels = vec![own("inputs", build.inputs()), own("products", build.products())];
        kernels.extend(build.outputs().into_iter().map(|kernel| NamedKernel {
            nodes: named.nodes.clone(),
            about: format!("{title} {}", named.about),
            kernel,
        }));
        parts.push(kernels);
    }
    let rows = phases.and_then(|phases| phases.rows).map(|(rows, dim)| (rows.buffer, dim));
    Parts { before, segments: parts, rows }
}

/// What lies at the points of the transforms.
struct AtPoints {
    /// `[points, channels, out]`.
    taps: Operand,
    /// Where the window moves by more than 1.
    phases: Option<Phases>,
    /// `[positions, points, tiles, channels]`.
    inputs: Operand,
    /// `[positions, points, tiles, out]`.
    products: Operand,
}

/// Phases side by side as channels.
#[derive(Clone)]
struct Phases {
    /// Of the weights: `[taps..., channels, out]`.
    taps: Operand,
    /// Of the image: `[batch..., rows, columns, channels]`.
    image: Operand,
    /// The same with another dimension innermost, which is written first.
    rows: Option<(Operand, usize)>,
}

struct Build<'a> {
    program: &'a Program,
    convolution: &'a Convolution<'a>,
    tooms: &'a Tooms,
    /// The tiles along each window at one position of the segment.
    tiles: SmallVec<[usize; 2]>,
    segment: Segment,
    at_points: AtPoints,
}

/// Tiles along one window, counted from the first at each position, of which the same outputs are stored.
#[derive(Clone, Copy)]
struct Region {
    first_tile: usize,
    n_tiles: usize,
    outputs: usize,
}

impl Build<'_> {
    /// The transforms along the rows' axis, if there are two windows, and along the other.
    fn rows_and_columns(&self) -> (Option<Toom>, Toom) {
        match self.tooms[..] {
            [columns] => (None, columns),
            [rows, columns] => (Some(rows), columns),
            _ => unreachable!("recognised: one or two windows"),
        }
    }

    /// Places along the windows of an element of a transform: the column alone where there is one window.
    fn places(&self, row: usize, column: usize) -> SmallVec<[usize; 2]> {
        if self.tooms.len() == 1 { [column].into_iter().collect() } else { [row, column].into_iter().collect() }
    }

    /// Where the weights have a tap of an input and an output channel.
    fn weight_at(&self, tap: &dyn Fn(usize) -> Affine, channel: Axis, of: Axis) -> Vec<Index> {
        let Convolution { weight, channels, out, windows, .. } = self.convolution;
        substituted(weight.at, |axis| match windows.iter().position(|window| window.tap.0 == axis) {
            Some(i) => tap(i),
            None if axis == channels.0 => channel.into(),
            None if axis == out.0 => of.into(),
            None => Affine::constant(0),
        })
    }

    /// Where the image has what a tap of the windows meets at a place; `batch` are the axes of that, and maybe others behind.
    fn image_at(
        &self,
        place: &dyn Fn(usize) -> Affine,
        tap: &dyn Fn(usize) -> Affine,
        batch: &[Axis],
        channel: Axis,
    ) -> Vec<Index> {
        let Convolution { image, channels, windows, batch: own, .. } = self.convolution;
        substituted(image.at, |axis| {
            if let Some(i) = windows.iter().position(|window| window.place.0 == axis) {
                return place(i);
            }
            if let Some(i) = windows.iter().position(|window| window.tap.0 == axis) {
                return tap(i);
            }
            match own.iter().position(|(other, _)| *other == axis) {
                Some(i) => batch[i].into(),
                None if axis == channels.0 => channel.into(),
                None => Affine::constant(0),
            }
        })
    }

    /// Puts the taps that meet each phase of the image side by side. Where a phase has fewer than others, the rest is 0.
    fn tap_phases(&self, into: &Operand) -> Kernel {
        let Convolution { weight, channels, out, windows, .. } = self.convolution;
        let n_windows = windows.len();
        let steps = windows.iter().map(|window| window.step);
        let space: Vec<usize> =
            into.dims[..n_windows].iter().copied().chain(steps).chain([channels.1, out.1]).collect();
        let mut k = KernelBuilder::new(&space);
        let axes = k.outer_axes();
        let (taps, phases, [channel, of]) =
            (&axes[..n_windows], &axes[n_windows..], [axes[2 * n_windows], axes[2 * n_windows + 1]]);
        let tap = |i: usize| taps[i] * windows[i].step as i64 + phases[i];
        let beyond = weight.outside.unwrap_or(Literal::f32(0.0));
        let value = k.load_or(&self.operand(weight.buffer), self.weight_at(&tap, channel, of), beyond);
        let number = windows
            .iter()
            .zip(phases)
            .fold(Affine::constant(0), |number, (window, &phase)| number * window.step as i64 + phase);
        let at = taps.iter().map(|&axis| Affine::from(axis));
        k.store(into, at.chain([number * channels.1 as i64 + channel, of.into()]), value);
        k.finish()
    }

    fn taps(&self) -> Kernel {
        let Convolution { weight, out, .. } = self.convolution;
        let source = self.operand(weight.buffer);
        let mut k = KernelBuilder::new(&[self.convolution.depth(), out.1]);
        let (rows, columns) = self.rows_and_columns();
        let axes = k.outer_axes();
        let element = |k: &mut KernelBuilder, row: usize, column: usize| {
            let places = self.places(row, column);
            if let Some(Phases { taps, .. }) = &self.at_points.phases {
                let at = places.iter().map(|&place| Index::from(place as i64));
                return k.load(taps, at.chain([axes[0].into(), axes[1].into()]));
            }
            let tap = |i: usize| Affine::constant(places[i] as i64);
            k.load_or(&source, self.weight_at(&tap, axes[0], axes[1]), weight.outside)
        };
        let divisors = |toom: Option<Toom>| toom.map_or(vec![1.0], Toom::divisors);
        let (by_row, by_column) = (divisors(rows), divisors(Some(columns)));
        let lengths = (rows.map_or(1, |toom| toom.taps), columns.taps);
        separable(&mut k, rows, columns, lengths, element, Toom::taps, &mut |k, row, column, value| {
            let divisor = by_row[row] * by_column[column];
            let value = if divisor == 1.0 {
                value
            } else {
                let divisor = k.number(divisor);
                k.div(value, divisor)
            };
            let point = (row * columns.points() + column) as i64;
            k.store(&self.at_points.taps, [Index::from(point), axes[0].into(), axes[1].into()], value);
        });
        k.finish()
    }

    /// Puts the phases of the image side by side: at each place a store for each of them.
    fn phases(&self, phases: &Operand) -> Kernel {
        let Convolution { image, channels, windows, batch, .. } = self.convolution;
        let source = self.operand(image.buffer);
        let n_places = phases.dims.len() - 1;
        let space = [&phases.dims[..n_places], &[channels.1]].concat();
        let mut k = KernelBuilder::new(&space);
        let axes = k.outer_axes();
        let channel = axes[n_places];
        let n_phases: usize = windows.iter().map(|window| window.step).product();
        for number in 0..n_phases {
            let place = |i: usize| Affine::from(axes[batch.len() + i]);
            let tap = |i: usize| {
                let behind: usize = windows[i + 1..].iter().map(|window| window.step).product();
                Affine::constant((number / behind % windows[i].step) as i64)
            };
            let beyond = image.outside.unwrap_or(Literal::f32(0.0));
            let value = k.load_or(&source, self.image_at(&place, &tap, &axes, channel), beyond);
            let place = axes[..n_places].iter().map(|&axis| Affine::from(axis));
            k.store(phases, place.chain([channel + (number * channels.1) as i64]), value);
        }
        k.finish()
    }

    fn inputs(&self) -> Kernel {
        let Convolution { image, windows, batch, .. } = self.convolution;
        let source = self.operand(image.buffer);
        let (tiles, depth) = (self.tiles.iter().copied(), self.convolution.depth());
        let space: Vec<usize> =
            [self.segment.positions].into_iter().chain(self.batch_extents()).chain(tiles).chain([depth]).collect();
        let mut k = KernelBuilder::new(&space);
        let (rows, columns) = self.rows_and_columns();
        let axes = k.outer_axes();
        let channel = axes[space.len() - 1];
        let beyond = image.outside.unwrap_or(Literal::f32(0.0));
        let element = |k: &mut KernelBuilder, row: usize, column: usize| {
            let places = self.places(row, column);
            let place = |i: usize| self.tile_along(i, &axes, 0) * self.tooms[i].outputs as i64 + places[i] as i64;
            if let Some(phases) = &self.at_points.phases {
                let of_batch = axes[1..][..batch.len()].iter().map(|&axis| Affine::from(axis));
                let at = of_batch.chain((0..windows.len()).map(place)).chain([channel.into()]);
                return k.load(&phases.image, at);
            }
            let first_tap = |_| Affine::constant(0);
            k.load_or(&source, self.image_at(&place, &first_tap, &axes[1..], channel), beyond)
        };
        let lengths = (rows.map_or(1, Toom::points), columns.points());
        let tile = self.tile(&axes, &[]);
        separable(&mut k, rows, columns, lengths, element, Toom::inputs, &mut |k, row, column, value| {
            let point = (row * columns.points() + column) as i64;
            let at = [axes[0].into(), Index::from(point), tile.clone().into(), channel.into()];
            k.store(&self.at_points.inputs, at, value);
        });
        k.finish()
    }

    fn products(&self) -> Kernel {
        let AtPoints { taps, inputs, products, .. } = &self.at_points;
        let mut k = KernelBuilder::new(&products.dims);
        let (position, point, tile, out) = (k.outer(0), k.outer(1), k.outer(2), k.outer(3));
        let channel = k.inner(0);
        let (input, tap) = (k.load(inputs, [position, point, tile, channel]), k.load(taps, [point, channel, out]));
        let product = k.mul(input, tap);
        let sum = k.fold(FoldKind::Sum, &[self.convolution.depth()], product);
        k.store(products, [position, point, tile, out], sum);
        k.finish()
    }

    /// A kernel for the whole tiles, and one each for what is left over at the ends of the windows.
    fn outputs(&self) -> Vec<Kernel> {
        let regions: Vec<Vec<Region>> = self
            .convolution
            .windows
            .iter()
            .zip(self.tooms)
            .zip(&self.tiles)
            .enumerate()
            .map(|(i, ((window, toom), &n_tiles))| {
                // At each position but in the last segment all tiles are whole.
                let first = if i == 0 { self.segment.first } else { 0 };
                let whole = (window.place.1 / toom.outputs - first).min(n_tiles);
                let rest = if whole < n_tiles { window.place.1 % toom.outputs } else { 0 };
                let whole_tiles = Region { first_tile: 0, n_tiles: whole, outputs: toom.outputs };
                let rest = Region { first_tile: whole, n_tiles: 1, outputs: rest };
                [whole_tiles, rest].into_iter().filter(|region| region.n_tiles * region.outputs > 0).collect()
            })
            .collect();
        match regions.as_slice() {
            [columns] => columns.iter().map(|&columns| self.outputs_of(&[columns])).collect(),
            [rows, columns] => {
                let pairs = rows.iter().flat_map(|&row| columns.iter().map(move |&column| [row, column]));
                pairs.map(|pair| self.outputs_of(&pair)).collect()
            }
            _ => unreachable!("recognised: one or two windows"),
        }
    }

    fn outputs_of(&self, regions: &[Region]) -> Kernel {
        let Convolution { kernel, out, windows, batch, .. } = self.convolution;
        let n_tiles = regions.iter().map(|region| region.n_tiles);
        let space: Vec<usize> =
            [self.segment.positions].into_iter().chain(self.batch_extents()).chain(n_tiles).chain([out.1]).collect();
        let mut k = KernelBuilder::new(&space);
        let (rows, columns) = self.rows_and_columns();
        let axes = k.outer_axes();
        let channel = axes[space.len() - 1];
        let tile = self.tile(&axes, regions);
        let element = |k: &mut KernelBuilder, row: usize, column: usize| {
            let point = (row * columns.points() + column) as i64;
            let at = [axes[0].into(), Index::from(point), tile.clone().into(), channel.into()];
            k.load(&self.at_points.products, at)
        };
        let roots = kernel.stores.iter().map(|store| store.value);
        let epilogue = kernel.body.reachable(roots);
        let lengths = (rows.map_or(1, Toom::points), columns.points());
        separable(&mut k, rows, columns, lengths, element, Toom::outputs, &mut |k, row, column, value| {
            let places = self.places(row, column);
            if places.iter().zip(regions).any(|(place, region)| *place >= region.outputs) {
                return;
            }
            let form = |axis: Axis| -> Affine {
                if let Some(i) = windows.iter().position(|window| window.place.0 == axis) {
                    let tile = self.tile_along(i, &axes, regions[i].first_tile);
                    return tile * self.tooms[i].outputs as i64 + places[i] as i64;
                }
                match batch.iter().position(|(other, _)| *other == axis) {
                    Some(i) => axes[1 + i].into(),
                    None if axis == out.0 => channel.into(),
                    None => Affine::constant(0),
                }
            };
            let place = |affine: &Affine| affine.substitute(form);
            let mut renamed: FxHashMap<ScalarId, ScalarId> = FxHashMap::default();
            for &id in &epilogue {
                let new = match kernel.body.get(id) {
                    Scalar::Folded { .. } => value,
                    scalar => k.scalar(scalar.map(|id| renamed[&id], place), kernel.body.dtype(id)),
                };
                renamed.insert(id, new);
            }
            for store in &kernel.stores {
                let at = store.at.iter().map(|index| index.map(place, |id| renamed[&id]));
                k.store(&self.operand(store.buffer), at, renamed[&store.value]);
            }
        });
        compacted(&k.finish())
    }

    /// The number of a tile among all at its position, by the axes of the batch and of the tiles; with `regions`, tiles are
    /// counted from the first of each.
    fn tile(&self, axes: &[Axis], regions: &[Region]) -> Affine {
        let n_batch = self.convolution.batch.len();
        let extents = self.batch_extents().chain(self.tiles.iter().copied());
        extents.enumerate().fold(Affine::constant(0), |number, (i, extent)| {
            let first = i.checked_sub(n_batch).and_then(|window| regions.get(window)).map_or(0, |r| r.first_tile);
            number * extent as i64 + axes[1 + i] + first as i64
        })
    }

    /// The number of a tile along a window, in the whole image.
    fn tile_along(&self, window: usize, axes: &[Axis], first: usize) -> Affine {
        let own = axes[1 + self.convolution.batch.len() + window] + first as i64;
        match window {
            0 => own + axes[0] * self.segment.rows as i64 + Affine::constant(self.segment.first as i64),
            _ => own,
        }
    }

    fn batch_extents(&self) -> impl Iterator<Item = usize> {
        self.convolution.batch.iter().map(|(_, extent)| *extent)
    }

    fn operand(&self, buffer: BufferId) -> Operand {
        let info = self.program.buffer(buffer);
        Operand { buffer, dtype: info.dtype, dims: info.dims.clone() }
    }
}

fn substituted(at: &[Index], form: impl Fn(Axis) -> Affine + Copy) -> Vec<Index> {
    at.iter().map(|index| index.map(|affine| affine.substitute(form), |id| id)).collect()
}

/// Transforms columns, then rows. Elements are asked for column by column and given row by row, so that a machine that
/// computes scalars in order keeps few of them at a time.
fn separable(
    k: &mut KernelBuilder,
    rows: Option<Toom>,
    columns: Toom,
    (n_rows, n_columns): (usize, usize),
    mut element: impl FnMut(&mut KernelBuilder, usize, usize) -> ScalarId,
    transform: fn(Toom, &mut KernelBuilder, &[ScalarId]) -> Vec<ScalarId>,
    give: &mut dyn FnMut(&mut KernelBuilder, usize, usize, ScalarId),
) {
    let mut halves: Vec<Vec<ScalarId>> = Vec::new();
    for column in 0..n_columns {
        let elements: Vec<ScalarId> = (0..n_rows).map(|row| element(k, row, column)).collect();
        halves.push(rows.map_or(elements.clone(), |toom| transform(toom, k, &elements)));
    }
    for row in 0..halves[0].len() {
        let elements: Vec<ScalarId> = halves.iter().map(|half| half[row]).collect();
        for (column, value) in transform(columns, k, &elements).into_iter().enumerate() {
            give(k, row, column, value);
        }
    }
}
