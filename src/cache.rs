//! A folder of compiled networks: a process that finds what it needs there starts without passes, code generation, and
//! parameters to read and pack.
//!
//! A file holds what its executable was made from, word for word (the [`Subject`]), and the executable. It is used where the
//! first equals what is wanted now, and the second has the checksums that it was written with. Whatever else is there is as
//! good as nothing: it is made anew, and replaced. The folder is trusted like the program itself, as there is machine code in
//! it: checksums tell damage, not malice.

use crate::compile::Options;
use crate::data::files;
use crate::error::Error;
use crate::ir::ops::Op;
use crate::ir::plan::Outline;
use crate::ir::{Diagnostic, Graph};
use crate::runtime::{Executable, Image, host};
use crate::tune;
use std::fs::{File, create_dir_all};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;
use twox_hash::XxHash3_128;

/// Begins every file; its number changes with the form of what follows it.
const MAGIC: &[u8; 24] = b"fusewright executable 1\n";

/// All that decides what is in an executable.
#[derive(Default)]
pub(crate) struct Subject {
    /// The network, the options, and where parameters come from: one file for each.
    pub network: Vec<u8>,
    /// What changes while that stays the same, such as the time a file was written: the file is replaced.
    pub state: Vec<u8>,
    /// Whether the state may change without being told from this one: nothing is kept under it.
    pub is_passing: bool,
}

/// The place of an executable in a folder.
pub(crate) struct Entry {
    path: PathBuf,
    subject: Vec<u8>,
    is_passing: bool,
}

impl Entry {
    /// The place for what `graph` becomes, beside a plan whose state it shares; `parameters` tells where its parameters come
    /// from.
    ///
    /// # Errors
    /// Where the machine is not supported, or the file of measured convolutions is none.
    pub fn new(
        folder: &Path,
        graph: &Graph,
        options: &Options,
        beside: Option<&Outline>,
        parameters: impl FnOnce(&mut Subject) -> io::Result<()>,
    ) -> Result<Entry, Error> {
        let mut subject = Subject::default();
        let ways = tune::known(options)?;
        let machine = host().map_err(Error::Internal)?;
        let written = || -> io::Result<()> {
            subject.network(graph)?;
            subject.options(options, beside)?;
            parameters(&mut subject)?;
            writeln!(subject.state, "{} of {}\n{machine}\n{ways:?}", env!("CARGO_PKG_VERSION"), program())
        };
        written().expect("memory is written");
        let Subject { network, state, is_passing } = subject;
        let path = folder.join(format!("{:032x}.fusewright", XxHash3_128::oneshot(&network)));
        Ok(Entry { path, subject: [network, state].concat(), is_passing })
    }

    /// The executable, where it is there, undamaged, and made from the same.
    pub fn load(&self) -> Option<Executable> {
        let file = files::open(&self.path).ok()?;
        self.read(file).ok()
    }

    fn read(&self, mut file: File) -> io::Result<Executable> {
        let mut wanted = [MAGIC.as_slice(), &(self.subject.len() as u64).to_le_bytes()].concat();
        wanted.extend_from_slice(&self.subject);
        let length = file.metadata()?.len();
        let mut found = Vec::new();
        Read::by_ref(&mut file).take(wanted.len() as u64).read_to_end(&mut found)?;
        if found != wanted {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Executable::read(&mut file, length.saturating_sub(wanted.len() as u64))
    }

    /// Makes the folder, and asks whether files can be written to it: compiling should not be lost by a name.
    ///
    /// # Errors
    /// Where they cannot.
    pub fn check_writable(&self) -> Result<(), Diagnostic> {
        let folder = self.path.parent().expect("the file is in a folder");
        let fault = |problem: &io::Error| {
            let fault = Diagnostic::new(format!("`{}` cannot hold compiled networks", folder.display()));
            fault.expected("a folder, or a name for one").found(files::reason(problem))
        };
        create_dir_all(folder).map_err(|problem| fault(&problem))?;
        files::check_writable(&self.path)
    }

    /// Puts an executable into the folder, unless it is made from what may change untold. Its file appears whole; of two that
    /// are written at once, one stays.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn keep(&self, executable: &Executable, image: &Image) -> Result<(), Diagnostic> {
        if self.is_passing {
            return Ok(());
        }
        files::write_unsynced(&self.path, |out| {
            out.write_all(MAGIC)?;
            out.write_all(&(self.subject.len() as u64).to_le_bytes())?;
            out.write_all(&self.subject)?;
            image.write(executable, out)
        })
    }
}

impl Subject {
    /// All nodes; the types in between follow from them.
    fn network(&mut self, graph: &Graph) -> io::Result<()> {
        let out = &mut self.network;
        for (id, node) in graph.nodes() {
            write!(out, "{} {:?}", id.index(), node.name)?;
            for input in &node.inputs {
                write!(out, " {}:{}", input.node.index(), input.port)?;
            }
            if let Op::Constant(constant) = &node.op {
                let value = &constant.tensor;
                write!(out, " {:?}{:?} ", value.dtype(), value.dims())?;
                out.write_all(value.data().bytes())?;
            } else {
                write!(out, " {:?}", node.op)?;
            }
            writeln!(out)?;
        }
        for output in &graph.outputs {
            let (value, is_update) = (output.value, output.is_update);
            writeln!(out, "{:?} {}:{} {is_update}", output.name, value.node.index(), value.port)?;
        }
        Ok(())
    }

    /// The options that decide a plan or its code.
    fn options(&mut self, options: &Options, beside: Option<&Outline>) -> io::Result<()> {
        let Options { fuse, exact, constant_limit, memory_limit, isa, .. } = options;
        let out = &mut self.network;
        writeln!(out, "{fuse} {exact} {constant_limit:?} {memory_limit:?} {isa}")?;
        for state in beside.into_iter().flat_map(|plan| &plan.states) {
            let buffer = beside.map(|plan| plan.buffer(state.buffer));
            writeln!(out, "{:?} {:?}", state.name, buffer.map(|buffer| &buffer.layout))?;
        }
        Ok(())
    }
}

/// Which build of which program this is: between two of one version, passes may have changed.
fn program() -> String {
    let metadata = std::env::current_exe().and_then(|path| path.metadata());
    metadata.map_or(String::new(), |metadata| file_state(metadata.len(), metadata.modified().ok()))
}

/// What tells one state of a file from another, as text.
pub(crate) fn file_state(bytes: u64, modified: Option<std::time::SystemTime>) -> String {
    let since = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    format!("{bytes} bytes, {} ns", since.map_or(0, |since| since.as_nanos()))
}
