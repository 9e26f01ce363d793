//! The JIT module that functions and tables are put in, and the same without addresses, where that is to be kept.

use crate::code::{Code, CodeMemory, Entry};
use cranelift_codegen::binemit::Reloc;
use cranelift_codegen::ir::LibCall;
use cranelift_codegen::isa::OwnedTargetIsa;
use cranelift_codegen::settings::{self, Configurable};
use cranelift_codegen::{CodegenError, Context};
use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::{
    DataDescription, DataId, FuncId, Module, ModuleError, ModuleReloc, ModuleRelocTarget, default_libcall_names,
};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// A module that is being filled.
pub struct CodeModule {
    /// Where functions are declared; they are defined by the methods here.
    pub jit: JITModule,
    memory: CodeMemory,
    image: Option<CodeImage<'static>>,
}

/// What a function is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// It is called for a step, with the signature of all nests.
    Nest,
    /// Nests call it.
    Leaf,
}

/// All functions and tables of a module in the order of their ids, with the places where addresses belong: what
/// [`CodeImage::load`] makes a module of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CodeImage<'a> {
    #[serde(borrow)]
    functions: Vec<FunctionImage<'a>>,
    #[serde(borrow)]
    tables: Vec<Table<'a>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct FunctionImage<'a> {
    role: Role,
    alignment: u64,
    #[serde(borrow)]
    bytes: Cow<'a, [u8]>,
    relocations: Vec<Relocation>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Table<'a>(#[serde(borrow)] Cow<'a, [u8]>);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Relocation {
    offset: u32,
    /// Which of [`KINDS`].
    kind: u8,
    target: Target,
    addend: i64,
}

/// What a relocation puts the address of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Target {
    Function(u32),
    Table(u32),
    /// A place within a function.
    Within(u32, u32),
    /// A function of the C library, by Cranelift's name.
    Library(String),
}

/// The relocations that the JIT performs on machines of 64 bits, with the bytes that they change.
const KINDS: [(Reloc, usize); 11] = [
    (Reloc::Abs8, 8),
    (Reloc::X86PCRel4, 4),
    (Reloc::X86CallPCRel4, 4),
    (Reloc::Arm64Call, 4),
    (Reloc::Aarch64AdrPrelPgHi21, 4),
    (Reloc::Aarch64AddAbsLo12Nc, 4),
    (Reloc::S390xPCRel32Dbl, 4),
    (Reloc::S390xPLTRel32Dbl, 4),
    (Reloc::RiscvCallPlt, 8),
    (Reloc::RiscvPCRelHi20, 4),
    (Reloc::RiscvPCRelLo12I, 4),
];

/// Address space reserved for the code and tables of one executable; pages are taken as they are used.
const RESERVATION: usize = 256 << 20;

/// Functions and tables begin at multiples of no more than a page.
const GREATEST_ALIGNMENT: u64 = 4096;

/// Leaves start at a line of the cache, so that their constants lie within lines.
const LEAF_ALIGNMENT: u64 = 64;

const TABLE_ALIGNMENT: u64 = 8;

impl CodeModule {
    /// An empty module for this machine; `verify` has Cranelift check its input, `keep` makes an image.
    ///
    /// # Errors
    /// Where Cranelift does not support the machine, or no memory can be reserved for code.
    pub fn new(verify: bool, keep: bool) -> Result<CodeModule, String> {
        let mut builder = JITBuilder::with_isa(target(verify)?, default_libcall_names());
        // One reservation keeps all functions within reach of each other's calls.
        let memory = CodeMemory::reserve(RESERVATION)?;
        builder.memory_provider(Box::new(memory.clone()));
        Ok(CodeModule { jit: JITModule::new(builder), memory, image: keep.then(CodeImage::default) })
    }

    /// Compiles what `context` holds.
    ///
    /// # Errors
    /// What Cranelift reports.
    pub fn define(&mut self, id: FuncId, role: Role, context: &mut Context) -> Result<(), String> {
        self.jit.define_function(id, context).map_err(described)?;
        if let (Some(image), Some(code)) = (&mut self.image, context.compiled_code()) {
            let relocation = |found| Relocation::of(&ModuleReloc::from_mach_reloc(found, &context.func, id));
            let relocations = code.buffer.relocs().iter().map(relocation).collect();
            let (alignment, bytes) = (u64::from(code.buffer.alignment), code.code_buffer().to_vec().into());
            image.push(id, FunctionImage { role, alignment, bytes, relocations });
        }
        Ok(())
    }

    /// Takes the machine code of a leaf, which names nothing outside of it.
    ///
    /// # Errors
    /// What Cranelift reports.
    pub fn define_leaf(&mut self, id: FuncId, bytes: Vec<u8>) -> Result<(), String> {
        self.jit.define_function_bytes(id, LEAF_ALIGNMENT, &bytes, &[]).map_err(described)?;
        if let Some(image) = &mut self.image {
            let (role, relocations) = (Role::Leaf, Vec::new());
            image.push(id, FunctionImage { role, alignment: LEAF_ALIGNMENT, bytes: bytes.into(), relocations });
        }
        Ok(())
    }

