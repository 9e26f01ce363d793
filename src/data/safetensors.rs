//! Parameter files: named tensors in the safetensors format.

use super::files::{self, numbers};
use crate::ir::{Data, Diagnostic, Tensor};
use safetensors::{Dtype, SafeTensorError, SafeTensors, tensor::TensorView};
use std::collections::BTreeMap;
use std::path::Path;

/// One tensor of a file.
#[derive(Clone, Debug, PartialEq)]
pub enum Stored {
    /// Its values; f16 and bf16 became f32.
    Tensor(Tensor),
    /// A type of elements that no network here has.
    Unsupported {
        /// The type as the format names it.
        dtype: String,
        /// The shape.
        dims: Vec<usize>,
    },
}

/// All tensors of a file by name.
///
/// # Errors
/// Where the file cannot be read, is no such file, or its header does not fit its bytes.
pub fn read(path: &Path) -> Result<BTreeMap<String, Stored>, Diagnostic> {
    let bytes = files::read(path)?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| refuse(path, bytes.len(), &error))?;
    Ok(file.iter().map(|(name, view)| (name.to_string(), convert(&view))).collect())
}

/// Writes tensors under their names.
///
/// # Errors
/// Where the file cannot be written.
pub fn write<'a>(path: &Path, tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>) -> Result<(), Diagnostic> {
    let stored: Vec<(&str, Dtype, &[usize], Vec<u8>)> =
        tensors.into_iter().map(|(name, tensor)| (name, dtype(tensor), tensor.dims(), little_endian(tensor))).collect();
    let views = stored.iter().map(|(name, dtype, dims, bytes)| {
        let view = TensorView::new(*dtype, dims.to_vec(), bytes).expect("a tensor has as many bytes as its type says");
        (*name, view)
    });
    let bytes = safetensors::serialize(views, None)
        .map_err(|error| Diagnostic::new(format!("`{}` cannot be written", path.display())).found(error.to_string()))?;
    files::write(path, |out| out.write_all(&bytes))
}

fn convert(view: &TensorView) -> Stored {
    let bytes = view.data();
    let data = match view.dtype() {
        Dtype::F32 => Data::F32(numbers(bytes, f32::from_le_bytes)),
        Dtype::F64 => Data::F64(numbers(bytes, f64::from_le_bytes)),
        Dtype::F16 => Data::F32(numbers(bytes, |n| half::f16::from_le_bytes(n).to_f32())),
        Dtype::BF16 => Data::F32(numbers(bytes, |n| half::bf16::from_le_bytes(n).to_f32())),
        Dtype::I64 => Data::I64(numbers(bytes, i64::from_le_bytes)),
        Dtype::I32 => Data::I32(numbers(bytes, i32::from_le_bytes)),
        Dtype::U32 => Data::U32(numbers(bytes, u32::from_le_bytes)),
        Dtype::U8 => Data::U8(bytes.to_vec()),
        Dtype::BOOL => Data::Bool(bytes.iter().map(|&b| u8::from(b != 0)).collect()),
        other => return Stored::Unsupported { dtype: format!("{other:?}"), dims: view.shape().to_vec() },
    };
    Stored::Tensor(Tensor::new(view.shape(), data))
}

fn dtype(tensor: &Tensor) -> Dtype {
    match tensor.data() {
        Data::F32(_) => Dtype::F32,
        Data::F64(_) => Dtype::F64,
        Data::I64(_) => Dtype::I64,
        Data::I32(_) => Dtype::I32,
        Data::U32(_) => Dtype::U32,
        Data::U8(_) => Dtype::U8,
        Data::Bool(_) => Dtype::BOOL,
    }
}

fn little_endian(tensor: &Tensor) -> Vec<u8> {
    match tensor.data() {
        Data::F32(s) => s.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Data::F64(s) => s.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Data::I64(s) => s.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Data::I32(s) => s.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Data::U32(s) => s.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Data::U8(s) | Data::Bool(s) => s.clone(),
    }
}

