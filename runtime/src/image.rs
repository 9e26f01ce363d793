//! Executables as bytes: the outline of the plan, the code without addresses, and the constants.
//!
//! Three parts follow each other: a head of fixed size with the lengths and checksums of the others; outline, code and steps
//! in postcard's format; the constants as they lie in memory. Checksums tell damage, not malice: whoever can write the bytes
//! can write code.

use crate::codegen::CodeImage;
use crate::cut::Cut;
use crate::executable::{CompiledStep, Executable};
use crate::memory::{AlignedBytes, MOST_BYTES};
use fusewright_ir::kernel::BufferId;
use fusewright_ir::plan::{Outline, Place, sound};
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};
use twox_hash::XxHash3_128;

/// The part of an executable that it does not keep, and that its bytes need: code without addresses.
#[derive(Debug)]
pub struct Image {
    pub(crate) code: CodeImage<'static>,
    /// For each step, the number of its nest.
    pub(crate) nests: Vec<u32>,
}

/// A step without addresses.
#[derive(Serialize, Deserialize)]
struct StepImage {
    nest: u32,
    buffers: Vec<BufferId>,
    cut: Cut,
}

/// The lengths and checksums of what follows it.
struct Head {
    body_bytes: u64,
    constant_bytes: u64,
    body: u128,
    constants: u128,
}

/// Bytes of the head.
const HEAD: usize = 48;

/// So many bytes are read and checked at once: no more than a near cache holds.
const CHUNK: usize = 1 << 18;

impl Image {
    /// Writes the executable that was made together with this image.
    ///
    /// # Errors
    /// What `out` says.
    pub fn write(&self, executable: &Executable, out: &mut dyn Write) -> io::Result<()> {
        let step =
            |(&nest, step): (&u32, &CompiledStep)| StepImage { nest, buffers: step.buffers.clone(), cut: step.cut };
        let steps: Vec<StepImage> = self.nests.iter().zip(&executable.steps).map(step).collect();
        let body = postcard::to_allocvec(&(&executable.plan, &self.code, &steps)).map_err(io::Error::other)?;
        let constants = executable.constants.bytes();
        let head = Head {
            body_bytes: body.len() as u64,
            constant_bytes: constants.len() as u64,
            body: XxHash3_128::oneshot(&body),
            constants: XxHash3_128::oneshot(constants),
        };
        out.write_all(&head.to_bytes())?;
        out.write_all(&body)?;
        out.write_all(constants)
    }
}

impl Executable {
    /// The executable of which [`Image::write`] made these `length` bytes, in the same build of this library on a machine of
    /// which [`host`](crate::host) says the same. They hold code that sessions will call: they must come from a place that
    /// is trusted like the program itself.
    ///
    /// # Errors
    /// What `from` says; bytes that are damaged or not consistent are [`io::ErrorKind::InvalidData`].
    pub fn read(from: &mut dyn Read, length: u64) -> io::Result<Executable> {
        let mut head = [0; HEAD];
        from.read_exact(&mut head)?;
        let head = Head::of(&head);
        let whole = (HEAD as u64).checked_add(head.body_bytes).and_then(|n| n.checked_add(head.constant_bytes));
        if whole != Some(length) || length > MOST_BYTES {
            return Err(damaged("its length"));
        }
        let mut body = vec![0; head.body_bytes as usize];
        from.read_exact(&mut body)?;
        if XxHash3_128::oneshot(&body) != head.body {
            return Err(damaged("the checksum of its code"));
        }
        let mut constants = AlignedBytes::zeroed(head.constant_bytes as usize);
        if read_checked(from, constants.bytes_mut())? != head.constants {
            return Err(damaged("the checksum of its constants"));
        }
        assembled(&body, constants).map_err(|problem| damaged(&problem))
    }
}

/// Fills `bytes`, and gives their checksum.
fn read_checked(from: &mut dyn Read, bytes: &mut [u8]) -> io::Result<u128> {
    let mut checksum = XxHash3_128::new();
    for chunk in bytes.chunks_mut(CHUNK) {
        from.read_exact(chunk)?;
        checksum.write(chunk);
    }
    Ok(checksum.finish_128())
}

