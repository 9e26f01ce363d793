//! Kernel and schedule to machine code.
//!
//! Cranelift emits the loop nest of every kernel. Nests of equal kernels, layouts and schedules are emitted once.

mod elementary;
pub mod leaf;
mod loops;
pub mod math;
mod module;
mod nest;
mod scalar;

use crate::code::{Code, Entry};
use crate::isa::Isa;
use cranelift_codegen::Context;
use cranelift_codegen::ir::{AbiParam, InstBuilder, Signature, types};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_jit::JITModule;
use cranelift_module::{FuncId, Linkage, Module};
use fusewright_ir::kernel::{BufferId, Kernel};
use fusewright_ir::plan::access::with_buffers;
use fusewright_ir::plan::edges::Edges;
use fusewright_ir::plan::{Layout, Plan, Schedule, Step};
use fusewright_ir::tensor::DType;
use leaf::Leaf;
use leaf::x64::{Assembled, Assembler, Form};
pub use module::{CodeImage, host};
use module::{CodeModule, Role, described};
use rustc_hash::FxHashMap;

/// A buffer as one nest sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Slot {
    /// The type of the elements.
    pub dtype: DType,
    /// The logical axes.
    pub dims: Vec<usize>,
    /// How they lie in memory.
    pub layout: Layout,
}

/// All that the code of a nest depends on: its buffers are numbered from 0, so that equal nests are equal values.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Recipe {
    /// The kernel over slots 0 and on.
    pub kernel: Kernel,
    /// How it is run.
    pub schedule: Schedule,
    /// Its buffers.
    pub slots: Vec<Slot>,
}

impl Recipe {
    /// The edges that loads cross.
    fn edges(&self) -> Option<Edges> {
        Edges::of(&self.kernel, |buffer| {
            let slot = &self.slots[buffer.0 as usize];
            (&slot.layout, &slot.dims)
        })
    }
}

/// The recipe of a step, and the buffers that take the places of its slots.
pub fn recipe(plan: &Plan, step: &Step) -> (Recipe, Vec<BufferId>) {
    let mut buffers = step.kernel.reads();
    for buffer in step.kernel.writes() {
        if !buffers.contains(&buffer) {
            buffers.push(buffer);
        }
    }
    let slots = buffers.iter().map(|&id| {
        let buffer = plan.buffer(id);
        Slot { dtype: buffer.dtype, dims: buffer.dims.clone(), layout: buffer.layout.clone() }
    });
    let slots = slots.collect();
    let number = |id: BufferId| BufferId(buffers.iter().position(|&other| other == id).expect("listed above") as u32);
    let kernel = with_buffers(&step.kernel, number);
    (Recipe { kernel, schedule: step.schedule.clone(), slots }, buffers)
}

/// Emits nests into one JIT module.
pub struct Generator {
    module: CodeModule,
    context: Context,
    frontend: FunctionBuilderContext,
    leaves: Leaves,
    known: FxHashMap<Recipe, FuncId>,
    bytes: usize,
    /// What was emitted for each nest, in the order in which they were asked for, where listings are kept.
    pub listings: Vec<Listing>,
    listed: FxHashMap<FuncId, Listing>,
    keep_listings: bool,
}

/// What was emitted for one nest: its loops, and the leaves that they call.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Cranelift IR; leaves of wide vectors have none.
    pub clif: String,
    /// Machine code, as Cranelift and iced print it.
    pub assembly: String,
}

impl Listing {
    /// Appends that of a leaf.
    fn call(&mut self, leaf: &Listing) {
        for (text, own) in [(&mut self.clif, &leaf.clif), (&mut self.assembly, &leaf.assembly)] {
            if !own.is_empty() {
                *text = format!("{}\n; leaf\n{own}", text.trim_end());
            }
        }
    }
}

