//! Every operation, one file each: attributes, `infer`, `lower`, `gradient`, `reference`, tests, always in this
//! order.
//!
//! [`Op::spec`] is the only `match` on [`Op`] in the workspace, and `LAYERS` below the only list of layer names.

pub mod adaptive_pool;
pub mod arg_reduce;
pub mod avg_pool;
pub mod backward;
pub mod batch_norm;
pub mod cast;
pub mod class_targets;
pub mod common;
pub mod compose;
pub mod concat;
pub mod constant;
pub mod conv;
pub mod conv_transpose;
pub mod conv_weight;
pub mod cross_entropy;
pub mod dense;
pub mod depth_to_space;
pub mod derivative;
pub mod dropout;
pub mod expand;
pub mod gather;
pub mod glu;
pub mod group_norm;
pub mod input;
pub mod instance_norm;
pub mod layer_norm;
pub mod local_response_norm;
pub mod loss;
pub mod map;
pub mod matmul;
pub mod max_place;
pub mod max_pool;
pub mod nll;
pub mod norm;
pub mod pad;
pub mod parameter;
pub mod pointwise_loss;
pub mod prelu;
pub mod reduce;
pub mod resample;
pub mod reshape;
pub mod resize;
pub mod scatter_add;
pub mod slice;
pub mod softmax;
pub mod split;
pub mod training;
pub mod training_dropout;
pub mod transpose;
pub mod var;
pub mod vector_norm;
pub mod window;
pub mod window_place;
pub mod window_spread;

pub use adaptive_pool::{AdaptivePool, Extent, OutputSize, PoolKind};
pub use arg_reduce::ArgReduce;
pub use avg_pool::AvgPool;
pub use backward::{Backward, Gradients};
pub use batch_norm::BatchNorm;
pub use cast::Cast;
pub use class_targets::ClassTargets;
pub use compose::Compose;
pub use concat::{Concat, Stack};
pub use constant::Constant;
pub use conv::Conv;
pub use conv_transpose::ConvTranspose;
pub use conv_weight::ConvWeight;
pub use cross_entropy::CrossEntropyLoss;
pub use dense::Dense;
pub use depth_to_space::{PixelShuffle, PixelUnshuffle};
pub use derivative::{Derivative, Pointwise};
pub use dropout::Dropout;
pub use expand::{Expand, Tile};
pub use gather::{Embedding, Gather, IndexSelect};
pub use glu::Glu;
pub use group_norm::GroupNorm;
pub use input::Input;
pub use instance_norm::InstanceNorm;
pub use layer_norm::LayerNorm;
pub use local_response_norm::LocalResponseNorm;
pub use loss::LossReduction;
pub use map::Map;
pub use matmul::MatMul;
pub use max_place::MaxPlace;
pub use max_pool::MaxPool;
pub use nll::NllLoss;
pub use pad::{Pad, PadMode};
pub use parameter::{Initializer, Parameter};
pub use pointwise_loss::{PairLoss, PointwiseLoss};
pub use prelu::PRelu;
pub use reduce::{Reduce, Reduction};
pub use resample::{Resample, Terms};
pub use reshape::{Flatten, Reshape, Squeeze, Unflatten, Unsqueeze};
pub use resize::{Factors, ResizeMode, Upsample};
pub use scatter_add::ScatterAdd;
pub use slice::{Select, Slice};
pub use softmax::{LogSoftmax, Softmax};
pub use split::{Split, SplitSize};
pub use training::{Chance, Training};
pub use training_dropout::TrainingDropout;
pub use transpose::{Permute, Transpose};
pub use var::Var;
pub use vector_norm::Norm;
pub use window_place::{WindowPick, WindowPlace};
pub use window_spread::WindowSpread;