/// The executable of a body and constants that are as they were written. All numbers are checked to name something that is
/// there, so that those of another writer give an error rather than a panic.
fn assembled(body: &[u8], constants: AlignedBytes) -> Result<Executable, String> {
    let (plan, image, steps): (Outline, CodeImage, Vec<StepImage>) =
        postcard::from_bytes(body).map_err(|error| error.to_string())?;
    sound(&plan)?;
    if plan.constant_bytes != constants.bytes().len() as u64 || plan.steps.len() != steps.len() {
        return Err("its parts belong to different plans".to_string());
    }
    for (number, step) in steps.iter().enumerate() {
        let in_band = plan.bands.iter().any(|band| band.steps.contains(&number));
        if !step.cut.is_sound() || !step.buffers.iter().all(|&id| is_usable(&plan, id, in_band)) {
            return Err(format!("step {number} is not consistent"));
        }
    }
    let nests = steps.iter().map(|step| image.nest(step.nest)).collect::<Result<Vec<_>, _>>()?;
    let code_bytes = image.code_bytes();
    let (code, entries) = image.load(nests.into_iter())?;
    let compiled = |(step, entry): (StepImage, _)| CompiledStep { entry, buffers: step.buffers, cut: step.cut };
    let steps = steps.into_iter().zip(entries).map(compiled).collect();
    Ok(Executable { plan: plan.into(), steps, constants, code_bytes, listings: Vec::new(), code })
}

/// Whether a step can use a buffer. Scratch is for bands.
fn is_usable(plan: &Outline, id: BufferId, in_band: bool) -> bool {
    plan.buffers.get(id.0 as usize).is_some_and(|buffer| match buffer.place {
        Place::Input(_) | Place::Output(_) | Place::State(_) | Place::Arena(_) => true,
        Place::Constant(_) | Place::Literal(..) => true,
        Place::Scratch(_) => in_band,
        Place::Parameter(_) | Place::Unused => false,
    })
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("damaged: {what}"))
}

