//! Transforms for short convolutions along one axis, after Toom and Cook, as Winograd uses them (Lavin and Gray 2016).
//!
//! `m` outputs of a window of `r` taps are `A^T [(G g) * (B^T d)]`: the taps g and the `m + r - 1` inputs d are
//! polynomials, evaluated at as many points, multiplied there, and the product's coefficients are read off. Points are 0,
//! pairs of opposite numbers and infinity. Pairs share their even and odd parts; with the square of a point a simple
//! fraction all factors but the point itself are exact. Points around 1, such as the roots of 1/2 and 2, lose least: six
//! points are then about as accurate as the plain sum (ARCHITECTURE.md has the figures).

use fusewright_ir::kernel::{KernelBuilder, ScalarId, UnaryOp};

/// The transforms of one axis: `outputs` results of a window of `taps`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Toom {
    /// Results of one tile.
    pub outputs: usize,
    /// The length of the window.
    pub taps: usize,
}

/// Squares of the pairs of opposite points, beside 0 and infinity.
const FOUR_POINTS: &[f64] = &[1.0];
const SIX_POINTS: &[f64] = &[0.5, 2.0];

impl Toom {
    /// The transform with this number of points, where there is one with two outputs or more.
    pub fn with_points(points: usize, taps: usize) -> Option<Toom> {
        let known = matches!(points, 4 | 6);
        (known && taps >= 2 && taps < points).then(|| Toom { outputs: points + 1 - taps, taps })
    }

    /// The number of points, and of inputs.
    pub fn points(self) -> usize {
        self.outputs + self.taps - 1
    }

    fn squares(self) -> &'static [f64] {
        if self.points() == 4 { FOUR_POINTS } else { SIX_POINTS }
    }

    /// `B^T d`: the inputs of a tile at the points.
    pub fn inputs(self, k: &mut KernelBuilder, d: &[ScalarId]) -> Vec<ScalarId> {
        let squares = self.squares();
        let all = product_without(squares, None);
        let terms = |form: &[f64], first: usize| -> Vec<(f64, ScalarId)> {
            form.iter().enumerate().map(|(i, &factor)| (factor, d[2 * i + first])).collect()
        };
        let mut values = vec![combined(k, &terms(&all, 0))];
        for (i, &square) in squares.iter().enumerate() {
            // x (x^2 - the squares of the others) (x +- point).
            let others = product_without(squares, Some(i));
            let (even, odd) = (combined(k, &terms(&others, 2)), combined(k, &terms(&others, 1)));
            values.extend(both(k, square, even, odd));
        }
        values.push(combined(k, &terms(&all, 1)));
        values
    }

    /// `G g`, but for the divisors: the taps at the points.
    pub fn taps(self, k: &mut KernelBuilder, g: &[ScalarId]) -> Vec<ScalarId> {
        let mut values = vec![g[0]];
        for &square in self.squares() {
            let part = |first: usize| -> Vec<(f64, ScalarId)> {
                let own = g.iter().skip(first).step_by(2).enumerate();
                own.map(|(i, &tap)| (square.powi(i as i32), tap)).collect()
            };
            let (even, odd) = (combined(k, &part(0)), combined(k, &part(1)));
            values.extend(both(k, square, even, odd));
        }
        values.push(g[self.taps - 1]);
        values
    }

    /// What the taps at each point are divided by: the product of its differences from the other finite points.
    pub fn divisors(self) -> Vec<f64> {
        let squares = self.squares();
        let mut divisors = vec![product_without(squares, None)[0]];
        for (i, &square) in squares.iter().enumerate() {
            // point * (2 point) * (the differences of the squares), and the same of the opposite point.
            let others: f64 = (0..squares.len()).filter(|&j| j != i).map(|j| square - squares[j]).product();
            divisors.extend([2.0 * square * others; 2]);
        }
        divisors.push(1.0);
        divisors
    }

    /// `A^T m`: the outputs of a tile from the products at the points.
    pub fn outputs(self, k: &mut KernelBuilder, m: &[ScalarId]) -> Vec<ScalarId> {
        let squares = self.squares();
        let pairs: Vec<(ScalarId, ScalarId)> = (0..squares.len())
            .map(|i| (k.add(m[1 + 2 * i], m[2 + 2 * i]), k.sub(m[1 + 2 * i], m[2 + 2 * i])))
            .collect();
        let last = m[self.points() - 1];
        (0..self.outputs)
            .map(|power| {
                let mut sum = (power == 0).then_some(m[0]);
                if power == self.outputs - 1 {
                    sum = Some(sum.map_or(last, |sum| k.add(sum, last)));
                }
                for (&square, &(even, odd)) in squares.iter().zip(&pairs) {
                    let value = if power % 2 == 0 { even } else { odd };
                    // The power of a point is the root of the power of its square.
                    sum = Some(match (root(k, square.powi(power as i32)), sum) {
                        (Some(factor), Some(sum)) => k.fma(factor, value, sum),
                        (Some(factor), None) => k.mul(factor, value),
                        (None, Some(sum)) => k.add(sum, value),
                        (None, None) => value,
                    });
                }
                sum.expect("there is a pair of points")
            })
            .collect()
    }
}

