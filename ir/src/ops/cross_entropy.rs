//! Cross-entropy of class labels.

use super::common::groups;
use super::conv::is_default;
use super::loss::{LossReduction, class_axis, expect_targets, labelled, score};
use super::nll::{Label, is_nothing, nothing, reduce, reduced};
use super::softmax::log_sum_exp;
use super::*;
use crate::graph::ValueId;
use crate::kernel::formula::{Formula, IntoTerm};
use crate::kernel::{Axis, FoldKind, Index, KernelBuilder, ScalarId};

/// Scores (logits) `[batch, classes, places...]` or `[classes]`, labels `[batch, places...]` or `[]`, and, where a third
/// input is given, a weight for each class. With `q = log_softmax(scores)`, the label y, weights w, C classes and the
/// smoothing s, the loss at a place is `-(1 - s) w[y] q[y] - s / C * sum over c of w[c] q[c]`; the mean divides by the
/// sum of all `w[y]`.
///
/// Instead of labels there may be the probabilities p of all classes, floats of the scores' shape: then the loss at a
/// place is `-sum over c of ((1 - s) p[c] + s / C) w[c] q[c]`, and the mean divides by the number of places.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrossEntropyLoss {
    /// Places with this label count for nothing.
    #[serde(default = "nothing", skip_serializing_if = "is_nothing")]
    pub ignore_index: i64,
    /// How the losses of single places become the output.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reduction: LossReduction,
    /// The part of the target, in 0..=1, that is spread evenly over all classes.
    #[serde(default = "zero", skip_serializing_if = "is_zero")]
    pub label_smoothing: Real,
}

fn zero() -> Real {
    Real(0.0)
}

fn is_zero(real: &Real) -> bool {
    *real == zero()
}

/// The layers of this file.
pub const LAYERS: &[LayerKind] = &[LayerKind {
    name: "CrossEntropyLoss",
    about: "minus the logarithm of the right class's softmax",
    read: |fields| crate::text::read(fields).map(Op::CrossEntropyLoss),
}];

impl CrossEntropyLoss {
    /// The loss at each place: the greatest score, the sum of exponentials, where labels are smoothed the weighted sum
    /// of all classes' losses, then the score of the label.
    fn each(&self, scores: &Operand, labels: &Operand, weights: Option<&Operand>, out: &Operand) -> Kernel {
        let axis = class_axis(scores.dims.len());
        let mut dims = scores.dims.clone();
        dims.remove(axis);
        let mut k = KernelBuilder::new(&dims);
        let places = k.outer_axes();
        let classes = scores.dims[axis];
        let at = |class: Index| {
            let mut at: Vec<Index> = places.iter().map(|&axis| axis.into()).collect();
            at.insert(axis, class);
            at
        };
        let x = k.load(scores, at(k.inner(0).into()));
        let greatest = k.fold(FoldKind::Max, &[classes], x);
        let raised = k.sub(x, greatest);
        let raised = k.unary(crate::kernel::UnaryOp::Exp, raised);
        let sum = k.fold(FoldKind::Sum, &[classes], raised);
        // Minus log-softmax of a score.
        let loss_of = |k: &mut KernelBuilder, score: ScalarId| {
            let formula = Formula::new(k);
            (formula.term(sum).ln() - (formula.term(score) - formula.term(greatest))).id()
        };
        let smoothing = self.label_smoothing.0;
        if labels.dtype.is_float() {
            let target = k.load(labels, at(k.inner(0).into()));
            let mut one = loss_of(&mut k, x);
            if let Some(weights) = weights {
                let weight = k.load(weights, [k.inner(0)]);
                one = k.mul(one, weight);
            }
            let part = {
                let formula = Formula::new(&mut k);
                let target = formula.term(target);
                let target =
                    if smoothing == 0.0 { target } else { target * (1.0 - smoothing) + smoothing / classes as f64 };
                (target * formula.term(one)).id()
            };
            let loss = k.fold(FoldKind::Sum, &[classes], part);
            k.store(out, places, loss);
            return k.finish();
        }
        let label = Label::load(&mut k, labels, weights, &places, self.ignore_index);
        let right = k.load(scores, at(label.class));
        let right = loss_of(&mut k, right);
        let mut loss = k.mul(right, label.weight);
        if smoothing != 0.0 {
            let mut one = loss_of(&mut k, x);
            if let Some(weights) = weights {
                let weight = k.load(weights, [k.inner(0)]);
                one = k.mul(one, weight);
            }
            let all = k.fold(FoldKind::Sum, &[classes], one);
            let formula = Formula::new(&mut k);
            loss = (formula.term(loss) * (1.0 - smoothing) + formula.term(all) * (smoothing / classes as f64)).id();
        }
        let loss = {
            let formula = Formula::new(&mut k);
            let loss = formula.term(loss);
            formula.term(label.counts).choose(loss, 0.0.beside(loss)).id()
        };
        k.store(out, places, loss);
        k.finish()
    }
}

