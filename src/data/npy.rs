//! NumPy's `.npy`: one array a file (NumPy Enhancement Proposal 1 and `numpy.lib.format`, versions 1 to 3).
//!
//! Read here and not by a library: those at hand allocate what the header says and parse it recursively.

use super::files::{self, Bytes, numbers, size};
use crate::ir::{Data, Diagnostic, Tensor};
use std::io::{self, Write};
use std::path::Path;

/// The longest header that is read; NumPy's own limit is shorter.
const HEADER_LIMIT: usize = 1 << 16;

/// The array of a file, in row-major order. i8, i16 and u16 become i32, f16 becomes f32, u64 becomes i64.
///
/// # Errors
/// Where the file cannot be read, is not such a file, holds another kind of element, or has more or fewer bytes than
/// its header says.
pub fn read(path: &Path) -> Result<Tensor, Diagnostic> {
    parse(&files::read(path)?).map_err(|(expected, found)| {
        Diagnostic::new(format!("`{}` is not a sound npy file", path.display())).expected(expected).found(found)
    })
}

/// Writes a tensor as an array.
///
/// # Errors
/// Where the file cannot be written.
pub fn write(path: &Path, tensor: &Tensor) -> Result<(), Diagnostic> {
    files::write(path, |out| encode(tensor, out))
}

/// What was expected and what was found instead.
type Fault = (String, String);

fn fault(expected: &str, found: impl Into<String>) -> Fault {
    (expected.to_string(), found.into())
}

/// The header's dictionary.
struct Header {
    descr: String,
    fortran: bool,
    dims: Vec<usize>,
}

fn parse(bytes: &[u8]) -> Result<Tensor, Fault> {
    let mut input = Bytes::new(bytes);
    let short = || fault("a whole header", format!("a file of {} bytes", bytes.len()));
    if input.take(6) != Some(b"\x93NUMPY") {
        return Err(fault("the mark \\x93NUMPY at the start", "other bytes"));
    }
    let version = input.take(2).ok_or_else(short)?;
    let length = match version[0] {
        1 => input.take(2).map(|n| u16::from_le_bytes([n[0], n[1]]) as usize),
        2 | 3 => input.take(4).map(|n| u32::from_le_bytes([n[0], n[1], n[2], n[3]]) as usize),
        other => return Err(fault("version 1, 2 or 3", format!("version {other}"))),
    };
    let length = length.ok_or_else(short)?;
    if length > HEADER_LIMIT {
        return Err(fault(&format!("a header of at most {HEADER_LIMIT} bytes"), format!("{length} bytes")));
    }
    let text = input.take(length).ok_or_else(short)?;
    let text = std::str::from_utf8(text).map_err(|_| fault("a header in UTF-8", "other bytes"))?;
    let header = Dictionary { rest: text }.header().ok_or_else(|| {
        let start: String = text.trim().chars().take(80).collect();
        fault("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", format!("`{start}`"))
    })?;
    decode(&header, input.rest())
}

fn decode(header: &Header, bytes: &[u8]) -> Result<Tensor, Fault> {
    let descr = header.descr.as_str();
    let known = "f2, f4, f8, i1, i2, i4, i8, u1, u2, u4, u8 or bool";
    let unknown = || fault(known, format!("the element type `{descr}`"));
    let (order, kind) = descr.split_at_checked(1).ok_or_else(unknown)?;
    let big = match order {
        "<" | "|" => false,
        ">" => true,
        _ => return Err(unknown()),
    };
    let width: usize = kind.get(1..).and_then(|n| n.parse().ok()).ok_or_else(unknown)?;
    let names = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"];
    if !names.contains(&kind) || order == "|" && width != 1 {
        return Err(unknown());
    }
    let (_, wanted) =
        size(&header.dims, width).ok_or_else(|| fault("a shape that fits", format!("{:?}", header.dims)))?;
    if wanted != bytes.len() {
        return Err(fault(
            &format!("{wanted} bytes of elements for the shape {:?}", header.dims),
            format!("{} bytes", bytes.len()),
        ));
    }
    macro_rules! elements {
        ($from:ty => $into:ty) => {
            numbers(bytes, |n| (if big { <$from>::from_be_bytes(n) } else { <$from>::from_le_bytes(n) }) as $into)
        };
    }
    let data = match kind {
        "f2" => Data::F32(numbers(bytes, |n| {
            let bits = if big { u16::from_be_bytes(n) } else { u16::from_le_bytes(n) };
            half::f16::from_bits(bits).to_f32()
        })),
        "f4" => Data::F32(elements!(f32 => f32)),
        "f8" => Data::F64(elements!(f64 => f64)),
        "i1" => Data::I32(elements!(i8 => i32)),
        "i2" => Data::I32(elements!(i16 => i32)),
        "i4" => Data::I32(elements!(i32 => i32)),
        "i8" => Data::I64(elements!(i64 => i64)),
        "u1" => Data::U8(bytes.to_vec()),
        "u2" => Data::I32(elements!(u16 => i32)),
        "u4" => Data::U32(elements!(u32 => u32)),
        "u8" => {
            let wide = elements!(u64 => u64);
            let narrow: Result<Vec<i64>, _> = wide.iter().map(|&n| i64::try_from(n)).collect();
            Data::I64(narrow.map_err(|_| fault("unsigned numbers below 2^63", "a larger one"))?)
        }
        "b1" => match bytes.iter().find(|&&b| b > 1) {
            Some(b) => return Err(fault("truth values 0 and 1", format!("{b}"))),
            None => Data::Bool(bytes.to_vec()),
        },
        _ => unreachable!("checked: one of the names above"),
    };
    let tensor = Tensor::new(&header.dims, data);
    Ok(if header.fortran { from_fortran(&tensor, &header.dims) } else { tensor })
}

