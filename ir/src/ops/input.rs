//! A tensor that the user gives for each run.

use super::*;

/// A named input of the network.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// Element type and shape; axes may be symbols.
    pub ty: TensorType,
}

impl OpSpec for Input {
    fn name(&self) -> &'static str {
        "Input"
    }

    fn fields(&self) -> String {
        format!("({})", self.ty)
    }

    fn arity(&self) -> Arity {
        Arity::exactly(0)
    }

    fn infer(&self, _: &[&TensorType]) -> Result<Types, Mismatch> {
        Ok([self.ty.clone()].into_iter().collect())
    }

    fn lower(&self, _: &mut Site) -> Vec<Kernel> {
        Vec::new()
    }

    fn gradient(&self, back: &mut Backward) -> Gradients {
        // It has no operands.
        back.nothing()
    }

    fn reference(&self, _: &[&Array], _: &[TensorType]) -> Vec<Array> {
        unreachable!("the evaluator takes inputs from its caller")
    }
}
