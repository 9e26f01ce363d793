//! Padding of the last axes.

use super::common::combinations;
use super::conv::is_default;
use super::*;
use crate::Dim;
use crate::kernel::{Index, KernelBuilder, Literal};

/// Adds elements before and after each of the last axes; negative numbers cut elements off. Output axes are `before +
/// length + after` long.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pad {
    /// (before, after) for each of the last axes, in the order of the axes: `[(1, 1), (2, 0)]` is height, then width.
    pub padding: SmallVec<[(i32, i32); 3]>,
    /// What the elements are.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mode: PadMode,
    /// The constant of the mode `"constant"`.
    #[serde(default = "zero", skip_serializing_if = "is_zero")]
    pub value: Real,
}

/// What padding consists of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PadMode {
    /// A constant.
    #[default]
    Constant,
    /// The elements inside, mirrored at the edge; the edge itself is not repeated.
    Reflect,
    /// The edge.
    Replicate,
    /// The elements at the other end.
    Circular,
}

impl PadMode {
    /// The place in an axis of `length` that place `i` stands for; none where the constant does.
    fn source(self, i: i64, length: i64) -> Option<i64> {
        match self {
            _ if (0..length).contains(&i) => Some(i),
            PadMode::Constant => None,
            PadMode::Reflect if i < 0 => Some(-i),
            PadMode::Reflect => Some(2 * (length - 1) - i),
            PadMode::Replicate => Some(i.clamp(0, length - 1)),
            PadMode::Circular => Some(i.rem_euclid(length)),
        }
    }

    /// The most elements of padding at either end of an axis of `length`.
    fn most(self, length: &Dim) -> Dim {
        match self {
            PadMode::Reflect => length.clone() - 1,
            PadMode::Circular => length.clone(),
            PadMode::Replicate if length.surely_below(1) => 0.into(),
            PadMode::Constant | PadMode::Replicate => i64::MAX.into(),
        }
    }
}

/// Places of the output along one axis that are copies of places in equal steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    to: usize,
    count: usize,
    from: i64,
    step: i64,
}

impl Run {
    /// All of an axis whose places are copies of those in `sources`.
    fn all(sources: &[i64]) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        for (to, &from) in sources.iter().enumerate() {
            match runs.last_mut() {
                Some(run) if run.count == 1 && (from - run.from).abs() <= 1 => {
                    (run.count, run.step) = (2, from - run.from);
                }
                Some(run) if run.count > 1 && from == run.from + run.count as i64 * run.step => run.count += 1,
                _ => runs.push(Run { to, count: 1, from, step: 0 }),
            }
        }
        runs
    }
}

/// More kernels than this are not made of a layer.
const MOST_COPIES: usize = 27;

/// One kernel for each choice of a run along each axis.
fn copy_runs(input: &Operand, out: &Operand, runs: &[Vec<Run>]) -> Vec<Kernel> {
    let kernel = |choice: Vec<Run>| {
        let mut k = KernelBuilder::new(&choice.iter().map(|run| run.count).collect::<Vec<usize>>());
        let axes = k.outer_axes();
        let along = || choice.iter().zip(&axes);
        let from: Vec<Index> = along().map(|(run, &axis)| (axis * run.step + run.from).into()).collect();
        let to: Vec<Index> = along().map(|(run, &axis)| (axis + run.to as i64).into()).collect();
        let value = k.load(input, from);
        k.store(out, to, value);
        k.finish()
    };
    combinations(runs).into_iter().map(kernel).collect()
}

impl Pad {
    /// The runs along each axis, where there is no constant, and there are few of them.
    fn runs(&self, from: &[usize], to: &[usize]) -> Option<Vec<Vec<Run>>> {
        let plain = from.len() - self.padding.len();
        let whole = |&length: &usize| vec![Run { to: 0, count: length, from: 0, step: 1 }];
        let padded = self.padding.iter().enumerate().map(|(i, &(before, _))| {
            let length = from[plain + i] as i64;
            let places = (0..to[plain + i] as i64).map(|place| place - i64::from(before));
            Run::all(&places.map(|place| self.mode.source(place, length).unwrap_or(-1)).collect::<Vec<i64>>())
        });
        let runs: Vec<Vec<Run>> = from[..plain].iter().map(whole).chain(padded).collect();
        let n: usize = runs.iter().map(Vec::len).product();
        (self.mode != PadMode::Constant && (2..=MOST_COPIES).contains(&n)).then_some(runs)
    }
}

