//! Parameter files: named tensors in the safetensors format.

use super::files::{self, numbers};
use crate::cache;
use crate::ir::{DType, Data, Diagnostic, Tensor, TensorType};
use safetensors::tensor::{Metadata, TensorView};
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

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
    let file = File::open(path)?;
    let stored = |entry: &Entry| match entry.dtype {
        Some(_) => file.read(entry).map(Stored::Tensor),
        None => Ok(Stored::Unsupported { dtype: format!("{:?}", entry.stored), dims: entry.dims.clone() }),
    };
    file.entries().iter().map(|(name, entry)| Ok((name.clone(), stored(entry)?))).collect()
}

/// An open file: its header is known, its tensors are read when they are wanted.
#[derive(Debug)]
pub(crate) struct File {
    path: PathBuf,
    /// Locked while it is read: it has one position.
    file: Mutex<fs::File>,
    state: State,
    is_settled: bool,
    entries: BTreeMap<String, Entry>,
    metadata: BTreeMap<String, String>,
}

/// Where a file holds a tensor, and what it is.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    stored: Dtype,
    /// The type that it is read as; `None` where no network has it.
    dtype: Option<DType>,
    dims: Vec<usize>,
    bytes: Range<u64>,
}

impl Entry {
    /// The type that it is read as; `None` where no network has it.
    pub fn tensor_type(&self) -> Option<TensorType> {
        Some(TensorType::new(self.dtype?, self.dims.iter().copied()))
    }

    /// The type as the file has it.
    pub fn stored_type(&self) -> String {
        format!("{}{:?}", format!("{:?}", self.stored).to_lowercase(), self.dims)
    }
}

/// What changes when a file is written.
#[derive(Clone, Debug, PartialEq)]
struct State {
    len: u64,
    modified: Option<SystemTime>,
}

impl State {
    fn of(file: &fs::File) -> io::Result<State> {
        let metadata = file.metadata()?;
        Ok(State { len: metadata.len(), modified: metadata.modified().ok() })
    }
}

/// Times of modification have steps of milliseconds, on some file systems of seconds.
const STEP_OF_TIMES: Duration = Duration::from_secs(2);

/// The longest header that the format allows.
const HEADER_LIMIT: u64 = 100_000_000;

/// So many bytes are read and converted at once.
const CHUNK: usize = 1 << 16;

impl File {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// Where the file cannot be read, is no such file, or its header does not fit its bytes.
    pub fn open(path: &Path) -> Result<File, Diagnostic> {
        let mut file = files::open(path)?;
        let mut header = Vec::new();
        let mut read = |file: &mut fs::File| -> io::Result<State> {
            let state = State::of(file)?;
            file.take(8).read_to_end(&mut header)?;
            let length = header.as_slice().try_into().map_or(0, u64::from_le_bytes);
            if length <= HEADER_LIMIT {
                file.take(length).read_to_end(&mut header)?;
            }
            Ok(state)
        };
        let state = read(&mut file).map_err(|error| files::unreadable(path, &error))?;
        let metadata = parse(&header, state.len).map_err(|error| refuse(path, state.len, &error))?;
        let begin = header.len() as u64;
        let entries = metadata.tensors().into_iter().map(|(name, info)| {
            let (first, end) = info.data_offsets;
            let bytes = begin + first as u64..begin + end as u64;
            let dims = info.shape.clone();
            (name, Entry { stored: info.dtype, dtype: read_as(info.dtype), dims, bytes })
        });
        let entries = entries.collect();
        let texts = metadata.metadata().iter().flatten().map(|(name, text)| (name.clone(), text.clone())).collect();
        let age = state.modified.and_then(|modified| SystemTime::now().duration_since(modified).ok());
        let is_settled = age.is_some_and(|age| age >= STEP_OF_TIMES);
        Ok(File { path: path.to_path_buf(), file: Mutex::new(file), state, is_settled, entries, metadata: texts })
    }

    /// The tensors by name.
    pub fn entries(&self) -> &BTreeMap<String, Entry> {
        &self.entries
    }

    /// Where it lies, and what tells the state in which it was opened from others.
    pub fn identity(&self) -> (PathBuf, String) {
        let path = self.path.canonicalize().unwrap_or_else(|_| self.path.clone());
        (path, cache::file_state(self.state.len, self.state.modified))
    }

