//! Element types, shapes and the values of tensors.

use crate::dim::{Bindings, Dim};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use std::fmt;

/// The type of one element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DType {
    /// IEEE 754 binary32: the type networks compute in.
    F32,
    /// IEEE 754 binary64: in references only; no kernel is compiled for it.
    F64,
    /// 64-bit indices.
    I64,
    /// 32-bit indices.
    I32,
    /// Counters and random bits.
    U32,
    /// Images, and indices within a pooling window.
    U8,
    /// Masks; stored as one byte, 0 or 1.
    Bool,
}

impl DType {
    /// The size of one element.
    pub fn bytes(self) -> usize {
        match self {
            DType::F64 | DType::I64 => 8,
            DType::F32 | DType::I32 | DType::U32 => 4,
            DType::U8 | DType::Bool => 1,
        }
    }

    /// Whether an element is a lane of a vector: 32 bits.
    pub fn is_lane(self) -> bool {
        matches!(self, DType::F32 | DType::I32 | DType::U32)
    }

    /// Whether it is F32 or F64.
    pub fn is_float(self) -> bool {
        matches!(self, DType::F32 | DType::F64)
    }

    /// Whether it is a signed or unsigned integer; `Bool` is not.
    pub fn is_integer(self) -> bool {
        matches!(self, DType::I64 | DType::I32 | DType::U32 | DType::U8)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DType::F32 => "f32",
            DType::F64 => "f64",
            DType::I64 => "i64",
            DType::I32 => "i32",
            DType::U32 => "u32",
            DType::U8 => "u8",
            DType::Bool => "bool",
        })
    }
}

/// The lengths of all axes, outermost first.
pub type Shape = SmallVec<[Dim; 4]>;

/// Element type and shape of a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorType {
    /// The type of the elements.
    pub dtype: DType,
    /// The lengths of the axes; empty for a scalar.
    pub shape: Shape,
}

impl TensorType {
    /// The most elements that `verify` accepts in one tensor.
    pub const ELEMENT_LIMIT: i64 = 1 << 36;

    /// A type from its parts.
    pub fn new<D: Into<Dim>>(dtype: DType, shape: impl IntoIterator<Item = D>) -> TensorType {
        TensorType { dtype, shape: shape.into_iter().map(Into::into).collect() }
    }

    /// An f32 tensor.
    pub fn f32<D: Into<Dim>>(shape: impl IntoIterator<Item = D>) -> TensorType {
        TensorType::new(DType::F32, shape)
    }

    /// The number of axes.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// All lengths as numbers; `None` while a symbol is unbound.
    pub fn dims(&self) -> Option<Vec<usize>> {
        self.shape.iter().map(Dim::known).collect()
    }

    /// The number of elements, an expression where a length is one.
    pub fn elements(&self) -> Dim {
        self.shape.iter().fold(Dim::Known(1), |product, dim| product * dim.clone())
    }

    /// The same type with symbols replaced by their values.
    ///
    /// # Errors
    /// The name of the first symbol without a value.
    pub fn bind(&self, bindings: &Bindings) -> Result<TensorType, String> {
        let shape = self.shape.iter().map(|dim| dim.bind(bindings)).collect::<Result<_, _>>()?;
        Ok(TensorType { dtype: self.dtype, shape })
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[", self.dtype)?;
        for (i, dim) in self.shape.iter().enumerate() {
            write!(f, "{}{dim}", if i == 0 { "" } else { ", " })?;
        }
        f.write_str("]")
    }
}

/// The elements of a tensor in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// f32 elements.
    F32(Vec<f32>),
    /// f64 elements.
    F64(Vec<f64>),
    /// i64 elements.
    I64(Vec<i64>),
    /// i32 elements.
    I32(Vec<i32>),
    /// u32 elements.
    U32(Vec<u32>),
    /// u8 elements.
    U8(Vec<u8>),
    /// Bool elements as 0 and 1.
    Bool(Vec<u8>),
}

