//! What convolutions and pools share: kernel sizes, strides, padding and dilation, in PyTorch's terms.

use super::*;
use crate::Dim;
use crate::kernel::{Affine, Axis, BinaryOp, Index, KernelBuilder, ScalarId};
use crate::tensor::DType;

/// A number an axis: `3` stands for all axes, `[3, 5]` for each.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged, expecting = "a whole number from 0 to 4294967295, or a list of one for each spatial axis")]
pub enum PerAxis {
    /// The same for all.
    All(u32),
    /// One each.
    Each(SmallVec<[u32; 3]>),
}

impl PerAxis {
    /// One number an axis.
    ///
    /// # Errors
    /// Where a list has not as many numbers as there are axes.
    pub fn expand(&self, axes: usize, field: &'static str) -> Result<SmallVec<[usize; 3]>, Mismatch> {
        match self {
            PerAxis::All(n) => Ok(SmallVec::from_elem(*n as usize, axes)),
            PerAxis::Each(list) if list.len() == axes => Ok(list.iter().map(|&n| n as usize).collect()),
            PerAxis::Each(list) => Err(Mismatch::new(
                format!("one number, or {axes} of them (one for each spatial axis)"),
                format!("{} numbers", list.len()),
                format!("write one number for all axes, or a list of {axes}"),
            )
            .in_field(field)),
        }
    }
}

/// How many elements are added around the image.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "a whole number, a list of one or of a pair (before, after) for each spatial axis, \"same\" or \"valid\""
)]
pub enum Padding {
    /// The same before and after, on all axes.
    All(u32),
    /// The same before and after, for each axis.
    Each(SmallVec<[u32; 3]>),
    /// (before, after) for each axis.
    Pairs(SmallVec<[(u32, u32); 3]>),
    /// `"same"` (as long as the input divided by the stride, rounded up; the odd element goes behind) or `"valid"`.
    Named(PaddingName),
}

/// Padding by its aim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PaddingName {
    /// The output is as long as the input divided by the stride, rounded up.
    Same,
    /// None.
    Valid,
}

impl Default for Padding {
    fn default() -> Padding {
        Padding::All(0)
    }
}

/// A window that slides along one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slide {
    /// Elements of the window.
    pub kernel: usize,
    /// Steps between windows.
    pub stride: usize,
    /// Steps between elements of a window.
    pub dilation: usize,
    /// Elements added in front.
    pub before: usize,
    /// Elements added behind.
    pub after: usize,
    /// Whether a last window may begin inside the input or its front padding and end beyond the padding.
    pub ceil: bool,
}

impl Slide {
    /// The steps from the first to the last element of a window, both included.
    pub fn reach(&self) -> usize {
        let reach = self.dilation.saturating_mul(self.kernel.saturating_sub(1)).saturating_add(1);
        reach.min(i64::MAX as usize)
    }

    /// How many windows fit along an axis of `length`:
    /// `floor((length + before + after - reach) / stride) + 1`, as PyTorch defines it; with `ceil`, rounded up, less
    /// one where the last window would begin behind the input.
    pub fn windows(&self, length: &Dim) -> Dim {
        let room = length.clone() + self.before + self.after - self.reach();
        let stride = Dim::from(self.stride);
        if !self.ceil {
            return room.floor_div(&stride) + 1;
        }
        let windows = room.ceil_div(&stride) + 1;
        match (&windows, length) {
            (Dim::Known(n), Dim::Known(length)) => {
                let begin = n.saturating_sub(1).saturating_mul(self.stride as i64);
                let behind = begin >= length.saturating_add(self.before as i64);
                Dim::Known(n.saturating_sub(behind.into()))
            }
            _ => windows,
        }
    }
}

impl Slide {
    /// Where along the axis a tap of a window lies; in the padding it is before the first element or behind the last.
    pub fn place(&self, window: Axis, tap: Axis) -> Affine {
        window * self.stride as i64 + tap * self.dilation as i64 - self.before as i64
    }
}

/// The pixels of the windows of a pool over `axes` (batch and channels, then one for each slide), whose taps are the inner
/// axes.
pub fn pixels(k: &KernelBuilder, axes: &[Axis], slides: &[Slide]) -> Vec<Index> {
    let (plain, windows) = axes.split_at(axes.len() - slides.len());
    let along = slides.iter().zip(windows).enumerate().map(|(i, (slide, &window))| slide.place(window, k.inner(i)));
    plain.iter().map(|&axis| axis.into()).chain(along.map(Index::from)).collect()
}

/// The slides along spatial axes whose lengths are known and fit, as `infer` made sure.
pub fn verified(
    slides: impl FnOnce(&[Dim]) -> Result<SmallVec<[Slide; 3]>, Mismatch>,
    lengths: &[usize],
) -> SmallVec<[Slide; 3]> {
    let lengths: Vec<Dim> = lengths.iter().map(|&n| n.into()).collect();
    slides(&lengths).expect("verified: windows fit")
}

