//! The negative log-likelihood.

use super::conv::is_default;
use super::loss::{LossReduction, class_axis, expect_classes, labelled, score};
use super::*;
use crate::graph::ValueId;
use crate::kernel::formula::{Formula, IntoTerm};
use crate::kernel::{Axis, FoldKind, Index, KernelBuilder, ScalarId};

/// Log-probabilities `[batch, classes, places...]` or `[classes]`, labels `[batch, places...]` or `[]`, and, where a
/// third input is given, a weight for each class. The loss at a place is minus the log-probability of its label, times
/// the label's weight; the mean divides by the sum of those weights.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NllLoss {
    /// Places with this label count for nothing.
    #[serde(default = "nothing", skip_serializing_if = "is_nothing")]
    pub ignore_index: i64,
    /// How the losses of single places become the output.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reduction: LossReduction,
}

pub(super) fn nothing() -> i64 {
    -100
}

pub(super) fn is_nothing(label: &i64) -> bool {
    *label == nothing()
}

/// The layers of this file.
pub const LAYERS: &[LayerKind] = &[LayerKind {
    name: "NLLLoss",
    about: "minus the log-probability of the right class",
    read: |fields| crate::text::read(fields).map(Op::NllLoss),
}];

/// A label as a kernel computes with it.
pub(super) struct Label {
    /// The class, 0 where the place counts for nothing: always an index that is checked.
    pub class: Index,
    /// The weight of the place: that of its class, or 0 where it counts for nothing.
    pub weight: ScalarId,
    /// Whether the place counts.
    pub counts: ScalarId,
}

impl Label {
    /// The label that is read at `axes`.
    pub(super) fn load(
        k: &mut KernelBuilder,
        labels: &Operand,
        weights: Option<&Operand>,
        axes: &[Axis],
        ignore_index: i64,
    ) -> Label {
        let label = k.load(labels, axes.iter().copied());
        let label = k.cast(DType::I64, label);
        let ignored = k.literal(crate::kernel::Literal::I64(ignore_index));
        let counts = k.compare(crate::kernel::CompareOp::Ne, label, ignored);
        let class = {
            let formula = Formula::new(k);
            formula.term(counts).choose(formula.term(label), 0.0).id()
        };
        let class = Index::Computed(class);
        let weight = match weights {
            Some(weights) => k.load(weights, [class.clone()]),
            None => k.number(1.0),
        };
        let formula = Formula::new(k);
        let weight = formula.term(counts).choose(formula.term(weight), 0.0).id();
        Label { class, weight, counts }
    }
}

/// The mean or sum of losses: a fold over all `places` of (loss, weight), then one store.
pub(super) fn reduce(
    mut k: KernelBuilder,
    reduction: LossReduction,
    places: &[usize],
    loss: ScalarId,
    weight: ScalarId,
    out: &Operand,
) -> Kernel {
    let mut value = k.fold(FoldKind::Sum, places, loss);
    if reduction == LossReduction::Mean {
        let weights = k.fold(FoldKind::Sum, places, weight);
        value = k.div(value, weights);
    }
    k.store(out, [] as [Index; 0], value);
    k.finish()
}

/// Losses and weights of single places as the output; references only.
pub(super) fn reduced(reduction: LossReduction, losses: Vec<(f64, f64)>, dims: Vec<usize>) -> Array {
    let sum: f64 = losses.iter().map(|(loss, _)| loss).sum();
    let weights: f64 = losses.iter().map(|(_, weight)| weight).sum();
    let data = match reduction {
        LossReduction::None | LossReduction::BatchMean => losses.into_iter().map(|(loss, _)| loss).collect(),
        LossReduction::Sum => vec![sum],
        LossReduction::Mean => vec![sum / weights],
    };
    Array { dims, data }
}

impl OpSpec for NllLoss {
    fn name(&self) -> &'static str {
        "NLLLoss"
    }

    fn fields(&self) -> String {
        crate::text::fields(self)
    }

    fn arity(&self) -> Arity {
        Arity { min: 2, max: 3 }
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Types, Mismatch> {
        self.reduction.expect_plain()?;
        Ok(self.reduction.output(expect_classes(inputs)?))
    }

    fn lower(&self, site: &mut Site) -> Vec<Kernel> {
        let (scores, labels, out) = (&site.inputs[0], &site.inputs[1], &site.outputs[0]);
        let each = self.reduction == LossReduction::None;
        let mut k = KernelBuilder::new(if each { &labels.dims } else { &[] });
        let places: Vec<Axis> = (0..labels.dims.len()).map(|i| if each { k.outer(i) } else { k.inner(i) }).collect();
        let label = Label::load(&mut k, labels, site.inputs.get(2), &places, self.ignore_index);
        let mut at: Vec<Index> = places.iter().map(|&axis| axis.into()).collect();
        at.insert(class_axis(scores.dims.len()), label.class);
        let score = k.load(scores, at);
        let loss = {
            let formula = Formula::new(&mut k);
            let loss = -formula.term(score) * formula.term(label.weight);
            // Not the product alone: the weight 0 would not hide a score that is infinite.
            formula.term(label.counts).choose(loss, 0.0.beside(loss)).id()
        };
        if each {
            k.store(out, places, loss);
            return vec![k.finish()];
        }
        vec![reduce(k, self.reduction, &labels.dims, loss, label.weight, out)]
    }

    fn gradient(&self, back: &mut Backward) -> Gradients {
        if back.wants(2) {
            return back.refuse("the weights of classes have no gradient");
        }
        let upstream = back.upstream();
        let dims = back.dims(back.input(0));
        let axis = class_axis(dims.len());
        let op = ClassTargets { classes: dims[axis], ignore_index: self.ignore_index, smoothing: Real(0.0) };
        let operands = back.inputs()[1..].to_vec();
        let targets = back.node(op, &operands);
        let share = match self.reduction {
            LossReduction::None => {
                let mut places = dims;
                places[axis] = 1;
                back.reshaped(upstream, &places)
            }
            LossReduction::Mean => {
                let each = ValueId { port: 1, ..targets };
                let all: Vec<usize> = (0..back.ty(each).rank()).collect();
                let sum = back.summed(each, &all);
                let divisor = back.reshaped(sum, &[]);
                back.map("Div", &[upstream, divisor])
            }
            LossReduction::Sum | LossReduction::BatchMean => upstream,
        };
        let loss = back.mul(targets, share);
        let mut gradients = back.nothing();
        gradients[0] = Some(back.map("Neg", &[loss]));
        gradients
    }

    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let dims = outputs[0].dims().expect("verified: bound");
        let loss = |(label, scores): (f64, Vec<f64>)| {
            if label == self.ignore_index as f64 {
                return (0.0, 0.0);
            }
            let weight = inputs.get(2).map_or(1.0, |weights| score(&weights.data, label));
            (-weight * score(&scores, label), weight)
        };
        let losses = labelled(inputs[0], inputs[1]).into_iter().map(loss).collect();
        vec![reduced(self.reduction, losses, dims)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_is_a_scalar_or_one_loss_a_place() {
        let (scores, labels) = (TensorType::f32([2usize, 5]), TensorType::new(DType::I32, [2usize]));
        let infer = |reduction| NllLoss { ignore_index: -100, reduction }.infer(&[&scores, &labels]);
        assert_eq!(infer(LossReduction::Mean).unwrap()[0], TensorType::f32([0usize; 0]));
        assert_eq!(infer(LossReduction::None).unwrap()[0], TensorType::f32([2usize]));
        assert_eq!(infer(LossReduction::BatchMean).unwrap_err().field, Some("reduction"));
    }
}