impl Generator {
    /// A generator for this machine, with leaves for `isa`; `keep_image` is for [`Generator::take_image`].
    ///
    /// # Errors
    /// Where the machine lacks `isa`, Cranelift does not support the machine, or no memory can be reserved for code.
    pub fn new(isa: Isa, verify: bool, keep_listings: bool, keep_image: bool) -> Result<Generator, String> {
        if !isa.is_available() {
            return Err(format!("this machine does not have {isa}"));
        }
        let assembler = match isa {
            Isa::Avx512 => Some(Assembler::new(Form::Zmm)),
            Isa::Avx2 => Some(Assembler::new(Form::Ymm)),
            Isa::Portable => None,
        };
        let module = CodeModule::new(verify, keep_image)?;
        let context = module.jit.make_context();
        let leaves = Leaves::new(&module.jit, assembler, keep_listings);
        Ok(Generator {
            module,
            context,
            frontend: FunctionBuilderContext::new(),
            leaves,
            known: FxHashMap::default(),
            bytes: 0,
            listings: Vec::new(),
            listed: FxHashMap::default(),
            keep_listings,
        })
    }

    /// The function for a recipe, emitted unless an equal one was before.
    ///
    /// # Errors
    /// What Cranelift reports: a compiler bug, or code memory has run out.
    pub fn nest(&mut self, recipe: Recipe) -> Result<FuncId, String> {
        let id = match self.known.get(&recipe) {
            Some(&id) => id,
            None => self.emit(recipe)?,
        };
        self.listings.extend(self.listed.get(&id).cloned());
        Ok(id)
    }

    fn emit(&mut self, recipe: Recipe) -> Result<FuncId, String> {
        self.module.jit.clear_context(&mut self.context);
        let pointer = AbiParam::new(types::I64);
        self.context.func.signature.params = vec![pointer; 4];
        self.context.func.signature.returns = vec![AbiParam::new(types::I32)];
        nest::emit(&recipe, &mut self.module, &mut self.leaves, &mut self.context.func, &mut self.frontend)?;
        let clif = if self.keep_listings { self.context.func.to_string() } else { String::new() };
        self.context.set_disasm(self.keep_listings);
        let signature = self.context.func.signature.clone();
        let name = format!("nest{}", self.known.len());
        let id = self.module.jit.declare_function(&name, Linkage::Local, &signature).map_err(described)?;
        self.module.define(id, Role::Nest, &mut self.context)?;
        if let Some(code) = self.context.compiled_code() {
            self.bytes += code.code_buffer().len();
            if self.keep_listings {
                let mut listing = Listing { clif, assembly: code.vcode.clone().unwrap_or_default() };
                self.leaves.take_called().iter().for_each(|leaf| listing.call(leaf));
                self.listed.insert(id, listing);
            }
        }
        self.known.insert(recipe, id);
        Ok(id)
    }

    /// Bytes of machine code so far.
    pub fn code_bytes(&self) -> usize {
        self.bytes + self.leaves.bytes
    }

    /// The code without addresses, where it was asked for.
    pub fn take_image(&mut self) -> Option<CodeImage<'static>> {
        self.module.take_image()
    }

    /// The code, and the nests of these ids.
    ///
    /// # Errors
    /// Where the code cannot be made executable.
    pub fn finish(self, nests: impl Iterator<Item = FuncId>) -> Result<(Code, Vec<Entry>), String> {
        self.module.finish(nests)
    }
}

/// The leaves of a module; equal ones are emitted once.
pub struct Leaves {
    /// Of wide vectors; none for those that Cranelift has.
    assembler: Option<Assembler>,
    context: Context,
    frontend: FunctionBuilderContext,
    known: FxHashMap<Leaf, FuncId>,
    bytes: usize,
    keep_listings: bool,
    listed: FxHashMap<FuncId, Listing>,
    /// Those that the nest at hand calls, where listings are kept.
    called: Vec<FuncId>,
}