/// The slides of a window along each spatial axis of `lengths`.
///
/// # Errors
/// Where lists have the wrong length, a kernel or stride is 0, or a window is longer than its padded axis.
pub fn slides(
    lengths: &[Dim],
    kernel_size: &PerAxis,
    stride: Option<&PerAxis>,
    padding: &Padding,
    dilation: &PerAxis,
    ceil: bool,
) -> Result<SmallVec<[Slide; 3]>, Mismatch> {
    let axes = lengths.len();
    let kernel = kernel_size.expand(axes, "kernel_size")?;
    let stride = stride.unwrap_or(kernel_size).expand(axes, "stride")?;
    let dilation = dilation.expand(axes, "dilation")?;
    positive(&[("kernel_size", &kernel), ("stride", &stride), ("dilation", &dilation)])?;
    let mut slides = SmallVec::new();
    for axis in 0..axes {
        let mut slide =
            Slide { kernel: kernel[axis], stride: stride[axis], dilation: dilation[axis], before: 0, after: 0, ceil };
        (slide.before, slide.after) = padding.around(axis, axes, &slide, &lengths[axis])?;
        let padded = lengths[axis].clone() + slide.before + slide.after;
        // With `ceil`, the only window too may end beyond the padding, by less than a stride.
        let most = if ceil { padded + (slide.stride - 1) } else { padded };
        if most.surely_below(slide.reach() as i64) {
            return Err(Mismatch::new(
                format!("a window of at most {most} elements along spatial axis {axis} (the padded length)"),
                format!("{} (kernel size {}, dilation {})", slide.reach(), slide.kernel, slide.dilation),
                "use a smaller kernel or dilation, more padding, or a larger image",
            )
            .in_field("kernel_size"));
        }
        slides.push(slide);
    }
    check_window(&kernel)?;
    Ok(slides)
}

/// Refuses a 0 among numbers that count something.
///
/// # Errors
/// The field at fault.
pub fn positive(numbers: &[(&'static str, &[usize])]) -> Result<(), Mismatch> {
    for &(field, numbers) in numbers {
        if numbers.contains(&0) {
            return Err(Mismatch::new("1 or more", "0", format!("give `{field}` a positive number")).in_field(field));
        }
    }
    Ok(())
}

impl Padding {
    /// (before, after) along one of `axes` axes, for padding in numbers; a name stands for none.
    ///
    /// # Errors
    /// Where a list has not as many entries as there are axes.
    pub fn pair(&self, axis: usize, axes: usize) -> Result<(usize, usize), Mismatch> {
        let length = match self {
            Padding::Each(list) => list.len(),
            Padding::Pairs(list) => list.len(),
            _ => axes,
        };
        if length != axes {
            return Err(Mismatch::new(
                format!("padding for {axes} spatial axes"),
                format!("{length} entries"),
                "write one number, one a spatial axis, or one (before, after) pair a spatial axis",
            )
            .in_field("padding"));
        }
        let (before, after) = match self {
            Padding::All(n) => (*n, *n),
            Padding::Each(list) => (list[axis], list[axis]),
            Padding::Pairs(list) => list[axis],
            Padding::Named(_) => (0, 0),
        };
        Ok((before as usize, after as usize))
    }

    fn around(&self, axis: usize, axes: usize, slide: &Slide, length: &Dim) -> Result<(usize, usize), Mismatch> {
        match self {
            Padding::Named(PaddingName::Same) if slide.stride == 1 => {
                let total = slide.reach() - 1;
                Ok((total / 2, total - total / 2))
            }
            Padding::Named(PaddingName::Same) => match length.known() {
                Some(n) => {
                    let total =
                        ((n.div_ceil(slide.stride).max(1) - 1) * slide.stride + slide.reach()).saturating_sub(n);
                    Ok((total / 2, total - total / 2))
                }
                None => Err(Mismatch::new(
                    "padding in numbers where the image size is a symbol and the stride is not 1",
                    "\"same\"",
                    "write the padding in numbers, or bind the symbol",
                )
                .in_field("padding")),
            },
            _ => self.pair(axis, axes),
        }
    }
}

/// Refuses windows of more elements than an axis may have.
///
/// # Errors
/// The field `kernel_size`.
pub fn check_window(kernel: &[usize]) -> Result<(), Mismatch> {
    let elements = kernel.iter().fold(Dim::Known(1), |product, &n| product * n);
    if elements.surely_below(Dim::LIMIT + 1) {
        return Ok(());
    }
    let expected = format!("a window of at most {} elements", Dim::LIMIT);
    Err(Mismatch::new(expected, elements.to_string(), "use a smaller window").in_field("kernel_size"))
}

/// How many elements of its window count along one axis.
#[derive(Clone, Copy, Debug)]
pub enum Count {
    /// As many for every window.
    Same(usize),
    /// An i64 that depends on the window.
    Varying(ScalarId),
}

/// `sum` over the product of `counts`; a multiplication where that is a number.
pub fn divide(k: &mut KernelBuilder, sum: ScalarId, counts: &[Count]) -> ScalarId {
    let mut same = 1.0;
    let mut varying: Option<ScalarId> = None;
    for &count in counts {
        match count {
            Count::Same(n) => same *= n as f64,
            Count::Varying(n) => varying = Some(varying.map_or(n, |product| k.binary(BinaryOp::Mul, product, n))),
        }
    }
    let Some(count) = varying else {
        let factor = k.number(1.0 / same);
        return k.mul(sum, factor);
    };
    let (count, same) = (k.cast(DType::F32, count), k.number(same));
    let count = k.mul(count, same);
    k.div(sum, count)
}

/// Splits a shape into (batch axes, channels, spatial axes), where `spatial` axes follow the channels and one batch axis
/// or none goes before them.
///
/// # Errors
/// Where the rank is neither `spatial + 1` nor `spatial + 2`.
pub fn image(ty: &TensorType, spatial: usize) -> Result<(&[Dim], &Dim, &[Dim]), Mismatch> {
    let axes = ["length", "height, width", "depth, height, width"][spatial - 1];
    match ty.rank().checked_sub(spatial + 1) {
        Some(batch @ 0..=1) => Ok((&ty.shape[..batch], &ty.shape[batch], &ty.shape[batch + 1..])),
        _ => Err(Mismatch::new(
            format!("an image of shape [batch, channels, {axes}] or [channels, {axes}]"),
            format!("{ty}"),
            "reshape the input, or use the layer for its number of spatial axes",
        )),
    }
}