use crate::kernel::build::Operand;
use crate::kernel::{BufferId, Kernel};
use crate::tensor::{Array, DType, TensorType};
use crate::text::{FieldError, Value};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Makes the closed list of operations: the type, its one `match`, and the layers of each file.
macro_rules! operations {
    ($($variant:ident,)* ; $($file:ident,)*) => {
        /// What a node computes.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs, reason = "each variant is documented by its type")]
        pub enum Op { $($variant($variant),)* }

        impl Op {
            /// The only `match` on `Op` in the workspace.
            pub fn spec(&self) -> &dyn OpSpec {
                match self { $(Op::$variant(op) => op,)* }
            }
        }

        $(impl From<$variant> for Op {
            fn from(op: $variant) -> Op { Op::$variant(op) }
        })*

        /// The kinds of layers that a model file can name, file by file.
        pub const LAYERS: &[&[LayerKind]] = &[$($file::LAYERS,)*];
    };
}

operations! {
    AdaptivePool,
    ArgReduce,
    AvgPool,
    BatchNorm,
    Cast,
    ClassTargets,
    Concat,
    Constant,
    Conv,
    ConvTranspose,
    ConvWeight,
    CrossEntropyLoss,
    Dense,
    Derivative,
    Dropout,
    Embedding,
    Expand,
    Flatten,
    Gather,
    Glu,
    GroupNorm,
    IndexSelect,
    Input,
    InstanceNorm,
    LayerNorm,
    LocalResponseNorm,
    LogSoftmax,
    Map,
    MatMul,
    MaxPlace,
    MaxPool,
    NllLoss,
    Norm,
    PRelu,
    Pad,
    Parameter,
    Permute,
    PixelShuffle,
    PixelUnshuffle,
    PointwiseLoss,
    Reduce,
    Resample,
    Reshape,
    ScatterAdd,
    Select,
    Slice,
    Softmax,
    Split,
    Squeeze,
    Stack,
    Tile,
    TrainingDropout,
    Transpose,
    Unflatten,
    Unsqueeze,
    Upsample,
    Var,
    WindowPick,
    WindowPlace,
    WindowSpread,
    ;
    adaptive_pool,
    arg_reduce,
    avg_pool,
    batch_norm,
    cast,
    concat,
    conv,
    conv_transpose,
    cross_entropy,
    dense,
    depth_to_space,
    dropout,
    expand,
    gather,
    glu,
    group_norm,
    instance_norm,
    layer_norm,
    local_response_norm,
    map,
    matmul,
    max_pool,
    nll,
    pad,
    pointwise_loss,
    prelu,
    reduce,
    reshape,
    resize,
    slice,
    softmax,
    split,
    transpose,
    var,
    vector_norm,
}

/// How often [`Op::reference`] was called in this process: a run of emitted code never does.
static REFERENCE_CALLS: AtomicU64 = AtomicU64::new(0);

impl Op {
    /// The outputs by [`OpSpec::reference`], counted.
    pub fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        REFERENCE_CALLS.fetch_add(1, Ordering::Relaxed);
        self.spec().reference(inputs, outputs)
    }

    /// How often operations were evaluated by their references in this process.
    pub fn reference_calls() -> u64 {
        REFERENCE_CALLS.load(Ordering::Relaxed)
    }

    /// The types of the outputs, after checking the number of operands and the types of parameters.
    ///
    /// # Errors
    /// Where the operands do not fit the operation.
    pub fn check(&self, operands: &[&TensorType]) -> Result<Types, Mismatch> {
        let spec = self.spec();
        let data = operands.len().min(spec.arity().max);
        let (inputs, parameters) = match spec.arity() {
            Arity { min, max } if min == max => operands.split_at(data),
            _ => (operands, [].as_slice()),
        };
        self.check_arity(inputs.len())?;
        let specs = spec.parameters(inputs)?;
        if specs.len() != parameters.len() {
            let names: Vec<&str> = specs.iter().map(|spec| spec.field).collect();
            let expected = format!("{} parameters ({})", specs.len(), names.join(", "));
            return Err(Mismatch::new(expected, format!("{}", parameters.len()), "give each parameter one value"));
        }
        for (wanted, given) in specs.iter().zip(parameters) {
            let fits = wanted.ty.dtype == given.dtype
                && wanted.ty.rank() == given.rank()
                && wanted.ty.shape.iter().zip(&given.shape).all(|(a, b)| a.may_equal(b));
            if !fits {
                let expected = format!("`{}` of type {}", wanted.field, wanted.ty);
                let help = format!("give it the shape {}", TensorType::to_string(&wanted.ty));
                return Err(Mismatch::new(expected, given.to_string(), help).in_field(wanted.field));
            }
        }
        spec.infer(operands)
    }

    /// Checks the number of data inputs.
    ///
    /// # Errors
    /// Where it is not what the operation takes.
    pub fn check_arity(&self, inputs: usize) -> Result<(), Mismatch> {
        let Arity { min, max } = self.spec().arity();
        if (min..=max).contains(&inputs) {
            return Ok(());
        }
        let expected = match max {
            usize::MAX => format!("{min} or more inputs"),
            _ if min == max => format!("{min} input{}", if min == 1 { "" } else { "s" }),
            _ => format!("{min} to {max} inputs"),
        };
        Err(Mismatch::new(expected, format!("{inputs}"), "name the inputs with `from`").in_field("from"))
    }
}