impl Leaves {
    fn new(module: &JITModule, assembler: Option<Assembler>, keep_listings: bool) -> Leaves {
        Leaves {
            assembler,
            context: module.make_context(),
            frontend: FunctionBuilderContext::new(),
            known: FxHashMap::default(),
            bytes: 0,
            keep_listings,
            listed: FxHashMap::default(),
            called: Vec::new(),
        }
    }

    /// What was emitted for the leaves that were asked for since this was, each once.
    fn take_called(&mut self) -> Vec<Listing> {
        let called = std::mem::take(&mut self.called);
        called.iter().filter_map(|id| self.listed.get(id).cloned()).collect()
    }

    /// The function for a leaf.
    ///
    /// # Panics
    /// If Cranelift refuses it, which is a compiler bug.
    pub fn function(&mut self, module: &mut CodeModule, leaf: Leaf) -> FuncId {
        let id = match self.known.get(&leaf) {
            Some(&id) => id,
            None => self.emit(module, leaf),
        };
        if self.keep_listings && !self.called.contains(&id) {
            self.called.push(id);
        }
        id
    }

    fn emit(&mut self, module: &mut CodeModule, leaf: Leaf) -> FuncId {
        let assembled = self.assembler.as_mut().map(|assembler| assembler.assemble(&leaf, self.keep_listings));
        let id = match assembled {
            Some(assembled) => self.define(module, &leaf, assembled),
            None => self.compile(module, &leaf),
        };
        self.known.insert(leaf, id);
        id
    }

    /// The lanes of the vectors that leaves are to be made for.
    pub fn width(&self) -> usize {
        self.assembler.as_ref().map_or(leaf::clif::WIDTH, Assembler::width)
    }

    /// Whether leaves can write past the caches.
    pub fn streams(&self) -> bool {
        self.assembler.is_some()
    }

    fn declare(&self, module: &mut CodeModule, signature: &Signature) -> FuncId {
        let name = format!("leaf{}", self.known.len());
        module.jit.declare_function(&name, Linkage::Local, signature).expect("names are fresh")
    }

    fn define(&mut self, module: &mut CodeModule, leaf: &Leaf, Assembled { bytes, listing }: Assembled) -> FuncId {
        let mut signature = module.jit.make_signature();
        signature.params = vec![AbiParam::new(types::I64); leaf.parameters];
        let id = self.declare(module, &signature);
        self.bytes += bytes.len();
        if let Err(error) = module.define_leaf(id, bytes) {
            panic!("leaf: {error}");
        }
        if self.keep_listings {
            self.listed.insert(id, Listing { clif: String::new(), assembly: listing });
        }
        id
    }

    fn compile(&mut self, module: &mut CodeModule, leaf: &Leaf) -> FuncId {
        module.jit.clear_context(&mut self.context);
        self.context.func.signature.params = vec![AbiParam::new(types::I64); leaf.parameters];
        let target = module.jit.target_config();
        let mut b = FunctionBuilder::new(&mut self.context.func, &mut self.frontend);
        let entry = b.create_block();
        b.append_block_params_for_function_params(entry);
        b.switch_to_block(entry);
        b.seal_block(entry);
        let parameters = b.block_params(entry).to_vec();
        leaf::clif::lower(leaf, &mut b, &parameters);
        b.ins().return_(&[]);
        b.finalize(target);
        let clif = if self.keep_listings { self.context.func.to_string() } else { String::new() };
        self.context.set_disasm(self.keep_listings);
        let signature = self.context.func.signature.clone();
        let id = self.declare(module, &signature);
        if let Err(error) = module.define(id, Role::Leaf, &mut self.context) {
            panic!("leaf: {error}");
        }
        if let Some(code) = self.context.compiled_code() {
            self.bytes += code.code_buffer().len();
            if self.keep_listings {
                self.listed.insert(id, Listing { clif, assembly: code.vcode.clone().unwrap_or_default() });
            }
        }
        id
    }
}
