//! Kernels as people read them:
//! `k0: y[i j k l] = relu(sum[a<3 b<5 c<5] x[i a k+b-2 l+c-2 else 0] * w[j a b c] + bias[j])`.
//!
//! Outer axes are i, j, k and on, inner axes a, b, c and on, each fold and store with its own. What would be long and is
//! used more than once gets a line and a name of its own.

use super::*;
use std::collections::BTreeMap;
use std::fmt::{self, Write};

/// The kernel as one statement a line: named scalars, folds that are not written where they are used, and stores.
/// `name` gives the name of a buffer.
pub fn statements(kernel: &Kernel, name: &dyn Fn(BufferId) -> String) -> Vec<String> {
    let mut printer = Printer {
        kernel,
        name,
        lines: Vec::new(),
        names: BTreeMap::new(),
        folds: vec![Text::atom(""); kernel.folds.len()],
        inner: Space::new(),
        named: 0,
    };
    for (i, fold) in kernel.folds.iter().enumerate() {
        let value = printer.part(&fold.inner, &[fold.value]).swap_remove(0);
        let text = format!("{}{} {}", fold_name(fold.kind), printer.axes(), value.at(Level::Product));
        let in_place = fold.kind.results(DType::F32).len() == 1 && printer.used_once_by_a_store(i as u32);
        printer.folds[i] = if in_place { Text { text, level: Level::Product } } else { printer.bind(text) };
    }
    for store in &kernel.stores {
        let computed = store.at.iter().filter_map(|index| match index {
            Index::Computed(value) => Some(*value),
            _ => None,
        });
        let roots: Vec<ScalarId> = [store.value].into_iter().chain(computed).collect();
        let texts = printer.part(&store.inner, &roots);
        let known: BTreeMap<ScalarId, Text> = roots.into_iter().zip(texts).collect();
        let at: Vec<String> = store.at.iter().map(|index| printer.index(index, &|id| known[&id].clone())).collect();
        let sign = if store.combine == Combine::Add { "+=" } else { "=" };
        let value = &known[&store.value].text;
        let over = if store.inner.is_empty() { String::new() } else { format!(" for {}", printer.axes()) };
        printer.lines.push(format!("{}[{}] {sign} {value}{over}", name(store.buffer), at.join(" ")));
    }
    printer.lines
}

impl Program {
    /// The kernel at this place of the program, with its extents and operations behind a semicolon.
    pub fn kernel_text(&self, number: usize) -> String {
        let named = &self.kernels[number];
        let lines = statements(&named.kernel, &|buffer| self.buffer(buffer).name.clone());
        let mut note = String::new();
        for (i, n) in named.kernel.outer.iter().enumerate() {
            let _ = write!(note, "{}<{n} ", outer_name(i));
        }
        note += &named.about;
        match lines.as_slice() {
            [line] => format!("k{number}: {line}    ; {}", note.trim_end()),
            _ => format!("k{number}:    ; {}\n  {}", note.trim_end(), lines.join("\n  ")),
        }
    }
}

impl fmt::Display for Program {
    /// One line a buffer, one or more a kernel, one a result.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (id, info) in self.buffer_ids() {
            let role = match info.role {
                Role::Input => " input",
                Role::Parameter => " parameter",
                Role::State => " state",
                Role::Constant(_) => " constant",
                Role::Computed => "",
            };
            writeln!(f, "b{} {}: {}{:?}{role}", id.0, info.name, info.dtype, info.dims)?;
        }
        for number in 0..self.kernels.len() {
            writeln!(f, "{}", self.kernel_text(number))?;
        }
        for (name, buffer) in &self.outputs {
            writeln!(f, "-> {name} = {}", self.buffer(*buffer).name)?;
        }
        for Update { state, value } in &self.updates {
            writeln!(f, "=> {} = {}", self.buffer(*state).name, self.buffer(*value).name)?;
        }
        Ok(())
    }
}

/// What is longer and used more than once gets a name.
const SHORT: usize = 24;

/// How tightly the outermost operator of a text binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Logic,
    Sum,
    Product,
    Atom,
}

#[derive(Clone, Debug)]
struct Text {
    text: String,
    level: Level,
}

impl Text {
    fn atom(text: impl Into<String>) -> Text {
        Text { text: text.into(), level: Level::Atom }
    }

