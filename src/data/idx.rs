//! IDX, the format of the MNIST digits, plain or gzipped (described on the MNIST page by LeCun, Cortes and Burges).

use super::files::{self, Bytes, numbers, size};
use crate::ir::{Data, Diagnostic, Tensor};
use flate2::bufread::MultiGzDecoder;
use std::io::Read;
use std::path::Path;

/// The most bytes of elements that are unpacked.
const LIMIT: usize = 1 << 30;

/// The array of a file; gzip is known by its mark, not by the name.
///
/// # Errors
/// Where the file cannot be read, is no IDX, is damaged, or has more or fewer bytes than its header says.
pub fn read(path: &Path) -> Result<Tensor, Diagnostic> {
    parse(&files::read(path)?).map_err(|(expected, found)| {
        Diagnostic::new(format!("`{}` is not a sound IDX file", path.display())).expected(expected).found(found)
    })
}

/// The array in the bytes of a file.
///
/// # Errors
/// What was expected and what was found instead.
pub fn parse(bytes: &[u8]) -> Result<Tensor, (String, String)> {
    match bytes.starts_with(&[0x1f, 0x8b]) {
        true => stream(&mut MultiGzDecoder::new(bytes)),
        false => stream(&mut { bytes }),
    }
}

fn stream(input: &mut dyn Read) -> Result<Tensor, (String, String)> {
    let fault = |expected: &str, found: String| (expected.to_string(), found);
    let mut header = vec![0; 4];
    let cut = |error: std::io::Error| fault("a whole header", error.to_string());
    input.read_exact(&mut header).map_err(cut)?;
    let (0, 0, kind, rank) = (header[0], header[1], header[2], header[3]) else {
        return Err(fault("two zero bytes at the start", format!("{:02x} {:02x}", header[0], header[1])));
    };
    let width = match kind {
        0x08 => 1,
        0x0c | 0x0d => 4,
        0x0e => 8,
        _ => return Err(fault("elements of type 08 (u8), 0c (i32), 0d (f32) or 0e (f64)", format!("{kind:02x}"))),
    };
    let mut lengths = vec![0; 4 * rank as usize];
    input.read_exact(&mut lengths).map_err(cut)?;
    let mut lengths = Bytes::new(&lengths);
    let mut dims = Vec::new();
    while let Some(n) = lengths.take(4) {
        dims.push(u32::from_be_bytes([n[0], n[1], n[2], n[3]]) as usize);
    }
    let wanted = match size(&dims, width) {
        Some((_, wanted)) if wanted <= LIMIT => wanted,
        _ => return Err(fault(&format!("at most {LIMIT} bytes of elements"), format!("the shape {dims:?}"))),
    };
    // Grows with what is really there; one byte more than wanted shows that there is too much.
    let mut elements = Vec::new();
    input
        .take(wanted as u64 + 1)
        .read_to_end(&mut elements)
        .map_err(|error| fault(&format!("{wanted} bytes of elements"), error.to_string()))?;
    if elements.len() != wanted {
        let found = if elements.len() < wanted { format!("{} bytes", elements.len()) } else { "more".to_string() };
        return Err(fault(&format!("{wanted} bytes of elements for the shape {dims:?}"), found));
    }
    let data = match kind {
        0x08 => Data::U8(elements),
        0x0c => Data::I32(numbers(&elements, i32::from_be_bytes)),
        0x0d => Data::F32(numbers(&elements, f32::from_be_bytes)),
        _ => Data::F64(numbers(&elements, f64::from_be_bytes)),
    };
    Ok(Tensor::new(&dims, data))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    fn idx(kind: u8, dims: &[u32], elements: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, kind, dims.len() as u8];
        bytes.extend(dims.iter().flat_map(|n| n.to_be_bytes()));
        bytes.extend(elements);
        bytes
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn plain_and_gzipped() {
        let plain = idx(8, &[2, 1, 2], &[1, 2, 3, 255]);
        let want = Tensor::from_vec(&[2, 1, 2], vec![1u8, 2, 3, 255]);
        assert_eq!(parse(&plain).unwrap(), want);
        assert_eq!(parse(&gzip(&plain)).unwrap(), want);
        // What parallel packers write: one member behind the other.
        let parts = [gzip(&plain[..9]), gzip(&plain[9..])].concat();
        assert_eq!(parse(&parts).unwrap(), want);
        assert!(parse(&[gzip(&plain), b"rest".to_vec()].concat()).is_err());
        assert_eq!(parse(&idx(0x0d, &[1], &[0x3f, 0x80, 0, 0])).unwrap(), Tensor::from_vec(&[1], vec![1f32]));
    }

    #[test]
    fn cut_and_lying_files_are_refused() {
        let plain = idx(8, &[2, 3], &[1, 2, 3, 4, 5, 6]);
        let zipped = gzip(&plain);
        for bytes in [&plain, &zipped] {
            for end in 0..bytes.len() {
                assert!(parse(&bytes[..end]).is_err(), "cut at {end} of {}", bytes.len());
            }
        }
        let mut damaged = zipped.clone();
        let last = damaged.len() - 5;
        damaged[last] ^= 1;
        assert!(parse(&damaged).is_err(), "the checksum is wrong");
        assert_eq!(parse(&idx(8, &[1], &[1, 2])).unwrap_err().1, "more");
        assert!(parse(&idx(8, &[u32::MAX; 4], &[])).unwrap_err().0.contains("at most"));
        assert!(parse(&idx(8, &[1 << 30], &[])).unwrap_err().1.contains("0 bytes"));
        assert!(parse(&idx(0x77, &[1], &[1])).unwrap_err().1.contains("77"));
        assert!(parse(b"hello").unwrap_err().0.contains("zero bytes"));
    }

    #[test]
    fn a_gzip_bomb_is_not_unpacked() {
        let bomb = gzip(&idx(8, &[16], &vec![0; 64 << 20]));
        assert!(bomb.len() < 1 << 20);
        assert_eq!(parse(&bomb).unwrap_err().1, "more");
    }
}
