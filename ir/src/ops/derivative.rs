//! The derivative of an elementwise function times what comes from behind: made from the function's formula, to any
//! order that its oracle knows.

use super::map::{broadcast, operands_at};
use super::pointwise_loss::PairLoss;
use super::*;
use crate::graph::ValueId;
use crate::jet::Jet;
use crate::kernel::formula::{Formula, Term};
use crate::kernel::{Affine, Index, KernelBuilder, Literal, ScalarDag, ScalarId, Slope, derivative};
use rustc_hash::FxHashMap;

/// A function f of scalars x, differentiated step by step: with g0 = f(x), step k is `g(k) = u(k) * d g(k-1) / d by(k)`,
/// where `by` names an operand among x, u(1), u(2) and so on. Operands are x, then one u a step; they broadcast.
#[derive(Clone, Debug, PartialEq)]
pub struct Derivative {
    /// The function.
    pub of: Pointwise,
    /// The operand of each step.
    pub by: SmallVec<[u8; 4]>,
}

/// A function that has a formula.
#[derive(Clone, Debug, PartialEq)]
pub enum Pointwise {
    /// A row of the table of elementwise functions.
    Map(Map),
    /// The loss of a pair of elements.
    Loss(PairLoss),
}

impl Pointwise {
    fn arity(&self) -> usize {
        match self {
            Pointwise::Map(map) => map.function.arity,
            Pointwise::Loss(_) => 2,
        }
    }

    fn formula<'f>(&self, operands: &[Term<'f>]) -> Term<'f> {
        match self {
            Pointwise::Map(map) => (map.function.formula)(operands, &map.values()),
            Pointwise::Loss(loss) => loss.formula(operands[0], operands[1]),
        }
    }

    fn reference(&self, operands: &[Jet]) -> Jet {
        match self {
            Pointwise::Map(map) => (map.function.reference)(operands, &map.values()),
            Pointwise::Loss(loss) => loss.reference(operands[0], operands[1]),
        }
    }
}

impl Derivative {
    /// The gradient by operand `by` of the function of `operands`, already differentiated by `steps`, from its upstream
    /// gradient; `None` where it is 0 everywhere.
    pub fn build(
        back: &mut Backward,
        of: &Pointwise,
        steps: &[u8],
        operands: &[ValueId],
        by: usize,
        upstream: ValueId,
    ) -> Option<ValueId> {
        let dims = back.dims(operands[by]);
        let derivative = Derivative { of: of.clone(), by: steps.iter().copied().chain([by as u8]).collect() };
        let mut k = KernelBuilder::new(&[]);
        let places = placeholders(&mut k, operands.iter().map(|&value| back.ty(value).dtype));
        let gradient = match derivative.slope(&mut k, &places) {
            Slope::Zero => return None,
            Slope::One => upstream,
            Slope::Scalar(_) => {
                let all: Vec<ValueId> = operands.iter().copied().chain([upstream]).collect();
                back.node(derivative, &all)
            }
        };
        Some(back.sum_to(gradient, &dims))
    }

    /// The derivative of the last step, by which its u is multiplied.
    fn slope(&self, k: &mut KernelBuilder, operands: &[ScalarId]) -> Slope {
        let function = {
            let formula = Formula::new(k);
            let terms: SmallVec<[Term; 4]> = operands[..self.of.arity()].iter().map(|&id| formula.term(id)).collect();
            self.of.formula(&terms).id()
        };
        let (last, before) = self.by.split_last().expect("there is at least one step");
        let mut value = function;
        for (step, &by) in before.iter().enumerate() {
            let slope = derivative(k, value, operands[by as usize]);
            value = times(k, slope, operands[self.of.arity() + step]);
        }
        derivative(k, value, operands[*last as usize])
    }
}

/// Operands of no tensor in particular, all different: of two operands that are one value, each has its own part in a
/// derivative.
fn placeholders(k: &mut KernelBuilder, types: impl Iterator<Item = DType>) -> Vec<ScalarId> {
    let place = |(i, dtype)| {
        let operand = Operand { buffer: BufferId(i as u32), dtype, dims: Vec::new() };
        k.load(&operand, [] as [Index; 0])
    };
    types.enumerate().map(place).collect()
}