    /// Defines a table of constants.
    ///
    /// # Errors
    /// What Cranelift reports.
    pub fn table(&mut self, bytes: Box<[u8]>) -> Result<DataId, String> {
        if let Some(image) = &mut self.image {
            image.tables.push(Table(bytes.to_vec().into()));
        }
        let id = self.jit.declare_anonymous_data(false, false).map_err(described)?;
        let mut data = DataDescription::new();
        data.define(bytes);
        data.set_align(TABLE_ALIGNMENT);
        self.jit.define_data(id, &data).map_err(described)?;
        Ok(id)
    }

    /// The code, and the nests of these ids.
    ///
    /// # Errors
    /// Where it cannot be made executable.
    pub fn finish(mut self, nests: impl Iterator<Item = FuncId>) -> Result<(Code, Vec<Entry>), String> {
        self.jit.finalize_definitions().map_err(described)?;
        Ok(Code::new(self.jit, self.memory, nests))
    }

    /// The image of all that was defined, where it was kept.
    pub fn take_image(&mut self) -> Option<CodeImage<'static>> {
        self.image.take()
    }
}

/// What Cranelift says.
pub fn described(error: ModuleError) -> String {
    match error {
        ModuleError::Compilation(CodegenError::Verifier(errors)) => format!("verifier: {errors}"),
        other => other.to_string(),
    }
}

/// This machine, with what its processor has.
fn target(verify: bool) -> Result<OwnedTargetIsa, String> {
    let mut flags = settings::builder();
    for (name, value) in [
        ("opt_level", "speed"),
        ("is_pic", "false"),
        ("use_colocated_libcalls", "false"),
        ("enable_verifier", if verify { "true" } else { "false" }),
    ] {
        flags.set(name, value).map_err(|error| error.to_string())?;
    }
    let target = cranelift_native::builder().map_err(str::to_string)?;
    target.finish(settings::Flags::new(flags)).map_err(|error| error.to_string())
}

/// What emitted code expects of its machine beside an [`Isa`](crate::Isa): the same text where the code of one may run on
/// the other.
///
/// # Errors
/// Where Cranelift does not support the machine.
pub fn host() -> Result<String, String> {
    let target = target(false)?;
    let flags: Vec<String> = target.isa_flags().iter().map(ToString::to_string).collect();
    Ok(format!("{} {}", target.triple(), flags.join(" ")))
}

impl CodeImage<'_> {
    fn push(&mut self, id: FuncId, function: FunctionImage<'static>) {
        assert_eq!(
            id.as_u32() as usize,
            self.functions.len(),
            "functions are defined in the order of their declarations"
        );
        self.functions.push(function);
    }

    /// The bytes of all functions.
    pub fn code_bytes(&self) -> usize {
        self.functions.iter().map(|function| function.bytes.len()).sum()
    }

    /// The id that a nest has in the module.
    ///
    /// # Errors
    /// Where it is no nest.
    pub fn nest(&self, number: u32) -> Result<FuncId, String> {
        match self.functions.get(number as usize) {
            Some(FunctionImage { role: Role::Nest, .. }) => Ok(FuncId::from_u32(number)),
            _ => Err(format!("function {number} is no nest")),
        }
    }

    /// The code with these functions, and the nests of these ids.
    ///
    /// # Errors
    /// Where the image is not consistent, or there is no memory for it.
    pub fn load(&self, nests: impl Iterator<Item = FuncId>) -> Result<(Code, Vec<Entry>), String> {
        self.check()?;
        let mut module = CodeModule::new(false, false)?;
        // Defined from bytes: nothing asks for what they take.
        let signature = module.jit.make_signature();
        for number in 0..self.functions.len() as u32 {
            let id = module.jit.declare_anonymous_function(&signature).map_err(described)?;
            debug_assert_eq!(id.as_u32(), number);
        }
        for (number, function) in (0..).zip(&self.functions) {
            let relocations: Vec<ModuleReloc> =
                function.relocations.iter().map(Relocation::loaded).collect::<Result<_, _>>()?;
            let FunctionImage { alignment, bytes, .. } = function;
            module
                .jit
                .define_function_bytes(FuncId::from_u32(number), *alignment, bytes, &relocations)
                .map_err(described)?;
        }
        for Table(bytes) in &self.tables {
            module.table(bytes.to_vec().into())?;
        }
        module.finish(nests)
    }

    /// Whether all numbers name something that is there.
    fn check(&self) -> Result<(), String> {
        for (number, function) in self.functions.iter().enumerate() {
            let FunctionImage { alignment, bytes, relocations, .. } = function;
            let is_sound = alignment.is_power_of_two() && *alignment <= GREATEST_ALIGNMENT && !bytes.is_empty();
            if !is_sound || !relocations.iter().all(|relocation| self.is_possible(relocation, bytes.len())) {
                return Err(format!("function {number} is not consistent"));
            }
        }
        Ok(())
    }

    /// Whether a relocation changes bytes of its function, and its target is there and within reach.
    fn is_possible(&self, relocation: &Relocation, function_bytes: usize) -> bool {
        let Some(&(kind, width)) = KINDS.get(relocation.kind as usize) else { return false };
        let is_within = (relocation.offset as usize).checked_add(width).is_some_and(|end| end <= function_bytes);
        let is_near = relocation.addend.unsigned_abs() <= RESERVATION as u64;
        let is_there = match &relocation.target {
            Target::Function(number) => (*number as usize) < self.functions.len(),
            Target::Table(number) => (*number as usize) < self.tables.len(),
            Target::Within(number, offset) => {
                self.functions.get(*number as usize).is_some_and(|function| (*offset as usize) < function.bytes.len())
            }
            // Anywhere in the address space.
            Target::Library(_) => kind == Reloc::Abs8,
        };
        is_within && is_near && is_there
    }
}