/// The coefficients of the product of `x^2 - square` over all squares but one, by powers of `x^2`.
fn product_without(squares: &[f64], left_out: Option<usize>) -> Vec<f64> {
    let mut form = vec![1.0];
    for (_, &square) in squares.iter().enumerate().filter(|(i, _)| Some(*i) != left_out) {
        let mut next = vec![0.0; form.len() + 1];
        for (i, &factor) in form.iter().enumerate() {
            next[i] -= factor * square;
            next[i + 1] += factor;
        }
        form = next;
    }
    form
}

/// The sum of factors times scalars: those that need no multiplication first.
fn combined(k: &mut KernelBuilder, terms: &[(f64, ScalarId)]) -> ScalarId {
    let mut sum: Option<ScalarId> = None;
    for &(_, value) in terms.iter().filter(|(factor, _)| *factor == 1.0) {
        sum = Some(sum.map_or(value, |sum| k.add(sum, value)));
    }
    for &(factor, value) in terms.iter().filter(|(factor, _)| *factor != 1.0) {
        sum = Some(match (sum, factor == -1.0) {
            (Some(sum), true) => k.sub(sum, value),
            (Some(sum), false) => {
                let factor = k.number(factor);
                k.fma(factor, value, sum)
            }
            (None, _) => {
                let factor = k.number(factor);
                k.mul(factor, value)
            }
        });
    }
    sum.expect("every form has a term")
}

/// `even + point * odd` and `even - point * odd`.
fn both(k: &mut KernelBuilder, square: f64, even: ScalarId, odd: ScalarId) -> [ScalarId; 2] {
    match root(k, square) {
        None => [k.add(even, odd), k.sub(even, odd)],
        Some(point) => {
            let opposite = k.unary(UnaryOp::Neg, point);
            [k.fma(point, odd, even), k.fma(opposite, odd, even)]
        }
    }
}