impl Head {
    fn to_bytes(&self) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        bytes[..8].copy_from_slice(&self.body_bytes.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.constant_bytes.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.body.to_le_bytes());
        bytes[32..].copy_from_slice(&self.constants.to_le_bytes());
        bytes
    }

    fn of(bytes: &[u8; HEAD]) -> Head {
        let length = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let checksum = |at: usize| u128::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        Head { body_bytes: length(0), constant_bytes: length(8), body: checksum(16), constants: checksum(32) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executable::Settings;
    use crate::session::Session;
    use crate::view::{View, ViewMut};
    use fusewright_ir::kernel::build::Operand;
    use fusewright_ir::kernel::{FoldKind, KernelBuilder};
    use fusewright_ir::plan::{Band, Layout, Plan, PlannedBuffer, Port, Schedule, Step};
    use fusewright_ir::tensor::{DType, Tensor};
    use std::sync::Arc;
    use std::time::Duration;

    /// `y[i] = sum over k of x[i, k] * w[k]`
    fn made() -> (Executable, Image) {
        let operand =
            |buffer: u32, dims: &[usize]| Operand { buffer: BufferId(buffer), dtype: DType::F32, dims: dims.to_vec() };
        let (x, w, y) = (operand(0, &[4, 3]), operand(1, &[3]), operand(2, &[4]));
        let mut k = KernelBuilder::new(&[4]);
        let (i, j) = (k.outer(0), k.inner(0));
        let (a, b) = (k.load(&x, [i, j]), k.load(&w, [j]));
        let product = k.mul(a, b);
        let sum = k.fold(FoldKind::Sum, &[3], product);
        k.store(&y, [i], sum);
        let kernel = k.finish();
        let numbers = Arc::new(Tensor::from_vec(&[3], vec![1f32, 10.0, 100.0]));
        let places = [Place::Input(0), Place::Literal(64, numbers), Place::Output(0)];
        let buffers = [x, w, y].into_iter().zip(places).map(|(operand, place)| {
            let layout = Layout::row_major(operand.dims.len());
            PlannedBuffer { name: "".into(), dtype: operand.dtype, dims: operand.dims, layout, place }
        });
        let port = |name: &str, buffer: u32, dims: &[usize]| Port {
            name: name.into(),
            buffer: BufferId(buffer),
            dims: dims.to_vec(),
        };
        let schedule = Schedule::plain(&kernel);
        let plan = Plan {
            buffers: buffers.collect(),
            steps: vec![Step { kernel, schedule, ..Step::default() }],
            inputs: vec![port("x", 0, &[4, 3])],
            outputs: vec![port("y", 2, &[4])],
            constant_bytes: 128,
            ..Plan::default()
        };
        Executable::with_image(plan, Settings::default(), |_| Ok(None)).unwrap()
    }

    fn written() -> Vec<u8> {
        let (executable, image) = made();
        let mut bytes = Vec::new();
        image.write(&executable, &mut bytes).unwrap();
        bytes
    }

    fn read(bytes: &[u8]) -> io::Result<Executable> {
        Executable::read(&mut &bytes[..], bytes.len() as u64)
    }

    #[test]
    fn what_is_read_runs() {
        let mut session = Session::new(Arc::new(read(&written()).unwrap()));
        let (x, mut y) = ([1f32, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 0.0, 1.0, 2.0], [0f32; 4]);
        session.run(&[("x", View::F32(&x))], &mut [("y", ViewMut::F32(&mut y))]).unwrap();
        assert_eq!(y, [321.0, 654.0, 987.0, 210.0]);
    }

    #[test]
    fn damage_is_told() {
        let sound = written();
        for at in 0..sound.len() {
            let mut bytes = sound.clone();
            bytes[at] ^= 1 << (at % 8);
            assert!(read(&bytes).is_err(), "byte {at} of {}", sound.len());
            assert!(read(&sound[..at]).is_err(), "cut to {at} of {}", sound.len());
        }
        assert!(read(&[&sound[..], &[0]].concat()).is_err());
    }

    type Parts<'a> = (Outline, CodeImage<'a>, Vec<StepImage>);
    type Spoil = fn(&mut Parts);

    #[test]
    fn what_is_not_consistent_is_refused() {
        let (executable, image) = made();
        let cases: &[(&str, Spoil)] = &[
            ("b1 of 12 bytes has no such place", |(plan, ..)| plan.buffers[1].place = Place::Constant(128)),
            ("parts belong to different plans", |(plan, ..)| plan.constant_bytes = 64 + 12),
            ("parts belong to different plans", |(.., steps)| steps.clear()),
            ("step 0 is not consistent", |(.., steps)| steps[0].buffers[0] = BufferId(3)),
            ("step 0 is not consistent", |(plan, ..)| {
                plan.scratch_bytes = 64;
                plan.buffers[1].place = Place::Scratch(0);
            }),
            ("step 0 is not consistent", |(plan, ..)| plan.buffers[1].place = Place::Unused),
            ("step 0 is not consistent", |(.., steps)| steps[0].cut = Cut::of_band(1 << 60, Duration::ZERO)),
            ("step 0 is not consistent", |(.., steps)| steps[0].cut = Cut::of_band(1, Duration::MAX)),
            ("function 1 is no nest", |(.., steps)| steps[0].nest = 1),
            ("no band over the steps 0..2", |(plan, ..)| plan.bands.push(Band { steps: 0..2, positions: 1 })),
        ];
        let body = |spoil: Spoil| {
            let step =
                StepImage { nest: 0, buffers: executable.steps[0].buffers.clone(), cut: executable.steps[0].cut };
            let mut parts = ((*executable.plan).clone(), image.code.clone(), vec![step]);
            spoil(&mut parts);
            postcard::to_allocvec(&parts).unwrap()
        };
        let sound = body(|_| {});
        assert!(assembled(&sound, AlignedBytes::zeroed(128)).is_ok());
        for (fault, spoil) in cases {
            let found = assembled(&body(*spoil), AlignedBytes::zeroed(128)).err().unwrap();
            assert!(found.contains(fault), "expected {fault}, found {found}");
        }
        for length in 0..sound.len() {
            assert!(assembled(&sound[..length], AlignedBytes::zeroed(128)).is_err(), "{length}");
        }
    }
}
