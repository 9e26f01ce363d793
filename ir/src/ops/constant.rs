//! A tensor written in the model, or folded by the compiler.

use super::*;
use crate::tensor::Tensor;
use std::sync::Arc;

/// A tensor of fixed values.
#[derive(Clone, Debug, PartialEq)]
pub struct Constant {
    /// The values.
    pub tensor: Arc<Tensor>,
}

impl Constant {
    /// A constant of these values.
    pub fn new(tensor: Tensor) -> Constant {
        Constant { tensor: Arc::new(tensor) }
    }
}

impl OpSpec for Constant {
    fn name(&self) -> &'static str {
        "Constant"
    }

    fn fields(&self) -> String {
        format!("({})", self.tensor.tensor_type())
    }

    fn arity(&self) -> Arity {
        Arity::exactly(0)
    }

    fn infer(&self, _: &[&TensorType]) -> Result<Types, Mismatch> {
        Ok([self.tensor.tensor_type()].into_iter().collect())
    }

    fn lower(&self, _: &mut Site) -> Vec<Kernel> {
        Vec::new()
    }

    fn gradient(&self, back: &mut Backward) -> Gradients {
        // It has no operands.
        back.nothing()
    }

    fn reference(&self, _: &[&Array], _: &[TensorType]) -> Vec<Array> {
        vec![self.tensor.to_array()]
    }
}
