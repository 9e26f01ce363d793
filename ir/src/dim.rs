//! Axis lengths: numbers, or integer expressions over symbols such as `N`, `H` and `W`.
//!
//! An expression is kept as a polynomial in canonical form, so that equal expressions compare equal. Arithmetic
//! saturates far above [`Dim::LIMIT`]; `verify` refuses every length beyond the limit, so a saturated number never
//! reaches a plan.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Add, Mul, Sub};
use std::sync::Arc;

/// The length of one axis.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dim {
    /// A number; negative only in a graph that `verify` has yet to refuse.
    Known(i64),
    /// An expression over symbols.
    Symbolic(Arc<Polynomial>),
}

/// Values of symbols, by name.
pub type Bindings = BTreeMap<String, usize>;

/// A sum of products of atoms, each with a coefficient; the empty product is the constant term.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Polynomial(BTreeMap<Vec<Atom>, i64>);

/// What cannot be taken apart by addition and multiplication.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Atom {
    Symbol(Arc<str>),
    /// The quotient rounded towards negative infinity.
    FloorDiv(Arc<Polynomial>, Arc<Polynomial>),
}

impl Dim {
    /// The longest axis that `verify` accepts.
    pub const LIMIT: i64 = (1 << 31) - 1;

    /// A symbol, bound to a number when a plan is made.
    pub fn symbol(name: &str) -> Dim {
        let product = vec![Atom::Symbol(name.into())];
        Dim::Symbolic(Arc::new(Polynomial(BTreeMap::from([(product, 1)]))))
    }

    /// The number, where there are no symbols and it is not negative.
    pub fn known(&self) -> Option<usize> {
        match self {
            Dim::Known(n) => usize::try_from(*n).ok(),
            Dim::Symbolic(_) => None,
        }
    }

    /// The symbol that the length is, where it is one by itself.
    pub fn as_symbol(&self) -> Option<String> {
        let mut names = Vec::new();
        self.collect_symbols(&mut names);
        names.pop().filter(|name| *self == Dim::symbol(name))
    }

    /// Whether the two lengths could be equal for some values of the symbols (equal numbers, or not both known).
    pub fn may_equal(&self, other: &Dim) -> bool {
        match (self, other) {
            (Dim::Known(a), Dim::Known(b)) => a == b,
            _ => true,
        }
    }

    /// Whether the length is a number below `bound`; an expression is given the benefit of the doubt.
    pub fn surely_below(&self, bound: i64) -> bool {
        matches!(self, Dim::Known(n) if *n < bound)
    }

    /// `self / divisor`, rounded down; a divisor of zero gives zero, which `verify` refuses.
    pub fn floor_div(&self, divisor: &Dim) -> Dim {
        match (self, divisor) {
            (_, Dim::Known(0)) => Dim::Known(0),
            (_, Dim::Known(1)) => self.clone(),
            (Dim::Known(a), Dim::Known(b)) => Dim::Known(a.div_euclid(*b)),
            _ if self == divisor => Dim::Known(1),
            _ => {
                let (a, b) = (self.polynomial(), divisor.polynomial());
                match a.exact_quotient(&b) {
                    Some(quotient) => quotient.into_dim(),
                    None => {
                        let atom = Atom::FloorDiv(Arc::new(a), Arc::new(b));
                        Polynomial(BTreeMap::from([(vec![atom], 1)])).into_dim()
                    }
                }
            }
        }
    }

    /// `self / divisor`, rounded up.
    pub fn ceil_div(&self, divisor: &Dim) -> Dim {
        (self.clone() + divisor.clone() - 1).floor_div(divisor)
    }

    /// The number that the expression has under `bindings`.
    ///
    /// # Errors
    /// The name of the first symbol that has no value.
    pub fn bind(&self, bindings: &Bindings) -> Result<Dim, String> {
        match self {
            Dim::Known(_) => Ok(self.clone()),
            Dim::Symbolic(polynomial) => polynomial.bind(bindings).map(Dim::Known),
        }
    }

    /// Adds the names of all symbols in the expression to `names`.
    pub fn collect_symbols(&self, names: &mut Vec<String>) {
        if let Dim::Symbolic(polynomial) = self {
            polynomial.collect_symbols(names);
        }
    }

    fn polynomial(&self) -> Polynomial {
        match self {
            Dim::Known(n) => Polynomial::constant(*n),
            Dim::Symbolic(polynomial) => Polynomial::clone(polynomial),
        }
    }
}

impl Polynomial {
    fn constant(n: i64) -> Polynomial {
        Polynomial(if n == 0 { BTreeMap::new() } else { BTreeMap::from([(vec![], n)]) })
    }

    fn into_dim(self) -> Dim {
        match self.0.len() {
            0 => Dim::Known(0),
            1 if self.0.contains_key(&vec![]) => Dim::Known(self.0[&vec![]]),
            _ => Dim::Symbolic(Arc::new(self)),
        }
    }