/// The kind of layer of this name.
pub fn layer_kind(name: &str) -> Option<&'static LayerKind> {
    LAYERS.iter().flat_map(|kinds| kinds.iter()).find(|kind| kind.name == name)
}

/// A layer as the text form knows it.
#[derive(Debug)]
pub struct LayerKind {
    /// The name in a model file: `Conv2d`.
    pub name: &'static str,
    /// One line for people.
    pub about: &'static str,
    /// The operation from the layer's attributes (the fields that are not `name`, `from` or a parameter's).
    pub read: fn(&Value) -> Result<Op, FieldError>,
}

/// The types of all outputs.
pub type Types = SmallVec<[TensorType; 1]>;

/// All that the compiler knows about one operation.
///
/// Operands are the data inputs (as many as `arity` says) followed by one input for each of `parameters`. Before
/// `infer` is called, their number is right and the parameters have the types that `parameters` states.
pub trait OpSpec {
    /// The name in a model file.
    fn name(&self) -> &'static str;

    /// The attributes in RON, as [`crate::text::fields`] writes them: `(out:6,kernel_size:[5,5])`.
    fn fields(&self) -> String;

    /// How many data inputs it takes.
    fn arity(&self) -> Arity;

    /// The parameters that a layer of this kind owns, for data inputs of these types.
    ///
    /// # Errors
    /// Where the inputs do not fit the operation.
    fn parameters(&self, inputs: &[&TensorType]) -> Result<Vec<ParameterSpec>, Mismatch> {
        let _ = inputs;
        Ok(Vec::new())
    }

    /// The operation with numbers in the place of symbols that its attributes name; `None` where they name none.
    fn bind(&self, bindings: &crate::Bindings) -> Option<Op> {
        let _ = bindings;
        None
    }

    /// The types of the outputs; shapes may hold symbols.
    ///
    /// # Errors
    /// Where the inputs do not fit the operation.
    fn infer(&self, inputs: &[&TensorType]) -> Result<Types, Mismatch>;

    /// The loop nests that compute the outputs, in order; none for a source. Buffers between them come from
    /// [`Site::temporary`].
    fn lower(&self, site: &mut Site) -> Vec<Kernel>;

    /// What takes the place of the node while the network is trained: a value like its only output, and the statistics that
    /// it keeps ([`Training::keep`]); `None` where training changes nothing.
    ///
    /// # Errors
    /// Where it cannot be trained with inputs of these sizes.
    fn training(&self, site: &mut Training) -> Result<Option<crate::ValueId>, Mismatch> {
        let _ = site;
        Ok(None)
    }

    /// The gradients of the operands from those of the outputs, as nodes: see [`Backward`]. Of an operation whose values
    /// are whole numbers or truth values there is none.
    fn gradient(&self, back: &mut Backward) -> Gradients;

    /// The outputs by textbook loops in f64: the oracle, and the constant folder. Shares no arithmetic with `lower`.
    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array>;
}