/// The same array with the last axis fastest, from elements with the first axis fastest.
fn from_fortran(tensor: &Tensor, dims: &[usize]) -> Tensor {
    fn reorder<T: Copy>(dims: &[usize], elements: &[T]) -> Vec<T> {
        let at = |index: &[usize]| index.iter().zip(dims).rev().fold(0, |flat, (&i, &n)| flat * n + i);
        crate::ir::tensor::points(dims).map(|index| elements[at(&index)]).collect()
    }
    let data = match tensor.data() {
        Data::F32(s) => Data::F32(reorder(dims, s)),
        Data::F64(s) => Data::F64(reorder(dims, s)),
        Data::I64(s) => Data::I64(reorder(dims, s)),
        Data::I32(s) => Data::I32(reorder(dims, s)),
        Data::U32(s) => Data::U32(reorder(dims, s)),
        Data::U8(s) => Data::U8(reorder(dims, s)),
        Data::Bool(s) => Data::Bool(reorder(dims, s)),
    };
    Tensor::new(dims, data)
}

/// Reads the one form of Python dictionary that a header may hold: strings, truth values and a tuple of integers.
struct Dictionary<'a> {
    rest: &'a str,
}

impl<'a> Dictionary<'a> {
    fn header(mut self) -> Option<Header> {
        let (mut descr, mut fortran, mut dims) = (None, None, None);
        self.token("{")?;
        while !self.accept("}") {
            let key = self.string()?;
            self.token(":")?;
            match key {
                "descr" => descr = Some(self.string()?.to_string()),
                "fortran_order" => fortran = Some(self.truth()?),
                "shape" => dims = Some(self.tuple()?),
                _ => return None,
            }
            if !self.accept(",") {
                self.token("}")?;
                break;
            }
        }
        self.rest.trim().is_empty().then_some(())?;
        Some(Header { descr: descr?, fortran: fortran?, dims: dims? })
    }

    fn accept(&mut self, token: &str) -> bool {
        match self.rest.trim_start().strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn token(&mut self, token: &str) -> Option<()> {
        self.accept(token).then_some(())
    }

    fn string(&mut self) -> Option<&'a str> {
        let quote = self.rest.trim_start().chars().next().filter(|c| matches!(c, '\'' | '"'))?;
        let (text, rest) = self.rest.trim_start()[1..].split_once(quote)?;
        self.rest = rest;
        Some(text)
    }

    fn truth(&mut self) -> Option<bool> {
        if self.accept("True") {
            return Some(true);
        }
        self.accept("False").then_some(false)
    }

    fn tuple(&mut self) -> Option<Vec<usize>> {
        let mut numbers = Vec::new();
        self.token("(")?;
        while !self.accept(")") {
            let text = self.rest.trim_start();
            let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
            numbers.push(text[..digits].parse().ok()?);
            // NumPy has at most 64 axes.
            (numbers.len() <= 64).then_some(())?;
            self.rest = &text[digits..];
            if !self.accept(",") {
                self.token(")")?;
                break;
            }
        }
        Some(numbers)
    }
}