    /// The text where an operand of this level or tighter is wanted.
    fn at(&self, level: Level) -> String {
        if self.level >= level { self.text.clone() } else { format!("({})", self.text) }
    }
}

struct Printer<'a> {
    kernel: &'a Kernel,
    name: &'a dyn Fn(BufferId) -> String,
    lines: Vec<String>,
    /// The names of scalars that have one, by the inner axes they depend on (none where they depend on none).
    names: BTreeMap<(ScalarId, Space), Text>,
    folds: Vec<Text>,
    /// The inner axes of the part at hand.
    inner: Space,
    named: usize,
}

impl Printer<'_> {
    /// The texts of `roots` in a fold or store over `inner`.
    fn part(&mut self, inner: &Space, roots: &[ScalarId]) -> Vec<Text> {
        self.inner = inner.clone();
        let body = &self.kernel.body;
        let ids = body.reachable(roots.iter().copied());
        let mut uses: BTreeMap<ScalarId, usize> = roots.iter().map(|&root| (root, 1)).collect();
        for &id in &ids {
            for operand in body.get(id).operands() {
                *uses.entry(operand).or_default() += 1;
            }
        }
        let mut texts: BTreeMap<ScalarId, Text> = BTreeMap::new();
        let mut varying: Vec<ScalarId> = Vec::new();
        for id in ids {
            let scalar = body.get(id);
            if self.uses_inner_axes(scalar) || scalar.operands().iter().any(|operand| varying.contains(operand)) {
                varying.push(id);
            }
            let key = (id, if varying.contains(&id) { inner.clone() } else { Space::new() });
            let text = match self.names.get(&key) {
                Some(text) => text.clone(),
                None => {
                    let text = self.scalar(scalar, &|id| texts[&id].clone());
                    if uses[&id] > 1 && text.text.len() > SHORT {
                        let text = self.bind(text.text);
                        self.names.insert(key, text.clone());
                        text
                    } else {
                        text
                    }
                }
            };
            texts.insert(id, text);
        }
        roots.iter().map(|root| texts[root].clone()).collect()
    }

    /// Writes `t0 = text` and gives the name.
    fn bind(&mut self, text: String) -> Text {
        let name = format!("t{}", self.named);
        self.named += 1;
        self.lines.push(format!("{name} = {text}"));
        Text::atom(name)
    }

    fn uses_inner_axes(&self, scalar: &Scalar) -> bool {
        let outer = self.kernel.outer.len();
        let inner = |at: &Affine| at.terms.iter().any(|(axis, _)| axis.0 as usize >= outer);
        match scalar {
            Scalar::Position(at) => inner(at),
            Scalar::Load { at, .. } => at.iter().any(|index| match index {
                Index::Affine(at) | Index::Table { at, .. } => inner(at),
                Index::Computed(_) => false,
            }),
            _ => false,
        }
    }

    /// Whether a fold is mentioned once, by a store without inner axes, so that it can be written there.
    fn used_once_by_a_store(&self, fold: u32) -> bool {
        let body = &self.kernel.body;
        let mentions = |roots: &[ScalarId]| {
            let ids = body.reachable(roots.iter().copied());
            let is_fold = |id: &ScalarId| matches!(body.get(*id), Scalar::Folded { fold: f, .. } if *f == fold);
            let inside = ids.iter().flat_map(|&id| body.get(id).operands());
            inside.chain(roots.iter().copied()).filter(is_fold).count()
        };
        let in_folds: usize = self.kernel.folds.iter().map(|fold| mentions(&[fold.value])).sum();
        let in_stores: Vec<usize> = self.kernel.stores.iter().map(|store| mentions(&[store.value])).collect();
        let plain = self.kernel.stores.iter().all(|store| store.inner.is_empty());
        in_folds == 0 && plain && in_stores.iter().sum::<usize>() == 1
    }

    /// The inner axes with their extents: `[a<3 b<5]`.
    fn axes(&self) -> String {
        let names: Vec<String> = self.inner.iter().enumerate().map(|(i, n)| format!("{}<{n}", inner_name(i))).collect();
        format!("[{}]", names.join(" "))
    }

    fn axis(&self, axis: Axis) -> String {
        let (i, outer) = (axis.0 as usize, self.kernel.outer.len());
        if i < outer { outer_name(i) } else { inner_name(i - outer) }
    }

    fn affine(&self, affine: &Affine) -> String {
        let mut text = String::new();
        for &(axis, k) in &affine.terms {
            let name = self.axis(axis);
            let sign = if k < 0 {
                "-"
            } else if text.is_empty() {
                ""
            } else {
                "+"
            };
            let factor = if k.abs() == 1 { String::new() } else { format!("{}*", k.unsigned_abs()) };
            text += &format!("{sign}{factor}{name}");
        }
        match affine.offset {
            0 if !text.is_empty() => {}
            offset if text.is_empty() => text = offset.to_string(),
            offset => text += &format!("{offset:+}"),
        }
        if affine.divisor == 1 { text } else { format!("({text})/{}", affine.divisor) }
    }

    fn index(&self, index: &Index, text_of: &dyn Fn(ScalarId) -> Text) -> String {
        match index {
            Index::Affine(affine) => self.affine(affine),
            Index::Computed(value) => format!("{{{}}}", text_of(*value).text),
            Index::Table { table, at } => {
                let entries: Vec<String> = match table.len() {
                    0..=8 => table.iter().map(i64::to_string).collect(),
                    n => {
                        let first = table[..4].iter().map(i64::to_string);
                        first.chain(["..".to_string(), table[n - 1].to_string()]).collect()
                    }
                };
                format!("<{}>[{}]", entries.join(" "), self.affine(at))
            }
        }
    }

    fn scalar(&self, scalar: &Scalar, text_of: &dyn Fn(ScalarId) -> Text) -> Text {
        let call = |name: &str, operands: &[ScalarId]| {
            let texts: Vec<String> = operands.iter().map(|&id| text_of(id).text).collect();
            Text::atom(format!("{name}({})", texts.join(", ")))
        };
        let between = |sign: &str, level: Level, left: ScalarId, right: ScalarId| {
            // Operands on the right bind tighter: a - (b - c).
            let tighter = match level {
                Level::Logic => Level::Sum,
                Level::Sum => Level::Product,
                _ => Level::Atom,
            };
            let first = if level == Level::Logic { Level::Sum } else { level };
            Text { text: format!("{} {sign} {}", text_of(left).at(first), text_of(right).at(tighter)), level }
        };
        match scalar {
            Scalar::Const(literal) => Text::atom(literal_text(*literal)),
            Scalar::Load { buffer, at, outside } => {
                let mut places: Vec<String> = at.iter().map(|index| self.index(index, text_of)).collect();
                if let Some(outside) = outside {
                    places.push(format!("else {}", literal_text(*outside)));
                }
                Text::atom(format!("{}[{}]", (self.name)(*buffer), places.join(" ")))
            }
            Scalar::Folded { fold, part } => self.folded(*fold as usize, *part),
            Scalar::Position(affine) => {
                let level =
                    if affine.as_axis().is_some() || affine.terms.is_empty() { Level::Atom } else { Level::Sum };
                Text { text: self.affine(affine), level }
            }
            Scalar::Unary(UnaryOp::Neg, a) => {
                Text { text: format!("-{}", text_of(*a).at(Level::Atom)), level: Level::Product }
            }
            Scalar::Unary(op, a) => call(&snake(op), &[*a]),
            Scalar::Binary(op, a, b) => match op {
                BinaryOp::Add => between("+", Level::Sum, *a, *b),
                BinaryOp::Sub => between("-", Level::Sum, *a, *b),
                BinaryOp::Mul => between("*", Level::Product, *a, *b),
                BinaryOp::Div => between("/", Level::Product, *a, *b),
                BinaryOp::And => between("and", Level::Logic, *a, *b),
                BinaryOp::Or => between("or", Level::Logic, *a, *b),
                BinaryOp::Xor => between("xor", Level::Logic, *a, *b),
                BinaryOp::Max if self.is_zero(*b) => call("relu", &[*a]),
                BinaryOp::Max if self.is_zero(*a) => call("relu", &[*b]),
                _ => call(&snake(op), &[*a, *b]),
            },
            Scalar::Compare(op, a, b) => {
                let sign = match op {
                    CompareOp::Eq => "==",
                    CompareOp::Ne => "!=",
                    CompareOp::Lt => "<",
                    CompareOp::Le => "<=",
                    CompareOp::Gt => ">",
                    CompareOp::Ge => ">=",
                };
                between(sign, Level::Logic, *a, *b)
            }
            Scalar::Select(condition, yes, no) => call("select", &[*condition, *yes, *no]),
            Scalar::Fma(a, b, c) => call("fma", &[*a, *b, *c]),
            Scalar::Cast(dtype, a) => call(&dtype.to_string(), &[*a]),
        }
    }

    fn folded(&self, fold: usize, part: u32) -> Text {
        let (Some(text), Some(kind)) = (self.folds.get(fold), self.kernel.folds.get(fold).map(|fold| fold.kind)) else {
            return Text::atom(format!("fold{fold}.{part}"));
        };
        let parts = match kind {
            FoldKind::ArgMax | FoldKind::ArgMin => ["value", "place"],
            FoldKind::Moments => ["mean", "squares"],
            _ => return text.clone(),
        };
        Text::atom(format!("{}.{}", text.text, parts.get(part as usize).unwrap_or(&"?")))
    }

    fn is_zero(&self, id: ScalarId) -> bool {
        matches!(self.kernel.body.get(id), Scalar::Const(literal) if literal.value() == 0.0)
    }
}

