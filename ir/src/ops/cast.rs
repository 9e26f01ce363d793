//! Conversion of element types.

use super::*;
use crate::kernel::KernelBuilder;

/// Elements of another type. To integers, fractions are cut off and what does not fit an i64 becomes the nearest that
/// does; to narrower integers, the lowest bits are kept. To truth values, everything but 0 is true.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cast {
    /// The new type.
    pub to: DType,
}

/// The layers of this file.
pub const LAYERS: &[LayerKind] = &[LayerKind {
    name: "Cast",
    about: "elements of another type",
    read: |fields| crate::text::read(fields).map(Op::Cast),
}];

impl OpSpec for Cast {
    fn name(&self) -> &'static str {
        "Cast"
    }

    fn fields(&self) -> String {
        crate::text::fields(self)
    }

    fn arity(&self) -> Arity {
        Arity::exactly(1)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Types, Mismatch> {
        if self.to == DType::F64 {
            let help = "networks compute in f32";
            return Err(Mismatch::new("f32, i64, i32, u32, u8 or bool", "f64", help).in_field("to"));
        }
        Ok([TensorType { dtype: self.to, shape: inputs[0].shape.clone() }].into_iter().collect())
    }

    fn lower(&self, site: &mut Site) -> Vec<Kernel> {
        let (input, out) = (&site.inputs[0], &site.outputs[0]);
        let mut k = KernelBuilder::new(&out.dims);
        let axes = k.outer_axes();
        let mut value = k.load(input, axes.clone());
        if self.to.is_integer() && input.dtype.is_float() {
            // By way of i64, so that floats beyond a narrow type wrap as integers do: one rule for both.
            value = k.cast(DType::I64, value);
        }
        let value = k.cast(self.to, value);
        k.store(out, axes, value);
        vec![k.finish()]
    }

    fn gradient(&self, back: &mut Backward) -> Gradients {
        // Only of floats to floats: whole numbers and truth values carry no gradient.
        let upstream = back.upstream();
        back.only(upstream)
    }

    fn reference(&self, inputs: &[&Array], _: &[TensorType]) -> Vec<Array> {
        let convert = |&x: &f64| match self.to {
            DType::F64 => x,
            DType::F32 => f64::from(x as f32),
            DType::I64 => x as i64 as f64,
            DType::I32 => f64::from(x as i64 as i32),
            DType::U32 => f64::from(x as i64 as u32),
            DType::U8 => f64::from(x as i64 as u8),
            DType::Bool => f64::from(u8::from(x != 0.0)),
        };
        vec![Array { dims: inputs[0].dims.clone(), data: inputs[0].data.iter().map(convert).collect() }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_converted() {
        let input = Array { dims: vec![4], data: vec![-1.5, 300.25, 0.0, f64::NAN] };
        let cast = |to| Cast { to }.reference(&[&input], &[]).remove(0).data;
        assert_eq!(cast(DType::I32), [-1.0, 300.0, 0.0, 0.0]);
        assert_eq!(cast(DType::U8), [255.0, 44.0, 0.0, 0.0]);
        assert_eq!(cast(DType::Bool), [1.0, 1.0, 0.0, 1.0]);
        assert_eq!(Cast { to: DType::F64 }.infer(&[&TensorType::f32([2usize])]).unwrap_err().field, Some("to"));
    }
}