fn zero() -> Real {
    Real(0.0)
}

fn is_zero(value: &Real) -> bool {
    *value == zero()
}

/// The layers of this file.
pub const LAYERS: &[LayerKind] = &[LayerKind {
    name: "Pad",
    about: "adds elements around the last axes",
    read: |fields| crate::text::read(fields).map(Op::Pad),
}];

impl OpSpec for Pad {
    fn name(&self) -> &'static str {
        "Pad"
    }

    fn fields(&self) -> String {
        crate::text::fields(self)
    }

    fn arity(&self) -> Arity {
        Arity::exactly(1)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Types, Mismatch> {
        let mut ty = inputs[0].clone();
        let Some(plain) = ty.rank().checked_sub(self.padding.len()) else {
            let expected = format!("at most {} (before, after) pairs, one for each axis", ty.rank());
            let help = "write one pair for each of the last axes";
            return Err(Mismatch::new(expected, format!("{}", self.padding.len()), help).in_field("padding"));
        };
        if self.mode != PadMode::Constant && self.value != zero() {
            let help = "leave `value` out, or set mode: \"constant\"";
            return Err(Mismatch::new("no value in this mode", self.value.0.to_string(), help).in_field("value"));
        }
        for (i, &(before, after)) in self.padding.iter().enumerate() {
            let length = &ty.shape[plain + i];
            let most = self.mode.most(length);
            let longest = before.max(after);
            if most.surely_below(longest.into()) && longest > 0 {
                return Err(Mismatch::new(
                    format!("padding of at most {} along axis {} (its length is {length})", most, plain + i),
                    format!("{longest}"),
                    "use less padding, or another mode",
                )
                .in_field("padding"));
            }
            let padded = length.clone() + before + after;
            if padded.surely_below(1) && !length.surely_below(1) {
                return Err(Mismatch::new(
                    format!("cuts that leave something of axis {} (its length is {length})", plain + i),
                    format!("({before}, {after})"),
                    "cut less",
                )
                .in_field("padding"));
            }
            ty.shape[plain + i] = padded;
        }
        Ok([ty].into_iter().collect())
    }

    fn lower(&self, site: &mut Site) -> Vec<Kernel> {
        let (input, out) = (&site.inputs[0], &site.outputs[0]);
        if let Some(runs) = self.runs(&input.dims, &out.dims) {
            return copy_runs(input, out, &runs);
        }
        let plain = input.dims.len() - self.padding.len();
        let mut k = KernelBuilder::new(&out.dims);
        let axes = k.outer_axes();
        let mut at: Vec<Index> = axes[..plain].iter().map(|&axis| axis.into()).collect();
        for (i, &(before, after)) in self.padding.iter().enumerate() {
            let (axis, length) = (axes[plain + i], input.dims[plain + i] as i64);
            let before = i64::from(before);
            at.push(match self.mode {
                PadMode::Constant => (axis + -before).into(),
                _ if before <= 0 && after <= 0 => (axis + -before).into(),
                mode => {
                    let places = (0..out.dims[plain + i] as i64).map(|place| place - before);
                    let table = places.map(|place| mode.source(place, length).unwrap_or(-1)).collect();
                    Index::Table { table, at: axis.into() }
                }
            });
        }
        let value = match self.mode {
            PadMode::Constant => k.load_or(input, at, Literal::of(input.dtype, self.value.0)),
            _ => k.load(input, at),
        };
        k.store(out, axes, value);
        vec![k.finish()]
    }

    fn gradient(&self, back: &mut Backward) -> Gradients {
        let (dims, mut upstream) = (back.dims(back.input(0)), back.upstream());
        if self.mode == PadMode::Constant {
            let padding = self.padding.iter().map(|(before, after)| (-before, -after)).collect();
            let gradient = back.node(Pad { padding, mode: PadMode::Constant, value: zero() }, &[upstream]);
            return back.only(gradient);
        }
        let plain = dims.len() - self.padding.len();
        for (i, &(before, after)) in self.padding.iter().enumerate() {
            let length = dims[plain + i] as i64;
            let places = (0..length + i64::from(before) + i64::from(after)).map(|place| place - i64::from(before));
            let source = |place| self.mode.source(place, length).map(|place| (place as usize, 1.0));
            let rows: Vec<Terms> = places.map(|place| source(place).into_iter().collect()).collect();
            if (before, after) != (0, 0) {
                upstream = Resample::transposed(back, upstream, plain + i, &rows, length as usize);
            }
        }
        back.only(upstream)
    }

    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let input = inputs[0];
        let dims = outputs[0].dims().expect("verified: bound");
        let plain = dims.len() - self.padding.len();
        let output = Array::from_fn(&dims, |at| {
            let mut place = at.to_vec();
            for (i, &(before, _)) in self.padding.iter().enumerate() {
                let last = input.dims[plain + i] as i64 - 1;
                let mut from = at[plain + i] as i64 - i64::from(before);
                match self.mode {
                    PadMode::Constant if from < 0 || from > last => return self.value.0,
                    PadMode::Constant => {}
                    PadMode::Reflect => from = last - (last - from.abs()).abs(),
                    PadMode::Replicate => from = from.max(0).min(last),
                    PadMode::Circular => from = (from + last + 1) % (last + 1),
                }
                place[plain + i] = from as usize;
            }
            input.at(&place)
        });
        vec![output]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pad(padding: &[(i32, i32)], mode: PadMode) -> Pad {
        Pad { padding: padding.iter().copied().collect(), mode, value: zero() }
    }

    fn infer(pad: &Pad, input: TensorType) -> Result<String, Mismatch> {
        Ok(pad.infer(&[&input])?[0].to_string())
    }

    #[test]
    fn shapes() {
        let image = TensorType::f32([Dim::symbol("N"), 3.into(), Dim::symbol("H"), 5.into()]);
        let around = [(1, 2), (3, 4)];
        for mode in [PadMode::Constant, PadMode::Reflect, PadMode::Replicate, PadMode::Circular] {
            assert_eq!(infer(&pad(&around, mode), image.clone()).unwrap(), "f32[N, 3, H + 3, 12]");
        }
        assert_eq!(infer(&pad(&[(0, -1)], PadMode::Constant), image).unwrap(), "f32[N, 3, H, 4]");
    }

    #[test]
    fn sources_are_runs() {
        let runs = |sources: &[i64]| -> Vec<(i64, i64, usize)> {
            Run::all(sources).iter().map(|run| (run.from, run.step, run.count)).collect()
        };
        assert_eq!(runs(&[2, 1, 0, 1, 2, 3, 2, 1]), [(2, -1, 3), (1, 1, 3), (2, -1, 2)]);
        assert_eq!(runs(&[0, 0, 0, 1, 2, 3, 3]), [(0, 0, 3), (1, 1, 3), (3, 0, 1)]);
        assert_eq!(runs(&[3, 0, 1, 2, 3, 0]), [(3, 0, 1), (0, 1, 4), (0, 0, 1)]);
        assert!(runs(&[]).is_empty());
    }

    #[test]
    fn refusals() {
        let wrong = |padding, mode| infer(&pad(padding, mode), TensorType::f32([3, 4])).unwrap_err();
        let error = wrong(&[(4, 0)], PadMode::Reflect);
        assert_eq!(error.expected, "padding of at most 3 along axis 1 (its length is 4)");
        assert_eq!((error.found.as_str(), error.field), ("4", Some("padding")));
        assert!(infer(&pad(&[(3, 0)], PadMode::Reflect), TensorType::f32([3, 4])).is_ok());
        assert_eq!(wrong(&[(5, 0)], PadMode::Circular).field, Some("padding"));
        assert_eq!(wrong(&[(-2, -2)], PadMode::Constant).found, "(-2, -2)");
        assert_eq!(wrong(&[(i32::MIN, i32::MIN)], PadMode::Replicate).field, Some("padding"));
        assert_eq!(
            wrong(&[(1, 1); 3], PadMode::Constant).expected,
            "at most 2 (before, after) pairs, one for each axis"
        );
        let valued = Pad { value: Real(1.0), ..pad(&[(1, 1)], PadMode::Reflect) };
        assert_eq!(infer(&valued, TensorType::f32([3, 4])).unwrap_err().field, Some("value"));
    }

    #[test]
    fn extremes_do_not_overflow() {
        let huge = pad(&[(i32::MAX, i32::MAX)], PadMode::Replicate);
        for length in [Dim::Known(1), Dim::Known(i64::MAX), Dim::symbol("H")] {
            assert!(infer(&huge, TensorType::f32([length])).is_ok());
        }
    }
}
