//! A tensor that belongs to the network: given once, the same for all runs.

use super::*;

/// A named parameter, learned or kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Element type and shape.
    pub ty: TensorType,
    /// What it starts as.
    pub init: Initializer,
    /// False for statistics that are kept, not learned.
    pub trainable: bool,
    /// Whether it belongs to a session, whose runs may replace it, and not to the executable.
    pub is_state: bool,
}

/// What a parameter starts as. Fans are PyTorch's: for a weight `[out, in, k...]` the fan in is `in * k...`, the fan out
/// `out * k...`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Initializer {
    /// All 0.
    Zeros,
    /// All 1.
    Ones,
    /// All the same number.
    Constant(Real),
    /// Uniform in `low..high`.
    Uniform {
        /// The lower end.
        low: Real,
        /// The upper end.
        high: Real,
    },
    /// Normal.
    Normal {
        /// The mean.
        #[serde(default = "zero")]
        mean: Real,
        /// The standard deviation.
        std: Real,
    },
    /// Uniform with the bound `gain * sqrt(6 / (fan_in + fan_out))` (Glorot and Bengio 2010).
    XavierUniform {
        /// Multiplies the bound.
        #[serde(default = "one")]
        gain: Real,
    },
    /// Normal with the deviation `gain * sqrt(2 / (fan_in + fan_out))`.
    XavierNormal {
        /// Multiplies the deviation.
        #[serde(default = "one")]
        gain: Real,
    },
    /// Uniform with the bound `sqrt(6 / ((1 + a^2) * fan_in))` (He et al. 2015); PyTorch's layers use a = sqrt 5.
    KaimingUniform {
        /// The slope of the leaky ReLU behind the layer.
        #[serde(default = "zero")]
        a: Real,
    },
    /// Normal with the deviation `sqrt(2 / ((1 + a^2) * fan_in))`, or of fan out.
    KaimingNormal {
        /// The slope of the leaky ReLU behind the layer.
        #[serde(default = "zero")]
        a: Real,
        /// Whether the fan out takes the place of the fan in.
        #[serde(default)]
        fan_out: bool,
    },
    /// Uniform with the bound `1 / sqrt(fan_in)` of the layer's weight: PyTorch's default for biases.
    FanInUniform {
        /// The fan in of the weight.
        fan_in: u64,
    },
}

fn zero() -> Real {
    Real(0.0)
}

fn one() -> Real {
    Real(1.0)
}

impl Initializer {
    /// PyTorch's default for the weights of convolutions and dense layers.
    pub fn layer_weight() -> Initializer {
        Initializer::KaimingUniform { a: Real(5f64.sqrt()) }
    }

    /// PyTorch's default for a bias beside a weight of this fan in (0 where it is not known yet).
    pub fn layer_bias(fan_in: &crate::Dim) -> Initializer {
        Initializer::FanInUniform { fan_in: fan_in.known().unwrap_or(0) as u64 }
    }
}

impl OpSpec for Parameter {
    fn name(&self) -> &'static str {
        "Parameter"
    }

    fn fields(&self) -> String {
        format!("({}, {})", self.ty, crate::text::fields(&self.init))
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
        unreachable!("the evaluator takes parameters from its caller")
    }
}
