//! Checkpoints: all state of a training in a safetensors file.

use crate::data::safetensors;
use crate::error::Error;
use crate::ir::{Diagnostic, Diagnostics, Tensor, TensorType};
use crate::runtime::State;
use std::collections::BTreeMap;
use std::path::Path;

/// Writes all state.
pub fn save(state: &State, path: &Path) -> Result<(), Error> {
    let tensors: Vec<(&str, Tensor)> = state.names().filter_map(|(name, ..)| Some((name, state.get(name)?))).collect();
    Ok(safetensors::write(path, tensors.iter().map(|(name, tensor)| (*name, tensor)))?)
}

/// Reads all state, which is changed only when all of it is known to fit.
pub fn load(state: &mut State, path: &Path) -> Result<(), Error> {
    let file = safetensors::File::open(path)?;
    let mut faults = Diagnostics::default();
    let what =
        |text: String| Diagnostic::new(format!("`{}` is no checkpoint of this training: {text}", path.display()));
    let mut read: BTreeMap<String, Tensor> = BTreeMap::new();
    for (name, dtype, dims) in state.names() {
        let wanted = TensorType::new(dtype, dims.iter().copied());
        match file.entries().get(name) {
            None => faults.push(what(format!("`{name}` is missing")).expected(wanted.to_string())),
            Some(entry) if entry.tensor_type().as_ref() != Some(&wanted) => {
                let fault = what(format!("`{name}` does not fit")).expected(wanted.to_string());
                faults.push(fault.found(entry.stored_type()));
            }
            Some(entry) => {
                read.insert(name.to_string(), file.read(entry)?);
            }
        }
    }
    let known: Vec<&str> = state.names().map(|(name, ..)| name).collect();
    for name in file.entries().keys().filter(|name| known.binary_search(&name.as_str()).is_err()) {
        let help = "the optimiser or the network is another one";
        faults.push(what(format!("the training has no `{name}`")).help(help));
    }
    faults.into_result()?;
    for (name, tensor) in &read {
        state.set(name, tensor).map_err(|error| Error::Internal(error.to_string()))?;
    }
    Ok(())
}
