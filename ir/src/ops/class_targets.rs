//! Class labels as the distributions that cross-entropy compares scores with.

use super::common::{expect_float, expect_indices};
use super::nll::Label;
use super::*;
use crate::Dim;
use crate::kernel::formula::{Formula, IntoTerm};
use crate::kernel::{CompareOp, Index, KernelBuilder};

/// Labels `[batch, places...]` or `[]` and, where a second input is given, a weight for each class. With the label y,
/// weights w, C classes and the smoothing s, the first output `[batch, classes, places...]` or `[classes]` is
/// `(1 - s) w[y] [c = y] + s / C * w[c]`, and 0 where the label is ignored; the second is `w[y]` at each place, 0 likewise.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClassTargets {
    /// The number of classes.
    pub classes: usize,
    /// Places with this label count for nothing.
    pub ignore_index: i64,
    /// The part that is spread evenly over all classes.
    pub smoothing: Real,
}

impl ClassTargets {
    fn axis(places: usize) -> usize {
        usize::from(places > 0)
    }
}

impl OpSpec for ClassTargets {
    fn name(&self) -> &'static str {
        "ClassTargets"
    }

    fn fields(&self) -> String {
        let ClassTargets { classes, ignore_index, smoothing: Real(smoothing) } = self;
        format!("(classes:{classes},ignore_index:{ignore_index},smoothing:{smoothing})")
    }

    fn arity(&self) -> Arity {
        Arity { min: 1, max: 2 }
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Types, Mismatch> {
        let labels = inputs[0];
        expect_indices(labels, "class labels")?;
        if let Some(weights) = inputs.get(1) {
            expect_float(weights)?;
            if weights.shape.as_slice() != [Dim::from(self.classes)] {
                let expected = format!("weights f32[{}]", self.classes);
                return Err(Mismatch::new(expected, weights.to_string(), "give each class one weight"));
            }
        }
        let mut shape = labels.shape.clone();
        shape.insert(ClassTargets::axis(labels.rank()), self.classes.into());
        let places = TensorType::f32(labels.shape.iter().cloned());
        Ok([TensorType::f32(shape), places].into_iter().collect())
    }

    fn lower(&self, site: &mut Site) -> Vec<Kernel> {
        let (labels, weights) = (&site.inputs[0], site.inputs.get(1));
        let axis = ClassTargets::axis(labels.dims.len());
        let (targets, counts) = (&site.outputs[0], &site.outputs[1]);
        let mut k = KernelBuilder::new(&targets.dims);
        let axes = k.outer_axes();
        let mut places = axes.clone();
        places.remove(axis);
        let label = Label::load(&mut k, labels, weights, &places, self.ignore_index);
        let weight = match weights {
            Some(weights) => k.load(weights, [Index::from(axes[axis])]),
            None => k.number(1.0),
        };
        let number = k.load(labels, places);
        let (class, number) = (k.position(axes[axis]), k.cast(DType::I64, number));
        let own = k.compare(CompareOp::Eq, class, number);
        let value = {
            let formula = Formula::new(&mut k);
            let (weight, smoothing) = (formula.term(weight), self.smoothing.0);
            let target = match smoothing == 0.0 {
                true => formula.term(own).choose(weight, 0.0),
                false => {
                    let spread = weight * (smoothing / self.classes as f64);
                    formula.term(own).choose(weight * (1.0 - smoothing) + spread, spread)
                }
            };
            formula.term(label.counts).choose(target, 0.0.beside(target)).id()
        };
        k.store(targets, axes, value);
        let mut each = KernelBuilder::new(&counts.dims);
        let places = each.outer_axes();
        let label = Label::load(&mut each, labels, weights, &places, self.ignore_index);
        each.store(counts, places, label.weight);
        vec![k.finish(), each.finish()]
    }

    fn gradient(&self, back: &mut Backward) -> Gradients {
        back.refuse("the weights of classes have no gradient")
    }

    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let (labels, weights) = (inputs[0], inputs.get(1));
        let weight = |class: f64| weights.map_or(1.0, |weights| loss::score(&weights.data, class));
        let ignored = |label: f64| label == self.ignore_index as f64;
        let axis = ClassTargets::axis(labels.dims.len());
        let (smoothing, classes) = (self.smoothing.0, self.classes as f64);
        let targets = Array::from_fn(&outputs[0].dims().expect("verified: bound"), |at| {
            let mut place = at.to_vec();
            let class = place.remove(axis) as f64;
            let label = labels.at(&place);
            if ignored(label) {
                return 0.0;
            }
            let own = if label == class { (1.0 - smoothing) * weight(label) } else { 0.0 };
            own + smoothing / classes * weight(class)
        });
        let each = labels.data.iter().map(|&label| if ignored(label) { 0.0 } else { weight(label) });
        vec![targets, Array { dims: labels.dims.clone(), data: each.collect() }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_classes_are_an_axis() {
        let op = ClassTargets { classes: 5, ignore_index: -100, smoothing: Real(0.0) };
        let labels = |dims: &[usize]| TensorType::new(DType::I64, dims.iter().copied());
        let infer = |dims: &[usize]| op.infer(&[&labels(dims)]).unwrap()[0].to_string();
        assert_eq!(infer(&[2, 4]), "f32[2, 5, 4]");
        assert_eq!(infer(&[]), "f32[5]");
        assert!(op.infer(&[&labels(&[2]), &TensorType::f32([4usize])]).is_err());
        assert!(op.infer(&[&TensorType::f32([2usize])]).is_err());
    }
}
