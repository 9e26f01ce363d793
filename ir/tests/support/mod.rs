//! What tests of single operations share.

use fusewright_ir::kernel::build::Operand;
use fusewright_ir::kernel::{BufferId, BufferInfo, NamedKernel, Program, Role};
use fusewright_ir::ops::{Op, OpSpec, Site, layer_kind};
use fusewright_ir::tensor::TensorType;
use fusewright_ir::text::parse;

/// A layer as a model file writes it.
pub fn read(layer: &str) -> Op {
    let (name, fields) = layer.split_at(layer.find('(').unwrap_or(layer.len()));
    let kind = layer_kind(name).unwrap_or_else(|| panic!("no layer is called {name}"));
    let text = if fields.is_empty() { "()" } else { fields };
    let value = parse(text).unwrap_or_else(|error| panic!("{layer}: {}", error.title));
    (kind.read)(&value).unwrap_or_else(|error| panic!("{layer}: {}", error.message))
}

/// The kernels of one operation: operands are the first buffers, then results, then temporaries.
pub fn program(spec: &dyn OpSpec, operands: &[TensorType], results: &[TensorType]) -> Program {
    let mut program = Program::default();
    let mut buffer = |ty: &TensorType, role: Role| {
        let dims = ty.dims().expect("cases are concrete");
        let name = format!("b{}", program.buffers.len());
        let buffer = program.add_buffer(BufferInfo { name, dtype: ty.dtype, dims: dims.clone(), role });
        Operand { buffer, dtype: ty.dtype, dims }
    };
    let inputs = operands.iter().map(|ty| buffer(ty, Role::Input)).collect();
    let outputs: Vec<Operand> = results.iter().map(|ty| buffer(ty, Role::Computed)).collect();
    program.outputs = outputs.iter().enumerate().map(|(i, output)| (format!("y{i}"), output.buffer)).collect();
    let mut site = Site::new(inputs, outputs, BufferId(program.buffers.len() as u32));
    let kernels = spec.lower(&mut site);
    for Operand { dtype, dims, .. } in site.temporaries {
        program.add_buffer(BufferInfo { name: "temporary".into(), dtype, dims, role: Role::Computed });
    }
    for kernel in kernels {
        program.kernels.push(NamedKernel { nodes: vec!["layer".into()], about: spec.name().into(), kernel });
    }
    program
}
