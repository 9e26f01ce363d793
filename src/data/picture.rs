//! Photographs as inputs.

use super::files;
use super::resample::{Axis, Pixels};
use crate::ir::model::Image;
use crate::ir::{Diagnostic, Tensor};
use image::{DynamicImage, ImageReader, Limits};
use std::io::Cursor;
use std::path::Path;

/// The longest side of a picture that is decoded.
const LONGEST_SIDE: u32 = 1 << 15;

/// A decoded picture.
#[derive(Debug)]
pub struct Picture(DynamicImage);

impl Picture {
    /// Reads PNG, JPEG or PNM; the kind is known by the bytes, not by the name.
    ///
    /// # Errors
    /// Where the file cannot be read, is of another kind, damaged, or too large.
    pub fn read(path: &Path) -> Result<Picture, Diagnostic> {
        let bytes = files::read(path)?;
        let mut reader = ImageReader::new(Cursor::new(bytes.as_slice())).with_guessed_format().expect("memory is read");
        let mut limits = Limits::default();
        (limits.max_image_width, limits.max_image_height) = (Some(LONGEST_SIDE), Some(LONGEST_SIDE));
        reader.limits(limits);
        reader.decode().map(Picture).map_err(|error| {
            Diagnostic::new(format!("`{}` is not a picture that can be read", path.display()))
                .expected(format!("a PNG, JPEG or PNM file of at most {LONGEST_SIDE} pixels a side"))
                .found(error.to_string())
        })
    }

    /// Width and height in pixels.
    pub fn size(&self) -> (u32, u32) {
        (self.0.width(), self.0.height())
    }

    /// The picture as the input `[1, channels, height, width]`: resized so that its shorter side has the length that
    /// `rule` says (the side that just covers the input, if it says none), the centre cut out, each pixel of 0 to 255
    /// turned into `(pixel * scale - mean) / std`. One channel is brightness, three are red, green and blue.
    ///
    /// # Errors
    /// Where `channels` is neither 1 nor 3, `rule` has another number of means or deviations, or the input does not fit in
    /// memory.
    pub fn to_tensor(&self, rule: &Image, channels: usize, height: usize, width: usize) -> Result<Tensor, Diagnostic> {
        if !matches!(channels, 1 | 3) || rule.check_channels(channels).is_err() {
            return Err(Diagnostic::new("a picture does not fit the input")
                .expected("1 or 3 channels, and one mean and deviation for each")
                .found(format!("{channels} channels, {} means, {} deviations", rule.mean.len(), rule.std.len())));
        }
        let pixels = self.planes(rule.resize, channels, height, width)?;
        let plane = (height * width).max(1);
        let mut values = room(channels, height, width)?;
        values.extend(pixels.iter().enumerate().map(|(i, &pixel)| rule.apply(f64::from(pixel), i / plane) as f32));
        Ok(Tensor::from_vec(&[1, channels, height, width], values))
    }

    /// The pixels of the centre, resized as [`Picture::to_tensor`] says, channel by channel: brightness where `channels`
    /// is 1, else red, green and blue.
    ///
    /// # Errors
    /// Where they do not fit in memory.
    pub(crate) fn planes(
        &self,
        resize: Option<u32>,
        channels: usize,
        height: usize,
        width: usize,
    ) -> Result<Vec<u8>, Diagnostic> {
        let mut pixels: Vec<u8> = room(channels, height, width)?;
        let (Ok(rows), Ok(columns)) = (u32::try_from(height), u32::try_from(width)) else {
            return Err(too_large(channels, height, width));
        };
        let [rows, columns] = self.cover(resize, rows, columns);
        let (width, height) = self.size();
        let whole = if channels == 1 { self.0.to_luma8().into_raw() } else { self.0.to_rgb8().into_raw() };
        Pixels { bytes: &whole, height, width, channels }.resample(rows, columns, &mut pixels);
        if channels == 1 {
            return Ok(pixels);
        }
        Ok((0..channels).flat_map(|channel| pixels.iter().skip(channel).step_by(channels).copied()).collect())
    }