/// An element type as Rust knows it.
pub trait Element: Copy + 'static {
    /// The element type.
    const DTYPE: DType;
    /// The elements, if `data` has this type.
    fn slice(data: &Data) -> Option<&[Self]>;
    /// Wraps elements.
    fn data(elements: Vec<Self>) -> Data;
}

macro_rules! elements {
    ($($rust:ty, $variant:ident;)*) => {
        $(impl Element for $rust {
            const DTYPE: DType = DType::$variant;
            fn slice(data: &Data) -> Option<&[$rust]> {
                match data { Data::$variant(elements) => Some(elements), _ => None }
            }
            fn data(elements: Vec<$rust>) -> Data { Data::$variant(elements) }
        })*

        impl Data {
            /// The type of the elements.
            pub fn dtype(&self) -> DType {
                match self { $(Data::$variant(_) => DType::$variant,)* Data::Bool(_) => DType::Bool }
            }

            /// The number of elements.
            pub fn len(&self) -> usize {
                match self { $(Data::$variant(elements) => elements.len(),)* Data::Bool(elements) => elements.len() }
            }

            /// Whether there are no elements.
            pub fn is_empty(&self) -> bool { self.len() == 0 }

            /// A copy of the elements of a range.
            pub fn slice(&self, range: std::ops::Range<usize>) -> Data {
                match self {
                    $(Data::$variant(elements) => Data::$variant(elements[range].to_vec()),)*
                    Data::Bool(elements) => Data::Bool(elements[range].to_vec()),
                }
            }

            /// Writes the elements `range` of `from` to `at` and behind. Allocates nothing.
            ///
            /// # Panics
            /// If the types of the elements differ, or there are not so many.
            pub fn copy_from(&mut self, at: usize, from: &Data, range: std::ops::Range<usize>) {
                let end = at + range.len();
                match (self, from) {
                    $((Data::$variant(to), Data::$variant(from)) => to[at..end].copy_from_slice(&from[range]),)*
                    (Data::Bool(to), Data::Bool(from)) => to[at..end].copy_from_slice(&from[range]),
                    (to, from) => panic!("elements of type {} for {}", from.dtype(), to.dtype()),
                }
            }

            /// Zeros, or false.
            pub fn zeros(dtype: DType, elements: usize) -> Data {
                match dtype {
                    $(DType::$variant => Data::$variant(vec![Default::default(); elements]),)*
                    DType::Bool => Data::Bool(vec![0; elements]),
                }
            }

            /// The elements' bytes in the machine's order.
            pub fn bytes(&self) -> &[u8] {
                match self {
                    $(Data::$variant(elements) => bytemuck::cast_slice(elements),)*
                    Data::Bool(elements) => elements,
                }
            }

            /// Elements from their bytes in the machine's order; a rest that is no whole element is left out.
            pub fn from_bytes(dtype: DType, bytes: &[u8]) -> Data {
                match dtype {
                    $(DType::$variant => {
                        let element = |bytes: &[u8]| {
                            <$rust>::from_ne_bytes(bytes.try_into().expect("chunks have the size of the type"))
                        };
                        Data::$variant(bytes.chunks_exact(size_of::<$rust>()).map(element).collect())
                    })*
                    DType::Bool => Data::Bool(bytes.to_vec()),
                }
            }

            /// The address of the first element.
            pub fn as_ptr(&self) -> *const u8 {
                match self {
                    $(Data::$variant(elements) => elements.as_ptr().cast(),)*
                    Data::Bool(elements) => elements.as_ptr(),
                }
            }

            /// The elements as f64: exact for all but i64 beyond 2^53.
            #[allow(clippy::unnecessary_cast)]
            pub fn to_f64(&self) -> Vec<f64> {
                match self {
                    $(Data::$variant(elements) => elements.iter().map(|&x| x as f64).collect(),)*
                    Data::Bool(elements) => elements.iter().map(|&x| f64::from(x)).collect(),
                }
            }

            /// Elements of `dtype` from numbers, as `as` converts them; a bool is 1 for every number but 0.
            #[allow(clippy::unnecessary_cast)]
            pub fn from_f64(dtype: DType, elements: &[f64]) -> Data {
                match dtype {
                    $(DType::$variant => Data::$variant(elements.iter().map(|&x| x as $rust).collect()),)*
                    DType::Bool => Data::Bool(elements.iter().map(|&x| u8::from(x != 0.0)).collect()),
                }
            }
        }
    };
}
elements! { f32, F32; f64, F64; i64, I64; i32, I32; u32, U32; u8, U8; }

