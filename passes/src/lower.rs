//! Graph to kernels, one node at a time. What belongs together is joined by `fuse`.

use fusewright_ir::graph::{Graph, NodeMap};
use fusewright_ir::kernel::build::Operand;
use fusewright_ir::kernel::{BufferId, BufferInfo, Kernel, Literal, NamedKernel, Program, Role, Scalar, Update};
use fusewright_ir::ops::{Op, Site};
use fusewright_ir::plan::access::with_scalars;
use fusewright_ir::tensor::{Data, Tensor};

/// The kernels of every node, in topological order, each value in a buffer of its own.
///
/// # Panics
/// If a shape still holds a symbol.
pub fn lower(graph: &Graph) -> Program {
    let mut program = Program::default();
    let mut operands: NodeMap<Vec<Operand>> = NodeMap::filled(graph, Vec::new());
    for id in graph.topological() {
        let node = graph.node(id);
        for (port, ty) in node.types.iter().enumerate() {
            let dims = ty.dims().expect("verified: all symbols are bound");
            let role = match &node.op {
                Op::Input(_) => Role::Input,
                Op::Parameter(parameter) if parameter.is_state => Role::State,
                Op::Parameter(_) => Role::Parameter,
                Op::Constant(constant) => Role::Constant(constant.tensor.clone()),
                _ => Role::Computed,
            };
            let name = graph.value_name(fusewright_ir::ValueId { node: id, port: port as u32 });
            let info = BufferInfo { name, dtype: ty.dtype, dims: dims.clone(), role };
            let buffer = program.add_buffer(info);
            operands[id].push(Operand { buffer, dtype: ty.dtype, dims });
        }
        let inputs = node.inputs.iter().map(|value| operands[value.node][value.port as usize].clone()).collect();
        let mut site = Site::new(inputs, operands[id].clone(), BufferId(program.buffers.len() as u32));
        let kernels = node.op.spec().lower(&mut site);
        for (i, Operand { dtype, dims, .. }) in site.temporaries.into_iter().enumerate() {
            let name = format!("{}.part{i}", node.name);
            program.add_buffer(BufferInfo { name, dtype, dims, role: Role::Computed });
        }
        for kernel in kernels {
            let about = node.op.spec().name().to_string();
            let kernel = with_literals(&kernel, &program);
            program.kernels.push(NamedKernel { nodes: vec![node.name.clone()], about, kernel });
        }
    }
    for output in &graph.outputs {
        let buffer = operands[output.value.node][output.value.port as usize].buffer;
        if !output.is_update {
            program.outputs.push((output.name.clone(), buffer));
            continue;
        }
        let state = graph.find(&output.name).expect("verified: what is updated is a parameter");
        program.updates.push(Update { state: operands[state][0].buffer, value: buffer });
    }
    program
}

/// The kernel with constants of one element as literals: code that knows a number is shorter than code that reads one.
fn with_literals(kernel: &Kernel, program: &Program) -> Kernel {
    let literal = |scalar: &Scalar| match scalar {
        Scalar::Load { buffer, outside: None, .. } => match &program.buffers.get(buffer.0 as usize)?.role {
            Role::Constant(tensor) => literal_of(tensor),
            _ => None,
        },
        _ => None,
    };
    with_scalars(kernel, |_, scalar| literal(&scalar).map_or(scalar, Scalar::Const))
}

fn literal_of(tensor: &Tensor) -> Option<Literal> {
    match tensor.data() {
        Data::F32(elements) => <[f32; 1]>::try_from(elements.as_slice()).ok().map(|[x]| Literal::f32(x)),
        Data::I64(elements) => <[i64; 1]>::try_from(elements.as_slice()).ok().map(|[n]| Literal::I64(n)),
        Data::I32(elements) => <[i32; 1]>::try_from(elements.as_slice()).ok().map(|[n]| Literal::I32(n)),
        Data::U32(elements) => <[u32; 1]>::try_from(elements.as_slice()).ok().map(|[n]| Literal::U32(n)),
        Data::U8(_) | Data::Bool(_) | Data::F64(_) => None,
    }
}