    /// Whether any change after it was opened shows in its state: the system's times of modification have steps, and two
    /// changes within one would look alike.
    pub fn is_settled(&self) -> bool {
        self.is_settled
    }

    /// The texts beside the tensors.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Reads a tensor of a type that networks have; f16 and bf16 become f32.
    ///
    /// # Errors
    /// Where the file cannot be read, or was changed after it was opened.
    pub fn read(&self, entry: &Entry) -> Result<Tensor, Diagnostic> {
        // A thread that panicked here left nothing but a position.
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let data = file.seek(SeekFrom::Start(entry.bytes.start)).and_then(|_| elements(&mut file, entry));
        // Asked for afterwards, so that changes while it was read are found too.
        let state = State::of(&file).map_err(|error| files::unreadable(&self.path, &error))?;
        if state != self.state {
            return Err(self.changed(&state));
        }
        let data = data.map_err(|error| files::unreadable(&self.path, &error))?;
        Ok(Tensor::new(&entry.dims, data))
    }

    fn changed(&self, state: &State) -> Diagnostic {
        let fault = Diagnostic::new(format!("`{}` was changed after it was opened", self.path.display()));
        let fault = fault.expected(format!("the same {} bytes", self.state.len));
        let fault = match state.len == self.state.len {
            true => fault.found("a later time of modification"),
            false => fault.found(format!("{} bytes", state.len)),
        };
        fault.help("weights are read again for each choice of sizes: write new ones to another file, and load that")
    }
}

/// The header of a file of `len` bytes.
fn parse(header: &[u8], len: u64) -> Result<Metadata, SafeTensorError> {
    let metadata = match SafeTensors::read_metadata(header) {
        Ok((_, metadata)) => metadata,
        // All is sound but that the tensors are not in memory.
        Err(SafeTensorError::MetadataIncompleteBuffer) => {
            serde_json::from_slice(&header[8..]).map_err(SafeTensorError::InvalidHeaderDeserialization)?
        }
        Err(error) => return Err(error),
    };
    match (header.len() as u64).checked_add(metadata.data_len() as u64) == Some(len) {
        true => Ok(metadata),
        false => Err(SafeTensorError::MetadataIncompleteBuffer),
    }
}

/// The type that elements are read as; `None` where no network has it.
fn read_as(stored: Dtype) -> Option<DType> {
    Some(match stored {
        Dtype::F32 | Dtype::F16 | Dtype::BF16 => DType::F32,
        Dtype::F64 => DType::F64,
        Dtype::I64 => DType::I64,
        Dtype::I32 => DType::I32,
        Dtype::U32 => DType::U32,
        Dtype::U8 => DType::U8,
        Dtype::BOOL => DType::Bool,
        _ => return None,
    })
}

/// The elements of a tensor, which begin where `file` stands.
fn elements(file: &mut fs::File, entry: &Entry) -> io::Result<Data> {
    let elements = entry.dims.iter().product();
    let mut bytes = file.take(entry.bytes.end - entry.bytes.start);
    Ok(match entry.stored {
        Dtype::F32 if cfg!(target_endian = "little") => Data::F32(as_stored(&mut bytes, elements)?),
        Dtype::F32 => Data::F32(converted(&mut bytes, elements, f32::from_le_bytes)?),
        Dtype::F64 => Data::F64(converted(&mut bytes, elements, f64::from_le_bytes)?),
        Dtype::F16 => Data::F32(converted(&mut bytes, elements, |n| half::f16::from_le_bytes(n).to_f32())?),
        Dtype::BF16 => Data::F32(converted(&mut bytes, elements, |n| half::bf16::from_le_bytes(n).to_f32())?),
        Dtype::I64 => Data::I64(converted(&mut bytes, elements, i64::from_le_bytes)?),
        Dtype::I32 => Data::I32(converted(&mut bytes, elements, i32::from_le_bytes)?),
        Dtype::U32 => Data::U32(converted(&mut bytes, elements, u32::from_le_bytes)?),
        Dtype::U8 => Data::U8(converted(&mut bytes, elements, |[b]| b)?),
        Dtype::BOOL => Data::Bool(converted(&mut bytes, elements, |[b]: [u8; 1]| u8::from(b != 0))?),
        other => return Err(io::Error::other(format!("elements of type {other:?}"))),
    })
}

