//! Values that a fold computes and a store over the same points needs again, such as the powers of a softmax: they are kept where
//! the store writes, rather than computed twice.

use super::forms::linear;
use super::{Builder, Point, Value};
use crate::codegen::Recipe;
use crate::codegen::leaf::Lanes;
use fusewright_ir::kernel::{Axis, FoldKind, Scalar, ScalarId, UnaryOp};
use fusewright_ir::tensor::DType;

/// What is worth keeping along an inner lane axis, of what the last fold folds: in the elements of the only store, until they are
/// written. The place may be that of an operand that is not needed any more: so nothing is
/// folded behind it, and what is stored reads nothing else along the vectors.
pub(super) fn kept(recipe: &Recipe, lane: Axis) -> Option<ScalarId> {
    let kernel = &recipe.kernel;
    let fold = kernel.folds.last().filter(|_| (lane.0 as usize) >= kernel.outer.len())?;
    let Scalar::Unary(op, _) = kernel.body.get(fold.value) else { return None };
    let is_cheap = matches!(
        op,
        UnaryOp::Neg
            | UnaryOp::Abs
            | UnaryOp::Sqrt
            | UnaryOp::Floor
            | UnaryOp::Ceil
            | UnaryOp::Round
            | UnaryOp::Trunc
            | UnaryOp::Not
    );
    let [store] = &kernel.stores[..] else { return None };
    let is_f32 = recipe.slots[store.buffer.0 as usize].dtype == DType::F32;
    let form = linear(recipe, lane, store.buffer, &store.at)?;
    if is_cheap || fold.kind == FoldKind::Moments || !is_f32 || store.inner != fold.inner || form.lane_step != 1 {
        return None;
    }
    let (mut is_needed, mut stack) = (false, vec![store.value]);
    while let Some(id) = stack.pop() {
        match kernel.body.get(id) {
            _ if id == fold.value => is_needed = true,
            Scalar::Load { .. } => return None,
            other => stack.extend(other.operands()),
        }
    }
    is_needed.then_some(fold.value)
}

impl Builder<'_> {
    /// Keeps what was folded at a point.
    pub(super) fn keep(&mut self, kept: ScalarId, point: &Point) {
        let store = &self.recipe.kernel.stores[0];
        let form = linear(self.recipe, self.lane, store.buffer, &store.at).expect("checked by supported");
        let value = self.vector(kept, point);
        self.write(0, &form, store.buffer, value, point);
    }

    /// Reads what was kept at a point, for all that needs it there.
    pub(super) fn find_kept(&mut self, kept: ScalarId, point: &Point) {
        let store = &self.recipe.kernel.stores[0];
        let form = linear(self.recipe, self.lane, store.buffer, &store.at).expect("checked by supported");
        let lanes = Lanes::first(self.used_lanes(point));
        let value = self.load(&form, (store.buffer, &store.at), point, lanes);
        let key = (kept, self.projected(kept, point));
        self.scopes.last_mut().expect("a scope is open").insert(key, Value::Vector(value));
    }
}