    /// How rows and columns are resized, and where the centre of `height` x `width` pixels is cut out.
    fn cover(&self, shorter: Option<u32>, height: u32, width: u32) -> [Axis; 2] {
        let (w, h) = (f64::from(self.0.width()), f64::from(self.0.height()));
        let covering = (f64::from(width) / w).max(f64::from(height) / h);
        let scale = shorter.map_or(covering, |side| (f64::from(side) / w.min(h)).max(covering));
        [(h, height), (w, width)].map(|(side, length)| {
            let resized = ((side * scale).round() as u32).max(length);
            Axis { resized, begin: (resized - length) / 2, length }
        })
    }
}

/// Room for the pixels of an input.
fn room<T>(channels: usize, height: usize, width: usize) -> Result<Vec<T>, Diagnostic> {
    let mut pixels = Vec::new();
    let elements = files::size(&[channels, height, width], size_of::<T>()).map(|(elements, _)| elements);
    match elements.map(|elements| pixels.try_reserve_exact(elements)) {
        Some(Ok(())) => Ok(pixels),
        _ => Err(too_large(channels, height, width)),
    }
}

fn too_large(channels: usize, height: usize, width: usize) -> Diagnostic {
    Diagnostic::new("a picture does not fit in memory")
        .found(format!("an input of {channels}x{height}x{width} numbers"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(scale: f64, mean: &[f64], std: &[f64], resize: Option<u32>) -> Image {
        Image { scale, mean: mean.to_vec(), std: std.to_vec(), resize }
    }

    fn written(name: &str, bytes: &[u8]) -> Result<Picture, Diagnostic> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        Picture::read(&path)
    }

    #[test]
    fn pixels_become_planes() {
        let picture = written("p.ppm", b"P6 2 1 255 \x00\x80\xff\xff\x00\x80").unwrap();
        let tensor = picture.to_tensor(&rule(1.0, &[1.0, 2.0, 3.0], &[2.0], None), 3, 1, 2).unwrap();
        assert_eq!(tensor.dims(), [1, 3, 1, 2]);
        assert_eq!(tensor.as_slice::<f32>().unwrap(), [-0.5, 127.0, 63.0, -1.0, 126.0, 62.5]);
        let refused = picture.to_tensor(&rule(1.0, &[1.0, 2.0], &[], None), 3, 1, 2).unwrap_err();
        assert!(refused.found.unwrap().contains("2 means"));
    }

    #[test]
    fn the_centre_is_cut_out() {
        // 4 x 2 pixels to 2 x 2: nothing is resized, one column is cut on each side.
        let picture = written("p.pgm", b"P5 4 2 255 \x01\x02\x03\x04\x05\x06\x07\x08").unwrap();
        let tensor = picture.to_tensor(&rule(1.0, &[], &[], None), 1, 2, 2).unwrap();
        assert_eq!(tensor.as_slice::<f32>().unwrap(), [2.0, 3.0, 6.0, 7.0]);
        let larger = picture.to_tensor(&rule(1.0, &[], &[], Some(8)), 1, 4, 4).unwrap();
        assert_eq!(larger.dims(), [1, 1, 4, 4]);
    }

    #[test]
    fn what_is_cut_off_takes_no_memory() {
        let long: Vec<u8> = [b"P5 30000 1 255 ".as_slice(), &[9; 30_000]].concat();
        let picture = written("p.pgm", &long).unwrap();
        assert_eq!(picture.planes(None, 1, 224, 224).unwrap(), [9; 224 * 224]);
        assert_eq!(picture.planes(Some(u32::MAX), 1, 2, 2).unwrap(), [9; 4]);
        for side in [1 << 31, 1 << 40, usize::MAX] {
            assert!(picture.planes(None, 3, side, side).unwrap_err().title.contains("does not fit in memory"));
        }
    }

    #[test]
    fn damaged_and_huge_pictures_are_refused() {
        for bytes in [b"hello".as_slice(), b"P6 2 1 255 \x00", b"P5 999999999 999999999 255 ", b"\x89PNG\r\n\x1a\n"] {
            let diagnostic = written("p.png", bytes).unwrap_err();
            assert!(diagnostic.title.contains("not a picture"), "{diagnostic:?}");
        }
    }
}