/// The scalar of `from` in another kernel, where `operands` are in the place of `places`.
fn moved(
    k: &mut KernelBuilder,
    from: &ScalarDag,
    value: ScalarId,
    places: &[ScalarId],
    operands: &[ScalarId],
) -> ScalarId {
    let mut new: FxHashMap<ScalarId, ScalarId> = places.iter().copied().zip(operands.iter().copied()).collect();
    for id in from.reachable([value]) {
        if !new.contains_key(&id) {
            let scalar = from.get(id).map(|operand| new[&operand], Affine::clone);
            new.insert(id, k.scalar(scalar, from.dtype(id)));
        }
    }
    new[&value]
}

/// `slope * u`.
fn times(k: &mut KernelBuilder, slope: Slope, u: ScalarId) -> ScalarId {
    match slope {
        Slope::Zero => k.literal(Literal::f32(0.0)),
        Slope::One => u,
        Slope::Scalar(slope) => k.mul(u, slope),
    }
}

impl OpSpec for Derivative {
    fn name(&self) -> &'static str {
        "Derivative"
    }

    fn fields(&self) -> String {
        let of = match &self.of {
            Pointwise::Map(map) => Op::Map(map.clone()).to_string(),
            Pointwise::Loss(function) => {
                Op::PointwiseLoss(PointwiseLoss { function: *function, reduction: LossReduction::Mean }).to_string()
            }
        };
        let by: Vec<String> = self.by.iter().map(ToString::to_string).collect();
        format!("(of:{of},by:[{}])", by.join(","))
    }

    fn arity(&self) -> Arity {
        Arity::exactly(self.of.arity() + self.by.len())
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Types, Mismatch> {
        Ok([TensorType::f32(broadcast(inputs)?)].into_iter().collect())
    }

    fn lower(&self, site: &mut Site) -> Vec<Kernel> {
        let out = &site.outputs[0];
        let mut k = KernelBuilder::new(&out.dims);
        let axes = k.outer_axes();
        let operands = operands_at(&mut k, site, &axes);
        let mut form = KernelBuilder::new(&[]);
        let places = placeholders(&mut form, site.inputs.iter().map(|input| input.dtype));
        let slope = self.slope(&mut form, &places);
        let value = times(&mut form, slope, places[places.len() - 1]);
        let value = moved(&mut k, form.scalars(), value, &places, &operands);
        k.store(out, axes, value);
        vec![k.finish()]
    }

    fn gradient(&self, back: &mut Backward) -> Gradients {
        if self.by.len() == Jet::MOST {
            return back.refuse(format!("derivatives beyond order {} are not known", Jet::MOST));
        }
        let (operands, upstream) = (back.inputs().to_vec(), back.upstream());
        let wanted: Vec<usize> = (0..operands.len()).filter(|&i| back.wants(i)).collect();
        let mut gradients = back.nothing();
        for i in wanted {
            gradients[i] = Derivative::build(back, &self.of, &self.by, &operands, i, upstream);
        }
        gradients
    }

    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let dims = outputs[0].dims().expect("verified: bound");
        let output = Array::from_fn(&dims, |at| {
            let operands = inputs.iter().map(|input| {
                let own = &at[dims.len() - input.dims.len()..];
                let own: Vec<usize> = own.iter().zip(&input.dims).map(|(&i, &n)| if n == 1 { 0 } else { i }).collect();
                Jet::from(input.at(&own))
            });
            self.differentiated(self.by.len(), &operands.collect::<Vec<_>>()).value()
        });
        vec![output]
    }
}