impl OpSpec for CrossEntropyLoss {
    fn name(&self) -> &'static str {
        "CrossEntropyLoss"
    }

    fn fields(&self) -> String {
        crate::text::fields(self)
    }

    fn arity(&self) -> Arity {
        Arity { min: 2, max: 3 }
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Types, Mismatch> {
        self.reduction.expect_plain()?;
        if !(0.0..=1.0).contains(&self.label_smoothing.0) {
            let (found, help) = (self.label_smoothing.0.to_string(), "0 smooths nothing, 1 everything");
            return Err(Mismatch::new("a part in 0..=1", found, help).in_field("label_smoothing"));
        }
        Ok(self.reduction.output(expect_targets(inputs)?))
    }

    fn lower(&self, site: &mut Site) -> Vec<Kernel> {
        if self.reduction == LossReduction::None {
            return vec![self.each(&site.inputs[0], &site.inputs[1], site.inputs.get(2), &site.outputs[0])];
        }
        let mut places = site.inputs[0].dims.clone();
        places.remove(class_axis(places.len()));
        let losses = site.temporary(DType::F32, &places);
        let (scores, labels, weights, out) = (&site.inputs[0], &site.inputs[1], site.inputs.get(2), &site.outputs[0]);
        let each = self.each(scores, labels, weights, &losses);
        let mut k = KernelBuilder::new(&[]);
        let axes: Vec<Axis> = (0..places.len()).map(|i| k.inner(i)).collect();
        let loss = k.load(&losses, axes.iter().copied());
        let weight = match labels.dtype.is_float() {
            true => k.number(1.0),
            false => Label::load(&mut k, labels, weights, &axes, self.ignore_index).weight,
        };
        vec![each, reduce(k, self.reduction, &places, loss, weight, out)]
    }

    fn gradient(&self, back: &mut Backward) -> Gradients {
        let (scores, labels, upstream) = (back.input(0), back.input(1), back.upstream());
        if back.wants(2) {
            return back.refuse("the weights of classes have no gradient");
        }
        let dims = back.dims(scores);
        let axis = class_axis(dims.len());
        let mut places = dims.clone();
        places[axis] = 1;
        let along_classes: Vec<usize> =
            dims[axis..].iter().enumerate().map(|(i, &n)| if i == 0 { n } else { 1 }).collect();
        let smoothing = self.label_smoothing.0;
        let weights = back.inputs().get(2).copied().map(|weights| back.reshaped(weights, &along_classes));
        // What the loss is divided by, where it is a mean; and the distribution that scores are compared with.
        let (targets, divisor) = if back.ty(labels).dtype.is_float() {
            let kept = back.scaled(labels, 1.0 - smoothing);
            let spread = back.number(smoothing / dims[axis] as f64);
            let mixed = back.add(kept, spread);
            let targets = weights.map_or(mixed, |weights| back.mul(mixed, weights));
            (targets, back.number(places.iter().product::<usize>() as f64))
        } else {
            let op =
                ClassTargets { classes: dims[axis], ignore_index: self.ignore_index, smoothing: self.label_smoothing };
            let operands: Vec<ValueId> = back.inputs()[1..].to_vec();
            let targets = back.node(op, &operands);
            let each = ValueId { port: 1, ..targets };
            let all: Vec<usize> = (0..back.ty(each).rank()).collect();
            let sum = back.summed(each, &all);
            (targets, back.reshaped(sum, &[]))
        };
        let share = match self.reduction {
            LossReduction::None => back.reshaped(upstream, &places),
            LossReduction::Mean => back.map("Div", &[upstream, divisor]),
            LossReduction::Sum | LossReduction::BatchMean => upstream,
        };
        let mut gradients = back.nothing();
        if back.wants(0) {
            let probabilities = back.node(Softmax { dim: axis as i32 }, &[scores]);
            let total = back.summed(targets, &[axis]);
            let expected = back.mul(probabilities, total);
            let distance = back.sub(expected, targets);
            gradients[0] = Some(back.mul(distance, share));
        }
        if back.wants(1) {
            let logarithms = back.node(LogSoftmax { dim: axis as i32 }, &[scores]);
            let weighted = weights.map_or(logarithms, |weights| back.mul(logarithms, weights));
            let loss = back.scaled(weighted, smoothing - 1.0);
            gradients[1] = Some(back.mul(loss, share));
        }
        gradients
    }

    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let dims = outputs[0].dims().expect("verified: bound");
        let smoothing = self.label_smoothing.0;
        let loss = |(label, scores): (f64, Vec<f64>)| {
            if label == self.ignore_index as f64 {
                return (0.0, 0.0);
            }
            let weight = |class: usize| inputs.get(2).map_or(1.0, |weights| weights.data[class]);
            let minus_log = |x: f64| log_sum_exp(&scores) - x;
            let spread: f64 = scores.iter().enumerate().map(|(class, &x)| weight(class) * minus_log(x)).sum();
            let own = inputs.get(2).map_or(1.0, |weights| score(&weights.data, label));
            let right = own * minus_log(score(&scores, label));
            ((1.0 - smoothing) * right + smoothing / scores.len() as f64 * spread, own)
        };
        if inputs[1].dims == inputs[0].dims {
            // Of labels there is one axis less.
            let axis = class_axis(inputs[0].dims.len());
            let over: Vec<bool> = (0..inputs[0].dims.len()).map(|i| i == axis).collect();
            let pairs = groups(inputs[0], &over).into_iter().zip(groups(inputs[1], &over));
            let losses = pairs.map(|(scores, targets)| {
                let (lse, n) = (log_sum_exp(&scores), scores.len() as f64);
                let part = |c: usize| {
                    let weight = inputs.get(2).map_or(1.0, |weights| weights.data[c]);
                    weight * ((1.0 - smoothing) * targets[c] + smoothing / n) * (lse - scores[c])
                };
                ((0..scores.len()).map(part).sum(), 1.0)
            });
            return vec![reduced(self.reduction, losses.collect(), dims)];
        }
        let losses = labelled(inputs[0], inputs[1]).into_iter().map(loss).collect();
        vec![reduced(self.reduction, losses, dims)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoothing_is_a_part() {
        let (scores, labels) = (TensorType::f32([2usize, 5]), TensorType::new(DType::I64, [2usize]));
        let infer = |label_smoothing| {
            let label_smoothing = Real(label_smoothing);
            let op = CrossEntropyLoss { ignore_index: -100, reduction: LossReduction::Mean, label_smoothing };
            op.infer(&[&scores, &labels]).map(|types| types[0].to_string())
        };
        assert_eq!(infer(0.1).as_deref(), Ok("f32[]"));
        assert_eq!(infer(1.5).unwrap_err().field, Some("label_smoothing"));
    }
}
