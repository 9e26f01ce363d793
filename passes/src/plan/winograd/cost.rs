//! What a convolution costs, in cycles of one core, as it stands and by each transform.

use super::kernels::{Tooms, image, tiles};
use super::recognise::Convolution;
use super::toom::Toom;
use crate::plan::Machine;
use crate::plan::layout::{FEW_CHANNELS, is_row_better};
use crate::plan::padding::is_worth_leaving_out;

/// One way to compute a convolution.
#[derive(Clone, Debug)]
pub struct Way {
    /// The transforms; none for the sum as it stands.
    pub tooms: Option<Tooms>,
    /// Estimated cycles.
    pub cycles: f64,
    /// Bytes of weights as they are kept.
    pub constant_bytes: u64,
}

/// Of the peak that whole register tiles reach.
const OF_PEAK: f64 = 0.95;
/// Cycles of a call of a leaf that multiplies, beside its multiplications.
const CALL: f64 = 40.0;
/// Tiles of products in registers: rows, and lanes in vectors.
const TILE_ROWS: f64 = 7.0;
const TILE_VECTORS: f64 = 4.0;
/// Cycles of a load, a store or an operation of a transform: half a cycle each, and as much again for registers that are
/// spilled and lines that are not in the nearest cache.
const STEP: f64 = 1.0;
/// Cycles of an element of an image whose phases are put side by side.
const PHASED: f64 = 2.0;
/// What a byte of weights is worth in cycles of a run: memory, and the time to fill it once.
const KEPT: f64 = 1.0 / 64.0;
/// A transform is taken only where it saves at least this part.
const MARGIN: f64 = 0.93;

/// The ways to compute a convolution: as it stands first, then the transforms that are estimated to be faster, or the one that
/// was `measured` to be. `other_bytes` are those of all other weights of the network. Weights that are not fixed are
/// transformed in each run.
pub fn ways(
    convolution: &Convolution,
    machine: &Machine,
    other_bytes: u64,
    is_fixed: bool,
    measured: Option<&[usize]>,
) -> Vec<Way> {
    let direct = direct(convolution, machine, other_bytes);
    let limit = direct.cycles * MARGIN;
    let mut ways = vec![direct];
    for tooms in choices(convolution) {
        let of_taps = if is_fixed { 0.0 } else { taps(convolution, machine, &tooms) };
        let is_measured = measured.map(|points| tooms.iter().map(|toom| toom.points()).eq(points.iter().copied()));
        let mut way = transformed(convolution, machine, other_bytes, tooms);
        way.cycles += of_taps;
        if is_measured == Some(true) {
            // Whatever was estimated.
            way.cycles = way.cycles.min(limit);
        }
        if is_measured.unwrap_or(way.cycles < limit) {
            ways.push(way);
        }
    }
    ways
}

/// Every choice of transforms, one for each window.
pub fn choices(convolution: &Convolution) -> Vec<Tooms> {
    let mut choices = vec![Tooms::new()];
    for window in &convolution.windows {
        let toom = [4, 6].into_iter().filter_map(|points| Toom::with_points(points, window.taps()));
        let toom: Vec<Toom> = toom.filter(|toom| toom.outputs >= 2).collect();
        choices = choices
            .into_iter()
            .flat_map(|choice| {
                toom.iter().map(move |&toom| {
                    let mut longer = choice.clone();
                    longer.push(toom);
                    longer
                })
            })
            .collect();
    }
    choices
}

/// Multiply-adds a cycle.
fn rate(machine: &Machine) -> f64 {
    match machine.vector_lanes {
        // 128-bit code by Cranelift: every multiply-add needs a move.
        lanes @ ..=4 => 1.3 * f64::from(lanes),
        _ => 16.0,
    }
}

/// Bytes a cycle that weights come with, where a network has so many in all.
fn bandwidth(machine: &Machine, bytes: u64, all_bytes: u64) -> f64 {
    match () {
        () if bytes <= machine.l2_bytes / 2 && all_bytes <= machine.l3_bytes => 32.0,
        () if all_bytes <= machine.l3_bytes => 24.0,
        () => 7.5,
    }
}

/// Cycles of arithmetic and of the traffic beside it. What comes from a cache is there in time, almost; lines from
/// memory are waited for at every page, unless many rows use them.
fn overlapped(arithmetic: f64, traffic: f64, rows: usize, is_cached: bool) -> f64 {
    let apart = if is_cached || rows > 2 * TILE_ROWS as usize { 0.25 } else { 0.8 };
    arithmetic.max(traffic) + apart * arithmetic.min(traffic)
}

fn vectors(n: usize, machine: &Machine) -> f64 {
    n.div_ceil(machine.vector_lanes as usize) as f64
}

