//! What must hold of every program. A fault here is a bug of the compiler, told to those who mend it.

use super::*;
use rustc_hash::FxHashSet;

/// Checks types, axes, folds, indices and the order of kernels.
///
/// # Errors
/// All faults, one line each, with the kernel at fault.
pub fn verify(program: &Program) -> Result<(), Vec<String>> {
    let mut check = Check { program, place: String::new(), faults: Vec::new() };
    for (id, info) in program.buffer_ids() {
        check.place = format!("buffer b{} `{}`", id.0, info.name);
        check.buffer(info);
    }
    let mut ready: Vec<bool> = program.buffers.iter().map(|info| info.role != Role::Computed).collect();
    for (number, named) in program.kernels.iter().enumerate() {
        check.place = format!("k{number} ({})", named.nodes.join(" "));
        if check.ids_are_known(&named.kernel) {
            check.kernel(&named.kernel);
            check.order(&named.kernel, &mut ready);
        }
    }
    check.place = "outputs".to_string();
    for (name, buffer) in &program.outputs {
        let written = ready.get(buffer.0 as usize).copied().unwrap_or(false);
        check.require(written, || format!("`{name}` is b{}, which nothing writes", buffer.0));
    }
    check.place = "updates".to_string();
    for Update { state, value } in &program.updates {
        let info = |id: &BufferId| program.buffers.get(id.0 as usize);
        let fits = match (info(state), info(value)) {
            (Some(a), Some(b)) => a.role == Role::State && (a.dtype, &a.dims) == (b.dtype, &b.dims),
            _ => false,
        };
        let written = ready.get(value.0 as usize).copied().unwrap_or(false);
        check.require(fits && written, || format!("b{} cannot take the place of b{}", value.0, state.0));
    }
    if check.faults.is_empty() { Ok(()) } else { Err(check.faults) }
}

/// Stores of at most so many points are checked element by element.
const FEW_POINTS: usize = 1 << 14;

struct Check<'a> {
    program: &'a Program,
    /// What is being checked, for messages.
    place: String,
    faults: Vec<String>,
}

