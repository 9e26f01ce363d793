//! Structured loops over Cranelift blocks: callers never see a block.

use super::nest::Emitter;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{BlockArg, InstBuilder, Type, Value, types};

impl Emitter<'_, '_> {
    /// `let mut carried = start; for i in begin..end step by step { carried = body(i, carried) } carried`
    pub fn fold_range(
        &mut self,
        (begin, end, step): (Value, Value, i64),
        start: &[Value],
        body: impl FnOnce(&mut Self, Value, &[Value]) -> Vec<Value>,
    ) -> Vec<Value> {
        let (head, inside, done) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
        let index = self.b.append_block_param(head, types::I64);
        let carried: Vec<Value> = start
            .iter()
            .map(|&value| {
                let ty = self.b.func.dfg.value_type(value);
                self.b.append_block_param(head, ty)
            })
            .collect();
        self.jump(head, begin, start);

        self.b.switch_to_block(head);
        let more = self.b.ins().icmp(IntCC::SignedLessThan, index, end);
        self.b.ins().brif(more, inside, &[], done, &[]);

        self.b.switch_to_block(inside);
        self.b.seal_block(inside);
        let next = body(self, index, &carried);
        let next_index = self.b.ins().iadd_imm_s(index, step);
        self.jump(head, next_index, &next);
        self.b.seal_block(head);

        self.b.switch_to_block(done);
        self.b.seal_block(done);
        carried
    }

    /// The same over `0..extent`; a loop of one step is none.
    pub fn fold_extent(
        &mut self,
        extent: usize,
        start: &[Value],
        body: impl FnOnce(&mut Self, Value, &[Value]) -> Vec<Value>,
    ) -> Vec<Value> {
        let zero = self.b.ins().iconst(types::I64, 0);
        if extent == 1 {
            return body(self, zero, start);
        }
        let end = self.b.ins().iconst(types::I64, extent as i64);
        self.fold_range((zero, end, 1), start, body)
    }

    /// `if condition { yes } else { no }`, one value of type `ty`.
    pub fn choose(
        &mut self,
        condition: Value,
        ty: Type,
        yes: impl FnOnce(&mut Self) -> Value,
        no: impl FnOnce(&mut Self) -> Value,
    ) -> Value {
        let (then, otherwise, join) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
        let result = self.b.append_block_param(join, ty);
        self.b.ins().brif(condition, then, &[], otherwise, &[]);
        self.b.switch_to_block(then);
        self.b.seal_block(then);
        let value = yes(self);
        self.b.ins().jump(join, &[BlockArg::Value(value)]);
        self.b.switch_to_block(otherwise);
        self.b.seal_block(otherwise);
        let value = no(self);
        self.b.ins().jump(join, &[BlockArg::Value(value)]);
        self.b.switch_to_block(join);
        self.b.seal_block(join);
        result
    }

    /// `if condition { body() }`
    pub fn when(&mut self, condition: Value, body: impl FnOnce(&mut Self)) {
        let (then, on) = (self.b.create_block(), self.b.create_block());
        self.b.ins().brif(condition, then, &[], on, &[]);
        self.b.switch_to_block(then);
        self.b.seal_block(then);
        body(self);
        self.b.ins().jump(on, &[]);
        self.b.switch_to_block(on);
        self.b.seal_block(on);
    }

    /// Leaves the nest with `status` where `condition` holds.
    pub fn leave_if(&mut self, condition: Value, status: u32) {
        let (leave, on) = (self.b.create_block(), self.b.create_block());
        self.b.ins().brif(condition, leave, &[], on, &[]);
        self.b.switch_to_block(leave);
        self.b.seal_block(leave);
        let status = self.b.ins().iconst(types::I32, i64::from(status));
        self.b.ins().return_(&[status]);
        self.b.switch_to_block(on);
        self.b.seal_block(on);
    }

    fn jump(&mut self, head: cranelift_codegen::ir::Block, index: Value, carried: &[Value]) {
        let arguments: Vec<BlockArg> = [index].iter().chain(carried).map(|&value| BlockArg::Value(value)).collect();
        self.b.ins().jump(head, &arguments);
    }
}