fn direct(convolution: &Convolution, machine: &Machine, other_bytes: u64) -> Way {
    let places: usize = convolution.windows.iter().map(|window| window.place.1).product();
    let taps: usize = convolution.windows.iter().map(|window| window.tap.1).product();
    let batch: usize = convolution.batch.iter().map(|(_, extent)| extent).product();
    let lanes = vectors(convolution.out.1, machine) * f64::from(machine.vector_lanes);
    let few = convolution.channels.1 < FEW_CHANNELS;
    let row = convolution.windows.last().filter(|window| window.step == 1).map(|window| window.place.1);
    let row = row.filter(|&row| is_row_better(few, convolution.out.1, row, machine));
    let lanes = match row {
        Some(row) => convolution.out.1 as f64 * vectors(row, machine) * f64::from(machine.vector_lanes) / row as f64,
        None => lanes,
    };
    let n_told = convolution.windows.len() - usize::from(row.is_some());
    let inside: f64 = convolution.windows[..n_told].iter().map(|window| window.inside).product();
    let lanes = if is_worth_leaving_out(inside) { inside * lanes } else { lanes };
    let products = (batch * places * taps * convolution.channels.1) as f64 * lanes;
    let weight_bytes = (4 * taps * convolution.channels.1 * convolution.out.1) as u64;
    let arithmetic = products / (rate(machine) * OF_PEAK);
    let traffic = weight_bytes as f64 / bandwidth(machine, weight_bytes, weight_bytes + other_bytes);
    let cached = weight_bytes + other_bytes <= machine.l3_bytes;
    let cycles = overlapped(arithmetic, traffic, batch * places, cached) + KEPT * weight_bytes as f64;
    Way { tooms: None, cycles, constant_bytes: weight_bytes }
}

fn transformed(convolution: &Convolution, machine: &Machine, other_bytes: u64, tooms: Tooms) -> Way {
    let points: usize = tooms.iter().map(|toom| toom.points()).product();
    let batch: usize = convolution.batch.iter().map(|(_, extent)| extent).product();
    let n_tiles = batch * tiles(convolution, &tooms).iter().product::<usize>();
    let (channels, out) = (convolution.depth(), convolution.out.1);
    let (input_vectors, output_vectors) = (vectors(channels, machine), vectors(out, machine));

    let lanes = output_vectors * f64::from(machine.vector_lanes);
    let products = (points * n_tiles * channels) as f64 * lanes;
    // Few rows in a tile of registers leave multipliers waiting for loads.
    let filled = (n_tiles as f64 / 4.0).min(1.0);
    let calls = points as f64 * (n_tiles as f64 / TILE_ROWS).ceil() * (output_vectors / TILE_VECTORS).ceil();
    let arithmetic = products / (rate(machine) * OF_PEAK * filled) + calls * CALL;
    let constant_bytes = (4 * points * channels * out) as u64;
    let traffic = constant_bytes as f64 / bandwidth(machine, constant_bytes, constant_bytes + other_bytes);

    let transforms = STEP
        * n_tiles as f64
        * (input_vectors * (2 * points) as f64
            + output_vectors * (points + tooms.iter().map(|toom| toom.outputs).product::<usize>()) as f64
            + (input_vectors + output_vectors) * operations(&tooms));
    let between = (4 * points * n_tiles * (channels + out)) as u64;
    let moved = match () {
        () if between <= machine.l2_bytes / 2 => 0.0,
        () if between <= machine.l3_bytes / 2 => 2.0 * between as f64 / 24.0,
        () => 2.0 * between as f64 / 7.5,
    };
    let cached = constant_bytes + other_bytes <= machine.l3_bytes;
    let phases = match convolution.windows.iter().any(|window| window.step > 1) {
        true => (batch * image(convolution, &tooms).iter().product::<usize>() * channels) as f64 * PHASED,
        false => 0.0,
    };
    let cycles =
        overlapped(arithmetic, traffic, n_tiles, cached) + KEPT * constant_bytes as f64 + transforms + moved + phases;
    Way { tooms: Some(tooms), cycles, constant_bytes }
}

/// Cycles of the transform of all taps.
fn taps(convolution: &Convolution, machine: &Machine, tooms: &Tooms) -> f64 {
    let points: usize = tooms.iter().map(|toom| toom.points()).product();
    let taps: usize = tooms.iter().map(|toom| toom.taps).product();
    let each = (points + taps) as f64 + operations(tooms);
    STEP * convolution.depth() as f64 * vectors(convolution.out.1, machine) * each
}

/// Arithmetic of the transform of one tile.
fn operations(tooms: &Tooms) -> f64 {
    let of = |toom: &Toom| if toom.points() == 4 { 4.0 } else { 12.0 };
    match tooms[..] {
        [rows, columns] => of(&rows) * columns.points() as f64 + of(&columns) * rows.points() as f64,
        _ => tooms.iter().map(of).sum(),
    }
}
