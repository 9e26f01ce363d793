//! A tensor in pieces along one axis.

use super::conv::is_default;
use super::reshape::axis_of;
use super::slice::copy;
use super::*;
use crate::Dim;
use crate::graph::ValueId;

/// Pieces along `dim`, each an output.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// The length of all pieces (the last may be shorter), or of each.
    pub split_size: SplitSize,
    /// The axis.
    #[serde(default, skip_serializing_if = "is_default")]
    pub dim: i32,
}

/// The lengths of pieces.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged, expecting = "a whole number, or a list of the sizes")]
pub enum SplitSize {
    /// One for all; the last piece may be shorter.
    All(u32),
    /// One each.
    Each(SmallVec<[u32; 4]>),
}

/// The layers of this file.
pub const LAYERS: &[LayerKind] = &[LayerKind {
    name: "Split",
    about: "pieces along an axis, each an output",
    read: |fields| crate::text::read(fields).map(Op::Split),
}];

impl Split {
    /// The most pieces of one layer.
    pub const LIMIT: i64 = 4096;

    /// The lengths of the pieces of an axis.
    fn lengths(&self, length: &Dim) -> Result<Vec<i64>, Mismatch> {
        let wrong = |expected: String, found: String, help: &str| {
            Err(Mismatch::new(expected, found, help).in_field("split_size"))
        };
        let Dim::Known(length) = *length else {
            let help = "bind the symbol first, or split another axis";
            return wrong("an axis whose length is a number".to_string(), length.to_string(), help);
        };
        match &self.split_size {
            SplitSize::All(0) => wrong("pieces of 1 element or more".to_string(), "0".to_string(), "use 1 or more"),
            SplitSize::All(size) => {
                let size = i64::from(*size);
                match (length.max(1) - 1) / size + 1 {
                    pieces if pieces <= Split::LIMIT => Ok((0..pieces).map(|i| size.min(length - i * size)).collect()),
                    pieces => {
                        let expected = format!("at most {} pieces", Split::LIMIT);
                        wrong(expected, format!("{pieces} pieces of {size}"), "use longer pieces, or Reshape")
                    }
                }
            }
            SplitSize::Each(sizes) => {
                let sum: i64 = sizes.iter().map(|&n| i64::from(n)).sum();
                match sum == length && !sizes.is_empty() {
                    true => Ok(sizes.iter().map(|&n| i64::from(n)).collect()),
                    false => wrong(
                        format!("lengths that add up to {length}"),
                        format!("{sum}"),
                        "change the lengths of the pieces",
                    ),
                }
            }
        }
    }
}

impl OpSpec for Split {
    fn name(&self) -> &'static str {
        "Split"
    }

    fn fields(&self) -> String {
        crate::text::fields(self)
    }

    fn arity(&self) -> Arity {
        Arity::exactly(1)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Types, Mismatch> {
        let dim = axis_of(self.dim, inputs[0].rank(), "dim")?;
        let pieces = self.lengths(&inputs[0].shape[dim])?.into_iter().map(|length| {
            let mut ty = inputs[0].clone();
            ty.shape[dim] = Dim::Known(length);
            ty
        });
        Ok(pieces.collect())
    }

    fn lower(&self, site: &mut Site) -> Vec<Kernel> {
        let input = &site.inputs[0];
        let dim = axis_of(self.dim, input.dims.len(), "dim").expect("verified: the axis exists");
        let mut start = 0;
        let piece = |out: &Operand| {
            let kernel = copy(input, out, dim, start, 1);
            start += out.dims[dim] as i64;
            kernel
        };
        site.outputs.iter().map(piece).collect()
    }

    fn gradient(&self, back: &mut Backward) -> Gradients {
        let dims = back.dims(back.input(0));
        let dim = axis_of(self.dim, dims.len(), "dim").expect("verified: the axis exists");
        let pieces: Vec<ValueId> = (0..back.upstreams().len())
            .map(|port| match back.upstreams()[port] {
                Some(upstream) => upstream,
                None => {
                    let piece = back.dims(back.output(port as u32));
                    back.zeros(&piece)
                }
            })
            .collect();
        let gradient = back.node(Concat { dim: dim as i32 }, &pieces);
        back.only(gradient)
    }

    fn reference(&self, inputs: &[&Array], outputs: &[TensorType]) -> Vec<Array> {
        let dim = axis_of(self.dim, inputs[0].dims.len(), "dim").expect("verified: the axis exists");
        let mut before = 0;
        let piece = |ty: &TensorType| {
            let dims = ty.dims().expect("verified: bound");
            let array = Array::from_fn(&dims, |at| {
                let mut at = at.to_vec();
                at[dim] += before;
                inputs[0].at(&at)
            });
            before += dims[dim];
            array
        };
        outputs.iter().map(piece).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_add_up() {
        let ty = TensorType::f32([Dim::symbol("N"), 7.into()]);
        let split = |split_size, dim| {
            let types = Split { split_size, dim }.infer(&[&ty])?;
            Ok::<_, Mismatch>(types.iter().map(|ty| ty.shape[1].known().unwrap()).collect::<Vec<_>>())
        };
        assert_eq!(split(SplitSize::All(3), 1), Ok(vec![3, 3, 1]));
        assert_eq!(split(SplitSize::Each([2, 5].into_iter().collect()), -1), Ok(vec![2, 5]));
        assert_eq!(split(SplitSize::Each([2, 4].into_iter().collect()), 1).unwrap_err().found, "6");
        assert_eq!(split(SplitSize::All(0), 1).unwrap_err().field, Some("split_size"));
        assert_eq!(split(SplitSize::All(1), 0).unwrap_err().found, "N");
        let long = TensorType::f32([1usize << 30]);
        assert!(Split { split_size: SplitSize::All(1), dim: 0 }.infer(&[&long]).is_err(), "too many pieces");
    }
}