fn fold_name(kind: FoldKind) -> &'static str {
    match kind {
        FoldKind::Sum => "sum",
        FoldKind::Product => "product",
        FoldKind::Max => "max",
        FoldKind::Min => "min",
        FoldKind::ArgMax => "argmax",
        FoldKind::ArgMin => "argmin",
        FoldKind::Moments => "moments",
    }
}

fn literal_text(literal: Literal) -> String {
    match literal {
        Literal::F32(bits) => f32::from_bits(bits).to_string(),
        Literal::I64(n) => n.to_string(),
        Literal::I32(n) => n.to_string(),
        Literal::U32(n) => n.to_string(),
        Literal::U8(n) => n.to_string(),
        Literal::Bool(b) => b.to_string(),
    }
}

fn outer_name(i: usize) -> String {
    axis_name("ijklmnopqr", i)
}

fn inner_name(i: usize) -> String {
    axis_name("abcdefgh", i)
}

fn axis_name(letters: &str, i: usize) -> String {
    match letters.get(i..=i) {
        Some(letter) => letter.to_string(),
        None => format!("{}{i}", &letters[..1]),
    }
}

/// `NormalCdf` as `normal_cdf`.
fn snake(name: &impl fmt::Debug) -> String {
    let mut text = String::new();
    for letter in format!("{name:?}").chars() {
        if letter.is_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.extend(letter.to_lowercase());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::build::Operand;
    use super::*;

    fn operand(buffer: u32, dtype: DType, dims: &[usize]) -> Operand {
        Operand { buffer: BufferId(buffer), dtype, dims: dims.to_vec() }
    }

    fn text(kernel: &Kernel) -> String {
        statements(kernel, &|buffer| ["x", "w", "y"][buffer.0 as usize].to_string()).join("\n")
    }

    #[test]
    fn a_convolution() {
        let x = operand(0, DType::F32, &[3, 8, 8]);
        let w = operand(1, DType::F32, &[4, 3, 3, 3]);
        let y = operand(2, DType::F32, &[4, 4, 8]);
        let mut k = KernelBuilder::new(&[4, 4, 8]);
        let [o, v, u] = [0, 1, 2].map(|i| k.outer(i));
        let [c, a, b] = [0, 1, 2].map(|i| k.inner(i));
        let pixel = k.load_or(&x, [Index::from(c), (v * 2 + a - 1).into(), (u + b - 1).into()], Literal::f32(0.0));
        let weight = k.load(&w, [o, c, a, b]);
        let product = k.mul(pixel, weight);
        let sum = k.fold(FoldKind::Sum, &[3, 3, 3], product);
        let half = k.number(0.5);
        let shifted = k.add(sum, half);
        let zero = k.number(0.0);
        let value = k.max(shifted, zero);
        k.store(&y, [o, v, u], value);
        assert_eq!(text(&k.finish()), "y[i j k] = relu(sum[a<3 b<3 c<3] x[a 2*j+b-1 k+c-1 else 0] * w[i a b c] + 0.5)");
    }

    #[test]
    fn a_program_has_buffers_kernels_and_results() {
        let (x, y) = (operand(0, DType::F32, &[2, 9]), operand(1, DType::F32, &[2, 9]));
        let mut k = KernelBuilder::new(&[2, 9]);
        let axes = k.outer_axes();
        let value = k.load(&x, axes.clone());
        let value = k.unary(UnaryOp::NormalCdf, value);
        k.store(&y, axes, value);
        let mut program = Program::default();
        for (name, role) in [("image", Role::Input), ("gate", Role::Computed)] {
            program.add_buffer(BufferInfo { name: name.into(), dtype: DType::F32, dims: vec![2, 9], role });
        }
        program.kernels.push(NamedKernel { nodes: vec!["gate".into()], about: "Gate".into(), kernel: k.finish() });
        program.outputs.push(("y".into(), BufferId(1)));
        assert_eq!(
            program.to_string(),
            "b0 image: f32[2, 9] input\n\
             b1 gate: f32[2, 9]\n\
             k0: gate[i j] = normal_cdf(image[i j])    ; i<2 j<9 Gate\n\
             -> y = gate\n"
        );
    }

    #[test]
    fn softmax_names_its_folds() {
        let (x, y) = (operand(0, DType::F32, &[2, 9]), operand(2, DType::F32, &[2, 9]));
        let mut k = KernelBuilder::new(&[2]);
        let (row, column) = (k.outer(0), k.inner(0));
        let value = k.load(&x, [row, column]);
        let greatest = k.fold(FoldKind::Max, &[9], value);
        let below = k.sub(value, greatest);
        let power = k.unary(UnaryOp::Exp, below);
        let sum = k.fold(FoldKind::Sum, &[9], power);
        let share = k.div(power, sum);
        k.store_over(&[9], &y, [row, column], share);
        assert_eq!(
            text(&k.finish()),
            "t0 = max[a<9] x[i a]\nt1 = sum[a<9] exp(x[i a] - t0)\ny[i a] = exp(x[i a] - t0) / t1 for [a<9]"
        );
    }

    #[test]
    fn long_shared_values_are_named_once() {
        let (x, y) = (operand(0, DType::F32, &[9]), operand(2, DType::F32, &[9]));
        let mut k = KernelBuilder::new(&[9]);
        let i = k.outer(0);
        let mut value = k.load(&x, [i]);
        for _ in 0..3 {
            let gate = k.unary(UnaryOp::Sigmoid, value);
            value = k.mul(value, gate);
        }
        k.store(&y, [i], value);
        let expected = "t0 = x[i] * sigmoid(x[i]) * sigmoid(x[i] * sigmoid(x[i]))\ny[i] = t0 * sigmoid(t0)";
        assert_eq!(text(&k.finish()), expected);
    }

    #[test]
    fn brackets_keep_the_meaning() {
        let (x, y) = (operand(0, DType::F32, &[9]), operand(2, DType::F32, &[9]));
        let mut k = KernelBuilder::new(&[9]);
        let i = k.outer(0);
        let (a, b) = (k.load(&x, [i]), k.load(&x, [i * -1 + 8]));
        let (sum, difference) = (k.add(a, b), k.sub(a, b));
        let nested = k.sub(a, difference);
        let quotient = k.div(sum, nested);
        let negated = k.unary(UnaryOp::Neg, quotient);
        k.store(&y, [i], negated);
        assert_eq!(text(&k.finish()), "y[i] = -((x[i] + x[-i+8]) / (x[i] - (x[i] - x[-i+8])))");
    }

    #[test]
    fn tables_computed_places_and_parts() {
        let (x, w) = (operand(0, DType::F32, &[9, 4]), operand(1, DType::I64, &[4]));
        let y = operand(2, DType::I64, &[4]);
        let mut k = KernelBuilder::new(&[4]);
        let (i, a) = (k.outer(0), k.inner(0));
        let row = k.load(&w, [Index::Table { table: (0..9).map(|n| n % 4).collect(), at: a.into() }]);
        let value = k.load(&x, [Index::Computed(row), Affine::new([(i, 1)], 0).into()]);
        k.fold(FoldKind::ArgMax, &[9], value);
        let place = k.folded(1);
        k.store(&y, [i], place);
        assert_eq!(text(&k.finish()), "t0 = argmax[a<9] x[{w[<0 1 2 3 .. 0>[a]]} i]\ny[i] = t0.place");
    }
}