/// The root of a square as a scalar; none where it is 1. Written as a root, so that evaluators know the number that is
/// meant, not only its nearest f32.
fn root(k: &mut KernelBuilder, square: f64) -> Option<ScalarId> {
    let root = square.sqrt();
    if square == 1.0 {
        None
    } else if root * root == square && f64::from(root as f32) == root {
        Some(k.number(root))
    } else {
        let square = k.number(square);
        Some(k.unary(UnaryOp::Sqrt, square))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fusewright_ir::kernel::build::Operand;
    use fusewright_ir::kernel::{BufferId, BufferInfo, NamedKernel, Program, Role, evaluate};
    use fusewright_ir::{Array, DType};
    use std::collections::BTreeMap;

    /// The outputs of one tile, computed in f64 by the transforms.
    fn transformed(toom: Toom, taps: &[f64], inputs: &[f64]) -> Vec<f64> {
        let mut program = Program::default();
        let mut buffer = |name: &str, n: usize, role| {
            let (name, dims) = (name.to_string(), vec![n]);
            let id = program.add_buffer(BufferInfo { name, dtype: DType::F32, dims: dims.clone(), role });
            Operand { buffer: id, dtype: DType::F32, dims }
        };
        let g = buffer("g", taps.len(), Role::Input);
        let d = buffer("d", inputs.len(), Role::Input);
        let y = buffer("y", toom.outputs, Role::Computed);
        let mut k = KernelBuilder::new(&[]);
        let loads = |k: &mut KernelBuilder, from: &Operand| -> Vec<ScalarId> {
            (0..from.dims[0] as i64).map(|i| k.load(from, [i])).collect()
        };
        let (g_loads, d_loads) = (loads(&mut k, &g), loads(&mut k, &d));
        let (at_taps, at_inputs) = (toom.taps(&mut k, &g_loads), toom.inputs(&mut k, &d_loads));
        assert_eq!((at_taps.len(), at_inputs.len()), (toom.points(), toom.points()));
        let mut products = Vec::new();
        for ((tap, input), divisor) in at_taps.into_iter().zip(at_inputs).zip(toom.divisors()) {
            let divisor = k.number(divisor);
            let tap = k.div(tap, divisor);
            products.push(k.mul(tap, input));
        }
        let outputs = toom.outputs(&mut k, &products);
        for (i, output) in outputs.into_iter().enumerate() {
            k.store(&y, [i as i64], output);
        }
        program.kernels.push(NamedKernel { nodes: Vec::new(), about: String::new(), kernel: k.finish() });
        let array = |data: &[f64]| Array { dims: vec![data.len()], data: data.to_vec() };
        let given = BTreeMap::from([(g.buffer, array(taps)), (BufferId(1), array(inputs))]);
        evaluate(&program, &given).unwrap().array(y.buffer).data
    }

    #[test]
    fn transforms_are_the_windows_they_stand_for() {
        for (points, taps) in [(4, 2), (4, 3), (6, 2), (6, 3), (6, 4), (6, 5)] {
            let toom = Toom::with_points(points, taps).unwrap();
            assert_eq!((toom.points(), toom.outputs), (points, points + 1 - taps));
            // Short numbers, which f32 holds exactly.
            let number = |i: usize| ((i * 37 + 11) % 64) as f64 / 16.0 - 2.0;
            let g: Vec<f64> = (0..taps).map(number).collect();
            let d: Vec<f64> = (0..points).map(|i| number(i + 5)).collect();
            let found = transformed(toom, &g, &d);
            for (i, found) in found.into_iter().enumerate() {
                let expected: f64 = (0..taps).map(|j| g[j] * d[i + j]).sum();
                assert!((found - expected).abs() < 1e-13, "{toom:?}[{i}]: {found} is not {expected}");
            }
        }
    }

    #[test]
    fn there_are_transforms_for_short_windows_only() {
        assert_eq!(Toom::with_points(6, 3), Some(Toom { outputs: 4, taps: 3 }));
        assert_eq!(Toom::with_points(6, 5), Some(Toom { outputs: 2, taps: 5 }));
        assert_eq!(Toom::with_points(4, 4), None);
        assert_eq!(Toom::with_points(6, 7), None);
        assert_eq!(Toom::with_points(5, 3), None);
        assert_eq!(Toom::with_points(4, 1), None);
    }

    #[test]
    fn divisors_are_products_of_differences() {
        let points: [f64; 5] = [0.0, 0.5f64.sqrt(), -(0.5f64.sqrt()), 2f64.sqrt(), -(2f64.sqrt())];
        let divisors = Toom::with_points(6, 3).unwrap().divisors();
        for (i, &point) in points.iter().enumerate() {
            let others = points.iter().enumerate().filter(|(j, _)| *j != i);
            let expected: f64 = others.map(|(_, other)| point - other).product();
            assert!((divisors[i] - expected).abs() < 1e-12, "{divisors:?}: {expected} at {i}");
        }
        assert_eq!(divisors[5], 1.0);
    }
}