/// So many numbers whose bytes are the machine's.
fn as_stored<T: bytemuck::Pod>(from: &mut impl Read, elements: usize) -> io::Result<Vec<T>> {
    let mut all = bytemuck::allocation::try_zeroed_vec(elements).map_err(|()| io::ErrorKind::OutOfMemory)?;
    from.read_exact(bytemuck::cast_slice_mut(&mut all))?;
    Ok(all)
}

/// So many numbers of `N` bytes each, by `read`, without all the bytes in memory beside them.
fn converted<const N: usize, T>(
    from: &mut impl Read,
    elements: usize,
    read: impl Fn([u8; N]) -> T,
) -> io::Result<Vec<T>> {
    let mut all = Vec::new();
    all.try_reserve_exact(elements).map_err(|_| io::ErrorKind::OutOfMemory)?;
    let mut chunk = vec![0; CHUNK.min(elements * N)];
    while all.len() < elements {
        let bytes = &mut chunk[..((elements - all.len()) * N).min(CHUNK)];
        from.read_exact(bytes)?;
        all.extend(numbers(bytes, &read));
    }
    Ok(all)
}

/// Writes tensors under their names.
///
/// # Errors
/// Where the file cannot be written.
pub fn write<'a>(path: &Path, tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>) -> Result<(), Diagnostic> {
    write_with(path, tensors, Vec::new())
}

/// As [`write`], with named texts beside the tensors.
pub(crate) fn write_with<'a>(
    path: &Path,
    tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
    texts: Vec<(String, String)>,
) -> Result<(), Diagnostic> {
    let stored: Vec<(&str, Dtype, &[usize], Vec<u8>)> =
        tensors.into_iter().map(|(name, tensor)| (name, dtype(tensor), tensor.dims(), little_endian(tensor))).collect();
    let views = stored.iter().map(|(name, dtype, dims, bytes)| {
        let view = TensorView::new(*dtype, dims.to_vec(), bytes).expect("a tensor has as many bytes as its type says");
        (*name, view)
    });
    let texts = (!texts.is_empty()).then(|| texts.into_iter().collect());
    let bytes = safetensors::serialize(views, texts)
        .map_err(|error| Diagnostic::new(format!("`{}` cannot be written", path.display())).found(error.to_string()))?;
    files::write(path, |out| out.write_all(&bytes))
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

fn refuse(path: &Path, len: u64, error: &SafeTensorError) -> Diagnostic {
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
        fs::write(&path, bytes).unwrap();
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

        let bytes = fs::read(&path).unwrap();
        for end in 0..bytes.len() {
            fs::write(&path, &bytes[..end]).unwrap();
            assert!(read(&path).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn tensors_longer_than_a_chunk_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let long = |n: usize| Tensor::from_vec(&[n], (0..n).map(|i| i as f32).collect());
        let tensors = [long(CHUNK / 4 - 1), long(CHUNK / 4), long(CHUNK + 1), long(0)];
        let names = ["a", "b", "c", "d"];
        write(&path, names.into_iter().zip(&tensors)).unwrap();
        let all = read(&path).unwrap();
        for (name, tensor) in names.into_iter().zip(tensors) {
            assert_eq!(all[name], Stored::Tensor(tensor), "{name}");
        }
    }

    #[test]
    fn a_file_that_changes_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let tensor = Tensor::from_vec(&[4], vec![1f32; 4]);
        let open = || {
            write(&path, [("w", &tensor)]).unwrap();
            let file = File::open(&path).unwrap();
            assert_eq!(file.read(&file.entries()["w"]).unwrap(), tensor);
            file
        };
        let file = open();
        let bytes = fs::read(&path).unwrap();
        // In place: a file that takes the name of another leaves the open one as it was.
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        let fault = file.read(&file.entries()["w"]).unwrap_err();
        assert_eq!(fault.found, Some(format!("{} bytes", bytes.len() - 1)));

        let file = open();
        let later = SystemTime::now() + Duration::from_secs(5);
        fs::File::options().write(true).open(&path).unwrap().set_modified(later).unwrap();
        let fault = file.read(&file.entries()["w"]).unwrap_err();
        assert_eq!(fault.found.unwrap(), "a later time of modification");

        let file = open();
        write(&path, [("other", &tensor)]).unwrap();
        assert_eq!(file.read(&file.entries()["w"]).unwrap(), tensor);
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