/// How many data inputs an operation takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arity {
    /// At least so many.
    pub min: usize,
    /// At most so many.
    pub max: usize,
}

impl Arity {
    /// Exactly `n`.
    pub const fn exactly(n: usize) -> Arity {
        Arity { min: n, max: n }
    }

    /// `min` or more.
    pub const fn at_least(min: usize) -> Arity {
        Arity { min, max: usize::MAX }
    }
}

/// A parameter that a layer owns.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterSpec {
    /// `weight`, `bias`, `running_mean`: the field of the layer, and the last part of the tensor's name.
    pub field: &'static str,
    /// Its type.
    pub ty: TensorType,
    /// What it starts as, where the model says nothing else: PyTorch's default for the layer.
    pub init: Initializer,
    /// False for statistics that are kept, not learned.
    pub trainable: bool,
}

impl ParameterSpec {
    /// A learned f32 parameter.
    pub fn trainable(field: &'static str, shape: impl IntoIterator<Item = crate::Dim>, init: Initializer) -> Self {
        ParameterSpec { field, ty: TensorType::f32(shape), init, trainable: true }
    }

    /// An f32 statistic that is kept, not learned.
    pub fn statistic(field: &'static str, shape: impl IntoIterator<Item = crate::Dim>, init: Initializer) -> Self {
        ParameterSpec { field, ty: TensorType::f32(shape), init, trainable: false }
    }
}

/// Why operands do not fit an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// What would have been right.
    pub expected: String,
    /// What is there.
    pub found: String,
    /// How to mend it.
    pub help: String,
    /// The attribute at fault, where one is.
    pub field: Option<&'static str>,
}

impl Mismatch {
    /// A mismatch of the operands.
    pub fn new(expected: impl Into<String>, found: impl Into<String>, help: impl Into<String>) -> Mismatch {
        Mismatch { expected: expected.into(), found: found.into(), help: help.into(), field: None }
    }

    /// Blames an attribute.
    pub fn in_field(mut self, field: &'static str) -> Mismatch {
        self.field = Some(field);
        self
    }
}

/// Where an operation is lowered: its operands and results as buffers, with concrete dimensions.
#[derive(Clone, Debug)]
pub struct Site {
    /// The operands.
    pub inputs: Vec<Operand>,
    /// The results.
    pub outputs: Vec<Operand>,
    /// Buffers that some kernels of the operation write and later ones read, in the order of their ids.
    pub temporaries: Vec<Operand>,
    next: BufferId,
}

impl Site {
    /// A site whose temporaries, should it need any, are numbered from `next` on.
    pub fn new(inputs: Vec<Operand>, outputs: Vec<Operand>, next: BufferId) -> Site {
        Site { inputs, outputs, temporaries: Vec::new(), next }
    }

    /// A buffer between two kernels of the operation, for what no single nest can hold: a fold of folds.
    pub fn temporary(&mut self, dtype: DType, dims: &[usize]) -> Operand {
        let buffer = BufferId(self.next.0 + self.temporaries.len() as u32);
        let operand = Operand { buffer, dtype, dims: dims.to_vec() };
        self.temporaries.push(operand.clone());
        operand
    }
}

/// A float attribute, compared and hashed by its bits; never NaN.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(transparent)]
pub struct Real(pub f64);

impl PartialEq for Real {
    fn eq(&self, other: &Real) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}
impl Eq for Real {}

impl std::hash::Hash for Real {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

impl<'de> Deserialize<'de> for Real {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Real, D::Error> {
        let value = f64::deserialize(deserializer)?;
        match value {
            _ if value.is_nan() => Err(serde::de::Error::custom("expected a number, found NaN")),
            // Kernels compute in f32.
            _ if value.is_finite() && (value as f32).is_infinite() => {
                Err(serde::de::Error::custom(format!("expected a number of type f32, found {value:e}")))
            }
            _ => Ok(Real(value)),
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spec = self.spec();
        let fields = spec.fields();
        write!(f, "{}{}", spec.name(), if fields == "()" { "" } else { &fields })
    }
}