fn refuse(path: &Path, len: usize, error: &SafeTensorError) -> Diagnostic {
    let (expected, found) = match error {
        SafeTensorError::HeaderTooSmall => ("a header of 8 bytes or more", format!("a file of {len} bytes")),
        SafeTensorError::HeaderTooLarge => ("a header of at most 100 MB", "a longer one".to_string()),
        SafeTensorError::InvalidHeaderLength => ("the whole header", format!("a file of {len} bytes")),
        SafeTensorError::InvalidHeader(_) => ("a header in UTF-8", "other bytes".to_string()),
        SafeTensorError::InvalidHeaderDeserialization(error) => ("a header in JSON", error.to_string()),
        SafeTensorError::MetadataIncompleteBuffer => {
            ("as many bytes as the header says", format!("a file of {len} bytes, cut off or with bytes to spare"))
        }
        SafeTensorError::InvalidOffset(name) => ("tensors one behind the other", format!("`{name}` elsewhere")),
        SafeTensorError::TensorInvalidInfo => {
            ("tensors of as many bytes as their shapes say", "another length".to_string())
        }
        SafeTensorError::ValidationOverflow => ("shapes that fit in memory", "one that does not".to_string()),
        other => ("a sound header", other.to_string()),
    };
    Diagnostic::new(format!("`{}` is not a sound safetensors file", path.display())).expected(expected).found(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(header: &str, data: &[u8]) -> Result<BTreeMap<String, Stored>, Diagnostic> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat();
        std::fs::write(&path, bytes).unwrap();
        read(&path)
    }

    #[test]
    fn written_tensors_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let weight = Tensor::from_vec(&[2, 1], vec![1f32, -2.0]);
        let count = Tensor::from_vec(&[], vec![3i64]);
        write(&path, [("b.weight", &weight), ("a.count", &count)]).unwrap();
        let all = read(&path).unwrap();
        assert_eq!(all.keys().collect::<Vec<_>>(), ["a.count", "b.weight"]);
        assert_eq!(all["b.weight"], Stored::Tensor(weight));
        assert_eq!(all["a.count"], Stored::Tensor(count));

        let bytes = std::fs::read(&path).unwrap();
        for end in 0..bytes.len() {
            std::fs::write(&path, &bytes[..end]).unwrap();
            assert!(read(&path).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn half_floats_widen() {
        let header = r#"{"h":{"dtype":"F16","shape":[1],"data_offsets":[0,2]},"b":{"dtype":"BF16","shape":[1],"data_offsets":[2,4]}}"#;
        let all = stored(header, &[0x00, 0xc0, 0x80, 0x3f]).unwrap();
        assert_eq!(all["h"], Stored::Tensor(Tensor::from_vec(&[1], vec![-2f32])));
        assert_eq!(all["b"], Stored::Tensor(Tensor::from_vec(&[1], vec![1f32])));
    }

    #[test]
    fn headers_are_not_believed() {
        let huge = u64::MAX;
        for (header, found) in [
            (r#"{"w":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#.to_string(), "cut off"),
            (r#"{"w":{"dtype":"F32","shape":[4],"data_offsets":[0,8]}}"#.to_string(), "another length"),
            (r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#.to_string(), "elsewhere"),
            (format!(r#"{{"w":{{"dtype":"F32","shape":[{huge},2],"data_offsets":[0,8]}}}}"#), "one that does not"),
            (r#"{"w":{"dtype":"Q4","shape":[1],"data_offsets":[0,8]}}"#.to_string(), "Q4"),
            ("[".repeat(5000), "line 1"),
            ("{".to_string(), "EOF"),
        ] {
            let diagnostic = stored(&header, &[0; 8]).unwrap_err();
            assert!(diagnostic.found.clone().unwrap().contains(found), "{header}: {diagnostic:?}");
        }
    }
}