fn encode(tensor: &Tensor, out: &mut dyn Write) -> io::Result<()> {
    let (descr, bytes): (&str, Vec<u8>) = match tensor.data() {
        Data::F32(s) => ("<f4", s.iter().flat_map(|x| x.to_le_bytes()).collect()),
        Data::F64(s) => ("<f8", s.iter().flat_map(|x| x.to_le_bytes()).collect()),
        Data::I64(s) => ("<i8", s.iter().flat_map(|x| x.to_le_bytes()).collect()),
        Data::I32(s) => ("<i4", s.iter().flat_map(|x| x.to_le_bytes()).collect()),
        Data::U32(s) => ("<u4", s.iter().flat_map(|x| x.to_le_bytes()).collect()),
        Data::U8(s) => ("|u1", s.clone()),
        Data::Bool(s) => ("|b1", s.clone()),
    };
    let dims: Vec<String> = tensor.dims().iter().map(|n| format!("{n},")).collect();
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({}), }}", dims.join(" "));
    // The elements begin at a multiple of 64 bytes; the header ends with a line break.
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    out.write_all(b"\x93NUMPY\x01\x00")?;
    out.write_all(&(header.len() as u16).to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    out.write_all(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, elements: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(elements);
        bytes
    }

    #[test]
    fn written_arrays_read_back() {
        for tensor in [
            Tensor::from_vec(&[2, 3], vec![1f32, 2.0, 3.0, -4.0, f32::INFINITY, 0.5]),
            Tensor::from_vec(&[], vec![7i64]),
            Tensor::from_vec(&[0, 4], Vec::<u8>::new()),
            Tensor::from_vec(&[3], vec![1.5f64, -2.5, 1e300]),
            Tensor::new(&[2], Data::Bool(vec![0, 1])),
        ] {
            let mut bytes = Vec::new();
            encode(&tensor, &mut bytes).unwrap();
            assert_eq!((bytes.len() - tensor.data().bytes().len()) % 64, 0);
            assert_eq!(parse(&bytes).unwrap(), tensor);
            for end in 0..bytes.len() {
                assert!(parse(&bytes[..end]).is_err(), "cut at {end}");
            }
            bytes.push(0);
            assert!(parse(&bytes).is_err(), "one byte too many");
        }
    }

    #[test]
    fn other_orders_and_types() {
        let fortran = file("{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3)}", &[1, 4, 2, 5, 3, 6]);
        assert_eq!(parse(&fortran).unwrap(), Tensor::from_vec(&[2, 3], vec![1u8, 2, 3, 4, 5, 6]));
        let big = file("{\"shape\": (1,), 'descr': '>i2', 'fortran_order': False,}", &[0xff, 0xfe]);
        assert_eq!(parse(&big).unwrap(), Tensor::from_vec(&[1], vec![-2i32]));
        let half = file("{'descr': '<f2', 'fortran_order': False, 'shape': ()}", &[0x00, 0x3c]);
        assert_eq!(parse(&half).unwrap(), Tensor::from_vec(&[], vec![1f32]));
    }

    #[test]
    fn headers_are_not_believed() {
        for (header, expected, found) in [
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 4)}", "1599999999984 bytes", "0 bytes"),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296)}",
                "a shape that fits",
                "42949",
            ),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}", "'descr'", "999"),
            ("{'descr': '|O', 'fortran_order': False, 'shape': ()}", "f2, f4", "`|O`"),
            ("{'descr': '<c8', 'fortran_order': False, 'shape': ()}", "f2, f4", "`<c8`"),
            ("{'descr': 'é', 'fortran_order': False, 'shape': ()}", "f2, f4", "`é`"),
            ("{'descr': '<f4', 'shape': ()}", "'fortran_order'", "shape"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", "'shape'", "-1"),
            ("((((((((((((((((((((((", "'descr'", "((("),
            ("{'descr", "'descr'", "descr"),
        ] {
            let (expects, finds) = parse(&file(header, &[])).unwrap_err();
            assert!(expects.contains(expected) && finds.contains(found), "{header}: {expects} / {finds}");
        }
        let mut lying = b"\x93NUMPY\x02\x00".to_vec();
        lying.extend(u32::MAX.to_le_bytes());
        assert!(parse(&lying).unwrap_err().1.contains("4294967295"));
    }
}
