//! What losses share: how the losses of single elements become one number, and class labels.

use super::common::{agreed, agreed_shape, expect_float, expect_indices, groups};
use super::*;
use crate::Dim;

/// How the losses of single elements become the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum LossReduction {
    /// Their mean (`"mean"`).
    #[default]
    Mean,
    /// Their sum (`"sum"`).
    Sum,
    /// They are the output (`"none"`).
    None,
    /// Their sum divided by the length of the first axis (`"batchmean"`), of the KL divergence only.
    BatchMean,
}

const NAMES: [(LossReduction, &str); 4] = [
    (LossReduction::Mean, "mean"),
    (LossReduction::Sum, "sum"),
    (LossReduction::None, "none"),
    (LossReduction::BatchMean, "batchmean"),
];

impl TryFrom<String> for LossReduction {
    type Error = String;

    fn try_from(name: String) -> Result<LossReduction, String> {
        let known = NAMES.iter().find(|(_, known)| *known == name);
        known
            .map(|(reduction, _)| *reduction)
            .ok_or_else(|| format!("expected \"mean\", \"sum\" or \"none\", found {name:?}"))
    }
}

impl From<LossReduction> for String {
    fn from(reduction: LossReduction) -> String {
        let (_, name) = NAMES.iter().find(|(known, _)| *known == reduction).expect("all are listed");
        (*name).to_string()
    }
}

impl LossReduction {
    /// The type of the output, of element losses of this shape.
    pub fn output(self, shape: Vec<Dim>) -> Types {
        let shape = if self == LossReduction::None { shape } else { Vec::new() };
        [TensorType::f32(shape)].into_iter().collect()
    }

    /// Refuses the reduction that only the KL divergence has.
    ///
    /// # Errors
    /// Where it is `"batchmean"`.
    pub fn expect_plain(self) -> Result<(), Mismatch> {
        match self {
            LossReduction::BatchMean => {
                let help = "\"batchmean\" belongs to KLDivLoss";
                Err(Mismatch::new("\"mean\", \"sum\" or \"none\"", "\"batchmean\"", help).in_field("reduction"))
            }
            _ => Ok(()),
        }
    }
}

/// Checks scores `[batch, classes, places...]` or `[classes]`, labels `[batch, places...]` or `[]`, and the weights
/// `[classes]` that may follow. Gives the shape of the labels.
///
/// # Errors
/// Where they do not fit each other.
pub fn expect_classes(inputs: &[&TensorType]) -> Result<Vec<Dim>, Mismatch> {
    let (scores, labels) = (inputs[0], inputs[1]);
    expect_float(scores)?;
    expect_indices(labels, "class labels")?;
    if scores.rank() == 0 {
        let help = "give each class a score";
        return Err(Mismatch::new("scores of shape [batch, classes, ...] or [classes]", scores.to_string(), help));
    }
    let axis = class_axis(scores.rank());
    let mut places = scores.shape.clone();
    let classes = places.remove(axis);
    let shape: Option<Vec<Dim>> = places.iter().zip(&labels.shape).map(|(a, b)| agreed(a, b)).collect();
    let Some(shape) = shape.filter(|_| places.len() == labels.rank()) else {
        let wanted = TensorType { dtype: labels.dtype, shape: places };
        return Err(Mismatch::new(
            format!("labels of type {wanted} (the scores are {scores}, classes at axis {axis})"),
            labels.to_string(),
            "give each place one label; it has no class axis",
        ));
    };
    if let Some(weights) = inputs.get(2) {
        expect_float(weights)?;
        if weights.rank() != 1 || agreed(&weights.shape[0], &classes).is_none() {
            let expected = format!("weights of type f32[{classes}], one a class");
            return Err(Mismatch::new(expected, weights.to_string(), "give each class one weight"));
        }
    }
    Ok(shape)
}

/// As [`expect_classes`], or with probabilities of the scores' shape in the place of labels.
///
/// # Errors
/// Where they do not fit each other.
pub fn expect_targets(inputs: &[&TensorType]) -> Result<Vec<Dim>, Mismatch> {
    let (scores, targets) = (inputs[0], inputs[1]);
    if !targets.dtype.is_float() || scores.rank() == 0 {
        return expect_classes(inputs);
    }
    let axis = class_axis(scores.rank());
    let mut shape = agreed_shape(scores, targets)?;
    let labels =
        TensorType::new(DType::I64, shape.iter().enumerate().filter(|(i, _)| *i != axis).map(|(_, n)| n.clone()));
    let weights: Vec<&TensorType> = [scores, &labels].into_iter().chain(inputs.get(2).copied()).collect();
    expect_classes(&weights)?;
    shape.remove(axis);
    Ok(shape)
}

/// The axis of the classes in scores of this rank.
pub fn class_axis(rank: usize) -> usize {
    usize::from(rank > 1)
}

/// The label at each place with its scores, one a class: what references compute with.
pub fn labelled(scores: &Array, labels: &Array) -> Vec<(f64, Vec<f64>)> {
    let axis = class_axis(scores.dims.len());
    let over: Vec<bool> = (0..scores.dims.len()).map(|i| i == axis).collect();
    labels.data.iter().copied().zip(groups(scores, &over)).collect()
}

/// The score of a class; NaN of a label that is none, which no run that succeeds has.
pub fn score(scores: &[f64], label: f64) -> f64 {
    if (0.0..scores.len() as f64).contains(&label) { scores[label as usize] } else { f64::NAN }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        for (reduction, name) in NAMES {
            assert_eq!(LossReduction::try_from(name.to_string()), Ok(reduction));
            assert_eq!(String::from(reduction), name);
        }
        assert!(LossReduction::try_from("average".to_string()).is_err());
    }

    #[test]
    fn labels_fit_scores() {
        let labels = |shape: &[usize]| TensorType::new(DType::I64, shape.iter().copied());
        let scores = TensorType::f32([2usize, 10, 4]);
        assert_eq!(expect_classes(&[&scores, &labels(&[2, 4])]), Ok(vec![2.into(), 4.into()]));
        assert_eq!(expect_classes(&[&TensorType::f32([10usize]), &labels(&[])]), Ok(vec![]));
        let mismatch = expect_classes(&[&scores, &labels(&[2, 10])]).unwrap_err();
        assert_eq!(mismatch.expected, "labels of type i64[2, 4] (the scores are f32[2, 10, 4], classes at axis 1)");
        let weights = TensorType::f32([4usize]);
        let mismatch = expect_classes(&[&scores, &labels(&[2, 4]), &weights]).unwrap_err();
        assert_eq!(mismatch.expected, "weights of type f32[10], one a class");
    }
}