    fn accumulate(&mut self, product: Vec<Atom>, coefficient: i64) {
        let sum = self.0.get(&product).copied().unwrap_or(0).saturating_add(coefficient);
        match sum {
            0 => self.0.remove(&product),
            _ => self.0.insert(product, sum),
        };
    }

    /// The quotient where every term is divisible: by a number, or by a single product of atoms.
    fn exact_quotient(&self, divisor: &Polynomial) -> Option<Polynomial> {
        let (atoms, coefficient) = divisor.0.iter().next().filter(|_| divisor.0.len() == 1)?;
        let mut quotient = Polynomial::default();
        for (product, k) in &self.0 {
            let mut rest = product.clone();
            for atom in atoms {
                rest.remove(rest.iter().position(|other| other == atom)?);
            }
            (k % coefficient == 0).then_some(())?;
            quotient.accumulate(rest, k / coefficient);
        }
        Some(quotient)
    }

    fn bind(&self, bindings: &Bindings) -> Result<i64, String> {
        let mut sum = 0i64;
        for (product, coefficient) in &self.0 {
            let mut value = *coefficient;
            for atom in product {
                value = value.saturating_mul(atom.bind(bindings)?);
            }
            sum = sum.saturating_add(value);
        }
        Ok(sum)
    }

    fn collect_symbols(&self, names: &mut Vec<String>) {
        for atom in self.0.keys().flatten() {
            match atom {
                Atom::Symbol(name) if names.iter().any(|known| **known == **name) => {}
                Atom::Symbol(name) => names.push(name.to_string()),
                Atom::FloorDiv(a, b) => {
                    a.collect_symbols(names);
                    b.collect_symbols(names);
                }
            }
        }
    }
}

impl Atom {
    fn bind(&self, bindings: &Bindings) -> Result<i64, String> {
        match self {
            Atom::Symbol(name) => match bindings.get(&**name) {
                Some(&value) => Ok(i64::try_from(value).unwrap_or(i64::MAX)),
                None => Err(name.to_string()),
            },
            Atom::FloorDiv(a, b) => match b.bind(bindings)? {
                0 => Ok(0),
                divisor => Ok(a.bind(bindings)?.div_euclid(divisor)),
            },
        }
    }
}

impl<T: Into<Dim>> Add<T> for Dim {
    type Output = Dim;
    fn add(self, other: T) -> Dim {
        match (self, other.into()) {
            (Dim::Known(a), Dim::Known(b)) => Dim::Known(a.saturating_add(b)),
            (a, b) => {
                let mut sum = a.polynomial();
                for (product, k) in b.polynomial().0 {
                    sum.accumulate(product, k);
                }
                sum.into_dim()
            }
        }
    }
}

impl<T: Into<Dim>> Sub<T> for Dim {
    type Output = Dim;
    fn sub(self, other: T) -> Dim {
        self + other.into() * -1
    }
}

impl<T: Into<Dim>> Mul<T> for Dim {
    type Output = Dim;
    fn mul(self, other: T) -> Dim {
        match (self, other.into()) {
            (Dim::Known(a), Dim::Known(b)) => Dim::Known(a.saturating_mul(b)),
            (a, b) => {
                let (a, b) = (a.polynomial(), b.polynomial());
                let mut all = Polynomial::default();
                for (x, j) in &a.0 {
                    for (y, k) in &b.0 {
                        let mut product = [x.as_slice(), y.as_slice()].concat();
                        product.sort();
                        all.accumulate(product, j.saturating_mul(*k));
                    }
                }
                all.into_dim()
            }
        }
    }
}

macro_rules! from_integers {
    ($($integer:ty)*) => { $(
        impl From<$integer> for Dim {
            fn from(n: $integer) -> Dim {
                Dim::Known(i64::try_from(n).unwrap_or(i64::MAX))
            }
        }
    )* };
}
from_integers!(usize i64 i32 u32);

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Known(n) => write!(f, "{n}"),
            Dim::Symbolic(polynomial) => write!(f, "{polynomial}"),
        }
    }
}

impl fmt::Display for Polynomial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (product, &k)) in self.0.iter().rev().enumerate() {
            let sign = match (i, k < 0) {
                (0, false) => "",
                (0, true) => "-",
                (_, false) => " + ",
                (_, true) => " - ",
            };
            write!(f, "{sign}")?;
            let mut separator = "";
            if k.unsigned_abs() != 1 || product.is_empty() {
                write!(f, "{}", k.unsigned_abs())?;
                separator = "*";
            }
            for atom in product {
                write!(f, "{separator}{atom}")?;
                separator = "*";
            }
        }
        Ok(())
    }
}

impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Atom::Symbol(name) => write!(f, "{name}"),
            Atom::FloorDiv(a, b) => write!(f, "floor(({a})/({b}))"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An expression as a tree, to be computed in another way.
    #[derive(Clone, Debug)]
    enum Tree {
        Number(i64),
        Symbol(usize),
        Add(Box<(Tree, Tree)>),
        Sub(Box<(Tree, Tree)>),
        Mul(Box<(Tree, Tree)>),
        FloorDiv(Box<(Tree, Tree)>),
        CeilDiv(Box<(Tree, Tree)>),
    }

    const SYMBOLS: [&str; 3] = ["N", "H", "W"];

    fn tree() -> impl Strategy<Value = Tree> {
        let leaf = prop_oneof![(-9i64..10).prop_map(Tree::Number), (0usize..3).prop_map(Tree::Symbol)];
        leaf.prop_recursive(4, 24, 2, |inner| {
            let two = (inner.clone(), inner).prop_map(Box::new);
            prop_oneof![
                3 => two.clone().prop_map(Tree::Add),
                2 => two.clone().prop_map(Tree::Sub),
                2 => two.clone().prop_map(Tree::Mul),
                2 => two.clone().prop_map(Tree::FloorDiv),
                1 => two.prop_map(Tree::CeilDiv),
            ]
        })
    }

    impl Tree {
        fn dim(&self) -> Dim {
            match self {
                Tree::Number(n) => Dim::Known(*n),
                Tree::Symbol(i) => Dim::symbol(SYMBOLS[*i]),
                Tree::Add(two) => two.0.dim() + two.1.dim(),
                Tree::Sub(two) => two.0.dim() - two.1.dim(),
                Tree::Mul(two) => two.0.dim() * two.1.dim(),
                Tree::FloorDiv(two) => two.0.dim().floor_div(&two.1.dim()),
                Tree::CeilDiv(two) => two.0.dim().ceil_div(&two.1.dim()),
            }
        }

        /// The value; `None` where a divisor is not positive or a number is so large that arithmetic saturates.
        fn value(&self, symbols: [usize; 3]) -> Option<i128> {
            let value = match self {
                Tree::Number(n) => i128::from(*n),
                Tree::Symbol(i) => symbols[*i] as i128,
                Tree::Add(two) => two.0.value(symbols)? + two.1.value(symbols)?,
                Tree::Sub(two) => two.0.value(symbols)? - two.1.value(symbols)?,
                Tree::Mul(two) => two.0.value(symbols)? * two.1.value(symbols)?,
                Tree::FloorDiv(two) | Tree::CeilDiv(two) => {
                    let (a, b) = (two.0.value(symbols)?, two.1.value(symbols)?);
                    let up = if matches!(self, Tree::CeilDiv(_)) { b - 1 } else { 0 };
                    (b > 0).then(|| (a + up).div_euclid(b))?
                }
            };
            (value.abs() < 1 << 40).then_some(value)
        }
    }

    fn bindings(symbols: [usize; 3]) -> Bindings {
        SYMBOLS.iter().zip(symbols).map(|(name, value)| (name.to_string(), value)).collect()
    }

    proptest! {
        #[test]
        fn binding_is_arithmetic(tree in tree(), symbols in [1usize..300, 1usize..40, 1usize..40]) {
            if let Some(value) = tree.value(symbols) {
                let dim = tree.dim();
                prop_assert_eq!(dim.bind(&bindings(symbols)), Ok(Dim::Known(value as i64)), "{} = {:?}", dim, tree);
            }
        }

        #[test]
        fn one_expression_has_one_form(a in tree(), b in tree(), c in tree()) {
            let (a, b, c) = (a.dim(), b.dim(), c.dim());
            prop_assert_eq!(a.clone() + b.clone(), b.clone() + a.clone());
            prop_assert_eq!(a.clone() * b.clone(), b.clone() * a.clone());
            prop_assert_eq!((a.clone() + b.clone()) * c.clone(), a.clone() * c.clone() + b.clone() * c);
            prop_assert_eq!(a.clone() - a.clone(), Dim::Known(0));
            prop_assert_eq!(a.clone() + b.clone() - b, a);
        }
    }

    #[test]
    fn equal_expressions_are_equal() {
        let (n, h) = (Dim::symbol("N"), Dim::symbol("H"));
        assert_eq!((n.clone() + 1) * (h.clone() - 2), n.clone() * h.clone() + h.clone() - n.clone() * 2 - 2);
        assert_eq!((n.clone() * 12).floor_div(&(n.clone() * 4)), Dim::Known(3));
        assert_eq!(n.clone() - n, Dim::Known(0));
        assert_eq!((h.clone() * 4 + 8).floor_div(&Dim::Known(4)), h + 2);
    }

    #[test]
    fn binding_gives_numbers() {
        let h = Dim::symbol("H");
        let out = (h + 2 - 3).floor_div(&Dim::Known(2)) + 1;
        assert_eq!(out.to_string(), "floor((H - 1)/(2)) + 1");
        assert_eq!(out.bind(&Bindings::from([("H".into(), 224)])), Ok(Dim::Known(112)));
        assert_eq!(out.bind(&Bindings::new()), Err("H".to_string()));
    }

    #[test]
    fn overflow_saturates() {
        let huge = Dim::Known(i64::MAX);
        assert_eq!(huge.clone() * huge.clone() + 1, huge);
    }
}