/// A tensor with its values.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    dims: Vec<usize>,
    data: Data,
}

impl Tensor {
    /// A tensor of zeros, or of false.
    pub fn zeros(dtype: DType, dims: &[usize]) -> Tensor {
        Tensor::new(dims, Data::zeros(dtype, dims.iter().product()))
    }

    /// A tensor of `dims` over `data` in row-major order.
    ///
    /// # Panics
    /// If the number of elements is not the product of `dims`.
    pub fn new(dims: &[usize], data: Data) -> Tensor {
        assert_eq!(dims.iter().product::<usize>(), data.len(), "as many elements as {dims:?} holds");
        Tensor { dims: dims.to_vec(), data }
    }

    /// A tensor of Rust numbers.
    ///
    /// # Panics
    /// If the number of elements is not the product of `dims`.
    pub fn from_vec<T: Element>(dims: &[usize], elements: Vec<T>) -> Tensor {
        Tensor::new(dims, T::data(elements))
    }

    /// The lengths of the axes.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// The elements.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// The elements alone.
    pub fn into_data(self) -> Data {
        self.data
    }

    /// The elements, to be written: their number and type must stay.
    pub fn data_mut(&mut self) -> &mut Data {
        &mut self.data
    }

    /// The type of the elements.
    pub fn dtype(&self) -> DType {
        self.data.dtype()
    }

    /// Element type and shape.
    pub fn tensor_type(&self) -> TensorType {
        TensorType::new(self.dtype(), self.dims.iter().copied())
    }

    /// The elements, if they are of type `T`.
    pub fn as_slice<T: Element>(&self) -> Option<&[T]> {
        T::slice(&self.data)
    }

    /// The values as the reference evaluator computes with them.
    pub fn to_array(&self) -> Array {
        Array { dims: self.dims.clone(), data: self.data.to_f64() }
    }
}

/// The values of a tensor in f64, whatever its element type: what references compute with.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// The lengths of the axes.
    pub dims: Vec<usize>,
    /// The elements in row-major order.
    pub data: Vec<f64>,
}

impl Array {
    /// An array whose element at `index` is `element(index)`.
    pub fn from_fn(dims: &[usize], mut element: impl FnMut(&[usize]) -> f64) -> Array {
        let data = points(dims).map(|index| element(&index)).collect();
        Array { dims: dims.to_vec(), data }
    }

    /// The element at `index`.
    pub fn at(&self, index: &[usize]) -> f64 {
        self.data[self.flat(index)]
    }

    /// The place of `index` in `data`.
    pub fn flat(&self, index: &[usize]) -> usize {
        index.iter().zip(&self.dims).fold(0, |flat, (&i, &n)| flat * n + i)
    }

    /// The values as elements of `dtype`.
    pub fn to_tensor(&self, dtype: DType) -> Tensor {
        Tensor::new(&self.dims, Data::from_f64(dtype, &self.data))
    }
}

/// All indices of a space of `dims`, the last axis fastest; one empty index for a scalar.
pub fn points(dims: &[usize]) -> impl Iterator<Item = SmallVec<[usize; 8]>> {
    let count: usize = dims.iter().product();
    let dims: SmallVec<[usize; 8]> = dims.into();
    let mut next: SmallVec<[usize; 8]> = SmallVec::from_elem(0, dims.len());
    (0..count).map(move |_| {
        let point = next.clone();
        for axis in (0..dims.len()).rev() {
            next[axis] += 1;
            if next[axis] < dims[axis] {
                break;
            }
            next[axis] = 0;
        }
        point
    })
}
