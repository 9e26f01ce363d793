//! Pixels of another size, by a triangle as wide as a pixel of the coarser side: what PyTorch and Pillow call bilinear with
//! antialiasing. Only what is cut out is computed, whatever the size of the whole.

/// Bytes with their channels side by side, row by row.
pub(super) struct Pixels<'p> {
    pub bytes: &'p [u8],
    pub height: u32,
    pub width: u32,
    pub channels: usize,
}

/// Along one axis: its length when resized, and the part of that which is cut out.
#[derive(Clone, Copy)]
pub(super) struct Axis {
    pub resized: u32,
    pub begin: u32,
    pub length: u32,
}

/// The first pixel that a new one is made of, and the weight of it and of each that follows.
struct Taps {
    first: usize,
    weights: Vec<f32>,
}

impl Taps {
    /// Those of pixel `at` of an axis of `length` pixels that becomes one of `resized`.
    fn new(at: u32, length: u32, resized: u32) -> Taps {
        let ratio = f64::from(length) / f64::from(resized);
        let reach = ratio.max(1.0);
        let centre = (f64::from(at) + 0.5) * ratio;
        let first = ((centre - reach).floor().max(0.0) as u32).min(length - 1);
        let end = ((centre + reach).ceil() as u32).clamp(first + 1, length);
        let weight = |pixel: u32| (1.0 - ((f64::from(pixel) + 0.5 - centre) / reach).abs()).max(0.0);
        let sum: f64 = (first..end).map(weight).sum();
        Taps { first: first as usize, weights: (first..end).map(|pixel| (weight(pixel) / sum) as f32).collect() }
    }

    fn end(&self) -> usize {
        self.first + self.weights.len()
    }
}

impl Pixels<'_> {
    /// Appends what is cut out of the resized pixels to `into`, in the same order. An image has one pixel or more.
    pub fn resample(&self, rows: Axis, columns: Axis, into: &mut Vec<u8>) {
        let channels = self.channels;
        let stride = self.width as usize * channels;
        let taps = |axis: Axis, length: u32| {
            (axis.begin..axis.begin + axis.length).map(move |at| Taps::new(at, length, axis.resized))
        };
        let across: Vec<Taps> = taps(columns, self.width).collect();
        // The columns that something is made of.
        let begin = across.iter().map(|taps| taps.first).min().unwrap_or(0);
        let end = across.iter().map(Taps::end).max().unwrap_or(0);
        let mut row = vec![0f32; (end - begin) * channels];
        for down in taps(rows, self.height) {
            row.fill(0.0);
            for (y, weight) in (down.first..).zip(&down.weights) {
                let bytes = &self.bytes[y * stride..][begin * channels..end * channels];
                row.iter_mut().zip(bytes).for_each(|(sum, &byte)| *sum += f32::from(byte) * weight);
            }
            for taps in &across {
                for channel in 0..channels {
                    let pixels = row[(taps.first - begin) * channels + channel..].iter().step_by(channels);
                    let sum: f32 = pixels.zip(&taps.weights).map(|(pixel, weight)| pixel * weight).sum();
                    into.push(sum.round().clamp(0.0, 255.0) as u8);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resampled(bytes: &[u8], [height, width]: [u32; 2], rows: [u32; 3], columns: [u32; 3]) -> Vec<u8> {
        let channels = bytes.len() / (height * width) as usize;
        let axis = |[resized, begin, length]: [u32; 3]| Axis { resized, begin, length };
        let mut into = Vec::new();
        Pixels { bytes, height, width, channels }.resample(axis(rows), axis(columns), &mut into);
        into
    }

    #[test]
    fn the_same_size_is_the_same() {
        let bytes: Vec<u8> = (0..24).map(|i| i * 10).collect();
        assert_eq!(resampled(&bytes, [2, 4], [2, 0, 2], [4, 0, 4]), bytes);
        assert_eq!(resampled(&bytes, [2, 4], [2, 1, 1], [4, 2, 2]), bytes[18..]);
    }

    /// By Pillow: `Image.resize(size, Image.BILINEAR)`.
    #[test]
    fn other_sizes_are_those_of_pillow() {
        let row = [0, 50, 100, 200, 250, 10];
        assert_eq!(resampled(&row, [1, 6], [1, 0, 1], [3, 0, 3]), [36, 150, 140]);
        assert_eq!(resampled(&row, [1, 6], [1, 0, 1], [9, 0, 9]), [0, 25, 58, 92, 150, 208, 242, 130, 10]);
        assert_eq!(resampled(&row, [6, 1], [9, 3, 2], [1, 0, 1]), [92, 150]);
    }

    #[test]
    fn a_cut_of_a_huge_image_is_small() {
        let row = [7; 30_000];
        let whole = u32::MAX;
        assert_eq!(resampled(&row, [1, 30_000], [whole, whole / 2, 2], [whole, whole - 3, 3]), [7; 6]);
    }
}
