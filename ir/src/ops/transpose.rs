//! Axes in another order.

use super::common::Dims;
use super::reshape::axis_of;
use super::*;
use crate::kernel::KernelBuilder;

/// Output axis `i` is input axis `dims[i]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Permute {
    /// All axes of the input in their new order.
    pub dims: SmallVec<[i32; 4]>,
}

/// Exchanges two axes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transpose {
    /// One axis.
    pub dim0: i32,
    /// The other.
    pub dim1: i32,
}

/// The layers of this file.
pub const LAYERS: &[LayerKind] = &[
    LayerKind {
        name: "Permute",
        about: "axes in another order",
        read: |fields| crate::text::read(fields).map(Op::Permute),
    },
    LayerKind {
        name: "Transpose",
        about: "exchanges two axes",
        read: |fields| crate::text::read(fields).map(Op::Transpose),
    },
];

impl Permute {
    /// The input axis of each output axis.
    ///
    /// # Errors
    /// Where `dims` does not name each of `rank` axes once.
    pub fn order(&self, rank: usize) -> Result<SmallVec<[usize; 4]>, Mismatch> {
        if self.dims.len() != rank {
            let help = "name each axis of the input once";
            let mismatch = Mismatch::new(format!("{rank} axes"), format!("{}", self.dims.len()), help);
            return Err(mismatch.in_field("dims"));
        }
        Dims::Many(self.dims.clone()).axes(rank, "dims")
    }
}

impl Transpose {
    /// The input axis of each output axis.
    ///
    /// # Errors
    /// Where there is no such axis.
    pub fn order(&self, rank: usize) -> Result<SmallVec<[usize; 4]>, Mismatch> {
        let (a, b) = (axis_of(self.dim0, rank, "dim0")?, axis_of(self.dim1, rank, "dim1")?);
        let mut order: SmallVec<[usize; 4]> = (0..rank).collect();
        order.swap(a, b);
        Ok(order)
    }
}

fn infer(order: &[usize], input: &TensorType) -> Types {
    let shape = order.iter().map(|&axis| input.shape[axis].clone());
    [TensorType::new(input.dtype, shape)].into_iter().collect()
}

fn lower(order: &[usize], site: &Site) -> Vec<Kernel> {
    let (input, out) = (&site.inputs[0], &site.outputs[0]);
    let mut k = KernelBuilder::new(&out.dims);
    let axes = k.outer_axes();
    let mut from = axes.clone();
    for (to, &axis) in order.iter().enumerate() {
        from[axis] = axes[to];
    }
    let value = k.load(input, from);
    k.store(out, axes, value);
    vec![k.finish()]
}

fn reference(order: &[usize], input: &Array) -> Vec<Array> {
    let dims: Vec<usize> = order.iter().map(|&axis| input.dims[axis]).collect();
    let output = Array::from_fn(&dims, |at| {
        let mut from = vec![0; at.len()];
        for (i, &axis) in order.iter().enumerate() {
            from[axis] = at[i];
        }
        input.at(&from)
    });
    vec![output]
}

macro_rules! reorders {
    ($name:ident) => {
        impl OpSpec for $name {
            fn name(&self) -> &'static str {
                stringify!($name)
            }

            fn fields(&self) -> String {
                crate::text::fields(self)
            }

            fn arity(&self) -> Arity {
                Arity::exactly(1)
            }

            fn infer(&self, inputs: &[&TensorType]) -> Result<Types, Mismatch> {
                Ok(infer(&self.order(inputs[0].rank())?, inputs[0]))
            }

            fn lower(&self, site: &mut Site) -> Vec<Kernel> {
                lower(&self.order(site.inputs[0].dims.len()).expect("verified: axes exist"), site)
            }

            fn gradient(&self, back: &mut Backward) -> Gradients {
                let upstream = back.upstream();
                let order = self.order(back.ty(upstream).rank()).expect("verified: axes exist");
                let mut dims: SmallVec<[i32; 4]> = SmallVec::from_elem(0, order.len());
                order.iter().enumerate().for_each(|(to, &axis)| dims[axis] = to as i32);
                let gradient = back.node(Permute { dims }, &[upstream]);
                back.only(gradient)
            }

            fn reference(&self, inputs: &[&Array], _: &[TensorType]) -> Vec<Array> {
                reference(&self.order(inputs[0].dims.len()).expect("verified: axes exist"), inputs[0])
            }
        }
    };
}
reorders!(Permute);
reorders!(Transpose);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_move() {
        let ty = TensorType::f32([2usize, 3, 4]);
        let permute = |dims: &[i32]| Permute { dims: dims.into() }.infer(&[&ty]);
        assert_eq!(permute(&[1, -1, 0]).unwrap()[0], TensorType::f32([3usize, 4, 2]));
        assert_eq!(permute(&[0, 1]).unwrap_err().expected, "3 axes");
        assert_eq!(permute(&[0, 1, 1]).unwrap_err().found, "axis 1 twice");
        let transpose = |dim0, dim1| Transpose { dim0, dim1 }.infer(&[&ty]);
        assert_eq!(transpose(0, -1).unwrap()[0], TensorType::f32([4usize, 3, 2]));
        assert_eq!(transpose(0, 3).unwrap_err().field, Some("dim1"));
    }
}