impl Derivative {
    /// g of the first `steps` steps, by the oracle of the function.
    fn differentiated(&self, steps: usize, operands: &[Jet]) -> Jet {
        let Some(step) = steps.checked_sub(1) else {
            return self.of.reference(&operands[..self.of.arity()]);
        };
        let by = self.by[step] as usize;
        let lifted: Vec<Jet> = operands.iter().enumerate().map(|(i, operand)| operand.lifted(i == by)).collect();
        let (_, slope) = self.differentiated(step, &lifted).lowered();
        operands[self.of.arity() + step] * slope
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The derivative of a function by its steps at operands, from the formula.
    fn kernel_value(name: &str, by: &[u8], operands: &[f64]) -> f64 {
        let of = Pointwise::Map(Map::named(name).unwrap());
        let derivative = Derivative { of, by: by.iter().copied().collect() };
        let ty = TensorType::f32([1usize]);
        let array = |&x: &f64| Array { dims: vec![1], data: vec![x] };
        let arrays: Vec<Array> = operands.iter().map(array).collect();
        let operand = |i: usize| Operand { buffer: BufferId(i as u32), dtype: DType::F32, dims: vec![1] };
        let inputs: Vec<Operand> = (0..operands.len()).map(operand).collect();
        let mut site = Site::new(inputs, vec![operand(operands.len())], BufferId(operands.len() as u32 + 1));
        let mut program = crate::kernel::Program::default();
        for i in 0..=operands.len() {
            let role = if i == operands.len() { crate::kernel::Role::Computed } else { crate::kernel::Role::Input };
            let (name, dims) = (format!("b{i}"), vec![1]);
            program.add_buffer(crate::kernel::BufferInfo { name, dtype: DType::F32, dims, role });
        }
        for kernel in derivative.lower(&mut site) {
            let (nodes, about) = (vec![], String::new());
            program.kernels.push(crate::kernel::NamedKernel { nodes, about, kernel });
        }
        crate::kernel::verify(&program).unwrap();
        let given = arrays.iter().cloned().enumerate().map(|(i, array)| (BufferId(i as u32), array)).collect();
        let found = crate::kernel::evaluate(&program, &given).unwrap().array(BufferId(operands.len() as u32)).data[0];
        let reference = derivative.reference(&arrays.iter().collect::<Vec<_>>(), &[ty])[0].data[0];
        let close = (found - reference).abs() <= 1e-5 * (1.0 + reference.abs());
        assert!(close || found.is_nan() && reference.is_nan(), "{name} by {by:?}: {found} against {reference}");
        found
    }

    #[test]
    fn corners_are_those_of_pytorch() {
        for (name, at, expected) in [
            ("Relu", 0.0, 0.0),
            ("Relu6", 6.0, 0.0),
            ("LeakyRelu", 0.0, 0.01f32 as f64),
            ("Hardtanh", 1.0, 0.0),
            ("Hardsigmoid", 3.0, 0.0),
            ("Hardswish", 3.0, 1.0),
            ("Abs", 0.0, 0.0),
            ("Softplus", 0.0, 0.5),
            ("LogSigmoid", 0.0, 0.5),
            ("Elu", 0.0, 1.0),
            ("Softsign", 0.0, 1.0),
        ] {
            assert_eq!(kernel_value(name, &[0], &[at, 1.0]), expected, "{name} at {at}");
        }
        for by in [0, 1] {
            assert_eq!(kernel_value("Max", &[by], &[2.0, 2.0, 1.0]), 0.5);
            assert_eq!(kernel_value("LogAddExp", &[by], &[2.0, 2.0, 1.0]), 0.5);
        }
        assert_eq!(kernel_value("Pow", &[1], &[0.0, 2.0, 1.0]), 0.0);
    }

    #[test]
    fn branches_that_are_not_taken_leave_no_nan() {
        assert_eq!(kernel_value("Elu", &[0], &[1000.0, 1.0]), 1.0);
        assert_eq!(kernel_value("Softplus", &[0], &[-1000.0, 1.0]), 0.0);
        assert_eq!(kernel_value("Silu", &[0], &[-1000.0, 1.0]), 0.0);
        assert!((kernel_value("Mish", &[0, 0], &[0.0, 1.0, 1.0]) - 0.64).abs() < 1e-6);
    }
}
