//! The digits that ship with the project: 2,000 of MNIST, 28 x 28 pixels.

use fusewright::data::idx;
use fusewright::ir::Tensor;

const IMAGES: &[u8] = include_bytes!("../../models/data/mnist10k/t10k-images-idx3-ubyte.gz");
const LABELS: &[u8] = include_bytes!("../../models/data/mnist10k/t10k-labels-idx1-ubyte.gz");

/// Images `[2000, 28, 28]` and labels `[2000]`, both u8.
pub fn test_split() -> (Tensor, Tensor) {
    let sound = |bytes: &[u8]| idx::parse(bytes).expect("the digits are part of the program");
    (sound(IMAGES), sound(LABELS))
}