impl Check<'_> {
    fn require(&mut self, holds: bool, fault: impl FnOnce() -> String) {
        if !holds {
            self.faults.push(format!("{}: {}", self.place, fault()));
        }
    }

    fn buffer(&mut self, info: &BufferInfo) {
        if let Role::Constant(tensor) = &info.role {
            let (dtype, dims) = (tensor.dtype(), tensor.dims());
            self.require(dtype == info.dtype && dims == info.dims, || format!("its constant is {dtype}{dims:?}"));
        }
        self.require(info.dtype != DType::F64, || "no kernel is compiled for f64".to_string());
    }

    /// Whether every id names something, so that the other checks can look things up.
    fn ids_are_known(&mut self, kernel: &Kernel) -> bool {
        let before = self.faults.len();
        let (scalars, buffers) = (kernel.body.len(), self.program.buffers.len());
        for (id, scalar) in kernel.body.iter() {
            for operand in scalar.operands() {
                self.require(operand < id, || format!("s{} uses s{}, which is not before it", id.0, operand.0));
            }
            if let Scalar::Load { buffer, .. } = scalar {
                self.require((buffer.0 as usize) < buffers, || format!("s{} loads b{}: unknown", id.0, buffer.0));
            }
        }
        for (i, fold) in kernel.folds.iter().enumerate() {
            self.require((fold.value.0 as usize) < scalars, || format!("fold {i} takes s{}: unknown", fold.value.0));
        }
        for (i, store) in kernel.stores.iter().enumerate() {
            let computed = store.at.iter().filter_map(computed);
            let known = computed.chain([store.value]).all(|id| (id.0 as usize) < scalars);
            self.require(known, || format!("store {i} takes an unknown scalar"));
            self.require((store.buffer.0 as usize) < buffers, || {
                format!("store {i} writes b{}: unknown", store.buffer.0)
            });
        }
        self.faults.len() == before
    }

    fn kernel(&mut self, kernel: &Kernel) {
        for id in kernel.live() {
            let scalar = kernel.body.get(id);
            if let Err(fault) = self.scalar_type(kernel, id, scalar) {
                self.require(false, || format!("s{} = {scalar:?}: {fault}", id.0));
            }
        }
        for (i, fold) in kernel.folds.iter().enumerate() {
            let dtype = kernel.body.dtype(fold.value);
            let fits = match fold.kind {
                FoldKind::Sum | FoldKind::Product => dtype != DType::Bool,
                FoldKind::Moments => dtype.is_float(),
                FoldKind::Max | FoldKind::Min | FoldKind::ArgMax | FoldKind::ArgMin => true,
            };
            self.require(fits, || format!("fold {i}: {:?} of {dtype}", fold.kind));
            self.part(kernel, &format!("fold {i}"), i, &fold.inner, [fold.value]);
        }
        self.require(!kernel.stores.is_empty(), || "it stores nothing".to_string());
        for (i, store) in kernel.stores.iter().enumerate() {
            let roots = store.at.iter().filter_map(computed).chain([store.value]);
            self.part(kernel, &format!("store {i}"), kernel.folds.len(), &store.inner, roots);
            self.store(kernel, i, store);
        }
        self.no_element_twice(kernel);
    }

    /// The scalars of one fold or store: their axes and folds exist, and what they load is there.
    fn part(
        &mut self,
        kernel: &Kernel,
        part: &str,
        folds: usize,
        inner: &Space,
        roots: impl IntoIterator<Item = ScalarId>,
    ) {
        let space = kernel.space(inner);
        for id in kernel.body.reachable(roots) {
            match kernel.body.get(id) {
                Scalar::Folded { fold, .. } => self.require((*fold as usize) < folds, || {
                    format!("{part} uses s{}, the result of fold {fold}, before it is done", id.0)
                }),
                Scalar::Position(affine) => {
                    self.affine(affine, &space, &format!("{part}: s{}", id.0));
                }
                Scalar::Load { buffer, at, outside } => {
                    let what = format!("{part}: s{} loads b{}", id.0, buffer.0);
                    self.indices(kernel, *buffer, at, &space, outside.is_some(), &what);
                }
                _ => {}
            }
        }
    }

    fn store(&mut self, kernel: &Kernel, i: usize, store: &Store) {
        let (found, wanted) = (kernel.body.dtype(store.value), self.program.buffer(store.buffer).dtype);
        self.require(found == wanted, || format!("store {i}: {found} into b{} of {wanted}", store.buffer.0));
        let adds = store.combine == Combine::Set || found != DType::Bool;
        self.require(adds, || format!("store {i}: adds truth values"));
        let role = &self.program.buffer(store.buffer).role;
        self.require(*role == Role::Computed, || format!("store {i}: b{} is given, not computed", store.buffer.0));
        let what = format!("store {i}: writes b{}", store.buffer.0);
        self.indices(kernel, store.buffer, &store.at, &kernel.space(&store.inner), false, &what);
    }

    fn indices(
        &mut self,
        kernel: &Kernel,
        buffer: BufferId,
        at: &[Index],
        space: &Space,
        may_be_outside: bool,
        what: &str,
    ) {
        let dims = &self.program.buffer(buffer).dims;
        self.require(at.len() == dims.len(), || format!("{what} with {} indices, it has axes {dims:?}", at.len()));
        for (axis, (index, &length)) in at.iter().zip(dims).enumerate() {
            let sound = match index {
                Index::Affine(affine) => self.affine(affine, space, what),
                Index::Table { table, at } => {
                    let sound = self.affine(at, space, what);
                    let fits = !sound || space.contains(&0) || at.within(space, table.len());
                    self.require(fits, || format!("{what}: axis {axis}: {at:?} leaves a table of {}", table.len()));
                    let entries = table.iter().all(|&i| -1 <= i && i < length as i64);
                    self.require(entries, || format!("{what}: axis {axis}: a table entry beyond {length}"));
                    sound
                }
                Index::Computed(value) => {
                    let dtype = kernel.body.dtype(*value);
                    self.require(dtype.is_integer(), || format!("{what}: axis {axis}: its index is {dtype}"));
                    continue;
                }
            };
            let inside = !sound || may_be_outside || space.contains(&0) || index.within(space, length);
            self.require(inside, || format!("{what}: axis {axis}: {index:?} is not within 0..{length} over {space:?}"));
        }
    }

    /// Whether an affine form is canonical and its axes exist.
    fn affine(&mut self, affine: &Affine, space: &Space, what: &str) -> bool {
        let sorted = affine.terms.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let canonical = sorted && affine.divisor >= 1 && affine.terms.iter().all(|(_, k)| *k != 0);
        self.require(canonical, || format!("{what}: {affine:?} is not in canonical form"));
        let exist = affine.terms.iter().all(|(axis, _)| (axis.0 as usize) < space.len());
        self.require(exist, || format!("{what}: {affine:?} names an axis that {space:?} has not"));
        canonical && exist
    }

    fn scalar_type(&self, kernel: &Kernel, id: ScalarId, scalar: &Scalar) -> Result<(), String> {
        let dtype = kernel.body.dtype(id);
        let of = |id: &ScalarId| kernel.body.dtype(*id);
        let same = |wanted: DType| match wanted == dtype {
            true => Ok(()),
            false => Err(format!("its type is {dtype}, should be {wanted}")),
        };
        let takes = |fits: bool, operand: DType| if fits { Ok(()) } else { Err(format!("takes no {operand}")) };
        let alike = |a: DType, b: DType| if a == b { Ok(()) } else { Err(format!("mixes {a} and {b}")) };
        match scalar {
            Scalar::Const(literal) => same(literal.dtype()),
            Scalar::Load { buffer, outside, .. } => {
                let wanted = self.program.buffer(*buffer).dtype;
                same(wanted)?;
                outside.map_or(Ok(()), |outside| alike(outside.dtype(), wanted))
            }
            Scalar::Folded { fold, part } => {
                let fold = kernel.folds.get(*fold as usize).ok_or("there is no such fold")?;
                let results = fold.kind.results(of(&fold.value));
                same(*results.get(*part as usize).ok_or("the fold has no such part")?)
            }
            Scalar::Position(affine) if affine.divisor != 1 => Err("a position has no divisor".to_string()),
            Scalar::Position(_) => same(DType::I64),
            Scalar::Unary(op, a) => {
                takes(
                    match op {
                        UnaryOp::Not => of(a) == DType::Bool,
                        UnaryOp::Neg | UnaryOp::Abs => of(a) != DType::Bool,
                        _ => of(a).is_float(),
                    },
                    of(a),
                )?;
                same(of(a))
            }
            Scalar::Binary(op, a, b) => {
                alike(of(a), of(b))?;
                takes(
                    match op {
                        BinaryOp::And | BinaryOp::Or => of(a) == DType::Bool,
                        BinaryOp::Xor => matches!(of(a), DType::U32 | DType::Bool),
                        BinaryOp::MulHigh => of(a) == DType::U32,
                        BinaryOp::Pow | BinaryOp::Atan2 => of(a).is_float(),
                        _ => of(a) != DType::Bool,
                    },
                    of(a),
                )?;
                same(of(a))
            }
            Scalar::Compare(_, a, b) => {
                alike(of(a), of(b))?;
                same(DType::Bool)
            }
            Scalar::Select(condition, yes, no) => {
                takes(of(condition) == DType::Bool, of(condition))?;
                alike(of(yes), of(no))?;
                same(of(yes))
            }
            Scalar::Fma(a, b, c) => {
                for operand in [a, b, c] {
                    takes(of(operand) == DType::F32, of(operand))?;
                }
                same(DType::F32)
            }
            Scalar::Cast(to, _) => same(*to),
        }
    }

    /// That stores which replace do not write an element twice: proven point by point for few points, and for many only
    /// where an axis is missing from the indices or two stores are alike.
    fn no_element_twice(&mut self, kernel: &Kernel) {
        let sets = |store: &&Store| store.combine == Combine::Set && store.at.iter().all(|i| computed(i).is_none());
        let stores: Vec<&Store> = kernel.stores.iter().filter(sets).collect();
        for (i, store) in stores.iter().enumerate() {
            let space = kernel.space(&store.inner);
            if space.contains(&0) {
                continue;
            }
            let idle = (0..space.len()).find(|&axis| {
                space[axis] > 1
                    && store.at.iter().all(|index| form(index).is_none_or(|at| at.coefficient(Axis(axis as u32)) == 0))
            });
            self.require(idle.is_none(), || {
                format!(
                    "b{} is written once for each point of axis {}, at one place",
                    store.buffer.0,
                    idle.unwrap_or(0)
                )
            });
            let twin = stores[..i]
                .iter()
                .any(|other| (other.buffer, &other.at, &other.inner) == (store.buffer, &store.at, &store.inner));
            self.require(!twin, || format!("b{} is written by two stores at the same places", store.buffer.0));
        }
        let points: usize = stores.iter().map(|store| kernel.space(&store.inner).iter().product::<usize>()).sum();
        if points > FEW_POINTS || !self.faults.is_empty() {
            return;
        }
        let mut written = FxHashSet::default();
        for store in stores {
            for point in crate::tensor::points(&kernel.space(&store.inner)) {
                let at: SmallVec<[i64; 4]> = store
                    .at
                    .iter()
                    .filter_map(|index| match index {
                        Index::Affine(affine) => affine.at(&point),
                        Index::Table { table, at } => at.at(&point).and_then(|i| table.get(i as usize)).copied(),
                        Index::Computed(_) => None,
                    })
                    .collect();
                if written.contains(&(store.buffer, at.clone())) {
                    self.require(false, || format!("b{}{:?} is written twice", store.buffer.0, at.as_slice()));
                    return;
                }
                written.insert((store.buffer, at));
            }
        }
    }

    /// That every buffer read has been given or written before, and not only by the kernel itself.
    fn order(&mut self, kernel: &Kernel, ready: &mut [bool]) {
        for buffer in kernel.reads() {
            self.require(ready[buffer.0 as usize], || format!("reads b{}, which nothing before it writes", buffer.0));
        }
        for buffer in kernel.writes() {
            ready[buffer.0 as usize] = true;
        }
    }
}