impl Relocation {
    fn of(found: &ModuleReloc) -> Relocation {
        let kind = KINDS.iter().position(|(kind, _)| *kind == found.kind).expect("the JIT performs no others") as u8;
        let target = match &found.name {
            // Cranelift's numbers for functions and data.
            &ModuleRelocTarget::User { namespace: 0, index } => Target::Function(index),
            &ModuleRelocTarget::User { index, .. } => Target::Table(index),
            &ModuleRelocTarget::FunctionOffset(id, offset) => Target::Within(id.as_u32(), offset),
            ModuleRelocTarget::LibCall(call) => Target::Library(call.to_string()),
            ModuleRelocTarget::KnownSymbol(_) => unreachable!("the JIT knows no symbols"),
        };
        Relocation { offset: found.offset, kind, target, addend: found.addend }
    }

    fn loaded(&self) -> Result<ModuleReloc, String> {
        let name = match &self.target {
            &Target::Function(index) => ModuleRelocTarget::user(0, index),
            &Target::Table(index) => ModuleRelocTarget::user(1, index),
            &Target::Within(index, offset) => ModuleRelocTarget::FunctionOffset(FuncId::from_u32(index), offset),
            Target::Library(name) => {
                let call: LibCall = name.parse().map_err(|()| format!("no function `{name}`"))?;
                ModuleRelocTarget::LibCall(call)
            }
        };
        Ok(ModuleReloc { offset: self.offset, kind: KINDS[self.kind as usize].0, name, addend: self.addend })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A nest of eight bytes that names itself, a leaf and a table.
    fn image() -> CodeImage<'static> {
        let relocation = |offset, target| Relocation { offset, kind: 1, target, addend: -4 };
        let function = |role, relocations| FunctionImage { role, alignment: 16, bytes: vec![0; 8].into(), relocations };
        let nest = vec![
            relocation(0, Target::Function(1)),
            relocation(4, Target::Table(0)),
            relocation(2, Target::Within(0, 7)),
        ];
        CodeImage {
            functions: vec![function(Role::Nest, nest), function(Role::Leaf, Vec::new())],
            tables: vec![Table(vec![0; 8].into())],
        }
    }

    #[test]
    fn only_nests_are_called() {
        assert!(image().nest(0).is_ok());
        assert_eq!(image().nest(1).unwrap_err(), "function 1 is no nest");
        assert_eq!(image().nest(2).unwrap_err(), "function 2 is no nest");
    }

    type Spoil = fn(&mut CodeImage);

    #[test]
    fn what_names_nothing_is_refused() {
        assert!(image().load([].into_iter()).is_ok());
        let cases: &[Spoil] = &[
            |image| image.functions[0].alignment = 0,
            |image| image.functions[0].alignment = 24,
            |image| image.functions[0].alignment = 1 << 20,
            |image| image.functions[0].bytes = Vec::new().into(),
            |image| image.functions[0].relocations[0].offset = 5,
            |image| image.functions[0].relocations[0].offset = u32::MAX,
            |image| image.functions[0].relocations[0].kind = KINDS.len() as u8,
            |image| image.functions[0].relocations[0].addend = i64::MIN,
            |image| image.functions[0].relocations[0].target = Target::Function(2),
            |image| image.functions[0].relocations[0].target = Target::Table(1),
            |image| image.functions[0].relocations[0].target = Target::Within(2, 0),
            |image| image.functions[0].relocations[0].target = Target::Within(0, 8),
            |image| image.functions[0].relocations[0].target = Target::Library("FmaF32".to_string()),
        ];
        for (number, spoil) in cases.iter().enumerate() {
            let mut image = image();
            spoil(&mut image);
            assert_eq!(
                image.load([].into_iter()).err().as_deref(),
                Some("function 0 is not consistent"),
                "case {number}"
            );
        }
        let mut image = image();
        image.functions[0].relocations[0] =
            Relocation { offset: 0, kind: 0, target: Target::Library("magic".to_string()), addend: 0 };
        assert_eq!(image.load([].into_iter()).err().as_deref(), Some("no function `magic`"));
    }
}
