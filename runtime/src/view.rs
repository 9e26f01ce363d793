//! Slices of any element type, as users give and get tensors.

use fusewright_ir::tensor::{DType, Data, Tensor};

macro_rules! views {
    ($($variant:ident $rust:ty;)*) => {
        /// The elements of a tensor in row-major order, borrowed.
        #[derive(Clone, Copy, Debug)]
        #[allow(missing_docs, reason = "each variant is its element type")]
        pub enum View<'a> { $($variant(&'a [$rust]),)* Bool(&'a [u8]) }

        /// The elements of a tensor in row-major order, to be written.
        #[derive(Debug)]
        #[allow(missing_docs, reason = "each variant is its element type")]
        pub enum ViewMut<'a> { $($variant(&'a mut [$rust]),)* Bool(&'a mut [u8]) }

        impl View<'_> {
            /// The element type.
            pub fn dtype(&self) -> DType {
                match self { $(View::$variant(_) => DType::$variant,)* View::Bool(_) => DType::Bool }
            }

            /// The number of elements.
            pub fn len(&self) -> usize {
                match self { $(View::$variant(s) => s.len(),)* View::Bool(s) => s.len() }
            }

            /// Whether there are none.
            pub fn is_empty(&self) -> bool { self.len() == 0 }

            /// The address of the first element.
            pub(crate) fn as_ptr(&self) -> *const u8 {
                match self { $(View::$variant(s) => s.as_ptr().cast(),)* View::Bool(s) => s.as_ptr() }
            }
        }

        impl ViewMut<'_> {
            /// The element type.
            pub fn dtype(&self) -> DType {
                match self { $(ViewMut::$variant(_) => DType::$variant,)* ViewMut::Bool(_) => DType::Bool }
            }

            /// The number of elements.
            pub fn len(&self) -> usize {
                match self { $(ViewMut::$variant(s) => s.len(),)* ViewMut::Bool(s) => s.len() }
            }

            /// Whether there are none.
            pub fn is_empty(&self) -> bool { self.len() == 0 }

            /// The address of the first element.
            pub(crate) fn as_mut_ptr(&mut self) -> *mut u8 {
                match self { $(ViewMut::$variant(s) => s.as_mut_ptr().cast(),)* ViewMut::Bool(s) => s.as_mut_ptr() }
            }
        }

        $(impl<'a> From<&'a [$rust]> for View<'a> {
            fn from(s: &'a [$rust]) -> View<'a> { View::$variant(s) }
        }
        impl<'a> From<&'a mut [$rust]> for ViewMut<'a> {
            fn from(s: &'a mut [$rust]) -> ViewMut<'a> { ViewMut::$variant(s) }
        })*
    };
}
views! { F32 f32; I64 i64; I32 i32; U32 u32; U8 u8; }

/// The elements of a tensor; f64 has no view, because no kernel computes in it.
pub fn view(tensor: &Tensor) -> Option<View<'_>> {
    Some(match tensor.data() {
        Data::F32(s) => View::F32(s),
        Data::I64(s) => View::I64(s),
        Data::I32(s) => View::I32(s),
        Data::U32(s) => View::U32(s),
        Data::U8(s) => View::U8(s),
        Data::Bool(s) => View::Bool(s),
        Data::F64(_) => return None,
    })
}

/// The elements of a tensor to be written; f64 has no view, because no kernel computes in it.
pub fn view_mut(tensor: &mut Tensor) -> Option<ViewMut<'_>> {
    Some(match tensor.data_mut() {
        Data::F32(s) => ViewMut::F32(s),
        Data::I64(s) => ViewMut::I64(s),
        Data::I32(s) => ViewMut::I32(s),
        Data::U32(s) => ViewMut::U32(s),
        Data::U8(s) => ViewMut::U8(s),
        Data::Bool(s) => ViewMut::Bool(s),
        Data::F64(_) => return None,
    })
}