fn computed(index: &Index) -> Option<ScalarId> {
    match index {
        Index::Computed(value) => Some(*value),
        _ => None,
    }
}

fn form(index: &Index) -> Option<&Affine> {
    match index {
        Index::Affine(at) | Index::Table { at, .. } => Some(at),
        Index::Computed(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::build::Operand;
    use super::*;

    fn operand(buffer: u32, dims: &[usize]) -> Operand {
        Operand { buffer: BufferId(buffer), dtype: DType::F32, dims: dims.to_vec() }
    }

    /// The faults of a program with the input b0 f32[4] and the result b1 f32[4], and one kernel.
    fn faults(build: impl FnOnce(&mut KernelBuilder, &Operand, &Operand)) -> Vec<String> {
        faults_after(build, |_| {})
    }

    fn faults_after(
        build: impl FnOnce(&mut KernelBuilder, &Operand, &Operand),
        change: impl FnOnce(&mut Kernel),
    ) -> Vec<String> {
        let mut program = Program::default();
        for role in [Role::Input, Role::Computed] {
            program.add_buffer(BufferInfo { name: "v".into(), dtype: DType::F32, dims: vec![4], role });
        }
        let mut k = KernelBuilder::new(&[4]);
        build(&mut k, &operand(0, &[4]), &operand(1, &[4]));
        let mut kernel = k.finish();
        change(&mut kernel);
        program.kernels.push(NamedKernel { nodes: vec!["n".into()], about: "Test".into(), kernel });
        verify(&program).err().unwrap_or_default()
    }

    #[track_caller]
    fn assert_fault(faults: Vec<String>, part: &str) {
        assert!(faults.iter().any(|fault| fault.contains(part)), "no fault has {part:?}: {faults:#?}");
    }

    #[test]
    fn a_copy_is_sound() {
        let sound = faults(|k, x, y| {
            let (i, value) = (k.outer(0), k.load(x, [k.outer(0)]));
            k.store(y, [i], value);
        });
        assert_eq!(sound, Vec::<String>::new());
    }

    #[test]
    fn loads_without_outside_are_inside() {
        let shifted = |outside: Option<Literal>| {
            faults(|k, x, y| {
                let i = k.outer(0);
                let value = k.load_or(x, [i + 1], outside);
                k.store(y, [i], value);
            })
        };
        assert_fault(shifted(None), "is not within 0..4 over [4]");
        assert_eq!(shifted(Some(Literal::f32(0.0))), Vec::<String>::new());
        assert_fault(shifted(Some(Literal::I64(0))), "mixes i64 and f32");
    }

    #[test]
    fn stores_are_inside_and_write_each_element_once() {
        let stored = |at: fn(Axis) -> Affine| {
            faults(|k, x, y| {
                let (i, value) = (k.outer(0), k.load(x, [k.outer(0)]));
                k.store(y, [at(i)], value);
            })
        };
        assert_fault(stored(|i| i * 2), "is not within 0..4");
        assert_fault(stored(|_| Affine::constant(2)), "axis 0, at one place");
        assert_fault(
            faults(|k, x, y| {
                let (i, value) = (k.outer(0), k.load(x, [k.outer(0)]));
                k.store(y, [i], value);
                k.store(y, [i * -1 + 3], value);
            }),
            "b1[3] is written twice",
        );
    }

    #[test]
    fn folds_come_before_their_users() {
        assert_fault(
            faults(|k, x, y| {
                let i = k.outer(0);
                let later = k.scalar(Scalar::Folded { fold: 0, part: 0 }, DType::F32);
                k.fold(FoldKind::Sum, &[2], later);
                let value = k.load(x, [i]);
                k.store(y, [i], value);
            }),
            "before it is done",
        );
    }

    #[test]
    fn axes_exist_and_types_fit() {
        assert_fault(
            faults(|k, x, y| {
                let value = k.load(x, [k.inner(0)]);
                k.store(y, [k.outer(0)], value);
            }),
            "names an axis that [4] has not",
        );
        assert_fault(
            faults(|k, x, y| {
                let a = k.load(x, [k.outer(0)]);
                let value = k.scalar(Scalar::Unary(UnaryOp::Not, a), DType::F32);
                k.store(y, [k.outer(0)], value);
            }),
            "takes no f32",
        );
        assert_fault(
            faults(|k, x, y| {
                let a = k.load(x, [k.outer(0)]);
                let at = Index::Computed(a);
                k.store(y, [at], a);
            }),
            "its index is f32",
        );
    }

    #[test]
    fn kernels_read_what_is_written() {
        let unordered = faults(|k, _, y| {
            let i = k.outer(0);
            let value = k.load(y, [i]);
            k.store(y, [i], value);
        });
        assert_fault(unordered, "reads b1, which nothing before it writes");
        let given = faults(|k, x, _| {
            let i = k.outer(0);
            let value = k.load(x, [i]);
            k.store(x, [i], value);
        });
        assert_fault(given, "b0 is given, not computed");
    }

    #[test]
    fn unknown_ids_are_told() {
        let fault = faults_after(
            |k, x, y| {
                let value = k.load(x, [k.outer(0)]);
                k.store(y, [k.outer(0)], value);
            },
            |kernel| kernel.stores[0].value = ScalarId(9),
        );
        assert_fault(fault, "takes an unknown scalar");
    }
}
